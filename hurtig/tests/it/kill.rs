//! A job that writes files through a window aggregate and a group aggregate, on one JobManager and
//! three TaskManagers with checkpoints in S3, while TaskManagers are killed.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::{Cluster, files_below, lines_below, subtasks};

/// Rows a second and seconds that the generator runs.
const ROWS_PER_SECOND: u32 = 4_000;
const SECONDS: u32 = 60;

fn script(out: &Path) -> String {
    let rows = ROWS_PER_SECOND * SECONDS;
    let last = rows - 1;
    format!(
        "SET 'parallelism.default' = '3';
         CREATE TABLE events (n BIGINT, k AS n % 97, ts AS TIMESTAMPADD(SECOND, CAST(n / 1000 AS INT), TIMESTAMP '2024-01-01 00:00:00.000'),
           WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{ROWS_PER_SECOND}', 'number-of-rows' = '{rows}',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}');
         CREATE TABLE windows (k BIGINT, n BIGINT, total BIGINT, w TIMESTAMP(3))
           WITH ('connector' = 'filesystem', 'path' = '{out}/windows', 'format' = 'csv');
         CREATE TABLE totals (w TIMESTAMP(3), windows BIGINT, total BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{out}/totals', 'format' = 'csv');
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO windows SELECT k, COUNT(*), SUM(n), window_start
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
           INSERT INTO totals SELECT window_start, COUNT(DISTINCT k), SUM(n)
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
         END;",
        out = out.display()
    )
}

fn inode_and_mtime(folder: &Path) -> HashMap<std::path::PathBuf, (u64, i64)> {
    files_below(folder)
        .into_iter()
        .map(|file| {
            let meta = std::fs::metadata(&file).unwrap();
            (file, (meta.ino(), meta.mtime_nsec() + meta.mtime() * 1_000_000_000))
        })
        .collect()
}

#[test]
fn output_is_exactly_once_over_five_kills() {
    let s3 = hurtig_testkit::S3Server::start("flink", "access", "secret");
    let endpoint = format!("s3.endpoint={}", s3.endpoint());
    let options = [
        "execution.checkpointing.interval=1 s",
        "state.checkpoints.dir=s3p://flink/checkpoints",
        "restart-strategy=exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff=10 ms",
        "state.backend.local-recovery=true",
        "s3.path.style.access=true",
        "s3.access-key=access",
        "s3.secret-key=secret",
        &endpoint,
    ];
    let mut cluster = Cluster::start(3, 2, &options);
    let out = cluster.folder.path().join("disturbed");
    let id = cluster.insert(&script(&out));
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut completed_before = 0;
    for kill in 0..5 {
        let job = cluster.wait_for(&id, "a checkpoint completes while all run", |job| {
            job["state"] == "RUNNING"
                && subtasks(job).all(|s| s["state"] == "RUNNING")
                && job["last_checkpoint"].as_u64().unwrap() > completed_before
        });
        let committed = inode_and_mtime(&out);
        let restarts = job["restarts"].as_u64().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // One that runs something: a spare one is no loss.
        let used: BTreeSet<&str> = subtasks(&job).filter_map(|s| s["taskmanager"].as_str()).collect();
        let name = used.iter().nth((random % used.len() as u64) as usize).unwrap();
        let victim: usize = name.trim_start_matches("tm-").parse().unwrap();
        cluster.kill_taskmanager(victim);
        let last = cluster.job(&id)["last_checkpoint"].as_u64().unwrap();
        cluster.restart_taskmanager(victim);
        let job = cluster.wait_for(&id, "the job runs again", |job| {
            job["restarts"].as_u64().unwrap() > restarts
                && job["state"] == "RUNNING"
                && subtasks(job).all(|s| s["state"] == "RUNNING")
        });
        let restored = job["restored_checkpoint"].as_u64().unwrap();
        assert!(restored >= last, "kill {kill}: restored {restored}, but {last} was complete");
        let now = inode_and_mtime(&out);
        for (file, identity) in &committed {
            assert_eq!(now.get(file), Some(identity), "kill {kill}: {} was rewritten", file.display());
        }
        completed_before = restored;
    }
    cluster.wait_finished(&id);

    let clean = cluster.folder.path().join("clean");
    let undisturbed =
        script(&clean).replace(&format!("'rows-per-second' = '{ROWS_PER_SECOND}'"), "'rows-per-second' = '1000000'");
    let id = cluster.insert(&undisturbed);
    cluster.wait_finished(&id);
    for table in ["windows", "totals"] {
        let (disturbed, clean) = (lines_below(&out.join(table)), lines_below(&clean.join(table)));
        assert!(!clean.is_empty());
        assert_eq!(disturbed, clean, "{table}");
    }
}
