//! Changes of parallelism on request, and the bench that measures recovery, through real processes.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Cluster, hurtig, lines_below, subtasks};

fn script(out: &Path, rate: u32) -> String {
    format!(
        "SET 'parallelism.default' = '2';
         CREATE TABLE events (n BIGINT, k AS n % 97, ts AS TIMESTAMPADD(SECOND, CAST(n / 1000 AS INT), TIMESTAMP '2024-01-01 00:00:00.000'),
           WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}', 'number-of-rows' = '60000',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '59999');
         CREATE TABLE windows (k BIGINT, n BIGINT, total BIGINT, w TIMESTAMP(3))
           WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         INSERT INTO windows SELECT k, COUNT(*), SUM(n), window_start
           FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;",
        out.display()
    )
}

fn rescale(cluster: &Cluster, id: &str, arguments: &[&str]) -> std::process::Output {
    let command = ["jobs", "rescale", id, "--cluster", &cluster.address()];
    hurtig().args(command).args(arguments).output().unwrap()
}

fn widths(job: &Value) -> Vec<u64> {
    job["vertices"].as_array().unwrap().iter().map(|v| v["parallelism"].as_u64().unwrap()).collect()
}

#[test]
fn a_job_is_rescaled_up_and_down_on_request_and_its_output_stays_exact() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir={}", folder.path().display());
    let cluster = Cluster::start(
        2,
        2,
        &[
            "execution.checkpointing.interval=500 ms",
            "execution.state-recovery.from-local=true",
            "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling=0 s",
            &directory,
        ],
    );
    let out = cluster.folder.path().join("rescaled");
    let id = cluster.insert(&script(&out, 3_000));
    cluster.wait_running(&id);
    for width in [4, 2] {
        let before = cluster.job(&id)["restarts"].as_u64().unwrap();
        let output = rescale(&cluster, &id, &["--parallelism", &width.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let job = cluster.wait_for(&id, "the job runs with the new parallelism", |job| {
            job["state"] == "RUNNING"
                && widths(job).iter().all(|&w| w == width)
                && subtasks(job).all(|s| s["state"] == "RUNNING")
        });
        assert_eq!(job["restarts"].as_u64().unwrap(), before + 1);
        let report = job["restart_reports"].as_array().unwrap().last().unwrap().clone();
        assert!(report["rescale"] == true && report["running_ms"].as_u64().unwrap() > 0, "{report}");
        assert!(job["failures"].as_array().unwrap().is_empty(), "a rescale is no failure: {job:#}");
        let completed = job["last_checkpoint"].as_u64().unwrap();
        cluster.wait_for(&id, "a checkpoint completes", |job| {
            job["last_checkpoint"].as_u64().unwrap() > completed || job["state"] == "FINISHED"
        });
    }
    let refused = rescale(&cluster, &id, &["--parallelism", "1000"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("max parallelism, 128"), "{refused:?}");
    cluster.wait_finished(&id);

    let clean = cluster.folder.path().join("clean");
    let id = cluster.insert(&script(&clean, 1_000_000));
    cluster.wait_finished(&id);
    let expected = lines_below(&clean);
    assert!(!expected.is_empty());
    assert_eq!(lines_below(&out), expected);
}

#[test]
fn the_bench_measures_recovery_from_outside() {
    let output = hurtig()
        .args(["bench", "recovery", "--state", "2MB", "--scenario", "local,in-place", "--runs", "1", "--json"])
        .args(["--rate", "2000", "--checkpoint-interval", "1 s"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured = measured.as_array().unwrap();
    assert_eq!(measured.iter().map(|m| m["scenario"].as_str().unwrap()).collect::<Vec<_>>(), ["local", "in-place"]);
    for scenario in measured {
        let run = &scenario["runs"][0];
        assert!(scenario["first_batch_p50_ms"].as_u64().unwrap() > 0, "{scenario:#}");
        assert!(scenario["state_bytes"].as_u64().unwrap() >= scenario["payload_bytes"].as_u64().unwrap());
        assert!(run["local_bytes"].as_u64().unwrap() > 0 && run["remote_bytes"] == 0, "{scenario:#}");
        assert!(run["restart"]["running_ms"].as_u64().unwrap() > 0, "{scenario:#}");
    }
}
