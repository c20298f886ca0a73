//! The chaos suite: a cluster of real processes in network namespaces, an exactly-once job, and faults
//! drawn by a seed. Whatever happens, the job finishes and its output is that of an undisturbed run.
//!
//! Each fault is printed with the job's state and its effect. One that finds the job not running, or of
//! which nothing is seen, is drawn again. `HURTIG_CHAOS_SEED` repeats the schedule of one seed;
//! `HURTIG_CHAOS_SCHEDULES` sets how many schedules `schedules` runs, `make test-chaos` runs 20 and
//! demands that each kind of fault took effect several times.

mod cluster;
mod faults;
mod schedule;

use hurtig_testkit::Network;

use faults::{KINDS, Kind};
use schedule::{Coverage, Schedule};

/// Two JobManagers and three TaskManagers.
const HOSTS: u8 = 5;
/// Faults of a schedule of the long run, and of a short one.
const FAULTS: usize = 6;
const FEW_FAULTS: usize = 3;
/// The first seed of the long run.
const FIRST_SEED: u64 = 1_000;
/// From how many schedules on coverage is demanded, and how much for each 20 of them.
const COVERED: u64 = 20;
const EFFECTS: usize = 5;
const OUTLASTING_PARTITIONS: usize = 3;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: '{text}' is not a number")))
}

#[test]
fn processes_are_killed_paused_and_replaced() {
    let Some(network) = Network::start(HOSTS) else { return };
    let kinds = vec![Kind::Kill, Kind::Zombie, Kind::Replace];
    schedule::run(&network, &Schedule { seed: 1, kinds, seconds: 18 });
}

#[test]
fn leaders_are_lost_and_the_job_moves_on_request() {
    let Some(network) = Network::start(HOSTS) else { return };
    let kinds = vec![Kind::KillLeader, Kind::Rescale, Kind::Decommission, Kind::ZombieLeader];
    schedule::run(&network, &Schedule { seed: 4, kinds, seconds: 24 });
}

#[test]
fn links_are_cut_and_the_object_store_fails() {
    let Some(network) = Network::start(HOSTS) else { return };
    let kinds = vec![Kind::Partition, Kind::StorageErrors, Kind::CutOneWay, Kind::StorageLostAnswers];
    schedule::run(&network, &Schedule { seed: 2, kinds, seconds: 18 });
}

#[test]
fn schedules() {
    let Some(network) = Network::start(HOSTS) else { return };
    let count = number("HURTIG_CHAOS_SCHEDULES").unwrap_or(1);
    if let Some(seed) = number("HURTIG_CHAOS_SEED") {
        schedule::run(&network, &Schedule::of(seed, FAULTS));
        return;
    }
    if count == 1 {
        schedule::run(&network, &Schedule::of(3, FEW_FAULTS));
        return;
    }
    let mut coverage = Coverage::default();
    for seed in FIRST_SEED..FIRST_SEED + count {
        coverage.add(schedule::run(&network, &Schedule::of(seed, FAULTS)));
    }
    println!("chaos: {count} schedules passed: {coverage:#?}");
    if count >= COVERED {
        for kind in KINDS {
            let effects = coverage.effects.get(&kind).copied().unwrap_or(0);
            assert!(effects >= EFFECTS, "{kind:?} took effect {effects} times, which is below {EFFECTS}");
        }
        assert!(coverage.outlasted >= OUTLASTING_PARTITIONS, "{coverage:?}");
        assert!(coverage.refused > 0, "no zombie tried to acknowledge a checkpoint: {coverage:?}");
    }
}
