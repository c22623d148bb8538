//! Reads the config table by table, so that every problem is told at once.

use std::{fmt, fs, path::Path};

use config::{Environment, File, FileFormat};
use serde::de::DeserializeOwned;

use super::{Config, Device};

/// The tables and keys at the top of the file.
const TOP: [&str; 12] = [
    "data_dir",
    "broker",
    "chain",
    "journal",
    "settlement",
    "keys",
    "http",
    "telemetry",
    "device",
    "devices",
    "devices_file",
    "users",
];

/// Every problem of a config.
#[derive(Debug)]
pub struct Invalid {
    /// The config file.
    pub file: String,
    /// One line each.
    pub problems: Vec<String>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} has {} problem(s):", self.file, self.problems.len())?;
        for problem in &self.problems {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

pub(super) fn load(file: &Path) -> Result<Config, Invalid> {
    let mut problems = Vec::new();
    let config = read(file, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Invalid { file: file.display().to_string(), problems }),
    }
}

fn read(file: &Path, problems: &mut Vec<String>) -> Option<Config> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("cannot be read: {error}"));
            return None;
        }
    };
    let environment = Environment::with_prefix("WINDLASS")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("chain.rpc");
    let source = match config::Config::builder()
        .add_source(File::from_str(&text, FileFormat::Toml))
        .add_source(environment)
        .build()
    {
        Ok(source) => source,
        Err(error) => {
            problems.push(error.to_string());
            return None;
        }
    };
    let mut tables = Tables { source: &source, problems };
    tables.refuse_unknown();
    let base = file.parent().map(Path::to_owned).unwrap_or_default();
    let mut config = Config {
        data_dir: tables.table("data_dir").unwrap_or_else(|| Config::default().data_dir),
        broker: tables.table("broker").unwrap_or_default(),
        chain: tables.table("chain").unwrap_or_default(),
        journal: tables.table("journal").unwrap_or_default(),
        settlement: tables.table("settlement").unwrap_or_default(),
        keys: tables.table("keys").unwrap_or_default(),
        http: tables.table("http").unwrap_or_default(),
        telemetry: tables.table("telemetry").unwrap_or_default(),
        device: tables.table("device").unwrap_or_default(),
        devices: tables.list("devices"),
        users: tables.list("users"),
        base,
        files: vec![file.to_owned()],
    };
    if let Some(path) = tables.table::<std::path::PathBuf>("devices_file") {
        let path = config.path(&path);
        config.devices.extend(included(&path, problems));
        config.files.push(path);
    }
    problems.extend(config.validate());
    Some(config)
}

/// The devices of an included file, which holds `[[devices]]` and nothing else.
fn included(path: &Path, problems: &mut Vec<String>) -> Vec<Device> {
    let name = path.display();
    let parsed = fs::read_to_string(path).map_err(|e| format!("devices_file {name}: {e}")).and_then(|text| {
        config::Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .map_err(|e| format!("devices_file {name}: {e}"))
    });
    match parsed {
        Ok(source) => Tables { source: &source, problems }.list("devices"),
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

struct Tables<'a> {
    source: &'a config::Config,
    problems: &'a mut Vec<String>,
}

impl Tables<'_> {
    fn refuse_unknown(&mut self) {
        let found = self.source.cache.clone().into_table().unwrap_or_default();
        let mut unknown: Vec<_> = found.into_keys().filter(|key| !TOP.contains(&key.as_str())).collect();
        unknown.sort();
        for key in unknown {
            self.problems.push(format!("{key}: unknown key"));
        }
    }

    /// One table; `None` when it is absent or wrong, and then the problem is noted.
    fn table<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match self.source.get::<T>(name) {
            Ok(value) => Some(value),
            Err(config::ConfigError::NotFound(_)) => None,
            Err(error) => {
                self.problems.push(format!("{name}: {}", told(&error)));
                None
            }
        }
    }

    /// Each entry of a list by itself, so that one wrong entry does not hide the next.
    fn list<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let Some(entries) = self.table::<Vec<config::Value>>(name) else { return Vec::new() };
        let mut good = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            match entry.try_deserialize() {
                Ok(value) => good.push(value),
                Err(error) => self.problems.push(format!("{name}[{i}]: {}", told(&error))),
            }
        }
        good
    }
}

/// The library's message, shortened to what an operator needs.
fn told(error: &config::ConfigError) -> String {
    error.to_string()
}
