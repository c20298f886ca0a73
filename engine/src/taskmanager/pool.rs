//! Threads for work that may block: restores, write-backs, uploads, file reads.
//!
//! A job may wait for another one (a snapshot for the writer of a file), so a fixed number of threads
//! could lock itself up. A job that finds no idle thread gets a new one, up to a limit that is there
//! against runaway; threads that have had nothing to do for a while end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::executor::{BackgroundExecutor, Job};
use crate::task::panics;

const MOST_THREADS: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
    started: u64,
    handles: Vec<JoinHandle<()>>,
    stopped: bool,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module documentation.
pub struct ThreadPool {
    shared: Arc<Shared>,
}

impl ThreadPool {
    /// A pool whose threads are named `name-0`, `name-1`, ... None is started yet.
    pub fn new(name: &str) -> Arc<ThreadPool> {
        let shared = Shared { name: name.to_owned(), state: Mutex::default(), changed: Condvar::new() };
        Arc::new(ThreadPool { shared: Arc::new(shared) })
    }

    /// Ends the threads after the jobs that are queued. Blocks.
    pub fn stop(&self) {
        let handles = self.begin_stop();
        for handle in handles {
            if handle.thread().id() != std::thread::current().id() {
                // Jobs are guarded; a thread does not panic.
                let _ = handle.join();
            }
        }
    }

    fn begin_stop(&self) -> Vec<JoinHandle<()>> {
        let mut state = self.shared.state.lock();
        state.stopped = true;
        self.shared.changed.notify_all();
        std::mem::take(&mut state.handles)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // Not joined: this may be one of the threads.
        self.begin_stop();
    }
}

impl BackgroundExecutor for ThreadPool {
    fn spawn(&self, job: Job) {
        let mut state = self.shared.state.lock();
        if state.stopped {
            return tracing::debug!("a job came after the end of its pool and was dropped");
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.shared.changed.notify_one();
            return;
        }
        if state.threads >= MOST_THREADS {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(format!("{}-{}", shared.name, state.started));
        match thread.spawn(move || shared.work()) {
            Ok(handle) => {
                state.threads += 1;
                state.started += 1;
                state.handles.retain(|h| !h.is_finished());
                state.handles.push(handle);
            }
            Err(error) if state.threads > 0 => {
                tracing::warn!(%error, threads = state.threads, "cannot start another background thread");
            }
            Err(error) => {
                // Nobody would ever run it: better here than never.
                tracing::error!(%error, "cannot start a background thread: the work runs on the caller's");
                let job = state.jobs.pop_back();
                drop(state);
                if let Some(job) = job {
                    job();
                }
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                if let Err(text) = panics::guard(job) {
                    tracing::error!(error = %text, "background work failed");
                }
                state = self.state.lock();
                continue;
            }
            if state.stopped {
                break;
            }
            state.idle += 1;
            let timed_out = self.changed.wait_for(&mut state, IDLE_TIME).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_wait_for_later_jobs_do_not_lock_the_pool_up() {
        let pool = ThreadPool::new("test");
        let (sender, receiver) = crossbeam_channel::bounded(0);
        let (done, all) = crossbeam_channel::unbounded();
        for _ in 0..16 {
            let (receiver, done) = (receiver.clone(), done.clone());
            pool.spawn(Box::new(move || done.send(receiver.recv().unwrap()).unwrap()));
        }
        for i in 0..16 {
            let sender = sender.clone();
            pool.spawn(Box::new(move || sender.send(i).unwrap()));
        }
        let mut got: Vec<i32> = (0..16).map(|_| all.recv().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, (0..16).collect::<Vec<_>>());
        pool.stop();
    }

    #[test]
    fn a_panic_of_one_job_does_not_stop_the_next() {
        let pool = ThreadPool::new("test");
        let (sender, receiver) = crossbeam_channel::bounded(1);
        pool.spawn(Box::new(|| panic!("on purpose")));
        pool.spawn(Box::new(move || sender.send(7).unwrap()));
        assert_eq!(receiver.recv().unwrap(), 7);
        pool.stop();
        pool.spawn(Box::new(|| unreachable!("the pool has ended")));
    }
}
