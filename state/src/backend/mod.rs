//! The keyed state of one stateful task.
//!
//! Operators keep their live state in memory and own it; the backend is the durable tier behind
//! them. They read from it what they do not hold ([`KeyedBackend::multi_get`],
//! [`KeyedBackend::scan`]), and at a barrier hand over what has changed as a [`FrozenCell`], which
//! is written back off-thread before the RocksDB checkpoint is taken.
//!
//! A key in the database is `[key group u16 BE][table u16 BE]` and then what the operator chose.

mod disk;
mod expiry;
pub mod memory;
mod restore;
mod rocks;
mod small;
mod snapshot;
mod tables;
mod write_back;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use hurtig_proto::v1;
use parking_lot::Mutex;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use crate::error::Result;
use crate::local::{LocalStateStore, TaskName};
use crate::storage::ObjectStores;
pub use expiry::Expired;
use expiry::Expiry;
pub use memory::{MemoryPool, MemoryShare};
use rocks::Database;
pub use rocks::{CompactionStyle, SharedRocks, SharedRocksConfig};
use small::SmallState;
pub use snapshot::SnapshotTarget;
use tables::Tables;
pub use write_back::WriteBackWaker;
use write_back::WriteBacks;

/// Scans of so many entries leave the block cache alone.
const LONG_SCAN: usize = 8_192;

/// What kind of keys a cell has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// One value a key.
    Point,
    /// Ordered by time within a key group: windows, timers.
    Time,
    /// Several entries a key.
    List,
}

/// A state cell as its operator declares it. Part of the savepoint format.
#[derive(Debug, Clone, PartialEq)]
pub struct CellDeclaration {
    /// Unique within the operator.
    pub name: String,
    /// What its keys are like.
    pub kind: CellKind,
    /// Flink types of the key columns, as `BIGINT, STRING`.
    pub key_schema: String,
    /// Names and Flink types of the value columns.
    pub value_schema: String,
    /// Version of the value's encoding.
    pub schema_version: u16,
}

/// Number of a registered cell within the task's database.
pub type TableId = u16;

/// Receives the changed entries of a frozen cell. Keys are complete database keys.
pub trait StateWriter {
    /// Sets a value.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes a key.
    fn delete(&mut self, key: &[u8]) -> Result<()>;
    /// Removes all keys from `from` (inclusive) to `to` (exclusive).
    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()>;
}

/// Changed entries of one cell, held by reference; called once, off the task's thread, to write
/// them in key order.
pub type FrozenCell = Box<dyn FnOnce(&mut dyn StateWriter) -> Result<()> + Send>;

/// What [`KeyedBackend::open`] is given.
pub struct BackendConfig {
    /// Where the live database of this attempt is created, when it is. Must not exist; removed when
    /// the backend is dropped. On the file system of the local state, so that hard links work.
    pub directory: PathBuf,
    /// The inclusive range of key groups of this task.
    pub key_groups: (u32, u32),
    /// Number of key groups of the operator.
    pub max_parallelism: u32,
    /// Names directories and objects.
    pub task: TaskName,
    /// Shared by all databases of the TaskManager.
    pub rocks: Arc<SharedRocks>,
    /// Memory for the live state of the slot's operators.
    pub memory: Arc<MemoryPool>,
    /// State up to this size is carried in the acknowledgements of checkpoints and has no database.
    pub inline_bytes: u64,
    /// Where checkpoints go to and come from.
    pub stores: Arc<ObjectStores>,
    /// Keeps checkpoints on local disk; `None`: local recovery is off.
    pub local: Option<Arc<LocalStateStore>>,
    /// The checkpoint to restore; 0: none.
    pub restore_checkpoint: u64,
    /// The snapshots of all previous subtasks whose key groups may overlap this task's.
    pub restore: Vec<v1::KeyedSnapshot>,
}

/// The durable tier of one task's keyed state. Shared between the task's thread (reads) and
/// background threads (write-back, snapshots).
///
/// Its database is created when a write-back outgrows what a checkpoint carries inline; a task without
/// keyed state costs nothing.
pub struct KeyedBackend {
    directory: PathBuf,
    key_groups: (u32, u32),
    max_parallelism: u32,
    task: TaskName,
    /// `None` for a backend that is not open for writing, see [`KeyedBackend::detached`].
    rocks: Option<Arc<SharedRocks>>,
    stores: Arc<ObjectStores>,
    local: Option<Arc<LocalStateStore>>,
    database_id: String,
    database: OnceLock<Database>,
    /// What the task has instead of a database while that is not worth it.
    small: Mutex<SmallState>,
    inline_bytes: u64,
    memory: Arc<MemoryPool>,
    expiry: Expiry,
    write_backs: WriteBacks,
    restored: bool,
    restore_report: v1::RestoreReport,
    tables: Mutex<Tables>,
    uploads: Mutex<Uploads>,
    snapshotting: AtomicBool,
    /// Why the database no longer holds what was handed over.
    broken: OnceLock<String>,
}

/// Which files are where in object storage.
#[derive(Default)]
struct Uploads {
    /// Files of the last checkpoint known to be complete: later ones may refer to them.
    confirmed: BTreeMap<String, v1::FileHandle>,
    /// Files of the checkpoints acknowledged since.
    pending: BTreeMap<u64, BTreeMap<String, v1::FileHandle>>,
    /// The last checkpoint known to be complete.
    completed: u64,
    /// Checkpoints given up.
    aborted: BTreeSet<u64>,
    /// Restored local files whose content has not been compared with their hash yet.
    unverified: BTreeMap<String, v1::FileHandle>,
}

impl KeyedBackend {
    /// Opens the backend of a task and, where there is something to restore, restores it. Blocks.
    ///
    /// # Errors
    /// [`crate::StateError::Incompatible`] when a snapshot does not fit, [`crate::StateError::Storage`] and others
    /// when a file of it is neither on local disk nor in object storage.
    pub fn open(config: BackendConfig) -> Result<KeyedBackend> {
        let restored = restore::restore(&config)?;
        let database = OnceLock::new();
        let has_state = restored.database.is_some() || !restored.entries.is_empty();
        if let Some(opened) = restored.database {
            // The lock is new, so this takes the value.
            let _ = database.set(opened);
        }
        let backend = KeyedBackend {
            directory: config.directory,
            key_groups: config.key_groups,
            max_parallelism: config.max_parallelism,
            task: config.task,
            rocks: Some(config.rocks),
            stores: config.stores,
            local: config.local,
            database_id: uuid::Uuid::new_v4().simple().to_string(),
            database,
            small: Mutex::default(),
            inline_bytes: config.inline_bytes,
            memory: config.memory,
            expiry: restored.expiry,
            write_backs: WriteBacks::default(),
            restored: has_state,
            restore_report: restored.report,
            tables: Mutex::new(restored.tables),
            uploads: Mutex::new(Uploads {
                confirmed: restored.handles,
                unverified: restored.unverified,
                ..Uploads::default()
            }),
            snapshotting: AtomicBool::new(false),
            broken: OnceLock::new(),
        };
        backend.restore_entries(restored.entries)?;
        Ok(backend)
    }

    /// A backend without state and without a place to write to, for operators that run without a
    /// TaskManager, as in tests. Cells can be registered and nothing is found; write-back fails.
    pub fn detached(key_groups: (u32, u32), max_parallelism: u32) -> KeyedBackend {
        KeyedBackend {
            directory: PathBuf::new(),
            key_groups,
            max_parallelism,
            task: TaskName { job_id: String::new(), vertex_id: String::new(), subtask: 0, attempt: 0 },
            rocks: None,
            stores: Arc::new(ObjectStores::default()),
            local: None,
            database_id: String::new(),
            database: OnceLock::new(),
            small: Mutex::default(),
            inline_bytes: 0,
            memory: MemoryPool::unlimited(),
            expiry: Expiry::default(),
            write_backs: WriteBacks::default(),
            restored: false,
            restore_report: v1::RestoreReport::default(),
            tables: Mutex::default(),
            uploads: Mutex::default(),
            snapshotting: AtomicBool::new(false),
            broken: OnceLock::new(),
        }
    }

    /// The inclusive range of key groups of this task.
    pub fn key_groups(&self) -> (u32, u32) {
        self.key_groups
    }

    /// Number of key groups of the operator.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// Registers a cell; the same cell of a restored database gets its old number.
    ///
    /// # Errors
    /// [`crate::StateError::Incompatible`] when the restored declaration differs.
    pub fn register(&self, operator_uid: &str, cell: &CellDeclaration) -> Result<TableId> {
        self.tables.lock().register(operator_uid, cell)
    }

    /// Whether the database may hold entries that no operator has loaded: false for a task that
    /// started without a restore, whose memory tier is complete.
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// Where the restored state came from; zeroes when nothing was restored.
    pub fn restore_report(&self) -> &v1::RestoreReport {
        &self.restore_report
    }

    /// The memory that live state may take.
    pub fn memory(&self) -> &Arc<MemoryPool> {
        &self.memory
    }

    /// Roughly how many bytes the database has, or the entries that are kept instead of one.
    pub fn approximate_bytes(&self) -> u64 {
        match self.database.get() {
            Some(database) => database.live_bytes(),
            None => self.small.lock().bytes(),
        }
    }

    /// The values of `keys` (complete database keys), in their order.
    pub fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        if let Some(found) = self.get_small(keys) {
            return Ok(found);
        }
        let Some(database) = self.database.get() else { return Ok(vec![None; keys.len()]) };
        let family = database.column_family()?;
        // Neighbours share blocks.
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|a, b| keys[*a as usize].cmp(&keys[*b as usize]));
        let sorted = order.iter().map(|&i| keys[i as usize].as_slice());
        let found = database.db().batched_multi_get_cf(family, &sorted.collect::<Vec<_>>(), true);
        let mut values = vec![None; keys.len()];
        for (i, value) in order.into_iter().zip(found) {
            values[i as usize] = value?.map(|bytes| bytes.to_vec());
        }
        Ok(values)
    }

    /// Up to `limit` entries with `from <= key < to`, in key order.
    pub fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if let Some(found) = self.scan_small(from, to, limit) {
            return Ok(found);
        }
        let Some(database) = self.database.get() else { return Ok(Vec::new()) };
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        // Who reads much reads it once: the cache is for look-ups.
        options.fill_cache(limit < LONG_SCAN);
        let entries = database.db().iterator_opt(IteratorMode::From(from, Direction::Forward), options);
        entries
            .take(limit)
            .map(|entry| {
                let (key, value) = entry?;
                Ok((key.into_vec(), value.into_vec()))
            })
            .collect()
    }

    /// The checkpoint, and with it all earlier ones, is complete: its files may be referred to by
    /// later checkpoints, and its local copy replaces older ones (which the next snapshot removes).
    /// Does not block.
    pub fn confirm(&self, checkpoint: u64) {
        let mut uploads = self.uploads.lock();
        if let Some(files) = uploads.pending.remove(&checkpoint) {
            uploads.confirmed = files;
        }
        uploads.completed = uploads.completed.max(checkpoint);
        uploads.pending.retain(|id, _| *id > checkpoint);
        uploads.aborted.retain(|id| *id > checkpoint);
    }

    /// The checkpoint was given up. Stops a snapshot of it before it links or uploads more; its
    /// write-back is done in any case. Does not block.
    pub fn abort(&self, checkpoint: u64) {
        let mut uploads = self.uploads.lock();
        uploads.pending.remove(&checkpoint);
        uploads.aborted.insert(checkpoint);
    }
}

impl Drop for KeyedBackend {
    fn drop(&mut self) {
        if self.database.take().is_some() {
            remove_directory(&self.directory);
        }
    }
}

/// Removes a directory of this process; what cannot be removed is left, with a warning.
fn remove_directory(path: &std::path::Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove a state directory");
        }
        _ => {}
    }
}

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;
