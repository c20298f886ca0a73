//! From a deployment to a task: channels, operators, state. May block (restore), so it runs on a
//! background thread.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use hurtig_graph::RowSchema;
use hurtig_graph::config::{Configuration, keys};
use hurtig_graph::ids::AttemptId;
use hurtig_graph::job::state_kind;
use hurtig_graph::key_groups::key_group_range;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use hurtig_state::backend::{BackendConfig, KeyedBackend};
use hurtig_state::local::TaskName;
use internal::from_task_manager::Message;

use super::collect::Collect;
use super::core::Core;
use super::in_flight;
use super::restore::operator_state;
use super::session::{Session, SessionListener};
use crate::error::{EngineError, Result};
use crate::exchange::output::{OutputSpec, OutputTarget};
use crate::exchange::{ChannelKey, ChannelRegistry, Outputs};
use crate::executor::{BackgroundExecutor, Waker};
use crate::operator::{OperatorContext, OperatorCounters, TaskInfo};
use crate::task::machine::InputSpec;
use crate::task::snapshot::SnapshotStore;
use crate::task::{Mailbox, MemberSpec, Notifier, Task, TaskMetrics, TaskSpec};

/// State of a task that a checkpoint carries in its metadata is never more than this, as in Flink.
const MOST_INLINE_BYTES: u64 = 1 << 20;

/// Unparks the thread of a task, which is known only after the task is built.
#[derive(Default)]
pub struct LateWaker(OnceLock<Waker>);

impl LateWaker {
    /// The thread is known.
    pub fn set(&self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            // Set once, right after the task was built.
            let _ = self.0.set(waker);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.0.get() {
            waker();
        }
    }
}

/// A task that is ready to be run.
pub struct Built {
    /// The task.
    pub task: Box<Task>,
    /// To be told the task's thread.
    pub notify_thread: Arc<LateWaker>,
    /// Uid and name of its operators.
    pub operators: Vec<(String, String)>,
    /// Its collected rows.
    pub collect: Arc<Collect>,
}

/// Input channels that are given back if the task is not built.
struct ClaimedInputs<'a> {
    registry: &'a ChannelRegistry,
    inputs: Vec<InputSpec>,
}

impl Drop for ClaimedInputs<'_> {
    fn drop(&mut self) {
        for input in &self.inputs {
            self.registry.release_consumer(&input.channel);
        }
    }
}

/// Builds the task of `deployment`.
///
/// # Errors
/// An operator that cannot be built, or state that cannot be restored.
pub fn build(
    core: &Arc<Core>,
    deployment: internal::TaskDeployment,
    attempt: &AttemptId,
    session: &Session,
) -> Result<Built> {
    let d = &deployment;
    let mut claimed = ClaimedInputs { registry: core.channels(), inputs: Vec::new() };
    claim_inputs(core, d, attempt, &mut claimed.inputs)?;
    let finished = is_finished(d, attempt.subtask);
    let keyed = Arc::new(open_backend(core, d, attempt, finished)?);
    let restore = (d.restore_checkpoint_id != 0).then(|| keyed.restore_report().clone());

    let notify_thread = Arc::new(LateWaker::default());
    let late = Arc::clone(&notify_thread);
    let mailbox = Mailbox::new(Notifier::new(Arc::new(move || late.wake())));
    let collect = Collect::new(attempt.clone(), session.clone(), mailbox.handle().clone());
    let members = build_members(core, d, attempt, session, &keyed, &mailbox, &collect)?;
    let counters = members.iter().map(|m| Arc::clone(&m.context.counters)).collect();
    let info = task_info(d, attempt);
    let configuration = configuration(core, d);
    let waits = configuration.bool(&keys::CHECKPOINTING_AFTER_TASKS_FINISH)?.unwrap_or(true);
    let checkpointing = !d.checkpoint_directory.is_empty() && waits;
    let mut outputs = build_outputs(core, d, attempt)?;
    let recovered = in_flight::restore(&core.stores, d, attempt.subtask, &mut outputs)?;
    let listener =
        SessionListener::new(attempt.clone(), session.clone(), Arc::downgrade(core), Arc::clone(&collect), restore);
    let task = Task::new(TaskSpec {
        info,
        members,
        inputs: std::mem::take(&mut claimed.inputs),
        outputs,
        recovered,
        registry: Some(Arc::clone(core.channels())),
        keyed,
        checkpointing,
        finished,
        store: SnapshotStore { directory: d.checkpoint_directory.clone(), stores: Arc::clone(&core.stores) },
        clock: Arc::clone(&core.config.clock),
        executor: Arc::clone(&core.pool) as Arc<dyn BackgroundExecutor>,
        listener: Arc::new(listener),
        metrics: Arc::new(TaskMetrics::new(counters)),
        mailbox,
    })?;
    let operators = d.operators.iter().map(|o| (o.uid.clone(), o.name.clone())).collect();
    Ok(Built { task: Box::new(task), notify_thread, operators, collect })
}

fn configuration(core: &Core, d: &internal::TaskDeployment) -> Configuration {
    core.config.configuration.merged_with(&Configuration::from_map(d.configuration.clone()))
}

/// What the deployed subtask is.
pub fn task_info(d: &internal::TaskDeployment, attempt: &AttemptId) -> Arc<TaskInfo> {
    Arc::new(TaskInfo {
        attempt: attempt.clone(),
        job_name: d.job_name.clone(),
        vertex_name: d.vertex_name.clone(),
        parallelism: d.parallelism,
        max_parallelism: d.max_parallelism,
    })
}

fn claim_inputs(
    core: &Core,
    d: &internal::TaskDeployment,
    attempt: &AttemptId,
    inputs: &mut Vec<InputSpec>,
) -> Result<()> {
    for gate in &d.inputs {
        let schema = row_schema(gate.schema.as_ref())?.to_arrow();
        for channel in &gate.channels {
            let key = ChannelKey {
                job: attempt.job.as_str().to_owned(),
                edge: gate.edge_id.clone(),
                producer_subtask: channel.producer_subtask,
                producer_attempt: channel.producer_attempt,
                consumer_subtask: attempt.subtask,
                consumer_attempt: attempt.attempt,
            };
            inputs.push(InputSpec {
                port: gate.port as usize,
                schema: Arc::clone(&schema),
                channel: core.channels().consumer(&key),
            });
        }
    }
    Ok(())
}

fn build_outputs(core: &Core, d: &internal::TaskDeployment, attempt: &AttemptId) -> Result<Outputs> {
    let mut specs = Vec::with_capacity(d.outputs.len());
    for edge in &d.outputs {
        let targets = edge.channels.iter().map(|channel| {
            let key = ChannelKey {
                job: attempt.job.as_str().to_owned(),
                edge: edge.edge_id.clone(),
                producer_subtask: attempt.subtask,
                producer_attempt: attempt.attempt,
                consumer_subtask: channel.consumer_subtask,
                consumer_attempt: channel.consumer_attempt,
            };
            if channel.data_address == core.data_address {
                OutputTarget { channel: core.channels().local_producer(&key), remote: false }
            } else {
                OutputTarget { channel: core.network.open(&channel.data_address, key), remote: true }
            }
        });
        specs.push(OutputSpec {
            edge: edge.edge_id.clone(),
            partitioner: edge.partitioner.clone().unwrap_or_default(),
            schema: row_schema(edge.schema.as_ref())?.to_arrow(),
            consumer_max_parallelism: edge.consumer_max_parallelism,
            targets: targets.collect(),
        });
    }
    let clock = Arc::clone(&core.config.clock);
    // Each sender starts its rounds at another consumer.
    Outputs::new(specs, clock, &core.config.exchange, attempt.subtask as usize)
}

/// Whether the subtask had finished before the checkpoint that is restored.
fn is_finished(d: &internal::TaskDeployment, subtask: u32) -> bool {
    if d.restore_checkpoint_id == 0 || d.restore.is_empty() {
        return false;
    }
    if d.restore_parallelism == d.parallelism {
        return d.restore.iter().any(|s| s.subtask == subtask && s.finished);
    }
    d.restore.iter().all(|s| s.finished)
}

fn open_backend(
    core: &Core,
    d: &internal::TaskDeployment,
    attempt: &AttemptId,
    finished: bool,
) -> Result<KeyedBackend> {
    let range = key_group_range(d.max_parallelism, d.parallelism.max(1), attempt.subtask);
    let Some(key_groups) = range.filter(|_| !finished) else {
        // More subtasks than key groups: nothing will reach this one.
        return Ok(KeyedBackend::detached((0, 0), d.max_parallelism));
    };
    let directory = core.databases.of_attempt(attempt);
    let inline = configuration(core, d).memory_bytes(&keys::CHECKPOINTING_DATA_INLINE_THRESHOLD)?;
    Ok(KeyedBackend::open(BackendConfig {
        directory,
        key_groups,
        max_parallelism: d.max_parallelism,
        task: TaskName {
            job_id: attempt.job.as_str().to_owned(),
            vertex_id: attempt.vertex.clone(),
            subtask: attempt.subtask,
            attempt: attempt.attempt,
        },
        rocks: Arc::clone(&core.rocks),
        memory: core.slot_memory(d.slot),
        inline_bytes: inline.unwrap_or(0).min(MOST_INLINE_BYTES),
        stores: Arc::clone(&core.stores),
        local: core.local.clone(),
        restore_checkpoint: d.restore_checkpoint_id,
        restore: d.restore.iter().filter_map(|s| s.keyed.clone()).collect(),
    })?)
}

fn build_members(
    core: &Core,
    d: &internal::TaskDeployment,
    attempt: &AttemptId,
    session: &Session,
    keyed: &Arc<KeyedBackend>,
    mailbox: &Mailbox,
    collect: &Arc<Collect>,
) -> Result<Vec<MemberSpec>> {
    let configuration = Arc::new(configuration(core, d));
    let info = task_info(d, attempt);
    let mut inputs = port_schemas(d)?;
    let mut members = Vec::with_capacity(d.operators.len());
    for operator in &d.operators {
        let member = core.registry.build(operator, &inputs, &configuration, &core.config.clock)?;
        let output = row_schema(operator.output_schema.as_ref())?;
        let woken = Arc::new(AtomicBool::new(false));
        let (flag, notifier) = (Arc::clone(&woken), Arc::clone(mailbox.notifier()));
        let waker: Waker = Arc::new(move || {
            flag.store(true, Ordering::Release);
            notifier.wake();
        });
        let context = OperatorContext {
            task: Arc::clone(&info),
            uid: operator.uid.clone(),
            inputs: std::mem::replace(&mut inputs, vec![output.clone()]),
            output,
            configuration: Arc::clone(&configuration),
            clock: Arc::clone(&core.config.clock),
            executor: Arc::clone(&core.pool) as Arc<dyn BackgroundExecutor>,
            waker,
            keyed: Arc::clone(keyed),
            stores: Arc::clone(&core.stores),
            restored: operator_state(
                &operator.uid,
                d.restore_checkpoint_id,
                &d.restore,
                d.restore_parallelism,
                attempt.subtask,
                d.parallelism,
            ),
            counters: Arc::new(OperatorCounters::default()),
            to_coordinator: coordinator_sender(attempt, &operator.uid, session),
            collect: {
                let collect = Arc::clone(collect);
                Arc::new(move |batch| collect.collect(&batch))
            },
        };
        members.push(MemberSpec {
            uid: operator.uid.clone(),
            kind: state_kind(operator).to_owned(),
            member,
            context,
            woken,
        });
    }
    Ok(members)
}

/// The schema of each input port of the head.
fn port_schemas(d: &internal::TaskDeployment) -> Result<Vec<RowSchema>> {
    let ports = d.inputs.iter().map(|gate| gate.port as usize + 1).max().unwrap_or(0);
    let mut schemas = vec![RowSchema::default(); ports];
    for gate in &d.inputs {
        schemas[gate.port as usize] = row_schema(gate.schema.as_ref())?;
    }
    Ok(schemas)
}

fn coordinator_sender(attempt: &AttemptId, uid: &str, session: &Session) -> Arc<dyn Fn(Vec<u8>) + Send + Sync> {
    let (attempt, uid, session) = (attempt.to_proto(), uid.to_owned(), session.clone());
    Arc::new(move |payload| {
        session.send(Message::Coordinator(internal::CoordinatorMessage {
            attempt: Some(attempt.clone()),
            operator_uid: uid.clone(),
            payload,
        }));
    })
}

pub(super) fn row_schema(schema: Option<&v1::Schema>) -> Result<RowSchema> {
    match schema {
        Some(schema) => Ok(RowSchema::from_proto(schema)?),
        None => Err(EngineError::Validation("the deployment lacks a schema".into())),
    }
}
