//! Writes the log as files that anyone can serve and check.

use alloy::primitives::B256;
use anyhow::{Context, bail, ensure};
use windlass_journal::State;
use windlass_proof::log::{
    Checkpoint, Frontier, Levels, Subtrees, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, bundle, root, tiles_of,
};

use super::{Directory, Leaves, Log, Stated, audit};

/// Leaves that are held in memory before their tiles are written: 64 MiB of subtrees.
const CHUNK: u64 = 1 << 20;
/// Levels of tiles that a log can have: 8 of height 8 span 64 bits.
const TILE_LEVELS: u8 = 8;
/// Bytes of an entry in its bundle: two of length, then the leaf.
const ENTRY_BYTES: usize = 2 + 32;

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Readings that were there before.
    pub before: u64,
    /// Readings that are there now.
    pub size: u64,
    /// Their root, which is in the anchor event.
    pub root: B256,
    /// Files that were written.
    pub files: u64,
}

/// Exports the log of the newest anchor that is final, or adds what is new since the last export.
///
/// # Errors
/// When the journal's readings do not give the anchored root, when readings are missing, when the directory holds
/// another log or cannot be written. The checkpoint is written last, so what it names is always there.
pub async fn export(log: &Log<'_>, directory: &Directory) -> anyhow::Result<Exported> {
    let batches = log.stated().await?;
    let newest = batches.iter().rev().find(|stated| stated.state == State::Final);
    let newest = newest.context("no anchor with a log is final yet")?;
    let target = &newest.anchor;
    let origin = origin(log, &batches)?;
    let (before, arrival) = match directory.checkpoint()? {
        None => (0, newest.base),
        Some(old) => {
            ensure!(old.origin == origin, "the directory holds another log: {}", old.origin);
            let state = batches.iter().find(|s| s.anchor.size == old.size && s.anchor.root == old.root);
            let state = state.context("the directory's checkpoint is of a log that this journal never had")?;
            ensure!(
                root(directory, old.size) == Some(old.root),
                "the directory's tiles do not give its checkpoint's root"
            );
            (old.size, state.arrival)
        }
    };
    let mut exported = Exported { before, size: target.size, root: target.root, files: 0 };
    if before >= target.size {
        exported.size = before;
        return Ok(exported);
    }
    let mut frontier = edge(directory, before)?;
    // Nothing is written before the readings are known to be those that were anchored.
    let mut ahead = frontier.clone();
    let mut leaves = Leaves::new(log, arrival, newest.arrival);
    while let Some((_, leaf)) = leaves.next().await? {
        ahead.append(leaf.as_slice());
    }
    ensure!(
        ahead.size() >= target.size || arrival >= log.gone,
        "{} readings have left the journal: name the archives that have them with --archive",
        target.size - ahead.size()
    );
    ensure!(
        (ahead.size(), ahead.root()) == (target.size, target.root),
        "the readings do not give the root that was anchored: see `windlass log verify`"
    );
    let mut leaves = Leaves::new(log, arrival, newest.arrival);
    while frontier.size() < target.size {
        frontier = chunk(&frontier, &mut leaves, directory, target.size, &mut exported.files).await?;
    }
    ensure!(root(directory, target.size) == Some(target.root), "the tiles were written and do not give the root");
    let mut submitters: Vec<_> = batches.iter().map(|stated| stated.anchor.account).collect();
    submitters.sort_unstable();
    submitters.dedup();
    let extensions = audit::extensions(log.chain_id, log.contract, target.tx, &submitters);
    let checkpoint = Checkpoint { origin, size: target.size, root: target.root, extensions };
    directory.write("checkpoint", checkpoint.to_text().as_bytes())?;
    exported.files += 1;
    Ok(exported)
}

/// Which log this is: its chain, its contract, and the account that anchored it first.
fn origin(log: &Log<'_>, batches: &[Stated]) -> anyhow::Result<String> {
    let first = batches.first().context("the journal has no log")?;
    Ok(format!("windlass/{}/{}/{}", log.chain_id, log.contract, first.anchor.account).to_lowercase())
}

/// The right edge of the log of `size` leaves in the directory.
fn edge(directory: &Directory, size: u64) -> anyhow::Result<Frontier> {
    let levels = (0..64u8).rev().filter(|level| size >> level & 1 == 1);
    // The subtree of a one-bit begins where those of the greater bits end.
    let roots = levels.map(|level| directory.subtree(level, (size >> level) - 1));
    let roots: Vec<B256> = roots.collect::<Option<_>>().context("a tile of the last export is missing")?;
    Ok(Frontier::from_bytes(size, &roots.iter().flatten().copied().collect::<Vec<u8>>())?)
}

/// Writes the tiles of the next leaves.
async fn chunk(
    frontier: &Frontier,
    leaves: &mut Leaves<'_>,
    directory: &Directory,
    size: u64,
    files: &mut u64,
) -> anyhow::Result<Frontier> {
    let before = frontier.size();
    let end = size.min((before / CHUNK + 1) * CHUNK);
    let (mut levels, mut grown) = (Levels::after(frontier), frontier.clone());
    let mut entries = Vec::new();
    while grown.size() < end {
        let Some((_, leaf)) = leaves.next().await? else {
            bail!("the journal changed meanwhile: export again");
        };
        grown.append(leaf.as_slice());
        levels.append(leaf.as_slice());
        entries.extend(bundle(leaf.as_slice()).unwrap_or_default());
    }
    for tile in tiles_of(TileKind::Entries, before, end) {
        let bytes = joined(directory, tile, before, ENTRY_BYTES, |index| {
            let start = usize::try_from(index - before).ok()?.checked_mul(ENTRY_BYTES)?;
            entries.get(start..start + ENTRY_BYTES).map(<[u8]>::to_vec)
        })?;
        directory.write(&tile.to_string(), &bytes)?;
        *files += 1;
    }
    for level in 0..TILE_LEVELS {
        let had = before.checked_shr(u32::from(level * TILE_HEIGHT)).unwrap_or(0);
        for tile in tiles_of(TileKind::Hashes(level), before, end) {
            let bytes = joined(directory, tile, had, 32, |index| {
                levels.subtree(level * TILE_HEIGHT, index).map(|hash| hash.to_vec())
            })?;
            directory.write(&tile.to_string(), &bytes)?;
            *files += 1;
        }
    }
    Ok(grown)
}

/// The bytes of a tile: what an earlier, narrower one of its place has, then what is new.
fn joined(
    directory: &Directory,
    tile: Tile,
    had: u64,
    item_bytes: usize,
    new: impl Fn(u64) -> Option<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let first = tile.index * TILE_WIDTH;
    let old = had.saturating_sub(first);
    let mut bytes = Vec::new();
    if old > 0 {
        let earlier = Tile { width: old, ..tile };
        let read = directory.read(earlier).with_context(|| format!("{earlier} of the last export is missing"))?;
        let wanted = usize::try_from(old)? * item_bytes;
        bytes.extend(read.get(..wanted).with_context(|| format!("{earlier} of the last export is too short"))?);
    }
    for index in first + old..first + tile.width {
        bytes.extend(new(index).with_context(|| format!("{tile}: item {index} is missing"))?);
    }
    Ok(bytes)
}
