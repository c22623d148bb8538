//! Clients that people use, over every transport they speak: mosquitto, paho-mqtt, MQTT.js, rumqttc.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    process::{Command, Output},
    sync::Mutex,
    thread,
};

use serde_json::json;
use windlass_tests::{Program, SECRET, Site, assert_consistent, certificates, free_ports, rpc, until};

const CLIENTS: [(&str, &[&str]); 4] = [
    ("mosquitto", &["mqtt", "mqtts"]),
    ("paho", &["mqtt", "mqtts", "ws", "wss"]),
    ("mqttjs", &["mqtt", "mqtts", "ws", "wss"]),
    ("rumqttc", &["mqtt", "mqtts", "ws", "wss"]),
];
/// Clients at work at the same time. More only wait for each other on a small machine.
const HANDS: usize = 4;

/// A client with a transport and a protocol: a device of its own.
struct Party {
    client: &'static str,
    scheme: &'static str,
    protocol: &'static str,
    id: String,
    /// Published with QoS 0, 1 and 2.
    codes: [String; 3],
}

fn parties() -> Vec<Party> {
    let mut parties = Vec::new();
    for (client, schemes) in CLIENTS {
        for scheme in schemes {
            for protocol in ["4", "5"] {
                let id = format!("{client}-{scheme}-{protocol}");
                let number = parties.len();
                let codes = [0, 1, 2].map(|qos| format!("{:04}", number * 10 + qos));
                parties.push(Party { client, scheme, protocol, id, codes });
            }
        }
    }
    parties
}

/// A site with a listener for each transport, and the ports of these.
struct Gateway {
    site: Site,
    /// mqtts, ws, wss.
    ports: [u16; 3],
}

impl Gateway {
    fn start(parties: &[Party]) -> Self {
        let devices: Vec<_> = parties.iter().map(|party| (party.id.as_str(), "anchor", "digits")).collect();
        let mut site = Site::new(&devices);
        let devices = parties.iter().filter(|party| party.scheme == "mqtts").map(|party| party.id.as_str());
        certificates(&site, &devices.chain(["server"]).collect::<Vec<_>>());
        let ports = free_ports();
        let websocket = "websocket = true\n";
        let tls = "tls = { certificate = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", \
                   client_auth = \"optional\" }\n";
        let listener = |port: u16, more: &[&str]| {
            format!("[[broker.listeners]]\nlisten = \"127.0.0.1:{port}\"\n{}", more.concat())
        };
        let [mqtts, ws, wss] = ports;
        let listeners =
            [listener(mqtts, &[tls]), listener(ws, &[websocket]), listener(wss, &[websocket, tls])].concat();
        let desk = format!(
            "[[users]]\nname = \"desk\"\nsecret = \"{}\"\nsubscribe = [\"devices/#\"]\n[[devices]]",
            site.secret_hash()
        );
        site.edit_config("[chain]", &format!("{listeners}[chain]"));
        site.edit_config("[[devices]]", &desk);
        site.start_node();
        site.deploy();
        site.start();
        site.until_ready();
        Self { site, ports }
    }

    fn file(&self, name: &str) -> String {
        self.site.path(name).display().to_string()
    }

    fn port(&self, scheme: &str) -> u16 {
        match scheme {
            "mqtts" => self.ports[0],
            "ws" => self.ports[1],
            "wss" => self.ports[2],
            _ => self.site.mqtt,
        }
    }

    /// The party's client, ready for the act. Over TLS a certificate says who it is unless a secret is given.
    fn command(&self, party: &Party, secret: Option<&str>, act: &str) -> Command {
        let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
        let mut command = match party.client {
            "mosquitto" => Command::new(format!("{clients}/mosquitto.sh")),
            "paho" => Command::new(format!("{clients}/.venv/bin/python")),
            "mqttjs" => Command::new("node"),
            _ => Command::new(env!("CARGO_BIN_EXE_rumqttc-client")),
        };
        match party.client {
            "paho" => command.arg(format!("{clients}/paho_mqtt.py")),
            "mqttjs" => command.arg(format!("{clients}/mqttjs.mjs")),
            _ => &mut command,
        };
        let url = format!("{}://localhost:{}", party.scheme, self.port(party.scheme));
        command.args(["--url", &url, "--protocol", party.protocol, "--id", &party.id]);
        if matches!(party.scheme, "mqtts" | "wss") {
            command.args(["--ca", &self.file("ca.pem")]);
        }
        match secret {
            None if party.scheme == "mqtts" => {
                let name = |kind: &str| self.file(&format!("{}.{kind}", party.id));
                command.args(["--cert", &name("pem"), "--key", &name("key")]);
            }
            secret => {
                command.args(["--secret", secret.unwrap_or(SECRET)]);
            }
        }
        command.arg(act);
        command
    }

    /// Does an act that must succeed.
    fn act(&self, party: &Party, act: &str) {
        let output = run(self.command(party, None, act).args(&party.codes));
        assert!(output.status.success(), "{} {act}: {output:?}", party.id);
    }

    /// Publishes in a clean session; what came of it, a line each, lower case and without blanks.
    fn offer(&self, party: &Party, secret: Option<&str>, offers: &[String]) -> Vec<String> {
        let output = run(self.command(party, secret, "offer").args(offers));
        assert!(output.status.success(), "{} offer: {output:?}", party.id);
        let text = String::from_utf8(output.stdout).unwrap().to_lowercase().replace(' ', "");
        text.lines().map(str::to_owned).collect()
    }
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run make tools"))
}

/// mosquitto_sub as a user who hears everything, with a secret over TLS; its lines are in `desk.log`.
fn desk(gateway: &Gateway) -> Program {
    // It keeps back what `-d` says until the first message comes, unless told otherwise.
    let mut command = Command::new("stdbuf");
    command.args([
        "-oL",
        "mosquitto_sub",
        "-h",
        "localhost",
        "-p",
        &gateway.port("mqtts").to_string(),
        "--cafile",
        &gateway.file("ca.pem"),
    ]);
    command.args(["-V", "mqttv5", "-q", "1", "-u", "desk", "-P", SECRET, "-t", "devices/#", "-F", "%t %p", "-d"]);
    let mut desk = Program::start(&mut command, &gateway.site.path("desk.log"));
    until("the desk listens", || {
        let heard = heard_at_desk(gateway);
        assert!(desk.is_running() && !heard.contains("refused"), "{heard}");
        heard.contains("Subscribed").then_some(())
    });
    desk
}

fn heard_at_desk(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.site.path("desk.log")).unwrap()
}

/// Does `work` for every party, a few at a time.
fn each(parties: &[Party], work: impl Fn(&Party) + Sync) {
    let left = Mutex::new(parties.iter());
    let next = || left.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(party) = next() {
                    work(party);
                }
            });
        }
    });
}

/// What must be refused is refused, in words that the client has for it.
fn offends(gateway: &Gateway, party: &Party) {
    let own = format!("devices/{}/readings", party.id);
    let said = gateway.offer(party, Some("wrong"), &[format!("1:{own}:1")]);
    assert!(said.len() == 1 && said[0].starts_with("refused:") && said[0].contains("badusername"), "{said:?}");
    let offers = [format!("1:{own}:12x"), format!("2:{own}:13x"), "1:devices/somebody/readings:14".to_owned()];
    let said = gateway.offer(party, None, &offers);
    if party.protocol == "4" {
        assert_eq!(said[..2], ["acknowledged"; 2], "{}: so that it is not sent again", party.id);
        assert!(said.len() == 3 && said[2].starts_with("closed:"), "{}: {said:?}", party.id);
        return;
    }
    // paho goes on after a PUBREC that refuses, and reports what PUBCOMP then says.
    let second = if party.client == "paho" { "packetidentifiernotfound" } else { "payloadformatinvalid" };
    for (line, reason) in said.iter().zip(["payloadformatinvalid", second, "notauthorized"]) {
        assert!(line.starts_with("refused:") && line.contains(reason), "{}: {said:?}", party.id);
    }
    assert_eq!(said.len(), 3, "{}: {said:?}", party.id);
}

/// The desk heard all that the party did and got, each once.
fn assert_heard(desk: &str, party: &Party) {
    let assert_count = |topic: &str, texts: &[&str], expected: usize| {
        let start = format!("devices/{}/{topic} ", party.id);
        let lines =
            desk.lines().filter(|line| line.starts_with(&start) && texts.iter().all(|text| line.contains(text)));
        assert_eq!(lines.count(), expected, "{start}{texts:?}");
    };
    assert_count("status", &["gone"], 1);
    assert_count("errors", &["\"bad_character\""], 2);
    for code in &party.codes {
        assert_count("readings", &[code], 1);
        for state in ["accepted", "mined", "final"] {
            assert_count("receipts", &[&format!("\"{code}\""), &format!("\"{state}\"")], 1);
        }
    }
}

#[test]
fn every_client_publishes_hears_its_receipts_keeps_its_session_and_leaves_a_will() {
    let parties = parties();
    let gateway = Gateway::start(&parties);
    let site = &gateway.site;
    let _desk = desk(&gateway);
    // Without new blocks nothing is mined before the devices are away: they hear it from their kept sessions.
    rpc(site.rpc, "evm_setIntervalMining", json!([0])).unwrap();
    each(&parties, |party| {
        offends(&gateway, party);
        gateway.act(party, "publish");
    });
    assert!(site.readings().iter().all(|row| row["state"] == "accepted"));
    rpc(site.rpc, "evm_setIntervalMining", json!([1])).unwrap();
    site.until_final(parties.len() * 3);
    assert!(!heard_at_desk(&gateway).contains("/status"), "a DISCONNECT takes the will back");
    each(&parties, |party| gateway.act(party, "listen"));

    let heard = until("every will is heard", || {
        let heard = heard_at_desk(&gateway);
        (heard.matches("/status gone").count() >= parties.len()).then_some(heard)
    });
    parties.iter().for_each(|party| assert_heard(&heard, party));
    assert_eq!(site.readings().len(), parties.len() * 3, "each is stored once");
    let acknowledged = parties.iter().flat_map(|party| party.codes.iter().map(|c| (party.id.clone(), c.clone())));
    assert_consistent(site, &acknowledged.collect::<Vec<_>>());
}
