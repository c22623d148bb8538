//! The frozen proof files of tests/vectors/proofs.json: good ones and hostile ones, each with the verdict. The verifier in
//! docs/examples checks the same file without any of this code.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{
    attested::{attested_files, recorded_files},
    block::*,
};
use crate::{ProofFile, Trusted, verify_against};

/// Set to write the file anew: `WINDLASS_WRITE_VECTORS=1 cargo test -p windlass-proof vectors`.
const WRITE: &str = "WINDLASS_WRITE_VECTORS";

struct Vector {
    name: String,
    text: String,
    block: Option<String>,
    registration: Option<String>,
}

impl Vector {
    fn new(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), text, block: None, registration: None }
    }

    fn verdict(&self) -> &'static str {
        let hash = |text: &Option<String>| text.as_ref().map(|t| t.parse().unwrap());
        let trusted = Trusted { block: hash(&self.block), registration: hash(&self.registration) };
        match verify_against(self.text.as_bytes(), trusted) {
            Ok(_) => "verified",
            Err(refusal) => refusal.reason(),
        }
    }
}

fn text(file: &ProofFile) -> String {
    file.to_json().unwrap()
}

fn value(file: &ProofFile) -> Value {
    serde_json::to_value(file).unwrap()
}

/// One file of each kind.
fn good() -> Vec<(&'static str, ProofFile)> {
    let mut all: Vec<_> = files().into_iter().collect();
    all.extend(attested_files());
    all.extend(recorded_files());
    all.push(("anchor of one reading", single_anchor_file()));
    all.push(("pending", ProofFile::pending(&reading(3), windlass_reading::Settlement::Anchor)));
    all
}

/// A file with one place changed.
fn changed(file: &ProofFile, place: &str, to: Value) -> String {
    let mut all = value(file);
    *all.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = to;
    all.to_string()
}

fn without(file: &ProofFile, parent: &str, key: &str) -> String {
    let mut all = value(file);
    all.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    all.to_string()
}

fn with(file: &ProofFile, parent: &str, key: &str, to: Value) -> String {
    let mut all = value(file);
    all.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.into(), to);
    all.to_string()
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn hostile() -> Vec<Vector> {
    let (anchor, batch, signed, direct) = (anchor_file(), batch_file(), signed_batch_file(), direct_file());
    let path = value(&anchor)["merkle_path"].as_array().unwrap().clone();
    let mut vectors = Vec::new();
    let mut add = |name: &str, text: String| vectors.push(Vector::new(name, text));
    add("shortened path", changed(&anchor, "/merkle_path", json!(path[1..])));
    add("path cut at its end", changed(&anchor, "/merkle_path", json!(path[..path.len() - 1])));
    add("path that is too long", changed(&anchor, "/merkle_path", json!([path.clone(), path.clone()].concat())));
    add("swapped siblings", {
        let mut swapped = path.clone();
        swapped.swap(0, 1);
        changed(&anchor, "/merkle_path", json!(swapped))
    });
    add("empty path", changed(&anchor, "/merkle_path", json!([])));
    add("zero sibling", changed(&anchor, "/merkle_path/0", json!(format!("0x{}", "0".repeat(64)))));
    add("count that does not fit", changed(&anchor, "/anchored/count", json!(2)));
    add("another root", changed(&anchor, "/anchored/root", json!(format!("0x{}", "11".repeat(32)))));
    add("another head", changed(&anchor, "/anchored/head", json!(format!("0x{}", "11".repeat(32)))));
    add("another log size", changed(&anchor, "/anchored/log_size", json!(4)));
    add("wrong epoch", changed(&anchor, "/reading/epoch", json!(2)));
    add("wrong sequence", changed(&anchor, "/reading/sequence", json!(4)));
    add("wrong time", changed(&anchor, "/reading/observed_at", json!(1)));
    add("wrong payload", changed(&anchor, "/reading/payload", json!("0406381333932")));
    add("payload in hex that is text", changed(&anchor, "/reading/payload", json!("0x30343036333831333333393331")));
    add("wrong device", changed(&anchor, "/reading/device", json!("dock-8")));
    add("no device id", changed(&anchor, "/reading/device", json!("dock 7")));
    add("wrong chain", changed(&anchor, "/chain_id", json!(1)));
    add("another contract", changed(&anchor, "/contract", json!(format!("0x{}", "cd".repeat(20)))));
    add("another log", changed(&anchor, "/event/log", json!(0)));
    add("a log that is not there", changed(&anchor, "/event/log", json!(7)));
    add("another transaction", changed(&anchor, "/event/transaction", json!(1)));
    add("no receipt nodes", changed(&anchor, "/event/receipt", json!([])));
    add("a receipt node too many", {
        let mut nodes = value(&anchor)["event"]["receipt"].as_array().unwrap().clone();
        nodes.push(nodes[0].clone());
        changed(&anchor, "/event/receipt", json!(nodes))
    });
    add("another block number", changed(&anchor, "/block/number", json!(8)));
    add("another block hash", changed(&anchor, "/block/hash", json!(format!("0x{}", "11".repeat(32)))));
    add("no header", changed(&anchor, "/block/header", json!("0x")));
    add("unknown key", with(&anchor, "", "note", json!("hello")));
    add("unknown key within", with(&anchor, "/reading", "note", json!(1)));
    add("missing key", without(&anchor, "/reading", "epoch"));
    add("a null for what may be absent", with(&anchor, "", "signed", Value::Null));
    add("another version", changed(&anchor, "/windlass_proof", json!(2)));
    add("no version", without(&anchor, "", "windlass_proof"));
    add("unknown settlement", changed(&anchor, "/settlement", json!("barter")));
    add("another settlement", changed(&anchor, "/settlement", json!("batch")));
    add("a state that is none", with(&anchor, "", "state", json!("final")));
    add("number as text", changed(&anchor, "/reading/epoch", json!("1")));
    add("fraction", changed(&anchor, "/reading/epoch", json!(1.5)));
    add("negative number", changed(&anchor, "/reading/epoch", json!(-1)));
    add("number beyond its size", changed(&anchor, "/reading/epoch", json!(4_294_967_296u64)));
    add("hex in upper case", changed(&anchor, "/contract", json!(format!("0x{}", "CC".repeat(20)))));
    add("short hex", changed(&anchor, "/contract", json!("0xcc")));
    add("odd hex", changed(&anchor, "/merkle_path/0", json!(format!("0x{}", "1".repeat(63)))));
    add("duplicate key", text(&anchor).replacen("\"chain_id\"", "\"chain_id\": 31337,\n  \"chain_id\"", 1));
    add("leading zero", text(&anchor).replacen("\"epoch\": 1", "\"epoch\": 01", 1));
    add("exponent", text(&anchor).replacen("\"epoch\": 1", "\"epoch\": 1e0", 1));
    add("text behind the end", text(&anchor) + "{}");
    add("no JSON", "not a proof".into());
    add("an array", "[]".into());
    add("nothing", String::new());
    add("nested for ever", "[".repeat(2_000));
    add("batch: another run", changed(&batch, "/recorded/first_sequence", json!(2)));
    add("batch: another count", changed(&batch, "/recorded/count", json!(6)));
    add("batch: a reading outside the run", changed(&batch, "/reading/sequence", json!(9)));
    add("batch: a chain id that nothing binds", with(&batch, "", "chain_id", json!(CHAIN)));
    add("batch: wrong payload", changed(&batch, "/reading/payload", json!("1")));
    add("signed: wrong chain", changed(&signed, "/signed/chain_id", json!(1)));
    add("signed: another signer", changed(&signed, "/signed/signer", json!(format!("0x{}", "11".repeat(20)))));
    add("signed: another signature", changed(&signed, "/signed/signature", json!(format!("0x{}", "11".repeat(64)))));
    add(
        "signed: another transaction",
        changed(&signed, "/signed/transaction", json!(format!("0x{}", "11".repeat(32)))),
    );
    add("signed: no transaction nodes", changed(&signed, "/signed/nodes", json!([])));
    add("direct: another value", changed(&direct, "/value", json!("1")));
    add("direct: value with a leading zero", changed(&direct, "/value", json!("0406381333931")));
    add("direct: another signer", changed(&direct, "/signer", json!(format!("0x{}", "11".repeat(20)))));
    add("direct: another nonce", changed(&direct, "/nonce", json!(8)));
    add("direct: another chain", changed(&direct, "/chain_id", json!(1)));
    add("direct: another contract", changed(&direct, "/contract", json!(format!("0x{}", "cd".repeat(20)))));
    add("direct: another index", changed(&direct, "/transaction/index", json!(1)));
    add("direct: the receipt of another transaction", {
        let other = value(&anchor)["event"]["receipt"].clone();
        changed(&direct, "/receipt", other)
    });
    add("direct: status 0", text(&failed_direct_file()));
    for (name, file) in attested_files() {
        let high = value(&file)["signed"]["signature"].as_str().unwrap().to_owned();
        add(
            &format!("{name}: signature with its s turned"),
            changed(&file, "/signed/signature", json!(turned(&high, name))),
        );
        add(&format!("{name}: shortened signature"), changed(&file, "/signed/signature", json!(high[..128])));
        add(
            &format!("{name}: zero signature"),
            changed(&file, "/signed/signature", json!(format!("0x{}", "00".repeat(64)))),
        );
        add(&format!("{name}: another key"), changed(&file, "/signed/signer", json!(format!("0x{}", "11".repeat(20)))));
        add(&format!("{name}: another reading"), changed(&file, "/reading/sequence", json!(2)));
    }
    for (name, file) in recorded_files() {
        add(&format!("{name}: another reading's time"), changed(&file, "/reading/observed_at", json!(1)));
        add(
            &format!("{name}: another signer"),
            changed(&file, "/signed/signer", json!(format!("0x{}", "11".repeat(20)))),
        );
    }
    vectors
}

/// n − s in place of s: what anybody can make of a signature.
fn turned(signature: &str, name: &str) -> String {
    use alloy::primitives::{U256, hex};
    let order = if name.contains("P-256") {
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
    } else {
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    };
    let bytes = hex::decode(signature).unwrap();
    let s: U256 = U256::from_be_slice(&bytes[32..]) & (U256::MAX >> 1usize);
    let n: U256 = U256::from_str_radix(order, 16).unwrap();
    let other: [u8; 32] = (n - s).to_be_bytes();
    hex::encode_prefixed([&bytes[..32], &other].concat())
}

fn vectors() -> Vec<Vector> {
    let mut all: Vec<_> = good().iter().map(|(name, file)| Vector::new(format!("good: {name}"), text(file))).collect();
    let hash = |value: &Value| value["hash"].as_str().map(str::to_owned);
    for (name, file) in good() {
        let all_of_it = value(&file);
        let (block, registration) = (hash(&all_of_it["block"]), hash(&all_of_it["registered"]["block"]));
        if block.is_some() {
            let name = format!("good, with trusted hashes: {name}");
            all.push(Vector { name, text: text(&file), block, registration });
        }
    }
    let other = Some(format!("0x{}", "11".repeat(32)));
    let registered = attested_files().pop().unwrap().1;
    for (name, file) in [("an anchor", &anchor_file()), ("a registered one", &registered)] {
        let name = |what: &str| format!("of another {what}: {name}");
        let (block, registration) = (other.clone(), other.clone());
        all.push(Vector { name: name("block"), text: text(file), block, registration: None });
        all.push(Vector { name: name("registration"), text: text(file), block: None, registration });
    }
    all.extend(hostile());
    all
}

#[test]
fn proof_files_and_their_verdicts_are_the_frozen_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/proofs.json");
    let made: Vec<Value> = vectors()
        .iter()
        .map(|v| json!({ "name": v.name, "block": v.block, "registration": v.registration, "verdict": v.verdict(), "file": v.text }))
        .collect();
    if std::env::var_os(WRITE).is_some() {
        let text: Vec<String> = made.iter().map(ToString::to_string).collect();
        fs::write(&path, format!("[\n{}\n]\n", text.join(",\n"))).unwrap();
    }
    let frozen: Vec<Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(frozen.len(), made.len());
    for (frozen, made) in frozen.iter().zip(&made) {
        assert_eq!(frozen, made);
    }
    let of = |verdict: &str| made.iter().filter(|v| v["verdict"] == verdict).count();
    assert!(of("verified") >= 20, "{}", of("verified"));
    for vector in &made {
        let name = vector["name"].as_str().unwrap();
        assert_eq!(
            name.starts_with("good"),
            ["verified", "pending"].contains(&vector["verdict"].as_str().unwrap()),
            "{name}"
        );
    }
}
