//! State that is too small for a database: entries in memory, carried in the acknowledgement of a
//! checkpoint. When it outgrows the limit it moves into a database and stays there.

use std::collections::BTreeMap;
use std::ops::Bound;

use hurtig_proto::v1;
use rocksdb::WriteBatch;

use super::rocks::{Database, write_options};
use super::{KeyedBackend, TableId};
use crate::error::{Result, StateError};

/// What an entry weighs beside its key and value.
const ENTRY_BYTES: u64 = 8;
const WRITE_BATCH_BYTES: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct SmallState {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: u64,
}

impl SmallState {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let weight = |value: &[u8]| (key.len() + value.len()) as u64 + ENTRY_BYTES;
        self.bytes += weight(value);
        if let Some(old) = self.entries.insert(key.to_vec(), value.to_vec()) {
            self.bytes -= weight(&old);
        }
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= (key.len() + old.len()) as u64 + ENTRY_BYTES;
        }
    }

    fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        let bounds = if from < to { from..to } else { to..to };
        self.entries.range::<[u8], _>((Bound::Included(bounds.start), Bound::Excluded(bounds.end)))
    }

    /// As a checkpoint carries them.
    pub(super) fn to_proto(&self) -> Vec<v1::StateEntry> {
        self.entries.iter().map(|(k, v)| v1::StateEntry { key: k.clone(), value: v.clone() }).collect()
    }
}

impl KeyedBackend {
    /// Takes over entries of a restored checkpoint, under the task's own table numbers.
    pub(super) fn restore_entries(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            if !self.put_small(&key, &value)? {
                batch.put(&key, &value);
            }
        }
        match self.database.get() {
            Some(database) if !batch.is_empty() => Ok(database.db().write_opt(batch, &write_options())?),
            _ => Ok(()),
        }
    }

    /// Sets an entry of small state. False: there is a database, which is the place for it.
    pub(super) fn put_small(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        if self.database.get().is_some() {
            return Ok(false);
        }
        let bytes = {
            let mut small = self.small.lock();
            small.put(key, value);
            small.bytes
        };
        if bytes > self.inline_bytes {
            self.promote()?;
        }
        Ok(true)
    }

    /// Removes an entry of small state. False: there is a database.
    pub(super) fn delete_small(&self, key: &[u8]) -> bool {
        if self.database.get().is_some() {
            return false;
        }
        self.small.lock().delete(key);
        true
    }

    /// Removes entries of small state. False: there is a database.
    pub(super) fn delete_range_small(&self, from: &[u8], to: &[u8]) -> bool {
        if self.database.get().is_some() {
            return false;
        }
        let mut small = self.small.lock();
        let keys: Vec<Vec<u8>> = small.range(from, to).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| small.delete(key));
        true
    }

    /// The values of `keys`. `None`: there is a database.
    pub(super) fn get_small(&self, keys: &[Vec<u8>]) -> Option<Vec<Option<Vec<u8>>>> {
        let small = self.small.lock();
        // Looked at under the lock: state that moves is in the database before it leaves here.
        if self.database.get().is_some() {
            return None;
        }
        Some(keys.iter().map(|key| small.entries.get(key).cloned()).collect())
    }

    /// Up to `limit` entries from `from` to before `to`. `None`: there is a database.
    pub(super) fn scan_small(&self, from: &[u8], to: &[u8], limit: usize) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let small = self.small.lock();
        if self.database.get().is_some() {
            return None;
        }
        Some(small.range(from, to).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// Moves everything into a new database. Only one thread writes.
    fn promote(&self) -> Result<()> {
        let rocks = self.rocks.as_ref().ok_or_else(|| {
            StateError::Database("this backend has no place to write to: it was made without a task manager".into())
        })?;
        let database = Database::open(rocks, &self.directory, &self.expiry)?;
        let mut batch = WriteBatch::default();
        for (key, value) in &self.small.lock().entries {
            batch.put(key, value);
            if batch.size_in_bytes() >= WRITE_BATCH_BYTES {
                database.db().write_opt(std::mem::take(&mut batch), &write_options())?;
            }
        }
        database.db().write_opt(batch, &write_options())?;
        let mut small = self.small.lock();
        // Only here and at the restore is it set, never at the same time.
        let _ = self.database.set(database);
        *small = SmallState::default();
        Ok(())
    }
}

/// The entries of a snapshot in the key groups of the range, with their tables' numbers here.
pub(super) fn entries_of(
    snapshot: &v1::KeyedSnapshot,
    (first, last): (u32, u32),
    numbers: &[(TableId, TableId)],
    out: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<()> {
    for entry in &snapshot.entries {
        let (key_group, table, _) = crate::encoding::read_prefix(&entry.key)?;
        if key_group < first || key_group > last {
            continue;
        }
        if snapshot.dropped.iter().any(|dropped| dropped.table == u32::from(table)) {
            continue;
        }
        let (_, here) = numbers.iter().find(|(there, _)| *there == table).ok_or_else(|| {
            StateError::Corrupt(format!("a keyed snapshot has an entry of table {table}, which it does not name"))
        })?;
        let mut key = entry.key.clone();
        key[2..4].copy_from_slice(&here.to_be_bytes());
        out.push((key, entry.value.clone()));
    }
    Ok(())
}
