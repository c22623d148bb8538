//! Where connections begin and end: a runtime of its own, with one thread.
//!
//! A storm of them keeps this thread busy, handshakes of TLS above all, and the system shares the processors fairly
//! between it and the threads of those that publish. In one runtime each reading would wait behind all handshakes that
//! are ready.

use std::{fmt, io};

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime. Dropping it ends what still runs there.
pub(crate) struct Porch {
    pub(crate) handle: Handle,
    runtime: Option<Runtime>,
}

impl Porch {
    pub(crate) fn build() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("mqtt-porch").enable_time().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Porch {
    fn drop(&mut self) {
        // A runtime must not be waited for in a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Porch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Porch").finish_non_exhaustive()
    }
}
