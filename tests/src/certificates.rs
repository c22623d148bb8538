//! Certificates of an authority, for a site's listeners and devices.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::Site;

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one; its certificate is the site's `ca.pem`.
    pub fn new(site: &Site) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        fs::write(site.path("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(authority, key))
    }

    /// Writes a certificate for `localhost` and its key, `{name}.pem` and `{name}.key`; the name is its CN.
    pub fn issue(&self, site: &Site, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        fs::write(site.path(&format!("{name}.pem")), params.signed_by(&key, &self.0).unwrap().pem()).unwrap();
        fs::write(site.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Certificates of a new authority for all of these names, of which a server's is one.
pub fn certificates(site: &Site, names: &[&str]) {
    let authority = Authority::new(site);
    for name in names {
        authority.issue(site, name);
    }
}
