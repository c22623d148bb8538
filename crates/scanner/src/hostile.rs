//! Clients that mean no good, beside the scanners: what a broker must stand while it serves the others.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    course::{Phase, Shared},
    faults::Hostile,
    load::Scanner,
    raw::{self, Answer, Raw},
};

/// Between two bytes of a CONNECT.
const DRIP: Duration = Duration::from_secs(1);
/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);
/// What [`Hostile::Flood`] has open at once.
const FLOOD_OPEN: usize = 1_000;
/// No secret that anybody has.
const WRONG_SECRET: &str = "let-me-in";

/// What became of the hostile clients of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HostileCount {
    /// Clients of this kind.
    pub clients: u64,
    /// Connections they opened.
    pub connections: u64,
    /// Connection attempts that failed.
    pub connect_errors: u64,
    /// CONNACKs that let one in.
    pub admitted: u64,
    /// CONNACKs that did not.
    pub refused: u64,
    /// Connections that the broker ended.
    pub closed: u64,
    /// Connections that were given up because the broker said nothing for half a minute.
    pub unanswered: u64,
    /// Publishes that left.
    pub published: u64,
    /// Acknowledgements that were read.
    pub acknowledged: u64,
    /// Publishes that were refused (MQTT 5).
    pub publishes_refused: u64,
}

impl HostileCount {
    fn add(&mut self, other: Self) {
        self.clients += other.clients;
        self.connections += other.connections;
        self.connect_errors += other.connect_errors;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.closed += other.closed;
        self.unanswered += other.unanswered;
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.publishes_refused += other.publishes_refused;
    }
}

/// Sums by the name of the kind.
pub(crate) fn sum(counts: impl IntoIterator<Item = (Hostile, HostileCount)>) -> BTreeMap<&'static str, HostileCount> {
    let mut sums: BTreeMap<&'static str, HostileCount> = BTreeMap::new();
    for (kind, count) in counts {
        sums.entry(kind.as_str()).or_default().add(count);
    }
    sums
}

/// One hostile client.
pub(crate) struct Enemy {
    shared: Arc<Shared>,
    kind: Hostile,
    scanner: Scanner,
    number: u64,
    position: u64,
    count: HostileCount,
}

impl Enemy {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Option<Self> {
        let (kind, scanner) = shared.load.hostile.get(index)?.clone();
        let number = (shared.load.scanners.len() + index) as u64;
        let count = HostileCount { clients: 1, ..HostileCount::default() };
        Some(Self { shared, kind, scanner, number, position: 0, count })
    }

    /// Does its harm from the first reading to the last.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) -> (Hostile, HostileCount) {
        let begun = phase.wait_for(|phase| !matches!(phase, Phase::Connect)).await.is_ok();
        let over = async move {
            // An error means that the run is gone.
            drop(phase.wait_for(|phase| matches!(phase, Phase::Drain { .. })).await);
        };
        if begun {
            tokio::select! {
                () = over => {}
                () = self.attack() => {}
            }
        }
        (self.kind, self.count)
    }

    async fn attack(&mut self) {
        loop {
            let opened = timeout(PATIENCE, Raw::open(&self.shared.load, &self.scanner)).await;
            match opened.map_err(io::Error::from).flatten() {
                Ok(raw) => {
                    self.count.connections += 1;
                    if self.meet(raw).await.is_err() {
                        self.count.closed += 1;
                    }
                }
                Err(_) => self.count.connect_errors += 1,
            }
            sleep(PAUSE).await;
        }
    }

    /// One connection. An error when the broker ends it.
    async fn meet(&mut self, mut raw: Raw) -> io::Result<()> {
        let (protocol, scanner) = (self.shared.load.protocol, self.scanner.clone());
        let secret = match self.kind {
            Hostile::WrongSecret => Some(WRONG_SECRET),
            _ => scanner.secret.as_deref(),
        };
        let connect = raw::connect(protocol, &scanner, secret, false);
        if self.kind == Hostile::Slowloris {
            return self.drip(&mut raw, &connect).await;
        }
        raw.write(&connect).await?;
        let Ok(answer) = timeout(PATIENCE, raw.next()).await else {
            self.count.unanswered += 1;
            return Ok(());
        };
        match answer? {
            Answer::Connected(true) => self.count.admitted += 1,
            _ => {
                self.count.refused += 1;
                return Ok(());
            }
        }
        match self.kind {
            Hostile::NeverRead => self.never_read(&mut raw).await,
            Hostile::Flood => self.flood(&mut raw).await,
            Hostile::WrongSecret | Hostile::Slowloris => Ok(()),
        }
    }

    /// The last byte never comes.
    async fn drip(&mut self, raw: &mut Raw, connect: &[u8]) -> io::Result<()> {
        for byte in connect.iter().take(connect.len().saturating_sub(1)) {
            raw.write(&[*byte]).await?;
            tokio::select! {
                () = sleep(DRIP) => {}
                // Only the end of the connection can come: there is nothing to answer.
                answer = raw.next() => answer.map(drop)?,
            }
        }
        raw.next().await.map(drop)
    }

    async fn never_read(&mut self, raw: &mut Raw) -> io::Result<()> {
        loop {
            let publish = self.publish();
            raw.write(&publish).await?;
            self.count.published += 1;
        }
    }

    async fn flood(&mut self, raw: &mut Raw) -> io::Result<()> {
        let mut open = 0;
        loop {
            let mut bytes = Vec::new();
            let room = FLOOD_OPEN - open;
            for _ in 0..room {
                bytes.extend_from_slice(&self.publish());
            }
            raw.write(&bytes).await?;
            self.count.published += room as u64;
            open = FLOOD_OPEN;
            // Half of it answered makes room for a write that is worth it.
            while open > FLOOD_OPEN / 2 {
                match raw.next().await? {
                    Answer::Acknowledged(true) => self.count.acknowledged += 1,
                    Answer::Acknowledged(false) => self.count.publishes_refused += 1,
                    _ => continue,
                }
                open -= 1;
            }
        }
    }

    fn publish(&mut self) -> bytes::Bytes {
        let load = &self.shared.load;
        let code = load.codes.code(load.seed, self.number, self.position);
        // Packet ids from 1 on, around before 65,536.
        let packet_id = u16::try_from(self.position % 65_535 + 1).unwrap_or(1);
        self.position += 1;
        raw::publish(load.protocol, &self.scanner.readings_topic(), packet_id, code.as_bytes())
    }
}
