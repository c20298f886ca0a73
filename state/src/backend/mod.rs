//! The keyed state of one stateful task.
//!
//! Operators keep their live state in memory and own it; the backend is the durable tier behind
//! them. They read from it what they do not hold ([`KeyedBackend::multi_get`],
//! [`KeyedBackend::scan`]), and at a barrier hand over what has changed as a [`FrozenCell`], which
//! is written back off-thread before the RocksDB checkpoint is taken.
//!
//! A key in the database is `[key group u16 BE][table u16 BE]` and then what the operator chose.

use crate::error::{Result, StateError};

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

/// The durable tier of one task's keyed state. Shared between the task's thread (reads) and
/// background threads (write-back, snapshots).
pub struct KeyedBackend {
    key_groups: (u32, u32),
    max_parallelism: u32,
}

impl KeyedBackend {
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
    /// [`StateError::Incompatible`] when the restored declaration differs.
    pub fn register(&self, _operator_uid: &str, _cell: &CellDeclaration) -> Result<TableId> {
        Err(StateError::Database("not available".into()))
    }

    /// Whether the database may hold entries that no operator has loaded: false for a task that
    /// started without a restore, whose memory tier is complete.
    pub fn restored(&self) -> bool {
        false
    }

    /// The values of `keys` (complete database keys), in their order.
    pub fn multi_get(&self, _keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        Err(StateError::Database("not available".into()))
    }

    /// Up to `limit` entries with `from <= key < to`, in key order.
    pub fn scan(&self, _from: &[u8], _to: &[u8], _limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Err(StateError::Database("not available".into()))
    }
}
