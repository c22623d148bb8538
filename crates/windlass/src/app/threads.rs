//! Names of threads: `top -H` and `make profile` show by them whose time it is.

use std::{fs, io};

use actix::Arbiter;
use tokio::runtime::Builder;

/// The runtime of connections and their sessions.
pub(crate) const SESSIONS: &str = "mqtt-sessions";
const CHAIN: &str = "chain";
/// What the chain side reads of the journal.
const CHAIN_READS: &str = "chain-reads";

/// A thread for the chain side.
pub(super) fn chain() -> io::Result<Arbiter> {
    Arbiter::try_with_tokio_rt(|| {
        // An arbiter's name is actix's own, of which Linux keeps the first 15 bytes, the same for all of them. Without a
        // name of its own the thread works as well.
        let _ = fs::write("/proc/thread-self/comm", CHAIN);
        Builder::new_current_thread().enable_all().thread_name(CHAIN_READS).build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn the_chain_sides_thread_has_its_name() {
        let arbiter = chain().unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        arbiter.spawn(async move {
            let own = fs::read_to_string("/proc/thread-self/comm").unwrap();
            let reading = tokio::task::spawn_blocking(|| fs::read_to_string("/proc/thread-self/comm").unwrap());
            let _ = sender.send((own, reading.await.unwrap()));
        });
        let (own, reading) = receiver.await.unwrap();
        assert_eq!((own.trim(), reading.trim()), (CHAIN, CHAIN_READS));
        arbiter.stop();
    }
}
