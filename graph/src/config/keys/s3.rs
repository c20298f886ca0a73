//! S3, as Flink's file systems for S3 spell the keys. What is not set comes from the AWS_*
//! environment variables, a web identity, or the role of the machine.

use super::{ConfigOption, ValueType};

options! {
    S3_ENDPOINT = "s3.endpoint", ["presto.s3.endpoint", "fs.s3a.endpoint"], ValueType::String, None,
        "URL of the S3 API. Not set: `AWS_ENDPOINT_URL`, else the endpoint of AWS in the region.";
    S3_PATH_STYLE = "s3.path.style.access", ["s3.path-style-access", "presto.s3.path-style-access", "fs.s3a.path.style.access"], ValueType::Bool, None,
        "Whether the bucket is addressed in the path of a URL instead of its host name. Not set: `true` for an endpoint that is an IP address or `localhost`, else `false`.";
    S3_ACCESS_KEY = "s3.access-key", ["s3.access.key", "presto.s3.access-key", "fs.s3a.access.key"], ValueType::String, None,
        "Access key id. Not set: `AWS_ACCESS_KEY_ID`, a web identity, or the role of the machine.";
    S3_SECRET_KEY = "s3.secret-key", ["s3.secret.key", "presto.s3.secret-key", "fs.s3a.secret.key"], ValueType::String, None,
        "Secret access key that belongs to `s3.access-key`.";
    S3_REGION = "s3.region", ["s3.endpoint.region", "fs.s3a.endpoint.region"], ValueType::String, None,
        "Region of the bucket. Not set: `AWS_REGION`, else `us-east-1`.";
    S3_SSE_KMS_KEY = "s3.sse.kms.key-id", ["s3.sse.kms-key-id"], ValueType::String, None,
        "Key with which the server encrypts new objects (SSE-KMS).";
    S3_MAX_RETRIES = "s3.max-error-retries", ["presto.s3.max-error-retries"], ValueType::Int, Some("6"),
        "How often a request that failed for a reason that may pass is tried again.";
    S3_MAX_RETRY_TIME = "s3.max-retry-time", ["presto.s3.max-retry-time"], ValueType::Duration, Some("1 min"),
        "How long a request is tried again, counted from its first attempt.";
    S3_CONNECT_TIMEOUT = "s3.connect-timeout", ["presto.s3.connect-timeout"], ValueType::Duration, Some("5 s"),
        "How long to wait for a connection to the endpoint.";
    S3_REQUEST_TIMEOUT = "s3.socket-timeout", ["presto.s3.socket-timeout"], ValueType::Duration, Some("30 s"),
        "How long to wait for the answer to one request.";
}
