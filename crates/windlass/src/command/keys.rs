//! `windlass keys …`: the mnemonic behind the custodial device keys.

use std::{io::Read, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use windlass_device::Custody;
use zeroize::Zeroizing;

use super::{OK, WithConfig, line};
use crate::custody;

/// `windlass keys …`.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a new mnemonic, encrypted.
    Create(Create),
    /// Encrypt a mnemonic that comes on standard input.
    Import(Files),
    /// Print the address of a custodial key.
    Show(Show),
}

/// A keystore and its passphrase.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// The keystore to make.
    #[arg(long, value_name = "FILE", default_value = "devices.json")]
    keystore: PathBuf,
    /// Its passphrase; made with a random one if the file is not there.
    #[arg(long, value_name = "FILE", default_value = "devices.pass")]
    passphrase_file: PathBuf,
}

/// `windlass keys create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    files: Files,
    /// 12, 15, 18, 21 or 24.
    #[arg(long, default_value_t = 24)]
    words: usize,
    /// Print the words, to be written down and kept elsewhere.
    #[arg(long)]
    show_words: bool,
}

/// `windlass keys show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The key's index.
    index: u32,
    #[command(flatten)]
    config: WithConfig,
}

impl Keys {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        match self {
            Self::Create(options) => {
                let phrase = custody::new_phrase(options.words)?;
                options.files.keep(&phrase)?;
                if options.show_words {
                    line(&format!("words      {}", phrase.as_str()))?;
                }
            }
            Self::Import(files) => {
                let mut phrase = Zeroizing::new(String::new());
                std::io::stdin().read_to_string(&mut phrase).context("the mnemonic on standard input")?;
                let phrase = Zeroizing::new(phrase.split_whitespace().collect::<Vec<_>>().join(" "));
                files.keep(&phrase)?;
            }
            Self::Show(options) => {
                let custody = custody::load(&options.config.load()?)?;
                let custody = custody.context("the config names neither keys.mnemonic_file nor keys.keystore")?;
                let address = custody.address(options.index).context("an index is below 2147483648")?;
                line(&address.to_string())?;
            }
        }
        Ok(OK)
    }
}

impl Files {
    fn keep(&self, phrase: &str) -> anyhow::Result<()> {
        let first = Custody::from_mnemonic(phrase)?.address(0);
        let (passphrase, made) = custody::passphrase_in(&self.passphrase_file)?;
        custody::encrypt(&self.keystore, phrase, &passphrase)?;
        line(&format!("keystore   {}", self.keystore.display()))?;
        line(&format!("passphrase {}{}", self.passphrase_file.display(), if made { " (new, random)" } else { "" }))?;
        line(&format!("key 0      {}", first.map(|a| a.to_string()).unwrap_or_default()))?;
        line("in the config: [keys] keystore and passphrase_file; keep a copy of both, apart from each other")
    }
}
