//! A task's output edges: partitioning, open batches, control elements to every channel.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use hurtig_proto::v1;

use crate::batch::{Batch, TARGET_BYTES, TARGET_ROWS};
use crate::clock::Clock;
use crate::element::{Barrier, StreamElement};
use crate::error::{EngineError, Result};
use crate::exchange::ExchangeConfig;
use crate::exchange::captured::CapturedChannel;
use crate::exchange::channel::{Channel, ChannelFailure, Payload};
use crate::exchange::codec::Encoder;
use crate::exchange::registry::ChannelRegistry;
use crate::exchange::scatter::Scatter;
use crate::executor::Waker;

/// A channel with where its consumer is.
#[derive(Debug, Clone)]
pub struct OutputTarget {
    /// The channel (of a consumer in another process: the part on this side).
    pub channel: Arc<Channel>,
    /// Rows have to be put in their wire form.
    pub remote: bool,
}

/// An edge as its producer sees it.
#[derive(Debug, Clone)]
pub struct OutputSpec {
    /// The edge's id.
    pub edge: String,
    /// How rows find their consumer. Columns are resolved.
    pub partitioner: v1::Partitioner,
    /// Rows on the edge.
    pub schema: SchemaRef,
    /// Number of key groups of the consumer.
    pub consumer_max_parallelism: u32,
    /// The consumers in the order of subtasks: all of them, or for forward and rescale the connected.
    pub targets: Vec<OutputTarget>,
}

/// Rows, batches and bytes that went out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFigures {
    /// Rows, once for each edge.
    pub rows: u64,
    /// Full or partial batches put into channels.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
}

enum Route {
    /// Always the first target.
    First,
    RoundRobin {
        next: usize,
    },
    All,
    Hash(Box<Scatter>),
}

#[derive(Default)]
struct OpenBatch {
    parts: Vec<Batch>,
    rows: usize,
    bytes: usize,
    since_us: u64,
}

struct Edge {
    name: String,
    schema: SchemaRef,
    route: Route,
    targets: Vec<OutputTarget>,
    /// One a target when hashed, else one for all.
    open: Vec<OpenBatch>,
    encoder: Encoder,
}

/// All output edges of a task. Nothing here blocks.
pub struct Outputs {
    edges: Vec<Edge>,
    clock: Arc<dyn Clock>,
    linger_us: u64,
    /// The earliest moment at which an open batch was begun; `u64::MAX`: none is open.
    oldest_us: u64,
    figures: OutputFigures,
}

impl Outputs {
    /// Edges as deployed. `first_target` is where rebalanced batches go first (Flink starts at a
    /// random one for each sender).
    ///
    /// # Errors
    /// An edge without a partitioner or without targets.
    pub fn new(
        specs: Vec<OutputSpec>,
        clock: Arc<dyn Clock>,
        config: &ExchangeConfig,
        first_target: usize,
    ) -> Result<Outputs> {
        let mut edges = Vec::with_capacity(specs.len());
        for spec in specs {
            edges.push(Edge::new(spec, config, first_target)?);
        }
        Ok(Outputs {
            edges,
            clock,
            linger_us: config.linger_ms * 1000,
            oldest_us: u64::MAX,
            figures: OutputFigures::default(),
        })
    }

    /// Sends rows to every edge; those of partial batches wait for more.
    ///
    /// # Errors
    /// Rows that do not fit the edge's schema.
    pub fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() || self.edges.is_empty() {
            return Ok(());
        }
        let now_us = self.clock.monotonic_us();
        for edge in &mut self.edges {
            let batch = edge.conform(&batch)?;
            self.figures.rows += batch.num_rows() as u64;
            if edge.emit(batch, now_us, &mut self.figures)? {
                self.oldest_us = self.oldest_us.min(now_us);
            }
        }
        Ok(())
    }

    /// Sends an element other than rows to every channel, behind all rows emitted so far.
    ///
    /// # Errors
    /// As [`Outputs::flush`].
    pub fn control(&mut self, element: &StreamElement) -> Result<()> {
        self.flush()?;
        for target in self.edges.iter().flat_map(|e| &e.targets) {
            target.channel.put_control(element.clone());
        }
        Ok(())
    }

    /// Sends the barrier of an unaligned checkpoint, which overtakes what waits for its consumers.
    /// Gives copies of what waits for consumers in other processes; those in this one copy themselves.
    ///
    /// # Errors
    /// As [`Outputs::flush`].
    pub fn overtake(&mut self, barrier: &Barrier) -> Result<Vec<CapturedChannel>> {
        self.flush()?;
        let mut captured = Vec::new();
        for edge in &self.edges {
            for target in &edge.targets {
                let elements = target.channel.put_urgent(barrier.clone(), target.remote);
                if !elements.is_empty() {
                    captured.push(CapturedChannel::of(&target.channel, edge.targets.len(), elements));
                }
            }
        }
        Ok(captured)
    }

    /// Whether the barrier of `checkpoint` waits for a consumer in another process and may yet overtake
    /// what is ahead of it.
    pub fn holds_timed(&self, checkpoint: u64) -> bool {
        self.edges.iter().flat_map(|e| &e.targets).any(|t| t.remote && t.channel.holds_timed(checkpoint))
    }

    /// Lets the barriers whose time has come overtake what waits for consumers in other processes. Gives
    /// copies of what that of `checkpoint` has overtaken.
    pub fn expire(&mut self, checkpoint: u64, now_ms: i64) -> Vec<CapturedChannel> {
        let mut captured = Vec::new();
        for edge in &self.edges {
            for target in edge.targets.iter().filter(|target| target.remote) {
                for (id, elements) in target.channel.expire(now_ms, true) {
                    if id == checkpoint && !elements.is_empty() {
                        captured.push(CapturedChannel::of(&target.channel, edge.targets.len(), elements));
                    }
                }
            }
        }
        captured
    }

    /// Sends what a producer of the edge had sent before its snapshot: to the same consumer if that is
    /// given and there is one, else as the edge distributes rows.
    ///
    /// # Errors
    /// An unknown edge, rows that do not fit it.
    pub fn resend(&mut self, edge: &str, consumer: Option<u32>, elements: &[StreamElement]) -> Result<()> {
        let Some(edge) = self.edges.iter_mut().find(|e| e.name == edge) else {
            return Err(EngineError::Internal(format!("rows in flight belong to the edge {edge}, which is gone")));
        };
        let position = |t: &OutputTarget| Some(t.channel.key().consumer_subtask) == consumer;
        let same = edge.targets.iter().position(position);
        for element in elements {
            match (same, element) {
                (Some(target), StreamElement::Data(batch)) => {
                    let bytes = batch.bytes();
                    edge.send(target..target + 1, batch.clone(), bytes, &mut self.figures)?;
                }
                (Some(target), element) => edge.targets[target].channel.put_control(element.clone()),
                (None, StreamElement::Data(batch)) => {
                    let now_us = self.clock.monotonic_us();
                    if edge.emit(batch.clone(), now_us, &mut self.figures)? {
                        self.oldest_us = self.oldest_us.min(now_us);
                    }
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Sends all partial batches.
    ///
    /// # Errors
    /// Rows that cannot be encoded.
    pub fn flush(&mut self) -> Result<()> {
        if self.oldest_us == u64::MAX {
            return Ok(());
        }
        for edge in &mut self.edges {
            for slot in 0..edge.open.len() {
                edge.flush(slot, &mut self.figures)?;
            }
        }
        self.oldest_us = u64::MAX;
        Ok(())
    }

    /// Sends the partial batches if the oldest has waited for the linger time.
    ///
    /// # Errors
    /// As [`Outputs::flush`].
    pub fn flush_lingering(&mut self) -> Result<()> {
        if self.oldest_us != u64::MAX && self.clock.monotonic_us() >= self.oldest_us.saturating_add(self.linger_us) {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether a channel is over its limit, so that the task has to stop.
    pub fn is_full(&self) -> bool {
        self.edges.iter().flat_map(|e| &e.targets).any(|t| t.channel.is_full())
    }

    /// Whether a channel holds `bytes` or more.
    pub fn holds(&self, bytes: usize) -> bool {
        self.edges.iter().flat_map(|e| &e.targets).any(|t| t.channel.queued_bytes() >= bytes)
    }

    /// Why a channel cannot be used any more, if one cannot.
    pub fn failure(&self) -> Option<(&Arc<Channel>, ChannelFailure)> {
        self.edges
            .iter()
            .flat_map(|e| &e.targets)
            .find_map(|t| t.channel.failure().map(|failure| (&t.channel, failure)))
    }

    /// Whether every consumer is gone.
    pub fn all_closed(&self) -> bool {
        let mut targets = self.edges.iter().flat_map(|e| &e.targets).peekable();
        targets.peek().is_some() && targets.all(|t| t.channel.is_consumer_gone())
    }

    /// Who is to be woken when a full channel has room.
    pub fn set_waker(&self, waker: &Waker) {
        for target in self.edges.iter().flat_map(|e| &e.targets) {
            target.channel.set_producer_waker(Arc::clone(waker));
        }
    }

    /// The task is done with its channels. Those that it has not ended tell their consumers `reason`.
    pub fn release(&mut self, registry: Option<&ChannelRegistry>, reason: &str) {
        for target in self.edges.iter().flat_map(|e| &e.targets) {
            match registry {
                Some(registry) if !target.remote => registry.release_producer(&target.channel, reason),
                _ => target.channel.close_producer(reason),
            }
        }
        for open in self.edges.iter_mut().flat_map(|e| &mut e.open) {
            *open = OpenBatch::default();
        }
        self.oldest_us = u64::MAX;
    }

    /// What went out so far.
    pub fn figures(&self) -> OutputFigures {
        self.figures
    }

    /// The channels of all edges, and whether their consumers are in other processes.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<Channel>, bool)> {
        self.edges.iter().flat_map(|e| &e.targets).map(|t| (&t.channel, t.remote))
    }

    /// Names of the edges.
    pub fn edge_names(&self) -> impl Iterator<Item = &str> {
        self.edges.iter().map(|e| e.name.as_str())
    }
}

impl Edge {
    fn new(spec: OutputSpec, config: &ExchangeConfig, first_target: usize) -> Result<Edge> {
        use v1::partitioner::Kind;
        let targets = spec.targets.len();
        if targets == 0 {
            return Err(EngineError::Internal(format!("edge {} has no consumer", spec.edge)));
        }
        let route = match &spec.partitioner.kind {
            Some(Kind::Forward(_) | Kind::Global(_)) => Route::First,
            Some(Kind::Rescale(_)) => Route::RoundRobin { next: 0 },
            Some(Kind::Rebalance(_)) => Route::RoundRobin { next: first_target % targets },
            Some(Kind::Broadcast(_)) => Route::All,
            Some(Kind::Hash(hash)) => {
                let columns = hash.columns.iter().map(|&c| c as usize).collect();
                Route::Hash(Box::new(Scatter::new(columns, targets, spec.consumer_max_parallelism)))
            }
            None => return Err(EngineError::Internal(format!("edge {} has no partitioner", spec.edge))),
        };
        let slots = if matches!(route, Route::Hash(_)) { targets } else { 1 };
        Ok(Edge {
            name: spec.edge,
            encoder: Encoder::new(&spec.schema, config.compress)?,
            schema: spec.schema,
            route,
            targets: spec.targets,
            open: (0..slots).map(|_| OpenBatch::default()).collect(),
        })
    }

    /// The rows under the edge's schema, so that both ends agree on names.
    fn conform(&self, batch: &Batch) -> Result<Batch> {
        let records = batch.records();
        if Arc::ptr_eq(records.schema_ref(), &self.schema) {
            return Ok(batch.clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(records.num_rows()));
        let columns = records.columns().to_vec();
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|e| {
            EngineError::Internal(format!("rows of edge {} do not have the schema that was planned: {e}", self.name))
        })?;
        Ok(batch.with_records(records))
    }

    /// True if a batch is left open.
    fn emit(&mut self, batch: Batch, now_us: u64, figures: &mut OutputFigures) -> Result<bool> {
        // The scatter is taken out so that its callback may append.
        let mut route = std::mem::replace(&mut self.route, Route::First);
        let mut open = false;
        let result = match &mut route {
            Route::Hash(scatter) => scatter.scatter(&batch, |target, part| {
                open |= self.append(target, part, now_us)?;
                Ok(())
            }),
            _ => self.append(0, batch, now_us).map(|left| open = left),
        };
        self.route = route;
        result?;
        for slot in 0..self.open.len() {
            if self.open[slot].rows >= TARGET_ROWS || self.open[slot].bytes >= TARGET_BYTES {
                self.flush(slot, figures)?;
            }
        }
        Ok(open)
    }

    fn append(&mut self, slot: usize, batch: Batch, now_us: u64) -> Result<bool> {
        let open = &mut self.open[slot];
        if open.parts.is_empty() {
            open.since_us = now_us;
        }
        open.rows += batch.num_rows();
        open.bytes += batch.bytes();
        open.parts.push(batch);
        Ok(true)
    }

    fn flush(&mut self, slot: usize, figures: &mut OutputFigures) -> Result<()> {
        let open = &mut self.open[slot];
        if open.parts.is_empty() {
            return Ok(());
        }
        let parts = std::mem::take(&mut open.parts);
        let bytes = std::mem::take(&mut open.bytes);
        open.rows = 0;
        let batch = Batch::concat(&self.schema, &parts)?;
        match &mut self.route {
            Route::First => self.send(0..1, batch, bytes, figures),
            Route::RoundRobin { next } => {
                let target = *next;
                *next = (target + 1) % self.targets.len();
                self.send(target..target + 1, batch, bytes, figures)
            }
            Route::All => self.send(0..self.targets.len(), batch, bytes, figures),
            Route::Hash(_) => self.send(slot..slot + 1, batch, bytes, figures),
        }
    }

    fn send(
        &self,
        targets: std::ops::Range<usize>,
        batch: Batch,
        bytes: usize,
        figures: &mut OutputFigures,
    ) -> Result<()> {
        let mut encoded = None;
        for target in &self.targets[targets] {
            let (payload, bytes) = if target.remote {
                if encoded.is_none() {
                    encoded = Some(self.encoder.encode(&batch)?);
                }
                let encoded = encoded.clone().ok_or_else(|| EngineError::Internal("a batch was not encoded".into()))?;
                let bytes = encoded.bytes();
                (Payload::Encoded(encoded), bytes)
            } else {
                (Payload::Element(StreamElement::Data(batch.clone())), bytes)
            };
            figures.batches += 1;
            figures.bytes += bytes as u64;
            target.channel.put(payload, bytes);
        }
        Ok(())
    }
}
