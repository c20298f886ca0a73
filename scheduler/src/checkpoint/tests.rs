//! What the coordinator asks of the store when it is not alone.

use std::collections::BTreeSet;

use hurtig_graph::config::Configuration;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;

use super::*;
use crate::settings::JobSettings;
use crate::storage::memory::{MEMORY_DIRECTORY, MemoryStore};

struct Fixture {
    coordinator: CheckpointCoordinator,
    store: MemoryStore,
    /// All calls, in order.
    requests: Vec<StorageRequest>,
    now: i64,
}

impl Fixture {
    /// A coordinator that has opened the checkpoints in `store`.
    fn open(leader: &str, store: MemoryStore) -> Fixture {
        Self::with(leader, store, &[])
    }

    /// The same with settings.
    fn with(leader: &str, store: MemoryStore, pairs: &[(&str, &str)]) -> Fixture {
        let (fixture, others) = Self::try_open(leader, store, pairs);
        assert!(matches!(others[..], [CheckpointAction::Opened]), "{others:?}");
        fixture
    }

    fn try_open(leader: &str, store: MemoryStore, pairs: &[(&str, &str)]) -> (Fixture, Vec<CheckpointAction>) {
        let mut configuration = Configuration::default();
        configuration.set("execution.checkpointing.interval", "10 s");
        pairs.iter().for_each(|(key, value)| configuration.set(*key, *value));
        let settings = JobSettings::read(&configuration).unwrap().checkpoints;
        let (job, directory) = (JobId::from_u128(1), MEMORY_DIRECTORY.to_owned());
        let coordinator = CheckpointCoordinator::new(job, "job".into(), leader.to_owned(), settings, directory);
        let mut fixture = Fixture { coordinator, store, requests: Vec::new(), now: 0 };
        fixture.coordinator.open(0);
        let others = fixture.answer();
        (fixture, others)
    }

    /// A whole checkpoint of one task with these files.
    fn checkpoint(&mut self, files: &[&str]) -> u64 {
        self.now += 20_000;
        let id = self.begin();
        self.coordinator.acknowledge(0, id, snapshots(files), 0);
        let others = self.answer();
        assert!(others.iter().any(|a| matches!(a, CheckpointAction::Completed { .. })), "{others:?}");
        id
    }

    /// A whole savepoint.
    fn savepoint(&mut self, stop: StopMode) -> Vec<CheckpointAction> {
        let wish = SavepointWish { request: 5, target: Some("memory://s".into()), nonce: "n".into(), stop };
        self.coordinator.start(self.now, 1_000_000);
        self.coordinator.savepoint(wish, self.now);
        let others = self.answer();
        let [CheckpointAction::Trigger(trigger)] = &others[..] else { panic!("{others:?}") };
        let (trigger, id) = (trigger.clone(), trigger.id);
        self.coordinator.begin(trigger, plan());
        self.coordinator.acknowledge(0, id, v1::SubtaskSnapshot::default(), 0);
        self.answer()
    }

    /// Lets the store answer until the coordinator wants nothing more of it; gives what else it wants.
    fn answer(&mut self) -> Vec<CheckpointAction> {
        let mut others = Vec::new();
        while self.coordinator.has_actions() {
            for action in self.coordinator.take_actions() {
                let CheckpointAction::Storage { ticket, request } = action else {
                    others.push(action);
                    continue;
                };
                let reply = self.store.apply(&request);
                self.requests.push(request);
                self.coordinator.on_reply(ticket, reply, self.now);
            }
        }
        others
    }

    /// Starts a checkpoint of one task, which is not awaited by anyone else.
    fn begin(&mut self) -> u64 {
        self.coordinator.start(self.now, 0);
        let others = self.answer();
        let [CheckpointAction::Trigger(trigger)] = &others[..] else { panic!("{others:?}") };
        self.coordinator.begin(trigger.clone(), plan());
        trigger.id
    }

    fn deletes(&self) -> Vec<&StorageRequest> {
        self.requests.iter().filter(|r| matches!(r, StorageRequest::Delete { .. })).collect()
    }
}

fn plan() -> CheckpointPlan {
    let (name, operators) = ("v".into(), Vec::new());
    let shape = VertexShape { id: "v".into(), parallelism: 1, max_parallelism: 128, name, operators };
    CheckpointPlan { vertices: vec![shape], awaited: BTreeSet::from([0]), coordinators: Vec::new() }
}

fn snapshot(name: &str) -> v1::SubtaskSnapshot {
    snapshots(&[name])
}

fn snapshots(names: &[&str]) -> v1::SubtaskSnapshot {
    let handle =
        |name: &&str| v1::FileHandle { object: format!("{MEMORY_DIRECTORY}/shared/{name}"), ..Default::default() };
    let files =
        names.iter().map(|name| v1::StateFile { handle: Some(handle(name)), shared: true, ..Default::default() });
    let files = files.collect();
    v1::SubtaskSnapshot { keyed: Some(v1::KeyedSnapshot { files, ..Default::default() }), ..Default::default() }
}

/// HEAD may have named the checkpoint, and the JobManager that took over may have restored it.
#[test]
fn a_deposed_leader_deletes_nothing() {
    let mut fixture = Fixture::open("a", MemoryStore::default());
    let id = fixture.begin();
    let (head, version) = fixture.store.head.clone().unwrap();
    let usurper = v1::Head { leader_id: "b".into(), epoch: head.epoch + 1, ..head };
    let expected = Some(crate::storage::Version(version.to_string()));
    fixture.store.apply(&StorageRequest::SwapHead { head: usurper, expected });
    fixture.coordinator.acknowledge(0, id, snapshot("1-a"), 0);
    let others = fixture.answer();
    assert!(others.iter().any(|a| matches!(a, CheckpointAction::Deposed)), "{others:?}");
    assert!(others.iter().any(|a| matches!(a, CheckpointAction::Aborted { .. })), "{others:?}");
    fixture.coordinator.discard(&snapshot("1-b"));
    fixture.coordinator.end("FAILED");
    fixture.answer();
    assert!(fixture.deletes().is_empty(), "{:?}", fixture.deletes());
}

#[test]
fn who_takes_a_running_job_over_sweeps_up_before_its_first_checkpoint() {
    let mut first = Fixture::open("a", MemoryStore::default());
    let id = first.begin();
    first.coordinator.acknowledge(0, id, snapshot("1-a"), 0);
    first.answer();
    assert!(!first.requests.iter().any(|r| matches!(r, StorageRequest::Sweep { .. })), "there was nothing before");
    let reserved = first.store.head.as_ref().unwrap().0.next_checkpoint_id;

    let mut second = Fixture::open("b", first.store.clone());
    assert_eq!(second.requests.last(), Some(&StorageRequest::Sweep { ids: 1..reserved, kept: vec![id] }));
    assert!(second.begin() >= reserved, "nothing of its own is swept");

    // What a run that has ended retains is its user's.
    first.coordinator.end("FAILED");
    first.answer();
    let third = Fixture::open("c", first.store);
    assert!(!third.requests.iter().any(|r| matches!(r, StorageRequest::Sweep { .. })));
}

const PATH: &str = "execution.state-recovery.path";
const CLAIM: (&str, &str) = ("execution.state-recovery.claim-mode", "CLAIM");

/// A store with a run that has ended and its last checkpoint, 1.
fn ended_run() -> MemoryStore {
    let retain = ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
    let mut first = Fixture::with("a", MemoryStore::default(), &[retain]);
    assert_eq!(first.checkpoint(&["1-a", "1-b"]), 1);
    first.coordinator.end("CANCELED");
    first.answer();
    first.store
}

fn chk(id: u64) -> String {
    format!("{MEMORY_DIRECTORY}/chk-{id}")
}

#[test]
fn a_job_that_does_not_claim_what_it_starts_from_restores_it_and_leaves_it() {
    let path = chk(1);
    let mut second = Fixture::with("b", ended_run(), &[(PATH, &path)]);
    let latest = second.coordinator.latest().unwrap();
    assert_eq!(latest.id, 1);
    let files = &latest.metadata.vertices[0].subtasks[0].keyed.as_ref().unwrap().files;
    assert!(files.iter().all(|file| !file.shared), "no later checkpoint may refer to them");
    assert!(second.store.head.as_ref().unwrap().0.retained.is_empty());
    // Its JobManager is lost before its first checkpoint.
    let mut third = Fixture::with("c", second.store.clone(), &[(PATH, &path)]);
    assert_eq!(third.coordinator.latest().map(|l| l.id), Some(1));
    let own = third.checkpoint(&["9-c"]);
    third.checkpoint(&["9-c"]);
    third.coordinator.end("FINISHED");
    third.answer();
    let gone = |store: &MemoryStore, name: &str| store.deleted.iter().any(|object| object.ends_with(name));
    assert!(gone(&third.store, "9-c") && !gone(&third.store, "1-a"), "{:?}", third.store.deleted);
    assert!(third.store.metadata.contains_key(&format!("{path}/_metadata")));
    assert!(own > 1);
    // Or after it: then that is restored, whether or not the savepoint is still there.
    second.checkpoint(&["9-d"]);
    second.store.metadata.remove(&format!("{path}/_metadata"));
    let fourth = Fixture::with("d", second.store.clone(), &[(PATH, &path)]);
    assert_eq!(fourth.coordinator.latest().map(|l| l.id), Some(second.coordinator.latest().unwrap().id));
    let swept = fourth.requests.iter().find_map(|r| match r {
        StorageRequest::Sweep { ids, .. } => Some(ids.clone()),
        _ => None,
    });
    assert!(swept.is_some_and(|ids| !ids.contains(&1)), "what the first run retained is not swept");
}

#[test]
fn what_a_job_claims_is_its_own_and_goes_when_it_is_subsumed() {
    let path = chk(1) + "/_metadata";
    let mut second = Fixture::with("b", ended_run(), &[(PATH, &path), CLAIM]);
    assert_eq!(second.store.head.as_ref().unwrap().0.retained.len(), 1);
    // After a takeover as well.
    second = Fixture::with("c", second.store.clone(), &[(PATH, &path), CLAIM]);
    assert_eq!(second.coordinator.latest().map(|l| (l.id, l.claimed)), Some((1, true)));
    second.checkpoint(&["1-b", "9-c"]);
    second.checkpoint(&["1-b", "9-d"]);
    let gone: Vec<_> = second.store.deleted.iter().map(|object| object.rsplit('/').next().unwrap()).collect();
    assert!(gone.contains(&"1-a") && gone.contains(&"_metadata"), "{gone:?}");
    assert!(!gone.contains(&"1-b"), "a checkpoint refers to it: {gone:?}");
}

#[test]
fn what_a_claimed_checkpoint_shares_with_others_of_its_job_stays() {
    let settings = [
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
        ("execution.checkpointing.num-retained", "2"),
    ];
    let mut first = Fixture::with("a", MemoryStore::default(), &settings);
    assert_eq!((first.checkpoint(&["1-a", "1-b"]), first.checkpoint(&["1-b", "2-c"])), (1, 2));
    first.coordinator.end("CANCELED");
    first.answer();
    let path = chk(1);
    let mut second = Fixture::with("b", first.store, &[(PATH, &path), CLAIM]);
    // After a takeover as well.
    second = Fixture::with("c", second.store.clone(), &[(PATH, &path), CLAIM]);
    for file in ["9-d", "9-e", "9-f"] {
        second.checkpoint(&[file]);
    }
    let gone: Vec<_> = second.store.deleted.iter().map(|object| object.rsplit('/').next().unwrap()).collect();
    assert!(gone.contains(&"1-a") && gone.contains(&"9-d"), "{gone:?}");
    assert!(!gone.contains(&"1-b"), "checkpoint 2, which is not claimed, refers to it: {gone:?}");
}

#[test]
fn another_path_is_another_run_and_nothing_is_left_of_the_old_one() {
    let mut first = Fixture::open("a", ended_run());
    let id = first.checkpoint(&["7-x"]);
    let path = chk(1);
    let second = Fixture::with("b", first.store.clone(), &[(PATH, &path)]);
    assert_eq!(second.coordinator.latest().map(|l| l.id), Some(1), "not {id}");
    let (_, others) = Fixture::try_open("c", first.store, &[(PATH, "memory://nowhere")]);
    assert!(matches!(&others[..], [CheckpointAction::OpenFailed(StorageError::NotFound(_))]), "{others:?}");
}

#[test]
fn a_checkpoint_without_usable_metadata_is_struck_from_head_if_that_is_allowed() {
    let two = ("execution.checkpointing.num-retained", "2");
    let fall_back = ("hurtig.recovery.fall-back-to-earlier-checkpoint", "true");
    let mut first = Fixture::with("a", MemoryStore::default(), &[two]);
    let (older, newer) = (first.checkpoint(&["1-a"]), first.checkpoint(&["1-a", "2-b"]));
    let mut store = first.store.clone();
    store.metadata.remove(&format!("{}/_metadata", chk(newer))).expect("it was there");

    let (_, others) = Fixture::try_open("b", store.clone(), &[two]);
    let [CheckpointAction::OpenFailed(error)] = &others[..] else { panic!("{others:?}") };
    assert!(error.to_string().contains("fall-back-to-earlier-checkpoint"), "{error}");

    let mut second = Fixture::with("b", store, &[two, fall_back]);
    assert_eq!(second.coordinator.latest().map(|l| l.id), Some(older));
    let named = |f: &Fixture| -> Vec<u64> {
        f.store.head.as_ref().unwrap().0.retained.iter().map(|entry| entry.checkpoint_id).collect()
    };
    assert_eq!(named(&second), [older], "a successor does not try it again");
    assert_eq!(second.coordinator.files.retained().len(), 1);
    let next = second.checkpoint(&["1-a", "9-c"]);
    assert!(next > newer, "its number is not given out again");
    assert_eq!(named(&second), [older, next]);
    // The only one there is cannot be done without.
    let mut store = second.store.clone();
    store.metadata.clear();
    let (_, others) = Fixture::try_open("c", store, &[two, fall_back]);
    assert!(matches!(&others[..], [CheckpointAction::OpenFailed(_)]), "{others:?}");
}

#[test]
fn a_job_that_was_stopped_with_a_savepoint_never_runs_again() {
    let mut first = Fixture::open("a", MemoryStore::default());
    let others = first.savepoint(StopMode::Suspend);
    assert!(
        matches!(&others[..], [CheckpointAction::Stopped { path, .. }] if path.starts_with("memory://s/savepoint-"))
    );
    first.coordinator.tick(1_000_000_000);
    assert!(first.answer().is_empty(), "there are no more checkpoints");
    let (_, others) = Fixture::try_open("b", first.store.clone(), &[]);
    let [CheckpointAction::OpenFailed(error)] = &others[..] else { panic!("{others:?}") };
    assert!(error.to_string().contains("was stopped with savepoint memory://s/savepoint-"), "{error}");
    first.coordinator.end("FINISHED");
    first.answer();
    let again = Fixture::open("c", first.store);
    assert!(again.coordinator.latest().is_none(), "a new run of the same id begins anew");
}

#[test]
fn a_savepoint_that_fails_leaves_nothing() {
    let mut fixture = Fixture::open("a", MemoryStore::default());
    let wish =
        SavepointWish { request: 5, target: Some("memory://s/".into()), nonce: "n".into(), stop: StopMode::None };
    fixture.coordinator.start(0, 1_000_000);
    fixture.coordinator.savepoint(wish, 0);
    let others = fixture.answer();
    let [CheckpointAction::Trigger(trigger)] = &others[..] else { panic!("{others:?}") };
    let id = trigger.id;
    fixture.coordinator.begin(trigger.clone(), plan());
    fixture.coordinator.decline(id, "k (1/1)", "the disk is full", 0);
    let others = fixture.answer();
    let failed = others.iter().any(|a| matches!(a, CheckpointAction::SavepointDone { result: Err(_), .. }));
    assert!(failed, "{others:?}");
    assert_eq!(fixture.coordinator.failures_in_row, 0, "it does not count");
    let folder = "memory://s/savepoint-000000-n".to_owned();
    assert_eq!(fixture.deletes().last(), None);
    assert_eq!(fixture.requests.last(), Some(&StorageRequest::DeleteFolder { folder: folder.clone() }));
    // What a slow task has uploaded goes when it is acknowledged.
    let handle = v1::FileHandle { object: format!("{folder}/1-x.sst"), ..Default::default() };
    let files = vec![v1::StateFile { handle: Some(handle), ..Default::default() }];
    let late =
        v1::SubtaskSnapshot { keyed: Some(v1::KeyedSnapshot { files, ..Default::default() }), ..Default::default() };
    fixture.coordinator.acknowledge(0, id, late, 0);
    fixture.answer();
    assert_eq!(fixture.deletes().len(), 1);
}
