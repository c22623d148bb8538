//! Devices that hold their own keys, and what becomes of keys: signed readings, rotation, revocation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};
use windlass_tests::{Client, Protocol, SECRET, SigningDevice, Site, assert_consistent, until};

fn client(site: &Site, id: &str) -> Client {
    let (client, code) = Client::connect(site.mqtt, Protocol::V5, id, Some((id, SECRET)));
    assert_eq!(code, Some(0), "{id}");
    client
}

fn publish(client: &mut Client, id: &str, payload: &[u8], packet_id: u16) -> Option<u8> {
    client.publish_and_wait(&format!("devices/{id}/readings"), payload, packet_id, false)
}

/// A site with these devices and one whose key the gateway holds; everything runs and the devices know the contract.
fn site(devices: &mut [(SigningDevice, &str)]) -> Site {
    site_with_rules(devices, "")
}

fn site_with_rules(devices: &mut [(SigningDevice, &str)], hardfork: &'static str) -> Site {
    let mut listed: Vec<_> = devices.iter().map(|(device, settlement)| (device.id, *settlement, "signed")).collect();
    listed.push(("c-1", "batch", "digits"));
    let mut site = Site::new(&listed);
    for (index, (device, _)) in devices.iter().enumerate() {
        site.edit_config(&format!("key = {{ custodial = {index} }}"), &device.spec());
    }
    site.hardfork = hardfork;
    site.start_node();
    site.deploy();
    devices.iter_mut().for_each(|(device, _)| device.learn(&site));
    site.start();
    site.until_ready();
    site
}

/// docs/examples/device.mjs, with its state in the site.
fn example(site: &Site, state: &str, arguments: &[&str]) -> std::process::Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/device.mjs");
    let state = site.path(state).display().to_string();
    std::process::Command::new("node").args([script, "--state", &state]).args(arguments).output().unwrap()
}

/// Makes the proof, has it verified with the node's help, and gives the answer.
fn proved(site: &Site, device: &str, sequence: u64) -> Value {
    let made = site.command(&["prove", device, &sequence.to_string(), "-o", "proof.windlass.json"]);
    assert!(made.status.success(), "{made:?}");
    let node = format!("http://127.0.0.1:{}", site.rpc);
    let answer = site.verify("proof.windlass.json", &["--rpc", &node, "--json"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stdout));
    serde_json::from_slice(&answer.stdout).unwrap()
}

#[test]
fn readings_that_devices_sign_are_settled_and_proved_with_their_signatures() {
    let mut devices = [
        (SigningDevice::secp256k1("s-1", 3), "batch"),
        (SigningDevice::p256("s-2", 4), "batch"),
        (SigningDevice::p256("s-3", 5), "anchor"),
        (SigningDevice::secp256k1("s-4", 6), "anchor"),
    ];
    let mut site = site(&mut devices);
    let mut acknowledged = Vec::new();
    for sequence in 1..=3 {
        for (device, _) in &devices {
            let payload = format!("{}-{sequence}", device.id);
            let mut session = client(&site, device.id);
            let envelope = device.envelope(sequence, &payload);
            assert_eq!(publish(&mut session, device.id, &envelope, 1), Some(0));
            // The same number again is the same reading, however it comes.
            assert_eq!(publish(&mut session, device.id, &envelope, 2), Some(0));
            acknowledged.push((device.id.to_owned(), payload));
        }
        assert_eq!(publish(&mut client(&site, "c-1"), "c-1", b"42", 1), Some(0));
        acknowledged.push(("c-1".to_owned(), "42".to_owned()));
        if sequence == 2 {
            site.kill();
            site.start();
        }
    }
    site.until_final(15);
    assert_consistent(&site, &acknowledged);
    for (device, _) in &devices {
        let answer = proved(&site, device.id, 2);
        assert_eq!(answer["signer"], device.public().to_string(), "{answer}");
        let trusts = answer["trusts"].to_string();
        assert!(!trusts.contains("is the device's registered key") && !trusts.contains("device sent"), "{trusts}");
        assert!(answer["checked"].to_string().contains("registered"), "{answer}");
    }
    proved(&site, "c-1", 3);
    assert_eq!(site.metric("windlass_p256_precompile"), 1.0);
}

#[test]
fn the_example_device_signs_with_either_key_and_repeats_itself_after_a_crash() {
    let mut site = Site::new(&[("e-1", "batch", "signed"), ("e-2", "anchor", "signed")]);
    for (index, kind) in ["secp256k1", "p256"].into_iter().enumerate() {
        let made = example(&site, &format!("{kind}.json"), &["--new", kind]);
        assert!(made.status.success(), "{made:?}");
        let line = String::from_utf8(made.stdout).unwrap();
        site.edit_config(&format!("key = {{ custodial = {index} }}"), line.trim());
    }
    site.start_node();
    site.deploy();
    site.start();
    std::fs::write(site.path("secret"), SECRET).unwrap();
    let broker = format!("mqtt://127.0.0.1:{}", site.mqtt);
    let (contract, secret) = (site.contract().to_string(), site.path("secret").display().to_string());
    let publish = |broker: &str, device: &str, kind: &str, codes: &[&str]| {
        let options = ["--broker", broker, "--device", device, "--secret-file", &secret];
        let domain = ["--chain-id", "31337", "--contract", &contract];
        example(&site, &format!("{kind}.json"), &[&options[..], &domain, codes].concat())
    };
    for (device, kind) in [("e-1", "secp256k1"), ("e-2", "p256")] {
        let nowhere = format!("mqtt://127.0.0.1:{}", site.rpc + 1);
        let path = site.path(&format!("{kind}.json"));
        assert!(!publish(&nowhere, device, kind, &["one"]).status.success(), "nobody listens there");
        // Numbered and signed, and not sent: it goes out as it is, and once more as if its acknowledgement had been lost.
        let in_hand = std::fs::read(&path).unwrap();
        let told = publish(&broker, device, kind, &["two"]);
        assert!(told.status.success(), "{told:?}");
        std::fs::write(&path, in_hand).unwrap();
        assert!(publish(&broker, device, kind, &[]).status.success());
        let told = publish(&broker, device, kind, &["other"]);
        assert!(String::from_utf8_lossy(&told.stdout).contains("2 other refused"), "{told:?}");
        let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (state["next"], state["inHand"]) = (json!(3), json!(null));
        std::fs::write(&path, state.to_string()).unwrap();
        assert!(publish(&broker, device, kind, &["three"]).status.success());
    }
    site.until_final(6);
    let payloads = [("e-1", "one"), ("e-1", "two"), ("e-1", "three"), ("e-2", "one"), ("e-2", "two"), ("e-2", "three")];
    assert_consistent(&site, &payloads.map(|(d, p)| (d.into(), p.into())));
    proved(&site, "e-1", 3);
    proved(&site, "e-2", 3);
}

#[test]
fn what_a_device_did_not_sign_so_is_refused_told_and_kept() {
    let mut devices = [(SigningDevice::p256("s-1", 3), "batch")];
    let mut site = site(&mut devices);
    let [(device, _)] = devices;
    let stranger = SigningDevice { domain: device.domain.clone(), ..SigningDevice::p256("s-1", 9) };
    let later = SigningDevice { epoch: 2, domain: device.domain.clone(), ..SigningDevice::p256("s-1", 3) };
    let elsewhere = SigningDevice::p256("s-1", 3);
    let mut session = client(&site, "s-1");
    session.subscribe("devices/s-1/errors").unwrap();
    assert_eq!(publish(&mut session, "s-1", &device.envelope(1, "one"), 1), Some(0));
    for (reason, envelope) in [
        ("bad_signature", stranger.envelope(2, "two")),
        ("bad_signature", elsewhere.envelope(2, "two")),
        ("wrong_epoch", later.envelope(2, "two")),
        ("sequence_gap", device.envelope(3, "three")),
        ("sequence_reused", device.envelope(1, "other")),
        ("bad_envelope", b"4006381333931".to_vec()),
    ] {
        assert_eq!(publish(&mut session, "s-1", &envelope, 2), Some(0x99), "{reason}");
        let (_, told) = session.message().unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["reason"], reason);
        assert_eq!(told["next_sequence"], if reason.starts_with("sequence") { json!(2) } else { json!(null) });
        assert_eq!(site.rows(&["quarantine", "list"]).last().unwrap()["reason"], reason);
    }
    // None of it stands in the way of the right one, before or after a crash.
    site.kill();
    site.start();
    let mut session = client(&site, "s-1");
    assert_eq!(publish(&mut session, "s-1", &device.envelope(1, "one"), 3), Some(0), "a repeat from before the crash");
    assert_eq!(publish(&mut session, "s-1", &device.envelope(1, "other"), 4), Some(0x99));
    assert_eq!(publish(&mut session, "s-1", &device.envelope(2, "two"), 5), Some(0));
    site.until_final(2);
    assert_consistent(&site, &["one", "two"].map(|p| ("s-1".into(), p.into())));
}

#[test]
fn a_key_is_rotated_without_a_hole_and_both_keys_readings_are_proved() {
    let mut devices = [(SigningDevice::secp256k1("s-1", 3), "batch")];
    let mut site = site(&mut devices);
    let [(mut device, _)] = devices;
    let mut held = client(&site, "s-1");
    let mut custodial = client(&site, "c-1");
    assert_eq!(publish(&mut held, "s-1", &device.envelope(1, "one"), 1), Some(0));
    assert_eq!(publish(&mut custodial, "c-1", b"1", 1), Some(0));
    // Both at once: from a key in the device to one in a secure element, and to another index of the gateway's.
    let next = SigningDevice { epoch: 2, domain: device.domain.clone(), ..SigningDevice::p256("s-1", 4) };
    site.edit_config(&device.spec(), &next.spec());
    site.edit_config("custodial = 1", "custodial = 8");
    let old = std::mem::replace(&mut device, next);
    site.hangup();
    until("the new keys are in use", || {
        let known = site.rows(&["device", "list"]).iter().all(|d| d["epoch"] == 2);
        (known && site.metric("windlass_reloads_total{outcome=\"done\"}") >= 1.0).then_some(())
    });
    assert_eq!(publish(&mut held, "s-1", &old.envelope(2, "two"), 2), Some(0x99));
    assert_eq!(publish(&mut held, "s-1", &device.envelope(2, "two"), 3), Some(0));
    assert_eq!(publish(&mut custodial, "c-1", b"2", 2), Some(0));
    site.kill();
    site.start();
    site.until_final(4);
    assert_consistent(
        &site,
        &[("s-1", "one"), ("s-1", "two"), ("c-1", "1"), ("c-1", "2")].map(|(d, p)| (d.into(), p.into())),
    );
    let epochs: Vec<_> = site.readings().iter().map(|r| (r["sequence"].clone(), r["epoch"].clone())).collect();
    assert!(epochs.iter().all(|(sequence, epoch)| sequence == epoch), "{epochs:?}");
    assert_eq!(proved(&site, "s-1", 1)["signer"], old.public().to_string());
    assert_eq!(proved(&site, "s-1", 2)["signer"], device.public().to_string());
    // The registration of the second key, in a block of its own, without a node.
    let made = site.command(&["prove", "s-1", "2", "-o", "full.windlass.json", "--with-registration"]);
    assert!(made.status.success(), "{made:?}");
    let file: Value = serde_json::from_slice(&std::fs::read(site.path("full.windlass.json")).unwrap()).unwrap();
    let hash = |part: &Value| part["block"]["hash"].as_str().unwrap().to_owned();
    let (block, registration) = (hash(&file), hash(&file["registered"]));
    let given = ["--block-hash", &block, "--registration-hash", &registration, "--json"];
    let answer: Value = serde_json::from_slice(&site.verify("full.windlass.json", &given).stdout).unwrap();
    assert_eq!(answer["verified"], true, "{answer}");
    assert!(!answer["trusts"].to_string().contains("is the device's registered key"), "{answer}");
    assert_ne!(proved(&site, "c-1", 1)["signer"], proved(&site, "c-1", 2)["signer"]);
    // A key that was replaced does not come back.
    site.edit_config("custodial = 8", "custodial = 1");
    site.hangup();
    until("the old key is refused", || (site.metric("windlass_config_stale") == 1.0).then_some(()));
    assert!(site.log().contains("its key was replaced before"));
}

#[test]
fn a_revoked_device_is_cut_off_and_ended_on_chain_after_its_last_reading() {
    let mut devices = [(SigningDevice::p256("s-1", 3), "batch")];
    let mut site = site(&mut devices);
    let [(device, _)] = devices;
    let mut held = client(&site, "s-1");
    let mut custodial = client(&site, "c-1");
    assert_eq!(publish(&mut held, "s-1", &device.envelope(1, "one"), 1), Some(0));
    assert_eq!(publish(&mut custodial, "c-1", b"1", 1), Some(0));
    site.edit_config("id = \"s-1\"", "revoked = true\nid = \"s-1\"");
    site.edit_config("id = \"c-1\"", "revoked = true\nid = \"c-1\"");
    site.hangup();
    for session in [&mut held, &mut custodial] {
        assert_eq!(session.read().map(|(first, body)| (first, body[0])), Some((0xE0, 0x98)));
    }
    // What was acknowledged is settled, by a gateway that starts with both of them revoked.
    site.kill();
    site.start();
    site.until_final(2);
    assert_consistent(&site, &[("s-1", "one"), ("c-1", "1")].map(|(d, p)| (d.into(), p.into())));
    let (_, code) = Client::connect(site.mqtt, Protocol::V5, "s-1", Some(("s-1", SECRET)));
    assert_eq!(code, Some(0x86));
    until("both are revoked on chain", || {
        let ended = site.rows(&["attempts"]).iter().filter(|t| t["kind"] == "revoke" && t["state"] == "final").count();
        (ended == 2).then_some(())
    });
    assert!(site.rows(&["device", "list"]).iter().all(|d| d["revoked"] == json!(true)));
    // There is no way back.
    site.edit_config("revoked = true\n", "");
    site.hangup();
    until("it stays revoked", || (site.metric("windlass_config_stale") == 1.0).then_some(()));
    assert!(site.log().contains("it was revoked, which is for ever"));
}

/// Before EIP-7951 the contract verifies P-256 by itself. That is dear, and is said.
#[test]
fn a_chain_without_the_p256_precompile_is_named_and_settles_all_the_same() {
    let mut devices = [(SigningDevice::p256("s-1", 3), "batch")];
    let site = site_with_rules(&mut devices, "cancun");
    let [(device, _)] = devices;
    assert_eq!(publish(&mut client(&site, "s-1"), "s-1", &device.envelope(1, "one"), 1), Some(0));
    site.until_final(1);
    assert_consistent(&site, &[("s-1".into(), "one".into())]);
    assert!(site.log().contains("the chain has no P-256 precompile"), "{}", site.log());
    assert_eq!(site.metric("windlass_p256_precompile"), 0.0);
    assert!(site.metric("windlass_gas_used_total{settlement=\"batch\"}") > 200_000.0);
}
