//! What the coordinator asks of the store when it is not alone.

use std::collections::BTreeSet;

use hurtig_graph::config::Configuration;
use hurtig_graph::ids::JobId;
use hurtig_proto::v1;

use super::*;
use crate::settings::JobSettings;
use crate::storage::memory::{MEMORY_DIRECTORY, MemoryStore};

struct Fixture {
    coordinator: CheckpointCoordinator,
    store: MemoryStore,
    /// All calls, in order.
    requests: Vec<StorageRequest>,
}

impl Fixture {
    /// A coordinator that has opened the checkpoints in `store`.
    fn open(leader: &str, store: MemoryStore) -> Fixture {
        let mut configuration = Configuration::default();
        configuration.set("execution.checkpointing.interval", "10 s");
        let settings = JobSettings::read(&configuration).unwrap().checkpoints;
        let (job, directory) = (JobId::from_u128(1), MEMORY_DIRECTORY.to_owned());
        let coordinator = CheckpointCoordinator::new(job, leader.to_owned(), settings, directory);
        let mut fixture = Fixture { coordinator, store, requests: Vec::new() };
        fixture.coordinator.open(0);
        let others = fixture.answer();
        assert!(matches!(others[..], [CheckpointAction::Opened]), "{others:?}");
        fixture
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
                self.coordinator.on_reply(ticket, reply, 0);
            }
        }
        others
    }

    /// Starts a checkpoint of one task, which is not awaited by anyone else.
    fn begin(&mut self) -> u64 {
        self.coordinator.start(0, 0);
        let others = self.answer();
        let [CheckpointAction::Trigger(trigger)] = &others[..] else { panic!("{others:?}") };
        let shape = VertexShape { id: "v".into(), parallelism: 1, max_parallelism: 128 };
        let plan = CheckpointPlan { vertices: vec![shape], awaited: BTreeSet::from([0]), coordinators: Vec::new() };
        self.coordinator.begin(trigger.clone(), plan);
        trigger.id
    }

    fn deletes(&self) -> Vec<&StorageRequest> {
        self.requests.iter().filter(|r| matches!(r, StorageRequest::Delete { .. })).collect()
    }
}

fn snapshot(name: &str) -> v1::SubtaskSnapshot {
    let handle = v1::FileHandle { object: format!("{MEMORY_DIRECTORY}/shared/{name}"), ..Default::default() };
    let files = vec![v1::StateFile { handle: Some(handle), ..Default::default() }];
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
    assert_eq!(second.requests.last(), Some(&StorageRequest::Sweep { below: reserved, kept: vec![id] }));
    assert!(second.begin() >= reserved, "nothing of its own is swept");

    // What a run that has ended retains is its user's.
    first.coordinator.end("FAILED");
    first.answer();
    let third = Fixture::open("c", first.store);
    assert!(!third.requests.iter().any(|r| matches!(r, StorageRequest::Sweep { .. })));
}
