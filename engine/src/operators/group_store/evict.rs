//! Which groups may leave memory, and when.
//!
//! A group may be forgotten when the database has exactly what memory has of it: it is stored, not
//! dirty, and what was frozen of it has been written. A group without rows whose deletion has been
//! written is only the knowledge that there is nothing, and goes as well. Victims are taken by the
//! clock: the hand passes over groups, sparing those that were used since it came by last.

use std::sync::Arc;

use super::{AggregatePlan, GroupStore};
use crate::aggregates::chunks::{CHUNK, GroupBits, Touched};
use crate::error::Result;

/// Changes that were frozen and are not in the database yet.
pub(super) struct InFlight {
    generation: u64,
    /// Groups that must stay in memory.
    changed: GroupBits,
    deletes: GroupBits,
    /// By chunk: frozen, and not copied since.
    shared: Vec<bool>,
    /// Frozen chunks that have been written to since, which are there twice.
    copies: usize,
}

impl InFlight {
    pub(super) fn note_copies(&mut self, touched: &Touched) {
        for (chunk, shared) in self.shared.iter_mut().enumerate() {
            if *shared && touched.contains(chunk) {
                *shared = false;
                self.copies += 1;
            }
        }
    }
}

impl GroupStore {
    pub(super) fn note_frozen(&mut self, generation: u64, puts: &GroupBits, deletes: &GroupBits, chunks: &[usize]) {
        let mut changed = puts.clone();
        changed.unite(deletes);
        let mut shared = vec![false; chunks.last().map_or(0, |last| last + 1)];
        chunks.iter().for_each(|&chunk| shared[chunk] = true);
        self.in_flight.push(InFlight { generation, changed, deletes: deletes.clone(), shared, copies: 0 });
    }

    /// The generations up to `through` are in the database: forgets the groups whose deletion was
    /// part of them.
    pub fn written(&mut self, plan: &AggregatePlan, through: u64) {
        while self.in_flight.first().is_some_and(|frozen| frozen.generation <= through) {
            let frozen = self.in_flight.remove(0);
            let gone = frozen.deletes.iter().filter(|&g| !self.present.contains(g) && !self.stored.contains(g));
            let gone: Vec<u32> = gone.filter(|&g| !self.is_in_flight(g)).collect();
            self.remove(plan, &gone);
        }
    }

    /// Whether what was frozen of the group is not in the database yet.
    pub fn is_in_flight(&self, group: u32) -> bool {
        self.in_flight.iter().any(|frozen| frozen.changed.contains(group))
    }

    /// Whether the database has or will have anything of the group: if not, it can be forgotten at once.
    pub fn is_known_to_database(&self, group: u32) -> bool {
        self.stored.contains(group) || self.is_in_flight(group)
    }

    /// Number of groups that differ from the database.
    pub fn dirty(&self) -> usize {
        self.dirty.count()
    }

    /// Approximate memory of the groups there are. Numbers that were given free are filled again
    /// before more memory is taken, so they do not count.
    pub fn bytes(&self) -> usize {
        let copies: usize = self.in_flight.iter().map(|frozen| frozen.copies).sum();
        self.keys.all_key_bytes()
            + self.heap_bytes
            + self.superseded_bytes()
            + (self.keys.live() + copies * CHUNK) * self.group_bytes
    }

    /// About what groups that changed since a freeze own in the frozen chunks as well.
    fn superseded_bytes(&self) -> usize {
        if !self.owns_heap || self.in_flight.is_empty() {
            return 0;
        }
        let share = self.dirty.count() as f64 / self.keys.live().max(1) as f64;
        (self.heap_bytes as f64 * share.min(1.0)) as usize
    }

    /// From now on notes which groups are used.
    pub fn track_use(&mut self) {
        self.tracks_use = true;
    }

    /// Notes that groups are used, if that is tracked.
    pub fn note_use(&mut self, groups: &[u32]) {
        if self.tracks_use {
            self.used.insert_all(groups);
        }
    }

    /// Forgets groups that the database has as they are.
    pub fn forget(&mut self, plan: &AggregatePlan, victims: &[u32]) {
        self.remove(plan, victims);
        self.keys.shrink_table();
    }

    /// Groups that may be forgotten, of at least `bytes` together if there are so many.
    pub fn victims(&mut self, bytes: usize) -> Vec<u32> {
        let words = self.keys.groups_end().div_ceil(64);
        let (mut victims, mut found) = (Vec::new(), 0);
        // One round that takes what was not used, and a second one for what was.
        for _ in 0..2 * words {
            if found >= bytes {
                break;
            }
            let word = self.hand % words;
            self.hand = (word + 1) % words;
            let used = self.used.word(word);
            self.used.clear_in_word(word, !0);
            let mut candidates = self.evictable(word) & !used;
            while candidates != 0 {
                let group = (word * 64) as u32 + candidates.trailing_zeros();
                candidates &= candidates - 1;
                found += self.group_bytes + self.keys.key_bytes(group) + self.heap_of(&[group]);
                victims.push(group);
            }
        }
        // The second round may come by what the first one took.
        victims.sort_unstable();
        victims.dedup();
        victims
    }

    /// All groups that may be forgotten.
    pub fn all_evictable(&self) -> Vec<u32> {
        let mut groups = Vec::new();
        for word in 0..self.keys.groups_end().div_ceil(64) {
            let mut candidates = self.evictable(word);
            while candidates != 0 {
                groups.push((word * 64) as u32 + candidates.trailing_zeros());
                candidates &= candidates - 1;
            }
        }
        groups
    }

    /// Of groups `64 * word` and up those that are as the database has them.
    fn evictable(&self, word: usize) -> u64 {
        let in_flight = self.in_flight.iter().fold(0, |bits, frozen| bits | frozen.changed.word(word));
        let (present, dirty, stored) = (self.present.word(word), self.dirty.word(word), self.stored.word(word));
        // Absences that are known need no entry; numbers that are free have no bit at all.
        present & stored & !dirty & !in_flight
    }

    /// Gives back the memory of numbers that are free, when it is worth it; all groups get new numbers.
    pub fn shrink(&mut self, plan: &Arc<AggregatePlan>) -> Result<()> {
        let (live, end) = (self.keys.live(), self.keys.groups_end());
        if !self.in_flight.is_empty() || end < 2 * CHUNK || live * 4 > end * 3 {
            return Ok(());
        }
        let mut smaller = GroupStore::new(plan, live)?;
        smaller.tracks_use = self.tracks_use;
        let kept = self.present();
        let (mut groups, mut created) = (Vec::new(), Vec::new());
        for step in kept.chunks(8192) {
            smaller.absorb_groups(plan, self, step)?;
            let keys = self.keys.batch_keys(step);
            smaller.intern(plan, &keys, step.len(), None, &mut groups, &mut created);
            for (&old, &new) in step.iter().zip(&groups) {
                if self.stored.contains(old) {
                    smaller.stored.insert(new);
                }
                if !self.dirty.contains(old) {
                    smaller.dirty.remove(new);
                }
                for (smaller, larger) in smaller.accumulators.iter_mut().zip(&self.accumulators) {
                    if larger.has_stored_elements(old) {
                        smaller.note_stored_elements(new);
                    }
                }
                if plan.timed {
                    *smaller.changed.get_mut(new) = *self.changed.get(old);
                }
            }
        }
        // What is to be deleted has no rows.
        let absent: Vec<u32> = self.dirty.iter().filter(|&g| !self.present.contains(g)).collect();
        let keys = self.keys.batch_keys(&absent);
        smaller.intern(plan, &keys, absent.len(), None, &mut groups, &mut created);
        for (&old, &new) in absent.iter().zip(&groups) {
            smaller.dirty.insert(new);
            for (smaller, larger) in smaller.accumulators.iter_mut().zip(&self.accumulators) {
                if larger.has_stored_elements(old) {
                    smaller.note_stored_elements(new);
                }
            }
            if self.stored.contains(old) {
                smaller.stored.insert(new);
            }
        }
        *self = smaller;
        Ok(())
    }
}
