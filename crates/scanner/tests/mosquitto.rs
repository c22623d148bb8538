//! Scanners against an independent broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/broker.rs"]
mod broker;

use std::{collections::HashMap, env, fs, net::TcpListener, sync::Arc, time::Duration};

use broker::Mosquitto;
use tokio::sync::watch;
use windlass_reading::{DeviceId, is_gtin};
use windlass_scanner::{Fault, Load, Progress, Protocol, Qos, Report, Scanner, run};

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
    let broker = Mosquitto::start("plain");
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
            assert!(is_gtin(entry.payload.as_bytes()) && entry.resent == 0 && entry.acknowledged_at >= entry.read_at);
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
    let broker = Mosquitto::start("qos0");
    for protocol in [Protocol::V311, Protocol::V5] {
        let report = drive(Load { qos: Qos::AtMostOnce, protocol, ..load(&broker.address, 3) }).await;
        assert!(report.all_acknowledged(), "{report:?}");
        assert_eq!((report.totals.published, report.totals.acknowledged, report.lost), (120, 0, 0));
    }
}

#[tokio::test]
async fn with_a_link_for_each_reading_there_are_as_many_links_as_readings() {
    let broker = Mosquitto::start("each");
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
    let broker = Mosquitto::start("faults");
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
    let broker = Mosquitto::start("exactly");
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
    // At QoS 2 more are refused than a link's window has places.
    for (qos, in_flight) in [(Qos::AtLeastOnce, 20), (Qos::ExactlyOnce, 20), (Qos::ExactlyOnce, 1)] {
        let report = drive(Load { qos, in_flight, ..load(&broker.address, 2) }).await;
        assert!(!report.all_acknowledged());
        assert_eq!((report.totals.published, report.totals.refused, report.lost), (80, 80, 0), "{qos:?}");
        assert_eq!(report.refusals, [("NotAuthorized".to_owned(), 80)].into());
        assert!(report.ledger.is_empty());
    }
    fs::remove_file(&acl).unwrap();
}

#[tokio::test]
async fn a_broker_that_restarts_is_met_again_and_nothing_counts_twice() {
    let mut broker = Mosquitto::start("restart");
    let load = Load { duration: Duration::from_secs(3), ..load(&broker.address, 4) };
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run(load, Arc::new(Progress::new()), stopped));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    broker.restart();
    let report = running.await.unwrap().unwrap();
    assert!(report.all_acknowledged(), "{report:?}");
    assert_eq!((report.totals.published, report.ledger.len()), (240, 240));
    assert_eq!(report.totals.disconnects, 4);
}

#[tokio::test]
async fn a_broker_that_stands_still_shows_in_the_times_of_all_that_fell_due_meanwhile() {
    let broker = Mosquitto::start("still");
    // With one place in the window almost everything waits for it, and not in the client's hands.
    for in_flight in [20, 1] {
        let load = Load { duration: Duration::from_secs(3), in_flight, ..load(&broker.address, 4) };
        let (_stop, stopped) = watch::channel(false);
        let running = tokio::spawn(run(load, Arc::new(Progress::new()), stopped));
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        broker.signal("STOP");
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        broker.signal("CONT");
        let report = running.await.unwrap().unwrap();
        assert!(report.all_acknowledged(), "{report:?}");
        let times = report.totals.latency.unwrap();
        assert!(times.p99_ms > 900.0 && times.p50_ms < 500.0, "{in_flight}: {times:?}");
        // A third of the readings fell due in that second, and half of those have more than half of it before them.
        let late = report.histogram_us.iter().filter(|(us, _)| *us > 500_000).map(|(_, count)| count).sum::<u64>();
        assert!(late >= 35, "{in_flight}: {late} of 240");
    }
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
    let broker = Mosquitto::start("stop");
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
