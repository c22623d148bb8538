//! An exported log on disk: its tiles are read again, and new ones written whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy::primitives::B256;
use anyhow::Context;
use windlass_proof::log::{Checkpoint, Subtrees, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, node_hash};

/// A directory with tiles.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory, which may be empty or missing.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What the last export said; `None` before the first.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, or is none.
    pub fn checkpoint(&self) -> anyhow::Result<Option<Checkpoint>> {
        let file = self.path.join("checkpoint");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Some(Checkpoint::parse(&text).with_context(|| file.display().to_string())?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    /// Writes a file durably under its name, with the directories above it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        use io::Write;
        let file = self.path.join(name);
        let parent = file.parent().context("a file without a directory")?;
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        let mut part = tempfile::NamedTempFile::new_in(parent)?;
        part.write_all(bytes)?;
        part.as_file().sync_all()?;
        // For whoever serves the directory: a temporary file is private.
        #[cfg(unix)]
        fs::set_permissions(part.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        part.persist(&file).with_context(|| file.display().to_string())?;
        Ok(())
    }

    /// The bytes of this tile, or of a wider one in its place; `None` when there is neither.
    pub(super) fn read(&self, tile: Tile) -> Option<Vec<u8>> {
        let name = |width| self.path.join(Tile { width, ..tile }.to_string());
        // The narrowest first: a partial tile is kept when the full one is there.
        (tile.width..=TILE_WIDTH).find_map(|width| fs::read(name(width)).ok())
    }
}

impl Subtrees for Directory {
    fn subtree(&self, level: u8, index: u64) -> Option<B256> {
        let above = level % TILE_HEIGHT;
        let (first, count) = (index.checked_shl(above.into())?, 1u64 << above);
        let kind = TileKind::Hashes(level / TILE_HEIGHT);
        let start = first % TILE_WIDTH;
        let bytes = self.read(Tile { kind, index: first / TILE_WIDTH, width: start + count })?;
        let (hashes, _) = bytes.as_chunks::<32>();
        let range = usize::try_from(start).ok()?..usize::try_from(start + count).ok()?;
        let mut row: Vec<B256> = hashes.get(range)?.iter().map(|hash| B256::new(*hash)).collect();
        while row.len() > 1 {
            row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(*left, *right)).collect();
        }
        row.first().copied()
    }
}
