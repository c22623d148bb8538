//! The load tool against the gateway: each kind of scanner, its faults, enemies beside it, and the audit of its ledger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    process::{Command, Output},
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
             key = \"server.key\"\nclient_ca = \"ca.pem\"\nclient_auth = \"optional\"\n[chain]"
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
    /// The credentials of these, the signing ones with their keys and the number that comes next.
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
        fs::write(self.site.path("scanners.txt"), lines.join("\n")).unwrap();
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

    /// A run with the audit at its end; its result.
    fn load(&self, broker: &str, more: &[&str]) -> Value {
        let (api, rpc, contract) = (self.api(), self.rpc(), self.site.contract().to_string());
        let mut arguments = vec!["--broker", broker, "--credentials", "scanners.txt", "--json", "--seconds", "4"];
        arguments.extend(["--chain-id", "31337", "--contract", &contract, "--ledger", "run.jsonl"]);
        arguments.extend(["--api", &api, "--rpc", &rpc]);
        arguments.extend(more);
        let output = self.run(&arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}{}\n{}", String::from_utf8_lossy(&output.stderr), self.site.log());
        serde_json::from_str(&told).unwrap()
    }

    fn acknowledged(&self) -> Vec<(String, String)> {
        let lines = fs::read_to_string(self.site.path("run.jsonl")).unwrap();
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
    scene.credentials(&["a-1", "a-2", "b-1", "d-1", "s-1", "s-2", "e-1", "e-2"], 1);
    let faults = "malformed,duplicate,drop,cut";
    let enemies = "never-read,flood,slowloris=3,wrong-secret=2";
    let result = scene.load(&plain, &["--rate", "5", "--faults", faults, "--hostile", enemies]);
    assert_eq!(result["published"], 120, "{result}");
    assert_eq!((&result["lost"], &result["unsent"], &result["malformed"]), (&json!(0), &json!(0), &json!(12)));
    assert_eq!(result["audit"]["acknowledged"], 108, "{result}");
    assert_eq!(result["audit"]["stored"], 108, "no enemy is in the ledger");
    let hostile = &result["hostile"];
    assert!(
        hostile["flood"]["acknowledged"].as_u64() > Some(100) && hostile["never-read"]["published"] != 0,
        "{hostile}"
    );
    assert!(hostile["wrong-secret"]["refused"].as_u64() > Some(0), "{hostile}");
    assert_eq!((&hostile["wrong-secret"]["admitted"], &hostile["slowloris"]["clients"]), (&json!(0), &json!(3)));
    let mut acknowledged = scene.acknowledged();

    // By TLS at QoS 2; a-2 has a certificate in place of a secret.
    scene.credentials(&["a-1", "b-1", "s-1", "s-2"], 19);
    let own = json!({ "id": "a-2", "cert": "a-2.pem", "key": "a-2.key" }).to_string();
    let lines = fs::read_to_string(scene.site.path("scanners.txt")).unwrap();
    fs::write(scene.site.path("scanners.txt"), format!("{lines}\n{own}")).unwrap();
    let secure = format!("localhost:{}", scene.tls);
    let tls = ["--tls", "--ca", "ca.pem", "--qos", "2", "--rate", "5", "--faults", "duplicate,cut"];
    for protocol in ["3", "5"] {
        let seed = ["--protocol", protocol];
        let result = scene.load(&secure, &[&tls[..], &seed[..]].concat());
        assert_eq!((&result["acknowledged"], &result["audit"]["lost"]), (&json!(100), &json!(0)), "{result}");
        acknowledged.extend(scene.acknowledged());
        let again = lines.replace("\"next_sequence\":19", "\"next_sequence\":39");
        fs::write(scene.site.path("scanners.txt"), format!("{again}\n{own}")).unwrap();
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

    let good = fs::read_to_string(scene.site.path("run.jsonl")).unwrap();
    let invented = json!({ "device": "a-1", "payload": "4006381333931", "resent": false, "read_at": 1u64 << 40 });
    fs::write(scene.site.path("run.jsonl"), format!("{good}{invented}\n")).unwrap();
    let (code, told, _) = audit(&[]);
    assert_eq!((code, &told["lost"]), (Some(1), &json!(1)), "{told}");
    fs::write(scene.site.path("run.jsonl"), "no ledger\n").unwrap();
    let (code, _, told) = audit(&[]);
    assert!(code == Some(64) && told.contains("line 1"), "{told}");
}
