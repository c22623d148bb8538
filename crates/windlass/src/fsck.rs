//! Recomputes what the journal says of itself, and what the chain says of it.

use std::collections::HashMap;

use crate::{log, progress::Progress};
use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::Decodable2718,
    primitives::{Address, B256, U256},
    rpc::types::Filter as LogFilter,
    sol_types::{SolCall, SolEvent},
};
use windlass_chain::{Anchor, Nodes, ranges};
use windlass_contract::{Barcode, Windlass};
use windlass_journal::{BatchRow, Filter, Ledger, Listing, Sqlite, State, TransactionRow};
use windlass_proof::Tree;
use windlass_reading::{Domain, Leaves, Reading, Settlement};

/// Rows that are looked at in one go.
const PAGE: u64 = 1_000;

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Readings in the journal.
    pub readings: u64,
    /// Batches whose contents were recomputed.
    pub batches: u64,
    /// Transactions whose bytes were read.
    pub transactions: u64,
    /// Transactions that were looked up on chain.
    pub on_chain: u64,
    /// Readings of the append-only log that were hashed again.
    pub logged: u64,
    /// Readings of the log that are in archives which were not named.
    pub log_missing: u64,
    /// In words; empty when nothing is.
    pub faults: Vec<String>,
}

/// Checks the journal alone.
///
/// # Errors
/// When the journal cannot be read.
pub async fn journal(journal: &Sqlite, domain: Option<&Domain>) -> anyhow::Result<Report> {
    let mut report = Report { faults: journal.faults().await?, ..Report::default() };
    report.readings = journal.totals().await?.accepted;
    attempts(journal, &mut report).await?;
    let newest = Filter { newest: true, limit: Some(1), ..Filter::default() };
    let progress = Progress::of("batches", journal.batches(newest).await?.first().map_or(0, |b| b.id));
    let mut heads: HashMap<Address, (u64, B256)> = HashMap::new();
    let mut after = None;
    loop {
        let page = journal.batches(Filter { after, limit: Some(PAGE), ..Filter::default() }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for batch in &page {
            report.batches += 1;
            progress.step(1);
            // What has left is checked where it went.
            if batch.settlement == Settlement::Anchor && batch.count > 0 && batch.archive.is_none() {
                anchor(journal, domain, batch, &mut heads, &mut report).await?;
            }
        }
    }
    Ok(report)
}

/// The root over the batch's readings, and the head that follows the one before.
async fn anchor(
    journal: &Sqlite,
    domain: Option<&Domain>,
    batch: &BatchRow,
    heads: &mut HashMap<Address, (u64, B256)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(domain) = domain else { return Ok(()) };
    let readings = journal.batch_readings(batch.id).await?;
    let mut leaf = Leaves::new(domain);
    let leaves = readings.iter().map(|r| leaf.leaf(r)).collect();
    let root = Tree::new(leaves).ok().map(|tree| tree.root());
    if root != batch.root {
        report.faults.push(format!("batch {}: its readings do not give its root", batch.id));
    }
    let (Some(root), Some(head)) = (batch.root, batch.head) else {
        report.faults.push(format!("batch {}: an anchor without root or head", batch.id));
        return Ok(());
    };
    if batch.state == State::Accepted {
        return Ok(());
    }
    let stated = batch.log.as_ref().map_or((0, B256::ZERO), |log| (log.size, log.root));
    // The one before may be older than this contract or this journal; then there is nothing to compare with.
    if let Some((_, previous)) = heads.get(&batch.account).filter(|(number, _)| number + 1 == batch.number)
        && !follows(*previous, batch, root, stated, &readings, head)?
    {
        report.faults.push(format!("batch {}: its head does not follow that of anchor {}", batch.id, batch.number - 1));
    }
    heads.insert(batch.account, (batch.number, head));
    Ok(())
}

/// Whether `head` is the one after `previous`, with ranges or without: each batch was made in one of both ways.
fn follows(
    previous: B256,
    batch: &BatchRow,
    root: B256,
    log: (u64, B256),
    readings: &[Reading],
    head: B256,
) -> anyhow::Result<bool> {
    let count = u32::try_from(batch.count)?;
    let plain = Anchor { previous, number: batch.number, root, count, log, ranges: Vec::new() };
    Ok(plain.head() == head || Anchor { ranges: ranges(readings), ..plain }.head() == head)
}

/// Every signed attempt is what its row says.
async fn attempts(journal: &Sqlite, report: &mut Report) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = journal.attempts(Filter { after, limit: Some(PAGE), ..Filter::default() }).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        for row in page.iter().filter(|row| !row.raw.is_empty()) {
            report.transactions += 1;
            let decoded = TxEnvelope::decode_2718(&mut row.raw.as_slice());
            let good = decoded.is_ok_and(|tx| {
                *tx.tx_hash() == row.hash
                    && tx.nonce() == row.nonce
                    && tx.recover_signer().is_ok_and(|s| s == row.account)
            });
            if !good {
                report.faults.push(format!("attempt {}: its bytes are not its hash, nonce and account", row.hash));
            }
        }
    }
}

/// Computes the append-only log again out of the readings, and compares it with what each batch states.
///
/// # Errors
/// When the journal or an archive cannot be read.
pub async fn log(
    journal: &Sqlite,
    archives: &[Sqlite],
    contract: (u64, Address),
    report: &mut Report,
) -> anyhow::Result<()> {
    if journal.meta("archive".into()).await?.is_some() {
        // An archive has some of the readings; the journal that they left has the log.
        return Ok(());
    }
    let _progress = Progress::open("the append-only log");
    let log = log::Log::open(journal, archives, contract).await?;
    let anchors = log::of_journal(&log).await?;
    let checked = log::check(&log, &anchors, 0, None).await?;
    report.logged = checked.readings;
    report.log_missing = checked.missing;
    report.faults.extend(checked.faults.into_iter().map(|fault| format!("log: {fault}")));
    Ok(())
}

/// Compares with the chain.
///
/// # Errors
/// When the node does not answer or is on another chain.
pub async fn chain(
    journal: &Sqlite,
    nodes: &Nodes,
    (chain_id, contract): (u64, Address),
    report: &mut Report,
) -> anyhow::Result<()> {
    let found = nodes.chain_id().await?;
    anyhow::ensure!(found == chain_id, "the node is on chain {found}, the config says {chain_id}");
    let newest = Filter { newest: true, limit: Some(1), ..Filter::default() };
    let progress =
        Progress::of("transactions on chain", journal.transactions(newest).await?.first().map_or(0, |t| t.id));
    let mut last_anchor: HashMap<Address, BatchRow> = HashMap::new();
    let mut after = None;
    loop {
        let page = journal.transactions(Filter { after, limit: Some(PAGE), ..Filter::default() }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        progress.step(page.len() as u64);
        for transaction in page.iter().filter(|t| t.block.is_some()) {
            report.on_chain += 1;
            included(nodes, transaction, report).await?;
        }
    }
    let mut after = None;
    loop {
        let page = journal.batches(Filter { after, limit: Some(PAGE), ..Filter::default() }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        let anchors = page.into_iter().filter(|b| b.settlement == Settlement::Anchor && b.state != State::Accepted);
        last_anchor.extend(anchors.map(|b| (b.account, b)));
    }
    for (account, batch) in last_anchor {
        let data = Windlass::headOfCall { submitter: account }.abi_encode().into();
        let head = Windlass::headOfCall::abi_decode_returns(&nodes.call(contract, data).await?)?;
        if Some(head) != batch.head {
            report.faults.push(format!("submitter {account}: the chain's head is not that of anchor {}", batch.number));
        }
    }
    recorded(journal, nodes, contract, report).await?;
    direct(journal, nodes, report).await
}

/// The receipt says what the journal says.
async fn included(nodes: &Nodes, row: &TransactionRow, report: &mut Report) -> anyhow::Result<()> {
    let (Some(tx), Some((number, hash))) = (row.tx, row.block) else { return Ok(()) };
    let Some(receipt) = nodes.receipt(tx).await? else {
        report.faults.push(format!("transaction {tx}: {} in the journal, not on the chain", row.state));
        return Ok(());
    };
    if receipt.block_hash != Some(hash) {
        report.faults.push(format!("transaction {tx}: not in block {number} {hash}"));
    }
    // A cancelled one failed for the journal only.
    if row.success == Some(true) && !receipt.status() {
        report.faults.push(format!("transaction {tx}: reverted on the chain, a success in the journal"));
    }
    Ok(())
}

/// How many readings of each device the contract has recorded, against the journal's.
async fn recorded(journal: &Sqlite, nodes: &Nodes, contract: Address, report: &mut Report) -> anyhow::Result<()> {
    let devices: HashMap<B256, _> = journal.devices().await?.into_iter().map(|d| (d.device.hash(), d.device)).collect();
    let mut on_chain: HashMap<B256, u64> = HashMap::new();
    let filter =
        LogFilter::new().address(contract).event_signature(Windlass::Recorded::SIGNATURE_HASH).from_block(0u64);
    for log in nodes.logs(&filter).await? {
        let event = Windlass::Recorded::decode_log_data(&log.inner.data)?;
        *on_chain.entry(event.device).or_default() += u64::from(event.count);
    }
    let mut ours: HashMap<B256, (u64, u64)> = HashMap::new();
    let mut after = None;
    loop {
        let page = journal.readings(Filter { after, limit: Some(PAGE * 10), ..Filter::default() }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.arrival);
        for row in page.iter().filter(|r| r.settlement == Settlement::Batch) {
            let (settled, all) = ours.entry(row.reading.device.hash()).or_default();
            *all += 1;
            *settled += u64::from(row.state != State::Accepted);
        }
    }
    for (device, count) in &on_chain {
        let (settled, all) = ours.get(device).copied().unwrap_or_default();
        let name = devices.get(device).map_or_else(|| device.to_string(), ToString::to_string);
        if *count > all {
            report.faults.push(format!("device {name}: {count} readings recorded on chain, {all} in the journal"));
        } else if *count < settled {
            report.faults.push(format!("device {name}: {settled} settled in the journal, {count} recorded on chain"));
        }
    }
    for (device, (settled, _)) in ours.iter().filter(|(d, (settled, _))| *settled > 0 && !on_chain.contains_key(*d)) {
        let name = devices.get(device).map_or_else(|| device.to_string(), ToString::to_string);
        report.faults.push(format!("device {name}: {settled} settled in the journal, none recorded on chain"));
    }
    Ok(())
}

/// Each direct device's contract holds its last settled reading.
async fn direct(journal: &Sqlite, nodes: &Nodes, report: &mut Report) -> anyhow::Result<()> {
    for device in journal.devices().await?.into_iter().filter(|d| d.settlement == Settlement::Direct) {
        let Some(barcode) = device.barcode else { continue };
        let rows = journal.readings(Filter { device: Some(device.device.clone()), ..Filter::default() }).await?;
        if rows.iter().any(|r| r.state == State::Accepted) {
            // The chain may be ahead of what was read.
            continue;
        }
        let Some(last) = rows.last().filter(|r| r.settlement == Settlement::Direct) else { continue };
        let data = Barcode::getCall {}.abi_encode().into();
        let stored = Barcode::getCall::abi_decode_returns(&nodes.call(barcode, data).await?)?;
        let expected = std::str::from_utf8(&last.reading.payload).ok().and_then(|t| U256::from_str_radix(t, 10).ok());
        if Some(stored) != expected {
            report.faults.push(format!("device {}: its contract does not hold its last reading", device.device));
        }
    }
    Ok(())
}
