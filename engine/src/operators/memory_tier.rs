//! What an operator's live state may take of its slot's memory, and what it does when that is too
//! little: forget what the database has, else write back, else wait.
//!
//! An operator calls [`MemoryTier::look`] after each batch with the bytes it holds. The answer says how
//! many it should forget. If too few of its entries are as the database has them, it freezes some of
//! the dirty ones and hands them to [`MemoryTier::write_back`]; when nothing more can be forgotten until
//! that is written, [`MemoryTier::wait`] makes the task wait for it ([`MemoryTier::waits`]), which shows
//! as `write-back`.

use std::sync::Arc;

use hurtig_state::backend::{FrozenCell, KeyedBackend, MemoryShare};

use crate::clock::Clock;
use crate::error::Result;
use crate::executor::BackgroundExecutor;
use crate::operator::OperatorContext;

/// While the task waits, what could not be written (a full disk) is tried again every so many ms.
const RETRY_MS: i64 = 2_000;

/// See the [module](self).
pub struct MemoryTier {
    backend: Arc<KeyedBackend>,
    executor: Arc<dyn BackgroundExecutor>,
    clock: Arc<dyn Clock>,
    share: MemoryShare,
    /// The last generation that this operator handed over between checkpoints.
    handed: u64,
    waiting: bool,
    retry_at_ms: Option<i64>,
}

/// What an operator is to do about its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Bytes to be forgotten.
    pub excess: usize,
    /// Dirty entries should be written back, so that there will be something to forget.
    pub high: bool,
}

impl MemoryTier {
    /// Of an operator with this context.
    pub fn new(context: &OperatorContext) -> MemoryTier {
        let waker = Arc::clone(&context.waker);
        context.keyed.on_write_back(Arc::clone(&waker));
        MemoryTier {
            backend: Arc::clone(&context.keyed),
            executor: Arc::clone(&context.executor),
            clock: Arc::clone(&context.clock),
            share: context.keyed.memory().share(waker),
            handed: 0,
            waiting: false,
            retry_at_ms: None,
        }
    }

    /// The last generation that the database has.
    ///
    /// # Errors
    /// The database does not hold what was handed over: the task must fail.
    pub fn written(&self) -> Result<u64> {
        self.backend.check()?;
        Ok(self.backend.written())
    }

    /// The generation of a checkpoint that is being frozen.
    pub fn generation(&self) -> u64 {
        self.backend.generation()
    }

    /// Says that the operator has so many bytes.
    pub fn look(&mut self, bytes: usize) -> Pressure {
        self.share.set(bytes);
        self.waiting = false;
        let pool = self.share.pool();
        let (used, budget) = (pool.used(), pool.budget());
        Pressure { excess: self.share.excess(), high: used > budget - budget / 4 }
    }

    /// Bytes that may still be taken.
    pub fn room(&self) -> usize {
        let pool = self.share.pool();
        pool.budget().saturating_sub(pool.used())
    }

    /// Whether changes may be handed over now: no checkpoint waits to be linked and what was handed
    /// over before has been written.
    pub fn may_write_back(&self) -> bool {
        self.backend.written() >= self.handed && self.backend.may_write_back()
    }

    /// The generation that the next [`MemoryTier::write_back`] will be.
    pub fn next_generation(&self) -> u64 {
        self.backend.generation() + 1
    }

    /// Hands changes over, to be written in the background. Only after
    /// [`MemoryTier::may_write_back`], on the task's thread.
    pub fn write_back(&mut self, cells: Vec<FrozenCell>) {
        match self.backend.queue_write_back(cells) {
            Ok(generation) => {
                self.handed = generation;
                self.start();
            }
            Err(_) => unreachable!("checkpoints begin on the task's thread, which asked before whether one had"),
        }
    }

    fn start(&self) {
        let backend = Arc::clone(&self.backend);
        self.executor.spawn(Box::new(move || {
            if let Err(error) = backend.write_queued() {
                // Without room on the disk it is tried again. After anything else the backend keeps the
                // reason and has woken the operator, which fails with it.
                tracing::warn!(%error, "state cannot be written back");
            }
        }));
    }

    /// Nothing more can be forgotten: the task waits for a write-back, if there is one to wait for.
    pub fn wait(&mut self) {
        self.waiting = true;
        if self.retry_at_ms.is_none() {
            self.retry_at_ms = Some(self.clock.now_ms().saturating_add(RETRY_MS));
        }
    }

    /// Whether the task is to wait before it gives the operator more.
    pub fn waits(&self) -> bool {
        self.waiting && self.backend.write_back_pending() && self.backend.check().is_ok()
    }

    /// When [`MemoryTier::retry`] is wanted.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.retry_at_ms
    }

    /// Tries again to write what is queued, if the task has waited for some time.
    pub fn retry(&mut self, now_ms: i64) {
        if self.retry_at_ms.take_if(|at| *at <= now_ms).is_some() && self.waits() {
            self.start();
        }
    }
}
