//! The queue between two tasks: bounded in bytes, ordered, never blocking.
//!
//! The bound is soft by one emission: a producer may always put, and looks at [`Channel::is_full`]
//! before it makes more. Elements other than rows cost [`CONTROL_BYTES`], so that a stalled consumer
//! stops a producer of nothing but watermarks too; a watermark behind a watermark replaces it.
//!
//! A barrier of an unaligned checkpoint overtakes what is queued. It waits in a lane of its own with
//! the number of elements that it has overtaken and that are still there: those are in flight, and
//! whoever takes the barrier gets copies of them for the checkpoint. An aligned barrier with a timeout
//! waits in its place; when its time has come [`Channel::expire`] moves it to that lane.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use hurtig_proto::internal::v1 as internal;
use parking_lot::Mutex;

use crate::element::{Barrier, StreamElement};
use crate::exchange::codec::EncodedBatch;
use crate::executor::Waker;

/// What an element without rows costs of a channel's bytes.
pub const CONTROL_BYTES: usize = 64;

const NEVER: i64 = i64::MAX;

/// Names a channel by its edge and the attempts at both ends, so that nothing of one execution ever
/// reaches another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    /// The job.
    pub job: String,
    /// The edge of the job's plan.
    pub edge: String,
    /// The sending subtask.
    pub producer_subtask: u32,
    /// Its attempt.
    pub producer_attempt: u32,
    /// The receiving subtask.
    pub consumer_subtask: u32,
    /// Its attempt.
    pub consumer_attempt: u32,
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "edge {} from subtask {}#{} to subtask {}#{} of job {}",
            self.edge,
            self.producer_subtask,
            self.producer_attempt,
            self.consumer_subtask,
            self.consumer_attempt,
            self.job
        )
    }
}

impl ChannelKey {
    /// The wire form.
    pub fn to_proto(&self) -> internal::OpenChannel {
        internal::OpenChannel {
            job_id: self.job.clone(),
            edge_id: self.edge.clone(),
            producer_subtask: self.producer_subtask,
            producer_attempt: self.producer_attempt,
            consumer_subtask: self.consumer_subtask,
            consumer_attempt: self.consumer_attempt,
        }
    }

    /// From the wire form.
    pub fn from_proto(open: &internal::OpenChannel) -> ChannelKey {
        ChannelKey {
            job: open.job_id.clone(),
            edge: open.edge_id.clone(),
            producer_subtask: open.producer_subtask,
            producer_attempt: open.producer_attempt,
            consumer_subtask: open.consumer_subtask,
            consumer_attempt: open.consumer_attempt,
        }
    }
}

/// What a channel carries.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Moved by reference within the process.
    Element(StreamElement),
    /// Rows in their wire form: made by the producer's thread, read by the consumer's.
    Encoded(EncodedBatch),
}

impl Payload {
    fn is_data(&self) -> bool {
        matches!(self, Payload::Encoded(_) | Payload::Element(StreamElement::Data(_)))
    }

    /// Of an aligned barrier that overtakes rows at a time: its checkpoint and that time.
    fn timed(&self) -> Option<(u64, i64)> {
        let Payload::Element(StreamElement::Barrier(barrier)) = self else { return None };
        barrier.overtakes_at_ms().map(|at| (barrier.checkpoint, at))
    }

    /// Whether it is part of the state of a channel: what its producer will not say again by itself.
    pub fn is_state(&self) -> bool {
        self.is_data() || matches!(self, Payload::Element(StreamElement::Watermark(_)))
    }
}

/// A payload with what it costs.
#[derive(Debug)]
pub struct Item {
    /// What it is.
    pub payload: Payload,
    /// Bytes charged to the channel.
    pub bytes: usize,
}

/// Why nothing more will come through a channel although it has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelFailure {
    /// The task at the other end failed or was cancelled: its own report says why.
    PeerEnded(String),
    /// The connection or the order of frames is lost.
    Lost(String),
}

impl ChannelFailure {
    /// The text.
    pub fn reason(&self) -> &str {
        match self {
            ChannelFailure::PeerEnded(reason) | ChannelFailure::Lost(reason) => reason,
        }
    }
}

/// The producer's side in another process, as the consumer's side speaks to it.
pub trait RemoteProducer: Send + Sync {
    /// Lets it send `bytes` more.
    fn grant(&self, bytes: usize);
    /// Tells it that the consumer takes no more.
    fn closed(&self);
}

/// A barrier that has overtaken the first `overtaken` elements of the queue.
struct Urgent {
    barrier: Barrier,
    overtaken: usize,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Item>,
    urgent: VecDeque<Urgent>,
    /// Checkpoints of queued barriers that overtake what is ahead of them at a time, and that time.
    timed: VecDeque<(u64, i64)>,
    producer_waker: Option<Waker>,
    consumer_waker: Option<Waker>,
    failure: Option<ChannelFailure>,
    remote: Option<Arc<dyn RemoteProducer>>,
    accepted: bool,
}

/// The queue. See the module documentation.
pub struct Channel {
    key: ChannelKey,
    limit: usize,
    bytes: AtomicUsize,
    /// Elements of the queue and urgent barriers.
    length: AtomicUsize,
    urgent: AtomicUsize,
    /// The earliest time of a timed barrier; `NEVER`: there is none.
    expiry_ms: AtomicI64,
    failed: AtomicBool,
    consumer_gone: AtomicBool,
    ended: AtomicBool,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({}, {} elements, {} bytes)", self.key, self.len(), self.queued_bytes())
    }
}

impl Channel {
    /// An empty channel that is full from `limit` bytes on.
    pub fn new(key: ChannelKey, limit: usize) -> Arc<Channel> {
        Arc::new(Channel {
            key,
            limit: limit.max(1),
            bytes: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            urgent: AtomicUsize::new(0),
            expiry_ms: AtomicI64::new(NEVER),
            failed: AtomicBool::new(false),
            consumer_gone: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            inner: Mutex::new(Inner::default()),
        })
    }

    /// Its name.
    pub fn key(&self) -> &ChannelKey {
        &self.key
    }

    /// Elements queued.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes queued.
    pub fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Bytes from which on it is full.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the producer has to stop.
    pub fn is_full(&self) -> bool {
        self.queued_bytes() >= self.limit && !self.consumer_gone.load(Ordering::Acquire)
    }

    /// Whether the producer has put its last element.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Who is to be woken when the channel is no longer full, or fails.
    pub fn set_producer_waker(&self, waker: Waker) {
        self.inner.lock().producer_waker = Some(waker);
    }

    /// Who is to be woken when there is an element, or the channel fails.
    pub fn set_consumer_waker(&self, waker: Waker) {
        let wake = {
            let mut inner = self.inner.lock();
            let wake = !inner.queue.is_empty() || inner.failure.is_some();
            inner.consumer_waker = Some(Arc::clone(&waker));
            wake
        };
        if wake {
            waker();
        }
    }

    /// The producer is in another process: it is granted what is consumed. If the consumer has
    /// accepted already, `window` bytes are granted now, else when it does.
    pub fn set_remote_producer(&self, window: usize, remote: Arc<dyn RemoteProducer>) {
        let accepted = {
            let mut inner = self.inner.lock();
            inner.remote = Some(Arc::clone(&remote));
            inner.accepted
        };
        if self.is_consumer_gone() {
            remote.closed();
        } else if accepted {
            remote.grant(window);
        }
    }

    /// The consumer is there. If the producer is in another process it gets its first `window`.
    pub fn accept(&self, window: usize) {
        let remote = {
            let mut inner = self.inner.lock();
            if std::mem::replace(&mut inner.accepted, true) {
                return;
            }
            inner.remote.clone()
        };
        if let Some(remote) = remote {
            remote.grant(window);
        }
    }

    /// Whether the consumer is there.
    pub fn is_accepted(&self) -> bool {
        self.inner.lock().accepted
    }

    /// Appends an element of `bytes`. Dropped when the consumer is gone.
    pub fn put(&self, payload: Payload, bytes: usize) {
        if self.consumer_gone.load(Ordering::Acquire) {
            return;
        }
        if matches!(payload, Payload::Element(StreamElement::EndOfPartition)) {
            self.ended.store(true, Ordering::Release);
        }
        let bytes = if payload.is_data() { bytes.max(1) } else { CONTROL_BYTES };
        let timed = payload.timed();
        let waker = {
            let mut inner = self.inner.lock();
            // What a barrier has overtaken must not take over what is said behind it.
            let overtaken = inner.urgent.back().is_some_and(|urgent| urgent.overtaken == inner.queue.len());
            if let (
                Payload::Element(StreamElement::Watermark(new)),
                Some(Item { payload: Payload::Element(StreamElement::Watermark(last)), .. }),
            ) = (&payload, inner.queue.back_mut())
                && !overtaken
            {
                *last = *new;
                // The frame that was dropped costs its sender nothing any more.
                let remote = inner.remote.clone();
                drop(inner);
                if let Some(remote) = remote {
                    remote.grant(CONTROL_BYTES);
                }
                return;
            }
            inner.queue.push_back(Item { payload, bytes });
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            let length = self.length.fetch_add(1, Ordering::AcqRel);
            if let Some(timed) = timed {
                inner.timed.push_back(timed);
                self.note_expiry(&inner);
            }
            // A consumer that waits for something else must know when to come back for the barrier.
            if length == 0 || timed.is_some() { inner.consumer_waker.clone() } else { None }
        };
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Appends an element other than rows.
    pub fn put_control(&self, element: StreamElement) {
        self.put(Payload::Element(element), CONTROL_BYTES);
    }

    /// Lets a barrier overtake all that is queued. With `copy` it gives copies of the overtaken
    /// elements that are state: the producer's side of a channel between processes keeps them, since
    /// they reach the consumer after its snapshot. Dropped when the consumer is gone.
    pub fn put_urgent(&self, barrier: Barrier, copy: bool) -> Vec<Payload> {
        if self.consumer_gone.load(Ordering::Acquire) {
            return Vec::new();
        }
        let (waker, copies) = {
            let mut inner = self.inner.lock();
            let state = inner.queue.iter().map(|item| &item.payload).filter(|payload| payload.is_state());
            let copies = if copy { state.cloned().collect() } else { Vec::new() };
            let overtaken = if copy { 0 } else { inner.queue.len() };
            inner.urgent.push_back(Urgent { barrier, overtaken });
            self.urgent.fetch_add(1, Ordering::AcqRel);
            self.length.fetch_add(1, Ordering::AcqRel);
            (inner.consumer_waker.clone(), copies)
        };
        if let Some(waker) = waker {
            waker();
        }
        copies
    }

    /// When the first of the queued barriers overtakes what is ahead of it, in ms since 1970.
    pub fn expires_at_ms(&self) -> Option<i64> {
        Some(self.expiry_ms.load(Ordering::Acquire)).filter(|&at| at != NEVER)
    }

    /// Whether the barrier of `checkpoint` is queued and may yet overtake what is ahead of it.
    pub fn holds_timed(&self, checkpoint: u64) -> bool {
        self.expires_at_ms().is_some() && self.inner.lock().timed.iter().any(|(id, _)| *id == checkpoint)
    }

    fn note_expiry(&self, inner: &Inner) {
        let first = inner.timed.iter().map(|(_, at)| *at).min();
        self.expiry_ms.store(first.unwrap_or(NEVER), Ordering::Release);
    }

    /// Queued barriers whose time has come overtake what is ahead of them. With `copy`, as in
    /// [`Channel::put_urgent`], gives the elements that are state, by checkpoint.
    pub fn expire(&self, now_ms: i64, copy: bool) -> Vec<(u64, Vec<Payload>)> {
        if self.expires_at_ms().is_none_or(|at| at > now_ms) {
            return Vec::new();
        }
        let mut copies = Vec::new();
        let wakers = {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            let (mut index, mut freed) = (0, 0);
            while index < inner.queue.len() {
                let barrier = match &inner.queue[index].payload {
                    Payload::Element(StreamElement::Barrier(barrier)) if barrier.is_late(now_ms) => barrier.clone(),
                    _ => {
                        index += 1;
                        continue;
                    }
                };
                freed += inner.queue.remove(index).map_or(0, |item| item.bytes);
                for urgent in inner.urgent.iter_mut().filter(|urgent| urgent.overtaken > index) {
                    urgent.overtaken -= 1;
                }
                if copy {
                    let ahead = inner.queue.iter().take(index).map(|item| &item.payload);
                    let state = ahead.filter(|payload| payload.is_state()).cloned().collect();
                    copies.push((barrier.checkpoint, state));
                }
                let overtaken = if copy { 0 } else { index };
                inner.urgent.push_back(Urgent { barrier: barrier.overtaking(), overtaken });
                self.urgent.fetch_add(1, Ordering::AcqRel);
            }
            inner.timed.retain(|(_, at)| *at > now_ms);
            self.note_expiry(inner);
            self.bytes.fetch_sub(freed, Ordering::AcqRel);
            [inner.producer_waker.clone(), inner.consumer_waker.clone()]
        };
        for waker in wakers.into_iter().flatten() {
            waker();
        }
        copies
    }

    /// Whether a barrier waits that has overtaken what is queued.
    pub fn has_urgent(&self) -> bool {
        self.urgent.load(Ordering::Acquire) > 0
    }

    /// The next barrier that has overtaken elements, with copies of those that are state and still
    /// queued. For the consumer's task.
    pub fn take_urgent(&self) -> Option<(Barrier, Vec<Payload>)> {
        if !self.has_urgent() {
            return None;
        }
        let (barrier, copies, remote) = {
            let mut inner = self.inner.lock();
            let urgent = self.pop_urgent(&mut inner)?;
            let overtaken = inner.queue.iter().take(urgent.overtaken).map(|item| &item.payload);
            let copies = overtaken.filter(|payload| payload.is_state()).cloned().collect();
            (urgent.barrier, copies, inner.remote.clone())
        };
        if let Some(remote) = remote {
            remote.grant(CONTROL_BYTES);
        }
        Some((barrier, copies))
    }

    fn pop_urgent(&self, inner: &mut Inner) -> Option<Urgent> {
        let urgent = inner.urgent.pop_front()?;
        self.urgent.fetch_sub(1, Ordering::AcqRel);
        self.length.fetch_sub(1, Ordering::AcqRel);
        Some(urgent)
    }

    /// The next element in order, if any. Urgent barriers are left: see [`Channel::take_urgent`].
    pub fn take(&self) -> Option<Item> {
        self.take_queued(|_, _| true)
    }

    /// What is next on the way to another process, if `allowed(is data, bytes)`: urgent barriers
    /// first.
    pub fn take_if(&self, allowed: impl FnOnce(bool, usize) -> bool) -> Option<Item> {
        if !self.has_urgent() {
            return self.take_queued(allowed);
        }
        if !allowed(false, CONTROL_BYTES) {
            return None;
        }
        let urgent = self.pop_urgent(&mut self.inner.lock())?;
        let payload = Payload::Element(StreamElement::Barrier(urgent.barrier));
        Some(Item { payload, bytes: CONTROL_BYTES })
    }

    fn take_queued(&self, allowed: impl FnOnce(bool, usize) -> bool) -> Option<Item> {
        if self.is_empty() {
            return None;
        }
        let (item, producer, remote) = {
            let mut inner = self.inner.lock();
            let front = inner.queue.front()?;
            if !allowed(front.payload.is_data(), front.bytes) {
                return None;
            }
            let item = inner.queue.pop_front()?;
            for urgent in &mut inner.urgent {
                urgent.overtaken = urgent.overtaken.saturating_sub(1);
            }
            let before = self.bytes.fetch_sub(item.bytes, Ordering::AcqRel);
            self.length.fetch_sub(1, Ordering::AcqRel);
            let crossed = before >= self.limit && before - item.bytes < self.limit;
            let timed = item.payload.timed();
            if let Some((checkpoint, _)) = timed {
                inner.timed.retain(|(id, _)| *id != checkpoint);
                self.note_expiry(&inner);
            }
            (item, if crossed || timed.is_some() { inner.producer_waker.clone() } else { None }, inner.remote.clone())
        };
        if let Some(waker) = producer {
            waker();
        }
        if let Some(remote) = remote {
            remote.grant(item.bytes);
        }
        Some(item)
    }

    /// Nothing more will come, or nothing more can be sent. What is queued already can still be taken;
    /// the first failure counts.
    pub fn fail(&self, failure: ChannelFailure) {
        let wakers = {
            let mut inner = self.inner.lock();
            if inner.failure.is_some() {
                return;
            }
            inner.failure = Some(failure);
            self.failed.store(true, Ordering::Release);
            [inner.producer_waker.clone(), inner.consumer_waker.clone()]
        };
        for waker in wakers.into_iter().flatten() {
            waker();
        }
    }

    /// Why the channel failed, if it did.
    pub fn failure(&self) -> Option<ChannelFailure> {
        if self.failed.load(Ordering::Acquire) { self.inner.lock().failure.clone() } else { None }
    }

    /// The consumer takes no more: what is queued and whatever will be put is dropped.
    pub fn close_consumer(&self) {
        self.consumer_gone.store(true, Ordering::Release);
        let (waker, remote, dropped) = {
            let mut inner = self.inner.lock();
            let dropped = std::mem::take(&mut inner.queue);
            inner.urgent.clear();
            inner.timed.clear();
            self.note_expiry(&inner);
            self.bytes.store(0, Ordering::Release);
            self.length.store(0, Ordering::Release);
            self.urgent.store(0, Ordering::Release);
            inner.consumer_waker = None;
            (inner.producer_waker.clone(), inner.remote.take(), dropped)
        };
        drop(dropped);
        if let Some(remote) = remote {
            remote.closed();
        }
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Whether the consumer takes no more.
    pub fn is_consumer_gone(&self) -> bool {
        self.consumer_gone.load(Ordering::Acquire)
    }

    /// The producer is gone. Without an end put before, that is a failure.
    pub fn close_producer(&self, reason: &str) {
        self.inner.lock().producer_waker = None;
        if !self.has_ended() {
            self.fail(ChannelFailure::PeerEnded(reason.to_owned()));
        }
    }
}
