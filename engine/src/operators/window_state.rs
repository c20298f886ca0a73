//! What a window aggregation has in the database and not in memory.
//!
//! A time cell, keys `[slice end][key]`. After a restore, and for slices of which memory has forgotten
//! keys, entries are looked up as rows touch their keys. A window that fires while its slices are not
//! whole in memory is put together one key group after the other ([`WindowState::gather`]), so that it
//! need never be in memory whole; where there is room what a restore left is read instead. A restore itself
//! only lists the next few slices of each key group. What memory has of a key is newer than the
//! database. Slices that are gone are deleted by range at the next checkpoint.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hurtig_state::backend::{CellDeclaration, KeyedBackend};
use hurtig_state::encoding::{put_prefix, put_time, read_prefix, read_time, table_bounds};

use super::group_store::load::{StoredGroup, stored_groups};
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
    /// Slices of which memory has forgotten keys.
    spilled: BTreeSet<i64>,
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
        let mut state = WindowState {
            backend,
            address,
            unread: Vec::new(),
            listed: BTreeSet::new(),
            unlisted: None,
            spilled: BTreeSet::new(),
        };
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
        self.listed.contains(&slice) || self.unlisted.is_some_and(|from| slice >= from) || self.spilled.contains(&slice)
    }

    /// Whether the database may have entries of slices in the range (inclusive) that memory does not have.
    pub fn may_hold_any(&self, from: i64, to: i64) -> bool {
        self.listed.range(from..=to).next().is_some()
            || self.unlisted.is_some_and(|first| first <= to)
            || self.spilled.range(from..=to).next().is_some()
    }

    /// Roughly how many bytes the database has.
    pub fn bytes_in_database(&self) -> u64 {
        self.backend.approximate_bytes()
    }

    /// Memory forgets keys of the slice.
    pub fn note_spilled(&mut self, slice: i64) {
        self.spilled.insert(slice);
    }

    /// Whether memory has forgotten keys of any slice.
    pub fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// Slices in the range (inclusive) that the database may have entries of and that are known.
    pub fn known_slices(&self, from: i64, to: i64) -> BTreeSet<i64> {
        self.listed.range(from..=to).chain(self.spilled.range(from..=to)).copied().collect()
    }

    /// Lists all slices up to `end` of every key group.
    pub fn list_through(&mut self, end: i64) -> Result<()> {
        if self.unlisted.is_none_or(|first| first > end) {
            return Ok(());
        }
        let mut unread = std::mem::take(&mut self.unread);
        for of_group in &mut unread {
            while let Some(from) = of_group.unlisted.filter(|from| *from <= end) {
                self.list(of_group, Some(from))?;
            }
        }
        self.unread = unread;
        self.note_unread();
        Ok(())
    }

    /// Forgets the slices that have no window any more, of which all before `end` are; gives the last.
    pub fn drop_slices(&mut self, is_over: impl Fn(i64) -> bool) -> Option<i64> {
        let spilled = self.spilled.iter().copied().filter(|&s| is_over(s)).max();
        self.spilled.retain(|&s| !is_over(s));
        let listed = self.listed.iter().copied().filter(|&s| is_over(s)).max();
        if listed.is_some() {
            for of_group in &mut self.unread {
                of_group.slices.retain(|&s| !is_over(s));
            }
            self.unread.retain(|of_group| of_group.first().is_some());
            self.note_unread();
        }
        spilled.max(listed)
    }

    /// Adds what a key group has of a slice to `into`: the groups that memory has (`in_memory` of `store`)
    /// and the entries of the database whose keys memory does not have.
    pub fn gather(
        &self,
        plan: &AggregatePlan,
        (key_group, slice): (u32, i64),
        memory: Option<(&GroupStore, &[u32])>,
        into: &mut GroupStore,
    ) -> Result<()> {
        if let Some((store, groups)) = memory {
            into.absorb_groups(plan, store, groups)?;
        }
        if !self.may_hold(slice) {
            return Ok(());
        }
        self.for_each_page(key_group, slice, |page| {
            let mut encoded = Vec::with_capacity(page.len());
            for stored in page {
                encoded.push(read_time(read_prefix(&stored.key)?.2)?.1);
            }
            let keys = plan.keys.from_encoded(encoded.into_iter())?;
            let known = match memory {
                Some((store, _)) => store.find(&keys, page.len()),
                None => vec![None; page.len()],
            };
            let mut read = GroupStore::new(plan, page.len())?;
            let (mut groups, mut created) = (Vec::new(), Vec::new());
            read.intern(plan, &keys, page.len(), None, &mut groups, &mut created);
            let mut missing = Vec::with_capacity(page.len());
            for ((&group, stored), known) in groups.iter().zip(page).zip(known) {
                if known.is_none() {
                    read.load(plan, group, stored)?;
                    missing.push(group);
                }
            }
            into.absorb_groups(plan, &read, &missing)
        })
    }

    /// Looks up the keys that a batch brought into a slice.
    pub fn load(&self, plan: &AggregatePlan, store: &mut GroupStore, slice: i64, created: &[u32]) -> Result<()> {
        if created.is_empty() {
            return Ok(());
        }
        let columns = store.key_columns(plan, created)?;
        let keys = self.address.database_keys(&columns, created.len(), Some(slice))?;
        store.load_keys(plan, &self.backend, created, &keys)
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
        self.for_each_page(key_group, slice, |page| add_entries(plan, slices, slice, page))
    }

    fn for_each_page(&self, key_group: u32, slice: i64, mut f: impl FnMut(&[StoredGroup]) -> Result<()>) -> Result<()> {
        let mut start = self.address.slice_key(key_group, slice);
        let stop = self.address.slice_key(key_group, slice + 1);
        loop {
            let (page, next) = stored_groups(&self.backend, &start, &stop, SCAN_PAGE)?;
            if !page.is_empty() {
                f(&page)?;
            }
            match next {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }
}

/// Adds entries of one slice that memory does not have.
fn add_entries(
    plan: &AggregatePlan,
    slices: &mut BTreeMap<i64, GroupStore>,
    slice: i64,
    entries: &[StoredGroup],
) -> Result<()> {
    let store = match slices.entry(slice) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(GroupStore::new(plan, entries.len())?),
    };
    let mut keys = Vec::with_capacity(entries.len());
    for stored in entries {
        keys.push(read_time(read_prefix(&stored.key)?.2)?.1);
    }
    let keys = plan.keys.from_encoded(keys.into_iter())?;
    let (mut groups, mut created) = (Vec::new(), Vec::new());
    store.intern(plan, &keys, entries.len(), None, &mut groups, &mut created);
    for (&group, stored) in groups.iter().zip(entries) {
        if store.is_present(group) {
            store.mark_stored(group);
        } else {
            store.load(plan, group, stored)?;
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
    /// The slice and all before it are gone; memory had `store` of it.
    pub fn note_through(&mut self, slice: i64, store: &GroupStore) {
        if store.any_stored() {
            self.note_all_through(slice);
        }
    }

    /// The slice and all before it are gone, and the database has something of them.
    pub fn note_all_through(&mut self, slice: i64) {
        self.through = Some(self.through.map_or(slice, |through| through.max(slice)));
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
