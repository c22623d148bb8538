//! Troubles that are made on purpose: by the scanners themselves, and by hostile clients beside them.

use std::{fmt, str::FromStr};

/// A trouble that scanners make on purpose. All their readings still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every tenth reading is letters.
    Malformed,
    /// After every tenth reading the link is dropped before its acknowledgement is read, so that the same
    /// publish goes out again (with the DUP flag and its packet id when the broker kept the session).
    Duplicate,
    /// Each scanner drops its link once, half way, and connects again.
    Drop,
    /// Before every tenth reading the link is dropped in the middle of its publish; it goes out whole on the next.
    Cut,
}

impl Fault {
    /// Every fault, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::Duplicate, Self::Drop, Self::Cut];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate",
            Self::Drop => "drop",
            Self::Cut => "cut",
        }
    }
}

/// A client that means no good. What it publishes is in no ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hostile {
    /// Publishes and never reads an answer.
    NeverRead,
    /// Sends its CONNECT a byte each second.
    Slowloris,
    /// Connects as a known device with a wrong secret, again and again.
    WrongSecret,
    /// Publishes as fast as it is let.
    Flood,
}

impl Hostile {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::NeverRead, Self::Slowloris, Self::WrongSecret, Self::Flood];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverRead => "never-read",
            Self::Slowloris => "slowloris",
            Self::WrongSecret => "wrong-secret",
            Self::Flood => "flood",
        }
    }

    /// Whether it comes as a device that the broker knows, which then is no scanner's: two would throw each other out, and
    /// a broker that bans the one would ban the other.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Slowloris)
    }
}

/// The text names none of those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What was to be named.
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// The names.
    pub known: Vec<&'static str>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} {:?}; known: {}", self.kind, self.text, self.known.join(", "))
    }
}

impl std::error::Error for Unknown {}

/// Finds one of `all` by its name.
pub(crate) fn by_name<T: Copy>(
    kind: &'static str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, Unknown> {
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| Unknown {
        kind,
        text: text.to_owned(),
        known: all.iter().copied().map(name).collect(),
    })
}

impl FromStr for Fault {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("fault", text, &Self::ALL, Self::as_str)
    }
}

impl FromStr for Hostile {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("hostile client", text, &Self::ALL, Self::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        assert_eq!(("drop".parse(), "slowloris".parse()), (Ok(Fault::Drop), Ok(Hostile::Slowloris)));
        let told = "explode".parse::<Fault>().unwrap_err().to_string();
        assert!(told.contains("explode") && told.contains("malformed, duplicate, drop, cut"), "{told}");
        let told = "explode".parse::<Hostile>().unwrap_err().to_string();
        assert!(told.contains("never-read, slowloris, wrong-secret, flood"), "{told}");
    }
}
