//! Encryption and authentication between processes.

use super::{ConfigOption, ValueType};

options! {
    SSL_INTERNAL_ENABLED = "security.ssl.internal.enabled", ["security.ssl.enabled"], ValueType::Bool, Some("false"),
        "Mutual TLS on every connection: JobManager, TaskManagers, data streams and clients show each other certificates of the authorities in `security.ssl.internal.truststore`; who has none is refused.";
    SSL_KEYSTORE = "security.ssl.internal.keystore", ["security.ssl.keystore"], ValueType::String, None,
        "PEM file with this process's certificate chain and its private key (PKCS#8, unencrypted).";
    SSL_TRUSTSTORE = "security.ssl.internal.truststore", ["security.ssl.truststore"], ValueType::String, None,
        "PEM file with the certificates of the authorities whose processes and clients are let in. Use one of the cluster's own: host names are not compared.";
    SSL_KEYSTORE_PASSWORD = "security.ssl.internal.keystore-password", ["security.ssl.keystore-password"], ValueType::String, None,
        "Not used: PEM files are read without a password.";
    SSL_KEY_PASSWORD = "security.ssl.internal.key-password", ["security.ssl.key-password"], ValueType::String, None,
        "Not used: PEM files are read without a password.";
    SSL_TRUSTSTORE_PASSWORD = "security.ssl.internal.truststore-password", ["security.ssl.truststore-password"], ValueType::String, None,
        "Not used: PEM files are read without a password.";
}
