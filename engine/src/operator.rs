//! The operator trait: what every transformation of a stream implements.
//!
//! An operator is driven by one task on one thread and never shared. It is synchronous and never
//! waits: what may block goes to the [`BackgroundExecutor`](crate::executor::BackgroundExecutor)
//! of its context. One call emits at most about four target batches; if there is more to emit it
//! returns [`Flow::More`] and is called again by [`Operator::resume`] before anything else reaches
//! it, so output of any size stays within bounded memory.
//!
//! Order of calls: `open`, then any of `process`, `watermark`, `timers`, `coordinator_message`,
//! each followed by `resume` until [`Flow::Done`]; for a checkpoint `prepare_barrier` (its output
//! still belongs to the checkpoint) and `snapshot`; later `checkpoint_complete` or
//! `checkpoint_aborted`; at the end of input `finish`, then still checkpoints; last `close`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hurtig_graph::RowSchema;
use hurtig_graph::config::Configuration;
use hurtig_graph::ids::AttemptId;
use hurtig_state::backend::{CellDeclaration, FrozenCell, KeyedBackend};
use hurtig_state::storage::ObjectStores;

use crate::batch::Batch;
use crate::clock::Clock;
use crate::error::Result;
use crate::executor::{BackgroundExecutor, Waker};

/// Whether a call has emitted all it has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Nothing is left.
    Done,
    /// Call [`Operator::resume`] for the rest.
    More,
}

/// Where an operator's output goes. Never blocks.
pub trait Collector {
    /// Emits rows. Empty batches are dropped.
    fn emit(&mut self, batch: Batch);
    /// Emits a watermark; one not above the last is dropped.
    fn watermark(&mut self, watermark_ms: i64);
    /// Emits idleness (`true`) or activity.
    fn idle(&mut self, idle: bool);
}

/// What a subtask is.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Job, vertex, subtask, attempt.
    pub attempt: AttemptId,
    /// For metrics and logs.
    pub job_name: String,
    /// For metrics and logs.
    pub vertex_name: String,
    /// Number of subtasks of the vertex.
    pub parallelism: u32,
    /// Number of key groups of the vertex.
    pub max_parallelism: u32,
}

impl TaskInfo {
    /// The span in which the task's steps run: its fields are in every line of the log.
    pub fn span(&self) -> tracing::Span {
        let AttemptId { job, vertex: _, subtask, attempt } = &self.attempt;
        tracing::info_span!("task", job = job.as_str(), vertex = self.vertex_name, subtask, attempt)
    }

    /// The span of what is done off-thread for a checkpoint.
    pub fn checkpoint_span(&self, checkpoint: u64) -> tracing::Span {
        let AttemptId { job, vertex: _, subtask, attempt } = &self.attempt;
        tracing::info_span!("checkpoint", job = job.as_str(), vertex = self.vertex_name, subtask, attempt, checkpoint)
    }
}

/// Counters of an operator that the TaskManager reports.
#[derive(Debug, Default)]
pub struct OperatorCounters {
    /// Rows that came too late and were dropped.
    pub late_records_dropped: AtomicU64,
}

/// The non-keyed state that an operator is restored with.
#[derive(Debug, Clone, Default)]
pub struct RestoredState {
    /// The checkpoint; 0 when the job starts afresh.
    pub checkpoint: u64,
    /// All elements that this subtask takes over, by the name of their list.
    pub lists: Vec<(String, Vec<Vec<u8>>)>,
    /// The operator's watermark in the checkpoint (the minimum over what is taken over), if any.
    pub watermark_ms: Option<i64>,
}

impl RestoredState {
    /// The elements of the list `name`.
    pub fn list(&self, name: &str) -> &[Vec<u8>] {
        self.lists.iter().find(|(n, _)| n == name).map_or(&[], |(_, elements)| elements)
    }
}

/// What an operator is given.
pub struct OperatorContext {
    /// Which subtask this is.
    pub task: Arc<TaskInfo>,
    /// Identity of the operator's state.
    pub uid: String,
    /// One schema for each input port (none for a source).
    pub inputs: Vec<RowSchema>,
    /// What the operator emits.
    pub output: RowSchema,
    /// The job's configuration.
    pub configuration: Arc<Configuration>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For work that may block.
    pub executor: Arc<dyn BackgroundExecutor>,
    /// Wakes this task.
    pub waker: Waker,
    /// The task's keyed state.
    pub keyed: Arc<KeyedBackend>,
    /// Access to files and object stores.
    pub stores: Arc<ObjectStores>,
    /// Non-keyed state to start from.
    pub restored: RestoredState,
    /// Figures to report.
    pub counters: Arc<OperatorCounters>,
    /// Sends a message to this operator's coordinator in the JobManager.
    pub to_coordinator: Arc<dyn Fn(Vec<u8>) + Send + Sync>,
    /// Sends collected rows to the JobManager ("collect" sink).
    pub collect: Arc<dyn Fn(Batch) + Send + Sync>,
}

/// Work of a snapshot that may block, run off-thread before the checkpoint is acknowledged.
pub type Deferred = Box<dyn FnOnce() -> Result<()> + Send>;

/// The synchronous part of an operator's snapshot: references, not copies.
#[derive(Default)]
pub struct OperatorSnapshot {
    /// Non-keyed list state by name.
    pub lists: Vec<(String, Vec<Vec<u8>>)>,
    /// Changed keyed state, frozen; written back off-thread.
    pub keyed: Vec<FrozenCell>,
    /// The operator's watermark, where it matters for its results.
    pub watermark_ms: Option<i64>,
    /// Anything else to be done before the acknowledgement.
    pub deferred: Option<Deferred>,
}

/// A transformation of a stream. See the module documentation.
pub trait Operator: Send {
    /// Called once, before anything else. `context` stays valid for the operator's life.
    fn open(&mut self, context: OperatorContext) -> Result<()>;

    /// The keyed state that the operator will register, as far as it is known before it is opened. A
    /// job that starts from a savepoint is compared by it before anything runs.
    fn state_cells(&self) -> Vec<CellDeclaration> {
        Vec::new()
    }

    /// Takes a batch of input `port`.
    fn process(&mut self, port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow>;

    /// Whether the inputs are parts of one stream, as a union's: event time then follows all their
    /// channels as it follows those of one input.
    fn unites_inputs(&self) -> bool {
        false
    }

    /// Goes on after [`Flow::More`].
    fn resume(&mut self, _out: &mut dyn Collector) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// Event time (the minimum over all inputs) has advanced. The operator passes the watermark on
    /// by `out.watermark`, after all rows that it causes.
    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        out.watermark(watermark_ms);
        Ok(Flow::Done)
    }

    /// The input became idle or active.
    fn idle(&mut self, idle: bool, out: &mut dyn Collector) -> Result<()> {
        out.idle(idle);
        Ok(())
    }

    /// The wall-clock time (ms) at which [`Operator::timers`] is wanted next.
    fn next_timer_ms(&self) -> Option<i64> {
        None
    }

    /// Wall-clock time has reached what [`Operator::next_timer_ms`] asked for. Also called after the
    /// operator's waker was used.
    fn timers(&mut self, _now_ms: i64, _out: &mut dyn Collector) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// A message of the operator's coordinator.
    fn coordinator_message(&mut self, _payload: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Just before the barrier: whatever is emitted here belongs to the checkpoint.
    fn prepare_barrier(&mut self, _checkpoint: u64, _out: &mut dyn Collector) -> Result<()> {
        Ok(())
    }

    /// The synchronous part of the snapshot: must take no longer than a few milliseconds.
    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        Ok(OperatorSnapshot::default())
    }

    /// The checkpoint, and with it all earlier ones, is complete.
    fn checkpoint_complete(&mut self, _checkpoint: u64) -> Result<()> {
        Ok(())
    }

    /// The checkpoint was given up.
    fn checkpoint_aborted(&mut self, _checkpoint: u64) -> Result<()> {
        Ok(())
    }

    /// All inputs have ended (event time has reached its maximum before).
    fn finish(&mut self, _out: &mut dyn Collector) -> Result<Flow> {
        Ok(Flow::Done)
    }

    /// True while the operator's memory is full of changes that are being written back: the task gives
    /// it nothing before they are, shown as blocked on `write-back`. The operator is woken when to ask again.
    fn awaits_write_back(&self) -> bool {
        false
    }

    /// False while work of this operator is in flight off-thread that must end before the task may
    /// finish (a commit, an asynchronous lookup).
    fn quiescent(&self) -> bool {
        true
    }

    /// Releases what the operator holds. Called on every way out.
    fn close(&mut self) {}
}
