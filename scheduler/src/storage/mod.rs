//! What the checkpoint coordinator needs of an object store.
//!
//! One [`CheckpointStorage`] belongs to one job. The truth about the job's checkpoints is its HEAD
//! object, changed only by compare-and-swap on the version last read. Metadata objects are written
//! before, create-only. The coordinator itself never calls this trait: it asks by
//! [`StorageRequest`]s and is told [`StorageReply`]s, so that the simulator can lose and delay them.

pub mod memory;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hurtig_proto::v1;
use thiserror::Error;

pub use memory::MemoryStorage;

/// What an object store answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StorageError {
    /// Compare-and-swap found another version than expected, or the object exists already.
    #[error("{0}")]
    Conflict(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Anything after which it is not known whether the write happened: timeouts, lost answers,
    /// server errors. May be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// The object is there and is not what it should be.
    #[error("{0}")]
    Damaged(String),
    /// Will not work whatever is tried: wrong credentials, no such bucket.
    #[error("{0}")]
    Permanent(String),
}

/// The version of HEAD that a store returned, opaque (an ETag).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// Checkpoint objects of one job.
#[async_trait]
pub trait CheckpointStorage: Send + Sync {
    /// Base URI under which tasks write the files of this job's checkpoints.
    fn directory(&self) -> String;

    /// HEAD and its version; `None` when the job has none yet.
    async fn load_head(&self) -> Result<Option<(v1::Head, Version)>, StorageError>;

    /// Replaces HEAD if its version is still `expected` (`None`: if there is none), and returns the
    /// new version.
    async fn swap_head(&self, head: &v1::Head, expected: Option<&Version>) -> Result<Version, StorageError>;

    /// Writes the metadata object of a checkpoint, create-only, and returns its URI. It is no error
    /// when exactly this metadata is there. With a savepoint's folder: into that, and returns it.
    async fn write_metadata(
        &self,
        metadata: &v1::CheckpointMetadata,
        savepoint_folder: Option<&str>,
    ) -> Result<String, StorageError>;

    /// Reads the metadata of a checkpoint or savepoint, by its metadata object or its folder.
    async fn read_metadata(&self, object: &str) -> Result<v1::CheckpointMetadata, StorageError>;

    /// The metadata of the other checkpoints that lie beside a checkpoint of which this is the metadata
    /// object. By default there are none.
    async fn read_beside(&self, _object: &str) -> Result<Vec<v1::CheckpointMetadata>, StorageError> {
        Ok(Vec::new())
    }

    /// Deletes objects; one that does not exist is no error.
    async fn delete(&self, objects: &[String]) -> Result<(), StorageError>;

    /// Deletes a savepoint's folder with everything in it; one that does not exist is no error. By
    /// default nothing.
    async fn delete_folder(&self, _folder: &str) -> Result<(), StorageError> {
        Ok(())
    }

    /// Deletes what aborted checkpoints, failed attempts and JobManagers that are no more have left:
    /// files of checkpoints in `ids` that none of the `kept` checkpoints refers to. None of `ids` may
    /// be under way. By default nothing.
    async fn sweep(&self, _ids: Range<u64>, _kept: &[u64]) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A call of [`CheckpointStorage`] that the coordinator wants made.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageRequest {
    /// See [`CheckpointStorage::load_head`].
    LoadHead,
    /// See [`CheckpointStorage::swap_head`].
    SwapHead {
        /// The new content.
        head: v1::Head,
        /// The version that it replaces.
        expected: Option<Version>,
    },
    /// See [`CheckpointStorage::write_metadata`].
    WriteMetadata {
        /// The content.
        metadata: Arc<v1::CheckpointMetadata>,
        /// Of a savepoint: its own.
        savepoint_folder: Option<String>,
    },
    /// See [`CheckpointStorage::read_metadata`].
    ReadMetadata {
        /// Its URI.
        object: String,
    },
    /// See [`CheckpointStorage::read_beside`].
    ReadBeside {
        /// URI.
        object: String,
    },
    /// See [`CheckpointStorage::delete`].
    Delete {
        /// URIs.
        objects: Vec<String>,
    },
    /// See [`CheckpointStorage::delete_folder`].
    DeleteFolder {
        /// URI.
        folder: String,
    },
    /// See [`CheckpointStorage::sweep`].
    Sweep {
        /// Checkpoint ids.
        ids: Range<u64>,
        /// Checkpoint ids.
        kept: Vec<u64>,
    },
}

/// The answer to a [`StorageRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum StorageReply {
    /// To [`StorageRequest::LoadHead`].
    Head(Result<Option<(v1::Head, Version)>, StorageError>),
    /// To [`StorageRequest::SwapHead`].
    Swapped(Result<Version, StorageError>),
    /// To [`StorageRequest::WriteMetadata`].
    MetadataWritten(Result<String, StorageError>),
    /// To [`StorageRequest::ReadMetadata`].
    Metadata(Result<Box<v1::CheckpointMetadata>, StorageError>),
    /// To [`StorageRequest::ReadBeside`].
    Beside(Result<Vec<v1::CheckpointMetadata>, StorageError>),
    /// To [`StorageRequest::Delete`], [`StorageRequest::DeleteFolder`] and [`StorageRequest::Sweep`].
    Deleted(Result<(), StorageError>),
}

impl StorageReply {
    /// The answer to `request` that says that it failed.
    pub fn of(request: &StorageRequest, error: StorageError) -> StorageReply {
        match request {
            StorageRequest::LoadHead => StorageReply::Head(Err(error)),
            StorageRequest::SwapHead { .. } => StorageReply::Swapped(Err(error)),
            StorageRequest::WriteMetadata { .. } => StorageReply::MetadataWritten(Err(error)),
            StorageRequest::ReadMetadata { .. } => StorageReply::Metadata(Err(error)),
            StorageRequest::ReadBeside { .. } => StorageReply::Beside(Err(error)),
            StorageRequest::Delete { .. } | StorageRequest::DeleteFolder { .. } | StorageRequest::Sweep { .. } => {
                StorageReply::Deleted(Err(error))
            }
        }
    }
}

/// Makes the call that `request` describes.
pub async fn perform(storage: &dyn CheckpointStorage, request: StorageRequest) -> StorageReply {
    match request {
        StorageRequest::LoadHead => StorageReply::Head(storage.load_head().await),
        StorageRequest::SwapHead { head, expected } => {
            StorageReply::Swapped(storage.swap_head(&head, expected.as_ref()).await)
        }
        StorageRequest::WriteMetadata { metadata, savepoint_folder } => {
            StorageReply::MetadataWritten(storage.write_metadata(&metadata, savepoint_folder.as_deref()).await)
        }
        StorageRequest::ReadMetadata { object } => {
            StorageReply::Metadata(storage.read_metadata(&object).await.map(Box::new))
        }
        StorageRequest::ReadBeside { object } => StorageReply::Beside(storage.read_beside(&object).await),
        StorageRequest::Delete { objects } => StorageReply::Deleted(storage.delete(&objects).await),
        StorageRequest::DeleteFolder { folder } => StorageReply::Deleted(storage.delete_folder(&folder).await),
        StorageRequest::Sweep { ids, kept } => StorageReply::Deleted(storage.sweep(ids, &kept).await),
    }
}
