//! How many files this process may have open: each connection is one.

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside the clients: standard streams, runtime, ledger, audit, and links that are just closing.
const SPARE: u64 = 128;

/// Raises the limit of this process so that so many clients can connect.
///
/// # Errors
/// More than this process may allow itself.
pub(crate) fn allow(clients: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if let Some(raised) = raised(&limit, clients as u64)? {
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(())
}

/// The limit that these clients need; `None` when it is as it should be.
fn raised(limit: &Rlimit, clients: u64) -> Result<Option<Rlimit>> {
    let needed = clients + SPARE;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(None);
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        most >= needed,
        "{clients} clients need {needed} open files, and this process may have {most}: raise its hard limit (ulimit -Hn, \
         LimitNOFILE= of a unit), or share the devices out among several processes"
    );
    Ok(Some(Rlimit { current: Some(needed), maximum: limit.maximum }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_needed_and_never_lowered() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let soft = |limit: &Rlimit, clients| raised(limit, clients).unwrap().map(|raised| raised.current);
        assert_eq!(soft(&limit(Some(1_024), Some(20_000)), 896), None);
        assert_eq!(soft(&limit(Some(1_024), Some(20_000)), 897), Some(Some(1_025)));
        assert_eq!(soft(&limit(Some(1_024), None), 50_000), Some(Some(50_128)));
        assert_eq!(soft(&limit(None, None), 50_000), None);
        let told = raised(&limit(Some(1_024), Some(4_096)), 15_000).unwrap_err().to_string();
        assert!(told.contains("15000") && told.contains("15128") && told.contains("4096"), "{told}");
    }
}
