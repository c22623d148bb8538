//! Scanners against an independent broker: Debian's mosquitto, when it is installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::HashMap,
    env, fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use windlass_reading::{DeviceId, is_gtin};
use windlass_scanner::{Fault, Load, Progress, Protocol, Qos, Report, Scanner, run};

/// A mosquitto of our own; ends with the test.
struct Mosquitto {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    address: String,
}

impl Mosquitto {
    /// `None`, with a printed note, when there is no mosquitto here.
    fn start(name: &str) -> Option<Self> {
        Self::start_with(name, "")
    }

    fn start_with(name: &str, more: &str) -> Option<Self> {
        let found = env::split_paths(&env::var_os("PATH")?)
            .chain([PathBuf::from("/usr/sbin")])
            .map(|dir| dir.join("mosquitto"))
            .find(|path| path.is_file());
        let Some(program) = found else {
            eprintln!("skipped: no mosquitto on PATH");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = env::temp_dir().join(format!("windlass-{name}-{port}.conf"));
        // No `max_queued_messages 0` here: with it, 2.0.11 breaks the connection that it refuses a publish of.
        let log = config.with_extension("log");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n\
             user {}\nlog_type all\nlog_dest file {}\n{more}\n",
            env::var("USER").unwrap_or_else(|_| "root".into()),
            log.display()
        );
        fs::write(&config, text).unwrap();
        let child = spawn(&program, &config);
        let mut broker = Self { child, config, log, address: format!("127.0.0.1:{port}") };
        broker.await_listening();
        Some(broker)
    }

    fn await_listening(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&self.address).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn spawn(program: &PathBuf, config: &PathBuf) -> Child {
    let mut command = Command::new(program);
    command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.config));
        drop(fs::remove_file(&self.log));
    }
}

fn load(broker: &str, devices: usize) -> Load {
    let scanners = (0..devices).map(|n| Scanner::new(DeviceId::new(&format!("dock-{n}")).unwrap())).collect();
    Load { rate_hz: 20.0, duration: Duration::from_secs(2), ..Load::new(broker, scanners) }
}

async fn drive(load: Load) -> Report {
    let (_stop, stopped) = watch::channel(false);
    run(load, Arc::new(Progress::new()), stopped).await.unwrap()
}

#[tokio::test]
async fn every_reading_is_acknowledged_and_in_the_ledger_in_order() {
    let Some(broker) = Mosquitto::start("plain") else { return };
    for (protocol, qos) in [
        (Protocol::V311, Qos::AtLeastOnce),
        (Protocol::V5, Qos::AtLeastOnce),
        (Protocol::V311, Qos::ExactlyOnce),
        (Protocol::V5, Qos::ExactlyOnce),
    ] {
        let load = Load { protocol, qos, ..load(&broker.address, 5) };
        let codes = load.codes;
        let report = drive(load).await;
        assert!(report.all_acknowledged(), "{report:?}");
        assert_eq!((report.totals.published, report.totals.acknowledged), (200, 200), "{protocol:?} {qos:?}");
        assert!(report.totals.latency.unwrap().p50_ms > 0.0);
        let mut by_device: HashMap<String, Vec<String>> = HashMap::new();
        for entry in report.ledger {
            assert!(is_gtin(entry.payload.as_bytes()) && !entry.resent);
            by_device.entry(entry.device.as_str().to_owned()).or_default().push(entry.payload);
        }
        for n in 0..5 {
            let expected: Vec<_> = (0..40).map(|at| codes.code(1, n, at)).collect();
            assert_eq!(by_device[&format!("dock-{n}")], expected);
        }
    }
}

#[tokio::test]
async fn qos_0_is_sent_whole_and_claims_no_acknowledgement() {
    let Some(broker) = Mosquitto::start("qos0") else { return };
    for protocol in [Protocol::V311, Protocol::V5] {
        let report = drive(Load { qos: Qos::AtMostOnce, protocol, ..load(&broker.address, 3) }).await;
        assert!(report.all_acknowledged(), "{report:?}");
        assert_eq!((report.totals.published, report.totals.acknowledged, report.lost), (120, 0, 0));
    }
}

#[tokio::test]
async fn with_a_link_for_each_reading_there_are_as_many_links_as_readings() {
    let Some(broker) = Mosquitto::start("each") else { return };
    let mut links = 0;
    for (protocol, qos) in
        [(Protocol::V311, Qos::AtMostOnce), (Protocol::V311, Qos::AtLeastOnce), (Protocol::V5, Qos::AtLeastOnce)]
    {
        let load = Load { one_per_connection: true, protocol, qos, ..load(&broker.address, 3) };
        let report = drive(load).await;
        assert!(report.all_acknowledged(), "{report:?}");
        assert_eq!((report.totals.published, report.totals.disconnects, report.totals.resent), (120, 0, 0));
        links += 120;
        let log = fs::read_to_string(&broker.log).unwrap();
        assert_eq!(log.matches("New client connected").count(), links, "{protocol:?} {qos:?}");
    }
}

#[tokio::test]
async fn faults_redeliver_and_lose_nothing() {
    let Some(broker) = Mosquitto::start("faults") else { return };
    let mut redelivered = 0;
    for (protocol, qos) in [(Protocol::V311, Qos::AtLeastOnce), (Protocol::V5, Qos::AtLeastOnce)] {
        let report = drive(Load { protocol, qos, faults: Fault::ALL.to_vec(), ..load(&broker.address, 4) }).await;
        assert!(report.all_acknowledged(), "{report:?}");
        let totals = &report.totals;
        assert_eq!((totals.published, totals.acknowledged, totals.malformed), (160, 160, 16));
        // Four of each scanner's forty are dropped before the acknowledgement is read, and four break off.
        assert!(totals.redelivered >= 16, "{totals:?}");
        assert_eq!((totals.resent, totals.disconnects, totals.cut), (0, 0, 16));
        assert_eq!(report.ledger.len(), 144);
        redelivered += totals.redelivered;
        // "PUBLISH from dock-0 (d1, q1, …": the broker saw the DUP flag as often as it was sent.
        let log = fs::read_to_string(&broker.log).unwrap();
        let seen = log.lines().filter(|line| line.contains("Received PUBLISH") && line.contains("(d1, q1"));
        assert_eq!(seen.count() as u64, redelivered, "{protocol:?}");
    }
}

#[tokio::test]
async fn at_qos_2_a_broker_forwards_each_reading_once_through_all_faults() {
    let Some(broker) = Mosquitto::start("exactly") else { return };
    for (protocol, seed) in [(Protocol::V311, 1), (Protocol::V5, 2)] {
        let load = load(&broker.address, 4);
        let topics: Vec<_> = load.scanners.iter().map(|s| format!("devices/{}/readings", s.id)).collect();
        let seen = subscribe(&broker.address, &topics).await;
        let qos = Qos::ExactlyOnce;
        let report = drive(Load { protocol, qos, seed, faults: Fault::ALL.to_vec(), ..load }).await;
        assert!(report.all_acknowledged(), "{protocol:?}: {report:?}");
        let totals = &report.totals;
        assert_eq!((totals.published, totals.acknowledged, totals.resent, totals.cut), (160, 160, 0, 16));
        assert!(totals.redelivered >= 4, "{totals:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        seen.abort();
        let mut codes = seen.seen.lock().unwrap().clone();
        codes.retain(|code| code != "NOTABARCODE");
        let total = codes.len();
        codes.sort();
        codes.dedup();
        assert_eq!((total, codes.len()), (144, 144), "{protocol:?}");
    }
}

/// What a subscriber has been sent.
struct Subscriber {
    task: tokio::task::JoinHandle<()>,
    seen: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Subscriber {
    fn abort(&self) {
        self.task.abort();
    }
}

async fn subscribe(address: &str, topics: &[String]) -> Subscriber {
    let (host, port) = address.split_once(':').unwrap();
    let options = rumqttc::MqttOptions::new("watcher", host, port.parse().unwrap());
    let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
    for topic in topics {
        client.subscribe(topic, rumqttc::QoS::ExactlyOnce).await.unwrap();
    }
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let (mut open, mut ready) = (topics.len(), Some(ready));
    let codes = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        // Lives in the task, or the subscriptions would end.
        let _client = client;
        while let Ok(event) = events.poll().await {
            match event {
                rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)) => {
                    open -= 1;
                    if open == 0 {
                        assert_eq!(ready.take().unwrap().send(()), Ok(()));
                    }
                }
                rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => {
                    codes.lock().unwrap().push(String::from_utf8(publish.payload.to_vec()).unwrap());
                }
                _ => {}
            }
        }
    });
    subscribed.await.unwrap();
    Subscriber { task, seen }
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_reason_and_is_no_loss() {
    let acl = env::temp_dir().join(format!("windlass-acl-{}", std::process::id()));
    fs::write(&acl, "topic read nothing\n").unwrap();
    // Newer brokers want the file to be nobody else's.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&acl, private).unwrap();
    let broker = Mosquitto::start_with("refuse", &format!("acl_file {}", acl.display()));
    if let Some(broker) = &broker {
        // At QoS 2 more are refused than a link's window has places.
        for (qos, in_flight) in [(Qos::AtLeastOnce, 20), (Qos::ExactlyOnce, 20), (Qos::ExactlyOnce, 1)] {
            let report = drive(Load { qos, in_flight, ..load(&broker.address, 2) }).await;
            assert!(!report.all_acknowledged());
            assert_eq!((report.totals.published, report.totals.refused, report.lost), (80, 80, 0), "{qos:?}");
            assert_eq!(report.refusals, [("NotAuthorized".to_owned(), 80)].into());
            assert!(report.ledger.is_empty());
        }
    }
    fs::remove_file(&acl).unwrap();
}

#[tokio::test]
async fn a_broker_that_restarts_is_met_again_and_nothing_counts_twice() {
    let Some(mut broker) = Mosquitto::start("restart") else { return };
    let load = Load { duration: Duration::from_secs(3), ..load(&broker.address, 4) };
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run(load, Arc::new(Progress::new()), stopped));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].iter().find(|p| fs::metadata(p).is_ok());
    broker.child = spawn(&PathBuf::from(program.unwrap_or(&"mosquitto")), &broker.config);
    broker.await_listening();
    let report = running.await.unwrap().unwrap();
    assert!(report.all_acknowledged(), "{report:?}");
    assert_eq!((report.totals.published, report.ledger.len()), (240, 240));
    assert_eq!(report.totals.disconnects, 4);
}

#[tokio::test]
async fn without_a_broker_the_errors_are_counted_and_a_stop_ends_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let progress = Arc::new(Progress::new());
    let running = tokio::spawn(run(load(&free.to_string(), 2), Arc::clone(&progress), stopped));
    while progress.snapshot().connect_errors < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send_replace(true);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.totals.published, report.unsent, report.lost), (0, 0, 0));
    assert!(progress.last_connect_error().is_some());
}

#[tokio::test]
async fn stopping_early_ends_with_everything_answered() {
    let Some(broker) = Mosquitto::start("stop") else { return };
    let load = Load { duration: Duration::from_secs(600), ..load(&broker.address, 3) };
    let (stop, stopped) = watch::channel(false);
    let progress = Arc::new(Progress::new());
    let running = tokio::spawn(run(load, Arc::clone(&progress), stopped));
    while progress.snapshot().acknowledged < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send_replace(true);
    let report = running.await.unwrap().unwrap();
    assert!(report.all_acknowledged() && report.totals.published >= 10, "{report:?}");
    assert!(report.elapsed < Duration::from_secs(60));
}
