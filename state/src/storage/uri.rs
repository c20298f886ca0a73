//! Reading URIs of files and objects.

use std::path::PathBuf;

use crate::error::{Result, StateError};

/// Where a URI points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A file or directory of this machine.
    File(PathBuf),
    /// In the named store in memory.
    Memory { name: String, key: String },
    /// In a bucket. `base` is the URI up to the key: scheme, bucket, slash.
    S3 { base: String, bucket: String, key: String },
}

impl Location {
    /// Reads `s3://`, `s3a://`, `s3p://`, `memory://`, `file:` and plain paths.
    pub(super) fn parse(uri: &str) -> Result<Self> {
        let refuse = |reason: &str| StateError::Config(format!("'{uri}' is not a usable URI: {reason}"));
        if uri.is_empty() {
            return Err(refuse("it is empty"));
        }
        if let Some(rest) = uri.strip_prefix("file:") {
            let path = match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(refuse("a file URI has no host: write file:///path")),
                None if rest.starts_with('/') => rest,
                None => return Err(refuse("a file URI has an absolute path: write file:///path")),
            };
            return Ok(Location::File(PathBuf::from(path)));
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Ok(Location::File(PathBuf::from(uri)));
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let key = key.trim_matches('/').to_owned();
        match scheme {
            "memory" => Ok(Location::Memory { name: authority.to_owned(), key }),
            "s3" | "s3a" | "s3p" if authority.is_empty() => Err(refuse("it names no bucket")),
            "s3" | "s3a" | "s3p" => {
                Ok(Location::S3 { base: format!("{scheme}://{authority}/"), bucket: authority.to_owned(), key })
            }
            other => Err(refuse(&format!(
                "the scheme '{other}' is not supported; use s3://, s3a://, s3p://, file:// or a path"
            ))),
        }
    }
}

/// `child` under the directory `base`.
pub fn join(base: &str, child: &str) -> String {
    if base.is_empty() {
        return child.to_owned();
    }
    format!("{}/{child}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_spellings_are_read() {
        let file = |p: &str| Location::File(PathBuf::from(p));
        assert_eq!(Location::parse("file:///a/b").unwrap(), file("/a/b"));
        assert_eq!(Location::parse("file:/a/b").unwrap(), file("/a/b"));
        assert_eq!(Location::parse("/a/b").unwrap(), file("/a/b"));
        assert_eq!(Location::parse("a/b.csv").unwrap(), file("a/b.csv"));
        for scheme in ["s3", "s3a", "s3p"] {
            assert_eq!(
                Location::parse(&format!("{scheme}://bucket/flink-checkpoint/")).unwrap(),
                Location::S3 {
                    base: format!("{scheme}://bucket/"),
                    bucket: "bucket".into(),
                    key: "flink-checkpoint".into()
                }
            );
        }
        assert_eq!(
            Location::parse("memory://x/y/z").unwrap(),
            Location::Memory { name: "x".into(), key: "y/z".into() }
        );
    }

    #[test]
    fn bad_uris_say_what_to_write() {
        for (uri, message) in [
            ("s3:///key", "'s3:///key' is not a usable URI: it names no bucket"),
            ("file://host/a", "'file://host/a' is not a usable URI: a file URI has no host: write file:///path"),
            (
                "hdfs://nn/a",
                "'hdfs://nn/a' is not a usable URI: the scheme 'hdfs' is not supported; use s3://, s3a://, s3p://, \
                 file:// or a path",
            ),
        ] {
            assert_eq!(Location::parse(uri).unwrap_err().to_string(), message);
        }
    }
}
