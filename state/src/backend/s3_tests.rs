//! Snapshots and restores against an S3 server that counts requests.

use std::sync::Arc;

use hurtig_graph::config::Configuration;
use hurtig_proto::v1;

use super::*;
use crate::encoding::put_prefix;
use crate::error::StateError;
use hurtig_testkit::{Fault, FaultKind, S3Server};

const ROWS: u32 = 20_000;

struct Fixture {
    server: S3Server,
    directory: tempfile::TempDir,
    stores: Arc<ObjectStores>,
}

impl Fixture {
    fn new() -> Self {
        let server = S3Server::start("flink", "access", "secret");
        let mut configuration = Configuration::default();
        configuration.set("s3.endpoint", server.endpoint());
        configuration.set("s3.access-key", "access");
        configuration.set("s3.secret-key", "secret");
        configuration.set("s3.max-error-retries", "1");
        let stores = Arc::new(ObjectStores::new(configuration, None));
        Fixture { server, directory: tempfile::tempdir().unwrap(), stores }
    }

    fn open(&self, attempt: u32, checkpoint: u64, restore: Option<&v1::KeyedSnapshot>) -> KeyedBackend {
        KeyedBackend::open(self.config(attempt, checkpoint, restore)).unwrap()
    }

    fn config(&self, attempt: u32, checkpoint: u64, restore: Option<&v1::KeyedSnapshot>) -> BackendConfig {
        BackendConfig {
            directory: self.directory.path().join(format!("live-{attempt}")),
            key_groups: (0, 127),
            max_parallelism: 128,
            task: TaskName { job_id: "0b".repeat(16), vertex_id: "v".into(), subtask: 0, attempt },
            rocks: Arc::new(SharedRocks::new(SharedRocksConfig {
                write_buffer_bytes: 4 << 20,
                ..SharedRocksConfig::default()
            })),
            memory: MemoryPool::unlimited(),
            inline_bytes: 0,
            stores: self.stores.clone(),
            local: Some(Arc::new(LocalStateStore::open(self.directory.path()).unwrap())),
            restore_checkpoint: checkpoint,
            restore: restore.cloned().into_iter().collect(),
        }
    }

    fn target(&self, checkpoint: u64) -> SnapshotTarget {
        SnapshotTarget::checkpoint("s3p://flink/flink-checkpoint/job", checkpoint)
    }
}

fn key(table: TableId, n: u32) -> Vec<u8> {
    let mut key = Vec::new();
    put_prefix(n % 128, table, &mut key);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// Rows of 1 KiB that do not compress.
fn rows(table: TableId, generation: u64, numbers: Vec<u32>) -> FrozenCell {
    Box::new(move |writer| {
        let mut sorted = numbers;
        sorted.sort_by_key(|n| key(table, *n));
        for n in sorted {
            let seed = generation << 32 | u64::from(n);
            let value: Vec<u8> = (0..128).flat_map(|i| crate::hash::hash_i64(i, seed).to_le_bytes()).collect();
            writer.put(&key(table, n), &value)?;
        }
        Ok(())
    })
}

fn cell() -> CellDeclaration {
    CellDeclaration {
        name: "c".into(),
        kind: CellKind::Point,
        key_schema: "INT".into(),
        value_schema: "v BYTES".into(),
        schema_version: 1,
    }
}

#[test]
fn a_checkpoint_uploads_what_changed_and_a_restore_reads_local_files_first() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, 0, None);
    let table = backend.register("op", &cell()).unwrap();
    // The state grows over several checkpoints and several flushes in each.
    let mut full = v1::KeyedSnapshot::default();
    for checkpoint in 1..=4 {
        let grown = (0..ROWS).filter(|n| u64::from(n % 4) == checkpoint - 1).collect();
        full = backend.snapshot(checkpoint, vec![rows(table, 1, grown)], &fixture.target(checkpoint)).unwrap().unwrap();
        backend.confirm(checkpoint);
    }
    assert!(full.total_bytes > 20_000_000);
    // 1 % of the rows changes, spread over all key groups, between one checkpoint and the next.
    let mut next = v1::KeyedSnapshot::default();
    for checkpoint in 5..=14 {
        let changed = rows(table, checkpoint, (0..ROWS).step_by(100).collect());
        next = backend.snapshot(checkpoint, vec![changed], &fixture.target(checkpoint)).unwrap().unwrap();
        let (uploaded, total) = (next.uploaded_bytes, full.total_bytes);
        assert!(0 < uploaded && uploaded < total / 10, "checkpoint {checkpoint}: {uploaded} of {total}");
        backend.confirm(checkpoint);
    }
    let expected = backend.multi_get(&[key(table, 0), key(table, 1)]).unwrap();
    drop(backend);

    fixture.server.clear_log();
    let local = fixture.open(1, 14, Some(&next));
    assert_eq!(local.multi_get(&[key(table, 0), key(table, 1)]).unwrap(), expected);
    assert_eq!(fixture.server.requests(), vec![]);
    assert!(local.restore_report().local_bytes > 20_000_000);
    drop(local);

    std::fs::remove_dir_all(fixture.directory.path().join("localState")).unwrap();
    let remote = fixture.open(2, 14, Some(&next));
    assert_eq!(remote.multi_get(&[key(table, 0), key(table, 1)]).unwrap(), expected);
    let objects = next.files.iter().filter(|f| f.inline.is_empty()).count();
    assert_eq!(fixture.server.count("GET", "/shared/"), objects);
    assert_eq!(remote.restore_report().remote_files as usize, objects);
}

#[test]
fn an_upload_that_fails_leaves_nothing_and_the_next_checkpoint_succeeds() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, 0, None);
    let table = backend.register("op", &cell()).unwrap();
    let put =
        |times| Fault { method: "PUT".into(), path_contains: "/shared/".into(), times, kind: FaultKind::Status(503) };
    fixture.server.inject(put(2));
    let error = backend.snapshot(1, vec![rows(table, 1, (0..500).collect())], &fixture.target(1)).unwrap_err();
    assert!(matches!(error, StateError::Storage(_)), "{error}");
    assert_eq!(fixture.server.objects("flink"), vec![]);
    fixture.server.inject(put(1));
    let snapshot = backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    assert_eq!(fixture.server.objects("flink").iter().map(|o| o.1).sum::<u64>(), snapshot.uploaded_bytes);
}

#[test]
fn a_restore_survives_bodies_that_break_off_and_wrong_bytes_but_not_a_corrupt_object() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, 0, None);
    let table = backend.register("op", &cell()).unwrap();
    let snapshot = backend.snapshot(1, vec![rows(table, 1, (0..500).collect())], &fixture.target(1)).unwrap().unwrap();
    let expected = backend.multi_get(&[key(table, 7)]).unwrap();
    drop(backend);
    let meet = |times, kind| Fault { method: "GET".into(), path_contains: "/shared/".into(), times, kind };
    let without_local = || std::fs::remove_dir_all(fixture.directory.path().join("localState")).unwrap();
    for (attempt, kind) in
        [FaultKind::PartialBody, FaultKind::CorruptBody, FaultKind::Status(503)].into_iter().enumerate()
    {
        without_local();
        fixture.server.inject(meet(1, kind));
        let restored = fixture.open(attempt as u32 + 1, 1, Some(&snapshot));
        assert_eq!(restored.multi_get(&[key(table, 7)]).unwrap(), expected, "{kind:?}");
        assert!(fixture.server.count("GET", "/shared/") > 1, "it was read again");
        fixture.server.clear_log();
    }
    without_local();
    fixture.server.inject(meet(usize::MAX, FaultKind::CorruptBody));
    let error = KeyedBackend::open(fixture.config(9, 1, Some(&snapshot))).map(drop).unwrap_err();
    let object = &snapshot.files.iter().find(|f| f.shared && f.inline.is_empty()).unwrap().handle;
    assert!(matches!(error, StateError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains(&object.as_ref().unwrap().object), "{error}");
    assert!(!fixture.directory.path().join("live-9").exists(), "nothing is left of it");
}
