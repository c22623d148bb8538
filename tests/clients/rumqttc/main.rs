//! rumqttc as a device, driven from the command line. ../README.md says what the acts do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test support: a failed expectation is a failed test"
)]

mod link;

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    process::exit,
};

use rumqttc::{TlsConfiguration, Transport};

use crate::link::{Link, PATIENCE, Signal};

/// The command line.
struct Arguments {
    options: HashMap<String, String>,
    act: String,
    rest: Vec<String>,
}

impl Arguments {
    fn parse() -> Self {
        let mut words = env::args().skip(1).peekable();
        let mut options = HashMap::new();
        while let Some(name) = words.next_if(|word| word.starts_with("--")) {
            options.insert(name[2..].to_owned(), words.next().expect("every option has a value"));
        }
        Self { options, act: words.next().expect("an act"), rest: words.collect() }
    }

    fn id(&self) -> &str {
        &self.options["id"]
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.options.get(name).map(|path| fs::read(path).unwrap())
    }

    /// Host (the whole URL for WebSocket, as rumqttc wants it), port and transport.
    fn address(&self) -> (String, u16, Transport) {
        let url = &self.options["url"];
        let (scheme, authority) = url.split_once("://").unwrap();
        let (host, port) = authority.split_once(':').unwrap();
        let port = port.parse().unwrap();
        let tls = || TlsConfiguration::Simple {
            ca: self.file("ca").expect("TLS needs --ca"),
            alpn: None,
            client_auth: self.file("cert").map(|certificate| (certificate, self.file("key").unwrap())),
        };
        match scheme {
            "mqtt" => (host.to_owned(), port, Transport::Tcp),
            "mqtts" => (host.to_owned(), port, Transport::Tls(tls())),
            "ws" => (url.clone(), port, Transport::Ws),
            "wss" => (url.clone(), port, Transport::Wss(tls())),
            other => panic!("unknown scheme {other}"),
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("devices/{}/{name}", self.id())
    }
}

/// A connection and what was heard on it.
struct Device {
    link: Link,
    id: String,
    heard: HashSet<(String, String)>,
}

impl Device {
    fn new(arguments: &Arguments, keep: bool) -> Self {
        Self { link: Link::open(arguments, keep), id: arguments.id().to_owned(), heard: HashSet::new() }
    }

    fn fail(&self, why: &str) -> ! {
        eprintln!("{}: {why}; heard {:?}", self.id, self.heard);
        exit(1)
    }

    /// Takes events until `done` makes something of one; receipts are noted on the way.
    fn until<T>(&mut self, what: &str, done: impl Fn(&Signal) -> Option<T>) -> T {
        loop {
            let Some(signal) = self.link.next() else { self.fail(&format!("{what}: nothing came for {PATIENCE:?}")) };
            if let Some(value) = done(&signal) {
                return value;
            }
            match signal {
                Signal::Receipt(payload) => self.note(&payload),
                Signal::Refused(why) | Signal::Closed(why) => self.fail(&format!("{what}: {why}")),
                _ => {}
            }
        }
    }

    fn note(&mut self, receipt: &[u8]) {
        let receipt: serde_json::Value = serde_json::from_slice(receipt).unwrap();
        let text = |name: &str| receipt[name].as_str().unwrap().to_owned();
        self.heard.insert((text("payload"), text("state")));
    }

    /// Whether the session was kept, or why the broker refused.
    fn connect(&mut self) -> Result<bool, String> {
        self.until("CONNACK", |signal| match signal {
            Signal::Connected { kept } => Some(Ok(*kept)),
            Signal::Refused(why) => Some(Err(why.clone())),
            _ => None,
        })
    }

    /// What came of it, in a line.
    fn publish(&mut self, qos: u8, topic: &str, payload: &str) -> String {
        self.link.publish(qos, topic, payload);
        self.until(&format!("acknowledgement of {payload}"), |signal| match signal {
            Signal::Acknowledged => Some("acknowledged".to_owned()),
            Signal::Sent if qos == 0 => Some("acknowledged".to_owned()),
            Signal::Refused(why) => Some(format!("refused: {why}")),
            Signal::Closed(why) => Some(format!("closed: {why}")),
            _ => None,
        })
    }

    fn hear(&mut self, codes: &[String], states: &[&str]) {
        let wanted = codes.iter().flat_map(|code| states.iter().map(|state| (code.clone(), (*state).to_owned())));
        let wanted: HashSet<_> = wanted.collect();
        while !self.heard.is_superset(&wanted) {
            let receipt = self.until("receipts", |signal| match signal {
                Signal::Receipt(payload) => Some(payload.clone()),
                _ => None,
            });
            self.note(&receipt);
        }
    }

    fn disconnect(&mut self) {
        self.link.disconnect();
        self.until("DISCONNECT", |signal| matches!(signal, Signal::Left).then_some(()));
    }
}

fn offer(arguments: &Arguments) {
    let mut device = Device::new(arguments, false);
    if let Err(why) = device.connect() {
        println!("refused: {why}");
        return;
    }
    for one in &arguments.rest {
        let parts: Vec<&str> = one.split(':').collect();
        let outcome = device.publish(parts[0].parse().unwrap(), parts[1], parts[2]);
        println!("{outcome}");
        if outcome.starts_with("closed") {
            return;
        }
    }
    device.disconnect();
}

fn publish(arguments: &Arguments) {
    let mut device = Device::new(arguments, true);
    if let Err(why) = device.connect() {
        device.fail(&why);
    }
    device.link.subscribe(arguments.topic("receipts"));
    let granted = device.until("SUBACK", |signal| match signal {
        Signal::Granted(code) => Some(code.clone()),
        _ => None,
    });
    assert_eq!(granted, "Success(AtLeastOnce)", "SUBACK");
    for (qos, code) in (0..).zip(&arguments.rest) {
        let outcome = device.publish(qos, &arguments.topic("readings"), code);
        if outcome != "acknowledged" {
            device.fail(&format!("{code} with QoS {qos}: {outcome}"));
        }
    }
    device.hear(&arguments.rest, &["accepted"]);
    device.disconnect();
}

fn listen(arguments: &Arguments) {
    let mut device = Device::new(arguments, true);
    if device.connect() != Ok(true) {
        device.fail("the session was not kept");
    }
    device.hear(&arguments.rest, &["mined", "final"]);
    // No DISCONNECT: the broker sends the will.
    exit(0);
}

fn main() {
    // rumqttc brings no cryptography of its own here; the gateway's is built already.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let arguments = Arguments::parse();
    match arguments.act.as_str() {
        "offer" => offer(&arguments),
        "publish" => publish(&arguments),
        "listen" => listen(&arguments),
        other => panic!("unknown act {other}"),
    }
}
