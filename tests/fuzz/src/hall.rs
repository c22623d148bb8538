//! The front with an intake, a store and a client in memory. Time is virtual: an input takes microseconds, whatever it
//! waits for.

use std::{
    collections::{BTreeSet, HashSet},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf, duplex, split},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use windlass_broker::{
    Identities, Identity, Intake, Limits, NotStored, Offer, Outbox, Publish, Qos, Refusal, Refused, SecretHash,
    SessionStore, Step, Stored, User, Verdict,
    fuzz::{Bench, InMemory},
};
use windlass_reading::{DeviceId, Reject};

/// A device that comes by its client id alone, with a topic of its own: the article's scanner.
pub const SCANNER: &str = "5446078";
/// Longer than the front may take for anything on its own: CONNECT, late verdicts, slowed sockets.
const QUIET: Duration = Duration::from_secs(30);
/// Longer than the front may take to end: drain time and last write.
const END: Duration = Duration::from_secs(60);
/// No input needs as many turns; a connection that takes more runs in circles.
const MOST_TURNS: usize = 20_000;
/// Small, so that reads and writes are cut.
const PIPE_BYTES: usize = 256;

thread_local! {
    // A user hears what any front of the same bench tells: inputs that run at the same time must not share one.
    static BENCH: Bench = Bench::new().expect("a thread for the router");
}

/// How a conversation ends, once the client has said all.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// The client closes its side.
    Close,
    /// Another connection of the device sends these bytes.
    TakeOver(&'a [u8]),
}

/// What the client does.
#[derive(Debug)]
pub struct Plan<'a> {
    pub stream: &'a [u8],
    pub chunk: usize,
    pub ending: Ending<'a>,
}

/// What became of it.
#[derive(Debug)]
pub struct Talk {
    /// What the broker sent.
    pub heard: Vec<u8>,
    /// The broker ended the connection, not the client.
    pub ended_by_broker: bool,
    /// What the connection that took over heard.
    pub newer: Option<Vec<u8>>,
    pub events: Vec<Event>,
    /// Topic and payload of the messages for subscribers, in order.
    pub told: Vec<(String, Vec<u8>)>,
}

/// What reached the intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Published { device: String, topic: String, payload: Vec<u8>, qos: u8, packet_id: Option<u16>, verdict: Verdict },
    Released { device: String, packet_id: Option<u16>, known: bool },
    Refused { device: String, topic: String, reject: Reject },
}

impl Talk {
    /// Carries the plan out.
    pub fn run(plan: &Plan<'_>) -> Self {
        let bench = BENCH.with(Clone::clone);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let desk = Arc::new(Desk::default());
            let front = bench.front(Limits::default(), identities(), desk.clone(), Arc::new(Forgetful));
            assert!(desk.outbox.set(front.outbox()).is_ok());
            let (heard, ended_by_broker, newer) = converse(&front, plan).await;
            let state = std::mem::take(&mut *desk.state.lock().expect("no panic before"));
            Self { heard, ended_by_broker, newer, events: state.events, told: state.told }
        })
    }
}

async fn converse(front: &InMemory, plan: &Plan<'_>) -> (Vec<u8>, bool, Option<Vec<u8>>) {
    let mut line = Line::open(front);
    line.say(plan.stream, plan.chunk).await;
    let ended_by_broker = line.ends_within(QUIET).await;
    let newer = match plan.ending {
        Ending::Close => None,
        Ending::TakeOver(connect) => {
            let mut newer = Line::open(front);
            newer.say(connect, connect.len()).await;
            assert!(!newer.ends_within(QUIET).await, "the newer connection does not stay");
            assert!(line.ends_within(END).await, "the older connection stays");
            Some(newer.close().await)
        }
    };
    (line.close().await, ended_by_broker, newer)
}

/// The client's end of a connection.
struct Line {
    writer: WriteHalf<DuplexStream>,
    served: JoinHandle<()>,
    heard: JoinHandle<Vec<u8>>,
    woken: Arc<AtomicBool>,
}

impl Line {
    fn open(front: &InMemory) -> Self {
        let (client, server) = duplex(PIPE_BYTES);
        let by_client_id = HashSet::from([SCANNER.to_owned()]);
        let served = front.clone().serve(server, by_client_id, CancellationToken::new());
        let (mut reader, writer) = split(client);
        let heard = async move {
            let mut heard = Vec::new();
            // A pipe in memory does not fail.
            let _ = reader.read_to_end(&mut heard).await;
            heard
        };
        let woken = Arc::new(AtomicBool::new(false));
        let served = tokio::spawn(Counted { inner: Box::pin(served), turns: 0, woken: woken.clone() });
        Self { writer, served, heard: tokio::spawn(heard), woken }
    }

    async fn say(&mut self, bytes: &[u8], chunk: usize) {
        for piece in bytes.chunks(chunk) {
            // An error means that the broker has ended the connection.
            if self.writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn ends_within(&mut self, patience: Duration) -> bool {
        if !self.served.is_finished() {
            let joined = loop {
                match timeout(patience, &mut self.served).await {
                    Ok(joined) => break joined,
                    // The router's thread is about to wake the connection: the clock must not leap over that.
                    Err(_) if self.woken.load(Ordering::SeqCst) => std::thread::yield_now(),
                    Err(_) => return false,
                }
            };
            if let Err(error) = joined {
                std::panic::resume_unwind(error.into_panic());
            }
            // A handle that was awaited must not be again.
            self.served = tokio::spawn(async {});
            tokio::task::yield_now().await;
        }
        true
    }

    async fn close(mut self) -> Vec<u8> {
        let _ = self.writer.shutdown().await;
        assert!(self.ends_within(END).await, "the connection stays although the client has closed");
        self.heard.await.expect("reading does not panic")
    }
}

/// Counts the turns of a task that only waits for its own events, and says whether one is on its way to it.
struct Counted {
    inner: Pin<Box<dyn Future<Output = ()> + Send>>,
    turns: usize,
    woken: Arc<AtomicBool>,
}

impl Future for Counted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.turns += 1;
        assert!(self.turns <= MOST_TURNS, "the connection runs in circles");
        self.woken.store(false, Ordering::SeqCst);
        let bell = Arc::new(Bell { woken: self.woken.clone(), task: cx.waker().clone() });
        self.inner.as_mut().poll(&mut Context::from_waker(&bell.into()))
    }
}

/// Wakes the task. Another thread that does so may be held up halfway, for as long as the clock needs for minutes.
struct Bell {
    woken: Arc<AtomicBool>,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake_by_ref();
    }
}

fn identities() -> Identities {
    let device = |id: &str, secret: bool, topic: Option<&str>| Identity {
        device: DeviceId::new(id).expect("an id"),
        secret: secret.then(|| SecretHash::of(format!("secret of {id}").as_bytes())),
        topic: topic.map(str::to_owned),
    };
    let devices =
        vec![device("a", true, Some("old/a")), device("b", true, None), device(SCANNER, false, Some(SCANNER))];
    let subscribe = vec!["devices/+/receipts".into(), "devices/a/#".into()];
    let desk = User { name: "desk".into(), secret: SecretHash::of(b"secret of desk"), subscribe };
    Identities::new(devices, vec![desk])
}

/// The intake. What it answers is written in the payload's first byte, so that an input decides it:
/// `r` refused, `u` not stored, `c` closed, `d` never answered, `f` full twice, `l` late; otherwise accepted.
#[derive(Default)]
struct Desk {
    state: Arc<Mutex<State>>,
    outbox: OnceLock<Outbox>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    told: Vec<(String, Vec<u8>)>,
    unreleased: BTreeSet<u16>,
    full: usize,
}

impl Intake for Desk {
    fn offer(&self, mut offer: Offer) -> Result<(), Refused> {
        while let Some(publish) = offer.publishes.first() {
            if self.is_full_for(publish) {
                return Err(Refused::Full(offer));
            }
            let rest = offer.split_off(1);
            self.take(std::mem::replace(&mut offer, rest));
        }
        Ok(())
    }

    fn refused(&self, refusal: Refusal) {
        let (device, topic) = (refusal.device.to_string(), refusal.topic);
        let event = Event::Refused { device, topic, reject: refusal.reject };
        self.state.lock().expect("no panic before").events.push(event);
    }
}

impl Desk {
    fn is_full_for(&self, publish: &Publish) -> bool {
        let mut state = self.state.lock().expect("no panic before");
        let counts = publish.payload.first() == Some(&b'f');
        state.full += usize::from(counts);
        counts && !state.full.is_multiple_of(3)
    }

    /// Of one publish. Closed or not answered, it must not harm its neighbours.
    fn take(&self, Offer { device, publishes, replies }: Offer) {
        let mut state = self.state.lock().expect("no panic before");
        let Some(publish) = publishes.first() else { return };
        let first = publish.payload.first().copied();
        let verdict = state.judge(publish, first);
        state.note(&device, publish, verdict);
        let outbox = self.outbox.get().expect("set before the first connection").clone();
        match first {
            _ if publish.step == Step::Release => {
                replies.send([(0, verdict)]);
            }
            Some(b'c' | b'd') => drop(replies),
            Some(b'l') => {
                let state = self.state.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let mut state = state.lock().expect("no panic before");
                    state.tell(&outbox, device.as_str(), verdict);
                    replies.send([(0, verdict)]);
                });
            }
            _ => {
                state.tell(&outbox, device.as_str(), verdict);
                replies.send([(0, verdict)]);
            }
        }
    }
}

impl State {
    fn judge(&mut self, publish: &Publish, first: Option<u8>) -> Verdict {
        let id = publish.packet_id.unwrap_or_default();
        let sequence = self.events.len() as u64;
        match (publish.step, first) {
            (Step::Release, _) => Verdict::Released { known: self.unreleased.remove(&id) },
            (_, Some(b'r')) => Verdict::Rejected(Reject::BadCharacter),
            (_, Some(b'u' | b'c' | b'd')) => Verdict::Unavailable,
            _ if publish.qos == Qos::ExactlyOnce && !self.unreleased.insert(id) => Verdict::Repeated { sequence },
            _ => Verdict::Accepted { sequence },
        }
    }

    fn note(&mut self, device: &DeviceId, publish: &Publish, verdict: Verdict) {
        let (device, packet_id) = (device.to_string(), publish.packet_id);
        self.events.push(match verdict {
            Verdict::Released { known } => Event::Released { device, packet_id, known },
            _ => Event::Published {
                device,
                topic: publish.topic.as_ref().to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                packet_id,
                verdict,
            },
        });
    }

    /// A receipt, or the reason why there is none. Each is told apart by its number.
    fn tell(&mut self, outbox: &Outbox, device: &str, verdict: Verdict) {
        let qos = if self.told.len().is_multiple_of(2) { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
        let last = if matches!(verdict, Verdict::Rejected(_)) { "errors" } else { "receipts" };
        let (topic, payload) =
            (format!("devices/{device}/{last}"), format!("{verdict} {}", self.told.len()).into_bytes());
        self.told.push((topic.clone(), payload.clone()));
        outbox.tell(topic, Bytes::from(payload), qos);
    }
}

/// Sessions are not kept over a restart here: there is none.
struct Forgetful;

#[async_trait]
impl SessionStore for Forgetful {
    async fn all(&self) -> Result<Vec<Stored>, NotStored> {
        Ok(Vec::new())
    }

    async fn keep(&self, _: Stored) -> Result<(), NotStored> {
        Ok(())
    }

    async fn forget(&self, _: Vec<String>) -> Result<(), NotStored> {
        Ok(())
    }
}
