//! What a window aggregation has in the database.
//!
//! A time cell, keys `[slice end][key]`. After a restore a slice's entries are looked up as rows touch
//! their keys, and read whole when a window that holds them fires; a restore itself only lists the
//! next few slices of each key group. What memory has of a key is newer than the database. Slices
//! that are gone are deleted by range at the next checkpoint.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hurtig_state::backend::{CellDeclaration, KeyedBackend};
use hurtig_state::encoding::{put_prefix, put_time, read_prefix, read_time, table_bounds};

use super::group_store::{AggregatePlan, CellAddress, GroupStore};
use crate::error::Result;

/// Entries of the database read at once.
const SCAN_PAGE: usize = 4096;
/// Slices of a key group that are listed at once.
const LISTED_SLICES: usize = 16;

/// See the [module](self).
pub struct WindowState {
    backend: Arc<KeyedBackend>,
    address: CellAddress,
    /// By key group: what a restore has left unread.
    unread: Vec<Unread>,
    /// All listed slices of `unread`.
    listed: BTreeSet<i64>,
    /// From here on there may be slices that are not listed.
    unlisted: Option<i64>,
}

/// The slices of a key group that memory does not have whole.
struct Unread {
    key_group: u32,
    slices: VecDeque<i64>,
    /// From here on there may be more.
    unlisted: Option<i64>,
}

impl Unread {
    fn first(&self) -> Option<i64> {
        self.slices.front().copied().or(self.unlisted)
    }
}

impl WindowState {
    /// Registers the cell; after a restore lists what there is to read.
    pub fn open(backend: Arc<KeyedBackend>, uid: &str, cell: &CellDeclaration) -> Result<WindowState> {
        let table = backend.register(uid, cell)?;
        let address = CellAddress { table, max_parallelism: backend.max_parallelism() };
        let restored = backend.restored();
        let (first, last) = backend.key_groups();
        let mut state = WindowState { backend, address, unread: Vec::new(), listed: BTreeSet::new(), unlisted: None };
        if restored {
            for key_group in first..=last {
                let mut unread = Unread { key_group, slices: VecDeque::new(), unlisted: None };
                state.list(&mut unread, None)?;
                if unread.first().is_some() {
                    state.unread.push(unread);
                }
            }
            state.note_unread();
        }
        Ok(state)
    }

    /// Where entries are.
    pub fn address(&self) -> CellAddress {
        self.address
    }

    /// The key groups of this task.
    pub fn key_groups(&self) -> (u32, u32) {
        self.backend.key_groups()
    }

    /// The first slice that memory does not have whole.
    pub fn first_unread(&self) -> Option<i64> {
        self.unread.iter().filter_map(Unread::first).min()
    }

    /// Whether the database may have entries of the slice that memory does not have.
    pub fn may_hold(&self, slice: i64) -> bool {
        self.listed.contains(&slice) || self.unlisted.is_some_and(|from| slice >= from)
    }

    /// Looks up the keys that a batch brought into a slice.
    pub fn load(&self, plan: &AggregatePlan, store: &mut GroupStore, slice: i64, created: &[u32]) -> Result<()> {
        if created.is_empty() {
            return Ok(());
        }
        let columns = store.key_columns(plan, created)?;
        let keys = self.address.database_keys(&columns, created.len(), Some(slice))?;
        for (&group, value) in created.iter().zip(self.backend.multi_get(&keys)?) {
            if let Some(value) = value {
                store.load(plan, group, &value)?;
            }
        }
        Ok(())
    }

    /// Reads all slices up to `end` into memory.
    pub fn read_through(
        &mut self,
        end: i64,
        plan: &AggregatePlan,
        slices: &mut BTreeMap<i64, GroupStore>,
    ) -> Result<()> {
        if self.first_unread().is_none_or(|first| first > end) {
            return Ok(());
        }
        let mut unread = std::mem::take(&mut self.unread);
        for of_group in &mut unread {
            while let Some(first) = of_group.first().filter(|first| *first <= end) {
                match of_group.slices.pop_front() {
                    Some(slice) => self.read_slice(of_group.key_group, slice, plan, slices)?,
                    None => self.list(of_group, Some(first))?,
                }
            }
        }
        unread.retain(|of_group| of_group.first().is_some());
        self.unread = unread;
        self.note_unread();
        Ok(())
    }

    fn note_unread(&mut self) {
        self.listed = self.unread.iter().flat_map(|u| u.slices.iter().copied()).collect();
        self.unlisted = self.unread.iter().filter_map(|u| u.unlisted).min();
    }

    /// Lists the next slices of a key group, from `from` on.
    fn list(&self, unread: &mut Unread, from: Option<i64>) -> Result<()> {
        let (start, end) = table_bounds(unread.key_group, self.address.table);
        let mut start = from.map_or(start, |slice| self.address.slice_key(unread.key_group, slice));
        unread.unlisted = None;
        for _ in 0..LISTED_SLICES {
            let Some((key, _)) = self.backend.scan(&start, &end, 1)?.into_iter().next() else { return Ok(()) };
            let slice = read_time(read_prefix(&key)?.2)?.0;
            unread.slices.push_back(slice);
            start = self.address.slice_key(unread.key_group, slice + 1);
        }
        unread.unlisted = unread.slices.back().map(|last| last + 1);
        Ok(())
    }

    /// Reads one slice of a key group.
    fn read_slice(
        &self,
        key_group: u32,
        slice: i64,
        plan: &AggregatePlan,
        slices: &mut BTreeMap<i64, GroupStore>,
    ) -> Result<()> {
        let mut start = self.address.slice_key(key_group, slice);
        let stop = self.address.slice_key(key_group, slice + 1);
        loop {
            let page = self.backend.scan(&start, &stop, SCAN_PAGE)?;
            if !page.is_empty() {
                add_entries(plan, slices, slice, &page)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == SCAN_PAGE => {
                    start.clone_from(last);
                    start.push(0);
                }
                _ => return Ok(()),
            }
        }
    }
}

/// Adds entries of one slice that memory does not have.
fn add_entries(
    plan: &AggregatePlan,
    slices: &mut BTreeMap<i64, GroupStore>,
    slice: i64,
    entries: &[(Vec<u8>, Vec<u8>)],
) -> Result<()> {
    let store = match slices.entry(slice) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(GroupStore::new(plan, entries.len())?),
    };
    let mut keys = Vec::with_capacity(entries.len());
    for (key, _) in entries {
        keys.push(read_time(read_prefix(key)?.2)?.1);
    }
    let keys = plan.keys.from_encoded(keys.into_iter())?;
    let (mut groups, mut created) = (Vec::new(), Vec::new());
    store.intern(plan, &keys, entries.len(), None, &mut groups, &mut created);
    for (&group, (_, value)) in groups.iter().zip(entries) {
        if store.is_present(group) {
            store.mark_stored(group);
        } else {
            store.load(plan, group, value)?;
        }
    }
    Ok(())
}

impl CellAddress {
    /// The first key of a slice.
    fn slice_key(&self, key_group: u32, slice: i64) -> Vec<u8> {
        let mut key = Vec::with_capacity(12);
        put_prefix(key_group, self.table, &mut key);
        put_time(slice, &mut key);
        key
    }
}

/// What the database still has of slices that are gone.
#[derive(Default)]
pub struct DroppedSlices {
    /// All slices up to this end.
    through: Option<i64>,
    /// Single slices.
    single: Vec<i64>,
}

impl DroppedSlices {
    /// The slice and all before it are gone.
    pub fn note_through(&mut self, slice: i64, store: &GroupStore) {
        if store.any_stored() {
            self.through = Some(self.through.map_or(slice, |through| through.max(slice)));
        }
    }

    /// The slice is gone, though earlier ones may still be there.
    pub fn note_single(&mut self, slice: i64) {
        self.single.push(slice);
    }

    /// Whether the database has nothing to be deleted.
    pub fn is_empty(&self) -> bool {
        self.through.is_none() && self.single.is_empty()
    }

    /// The ranges of database keys of these slices.
    pub fn ranges(self, address: CellAddress, key_groups: (u32, u32)) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut ranges = Vec::new();
        for key_group in key_groups.0..=key_groups.1 {
            if let Some(through) = self.through {
                let first = table_bounds(key_group, address.table).0;
                ranges.push((first, address.slice_key(key_group, through + 1)));
            }
            for &slice in self.single.iter().filter(|s| self.through.is_none_or(|through| **s > through)) {
                ranges.push((address.slice_key(key_group, slice), address.slice_key(key_group, slice + 1)));
            }
        }
        ranges
    }
}
