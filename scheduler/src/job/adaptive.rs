//! When a running job changes its parallelism: the phases of Flink's adaptive scheduler, as a state
//! machine that knows nothing of the job but what the slots of now would allow.
//!
//! | phase | ends |
//! | --- | --- |
//! | cooldown | after the quiet time that follows each start with all tasks |
//! | idling | with a change of slots or requirements that allows another parallelism |
//! | stabilizing | with a trigger, once everything wanted is there; else after the stabilisation timeout |
//! | stabilized | with the next trigger: the job takes what there is |
//!
//! Triggers are completed checkpoints, a number of failed ones, and the longest delay after a change.

/// Times and numbers of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingSettings {
    /// Quiet time after a start.
    pub cooldown_ms: u64,
    /// How long a job that cannot have all it wants waits for more.
    pub stabilization_ms: u64,
    /// Longest wait for a checkpoint.
    pub max_delay_ms: u64,
    /// Failed checkpoints that stand for a completed one.
    pub max_checkpoint_failures: u32,
}

/// What the slots of now allow, other than what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Possible {
    /// Everything that is wanted.
    pub desired: bool,
    /// Something.
    pub sufficient: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Cooldown { until: i64, changed: Option<i64> },
    Idling,
    Stabilizing { first: i64, evaluate: Option<i64> },
    Stabilized { first: i64 },
}

/// See the module documentation. True means: change the parallelism now.
#[derive(Debug)]
pub(super) struct Scaling {
    settings: ScalingSettings,
    phase: Phase,
    /// Since the first change that is not handled.
    failed_checkpoints: u32,
}

impl Scaling {
    /// All tasks were started.
    pub fn new(settings: ScalingSettings, now: i64) -> Self {
        let phase = Phase::Cooldown { until: after(now, settings.cooldown_ms), changed: None };
        Scaling { settings, phase, failed_checkpoints: 0 }
    }

    /// There are other slots or requirements than before.
    pub fn changed(&mut self, possible: Possible, now: i64) -> bool {
        if !possible.sufficient {
            return false;
        }
        match &mut self.phase {
            Phase::Cooldown { changed, .. } => drop(changed.get_or_insert(now)),
            Phase::Idling => self.stabilize(now),
            Phase::Stabilizing { evaluate, .. } => *evaluate = Some(after(now, self.settings.max_delay_ms)),
            Phase::Stabilized { .. } => {}
        }
        self.tick(possible, now)
    }

    /// A checkpoint is complete.
    pub fn triggered(&mut self, possible: Possible, now: i64) -> bool {
        if self.tick(possible, now) {
            return true;
        }
        match self.phase {
            Phase::Stabilizing { .. } => possible.desired,
            Phase::Stabilized { .. } => self.settle(possible),
            Phase::Cooldown { .. } | Phase::Idling => false,
        }
    }

    /// A checkpoint has failed.
    pub fn checkpoint_failed(&mut self, possible: Possible, now: i64) -> bool {
        let waits = match self.phase {
            Phase::Cooldown { changed, .. } => changed.is_some(),
            Phase::Idling => false,
            Phase::Stabilizing { .. } | Phase::Stabilized { .. } => true,
        };
        self.failed_checkpoints += u32::from(waits);
        if self.failed_checkpoints < self.settings.max_checkpoint_failures {
            return false;
        }
        self.failed_checkpoints = 0;
        self.triggered(possible, now)
    }

    /// Time has passed.
    pub fn tick(&mut self, possible: Possible, now: i64) -> bool {
        loop {
            match self.phase {
                Phase::Cooldown { until, changed } if until <= now => match changed {
                    Some(first) => self.stabilize(first),
                    None => self.phase = Phase::Idling,
                },
                Phase::Stabilizing { first, .. } if after(first, self.settings.stabilization_ms) <= now => {
                    self.phase = Phase::Stabilized { first };
                }
                Phase::Stabilizing { first, evaluate: Some(time) } if time <= now => {
                    self.phase = Phase::Stabilizing { first, evaluate: None };
                    if possible.desired {
                        return true;
                    }
                }
                Phase::Stabilized { first } if after(first, self.settings.max_delay_ms) <= now => {
                    return self.settle(possible);
                }
                _ => return false,
            }
        }
    }

    /// When [`Scaling::tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        match self.phase {
            // Without a change its end has no consequence, and is noticed with the next one.
            Phase::Cooldown { until, changed } => changed.map(|_| until),
            Phase::Idling => None,
            Phase::Stabilizing { first, evaluate } => {
                let end = after(first, self.settings.stabilization_ms);
                Some(evaluate.map_or(end, |time| time.min(end)))
            }
            Phase::Stabilized { first } => Some(after(first, self.settings.max_delay_ms)),
        }
    }

    fn stabilize(&mut self, first: i64) {
        self.phase = Phase::Stabilizing { first, evaluate: Some(after(first, self.settings.max_delay_ms)) };
    }

    fn settle(&mut self, possible: Possible) -> bool {
        if !possible.sufficient {
            self.phase = Phase::Idling;
            self.failed_checkpoints = 0;
        }
        possible.sufficient
    }
}

fn after(time: i64, ms: u64) -> i64 {
    time.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Possible = Possible { desired: false, sufficient: false };
    const SOME: Possible = Possible { desired: false, sufficient: true };
    const ALL: Possible = Possible { desired: true, sufficient: true };

    /// Cooldown 30 s, stabilisation 60 s, delay 200 s.
    fn running() -> Scaling {
        let settings = ScalingSettings {
            cooldown_ms: 30_000,
            stabilization_ms: 60_000,
            max_delay_ms: 200_000,
            max_checkpoint_failures: 2,
        };
        Scaling::new(settings, 0)
    }

    #[test]
    fn all_that_is_wanted_is_taken_at_the_next_checkpoint_after_the_cooldown() {
        let mut scaling = running();
        assert!(!scaling.changed(ALL, 10_000));
        assert!(!scaling.triggered(ALL, 29_999));
        assert_eq!(scaling.deadline(), Some(30_000));
        assert!(!scaling.tick(ALL, 30_000));
        assert!(scaling.triggered(ALL, 31_000));
    }

    #[test]
    fn a_part_is_taken_after_the_stabilisation_timeout_only() {
        let mut scaling = running();
        assert!(!scaling.tick(NOTHING, 30_000));
        assert_eq!(scaling.deadline(), None);
        assert!(!scaling.changed(SOME, 40_000));
        assert!(!scaling.triggered(SOME, 99_999));
        assert!(scaling.triggered(SOME, 100_000));
    }

    #[test]
    fn what_has_gone_again_is_forgotten() {
        let mut scaling = running();
        scaling.tick(NOTHING, 30_000);
        scaling.changed(SOME, 40_000);
        assert!(!scaling.triggered(NOTHING, 100_000));
        assert_eq!(scaling.deadline(), None);
        assert!(!scaling.changed(NOTHING, 110_000));
        assert_eq!(scaling.deadline(), None);
    }

    #[test]
    fn checkpoints_that_fail_or_do_not_come_are_not_waited_for() {
        let mut scaling = running();
        scaling.tick(NOTHING, 30_000);
        assert!(!scaling.checkpoint_failed(NOTHING, 35_000));
        scaling.changed(ALL, 40_000);
        assert!(!scaling.checkpoint_failed(ALL, 41_000));
        assert!(scaling.checkpoint_failed(ALL, 42_000));
        let mut scaling = running();
        scaling.tick(NOTHING, 30_000);
        scaling.changed(SOME, 40_000);
        assert!(!scaling.tick(SOME, 239_999));
        assert!(scaling.tick(SOME, 240_000));
    }

    #[test]
    fn without_checkpoints_nothing_is_waited_for() {
        let mut scaling = running();
        scaling.settings.max_delay_ms = 0;
        scaling.tick(NOTHING, 30_000);
        assert!(scaling.changed(ALL, 31_000));
        let mut scaling = running();
        scaling.settings.max_delay_ms = 0;
        scaling.tick(NOTHING, 30_000);
        assert!(!scaling.changed(SOME, 31_000));
        assert_eq!(scaling.deadline(), Some(91_000));
        assert!(scaling.tick(SOME, 91_000));
    }
}
