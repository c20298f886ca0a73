//! A schedule: a job, faults drawn by a seed, and the comparison of its output with that of a run
//! without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hurtig_testkit::{Dice, Network};

use super::cluster::ChaosCluster;
use super::faults::{KINDS, Kind, strike};
use crate::harness::lines_below;

/// Rows a second that the generator gives.
const ROWS_PER_SECOND: u32 = 2_000;
/// How often a fault without effect is drawn again.
const TRIES: usize = 4;
/// The tables that the job writes.
const TABLES: [&str; 3] = ["windows", "totals", "pairs"];

/// What a schedule is.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    pub kinds: Vec<Kind>,
    /// How long the input lasts without faults.
    pub seconds: u32,
}

impl Schedule {
    /// The schedule of a seed. Kinds are dealt from decks of all kinds, shuffled one by one, through which
    /// consecutive seeds go: they have each kind equally often, in ever new company.
    pub fn of(seed: u64, faults: usize) -> Schedule {
        let first = seed.wrapping_mul(faults as u64);
        let kinds = (0..faults as u64).map(|i| {
            let (deck, card) = ((first + i) / KINDS.len() as u64, (first + i) % KINDS.len() as u64);
            let mut kinds = KINDS;
            Dice::new(deck ^ 0x5eed).shuffle(&mut kinds);
            kinds[card as usize]
        });
        Schedule { seed, kinds: kinds.collect(), seconds: faults as u32 * 6 }
    }
}

/// What came of schedules.
#[derive(Debug, Default)]
pub struct Coverage {
    /// How often each kind took effect.
    pub effects: BTreeMap<Kind, usize>,
    /// Faults that were drawn again: they struck a job that did not run, or nothing was seen of them.
    pub drawn_again: usize,
    /// Partitions that outlasted the heartbeat timeout.
    pub outlasted: usize,
    /// Acknowledgements that the JobManager refused because they came from a TaskManager that it had
    /// given up.
    pub refused: usize,
}

impl Coverage {
    pub fn add(&mut self, other: Coverage) {
        for (kind, count) in other.effects {
            *self.effects.entry(kind).or_default() += count;
        }
        self.drawn_again += other.drawn_again;
        self.outlasted += other.outlasted;
        self.refused += other.refused;
    }
}

/// The job: a window aggregate, one on top of shared windows, and a group aggregate without windows,
/// all into file sinks.
fn script(out: &Path, rows: u32, rows_per_second: u32) -> String {
    let last = rows - 1;
    format!(
        "SET 'parallelism.default' = '3';
         CREATE TABLE events (n BIGINT, k AS n % 97, ts AS TIMESTAMPADD(SECOND, CAST(n / 1000 AS INT), TIMESTAMP '2024-01-01 00:00:00.000'),
           WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{rows_per_second}', 'number-of-rows' = '{rows}',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}');
         CREATE TABLE windows (k BIGINT, n BIGINT, total BIGINT, w TIMESTAMP(3))
           WITH ('connector' = 'filesystem', 'path' = '{out}/windows', 'format' = 'csv');
         CREATE TABLE totals (w TIMESTAMP(3), windows BIGINT, total BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{out}/totals', 'format' = 'csv');
         CREATE TABLE pairs (k BIGINT, part BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{out}/pairs', 'format' = 'csv');
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO windows SELECT k, COUNT(*), SUM(n), window_start
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY k, window_start, window_end;
           INSERT INTO totals SELECT window_start, COUNT(DISTINCT k), SUM(n)
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY window_start, window_end;
           INSERT INTO pairs SELECT DISTINCT k, n / 500 FROM events;
         END;",
        out = out.display()
    )
}

/// Output of undisturbed runs, by the number of rows.
static UNDISTURBED: Mutex<BTreeMap<u32, Vec<Vec<String>>>> = Mutex::new(BTreeMap::new());

fn output(folder: &Path) -> Vec<Vec<String>> {
    TABLES.iter().map(|table| lines_below(&folder.join(table))).collect()
}

fn undisturbed(cluster: &ChaosCluster<'_>, rows: u32) -> Vec<Vec<String>> {
    let mut known = UNDISTURBED.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry(rows)
        .or_insert_with(|| {
            let folder = cluster.folder.path().join("undisturbed");
            let job = cluster.insert(&script(&folder, rows, 1_000_000));
            let ended = cluster.wait(&job, "the undisturbed run has finished", |seen| seen.has_ended());
            assert_eq!(ended.state, "FINISHED", "{ended:#?}");
            if ended.restarts > 0 {
                println!("chaos: the undisturbed run restarted, the machine is busy: {}", ended.root_cause);
            }
            output(&folder)
        })
        .clone()
}

/// Runs a schedule. The job must finish and its output be right.
pub fn run(network: &Network, schedule: &Schedule) -> Coverage {
    network.in_router(|| {
        println!("chaos: schedule of seed {} (HURTIG_CHAOS_SEED={} repeats it)", schedule.seed, schedule.seed);
        let mut cluster = ChaosCluster::start(network, schedule.seed, &[]);
        let coverage = disturb(&mut cluster, schedule);
        println!("chaos: seed {} passed: {coverage:?}", schedule.seed);
        coverage
    })
}

fn disturb(cluster: &mut ChaosCluster<'_>, schedule: &Schedule) -> Coverage {
    let rows = ROWS_PER_SECOND * schedule.seconds;
    let folder = cluster.folder.path().join("disturbed");
    let job = cluster.insert(&script(&folder, rows, ROWS_PER_SECOND));
    let mut dice = Dice::new(schedule.seed);
    let mut coverage = Coverage::default();
    let mut ended = false;
    'faults: for &kind in &schedule.kinds {
        for _ in 0..TRIES {
            if cluster.wait_healthy(&job).has_ended() {
                ended = true;
                break 'faults;
            }
            let struck = strike(kind, cluster, &job, &mut dice);
            let effect = struck.effect.as_deref().unwrap_or("no effect: drawn again");
            println!("chaos: seed {} {kind:?}: job {}; {}: {effect}", schedule.seed, struck.state, struck.what);
            coverage.outlasted += usize::from(struck.outlasted);
            if struck.effect.is_some() {
                *coverage.effects.entry(kind).or_default() += 1;
                break;
            }
            coverage.drawn_again += 1;
        }
    }
    if ended {
        println!("chaos: seed {}: the input ended before the last fault", schedule.seed);
    }
    let finished = cluster.wait(&job, "the job has finished", |seen| seen.has_ended());
    assert_eq!(finished.state, "FINISHED", "{finished:#?}");
    compare(schedule.seed, &output(&folder), &undisturbed(cluster, rows));
    coverage.refused = cluster.logged_by_jobmanagers().matches("refused the acknowledgement").count();
    coverage
}

fn compare(seed: u64, disturbed: &[Vec<String>], clean: &[Vec<String>]) {
    for ((table, disturbed), clean) in TABLES.iter().zip(disturbed).zip(clean) {
        assert!(!clean.is_empty());
        if disturbed == clean {
            continue;
        }
        let (is, should) = (BTreeSet::from_iter(disturbed), BTreeSet::from_iter(clean));
        let missing: Vec<_> = should.difference(&is).take(10).collect();
        let surplus: Vec<_> = is.difference(&should).take(10).collect();
        panic!(
            "seed {seed}: table {table} has {} rows instead of {}; missing (some): {missing:?}; too many or wrong \
             (some): {surplus:?}",
            disturbed.len(),
            clean.len()
        );
    }
}
