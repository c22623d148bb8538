//! Debian's mosquitto clients publish and hear receipts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

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
    let output = mosquitto("mosquitto_pub", &site, "mqttv5").args(["-q", "2", "-m", "50123452"]).args(topic).output();
    assert!(output.unwrap().status.success(), "QoS 2");
    // Subscribes, publishes, prints the first message that comes back.
    let output = mosquitto("mosquitto_rr", &site, "mqttv5")
        .args(topic)
        .args(["-e", "devices/m-1/receipts", "-m", "12345670", "-W", "30"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("\"accepted\"") && text.contains("\"sequence\":4"), "{output:?}");
    site.until_final(4);
    let output =
        mosquitto("mosquitto_pub", &site, "mqttv5").args(topic).args(["-m", "4006381333932"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Payload format invalid"), "{output:?}");
    assert_consistent(
        &site,
        &["4006381333931", "96385074", "50123452", "12345670"].map(|code| ("m-1".into(), code.into())),
    );
}
