//! A seeded virtual world around the JobManager's state machines.
//!
//! [`run`] plays one seed: a job of sources with splits, an optional exchange and transactional
//! sinks runs on virtual TaskManagers, while tasks fail, processes die and come back with or without
//! their disk, connections break or fall silent, the object store loses requests, answers or both,
//! and JobManagers that stand in for each other die, are paused or cut off, so that two may lead. The code that decides is the code that the JobManager runs. Time is virtual, everything
//! comes from the seed: the same seed gives the same trace hash, and a failing seed is a
//! reproduction.
//!
//! | module | what |
//! | --- | --- |
//! | [`scenario`] | what a seed stands for: job, cluster, settings, faults |
//! | `world` | virtual time, connections, the JobManager, faults |
//! | `process` | TaskManager processes |
//! | `task` | tasks: sources, exchange, sinks, barriers |
//! | `store` | the object store and its faults; what sinks have committed |
//! | `enumerator` | the split coordinator of the virtual sources |
//! | [`invariants`] | what must hold, one definition |
//! | [`bugs`] | deliberate bugs that must be noticed |
//! | [`coverage`] | what many seeds have reached together |
//! | [`plans`] | small job plans |

pub mod bugs;
pub mod coverage;
mod enumerator;
pub mod invariants;
pub mod plans;
mod process;
pub mod scenario;
mod store;
mod task;
mod world;

pub use bugs::Bug;
pub use coverage::{Coverage, Report};
pub use invariants::Violation;
pub use scenario::Mix;

/// Plays `seed` to its end.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(seed: u64) -> Result<Report, Violation> {
    run_of(Mix::All, seed)
}

/// Plays `seed` of a mix to its end.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run_of(mix: Mix, seed: u64) -> Result<Report, Violation> {
    world::World::new(seed, mix, None).run()
}

/// Plays `seed` with a deliberate bug.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run_broken(seed: u64, bug: Bug) -> Result<Report, Violation> {
    world::World::new(seed, Mix::All, Some(bug)).run()
}

#[cfg(test)]
mod tests;
