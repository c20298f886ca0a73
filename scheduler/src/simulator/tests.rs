//! The simulator run over many seeds.

use std::io::Write;

use super::*;

const SEEDS: u64 = 2_500;
const THREADS: u64 = 2;

/// Plays all seeds of `range`, on a few threads.
fn play(from: u64, count: u64) -> Coverage {
    let mut reports: Vec<Result<Report, Violation>> = Vec::new();
    std::thread::scope(|scope| {
        let part =
            |thread| scope.spawn(move || (from..from + count).filter(|s| s % THREADS == thread).map(run).collect());
        let handles: Vec<_> = (0..THREADS).map(part).collect();
        for handle in handles {
            let part: Vec<_> = handle.join().unwrap();
            reports.extend(part);
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
    assert!(violations.is_empty(), "{} seeds violate an invariant:\n{}", violations.len(), violations.join("\n"));
    coverage
}

#[test]
fn every_invariant_holds_for_thousands_of_seeds_and_everything_is_reached() {
    let coverage = play(0, SEEDS);
    // Past the capture of the test harness: the figures are to be seen in every run.
    let _ = writeln!(std::io::stderr(), "{coverage}");
    let shortcomings = coverage.shortcomings();
    assert!(shortcomings.is_empty(), "{}\n{coverage}", shortcomings.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hashes: Vec<u64> = (0..30).map(|seed| run(seed).unwrap().trace_hash).collect();
    let again: Vec<u64> = (0..30).map(|seed| run(seed).unwrap().trace_hash).collect();
    assert_eq!(hashes, again);
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_coordinator_that_counts_acknowledgements_of_old_attempts_is_caught() {
    let violation = (0..300).find_map(|seed| run_broken(seed).err()).expect("no seed notices");
    assert!(violation.message.contains("by attempt"), "{violation}");
    assert_eq!(run_broken(violation.seed), Err(violation.clone()), "a violation is a reproduction");
    assert!(run(violation.seed).is_ok(), "the unbroken coordinator does not have it");
}
