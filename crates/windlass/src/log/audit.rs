//! The check of somebody who has an export and a node, and neither journal nor config.

use std::collections::HashSet;

use alloy::primitives::{Address, B256};
use anyhow::{Context, ensure};
use windlass_chain::Nodes;
use windlass_proof::log::{Checkpoint, Frontier, TileKind, consistency, root, tiles_of, unbundle, verify_consistency};

use super::{Anchor, Directory, anchors};

/// The extension line that names chain, contract and transaction.
const ANCHORED: &str = "anchored eip155:";
/// The extension lines that name the gateway's accounts.
const SUBMITTER: &str = "submitter ";

/// What was looked at, and what is wrong.
#[derive(Debug)]
pub struct Audited {
    /// What the export says of itself.
    pub checkpoint: Checkpoint,
    /// The chain that it is anchored on.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Whose anchors were looked at.
    pub submitters: Vec<Address>,
    /// Anchors that the tiles reach.
    pub anchors: u64,
    /// Anchors of a longer log than the export: export again to check them.
    pub later: u64,
    /// Pairs of consecutive anchors between which a consistency proof was made and verified.
    pub pairs: u64,
    /// In words; empty when nothing is wrong.
    pub faults: Vec<String>,
}

/// The extension lines of an export's checkpoint.
pub(super) fn extensions(chain_id: u64, contract: Address, tx: Option<B256>, submitters: &[Address]) -> Vec<String> {
    let tx = tx.map(|tx| tx.to_string()).unwrap_or_default();
    let anchored = format!("{ANCHORED}{chain_id} {contract} {tx}");
    std::iter::once(anchored).chain(submitters.iter().map(|account| format!("{SUBMITTER}{account}"))).collect()
}

/// Chain id, contract and accounts out of a checkpoint.
fn named(checkpoint: &Checkpoint) -> Option<(u64, Address, Vec<Address>)> {
    let mut words = checkpoint.extensions.iter().find_map(|line| line.strip_prefix(ANCHORED))?.split(' ');
    let (chain_id, contract) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let lines = checkpoint.extensions.iter().filter_map(|line| line.strip_prefix(SUBMITTER));
    Some((chain_id, contract, lines.map(|account| account.parse().ok()).collect::<Option<_>>()?))
}

/// Hashes the export's entries, compares every anchor that it reaches with the tiles, and proves each the beginning of the
/// next. `contract` and `submitters` take the place of what the checkpoint names.
///
/// # Errors
/// When the directory holds no export, or the node does not answer or is on another chain.
pub async fn audit(
    directory: &Directory,
    nodes: &Nodes,
    contract: Option<Address>,
    submitters: &[Address],
) -> anyhow::Result<Audited> {
    let checkpoint = directory.checkpoint()?.context("there is no checkpoint: not an export")?;
    let (chain_id, its_contract, its_submitters) =
        named(&checkpoint).context("the checkpoint does not say where the log is anchored")?;
    let found = nodes.chain_id().await?;
    ensure!(found == chain_id, "the node is on chain {found}, the checkpoint says {chain_id}");
    let contract = contract.unwrap_or(its_contract);
    let submitters = if submitters.is_empty() { its_submitters } else { submitters.to_vec() };
    let all = anchors::events(nodes, contract, &submitters.iter().copied().collect::<HashSet<_>>()).await?;
    let mut audited = Audited {
        faults: anchors::orders(&all),
        chain_id,
        contract,
        submitters,
        anchors: 0,
        later: 0,
        pairs: 0,
        checkpoint,
    };
    let (size, stated) = (audited.checkpoint.size, audited.checkpoint.root);
    if hashed(directory, size)? != stated {
        audited.faults.push(format!("the {size} entries do not give the checkpoint's root {stated}"));
    }
    if !all.iter().any(|anchor| (anchor.size, anchor.root) == (size, stated)) {
        audited.faults.push(format!("no anchor of these submitters states {size} readings with root {stated}"));
    }
    let mut sorted: Vec<&Anchor> = all.iter().filter(|anchor| anchor.size <= size).collect();
    sorted.sort_by_key(|anchor| anchor.size);
    audited.later = (all.len() - sorted.len()) as u64;
    for (i, anchor) in sorted.iter().enumerate() {
        audited.anchors += 1;
        let before = i.checked_sub(1).and_then(|i| sorted.get(i));
        pair(directory, before.copied(), anchor, &mut audited);
    }
    Ok(audited)
}

/// One anchor against the tiles, and as the continuation of the one before.
fn pair(directory: &Directory, before: Option<&Anchor>, anchor: &Anchor, audited: &mut Audited) {
    match root(directory, anchor.size) {
        Some(computed) if computed == anchor.root => {}
        Some(computed) => audited.faults.push(format!(
            "{}: its log has {} readings and root {}, the tiles give {computed}",
            anchor.name(),
            anchor.size,
            anchor.root
        )),
        None => audited.faults.push(format!("{}: a tile for {} readings is missing", anchor.name(), anchor.size)),
    }
    let Some(before) = before.filter(|before| before.size < anchor.size) else { return };
    let proof = consistency(directory, before.size, anchor.size).unwrap_or_default();
    if verify_consistency(before.size, before.root, anchor.size, anchor.root, &proof) {
        audited.pairs += 1;
    } else {
        audited.faults.push(format!("{}: its log is no continuation of that of {}", anchor.name(), before.name()));
    }
}

/// The root over the entries themselves.
fn hashed(directory: &Directory, size: u64) -> anyhow::Result<B256> {
    let mut frontier = Frontier::default();
    for tile in tiles_of(TileKind::Entries, 0, size) {
        let bytes = directory.read(tile).with_context(|| format!("{tile} is missing"))?;
        let entries = unbundle(&bytes).with_context(|| format!("{tile} is cut in the middle of an entry"))?;
        ensure!(entries.len() as u64 >= tile.width, "{tile} has {} entries", entries.len());
        let wanted = usize::try_from(tile.width)?;
        entries.into_iter().take(wanted).for_each(|entry| frontier.append(entry));
    }
    Ok(frontier.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_checkpoint_names_is_read_back() {
        let (contract, accounts) = (Address::repeat_byte(1), vec![Address::repeat_byte(2), Address::repeat_byte(3)]);
        let lines = extensions(5, contract, Some(B256::repeat_byte(4)), &accounts);
        let mut checkpoint = Checkpoint { origin: "o".into(), size: 1, root: B256::ZERO, extensions: lines };
        assert_eq!(named(&checkpoint), Some((5, contract, accounts)));
        checkpoint.extensions.push("submitter nobody".into());
        assert_eq!(named(&checkpoint), None);
        checkpoint.extensions.clear();
        assert_eq!(named(&checkpoint), None);
    }
}
