//! Small operators and a harness for tests that run tasks on one thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use hurtig_graph::config::Configuration;
use hurtig_graph::ids::{AttemptId, JobId};
use hurtig_graph::types::DataType;
use hurtig_graph::{RowField, RowSchema};
use hurtig_proto::v1;
use hurtig_state::backend::KeyedBackend;
use hurtig_state::storage::ObjectStores;
use parking_lot::Mutex;

use crate::batch::Batch;
use crate::clock::VirtualClock;
use crate::element::StreamElement;
use crate::error::{EngineError, Result};
use crate::exchange::channel::{Channel, ChannelKey, Payload};
use crate::exchange::output::{OutputSpec, OutputTarget};
use crate::exchange::{ExchangeConfig, Outputs};
use crate::executor::{BackgroundExecutor, InlineExecutor, Job};
use crate::operator::{
    Collector, Flow, Operator, OperatorContext, OperatorCounters, OperatorSnapshot, RestoredState, TaskInfo,
};
use crate::registry::ChainMember;
use crate::source::{SourceReader, SourceStatus};
use crate::task::machine::{InputSpec, RecoveredInput};
use crate::task::snapshot::SnapshotStore;
use crate::task::{
    Acknowledgement, Mailbox, MemberSpec, Notifier, Outcome, Task, TaskHandle, TaskListener, TaskMetrics, TaskSpec,
};
use crate::taskmanager::restore::operator_state;

/// Columns `k` and `v`.
pub fn row_schema() -> RowSchema {
    let bigint = || DataType::parse("BIGINT").unwrap();
    RowSchema::new(vec![RowField::new("k", bigint()), RowField::new("v", bigint())])
}

pub fn schema() -> SchemaRef {
    row_schema().to_arrow()
}

pub fn rows(rows: &[(i64, i64)]) -> Batch {
    let k = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let v = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    Batch::inserts(RecordBatch::try_new(schema(), vec![Arc::new(k), Arc::new(v)]).unwrap())
}

pub fn read(batch: &Batch) -> Vec<(i64, i64)> {
    let (k, v) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
    (0..k.len()).map(|i| (k.value(i), v.value(i))).collect()
}

/// Everything queued in a channel.
pub fn drain(channel: &Channel) -> Vec<StreamElement> {
    let mut elements = Vec::new();
    while let Some(item) = channel.take() {
        match item.payload {
            Payload::Element(element) => elements.push(element),
            Payload::Encoded(_) => panic!("an encoded batch in a local channel"),
        }
    }
    elements
}

/// A short form of elements, to compare.
pub fn shown(elements: &[StreamElement]) -> Vec<String> {
    let show = |e: &StreamElement| match e {
        StreamElement::Data(batch) => format!("{:?}", read(batch).iter().map(|r| r.1).collect::<Vec<_>>()),
        StreamElement::Watermark(ms) if *ms == i64::MAX => "W(max)".into(),
        StreamElement::Watermark(ms) => format!("W({ms})"),
        StreamElement::Barrier(barrier) => format!("B{}", barrier.checkpoint),
        StreamElement::CancelBarrier(checkpoint) => format!("C{checkpoint}"),
        StreamElement::EndOfData { .. } => "EOD".into(),
        other => format!("{other:?}"),
    };
    elements.iter().map(show).collect()
}

/// Emits `count` rows `(n % keys, n)`, `per_poll` at a time, and remembers where it is.
pub struct Numbers {
    pub from: i64,
    pub count: i64,
    pub keys: i64,
    pub per_poll: i64,
    at: i64,
}

impl Numbers {
    pub fn new(from: i64, count: i64, keys: i64, per_poll: i64) -> Numbers {
        Numbers { from, count, keys, per_poll, at: 0 }
    }
}

impl SourceReader for Numbers {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        if let Some(position) = context.restored.list("position").first() {
            self.at = i64::from_le_bytes(position.as_slice().try_into().unwrap());
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> Result<SourceStatus> {
        let end = (self.at + self.per_poll).min(self.count);
        let batch: Vec<_> = (self.at..end).map(|n| ((self.from + n) % self.keys, self.from + n)).collect();
        out.emit(rows(&batch));
        self.at = end;
        Ok(if end == self.count { SourceStatus::Finished } else { SourceStatus::Ready })
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        let position = vec![self.at.to_le_bytes().to_vec()];
        Ok(OperatorSnapshot { lists: vec![("position".into(), position)], ..Default::default() })
    }
}

/// Keeps the splits that it is given and emits nothing.
#[derive(Default)]
pub struct Splits {
    given: Vec<Vec<u8>>,
}

impl SourceReader for Splits {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _out: &mut dyn Collector) -> Result<SourceStatus> {
        Ok(SourceStatus::Pending { until_ms: None })
    }

    fn coordinator_message(&mut self, payload: &[u8]) -> Result<()> {
        self.given.push(payload.to_vec());
        Ok(())
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        Ok(OperatorSnapshot { lists: vec![("splits".into(), self.given.clone())], ..Default::default() })
    }
}

/// Sums `v` by `k`, emits the sums at the end of input, a few at a time.
#[derive(Default)]
pub struct Sum {
    sums: BTreeMap<i64, i64>,
    left: VecDeque<(i64, i64)>,
}

impl Operator for Sum {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        for element in context.restored.list("sums") {
            let number = |i: usize| i64::from_le_bytes(element[i..i + 8].try_into().unwrap());
            self.sums.insert(number(0), number(8));
        }
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        for (k, v) in read(&batch) {
            *self.sums.entry(k).or_default() += v;
        }
        Ok(Flow::Done)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        if let Some(row) = self.left.pop_front() {
            out.emit(rows(&[row]));
        }
        Ok(if self.left.is_empty() { Flow::Done } else { Flow::More })
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<OperatorSnapshot> {
        let elements = self.sums.iter().map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat());
        Ok(OperatorSnapshot { lists: vec![("sums".into(), elements.collect())], ..Default::default() })
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        self.left = std::mem::take(&mut self.sums).into_iter().collect();
        self.resume(out)
    }
}

/// Passes everything on; before a barrier it emits a row of its own if told to.
#[derive(Default)]
pub struct Pass {
    pub before_barrier: Option<i64>,
}

impl Operator for Pass {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        out.emit(batch);
        Ok(Flow::Done)
    }

    fn prepare_barrier(&mut self, _checkpoint: u64, out: &mut dyn Collector) -> Result<()> {
        if let Some(v) = self.before_barrier {
            out.emit(rows(&[(0, v)]));
        }
        Ok(())
    }
}

/// Emits a row at each of the given times, and one when `work` that it has in flight has ended.
pub struct Alarm {
    pub at_ms: VecDeque<i64>,
    pub work: Arc<Mutex<Option<Job>>>,
    running: Arc<Mutex<bool>>,
    waker: Option<crate::executor::Waker>,
}

impl Alarm {
    pub fn new(at_ms: &[i64], work: &Arc<Mutex<Option<Job>>>) -> Alarm {
        let at_ms = at_ms.iter().copied().collect();
        Alarm { at_ms, work: Arc::clone(work), running: Arc::default(), waker: None }
    }
}

impl Operator for Alarm {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        self.waker = Some(context.waker);
        Ok(())
    }

    fn process(&mut self, _port: usize, _batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        // The test runs it, as an executor would at some time.
        let (running, waker) = (Arc::clone(&self.running), self.waker.clone().unwrap());
        *self.running.lock() = true;
        *self.work.lock() = Some(Box::new(move || {
            *running.lock() = false;
            waker();
        }));
        Ok(Flow::Done)
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.at_ms.front().copied()
    }

    fn timers(&mut self, now_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        if self.at_ms.pop_front_if(|t| *t <= now_ms).is_some() {
            out.emit(rows(&[(0, now_ms)]));
        }
        Ok(Flow::Done)
    }

    fn quiescent(&self) -> bool {
        !*self.running.lock()
    }
}

/// Calls a function for each batch.
pub struct Call<F>(pub F);

impl<F: FnMut(&Batch) -> Result<()> + Send> Operator for Call<F> {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        (self.0)(&batch)?;
        out.emit(batch);
        Ok(Flow::Done)
    }
}

/// Writes rows to `committed` when the checkpoint that covers them completes; without checkpoints at
/// the end.
pub struct CommitSink {
    pub committed: Arc<Mutex<Vec<(i64, i64)>>>,
    pub checkpointing: bool,
    open: Vec<(i64, i64)>,
    prepared: BTreeMap<u64, Vec<(i64, i64)>>,
}

impl CommitSink {
    pub fn new(committed: &Arc<Mutex<Vec<(i64, i64)>>>, checkpointing: bool) -> CommitSink {
        CommitSink { committed: Arc::clone(committed), checkpointing, open: Vec::new(), prepared: BTreeMap::new() }
    }
}

impl Operator for CommitSink {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        for element in context.restored.list("prepared") {
            let number = |i: usize| i64::from_le_bytes(element[i..i + 8].try_into().unwrap());
            let row = (number(0), number(8));
            let mut committed = self.committed.lock();
            // Committing is idempotent.
            if !committed.contains(&row) {
                committed.push(row);
            }
        }
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        self.open.extend(read(&batch));
        Ok(Flow::Done)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<OperatorSnapshot> {
        self.prepared.insert(checkpoint, std::mem::take(&mut self.open));
        let rows = self.prepared.values().flatten();
        let elements = rows.map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect();
        Ok(OperatorSnapshot { lists: vec![("prepared".into(), elements)], ..Default::default() })
    }

    fn checkpoint_complete(&mut self, checkpoint: u64) -> Result<()> {
        let later = self.prepared.split_off(&(checkpoint + 1));
        for rows in std::mem::replace(&mut self.prepared, later).into_values() {
            self.committed.lock().extend(rows);
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Collector) -> Result<Flow> {
        if !self.checkpointing {
            self.committed.lock().append(&mut self.open);
        }
        Ok(Flow::Done)
    }
}

/// What a task reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Running,
    Ack(u64),
    Decline(u64, String),
    EndOfData,
    Ended(Outcome),
}

/// Remembers what a task reports.
#[derive(Default)]
pub struct Recorder {
    pub events: Mutex<Vec<Event>>,
    pub snapshots: Mutex<BTreeMap<u64, v1::SubtaskSnapshot>>,
}

impl Recorder {
    fn add(&self, event: Event) {
        self.events.lock().push(event);
    }

    pub fn has(&self, event: &Event) -> bool {
        self.events.lock().contains(event)
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.events.lock().iter().find_map(|e| match e {
            Event::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        })
    }
}

impl TaskListener for Recorder {
    fn running(&self) {
        self.add(Event::Running);
    }

    fn acknowledge(&self, ack: Acknowledgement) {
        self.snapshots.lock().insert(ack.checkpoint, ack.snapshot);
        self.add(Event::Ack(ack.checkpoint));
    }

    fn decline(&self, checkpoint: u64, reason: &str) {
        self.add(Event::Decline(checkpoint, reason.to_owned()));
    }

    fn end_of_data(&self) {
        self.add(Event::EndOfData);
    }

    fn ended(&self, outcome: &Outcome) {
        self.add(Event::Ended(outcome.clone()));
    }
}

/// Keeps jobs until told to run them.
#[derive(Default)]
pub struct ManualExecutor(Mutex<Vec<Job>>);

impl ManualExecutor {
    pub fn run(&self) {
        let jobs = std::mem::take(&mut *self.0.lock());
        jobs.into_iter().for_each(|job| job());
    }
}

impl BackgroundExecutor for ManualExecutor {
    fn spawn(&self, job: Job) {
        self.0.lock().push(job);
    }
}

pub fn job_id() -> JobId {
    JobId::from_u128(7)
}

/// A channel of the test's own.
pub fn channel(edge: &str, producer: u32, consumer: u32) -> Arc<Channel> {
    let key = ChannelKey {
        job: job_id().as_str().to_owned(),
        edge: edge.to_owned(),
        producer_subtask: producer,
        producer_attempt: 0,
        consumer_subtask: consumer,
        consumer_attempt: 0,
    };
    Channel::new(key, ExchangeConfig::default().queue_bytes)
}

pub fn partitioner(kind: v1::partitioner::Kind) -> v1::Partitioner {
    v1::Partitioner { kind: Some(kind) }
}

pub fn output(edge: &str, kind: v1::partitioner::Kind, channels: &[Arc<Channel>]) -> OutputSpec {
    OutputSpec {
        edge: edge.to_owned(),
        partitioner: partitioner(kind),
        schema: schema(),
        consumer_max_parallelism: 128,
        targets: channels.iter().map(|c| OutputTarget { channel: Arc::clone(c), remote: false }).collect(),
    }
}

pub fn forward() -> v1::partitioner::Kind {
    v1::partitioner::Kind::Forward(v1::Forward {})
}

/// Builds tasks that share a clock.
pub struct Harness {
    pub clock: Arc<VirtualClock>,
    pub executor: Arc<dyn BackgroundExecutor>,
    pub checkpointing: bool,
    pub restore: Option<(u64, v1::SubtaskSnapshot)>,
    pub recovered: Vec<RecoveredInput>,
    /// Folder (URI) of checkpoints.
    pub checkpoints: String,
}

pub struct Built {
    pub task: Box<Task>,
    pub handle: TaskHandle,
    pub recorder: Arc<Recorder>,
}

impl Default for Harness {
    fn default() -> Self {
        Harness {
            clock: VirtualClock::at(1_000),
            executor: Arc::new(InlineExecutor),
            checkpointing: false,
            restore: None,
            recovered: Vec::new(),
            checkpoints: String::new(),
        }
    }
}

impl Harness {
    pub fn task(
        &self,
        vertex: &str,
        subtask: u32,
        members: Vec<ChainMember>,
        inputs: &[(usize, Arc<Channel>)],
        outputs: Vec<OutputSpec>,
    ) -> Built {
        let attempt = AttemptId { job: job_id(), vertex: vertex.to_owned(), subtask, attempt: 0 };
        let info = Arc::new(TaskInfo {
            attempt,
            job_name: "test".into(),
            vertex_name: vertex.into(),
            parallelism: 1,
            max_parallelism: 128,
        });
        let keyed = Arc::new(KeyedBackend::detached((0, 127), 128));
        let mailbox = Mailbox::new(Notifier::new(Arc::new(|| {})));
        let handle = mailbox.handle().clone();
        let recorder = Arc::new(Recorder::default());
        let members = members.into_iter().enumerate().map(|(i, m)| self.member(vertex, i, m, &info, &keyed, &handle));
        let task = Task::new(TaskSpec {
            info: Arc::clone(&info),
            members: members.collect(),
            inputs: inputs
                .iter()
                .map(|(port, channel)| InputSpec { port: *port, schema: schema(), channel: Arc::clone(channel) })
                .collect(),
            outputs: Outputs::new(outputs, self.clock.clone(), &ExchangeConfig::default(), 0).unwrap(),
            registry: None,
            recovered: self.recovered.clone(),
            keyed: Arc::clone(&keyed),
            checkpointing: self.checkpointing,
            finished: self.restore.as_ref().is_some_and(|(_, s)| s.finished),
            store: SnapshotStore { directory: self.checkpoints.clone(), ..SnapshotStore::default() },
            clock: self.clock.clone(),
            executor: Arc::clone(&self.executor),
            listener: Arc::clone(&recorder) as Arc<dyn TaskListener>,
            metrics: Arc::new(TaskMetrics::new(Vec::new())),
            mailbox,
        });
        Built { task: Box::new(task.unwrap()), handle, recorder }
    }

    fn member(
        &self,
        vertex: &str,
        index: usize,
        member: ChainMember,
        info: &Arc<TaskInfo>,
        keyed: &Arc<KeyedBackend>,
        handle: &TaskHandle,
    ) -> MemberSpec {
        let uid = format!("{vertex}-{index}");
        let restored = match &self.restore {
            Some((checkpoint, snapshot)) => {
                operator_state(&uid, *checkpoint, std::slice::from_ref(snapshot), 1, snapshot.subtask, 1)
            }
            None => RestoredState::default(),
        };
        let woken = Arc::new(AtomicBool::new(false));
        let (flag, wake) = (Arc::clone(&woken), handle.waker());
        let context = OperatorContext {
            task: Arc::clone(info),
            uid: uid.clone(),
            inputs: vec![row_schema()],
            output: row_schema(),
            configuration: Arc::new(Configuration::default()),
            clock: self.clock.clone(),
            executor: Arc::clone(&self.executor),
            waker: Arc::new(move || {
                flag.store(true, Ordering::Release);
                wake();
            }),
            keyed: Arc::clone(keyed),
            stores: Arc::new(ObjectStores::default()),
            restored,
            counters: Arc::new(OperatorCounters::default()),
            to_coordinator: Arc::new(|_| {}),
            collect: Arc::new(|_| {}),
        };
        MemberSpec { uid, kind: "test".into(), member, context, woken }
    }
}

pub fn operator(operator: impl Operator + 'static) -> ChainMember {
    ChainMember::Operator(Box::new(operator))
}

pub fn source(reader: impl SourceReader + 'static) -> ChainMember {
    ChainMember::Source(Box::new(reader))
}

pub fn failing(message: &'static str) -> ChainMember {
    operator(Call(move |_: &Batch| Err(EngineError::Runtime(message.into()))))
}
