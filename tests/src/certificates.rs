//! Certificates of an authority that lives as long as the call.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::Site;

/// Writes a new authority's certificate (`ca.pem`) to the site, and for `localhost` a certificate and a key
/// (`{name}.pem`, `{name}.key`) of each name, which is its CN. A server is one of the names.
pub fn certificates(site: &Site, names: &[&str]) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    fs::write(site.path("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    for name in names {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, *name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        fs::write(site.path(&format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(site.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
