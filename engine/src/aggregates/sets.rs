//! Sets of values, one a group. A large one is kept element by element in the database, so that a checkpoint
//! writes the elements that have changed and not the whole set.
//!
//! A set becomes large at a freeze. From then on it lies beside the chunks, which only say so: what is
//! frozen are the changed elements with their values, so that later changes copy no set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::chunks::{ChunkedVec, FrozenChunks, GroupBits};
use super::columns::take_array;
use crate::error::{EngineError, Result};

/// Instead of a number of elements: they are entries of the database.
const EXTERNAL: u32 = u32::MAX;
/// A set with more elements is large.
pub(super) const LARGE: usize = 64;
/// Version of the value of an element. Not that of a group, from which it can so be told.
const ELEMENT_FORMAT: u8 = 0xe1;

/// What a set has of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) count: i64,
    /// When it came first; where order does not matter 0.
    pub(super) order: u64,
}

/// A set.
pub(super) trait ElementSet: Clone + Default + Send + Sync + 'static {
    fn len(&self) -> usize;
    /// Approximate memory.
    fn bytes(&self) -> usize;
    fn get(&self, value: &[u8]) -> Option<Element>;
    /// Sets an element that is not there.
    fn restore(&mut self, value: &[u8], element: Element);
    fn for_each(&self, f: &mut dyn FnMut(&[u8], Element));
    /// The order of the next element.
    fn next_order(&self) -> u64;
    fn set_next_order(&mut self, next: u64);
    /// Number and elements.
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(input: &mut &[u8]) -> Result<Self>;
}

/// An element with its value in the database; `None`: it is gone.
pub type ElementChange = (Box<[u8]>, Option<[u8; 17]>);

/// What is to be written of one large set.
#[derive(Debug, Default)]
pub struct ElementWrites {
    /// What the database has of the set goes first.
    pub clear: bool,
    /// Elements in order.
    pub changes: Vec<ElementChange>,
}

#[derive(Clone)]
enum State<E> {
    Inline(Arc<E>),
    /// The set lies beside. When it was frozen last it would have given this order next.
    Large(u64),
}

impl<E: Default> Default for State<E> {
    fn default() -> Self {
        State::Inline(Arc::default())
    }
}

#[derive(Default)]
struct LargeSet<E> {
    set: E,
    changed: BTreeSet<Box<[u8]>>,
}

/// See the [module](self).
pub(super) struct Sets<E> {
    states: ChunkedVec<State<E>>,
    large: HashMap<u32, LargeSet<E>, FixedState>,
    /// Inline sets that may have become large.
    grown: GroupBits,
    /// Sets of which the database has elements.
    in_database: GroupBits,
    /// Large sets are kept element by element.
    keeps_elements: bool,
    empty: E,
}

impl<E: ElementSet> Sets<E> {
    pub(super) fn new(keeps_elements: bool) -> Sets<E> {
        Sets {
            states: ChunkedVec::default(),
            large: HashMap::with_hasher(FixedState::default()),
            grown: GroupBits::default(),
            in_database: GroupBits::default(),
            keeps_elements,
            empty: E::default(),
        }
    }

    pub(super) fn resize(&mut self, groups: usize) {
        self.states.resize(groups);
    }

    pub(super) fn get(&self, group: u32) -> &E {
        match self.states.get(group) {
            State::Inline(set) => set,
            State::Large(_) => self.large.get(&group).map_or(&self.empty, |large| &large.set),
        }
    }

    /// Lets `change` change the element `value` of a group's set, and nothing else.
    pub(super) fn change<R>(&mut self, group: u32, value: &[u8], change: impl FnOnce(&mut E) -> R) -> R {
        match self.states.get_mut(group) {
            State::Inline(set) => {
                let set = Arc::make_mut(set);
                let result = change(set);
                if set.len() > LARGE {
                    self.grown.insert(group);
                }
                result
            }
            State::Large(_) => {
                let large = self.large.entry(group).or_default();
                let result = change(&mut large.set);
                if !large.changed.contains(value) {
                    large.changed.insert(value.into());
                }
                result
            }
        }
    }

    /// Makes sets empty.
    pub(super) fn reset(&mut self, groups: &[u32]) {
        for &group in groups {
            *self.states.get_mut(group) = State::default();
            self.large.remove(&group);
            self.grown.remove(group);
        }
    }

    /// The groups, which are empty, will be others'.
    pub(super) fn forget(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.in_database.remove(group));
    }

    pub(super) fn state_bytes() -> usize {
        size_of::<State<E>>()
    }

    pub(super) fn heap_bytes(&self, groups: &[u32]) -> usize {
        groups.iter().map(|&g| self.get(g).bytes()).sum()
    }

    pub(super) fn freeze(&mut self, chunks: &[usize], puts: &GroupBits, deletes: &GroupBits) -> FrozenSets<E> {
        let mut writes = BTreeMap::new();
        if self.keeps_elements {
            for group in puts.iter() {
                if let Some(of_group) = self.freeze_set(group) {
                    writes.insert(group, of_group);
                }
            }
            for group in deletes.iter().filter(|&g| self.in_database.contains(g)) {
                writes.insert(group, ElementWrites { clear: true, changes: Vec::new() });
            }
            deletes.iter().for_each(|group| self.in_database.remove(group));
        }
        FrozenSets { states: self.states.freeze(chunks), writes }
    }

    fn freeze_set(&mut self, group: u32) -> Option<ElementWrites> {
        let (grown, in_database) = (self.grown.contains(group), self.in_database.contains(group));
        if !grown && !in_database {
            return None;
        }
        self.grown.remove(group);
        if let Some(large) = self.large.get_mut(&group) {
            let changed = std::mem::take(&mut large.changed);
            let set = &large.set;
            let changes = changed.into_iter().map(|value| {
                let element = set.get(&value).map(Element::encode);
                (value, element)
            });
            let changes = changes.collect();
            *self.states.get_mut(group) = State::Large(set.next_order());
            return Some(ElementWrites { clear: false, changes });
        }
        let set = self.get(group);
        if set.len() <= LARGE {
            // It was large once.
            self.in_database.remove(group);
            return in_database.then(|| ElementWrites { clear: true, changes: Vec::new() });
        }
        let mut changes: Vec<ElementChange> = Vec::with_capacity(set.len());
        set.for_each(&mut |value, element| changes.push((value.into(), Some(element.encode()))));
        changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let set = set.clone();
        *self.states.get_mut(group) = State::Large(set.next_order());
        self.large.insert(group, LargeSet { set, changed: BTreeSet::new() });
        self.in_database.insert(group);
        Some(ElementWrites { clear: true, changes })
    }

    pub(super) fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        let mut ahead = *input;
        if u32::from_le_bytes(take_array(&mut ahead)?) != EXTERNAL {
            self.large.remove(&group);
            let set = E::decode(input)?;
            if set.len() > LARGE {
                self.grown.insert(group);
            }
            *self.states.get_mut(group) = State::Inline(Arc::new(set));
            return Ok(());
        }
        let next = u64::from_le_bytes(take_array(&mut ahead)?);
        *input = ahead;
        let mut set = E::default();
        set.set_next_order(next);
        *self.states.get_mut(group) = State::Large(next);
        self.large.insert(group, LargeSet { set, changed: BTreeSet::new() });
        self.in_database.insert(group);
        Ok(())
    }

    pub(super) fn wants_elements(&self, group: u32) -> bool {
        matches!(self.states.get(group), State::Large(_))
    }

    pub(super) fn is_in_database(&self, group: u32) -> bool {
        self.in_database.contains(group)
    }

    pub(super) fn note_in_database(&mut self, group: u32) {
        self.in_database.insert(group);
    }

    /// An element of a large set, as the database has it.
    pub(super) fn restore(&mut self, group: u32, value: &[u8], stored: &[u8]) -> Result<()> {
        let Some(large) = self.large.get_mut(&group) else { return Ok(()) };
        let element = Element::decode(stored)?;
        large.set.restore(value, element);
        Ok(())
    }
}

impl Element {
    fn encode(self) -> [u8; 17] {
        let mut bytes = [ELEMENT_FORMAT; 17];
        bytes[1..9].copy_from_slice(&self.count.to_le_bytes());
        bytes[9..].copy_from_slice(&self.order.to_le_bytes());
        bytes
    }

    fn decode(mut stored: &[u8]) -> Result<Element> {
        let [format] = take_array(&mut stored)?;
        if format != ELEMENT_FORMAT {
            return Err(EngineError::Internal(format!(
                "an element of a set in the state has format {format}, which this version cannot read"
            )));
        }
        let count = i64::from_le_bytes(take_array(&mut stored)?);
        Ok(Element { count, order: u64::from_le_bytes(take_array(&mut stored)?) })
    }
}

/// Sets as they were at a freeze.
pub(super) struct FrozenSets<E> {
    states: FrozenChunks<State<E>>,
    writes: BTreeMap<u32, ElementWrites>,
}

impl<E: ElementSet> FrozenSets<E> {
    pub(super) fn encode(&self, index: usize, offset: usize, out: &mut Vec<u8>) {
        match self.states.get(index, offset) {
            State::Inline(set) => set.encode(out),
            State::Large(next) => {
                out.extend_from_slice(&EXTERNAL.to_le_bytes());
                out.extend_from_slice(&next.to_le_bytes());
            }
        }
    }

    pub(super) fn is_large(&self, index: usize, offset: usize) -> bool {
        matches!(self.states.get(index, offset), State::Large(_))
    }

    pub(super) fn elements(&self, group: u32) -> Option<&ElementWrites> {
        self.writes.get(&group)
    }
}
