//! Which keys of a GROUP BY are in memory: looking up the others, forgetting some when memory is short,
//! loading them again after a restore.

use std::sync::Arc;

use hurtig_graph::key_groups::key_group_of_hash;
use hurtig_state::backend::{FrozenCell, KeyedBackend};
use hurtig_state::encoding::{read_prefix, table_bounds};
use hurtig_state::hash::hash_columns_into;

use super::GroupAggregate;
use crate::error::Result;
use crate::operator::OperatorContext;
use crate::operators::group_store::CellAddress;
use crate::operators::group_store::frozen::write_frozen;
use crate::operators::group_store::load::stored_groups;
use crate::operators::memory_tier::MemoryTier;

/// Entries that are loaded at once in the background. In order they cost a tenth of what a look-up of a
/// single key does: while rows keep the task busy, more keys are to come by pages than by look-ups.
const PAGE: usize = 16_384;
/// Time between two pages, for rows that wait.
const PAGE_PAUSE_MS: i64 = 2;
/// Loading begins so long after the restore: the first rows come before it.
const LOADING_DELAY_MS: i64 = 20;
/// While memory is short, loading looks again after this time.
const LOADING_RETRY_MS: i64 = 500;
/// Dirty keys that are written back at once under pressure: all of them divided by this.
const WRITE_BACK_PARTS: usize = 4;

/// The operator's keyed state beside what is in memory.
pub(super) struct State {
    backend: Arc<KeyedBackend>,
    address: CellAddress,
    tier: MemoryTier,
    /// By key group, from the task's first on: memory has all entries of the database.
    complete: Vec<bool>,
    /// How many are not.
    incomplete: usize,
    loading: Option<Loading>,
}

/// Loading after a restore.
struct Loading {
    key_group: u32,
    /// From where in the key group.
    from: Vec<u8>,
    due_ms: i64,
}

impl State {
    pub(super) fn new(context: &OperatorContext, address: CellAddress) -> State {
        let backend = Arc::clone(&context.keyed);
        let (first, last) = backend.key_groups();
        let (groups, restored) = ((last - first + 1) as usize, backend.restored());
        let from = table_bounds(first, address.table).0;
        let due_ms = context.clock.now_ms().saturating_add(LOADING_DELAY_MS);
        State {
            tier: MemoryTier::new(context),
            address,
            complete: vec![!restored; groups],
            incomplete: if restored { groups } else { 0 },
            loading: restored.then_some(Loading { key_group: first, from, due_ms }),
            backend,
        }
    }

    pub(super) fn address(&self) -> CellAddress {
        self.address
    }

    /// The generation of a checkpoint that is being frozen.
    pub(super) fn generation(&self) -> u64 {
        self.tier.generation()
    }

    pub(super) fn waits(&self) -> bool {
        self.tier.waits()
    }

    pub(super) fn next_timer_ms(&self) -> Option<i64> {
        let loading = self.loading.as_ref().map(|l| l.due_ms);
        loading.into_iter().chain(self.tier.next_timer_ms()).min()
    }

    fn is_complete(&self, key_group: u32) -> bool {
        let first = self.backend.key_groups().0;
        key_group.checked_sub(first).and_then(|i| self.complete.get(i as usize)).copied().unwrap_or(false)
    }

    fn set_complete(&mut self, key_group: u32, complete: bool) {
        let first = self.backend.key_groups().0;
        let entry = key_group.checked_sub(first).and_then(|i| self.complete.get_mut(i as usize));
        if let Some(entry) = entry.filter(|e| **e != complete) {
            *entry = complete;
            if complete {
                self.incomplete -= 1;
            } else {
                self.incomplete += 1;
            }
        }
    }
}

impl GroupAggregate {
    /// Looks up the keys that this batch brought into memory, as far as the database may have them.
    pub(super) fn load_created(&mut self) -> Result<()> {
        let Some(state) = self.state.as_ref().filter(|s| s.incomplete > 0) else { return Ok(()) };
        let created = &self.scratch.created;
        if created.is_empty() {
            return Ok(());
        }
        let columns = self.store.key_columns(&self.plan, created)?;
        let mut keys = state.address.database_keys(&columns, created.len(), None)?;
        let mut unknown = created.clone();
        if state.incomplete < state.complete.len() {
            let mut lookup = Vec::with_capacity(keys.len());
            unknown.clear();
            for (key, &group) in keys.into_iter().zip(created) {
                if !state.is_complete(read_prefix(&key)?.0) {
                    lookup.push(key);
                    unknown.push(group);
                }
            }
            keys = lookup;
        }
        self.store.load_keys(&self.plan, &state.backend, &unknown, &keys)
    }

    /// Tells the slot's memory what the keys take, and gives back what is asked for.
    pub(super) fn keep_within_memory(&mut self) -> Result<()> {
        loop {
            let Some(state) = &mut self.state else { return Ok(()) };
            self.store.written(&self.plan, state.tier.written()?);
            let pressure = state.tier.look(self.store.bytes());
            if !pressure.high {
                return Ok(());
            }
            self.store.track_use();
            let mut missing = pressure.excess;
            if missing > 0 {
                // What is loaded now would only be forgotten again.
                state.loading = None;
                let before = self.store.bytes();
                let victims = self.store.victims(missing);
                self.forget_clean(&victims)?;
                missing = missing.saturating_sub(before.saturating_sub(self.store.bytes()));
            }
            let handed = self.write_back_some(missing > 0);
            let Some(state) = &mut self.state else { return Ok(()) };
            state.tier.look(self.store.bytes());
            if missing == 0 {
                return Ok(());
            }
            // Where background work is done at once there may already be something to forget.
            if !handed || !state.tier.may_write_back() {
                state.tier.wait();
                return Ok(());
            }
        }
    }

    /// Forgets keys that the database has as they are.
    fn forget_clean(&mut self, victims: &[u32]) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let columns = self.store.key_columns(&self.plan, victims)?;
        let mut hashes = Vec::new();
        hash_columns_into(&columns, victims.len(), &mut hashes);
        for hash in hashes {
            state.set_complete(key_group_of_hash(hash, state.address.max_parallelism), false);
        }
        self.store.forget(&self.plan, victims);
        Ok(())
    }

    /// Has dirty keys written, so that they can be forgotten. If that is not urgent: when most keys are
    /// dirty. Says whether it was done.
    fn write_back_some(&mut self, urgent: bool) -> bool {
        let Some(state) = &mut self.state else { return false };
        let dirty = self.store.dirty();
        if !state.tier.may_write_back() || dirty == 0 || (!urgent && dirty * 2 < self.store.live()) {
            return false;
        }
        let generation = state.tier.next_generation();
        let Some(frozen) = self.store.freeze_some(&self.plan, generation, dirty.div_ceil(WRITE_BACK_PARTS)) else {
            return false;
        };
        let (address, plan) = (state.address, Arc::clone(&self.plan));
        let cell: FrozenCell = Box::new(move |writer| write_frozen(&[(None, frozen)], &plan, address, writer));
        state.tier.write_back(vec![cell]);
        true
    }

    /// Loads a page of what a restore left in the database, if it is time.
    pub(super) fn load_some(&mut self, now_ms: i64) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.tier.retry(now_ms);
        let Some(mut loading) = state.loading.take_if(|l| l.due_ms <= now_ms) else { return Ok(()) };
        if state.tier.room() < state.tier_reserve() {
            loading.due_ms = now_ms.saturating_add(LOADING_RETRY_MS);
            state.loading = Some(loading);
            return Ok(());
        }
        let end = table_bounds(loading.key_group, state.address.table).1;
        let (page, next) = stored_groups(&state.backend, &loading.from, &end, PAGE)?;
        let mut encoded = Vec::with_capacity(page.len());
        for stored in &page {
            encoded.push(read_prefix(&stored.key)?.2);
        }
        let keys = self.plan.keys.from_encoded(encoded.into_iter())?;
        let (mut groups, mut created) = (Vec::new(), Vec::new());
        self.store.intern(&self.plan, &keys, page.len(), None, &mut groups, &mut created);
        created.sort_unstable();
        for (&group, stored) in groups.iter().zip(&page) {
            // What memory had before is newer.
            if created.binary_search(&group).is_ok() {
                self.store.load(&self.plan, group, stored)?;
            }
        }
        match next {
            Some(next) => loading.from = next,
            None => {
                state.set_complete(loading.key_group, true);
                loading.key_group += 1;
                loading.from = table_bounds(loading.key_group, state.address.table).0;
            }
        }
        // Pages of few entries need no pause. That of others begins when they are loaded, which takes longer
        // than the pause: rows come between any two of them.
        let pause = if page.len() < PAGE / 4 { 0 } else { PAGE_PAUSE_MS };
        let loaded_ms = self.clock.as_ref().map_or(now_ms, |clock| clock.now_ms());
        loading.due_ms = now_ms.max(loaded_ms).saturating_add(pause);
        if loading.key_group <= state.backend.key_groups().1 {
            state.loading = Some(loading);
        }
        Ok(())
    }
}

impl State {
    /// Loading stops while less than this is free.
    fn tier_reserve(&self) -> usize {
        self.backend.memory().budget() / 4
    }
}
