//! What must hold in every world, checked after every step and whenever HEAD changes, a sink
//! commits or an object is deleted. The one definition.
//!
//! 1. At most one attempt of a subtask is live for each leader: deployed or taken over by it, on a
//!    connected TaskManager.
//! 2. A job is RUNNING only when each of its tasks runs on a connected TaskManager or has finished.
//! 3. A checkpoint that HEAD names is complete: a snapshot of every subtask that had not finished,
//!    each by the current attempt; what consumers have received is what producers have sent, and
//!    every split is in exactly one place; its files exist; ids rise.
//! 4. A file is not deleted while a checkpoint that HEAD names refers to it.
//! 5. With checkpoints on, sinks make every record visible at most once, and only for a completed
//!    checkpoint; of a finished job, exactly once.
//! 6. Once faults stop, every job ends.
//! 7. A job that was stopped with a savepoint is never deployed again. What its sinks have made visible
//!    is what sources had read in the savepoint: of a finished job exactly that, of another together
//!    with the transactions in the savepoint, which whoever starts from it commits.
//! 8. A savepoint that the user was told of is complete, and nothing of it is deleted.
//! 9. A leader writes neither HEAD nor the registry once a newer one has; epochs never fall.
//! 10. A job whose submission was answered is in the registry; a job whose result is there is not
//!     deployed again, and its result stays.
//! 11. Nothing is deployed onto a TaskManager that is to go, and none that is said to be drained has tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;

use super::enumerator;
use super::process::Process;
use super::scenario::Scenario;
use super::store::{Ledger, Store};
use super::task::{self, TaskId, TaskState};
use crate::ha::MemoryHaStore;
use crate::job::JobMaster;
use crate::job::state::{ExecutionState, JobState};
use crate::slots::{SessionId, SlotPool};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Plays it again.
    pub seed: u64,
    /// Virtual time.
    pub time_ms: i64,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, at {} ms: {}", self.seed, self.time_ms, self.message)
    }
}

/// 1 and 2.
pub fn after_step(job: &JobMaster, pool: &SlotPool, processes: &[Process]) -> Result<(), String> {
    let mut live = BTreeSet::new();
    let connected = |session: SessionId| pool.get(session).is_some();
    for process in processes.iter().filter(|p| p.alive && p.session.is_some_and(connected)) {
        for id in process.tasks.keys().filter(|id| process.is_attached(id)) {
            if !live.insert((&id.vertex, id.subtask)) {
                return Err(format!("two attempts of {}[{}] are live", id.vertex, id.subtask));
            }
        }
    }
    if job.state() == JobState::Running {
        for (task, execution) in job.executions().iter().enumerate() {
            let on = execution.slot.is_some_and(|slot| connected(slot.session));
            if !(execution.state == ExecutionState::Running && on || execution.state == ExecutionState::Finished) {
                return Err(format!("the job is RUNNING but {} is not", job.topology().task_name(task)));
            }
        }
    }
    Ok(())
}

/// 11, when a deployment is sent.
pub fn may_deploy(deployment: &internal::TaskDeployment, session: SessionId, pool: &SlotPool) -> Result<(), String> {
    match pool.is_leaving(session) {
        true => Err(format!("{:?} is deployed onto a TaskManager that is to go", deployment.attempt)),
        false => Ok(()),
    }
}

/// 3, for a checkpoint that HEAD names from now on.
///
/// `job` is the one of the leader that has completed it, if that is still there.
pub fn on_completed(id: u64, job: Option<&JobMaster>, store: &Store, scenario: &Scenario) -> Result<(), String> {
    let newest = store.completed.last().copied().unwrap_or(0);
    if id <= newest {
        return Err(format!("checkpoint {id} completes after {newest}"));
    }
    let entry = store.objects.head.iter().flat_map(|(head, _)| &head.retained).find(|entry| entry.checkpoint_id == id);
    let metadata = entry.and_then(|entry| store.objects.metadata.get(&entry.metadata_object));
    let Some(metadata) = metadata else { return Err(format!("checkpoint {id} has no metadata object")) };
    if let Some(job) = job {
        complete(metadata, job)?;
    }
    consistent(metadata, scenario)?;
    files_exist(metadata.vertices.iter().flat_map(|v| &v.subtasks), store)
}

fn complete(metadata: &v1::CheckpointMetadata, job: &JobMaster) -> Result<(), String> {
    let id = metadata.checkpoint_id;
    let tasks = metadata.vertices.iter().map(|v| v.subtasks.len()).sum::<usize>();
    if tasks != job.executions().len() {
        return Err(format!("checkpoint {id} has {tasks} subtasks, the job has {}", job.executions().len()));
    }
    for vertex in &metadata.vertices {
        for snapshot in &vertex.subtasks {
            let task = job.topology().find(&vertex.vertex_id, snapshot.subtask);
            let Some(execution) = task.map(|task| &job.executions()[task]) else {
                return Err(format!("checkpoint {id} has a subtask that the job has not"));
            };
            let name = format!("{}[{}]", vertex.vertex_id, snapshot.subtask);
            if snapshot.finished {
                if execution.state != ExecutionState::Finished {
                    return Err(format!("checkpoint {id} says that {name} has finished, which it has not"));
                }
                continue;
            }
            let by = task::decode(snapshot).attempt;
            if by != execution.attempt {
                return Err(format!("checkpoint {id} has {name} by attempt {by}, now is {}", execution.attempt));
            }
        }
    }
    Ok(())
}

/// A consistent cut: nothing is received that was not sent, nothing is lost between.
fn consistent(metadata: &v1::CheckpointMetadata, scenario: &Scenario) -> Result<(), String> {
    let id = metadata.checkpoint_id;
    let plan = &scenario.plan;
    for source in plan.vertices.iter().filter(|v| v.is_source) {
        let number = source.id.trim_start_matches('s');
        let states = |vertex: &str| -> Option<Vec<TaskState>> {
            let vertex = metadata.vertices.iter().find(|v| v.vertex_id == vertex)?;
            let all = vertex.subtasks.iter().all(|s| !s.finished);
            all.then(|| vertex.subtasks.iter().map(task::decode).collect())
        };
        let Some(readers) = states(&source.id) else { continue };
        let positions = positions(id, &source.id, &readers, metadata, scenario)?;
        for vertex in [format!("m{number}"), format!("k{number}")] {
            let Some(consumers) = states(&vertex) else { continue };
            for (split, sent) in &positions {
                let received: u64 = consumers.iter().filter_map(|state| state.seen.get(split)).sum();
                if received != *sent {
                    return Err(format!(
                        "checkpoint {id}: {sent} records of split {split} were sent, {vertex} has received {received}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// How far each split of a source is read; every one is in exactly one place.
fn positions(
    id: u64,
    source: &str,
    readers: &[TaskState],
    metadata: &v1::CheckpointMetadata,
    scenario: &Scenario,
) -> Result<BTreeMap<u32, u64>, String> {
    let mut positions = BTreeMap::new();
    for (split, (next, _)) in readers.iter().flat_map(|reader| &reader.splits) {
        if positions.insert(*split, *next).is_some() {
            return Err(format!("checkpoint {id}: two readers of {source} have split {split}"));
        }
    }
    let snapshot = metadata.coordinators.iter().find(|c| c.operator_uid == source);
    let Some(unassigned) = snapshot.and_then(|c| enumerator::read_snapshot(&c.state)) else { return Ok(positions) };
    for split in unassigned {
        if positions.insert(split, 0).is_some() {
            return Err(format!("checkpoint {id}: split {split} of {source} is with a reader and unassigned"));
        }
    }
    if positions.len() as u32 != scenario.splits {
        return Err(format!("checkpoint {id}: {} of {} splits of {source} exist", positions.len(), scenario.splits));
    }
    Ok(positions)
}

/// The files that `snapshots` refer to exist.
pub fn files_exist<'a>(
    snapshots: impl IntoIterator<Item = &'a v1::SubtaskSnapshot>,
    store: &Store,
) -> Result<(), String> {
    let mut objects = snapshots.into_iter().flat_map(crate::checkpoint::files::objects_of);
    match objects.find(|object| !store.files.contains(*object)) {
        Some(object) => Err(format!("{object} is needed and does not exist")),
        None => Ok(()),
    }
}

/// 8, before a task is deployed.
pub fn not_ended(job: &JobId, ha: &MemoryHaStore) -> Result<(), String> {
    let entry = ha.registry().and_then(|r| r.jobs.iter().find(|entry| entry.job_id == job.as_str()));
    match entry.and_then(|entry| entry.result.as_ref()) {
        Some(result) => Err(format!("a job that has ended as {} is deployed again", result.state)),
        None => Ok(()),
    }
}

/// 4.
pub fn before_delete(objects: &[String], store: &Store) -> Result<(), String> {
    let referenced = store.referenced();
    let named: BTreeSet<&String> =
        store.objects.head.iter().flat_map(|(h, _)| &h.retained).map(|entry| &entry.metadata_object).collect();
    if let Some(object) = objects.iter().find(|object| store.saved.iter().any(|saved| object.starts_with(saved))) {
        return Err(format!("{object} is deleted, which is part of a savepoint"));
    }
    match objects.iter().find(|object| referenced.contains(object.as_str()) || named.contains(object)) {
        Some(object) => Err(format!("{object} is deleted, but HEAD names a checkpoint that refers to it")),
        None => Ok(()),
    }
}

/// 7, when a job has ended that was stopped.
pub fn at_stop(
    job: &JobMaster,
    stopped: &v1::CheckpointMetadata,
    ledger: &Ledger,
    scenario: &Scenario,
) -> Result<(), String> {
    let states = |vertex: &str| -> Vec<(u32, TaskState)> {
        let vertex = stopped.vertices.iter().find(|v| v.vertex_id == vertex);
        let live = vertex.into_iter().flat_map(|v| &v.subtasks).filter(|s| !s.finished);
        live.map(|snapshot| (snapshot.subtask, task::decode(snapshot))).collect()
    };
    let mut resumed = ledger.clone();
    for sink in stopped.vertices.iter().filter(|v| v.vertex_id.starts_with('k')) {
        for (subtask, state) in states(&sink.vertex_id) {
            let id = TaskId { vertex: sink.vertex_id.clone(), subtask, ..TaskId::default() };
            state.transactions.iter().try_for_each(|transaction| resumed.commit(&id, transaction))?;
        }
    }
    for (i, source) in job.topology().plan.vertices.iter().filter(|v| v.is_source).enumerate() {
        let (readers, sink) = (states(&source.id), source.id.replace('s', "k"));
        if readers.len() < source.parallelism as usize {
            // Those that had finished do not say what they read.
            continue;
        }
        for split in (0..scenario.splits).map(|split| split + i as u32 * 100) {
            let position =
                readers.iter().find_map(|(_, reader)| reader.splits.get(&split)).map_or(0, |(next, _)| *next);
            if !resumed.is_complete(&sink, split, position) {
                return Err(format!(
                    "split {split} was read to {position}, which is not what {sink} has after a resume"
                ));
            }
            if job.state() == JobState::Finished && !ledger.is_complete(&sink, split, position) {
                return Err(format!("the job has finished, but {sink} has not committed split {split} to {position}"));
            }
        }
    }
    Ok(())
}

/// 8, when the user is told.
pub fn on_saved(folder: &str, store: &Store) -> Result<(), String> {
    let metadata = store.objects.metadata.get(folder).ok_or_else(|| format!("savepoint {folder} has no metadata"))?;
    let files = metadata.vertices.iter().flat_map(|v| &v.subtasks).flat_map(crate::checkpoint::files::objects_of);
    for file in files {
        if !file.starts_with(&format!("{folder}/")) || !store.files.contains(file) {
            return Err(format!("savepoint {folder} refers to {file}"));
        }
    }
    Ok(())
}

/// 5, for a commit because of checkpoint `by`.
pub fn before_commit(by: u64, checkpointing: bool, store: &Store) -> Result<(), String> {
    let stopped = store.stopped_with().is_some_and(|savepoint| savepoint.checkpoint_id == by);
    if checkpointing && !store.completed.contains(&by) && !stopped {
        return Err(format!("a sink commits for checkpoint {by}, which is not complete"));
    }
    Ok(())
}

/// 5, for a job that has finished.
pub fn at_finish(ledger: &Ledger, scenario: &Scenario) -> Result<(), String> {
    for (i, source) in scenario.plan.vertices.iter().filter(|v| v.is_source).enumerate() {
        let sink = source.id.replace('s', "k");
        for split in (0..scenario.splits).map(|split| split + i as u32 * 100) {
            if !ledger.is_complete(&sink, split, scenario.split_records) {
                return Err(format!("the job has finished, but split {split} is not complete in {sink}"));
            }
        }
    }
    Ok(())
}
