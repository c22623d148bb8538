//! Debian's mosquitto clients publish and hear receipts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

use windlass_tests::{SECRET, Site, assert_consistent, until};

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

#[test]
fn a_kept_session_hears_what_it_missed_even_over_kill_nine_and_a_user_hears_everybody() {
    let mut site = Site::new(&[("m-1", "anchor", "gtin")]);
    site.edit_config(
        "[[devices]]",
        &format!(
            "[[users]]\nname = \"desk\"\nsubscribe = [\"devices/+/receipts\"]\nsecret = \"{}\"\n[[devices]]",
            site.secret_hash()
        ),
    );
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    // Subscribes and leaves.
    let receipts = ["-t", "devices/m-1/receipts"];
    let output = mosquitto("mosquitto_sub", &site, "mqttv311").args(["-c", "-E"]).args(receipts).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    site.kill();
    site.start();
    let screen = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &site.mqtt.to_string(), "-V", "mqttv5", "-q", "1", "-W", "60", "-C", "3"])
        .args(["-u", "desk", "-P", SECRET, "-t", "devices/+/receipts"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("the screen is connected", || (site.metric("windlass_connections") == 1.0).then_some(()));
    // The connection that publishes hears "accepted"; the rest comes while the device is away.
    let publish = ["-c", "-t", "devices/m-1/readings", "-m", "4006381333931"];
    let output = mosquitto("mosquitto_pub", &site, "mqttv311").args(publish).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    site.until_final(1);
    let output = screen.wait_with_output().unwrap();
    let heard = String::from_utf8(output.stdout).unwrap();
    assert!(["accepted", "mined", "final"].iter().all(|state| heard.contains(&format!("\"{state}\""))), "{heard}");
    let output = mosquitto("mosquitto_sub", &site, "mqttv311").args(["-c", "-W", "3"]).args(receipts).output().unwrap();
    let heard = String::from_utf8(output.stdout).unwrap();
    assert!(heard.contains("\"mined\"") && heard.contains("\"final\""), "{heard}");
    assert_consistent(&site, &[("m-1".into(), "4006381333931".into())]);
}
