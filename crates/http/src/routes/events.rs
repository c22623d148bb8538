//! Live events: one stream of server-sent events for each listener, bounded in number and in what waits.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, web::Bytes};
use futures::stream;
use metrics::gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::timeout,
};

use super::{Answer, AnySource};
use crate::{
    access::Reader,
    answer::{Problem, Refusal},
    source::Event,
};

/// Listeners at the same time.
const LISTENERS: usize = 64;
/// Without events so often a comment goes out, by which a listener that went away is found.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The open streams.
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

impl Streams {
    /// They end when `closing` becomes true.
    pub(crate) fn new(closing: watch::Receiver<bool>) -> Self {
        Self { room: Arc::new(Semaphore::new(LISTENERS)), closing }
    }
}

/// One listener.
struct Listening {
    events: broadcast::Receiver<Arc<Event>>,
    closing: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Counted while it is there.
struct Counted;

impl Counted {
    fn new() -> Self {
        gauge!(crate::metrics::EVENT_STREAMS).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!(crate::metrics::EVENT_STREAMS).decrement(1.0);
    }
}

/// Live events (server-sent): `readings`, `batches`, `health`, and `missed` with how many a slow listener did not get.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", security(("token" = [])), responses(
    (status = 200, body = Event, content_type = "text/event-stream"), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem),
))]
pub(super) async fn events(_: Reader, source: AnySource, streams: actix_web::web::Data<Streams>) -> Answer {
    let place = Arc::clone(&streams.room).try_acquire_owned();
    let place = place.map_err(|_| Refusal::unavailable(format!("{LISTENERS} listeners are connected already")))?;
    let listening = Listening {
        events: source.events(),
        closing: streams.closing.clone(),
        _place: place,
        _counted: Counted::new(),
    };
    let lines = stream::unfold((listening, true), |(mut listening, first)| async move {
        let text = if first { ": welcome\n\n".to_owned() } else { next(&mut listening).await? };
        Some((Ok::<_, actix_web::Error>(Bytes::from(text)), (listening, false)))
    });
    Ok(HttpResponse::Ok().content_type("text/event-stream").insert_header(("X-Accel-Buffering", "no")).streaming(lines))
}

async fn next(listening: &mut Listening) -> Option<String> {
    let heard = tokio::select! {
        heard = timeout(HEARTBEAT, listening.events.recv()) => heard,
        _ = listening.closing.wait_for(|closing| *closing) => return None,
    };
    Some(match heard {
        Err(_) => ": still here\n\n".to_owned(),
        Ok(Ok(event)) => format!("event: {}\ndata: {}\n\n", name(&event), serde_json::to_string(&*event).ok()?),
        Ok(Err(broadcast::error::RecvError::Lagged(missed))) => {
            format!("event: missed\ndata: {{\"event\":\"missed\",\"count\":{missed}}}\n\n")
        }
        Ok(Err(broadcast::error::RecvError::Closed)) => return None,
    })
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Readings { .. } => "readings",
        Event::Batches { .. } => "batches",
        Event::Health { .. } => "health",
    }
}
