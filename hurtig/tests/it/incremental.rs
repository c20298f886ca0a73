//! What a checkpoint of a large state with few changes uploads, as the S3 server counts it.

use std::collections::BTreeMap;

use hurtig_testkit::S3Server;

use crate::harness::{Cluster, subtasks};

const GROUPS: u64 = 100_000;
/// 100,000 groups of 2 KB, of which then 1,000 change every two seconds.
const SCRIPT: &str = "
    SET 'parallelism.default' = '2';
    CREATE TABLE built (n BIGINT, s STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000000',
      'number-of-rows' = '100000', 'fields.s.length' = '2000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '99999');
    CREATE TABLE changes (n BIGINT, s STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '500',
      'fields.s.length' = '2000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000000000');
    CREATE TABLE b (k BIGINT, c BIGINT, s STRING) WITH ('connector' = 'blackhole');
    INSERT INTO b SELECT k, COUNT(*), LAST_VALUE(s) FROM (
      SELECT n AS k, s FROM built UNION ALL SELECT MOD(n, 1000) * 100 AS k, s FROM changes
    ) GROUP BY k;";

/// Bytes that were uploaded for each checkpoint: state files and metadata begin with its number.
fn uploads(s3: &S3Server) -> BTreeMap<u64, u64> {
    let mut uploads = BTreeMap::new();
    for request in s3.requests().iter().filter(|r| r.method == "PUT" && r.status == 200) {
        let name = match (request.path.split_once("/shared/"), request.path.split_once("/chk-")) {
            (Some((_, name)), _) | (None, Some((_, name))) => name,
            // The pointer to the latest checkpoint.
            (None, None) => continue,
        };
        let digits = name.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        *uploads.entry(digits.parse().unwrap()).or_default() += request.bytes;
    }
    uploads
}

#[test]
fn a_checkpoint_uploads_what_has_changed_of_a_large_state() {
    let s3 = S3Server::start("flink", "access", "secret");
    let endpoint = format!("s3.endpoint={}", s3.endpoint());
    let options = [
        "execution.checkpointing.interval=3 s",
        "execution.checkpointing.dir=s3p://flink/checkpoints",
        "s3.access-key=access",
        "s3.secret-key=secret",
        &endpoint,
    ];
    let cluster = Cluster::start(2, 1, &options);
    let id = cluster.insert(SCRIPT);
    let last = |job: &serde_json::Value| job["last_checkpoint"].as_u64().unwrap();
    let job = cluster.wait_for(&id, "the state is built", |job| {
        let rows = subtasks(job).filter(|s| s["state"] == "RUNNING");
        rows.map(|s| s["rows_in"].as_u64().unwrap()).sum::<u64>() >= GROUPS
            && subtasks(job).any(|s| s["state"] == "FINISHED")
    });
    // The one that is under way, and one that surely has all groups.
    let first = last(&job) + 3;
    let job = cluster.wait_for(&id, "checkpoints with few changes complete", |job| last(job) >= first + 6);
    let state = job["last_checkpoint_bytes"].as_u64().unwrap();
    assert!(state > 180 << 20, "{state} bytes of state");
    assert_eq!(job["restarts"], 0);

    let all = uploads(&s3);
    let few: Vec<u64> = (first..first + 6).map(|checkpoint| all.get(&checkpoint).copied().unwrap_or(0)).collect();
    assert!(few.iter().all(|bytes| *bytes > 500_000), "a hundredth of the state is in each: {all:?}");
    // One may merge what the last ones of the build have left, where that took many checkpoints.
    let most = 20 << 20;
    assert!(few.iter().filter(|bytes| **bytes >= most).count() <= 1, "{few:?} of {all:?}");
    assert!(few.iter().sum::<u64>() < 6 * most, "{few:?} of {all:?}");
}
