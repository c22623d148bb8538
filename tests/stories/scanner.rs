//! The load tool against the gateway: each kind of scanner, its faults, enemies beside it, and the audit of its ledger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    process::{Command, Output},
    thread,
};

use serde_json::{Value, json};
use windlass_tests::{SECRET, SigningDevice, Site, assert_consistent, certificates, free_ports, scanner, until};

/// A gateway with scanners of every settlement and key, two more for enemies, and a TLS port.
struct Scene {
    site: Site,
    tls: u16,
}

fn scene() -> Scene {
    let mut signing = [(SigningDevice::secp256k1("s-1", 3), "anchor"), (SigningDevice::p256("s-2", 4), "batch")];
    let mut listed = vec![
        ("a-1", "anchor", "gtin"),
        ("a-2", "anchor", "gtin"),
        ("b-1", "batch", "gtin"),
        ("d-1", "direct", "digits"),
        ("e-1", "anchor", "digits"),
        ("e-2", "anchor", "digits"),
    ];
    listed.extend(signing.iter().map(|(device, settlement)| (device.id, *settlement, "signed")));
    listed.extend([("w-1", "anchor", "digits"), ("w-2", "anchor", "digits")]);
    let mut site = Site::new(&listed);
    for (index, (device, _)) in signing.iter_mut().enumerate() {
        site.edit_config(&format!("key = {{ custodial = {} }}", index + 6), &device.spec());
    }
    let [tls] = free_ports();
    certificates(&site, &["server", "a-2"]);
    site.edit_config(
        "[chain]",
        &format!(
            "[[broker.listeners]]\nlisten = \"127.0.0.1:{tls}\"\n[broker.listeners.tls]\ncertificate = \"server.pem\"\n\
             key = \"server.key\"\nclient_ca = \"ca.pem\"\nclient_auth = \"optional\"\n[broker.limits]\nconnect_timeout = \"2s\"\n[chain]"
        ),
    );
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    until("d-1 has its contract", || {
        site.rows(&["device", "list"]).iter().any(|d| d["device"] == "d-1" && !d["barcode"].is_null()).then_some(())
    });
    Scene { site, tls }
}

impl Scene {
    /// The credentials of these, the signing ones with their keys and the number that comes next, in `run.txt`.
    fn credentials(&self, ids: &[&str], next_sequence: u64) {
        let line = |id: &&str| {
            let mut line = json!({ "id": id, "secret": SECRET });
            match *id {
                "s-1" => line["signing_key"] = json!(format!("secp256k1:0x{}", "03".repeat(32))),
                "s-2" => line["signing_key"] = json!(format!("p256:0x{}", "04".repeat(32))),
                _ => return line.to_string(),
            }
            line["next_sequence"] = json!(next_sequence);
            line.to_string()
        };
        let lines: Vec<_> = ids.iter().map(line).collect();
        fs::write(self.site.path("run.txt"), lines.join("\n")).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(scanner()).args(arguments).current_dir(self.site.path("")).output().unwrap()
    }

    fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.site.http)
    }

    fn rpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.site.rpc)
    }

    /// A run of the scanners in `{name}.txt` with the audit at its end; its exit code and its result.
    fn audited(&self, name: &str, broker: &str, more: &[&str]) -> (Option<i32>, Value) {
        let (api, rpc, contract) = (self.api(), self.rpc(), self.site.contract().to_string());
        let (credentials, ledger) = (format!("{name}.txt"), format!("{name}.jsonl"));
        let mut arguments = vec!["--broker", broker, "--credentials", &credentials, "--json"];
        arguments.extend(["--chain-id", "31337", "--contract", &contract, "--ledger", &ledger]);
        arguments.extend(["--api", &api, "--rpc", &rpc]);
        arguments.extend(more);
        let output = self.run(&arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let result = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{errors}\n{}", self.site.log()));
        (output.status.code(), result)
    }

    /// A run that ends well and is audited clean: every reading of the ledger was found on chain.
    fn clean(&self, name: &str, broker: &str, more: &[&str]) -> Value {
        let (code, result) = self.audited(name, broker, more);
        assert_eq!(code, Some(0), "{result}\n{}", self.site.log());
        let audit = &result["audit"];
        assert_eq!((&audit["verdict"], &audit["unchecked"]), (&json!("clean"), &json!(0)), "{result}");
        assert_eq!(audit["confirmed"], audit["stored"], "{result}");
        assert!(audit["on_chain"].as_u64() >= audit["confirmed"].as_u64(), "{result}");
        result
    }

    fn load(&self, broker: &str, more: &[&str]) -> Value {
        self.clean("run", broker, &[&["--seconds", "4"], more].concat())
    }

    fn acknowledged(&self, name: &str) -> Vec<(String, String)> {
        let lines = fs::read_to_string(self.site.path(&format!("{name}.jsonl"))).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|entry: Value| (text(&entry["device"]), text(&entry["payload"])))
            .collect()
    }
}

#[test]
fn scanners_of_every_kind_are_audited_clean_through_faults_and_beside_enemies() {
    let scene = scene();
    let plain = format!("127.0.0.1:{}", scene.site.mqtt);
    scene.credentials(&["a-1", "a-2", "b-1", "d-1", "s-1", "s-2", "w-1", "w-2", "e-1", "e-2"], 1);
    let faults = "malformed,duplicate,drop,cut";
    let enemies = "never-read,flood,slowloris=3,wrong-secret=2";
    let result = scene.load(&plain, &["--rate", "5", "--faults", faults, "--hostile", enemies]);
    assert_eq!(result["published"], 120, "{result}");
    assert_eq!((&result["lost"], &result["unsent"], &result["malformed"]), (&json!(0), &json!(0), &json!(12)));
    assert_eq!(result["audit"]["acknowledged"], 108, "{result}");
    assert_eq!(result["audit"]["stored"], 108, "no enemy is in the ledger");
    // Two of each scanner's twenty break off in the middle, and two are dropped before their acknowledgement is read.
    assert!(result["cut"] == 12 && result["redelivered"].as_u64() >= Some(12), "{result}");
    let hostile = &result["hostile"];
    assert!(
        hostile["flood"]["acknowledged"].as_u64() > Some(100) && hostile["never-read"]["published"] != 0,
        "{hostile}"
    );
    assert!(hostile["wrong-secret"]["refused"].as_u64() > Some(0), "{hostile}");
    assert_eq!((&hostile["wrong-secret"]["admitted"], &hostile["slowloris"]["clients"]), (&json!(0), &json!(3)));
    assert!(hostile["slowloris"]["closed"].as_u64() >= Some(3), "{hostile}");
    assert!(scene.site.readings().iter().all(|row| !row["device"].as_str().unwrap().starts_with("w-")));
    let mut acknowledged = scene.acknowledged("run");

    // By TLS at QoS 2; a-2 has a certificate in place of a secret.
    scene.credentials(&["a-1", "b-1", "s-1", "s-2"], 19);
    let own = json!({ "id": "a-2", "cert": "a-2.pem", "key": "a-2.key" }).to_string();
    let lines = fs::read_to_string(scene.site.path("run.txt")).unwrap();
    fs::write(scene.site.path("run.txt"), format!("{lines}\n{own}")).unwrap();
    let secure = format!("localhost:{}", scene.tls);
    let tls = ["--tls", "--ca", "ca.pem", "--qos", "2", "--rate", "5", "--faults", "duplicate,cut"];
    for protocol in ["3", "5"] {
        let seed = ["--protocol", protocol];
        let result = scene.load(&secure, &[&tls[..], &seed[..]].concat());
        assert_eq!((&result["acknowledged"], &result["audit"]["lost"]), (&json!(100), &json!(0)), "{result}");
        acknowledged.extend(scene.acknowledged("run"));
        let again = lines.replace("\"next_sequence\":19", "\"next_sequence\":39");
        fs::write(scene.site.path("run.txt"), format!("{again}\n{own}")).unwrap();
    }
    assert_consistent(&scene.site, &acknowledged);
    an_audit_tells_what_is_wrong(&scene);
}

/// The audit of a ledger that says too much, of one that says too little, and of another contract.
fn an_audit_tells_what_is_wrong(scene: &Scene) {
    let (api, rpc) = (scene.api(), scene.rpc());
    let audit = |more: &[&str]| {
        let output = scene.run(&[&["audit", "run.jsonl", "--api", &api, "--rpc", &rpc, "--json"], more].concat());
        let told = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        (output.status.code(), told, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told, _) = audit(&[]);
    assert_eq!((code, &told["problems"]), (Some(0), &json!([])), "{told}");
    let (code, told, _) = audit(&["--contract", "0x0000000000000000000000000000000000000005"]);
    assert!(code == Some(1) && told["problems"][0].as_str().unwrap().contains("not on chain"), "{told}");
    assert_eq!((&told["verdict"], &told["stored"]), (&json!("disagree"), &json!(100)), "{told}");

    let good = fs::read_to_string(scene.site.path("run.jsonl")).unwrap();
    let invented = json!({ "device": "a-1", "payload": "4006381333931", "resent": 0, "read_at": 1u64 << 40,
        "acknowledged_at": 1u64 << 40 });
    fs::write(scene.site.path("run.jsonl"), format!("{good}{invented}\n")).unwrap();
    let (code, told, _) = audit(&[]);
    assert_eq!((code, &told["lost"]), (Some(1), &json!(1)), "{told}");
    fs::write(scene.site.path("run.jsonl"), "").unwrap();
    let (code, told, _) = audit(&[]);
    assert_eq!((code, &told["verdict"]), (Some(2), &json!("nothing_to_audit")), "{told}");
    fs::write(scene.site.path("run.jsonl"), "no ledger\n").unwrap();
    let (code, _, told) = audit(&[]);
    assert!(code == Some(64) && told.contains("line 1"), "{told}");
}

#[test]
fn the_articles_firmware_and_every_kind_of_code_are_audited_clean_while_others_go_on() {
    let mut site = Site::new(&[
        ("5446078", "direct", "digits"),
        ("label", "anchor", "text"),
        ("item", "anchor", "gtin"),
        ("whole", "batch", "binary"),
        ("other", "anchor", "digits"),
    ]);
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    until("the device has its contract", || {
        site.rows(&["device", "list"]).iter().any(|d| !d["barcode"].is_null()).then_some(())
    });
    let scene = Scene { site, tls: 0 };
    let broker = format!("127.0.0.1:{}", scene.site.mqtt);
    for (name, ids) in [("firmware", &["5446078"][..]), ("label", &["label"]), ("gs1", &["item", "whole"])] {
        let line = |id: &&str| {
            let topic = if *id == "5446078" { json!(id) } else { json!(null) };
            json!({ "id": id, "secret": SECRET, "topic": topic }).to_string()
        };
        fs::write(scene.site.path(&format!("{name}.txt")), ids.iter().map(line).collect::<Vec<_>>().join("\n"))
            .unwrap();
    }
    fs::write(scene.site.path("other.txt"), format!("{{\"id\":\"other\",\"secret\":\"{SECRET}\"}}")).unwrap();

    thread::scope(|scope| {
        // Somebody else's readings come all the time; the audits of these runs do not wait for them.
        let other = scope.spawn(|| {
            let arguments = ["--broker", &broker, "--credentials", "other.txt", "--rate", "20", "--seconds", "15"];
            scene.run(&[&arguments[..], &["--ledger", "other.jsonl"]].concat())
        });
        let runs = [
            scope.spawn(|| {
                let habit = ["--protocol", "3", "--one-per-connection", "--rate", "2", "--seconds", "3"];
                // As printed, at QoS 0: nothing is acknowledged, so there is nothing to audit.
                let (code, unaudited) = scene.audited("firmware", &broker, &[&habit[..], &["--qos", "0"]].concat());
                assert_eq!((code, &unaudited["published"]), (Some(2), &json!(6)), "{unaudited}");
                let result = scene.clean("firmware", &broker, &[&habit[..], &["--seed", "2"]].concat());
                assert_eq!((&result["disconnects"], &result["audit"]["confirmed"]), (&json!(0), &json!(6)), "{result}");
                result
            }),
            scope.spawn(|| {
                let code128 = ["--codes", "code128", "--pattern", "burst", "--rate", "10", "--seconds", "3"];
                scene.clean("label", &broker, &code128)
            }),
            scope.spawn(|| {
                let gs1 = ["--codes", "gs1", "--pattern", "shift", "--rate", "10", "--seconds", "3"];
                scene.clean("gs1", &broker, &gs1)
            }),
        ];
        let published = runs.map(|run| run.join().unwrap()["audit"]["acknowledged"].as_u64().unwrap());
        assert_eq!(published, [6, 30, 60]);
        assert!(other.join().unwrap().status.success());
    });
    let rows = scene.site.until_final(6 + 6 + 30 + 60 + 300);
    let of = |device: &str| rows.iter().filter(|row| row["device"] == device).collect::<Vec<_>>();
    assert!(of("label").iter().all(|row| row["payload"].as_str().unwrap().contains('-')));
    assert!(of("item").iter().all(|row| row["payload"].as_str().unwrap().len() == 14));
    assert_eq!(of("5446078").len(), 12);
}
