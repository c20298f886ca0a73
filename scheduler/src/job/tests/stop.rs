//! Jobs that are stopped with a savepoint, and jobs that start from one.

use super::*;

/// A job that is being stopped with savepoint `id`, all but the last acknowledgement there.
fn stopping(stop: StopMode, pairs: &[(&str, &str)]) -> (Bench, u64) {
    let mut bench = Bench::new(exchange(), &[CHECKPOINTS, pairs].concat(), &[2]);
    bench.all_run();
    bench.checkpoint();
    bench.event(savepoint(1, Some("memory://s"), stop));
    assert_eq!(bench.job.state(), JobState::StoppingWithSavepoint);
    assert_eq!(bench.job.status().state, "RUNNING");
    let id = bench.job.checkpoints.pending_id().unwrap();
    let triggers = std::mem::take(&mut bench.sent);
    let stops = triggers.iter().filter(|(_, m)| matches!(m, ToTask::TriggerCheckpoint(t) if t.stop() == stop)).count();
    assert_eq!(stops, 2, "{triggers:?}");
    for task in 0..3 {
        bench.ack(task, id);
    }
    assert!(bench.savepoints.is_empty());
    (bench, id)
}

#[test]
fn a_job_that_is_stopped_with_a_savepoint_commits_it_and_finishes() {
    let (mut bench, id) = stopping(StopMode::Suspend, &[]);
    bench.ack(3, id);
    assert_eq!(bench.shown(), [format!("complete {id}")]);
    assert!(bench.savepoints.is_empty(), "its tasks have not ended");
    for task in bench.all_tasks() {
        bench.state(task, "FINISHED");
    }
    assert_eq!(bench.job.state(), JobState::Finished);
    assert_eq!(bench.savepoints, [Ok("memory://s/savepoint-000000-1".to_owned())]);
}

#[test]
fn a_job_goes_on_when_the_savepoint_to_stop_with_fails() {
    for (stop, after) in [(StopMode::Suspend, JobState::Running), (StopMode::Drain, JobState::Restarting)] {
        let (mut bench, id) = stopping(stop, &[]);
        bench.message(3, |attempt| {
            let reason = "the disk is full".to_owned();
            FromTask::CheckpointDecline(internal::CheckpointDecline {
                attempt: Some(attempt),
                checkpoint_id: id,
                reason,
            })
        });
        assert_eq!(bench.job.state(), after);
        let [Err(error)] = &bench.savepoints[..] else { panic!("{:?}", bench.savepoints) };
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(bench.shown().contains(&format!("aborted {id}")));
        if stop == StopMode::Suspend {
            bench.checkpoint();
        }
    }
}

#[test]
fn a_failure_before_the_savepoint_is_complete_restarts_and_one_after_it_does_not() {
    for complete in [false, true] {
        let (mut bench, id) = stopping(StopMode::Suspend, &[]);
        if complete {
            bench.ack(3, id);
        }
        bench.state(3, "FAILED");
        let expected = if complete { JobState::Failing } else { JobState::Restarting };
        assert_eq!(bench.job.state(), expected);
        for task in 0..3 {
            bench.state(task, "CANCELED");
        }
        let [Err(error)] = &bench.savepoints[..] else { panic!("{:?}", bench.savepoints) };
        assert_eq!(
            error.to_string().contains("the savepoint memory://s/savepoint-000000-1 is complete"),
            complete,
            "{error}"
        );
        bench.at(bench.now + 100_000);
        assert_eq!(bench.deployments().len(), if complete { 0 } else { 4 });
    }
}

#[test]
fn a_failure_while_head_is_swapped_waits_for_what_becomes_of_the_savepoint() {
    let (mut bench, id) = stopping(StopMode::Suspend, &[]);
    bench.hold_storage = true;
    bench.ack(3, id);
    let metadata = bench.held.remove(0);
    let reply = bench.store.apply(&metadata.1);
    bench.event(JobEvent::Storage { ticket: metadata.0, reply });
    assert!(matches!(bench.held[..], [(_, StorageRequest::SwapHead { .. })]));
    bench.state(3, "FAILED");
    for task in 0..3 {
        bench.state(task, "CANCELED");
    }
    bench.at(bench.now + 100_000);
    assert!(bench.deployments().is_empty() && bench.savepoints.is_empty());
    bench.release_storage();
    assert_eq!(bench.job.state(), JobState::Failed);
    assert!(matches!(&bench.savepoints[..], [Err(error)] if error.to_string().contains("is complete")));
}

#[test]
fn only_a_running_job_is_stopped_and_only_once() {
    let mut bench = Bench::new(exchange(), CHECKPOINTS, &[2]);
    bench.event(savepoint(1, Some("memory://s"), StopMode::Suspend));
    assert!(matches!(&bench.savepoints[..], [Err(error)] if error.to_string().contains("only a RUNNING job")));
    let (mut bench, _) = stopping(StopMode::Suspend, &[]);
    for stop in [StopMode::Suspend, StopMode::None] {
        bench.event(savepoint(2, Some("memory://s"), stop));
    }
    assert!(matches!(&bench.savepoints[..], [Err(_), Err(_)]), "{:?}", bench.savepoints);
    bench.event(JobEvent::Cancel);
    assert_eq!(bench.job.state(), JobState::Canceling);
    assert_eq!(bench.savepoints.len(), 3);
}

#[test]
fn a_job_starts_from_a_savepoint_at_another_parallelism_with_its_key_groups() {
    let mut store = MemoryStore::default();
    let keyed = v1::KeyedSnapshot {
        files: vec![v1::StateFile::default()],
        tables: vec![v1::TableEntry { operator_uid: "k".into(), ..Default::default() }],
        ..Default::default()
    };
    let subtask = v1::SubtaskSnapshot { keyed: Some(keyed), ..Default::default() };
    let vertex = v1::VertexSnapshot {
        vertex_id: "k".into(),
        parallelism: 1,
        max_parallelism: 64,
        subtasks: vec![subtask],
        ..Default::default()
    };
    let metadata =
        v1::CheckpointMetadata { checkpoint_id: 41, vertices: vec![vertex], savepoint: true, ..Default::default() };
    store.metadata.insert("memory://s/one".into(), metadata);
    let start = [("execution.state-recovery.path", "memory://s/one")];
    let mut bench = Bench::on(store, exchange(), &[CHECKPOINTS, &start].concat(), &[2], BTreeMap::new());
    let deployments = bench.deployments();
    let restored = |d: &internal::TaskDeployment| {
        let id = d.attempt.clone().unwrap_or_default().vertex_id;
        (id, d.max_parallelism, d.restore_checkpoint_id, d.restore.len(), d.restore_parallelism)
    };
    let mut shown: Vec<_> = deployments.iter().map(restored).collect();
    shown.dedup();
    assert_eq!(shown, [("k".to_owned(), 64, 41, 1, 1), ("s".to_owned(), 128, 41, 0, 0)]);
    bench.all_run();
    // A restart before its own first checkpoint restores it again.
    bench.state(0, "FAILED");
    for task in 1..4 {
        bench.state(task, "CANCELED");
    }
    bench.at(bench.now + 5_000);
    assert!(bench.deployments().iter().all(|d| d.restore_checkpoint_id == 41));
    bench.all_run();
    assert!(bench.checkpoint() > 41);
}
