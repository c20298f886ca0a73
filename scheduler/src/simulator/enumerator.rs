//! The split coordinator of the virtual sources. A split is always in exactly one place:
//! unassigned, or in a reader's state, or remembered as given away since the checkpoint that the
//! reader would restart from.

use std::collections::BTreeSet;

use super::Bug;
use hurtig_graph::coordinator::{CoordinatorAction, CoordinatorEvent, OperatorCoordinator};

/// A reader's request for a split.
pub const REQUEST: &[u8] = &[0];

/// The answer: a split's number, or that there are no more.
pub fn answer(split: Option<u32>) -> Vec<u8> {
    split.unwrap_or(u32::MAX).to_le_bytes().to_vec()
}

/// Reads an [`answer`].
pub fn read_answer(payload: &[u8]) -> Option<u32> {
    let bytes = payload.try_into().unwrap_or([u8::MAX; 4]);
    Some(u32::from_le_bytes(bytes)).filter(|split| *split != u32::MAX)
}

/// Reads a snapshot: the unassigned splits, `None` before discovery.
pub fn read_snapshot(state: &[u8]) -> Option<BTreeSet<u32>> {
    let (discovered, splits) = state.split_first()?;
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
    (*discovered == 1).then(|| splits.chunks(4).map(number).collect())
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Enumerator {
    unassigned: Option<BTreeSet<u32>>,
    /// Subtask, split, last snapshot before.
    given: Vec<(u32, u32, u64)>,
    waiting: BTreeSet<u32>,
    last_snapshot: u64,
    bug: Option<Bug>,
}

impl Enumerator {
    /// With a deliberate bug, or without.
    pub fn new(bug: Option<Bug>) -> Self {
        Enumerator { bug, ..Enumerator::default() }
    }

    fn give(&mut self, subtask: u32) -> Vec<CoordinatorAction> {
        let Some(unassigned) = &mut self.unassigned else {
            self.waiting.insert(subtask);
            return Vec::new();
        };
        let split = unassigned.pop_first();
        if let Some(split) = split {
            self.given.push((subtask, split, self.last_snapshot));
        }
        vec![CoordinatorAction::Send { subtask, payload: answer(split) }]
    }
}

impl OperatorCoordinator for Enumerator {
    fn handle(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction> {
        match event {
            CoordinatorEvent::Start { .. } if self.unassigned.is_none() => vec![CoordinatorAction::Discover],
            CoordinatorEvent::Discovered { splits: Err(error) } => vec![CoordinatorAction::Fail(error)],
            CoordinatorEvent::Discovered { splits: Ok(splits) } => {
                self.unassigned = Some(splits.iter().filter_map(|split| read_answer(split)).collect());
                std::mem::take(&mut self.waiting).into_iter().flat_map(|subtask| self.give(subtask)).collect()
            }
            CoordinatorEvent::Message { subtask, .. } => self.give(subtask),
            CoordinatorEvent::CheckpointComplete { checkpoint } => {
                if self.bug != Some(Bug::SplitsTwiceAfterReset) {
                    self.given.retain(|(_, _, after)| *after >= checkpoint);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn snapshot(&mut self, checkpoint: u64) -> Vec<u8> {
        self.last_snapshot = checkpoint;
        let mut state = vec![u8::from(self.unassigned.is_some())];
        state.extend(self.unassigned.iter().flatten().flat_map(|split| split.to_le_bytes()));
        state
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Result<(), String> {
        *self = Enumerator { unassigned: state.and_then(read_snapshot), ..Enumerator::new(self.bug) };
        Ok(())
    }

    fn adopt(&mut self, subtask: u32, received: &[Vec<u8>]) -> bool {
        let Some(unassigned) = &mut self.unassigned else { return false };
        if self.bug == Some(Bug::ReceiptsForgotten) {
            return true;
        }
        for split in received.iter().filter_map(|payload| read_answer(payload)) {
            unassigned.remove(&split);
            self.given.push((subtask, split, self.last_snapshot));
        }
        true
    }

    fn reset_subtask(&mut self, subtask: u32, checkpoint: u64) -> Vec<CoordinatorAction> {
        self.waiting.remove(&subtask);
        let all = self.bug == Some(Bug::SplitsTwiceAfterReset);
        let taken_back = |(to, _, after): &(u32, u32, u64)| *to == subtask && (all || *after >= checkpoint);
        if let Some(unassigned) = &mut self.unassigned {
            unassigned.extend(self.given.iter().filter(|given| taken_back(given)).map(|(_, split, _)| *split));
        }
        self.given.retain(|given| !taken_back(given));
        Vec::new()
    }
}
