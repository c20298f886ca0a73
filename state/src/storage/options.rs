//! Configuration keys of object storage, by the names that this module uses.

pub use hurtig_graph::config::keys::{
    S3_ACCESS_KEY as ACCESS_KEY, S3_CONNECT_TIMEOUT as CONNECT_TIMEOUT, S3_ENDPOINT as ENDPOINT,
    S3_MAX_RETRIES as MAX_RETRIES, S3_MAX_RETRY_TIME as MAX_RETRY_TIME, S3_PATH_STYLE as PATH_STYLE,
    S3_REGION as REGION, S3_REQUEST_TIMEOUT as REQUEST_TIMEOUT, S3_SECRET_KEY as SECRET_KEY,
    S3_SSE_KMS_KEY as SSE_KMS_KEY,
};
