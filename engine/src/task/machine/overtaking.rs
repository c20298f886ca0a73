//! Unaligned checkpoints of a task: what was in flight when its snapshot was taken.
//!
//! The checkpoint begins with the first barrier that has overtaken rows. Until the snapshot the task
//! takes no more input; from then on a copy is kept of whatever comes through a channel before its
//! barrier does. The part of the snapshot that may block starts when all barriers are there. After a
//! restore those copies come before anything from the channels.
//!
//! A checkpoint may also begin aligned and become unaligned when its timeout has passed: wherever its
//! barrier is then, be it in the queue of an input, waiting for those of other inputs, not yet sent, or
//! in the queue to another process, it overtakes from there. So that the last can become part of the
//! snapshot, that is not written before the barrier has left.

use std::collections::VecDeque;

use hurtig_state::StateError;

use super::{Task, Turn};
use crate::element::{Barrier, StreamElement};
use crate::error::Result;
use crate::exchange::captured::CapturedChannel;
use crate::exchange::channel::Payload;
use crate::task::snapshot::AsyncPart;

/// How much a channel may hold before operators stop emitting for the sake of a barrier. Far above a
/// channel's ordinary limit, which is what the barrier overtakes.
const OVERDRAFT_BYTES: usize = 8 << 20;

/// Elements that were on their way to this subtask when the restored checkpoint was taken.
#[derive(Debug, Clone)]
pub struct RecoveredInput {
    /// The edge.
    pub edge: String,
    /// Who had sent them.
    pub producer_subtask: u32,
    /// Input port of the head.
    pub port: usize,
    /// Whether the same producer is there again, so that its watermarks count.
    pub same_producer: bool,
    /// Rows and watermarks, in order.
    pub elements: VecDeque<StreamElement>,
}

/// An unaligned checkpoint whose snapshot is taken and whose barriers are not all there.
pub(super) struct Gathering {
    pub(super) checkpoint: u64,
    part: AsyncPart,
    /// By input.
    inputs: Vec<Vec<Payload>>,
    /// What the restored checkpoint had in flight and is not processed yet.
    recovered: Vec<CapturedChannel>,
    outputs: Vec<CapturedChannel>,
    /// The barrier, while it waits for consumers in other processes and may yet overtake rows.
    sent: Option<Barrier>,
}

impl Task {
    /// Whether a barrier that overtakes rows waits for this task.
    pub(super) fn is_urgent(&self) -> bool {
        let due = self.due.as_ref().map(|(barrier, _)| barrier);
        let barrier = self.checkpoint.as_ref().map(|c| &c.barrier).or(due);
        barrier.is_some_and(|b| b.unaligned) && !self.outputs.holds(OVERDRAFT_BYTES)
    }

    /// When something is to be done about a barrier that began aligned, in ms since 1970.
    pub(super) fn barrier_expiry_ms(&self) -> Option<i64> {
        let queued = self.inputs.iter().filter_map(|input| input.channel.expires_at_ms());
        let own = self.checkpoint.as_ref().map(|c| &c.barrier).into_iter();
        let own = own.chain(self.due.as_ref().map(|(barrier, _)| barrier));
        let own = own.chain(self.gathering.as_ref().and_then(|g| g.sent.as_ref()));
        let own = own.filter_map(Barrier::overtakes_at_ms);
        let pending = if self.checkpoint.is_none() { self.alignment.expires_at_ms() } else { None };
        queued.chain(own).chain(pending).min()
    }

    /// Barriers whose time has come overtake rows; one that has left needs to no more. False: there is
    /// none of either.
    pub(super) fn watch_barriers(&mut self) -> Result<bool> {
        let mut worked = false;
        if let Some(gathering) = &mut self.gathering
            && gathering.sent.is_some()
            && !self.outputs.holds_timed(gathering.checkpoint)
        {
            gathering.sent = None;
            worked = true;
            self.gathered_if_complete();
        }
        let Some(expiry_ms) = self.barrier_expiry_ms() else { return Ok(worked) };
        let now_ms = self.clock.now_ms();
        if expiry_ms > now_ms {
            return Ok(worked);
        }
        if let Some(gathering) = &mut self.gathering
            && gathering.sent.take_if(|barrier| barrier.is_late(now_ms)).is_some()
        {
            gathering.outputs.extend(self.outputs.expire(gathering.checkpoint, now_ms));
            self.gathered_if_complete();
        }
        // All inputs have delivered these: nothing of them is in flight, only the outputs are full.
        let due = self.due.as_mut().map(|(barrier, _)| barrier);
        for barrier in due.into_iter().chain(self.checkpoint.as_mut().map(|c| &mut c.barrier)) {
            if barrier.is_late(now_ms) {
                barrier.unaligned = true;
                self.overtaken.clear();
            }
        }
        for input in &self.inputs {
            input.channel.expire(now_ms, false);
        }
        if self.checkpoint.is_none() {
            let verdict = self.alignment.expire(now_ms);
            if verdict.begins.is_some() {
                self.overtaken = vec![Vec::new(); self.inputs.len()];
            }
            self.apply(verdict)?;
        }
        Ok(true)
    }

    /// Takes the barriers that have overtaken rows in the channels. False: there is none.
    pub(super) fn take_urgent(&mut self) -> Result<bool> {
        let mut taken = false;
        for index in 0..self.inputs.len() {
            while let Some((barrier, overtaken)) = self.inputs[index].channel.take_urgent() {
                self.overtaken(index, barrier, overtaken)?;
                taken = true;
            }
        }
        Ok(taken)
    }

    /// A barrier of an unaligned checkpoint came through input `index`, ahead of `overtaken`.
    pub(super) fn overtaken(&mut self, index: usize, barrier: Barrier, overtaken: Vec<Payload>) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        let verdict = self.alignment.barrier(index, barrier, self.clock.monotonic_us());
        let begins = verdict.begins.is_some();
        let due = begins || self.is_due(checkpoint);
        // What one barrier has overtaken is in flight whether the snapshot is taken or still due: no
        // input is taken in between.
        let kept = match &mut self.gathering {
            Some(gathering) if gathering.checkpoint == checkpoint => Some(&mut gathering.inputs),
            _ if due => Some(&mut self.overtaken),
            _ => None,
        };
        if let Some(kept) = kept {
            if begins {
                *kept = vec![Vec::new(); self.inputs.len()];
            }
            kept[index].extend(overtaken);
        }
        self.apply(verdict)
    }

    fn is_due(&self, checkpoint: u64) -> bool {
        let due = self.due.as_ref().map(|(barrier, _)| barrier.checkpoint);
        due == Some(checkpoint) || self.checkpoint.as_ref().is_some_and(|c| c.barrier.checkpoint == checkpoint)
    }

    /// Keeps a copy of what comes through input `index` ahead of a barrier that has overtaken it.
    pub(super) fn keep_in_flight(&mut self, index: usize, payload: &Payload) {
        if let Some(gathering) = &mut self.gathering
            && payload.is_state()
            && self.alignment.pending() == Some(gathering.checkpoint)
            && self.alignment.is_overtaken(index)
        {
            gathering.inputs[index].push(payload.clone());
        }
    }

    /// The snapshot of an unaligned checkpoint is taken, or of one that may become so; `outputs` is what
    /// its barrier has overtaken on the way to other processes, `sent` the barrier if it may do so yet.
    pub(super) fn gather(
        &mut self,
        checkpoint: u64,
        part: AsyncPart,
        outputs: Vec<CapturedChannel>,
        sent: Option<Barrier>,
    ) {
        if sent.is_some() {
            // All inputs have delivered it: what a checkpoint that was given up has left is processed.
            self.overtaken.clear();
        }
        let mut inputs = std::mem::take(&mut self.overtaken);
        inputs.resize(self.inputs.len(), Vec::new());
        let recovered = self.recovered.iter().map(|recovered| CapturedChannel {
            edge: recovered.edge.clone(),
            producer_subtask: recovered.producer_subtask,
            consumer_subtask: self.info.attempt.subtask,
            channels: self.inputs.iter().filter(|i| i.channel.key().edge == recovered.edge).count(),
            elements: recovered.elements.iter().cloned().map(Payload::Element).collect(),
        });
        let recovered = recovered.collect();
        self.gathering = Some(Gathering { checkpoint, part, inputs, recovered, outputs, sent });
        self.gathered_if_complete();
    }

    /// When all barriers are there and its own can overtake nothing more, what may block begins.
    pub(super) fn gathered_if_complete(&mut self) {
        let pending = self.alignment.pending();
        let complete = |g: &mut Gathering| g.sent.is_none() && pending != Some(g.checkpoint);
        let Some(gathering) = self.gathering.take_if(complete) else { return };
        let Gathering { checkpoint, mut part, inputs, recovered, outputs, .. } = gathering;
        part.inputs = recovered;
        for (input, elements) in self.inputs.iter().zip(inputs) {
            if !elements.is_empty() {
                let edge = &input.channel.key().edge;
                let channels = self.inputs.iter().filter(|i| i.channel.key().edge == *edge).count();
                part.inputs.push(CapturedChannel::of(&input.channel, channels, elements));
            }
        }
        part.outputs = outputs;
        self.spawn_snapshot(checkpoint, part);
    }

    /// Checkpoint `checkpoint` is given up. What operators have handed over is written back all the
    /// same.
    pub(super) fn stop_gathering(&mut self, checkpoint: u64) {
        if let Some(gathering) = self.gathering.take_if(|g| g.checkpoint == checkpoint) {
            self.keyed.abort(checkpoint);
            let mut part = gathering.part;
            let reason = format!("checkpoint {checkpoint} was given up before all barriers had come");
            part.given_up = Some(StateError::Aborted(reason));
            self.spawn_snapshot(checkpoint, part);
        }
    }

    /// Sends and queues what was in flight when the restored checkpoint was taken: ahead of anything
    /// new.
    pub(super) fn take_recovered(&mut self) -> Result<Option<Turn>> {
        let Some(recovered) = self.recovered.front_mut() else { return Ok(None) };
        let Some(element) = recovered.elements.pop_front() else {
            self.recovered.pop_front();
            return Ok(Some(Turn::Worked));
        };
        let (port, producer, same) = (recovered.port, recovered.producer_subtask, recovered.same_producer);
        let edge = recovered.edge.clone();
        match element {
            StreamElement::Watermark(ms) => {
                let is_it = |i: &super::Input| {
                    i.channel.key().producer_subtask == producer && i.port == port && i.channel.key().edge == edge
                };
                if let Some(index) = self.inputs.iter().position(is_it).filter(|_| same) {
                    let channel = self.inputs[index].index;
                    self.time(port, channel, crate::task::watermarks::TimeEvent::Watermark(ms))?;
                }
            }
            StreamElement::Data(batch) => self.chain.push_batch(port, batch),
            _ => {}
        }
        Ok(Some(Turn::Worked))
    }
}
