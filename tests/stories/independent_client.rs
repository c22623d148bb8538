//! Debian's mosquitto clients publish and hear receipts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Stdio};

use windlass_tests::{SECRET, Site, assert_consistent};

fn mosquitto(program: &str, site: &Site, version: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &site.mqtt.to_string(), "-V", version, "-q", "1"]);
    command.args(["-i", "m-1", "-u", "m-1", "-P", SECRET]);
    command
}

#[test]
fn mosquitto_publishes_with_both_protocols_and_hears_its_receipts() {
    let site = Site::ready(&[("m-1", "anchor", "gtin")]);
    let topic = ["-t", "devices/m-1/readings"];
    for (version, code) in [("mqttv311", "4006381333931"), ("mqttv5", "96385074")] {
        let output = mosquitto("mosquitto_pub", &site, version).args(topic).args(["-m", code]).output();
        let output = output.expect("mosquitto_pub is missing: run make tools");
        assert!(output.status.success(), "{version}: {output:?}");
    }
    let listener = mosquitto("mosquitto_sub", &site, "mqttv5")
        .args(["-t", "devices/m-1/receipts", "-C", "2", "-W", "30"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    site.until_final(2);
    let output = listener.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("\"final\""), "{text}");
    let output = mosquitto("mosquitto_pub", &site, "mqttv5").args(topic).args(["-m", "4006381333932"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Payload format invalid"), "{output:?}");
    assert_consistent(&site, &[("m-1".into(), "4006381333931".into()), ("m-1".into(), "96385074".into())]);
}
