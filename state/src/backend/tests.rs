mod small;
mod write_back;

use super::*;
use crate::encoding::{key_group_range_bounds, put_prefix};
use crate::error::StateError;

const MAX_PARALLELISM: u32 = 128;

struct Fixture {
    directory: tempfile::TempDir,
    stores: Arc<ObjectStores>,
    rocks: Arc<SharedRocks>,
    local: Option<Arc<LocalStateStore>>,
    attempts: std::cell::Cell<u32>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Fixture {
            local: Some(Arc::new(LocalStateStore::open(directory.path()).unwrap())),
            directory,
            stores: Arc::new(ObjectStores::default()),
            rocks: Arc::new(SharedRocks::new(SharedRocksConfig {
                cache_bytes: 8 << 20,
                write_buffer_bytes: 4 << 20,
                background_threads: 1,
                ..SharedRocksConfig::default()
            })),
            attempts: std::cell::Cell::new(0),
        }
    }

    fn without_local_recovery() -> Self {
        Fixture { local: None, ..Fixture::new() }
    }

    /// A new attempt of a subtask.
    fn open(
        &self,
        subtask: u32,
        key_groups: (u32, u32),
        checkpoint: u64,
        restore: &[v1::KeyedSnapshot],
    ) -> Result<KeyedBackend> {
        KeyedBackend::open(self.config(subtask, key_groups, checkpoint, restore))
    }

    fn config(
        &self,
        subtask: u32,
        key_groups: (u32, u32),
        checkpoint: u64,
        restore: &[v1::KeyedSnapshot],
    ) -> BackendConfig {
        let attempt = self.attempts.get();
        self.attempts.set(attempt + 1);
        BackendConfig {
            directory: self.directory.path().join(format!("live-{attempt}")),
            key_groups,
            max_parallelism: MAX_PARALLELISM,
            task: TaskName { job_id: "a1".repeat(16), vertex_id: "agg".into(), subtask, attempt },
            rocks: self.rocks.clone(),
            memory: MemoryPool::unlimited(),
            inline_bytes: 0,
            stores: self.stores.clone(),
            local: self.local.clone(),
            restore_checkpoint: checkpoint,
            restore: restore.to_vec(),
        }
    }

    fn target(&self, checkpoint: u64) -> SnapshotTarget {
        SnapshotTarget::checkpoint(&self.job_directory(), checkpoint)
    }

    fn job_directory(&self) -> String {
        "memory://checkpoints/job".to_owned()
    }

    fn objects(&self) -> Vec<String> {
        self.stores.blocking().list("memory://checkpoints").unwrap().into_iter().map(|o| o.uri).collect()
    }
}

fn cell(name: &str) -> CellDeclaration {
    CellDeclaration {
        name: name.into(),
        kind: CellKind::Point,
        key_schema: "BIGINT".into(),
        value_schema: "n BIGINT".into(),
        schema_version: 1,
    }
}

fn key(group: u32, table: TableId, n: u64) -> Vec<u8> {
    let mut key = Vec::new();
    put_prefix(group, table, &mut key);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// Values that do not compress.
fn value(group: u32, n: u64) -> Vec<u8> {
    (0..13).flat_map(|i| crate::hash::hash_i64(i, n << 16 | u64::from(group)).to_le_bytes()).collect()
}

/// Writes rows `n` of every key group of the range.
fn puts(groups: (u32, u32), table: TableId, rows: std::ops::Range<u64>) -> FrozenCell {
    Box::new(move |writer| {
        for group in groups.0..=groups.1 {
            for n in rows.clone() {
                writer.put(&key(group, table, n), &value(group, n))?;
            }
        }
        Ok(())
    })
}

fn all_keys(backend: &KeyedBackend) -> Vec<Vec<u8>> {
    let (from, to) = key_group_range_bounds(0, MAX_PARALLELISM - 1);
    backend.scan(&from, &to, usize::MAX).unwrap().into_iter().map(|(k, _)| k).collect()
}

fn expected_keys(groups: (u32, u32), table: TableId, rows: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    (groups.0..=groups.1).flat_map(|g| rows.clone().map(move |n| key(g, table, n))).collect()
}

#[test]
fn a_task_without_cells_costs_nothing() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    assert_eq!(backend.snapshot(1, vec![], &fixture.target(1)).unwrap(), None);
    let snapshot = {
        backend.register("op", &cell("c")).unwrap();
        backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap()
    };
    assert_eq!((snapshot.files.len(), snapshot.tables.len()), (0, 1));
    assert!(!fixture.directory.path().join("live-0").exists());
    assert!(!backend.restored());
    assert_eq!(fixture.objects(), Vec::<String>::new());
}

#[test]
fn what_was_written_back_is_read() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    assert_eq!(backend.multi_get(&[key(1, table, 1)]).unwrap(), vec![None]);
    backend.snapshot(1, vec![puts((1, 2), table, 0..3)], &fixture.target(1)).unwrap();
    let deletes: FrozenCell = Box::new(move |writer| {
        writer.delete(&key(1, table, 1))?;
        writer.delete_range(&key(2, table, 1), &key(2, table, 3))
    });
    backend.snapshot(2, vec![deletes], &fixture.target(2)).unwrap();
    assert_eq!(all_keys(&backend), vec![key(1, table, 0), key(1, table, 2), key(2, table, 0)]);
    assert_eq!(
        backend.multi_get(&[key(1, table, 2), key(1, table, 1), key(2, table, 0)]).unwrap(),
        vec![Some(value(1, 2)), None, Some(value(2, 0))]
    );
    let (from, to) = (key(1, table, 0), key(1, table, 2));
    assert_eq!(backend.scan(&from, &to, 10).unwrap(), vec![(key(1, table, 0), value(1, 0))]);
    assert_eq!(backend.scan(&from, &key(3, table, 0), 1).unwrap().len(), 1);
    drop(backend);
    assert!(!fixture.directory.path().join("live-0").exists(), "the live directory goes with the backend");
}

#[test]
fn a_restore_takes_local_files_and_a_second_one_without_them_reads_objects() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let snapshot = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    backend.confirm(1);
    drop(backend);
    assert!(snapshot.uploaded_bytes > 200_000 && snapshot.total_bytes >= snapshot.uploaded_bytes);

    let local = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(all_keys(&local), expected_keys((0, 127), table, 0..20));
    assert!(local.restored());
    let report = local.restore_report();
    assert_eq!((report.checkpoint_id, report.remote_files, report.remote_bytes), (1, 0, 0));
    assert_eq!((report.local_files, report.local_bytes), (1, snapshot.uploaded_bytes));
    assert_eq!(local.register("op", &cell("c")).unwrap(), table);
    drop(local);

    std::fs::remove_dir_all(fixture.directory.path().join("localState")).unwrap();
    let remote = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(all_keys(&remote), expected_keys((0, 127), table, 0..20));
    let report = remote.restore_report();
    assert_eq!((report.local_files, report.remote_files, report.remote_bytes), (0, 1, snapshot.uploaded_bytes));
}

#[test]
fn a_damaged_local_file_is_replaced_from_object_storage() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let snapshot = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    drop(backend);
    let inventory = fixture.local.as_ref().unwrap().inventory();
    assert_eq!((inventory[0].checkpoint_id, inventory[0].key_group_end), (1, 127));
    let database = fixture.directory.path().join(format!("localState/{}/agg-0/chk-1/db", "a1".repeat(16)));
    let sst = snapshot.files.iter().find(|f| f.shared).unwrap();
    let path = database.join(&sst.name);
    let content = std::fs::read(&path).unwrap();
    std::fs::write(&path, &content[..content.len() - 1]).unwrap();

    let restored = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(restored.restore_report().remote_files, 1);
    assert_eq!(all_keys(&restored), expected_keys((0, 127), table, 0..20));
}

#[test]
fn a_local_file_with_wrong_bytes_never_enters_a_new_checkpoint() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let snapshot = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    drop(backend);
    let database = fixture.directory.path().join(format!("localState/{}/agg-0/chk-1/db", "a1".repeat(16)));
    let sst = snapshot.files.iter().find(|f| f.shared).unwrap();
    let path = database.join(&sst.name);
    let mut content = std::fs::read(&path).unwrap();
    content[5000] ^= 1;
    std::fs::write(&path, content).unwrap();

    let restored = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(restored.restore_report().local_files, 1, "size and footer are right");
    let error = restored.snapshot(2, vec![], &fixture.target(2)).unwrap_err();
    assert!(error.to_string().contains("the local disk is damaged"), "{error}");
    drop(restored);
    let again = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(again.restore_report().remote_files, 1, "the damaged copy is gone");
    again.snapshot(2, vec![], &fixture.target(2)).unwrap();
}

#[test]
fn only_files_of_confirmed_checkpoints_are_reused() {
    let fixture = Fixture::without_local_recovery();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let first = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    let unconfirmed = backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    assert_eq!(unconfirmed.uploaded_bytes, first.uploaded_bytes);
    backend.confirm(2);
    let third = backend.snapshot(3, vec![puts((7, 7), table, 100..300)], &fixture.target(3)).unwrap().unwrap();
    assert!(third.uploaded_bytes > 0 && third.uploaded_bytes < first.uploaded_bytes / 5);
    let objects = |s: &v1::KeyedSnapshot| -> BTreeSet<String> {
        s.files.iter().filter_map(|f| f.handle.clone()).map(|h| h.object).filter(|o| !o.is_empty()).collect()
    };
    assert!(objects(&unconfirmed).is_subset(&objects(&third)));
    assert!(objects(&first).is_disjoint(&objects(&third)));
    let restored = fixture.open(0, (0, 127), 3, &[third]).unwrap();
    let fourth = restored.snapshot(4, vec![], &fixture.target(4)).unwrap().unwrap();
    assert_eq!(fourth.uploaded_bytes, 0, "a restored checkpoint is complete");
    assert_eq!(all_keys(&restored).len(), 128 * 20 + 200);
}

#[test]
fn a_savepoint_refers_to_no_other_directory() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    backend.confirm(1);
    let directory = "memory://checkpoints/savepoint-1";
    let savepoint = backend.snapshot(2, vec![], &SnapshotTarget::savepoint(directory)).unwrap().unwrap();
    let handles = savepoint.files.iter().filter_map(|f| f.handle.clone()).filter(|h| !h.object.is_empty());
    assert!(handles.clone().count() > 0 && handles.clone().all(|h| h.object.starts_with(directory)));
    // A job that starts from it uploads everything to its own directory once.
    let restored = fixture.open(0, (0, 127), 2, std::slice::from_ref(&savepoint)).unwrap();
    let next = restored.snapshot(3, vec![], &fixture.target(3)).unwrap().unwrap();
    assert_eq!(next.uploaded_bytes, savepoint.uploaded_bytes);
}

#[test]
fn an_aborted_checkpoint_is_written_back_but_not_uploaded() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    backend.abort(1);
    let error = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap_err();
    assert!(matches!(error, StateError::Aborted(_)), "{error}");
    assert_eq!(fixture.objects(), Vec::<String>::new());
    assert_eq!(all_keys(&backend), expected_keys((0, 127), table, 0..20));
    let next = backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    let restored = fixture.open(0, (0, 127), 2, &[next]).unwrap();
    assert_eq!(all_keys(&restored), expected_keys((0, 127), table, 0..20));
    assert_eq!(fixture.local.as_ref().unwrap().inventory().len(), 1);
}

#[test]
fn local_copies_stay_until_a_later_checkpoint_completes() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let kept = || -> Vec<u64> { fixture.local.as_ref().unwrap().inventory().iter().map(|l| l.checkpoint_id).collect() };
    let snapshot = |id| {
        let rows = puts((0, 127), table, id..id + 1);
        backend.snapshot(id, vec![rows], &fixture.target(id)).unwrap().unwrap()
    };
    snapshot(1);
    backend.confirm(1);
    snapshot(2);
    assert_eq!(kept(), vec![1, 2], "checkpoint 2 may still fail");
    backend.confirm(2);
    let last = snapshot(3);
    assert_eq!(kept(), vec![2, 3]);
    drop(backend);
    // The job restores 3: it had completed although the task was never told.
    let restored = fixture.open(0, (0, 127), 3, &[last]).unwrap();
    assert_eq!(kept(), vec![3]);
    assert_eq!(restored.restore_report().remote_files, 0);
}

#[test]
fn a_failed_write_back_breaks_the_backend_and_a_failed_upload_does_not() {
    let fixture = Fixture::without_local_recovery();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let unusable = SnapshotTarget::checkpoint("/proc/no/such/place", 1);
    let error = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &unusable).unwrap_err();
    assert!(!matches!(error, StateError::Database(_)), "{error}");
    assert!(backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap().uploaded_bytes > 0);
    let failing: FrozenCell = Box::new(|_| Err(StateError::Corrupt("cannot encode".into())));
    let error = backend.snapshot(3, vec![failing], &fixture.target(3)).unwrap_err();
    assert!(matches!(&error, StateError::Database(m) if m.contains("cannot encode")), "{error}");
    assert!(matches!(backend.snapshot(4, vec![], &fixture.target(4)), Err(StateError::Database(_))));
}

#[test]
fn a_checkpoint_that_cannot_be_linked_is_declined_and_the_next_succeeds() {
    let fixture = Fixture::without_local_recovery();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let in_the_way = fixture.directory.path().join("live-0.chk-1");
    std::fs::write(&in_the_way, b"x").unwrap();
    let error = backend.snapshot(1, vec![puts((0, 127), table, 0..1)], &fixture.target(1)).unwrap_err();
    assert!(matches!(&error, StateError::Storage(m) if m.contains("cannot link the files of checkpoint 1")), "{error}");
    backend.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    assert_eq!(all_keys(&backend), expected_keys((0, 127), table, 0..1));
}

#[test]
fn a_changed_declaration_is_refused_with_both_shown() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    assert_eq!(backend.register("op", &cell("a")).unwrap(), 0);
    assert_eq!(backend.register("op", &cell("b")).unwrap(), 1);
    let snapshot = backend.snapshot(1, vec![], &fixture.target(1)).unwrap().unwrap();
    let restored = fixture.open(0, (0, 127), 1, &[snapshot]).unwrap();
    assert!(!restored.restored(), "there are cells but no entries");
    // Another order of registration, a cell more, one changed.
    assert_eq!(restored.register("op", &cell("c")).unwrap(), 2);
    assert_eq!(restored.register("op", &cell("b")).unwrap(), 1);
    let changed = CellDeclaration { value_schema: "n INT".into(), ..cell("a") };
    assert_eq!(
        restored.register("op", &changed).unwrap_err().to_string(),
        "state cell 'a' of operator 'op' does not fit the restored state: the checkpoint has key (BIGINT), value (n \
         BIGINT), version 1, the job declares key (BIGINT), value (n INT), version 1; give the operator another uid \
         to start it without state"
    );
}

/// Takes the state of `from` subtasks over by `to` subtasks, and checks what each has.
fn check_rescale(from: u32, to: u32) {
    use hurtig_graph::key_groups::key_group_range;
    let fixture = Fixture::new();
    let mut snapshots = Vec::new();
    for subtask in 0..from {
        let range = key_group_range(MAX_PARALLELISM, from, subtask).unwrap();
        let backend = fixture.open(subtask, range, 0, &[]).unwrap();
        let table = backend.register("op", &cell("c")).unwrap();
        snapshots.push(backend.snapshot(1, vec![puts(range, table, 0..5)], &fixture.target(1)).unwrap().unwrap());
    }
    let mut again = Vec::new();
    for subtask in 0..to {
        let range = key_group_range(MAX_PARALLELISM, to, subtask).unwrap();
        let backend = fixture.open(subtask, range, 1, &snapshots).unwrap();
        assert_eq!(all_keys(&backend), expected_keys(range, 0, 0..5), "{from} -> {to}, subtask {subtask}");
        again.push(backend.snapshot(2, vec![puts(range, 0, 5..6)], &fixture.target(2)).unwrap().unwrap());
    }
    // And back: what was outside of a range must not come to light again.
    for subtask in 0..from {
        let range = key_group_range(MAX_PARALLELISM, from, subtask).unwrap();
        let backend = fixture.open(subtask, range, 2, &again).unwrap();
        assert_eq!(all_keys(&backend), expected_keys(range, 0, 0..6), "{to} -> {from}, subtask {subtask}");
    }
}

#[test]
fn key_groups_move_to_more_subtasks_and_back() {
    check_rescale(1, 3);
    check_rescale(2, 3);
}

#[test]
fn key_groups_move_to_fewer_subtasks_and_back() {
    check_rescale(4, 1);
    check_rescale(3, 2);
}

#[test]
fn donors_with_other_table_numbers_are_renumbered() {
    let fixture = Fixture::new();
    let mut snapshots = Vec::new();
    for (subtask, order) in [["a", "b"], ["b", "a"]].into_iter().enumerate() {
        let range = if subtask == 0 { (0, 63) } else { (64, 127) };
        let backend = fixture.open(subtask as u32, range, 0, &[]).unwrap();
        for name in order {
            backend.register("op", &cell(name)).unwrap();
        }
        let (a, b) = (backend.register("op", &cell("a")).unwrap(), backend.register("op", &cell("b")).unwrap());
        let frozen = vec![puts(range, a, 10..12), puts(range, b, 20..25)];
        snapshots.push(backend.snapshot(1, frozen, &fixture.target(1)).unwrap().unwrap());
    }
    let backend = fixture.open(0, (0, 127), 1, &snapshots).unwrap();
    let (a, b) = (backend.register("op", &cell("a")).unwrap(), backend.register("op", &cell("b")).unwrap());
    let mut expected = expected_keys((0, 127), a, 10..12);
    expected.extend(expected_keys((0, 127), b, 20..25));
    expected.sort();
    assert_eq!(all_keys(&backend), expected);
}

/// As for a task whose chain holds some of the operators of an older one.
#[test]
fn tables_that_are_dropped_leave_nothing_behind_their_numbers() {
    let fixture = Fixture::without_local_recovery();
    let mut snapshots = Vec::new();
    for (subtask, range) in [(0, 63), (64, 127)].into_iter().enumerate() {
        let backend = fixture.open(subtask as u32, range, 0, &[]).unwrap();
        let (a, b) = (backend.register("op", &cell("a")).unwrap(), backend.register("gone", &cell("b")).unwrap());
        let frozen = vec![puts(range, a, 0..3), puts(range, b, 0..9)];
        let mut snapshot = backend.snapshot(1, frozen, &fixture.target(1)).unwrap().unwrap();
        (snapshot.tables, snapshot.dropped) =
            std::mem::take(&mut snapshot.tables).into_iter().partition(|table| table.operator_uid == "op");
        snapshots.push(snapshot);
    }
    let backend = fixture.open(0, (0, 127), 1, &snapshots).unwrap();
    let (a, new) = (backend.register("op", &cell("a")).unwrap(), backend.register("gone", &cell("b")).unwrap());
    assert_ne!(a, new);
    assert_eq!(all_keys(&backend), expected_keys((0, 127), a, 0..3));
    let next = backend.snapshot(2, vec![puts((0, 127), new, 5..6)], &fixture.target(2)).unwrap().unwrap();
    assert!(next.dropped.is_empty());
    assert_eq!(all_keys(&backend).len(), 128 * 4);
}

/// As of a savepoint that the job does not own.
#[test]
fn files_that_are_not_shared_are_uploaded_again() {
    let fixture = Fixture::without_local_recovery();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let mut first = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    first.files.iter_mut().for_each(|file| file.shared = false);
    let restored = fixture.open(0, (0, 127), 1, std::slice::from_ref(&first)).unwrap();
    let next = restored.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    assert_eq!(next.uploaded_bytes, first.uploaded_bytes);
}

#[test]
fn object_storage_that_lost_a_file_gives_a_clear_error() {
    let fixture = Fixture::without_local_recovery();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let mut snapshot = backend.snapshot(1, vec![puts((0, 127), table, 0..20)], &fixture.target(1)).unwrap().unwrap();
    let object = fixture.objects().pop().unwrap();
    let stored = fixture.stores.blocking().get(&object).unwrap();
    let mut damaged = stored.to_vec();
    damaged[100] ^= 1;
    fixture.stores.blocking().put(&object, damaged.into()).unwrap();
    let error = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "'{object}' is not what the checkpoint says: its hash differs; restore an earlier checkpoint or a savepoint"
        )
    );
    fixture.stores.blocking().delete(&object).unwrap();
    let error = fixture.open(0, (0, 127), 1, std::slice::from_ref(&snapshot)).err().unwrap();
    assert_eq!(error.to_string(), format!("cannot read '{object}': it does not exist"));
    snapshot.files[0].name = "../evil".into();
    assert!(matches!(fixture.open(0, (0, 127), 1, &[snapshot]), Err(StateError::Corrupt(_))));
}

#[test]
fn a_detached_backend_is_empty() {
    let backend = KeyedBackend::detached((0, 127), 128);
    let table = backend.register("op", &cell("c")).unwrap();
    assert_eq!(backend.multi_get(&[key(0, table, 1)]).unwrap(), vec![None]);
    let error =
        backend.snapshot(1, vec![puts((0, 0), table, 0..1)], &SnapshotTarget::savepoint("memory://x")).unwrap_err();
    assert!(error.to_string().contains("made without a task manager"), "{error}");
}
