//! The operators of a task and the driver that moves elements along them.
//!
//! Each operator has a queue of what the one before it emitted. The last operator with something to
//! do runs first, so that little is kept in between; an operator that answered
//! [`Flow::More`] is resumed before anything else reaches it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::Batch;
use crate::element::{MIN_WATERMARK, StreamElement};
use crate::error::{EngineError, Result};
use crate::exchange::Outputs;
use crate::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};
use crate::registry::ChainMember;
use crate::source::{SourceReader, SourceStatus};
use crate::task::metrics::{OperatorFigures, TaskMetrics};
use crate::task::watermarks::TimeEvent;

/// A member of a chain before it is opened.
pub struct MemberSpec {
    /// Identity of its state.
    pub uid: String,
    /// Kind, as it is written into snapshots.
    pub kind: String,
    /// The operator.
    pub member: ChainMember,
    /// What it is opened with.
    pub context: OperatorContext,
    /// Set by the context's waker.
    pub woken: Arc<AtomicBool>,
}

enum ChainElement {
    Batch(usize, Batch),
    Time(TimeEvent),
}

/// What a stage has said about time, so that nothing is said twice.
struct OutputTime {
    watermark: i64,
    idle: bool,
}

struct Stage<T: ?Sized> {
    uid: String,
    kind: String,
    context: Option<OperatorContext>,
    woken: Arc<AtomicBool>,
    queue: VecDeque<ChainElement>,
    more: bool,
    time: OutputTime,
    figures: Arc<OperatorFigures>,
    operator: Box<T>,
}

/// A member without its operator.
type Frame = (String, String, OperatorContext, Arc<AtomicBool>);

impl<T: ?Sized> Stage<T> {
    fn new((uid, kind, context, woken): Frame, operator: Box<T>, figures: Arc<OperatorFigures>) -> Stage<T> {
        Stage {
            uid,
            kind,
            figures,
            context: Some(context),
            woken,
            queue: VecDeque::new(),
            more: false,
            time: OutputTime { watermark: MIN_WATERMARK, idle: false },
            operator,
        }
    }

    fn take_context(&mut self) -> Result<OperatorContext> {
        self.context.take().ok_or_else(|| EngineError::Internal(format!("operator {} was opened twice", self.uid)))
    }
}

/// Where a stage's output goes.
enum Next<'a> {
    Stage(&'a mut VecDeque<ChainElement>),
    Outputs(&'a mut Outputs),
}

struct StageCollector<'a> {
    next: Next<'a>,
    time: &'a mut OutputTime,
    figures: &'a OperatorFigures,
    error: Option<EngineError>,
}

impl StageCollector<'_> {
    fn send_time(&mut self, event: TimeEvent) {
        match &mut self.next {
            Next::Stage(queue) => queue.push_back(ChainElement::Time(event)),
            Next::Outputs(outputs) => {
                let element = match event {
                    TimeEvent::Watermark(ms) => StreamElement::Watermark(ms),
                    TimeEvent::Idle => StreamElement::Idle,
                    TimeEvent::Active => StreamElement::Active,
                };
                if let Err(e) = outputs.control(&element) {
                    self.error.get_or_insert(e);
                }
            }
        }
    }

    fn check<T>(self, result: Result<T>) -> Result<T> {
        match self.error {
            Some(error) => result.and(Err(error)),
            None => result,
        }
    }
}

impl Collector for StageCollector<'_> {
    fn emit(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.figures.records_out.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        match &mut self.next {
            Next::Stage(queue) => queue.push_back(ChainElement::Batch(0, batch)),
            Next::Outputs(outputs) => {
                if let Err(e) = outputs.emit(batch) {
                    self.error.get_or_insert(e);
                }
            }
        }
    }

    fn watermark(&mut self, watermark_ms: i64) {
        if watermark_ms > self.time.watermark {
            self.time.watermark = watermark_ms;
            self.figures.output_watermark_ms.store(watermark_ms, Ordering::Relaxed);
            self.send_time(TimeEvent::Watermark(watermark_ms));
        }
    }

    fn idle(&mut self, idle: bool) {
        if idle != self.time.idle {
            self.time.idle = idle;
            self.send_time(if idle { TimeEvent::Idle } else { TimeEvent::Active });
        }
    }
}

/// An operator's part of a snapshot.
pub struct MemberSnapshot {
    /// Identity of its state.
    pub uid: String,
    /// Kind.
    pub kind: String,
    /// The state.
    pub snapshot: OperatorSnapshot,
}

/// All operators of a task.
pub struct Chain {
    source: Option<Stage<dyn SourceReader>>,
    operators: Vec<Stage<dyn Operator>>,
}

/// The collector of stage `index` of `operators`, apart from the stage itself.
fn split<'a>(
    operators: &'a mut [Stage<dyn Operator>],
    index: usize,
    outputs: &'a mut Outputs,
) -> (&'a mut Box<dyn Operator>, &'a mut VecDeque<ChainElement>, &'a mut bool, StageCollector<'a>) {
    let (head, tail) = operators.split_at_mut(index + 1);
    let stage = &mut head[index];
    let next = match tail.first_mut() {
        Some(next) => Next::Stage(&mut next.queue),
        None => Next::Outputs(outputs),
    };
    let collector = StageCollector { next, time: &mut stage.time, figures: &stage.figures, error: None };
    (&mut stage.operator, &mut stage.queue, &mut stage.more, collector)
}

impl Chain {
    /// Of the given members, head first. Their figures go to `metrics`.
    ///
    /// # Errors
    /// A source anywhere but at the head, or no member at all.
    pub fn new(members: Vec<MemberSpec>, metrics: &TaskMetrics) -> Result<Chain> {
        let mut chain = Chain { source: None, operators: Vec::with_capacity(members.len()) };
        for (i, m) in members.into_iter().enumerate() {
            let figures = match metrics.operators.get(i) {
                Some(figures) => Arc::clone(figures),
                None => Arc::new(OperatorFigures::new(Arc::clone(&m.context.counters))),
            };
            let frame = (m.uid, m.kind, m.context, m.woken);
            match m.member {
                ChainMember::Source(reader) if i == 0 => chain.source = Some(Stage::new(frame, reader, figures)),
                ChainMember::Source(_) => {
                    return Err(EngineError::Validation(format!("source {} is not the head of its chain", frame.0)));
                }
                ChainMember::Operator(operator) => chain.operators.push(Stage::new(frame, operator, figures)),
            }
        }
        if chain.source.is_none() && chain.operators.is_empty() {
            return Err(EngineError::Validation("a task without operators".into()));
        }
        Ok(chain)
    }

    /// Whether the head is a source.
    pub fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// Whether the head's inputs are parts of one stream.
    pub fn unites_inputs(&self) -> bool {
        self.source.is_none() && self.operators.first().is_some_and(|head| head.operator.unites_inputs())
    }

    /// Rows that the source has emitted, if there is one.
    pub fn source_rows(&self) -> Option<u64> {
        self.source.as_ref().map(|s| s.figures.records_out.load(Ordering::Relaxed))
    }

    /// Number of operators behind the source, if any.
    pub fn operator_count(&self) -> usize {
        self.operators.len()
    }

    /// Opens all, the last first.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn open(&mut self) -> Result<()> {
        for stage in self.operators.iter_mut().rev() {
            let context = stage.take_context()?;
            stage.operator.open(context)?;
        }
        if let Some(source) = &mut self.source {
            let context = source.take_context()?;
            source.operator.open(context)?;
        }
        Ok(())
    }

    /// Whether an operator has something to do.
    pub fn has_pending(&self) -> bool {
        self.operators.iter().any(|s| s.more || !s.queue.is_empty())
    }

    /// Lets the last operator with something to do take one element or go on. False: none had.
    ///
    /// # Errors
    /// Of the operator.
    pub fn run_pending(&mut self, outputs: &mut Outputs) -> Result<bool> {
        let Some(index) = self.operators.iter().rposition(|s| s.more || !s.queue.is_empty()) else {
            return Ok(false);
        };
        let (operator, queue, more, mut out) = split(&mut self.operators, index, outputs);
        let flow = if *more {
            operator.resume(&mut out)
        } else {
            match queue.pop_front() {
                Some(ChainElement::Batch(port, batch)) => {
                    out.figures.records_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    operator.process(port, batch, &mut out)
                }
                Some(ChainElement::Time(TimeEvent::Watermark(ms))) => {
                    out.figures.input_watermark_ms.store(ms, Ordering::Relaxed);
                    operator.watermark(ms, &mut out)
                }
                Some(ChainElement::Time(event)) => {
                    operator.idle(event == TimeEvent::Idle, &mut out).map(|()| Flow::Done)
                }
                None => Ok(Flow::Done),
            }
        };
        *more = out.check(flow)? == Flow::More;
        Ok(true)
    }

    /// Gives rows of input `port` to the head.
    pub fn push_batch(&mut self, port: usize, batch: Batch) {
        if let Some(head) = self.operators.first_mut()
            && !batch.is_empty()
        {
            head.queue.push_back(ChainElement::Batch(port, batch));
        }
    }

    /// Tells the head about time. With a source as head: what it would have said itself.
    ///
    /// # Errors
    /// Of the outputs.
    pub fn push_time(&mut self, event: TimeEvent, outputs: &mut Outputs) -> Result<()> {
        let Some(source) = &mut self.source else {
            if let Some(head) = self.operators.first_mut() {
                head.queue.push_back(ChainElement::Time(event));
            }
            return Ok(());
        };
        let next = match self.operators.first_mut() {
            Some(head) => Next::Stage(&mut head.queue),
            None => Next::Outputs(outputs),
        };
        let mut out = StageCollector { next, time: &mut source.time, figures: &source.figures, error: None };
        match event {
            TimeEvent::Watermark(ms) => out.watermark(ms),
            TimeEvent::Idle | TimeEvent::Active => out.idle(event == TimeEvent::Idle),
        }
        out.check(Ok(()))
    }

    /// Lets the source emit.
    ///
    /// # Errors
    /// Of the source, or when the chain has none.
    pub fn poll_source(&mut self, outputs: &mut Outputs) -> Result<SourceStatus> {
        let Some(source) = &mut self.source else {
            return Err(EngineError::Internal("a task without source was polled".into()));
        };
        source.woken.store(false, Ordering::Release);
        let next = match self.operators.first_mut() {
            Some(head) => Next::Stage(&mut head.queue),
            None => Next::Outputs(outputs),
        };
        let mut out = StageCollector { next, time: &mut source.time, figures: &source.figures, error: None };
        let status = source.operator.poll(&mut out);
        out.check(status)
    }

    /// Whether the source's waker was used since it was last polled.
    pub fn source_woken(&self) -> bool {
        self.source.as_ref().is_some_and(|s| s.woken.load(Ordering::Acquire))
    }

    /// The watermark that the chain has emitted.
    pub fn output_watermark(&self) -> i64 {
        let last = self.operators.last().map(|s| s.time.watermark);
        last.or_else(|| self.source.as_ref().map(|s| s.time.watermark)).unwrap_or(MIN_WATERMARK)
    }

    /// Calls the timers of one operator that is due or was woken. False: none was.
    ///
    /// # Errors
    /// Of the operator.
    pub fn run_timers(&mut self, now_ms: i64, outputs: &mut Outputs) -> Result<bool> {
        let due = |s: &Stage<dyn Operator>| {
            !s.more && (s.woken.load(Ordering::Acquire) || s.operator.next_timer_ms().is_some_and(|t| t <= now_ms))
        };
        let Some(index) = self.operators.iter().rposition(due) else { return Ok(false) };
        self.operators[index].woken.store(false, Ordering::Release);
        let (operator, _, more, mut out) = split(&mut self.operators, index, outputs);
        let flow = operator.timers(now_ms, &mut out);
        *more = out.check(flow)? == Flow::More;
        Ok(true)
    }

    /// When the next timer is due (wall clock, ms).
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.operators.iter().filter_map(|s| s.operator.next_timer_ms()).min()
    }

    /// Prepares operator `index` for a barrier.
    ///
    /// # Errors
    /// Of the operator.
    pub fn prepare_barrier(&mut self, index: usize, checkpoint: u64, outputs: &mut Outputs) -> Result<()> {
        let (operator, _, _, mut out) = split(&mut self.operators, index, outputs);
        let result = operator.prepare_barrier(checkpoint, &mut out);
        out.check(result)
    }

    /// The synchronous part of the snapshots of all, head first.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn snapshot(&mut self, checkpoint: u64) -> Result<Vec<MemberSnapshot>> {
        let mut snapshots = Vec::with_capacity(self.operators.len() + 1);
        if let Some(s) = &mut self.source {
            let snapshot = s.operator.snapshot(checkpoint)?;
            snapshots.push(MemberSnapshot { uid: s.uid.clone(), kind: s.kind.clone(), snapshot });
        }
        for s in &mut self.operators {
            let snapshot = s.operator.snapshot(checkpoint)?;
            snapshots.push(MemberSnapshot { uid: s.uid.clone(), kind: s.kind.clone(), snapshot });
        }
        Ok(snapshots)
    }

    /// Tells all that a checkpoint completed.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn checkpoint_complete(&mut self, checkpoint: u64) -> Result<()> {
        if let Some(source) = &mut self.source {
            source.operator.checkpoint_complete(checkpoint)?;
        }
        self.operators.iter_mut().try_for_each(|s| s.operator.checkpoint_complete(checkpoint))
    }

    /// Tells all that a checkpoint was given up.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn checkpoint_aborted(&mut self, checkpoint: u64) -> Result<()> {
        self.operators.iter_mut().try_for_each(|s| s.operator.checkpoint_aborted(checkpoint))
    }

    /// Gives a coordinator's message to the operator `uid`; one for an unknown operator is dropped.
    ///
    /// # Errors
    /// Of the operator.
    pub fn coordinator_message(&mut self, uid: &str, payload: &[u8]) -> Result<()> {
        if let Some(source) = &mut self.source
            && source.uid == uid
        {
            source.woken.store(true, Ordering::Release);
            return source.operator.coordinator_message(payload);
        }
        match self.operators.iter_mut().find(|s| s.uid == uid) {
            Some(stage) => {
                stage.woken.store(true, Ordering::Release);
                stage.operator.coordinator_message(payload)
            }
            None => {
                tracing::warn!(operator = uid, "dropped a coordinator's message for an operator that this task lacks");
                Ok(())
            }
        }
    }

    /// Lets operator `index` finish.
    ///
    /// # Errors
    /// Of the operator.
    pub fn finish(&mut self, index: usize, outputs: &mut Outputs) -> Result<()> {
        let (operator, _, more, mut out) = split(&mut self.operators, index, outputs);
        let flow = operator.finish(&mut out);
        *more = out.check(flow)? == Flow::More;
        Ok(())
    }

    /// Whether no operator has work in flight off-thread.
    pub fn quiescent(&self) -> bool {
        self.operators.iter().all(|s| s.operator.quiescent())
    }

    /// Whether an operator can take nothing before changes of its state are written back.
    pub fn awaits_write_back(&self) -> bool {
        self.operators.iter().any(|s| s.operator.awaits_write_back())
    }

    /// Closes all.
    pub fn close(&mut self) {
        if let Some(source) = &mut self.source {
            source.operator.close();
        }
        for stage in &mut self.operators {
            stage.operator.close();
        }
    }
}
