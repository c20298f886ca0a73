//! Splitting generated rows over subtasks.
//!
//! A generator's rows are numbered, and a row follows from its number alone. Numbers go to splits in
//! blocks, round robin; there are more splits than subtasks, so that another parallelism can share
//! them out anew. Each subtask takes the smallest number of its splits first, so that all subtasks
//! move through the numbers side by side. No coordinator is needed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use hurtig_engine::operator::{OperatorContext, OperatorSnapshot};
use prost::Message;

use crate::error::Result;
use crate::filesystem::split::{decode, encode};

/// About how many splits there are.
const SPLITS: u64 = 128;
/// Name of the list state: a [`SplitState`] an element.
const STATE: &str = "splits";

/// The blocks of numbers whose index modulo `modulus` is `residue`.
#[derive(Clone, Copy, PartialEq, Message)]
struct SplitState {
    #[prost(uint64, tag = "1")]
    residue: u64,
    #[prost(uint64, tag = "2")]
    modulus: u64,
    /// The first number that was not given out.
    #[prost(uint64, tag = "3")]
    next: u64,
    /// Chosen when the job started.
    #[prost(uint64, tag = "4")]
    seed: u64,
}

/// The numbers of one subtask. See the module documentation.
#[derive(Debug, Default)]
pub struct NumberedSplits {
    block: u64,
    end: u64,
    splits: Vec<SplitState>,
    /// (next number, position in `splits`), smallest first.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
}

impl NumberedSplits {
    /// The numbers below `end` of the subtask of `context`, in blocks of `block`. `seed` is kept in the
    /// state, so that a restart goes on with the first one.
    pub fn open(context: &OperatorContext, block: u64, end: u64, seed: u64) -> Result<NumberedSplits> {
        let restored = context.restored.list(STATE);
        let mut splits = Vec::new();
        if context.restored.checkpoint > 0 {
            for element in restored {
                splits.push(decode::<SplitState>(element, "the state of a generator")?);
            }
        } else {
            let (subtask, parallelism) = (u64::from(context.task.attempt.subtask), u64::from(context.task.parallelism));
            let modulus = parallelism.max(1) * (SPLITS / parallelism.max(1)).max(1);
            let residues = (subtask..modulus).step_by(parallelism.max(1) as usize);
            splits.extend(residues.map(|residue| SplitState { residue, modulus, next: residue * block, seed }));
        }
        let queue = splits.iter().enumerate().map(|(i, split)| Reverse((split.next, i))).collect();
        Ok(NumberedSplits { block, end, splits, queue })
    }

    /// The next numbers, ascending: `count` at most, fewer only at the end.
    pub fn take(&mut self, count: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut left = count;
        while left > 0 {
            let Some(&Reverse((next, i))) = self.queue.peek().filter(|Reverse((next, _))| *next < self.end) else {
                break;
            };
            let block_end = (next / self.block + 1) * self.block;
            let to = block_end.min(next + left).min(self.end);
            left -= to - next;
            match ranges.last_mut().filter(|last| last.end == next) {
                Some(last) => last.end = to,
                None => ranges.push(next..to),
            }
            let split = &mut self.splits[i];
            split.next = if to == block_end { to + (split.modulus - 1) * self.block } else { to };
            self.queue.pop();
            self.queue.push(Reverse((split.next, i)));
        }
        ranges
    }

    /// The next number, if any is left.
    pub fn next_number(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((next, _))| *next).filter(|next| *next < self.end)
    }

    /// Whether no number is left.
    pub fn is_finished(&self) -> bool {
        self.next_number().is_none()
    }

    /// The seed chosen when the job started.
    pub fn seed(&self) -> u64 {
        self.splits.first().map_or(0, |split| split.seed)
    }

    /// The numbers that are left.
    pub fn snapshot(&self) -> OperatorSnapshot {
        let elements = self.splits.iter().map(encode).collect();
        OperatorSnapshot { lists: vec![(STATE.to_owned(), elements)], ..OperatorSnapshot::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ContextOptions, context, restored};
    use hurtig_engine::operator::RestoredState;

    fn open(subtask: u32, parallelism: u32, end: u64, state: RestoredState) -> NumberedSplits {
        let options = ContextOptions { subtask, parallelism, restored: state, ..ContextOptions::default() };
        NumberedSplits::open(&context(options).0, 10, end, 1).unwrap()
    }

    fn all(splits: &mut NumberedSplits, step: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while !splits.is_finished() {
            numbers.extend(splits.take(step).into_iter().flatten());
        }
        numbers
    }

    #[test]
    fn every_number_goes_to_exactly_one_subtask_in_order() {
        for (parallelism, end) in [(1, 0), (1, 12_345), (3, 12_345), (7, 5), (130, 12_345)] {
            let mut found = Vec::new();
            for subtask in 0..parallelism {
                let numbers = all(&mut open(subtask, parallelism, end, RestoredState::default()), 33);
                assert!(numbers.is_sorted());
                found.extend(numbers);
            }
            found.sort_unstable();
            assert!(found.iter().copied().eq(0..end), "{parallelism} {end}");
        }
    }

    #[test]
    fn a_restart_at_another_parallelism_goes_on_with_the_rest() {
        let mut numbers = Vec::new();
        let mut snapshots = Vec::new();
        for subtask in 0..3 {
            let mut splits = open(subtask, 3, 10_000, RestoredState::default());
            numbers.extend(splits.take(1234).into_iter().flatten());
            snapshots.push(splits.snapshot());
        }
        let state = restored(1, snapshots);
        let (first, second) = state.lists[0].1.split_at(50);
        for elements in [first, second] {
            let lists = vec![(STATE.to_owned(), elements.to_vec())];
            let state = RestoredState { checkpoint: 1, lists, watermark_ms: None };
            numbers.extend(all(&mut open(0, 2, 10_000, state), 100));
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000));
        // A subtask that is given nothing has nothing to do.
        let none = RestoredState { checkpoint: 1, ..RestoredState::default() };
        assert!(open(1, 2, 10_000, none).is_finished());
    }
}
