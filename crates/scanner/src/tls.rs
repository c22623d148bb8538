//! TLS of the connections: whom to trust, and with which certificate to connect.

use std::{fs, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The authorities that a broker's certificate may come from.
///
/// # Errors
/// The file (PEM) cannot be read or holds no certificate; without a file: this machine has no authorities.
pub fn roots(authorities: Option<&Path>) -> io::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let certificates = match authorities {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        let place = authorities.map_or_else(|| "this machine".into(), |path| path.display().to_string());
        return Err(io::Error::other(format!("{place} has no certificate of an authority")));
    }
    Ok(Arc::new(roots))
}

/// How a client connects: with the certificate and the key in `identity` (two PEM files), or without one.
///
/// # Errors
/// A file cannot be read, or certificate and key do not fit each other.
pub fn client(roots: &Arc<RootCertStore>, identity: Option<(&Path, &Path)>) -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(Arc::clone(roots));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let told = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", key.display()));
            let pem = fs::read(key).map_err(|error| told(&error))?;
            let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| told(&error))?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| told(&error))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let told = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let pem = fs::read(path).map_err(|error| told(&error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(told(&"no certificate in it")),
        Err(error) => Err(told(&error)),
    }
}
