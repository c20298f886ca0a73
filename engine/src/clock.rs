//! Injected time, so that tests run on a virtual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Where the data plane reads the time.
pub trait Clock: Send + Sync {
    /// Wall clock, in ms since 1970. Never goes back.
    fn now_ms(&self) -> i64;
    /// Monotonic time, in microseconds since some fixed moment.
    fn monotonic_us(&self) -> u64;
}

/// The system's clock, without its jumps back: see [`Steady`].
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    steady: Mutex<Steady>,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: Instant::now(), steady: Mutex::default() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let system_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        self.steady.lock().at(system_us, self.monotonic_us()).div_euclid(1000)
    }

    fn monotonic_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// A wall clock that follows the system's when that is set forward, and goes at half speed until the
/// system's has caught up when that is set back. Deadlines are compared with it: with a clock that is
/// set back an hour, a source that waits for its next row would sleep for an hour.
#[derive(Debug, Default)]
struct Steady {
    /// What both clocks showed when the system's was followed last.
    followed: Option<(i64, u64)>,
    /// The last time given.
    last: i64,
}

impl Steady {
    /// The time when the system's clock shows `system_us` and the monotonic one `monotonic_us`.
    fn at(&mut self, system_us: i64, monotonic_us: u64) -> i64 {
        let slowed = |(wall, then): (i64, u64)| wall + (monotonic_us.saturating_sub(then) / 2) as i64;
        // Threads may come here in another order than they read the clocks.
        let least = self.followed.map_or(system_us, slowed).max(self.last);
        if system_us >= least {
            self.followed = Some((system_us, monotonic_us));
        }
        self.last = system_us.max(least);
        self.last
    }
}

/// A clock that moves only when told.
#[derive(Debug, Default)]
pub struct VirtualClock {
    now_ms: AtomicI64,
}

impl VirtualClock {
    /// A clock that stands at `now_ms`.
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(VirtualClock { now_ms: AtomicI64::new(now_ms) })
    }

    /// Moves the clock forward.
    pub fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic_us(&self) -> u64 {
        self.now_ms().unsigned_abs() * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_system_clock_that_is_set_back_slows_the_time_down_and_is_caught_up_with() {
        let mut steady = Steady::default();
        let start = 1_000 * SECOND;
        assert_eq!(steady.at(start, 0), start);
        assert_eq!(steady.at(start + SECOND, 1_000_000), start + SECOND);
        // An hour back, ten seconds later: half of them have passed.
        let back = start + 11 * SECOND - 3_600 * SECOND;
        assert_eq!(steady.at(back, 11_000_000), start + 6 * SECOND);
        // A minute back is over after two minutes.
        let mut steady = Steady::default();
        steady.at(start, 0);
        let mut last = start;
        for second in 1..=200 {
            let now = steady.at(start - 60 * SECOND + second * SECOND, second as u64 * 1_000_000);
            assert!(now >= last, "never back");
            last = now;
        }
        assert_eq!(last, start + 140 * SECOND);
    }

    #[test]
    fn the_slow_clock_goes_on_however_often_it_is_read() {
        let mut steady = Steady::default();
        steady.at(10 * SECOND, 0);
        for microsecond in 1..=1_000 {
            steady.at(SECOND, microsecond);
        }
        assert_eq!(steady.at(SECOND, 1_000), 10 * SECOND + 500);
    }

    #[test]
    fn a_system_clock_that_is_set_forward_is_followed() {
        let mut steady = Steady::default();
        steady.at(1_000 * SECOND, 0);
        assert_eq!(steady.at(5_000 * SECOND, 1_000), 5_000 * SECOND);
    }

    #[test]
    fn threads_that_come_late_do_not_turn_the_time_back() {
        let mut steady = Steady::default();
        assert_eq!(steady.at(2 * SECOND, 2_000_000), 2 * SECOND);
        assert_eq!(steady.at(SECOND, 1_000_000), 2 * SECOND);
        assert_eq!(steady.at(SECOND, 3_000_000), 2 * SECOND + SECOND / 2);
    }
}
