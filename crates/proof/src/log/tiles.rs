//! The names and shapes of an exported log's files.
//!
//! A tile holds up to 256 hashes of one level: tile level l has the roots of the subtrees of 256^l leaves. An entry bundle
//! holds the data of the same 256 leaves as a tile of level 0. Only the last one of a level may be partial, and a partial
//! one has its width in its name, so that no file ever changes. Source: <https://c2sp.org/tlog-tiles>.

use std::fmt;

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// The leaves' data, each with its length before it.
    Entries,
    /// The hashes of this tile level.
    Hashes(u8),
}

/// One file of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Which one of its level, from 0.
    pub index: u64,
    /// How many hashes or entries it has: 1 to 256.
    pub width: u64,
}

/// The path below the export's directory.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}")?,
        }
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "/x{group:03}")?;
        }
        write!(f, "/{:03}", self.index % 1_000)?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The files that a log of `size` leaves has and one of `before` leaves had not, lowest level first.
pub fn tiles_of(kind: TileKind, before: u64, size: u64) -> Vec<Tile> {
    let shift = match kind {
        TileKind::Entries => 0,
        TileKind::Hashes(level) => u32::from(level) * u32::from(TILE_HEIGHT),
    };
    let (had, has) = (before.checked_shr(shift).unwrap_or(0), size.checked_shr(shift).unwrap_or(0));
    if had >= has {
        return Vec::new();
    }
    (had / TILE_WIDTH..has.div_ceil(TILE_WIDTH))
        .map(|index| Tile { kind, index, width: (has - index * TILE_WIDTH).min(TILE_WIDTH) })
        .collect()
}

/// An entry as a bundle holds it: two bytes of length, then the data. `None` when it is too long for that.
pub fn bundle(entry: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(entry.len()).ok()?;
    Some([&length.to_be_bytes(), entry].concat())
}

/// The entries of a bundle; `None` when it ends in the middle of one.
pub fn unbundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: TileKind, before: u64, size: u64) -> Vec<String> {
        tiles_of(kind, before, size).iter().map(ToString::to_string).collect()
    }

    /// Source: the examples of <https://c2sp.org/tlog-tiles>: index 1234067, and a log of 70,000 entries.
    #[test]
    fn files_have_the_names_of_the_specification() {
        let deep = Tile { kind: TileKind::Hashes(0), index: 1_234_067, width: 256 };
        assert_eq!(deep.to_string(), "tile/0/x001/x234/067");
        let level_0 = names(TileKind::Hashes(0), 0, 70_000);
        assert_eq!(
            (level_0.len(), level_0[272].as_str(), level_0[273].as_str()),
            (274, "tile/0/272", "tile/0/273.p/112")
        );
        assert_eq!(names(TileKind::Hashes(1), 0, 70_000), ["tile/1/000", "tile/1/001.p/17"]);
        assert_eq!(names(TileKind::Hashes(2), 0, 70_000), ["tile/2/000.p/1"]);
        assert_eq!(names(TileKind::Hashes(3), 0, 70_000), Vec::<String>::new());
        assert_eq!(names(TileKind::Entries, 0, 3), ["tile/entries/000.p/3"]);
    }

    #[test]
    fn an_export_that_goes_on_adds_what_is_new_only() {
        assert_eq!(names(TileKind::Hashes(0), 256, 256), Vec::<String>::new());
        assert_eq!(names(TileKind::Hashes(0), 255, 257), ["tile/0/000", "tile/0/001.p/1"]);
        assert_eq!(names(TileKind::Hashes(0), 256, 300), ["tile/0/001.p/44"]);
        assert_eq!(names(TileKind::Hashes(1), 256, 300), Vec::<String>::new());
        assert_eq!(names(TileKind::Hashes(1), 255, 256), ["tile/1/000.p/1"]);
        assert_eq!(names(TileKind::Hashes(9), 0, u64::MAX), Vec::<String>::new());
    }

    #[test]
    fn an_entry_has_its_length_before_it() {
        assert_eq!(bundle(&[7; 3]), Some(vec![0, 3, 7, 7, 7]));
        assert_eq!(bundle(&[0; 65_536]), None);
        let two = [bundle(&[7; 3]).unwrap(), bundle(&[]).unwrap()].concat();
        assert_eq!(unbundle(&two), Some(vec![&[7u8; 3][..], &[]]));
        assert_eq!((unbundle(&two[..4]), unbundle(&two[..6])), (None, None));
    }
}
