//! Which values must not be shown.

/// What is shown instead of a secret.
pub const REDACTED: &str = "******";

/// Parts of keys whose values are secrets, as in Flink.
const SECRET_PARTS: &[&str] = &[
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "token",
    "basic-auth",
    "jaas.config",
    "http-headers",
    "access-key",
    "access.key",
];

/// Whether the value of `key` is a secret. Table options count as well.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// The value as it may be shown.
pub(super) fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret(key) { REDACTED } else { value }
}
