//! The chain actor: an actix shell that gives the worker its ticks, one at a time.

use std::time::Duration;

use actix::{Actor, AsyncContext, AtomicResponse, Context, Handler, Message, WrapFuture, fut::ActorFutureExt};

use crate::{Order, Worker};

/// Mailbox bound. Ticks come from the actor itself, one at a time; only operators' commands queue.
const MAILBOX: usize = 16;

/// Owns batching and the lanes.
#[derive(Debug)]
pub struct ChainActor {
    /// Away while a tick runs; `AtomicResponse` keeps the next message waiting meanwhile.
    worker: Option<Worker>,
    interval: Duration,
}

impl ChainActor {
    /// An actor that ticks the worker at the config's poll interval.
    pub fn new(worker: Worker, interval: Duration) -> Self {
        Self { worker: Some(worker), interval }
    }

    fn with_worker<R: 'static>(
        &mut self,
        run: impl AsyncFnOnce(&mut Worker) -> R + 'static,
        empty: R,
    ) -> AtomicResponse<Self, R> {
        let worker = self.worker.take();
        let work = async move {
            match worker {
                None => (None, empty),
                Some(mut worker) => {
                    let result = run(&mut worker).await;
                    (Some(worker), result)
                }
            }
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|(worker, result), actor, _| {
            actor.worker = worker;
            result
        })))
    }
}

impl Actor for ChainActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.notify(Tick);
    }
}

/// One round of the worker; schedules the next.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Tick;

impl Handler<Tick> for ChainActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Tick, context: &mut Self::Context) -> Self::Result {
        context.notify_later(Tick, self.interval);
        self.with_worker(async |worker| worker.tick().await, ())
    }
}

/// Take no new work; finish what is open. Answers whether nothing is open any more.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Drain;

impl Handler<Drain> for ChainActor {
    type Result = AtomicResponse<Self, bool>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.with_worker(
            async |worker| {
                worker.drain();
                worker.is_idle()
            },
            false,
        )
    }
}

/// Do what an operator asks for. Answers with what was done, or why not.
#[derive(Debug, Message)]
#[rtype(result = "Result<String, String>")]
pub struct Obey(pub Order);

impl Handler<Obey> for ChainActor {
    type Result = AtomicResponse<Self, Result<String, String>>;

    fn handle(&mut self, Obey(order): Obey, _: &mut Self::Context) -> Self::Result {
        self.with_worker(async |worker| worker.obey(order).await, Err("the chain side has ended".into()))
    }
}

/// Read the devices again: the config changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reload;

impl Handler<Reload> for ChainActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Reload, _: &mut Self::Context) -> Self::Result {
        self.with_worker(
            async |worker| {
                if let Err(error) = worker.reload_devices().await {
                    tracing::error!(error = %crate::worker::chain(&error), "devices were not read again");
                }
            },
            (),
        )
    }
}
