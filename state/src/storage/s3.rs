//! Stores for S3 buckets, and errors of S3 in words that say what to change.

use std::time::Duration;

use hurtig_graph::config::Configuration;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::options;
use crate::error::{Result, StateError};

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    /// Repeats what may be repeated.
    pub(super) store: AmazonS3,
    /// Repeats nothing: for conditional writes, whose answers must not be mixed up.
    pub(super) once: AmazonS3,
    pub(super) retries: Retries,
    endpoint: String,
    access_key: Option<String>,
}

/// How often and how long a request is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retries {
    pub(super) max: usize,
    pub(super) time: Duration,
}

/// First pause before a retry; doubled each time, with jitter.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

impl Bucket {
    pub(super) fn open(configuration: &Configuration, bucket: &str) -> Result<Self> {
        let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let text = |option| configuration.text(option).map(str::to_owned);
        let region = text(&options::REGION)
            .or_else(|| environment("AWS_REGION"))
            .or_else(|| environment("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = text(&options::ENDPOINT)
            .or_else(|| environment("AWS_ENDPOINT_URL_S3"))
            .or_else(|| environment("AWS_ENDPOINT_URL"))
            .map(|e| endpoint_url(&e))
            .transpose()?;
        let retries = Retries {
            max: read(configuration.int(&options::MAX_RETRIES))?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            time: duration(configuration, &options::MAX_RETRY_TIME)?,
        };
        let client = ClientOptions::new()
            .with_connect_timeout(duration(configuration, &options::CONNECT_TIMEOUT)?)
            .with_timeout(duration(configuration, &options::REQUEST_TIMEOUT)?)
            .with_allow_http(endpoint.as_ref().is_some_and(|e| e.scheme() == "http"));
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_region(&region)
            .with_client_options(client)
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        let access_key = text(&options::ACCESS_KEY);
        if let Some(key) = &access_key {
            builder = builder.with_access_key_id(key);
        }
        if let Some(key) = text(&options::SECRET_KEY) {
            builder = builder.with_secret_access_key(key);
        }
        if let Some(key) = text(&options::SSE_KMS_KEY) {
            builder = builder.with_sse_kms_encryption(key);
        }
        let path_style = read(configuration.bool(&options::PATH_STYLE))?
            .unwrap_or_else(|| endpoint.as_ref().is_some_and(|e| !has_domain(e)));
        builder = builder.with_virtual_hosted_style_request(!path_style);
        let shown = match &endpoint {
            None => format!("https://s3.{region}.amazonaws.com"),
            Some(url) => {
                let target = if path_style { url.clone() } else { with_bucket_in_host(url, bucket)? };
                builder = builder.with_endpoint(target.as_str().trim_end_matches('/'));
                url.as_str().trim_end_matches('/').to_owned()
            }
        };
        let build = |builder: AmazonS3Builder, max_retries: usize| {
            let backoff = BackoffConfig { init_backoff: FIRST_BACKOFF, max_backoff: MAX_BACKOFF, base: 2.0 };
            builder
                .with_retry(RetryConfig { backoff, max_retries, retry_timeout: retries.time })
                .build()
                .map_err(|e| StateError::Config(format!("cannot open bucket '{bucket}': {}", text_of(&e))))
        };
        Ok(Bucket {
            name: bucket.to_owned(),
            store: build(builder.clone(), retries.max)?,
            once: build(builder, 0)?,
            retries,
            endpoint: shown,
            access_key: access_key.or_else(|| environment("AWS_ACCESS_KEY_ID")),
        })
    }

    /// Says what failed, at which endpoint, and what to change.
    pub(super) fn explain(&self, operation: &str, uri: &str, error: &object_store::Error) -> StateError {
        let text = text_of(error);
        let (endpoint, bucket) = (&self.endpoint, &self.name);
        let key = self.access_key.as_deref().unwrap_or("(none)");
        let what = format!("cannot {operation} '{uri}'");
        if text.contains("NoSuchBucket") {
            return StateError::Config(format!(
                "{what}: bucket '{bucket}' does not exist at {endpoint}; create it or correct the URI"
            ));
        }
        if text.contains("SignatureDoesNotMatch") {
            return StateError::Config(format!(
                "{what}: S3 at {endpoint} refuses the signature; check that 's3.secret-key' belongs to access key \
                 '{key}'"
            ));
        }
        if text.contains("InvalidAccessKeyId") {
            return StateError::Config(format!(
                "{what}: S3 at {endpoint} does not know access key '{key}'; check 's3.access-key'"
            ));
        }
        if matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) {
            return StateError::Config(format!(
                "{what}: S3 at {endpoint} denies access to access key '{key}'; check 's3.access-key', 's3.secret-key' \
                 and the key's permissions on bucket '{bucket}'"
            ));
        }
        if text.contains("169.254.") {
            return StateError::Config(format!(
                "{what}: no credentials for S3: set 's3.access-key' and 's3.secret-key', or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY"
            ));
        }
        if text.contains("incorrectly configured region") {
            return StateError::Config(format!(
                "{what}: bucket '{bucket}' is in another region than configured; set 's3.region'"
            ));
        }
        if matches!(error, object_store::Error::NotFound { .. }) {
            return StateError::NotFound(format!("{what}: it does not exist"));
        }
        match http_error_kind(error) {
            Some(HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Request) => StateError::Connection(
                format!("{what}: cannot reach S3 at {endpoint}: {text}; check 's3.endpoint' and that the server runs"),
            ),
            Some(_) => StateError::Connection(format!("{what}: the connection to S3 at {endpoint} failed: {text}")),
            None => StateError::Storage(format!("{what}: S3 at {endpoint} answered: {text}")),
        }
    }
}

fn read<T>(value: Result<T, hurtig_graph::error::GraphError>) -> Result<T> {
    value.map_err(|e| StateError::Config(e.to_string()))
}

fn duration(configuration: &Configuration, option: &hurtig_graph::config::ConfigOption) -> Result<Duration> {
    Ok(Duration::from_millis(read(configuration.duration_ms(option))?.unwrap_or(0)))
}

fn endpoint_url(text: &str) -> Result<url::Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = url::Url::parse(&with_scheme).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    url.ok_or_else(|| {
        StateError::Config(format!("s3.endpoint: '{text}' is not a URL: write http://host:port or https://host"))
    })
}

fn has_domain(endpoint: &url::Url) -> bool {
    endpoint.domain().is_some_and(|d| d != "localhost")
}

fn with_bucket_in_host(endpoint: &url::Url, bucket: &str) -> Result<url::Url> {
    let mut url = endpoint.clone();
    let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
    url.set_host(Some(&host)).map_err(|e| {
        StateError::Config(format!("s3.endpoint: '{host}' is no host name ({e}); set 's3.path.style.access: true'"))
    })?;
    Ok(url)
}

/// The error with its causes, on one line, each text once.
pub(super) fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What kind of transport error is at the bottom, if it is one.
pub(super) fn http_error_kind(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        cause = error.source();
    }
    None
}
