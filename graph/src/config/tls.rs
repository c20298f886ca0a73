//! The certificates of a process, as the configuration names them.
//!
//! Reading is here because JobManager, TaskManager and clients all need it; what is made of the bytes
//! belongs to whoever listens or connects.

use std::path::Path;

use super::{ConfigOption, Configuration, keys};
use crate::error::GraphError;

/// Begins every section of a PEM file.
const PEM_SECTION: &str = "-----BEGIN ";

/// What a process shows to others and whom it lets in. All in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain and private key of this process.
    pub identity: Vec<u8>,
    /// Certificates of the authorities that are trusted.
    pub authorities: Vec<u8>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The identity has the private key.
        f.debug_struct("TlsFiles").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// The files that `configuration` names; `None` where TLS is off.
    ///
    /// # Errors
    /// TLS is on and a file is not named, cannot be read, or has not what it must have.
    pub fn read(configuration: &Configuration) -> Result<Option<TlsFiles>, GraphError> {
        if !configuration.bool(&keys::SSL_INTERNAL_ENABLED)?.unwrap_or(false) {
            return Ok(None);
        }
        let identity = pem(configuration, &keys::SSL_KEYSTORE, &["CERTIFICATE", "PRIVATE KEY"])?;
        let authorities = pem(configuration, &keys::SSL_TRUSTSTORE, &["CERTIFICATE"])?;
        Ok(Some(TlsFiles { identity, authorities }))
    }
}

/// The content of the PEM file that `option` names, with a section of each of `kinds`.
fn pem(configuration: &Configuration, option: &ConfigOption, kinds: &[&str]) -> Result<Vec<u8>, GraphError> {
    let wrong = |reason: String| GraphError::Config(format!("{}: {reason}", option.key));
    let Some(path) = configuration.text(option) else {
        return Err(wrong(format!("must name a PEM file when {} is true", keys::SSL_INTERNAL_ENABLED.key)));
    };
    let bytes = std::fs::read(Path::new(path)).map_err(|error| wrong(format!("cannot read {path}: {error}")))?;
    let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| text.contains(PEM_SECTION)) else {
        return Err(wrong(format!(
            "{path} is not a PEM file; convert a PKCS#12 store by 'openssl pkcs12 -in STORE -nodes -out FILE.pem'"
        )));
    };
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") {
        return Err(wrong(format!(
            "the private key in {path} is encrypted; write it without a password by 'openssl pkey -in FILE -out FILE.pem'"
        )));
    }
    let has = |kind: &str| text.lines().any(|line| line.starts_with(PEM_SECTION) && line.contains(kind));
    match kinds.iter().find(|kind| !has(kind)) {
        Some(kind) => Err(wrong(format!("{path} has no section '{kind}'"))),
        None => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(folder: &Path, identity: &str, authorities: &str) -> Configuration {
        std::fs::write(folder.join("identity.pem"), identity).unwrap();
        std::fs::write(folder.join("authorities.pem"), authorities).unwrap();
        let mut configuration = Configuration::default();
        configuration.set("security.ssl.internal.enabled", "true");
        configuration.set("security.ssl.internal.keystore", folder.join("identity.pem").display().to_string());
        configuration.set("security.ssl.truststore", folder.join("authorities.pem").display().to_string());
        configuration
    }

    const IDENTITY: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n\
                            -----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn files_are_read_only_where_tls_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut configuration = configured(folder.path(), IDENTITY, AUTHORITY);
        let files = TlsFiles::read(&configuration).unwrap().unwrap();
        assert_eq!((files.identity, files.authorities), (IDENTITY.into(), AUTHORITY.into()));
        configuration.set("security.ssl.internal.enabled", "false");
        assert_eq!(TlsFiles::read(&configuration).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let error = |identity: &str, authorities: &str| {
            TlsFiles::read(&configured(folder.path(), identity, authorities)).unwrap_err().to_string()
        };
        let text = error("\u{0}\u{1}", AUTHORITY);
        assert!(text.contains("security.ssl.internal.keystore") && text.contains("openssl pkcs12"), "{text}");
        let text = error(AUTHORITY, AUTHORITY);
        assert!(text.contains("no section 'PRIVATE KEY'"), "{text}");
        let text = error(&IDENTITY.replace("PRIVATE", "ENCRYPTED PRIVATE"), AUTHORITY);
        assert!(text.contains("is encrypted"), "{text}");
        let mut configuration = configured(folder.path(), IDENTITY, AUTHORITY);
        configuration.set("security.ssl.truststore", "/nowhere/ca.pem");
        let text = TlsFiles::read(&configuration).unwrap_err().to_string();
        assert!(text.contains("security.ssl.internal.truststore") && text.contains("/nowhere/ca.pem"), "{text}");
        configuration.unset("security.ssl.truststore");
        let text = TlsFiles::read(&configuration).unwrap_err().to_string();
        assert!(text.contains("must name a PEM file"), "{text}");
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let files = TlsFiles { identity: b"secret".to_vec(), authorities: Vec::new() };
        assert!(!format!("{files:?}").contains("115"), "bytes of the key");
    }
}
