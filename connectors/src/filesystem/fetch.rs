//! Fetching off-thread: a producer that may block runs on the background executor and stays a few
//! items ahead of the task's thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hurtig_engine::executor::{BackgroundExecutor, Waker};
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Items that wait to be taken at most.
const AHEAD: usize = 2;

/// Gives the next item, `None` at the end. May block.
pub type Producer<T> = Box<dyn FnMut() -> Result<Option<T>> + Send>;

/// What is there to take.
pub enum Fetched<T> {
    /// An item.
    Item(T),
    /// Not yet; the waker will be used.
    Waiting,
    /// Nothing more.
    End,
}

/// See the module documentation.
pub struct Fetcher<T> {
    shared: Arc<Mutex<Shared<T>>>,
    executor: Arc<dyn BackgroundExecutor>,
    waker: Waker,
}

struct Shared<T> {
    /// `None` while a job runs it, and after the end.
    producer: Option<Producer<T>>,
    ready: VecDeque<T>,
    failed: Option<Error>,
    ended: bool,
    dropped: bool,
}

impl<T: Send + 'static> Fetcher<T> {
    /// Begins to fetch at once.
    pub fn new(producer: Producer<T>, executor: Arc<dyn BackgroundExecutor>, waker: Waker) -> Fetcher<T> {
        let shared =
            Shared { producer: Some(producer), ready: VecDeque::new(), failed: None, ended: false, dropped: false };
        let fetcher = Fetcher { shared: Arc::new(Mutex::new(shared)), executor, waker };
        fetcher.go_on();
        fetcher
    }

    /// Takes the next item. Items before a failure come first.
    pub fn take(&self) -> Result<Fetched<T>> {
        let mut shared = self.shared.lock();
        let taken = match shared.ready.pop_front() {
            Some(item) => Fetched::Item(item),
            None => match &shared.failed {
                Some(error) => return Err(error.clone()),
                None if shared.ended => Fetched::End,
                None => Fetched::Waiting,
            },
        };
        drop(shared);
        self.go_on();
        Ok(taken)
    }

    /// Starts a job unless one runs or enough is there.
    fn go_on(&self) {
        let mut shared = self.shared.lock();
        if shared.ready.len() >= AHEAD {
            return;
        }
        let Some(producer) = shared.producer.take() else { return };
        drop(shared);
        let (state, waker) = (Arc::clone(&self.shared), Arc::clone(&self.waker));
        self.executor.spawn(Box::new(move || fetch(&state, producer, &waker)));
    }
}

fn fetch<T>(shared: &Mutex<Shared<T>>, mut producer: Producer<T>, waker: &Waker) {
    loop {
        let produced = catch_unwind(AssertUnwindSafe(&mut producer))
            .unwrap_or_else(|_| Err(Error::Internal("reading a file panicked; the log says where".into())));
        let mut shared = shared.lock();
        match produced {
            Ok(Some(item)) => shared.ready.push_back(item),
            Ok(None) => shared.ended = true,
            Err(error) => shared.failed = Some(error),
        }
        let over = shared.ended || shared.failed.is_some() || shared.dropped;
        if over || shared.ready.len() >= AHEAD {
            if !over {
                shared.producer = Some(producer);
            }
            break;
        }
        drop(shared);
        waker();
    }
    waker();
}

impl<T> Drop for Fetcher<T> {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.dropped = true;
        shared.producer = None;
    }
}
