//! Checkpoints of a task: when one is due, its barrier, its snapshot.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hurtig_proto::v1;

use super::{Notice, Phase, Task, Turn};
use crate::element::{Barrier, StopMode, StreamElement};
use crate::error::Result;
use crate::task::alignment::Verdict;
use crate::task::mailbox::TaskMessage;
use crate::task::snapshot::{AsyncPart, SnapshotFailure};
use crate::task::{Acknowledgement, BlockReason, panics};

/// A checkpoint between its barrier and its snapshot.
pub(super) struct Checkpoint {
    pub(super) barrier: Barrier,
    pub(super) alignment_us: u64,
    pub(super) started_us: u64,
    /// The next operator to prepare.
    pub(super) next: usize,
}

/// A snapshot that is being written.
pub(super) struct InFlight {
    pub(super) checkpoint: u64,
    pub(super) sync_us: u64,
    pub(super) alignment_us: u64,
}

impl Task {
    pub(super) fn triggered(&mut self, barrier: Barrier) -> Result<()> {
        if !self.inputs.is_empty() {
            let verdict = self.alignment.trigger(barrier, self.clock.monotonic_us());
            if verdict.begins.is_some() {
                // No barrier came through a channel; what a given-up checkpoint has left is processed.
                self.overtaken.clear();
            }
            return self.apply(verdict);
        }
        if barrier.checkpoint <= self.last_triggered {
            return Ok(());
        }
        self.last_triggered = barrier.checkpoint;
        if barrier.stop == StopMode::Drain && self.phase == Phase::Running {
            self.phase = Phase::Finishing { next: 0, drain: true };
        }
        self.notices.append(&mut self.behind_barrier);
        if let Some((older, _)) = self.due.replace((barrier, 0)) {
            self.listener.decline(older.checkpoint, "subsumed by a newer checkpoint");
        }
        Ok(())
    }

    pub(super) fn aborted(&mut self, checkpoint: u64) -> Result<()> {
        self.notices.push_back(Notice::Aborted(checkpoint));
        if self.due.as_ref().is_some_and(|(barrier, _)| barrier.checkpoint == checkpoint) {
            self.due = None;
            self.notices.append(&mut self.behind_barrier);
            self.outputs.control(&StreamElement::CancelBarrier(checkpoint))?;
        }
        self.keyed.abort(checkpoint);
        self.last_aborted = self.last_aborted.max(checkpoint);
        if let Some((_, before)) = self.stopping.take_if(|(id, _)| *id == checkpoint) {
            // Nothing has happened since its snapshot: it goes on where it was.
            self.phase = before;
        }
        self.stop_gathering(checkpoint);
        let verdict = self.alignment.aborted(checkpoint);
        self.apply(verdict)
    }

    /// The task has taken the snapshot that it is to end with, and does nothing until that is
    /// complete or given up: whatever it did would belong to no checkpoint.
    pub(super) fn awaits_savepoint(&self) -> bool {
        self.stopping.is_some_and(|(id, _)| self.last_completed < id)
    }

    pub(super) fn apply(&mut self, verdict: Verdict) -> Result<()> {
        for (checkpoint, reason) in verdict.declined {
            self.stop_gathering(checkpoint);
            self.listener.decline(checkpoint, reason);
        }
        for checkpoint in verdict.cancel_downstream {
            self.outputs.control(&StreamElement::CancelBarrier(checkpoint))?;
        }
        if let Some(barrier) = verdict.begins {
            self.make_due(barrier, 0);
        }
        if let Some((barrier, alignment_us)) = verdict.complete {
            self.metrics.alignment_us.store(alignment_us, Relaxed);
            if !barrier.unaligned {
                self.make_due(barrier, alignment_us);
            } else {
                self.gathered_if_complete();
            }
        }
        Ok(())
    }

    fn make_due(&mut self, barrier: Barrier, alignment_us: u64) {
        if let Some((older, _)) = self.due.replace((barrier, alignment_us)) {
            self.listener.decline(older.checkpoint, "subsumed by a newer checkpoint");
        }
    }

    /// Starts the checkpoint that is due. `None`: there is none, or a source may go on meanwhile.
    pub(super) fn start_checkpoint(&mut self) -> Option<Turn> {
        self.due.as_ref()?;
        if self.in_flight.is_some() {
            let waits = !self.chain.has_source() || matches!(self.phase, Phase::Ending { .. });
            return waits.then_some(Turn::Blocked(BlockReason::WriteBack, None));
        }
        let (barrier, alignment_us) = self.due.take()?;
        let started_us = self.clock.monotonic_us();
        let delay = self.clock.now_ms().saturating_sub(barrier.timestamp_ms).max(0);
        self.metrics.start_delay_ms.store(delay.unsigned_abs(), Relaxed);
        let next = if self.finished { self.chain.operator_count() } else { 0 };
        self.checkpoint = Some(Checkpoint { barrier, alignment_us, started_us, next });
        Some(Turn::Worked)
    }

    pub(super) fn advance_checkpoint(&mut self) -> Result<Turn> {
        let Some(checkpoint) = &mut self.checkpoint else { return Ok(Turn::Worked) };
        let id = checkpoint.barrier.checkpoint;
        if checkpoint.next < self.chain.operator_count() {
            let next = checkpoint.next;
            checkpoint.next += 1;
            self.chain.prepare_barrier(next, id, &mut self.outputs)?;
            return Ok(Turn::Worked);
        }
        let Some(checkpoint) = self.checkpoint.take() else { return Ok(Turn::Worked) };
        let unaligned = checkpoint.barrier.unaligned;
        let outputs = if unaligned {
            self.outputs.overtake(&checkpoint.barrier)?
        } else {
            self.outputs.control(&StreamElement::Barrier(checkpoint.barrier.clone()))?;
            Vec::new()
        };
        let sent = (!unaligned && self.outputs.holds_timed(id)).then(|| checkpoint.barrier.clone());
        self.keyed.begin_checkpoint();
        let members = if self.finished { Vec::new() } else { self.chain.snapshot(id)? };
        if self.due.is_none() {
            self.notices.append(&mut self.behind_barrier);
        }
        let sync_us = self.clock.monotonic_us().saturating_sub(checkpoint.started_us);
        self.metrics.sync_us.store(sync_us, Relaxed);
        self.listener.barrier_passed(id);
        if let Phase::Ending { covered_by: covered_by @ None } = &mut self.phase {
            *covered_by = Some(id);
        }
        if checkpoint.barrier.stop != StopMode::None && self.last_aborted != id {
            self.stopping = Some((id, self.phase));
            self.phase = Phase::Ending { covered_by: Some(id) };
        }
        let part = AsyncPart::new(
            self.info.attempt.clone(),
            checkpoint.barrier,
            members,
            self.finished,
            Arc::clone(&self.keyed),
            self.store.clone(),
        );
        let alignment_us = checkpoint.alignment_us;
        self.in_flight = Some(InFlight { checkpoint: id, sync_us, alignment_us });
        if unaligned || sent.is_some() {
            self.gather(id, part, outputs, sent);
        } else {
            self.spawn_snapshot(id, part);
        }
        Ok(Turn::Worked)
    }

    pub(super) fn spawn_snapshot(&self, id: u64, part: AsyncPart) {
        let (handle, clock) = (self.handle(), Arc::clone(&self.clock));
        let span = self.info.checkpoint_span(id);
        self.executor.spawn(Box::new(move || {
            let _entered = span.entered();
            let started_us = clock.monotonic_us();
            let result = panics::guard(|| part.run()).unwrap_or_else(|text| Err(SnapshotFailure::Fatal(text)));
            let async_ms = clock.monotonic_us().saturating_sub(started_us) / 1000;
            handle.send(TaskMessage::SnapshotDone { checkpoint: id, result: Box::new(result), async_ms });
        }));
    }

    pub(super) fn snapshot_done(
        &mut self,
        checkpoint: u64,
        result: Result<v1::SubtaskSnapshot, SnapshotFailure>,
        async_ms: u64,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|f| f.checkpoint == checkpoint) else { return };
        match result {
            Ok(snapshot) => self.listener.acknowledge(Acknowledgement {
                checkpoint,
                snapshot,
                sync_us: in_flight.sync_us,
                async_ms,
                alignment_us: in_flight.alignment_us,
            }),
            Err(SnapshotFailure::Declined(reason)) => self.listener.decline(checkpoint, &reason),
            Err(SnapshotFailure::Fatal(reason)) => {
                self.listener.decline(checkpoint, &reason);
                self.failure = Some(reason);
            }
        }
    }
}
