//! The credentials file: who the scanners are.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use windlass_reading::{DeviceId, Domain};
use windlass_scanner::{Scanner, Signer, tls};

/// What the lines refer to.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Authorities, with TLS.
    pub(crate) roots: Option<Arc<RootCertStore>>,
    /// TLS of a scanner without a certificate of its own.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What scanners with a key sign for.
    pub(crate) domain: Option<Arc<Domain>>,
}

/// One line in its JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: DeviceId,
    secret: Option<String>,
    topic: Option<String>,
    /// Client certificate and its key, PEM files.
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    /// `secp256k1:0x…` or `p256:0x…`
    signing_key: Option<String>,
    epoch: Option<u32>,
    next_sequence: Option<u64>,
}

/// Reads the file; errors name the line and never its secret.
pub(crate) fn read(text: &str, surroundings: &Surroundings) -> Result<Vec<Scanner>> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| scanner(line, surroundings).with_context(|| format!("line {number}")))
        .collect()
}

fn scanner(line: &str, surroundings: &Surroundings) -> Result<Scanner> {
    if line.starts_with('{') {
        let Ok(line) = serde_json::from_str(line) else {
            bail!("not an object with id, secret, topic, cert, key, signing_key, epoch, next_sequence");
        };
        return from_json(line, surroundings);
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(id), secret, None) => {
            Ok(Scanner { secret: secret.map(str::to_owned), ..Scanner::new(DeviceId::new(id)?) })
        }
        _ => bail!("more than an id and a secret; a secret with spaces needs the JSON form"),
    }
}

fn from_json(line: Line, surroundings: &Surroundings) -> Result<Scanner> {
    let own = match (&line.cert, &line.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let roots = surroundings.roots.as_ref().context("a certificate needs --tls")?;
            Some(tls::client(roots, Some((cert, key)))?)
        }
        _ => bail!("cert and key come together"),
    };
    let signer = match line.signing_key {
        None => None,
        Some(text) => {
            let domain = surroundings.domain.as_ref().context("a signing_key needs --chain-id and --contract")?;
            let (epoch, next_sequence) = (line.epoch.unwrap_or(1), line.next_sequence.unwrap_or(1));
            ensure!(epoch > 0 && next_sequence > 0, "epoch and next_sequence count from 1");
            Some(Signer { key: text.parse()?, domain: Arc::clone(domain), epoch, next_sequence })
        }
    };
    Ok(Scanner { id: line.id, secret: line.secret, topic: line.topic, tls: own, signer })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    #[test]
    fn credentials_are_lines_or_json_lines() {
        let text = "# fleet\n\ndock-1 s3cret\n{\"id\":\"dock-2\",\"secret\":\"x\",\"topic\":\"dock-2\"}\ndock-3\n";
        let scanners = read(text, &Surroundings::default()).unwrap();
        let seen: Vec<_> = scanners.iter().map(|s| (s.id.as_str(), s.secret.as_deref(), s.topic.as_deref())).collect();
        assert_eq!(
            seen,
            [("dock-1", Some("s3cret"), None), ("dock-2", Some("x"), Some("dock-2")), ("dock-3", None, None)]
        );
    }

    #[test]
    fn a_signing_key_needs_a_chain_and_a_contract() {
        let line = format!("{{\"id\":\"a\",\"signing_key\":\"p256:0x{}\",\"next_sequence\":5}}", "07".repeat(32));
        let told = format!("{:#}", read(&line, &Surroundings::default()).unwrap_err());
        assert!(told.contains("--chain-id") && !told.contains("0707"), "{told}");
        let domain = Some(Arc::new(Domain::new(1, Address::ZERO)));
        let known = Surroundings { domain, ..Surroundings::default() };
        let signer = read(&line, &known).unwrap().remove(0).signer.unwrap();
        assert_eq!((signer.epoch, signer.next_sequence), (1, 5));
        for bad in [line.replace(":5", ":0"), line.replace("p256:", "")] {
            assert!(read(&bad, &known).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_credential_is_told_by_line_and_without_its_secret() {
        for bad in [
            "ok s\na/b hunter2",
            "ok s\n{\"id\":\"b\",\"pass\":\"hunter2\"}",
            "ok s\nb hunter2 more",
            "ok s\n{\"id\":\"b\",\"secret\":\"hunter2\",\"cert\":\"b.pem\"}",
            "ok s\n{\"id\":\"b\",\"secret\":\"hunter2\",\"cert\":\"b.pem\",\"key\":\"b.key\"}",
        ] {
            let told = format!("{:#}", read(bad, &Surroundings::default()).unwrap_err());
            assert!(told.contains("line 2") && !told.contains("hunter2"), "{told}");
        }
    }
}
