//! The brokers that are measured: Windlass, and two that keep messages in memory only.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use windlass_tests::{Program, Site, cpu, get, resident_kib, until};

use crate::load::Outcome;

/// A running broker.
pub struct Peer {
    pub name: &'static str,
    pub address: SocketAddr,
    pid: u32,
    /// Kept so that it goes on running.
    _keeper: Keeper,
}

enum Keeper {
    Gateway(Box<Site>),
    Other { _program: Program, _dir: TempDir },
}

/// The ids of the devices that every peer knows.
pub fn device(number: usize) -> String {
    format!("d-{number}")
}

impl Peer {
    /// Windlass with so many devices; `limits` are lines of `[broker.limits]`, `listeners` more of those.
    pub fn windlass(devices: usize, limits: &str, listeners: &str) -> Self {
        Self::windlass_with(devices, limits, listeners, |_| {})
    }

    /// The same, with files of its own.
    pub fn windlass_with(devices: usize, limits: &str, listeners: &str, prepare: impl FnOnce(&Site)) -> Self {
        let ids: Vec<String> = (0..devices).map(device).collect();
        let rows: Vec<_> = ids.iter().map(|id| (id.as_str(), "anchor", "digits")).collect();
        let mut site = Site::new(&rows);
        site.edit_config("[chain]", &format!("{listeners}\n[broker.limits]\n{limits}\n[chain]"));
        prepare(&site);
        site.start();
        let address = SocketAddr::from(([127, 0, 0, 1], site.mqtt));
        let pid = site.gateway.as_ref().unwrap().id();
        Self { name: "windlass", address, pid, _keeper: Keeper::Gateway(Box::new(site)) }
    }

    /// Debian's mosquitto without persistence.
    pub fn mosquitto() -> Self {
        let port = free_port();
        let mut text = String::new();
        writeln!(text, "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false").unwrap();
        writeln!(text, "max_connections -1\nmax_queued_messages 0\nlog_dest none").unwrap();
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("mosquitto.conf");
        fs::write(&file, text).unwrap();
        let program =
            ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|p| Command::new(p).arg("-h").output().is_ok());
        let mut command = Command::new(program.expect("mosquitto is missing: run make tools"));
        command.arg("-c").arg(&file);
        Self::other("mosquitto", command, dir, port)
    }

    /// rumqttd's own network server: this program again, see [`run_rumqttd`].
    pub fn rumqttd() -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["rumqttd", &port.to_string()]);
        Self::other("rumqttd", command, TempDir::new().unwrap(), port)
    }

    fn other(name: &'static str, mut command: Command, dir: TempDir, port: u16) -> Self {
        let program = Program::start(&mut command, &dir.path().join("log"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until(name, || TcpStream::connect(address).ok());
        Self { name, address, pid: program.id(), _keeper: Keeper::Other { _program: program, _dir: dir } }
    }

    /// The Windlass behind this peer.
    pub fn site(&self) -> Option<&Site> {
        match &self._keeper {
            Keeper::Gateway(site) => Some(site),
            Keeper::Other { .. } => None,
        }
    }

    /// A run that lost connections or acknowledgements measures nothing: it ends here, with what the broker has to say.
    pub fn assert_whole(&self, outcome: &Outcome) {
        if outcome.lost == 0 {
            return;
        }
        if let Some(site) = self.site() {
            println!("{}", site.log());
            println!("{}", get(site.http, "/metrics").map_or_else(String::new, |(_, page)| page));
        }
        panic!("{}: {} connections ended or miss an acknowledgement", self.name, outcome.lost);
    }

    /// Processor time that the broker has used.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid)
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.pid)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// rumqttd as it comes, until it is killed.
pub fn run_rumqttd(port: u16) -> ! {
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = rumqttd::ServerSettings {
        name: "bench".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections,
    };
    let router = rumqttd::RouterConfig {
        max_connections: 20_000,
        max_outgoing_packet_count: 200,
        max_segment_size: 104_857_600,
        max_segment_count: 10,
        ..rumqttd::RouterConfig::default()
    };
    let config = rumqttd::Config { router, v4: Some([("v4".to_owned(), server)].into()), ..rumqttd::Config::default() };
    rumqttd::Broker::new(config).start().unwrap();
    std::process::exit(1)
}
