//! Programs that a story starts: found, started, and ended with it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A running program; dropped, it is killed.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts `command` with its log in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, then its exit status.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not stop on SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        cpu(self.id())
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.id())
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Jiffies of `/proc/PID/stat` in a second, on every Linux of today.
const TICKS: f64 = 100.0;

/// Processor time that a process has used.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the program's name in parentheses: state is the third field, user and system time the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|f| f.parse::<f64>().unwrap()).sum();
    Duration::from_secs_f64(ticks / TICKS)
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The binary under test, of the same build profile as this test; built once if it is missing or older.
pub fn windlass() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("windlass")).clone()
}

/// The load generator, in the same way.
pub fn scanner() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("windlass-scanner")).clone()
}

fn built(package: &str) -> PathBuf {
    let profile_dir = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let release = profile_dir.ends_with("release");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Always both: alone, one of them may need its dependencies built anew with fewer features.
    cargo.args(["build", "--locked", "--quiet", "-p", "windlass", "-p", "windlass-scanner"]).current_dir(root());
    if release {
        cargo.arg("--release");
    }
    // This program's own, which cargo set when it started it: dependencies that read them would be built anew each time.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.status().unwrap().success(), "{package} does not build");
    profile_dir.join(package)
}

/// The tests' own npm packages.
pub fn node_modules() -> PathBuf {
    let path = root().join("tests/clients/node_modules").canonicalize();
    path.expect("the tests' npm packages are missing: run make tools")
}

/// The pinned node.
pub fn anvil() -> PathBuf {
    let path = root().join("contracts/bin/anvil");
    assert!(root().join("contracts/node_modules").is_dir(), "anvil is missing: run make tools");
    path
}
