//! Writing changed state to the database: in the order in which it was frozen, one writer at a time.
//!
//! Whatever operators hand over gets a *generation*. A checkpoint is one
//! ([`KeyedBackend::begin_checkpoint`] on the task's thread, then [`KeyedBackend::snapshot`] in the
//! background); under memory pressure operators hand over changes between checkpoints
//! ([`KeyedBackend::queue_write_back`], [`KeyedBackend::write_queued`]). From the freeze of a
//! checkpoint until its files are linked nothing later is written, so nothing later is in them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rocksdb::WriteBatch;

use super::disk::free_bytes;
use super::rocks::{Database, write_options};
use super::{FrozenCell, KeyedBackend, StateWriter};
use crate::error::{Result, StateError};

const WRITE_BATCH_BYTES: usize = 1 << 20;

/// Told that a generation has been written or a checkpoint linked.
pub type WriteBackWaker = Arc<dyn Fn() + Send + Sync>;

/// See the [module](self).
#[derive(Default)]
pub(super) struct WriteBacks {
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// The last generation handed over.
    handed: u64,
    /// The last generation in the database.
    written: u64,
    /// Handed over between checkpoints and not written yet.
    queued: VecDeque<(u64, Vec<FrozenCell>)>,
    /// The generation of the checkpoint that has been frozen and not been linked yet.
    frozen: Option<u64>,
    /// A thread writes.
    writing: bool,
    wakers: Vec<WriteBackWaker>,
}

impl KeyedBackend {
    /// A checkpoint is being frozen: what the operators hand over for it is the generation returned.
    /// On the task's thread, before operators take their snapshots; [`KeyedBackend::snapshot`] must
    /// follow.
    pub fn begin_checkpoint(&self) -> u64 {
        let mut state = self.write_backs.state.lock();
        state.handed += 1;
        state.frozen = Some(state.handed);
        state.handed
    }

    /// The last generation handed over: within an operator's snapshot that of the checkpoint.
    pub fn generation(&self) -> u64 {
        self.write_backs.state.lock().handed
    }

    /// The last generation that reads of the database see.
    pub fn written(&self) -> u64 {
        self.write_backs.state.lock().written
    }

    /// Whether something handed over is still to be written, or a checkpoint to be linked.
    pub fn write_back_pending(&self) -> bool {
        let state = self.write_backs.state.lock();
        state.frozen.is_some() || state.written < state.handed
    }

    /// Hands over changes between two checkpoints and gives their generation; to be followed by
    /// [`KeyedBackend::write_queued`] in the background. The cells come back when a checkpoint has been frozen
    /// and not been linked yet: nothing may be written before it is.
    ///
    /// # Errors
    /// The cells, see above.
    pub fn queue_write_back(&self, cells: Vec<FrozenCell>) -> Result<u64, Vec<FrozenCell>> {
        let mut state = self.write_backs.state.lock();
        if state.frozen.is_some() {
            return Err(cells);
        }
        state.handed += 1;
        let generation = state.handed;
        state.queued.push_back((generation, cells));
        Ok(generation)
    }

    /// Whether changes may be handed over now, see [`KeyedBackend::queue_write_back`].
    pub fn may_write_back(&self) -> bool {
        self.write_backs.state.lock().frozen.is_none()
    }

    /// Writes what was queued. Blocks.
    ///
    /// # Errors
    /// [`StateError::Database`]: the database is behind what operators believe it holds, and the task
    /// must fail. [`StateError::Storage`]: there is no room on the disk; what was queued stays so.
    pub fn write_queued(&self) -> Result<()> {
        let _turn = self.write_turn();
        self.drain_queue()
    }

    /// Merges all files of the database into as few as can be, leaving out what has expired. Blocks.
    pub fn compact(&self) -> Result<()> {
        let Some(database) = self.database.get() else { return Ok(()) };
        database.compact()
    }

    /// Called whenever a generation has been written or a checkpoint linked, from any thread.
    pub fn on_write_back(&self, waker: WriteBackWaker) {
        self.write_backs.state.lock().wakers.push(waker);
    }

    /// Whether the database still holds what was handed over.
    ///
    /// # Errors
    /// Why not: the task must fail.
    pub fn check(&self) -> Result<()> {
        match self.broken.get() {
            Some(reason) => Err(StateError::Database(reason.clone())),
            None => Ok(()),
        }
    }

    /// Writes what is queued and then the frozen cells of a checkpoint, flushed. When there is no room on the
    /// disk nothing is lost: the cells are written with the next checkpoint.
    pub(super) fn write_checkpoint(&self, checkpoint: u64, frozen: Vec<FrozenCell>) -> Result<()> {
        let _turn = self.write_turn();
        let generation = {
            let mut state = self.write_backs.state.lock();
            let generation = match state.frozen {
                Some(generation) => generation,
                // Without `begin_checkpoint`: nothing was handed over since.
                None => {
                    state.handed += 1;
                    state.handed
                }
            };
            state.frozen = Some(generation);
            state.queued.push_back((generation, frozen));
            generation
        };
        self.drain_queue()?;
        if let Err(error) = self.database.get().map_or(Ok(()), Database::settle) {
            return Err(self.break_down(format!("write-back of checkpoint {checkpoint} failed: {error}")));
        }
        debug_assert!(self.written() >= generation, "a checkpoint is written when its turn has ended");
        Ok(())
    }

    /// The frozen checkpoint has been linked or given up: what is later may be written.
    pub(super) fn release_checkpoint(&self) {
        self.write_backs.state.lock().frozen = None;
        self.wake_operators();
    }

    fn drain_queue(&self) -> Result<()> {
        loop {
            self.check()?;
            let Some((generation, cells)) = self.write_backs.state.lock().queued.pop_front() else { return Ok(()) };
            if let Err(error) = self.check_room() {
                self.write_backs.state.lock().queued.push_front((generation, cells));
                return Err(error);
            }
            if let Err(error) = self.write_cells(cells) {
                return Err(self.break_down(format!("write-back failed: {error}")));
            }
            self.write_backs.state.lock().written = generation;
            self.wake_operators();
        }
    }

    /// Small state takes no room.
    fn check_room(&self) -> Result<()> {
        let (Some(rocks), Some(_)) = (&self.rocks, self.database.get()) else { return Ok(()) };
        match free_bytes(&self.directory) {
            Some(free) if free < rocks.disk_reserve() => Err(StateError::Storage(format!(
                "cannot write state to '{}': No space left on device: {free} bytes are free, of which {} stay in \
                 reserve; nothing is lost, and state is written once there is room",
                self.directory.display(),
                rocks.disk_reserve()
            ))),
            _ => Ok(()),
        }
    }

    fn write_cells(&self, cells: Vec<FrozenCell>) -> Result<()> {
        let mut writer = Writer { backend: self, batch: WriteBatch::default() };
        for cell in cells {
            cell(&mut writer)?;
        }
        writer.flush()?;
        self.database.get().map_or(Ok(()), Database::resume_when_due)
    }

    fn break_down(&self, reason: String) -> StateError {
        // The first reason stays.
        let _ = self.broken.set(reason.clone());
        self.wake_operators();
        StateError::Database(reason)
    }

    fn wake_operators(&self) {
        let wakers = self.write_backs.state.lock().wakers.clone();
        wakers.iter().for_each(|wake| wake());
    }

    fn write_turn(&self) -> WriteTurn<'_> {
        let mut state = self.write_backs.state.lock();
        while state.writing {
            self.write_backs.changed.wait(&mut state);
        }
        state.writing = true;
        WriteTurn(&self.write_backs)
    }
}

/// The right to write, until dropped.
struct WriteTurn<'a>(&'a WriteBacks);

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().writing = false;
        self.0.changed.notify_one();
    }
}

struct Writer<'a> {
    backend: &'a KeyedBackend,
    batch: WriteBatch,
}

impl Writer<'_> {
    fn flush_if_large(&mut self) -> Result<()> {
        if self.batch.size_in_bytes() >= WRITE_BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let database = self.backend.database.get().ok_or_else(|| {
            StateError::Database("changes of large state were handed over before its database was there".into())
        })?;
        Ok(database.db().write_opt(batch, &write_options())?)
    }
}

impl StateWriter for Writer<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.backend.put_small(key, value)? {
            return Ok(());
        }
        self.batch.put(key, value);
        self.flush_if_large()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        if self.backend.delete_small(key) {
            return Ok(());
        }
        self.batch.delete(key);
        self.flush_if_large()
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if self.backend.delete_range_small(from, to) {
            return Ok(());
        }
        self.batch.delete_range(from, to);
        self.flush_if_large()
    }
}
