//! Random secrets of devices, and tokens of the API: shown once, kept as a hash.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use windlass_http::Role;

use super::{OK, line};

/// `windlass token`.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Whose it is: for people, and the log.
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may: see everything, or also give orders.
    #[arg(long, value_enum, default_value = "read")]
    role: MayDo,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MayDo {
    Read,
    Operate,
}

/// 32 random bytes in hex, and the hash that a config has of them.
pub(super) fn new() -> anyhow::Result<(String, String)> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    let secret = hex(&bytes);
    let hash = format!("sha256:{}", hex(&Sha256::digest(secret.as_bytes())));
    Ok((secret, hash))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Token {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let (token, hash) = new()?;
        let role = match self.role {
            MayDo::Read => Role::Read,
            MayDo::Operate => Role::Operate,
        };
        let entry = windlass_http::Token { name: self.name.clone(), role, token: hash };
        line(&format!("token {token}"))?;
        line("it is shown this once; requests have it as: Authorization: Bearer TOKEN")?;
        line("in the config, and then start the gateway anew:")?;
        line("")?;
        line("[[http.tokens]]")?;
        line(toml::to_string(&entry)?.trim_end())?;
        Ok(OK)
    }
}
