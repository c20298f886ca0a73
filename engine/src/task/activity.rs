//! What a task is doing right now, as others see it: written by the task's thread, read by reports.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::BlockReason;

/// See the module documentation. Times are monotonic, in microseconds.
#[derive(Debug, Default)]
pub struct Activity {
    /// 0: working; else one more than the position in [`BlockReason::ALL`].
    blocked: AtomicU8,
    blocked_since_us: AtomicU64,
    /// 0: no step is under way.
    step_since_us: AtomicU64,
    /// Turns of the task at its last step.
    turns: AtomicU64,
}

/// What [`Activity::at`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActivityNow {
    /// What the task waits for.
    pub blocked_on: Option<BlockReason>,
    /// Since how long without having done anything.
    pub blocked_us: u64,
    /// How long the step under way takes; 0: none is.
    pub step_us: u64,
}

impl Activity {
    /// A step begins.
    pub fn begin_step(&self, now_us: u64) {
        self.step_since_us.store(now_us.max(1), Relaxed);
    }

    /// A step has ended after which the task has done `turns` in all. A task that was woken for
    /// nothing goes on waiting for what it waited for.
    pub fn end_step(&self, blocked_on: Option<BlockReason>, turns: u64, now_us: u64) {
        let code = blocked_on.and_then(|r| BlockReason::ALL.iter().position(|a| *a == r)).map_or(0, |p| p as u8 + 1);
        let did_something = self.turns.swap(turns, Relaxed) != turns;
        if self.blocked.swap(code, Relaxed) != code || did_something {
            self.blocked_since_us.store(now_us, Relaxed);
        }
        self.step_since_us.store(0, Relaxed);
    }

    /// What the task does at `now_us`.
    pub fn at(&self, now_us: u64) -> ActivityNow {
        let code = self.blocked.load(Relaxed);
        let blocked_on = usize::from(code).checked_sub(1).and_then(|p| BlockReason::ALL.get(p)).copied();
        let since = |us: u64| now_us.saturating_sub(us);
        let step = self.step_since_us.load(Relaxed);
        ActivityNow {
            blocked_on,
            blocked_us: blocked_on.map_or(0, |_| since(self.blocked_since_us.load(Relaxed))),
            step_us: if step == 0 { 0 } else { since(step) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_woken_for_nothing_goes_on_waiting() {
        let activity = Activity::default();
        assert_eq!(activity.at(5), ActivityNow::default());
        activity.begin_step(10);
        assert_eq!(activity.at(25).step_us, 15);
        activity.end_step(Some(BlockReason::Output), 7, 30);
        let blocked = |us| ActivityNow { blocked_on: Some(BlockReason::Output), blocked_us: us, step_us: 0 };
        assert_eq!(activity.at(130), blocked(100));
        activity.begin_step(200);
        activity.end_step(Some(BlockReason::Output), 7, 201);
        assert_eq!(activity.at(230), blocked(200));
        activity.begin_step(300);
        activity.end_step(Some(BlockReason::Output), 8, 301);
        assert_eq!(activity.at(311), blocked(10), "it has done something");
        activity.end_step(Some(BlockReason::Input), 8, 400);
        assert_eq!(activity.at(401).blocked_us, 1);
        activity.end_step(None, 9, 500);
        assert_eq!(activity.at(600).blocked_on, None);
    }
}
