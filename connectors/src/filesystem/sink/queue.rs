//! Background work in order: orders are carried out one after the other by one worker, on whatever
//! thread the executor gives it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hurtig_engine::executor::{BackgroundExecutor, Waker};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Carries out orders.
pub trait Worker: Send + 'static {
    /// What it is told to do.
    type Order: Send;
    /// Does it. After an error it is given no more orders.
    fn carry_out(&mut self, order: Self::Order) -> Result<()>;
}

/// See the module documentation. Clones are the same queue.
pub struct SerialQueue<W: Worker> {
    shared: Arc<Shared<W>>,
    executor: Arc<dyn BackgroundExecutor>,
    waker: Waker,
}

struct Shared<W: Worker> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

struct State<W: Worker> {
    /// `None` while it works, and after a failure.
    worker: Option<W>,
    /// A job was given to the executor and has not begun.
    scheduled: bool,
    orders: VecDeque<(usize, W::Order)>,
    /// Of the orders that are not done.
    bytes: usize,
    /// Orders that were ever given, and that were done.
    given: u64,
    done: u64,
    failed: Option<Error>,
}

impl<W: Worker> Clone for SerialQueue<W> {
    fn clone(&self) -> Self {
        SerialQueue {
            shared: Arc::clone(&self.shared),
            executor: Arc::clone(&self.executor),
            waker: Arc::clone(&self.waker),
        }
    }
}

impl<W: Worker> SerialQueue<W> {
    /// A queue of orders for `worker`.
    pub fn new(worker: W, executor: Arc<dyn BackgroundExecutor>, waker: Waker) -> Self {
        let state = State {
            worker: Some(worker),
            scheduled: false,
            orders: VecDeque::new(),
            bytes: 0,
            given: 0,
            done: 0,
            failed: None,
        };
        SerialQueue { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }), executor, waker }
    }

    /// Adds an order that holds `bytes` bytes.
    pub fn push(&self, bytes: usize, order: W::Order) {
        let mut state = self.shared.state.lock();
        if state.failed.is_some() {
            return;
        }
        state.orders.push_back((bytes, order));
        state.bytes += bytes;
        state.given += 1;
        drop(state);
        self.schedule();
    }

    /// Has the orders carried out, unless a worker at work will see them.
    fn schedule(&self) {
        let mut state = self.shared.state.lock();
        let idle = state.worker.is_none() || state.orders.is_empty();
        if idle || std::mem::replace(&mut state.scheduled, true) {
            return;
        }
        drop(state);
        let (shared, waker) = (Arc::clone(&self.shared), Arc::clone(&self.waker));
        self.executor.spawn(Box::new(move || {
            let mut state = shared.state.lock();
            state.scheduled = false;
            let worker = state.worker.take();
            drop(state);
            if let Some(worker) = worker {
                shared.work(worker, u64::MAX);
            }
            waker();
        }));
    }

    /// The failure of an order, if one failed.
    pub fn check(&self) -> Result<()> {
        self.shared.state.lock().result()
    }

    /// Whether everything is done. Never again after a failure.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.failed.is_none() && state.done == state.given
    }

    /// Waits while more than `bytes` wait to be written: the disk is slower than the input.
    pub fn wait_below(&self, bytes: usize) -> Result<()> {
        let mut state = self.shared.state.lock();
        while state.bytes > bytes && state.failed.is_none() {
            self.shared.changed.wait(&mut state);
        }
        state.result()
    }

    /// Orders given so far.
    pub fn given(&self) -> u64 {
        self.shared.state.lock().given
    }

    /// Returns when the first `orders` orders are done. For background threads only. Does itself what
    /// no other thread has begun to do, so that it never waits for a free thread of the executor.
    pub fn finish(&self, orders: u64) -> Result<()> {
        let mut state = self.shared.state.lock();
        while state.failed.is_none() && state.done < orders {
            if let Some(worker) = state.worker.take() {
                drop(state);
                self.shared.work(worker, orders);
                state = self.shared.state.lock();
            } else {
                self.shared.changed.wait(&mut state);
            }
        }
        let result = state.result();
        drop(state);
        self.schedule();
        // The task must hear of a failure even if nothing else happens.
        (self.waker)();
        result
    }
}

impl<W: Worker> State<W> {
    fn result(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl<W: Worker> Shared<W> {
    /// Carries out orders until there are none or `orders` of all are done.
    fn work(&self, mut worker: W, orders: u64) {
        loop {
            let mut state = self.state.lock();
            let next = if state.done < orders { state.orders.pop_front() } else { None };
            let Some((bytes, order)) = next else {
                state.worker = Some(worker);
                self.changed.notify_all();
                return;
            };
            drop(state);
            let done = catch_unwind(AssertUnwindSafe(|| worker.carry_out(order)))
                .unwrap_or_else(|_| Err(Error::Internal("the file sink panicked; the log says where".into())));
            let mut state = self.state.lock();
            state.bytes -= bytes;
            state.done += 1;
            if let Err(error) = done {
                state.failed = Some(error);
                state.orders.clear();
                state.bytes = 0;
                self.changed.notify_all();
                return;
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_engine::executor::Job;

    /// Runs no job unless told to.
    #[derive(Default)]
    struct Held(Mutex<Vec<Job>>);

    impl BackgroundExecutor for Held {
        fn spawn(&self, job: Job) {
            self.0.lock().push(job);
        }
    }

    impl Held {
        fn run(&self) -> usize {
            let jobs = std::mem::take(&mut *self.0.lock());
            let count = jobs.len();
            jobs.into_iter().for_each(|job| job());
            count
        }
    }

    /// Notes what it is told; fails at 13, panics at 14.
    struct Notes(Arc<Mutex<Vec<u32>>>);

    impl Worker for Notes {
        type Order = u32;
        fn carry_out(&mut self, order: u32) -> Result<()> {
            assert!(order != 14, "told to panic");
            self.0.lock().push(order);
            if order == 13 { Err(Error::Storage("disk full".into())) } else { Ok(()) }
        }
    }

    fn queue() -> (SerialQueue<Notes>, Arc<Held>, Arc<Mutex<Vec<u32>>>) {
        let (held, notes) = (Arc::new(Held::default()), Arc::<Mutex<Vec<u32>>>::default());
        (SerialQueue::new(Notes(Arc::clone(&notes)), held.clone(), Arc::new(|| {})), held, notes)
    }

    #[test]
    fn finishing_does_no_more_than_asked_and_needs_no_thread() {
        let (queue, held, notes) = queue();
        queue.push(1, 1);
        queue.push(1, 2);
        let given = queue.given();
        queue.push(1, 3);
        queue.finish(given).unwrap();
        assert_eq!(*notes.lock(), [1, 2]);
        assert!(!queue.is_idle());
        held.run();
        assert_eq!(*notes.lock(), [1, 2, 3]);
        assert!(queue.is_idle());
        // An order behind that is carried out too.
        queue.push(1, 4);
        assert_eq!(held.run(), 1);
        assert!(queue.is_idle());
    }

    #[test]
    fn after_a_failure_nothing_is_done_and_the_queue_is_never_idle() {
        for bad in [13, 14] {
            let (queue, held, notes) = queue();
            queue.push(1, bad);
            queue.push(1, 2);
            held.run();
            assert!(!notes.lock().contains(&2));
            assert!(queue.check().is_err() && queue.finish(2).is_err() && queue.wait_below(0).is_err());
            assert!(!queue.is_idle());
        }
    }
}
