//! URI schemes to object stores: `file://` and plain paths, `memory://`, `s3://`, `s3a://`, `s3p://`.
//!
//! [`ObjectStores`] is the one way to durable storage. Besides reading and writing whole objects it
//! has the two operations on which the truth about checkpoints rests: [`ObjectStores::put_if_absent`]
//! (of any number of concurrent creators exactly one succeeds) and
//! [`ObjectStores::compare_and_swap`]. Both are right also when an answer is lost.
//!
//! Asynchronous calls run on the caller's runtime; [`ObjectStores::blocking`] gives the same
//! operations to plain threads.

mod blocking;
mod conditional;
mod files;
pub mod options;
mod s3;
mod uri;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hurtig_graph::config::Configuration;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion, WriteMultipart};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Result, StateError};
pub use blocking::BlockingStores;
use blocking::{SharedRuntime, WorkRuntime, file_work};
use conditional::Outcome;
use s3::{Bucket, Retries};
use uri::Location;
pub use uri::join;

/// Files above this go to S3 in parts.
const MULTIPART_THRESHOLD: u64 = 16 << 20;
const PART_SIZE: usize = 8 << 20;
const CONCURRENT_PARTS: usize = 4;

/// The version of an object, for [`ObjectStores::compare_and_swap`]. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// The text form, for those who keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Version {
    /// From the text form.
    fn from(text: String) -> Self {
        Version(text)
    }
}

/// What a listing says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its URI, with the scheme that was asked with.
    pub uri: String,
    /// Bytes.
    pub size: u64,
    /// Last change, in ms since 1970.
    pub modified_ms: i64,
}

/// All object stores that a process uses, by scheme and bucket, made when first asked for. Clones
/// share them.
#[derive(Clone)]
pub struct ObjectStores {
    inner: Arc<Inner>,
}

struct Inner {
    configuration: Configuration,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    memory: Mutex<BTreeMap<String, Arc<InMemory>>>,
    runtime: SharedRuntime,
}

impl Default for ObjectStores {
    fn default() -> Self {
        ObjectStores::new(Configuration::default(), None)
    }
}

/// A location with the store that it is in.
enum Target {
    File(std::path::PathBuf),
    Memory(Arc<InMemory>, Path),
    S3(Arc<Bucket>, Path),
}

impl ObjectStores {
    /// Stores with the options of `configuration` (see [`options`]). Blocking calls run on `runtime`;
    /// without one, on a runtime of their own that is started when first needed.
    pub fn new(configuration: Configuration, runtime: Option<Handle>) -> Self {
        ObjectStores {
            inner: Arc::new(Inner {
                configuration,
                buckets: Mutex::default(),
                memory: Mutex::default(),
                runtime: Arc::new(WorkRuntime::new(runtime)),
            }),
        }
    }

    /// The same operations for threads that may block.
    pub fn blocking(&self) -> BlockingStores<'_> {
        BlockingStores { stores: self }
    }

    fn target(&self, uri: &str) -> Result<Target> {
        let object_path = |key: &str| {
            Path::parse(key).map_err(|e| StateError::Config(format!("'{uri}' is not a usable object name: {e}")))
        };
        match Location::parse(uri)? {
            Location::File(path) => Ok(Target::File(path)),
            Location::Memory { name, key } => {
                let store = self.inner.memory.lock().entry(name).or_default().clone();
                Ok(Target::Memory(store, object_path(&key)?))
            }
            Location::S3 { bucket, key, .. } => {
                let path = object_path(&key)?;
                let mut buckets = self.inner.buckets.lock();
                if let Some(bucket) = buckets.get(&bucket) {
                    return Ok(Target::S3(bucket.clone(), path));
                }
                let opened = Arc::new(Bucket::open(&self.inner.configuration, &bucket)?);
                buckets.insert(bucket, opened.clone());
                Ok(Target::S3(opened, path))
            }
        }
    }

    /// The content of an object.
    ///
    /// # Errors
    /// [`StateError::NotFound`] when there is none.
    pub async fn get(&self, uri: &str) -> Result<Bytes> {
        Ok(self.get_versioned(uri).await?.0)
    }

    /// The content of an object and its version.
    ///
    /// # Errors
    /// [`StateError::NotFound`] when there is none.
    pub async fn get_versioned(&self, uri: &str) -> Result<(Bytes, Version)> {
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            return file_work(move || files::get_versioned(&path)).await;
        }
        let (store, path) = target.store();
        let read = async {
            let result = store.get(path).await?;
            let version = Version(result.meta.e_tag.clone().unwrap_or_default());
            Ok((result.bytes().await?, version))
        };
        read.await.map_err(|e| target.explain("read", uri, &e))
    }

    /// The bytes of `range`.
    pub async fn get_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            return file_work(move || files::get_range(&path, range)).await;
        }
        let (store, path) = target.store();
        let wanted = range.end - range.start;
        let bytes = store.get_range(path, range).await.map_err(|e| target.explain("read", uri, &e))?;
        if bytes.len() as u64 != wanted {
            return Err(StateError::Corrupt(format!("'{uri}' has fewer bytes than expected")));
        }
        Ok(bytes)
    }

    /// Copies the bytes of `range` into a new file. Returns their xxh3-128 hash.
    pub async fn get_to_file(&self, uri: &str, range: Range<u64>, target: &FilePath) -> Result<u128> {
        let source = self.target(uri)?;
        let local = |e: std::io::Error| StateError::Storage(format!("cannot write '{}': {e}", target.display()));
        let mut file = tokio::fs::File::create(target).await.map_err(local)?;
        let mut hash = Xxh3::new();
        if let Target::File(path) = &source {
            let (path, range) = (path.clone(), range);
            let bytes = file_work(move || files::get_range(&path, range)).await?;
            hash.update(&bytes);
            file.write_all(&bytes).await.map_err(local)?;
        } else if range.start < range.end {
            let (store, path) = source.store();
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            let result = store.get_opts(path, options).await.map_err(|e| source.explain("read", uri, &e))?;
            let mut chunks = result.into_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|e| source.explain("read", uri, &e))?;
                hash.update(&chunk);
                file.write_all(&chunk).await.map_err(local)?;
            }
        }
        file.flush().await.map_err(local)?;
        Ok(hash.digest128())
    }

    /// Writes an object, over what is there.
    pub async fn put(&self, uri: &str, content: Bytes) -> Result<()> {
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            return file_work(move || files::put(&path, &content)).await;
        }
        let (store, path) = target.store();
        store.put(path, content.into()).await.map(drop).map_err(|e| target.explain("write", uri, &e))
    }

    /// Copies a file into an object; large ones in parts, without holding them in memory.
    pub async fn put_file(&self, uri: &str, source: &FilePath) -> Result<()> {
        let local = |e: std::io::Error| StateError::Storage(format!("cannot read '{}': {e}", source.display()));
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            let source = source.to_owned();
            return file_work(move || files::put_file(&path, &source)).await;
        }
        let mut file = tokio::fs::File::open(source).await.map_err(local)?;
        if file.metadata().await.map_err(local)?.len() <= MULTIPART_THRESHOLD {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.map_err(local)?;
            return self.put(uri, bytes.into()).await;
        }
        let (store, path) = target.store();
        let failed = |e: object_store::Error| target.explain("write", uri, &e);
        let upload = store.put_multipart(path).await.map_err(failed)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_SIZE);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).await.map_err(local)?;
            if read == 0 {
                break;
            }
            writer.wait_for_capacity(CONCURRENT_PARTS).await.map_err(failed)?;
            writer.write(&buffer[..read]);
        }
        writer.finish().await.map(drop).map_err(failed)
    }

    /// Creates an object. Of concurrent creators exactly one succeeds.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the object exists already.
    pub async fn put_if_absent(&self, uri: &str, content: Bytes) -> Result<Version> {
        match self.target(uri)? {
            Target::File(path) => file_work(move || files::put_if_absent(&path, &content)).await,
            target => {
                let refused = || StateError::Conflict(format!("'{uri}' exists already"));
                target.conditional_put("create", uri, content, PutMode::Create, refused).await
            }
        }
    }

    /// Replaces an object whose version is `expected`.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when it has another version or does not exist.
    pub async fn compare_and_swap(&self, uri: &str, expected: &Version, content: Bytes) -> Result<Version> {
        match self.target(uri)? {
            Target::File(path) => {
                let expected = expected.clone();
                file_work(move || files::compare_and_swap(&path, &expected, &content)).await
            }
            target => {
                let refused = || StateError::Conflict(format!("'{uri}' was changed by another writer"));
                let mode = PutMode::Update(UpdateVersion { e_tag: Some(expected.0.clone()), version: None });
                target.conditional_put("replace", uri, content, mode, refused).await
            }
        }
    }

    /// Deletes an object; it is no error if there is none.
    pub async fn delete(&self, uri: &str) -> Result<()> {
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            return file_work(move || files::delete(&path)).await;
        }
        let (store, path) = target.store();
        match store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(target.explain("delete", uri, &e)),
        }
    }

    /// Deletes everything under a directory.
    pub async fn delete_all(&self, directory: &str) -> Result<()> {
        let target = self.target(directory)?;
        if let Target::File(path) = target {
            return file_work(move || files::delete_directory(&path)).await;
        }
        let (store, path) = target.store();
        let paths = store.list(Some(path)).map_ok(|meta| meta.location).boxed();
        let mut deleted = store.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(target.explain("delete", directory, &e)),
            }
        }
        Ok(())
    }

    /// Removes a directory of a file system if it is empty; elsewhere there are no directories.
    pub async fn delete_empty_directory(&self, directory: &str) -> Result<()> {
        if let Target::File(path) = self.target(directory)? {
            return file_work(move || {
                files::delete_empty_directory(&path);
                Ok(())
            })
            .await;
        }
        Ok(())
    }

    /// All objects under a directory, at any depth, in the order of their URIs. Empty when there is
    /// no such directory.
    pub async fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>> {
        let target = self.target(directory)?;
        let location = Location::parse(directory)?;
        if let Target::File(root) = target {
            let directory = directory.to_owned();
            return file_work(move || {
                let to_uri = |path: &FilePath| match path.strip_prefix(&root) {
                    Ok(rest) if !rest.as_os_str().is_empty() => join(&directory, &rest.to_string_lossy()),
                    _ => directory.clone(),
                };
                files::list(&root, &to_uri)
            })
            .await;
        }
        let base = match &location {
            Location::S3 { base, .. } => base.clone(),
            Location::Memory { name, .. } => format!("memory://{name}/"),
            Location::File(_) => unreachable!("handled above"),
        };
        let (store, path) = target.store();
        let found = store.list(Some(path)).try_collect::<Vec<_>>().await;
        let mut found: Vec<ObjectInfo> = found
            .map_err(|e| target.explain("list", directory, &e))?
            .into_iter()
            .map(|meta| ObjectInfo {
                uri: format!("{base}{}", meta.location),
                size: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .collect();
        found.sort_by(|a, b| a.uri.cmp(&b.uri));
        Ok(found)
    }

    /// Whether an object exists.
    pub async fn exists(&self, uri: &str) -> Result<bool> {
        let target = self.target(uri)?;
        if let Target::File(path) = target {
            return file_work(move || files::exists(&path)).await;
        }
        let (store, path) = target.store();
        match store.head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(target.explain("look up", uri, &e)),
        }
    }
}

impl Target {
    /// The store and the path in it.
    ///
    /// # Panics
    /// For a file: those are handled before.
    fn store(&self) -> (&dyn ObjectStore, &Path) {
        match self {
            Target::File(path) => unreachable!("'{}' is handled as a file", path.display()),
            Target::Memory(store, path) => (store.as_ref(), path),
            Target::S3(bucket, path) => (&bucket.store, path),
        }
    }

    fn explain(&self, operation: &str, uri: &str, error: &object_store::Error) -> StateError {
        match (self, error) {
            (Target::S3(bucket, _), _) => bucket.explain(operation, uri, error),
            (_, object_store::Error::NotFound { .. }) => {
                StateError::NotFound(format!("cannot {operation} '{uri}': it does not exist"))
            }
            _ => StateError::Storage(format!("cannot {operation} '{uri}': {}", s3::text_of(error))),
        }
    }

    async fn conditional_put(
        &self,
        operation: &str,
        uri: &str,
        content: Bytes,
        mode: PutMode,
        refused: impl FnOnce() -> StateError,
    ) -> Result<Version> {
        let outcome = match self {
            Target::S3(bucket, path) => conditional::put(&bucket.once, path, content, mode, bucket.retries).await,
            _ => {
                let (store, path) = self.store();
                let no_retries = Retries { max: 0, time: std::time::Duration::ZERO };
                conditional::put(store, path, content, mode, no_retries).await
            }
        };
        match outcome {
            Outcome::Written(version) => Ok(version),
            Outcome::Refused => Err(refused()),
            Outcome::Failed(error) => Err(self.explain(operation, uri, &error)),
            Outcome::InDoubt(error) => Err(match self.explain(operation, uri, &error) {
                // Kinds that do not say that nothing was written.
                error @ (StateError::Storage(_) | StateError::Connection(_)) => error,
                certain => StateError::Storage(format!("it is not known whether it was written: {certain}")),
            }),
        }
    }
}

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;
