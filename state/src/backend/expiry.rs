//! State with a time to live: entries that have outlived it leave the database when it compacts.
//!
//! Operators decide what has expired whenever they read an entry; this only gives the room back.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rocksdb::{CompactionDecision, Options};

use super::{KeyedBackend, TableId};
use crate::encoding::read_prefix;

/// Whether the entry with this value has expired now. Called by background threads.
pub type Expired = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// The rules of a task's tables.
#[derive(Default, Clone)]
pub(super) struct Expiry {
    rules: Arc<RwLock<BTreeMap<TableId, Expired>>>,
}

impl Expiry {
    /// Lets compactions drop what has expired.
    pub(super) fn install(&self, options: &mut Options) {
        let rules = Arc::clone(&self.rules);
        options.set_compaction_filter("hurtig-expiry", move |_level: u32, key: &[u8], value: &[u8]| {
            let Ok((_, table, _)) = read_prefix(key) else { return CompactionDecision::Keep };
            match rules.read().get(&table) {
                Some(expired) if expired(value) => CompactionDecision::Remove,
                _ => CompactionDecision::Keep,
            }
        });
    }
}

impl KeyedBackend {
    /// Entries of `table` for whose values `expired` holds may be dropped from the database at any
    /// time. Operators must hold the same for what they read.
    pub fn expire(&self, table: TableId, expired: Expired) {
        self.expiry.rules.write().insert(table, expired);
    }
}
