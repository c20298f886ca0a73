//! Checkpoint storage in memory, for tests and the simulator.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hurtig_proto::v1;
use parking_lot::Mutex;

use super::{CheckpointStorage, StorageError, StorageReply, StorageRequest, Version};

/// Holds HEAD and metadata objects of one job. Does at once what it is asked; whoever wants faults
/// (lost answers, failed calls) leaves out [`MemoryStore::apply`] or its answer.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    /// HEAD with the number of swaps, which is its version.
    pub head: Option<(v1::Head, u64)>,
    swaps: u64,
    /// Metadata objects by URI.
    pub metadata: BTreeMap<String, v1::CheckpointMetadata>,
    /// URIs that were deleted, in order.
    pub deleted: Vec<String>,
}

/// The folder of which all URIs of a [`MemoryStore`] begin.
pub const MEMORY_DIRECTORY: &str = "memory://checkpoints";

impl MemoryStore {
    /// Does what `request` asks.
    pub fn apply(&mut self, request: &StorageRequest) -> StorageReply {
        match request {
            StorageRequest::LoadHead => {
                let head = self.head.as_ref().map(|(head, version)| (head.clone(), Version(version.to_string())));
                StorageReply::Head(Ok(head))
            }
            StorageRequest::SwapHead { head, expected } => StorageReply::Swapped(self.swap(head, expected.as_ref())),
            StorageRequest::WriteMetadata { metadata, savepoint_folder } => {
                StorageReply::MetadataWritten(self.write(metadata, savepoint_folder.as_deref()))
            }
            StorageRequest::ReadMetadata { object } => {
                let folder = object.trim_end_matches('/').trim_end_matches("/_metadata");
                let found = self.metadata.get(folder).or_else(|| self.metadata.get(&format!("{folder}/_metadata")));
                let found = found.cloned().map(Box::new);
                StorageReply::Metadata(found.ok_or_else(|| StorageError::NotFound(format!("{object} does not exist"))))
            }
            StorageRequest::ReadBeside { object } => {
                let own = object.trim_end_matches("/_metadata");
                let folder = own.rsplit_once('/').map_or(own, |(folder, _)| folder);
                let beside = |key: &str| key.strip_prefix(folder).is_some_and(|rest| rest.starts_with("/chk-"));
                let others = self.metadata.iter().filter(|(key, _)| beside(key) && *key != object);
                StorageReply::Beside(Ok(others.map(|(_, metadata)| metadata.clone()).collect()))
            }
            StorageRequest::Delete { objects } => {
                for object in objects {
                    // That of a savepoint goes by its folder.
                    self.metadata.remove(object.trim_end_matches("/_metadata"));
                    self.metadata.remove(object);
                    self.deleted.push(object.clone());
                }
                StorageReply::Deleted(Ok(()))
            }
            StorageRequest::DeleteFolder { folder } => {
                self.metadata.remove(folder);
                self.deleted.push(folder.clone());
                StorageReply::Deleted(Ok(()))
            }
            // State files are not kept here.
            StorageRequest::Sweep { .. } => StorageReply::Deleted(Ok(())),
        }
    }

    fn swap(&mut self, head: &v1::Head, expected: Option<&Version>) -> Result<Version, StorageError> {
        let current = self.head.as_ref().map(|(_, version)| Version(version.to_string()));
        if current.as_ref() != expected {
            return Err(StorageError::Conflict("HEAD has another version than expected".into()));
        }
        self.swaps += 1;
        self.head = Some((head.clone(), self.swaps));
        Ok(Version(self.swaps.to_string()))
    }

    fn write(&mut self, metadata: &v1::CheckpointMetadata, folder: Option<&str>) -> Result<String, StorageError> {
        let uri = match folder {
            Some(folder) => folder.to_owned(),
            None => format!("{MEMORY_DIRECTORY}/chk-{}/_metadata", metadata.checkpoint_id),
        };
        if self.metadata.get(&uri).is_some_and(|there| there != metadata) {
            return Err(StorageError::Conflict(format!("{uri} exists already")));
        }
        self.metadata.insert(uri.clone(), metadata.clone());
        Ok(uri)
    }
}

/// A [`MemoryStore`] behind the trait.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    store: Mutex<MemoryStore>,
}

impl MemoryStorage {
    /// What it holds now.
    pub fn contents(&self) -> MemoryStore {
        self.store.lock().clone()
    }

    fn apply(&self, request: &StorageRequest) -> StorageReply {
        self.store.lock().apply(request)
    }
}

/// What [`MemoryStore::apply`] answers to a request of another kind; cannot happen.
fn mismatch<T>(reply: StorageReply) -> Result<T, StorageError> {
    Err(StorageError::Permanent(format!("the store answered another question: {reply:?}")))
}

#[async_trait]
impl CheckpointStorage for MemoryStorage {
    fn directory(&self) -> String {
        MEMORY_DIRECTORY.to_owned()
    }

    async fn load_head(&self) -> Result<Option<(v1::Head, Version)>, StorageError> {
        match self.apply(&StorageRequest::LoadHead) {
            StorageReply::Head(result) => result,
            other => mismatch(other),
        }
    }

    async fn swap_head(&self, head: &v1::Head, expected: Option<&Version>) -> Result<Version, StorageError> {
        self.store.lock().swap(head, expected)
    }

    async fn write_metadata(
        &self,
        metadata: &v1::CheckpointMetadata,
        savepoint_folder: Option<&str>,
    ) -> Result<String, StorageError> {
        self.store.lock().write(metadata, savepoint_folder)
    }

    async fn read_metadata(&self, object: &str) -> Result<v1::CheckpointMetadata, StorageError> {
        match self.apply(&StorageRequest::ReadMetadata { object: object.to_owned() }) {
            StorageReply::Metadata(result) => result.map(|metadata| *metadata),
            other => mismatch(other),
        }
    }

    async fn delete_folder(&self, folder: &str) -> Result<(), StorageError> {
        match self.apply(&StorageRequest::DeleteFolder { folder: folder.to_owned() }) {
            StorageReply::Deleted(result) => result,
            other => mismatch(other),
        }
    }

    async fn delete(&self, objects: &[String]) -> Result<(), StorageError> {
        match self.apply(&StorageRequest::Delete { objects: objects.to_vec() }) {
            StorageReply::Deleted(result) => result,
            other => mismatch(other),
        }
    }
}
