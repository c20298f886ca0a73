//! How far the readers of this process are: when they had emitted half of the events, and all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts the events of all readers together.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    emitted: AtomicU64,
    start: Instant,
    /// Microseconds after `start`; 0: not yet.
    half_us: AtomicU64,
    all_us: AtomicU64,
}

impl Progress {
    /// Of a job that reads `total` events.
    pub fn new(total: u64) -> Progress {
        let zero = || AtomicU64::new(0);
        Progress { total, emitted: zero(), start: Instant::now(), half_us: zero(), all_us: zero() }
    }

    /// `count` more events were emitted.
    pub fn emitted(&self, count: u64) {
        let before = self.emitted.fetch_add(count, Ordering::Relaxed);
        for (mark, at) in [(self.total / 2, &self.half_us), (self.total, &self.all_us)] {
            // Exactly one call crosses a mark, unless a restart emits events again: then the last one.
            if before < mark && before + count >= mark {
                at.store(self.start.elapsed().as_micros().max(1) as u64, Ordering::Relaxed);
            }
        }
    }

    /// How long the second half of the events took to emit, once all are out.
    pub fn second_half(&self) -> Option<Duration> {
        let [half, all] = [&self.half_us, &self.all_us].map(|at| at.load(Ordering::Relaxed));
        (half > 0 && all > 0).then(|| Duration::from_micros(all.saturating_sub(half)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_half_is_known_when_all_events_are_out() {
        let progress = Progress::new(10);
        progress.emitted(4);
        progress.emitted(3);
        assert_eq!(progress.second_half(), None);
        std::thread::sleep(Duration::from_millis(2));
        progress.emitted(3);
        let taken = progress.second_half().unwrap();
        assert!(taken >= Duration::from_millis(2) && taken <= progress.start.elapsed(), "{taken:?}");
    }
}
