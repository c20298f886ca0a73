//! Certificates for tests of mutual TLS: authorities and what they sign, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd,
};

/// An authority with its certificate and key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, like no other.
    pub fn new(name: &str) -> Authority {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key pair can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are complete");
        Authority { issuer }
    }

    /// Writes the authority's certificate into `folder`; gives the path.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, name, &self.issuer.pem())
    }

    /// Writes a certificate of the authority with its key into `folder`; gives the path. An expired
    /// one was valid until the end of 2020.
    pub fn issue(&self, folder: &Path, name: &str, expired: bool) -> PathBuf {
        let mut params = params(name);
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 12, 31);
        }
        let key = KeyPair::generate().expect("a key pair can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are complete");
        write(folder, name, &format!("{}{}", certificate.pem(), key.serialize_pem()))
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is a host name");
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    params
}

fn write(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, pem).expect("the folder can be written");
    path
}
