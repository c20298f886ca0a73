//! The step machine. See [`Task`].
//!
//! One turn does one thing, in this order: messages; pending work of operators (a full output stops
//! it); notifications; a checkpoint in progress; finishing; timers; a checkpoint that is due; input.
//! So a barrier, a notification and a timer meet operators only between their calls, when everything
//! that was emitted before has reached the outputs.

mod checkpoint;
mod input;
mod overtaking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::SchemaRef;
use hurtig_state::backend::KeyedBackend;

use self::checkpoint::{Checkpoint, InFlight};
use self::overtaking::Gathering;
pub use self::overtaking::RecoveredInput;
use super::alignment::Alignment;
use super::chain::{Chain, MemberSpec};
use super::mailbox::{Mailbox, TaskHandle, TaskMessage};
use super::metrics::TaskMetrics;
use super::snapshot::SnapshotStore;
use super::watermarks::{InputWatermarks, TimeEvent};
use super::{BlockReason, Outcome, Step, TaskListener};
use crate::clock::Clock;
use crate::element::{Barrier, MAX_WATERMARK, StreamElement};
use crate::error::{EngineError, Result};
use crate::exchange::channel::{Channel, ChannelFailure, Payload};
use crate::exchange::codec::Decoder;
use crate::exchange::{ChannelRegistry, Outputs};
use crate::executor::BackgroundExecutor;
use crate::operator::TaskInfo;

/// How long a task waits to be cancelled after a channel was lost: the JobManager learns of a dead
/// process by itself and its reason is the better one.
const LOST_GRACE_MS: i64 = 1_000;
/// The same after the task at the other end failed, which its own TaskManager reports.
const PEER_ENDED_GRACE_MS: i64 = 30_000;

/// An input channel.
pub struct InputSpec {
    /// Input port of the head.
    pub port: usize,
    /// Rows of the channel.
    pub schema: SchemaRef,
    /// The channel.
    pub channel: Arc<Channel>,
}

/// All that a task is made of.
pub struct TaskSpec {
    /// Which subtask.
    pub info: Arc<TaskInfo>,
    /// The chain, head first.
    pub members: Vec<MemberSpec>,
    /// All channels of all ports.
    pub inputs: Vec<InputSpec>,
    /// Where rows go.
    pub outputs: Outputs,
    /// Where channels are released; `None` in tests that own theirs.
    pub registry: Option<Arc<ChannelRegistry>>,
    /// What was on its way to the subtask when the restored checkpoint was taken.
    pub recovered: Vec<RecoveredInput>,
    /// Keyed state.
    pub keyed: Arc<KeyedBackend>,
    /// Whether a final checkpoint is to be waited for.
    pub checkpointing: bool,
    /// The subtask had finished before the checkpoint that is restored: no operator runs.
    pub finished: bool,
    /// Where snapshots go.
    pub store: SnapshotStore,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For the part of a snapshot that runs off-thread.
    pub executor: Arc<dyn BackgroundExecutor>,
    /// Who hears of the task.
    pub listener: Arc<dyn TaskListener>,
    /// Figures.
    pub metrics: Arc<TaskMetrics>,
    /// The task's mailbox.
    pub mailbox: Mailbox,
}

struct Input {
    port: usize,
    /// Position among the channels of the port.
    index: usize,
    channel: Arc<Channel>,
    decoder: Decoder,
    end_of_data: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Running,
    /// Event time ends, then operator `next` finishes.
    Finishing {
        next: usize,
        drain: bool,
    },
    /// All rows have been sent.
    Ending {
        /// The first checkpoint that covers everything.
        covered_by: Option<u64>,
    },
}

enum Notice {
    Complete(u64),
    Aborted(u64),
    Coordinator(String, Vec<u8>),
}

enum Turn {
    Worked,
    Blocked(BlockReason, Option<i64>),
    Ended,
}

/// A chain of operators for one subtask, driven by [`Task::step`]. See the module documentation.
pub struct Task {
    info: Arc<TaskInfo>,
    chain: Chain,
    inputs: Vec<Input>,
    next_input: usize,
    outputs: Outputs,
    registry: Option<Arc<ChannelRegistry>>,
    keyed: Arc<KeyedBackend>,
    store: SnapshotStore,
    clock: Arc<dyn Clock>,
    executor: Arc<dyn BackgroundExecutor>,
    listener: Arc<dyn TaskListener>,
    metrics: Arc<TaskMetrics>,
    mailbox: Mailbox,
    checkpointing: bool,
    finished: bool,

    phase: Phase,
    alignment: Alignment,
    watermarks: InputWatermarks,
    time_events: Vec<TimeEvent>,
    notices: VecDeque<Notice>,
    /// Messages of the coordinator that came after a barrier which has not left yet. The
    /// coordinator's snapshot has them still to give, so this task's must not have them.
    behind_barrier: VecDeque<Notice>,
    /// The barrier whose snapshot is due.
    due: Option<(Barrier, u64)>,
    checkpoint: Option<Checkpoint>,
    in_flight: Option<InFlight>,
    /// By input: what the barriers of the unaligned checkpoint that is due have overtaken.
    overtaken: Vec<Vec<Payload>>,
    gathering: Option<Gathering>,
    recovered: VecDeque<RecoveredInput>,
    last_triggered: u64,
    last_completed: u64,
    last_aborted: u64,
    /// The task ends with the savepoint of this id; what it did before, should that fail.
    stopping: Option<(u64, Phase)>,
    /// The source asked to be left alone until then.
    source_pending: Option<Option<i64>>,
    peer_failure: Option<(i64, String)>,
    failure: Option<String>,
    released: bool,
    /// Turns that did something.
    turns: u64,
}

impl Task {
    /// A task that has not been opened: its first step does that.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn new(spec: TaskSpec) -> Result<Task> {
        let chain = Chain::new(spec.members, &spec.metrics)?;
        let ports = spec.inputs.iter().map(|i| i.port + 1).max().unwrap_or(0);
        let mut counts = vec![0; ports];
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        let waker = spec.mailbox.handle().waker();
        for input in spec.inputs {
            let index = counts[input.port];
            counts[input.port] += 1;
            input.channel.set_consumer_waker(Arc::clone(&waker));
            inputs.push(Input {
                port: input.port,
                index,
                channel: input.channel,
                decoder: Decoder::new(input.schema),
                end_of_data: false,
                ended: false,
            });
        }
        if !chain.has_source() && inputs.is_empty() {
            return Err(EngineError::Validation("a task with neither source nor input".into()));
        }
        spec.outputs.set_waker(&waker);
        let channels = inputs.iter().map(|i| Arc::clone(&i.channel)).collect();
        spec.metrics
            .watch_queues(channels, spec.outputs.channels().map(|(c, remote)| (Arc::clone(c), remote)).collect());
        Ok(Task {
            info: spec.info,
            alignment: Alignment::new(inputs.len()),
            watermarks: InputWatermarks::new(&counts, chain.unites_inputs()),
            chain,
            inputs,
            next_input: 0,
            outputs: spec.outputs,
            registry: spec.registry,
            keyed: spec.keyed,
            store: spec.store,
            clock: spec.clock,
            executor: spec.executor,
            listener: spec.listener,
            metrics: spec.metrics,
            mailbox: spec.mailbox,
            checkpointing: spec.checkpointing,
            finished: spec.finished,
            phase: Phase::Opening,
            time_events: Vec::new(),
            notices: VecDeque::new(),
            behind_barrier: VecDeque::new(),
            due: None,
            checkpoint: None,
            in_flight: None,
            overtaken: Vec::new(),
            gathering: None,
            recovered: spec.recovered.into(),
            last_triggered: 0,
            last_completed: 0,
            last_aborted: 0,
            stopping: None,
            source_pending: None,
            peer_failure: None,
            failure: None,
            released: false,
            turns: 0,
        })
    }

    /// Which subtask this is.
    pub fn info(&self) -> &Arc<TaskInfo> {
        &self.info
    }

    /// For messages to the task.
    pub fn handle(&self) -> TaskHandle {
        self.mailbox.handle().clone()
    }

    /// Turns so far that did something.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Figures.
    pub fn metrics(&self) -> &Arc<TaskMetrics> {
        &self.metrics
    }

    /// Where work of the task runs that may block.
    pub(crate) fn executor(&self) -> &Arc<dyn BackgroundExecutor> {
        &self.executor
    }

    /// Takes whether the task was woken.
    pub(crate) fn take_woken(&self) -> bool {
        self.mailbox.notifier().take()
    }

    /// Whether the task reads an external system.
    pub fn is_source(&self) -> bool {
        self.chain.has_source()
    }

    /// Does up to `budget` turns.
    pub fn step(&mut self, budget: usize) -> Step {
        self.step_until(budget, u64::MAX)
    }

    /// Does up to `budget` turns, the last of which begins before `until_us` on the monotonic clock.
    pub fn step_until(&mut self, budget: usize, until_us: u64) -> Step {
        let step = self.take_turns(budget, until_us);
        self.publish_figures();
        step
    }

    fn take_turns(&mut self, budget: usize, until_us: u64) -> Step {
        if let Some(step) = self.check_peers() {
            return step;
        }
        for _ in 0..budget {
            if self.mailbox.is_cancelled() {
                return Step::Ended(Outcome::Canceled);
            }
            match self.turn() {
                Ok(Turn::Worked) => self.turns += 1,
                // Rows that wait for their batch to fill leave before the task does.
                Ok(Turn::Blocked(reason, until_ms)) => match self.outputs.flush() {
                    Ok(()) => {
                        let until_ms = until_ms.into_iter().chain(self.barrier_expiry_ms()).min();
                        return Step::Blocked { reason, until_ms };
                    }
                    Err(error) => return Step::Ended(Outcome::Failed(error.to_string())),
                },
                Ok(Turn::Ended) => return Step::Ended(Outcome::Finished),
                Err(error) => return Step::Ended(Outcome::Failed(error.to_string())),
            }
            if let Some(failure) = self.failure.take() {
                return Step::Ended(Outcome::Failed(failure));
            }
            if self.clock.monotonic_us() >= until_us {
                break;
            }
        }
        Step::Progress
    }

    /// Ends the task: closes operators, releases channels, tells the listener. Called once, after
    /// the last step, on every way out.
    pub fn end(&mut self, outcome: &Outcome) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        if let Err(text) = super::panics::guard(|| self.chain.close()) {
            tracing::warn!(task = %self.info.attempt, error = %text, "an operator failed to close");
        }
        if let Some(in_flight) = self.in_flight.take() {
            self.keyed.abort(in_flight.checkpoint);
        }
        let reason = match outcome {
            Outcome::Finished => "the producer finished",
            Outcome::Canceled => "the producer was cancelled",
            Outcome::Failed(_) => "the producer failed",
        };
        self.outputs.release(self.registry.as_deref(), reason);
        for input in &self.inputs {
            match &self.registry {
                Some(registry) => registry.release_consumer(&input.channel),
                None => input.channel.close_consumer(),
            }
        }
        self.publish_figures();
        self.listener.ended(outcome);
    }

    fn publish_figures(&self) {
        let out = self.outputs.figures();
        self.metrics.records_out.store(out.rows, Relaxed);
        self.metrics.batches_out.store(out.batches, Relaxed);
        self.metrics.bytes_out.store(out.bytes, Relaxed);
        if let Some(rows) = self.chain.source_rows() {
            self.metrics.records_in.store(rows, Relaxed);
        }
        let watermark = if self.chain.has_source() { self.chain.output_watermark() } else { self.watermarks.current() };
        self.metrics.watermark_ms.store(watermark, Relaxed);
    }

    /// While a channel is lost the task does nothing, and fails when nobody has cancelled it in time.
    fn check_peers(&mut self) -> Option<Step> {
        if self.peer_failure.is_none() {
            let input = self.inputs.iter().find(|i| !i.ended && i.channel.failure().is_some() && i.channel.is_empty());
            let failed = input
                .and_then(|i| i.channel.failure().map(|f| (Arc::clone(&i.channel), f)))
                .or_else(|| self.outputs.failure().map(|(c, f)| (Arc::clone(c), f)));
            let (channel, failure) = failed?;
            let grace = match failure {
                ChannelFailure::Lost(_) => LOST_GRACE_MS,
                ChannelFailure::PeerEnded(_) => PEER_ENDED_GRACE_MS,
            };
            let text = format!("{}: {}", channel.key(), failure.reason());
            self.peer_failure = Some((self.clock.now_ms() + grace, text));
        }
        let (deadline, text) = self.peer_failure.as_ref()?;
        if self.mailbox.is_cancelled() {
            return Some(Step::Ended(Outcome::Canceled));
        }
        if self.clock.now_ms() >= *deadline {
            return Some(Step::Ended(Outcome::Failed(text.clone())));
        }
        Some(Step::Blocked { reason: BlockReason::Peer, until_ms: Some(*deadline) })
    }

    fn turn(&mut self) -> Result<Turn> {
        if self.phase == Phase::Opening {
            return self.open();
        }
        while let Some(message) = self.mailbox.try_receive() {
            self.receive(message)?;
        }
        if self.watch_barriers()? {
            return Ok(Turn::Worked);
        }
        // While a snapshot is being taken, what its own barriers have overtaken must stay as it is.
        if self.checkpoint.is_none() && self.take_urgent()? {
            return Ok(Turn::Worked);
        }
        // A barrier that overtakes rows is not held up by those that wait.
        let full = (self.outputs.is_full() || self.listener.is_full()) && !self.is_urgent();
        if self.chain.has_pending() {
            if full {
                return Ok(Turn::Blocked(BlockReason::Output, None));
            }
            if self.chain.awaits_write_back() {
                return self.await_write_back();
            }
            self.chain.run_pending(&mut self.outputs)?;
            self.outputs.flush_lingering()?;
            return Ok(Turn::Worked);
        }
        if let Some(notice) = self.notices.pop_front() {
            self.notify(notice)?;
            return Ok(Turn::Worked);
        }
        if self.checkpoint.is_some() {
            return self.advance_checkpoint();
        }
        if let Phase::Finishing { next, drain } = self.phase {
            if full {
                return Ok(Turn::Blocked(BlockReason::Output, None));
            }
            return self.advance_finish(next, drain);
        }
        if self.awaits_savepoint() {
            return Ok(Turn::Blocked(BlockReason::FinalCheckpoint, None));
        }
        if !self.finished && !full && self.chain.run_timers(self.clock.now_ms(), &mut self.outputs)? {
            return Ok(Turn::Worked);
        }
        if let Some(turn) = self.start_checkpoint() {
            return Ok(turn);
        }
        match self.phase {
            Phase::Ending { covered_by } => self.await_end(covered_by),
            _ if full => Ok(Turn::Blocked(BlockReason::Output, None)),
            _ if self.chain.awaits_write_back() => {
                Ok(Turn::Blocked(BlockReason::WriteBack, self.chain.next_timer_ms()))
            }
            _ if self.chain.has_source() => self.poll_source(),
            _ => match self.take_input()? {
                Some(turn) => Ok(turn),
                None => Ok(self.no_input(None)),
            },
        }
    }

    /// Timers run meanwhile: by them operators learn that they can go on.
    fn await_write_back(&mut self) -> Result<Turn> {
        if self.chain.run_timers(self.clock.now_ms(), &mut self.outputs)? {
            return Ok(Turn::Worked);
        }
        Ok(Turn::Blocked(BlockReason::WriteBack, self.chain.next_timer_ms()))
    }

    fn open(&mut self) -> Result<Turn> {
        if self.finished {
            self.phase = Phase::Finishing { next: usize::MAX, drain: true };
        } else {
            self.chain.open()?;
            self.phase = Phase::Running;
        }
        self.listener.running();
        Ok(Turn::Worked)
    }

    fn receive(&mut self, message: TaskMessage) -> Result<()> {
        match message {
            TaskMessage::Trigger(barrier) => self.triggered(barrier)?,
            TaskMessage::Complete(checkpoint) => self.notices.push_back(Notice::Complete(checkpoint)),
            TaskMessage::Aborted(checkpoint) => self.aborted(checkpoint)?,
            TaskMessage::Coordinator { uid, payload } => {
                let behind = self.due.is_some() || self.checkpoint.is_some();
                let queue = if behind { &mut self.behind_barrier } else { &mut self.notices };
                queue.push_back(Notice::Coordinator(uid, payload));
            }
            TaskMessage::SnapshotDone { checkpoint, result, async_ms } => {
                self.snapshot_done(checkpoint, *result, async_ms);
            }
            TaskMessage::Fail(reason) => self.failure = Some(reason),
            TaskMessage::Probe { sent_us } => {
                let waited = self.clock.monotonic_us().saturating_sub(sent_us);
                self.metrics.mailbox_latency_us.store(waited, Relaxed);
            }
        }
        Ok(())
    }

    fn notify(&mut self, notice: Notice) -> Result<()> {
        match notice {
            Notice::Complete(checkpoint) => {
                if checkpoint > self.last_completed {
                    self.last_completed = checkpoint;
                    self.keyed.confirm(checkpoint);
                    if !self.finished {
                        self.chain.checkpoint_complete(checkpoint)?;
                    }
                }
                Ok(())
            }
            Notice::Aborted(checkpoint) => {
                if self.finished {
                    Ok(())
                } else {
                    self.chain.checkpoint_aborted(checkpoint)
                }
            }
            Notice::Coordinator(uid, payload) => {
                if self.finished {
                    return Ok(());
                }
                self.source_pending = None;
                self.chain.coordinator_message(&uid, &payload)
            }
        }
    }

    /// First event time ends, then one operator finishes after the other, then consumers are told.
    /// `next` counts one more than the operators that have finished.
    fn advance_finish(&mut self, next: usize, drain: bool) -> Result<Turn> {
        if self.finished {
            self.outputs.control(&StreamElement::Watermark(MAX_WATERMARK))?;
        } else if next == 0 && drain {
            self.phase = Phase::Finishing { next: 1, drain };
            self.chain.push_time(TimeEvent::Watermark(MAX_WATERMARK), &mut self.outputs)?;
            return Ok(Turn::Worked);
        } else if drain && next <= self.chain.operator_count() {
            self.phase = Phase::Finishing { next: next + 1, drain };
            self.chain.finish(next - 1, &mut self.outputs)?;
            return Ok(Turn::Worked);
        }
        self.outputs.control(&StreamElement::EndOfData { drain })?;
        self.phase = Phase::Ending { covered_by: None };
        self.listener.end_of_data();
        Ok(Turn::Worked)
    }

    /// All rows have been sent: waits for the checkpoint that covers them and for what operators have
    /// in flight, answering barriers meanwhile.
    fn await_end(&mut self, covered_by: Option<u64>) -> Result<Turn> {
        let covered = match covered_by {
            Some(id) if self.checkpointing || self.stopping.is_some() => self.last_completed >= id,
            // Without checkpoints a savepoint may still follow what producers have drained.
            _ => !self.checkpointing && self.inputs.iter().all(|input| input.ended),
        };
        if covered && self.in_flight.is_none() && (self.finished || self.chain.quiescent()) {
            self.outputs.control(&StreamElement::EndOfPartition)?;
            return Ok(Turn::Ended);
        }
        if let Some(turn) = self.take_input()? {
            return Ok(turn);
        }
        let reason = if !covered && self.checkpointing {
            BlockReason::FinalCheckpoint
        } else if !covered {
            BlockReason::Input
        } else if self.in_flight.is_some() {
            BlockReason::WriteBack
        } else {
            BlockReason::Operator
        };
        Ok(Turn::Blocked(reason, self.chain.next_timer_ms()))
    }
}
