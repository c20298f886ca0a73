//! What has gone wrong with a job and what came of it, for people: the exception history and the
//! last restarts with the time that each of their phases took.
//!
//! Failures that lead to the same restart are one entry, as in Flink: the root cause, and beside it
//! what failed at the same time or because of it.

use std::collections::VecDeque;

use hurtig_proto::v1;

/// Failures beside a root cause that are kept.
const CONCURRENT: usize = 32;
/// Restarts that are kept.
const RESTARTS: usize = 16;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct History {
    limit: usize,
    failures: VecDeque<v1::FailureRecord>,
    truncated: bool,
    restarts: VecDeque<v1::RestartReport>,
    /// The last of `restarts` is under way.
    restarting: bool,
}

/// The phases of a restart that are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestartPhase {
    /// No task is left.
    Ended,
    /// The delay is over.
    Waited,
    /// All tasks are deployed.
    Deployed,
    /// All tasks run.
    Running,
}

impl History {
    /// Keeps `limit` failures.
    pub fn new(limit: usize) -> Self {
        History { limit, ..History::default() }
    }

    /// A failure that has consequences of its own.
    pub fn root(&mut self, record: v1::FailureRecord) {
        self.failures.push_back(record);
        while self.failures.len() > self.limit {
            self.failures.pop_front();
            self.truncated = true;
        }
    }

    /// A failure during the restart that the last root cause has led to. With `cause` it explains the
    /// last root cause, and takes its place: tasks notice the loss of a neighbour's TaskManager before
    /// the JobManager does.
    pub fn concurrent(&mut self, mut record: v1::FailureRecord, cause: bool) {
        let Some(root) = self.failures.back_mut() else { return self.root(record) };
        if cause && root.time_ms <= record.time_ms {
            record.concurrent = std::mem::take(&mut root.concurrent);
            std::mem::swap(root, &mut record);
        }
        if root.concurrent.len() < CONCURRENT {
            root.concurrent.push(record);
        }
    }

    /// All failures, oldest first.
    pub fn failures(&self) -> Vec<v1::FailureRecord> {
        self.failures.iter().cloned().collect()
    }

    /// There were more failures.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Regions are to restart. While a restart is under way they belong to it.
    pub fn restart(&mut self, cause: &str, regions: usize, rescale: bool, now: i64) {
        let report = match self.restarts.back_mut().filter(|_| self.restarting) {
            Some(report) => report,
            None => {
                self.restarting = true;
                if self.restarts.len() == RESTARTS {
                    self.restarts.pop_front();
                }
                let new = v1::RestartReport { time_ms: now, cause: cause.to_owned(), ..Default::default() };
                self.restarts.push_back(new);
                let Some(report) = self.restarts.back_mut() else { return };
                report
            }
        };
        report.regions += regions as u32;
        report.rescale |= rescale;
    }

    /// The restart under way has reached a phase. Of several times the last one counts.
    pub fn reached(&mut self, phase: RestartPhase, now: i64) {
        let Some(report) = self.restarts.back_mut().filter(|_| self.restarting) else { return };
        // At least 1: 0 says that it has not happened.
        let passed = now.saturating_sub(report.time_ms).max(1) as u64;
        match phase {
            RestartPhase::Ended => report.ended_ms = passed,
            RestartPhase::Waited => report.waited_ms = passed,
            RestartPhase::Deployed => report.deployed_ms = passed,
            RestartPhase::Running => {
                report.running_ms = passed;
                self.restarting = false;
                tracing::info!(
                    cause = report.cause,
                    regions = report.regions,
                    checkpoint = report.checkpoint_id,
                    ended_ms = report.ended_ms,
                    waited_ms = report.waited_ms,
                    deployed_ms = report.deployed_ms,
                    running_ms = report.running_ms,
                    "restarted"
                );
            }
        }
    }

    /// The restart under way leaves TaskManagers that are to go.
    pub fn decommission(&mut self, left: v1::Decommission) {
        let Some(report) = self.restarts.back_mut().filter(|_| self.restarting) else { return };
        match &mut report.decommission {
            Some(known) => {
                let new = left.taskmanagers.into_iter().filter(|name| !known.taskmanagers.contains(name));
                known.taskmanagers.extend(new.collect::<Vec<_>>());
            }
            none => *none = Some(left),
        }
    }

    /// What the restart under way restores.
    pub fn restores(&mut self, checkpoint: u64) {
        if let Some(report) = self.restarts.back_mut().filter(|_| self.restarting) {
            report.checkpoint_id = checkpoint;
        }
    }

    /// The last restarts, oldest first.
    pub fn restarts(&self) -> Vec<v1::RestartReport> {
        self.restarts.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> v1::FailureRecord {
        v1::FailureRecord { message: message.into(), ..Default::default() }
    }

    fn shown(history: &History) -> Vec<(String, Vec<String>)> {
        let messages = |r: &v1::FailureRecord| r.concurrent.iter().map(|c| c.message.clone()).collect();
        history.failures.iter().map(|r| (r.message.clone(), messages(r))).collect()
    }

    #[test]
    fn failures_are_grouped_and_the_oldest_are_forgotten() {
        let mut history = History::new(2);
        history.root(record("a"));
        history.concurrent(record("b"), false);
        history.root(record("c"));
        assert_eq!(shown(&history), [("a".into(), vec!["b".into()]), ("c".into(), vec![])]);
        assert!(!history.truncated());
        history.root(record("d"));
        assert_eq!(shown(&history), [("c".into(), vec![]), ("d".into(), vec![])]);
        assert!(history.truncated());
    }

    #[test]
    fn the_cause_that_is_noticed_later_becomes_the_root() {
        let mut history = History::new(16);
        history.root(record("channel closed"));
        history.concurrent(record("another channel"), false);
        history.concurrent(record("TaskManager lost"), true);
        let expected = vec!["another channel".to_owned(), "channel closed".to_owned()];
        assert_eq!(shown(&history), [("TaskManager lost".into(), expected)]);
    }

    #[test]
    fn phases_of_overlapping_restarts_are_those_of_one() {
        let mut history = History::new(16);
        history.restart("a", 1, false, 100);
        history.reached(RestartPhase::Ended, 110);
        history.restart("b", 2, false, 120);
        history.reached(RestartPhase::Ended, 150);
        history.reached(RestartPhase::Running, 160);
        history.reached(RestartPhase::Running, 900);
        let [report] = &history.restarts()[..] else { panic!("one restart") };
        assert_eq!((report.cause.as_str(), report.regions, report.ended_ms, report.running_ms), ("a", 3, 50, 60));
    }
}
