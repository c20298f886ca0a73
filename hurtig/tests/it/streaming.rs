//! Results flow while the input is open: every half minute here is one over a source without an end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Memory, PATIENCE, hurtig};

const TIME: Duration = Duration::from_secs(30);

/// 1,000 rows a second, whose time is when they are made.
const SOURCE: &str =
    "CREATE TABLE a (n BIGINT, k BIGINT, ts AS CAST(CURRENT_TIMESTAMP AS TIMESTAMP(3)), WATERMARK FOR ts AS ts)
    WITH ('connector' = 'datagen', 'rows-per-second' = '1000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000',
      'fields.k.min' = '1', 'fields.k.max' = '5');";

/// A change with the time (ms since 1970) at which it arrived.
struct Received {
    at: i64,
    op: String,
    row: Vec<Value>,
}

impl Received {
    fn int(&self, column: usize) -> i64 {
        self.row[column].as_i64().unwrap_or_else(|| panic!("no number in column {column}: {:?}", self.row))
    }

    /// A timestamp in UTC, in ms since 1970.
    fn time(&self, column: usize) -> i64 {
        let text = self.row[column].as_str().unwrap_or_else(|| panic!("no time in column {column}: {:?}", self.row));
        let time = chrono::NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S%.f");
        time.unwrap_or_else(|e| panic!("{text}: {e}")).and_utc().timestamp_millis()
    }
}

/// A running query.
struct Query {
    child: Child,
    changes: Receiver<Received>,
}

impl Drop for Query {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Query {
    fn start(query: &str) -> Query {
        let script = format!("{SOURCE} {query}");
        let mut child = hurtig()
            .args(["sql", "--changelog-json", "-D", "table.local-time-zone=UTC", "-e", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, changes) = channel();
        // One thread takes the time, whatever the test is doing.
        std::thread::spawn(move || {
            for line in lines.skip(1).map_while(Result::ok) {
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
                let change: Value = serde_json::from_str(&line).unwrap();
                let op = change["op"].as_str().unwrap().to_owned();
                let row = change["row"].as_array().unwrap().clone();
                if sender.send(Received { at, op, row }).is_err() {
                    return;
                }
            }
        });
        Query { child, changes }
    }

    /// All changes of the time after the first one, with the process's memory in each second.
    fn watch(self) -> (Vec<Received>, Vec<u64>) {
        let mut changes = vec![self.changes.recv_timeout(PATIENCE).expect("a first row")];
        let (start, mut memory) = (Instant::now(), Vec::new());
        while start.elapsed() < TIME {
            std::thread::sleep(Duration::from_secs(1));
            memory.push(Memory::of(self.child.id()).now);
            changes.extend(self.changes.try_iter());
        }
        (changes, memory)
    }
}

fn median<T: Copy + Ord>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// What the last seconds need is what the first ones needed.
fn assert_bounded(memory: &[u64]) {
    let (early, late) = (median(memory[5..10].iter().copied()), median(memory[memory.len() - 5..].iter().copied()));
    assert!(late < early + early / 2, "memory grows from {} to {} MiB: {memory:?}", early >> 20, late >> 20);
}

#[test]
fn an_updating_aggregate_keeps_emitting_over_an_unbounded_source() {
    let query = Query::start("SELECT k, COUNT(*) AS n, MIN(ts) AS oldest, MAX(ts) AS newest FROM a GROUP BY k;");
    let (changes, memory) = query.watch();
    // A busy machine can stop everything for a while: the first row has more time than it needs.
    let first = changes[0].at - changes[0].time(2);
    assert!(first < 5_000, "the first result came {first} ms after the first row");
    let updates: Vec<&Received> = changes.iter().filter(|c| c.op == "+U").collect();
    let late = median(updates.iter().map(|c| c.at - c.time(3)));
    assert!(late < 1_000, "results come {late} ms after their rows");
    let seconds: BTreeSet<i64> = updates.iter().map(|c| c.at / 1000).collect();
    assert!(seconds.len() >= 25, "updates in {} seconds of 30", seconds.len());
    let counts: BTreeMap<i64, i64> = updates.iter().map(|c| (c.int(0), c.int(1))).collect();
    assert_eq!(counts.len(), 5);
    let total: i64 = counts.values().sum();
    assert!(total >= 20_000, "{total} rows in 30 s at 1,000 a second");
    assert_bounded(&memory);
}

#[test]
fn windows_are_emitted_as_the_watermark_passes() {
    let query = Query::start(
        "SELECT window_start, window_end, COUNT(*) AS n
         FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY window_start, window_end;",
    );
    let (windows, memory) = query.watch();
    assert!(windows.iter().all(|c| c.op == "+I"));
    assert!(windows.len() >= 12, "{} windows of 2 s in 30 s", windows.len());
    for pair in windows.windows(2) {
        assert_eq!(pair[1].time(0), pair[0].time(1), "every window, in order");
    }
    // The watermark is the present.
    let late = median(windows.iter().map(|c| c.at - c.time(1)));
    assert!((0..1_000).contains(&late), "windows come {late} ms after their ends");
    let rows = median(windows.iter().map(|c| c.int(2)));
    assert!((1_500..=2_500).contains(&rows), "{rows} rows in a window of 2 s");
    assert_bounded(&memory);
}
