//! A group of readings goes into the journal and is on disk.

use std::{
    fs::File,
    io::Write as _,
    sync::mpsc,
    time::{SystemTime, UNIX_EPOCH},
};

use criterion::{BatchSize, Bencher};
use tempfile::TempDir;
use windlass_journal::{Append, DeviceRow, End, Entry, Journal, Options, Sqlite};
use windlass_reading::{Draft, Format, Reading, Settlement};

use crate::{
    pair::{Named, Pairs},
    reading,
};

const REFERENCE: &str = "plain file, fdatasync";

pub(crate) fn commits(pairs: &mut Pairs) {
    let sizes = [
        (1, "journal commit of 1 reading", "one device's reading, from `append` to the reply after the fsync"),
        (100, "journal commit of 100 readings", "one device's readings in one group, one fsync"),
        (1_000, "journal commit of 1,000 readings", "one device's readings in one group, one fsync"),
    ];
    for (size, name, conditions) in sizes {
        let named = Named { name, reference: REFERENCE, conditions };
        pairs.measure(named, |bencher| into_the_journal(bencher, size), |bencher| into_a_file(bencher, size));
    }
}

/// A disk, where the build's own directory is on one: a temporary directory may be memory.
fn on_disk() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn into_the_journal(bencher: &mut Bencher<'_>, size: u64) {
    let dir = on_disk();
    let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.upsert_devices(vec![device()])).unwrap();
    let (sender, stored) = mpsc::channel();
    let mut next = 1;
    let group = || {
        let first = next;
        next += size;
        let sender = sender.clone();
        Append {
            device: reading(first).device,
            epoch: 1,
            settlement: Settlement::Anchor,
            sequence: first,
            readings: (first..next).map(reading).map(entry).collect(),
            quarantine: None,
            reply: Box::new(move |outcome| sender.send(outcome.is_ok()).unwrap()),
        }
    };
    let commit = |group| {
        assert!(journal.append(group).is_ok());
        assert!(stored.recv().unwrap());
    };
    bencher.iter_batched(group, commit, BatchSize::PerIteration);
}

fn into_a_file(bencher: &mut Bencher<'_>, size: u64) {
    let dir = on_disk();
    let mut file = File::create(dir.path().join("readings")).unwrap();
    let mut next = 1;
    let group = || {
        let first = next;
        next += size;
        (first..next).map(reading).flat_map(|reading| bytes(&reading)).collect::<Vec<u8>>()
    };
    let append = |bytes: Vec<u8>| {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
    };
    bencher.iter_batched(group, append, BatchSize::PerIteration);
}

fn device() -> DeviceRow {
    DeviceRow {
        device: reading(1).device,
        format: Format::Digits,
        settlement: Settlement::Anchor,
        epoch: 1,
        key: None,
        custodial: None,
        registered: 0,
        barcode: None,
        end: End::None,
    }
}

fn entry(reading: Reading) -> Entry {
    let draft = Draft {
        observed_at_ms: reading.observed_at_ms,
        payload: reading.payload.into(),
        message_id: None,
        claim: None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let received_at_ms = u64::try_from(now.as_millis()).unwrap();
    Entry { draft, packet_id: None, exactly_once: false, received_at_ms }
}

/// What the journal keeps of it, without any structure.
fn bytes(reading: &Reading) -> Vec<u8> {
    let Reading { device, epoch, sequence, observed_at_ms, payload } = reading;
    let numbers = [u64::from(*epoch), *sequence, *observed_at_ms, *observed_at_ms];
    [device.as_str().as_bytes(), &numbers.map(u64::to_be_bytes).concat(), payload].concat()
}
