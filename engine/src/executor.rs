//! Injected background work: what may block (file writes, flushes, uploads) leaves the slot thread
//! through a [`BackgroundExecutor`]. Inline in tests, a thread pool in a TaskManager.

use std::sync::Arc;

/// A unit of background work. Its result comes back by what it captures (a channel, a mailbox).
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs [`Job`]s.
pub trait BackgroundExecutor: Send + Sync {
    /// Runs `job` once, possibly before returning.
    fn spawn(&self, job: Job);
}

/// Runs every job at once on the caller's thread.
#[derive(Debug, Default)]
pub struct InlineExecutor;

impl BackgroundExecutor for InlineExecutor {
    fn spawn(&self, job: Job) {
        job();
    }
}

/// Wakes a parked task: there is something for it to do. Cheap, callable from any thread, any
/// number of times.
pub type Waker = Arc<dyn Fn() + Send + Sync>;
