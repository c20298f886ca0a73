//! Background work in order: orders are carried out one after the other by one worker, on whatever
//! thread the executor gives it.

use std::collections::VecDeque;
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
    /// `None` while it works.
    worker: Option<W>,
    /// A job was given to the executor and has not begun.
    scheduled: bool,
    orders: VecDeque<(usize, W::Order)>,
    /// Of the orders that are not done.
    bytes: usize,
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
        let state = State { worker: Some(worker), scheduled: false, orders: VecDeque::new(), bytes: 0, failed: None };
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
        // A worker at work will see the order.
        if state.worker.is_none() || std::mem::replace(&mut state.scheduled, true) {
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
                shared.work(worker);
            }
            waker();
        }));
    }

    /// The failure of an order, if one failed.
    pub fn check(&self) -> Result<()> {
        self.shared.state.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Whether everything is done.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.failed.is_some() || state.orders.is_empty() && state.worker.is_some()
    }

    /// Waits while more than `bytes` wait to be written: the disk is slower than the input.
    pub fn wait_below(&self, bytes: usize) -> Result<()> {
        let mut state = self.shared.state.lock();
        while state.bytes > bytes && state.failed.is_none() {
            self.shared.changed.wait(&mut state);
        }
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Returns when everything is done. For background threads only. Does itself what no other thread
    /// has begun to do, so that it never waits for a free thread of the executor.
    pub fn drain(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        if let Some(worker) = state.worker.take() {
            drop(state);
            self.shared.work(worker);
            state = self.shared.state.lock();
        }
        while state.failed.is_none() && !(state.orders.is_empty() && state.worker.is_some()) {
            self.shared.changed.wait(&mut state);
        }
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl<W: Worker> Shared<W> {
    fn work(&self, mut worker: W) {
        loop {
            let mut state = self.state.lock();
            let Some((bytes, order)) = state.orders.pop_front() else {
                state.worker = Some(worker);
                self.changed.notify_all();
                return;
            };
            drop(state);
            let done = worker.carry_out(order);
            let mut state = self.state.lock();
            state.bytes -= bytes;
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
