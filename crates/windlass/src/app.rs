//! The wiring: every crate's part, started in the order of the data's way and stopped in the same order.

pub mod admin;
mod events;
mod herald;
mod intake;
mod process;
mod reload;
mod seed;
mod sessions;
mod signing;
mod succession;
mod surface;
pub(crate) mod threads;
mod tracer;
mod warden;

use reload::Reloader;

pub(crate) use intake::now_ms;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Addr, Arbiter};
use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_broker::{Broker, Identities, RouterHealth};
use windlass_chain::{ChainActor, Nodes, Settled, Setup, Stage, Standing, SubmitterKey, Worker};
use windlass_device::Directory;
use windlass_http::Server;
use windlass_journal::Sqlite;
use windlass_telemetry::{Recorder, UPKEEP_EVERY};

use crate::{config::Config, custody, deployment};

/// How often the backlog's age is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// A gateway that is listening.
pub struct App {
    journal: Sqlite,
    standing: Arc<Mutex<Standing>>,
    nodes: Arc<Nodes>,
    router: RouterHealth,
    broker_addresses: Vec<SocketAddr>,
    http_address: SocketAddr,
    stop: CancellationToken,
    broker: tokio::task::JoinHandle<()>,
    http: windlass_http::Handle,
    chain: Addr<ChainActor>,
    chain_arbiter: Arbiter,
    upkeep: tokio::task::JoinHandle<()>,
    watcher: tokio::task::JoinHandle<()>,
    reloader: Reloader,
    door: admin::Door,
    reloads: mpsc::Receiver<admin::Reload>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("broker", &self.broker_addresses)
            .field("http", &self.http_address)
            .finish_non_exhaustive()
    }
}

/// Installs the process's recorder with every crate's buckets. Once per process.
///
/// # Errors
/// When another recorder is installed.
pub fn install_metrics() -> anyhow::Result<Recorder> {
    // Buckets are needed before the first record, descriptions only after: describe twice, the second time for good.
    let buckets: Vec<_> = describe();
    let recorder = Recorder::install(&buckets)?;
    describe();
    metrics::describe_gauge!("windlass_build_info", "Version of this build");
    metrics::gauge!("windlass_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(recorder)
}

fn describe() -> Vec<(&'static str, &'static [f64])> {
    let mut buckets = windlass_journal::describe();
    buckets.extend(windlass_chain::describe());
    buckets.extend(windlass_broker::describe());
    windlass_device::describe();
    windlass_device::touch();
    reload::describe();
    windlass_http::describe();
    tracer::describe();
    buckets
}

impl App {
    /// Opens the journal, starts the actors and the chain side, and listens. Must run inside an actix system.
    ///
    /// # Errors
    /// What keeps the gateway from starting: journal, keys, addresses. A missing node is not among them.
    pub async fn build(config: &Config, recorder: Recorder) -> anyhow::Result<Self> {
        let journal = Sqlite::open(&config.data_dir(), &config.journal)?;
        let custody = custody::load(config)?;
        let specs = seed::devices(config, &journal, custody.as_ref()).await?;
        let directory = seed::directory(config, &journal, custody, specs);
        let stop = CancellationToken::new();

        let standing = Arc::new(Mutex::new(Standing::default()));
        let gate = intake::Gate::new(directory.clone(), journal.clone());
        let told = gate.outbox();
        let identities = Identities::new(intake::identities(config), intake::users(config));
        let archive = Arc::new(sessions::Archive(journal.clone()));
        let broker =
            Broker::bind(config.broker.clone(), &config.base, identities.clone(), Arc::new(gate), archive).await?;
        let certificates = broker.certificates();
        let broker_addresses = broker.local_addrs();
        let (outbox, router) = (broker.outbox(), broker.router_health());
        let _ = told.set(outbox.clone());
        let herald = herald::start(journal.clone(), outbox);
        let traces = tracer::start(&config.telemetry, journal.clone())?;
        let observer = move |settled: Settled| {
            let Settled { batch, settlement, stage, tx, block_number: block } = &settled;
            tracing::debug!(batch, settlement = settlement.as_str(), ?stage, %tx, block, "batch");
            if settled.stage == Stage::Final {
                traces.told(settled.batch);
            }
            herald.try_send(settled).is_ok()
        };
        let (chain, chain_arbiter, nodes) = start_chain(config, &journal, &standing, &directory, observer)?;

        let warden = warden::Warden { journal: journal.clone(), directory: directory.clone() };
        let (door, reloads) = open_door(config, &chain, &standing, &warden)?;
        let told = events::channel();
        let surface = surface::Surface {
            config: config.clone(),
            journal: journal.clone(),
            standing: standing.clone(),
            nodes: nodes.clone(),
            router: router.clone(),
            recorder: recorder.clone(),
            events: told.clone(),
            warden,
            chain: chain.clone(),
        };
        let watcher = tokio::spawn(events::watch(journal.clone(), standing.clone(), told));
        let (http, http_address) = open_http(config, surface)?;
        let reloader = Reloader {
            running: config.clone(),
            journal: journal.clone(),
            directory,
            identities,
            certificates,
            chain: chain.clone(),
            seen: reload::stamps(config),
            changed: None,
        };
        let upkeep = tokio::spawn(upkeep(journal.clone(), recorder));
        let broker = spawn_broker(broker, stop.clone());
        Ok(Self {
            journal,
            standing,
            nodes,
            router,
            broker_addresses,
            http_address,
            stop,
            broker,
            http,
            chain,
            chain_arbiter,
            upkeep,
            watcher,
            reloader,
            door,
            reloads,
        })
    }

    /// Where MQTT is listened for, in the config's order.
    pub fn broker_addresses(&self) -> &[SocketAddr] {
        &self.broker_addresses
    }

    /// Where HTTP is listened for.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The journal.
    pub fn journal(&self) -> &Sqlite {
        &self.journal
    }

    /// Tells a supervisor's watchdog for as long as this runtime has its turns and the router forwards. A full disk or a
    /// node that is away is no reason: a restart mends neither, and the gateway waits by itself.
    pub(crate) fn watchdog(&self) -> Option<crate::supervisor::Watchdog> {
        let router = self.router.clone();
        crate::supervisor::watchdog(move || router.is_up())
    }

    /// The nodes.
    pub fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// Where the chain side stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().map(|s| s.clone()).unwrap_or_default()
    }

    /// Reads the config again, when it was changed or `now`. What cannot be used changes nothing.
    pub async fn reload(&mut self, now: bool) {
        if self.reloader.is_due() || now {
            // The log and the metric have told.
            let _ = self.reloader.reload().await;
        }
    }

    /// Waits for an operator who wants the config read again.
    pub async fn reload_wanted(&mut self) -> Option<admin::Reload> {
        self.reloads.recv().await
    }

    /// Reads the config again and says what became of it.
    pub async fn reload_for(&mut self, asked: admin::Reload) {
        let _ = asked.send(self.reloader.reload().await);
    }

    /// Stops in the order of the data's way: no new readings, answers for those that are in, then the chain side,
    /// then the journal. What is not settled stays in the journal and is settled after the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        self.door.close();
        if let Err(error) = self.broker.await {
            tracing::error!(%error, "the broker did not stop cleanly");
        }
        // The answer comes when the round that is running has ended; nothing is signed after it.
        let _ = self.chain.send(windlass_chain::Drain).await;
        self.chain_arbiter.stop();
        self.upkeep.abort();
        self.watcher.abort();
        self.http.stop().await;
        self.journal.close().await;
        tracing::info!(unsettled = self.journal.unsettled_count(), "stopped");
    }
}

/// The chain side, on a thread of its own.
fn start_chain(
    config: &Config,
    journal: &Sqlite,
    standing: &Arc<Mutex<Standing>>,
    directory: &Directory,
    observer: impl Fn(Settled) -> bool + Send + 'static,
) -> anyhow::Result<(Addr<ChainActor>, Arbiter, Arc<Nodes>)> {
    let worker = Worker::new(Setup {
        config: config.chain.clone(),
        limits: config.settlement.clone(),
        submitters: submitters(config)?,
        ledger: Arc::new(journal.clone()),
        signatory: Arc::new(signing::Desk::new(directory.clone())),
        contract: deployment::source(config),
        observer: Box::new(observer),
        standing: standing.clone(),
    })?;
    let nodes = worker.nodes();
    let arbiter = threads::chain()?;
    let interval = config.chain.poll_interval;
    let chain = ChainActor::start_in_arbiter(&arbiter.handle(), move |_| ChainActor::new(worker, interval));
    Ok((chain, arbiter, nodes))
}

/// The operators' socket, and where it hands on what only the app can do.
fn open_door(
    config: &Config,
    chain: &Addr<ChainActor>,
    standing: &Arc<Mutex<Standing>>,
    warden: &warden::Warden,
) -> anyhow::Result<(admin::Door, mpsc::Receiver<admin::Reload>)> {
    let (wanted, reloads) = mpsc::channel(1);
    let asked = admin::Asked {
        chain: chain.clone(),
        standing: standing.clone(),
        journal: warden.journal.clone(),
        reloads: wanted,
        warden: warden.clone(),
    };
    let door = admin::Door::open(&config.data_dir(), asked)
        .with_context(|| format!("operators' socket {}", admin::path(&config.data_dir()).display()))?;
    Ok((door, reloads))
}

/// Listens for HTTP.
fn open_http(config: &Config, surface: surface::Surface) -> anyhow::Result<(windlass_http::Handle, SocketAddr)> {
    if !config.http.is_loopback() && config.http.tokens.is_empty() {
        tracing::warn!(listen = %config.http.listen, "without [[http.tokens]] the API answers nobody beyond loopback");
    }
    let server = Server::bind(config.http.clone(), Arc::new(surface))?;
    let (handle, address) = (server.handle(), server.local_addr());
    actix::spawn(async move {
        if let Err(error) = server.run().await {
            tracing::error!(%error, "the HTTP surface ended");
        }
    });
    Ok((handle, address))
}

fn spawn_broker(broker: Broker, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = broker.run(stop).await {
            tracing::error!(%error, "the broker ended");
        }
    })
}

async fn upkeep(journal: Sqlite, recorder: Recorder) {
    let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
    let mut rounds = 0u64;
    loop {
        sample.tick().await;
        if let Err(error) = journal.sample().await {
            tracing::warn!(%error, "the backlog's age could not be read");
        }
        rounds += 1;
        if rounds.is_multiple_of(UPKEEP_EVERY.as_secs().max(1)) {
            recorder.upkeep();
        }
    }
}

fn submitters(config: &Config) -> anyhow::Result<Vec<SubmitterKey>> {
    let keys = windlass_chain::submitters(&config.chain, &config.base);
    keys.into_iter().map(|key| key.context("chain.submitters")).collect()
}
