//! Clients of bare bytes, cheap enough to leave the machine to the broker: one thread, no allocation per publish.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep_until, timeout_at},
};
use windlass_tests::SECRET;

use crate::peers::device;

/// Connections from one loopback address; the system has some 28,000 ports for each.
const PER_ADDRESS: usize = 5_000;
/// Digits of a reading, as on a parcel.
const DIGITS: usize = 13;
/// For the last acknowledgements after the end of a run.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run of publishers measured.
pub struct Outcome {
    pub acknowledged: u64,
    pub elapsed: Duration,
    /// Microseconds from the write of a publish to its PUBACK read.
    pub latency: Histogram<u64>,
    /// Connections that ended, or still missed an acknowledgement at the end.
    pub lost: usize,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.acknowledged as f64 / self.elapsed.as_secs_f64()
    }

    pub fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).unwrap()
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 0x80, "short packets only");
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A CONNECT of MQTT 3.1.1 with a clean session and a keep alive of ten minutes.
pub fn connect_packet(id: &str, secret: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0x02, 0x58];
    for part in [id, id, secret] {
        text(&mut body, part);
    }
    framed(0x10, &body)
}

/// An open, authenticated connection.
pub async fn connect(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = dial(address, number).await?;
    stream.write_all(&connect_packet(&device(number), SECRET)).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    if connack == [0x20, 2, 0, 0] { Ok(stream) } else { Err(std::io::Error::other(format!("CONNACK {connack:02x?}"))) }
}

/// A socket from one of several loopback addresses.
pub async fn dial(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::new(127, 0, 0, u8::try_from(2 + number / PER_ADDRESS).unwrap());
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects devices `first..first + count`, so many at a time.
pub async fn connect_all(address: SocketAddr, first: usize, count: usize, at_a_time: usize) -> Vec<TcpStream> {
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let mut keep = |(number, stream): (usize, TcpStream)| streams[number - first] = Some(stream);
    let mut dialling = JoinSet::new();
    for number in first..first + count {
        if dialling.len() >= at_a_time {
            keep(dialling.join_next().await.unwrap().unwrap());
        }
        dialling.spawn(async move {
            loop {
                match connect(address, number).await {
                    Ok(stream) => return (number, stream),
                    // As a device would: again after a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
    }
    while let Some(stream) = dialling.join_next().await {
        keep(stream.unwrap());
    }
    streams.into_iter().flatten().collect()
}

/// Publishes one reading on each connection and waits for its acknowledgement; gives the connections back.
pub async fn publish_one(streams: Vec<TcpStream>, first: usize) -> Vec<TcpStream> {
    let now = Instant::now();
    let mut kept = Vec::with_capacity(streams.len());
    for (index, stream) in streams.into_iter().enumerate() {
        let mut publisher = Publisher::new(stream, first + index, now, now);
        let mut out = Vec::new();
        publisher.write(&mut out);
        publisher.stream.write_all(&out).await.unwrap();
        publisher.read().await.expect("a PUBACK");
        kept.push(publisher.stream);
    }
    kept
}

/// How a publisher goes on.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As fast as the acknowledgements come, with so many open.
    Window(u16),
    /// One in each interval, whatever happens.
    Every(Duration),
}

/// Publishes on all connections for `warm_up` and then `measured`, of which figures are kept.
pub async fn publish(
    streams: Vec<TcpStream>,
    first: usize,
    pace: Pace,
    warm_up: Duration,
    measured: Duration,
) -> Outcome {
    let from = Instant::now() + warm_up;
    let until = from + measured;
    let mut publishers = JoinSet::new();
    let count = streams.len();
    for (index, stream) in streams.into_iter().enumerate() {
        let publisher = Publisher::new(stream, first + index, from, until);
        // Spread over the interval, or all would publish at once.
        let phase = if let Pace::Every(interval) = pace {
            interval.mul_f64(index as f64 / count as f64)
        } else {
            Duration::ZERO
        };
        publishers.spawn(publisher.run(pace, phase));
    }
    let mut outcome = Outcome { acknowledged: 0, elapsed: measured, latency: histogram(), lost: 0 };
    while let Some(ended) = publishers.join_next().await {
        let (latency, lost) = ended.unwrap();
        outcome.acknowledged += latency.len();
        outcome.latency.add(latency).unwrap();
        outcome.lost += usize::from(lost);
    }
    outcome
}

struct Publisher {
    stream: TcpStream,
    packet: Vec<u8>,
    next_id: u16,
    /// When each packet id went out.
    sent: Vec<Instant>,
    /// Without an acknowledgement.
    open: usize,
    input: Vec<u8>,
    from: Instant,
    until: Instant,
    latency: Histogram<u64>,
    seed: u64,
}

impl Publisher {
    fn new(stream: TcpStream, number: usize, from: Instant, until: Instant) -> Self {
        let mut body = Vec::new();
        text(&mut body, &format!("devices/{}/readings", device(number)));
        body.extend([0; 2 + DIGITS]);
        Self {
            stream,
            packet: framed(0x32, &body),
            next_id: 1,
            sent: vec![from; 1024],
            open: 0,
            input: Vec::with_capacity(4096),
            from,
            until,
            latency: Histogram::new_with_bounds(1, 120_000_000, 2).unwrap(),
            seed: number as u64 * 0x9E37_79B9 + 1,
        }
    }

    /// Appends the next publish: a new packet id, a new code.
    fn write(&mut self, out: &mut Vec<u8>) {
        self.open += 1;
        let id = self.next_id;
        self.next_id = if id == 1023 { 1 } else { id + 1 };
        self.sent[usize::from(id)] = Instant::now();
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let code = format!("{:013}", (self.seed >> 16) % 10_000_000_000_000);
        let at = self.packet.len() - DIGITS;
        self.packet[at - 2..at].copy_from_slice(&id.to_be_bytes());
        self.packet[at..].copy_from_slice(code.as_bytes());
        out.extend_from_slice(&self.packet);
    }

    /// Reads at least one PUBACK; says how many there were.
    async fn read(&mut self) -> Option<u16> {
        let mut count = 0;
        while count == 0 {
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
            let now = Instant::now();
            let whole = self.input.len() / 4 * 4;
            for ack in self.input[..whole].chunks_exact(4) {
                assert_eq!(ack[..2], [0x40, 2], "only PUBACKs are expected");
                count += 1;
                self.open -= 1;
                let sent = self.sent[usize::from(u16::from_be_bytes([ack[2], ack[3]]))];
                if sent >= self.from {
                    let micros = u64::try_from((now - sent).as_micros()).unwrap();
                    self.latency.record(micros.max(1)).unwrap();
                }
            }
            self.input.drain(..whole);
        }
        Some(count)
    }

    async fn windowed(&mut self, window: u16) -> Option<()> {
        let mut room = window;
        let mut out = Vec::new();
        while Instant::now() < self.until {
            out.clear();
            for _ in 0..room {
                self.write(&mut out);
            }
            self.stream.write_all(&out).await.ok()?;
            room = self.read().await?;
        }
        Some(())
    }

    async fn paced(&mut self, interval: Duration, phase: Duration) -> Option<()> {
        let mut next = Instant::now() + phase;
        let mut out = Vec::new();
        while next < self.until {
            tokio::select! {
                () = sleep_until(next.into()) => {
                    next += interval;
                    out.clear();
                    self.write(&mut out);
                    self.stream.write_all(&out).await.ok()?;
                }
                read = self.read() => drop(read?),
            }
        }
        Some(())
    }

    /// Publishes until the end, then waits for what is open: a slow answer counts as slow. Says whether one is missing.
    async fn run(mut self, pace: Pace, phase: Duration) -> (Histogram<u64>, bool) {
        let mut alive = match pace {
            Pace::Window(window) => self.windowed(window).await,
            Pace::Every(interval) => self.paced(interval, phase).await,
        };
        let deadline = self.until + PATIENCE;
        while alive.is_some() && self.open > 0 {
            alive = timeout_at(deadline.into(), self.read()).await.ok().flatten().map(drop);
        }
        (self.latency, alive.is_none())
    }
}
