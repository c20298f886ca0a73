//! Configuration keys of object storage, spelled as Flink's file systems for S3 spell them.

use hurtig_graph::config::{ConfigOption, ValueType};

/// Where the S3 API is.
pub const ENDPOINT: ConfigOption = ConfigOption {
    key: "s3.endpoint",
    fallback_keys: &["presto.s3.endpoint", "fs.s3a.endpoint"],
    value_type: ValueType::String,
    default: None,
    description: "URL of the S3 API. Without it the endpoint of AWS in the region; also from `AWS_ENDPOINT_URL`.",
};

/// Bucket in the path instead of the host name.
pub const PATH_STYLE: ConfigOption = ConfigOption {
    key: "s3.path.style.access",
    fallback_keys: &["s3.path-style-access", "presto.s3.path-style-access", "fs.s3a.path.style.access"],
    value_type: ValueType::Bool,
    default: None,
    description: "Whether the bucket is addressed in the path of a URL instead of its host name. Without it `true` \
                  for an endpoint that is an IP address or `localhost`, else `false`.",
};

/// Access key id.
pub const ACCESS_KEY: ConfigOption = ConfigOption {
    key: "s3.access-key",
    fallback_keys: &["s3.access.key", "presto.s3.access-key", "fs.s3a.access.key"],
    value_type: ValueType::String,
    default: None,
    description: "Access key id. Without it `AWS_ACCESS_KEY_ID`, a web identity, or the role of the machine.",
};

/// Secret access key.
pub const SECRET_KEY: ConfigOption = ConfigOption {
    key: "s3.secret-key",
    fallback_keys: &["s3.secret.key", "presto.s3.secret-key", "fs.s3a.secret.key"],
    value_type: ValueType::String,
    default: None,
    description: "Secret access key that belongs to `s3.access-key`.",
};

/// Region for signatures and the default endpoint.
pub const REGION: ConfigOption = ConfigOption {
    key: "s3.region",
    fallback_keys: &["s3.endpoint.region", "fs.s3a.endpoint.region"],
    value_type: ValueType::String,
    default: None,
    description: "Region of the bucket. Without it `AWS_REGION`, else `us-east-1`.",
};

/// Encryption by the server.
pub const SSE_KMS_KEY: ConfigOption = ConfigOption {
    key: "s3.sse.kms.key-id",
    fallback_keys: &["s3.sse.kms-key-id"],
    value_type: ValueType::String,
    default: None,
    description: "Key with which the server encrypts new objects (SSE-KMS).",
};

/// How often a request is tried again.
pub const MAX_RETRIES: ConfigOption = ConfigOption {
    key: "s3.max-error-retries",
    fallback_keys: &["presto.s3.max-error-retries"],
    value_type: ValueType::Int,
    default: Some("6"),
    description: "How often a request that failed for a reason that may pass is tried again.",
};

/// How long a request is tried again.
pub const MAX_RETRY_TIME: ConfigOption = ConfigOption {
    key: "s3.max-retry-time",
    fallback_keys: &["presto.s3.max-retry-time"],
    value_type: ValueType::Duration,
    default: Some("1 min"),
    description: "How long a request is tried again, counted from its first attempt.",
};

/// Time to connect.
pub const CONNECT_TIMEOUT: ConfigOption = ConfigOption {
    key: "s3.connect-timeout",
    fallback_keys: &["presto.s3.connect-timeout"],
    value_type: ValueType::Duration,
    default: Some("5 s"),
    description: "How long to wait for a connection to the endpoint.",
};

/// Time of one request.
pub const REQUEST_TIMEOUT: ConfigOption = ConfigOption {
    key: "s3.socket-timeout",
    fallback_keys: &["presto.s3.socket-timeout"],
    value_type: ValueType::Duration,
    default: Some("30 s"),
    description: "How long to wait for the answer to one request.",
};

/// All keys of this module, for the registry of the configuration.
pub const ALL: &[&ConfigOption] = &[
    &ENDPOINT,
    &PATH_STYLE,
    &ACCESS_KEY,
    &SECRET_KEY,
    &REGION,
    &SSE_KMS_KEY,
    &MAX_RETRIES,
    &MAX_RETRY_TIME,
    &CONNECT_TIMEOUT,
    &REQUEST_TIMEOUT,
];
