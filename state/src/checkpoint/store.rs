//! [`CheckpointStore`]: HEAD, metadata and deletion for one job.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use hurtig_proto::v1;
use parking_lot::Mutex;

use super::frame::{self, Kind};
use crate::error::{Result, StateError};
use crate::hash::KEY_HASH_VERSION;
use crate::storage::{ObjectStores, Version, join};

pub(super) const METADATA: &str = "_metadata";

/// The durable truth about one job's checkpoints. Asynchronous; keeps no state but what it has read
/// and written, so that any number of leaders may have one.
pub struct CheckpointStore {
    stores: Arc<ObjectStores>,
    directory: String,
    /// Objects that the metadata written or read here refers to, by checkpoint.
    known: Mutex<BTreeMap<u64, BTreeSet<String>>>,
}

/// What a deletion has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Objects deleted.
    pub objects: u64,
    /// Why some could not be; they are left for [`CheckpointStore::sweep`].
    pub failures: Vec<String>,
}

impl CheckpointStore {
    /// The store of job `job_id` under the configured checkpoint directory.
    pub fn new(stores: Arc<ObjectStores>, checkpoint_directory: &str, job_id: &str) -> Self {
        CheckpointStore { stores, directory: join(checkpoint_directory, job_id), known: Mutex::default() }
    }

    /// The job's directory, as [`crate::backend::SnapshotTarget::checkpoint`] takes it.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    fn head_object(&self) -> String {
        join(&self.directory, "HEAD")
    }

    /// The object that holds the metadata of a checkpoint.
    pub fn metadata_object(&self, checkpoint: u64) -> String {
        join(&self.directory, &format!("chk-{checkpoint}/{METADATA}"))
    }

    /// HEAD and its version; `None` for a job that has none yet.
    pub async fn load_head(&self) -> Result<Option<(v1::Head, Version)>> {
        let object = self.head_object();
        match self.stores.get_versioned(&object).await {
            Ok((bytes, version)) => Ok(Some((frame::decode(Kind::Head, &bytes, &object)?, version))),
            Err(StateError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces HEAD, whose version must be `expected` (`None`: there is none yet). Returns the new
    /// version.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when another leader has changed it: this one is deposed. After any
    /// other error it is unknown which HEAD is there: load it before going on.
    pub async fn swap_head(&self, expected: Option<&Version>, head: &v1::Head) -> Result<Version> {
        let head = v1::Head { format_version: u32::from(frame::FORMAT_VERSION), ..head.clone() };
        let (object, content) = (self.head_object(), frame::encode(Kind::Head, &head));
        match expected {
            Some(version) => self.stores.compare_and_swap(&object, version, content).await,
            None => self.stores.put_if_absent(&object, content).await,
        }
    }

    /// Writes the metadata of a checkpoint, create-only. Returns its object and size in bytes. It is
    /// no error when exactly this metadata is there already.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when other metadata of this checkpoint is there.
    pub async fn write_metadata(&self, metadata: &v1::CheckpointMetadata) -> Result<(String, u64)> {
        let object = self.metadata_object(metadata.checkpoint_id);
        let size = create(&self.stores, &object, metadata).await?;
        self.known.lock().insert(metadata.checkpoint_id, referenced(metadata));
        Ok((object, size))
    }

    /// The metadata of a checkpoint of this job.
    pub async fn read_metadata(&self, checkpoint: u64) -> Result<v1::CheckpointMetadata> {
        let metadata = read(&self.stores, &self.metadata_object(checkpoint)).await?;
        self.known.lock().insert(checkpoint, referenced(&metadata));
        Ok(metadata)
    }

    /// Deletes the files of checkpoints that HEAD names no more, except those that a checkpoint in
    /// `kept` refers to. `kept` holds the retained checkpoints and the bases of pending ones: what
    /// tasks may refer to in checkpoints that they are taking now. Idempotent.
    ///
    /// # Errors
    /// Only when the metadata of a kept checkpoint cannot be read: then nothing is deleted.
    pub async fn discard(&self, dropped: &[u64], kept: &[u64]) -> Result<Removed> {
        let keep = self.referenced_by(kept).await?;
        let mut removed = Removed::default();
        for &checkpoint in dropped.iter().filter(|c| !kept.contains(c)) {
            match self.referenced_by(&[checkpoint]).await {
                Ok(objects) => {
                    let own = objects.iter().filter(|o| self.owns(o) && !keep.contains(*o));
                    self.delete(own, &mut removed).await;
                }
                // Deleted before, or never written.
                Err(StateError::NotFound(_)) => {}
                Err(error) => removed.failures.push(error.to_string()),
            }
            let directory = join(&self.directory, &format!("chk-{checkpoint}"));
            match self.stores.list(&directory).await {
                Ok(rest) => {
                    let rest = rest.iter().map(|o| &o.uri).filter(|o| !keep.contains(*o));
                    self.delete(rest, &mut removed).await;
                }
                Err(error) => removed.failures.push(error.to_string()),
            }
            if let Err(error) = self.stores.delete_empty_directory(&directory).await {
                removed.failures.push(error.to_string());
            }
            self.known.lock().remove(&checkpoint);
        }
        Ok(removed)
    }

    /// Deletes shared files and checkpoint directories of checkpoints in `ids` that no checkpoint in
    /// `kept` (as in [`CheckpointStore::discard`]) refers to: what aborted checkpoints, failed attempts
    /// and deposed leaders have left. None of `ids` may be pending.
    pub async fn sweep(&self, ids: Range<u64>, kept: &[u64]) -> Result<Removed> {
        let keep = self.referenced_by(kept).await?;
        let mut removed = Removed::default();
        let prefix = format!("{}/", self.directory.trim_end_matches('/'));
        let found = self.stores.list(&self.directory).await?;
        let swept = found.iter().map(|o| &o.uri).filter(|uri| {
            let Some(path) = uri.strip_prefix(&prefix) else { return false };
            let checkpoint = match path.split_once('/') {
                Some(("shared", name)) => name.split('-').next(),
                Some((directory, _)) => directory.strip_prefix("chk-"),
                None => None,
            };
            let checkpoint = checkpoint.and_then(|id| id.parse::<u64>().ok());
            let obsolete = |id: u64| ids.contains(&id) && (path.starts_with("shared/") || !kept.contains(&id));
            checkpoint.is_some_and(obsolete) && !keep.contains(*uri)
        });
        self.delete(swept, &mut removed).await;
        Ok(removed)
    }

    /// Deletes everything of the job: HEAD first, so that no half of it can be restored.
    pub async fn delete_job(&self) -> Result<()> {
        self.stores.delete(&self.head_object()).await?;
        self.known.lock().clear();
        self.stores.delete_all(&self.directory).await
    }

    fn owns(&self, object: &str) -> bool {
        object.strip_prefix(self.directory.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    async fn referenced_by(&self, checkpoints: &[u64]) -> Result<BTreeSet<String>> {
        let mut objects = BTreeSet::new();
        for &checkpoint in checkpoints {
            let known = self.known.lock().get(&checkpoint).cloned();
            match known {
                Some(known) => objects.extend(known),
                None => objects.extend(referenced(&self.read_metadata(checkpoint).await?)),
            }
        }
        Ok(objects)
    }

    async fn delete(&self, objects: impl Iterator<Item = &String>, removed: &mut Removed) {
        for object in objects {
            match self.stores.delete(object).await {
                Ok(()) => removed.objects += 1,
                Err(error) => removed.failures.push(error.to_string()),
            }
        }
    }
}

/// Every object that a checkpoint's metadata refers to.
fn referenced(metadata: &v1::CheckpointMetadata) -> BTreeSet<String> {
    let subtasks = metadata.vertices.iter().flat_map(|v| &v.subtasks);
    let files = subtasks.filter_map(|s| s.keyed.as_ref()).flat_map(|k| &k.files);
    files.filter_map(|f| f.handle.as_ref()).map(|h| h.object.clone()).filter(|o| !o.is_empty()).collect()
}

pub(super) async fn create(stores: &ObjectStores, object: &str, metadata: &v1::CheckpointMetadata) -> Result<u64> {
    let metadata = v1::CheckpointMetadata {
        format_version: u32::from(frame::FORMAT_VERSION),
        key_hash_version: KEY_HASH_VERSION,
        ..metadata.clone()
    };
    let content = frame::encode(Kind::CheckpointMetadata, &metadata);
    let size = content.len() as u64;
    match stores.put_if_absent(object, content.clone()).await {
        Ok(_) => Ok(size),
        Err(conflict @ StateError::Conflict(_)) => {
            // Written by an attempt whose answer was lost.
            if stores.get(object).await? == content { Ok(size) } else { Err(conflict) }
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn read(stores: &ObjectStores, object: &str) -> Result<v1::CheckpointMetadata> {
    let bytes = stores.get(object).await?;
    let metadata: v1::CheckpointMetadata = frame::decode(Kind::CheckpointMetadata, &bytes, object)?;
    if metadata.key_hash_version != KEY_HASH_VERSION {
        return Err(StateError::Incompatible(format!(
            "'{object}' was written with key hash version {}, this version of Hurtig has {KEY_HASH_VERSION}",
            metadata.key_hash_version
        )));
    }
    Ok(metadata)
}
