//! Readings while others attack: handshakes that never end and wrong secrets as fast as they are answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use windlass_tests::{Figure, Figures, free_ports, measured_for};

use crate::{
    beside,
    latency::{CLIENTS, PACE, heading, print},
    load::{self, connect_packet, dial},
    peers::{Peer, device},
};

const SLOW: usize = 1_000;
const GUESSERS: usize = 200;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
/// Begins a TLS ClientHello of 512 bytes that never comes.
const HELLO: [u8; 9] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC];

#[derive(Default)]
struct Attack {
    over: AtomicBool,
    /// Handshakes that the broker cut off.
    cut: AtomicU64,
    /// Wrong secrets that were answered.
    answered: AtomicU64,
}

pub async fn run(figures: &mut Figures) {
    println!(
        "\n2,000 readings/s over {CLIENTS} clients, while {SLOW} TLS handshakes crawl and {GUESSERS} clients guess secrets"
    );
    heading();
    let [mqtts] = free_ports();
    let listener = format!(
        "[[broker.listeners]]\nlisten = \"127.0.0.1:{mqtts}\"\ntls = {{ certificate = \"server.pem\", key = \"server.key\" }}\n"
    );
    let peer = Peer::windlass_with(CLIENTS, "", &listener, |site| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(site.path("server.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(site.path("server.key"), key.serialize_pem()).unwrap();
    });
    let quiet = measure(&peer).await;
    print("quiet", &quiet);
    let attack = Arc::new(Attack::default());
    let (address, crawling) = (peer.address, Arc::clone(&attack));
    let attackers = beside(move || assault(SocketAddr::from(([127, 0, 0, 1], mqtts)), address, crawling));
    let attacked = measure(&peer).await;
    attack.over.store(true, Relaxed);
    attackers.join().unwrap();
    print("attacked", &attacked);
    let (cut, answered) = (attack.cut.load(Relaxed), attack.answered.load(Relaxed));
    let told = format!("{cut} handshakes were cut off, {answered} wrong secrets answered");
    println!("p99 {:.2} x the quiet run's; {told}", attacked.millis(0.99) / quiet.millis(0.99));
    figures.under(format!("2,000 readings/s over {CLIENTS} clients, {:?}; {told}", measured_for(MEASURED)));
    let name = format!("ack p99 while {SLOW} handshakes crawl and {GUESSERS} guess secrets");
    figures.add(Figure::lower(name, "ms", attacked.millis(0.99)).beside("itself, not attacked", quiet.millis(0.99)));
}

async fn measure(peer: &Peer) -> load::Outcome {
    let streams = load::connect_all(peer.address, 0, CLIENTS, 50).await;
    let outcome = load::publish(streams, 0, PACE, WARM_UP, measured_for(MEASURED)).await;
    peer.assert_whole(&outcome);
    outcome
}

/// Returns when the attack is over.
async fn assault(tls: SocketAddr, plain: SocketAddr, attack: Arc<Attack>) {
    let mut attackers = JoinSet::new();
    for number in 0..SLOW {
        attackers.spawn(crawl(tls, number, Arc::clone(&attack)));
    }
    for number in 0..GUESSERS {
        attackers.spawn(guess(plain, number, Arc::clone(&attack)));
    }
    attackers.join_all().await;
}

/// A byte each second, and again from the start when the broker has had enough.
async fn crawl(address: SocketAddr, number: usize, attack: Arc<Attack>) {
    let second = Duration::from_secs(1);
    while !attack.over.load(Relaxed) {
        let Ok(mut stream) = dial(address, 10_000 + number).await else {
            tokio::time::sleep(second).await;
            continue;
        };
        let mut bytes = HELLO.iter().chain(std::iter::repeat(&0));
        let mut end = [0];
        while !attack.over.load(Relaxed) {
            let byte = [*bytes.next().unwrap()];
            // Nothing is answered to half a hello: what can be read is the end.
            if stream.write_all(&byte).await.is_err() || timeout(second, stream.read(&mut end)).await.is_ok() {
                attack.cut.fetch_add(1, Relaxed);
                break;
            }
        }
    }
}

/// Wrong secrets for the names of devices that are publishing.
async fn guess(address: SocketAddr, number: usize, attack: Arc<Attack>) {
    let packet = connect_packet(&device(number), "a wrong secret");
    while !attack.over.load(Relaxed) {
        let began = Instant::now();
        let try_once = async {
            let mut stream = dial(address, 15_000 + number).await?;
            stream.write_all(&packet).await?;
            stream.read(&mut [0; 4]).await
        };
        match timeout(Duration::from_secs(10), try_once).await {
            Ok(Ok(4)) => drop(attack.answered.fetch_add(1, Relaxed)),
            _ if began.elapsed() < Duration::from_millis(10) => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => {}
        }
    }
}
