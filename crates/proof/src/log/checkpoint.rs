//! What an exported log says of itself: origin, size, root, and the anchor that has them on chain.
//!
//! Source: <https://c2sp.org/tlog-checkpoint>, the body without a signed note around it (decision 0011).

use alloy::primitives::B256;
use base64::{Engine, engine::general_purpose::STANDARD};

/// The checkpoint of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is; unique to it.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// Their root.
    pub root: B256,
    /// Further lines, none of them empty.
    pub extensions: Vec<String>,
}

/// The text is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {0}")]
pub struct BadCheckpoint(&'static str);

impl Checkpoint {
    /// The text, each line ended.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads it again. What follows an empty line, where signatures would be, is left out.
    ///
    /// # Errors
    /// [`BadCheckpoint`] says which line is wrong.
    pub fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        let body = text.split("\n\n").next().unwrap_or_default();
        let mut lines = body.lines();
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(BadCheckpoint("it has no origin"))?;
        let size = lines.next().ok_or(BadCheckpoint("it has no size"))?;
        let canonical = |number: &u64| number.to_string() == size;
        let size = size.parse().ok().filter(canonical).ok_or(BadCheckpoint("its size is not a decimal number"))?;
        let root = lines.next().ok_or(BadCheckpoint("it has no root"))?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| B256::try_from(bytes.as_slice()).ok());
        let root = root.ok_or(BadCheckpoint("its root is not 32 bytes in base64"))?;
        Ok(Self { origin: origin.to_owned(), size, root, extensions: lines.map(str::to_owned).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = Checkpoint {
            origin: "windlass/1/0xaa".into(),
            size: 20_852_163,
            root: B256::repeat_byte(0xfb),
            extensions: vec!["anchored 0x01".into()],
        };
        let text = checkpoint.to_text();
        assert_eq!(text, format!("windlass/1/0xaa\n20852163\n{}\nanchored 0x01\n", "+/v7".repeat(10) + "+/s="));
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}\n\u{2014} name c2ln\n")), Ok(checkpoint));
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        for text in ["", "\n1\n", "o", "o\n1", "o\n01\nAA==", "o\n-1\n", "o\n1\nAA==", "o\n1\n!"] {
            assert!(Checkpoint::parse(text).is_err(), "{text:?}");
        }
    }
}
