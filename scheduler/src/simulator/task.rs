//! Virtual tasks: sources that emit the records of splits, operators that count what passes, sinks
//! that write it in transactions. Channels carry ranges of records, barriers and end markers in
//! order; barriers are aligned as in the real engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Bug;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::v1;
use hurtig_proto::v1::partitioner::Kind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// An attempt: job, vertex, subtask, attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    pub job: String,
    pub vertex: String,
    pub subtask: u32,
    pub attempt: u32,
}

impl TaskId {
    pub fn of(proto: &internal::AttemptId) -> TaskId {
        TaskId {
            job: proto.job_id.clone(),
            vertex: proto.vertex_id.clone(),
            subtask: proto.subtask,
            attempt: proto.attempt,
        }
    }

    pub fn proto(&self) -> internal::AttemptId {
        internal::AttemptId {
            job_id: self.job.clone(),
            vertex_id: self.vertex.clone(),
            subtask: self.subtask,
            attempt: self.attempt,
        }
    }
}

/// Records `from..to` of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Records {
    pub split: u32,
    pub from: u64,
    pub to: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Element {
    Records(Records),
    Barrier(u64, StopMode),
    EndOfData,
    EndOfPartition,
}

/// (number of the edge, producer subtask, producer attempt, consumer subtask, consumer attempt)
pub type ChannelId = (u32, u32, u32, u32, u32);

/// Everything in flight between tasks.
pub type Channels = BTreeMap<ChannelId, VecDeque<Element>>;

/// What a sink holds back until a checkpoint completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub checkpoint: u64,
    /// Subtask and attempt that wrote it; with the checkpoint its name in the outside world.
    pub writer: (u32, u32),
    pub records: Vec<Records>,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskState {
    /// The attempt that took the snapshot.
    pub attempt: u32,
    /// Of a source: next and last record of each split.
    pub splits: BTreeMap<u32, (u64, u64)>,
    /// Of others: records received of each split.
    pub seen: BTreeMap<u32, u64>,
    /// Of a sink.
    pub transactions: Vec<Transaction>,
}

#[derive(Debug)]
struct Input {
    channel: ChannelId,
    /// Has delivered the barrier that is being aligned.
    aligned: bool,
    ended: bool,
    closed: bool,
}

#[derive(Debug)]
struct Output {
    keyed: bool,
    channels: Vec<ChannelId>,
}

/// What a step of a task comes to.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Ask the enumerator for a split.
    RequestSplit,
    /// Tell the JobManager that the data has ended.
    EndOfData,
    /// The snapshot of a checkpoint is taken and its upload begins.
    Snapshot { checkpoint: u64, state: TaskState },
    /// The outside world is told to commit, because checkpoint `by` is complete (0: without
    /// checkpoints).
    Commit { transaction: Transaction, by: u64 },
    /// The task has ended.
    Finished,
}

#[derive(Debug)]
enum Mail {
    Barrier(u64, StopMode),
    /// `None`: there are no more.
    Split(Option<u32>),
}

/// A running task.
#[derive(Debug)]
pub struct Task {
    pub id: TaskId,
    pub checkpointing: bool,
    pub running: bool,
    is_source: bool,
    is_sink: bool,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    state: TaskState,
    open: Vec<Records>,
    no_more_splits: bool,
    requested: bool,
    /// What the JobManager has sent to a source, in order.
    mailbox: VecDeque<Mail>,
    /// Barrier being aligned.
    aligning: Option<(u64, StopMode)>,
    /// Barrier of the JobManager, for a task with inputs.
    triggered: Option<(u64, StopMode)>,
    /// It waits for this savepoint and then ends.
    stopping: Option<u64>,
    last_barrier: u64,
    aborted: BTreeSet<u64>,
    ended: bool,
    /// First checkpoint after the end of the data.
    end_checkpoint: Option<u64>,
    finished: bool,
    split_records: u64,
    bug: Option<Bug>,
    /// State objects of the last checkpoint that it was told completed, and of later ones.
    pub base: Vec<String>,
    pub uploaded: BTreeMap<u64, Vec<String>>,
}

impl Task {
    /// Builds a task and restores its state. The effects are commits of restored transactions.
    pub fn build(deployment: &internal::TaskDeployment, split_records: u64, bug: Option<Bug>) -> (Task, Vec<Effect>) {
        let id = TaskId::of(deployment.attempt.as_ref().unwrap_or(&internal::AttemptId::default()));
        let restored = deployment.restore.first();
        let shell = restored.is_some_and(|snapshot| snapshot.finished);
        let mut state = if restored.is_some() && deployment.restore_parallelism != deployment.parallelism {
            deal(&deployment.restore, id.subtask, deployment.parallelism, bug)
        } else {
            restored.map(decode).unwrap_or_default()
        };
        state.attempt = id.attempt;
        let is_sink = deployment.outputs.is_empty();
        let mut commits = std::mem::take(&mut state.transactions);
        if bug == Some(Bug::DoubleCommit) {
            commits.iter_mut().for_each(|transaction| transaction.writer = (id.subtask, id.attempt));
        }
        let restore_id = deployment.restore_checkpoint_id;
        let task = Task {
            inputs: inputs(deployment, &id),
            outputs: outputs(deployment, &id),
            checkpointing: !deployment.checkpoint_directory.is_empty(),
            running: false,
            is_source: deployment.inputs.is_empty(),
            is_sink,
            id,
            state,
            open: Vec::new(),
            no_more_splits: shell,
            requested: false,
            mailbox: VecDeque::new(),
            aligning: None,
            triggered: None,
            stopping: None,
            last_barrier: restore_id,
            aborted: BTreeSet::new(),
            ended: false,
            end_checkpoint: shell.then_some(0),
            finished: false,
            split_records,
            bug,
            base: deployment.restore.iter().flat_map(files_of).collect(),
            uploaded: BTreeMap::new(),
        };
        (task, commits.into_iter().map(|transaction| Effect::Commit { transaction, by: restore_id }).collect())
    }

    /// The enumerator's answer.
    pub fn on_split(&mut self, split: Option<u32>) {
        self.mailbox.push_back(Mail::Split(split));
    }

    /// A barrier by the JobManager's call.
    pub fn on_trigger(&mut self, checkpoint: u64, stop: StopMode) {
        if self.is_source {
            self.mailbox.push_back(Mail::Barrier(checkpoint, stop));
        } else if checkpoint > self.last_barrier {
            self.triggered = Some((checkpoint, stop));
        }
    }

    fn read_mailbox(&mut self, channels: &mut Channels, effects: &mut Vec<Effect>) {
        while let Some(mail) = self.mailbox.pop_front() {
            match mail {
                Mail::Barrier(checkpoint, stop) => {
                    if stop == StopMode::Drain && !self.aborted.contains(&checkpoint) {
                        self.end_of_data(channels, effects);
                    }
                    self.snapshot(checkpoint, stop, channels, effects);
                }
                Mail::Split(split) => {
                    self.requested = false;
                    self.no_more_splits |= split.is_none();
                    let records = self.split_records;
                    self.state.splits.extend(split.map(|split| (split, (0, records))));
                }
            }
        }
    }

    /// A checkpoint will not complete.
    pub fn on_aborted(&mut self, checkpoint: u64) {
        self.aborted.insert(checkpoint);
        self.stopping = self.stopping.filter(|stopping| *stopping != checkpoint);
        if self.aligning.is_some_and(|(aligning, _)| aligning == checkpoint) {
            self.stop_aligning();
        }
    }

    /// A checkpoint is complete.
    pub fn on_complete(&mut self, checkpoint: u64, channels: &mut Channels) -> Vec<Effect> {
        if let Some(files) = self.uploaded.get(&checkpoint) {
            self.base.clone_from(files);
        }
        self.uploaded.retain(|id, _| *id > checkpoint);
        let mut effects = Vec::new();
        for transaction in std::mem::take(&mut self.state.transactions) {
            if transaction.checkpoint <= checkpoint {
                effects.push(Effect::Commit { transaction, by: checkpoint });
            } else {
                self.state.transactions.push(transaction);
            }
        }
        if self.end_checkpoint.is_some_and(|end| end <= checkpoint) || self.stopping == Some(checkpoint) {
            self.finish(channels, &mut effects);
        }
        effects
    }

    /// Its data has come to an end.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Works for a while.
    pub fn step(&mut self, channels: &mut Channels, rng: &mut ChaCha8Rng) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.finished || !self.running {
            return effects;
        }
        if self.is_source {
            self.read_mailbox(channels, &mut effects);
            if self.stopping.is_none() {
                self.emit_records(channels, rng, &mut effects);
            }
        } else if self.stopping.is_none() {
            self.read_inputs(channels, &mut effects);
        }
        effects
    }

    fn emit_records(&mut self, channels: &mut Channels, rng: &mut ChaCha8Rng, effects: &mut Vec<Effect>) {
        let unread =
            self.state.splits.iter().find(|(_, (next, end))| next < end).map(|(split, range)| (*split, *range));
        if let Some((split, (next, end))) = unread {
            let to = (next + rng.random_range(1..=18)).min(end);
            self.state.splits.insert(split, (to, end));
            let mut from = next;
            while from < to {
                // A key is four records, so that a replay sends each record the same way.
                let until = ((from / 4 + 1) * 4).min(to);
                self.send(Records { split, from, to: until }, channels);
                from = until;
            }
        } else if self.no_more_splits {
            self.end_of_data(channels, effects);
        } else if !self.requested {
            self.requested = true;
            effects.push(Effect::RequestSplit);
        }
    }

    fn read_inputs(&mut self, channels: &mut Channels, effects: &mut Vec<Effect>) {
        for i in 0..self.inputs.len() {
            while !self.inputs[i].aligned && self.stopping.is_none() {
                let Some(element) = channels.get_mut(&self.inputs[i].channel).and_then(VecDeque::pop_front) else {
                    break;
                };
                match element {
                    Element::Records(records) => self.receive(records, channels),
                    Element::Barrier(checkpoint, stop) => self.on_barrier(i, checkpoint, stop),
                    Element::EndOfData => self.inputs[i].ended = true,
                    Element::EndOfPartition => self.inputs[i].closed = true,
                }
                self.snapshot_if_aligned(channels, effects);
            }
        }
        if self.stopping.is_none() {
            if self.inputs.iter().all(|input| input.ended || input.closed) {
                self.end_of_data(channels, effects);
            }
            self.snapshot_if_aligned(channels, effects);
        }
    }

    fn receive(&mut self, records: Records, channels: &mut Channels) {
        *self.state.seen.entry(records.split).or_default() += records.to - records.from;
        if self.is_sink { self.open.push(records) } else { self.send(records, channels) }
    }

    fn on_barrier(&mut self, input: usize, checkpoint: u64, stop: StopMode) {
        if checkpoint <= self.last_barrier || self.aborted.contains(&checkpoint) {
            return;
        }
        if self.aligning.is_some_and(|(aligning, _)| aligning != checkpoint) {
            self.stop_aligning();
        }
        self.aligning = Some((checkpoint, stop));
        self.inputs[input].aligned = true;
    }

    fn stop_aligning(&mut self) {
        self.aligning = None;
        self.inputs.iter_mut().for_each(|input| input.aligned = false);
    }

    fn snapshot_if_aligned(&mut self, channels: &mut Channels, effects: &mut Vec<Effect>) {
        let (checkpoint, stop) = match (self.aligning, self.triggered) {
            (Some(barrier), _) => barrier,
            // Called for only when all producers have ended: a barrier on every open channel.
            (None, Some(barrier)) if !self.aborted.contains(&barrier.0) => barrier,
            _ => return,
        };
        if self.inputs.iter().all(|input| input.aligned || input.closed) {
            self.triggered = None;
            self.snapshot(checkpoint, stop, channels, effects);
            self.stop_aligning();
        }
    }

    fn snapshot(&mut self, checkpoint: u64, stop: StopMode, channels: &mut Channels, effects: &mut Vec<Effect>) {
        if checkpoint <= self.last_barrier || self.aborted.contains(&checkpoint) {
            return;
        }
        self.last_barrier = checkpoint;
        self.broadcast(Element::Barrier(checkpoint, stop), channels);
        self.stopping = (stop != StopMode::None).then_some(checkpoint);
        if self.is_sink {
            let records = std::mem::take(&mut self.open);
            let transaction = Transaction { checkpoint, writer: self.writer(), records };
            if self.bug == Some(Bug::CommitBeforeCompletion) {
                effects.push(Effect::Commit { transaction: transaction.clone(), by: checkpoint });
            }
            self.state.transactions.push(transaction);
        }
        if self.ended {
            self.end_checkpoint.get_or_insert(checkpoint);
        }
        effects.push(Effect::Snapshot { checkpoint, state: self.state.clone() });
    }

    fn end_of_data(&mut self, channels: &mut Channels, effects: &mut Vec<Effect>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.broadcast(Element::EndOfData, channels);
        if self.end_checkpoint == Some(0) {
            // It had finished before the checkpoint that was restored.
            self.finish(channels, effects);
        } else if self.checkpointing {
            effects.push(Effect::EndOfData);
        } else {
            let records = std::mem::take(&mut self.open);
            // Those of savepoints, and the rest.
            let mut transactions = std::mem::take(&mut self.state.transactions);
            transactions.push(Transaction { checkpoint: 0, writer: self.writer(), records });
            effects.extend(transactions.into_iter().map(|transaction| Effect::Commit { transaction, by: 0 }));
            self.finish(channels, effects);
        }
    }

    fn finish(&mut self, channels: &mut Channels, effects: &mut Vec<Effect>) {
        if !self.finished {
            self.finished = true;
            self.broadcast(Element::EndOfPartition, channels);
            effects.push(Effect::Finished);
        }
    }

    fn writer(&self) -> (u32, u32) {
        (self.id.subtask, self.id.attempt)
    }

    fn send(&self, records: Records, channels: &mut Channels) {
        for output in &self.outputs {
            let target = if output.keyed { (u64::from(records.split) + records.from / 4) as usize } else { 0 };
            if let Some(channel) = output.channels.get(target % output.channels.len().max(1)) {
                channels.entry(*channel).or_default().push_back(Element::Records(records));
            }
        }
    }

    fn broadcast(&self, element: Element, channels: &mut Channels) {
        for channel in self.outputs.iter().flat_map(|output| &output.channels) {
            channels.entry(*channel).or_default().push_back(element);
        }
    }
}

/// The part of `subtask` of what tasks at another parallelism have left.
fn deal(restore: &[v1::SubtaskSnapshot], subtask: u32, parallelism: u32, bug: Option<Bug>) -> TaskState {
    let mut state = TaskState::default();
    let mut nth = 0;
    for old in restore.iter().map(decode) {
        for (split, range) in old.splits {
            nth += 1;
            if nth % parallelism == subtask {
                state.splits.insert(split, range);
            }
        }
        if subtask == 0 {
            let last = old.seen.keys().next_back().copied().filter(|_| bug == Some(Bug::KeyGroupRangeOffByOne));
            for (split, count) in old.seen.into_iter().filter(|(split, _)| Some(*split) != last) {
                *state.seen.entry(split).or_default() += count;
            }
            state.transactions.extend(old.transactions);
        }
    }
    state
}

fn inputs(deployment: &internal::TaskDeployment, id: &TaskId) -> Vec<Input> {
    let channels = deployment.inputs.iter().flat_map(|gate| gate.channels.iter().map(move |c| (gate, c)));
    let input = |(gate, channel): (&internal::InputGate, &internal::InputChannel)| Input {
        channel: (
            edge_number(&gate.edge_id),
            channel.producer_subtask,
            channel.producer_attempt,
            id.subtask,
            id.attempt,
        ),
        aligned: false,
        ended: false,
        closed: false,
    };
    channels.map(input).collect()
}

/// Edges of the simulator's plans are called e0, e1, ...
fn edge_number(id: &str) -> u32 {
    id.get(1..).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}

fn outputs(deployment: &internal::TaskDeployment, id: &TaskId) -> Vec<Output> {
    let output = |edge: &internal::OutputEdge| Output {
        keyed: matches!(edge.partitioner.as_ref().and_then(|p| p.kind.as_ref()), Some(Kind::Hash(_))),
        channels: edge
            .channels
            .iter()
            .map(|c| (edge_number(&edge.edge_id), id.subtask, id.attempt, c.consumer_subtask, c.consumer_attempt))
            .collect(),
    };
    deployment.outputs.iter().map(output).collect()
}

/// The acknowledged form of a state.
pub fn encode(state: &TaskState, objects: &[String]) -> v1::SubtaskSnapshot {
    let mut words = vec![u64::from(state.attempt), state.splits.len() as u64];
    words.extend(state.splits.iter().flat_map(|(split, (next, end))| [u64::from(*split), *next, *end]));
    words.push(state.seen.len() as u64);
    words.extend(state.seen.iter().flat_map(|(split, count)| [u64::from(*split), *count]));
    words.push(state.transactions.len() as u64);
    for transaction in &state.transactions {
        let records = &transaction.records;
        let (subtask, attempt) = transaction.writer;
        words.extend([transaction.checkpoint, u64::from(subtask), u64::from(attempt), records.len() as u64]);
        words.extend(records.iter().flat_map(|r| [u64::from(r.split), r.from, r.to]));
    }
    let element = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let lists = vec![v1::ListState { name: "state".into(), elements: vec![element] }];
    let file = |object: &String| v1::StateFile {
        handle: Some(v1::FileHandle { object: object.clone(), length: 1, ..Default::default() }),
        ..Default::default()
    };
    v1::SubtaskSnapshot {
        operators: vec![v1::OperatorSnapshot { lists, ..Default::default() }],
        keyed: Some(v1::KeyedSnapshot { files: objects.iter().map(file).collect(), ..Default::default() }),
        ..Default::default()
    }
}

/// Reads what [`encode`] wrote.
pub fn decode(snapshot: &v1::SubtaskSnapshot) -> TaskState {
    let lists = snapshot.operators.iter().flat_map(|operator| &operator.lists);
    let bytes: Vec<u8> = lists.flat_map(|list| &list.elements).flatten().copied().collect();
    let mut words = bytes.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    let mut next = || words.next().unwrap_or(0);
    let mut state = TaskState { attempt: next() as u32, ..TaskState::default() };
    for _ in 0..next() {
        let split = next() as u32;
        state.splits.insert(split, (next(), next()));
    }
    for _ in 0..next() {
        let split = next() as u32;
        state.seen.insert(split, next());
    }
    for _ in 0..next() {
        let (checkpoint, writer, count) = (next(), (next() as u32, next() as u32), next());
        let records = (0..count).map(|_| Records { split: next() as u32, from: next(), to: next() }).collect();
        state.transactions.push(Transaction { checkpoint, writer, records });
    }
    state
}

/// The state objects of a snapshot.
pub fn files_of(snapshot: &v1::SubtaskSnapshot) -> Vec<String> {
    crate::checkpoint::files::objects_of(snapshot).map(str::to_owned).collect()
}
