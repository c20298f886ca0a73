//! Snapshots of a task's database: write-back, RocksDB checkpoint by hard links, upload.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt};
use hurtig_proto::v1;
use rocksdb::checkpoint::Checkpoint;

use super::rocks::Database;
use super::{FrozenCell, KeyedBackend, remove_directory};
use crate::error::{Result, StateError};
use crate::storage::join;

/// Version of `KeyedSnapshot`: with 2 it may carry entries instead of files.
pub(super) const SNAPSHOT_VERSION: u32 = 2;
/// Version of a snapshot without entries, which older readers understand.
const FILES_ONLY_VERSION: u32 = 1;

/// Files up to this size travel in the acknowledgement instead of an object of their own.
const INLINE_LIMIT: u64 = 20 << 10;

/// Where a snapshot's files go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTarget {
    /// Directory (URI) of files that later checkpoints may refer to. Only files in it are reused.
    pub shared: String,
    /// Directory of files of this checkpoint alone.
    pub exclusive: String,
}

impl SnapshotTarget {
    /// A checkpoint in the directory of a job, see [`crate::checkpoint`].
    pub fn checkpoint(job_directory: &str, checkpoint: u64) -> Self {
        SnapshotTarget {
            shared: join(job_directory, "shared"),
            exclusive: join(job_directory, &format!("chk-{checkpoint}")),
        }
    }

    /// A savepoint: everything in its own directory, referring to no other.
    pub fn savepoint(directory: &str) -> Self {
        SnapshotTarget { shared: directory.to_owned(), exclusive: directory.to_owned() }
    }

    fn is_savepoint(&self) -> bool {
        self.shared == self.exclusive
    }
}

impl KeyedBackend {
    /// Writes `frozen` back, in order, and then makes checkpoint `checkpoint` durable. Blocks: not for
    /// a task's thread. Gives `None` for a task without keyed state.
    ///
    /// The checkpoint should have been begun on the task's thread ([`KeyedBackend::begin_checkpoint`]).
    /// When it fails with [`StateError::Database`] the database is behind what the operators believe
    /// it holds, and the task must fail. After every other error (storage, an abort) the write-back
    /// is done, or left to the next checkpoint, which includes it.
    ///
    /// # Errors
    /// [`StateError::Aborted`] when [`KeyedBackend::abort`] was called for the checkpoint.
    pub fn snapshot(
        &self,
        checkpoint: u64,
        frozen: Vec<FrozenCell>,
        target: &SnapshotTarget,
    ) -> Result<Option<v1::KeyedSnapshot>> {
        if self.snapshotting.swap(true, Ordering::SeqCst) {
            return Err(StateError::Database(format!(
                "snapshot {checkpoint} began before the previous one of the task had ended"
            )));
        }
        let _ending = Ending(self);
        self.write_checkpoint(checkpoint, frozen)?;
        let completed = self.uploads.lock().completed;
        if let Some(local) = self.local.as_ref().filter(|_| completed > 0) {
            local.retain_from(&self.task, completed);
        }
        let tables = self.tables.lock().clone();
        if tables.is_empty() {
            return Ok(None);
        }
        let mut snapshot = v1::KeyedSnapshot {
            format_version: FILES_ONLY_VERSION,
            database_id: self.database_id.clone(),
            key_group_start: self.key_groups.0,
            key_group_end: self.key_groups.1,
            tables: tables.entries(),
            ..v1::KeyedSnapshot::default()
        };
        let Some(database) = self.database.get() else {
            let small = self.small.lock();
            if !small.is_empty() {
                snapshot.format_version = SNAPSHOT_VERSION;
                snapshot.entries = small.to_proto();
                snapshot.total_bytes = small.bytes();
            }
            return Ok(Some(snapshot));
        };
        self.check_aborted(checkpoint)?;
        let kept = if target.is_savepoint() { None } else { self.local.as_ref() };
        let linked = match kept {
            Some(local) => local.prepare(&self.task, checkpoint)?,
            None => self.directory.with_extension(format!("chk-{checkpoint}")),
        };
        let result = self.link_and_upload(database, checkpoint, target, &linked, &mut snapshot);
        match (&result, kept) {
            (Ok(_), Some(local)) => {
                if let Err(error) = local.seal(&self.task, checkpoint, &snapshot) {
                    tracing::warn!(%error, checkpoint, "cannot keep a local copy of the checkpoint");
                    local.discard(&self.task, checkpoint);
                }
            }
            (Err(_), Some(local)) => local.discard(&self.task, checkpoint),
            (_, None) => remove_directory(&linked),
        }
        let files = result?;
        if !target.is_savepoint() {
            self.uploads.lock().pending.insert(checkpoint, files);
        }
        Ok(Some(snapshot))
    }

    fn check_aborted(&self, checkpoint: u64) -> Result<()> {
        if self.uploads.lock().aborted.contains(&checkpoint) {
            return Err(StateError::Aborted(format!("checkpoint {checkpoint} was given up")));
        }
        Ok(())
    }

    /// Fills in the files of `snapshot`; returns the objects that a later checkpoint may refer to.
    fn link_and_upload(
        &self,
        database: &Database,
        checkpoint: u64,
        target: &SnapshotTarget,
        linked: &Path,
        snapshot: &mut v1::KeyedSnapshot,
    ) -> Result<BTreeMap<String, v1::FileHandle>> {
        let link = || Checkpoint::new(database.db())?.create_checkpoint(linked);
        link().map_err(|e| StateError::Storage(format!("cannot link the files of checkpoint {checkpoint}: {e}")))?;
        // What is written from here on is not in the files.
        self.release_checkpoint();
        let mut uploads = Vec::new();
        for name in database_files(linked)? {
            self.check_aborted(checkpoint)?;
            let path = linked.join(&name);
            let length = fs::metadata(&path).map_err(|e| unreadable(&path, &e))?.len();
            snapshot.total_bytes += length;
            let shared = name.ends_with(".sst");
            let mut file = v1::StateFile { name: name.clone(), shared, ..v1::StateFile::default() };
            match self.reusable(&name, length, target, &path).transpose()? {
                Some(handle) => file.handle = Some(handle),
                None => {
                    let hash = file_hash(&path)?;
                    let mut handle = v1::FileHandle { length, hash, ..v1::FileHandle::default() };
                    if length <= INLINE_LIMIT {
                        file.inline = fs::read(&path).map_err(|e| unreadable(&path, &e))?;
                    } else {
                        let directory = if shared { &target.shared } else { &target.exclusive };
                        handle.object = join(directory, &self.object_name(checkpoint, shared));
                        snapshot.uploaded_bytes += length;
                        uploads.push((handle.object.clone(), path));
                    }
                    file.handle = Some(handle);
                }
            }
            snapshot.files.push(file);
        }
        self.upload(checkpoint, uploads)?;
        let objects = snapshot.files.iter().filter(|f| f.shared && f.inline.is_empty());
        Ok(objects.filter_map(|f| Some((f.name.clone(), f.handle.clone()?))).collect())
    }

    /// The handle of a file that a completed checkpoint has in the same shared directory.
    fn reusable(
        &self,
        name: &str,
        length: u64,
        target: &SnapshotTarget,
        path: &Path,
    ) -> Option<Result<v1::FileHandle>> {
        let uploads = self.uploads.lock();
        let handle = uploads.confirmed.get(name)?.clone();
        let unverified = uploads.unverified.contains_key(name);
        drop(uploads);
        let inside = handle.object.strip_prefix(&target.shared).is_some_and(|rest| rest.starts_with('/'));
        if !inside || handle.length != length {
            return None;
        }
        if unverified {
            match file_hash(path) {
                Ok(hash) if hash == handle.hash => {
                    self.uploads.lock().unverified.remove(name);
                }
                Ok(_) => {
                    let reason =
                        format!("restored state file '{name}' differs from its checkpoint: the local disk is damaged");
                    if let Some(local) = &self.local {
                        local.retain_only(&self.task, 0);
                    }
                    // The first reason stays.
                    let _ = self.broken.set(reason.clone());
                    return Some(Err(StateError::Database(reason)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(handle))
    }

    /// Never the same name twice, whoever writes it. Begins with the checkpoint, so that a sweep can
    /// tell what no pending checkpoint has written.
    fn object_name(&self, checkpoint: u64, shared: bool) -> String {
        let extension = if shared { ".sst" } else { "" };
        format!("{checkpoint}-{}-{}{extension}", self.task.object_prefix(), uuid::Uuid::new_v4().simple())
    }

    /// Uploads all files, or removes those uploaded and fails.
    fn upload(&self, checkpoint: u64, files: Vec<(String, PathBuf)>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let stores = self.stores.clone();
        let concurrent = self.rocks.as_ref().map_or(1, |rocks| rocks.concurrent_transfers());
        let objects: Vec<String> = files.iter().map(|(object, _)| object.clone()).collect();
        let transfers = async move {
            let stores = &stores;
            futures::stream::iter(files)
                .map(|(object, path)| async move { stores.put_file(&object, &path).await })
                .buffer_unordered(concurrent)
                .try_collect::<Vec<()>>()
                .await
                .map(drop)
        };
        let result = self.stores.blocking().block_on(transfers).and_then(|()| self.check_aborted(checkpoint));
        if result.is_err() {
            for object in objects {
                // Nobody refers to them yet; what cannot be deleted now is swept later.
                if let Err(error) = self.stores.blocking().delete(&object) {
                    tracing::debug!(%error, object, "cannot delete a file of a failed checkpoint");
                }
            }
        }
        result
    }
}

struct Ending<'a>(&'a KeyedBackend);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.release_checkpoint();
        self.0.snapshotting.store(false, Ordering::SeqCst);
    }
}

/// The files of a RocksDB checkpoint that a restore needs, in order. Options come from the code.
fn database_files(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| unreadable(directory, &e))? {
        let entry = entry.map_err(|e| unreadable(directory, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// xxh3-128 of a file, as `FileHandle` has it.
pub(super) fn file_hash(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut file = fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(|e| unreadable(path, &e))?;
        if read == 0 {
            return Ok(hash_bytes(hash.digest128()));
        }
        hash.update(&buffer[..read]);
    }
}

/// The form in which a hash is stored.
pub(super) fn hash_bytes(hash: u128) -> Vec<u8> {
    hash.to_le_bytes().to_vec()
}

fn unreadable(path: &Path, error: &std::io::Error) -> StateError {
    StateError::Storage(format!("cannot read '{}': {error}", path.display()))
}
