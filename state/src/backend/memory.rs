//! The memory that the live state of operators may take: one [`MemoryPool`] a slot.
//!
//! Every operator with state in memory holds a [`MemoryShare`] and says after each batch how many
//! bytes it has. When the pool is over its budget, those above an equal part are to give back
//! ([`MemoryShare::excess`]); an idle one that has more than its part is woken to do so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Wakes an operator.
pub type ShareWaker = Arc<dyn Fn() + Send + Sync>;

/// Of an over-full pool so much stays free after operators have given back, so that they need not
/// do so at every batch: one part in so many.
const SLACK_PARTS: usize = 10;

/// A budget shared by the operators of a slot. See the [module](self).
pub struct MemoryPool {
    budget: usize,
    used: AtomicUsize,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    next: u64,
    shares: BTreeMap<u64, Member>,
}

struct Member {
    bytes: Arc<AtomicUsize>,
    waker: ShareWaker,
}

impl MemoryPool {
    /// A pool of so many bytes.
    pub fn new(budget: usize) -> Arc<MemoryPool> {
        Arc::new(MemoryPool { budget, used: AtomicUsize::new(0), members: Mutex::default() })
    }

    /// A pool that is never full.
    pub fn unlimited() -> Arc<MemoryPool> {
        MemoryPool::new(usize::MAX)
    }

    /// Bytes that all shares may have together.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes that all shares have.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A share of nothing so far; `waker` is used when it is to give back though it has no input.
    pub fn share(self: &Arc<Self>, waker: ShareWaker) -> MemoryShare {
        let bytes = Arc::new(AtomicUsize::new(0));
        let mut members = self.members.lock();
        let id = members.next;
        members.next += 1;
        members.shares.insert(id, Member { bytes: Arc::clone(&bytes), waker });
        MemoryShare { pool: Arc::clone(self), id, bytes }
    }

    fn part(&self) -> usize {
        self.budget / self.members.lock().shares.len().max(1)
    }

    fn wake_largest(&self, but: u64) {
        let waker = {
            let members = self.members.lock();
            let others = members.shares.iter().filter(|(id, _)| **id != but);
            others.max_by_key(|(_, m)| m.bytes.load(Ordering::Relaxed)).map(|(_, m)| Arc::clone(&m.waker))
        };
        if let Some(waker) = waker {
            waker();
        }
    }
}

/// What one operator has of a [`MemoryPool`]; given back when dropped.
pub struct MemoryShare {
    pool: Arc<MemoryPool>,
    id: u64,
    bytes: Arc<AtomicUsize>,
}

impl MemoryShare {
    /// Says how many bytes the operator has now.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            self.pool.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.pool.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that the operator said it has.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<MemoryPool> {
        &self.pool
    }

    /// How many bytes this operator is to give back: 0 while the pool has room, or when others have
    /// more than their part.
    pub fn excess(&self) -> usize {
        let (used, budget) = (self.pool.used(), self.pool.budget);
        if used <= budget {
            return 0;
        }
        let (mine, part) = (self.bytes(), self.pool.part());
        if mine <= part {
            self.pool.wake_largest(self.id);
            return 0;
        }
        (used - (budget - budget / SLACK_PARTS)).min(mine - (part - part / SLACK_PARTS))
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.set(0);
        self.pool.members.lock().shares.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn who_has_more_than_its_part_gives_back() {
        let pool = MemoryPool::new(1000);
        let woken = Arc::new(AtomicU32::new(0));
        let waker = |by: u32| {
            let woken = Arc::clone(&woken);
            Arc::new(move || {
                woken.fetch_add(by, Ordering::Relaxed);
            }) as ShareWaker
        };
        let (large, small) = (pool.share(waker(1)), pool.share(waker(100)));
        large.set(900);
        assert_eq!((large.excess(), small.excess()), (0, 0));
        small.set(200);
        assert_eq!(pool.used(), 1100);
        assert_eq!(small.excess(), 0, "it has less than its part");
        assert_eq!(woken.load(Ordering::Relaxed), 1, "the one with more is woken");
        assert_eq!(large.excess(), 200, "a tenth stays free");
        large.set(700);
        assert_eq!(large.excess(), 0);
        drop(large);
        assert_eq!(pool.used(), 200);
    }

    #[test]
    fn of_an_unlimited_pool_nothing_is_given_back() {
        let pool = MemoryPool::unlimited();
        let share = pool.share(Arc::new(|| {}));
        share.set(usize::MAX / 2);
        assert_eq!(share.excess(), 0);
    }
}
