//! TLS: a listener's certificate, and whom its client certificates must come from.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer, X509Certificate};

/// `tls` of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain (PEM), its own certificate first.
    pub certificate: PathBuf,
    /// The certificate's private key (PEM: PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// Authorities (PEM) whose client certificates identify devices by their common name.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// Whether a client must have a certificate where a `client_ca` is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Without one the TLS handshake fails.
    #[default]
    Required,
    /// Without one the client needs a user name and a secret.
    Optional,
}

/// Certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or holds no such PEM section. Check path and content.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// No certificate is in the file.
    #[error("{}: no certificate in it", .0.display())]
    Empty(PathBuf),
    /// Certificate and key do not fit together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("client_ca cannot be used: {0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// A listener's TLS. The configuration can be replaced while connections are open; they keep the one they have.
pub(super) struct Acceptor {
    tls: Tls,
    base: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Acceptor {
    pub(super) fn load(tls: &Tls, base: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(configure(tls, base)?));
        Ok(Self { tls: tls.clone(), base: base.to_owned(), current })
    }

    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(configure(&self.tls, &self.base)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Shakes hands; with the common name of the client's certificate, if it has one.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certified = certificate.map(|c| common_name(c).ok_or(std::io::ErrorKind::InvalidData)).transpose()?;
        Ok((stream, certified))
    }
}

fn configure(tls: &Tls, base: &Path) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&base.join(&tls.certificate))?;
    let key_file = base.join(&tls.key);
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|source| TlsError::File { path: key_file, source })?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(verifier(&base.join(file), tls.client_auth, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    // A fleet that comes back after a power cut resumes its sessions instead of doing whole handshakes.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
}

fn verifier(
    file: &Path,
    auth: ClientAuth,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    Ok(builder.build()?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// The only common name of a certificate; with several there is no telling which one its authority meant.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}
