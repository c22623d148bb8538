//! The file with `[[devices]]`, changed entry by entry: comments and the order of everything else stay.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};
use windlass_reading::DeviceId;

use crate::config::{Config, Device, KeySpec};

/// A file that is being changed.
#[derive(Debug)]
pub struct DevicesFile {
    path: PathBuf,
    before: String,
    document: DocumentMut,
}

impl DevicesFile {
    /// The file that new devices go to.
    ///
    /// # Errors
    /// When the config names none, and when it cannot be read.
    pub fn for_new(config: &Config) -> anyhow::Result<Self> {
        let [main, included @ ..] = config.files.as_slice() else { bail!("the config was not read from a file") };
        let Some(file) = included.first() else {
            bail!(
                "{} names no devices_file: put `devices_file = \"devices.toml\"` at its top, and make that file (empty)",
                main.display()
            );
        };
        Self::open(file)
    }

    /// The file that has this device.
    ///
    /// # Errors
    /// When no file has it.
    pub fn with(config: &Config, device: &DeviceId) -> anyhow::Result<Self> {
        for file in &config.files {
            let mut file = Self::open(file)?;
            if file.entry(device).is_some() {
                return Ok(file);
            }
        }
        bail!("{device} is not in the config")
    }

    fn open(path: &Path) -> anyhow::Result<Self> {
        let before = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let document = before.parse().with_context(|| format!("{} is not TOML", path.display()))?;
        Ok(Self { path: path.to_owned(), before, document })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a device at the end.
    ///
    /// # Errors
    /// When `devices` is there and no array of tables.
    pub fn add(&mut self, device: &Device) -> anyhow::Result<()> {
        let mut entry = Table::new();
        entry.insert("id", value(device.id.as_str()));
        if let Some(secret) = &device.secret {
            entry.insert("secret", value(secret.as_str()));
        }
        entry.insert("format", value(device.format.as_str()));
        if let Some(settlement) = device.settlement {
            entry.insert("settlement", value(settlement.as_str()));
        }
        if let Some(topic) = &device.topic {
            entry.insert("topic", value(topic.as_str()));
        }
        if let Some(key) = &device.key {
            entry.insert("key", spelled(key));
        }
        // What a file says before its first entry stays before it.
        let said = self.document.trailing().as_str().unwrap_or_default().to_owned();
        if !self.document.contains_key("devices") && !said.is_empty() {
            entry.decor_mut().set_prefix(said);
            self.document.set_trailing("");
        }
        let devices = self.document.entry("devices").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let devices = devices.as_array_of_tables_mut();
        devices.with_context(|| format!("{}: devices is not [[devices]]", self.path.display()))?.push(entry);
        Ok(())
    }

    /// Another key.
    pub fn set_key(&mut self, device: &DeviceId, key: &KeySpec) {
        self.set(device, "key", spelled(key));
    }

    /// Another secret, as the config stores it.
    pub fn set_secret(&mut self, device: &DeviceId, hash: &str) {
        self.set(device, "secret", value(hash));
    }

    /// The end of the device.
    pub fn revoke(&mut self, device: &DeviceId) {
        self.set(device, "revoked", value(true));
    }

    fn set(&mut self, device: &DeviceId, key: &str, item: Item) {
        if let Some(entry) = self.entry(device) {
            entry.insert(key, item);
        }
    }

    fn entry(&mut self, device: &DeviceId) -> Option<&mut Table> {
        let devices = self.document.get_mut("devices")?.as_array_of_tables_mut()?;
        devices.iter_mut().find(|entry| entry.get("id").and_then(Item::as_str) == Some(device.as_str()))
    }

    /// Writes the change. The config must be good with it, or the file stays as it was.
    ///
    /// # Errors
    /// What is wrong with the config, or why the file cannot be written; then nothing changed.
    pub fn save(&self, main: &Path) -> anyhow::Result<()> {
        replace(&self.path, &self.document.to_string())?;
        if let Err(problem) = Config::load(main) {
            self.undo()?;
            return Err(problem.into());
        }
        Ok(())
    }

    /// Puts back what was there before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn undo(&self) -> anyhow::Result<()> {
        replace(&self.path, &self.before)
    }
}

fn spelled(key: &KeySpec) -> Item {
    let mut table = InlineTable::new();
    match key {
        KeySpec::Custodial(index) => table.insert("custodial", Value::from(i64::from(*index))),
        KeySpec::Secp256k1(key) => table.insert("secp256k1", Value::from(key.as_str())),
        KeySpec::P256(key) => table.insert("p256", Value::from(key.as_str())),
    };
    value(table)
}

/// The whole file or none of it, also through a power cut; with the permissions that it had.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(directory)?.sync_all()
    };
    written().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use windlass_reading::{Format, Settlement};

    use super::*;

    const FILE: &str =
        "# The docks.\n[[devices]]\nid = \"dock-1\"   # north\nsecret = \"sha256:00\"\nkey = { custodial = 1 }\n";

    fn file(dir: &tempfile::TempDir) -> DevicesFile {
        let path = dir.path().join("devices.toml");
        fs::write(&path, FILE).unwrap();
        DevicesFile::open(&path).unwrap()
    }

    #[test]
    fn entries_change_and_everything_else_stays_as_it_was_written() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut file = file(&dir);
        let dock = DeviceId::new("dock-1").unwrap();
        file.set_key(&dock, &KeySpec::P256("0xabcd".into()));
        file.revoke(&dock);
        file.add(&Device {
            id: DeviceId::new("dock-2").unwrap(),
            secret: Some("sha256:11".into()),
            format: Format::Gtin,
            settlement: Some(Settlement::Batch),
            key: Some(KeySpec::Custodial(2)),
            revoked: false,
            topic: None,
        })
        .unwrap();
        let text = file.document.to_string();
        assert!(
            text.starts_with("# The docks.\n[[devices]]\nid = \"dock-1\"   # north\nsecret = \"sha256:00\"\n"),
            "{text}"
        );
        assert!(text.contains("key = { p256 = \"0xabcd\" }\nrevoked = true\n"), "{text}");
        assert!(text.ends_with(
            "[[devices]]\nid = \"dock-2\"\nsecret = \"sha256:11\"\nformat = \"gtin\"\nsettlement = \"batch\"\nkey = { custodial = 2 }\n"
        ), "{text}");
    }

    #[test]
    fn a_change_that_makes_the_config_wrong_is_taken_back() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut file = file(&dir);
        let main = dir.path().join("windlass.toml");
        fs::write(&main, "devices_file = \"devices.toml\"\n").unwrap();
        file.set_secret(&DeviceId::new("dock-1").unwrap(), "no hash");
        let refused = file.save(&main).unwrap_err().to_string();
        assert!(refused.contains("dock-1"), "{refused}");
        assert_eq!(fs::read_to_string(&file.path).unwrap(), FILE);
    }
}
