//! Checkpoints of a job in object storage, for the JobManager.
//!
//! ```text
//! <execution.checkpointing.dir>/<job id>/HEAD               which checkpoints are complete
//! <execution.checkpointing.dir>/<job id>/chk-<id>/_metadata  what a checkpoint consists of
//! <savepoint folder>/savepoint-<job>-<random>/_metadata
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use hurtig_scheduler::storage::{CheckpointStorage, StorageError, Version};
use hurtig_state::StateError;
use hurtig_state::checkpoint::{CheckpointStore, read_savepoint, write_savepoint};
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
        let Some(target) = savepoint_folder else {
            return Ok(self.store.write_metadata(metadata).await.map_err(storage_error)?.0);
        };
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("savepoint-{}-{}", &self.job.as_str()[..6], &random[..12]);
        let folder = storage::join(target, &name);
        write_savepoint(&self.stores, &folder, metadata).await.map_err(storage_error)?;
        Ok(folder)
    }

    async fn read_metadata(&self, object: &str) -> Result<v1::CheckpointMetadata, StorageError> {
        read_savepoint(&self.stores, object).await.map_err(storage_error)
    }

    async fn delete(&self, objects: &[String]) -> Result<(), StorageError> {
        let mut failures = Vec::new();
        for object in objects {
            if let Err(error) = self.stores.delete(object).await {
                failures.push(error.to_string());
            }
        }
        all_deleted(&failures)
    }

    async fn sweep(&self, below: u64, kept: &[u64]) -> Result<(), StorageError> {
        let removed = self.store.sweep(below, kept).await.map_err(storage_error)?;
        if removed.objects > 0 {
            tracing::info!(job = %self.job, objects = removed.objects, "deleted what earlier JobManagers had left");
        }
        all_deleted(&removed.failures)
    }
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
fn storage_error(error: StateError) -> StorageError {
    let message = error.to_string();
    match error {
        StateError::Conflict(_) => StorageError::Conflict(message),
        StateError::NotFound(_) => StorageError::NotFound(message),
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
        storage.sweep(9, &[4]).await.unwrap();
        assert!(matches!(storage.read_metadata(&objects[0]).await, Err(StorageError::NotFound(_))));
        assert!(storage.read_metadata(&objects[1]).await.is_ok() && storage.read_metadata(&objects[2]).await.is_ok());
    }

    #[tokio::test]
    async fn a_savepoint_has_a_folder_of_its_own_by_which_it_is_read() {
        let base = tempfile::tempdir().unwrap();
        let storage = of(base.path());
        let metadata = v1::CheckpointMetadata { checkpoint_id: 5, savepoint: true, ..Default::default() };
        let target = base.path().join("savepoints").display().to_string();
        let folder = storage.write_metadata(&metadata, Some(&target)).await.unwrap();
        assert!(folder.starts_with(&format!("{target}/savepoint-000000-")), "{folder}");
        assert!(storage.read_metadata(&folder).await.unwrap().savepoint);
    }
}
