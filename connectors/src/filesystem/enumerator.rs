//! The JobManager's side of reading files: which split goes to which reader, and what comes back
//! when a reader fails.
//!
//! A split is always in exactly one place: unassigned here, in the state of a reader, or (given to a
//! reader after the checkpoint that the reader would restart from) remembered in `assigned`.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_graph::coordinator::{CoordinatorAction, CoordinatorEvent, OperatorCoordinator};

use super::split::{EnumeratorState, FileSplit, SplitRequest, SplitResponse, decode, encode};

/// A split that was given to a reader.
#[derive(Debug, Clone)]
struct Assignment {
    subtask: u32,
    split: FileSplit,
    /// The last checkpoint whose snapshot was taken before.
    after: u64,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct FileEnumerator {
    discovered: bool,
    discovering: bool,
    /// By number, which is the order of reading.
    unassigned: BTreeMap<u64, FileSplit>,
    assigned: Vec<Assignment>,
    /// Readers that asked before the files were listed.
    waiting: BTreeSet<u32>,
    last_snapshot: u64,
}

impl FileEnumerator {
    fn discover(&mut self) -> Vec<CoordinatorAction> {
        if self.discovered || self.discovering {
            return Vec::new();
        }
        self.discovering = true;
        vec![CoordinatorAction::Discover]
    }

    fn answer(&mut self, subtask: u32) -> CoordinatorAction {
        let split = self.unassigned.pop_first().map(|(_, split)| split);
        if let Some(split) = &split {
            self.assigned.push(Assignment { subtask, split: split.clone(), after: self.last_snapshot });
        }
        CoordinatorAction::Send { subtask, payload: encode(&SplitResponse { split }) }
    }

    fn found(&mut self, splits: Vec<Vec<u8>>) -> Vec<CoordinatorAction> {
        if self.discovered {
            return Vec::new();
        }
        for bytes in splits {
            match decode::<FileSplit>(&bytes, "a file split") {
                Ok(split) => self.unassigned.insert(split.number, split),
                Err(error) => return vec![CoordinatorAction::Fail(error.to_string())],
            };
        }
        self.discovered = true;
        self.discovering = false;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|subtask| self.answer(subtask)).collect()
    }

    fn requested(&mut self, subtask: u32, payload: &[u8]) -> Vec<CoordinatorAction> {
        if let Err(error) = decode::<SplitRequest>(payload, "a split request") {
            return vec![CoordinatorAction::Fail(error.to_string())];
        }
        if self.discovered {
            return vec![self.answer(subtask)];
        }
        self.waiting.insert(subtask);
        self.discover()
    }
}

impl OperatorCoordinator for FileEnumerator {
    fn handle(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction> {
        match event {
            CoordinatorEvent::Start { .. } => self.discover(),
            CoordinatorEvent::Message { subtask, payload } => self.requested(subtask, &payload),
            CoordinatorEvent::Discovered { splits: Ok(splits) } => self.found(splits),
            CoordinatorEvent::Discovered { splits: Err(reason) } => {
                self.discovering = false;
                vec![CoordinatorAction::Fail(reason)]
            }
            CoordinatorEvent::CheckpointComplete { checkpoint } => {
                self.assigned.retain(|a| a.after >= checkpoint);
                Vec::new()
            }
            CoordinatorEvent::SubtaskReady { .. } | CoordinatorEvent::Timer => Vec::new(),
        }
    }

    fn snapshot(&mut self, checkpoint: u64) -> Vec<u8> {
        self.last_snapshot = checkpoint;
        let unassigned = self.unassigned.values().cloned().collect();
        encode(&EnumeratorState { discovered: self.discovered, unassigned })
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Result<(), String> {
        *self = FileEnumerator::default();
        let Some(bytes) = state else { return Ok(()) };
        let state: EnumeratorState = decode(bytes, "the state of a file enumerator").map_err(|e| e.to_string())?;
        self.discovered = state.discovered;
        self.unassigned = state.unassigned.into_iter().map(|split| (split.number, split)).collect();
        Ok(())
    }

    fn adopt(&mut self, subtask: u32, received: &[Vec<u8>]) -> bool {
        if !self.discovered {
            // What is listed anew may have other numbers.
            return false;
        }
        for payload in received {
            match decode::<SplitResponse>(payload, "a split that a reader has") {
                Ok(SplitResponse { split: Some(split) }) => {
                    self.unassigned.remove(&split.number);
                    self.assigned.push(Assignment { subtask, split, after: self.last_snapshot });
                }
                Ok(SplitResponse { split: None }) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn reset_subtask(&mut self, subtask: u32, checkpoint: u64) -> Vec<CoordinatorAction> {
        self.waiting.remove(&subtask);
        let mut kept = Vec::with_capacity(self.assigned.len());
        for assignment in std::mem::take(&mut self.assigned) {
            if assignment.subtask == subtask && assignment.after >= checkpoint {
                self.unassigned.insert(assignment.split.number, assignment.split);
            } else {
                kept.push(assignment);
            }
        }
        self.assigned = kept;
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(n: u64) -> Vec<Vec<u8>> {
        let split = |number| FileSplit { number, path: format!("/f{number}"), ..FileSplit::default() };
        (0..n).map(|number| encode(&split(number))).collect()
    }

    fn started(n: u64) -> FileEnumerator {
        let mut e = FileEnumerator::default();
        assert_eq!(e.handle(CoordinatorEvent::Start { parallelism: 2 }), [CoordinatorAction::Discover]);
        assert_eq!(e.handle(CoordinatorEvent::Discovered { splits: Ok(splits(n)) }), []);
        e
    }

    /// The number of the split that `subtask` is given; `None`: there are no more.
    fn request(e: &mut FileEnumerator, subtask: u32) -> Option<u64> {
        let actions = e.handle(CoordinatorEvent::Message { subtask, payload: encode(&SplitRequest {}) });
        let [CoordinatorAction::Send { subtask: to, payload }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(*to, subtask);
        decode::<SplitResponse>(payload, "answer").unwrap().split.map(|s| s.number)
    }

    #[test]
    fn splits_are_given_in_order_to_whoever_asks() {
        let mut e = started(3);
        assert_eq!(
            [request(&mut e, 1), request(&mut e, 0), request(&mut e, 1), request(&mut e, 0)],
            [Some(0), Some(1), Some(2), None]
        );
    }

    #[test]
    fn who_asks_too_early_is_answered_once_files_are_listed() {
        let mut e = FileEnumerator::default();
        let ask = |e: &mut FileEnumerator, subtask| {
            e.handle(CoordinatorEvent::Message { subtask, payload: encode(&SplitRequest {}) })
        };
        assert_eq!(ask(&mut e, 1), [CoordinatorAction::Discover]);
        assert_eq!(ask(&mut e, 0), []);
        assert_eq!(e.handle(CoordinatorEvent::Discovered { splits: Ok(splits(1)) }).len(), 2);
        let failed = FileEnumerator::default().handle(CoordinatorEvent::Discovered { splits: Err("gone".into()) });
        assert_eq!(failed, [CoordinatorAction::Fail("gone".into())]);
    }

    #[test]
    fn a_reset_takes_back_only_what_the_checkpoint_does_not_hold() {
        let mut e = started(6);
        request(&mut e, 0); // 0, part of checkpoint 1
        e.snapshot(1);
        request(&mut e, 0); // 1, behind it
        request(&mut e, 1); // 2, of another reader
        e.handle(CoordinatorEvent::CheckpointComplete { checkpoint: 1 });
        e.snapshot(2); // never completes
        request(&mut e, 0); // 3
        e.reset_subtask(0, 1);
        assert_eq!([request(&mut e, 0), request(&mut e, 0), request(&mut e, 0)], [Some(1), Some(3), Some(4)]);
        // Restarting from the beginning takes back everything that no completed checkpoint covers.
        e.reset_subtask(1, 0);
        assert_eq!(request(&mut e, 0), Some(2));
    }

    /// The JobManager takes a snapshot behind a restore, for the checkpoint that was restored.
    #[test]
    fn what_is_given_out_behind_a_restore_comes_back_at_a_reset() {
        let mut e = started(3);
        request(&mut e, 0);
        let state = e.snapshot(7);
        let mut e = FileEnumerator::default();
        e.restore(Some(&state)).unwrap();
        e.snapshot(7);
        assert_eq!(request(&mut e, 0), Some(1));
        e.reset_subtask(0, 7);
        assert_eq!([request(&mut e, 0), request(&mut e, 0), request(&mut e, 0)], [Some(1), Some(2), None]);
    }

    /// The JobManager was lost; its successor restores checkpoint 7 while reader 0 runs on.
    #[test]
    fn what_an_adopted_reader_was_given_is_not_given_out_again_and_comes_back_at_its_reset() {
        let mut e = started(4);
        request(&mut e, 0);
        let state = e.snapshot(7);
        let given = e.handle(CoordinatorEvent::Message { subtask: 0, payload: encode(&SplitRequest {}) });
        let [CoordinatorAction::Send { payload, .. }] = &given[..] else { panic!("{given:?}") };
        let mut e = FileEnumerator::default();
        e.restore(Some(&state)).unwrap();
        e.snapshot(7);
        assert!(e.adopt(0, std::slice::from_ref(payload)));
        assert_eq!(request(&mut e, 1), Some(2));
        e.reset_subtask(0, 7);
        assert_eq!(request(&mut e, 1), Some(1));
        let undiscovered = &mut FileEnumerator::default();
        assert!(!undiscovered.adopt(0, &[]), "files listed anew may have other numbers");
    }

    #[test]
    fn a_restart_of_the_job_goes_on_with_the_unassigned() {
        let mut e = started(3);
        request(&mut e, 0);
        let state = e.snapshot(1);
        request(&mut e, 0);
        e.restore(Some(&state)).unwrap();
        assert_eq!(e.handle(CoordinatorEvent::Start { parallelism: 5 }), []);
        assert_eq!([request(&mut e, 4), request(&mut e, 4), request(&mut e, 4)], [Some(1), Some(2), None]);
        e.restore(None).unwrap();
        e.snapshot(0);
        assert_eq!(e.handle(CoordinatorEvent::Start { parallelism: 5 }), [CoordinatorAction::Discover]);
        assert!(e.restore(Some(&[0xff])).is_err());
    }
}
