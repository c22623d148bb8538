//! A broker on free ports, an intake whose verdicts the test gives, and clients of bare bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    ops::Deref,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use windlass_broker::{
    Broker, Certificates, Config, Identities, Identity, Intake, Limits, Listener, NotStored, Offer, Outbox, Publish,
    Refusal, Refused, Replies, RouterHealth, SecretHash, SessionStore, Stored, User, Verdict,
};
use windlass_reading::DeviceId;

/// No answer of a working broker takes so long; a wait this long is a failure.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One publish of an offer.
#[derive(Debug)]
pub struct Arrived {
    pub device: DeviceId,
    pub reply: Reply,
    publish: Publish,
}

/// The answer to one publish.
#[derive(Debug)]
pub struct Reply(Replies);

impl Arrived {
    fn of(mut offer: Offer) -> Self {
        let publish = offer.publishes.pop().expect("an offer of one");
        Self { device: offer.device, reply: Reply(offer.replies), publish }
    }
}

impl Deref for Arrived {
    type Target = Publish;

    fn deref(&self) -> &Publish {
        &self.publish
    }
}

impl Reply {
    pub fn send(self, verdict: Verdict) {
        self.0.send([(0, verdict)]);
    }
}

/// Passes publishes to the test; may be told to be full for the next few.
pub struct Desk {
    publishes: mpsc::UnboundedSender<Arrived>,
    pub full: AtomicUsize,
    pub refusals: Mutex<VecDeque<Refusal>>,
}

impl Intake for Desk {
    fn offer(&self, mut offer: Offer) -> Result<(), Refused> {
        while !offer.publishes.is_empty() {
            if self.full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                return Err(Refused::Full(offer));
            }
            let rest = offer.split_off(1);
            self.publishes.send(Arrived::of(std::mem::replace(&mut offer, rest))).map_err(|_| Refused::Closed)?;
        }
        Ok(())
    }

    fn refused(&self, refusal: Refusal) {
        self.refusals.lock().unwrap().push_back(refusal);
    }
}

/// Keeps sessions in memory, for as long as the test does.
#[derive(Default)]
pub struct Shelf(pub Mutex<BTreeMap<String, Stored>>);

#[async_trait]
impl SessionStore for Shelf {
    async fn all(&self) -> Result<Vec<Stored>, NotStored> {
        Ok(self.0.lock().unwrap().values().cloned().collect())
    }

    async fn keep(&self, session: Stored) -> Result<(), NotStored> {
        self.0.lock().unwrap().insert(session.owner.clone(), session);
        Ok(())
    }

    async fn forget(&self, owners: Vec<String>) -> Result<(), NotStored> {
        self.0.lock().unwrap().retain(|owner, _| !owners.contains(owner));
        Ok(())
    }
}

/// A user that hears all receipts and status messages.
pub fn desk() -> User {
    let subscribe = vec!["devices/+/receipts".into(), "devices/+/status".into(), "devices/a/readings".into()];
    User { name: "desk".into(), secret: SecretHash::of(b"secret of desk"), subscribe }
}

pub struct Bench {
    pub desk: Arc<Desk>,
    pub shelf: Arc<Shelf>,
    pub publishes: mpsc::UnboundedReceiver<Arrived>,
    pub identities: Identities,
    pub certificates: Certificates,
    pub outbox: Outbox,
    pub router: RouterHealth,
    pub addresses: Vec<SocketAddr>,
    pub stop: CancellationToken,
    pub run: JoinHandle<()>,
}

pub fn identity(id: &str, topic: Option<&str>) -> Identity {
    Identity {
        device: DeviceId::new(id).unwrap(),
        secret: Some(SecretHash::of(format!("secret of {id}").as_bytes())),
        topic: topic.map(ToOwned::to_owned),
    }
}

pub async fn bench() -> Bench {
    bench_with(Limits { drain_timeout: Duration::from_secs(5), ..Limits::default() }).await
}

/// Two listeners: with credentials, and one that takes the article's scanner by its client id.
pub async fn bench_with(limits: Limits) -> Bench {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = vec![
        Listener::plain(listen),
        Listener { identify_by_client_id: vec!["5446078".into()], ..Listener::plain(listen) },
    ];
    bench_on(listeners, limits, Path::new(""), Arc::default()).await
}

/// On given listeners, whose files are in `base`.
pub async fn bench_on(listeners: Vec<Listener>, limits: Limits, base: &Path, shelf: Arc<Shelf>) -> Bench {
    let devices = vec![identity("a", None), identity("b", None), identity("5446078", Some("5446078"))];
    let identities = Identities::new(devices, vec![desk()]);
    let (sender, publishes) = mpsc::unbounded_channel();
    let desk = Arc::new(Desk { publishes: sender, full: AtomicUsize::new(0), refusals: Mutex::default() });
    let config = Config { listeners, limits };
    let broker = Broker::bind(config, base, identities.clone(), desk.clone(), shelf.clone()).await.unwrap();
    let (certificates, router) = (broker.certificates(), broker.router_health());
    let (addresses, outbox, stop) = (broker.local_addrs(), broker.outbox(), CancellationToken::new());
    let stopped = stop.clone();
    let run = tokio::spawn(async move { broker.run(stopped).await.unwrap() });
    Bench { desk, shelf, publishes, identities, certificates, outbox, router, addresses, stop, run }
}

impl Bench {
    pub async fn publish(&mut self) -> Arrived {
        timeout(PATIENCE, self.publishes.recv()).await.unwrap().unwrap()
    }

    /// A connected client of the user.
    pub async fn user(&self, version: u8, client_id: &str) -> Client {
        let mut client = Client::open(self.addresses[0], version).await;
        client.send(&connect(version, client_id, Some(("desk", "secret of desk")), 0)).await;
        let connack = client.packet().await.unwrap();
        assert_eq!((connack[0], code_of(&connack)), (0x20, 0), "{connack:02x?}");
        client
    }

    /// A connected client of device `id`.
    pub async fn client(&self, version: u8, id: &str) -> Client {
        let mut client = Client::open(self.addresses[0], version).await;
        client.send(&connect(version, id, Some((id, &format!("secret of {id}"))), 0)).await;
        let connack = client.packet().await.unwrap();
        assert_eq!((connack[0], connack[2], code_of(&connack)), (0x20, 0, 0), "{connack:02x?}");
        client
    }
}

pub struct Client {
    pub socket: TcpStream,
    pub version: u8,
}

impl Client {
    pub async fn open(address: SocketAddr, version: u8) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), version }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub async fn publish(&mut self, topic: &str, payload: &[u8], packet_id: Option<u16>) {
        let first = if packet_id.is_some() { 0x32 } else { 0x30 };
        let bytes = publish(self.version, first, topic, payload, packet_id);
        self.send(&bytes).await;
    }

    /// The next whole packet; `None` once the broker has closed.
    pub async fn packet(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.read_packet()).await.unwrap()
    }

    async fn read_packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.socket.read_u8().await.ok()?];
        let length = self.socket.read_u8().await.ok()?;
        assert!(length < 0x80, "tests use short packets");
        packet.push(length);
        let mut body = vec![0; usize::from(length)];
        self.socket.read_exact(&mut body).await.ok()?;
        packet.extend(body);
        Some(packet)
    }

    /// A ping that is answered proves that nothing else was sent before.
    pub async fn hears_only_a_pong(&mut self) {
        self.send(&[0xC0, 0]).await;
        assert_eq!(self.packet().await.unwrap(), [0xD0, 0]);
    }
}

/// A variable byte integer of up to two bytes.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let length = body.len();
    if length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
        bytes.push(u8::try_from(length >> 7).unwrap());
    } else {
        bytes.push(u8::try_from(length).unwrap());
    }
    bytes.extend(body);
    bytes
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text);
}

pub fn connect(version: u8, client_id: &str, credentials: Option<(&str, &str)>, keep_alive: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend([version, if credentials.is_some() { 0b1100_0010 } else { 0b10 }]);
    body.extend(keep_alive.to_be_bytes());
    body.extend(if version == 5 { &[0][..] } else { &[] });
    text(&mut body, client_id.as_bytes());
    if let Some((username, password)) = credentials {
        text(&mut body, username.as_bytes());
        text(&mut body, password.as_bytes());
    }
    framed(0x10, &body)
}

/// A CONNECT of device `id` whose session is kept: for an hour in MQTT 5, for as long as the broker allows in 3.1.1.
pub fn connect_kept(version: u8, id: &str, clean: bool) -> Vec<u8> {
    connect_with(version, id, clean, None)
}

/// The same with a QoS 2 will on the own status topic, after so many seconds (MQTT 5).
pub fn connect_with(version: u8, id: &str, clean: bool, will: Option<(&str, u8)>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend([version, 0b1100_0000 | u8::from(clean) << 1 | will.map_or(0, |_| 0b1_0100), 0, 0]);
    body.extend(if version == 5 { &[5, 0x11, 0, 0, 0x0E, 0x10][..] } else { &[] });
    text(&mut body, id.as_bytes());
    if let Some((payload, delay)) = will {
        if version == 5 {
            body.extend([5, 0x18, 0, 0, 0, delay]);
        }
        text(&mut body, format!("devices/{id}/status").as_bytes());
        text(&mut body, payload.as_bytes());
    }
    text(&mut body, id.as_bytes());
    text(&mut body, format!("secret of {id}").as_bytes());
    framed(0x10, &body)
}

/// An MQTT 5 CONNECT of device `id` with these properties.
pub fn connect_saying(id: &str, properties: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend([5, 0b1100_0010, 0, 0, u8::try_from(properties.len()).unwrap()]);
    body.extend(properties);
    text(&mut body, id.as_bytes());
    text(&mut body, id.as_bytes());
    text(&mut body, format!("secret of {id}").as_bytes());
    framed(0x10, &body)
}

pub fn publish(version: u8, first: u8, topic: &str, payload: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    body.extend(packet_id.map(u16::to_be_bytes).into_iter().flatten());
    body.extend(if version == 5 { &[0][..] } else { &[] });
    body.extend(payload);
    framed(first, &body)
}

pub fn subscribe(version: u8, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    subscribe_with(version, packet_id, 1, filters)
}

pub fn subscribe_with(version: u8, packet_id: u16, qos: u8, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.extend(if version == 5 { &[0][..] } else { &[] });
    for filter in filters {
        text(&mut body, filter.as_bytes());
        body.push(qos);
    }
    framed(0x82, &body)
}

/// The reason code of a CONNACK, or of an MQTT 5 PUBACK.
pub fn code_of(packet: &[u8]) -> u8 {
    match (packet[0], packet.len()) {
        (0x20, _) => packet[3],
        (_, 4) => 0,
        _ => packet[4],
    }
}

pub fn puback(packet_id: u8) -> Vec<u8> {
    vec![0x40, 2, 0, packet_id]
}

pub fn accept(publish: Arrived, sequence: u64) -> Bytes {
    let payload = Bytes::copy_from_slice(&publish.payload);
    publish.reply.send(Verdict::Accepted { sequence });
    payload
}
