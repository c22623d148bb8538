//! Tells devices how far their readings have come, on `devices/{id}/receipts`.

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use serde_json::json;
use windlass_broker::{Outbox, Qos};
use windlass_chain::{Settled, Stage};
use windlass_journal::{Ledger, Sqlite};

/// Steps of batches that may wait; beyond it receipts are dropped and counted, never readings.
const MAILBOX: usize = 1_024;

/// A batch's step, as the chain side tells it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Step(Settled);

impl From<Settled> for Step {
    fn from(settled: Settled) -> Self {
        Self(settled)
    }
}

/// The actor behind the recipient.
struct Herald {
    journal: Sqlite,
    outbox: Outbox,
}

impl Actor for Herald {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Step> for Herald {
    type Result = ();

    fn handle(&mut self, Step(settled): Step, context: &mut Self::Context) {
        if !self.outbox.has_listeners() {
            return;
        }
        let (journal, outbox) = (self.journal.clone(), self.outbox.clone());
        context.wait(tell(journal, outbox, settled).into_actor(self));
    }
}

async fn tell(journal: Sqlite, outbox: Outbox, settled: Settled) {
    let readings = match journal.batch_readings(settled.batch).await {
        Ok(readings) => readings,
        Err(error) => {
            tracing::warn!(%error, "receipts of a batch could not be read");
            return;
        }
    };
    let state = match settled.stage {
        Stage::Mined => "mined",
        Stage::Final => "final",
        Stage::Unsettled => "accepted",
    };
    let on_chain = settled.stage != Stage::Unsettled;
    for reading in readings {
        let receipt = json!({
            "device": reading.device,
            "sequence": reading.sequence,
            "payload": crate::rows::payload(&reading.payload),
            "state": state,
            "settlement": settled.settlement.as_str(),
            "batch": settled.batch,
            "tx": on_chain.then_some(settled.tx),
            "block": on_chain.then_some(settled.block_number),
            "at": crate::app::now_ms(),
        });
        outbox.tell(format!("devices/{}/receipts", reading.device), receipt.to_string().into(), Qos::AtLeastOnce);
    }
}

/// Starts the herald on this system's arbiter.
pub(super) fn start(journal: Sqlite, outbox: Outbox) -> Sender {
    Sender(Herald { journal, outbox }.start().recipient())
}

/// Where the chain side tells its steps.
#[derive(Debug, Clone)]
pub(super) struct Sender(Recipient<Step>);

impl Sender {
    /// Never blocks. An error means that the mailbox is full and the receipts of this step are not sent.
    pub(super) fn try_send(&self, settled: Settled) -> Result<(), ()> {
        self.0.try_send(settled.into()).map_err(|_| ())
    }
}
