//! Threads for work that may block: restores, write-backs, uploads, file reads.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::executor::{BackgroundExecutor, Job};
use crate::task::panics;

/// A fixed number of named threads that take jobs from one queue.
pub struct ThreadPool {
    sender: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ThreadPool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Arc<ThreadPool>> {
        let (sender, receiver) = crossbeam_channel::unbounded::<Job>();
        let mut handles = Vec::with_capacity(threads);
        for i in 0..threads.max(1) {
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new().name(format!("{name}-{i}"));
            handles.push(thread.spawn(move || work(&receiver))?);
        }
        Ok(Arc::new(ThreadPool { sender: Mutex::new(Some(sender)), threads: Mutex::new(handles) }))
    }

    /// Ends the threads after the jobs that are queued.
    pub fn stop(&self) {
        self.sender.lock().take();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                // Jobs are guarded; a thread does not panic.
                let _ = thread.join();
            }
        }
    }
}

impl BackgroundExecutor for ThreadPool {
    fn spawn(&self, job: Job) {
        let sender = self.sender.lock().clone();
        match sender {
            Some(sender) => {
                // The receivers live as long as the sender.
                let _ = sender.send(job);
            }
            None => tracing::debug!("a job came after the end of its pool and was dropped"),
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        if let Err(text) = panics::guard(job) {
            tracing::error!(error = %text, "background work failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_one_job_does_not_stop_the_next() {
        let pool = ThreadPool::start("test", 1).unwrap();
        let (sender, receiver) = crossbeam_channel::bounded(1);
        pool.spawn(Box::new(|| panic!("on purpose")));
        pool.spawn(Box::new(move || sender.send(7).unwrap()));
        assert_eq!(receiver.recv().unwrap(), 7);
        pool.stop();
        pool.spawn(Box::new(|| unreachable!("the pool has ended")));
    }
}
