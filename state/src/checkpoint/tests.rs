use std::sync::Arc;

use bytes::Bytes;
use hurtig_proto::v1;

use super::frame;
use super::*;
use crate::error::StateError;
use crate::golden;
use crate::storage::{ObjectStores, join};

const JOB: &str = "00112233445566778899aabbccddeeff";

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn file(object: &str) -> v1::StateFile {
    let handle = v1::FileHandle { object: object.into(), offset: 0, length: 7, hash: vec![1; 16] };
    v1::StateFile { name: "000012.sst".into(), handle: Some(handle), inline: vec![], shared: true }
}

fn metadata(checkpoint_id: u64, objects: &[String]) -> v1::CheckpointMetadata {
    let keyed = v1::KeyedSnapshot {
        format_version: 1,
        database_id: "db".into(),
        key_group_end: 127,
        files: objects.iter().map(|o| file(o)).collect(),
        tables: vec![v1::TableEntry {
            operator_uid: "agg".into(),
            cell: "groups".into(),
            table: 0,
            key_schema: "BIGINT".into(),
            value_schema: "count BIGINT NOT NULL".into(),
            schema_version: 1,
        }],
        total_bytes: 7,
        ..v1::KeyedSnapshot::default()
    };
    let operator = v1::OperatorSnapshot {
        operator_uid: "source".into(),
        operator_kind: "source".into(),
        lists: vec![v1::ListState { name: "splits".into(), elements: vec![vec![1, 2, 3]] }],
        watermark_ms: -5,
    };
    let subtask =
        v1::SubtaskSnapshot { subtask: 0, operators: vec![operator], keyed: Some(keyed), ..Default::default() };
    v1::CheckpointMetadata {
        format_version: 1,
        job_id: JOB.into(),
        checkpoint_id,
        timestamp_ms: 1_700_000_000_000,
        vertices: vec![v1::VertexSnapshot {
            vertex_id: "v1".into(),
            parallelism: 1,
            max_parallelism: 128,
            subtasks: vec![subtask],
            ..Default::default()
        }],
        coordinators: vec![v1::CoordinatorSnapshot { operator_uid: "source".into(), state: vec![9] }],
        key_hash_version: 1,
        ..Default::default()
    }
}

fn head(epoch: u64, retained: &[u64]) -> v1::Head {
    let named = |checkpoint_id: u64| v1::RetainedCheckpoint {
        checkpoint_id,
        metadata_object: format!("chk-{checkpoint_id}/_metadata"),
        bytes: 10,
        claimed: false,
    };
    v1::Head {
        format_version: 1,
        epoch,
        retained: retained.iter().copied().map(named).collect(),
        next_checkpoint_id: 100,
        job_status: "RUNNING".into(),
        leader_id: "6f1c1d9a".into(),
        ..Default::default()
    }
}

fn store(stores: &Arc<ObjectStores>) -> CheckpointStore {
    CheckpointStore::new(stores.clone(), "memory://checkpoints/flink-checkpoint/", JOB)
}

#[test]
fn persisted_messages_equal_the_golden_files() {
    let objects = ["s3p://bucket/shared/1-v1-0-0-u.sst".to_owned()];
    golden::check("checkpoint_metadata.bin", &frame::encode(Kind::CheckpointMetadata, &metadata(3, &objects)));
    golden::check("head_with_leader.bin", &frame::encode(Kind::Head, &head(4, &[2, 3])));
    // As written before there was the name of the leader.
    let older = v1::Head { leader_id: String::new(), ..head(4, &[2, 3]) };
    golden::check("head.bin", &frame::encode(Kind::Head, &older));
    let read: v1::Head = frame::decode(Kind::Head, &frame::encode(Kind::Head, &head(4, &[2, 3])), "x").unwrap();
    assert_eq!(read, head(4, &[2, 3]));
}

#[test]
fn damaged_frames_are_refused() {
    let good = frame::encode(Kind::Head, &head(1, &[]));
    let decode =
        |bytes: &[u8], kind| frame::decode::<v1::Head>(kind, bytes, "memory://x/HEAD").unwrap_err().to_string();
    assert_eq!(decode(&good[..5], Kind::Head), "'memory://x/HEAD' is damaged: it is shorter than its header");
    assert_eq!(decode(b"HELLO WORLD", Kind::Head), "'memory://x/HEAD' is damaged: it does not begin with 'HRTG'");
    assert!(decode(&good, Kind::JobGraph).contains("a message of kind 2, expected JobGraph"));
    let mut newer = good.to_vec();
    newer[4] = 2;
    assert!(decode(&newer, Kind::Head).contains("has format version 2, this version of Hurtig reads up to 1"));
    assert!(decode(&[&good[..], &[0xff]].concat(), Kind::Head).contains("is damaged"));
}

#[test]
fn head_changes_only_for_the_one_who_knows_it() {
    let stores = Arc::new(ObjectStores::default());
    let (leader, other) = (store(&stores), store(&stores));
    run(async {
        assert_eq!(leader.load_head().await.unwrap(), None);
        let first = leader.swap_head(None, &head(1, &[])).await.unwrap();
        assert!(matches!(other.swap_head(None, &head(1, &[])).await, Err(StateError::Conflict(_))));
        let (seen, version) = other.load_head().await.unwrap().unwrap();
        assert_eq!((seen, &version), (head(1, &[]), &first));
        // The new leader swaps in its epoch; the old one's completion then fails.
        let second = other.swap_head(Some(&version), &head(2, &[])).await.unwrap();
        assert!(matches!(leader.swap_head(Some(&first), &head(1, &[7])).await, Err(StateError::Conflict(_))));
        other.swap_head(Some(&second), &head(2, &[7])).await.unwrap();
        assert_eq!(leader.load_head().await.unwrap().unwrap().0, head(2, &[7]));
    });
}

#[test]
fn metadata_is_written_once() {
    let stores = Arc::new(ObjectStores::default());
    let store = store(&stores);
    run(async {
        let written = metadata(3, &["memory://a/b".to_owned()]);
        let (object, size) = store.write_metadata(&written).await.unwrap();
        assert_eq!(object, format!("memory://checkpoints/flink-checkpoint/{JOB}/chk-3/_metadata"));
        assert_eq!(size, stores.get(&object).await.unwrap().len() as u64);
        assert_eq!(store.read_metadata(3).await.unwrap(), written);
        store.write_metadata(&written).await.unwrap();
        let conflict = store.write_metadata(&metadata(3, &[])).await.unwrap_err();
        assert_eq!(conflict.to_string(), format!("'{object}' exists already"));
        assert_eq!(read_savepoint(&stores, &object).await.unwrap(), written);
        assert_eq!(read_savepoint(&stores, object.trim_end_matches("_metadata")).await.unwrap(), written);
        let missing = read_savepoint(&stores, "memory://checkpoints/none").await.unwrap_err();
        assert!(missing.to_string().starts_with("there is no savepoint or checkpoint at 'memory://checkpoints/none'"));
    });
}

/// Shared files a, b, c; checkpoint 1 = {a, b}, 2 = {b, c}.
async fn two_checkpoints(stores: &ObjectStores, store: &CheckpointStore) -> [String; 3] {
    let shared = ["1-a.sst", "1-b.sst", "2-c.sst"].map(|n| join(store.directory(), &format!("shared/{n}")));
    for object in &shared {
        stores.put(object, Bytes::from_static(b"x")).await.unwrap();
    }
    store.write_metadata(&metadata(1, &shared[..2])).await.unwrap();
    store.write_metadata(&metadata(2, &shared[1..])).await.unwrap();
    shared
}

#[test]
fn files_of_a_dropped_checkpoint_go_unless_another_refers_to_them() {
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let writer = store(&stores);
        let [a, b, c] = two_checkpoints(&stores, &writer).await;
        // A new leader, which has read nothing yet.
        let store = store(&stores);
        let removed = store.discard(&[1], &[2]).await.unwrap();
        assert_eq!(removed, Removed { objects: 2, failures: vec![] });
        assert!(!stores.exists(&a).await.unwrap());
        assert!(stores.exists(&b).await.unwrap() && stores.exists(&c).await.unwrap());
        assert!(!stores.exists(&store.metadata_object(1)).await.unwrap());
        assert_eq!(store.discard(&[1], &[2]).await.unwrap(), Removed::default(), "it can be repeated");
    });
}

#[test]
fn the_base_of_a_pending_checkpoint_keeps_its_files() {
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let store = store(&stores);
        let [a, ..] = two_checkpoints(&stores, &store).await;
        store.discard(&[1], &[2, 1]).await.unwrap();
        assert!(stores.exists(&a).await.unwrap());
        let unreadable = store.discard(&[1], &[2, 77]).await.unwrap_err();
        assert!(matches!(unreadable, StateError::NotFound(_)));
        assert!(stores.exists(&a).await.unwrap(), "nothing is deleted when it is not known what is kept");
    });
}

#[test]
fn files_outside_of_the_job_are_never_deleted() {
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let store = store(&stores);
        let savepoint = "memory://checkpoints/savepoint-1/file".to_owned();
        let neighbour = format!("{}0/shared/1-a.sst", store.directory());
        for object in [&savepoint, &neighbour] {
            stores.put(object, Bytes::new()).await.unwrap();
        }
        store.write_metadata(&metadata(1, &[savepoint.clone(), neighbour.clone()])).await.unwrap();
        store.discard(&[1], &[]).await.unwrap();
        store.delete_job().await.unwrap();
        assert!(stores.exists(&savepoint).await.unwrap() && stores.exists(&neighbour).await.unwrap());
    });
}

#[test]
fn a_sweep_finds_what_no_checkpoint_refers_to() {
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let store = store(&stores);
        let [a, b, c] = two_checkpoints(&stores, &store).await;
        let at = |path: &str| join(store.directory(), path);
        let aborted = at("shared/2-aborted.sst");
        let pending = at("shared/3-pending.sst");
        let exclusive = at("chk-1/manifest");
        for object in [&aborted, &pending, &exclusive] {
            stores.put(object, Bytes::new()).await.unwrap();
        }
        let version = store.swap_head(None, &head(1, &[2])).await.unwrap();
        store.sweep(0..3, &[2]).await.unwrap();
        for gone in [&a, &aborted, &exclusive, &store.metadata_object(1)] {
            assert!(!stores.exists(gone).await.unwrap(), "{gone}");
        }
        for kept in [&b, &c, &pending, &store.metadata_object(2)] {
            assert!(stores.exists(kept).await.unwrap(), "{kept}");
        }
        assert_eq!(store.load_head().await.unwrap().unwrap().1, version);
    });
}

#[test]
fn a_sweep_leaves_what_earlier_runs_have_retained() {
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let store = store(&stores);
        let [a, b, c] = two_checkpoints(&stores, &store).await;
        store.sweep(3..100, &[]).await.unwrap();
        for kept in [&a, &b, &c, &store.metadata_object(1), &store.metadata_object(2)] {
            assert!(stores.exists(kept).await.unwrap(), "{kept}");
        }
    });
}

#[test]
fn a_savepoint_is_moved_as_a_whole_listed_and_disposed_of() {
    let base = tempfile::tempdir().unwrap();
    let stores = ObjectStores::default();
    run(async {
        let folder = format!("file://{}/all", base.path().display());
        let directory = join(&folder, "savepoint-001122-aabbccddeeff");
        let file = join(&directory, "1-a.sst");
        stores.put(&file, Bytes::from_static(b"x")).await.unwrap();
        let written = v1::CheckpointMetadata { savepoint: true, ..metadata(3, std::slice::from_ref(&file)) };
        write_savepoint(&stores, &directory, &written).await.unwrap();
        write_savepoint(&stores, &directory, &written).await.unwrap();
        assert_eq!(read_savepoint(&stores, &directory).await.unwrap(), written);

        let moved = format!("{}/elsewhere", base.path().display());
        std::fs::rename(base.path().join("all/savepoint-001122-aabbccddeeff"), &moved).unwrap();
        let read = read_savepoint(&stores, &format!("{moved}/_metadata")).await.unwrap();
        let object = &read.vertices[0].subtasks[0].keyed.as_ref().unwrap().files[0].handle.as_ref().unwrap().object;
        assert_eq!(*object, format!("{moved}/1-a.sst"));
        std::fs::rename(&moved, base.path().join("all/savepoint-001122-aabbccddeeff")).unwrap();

        let listed = list_savepoints(&stores, &folder).await.unwrap();
        assert_eq!(listed, [(directory.clone(), written)]);
        dispose_savepoint(&stores, &directory).await.unwrap();
        assert!(matches!(dispose_savepoint(&stores, &directory).await, Err(StateError::NotFound(_))));
        assert!(!base.path().join("all/savepoint-001122-aabbccddeeff").exists());

        let store = CheckpointStore::new(Arc::new(ObjectStores::default()), &folder, JOB);
        let (chk, _) = store.write_metadata(&metadata(4, &[])).await.unwrap();
        let refused = dispose_savepoint(&stores, &chk).await.unwrap_err();
        assert!(refused.to_string().contains("is a checkpoint"), "{refused}");
    });
}

#[test]
fn empty_checkpoint_directories_of_a_file_system_go_too() {
    let directory = tempfile::tempdir().unwrap();
    let stores = Arc::new(ObjectStores::default());
    run(async {
        let store = CheckpointStore::new(stores.clone(), &format!("file://{}", directory.path().display()), JOB);
        two_checkpoints(&stores, &store).await;
        store.discard(&[1], &[2]).await.unwrap();
        assert!(!directory.path().join(JOB).join("chk-1").exists());
        store.delete_job().await.unwrap();
        assert!(!directory.path().join(JOB).exists());
    });
}
