//! A savepoint that an earlier version took, kept in `tests/golden/savepoint`, is restored by every later
//! one: position of a source, windows, a group aggregation, and files that a sink had not made visible.
//!
//! With HURTIG_UPDATE_GOLDEN_SAVEPOINT set in the environment it is taken anew, which only a change of the format
//! that gives up on older savepoints may need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hurtig::arrow::array::AsArray;
use hurtig::arrow::datatypes::Int64Type;
use hurtig::client::StartFrom;
use hurtig::dataflow::{Aggregate, Dataflow, Table};
use hurtig::{EmbeddedCluster, v1};
use hurtig_state::checkpoint::{read_savepoint, write_savepoint};
use hurtig_state::storage::ObjectStores;
use prost::Message;

use crate::harness::{PATIENCE, lines_below};

const ROWS: i64 = 2_000;
/// When number 0 is, in seconds since 1970.
const START_SECOND: i64 = 1_704_067_200;

/// A file of the sink as its state lists it.
#[derive(Clone, PartialEq, Message)]
struct Committable {
    #[prost(string, tag = "1")]
    pending: String,
    #[prost(string, tag = "2")]
    target: String,
    #[prost(uint64, tag = "3")]
    checkpoint: u64,
}

/// Numbers into files as they are; counted in windows that only the end of the input fires; counted by
/// key for the client.
fn job(out: &Path, rate: u32) -> Dataflow {
    let flow = Dataflow::new("golden").parallelism(1);
    let numbers = Table::new("datagen")
        .option("rows-per-second", rate.to_string())
        .option("number-of-rows", ROWS.to_string())
        .option("fields.n.kind", "sequence")
        .option("fields.n.start", "0")
        .option("fields.n.end", (ROWS - 1).to_string())
        .column("n", "BIGINT");
    let files = |name: &str| {
        let path = out.join(name).display().to_string();
        Table::new("filesystem").option("path", path).option("format", "csv")
    };
    let at = "TIMESTAMPADD(SECOND, CAST(n AS INT), TIMESTAMP '2024-01-01 00:00:00.000')";
    let rows = flow
        .source(numbers)
        .uid("numbers")
        .map([("n", "n"), ("k", "CAST(n % 7 AS BIGINT)"), ("at", at)])
        .uid("columns")
        .watermark("at", "`at` - INTERVAL '7' DAY")
        .uid("time");
    let _ = rows.map([("n", "n")]).uid("plain").sink(files("plain")).uid("plain files");
    let _ = rows
        .key_by(["k"])
        .tumble("at", Duration::from_secs(1_000))
        .aggregate([Aggregate::count().named("c"), Aggregate::sum("n").named("s")])
        .uid("windows")
        .map([("k", "k"), ("c", "c"), ("s", "s")])
        .uid("window columns")
        .sink(files("windows"))
        .uid("window files");
    let _ = rows.key_by(["k"]).aggregate([Aggregate::count().named("c")]).uid("groups").collect().uid("client");
    flow
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/savepoint")
}

/// The files in `metadata` that the sink has still to commit, as they are replaced by `new`.
fn change_committables(metadata: &mut v1::CheckpointMetadata, mut new: impl FnMut(Committable) -> Committable) {
    let subtasks = metadata.vertices.iter_mut().flat_map(|v| &mut v.subtasks);
    let lists = subtasks.flat_map(|s| &mut s.operators).flat_map(|operator| &mut operator.lists);
    for element in lists.filter(|list| list.name == "committables").flat_map(|list| &mut list.elements) {
        *element = new(Committable::decode(element.as_slice()).unwrap()).encode_to_vec();
    }
}

/// Takes the golden savepoint.
async fn take(cluster: &EmbeddedCluster) {
    let folder = tempfile::tempdir().unwrap();
    let running = cluster.execute(&job(&folder.path().join("out"), 400)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let path = running.savepoint(&folder.path().join("s").display().to_string()).await.unwrap();
    let stores = ObjectStores::default();
    let mut metadata = read_savepoint(&stores, &path).await.unwrap();
    std::fs::create_dir_all(golden()).unwrap();
    let mut number = 0;
    change_committables(&mut metadata, |file| {
        std::fs::copy(&file.pending, golden().join(format!("pending-{number}.csv"))).unwrap();
        number += 1;
        // Paths of one machine mean nothing to others.
        Committable { pending: format!("/pending-{number}"), target: format!("/target-{number}"), ..file }
    });
    assert!(number > 0);
    write_savepoint(&stores, &golden().display().to_string(), &metadata).await.unwrap();
    running.cancel().await.unwrap();
}

#[tokio::test]
async fn a_savepoint_of_an_earlier_version_is_restored() {
    let cluster = EmbeddedCluster::builder().slots(2).start().await.unwrap();
    if std::env::var_os("HURTIG_UPDATE_GOLDEN_SAVEPOINT").is_some() {
        let _ = std::fs::remove_dir_all(golden());
        take(&cluster).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let stores = ObjectStores::default();
    let mut metadata = read_savepoint(&stores, &golden().display().to_string()).await.unwrap();
    let mut files = 0;
    change_committables(&mut metadata, |file| {
        let pending = out.join(format!("plain/.staging-old/{files}"));
        std::fs::create_dir_all(pending.parent().unwrap()).unwrap();
        std::fs::copy(golden().join(format!("pending-{files}.csv")), &pending).unwrap();
        let target = out.join(format!("plain/part-{files}.csv")).display().to_string();
        files += 1;
        Committable { pending: pending.display().to_string(), target, ..file }
    });
    let before: usize = (0..files)
        .map(|n| std::fs::read_to_string(golden().join(format!("pending-{n}.csv"))).unwrap().lines().count())
        .sum();
    assert!(before > 0 && before < ROWS as usize, "it was taken in the middle: {before}");
    let path = folder.path().join("savepoint-here").display().to_string();
    write_savepoint(&stores, &path, &metadata).await.unwrap();

    let graph = job(&out, 1_000_000).graph();
    let running = cluster.client().submit_from(&StartFrom::path(&path), graph).await.unwrap();
    let results = running.results().await.unwrap();
    let batches = tokio::time::timeout(PATIENCE, results.collect()).await.unwrap().unwrap();
    let status = running.wait().await.unwrap();
    assert_eq!((status.state.as_str(), status.restored_checkpoint), ("FINISHED", metadata.checkpoint_id));

    // Each number once, whether it was written before the savepoint or after it.
    let mut plain: Vec<i64> = lines_below(&out.join("plain")).iter().map(|line| line.parse().unwrap()).collect();
    plain.sort_unstable();
    assert_eq!(plain, (0..ROWS).collect::<Vec<_>>());
    // Windows hold what came before it.
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for n in 0..ROWS {
        let second = START_SECOND + n;
        let window = windows.entry((n % 7, second / 1_000)).or_default();
        *window = (window.0 + 1, window.1 + n);
    }
    let mut expected: Vec<String> = windows.iter().map(|((k, _), (c, s))| format!("{k},{c},{s}")).collect();
    expected.sort();
    assert_eq!(lines_below(&out.join("windows")), expected);
    // And so do groups: their last counts are of all rows.
    let mut counts = BTreeMap::new();
    for batch in &batches {
        let (keys, values) = (batch.records().column(0), batch.records().column(1));
        let (keys, values) = (keys.as_primitive::<Int64Type>(), values.as_primitive::<Int64Type>());
        for row in 0..keys.len() {
            let count: &mut i64 = counts.entry(keys.value(row)).or_default();
            *count = (*count).max(values.value(row));
        }
    }
    let all: BTreeMap<i64, i64> = (0..7).map(|k| (k, (0..ROWS).filter(|n| n % 7 == k).count() as i64)).collect();
    assert_eq!(counts, all);
}
