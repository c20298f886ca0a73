//! S3. Unset keys come from the AWS_* environment variables, web identity, or the instance.

use super::{ConfigOption, ValueType};

options! {
    S3_ENDPOINT = "s3.endpoint", ["fs.s3a.endpoint", "presto.s3.endpoint"], ValueType::String, None,
        "URL of the S3 server. Not set: that of AWS in the region.";
    S3_REGION = "s3.region", ["s3.endpoint.region", "fs.s3a.endpoint.region"], ValueType::String, None,
        "Region. Not set: `AWS_REGION`, else us-east-1.";
    S3_PATH_STYLE = "s3.path.style.access", ["s3.path-style-access", "fs.s3a.path.style.access", "presto.s3.path-style-access"], ValueType::Bool, Some("false"),
        "The bucket is part of the path, not of the host name.";
    S3_ACCESS_KEY = "s3.access-key", ["s3.access.key", "fs.s3a.access.key", "presto.s3.access-key"], ValueType::String, None,
        "Access key. Not set: `AWS_ACCESS_KEY_ID` or another source of credentials.";
    S3_SECRET_KEY = "s3.secret-key", ["s3.secret.key", "fs.s3a.secret.key", "presto.s3.secret-key"], ValueType::String, None,
        "Secret key. Not set: `AWS_SECRET_ACCESS_KEY` or another source of credentials.";
    S3_SESSION_TOKEN = "s3.session-token", ["fs.s3a.session.token"], ValueType::String, None,
        "Session token of temporary credentials. Not set: `AWS_SESSION_TOKEN`.";
    S3_SSE_TYPE = "s3.sse.type", [], ValueType::Enum(&["none", "sse-s3", "sse-kms"]), Some("none"),
        "Encryption at the server.";
    S3_SSE_KMS_KEY_ID = "s3.sse.kms.key-id", [], ValueType::String, None,
        "KMS key of `sse-kms`.";
}
