//! A real block: anvil 1.7.1 with the contracts of `contracts/artifacts`, its header, receipts and transactions encoded
//! by ethers. It holds two transfers, `record` (a wrongly signed copy of the run, then the run), `anchor` and `set`.

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes},
    rlp::Decodable,
};
use serde::Deserialize;
use windlass_reading::{DeviceId, Domain, Reading, leaf};

use crate::{Evidence, ProofFile, Tree, verify};

#[derive(Deserialize)]
struct Fixture {
    chain_id: u64,
    windlass: Address,
    barcode: Address,
    /// The device's key, and the account that owns the `Barcode`.
    signer: Address,
    account: Address,
    record: u64,
    anchor: u64,
    set: u64,
    hash: B256,
    header: Bytes,
    receipts: Vec<Bytes>,
    transactions: Vec<Bytes>,
}

fn fixture() -> (Fixture, Evidence) {
    let fixture: Fixture = serde_json::from_str(include_str!("../../testdata/anvil.json")).unwrap();
    let header = Header::decode(&mut fixture.header.as_ref()).unwrap();
    let evidence = Evidence::new(fixture.hash, header, fixture.receipts.clone()).unwrap();
    let evidence = evidence.with_transactions(fixture.transactions.clone()).unwrap();
    (fixture, evidence)
}

fn reading(sequence: u64, observed_at_ms: u64, payload: &str) -> Reading {
    let device = DeviceId::new("dock-7").unwrap();
    Reading { device, epoch: 1, sequence, observed_at_ms, payload: payload.into() }
}

fn proved(file: &ProofFile, hash: B256) -> crate::Verified {
    verify(file.to_json().unwrap().as_bytes(), Some(hash)).unwrap()
}

#[test]
fn readings_anchored_on_anvil_are_proved() {
    let (fixture, evidence) = fixture();
    let readings: Vec<_> = (1..=3).map(|i| reading(i, 1_700_000_000_000 + i, &format!("400638133393{i}"))).collect();
    let domain = Domain::new(fixture.chain_id, fixture.windlass);
    let tree = Tree::new(readings.iter().map(|reading| leaf(reading, domain.reading(reading))).collect()).unwrap();
    for reading in readings {
        let file = evidence.anchor(fixture.anchor, fixture.chain_id, fixture.windlass, &tree, &reading).unwrap();
        let verified = proved(&file, fixture.hash);
        assert_eq!((verified.reading, verified.chain_id), (Some(reading), Some(fixture.chain_id)));
    }
}

#[test]
fn a_run_recorded_on_anvil_is_proved_with_its_signer() {
    let (fixture, evidence) = fixture();
    for reading in [reading(1, 300, "007"), reading(2, 299, "ab")] {
        let file = evidence.batch(fixture.record, fixture.windlass, &reading, Some(fixture.signer.into())).unwrap();
        let verified = proved(&file, fixture.hash);
        assert_eq!((verified.reading, verified.signer), (Some(reading), Some(fixture.signer.into())));
    }
}

#[test]
fn a_number_stored_on_anvil_is_proved() {
    let (fixture, evidence) = fixture();
    let file = evidence.direct(fixture.set, &reading(1, 0, "0406381333931")).unwrap();
    let verified = proved(&file, fixture.hash);
    assert_eq!((verified.contract, verified.signer), (fixture.barcode, Some(fixture.account.into())));
}
