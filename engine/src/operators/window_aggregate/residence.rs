//! Which keys of a window aggregation are in memory: forgetting some when memory is short, and firing
//! windows that memory does not have whole.

use std::collections::BTreeSet;

use hurtig_graph::key_groups::key_group_of_hash;
use hurtig_state::backend::FrozenCell;
use hurtig_state::hash::hash_columns_into;

use super::WindowAggregate;
use crate::batch::TARGET_ROWS;
use crate::error::Result;
use crate::operators::group_store::frozen::write_frozen;
use crate::operators::group_store::{FrozenGroups, GroupStore};
use crate::operators::windows::WindowShape;
use std::sync::Arc;

/// Dirty groups that are written back at once under pressure: all of them divided by this.
const WRITE_BACK_PARTS: usize = 4;
/// How much more than its files state takes in memory, roughly.
const MEMORY_TO_FILE: u64 = 6;

/// A window that is put together some key groups at a time.
pub(super) struct Gathering {
    /// The window's slices, with the groups that memory has by key group.
    slices: Vec<(i64, Vec<(u32, u32)>)>,
    next_key_group: u32,
    current: Option<Box<GroupStore>>,
}

impl Gathering {
    /// The groups of the key groups that are being emitted.
    pub(super) fn store(&self) -> Option<&GroupStore> {
        self.current.as_deref()
    }
}

impl WindowAggregate {
    /// Ends of the first and last slice of the window.
    fn slices_of_window(&self, end: i64) -> (i64, i64) {
        match self.window.shape {
            WindowShape::Tumble => (end, end),
            WindowShape::Hop => (end - self.window.size + 1, end),
            WindowShape::Cumulate => (self.first_slice(end), end),
        }
    }

    /// Before a window fires: reads what a restore left of its slices, if there is room for it. Otherwise
    /// the window is to be gathered.
    pub(super) fn prepare_slices(&mut self, end: i64) -> Result<Option<Gathering>> {
        let (from, to) = self.slices_of_window(end);
        let Some(state) = &mut self.state else { return Ok(None) };
        state.list_through(end)?;
        if !state.may_hold_any(from, to) {
            return Ok(None);
        }
        let room = self.tier.as_ref().map_or(usize::MAX, |t| t.room()) as u64;
        if !state.has_spilled() && state.bytes_in_database().saturating_mul(MEMORY_TO_FILE) <= room {
            state.read_through(end, &self.plan, &mut self.slices)?;
            return Ok(None);
        }
        let mut slices: BTreeSet<i64> = state.known_slices(from, to);
        slices.extend(self.slices.range(from..=to).map(|(slice, _)| *slice));
        let (key_groups, max_parallelism) = (state.key_groups(), state.address().max_parallelism);
        let mut gathering = Gathering { slices: Vec::new(), next_key_group: key_groups.0, current: None };
        for slice in slices {
            let mut by_key_group = Vec::new();
            if let Some(store) = self.slices.get(&slice) {
                let mut hashes = Vec::new();
                for groups in store.present().chunks(TARGET_ROWS) {
                    let columns = store.key_columns(&self.plan, groups)?;
                    hash_columns_into(&columns, groups.len(), &mut hashes);
                    let of = |hash: &u64| key_group_of_hash(*hash, max_parallelism);
                    by_key_group.extend(hashes.iter().map(of).zip(groups.iter().copied()));
                }
                // Stable: within a key group in order of arrival.
                by_key_group.sort_by_key(|(key_group, _)| *key_group);
            }
            gathering.slices.push((slice, by_key_group));
        }
        Ok(Some(gathering))
    }

    /// Puts the next key groups of a gathered window together. False: there are none.
    pub(super) fn gather_more(&mut self) -> Result<bool> {
        let (Some(mut firing), Some(state)) = (self.firing.take(), &self.state) else { return Ok(false) };
        let last = state.key_groups().1;
        let mut gathered = None;
        if let super::Source::Gathered(gathering) = &mut firing.source
            && gathering.next_key_group <= last
        {
            let mut store = GroupStore::new(&self.plan, 0)?;
            while gathering.next_key_group <= last && store.live() < TARGET_ROWS {
                let key_group = gathering.next_key_group;
                for (slice, groups) in &gathering.slices {
                    let from = groups.partition_point(|(of, _)| *of < key_group);
                    let to = groups.partition_point(|(of, _)| *of <= key_group);
                    let groups: Vec<u32> = groups[from..to].iter().map(|(_, group)| *group).collect();
                    let memory = self.slices.get(slice).map(|store| (store, groups.as_slice()));
                    state.gather(&self.plan, (key_group, *slice), memory, &mut store)?;
                }
                gathering.next_key_group += 1;
            }
            gathering.current = Some(Box::new(store));
            gathered = Some(self.groups_to_emit(&firing.source));
        }
        let more = gathered.is_some();
        if let Some(groups) = gathered {
            firing.groups = groups;
            firing.next = 0;
        }
        self.firing = Some(firing);
        Ok(more)
    }

    /// Tells the slot's memory what the slices take, and gives back what is asked for.
    pub(super) fn keep_within_memory(&mut self) -> Result<()> {
        loop {
            let Some(tier) = &mut self.tier else { return Ok(()) };
            let through = tier.written()?;
            self.slices.values_mut().for_each(|store| store.written(&self.plan, through));
            let pressure = tier.look(self.slices.values().map(GroupStore::bytes).sum());
            if !pressure.high {
                return Ok(());
            }
            self.slices.values_mut().for_each(GroupStore::track_use);
            let mut missing = pressure.excess;
            if missing > 0 && self.firing.is_none() {
                missing = self.forget_clean(missing)?;
            }
            let handed = self.write_back_some(missing > 0);
            let bytes = self.slices.values().map(GroupStore::bytes).sum();
            let Some(tier) = &mut self.tier else { return Ok(()) };
            tier.look(bytes);
            if missing == 0 {
                return Ok(());
            }
            // Where background work is done at once there may already be something to forget.
            if !handed || !tier.may_write_back() {
                tier.wait();
                return Ok(());
            }
        }
    }

    /// Forgets groups that the database has as they are, of the earliest slices first: rows mostly
    /// come for later ones. Gives the bytes that are still missing.
    fn forget_clean(&mut self, mut missing: usize) -> Result<usize> {
        let Some(state) = &mut self.state else { return Ok(missing) };
        for (&slice, store) in &mut self.slices {
            if missing == 0 {
                break;
            }
            let before = store.bytes();
            let victims = if before > 2 * missing { store.victims(missing) } else { store.all_evictable() };
            if victims.is_empty() {
                continue;
            }
            state.note_spilled(slice);
            store.forget(&self.plan, &victims);
            store.shrink(&self.plan)?;
            missing = missing.saturating_sub(before.saturating_sub(store.bytes()));
        }
        Ok(missing)
    }

    /// Has dirty groups written, so that they can be forgotten. If that is not urgent: when most are dirty.
    /// Says whether it was done.
    fn write_back_some(&mut self, urgent: bool) -> bool {
        let (Some(tier), Some(state)) = (&self.tier, &self.state) else { return false };
        let (dirty, live) =
            self.slices.values().fold((0, 0), |(dirty, live), store| (dirty + store.dirty(), live + store.live()));
        if !tier.may_write_back() || dirty == 0 || (!urgent && dirty * 2 < live) {
            return false;
        }
        let (address, plan, generation) = (state.address(), Arc::clone(&self.plan), tier.next_generation());
        let frozen = self.freeze_slices(generation, dirty.div_ceil(WRITE_BACK_PARTS));
        if frozen.is_empty() {
            return false;
        }
        let cell: FrozenCell = Box::new(move |writer| write_frozen(&frozen, &plan, address, writer));
        if let Some(tier) = &mut self.tier {
            tier.write_back(vec![cell]);
        }
        true
    }

    /// Takes changes of about `groups` groups by reference, of the earliest slices first.
    pub(super) fn freeze_slices(&mut self, generation: u64, groups: usize) -> Vec<(Option<i64>, FrozenGroups)> {
        let mut frozen = Vec::new();
        let mut left = groups;
        for (&slice, store) in &mut self.slices {
            if left == 0 {
                break;
            }
            let dirty = store.dirty();
            let changes = match dirty <= left {
                true => store.freeze(&self.plan, generation),
                false => store.freeze_some(&self.plan, generation, left),
            };
            left -= dirty.min(left);
            frozen.extend(changes.map(|changes| (Some(slice), changes)));
        }
        frozen
    }
}
