//! Whether each anchored log is the beginning of the next one.

use std::collections::HashMap;

use windlass_proof::log::{Frontier, Levels, consistency, verify_consistency};

use super::{Anchor, Directory, Leaves, Log, Stated};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    /// Pairs of consecutive anchors between which a consistency proof was made and verified.
    pub pairs: u64,
    /// Readings that were hashed again.
    pub readings: u64,
    /// Readings that are not at hand: they are in archives that were not named.
    pub missing: u64,
    /// The archives that have them, as far as the journal knows.
    pub archives: Vec<String>,
    /// The greatest size that was looked at.
    pub size: u64,
    /// In words; empty when nothing is wrong. Each one is found by itself: a wrong batch does not make the next one wrong.
    pub faults: Vec<String>,
}

/// What the walk stands on: the log as the last anchor left it.
struct Position {
    arrival: u64,
    frontier: Frontier,
}

/// Walks the anchors in the order of their sizes. Between two of them the readings are hashed again, and a consistency
/// proof is made and verified as an outsider would; from `tiles`, where there are some, it is made without the readings.
/// With `from` the walk starts at the first anchor of at least so many readings, on the frontier that the journal keeps.
///
/// # Errors
/// When the journal, an archive or the tiles cannot be read.
pub async fn check(log: &Log<'_>, anchors: &[Anchor], from: u64, tiles: Option<&Directory>) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let batches = log.stated().await?;
    let Some(base) = batches.first().map(|first| first.base) else {
        if let Some(first) = anchors.first() {
            checked.faults.push(format!("{}: the journal has no log", first.name()));
        }
        return Ok(checked);
    };
    checked.archives = batches.iter().filter_map(|b| b.archive.clone()).collect();
    checked.archives.dedup();
    let states: HashMap<u64, &Stated> = batches.iter().map(|stated| (stated.anchor.size, stated)).collect();
    let mut sorted: Vec<&Anchor> = anchors.iter().filter(|anchor| anchor.size >= from).collect();
    sorted.sort_by_key(|anchor| anchor.size);
    let mut at = Position { arrival: base, frontier: Frontier::default() };
    if let Some(state) = sorted.first().filter(|_| from > 0).and_then(|anchor| states.get(&anchor.size)) {
        at = Position { arrival: state.arrival, frontier: log.frontier(state.batch).await? };
    }
    let mut last: Option<&Anchor> = None;
    for anchor in sorted {
        checked.size = checked.size.max(anchor.size);
        if let Some(last) = last.filter(|last| last.size == anchor.size) {
            if last.root != anchor.root {
                checked.faults.push(format!(
                    "{}: another root than {} for the same {} readings",
                    anchor.name(),
                    last.name(),
                    anchor.size
                ));
            }
            continue;
        }
        let Some(state) = states.get(&anchor.size).copied() else {
            checked.faults.push(format!("{}: the journal never had a log of {} readings", anchor.name(), anchor.size));
            continue;
        };
        let levels = step(log, &mut at, state, &mut checked).await?;
        compare(last, anchor, &at, levels.as_ref(), tiles, &mut checked)?;
        // The next pair stands on what is stored, so that a fault is found where it is and not again after it.
        at.arrival = state.arrival;
        match log.frontier(state.batch).await {
            Ok(frontier) => at.frontier = frontier,
            Err(error) => checked.faults.push(format!("{}: {error}", anchor.name())),
        }
        last = Some(anchor);
    }
    Ok(checked)
}

/// Hashes the readings up to the next state. `None`: some of them are not at hand, and the stored frontier takes their place.
async fn step(
    log: &Log<'_>,
    at: &mut Position,
    state: &Stated,
    checked: &mut Checked,
) -> anyhow::Result<Option<Levels>> {
    let mut levels = Levels::after(&at.frontier);
    let mut frontier = at.frontier.clone();
    let mut leaves = Leaves::new(log, at.arrival, state.arrival);
    while let Some((_, leaf)) = leaves.next().await? {
        frontier.append(leaf.as_slice());
        levels.append(leaf.as_slice());
    }
    let expected = state.anchor.size.saturating_sub(at.frontier.size());
    let found = frontier.size() - at.frontier.size();
    if found < expected && at.arrival < log.gone {
        checked.missing += expected - found;
        at.frontier = log.frontier(state.batch).await.unwrap_or_default();
        return Ok(None);
    }
    checked.readings += found;
    at.frontier = frontier;
    Ok(Some(levels))
}

/// Compares what was computed with what the anchor says, and proves that it goes on from the last one.
fn compare(
    last: Option<&Anchor>,
    anchor: &Anchor,
    at: &Position,
    levels: Option<&Levels>,
    tiles: Option<&Directory>,
    checked: &mut Checked,
) -> anyhow::Result<()> {
    if at.frontier.size() != anchor.size || at.frontier.root() != anchor.root {
        let what = if levels.is_some() { "the readings" } else { "the journal's frontier" };
        checked.faults.push(format!(
            "{}: its log has {} readings and root {}, {what} give {} and {}",
            anchor.name(),
            anchor.size,
            anchor.root,
            at.frontier.size(),
            at.frontier.root()
        ));
        return Ok(());
    }
    let Some(last) = last else { return Ok(()) };
    let proof = match (tiles, levels) {
        (Some(tiles), _) => consistency(tiles, last.size, anchor.size),
        (None, Some(levels)) => consistency(levels, last.size, anchor.size),
        // Nothing to make a proof of: counted as missing.
        (None, None) => return Ok(()),
    };
    match proof {
        Some(proof) if verify_consistency(last.size, last.root, anchor.size, anchor.root, &proof) => checked.pairs += 1,
        Some(_) => {
            checked.faults.push(format!("{}: its log is no continuation of that of {}", anchor.name(), last.name()))
        }
        None if tiles.is_some() => checked.faults.push(format!(
            "{}: the tiles do not reach from {} to {} readings: export again",
            anchor.name(),
            last.size,
            anchor.size
        )),
        None => checked.faults.push(format!("{}: no proof from {} readings", anchor.name(), last.size)),
    }
    Ok(())
}
