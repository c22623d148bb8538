//! System calls of a running program that fail or take long.

use std::process::{Child, Command, Stdio};

/// A fault in a program's system calls, for as long as this lives.
#[derive(Debug)]
pub struct Strace(Child);

impl Strace {
    /// Each of `calls` (names with commas between) fails with `error`, in every thread of the process.
    pub fn failing(pid: u32, calls: &str, error: &str) -> Self {
        Self::inject(pid, calls, &format!("error={error}"))
    }

    /// Each of `calls` begins so much later.
    pub fn slow(pid: u32, calls: &str, by: std::time::Duration) -> Self {
        Self::inject(pid, calls, &format!("delay_enter={}", by.as_micros()))
    }

    fn inject(pid: u32, calls: &str, fault: &str) -> Self {
        let rule = format!("inject={calls}:{fault}");
        let child = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={calls}"),
                "-e",
                &rule,
                "-p",
                &pid.to_string(),
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is missing: run make tools");
        Self(child)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGINT lets strace detach and leave the process alone.
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
