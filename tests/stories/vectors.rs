//! The frozen vectors of tests/vectors, from Rust; Solidity and JavaScript check the same files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::Path, process::Command};

use alloy::primitives::{B256, Signature, hex};
use serde_json::Value;
use tempfile::TempDir;
use windlass_proof::{Tree, verify_path};
use windlass_reading::{DeviceId, Domain, Format, PublicKey, Reading, Run, leaf};

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn hash(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

fn domain(file: &Value) -> Domain {
    let domain = &file["domain"];
    Domain::new(number(&domain["chainId"]), domain["verifyingContract"].as_str().unwrap().parse().unwrap())
}

fn reading(v: &Value) -> Reading {
    Reading {
        device: DeviceId::new(v["deviceId"].as_str().unwrap()).unwrap(),
        epoch: u32::try_from(number(&v["epoch"])).unwrap(),
        sequence: number(&v["sequence"]),
        observed_at_ms: number(&v["observedAt"]),
        payload: hex::decode(v["payload"].as_str().unwrap()).unwrap(),
    }
}

fn all<'a>(file: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    file[name].as_array().unwrap().iter().chain(file["edges"][name].as_array().unwrap())
}

#[test]
fn reading_digests_are_the_frozen_ones() {
    let file = vectors("eip712.json");
    let domain = domain(&file);
    for v in all(&file, "readings") {
        assert_eq!(domain.reading(&reading(v)), hash(&v["digest"]), "{v}");
    }
}

#[test]
fn run_digests_are_the_frozen_ones_and_recover_to_the_device() {
    let file = vectors("eip712.json");
    let domain = domain(&file);
    for v in all(&file, "runs") {
        let run = Run {
            device: hash(&v["device"]),
            epoch: u32::try_from(number(&v["epoch"])).unwrap(),
            firstSequence: number(&v["firstSequence"]),
            count: u32::try_from(number(&v["count"])).unwrap(),
            readingsHash: hash(&v["readingsHash"]),
        };
        assert_eq!(domain.run(&run), hash(&v["digest"]), "{v}");
        let device = file["devices"].as_array().unwrap().iter().find(|d| d["deviceId"] == v["deviceId"]);
        if let (Some(signature), Some(device)) = (v["signature"].as_str(), device)
            && device["kind"] == "secp256k1"
        {
            let bytes = hex::decode(signature).unwrap();
            let signer = Signature::from_erc2098(&bytes).recover_address_from_prehash(&domain.run(&run)).unwrap();
            assert_eq!(signer.to_string().to_lowercase(), device["key"].as_str().unwrap());
        }
    }
}

#[test]
fn leaves_roots_and_paths_are_the_frozen_ones() {
    let (eip712, merkle) = (vectors("eip712.json"), vectors("merkle.json"));
    let domain = domain(&eip712);
    let readings: Vec<Reading> = eip712["readings"].as_array().unwrap().iter().map(reading).collect();
    let leaves: Vec<B256> = readings.iter().map(|r| leaf(r, domain.reading(r))).collect();
    for (leaf, v) in leaves.iter().zip(merkle["leaves"].as_array().unwrap()) {
        assert_eq!(*leaf, hash(&v["leaf"]));
    }
    for tree in merkle["trees"].as_array().unwrap() {
        let count = usize::try_from(number(&tree["count"])).unwrap();
        let built = Tree::new(leaves[..count].to_vec()).unwrap();
        assert_eq!(built.root(), hash(&tree["root"]));
        for (leaf, path) in leaves.iter().zip(tree["proofs"].as_array().unwrap()) {
            let path: Vec<B256> = path.as_array().unwrap().iter().map(hash).collect();
            assert_eq!(built.proof(*leaf), Some(path.clone()));
            assert!(verify_path(built.root(), *leaf, &path, u32::try_from(count).unwrap()));
        }
    }
}

#[test]
fn proofs_and_bindings_know_the_same_events() {
    use alloy::sol_types::SolEvent;
    assert_eq!(windlass_proof::Anchored::SIGNATURE_HASH, windlass_contract::Windlass::Anchored::SIGNATURE_HASH);
    assert_eq!(windlass_proof::Recorded::SIGNATURE_HASH, windlass_contract::Windlass::Recorded::SIGNATURE_HASH);
}

#[test]
fn the_c_header_for_small_devices_gives_the_frozen_digests_and_envelopes_that_are_read() {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("signed_reading");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/signed_reading.c");
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-O1", "-fsanitize=undefined"];
    let built = Command::new("cc").args(strict).arg("-o").arg(&program).arg(source).status().unwrap();
    assert!(built.success(), "the header does not compile");
    let file = vectors("eip712.json");
    let contract = file["domain"]["verifyingContract"].as_str().unwrap().trim_start_matches("0x");
    let chain = number(&file["domain"]["chainId"]).to_string();
    for v in all(&file, "readings") {
        let r = reading(v);
        let signature = v["signature"].as_str().map_or_else(|| vec![0x30; 72], |s| hex::decode(s).unwrap());
        let output = Command::new(&program)
            .args([&chain, contract, r.device.as_str(), &r.epoch.to_string(), &r.sequence.to_string()])
            .args([&r.observed_at_ms.to_string(), &hex::encode(&r.payload), &hex::encode(&signature)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let (digest, envelope) = text.split_once('\n').unwrap();
        assert_eq!(digest, hex::encode(hash(&v["digest"])), "{v}");
        let decoded = Format::Signed.decode(&hex::decode(envelope.trim()).unwrap(), 0);
        if r.payload.is_empty() {
            assert_eq!(envelope.trim(), "", "an envelope without a payload");
        } else if r.epoch > 0 && r.sequence < 1 << 48 {
            let draft = decoded.unwrap();
            let claim = draft.claim.unwrap();
            assert_eq!((claim.epoch, claim.sequence, claim.signature), (r.epoch, r.sequence, signature));
            assert_eq!((draft.observed_at_ms, draft.payload.to_vec()), (r.observed_at_ms, r.payload));
        }
    }
}

/// The device's key as the registry holds it.
fn key(file: &Value, device: &Value) -> PublicKey {
    let devices = file["devices"].as_array().unwrap();
    let key = &devices.iter().find(|d| d["deviceId"] == *device).unwrap()["key"];
    key.as_str().unwrap().parse().unwrap()
}

#[test]
fn readings_are_signed_by_the_frozen_keys_of_either_kind() {
    let file = vectors("eip712.json");
    let mut kinds = std::collections::HashSet::new();
    for v in file["readings"].as_array().unwrap() {
        let (key, signature) = (key(&file, &v["deviceId"]), hex::decode(v["signature"].as_str().unwrap()).unwrap());
        assert!(key.signed(hash(&v["digest"]), &signature), "{v}");
        kinds.insert(key.kind());
    }
    assert_eq!(kinds.len(), 2);
}

#[test]
fn hostile_signatures_and_paths_are_refused() {
    let (file, hostile) = (vectors("eip712.json"), vectors("hostile.json"));
    let domain = domain(&file);
    let signatures = hostile["signatures"].as_array().unwrap();
    for v in signatures {
        let signature = hex::decode(v["signature"].as_str().unwrap()).unwrap();
        assert!(!key(&file, &v["deviceId"]).signed(domain.reading(&reading(v)), &signature), "{v}");
    }
    let paths = hostile["paths"].as_array().unwrap();
    for v in paths {
        let path: Vec<B256> = v["proof"].as_array().unwrap().iter().map(hash).collect();
        let count = u32::try_from(number(&v["count"])).unwrap();
        // What an inner node would pass for is kept out by the leaf, which is hashed twice.
        let taken = verify_path(hash(&v["root"]), hash(&v["leaf"]), &path, count);
        assert!(!taken || v["name"] == "an inner node as leaf", "{v}");
    }
    assert!(signatures.len() >= 28 && paths.len() >= 13);
}
