//! Restart strategies: whether and when a job restarts after a failure.
//!
//! Formulae and defaults are Flink's. One event that fails many tasks at once (a lost TaskManager)
//! is one failure. `now` is in milliseconds; randomness comes from the caller's generator.

use std::collections::VecDeque;

use hurtig_graph::config::{Configuration, keys};
use hurtig_graph::error::GraphError;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::settings::{duration, whole};

/// A strategy with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartSettings {
    /// Never.
    None,
    /// A number of times, always after the same delay.
    FixedDelay {
        /// Restarts until the job fails.
        attempts: u32,
        /// Before each.
        delay_ms: u64,
    },
    /// As long as failures are rare.
    FailureRate {
        /// One more than this many within the interval fails the job.
        max_failures: u32,
        /// In which failures count.
        interval_ms: u64,
        /// Before each restart.
        delay_ms: u64,
    },
    /// Ever later, and soon again after a quiet time.
    ExponentialDelay {
        /// First delay.
        initial_ms: u64,
        /// Longest delay.
        max_ms: u64,
        /// From one delay to the next.
        multiplier: f64,
        /// After this long without a failure the delay starts over.
        reset_ms: u64,
        /// Random part of each delay, as a fraction of it.
        jitter: f64,
        /// Restarts in a row until the job fails.
        attempts: u32,
    },
}

impl RestartSettings {
    /// Reads `restart-strategy.type` and its parameters; without it, `exponential-delay` for jobs
    /// with checkpoints and `none` for others.
    ///
    /// # Errors
    /// An unknown strategy or a value that makes no sense.
    pub fn read(configuration: &Configuration, checkpointing: bool) -> Result<Self, GraphError> {
        let default = if checkpointing { "exponential-delay" } else { "none" };
        let name = configuration.text(&keys::RESTART_STRATEGY).unwrap_or(default).to_ascii_lowercase();
        match name.as_str() {
            "none" | "off" | "disable" => Ok(RestartSettings::None),
            "fixed-delay" | "fixeddelay" => Ok(RestartSettings::FixedDelay {
                attempts: whole(configuration, &keys::RESTART_FIXED_ATTEMPTS, 0)?,
                delay_ms: duration(configuration, &keys::RESTART_FIXED_DELAY)?,
            }),
            "failure-rate" | "failurerate" => Ok(RestartSettings::FailureRate {
                max_failures: whole(configuration, &keys::RESTART_RATE_MAX_FAILURES, 1)?,
                interval_ms: duration(configuration, &keys::RESTART_RATE_INTERVAL)?,
                delay_ms: duration(configuration, &keys::RESTART_RATE_DELAY)?,
            }),
            "exponential-delay" | "exponentialdelay" => Self::read_exponential(configuration),
            _ => Err(GraphError::Config(format!(
                "restart-strategy.type: '{name}' is not a restart strategy: \
                 write none, fixed-delay, failure-rate or exponential-delay"
            ))),
        }
    }

    fn read_exponential(configuration: &Configuration) -> Result<Self, GraphError> {
        let multiplier = configuration.float(&keys::RESTART_EXPONENTIAL_MULTIPLIER)?.unwrap_or(1.5);
        let jitter = configuration.float(&keys::RESTART_EXPONENTIAL_JITTER)?.unwrap_or(0.1);
        let initial_ms = duration(configuration, &keys::RESTART_EXPONENTIAL_INITIAL)?;
        let max_ms = duration(configuration, &keys::RESTART_EXPONENTIAL_MAX)?;
        let refuse = |reason: String| Err(GraphError::Config(format!("restart-strategy.exponential-delay.{reason}")));
        if multiplier <= 1.0 {
            return refuse(format!("backoff-multiplier: {multiplier} must be above 1"));
        }
        if !(0.0..=1.0).contains(&jitter) {
            return refuse(format!("jitter-factor: {jitter} must be from 0 to 1"));
        }
        if initial_ms == 0 {
            return refuse("initial-backoff: it must be above 0".to_owned());
        }
        if initial_ms > max_ms {
            return refuse(format!("initial-backoff: {initial_ms} ms is above max-backoff, {max_ms} ms"));
        }
        Ok(RestartSettings::ExponentialDelay {
            initial_ms,
            max_ms,
            multiplier,
            reset_ms: duration(configuration, &keys::RESTART_EXPONENTIAL_RESET)?,
            jitter,
            attempts: whole(configuration, &keys::RESTART_EXPONENTIAL_ATTEMPTS, 0)?,
        })
    }

    /// The strategy's name in configuration.
    pub fn name(&self) -> &'static str {
        match self {
            RestartSettings::None => "none",
            RestartSettings::FixedDelay { .. } => "fixed-delay",
            RestartSettings::FailureRate { .. } => "failure-rate",
            RestartSettings::ExponentialDelay { .. } => "exponential-delay",
        }
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Restart, not before this time.
    At {
        /// Milliseconds.
        not_before_ms: i64,
        /// The failure belongs to the restart that the failure before it caused.
        merged: bool,
    },
    /// The job fails.
    Never,
}

/// A strategy and what it remembers.
#[derive(Debug)]
pub struct RestartStrategy {
    settings: RestartSettings,
    failures: u32,
    /// Times of the last failures, for failure-rate.
    times: VecDeque<i64>,
    next_restart: Option<i64>,
}

impl RestartStrategy {
    /// With nothing remembered.
    pub fn new(settings: RestartSettings) -> Self {
        RestartStrategy { settings, failures: 0, times: VecDeque::new(), next_restart: None }
    }

    /// The strategy's name in configuration.
    pub fn name(&self) -> &'static str {
        self.settings.name()
    }

    /// Something failed at `now`.
    pub fn on_failure(&mut self, now: i64, rng: &mut ChaCha8Rng) -> RestartDecision {
        match self.settings {
            RestartSettings::None => RestartDecision::Never,
            RestartSettings::FixedDelay { attempts, delay_ms } => {
                self.failures = self.failures.saturating_add(1);
                if self.failures <= attempts { after(now, delay_ms) } else { RestartDecision::Never }
            }
            RestartSettings::FailureRate { max_failures, interval_ms, delay_ms } => {
                self.times.push_back(now);
                if self.times.len() > max_failures as usize + 1 {
                    self.times.pop_front();
                }
                let full = self.times.len() == max_failures as usize + 1;
                let oldest = self.times.front().copied().unwrap_or(now);
                let refused = full && now - oldest <= interval_ms as i64;
                if refused { RestartDecision::Never } else { after(now, delay_ms) }
            }
            RestartSettings::ExponentialDelay { .. } => self.exponential(now, rng),
        }
    }

    fn exponential(&mut self, now: i64, rng: &mut ChaCha8Rng) -> RestartDecision {
        let RestartSettings::ExponentialDelay { initial_ms, max_ms, multiplier, reset_ms, jitter, attempts } =
            self.settings
        else {
            return RestartDecision::Never;
        };
        if let Some(next) = self.next_restart {
            if now <= next {
                return self.exponential_decision(attempts, next, true);
            }
            if now - next >= reset_ms as i64 {
                self.failures = 0;
            }
        }
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX);
        let base = (initial_ms as f64 * multiplier.powi(exponent)).min(max_ms as f64) as i64;
        let spread = (base as f64 * jitter) as i64;
        let jittered = base + if spread > 0 { rng.random_range(-spread..=spread) } else { 0 };
        let delay = jittered.min(max_ms as i64).max(initial_ms as i64);
        self.failures = self.failures.saturating_add(1);
        self.next_restart = Some(now + delay);
        self.exponential_decision(attempts, now + delay, false)
    }

    fn exponential_decision(&self, attempts: u32, not_before_ms: i64, merged: bool) -> RestartDecision {
        if self.failures > attempts {
            return RestartDecision::Never;
        }
        RestartDecision::At { not_before_ms, merged }
    }
}

fn after(now: i64, delay_ms: u64) -> RestartDecision {
    RestartDecision::At { not_before_ms: now.saturating_add(delay_ms.min(i64::MAX as u64) as i64), merged: false }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn configured(pairs: &[(&str, &str)], checkpointing: bool) -> RestartStrategy {
        let mut configuration = Configuration::default();
        for (key, value) in pairs {
            configuration.set(*key, *value);
        }
        RestartStrategy::new(RestartSettings::read(&configuration, checkpointing).unwrap())
    }

    fn delays(strategy: &mut RestartStrategy, times: &[i64]) -> Vec<Option<i64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let decide = |&now: &i64| match strategy.on_failure(now, &mut rng) {
            RestartDecision::At { not_before_ms, .. } => Some(not_before_ms - now),
            RestartDecision::Never => None,
        };
        times.iter().map(decide).collect()
    }

    #[test]
    fn the_default_depends_on_checkpointing() {
        assert_eq!(configured(&[], true).name(), "exponential-delay");
        assert_eq!(configured(&[], false).name(), "none");
        assert_eq!(delays(&mut configured(&[], false), &[0]), [None]);
    }

    #[test]
    fn old_spellings_choose_the_strategy() {
        assert_eq!(configured(&[("restart-strategy", "fixed-delay")], true).name(), "fixed-delay");
        assert_eq!(configured(&[("restart-strategy", "exponential-delay")], false).name(), "exponential-delay");
    }

    #[test]
    fn fixed_delay_restarts_a_number_of_times() {
        let mut strategy = configured(
            &[
                ("restart-strategy.type", "fixed-delay"),
                ("restart-strategy.fixed-delay.attempts", "2"),
                ("restart-strategy.fixed-delay.delay", "3 s"),
            ],
            true,
        );
        assert_eq!(delays(&mut strategy, &[0, 100, 1_000_000]), [Some(3000), Some(3000), None]);
    }

    #[test]
    fn failure_rate_counts_within_its_interval() {
        let pairs = [
            ("restart-strategy.type", "failure-rate"),
            ("restart-strategy.failure-rate.max-failures-per-interval", "2"),
            ("restart-strategy.failure-rate.failure-rate-interval", "10 s"),
        ];
        let mut strategy = configured(&pairs, true);
        assert_eq!(delays(&mut strategy, &[0, 6_000, 11_000, 15_500]), [Some(1000), Some(1000), Some(1000), None]);
        assert_eq!(delays(&mut configured(&pairs, true), &[0, 1, 10_000]), [Some(1000), Some(1000), None]);
    }

    #[test]
    fn exponential_delay_grows_merges_and_resets() {
        let pairs = [("restart-strategy.exponential-delay.jitter-factor", "0")];
        let mut strategy = configured(&pairs, true);
        // The second failure comes before the first restart and belongs to it.
        assert_eq!(
            delays(&mut strategy, &[0, 400, 2_000, 10_000, 3_700_000]),
            [Some(1000), Some(600), Some(1500), Some(2250), Some(1000)]
        );
        let many: Vec<i64> = (0..30).map(|i| i * 100_000).collect();
        assert_eq!(delays(&mut configured(&pairs, true), &many).last(), Some(&Some(60_000)));
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let mut strategy = configured(
            &[
                ("restart-strategy.exponential-delay.initial-backoff", "10 s"),
                ("restart-strategy.exponential-delay.jitter-factor", "0.2"),
                ("restart-strategy.exponential-delay.reset-backoff-threshold", "1 s"),
            ],
            true,
        );
        let times: Vec<i64> = (0..50).map(|i| i * 1_000_000).collect();
        for delay in delays(&mut strategy, &times) {
            assert!((10_000..=12_000).contains(&delay.unwrap()), "{delay:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (key, value) in [
            ("restart-strategy.type", "sometimes"),
            ("restart-strategy.exponential-delay.backoff-multiplier", "1"),
            ("restart-strategy.exponential-delay.initial-backoff", "2 min"),
            ("restart-strategy.exponential-delay.initial-backoff", "0 ms"),
            ("restart-strategy.exponential-delay.jitter-factor", "2"),
        ] {
            let mut configuration = Configuration::default();
            configuration.set(key, value);
            let error = RestartSettings::read(&configuration, true).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
