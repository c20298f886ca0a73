//! Emitting at a given rate.

use std::sync::Arc;

use hurtig_engine::clock::Clock;

/// The shortest wait: at high rates rows are emitted in groups.
const STEP_US: u64 = 10_000;

/// Allows rows at a steady rate. What a paused reader misses is made up for up to a second.
pub struct Pacer {
    rows_per_us: f64,
    clock: Arc<dyn Clock>,
    /// When counting began; moved when the reader is too late.
    start_us: u64,
    emitted: f64,
}

impl Pacer {
    /// `rate` rows a second from now on.
    pub fn new(rate: f64, clock: Arc<dyn Clock>) -> Pacer {
        Pacer { rows_per_us: rate / 1e6, start_us: clock.monotonic_us(), clock, emitted: 0.0 }
    }

    /// Rows that may be emitted now, at least one; otherwise the wall-clock time (ms) to come back.
    pub fn due(&mut self) -> Result<usize, i64> {
        let now = self.clock.monotonic_us();
        let elapsed = now.saturating_sub(self.start_us) as f64;
        let mut due = elapsed * self.rows_per_us - self.emitted;
        let second = (self.rows_per_us * 1e6).max(1.0);
        if due > second {
            self.emitted += due - second;
            due = second;
        }
        if due >= 1.0 {
            return Ok(due as usize);
        }
        let missing_us = ((1.0 - due) / self.rows_per_us) as u64;
        Err(self.clock.now_ms() + (missing_us.max(STEP_US) as i64 + 999) / 1000)
    }

    /// `rows` were emitted.
    pub fn emitted(&mut self, rows: usize) {
        self.emitted += rows as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_engine::clock::VirtualClock;

    #[test]
    fn rows_come_due_at_the_rate() {
        let clock = VirtualClock::at(5_000);
        let mut pacer = Pacer::new(1000.0, Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(pacer.due(), Err(5_010));
        clock.advance(100);
        assert_eq!(pacer.due(), Ok(100));
        pacer.emitted(100);
        assert!(pacer.due().is_err());
        // A long pause is not made up for as a whole.
        clock.advance(60_000);
        assert_eq!(pacer.due(), Ok(1000));
    }

    #[test]
    fn slow_rates_wait_for_the_next_row() {
        let clock = VirtualClock::at(0);
        let mut pacer = Pacer::new(0.5, Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(pacer.due(), Err(2000));
    }
}
