//! Debian's mosquitto, a broker that is not ours.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A mosquitto of our own; ends with the test.
pub(crate) struct Mosquitto {
    child: Child,
    config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) address: String,
}

impl Mosquitto {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    /// With these lines more in its configuration.
    pub(crate) fn start_with(name: &str, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = env::temp_dir().join(format!("windlass-{name}-{port}.conf"));
        // No `max_queued_messages 0` here: with it, 2.0.11 breaks the connection that it refuses a publish of.
        let log = config.with_extension("log");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n\
             user {}\nlog_type all\nlog_dest file {}\n{more}\n",
            env::var("USER").unwrap_or_else(|_| "root".into()),
            log.display()
        );
        fs::write(&config, text).unwrap();
        let mut broker = Self { child: spawn(&config), config, log, address: format!("127.0.0.1:{port}") };
        broker.await_listening();
        broker
    }

    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.config);
        self.await_listening();
    }

    /// STOP or CONT.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn await_listening(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&self.address).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {process}");
}

fn spawn(config: &PathBuf) -> Child {
    let path = env::var_os("PATH").unwrap_or_default();
    let program = env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join("mosquitto"))
        .find(|path| path.is_file())
        .expect("mosquitto is missing: run make tools");
    let mut command = Command::new(program);
    command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.config));
        drop(fs::remove_file(&self.log));
    }
}
