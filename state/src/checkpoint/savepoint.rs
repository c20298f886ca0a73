//! Savepoints in object storage: a directory each, which refers to nothing outside and can be moved.
//!
//! In the stored metadata of a savepoint its files are named relative to the directory; whoever reads
//! it gets the names where the directory is now.

use hurtig_proto::v1;

use super::store::{METADATA, create, read};
use crate::error::{Result, StateError};
use crate::storage::{ObjectStores, join};

/// What names of savepoint directories begin with.
const PREFIX: &str = "savepoint-";

/// Writes the metadata of a savepoint into its directory; returns the object. It is no error when
/// exactly this metadata is there already.
///
/// # Errors
/// [`StateError::Conflict`] when the directory holds another savepoint.
pub async fn write_savepoint(
    stores: &ObjectStores,
    directory: &str,
    metadata: &v1::CheckpointMetadata,
) -> Result<String> {
    let object = join(directory, METADATA);
    let prefix = join(directory, "");
    let mut metadata = metadata.clone();
    for handle in handles(&mut metadata) {
        if let Some(name) = handle.object.strip_prefix(&prefix) {
            handle.object = name.to_owned();
        }
    }
    create(stores, &object, &metadata).await?;
    Ok(object)
}

/// The metadata that `pointer` leads to: the directory of a savepoint or retained checkpoint, or its
/// `_metadata` object.
///
/// # Errors
/// [`StateError::NotFound`] when there is none.
pub async fn read_savepoint(stores: &ObjectStores, pointer: &str) -> Result<v1::CheckpointMetadata> {
    let object = metadata_object(pointer);
    let mut metadata = match read(stores, &object).await {
        Err(StateError::NotFound(_)) => {
            return Err(StateError::NotFound(format!(
                "there is no savepoint or checkpoint at '{pointer}': it has no object '{METADATA}'"
            )));
        }
        result => result?,
    };
    let directory = directory_of(pointer);
    for handle in handles(&mut metadata) {
        let relative = !handle.object.contains(":/") && !handle.object.starts_with('/');
        if relative && !handle.object.is_empty() {
            handle.object = join(&directory, &handle.object);
        }
    }
    Ok(metadata)
}

/// The metadata object that a pointer (see [`read_savepoint`]) means.
pub fn metadata_object(pointer: &str) -> String {
    join(&directory_of(pointer), METADATA)
}

/// The directory that a pointer means.
fn directory_of(pointer: &str) -> String {
    let trimmed = pointer.trim_end_matches('/');
    let directory = trimmed.strip_suffix(METADATA).filter(|rest| rest.ends_with('/')).unwrap_or(trimmed);
    directory.trim_end_matches('/').to_owned()
}

/// The savepoints in a folder, by their directories.
///
/// # Errors
/// The folder cannot be listed, or the metadata of one cannot be read.
pub async fn list_savepoints(stores: &ObjectStores, folder: &str) -> Result<Vec<(String, v1::CheckpointMetadata)>> {
    let mut found = Vec::new();
    for object in stores.list(folder).await? {
        let Some(directory) = object.uri.strip_suffix(METADATA).and_then(|rest| rest.strip_suffix('/')) else {
            continue;
        };
        if directory.rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX)) {
            found.push((directory.to_owned(), read_savepoint(stores, directory).await?));
        }
    }
    Ok(found)
}

/// Deletes a savepoint: its metadata first, so that no half of it can be restored.
///
/// # Errors
/// [`StateError::NotFound`] when there is none; [`StateError::Incompatible`] for a checkpoint, whose
/// files others may refer to.
pub async fn dispose_savepoint(stores: &ObjectStores, pointer: &str) -> Result<()> {
    let metadata = read_savepoint(stores, pointer).await?;
    if !metadata.savepoint {
        return Err(StateError::Incompatible(format!(
            "'{pointer}' is a checkpoint, whose files others may refer to: start a job from it with \
             execution.state-recovery.claim-mode CLAIM, which then deletes it"
        )));
    }
    delete_savepoint(stores, &directory_of(pointer)).await
}

/// Deletes the directory of a savepoint, complete or not.
///
/// # Errors
/// Of the store.
pub async fn delete_savepoint(stores: &ObjectStores, directory: &str) -> Result<()> {
    stores.delete(&join(directory, METADATA)).await?;
    stores.delete_all(directory).await
}

fn handles(metadata: &mut v1::CheckpointMetadata) -> impl Iterator<Item = &mut v1::FileHandle> {
    let subtasks = metadata.vertices.iter_mut().flat_map(|vertex| &mut vertex.subtasks);
    let files = subtasks.filter_map(|subtask| subtask.keyed.as_mut()).flat_map(|keyed| &mut keyed.files);
    files.filter_map(|file| file.handle.as_mut())
}
