//! The simulator run over many seeds.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Of each mix. `HURTIG_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 2_500;
const THREADS: usize = 2;
/// A bug that so many seeds do not show is not caught.
const MOST_SEEDS_FOR_A_BUG: u64 = 1_500;

/// Plays all seeds of a mix from 0, on a few threads.
fn play(mix: Mix, count: u64) -> Coverage {
    let next = AtomicU64::new(0);
    let mut reports: Vec<Result<Report, Violation>> = Vec::new();
    std::thread::scope(|scope| {
        let part = || {
            let mut part = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return part;
                }
                part.push(run_of(mix, seed));
            }
        };
        let handles: Vec<_> = (0..THREADS).map(|_| scope.spawn(part)).collect();
        for handle in handles {
            reports.extend(handle.join().unwrap());
        }
    });
    let mut coverage = Coverage::default();
    let mut violations = Vec::new();
    for report in reports {
        match report {
            Ok(report) => coverage.add(&report),
            Err(violation) => violations.push(violation.to_string()),
        }
    }
    violations.truncate(20);
    assert!(violations.is_empty(), "seeds violate an invariant:\n{}", violations.join("\n"));
    coverage
}

#[test]
fn every_invariant_holds_for_thousands_of_seeds_and_everything_is_reached() {
    let asked = std::env::var("HURTIG_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok());
    for mix in [Mix::Failures, Mix::All] {
        let coverage = play(mix, asked.unwrap_or(SEEDS));
        // Past the capture of the test harness: the figures are to be seen in every run.
        let _ = writeln!(std::io::stderr(), "{mix:?}: {coverage}");
        let shortcomings = coverage.shortcomings(mix);
        assert!(shortcomings.is_empty(), "{mix:?}: {}\n{coverage}", shortcomings.join("\n"));
    }
}

/// `HURTIG_SIMULATION_SEED=n` plays that one seed of each mix again.
#[test]
fn one_seed_is_played_again() {
    let seed = std::env::var("HURTIG_SIMULATION_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(352);
    for mix in [Mix::Failures, Mix::All] {
        let report = run_of(mix, seed);
        assert!(report.is_ok(), "{mix:?}: {}", report.unwrap_err());
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hashes: Vec<u64> = (0..30).map(|seed| run(seed).unwrap().trace_hash).collect();
    let again: Vec<u64> = (0..30).map(|seed| run(seed).unwrap().trace_hash).collect();
    assert_eq!(hashes, again);
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn every_deliberate_bug_is_caught() {
    let next = AtomicU64::new(0);
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let caught = (0..MOST_SEEDS_FOR_A_BUG).find_map(|seed| run_broken(seed, *bug).err());
                    let Some(violation) = caught else {
                        missed.lock().unwrap().push(*bug);
                        continue;
                    };
                    let _ = writeln!(std::io::stderr(), "{bug:?}: {violation:.300}");
                    assert_eq!(
                        run_broken(violation.seed, *bug),
                        Err(violation.clone()),
                        "a violation is a reproduction"
                    );
                    assert!(run(violation.seed).is_ok(), "{bug:?}: the code without it has it");
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
