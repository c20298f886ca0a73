//! Checkpoints of a job in object storage, for the JobManager.
//!
//! ```text
//! <execution.checkpointing.dir>/<job id>/HEAD               which checkpoints are complete
//! <execution.checkpointing.dir>/<job id>/chk-<id>/_metadata  what a checkpoint consists of
//! <savepoint folder>/savepoint-<job>-<random>/_metadata      the same of a savepoint, beside its files
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use hurtig_scheduler::storage::{CheckpointStorage, StorageError, Version};
use hurtig_state::StateError;
use hurtig_state::checkpoint::{CheckpointStore, delete_savepoint, read_savepoint, write_savepoint};
use hurtig_state::storage::{self, ObjectStores};

/// The checkpoint objects of one job.
pub(super) struct JobStorage {
    stores: Arc<ObjectStores>,
    job: JobId,
    store: CheckpointStore,
}

impl JobStorage {
    /// For `job`, below the folder of all checkpoints.
    pub fn new(stores: Arc<ObjectStores>, job: JobId, folder: &str) -> JobStorage {
        let store = CheckpointStore::new(stores.clone(), folder, job.as_str());
        JobStorage { stores, job, store }
    }
}

#[async_trait]
impl CheckpointStorage for JobStorage {
    fn directory(&self) -> String {
        self.store.directory().to_owned()
    }

    async fn load_head(&self) -> Result<Option<(v1::Head, Version)>, StorageError> {
        let found = self.store.load_head().await.map_err(storage_error)?;
        Ok(found.map(|(head, version)| (head, Version(version.as_str().to_owned()))))
    }

    async fn swap_head(&self, head: &v1::Head, expected: Option<&Version>) -> Result<Version, StorageError> {
        let expected = expected.map(|version| storage::Version::from(version.0.clone()));
        let version = self.store.swap_head(expected.as_ref(), head).await.map_err(storage_error)?;
        Ok(Version(version.as_str().to_owned()))
    }

    async fn write_metadata(
        &self,
        metadata: &v1::CheckpointMetadata,
        savepoint_folder: Option<&str>,
    ) -> Result<String, StorageError> {
        let Some(folder) = savepoint_folder else {
            return Ok(self.store.write_metadata(metadata).await.map_err(storage_error)?.0);
        };
        write_savepoint(&self.stores, folder, metadata).await.map_err(storage_error)?;
        Ok(folder.to_owned())
    }

    async fn read_metadata(&self, object: &str) -> Result<v1::CheckpointMetadata, StorageError> {
        read_savepoint(&self.stores, object).await.map_err(storage_error)
    }

    async fn read_beside(&self, object: &str) -> Result<Vec<v1::CheckpointMetadata>, StorageError> {
        let folder = object.rsplitn(3, '/').nth(2).unwrap_or_default();
        let is_checkpoint = |uri: &str| {
            let mut parts = uri.rsplitn(3, '/');
            parts.next() == Some("_metadata") && parts.next().is_some_and(|name| name.starts_with("chk-"))
        };
        let mut others = Vec::new();
        for found in self.stores.list(folder).await.map_err(storage_error)? {
            if is_checkpoint(&found.uri) && found.uri != object {
                match read_savepoint(&self.stores, &found.uri).await {
                    Ok(metadata) => others.push(metadata),
                    // Deleted meanwhile.
                    Err(StateError::NotFound(_)) => {}
                    // Nobody can restore it, so it needs no files.
                    Err(StateError::Corrupt(reason)) => {
                        tracing::warn!(object = found.uri, reason, "a checkpoint beside the one to claim is damaged");
                    }
                    Err(error) => return Err(storage_error(error)),
                }
            }
        }
        Ok(others)
    }

    async fn delete(&self, objects: &[String]) -> Result<(), StorageError> {
        let mut failures = Vec::new();
        let mut folders = BTreeSet::new();
        for object in objects {
            match self.stores.delete(object).await {
                Ok(()) => folders.extend(own_folder(object)),
                Err(error) => failures.push(error.to_string()),
            }
        }
        for folder in folders {
            if let Err(error) = self.stores.delete_empty_directory(folder).await {
                failures.push(error.to_string());
            }
        }
        all_deleted(&failures)
    }

    async fn delete_folder(&self, folder: &str) -> Result<(), StorageError> {
        delete_savepoint(&self.stores, folder).await.map_err(storage_error)
    }

    async fn sweep(&self, ids: std::ops::Range<u64>, kept: &[u64]) -> Result<(), StorageError> {
        let removed = self.store.sweep(ids, kept).await.map_err(storage_error)?;
        if removed.objects > 0 {
            tracing::info!(job = %self.job, objects = removed.objects, "deleted what earlier JobManagers had left");
        }
        all_deleted(&removed.failures)
    }
}

/// The folder of `object`, if it is that of one checkpoint or savepoint only.
fn own_folder(object: &str) -> Option<&str> {
    let (folder, _) = object.rsplit_once('/')?;
    let name = folder.rsplit('/').next()?;
    (name.starts_with("chk-") || name.starts_with("savepoint-")).then_some(folder)
}

/// One error for all that could not be deleted; the others were.
fn all_deleted(failures: &[String]) -> Result<(), StorageError> {
    match failures.first() {
        None => Ok(()),
        Some(first) => {
            Err(StorageError::Unavailable(format!("{} objects are left; the first: {first}", failures.len())))
        }
    }
}

/// Whether trying again may help decides what the coordinator does.
pub(super) fn storage_error(error: StateError) -> StorageError {
    let message = error.to_string();
    match error {
        StateError::Conflict(_) => StorageError::Conflict(message),
        StateError::NotFound(_) => StorageError::NotFound(message),
        StateError::Corrupt(_) => StorageError::Damaged(message),
        StateError::Storage(_) | StateError::Connection(_) => StorageError::Unavailable(message),
        _ => StorageError::Permanent(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobId {
        JobId::from_u128(7)
    }

    fn of(base: &std::path::Path) -> JobStorage {
        JobStorage::new(Arc::new(ObjectStores::default()), job(), &format!("file://{}", base.display()))
    }

    #[tokio::test]
    async fn head_is_changed_only_on_the_version_last_read() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        assert_eq!(storage.load_head().await.unwrap(), None);
        let head = |epoch| v1::Head { epoch, ..Default::default() };
        let first = storage.swap_head(&head(1), None).await.unwrap();
        assert!(matches!(storage.swap_head(&head(2), None).await, Err(StorageError::Conflict(_))));
        let second = storage.swap_head(&head(2), Some(&first)).await.unwrap();
        assert!(matches!(storage.swap_head(&head(3), Some(&first)).await, Err(StorageError::Conflict(_))));
        let (found, version) = storage.load_head().await.unwrap().unwrap();
        assert_eq!((found.epoch, version), (2, second));
    }

    #[tokio::test]
    async fn metadata_is_created_once_read_and_deleted() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let metadata = v1::CheckpointMetadata { checkpoint_id: 5, job_id: job().to_string(), ..Default::default() };
        let object = storage.write_metadata(&metadata, None).await.unwrap();
        assert!(object.ends_with(&format!("{}/chk-5/_metadata", job())), "{object}");
        let other = v1::CheckpointMetadata { timestamp_ms: 1, ..metadata.clone() };
        assert!(matches!(storage.write_metadata(&other, None).await, Err(StorageError::Conflict(_))));
        assert_eq!(storage.read_metadata(&object).await.unwrap().checkpoint_id, 5);
        storage.delete(std::slice::from_ref(&object)).await.unwrap();
        assert!(matches!(storage.read_metadata(&object).await, Err(StorageError::NotFound(_))));
    }

    #[tokio::test]
    async fn a_damaged_checkpoint_beside_another_is_no_reason_to_refuse_that() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let mut objects = Vec::new();
        for checkpoint_id in 4..=6 {
            let metadata = v1::CheckpointMetadata { checkpoint_id, job_id: job().to_string(), ..Default::default() };
            objects.push(storage.write_metadata(&metadata, None).await.unwrap());
        }
        std::fs::write(objects[2].strip_prefix("file://").unwrap(), [0xff; 40]).unwrap();
        let others = storage.read_beside(&objects[0]).await.unwrap();
        assert_eq!(others.iter().map(|other| other.checkpoint_id).collect::<Vec<_>>(), [5]);
    }

    #[tokio::test]
    async fn one_object_that_cannot_be_deleted_does_not_keep_the_others() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let metadata = v1::CheckpointMetadata { checkpoint_id: 5, job_id: job().to_string(), ..Default::default() };
        let object = storage.write_metadata(&metadata, None).await.unwrap();
        let error = storage.delete(&["nowhere://x".to_owned(), object.clone()]).await.unwrap_err();
        assert!(error.to_string().starts_with("1 objects are left"), "{error}");
        assert!(matches!(storage.read_metadata(&object).await, Err(StorageError::NotFound(_))));
    }

    #[tokio::test]
    async fn a_sweep_leaves_what_is_kept_and_what_is_new() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let mut objects = Vec::new();
        for checkpoint_id in [3, 4, 9] {
            let metadata = v1::CheckpointMetadata { checkpoint_id, job_id: job().to_string(), ..Default::default() };
            objects.push(storage.write_metadata(&metadata, None).await.unwrap());
        }
        storage.sweep(0..9, &[4]).await.unwrap();
        assert!(matches!(storage.read_metadata(&objects[0]).await, Err(StorageError::NotFound(_))));
        assert!(storage.read_metadata(&objects[1]).await.is_ok() && storage.read_metadata(&objects[2]).await.is_ok());
    }

    #[tokio::test]
    async fn a_savepoint_is_read_by_its_folder_and_deleted_with_everything_in_it() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let metadata = v1::CheckpointMetadata { checkpoint_id: 5, savepoint: true, ..Default::default() };
        let target = base.path().join("savepoints/savepoint-1").display().to_string();
        assert_eq!(storage.write_metadata(&metadata, Some(&target)).await.unwrap(), target);
        assert!(storage.read_metadata(&target).await.unwrap().savepoint);
        std::fs::write(base.path().join("savepoints/savepoint-1/1-x.sst"), "x").unwrap();
        storage.delete_folder(&target).await.unwrap();
        assert!(!base.path().join("savepoints/savepoint-1").exists());
    }

    #[tokio::test]
    async fn the_folder_of_a_checkpoint_goes_with_its_last_object() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let metadata = v1::CheckpointMetadata { checkpoint_id: 5, ..Default::default() };
        let object = storage.write_metadata(&metadata, None).await.unwrap();
        let folder = base.path().join(job().as_str()).join("chk-5");
        std::fs::write(folder.join("5-x"), "x").unwrap();
        storage.delete(std::slice::from_ref(&object)).await.unwrap();
        assert!(folder.exists());
        storage.delete(&[object.replace("_metadata", "5-x")]).await.unwrap();
        assert!(!folder.exists());
    }
}
