//! Real keyed state in a temporary folder, for tests that restore operators.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::key_groups::key_group_of_hash;
use hurtig_proto::v1::KeyedSnapshot;
use hurtig_state::backend::{BackendConfig, KeyedBackend, MemoryPool, SharedRocks, SharedRocksConfig, SnapshotTarget};
use hurtig_state::hash::hash_columns;
use hurtig_state::local::TaskName;
use hurtig_state::storage::ObjectStores;

use super::testing::{Harness, HarnessConfig};
use parking_lot::Mutex;

use crate::batch::Batch;
use crate::executor::{BackgroundExecutor, Job};
use crate::operator::{Operator, RestoredState};

/// Folders, databases and object stores of a test.
pub(crate) struct StateFixture {
    directory: tempfile::TempDir,
    stores: Arc<ObjectStores>,
    rocks: Arc<SharedRocks>,
    attempts: Cell<u32>,
    memory: Arc<MemoryPool>,
    inline_bytes: u64,
    executor: Option<Arc<LaterExecutor>>,
}

/// Runs jobs when it is told to.
#[derive(Default)]
pub(crate) struct LaterExecutor(Mutex<VecDeque<Job>>);

impl LaterExecutor {
    /// Runs all jobs; their number.
    pub(crate) fn run(&self) -> usize {
        let jobs = std::mem::take(&mut *self.0.lock());
        let count = jobs.len();
        jobs.into_iter().for_each(|job| job());
        count
    }
}

impl BackgroundExecutor for LaterExecutor {
    fn spawn(&self, job: Job) {
        self.0.lock().push_back(job);
    }
}

/// A completed checkpoint of one operator.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub number: u64,
    pub keyed: Option<KeyedSnapshot>,
    pub restored: RestoredState,
}

impl StateFixture {
    pub(crate) fn new() -> StateFixture {
        StateFixture {
            directory: tempfile::tempdir().unwrap(),
            stores: Arc::new(ObjectStores::default()),
            rocks: Arc::new(SharedRocks::new(SharedRocksConfig {
                cache_bytes: 8 << 20,
                write_buffer_bytes: 4 << 20,
                background_threads: 1,
                ..SharedRocksConfig::default()
            })),
            attempts: Cell::new(0),
            memory: MemoryPool::unlimited(),
            inline_bytes: 0,
            executor: None,
        }
    }

    /// With operators that may take so many bytes.
    pub(crate) fn with_memory(bytes: usize) -> StateFixture {
        StateFixture { memory: MemoryPool::new(bytes), ..StateFixture::new() }
    }

    /// With checkpoints that carry state up to this size.
    pub(crate) fn with_inline_state(bytes: u64) -> StateFixture {
        StateFixture { inline_bytes: bytes, ..StateFixture::new() }
    }

    /// The same, with background work that waits to be run.
    pub(crate) fn with_memory_and_executor(bytes: usize, executor: &Arc<LaterExecutor>) -> StateFixture {
        StateFixture { executor: Some(Arc::clone(executor)), ..StateFixture::with_memory(bytes) }
    }

    /// What operators have of their memory.
    pub(crate) fn memory(&self) -> &MemoryPool {
        &self.memory
    }

    /// A new attempt for the key groups of the range, restored from `checkpoints`.
    pub(crate) fn backend(&self, key_groups: (u32, u32), checkpoints: &[&Checkpoint]) -> Arc<KeyedBackend> {
        let attempt = self.attempts.get();
        self.attempts.set(attempt + 1);
        let backend = KeyedBackend::open(BackendConfig {
            directory: self.directory.path().join(format!("live-{attempt}")),
            key_groups,
            max_parallelism: 128,
            task: TaskName { job_id: "a1".repeat(16), vertex_id: "v".into(), subtask: 0, attempt },
            rocks: Arc::clone(&self.rocks),
            memory: Arc::clone(&self.memory),
            inline_bytes: self.inline_bytes,
            stores: Arc::clone(&self.stores),
            local: None,
            restore_checkpoint: checkpoints.first().map_or(0, |c| c.number),
            restore: checkpoints.iter().filter_map(|c| c.keyed.clone()).collect(),
        });
        Arc::new(backend.unwrap())
    }

    /// Opens `operator`, restored from `checkpoint`; gives its state too.
    pub(crate) fn open(
        &self,
        operator: Box<dyn Operator>,
        input: &RowSchema,
        checkpoint: Option<&Checkpoint>,
    ) -> (Harness, Arc<KeyedBackend>) {
        self.open_range((0, 127), operator, input, checkpoint)
    }

    /// The same for a subtask with these key groups.
    pub(crate) fn open_range(
        &self,
        key_groups: (u32, u32),
        operator: Box<dyn Operator>,
        input: &RowSchema,
        checkpoint: Option<&Checkpoint>,
    ) -> (Harness, Arc<KeyedBackend>) {
        let keyed = self.backend(key_groups, checkpoint.as_slice());
        let mut config = HarnessConfig::fresh(vec![input.clone()]);
        if let Some(executor) = &self.executor {
            config.executor = Arc::clone(executor) as _;
        }
        config.keyed = Arc::clone(&keyed);
        config.restored = checkpoint.map(|c| c.restored.clone()).unwrap_or_default();
        (Harness::open(operator, config).unwrap(), keyed)
    }

    /// Takes a checkpoint, write-back included.
    pub(crate) fn checkpoint(&self, harness: &mut Harness, keyed: &KeyedBackend, number: u64) -> Checkpoint {
        let snapshot = harness.snapshot(number).unwrap();
        let target = SnapshotTarget::checkpoint("memory://checkpoints/job", number);
        let state = keyed.snapshot(number, snapshot.keyed, &target).unwrap();
        keyed.confirm(number);
        let restored = RestoredState { checkpoint: number, lists: snapshot.lists, watermark_ms: snapshot.watermark_ms };
        Checkpoint { number, keyed: state, restored }
    }
}

/// The rows of `batch` whose key (the first column) is in key groups of the range.
pub(crate) fn rows_of_key_groups(batch: &Batch, key_groups: (u32, u32)) -> Batch {
    let hashes = hash_columns(&[batch.column(0).clone()]);
    let mine = hashes.iter().map(|&h| {
        let key_group = key_group_of_hash(h, 128);
        Some(key_group >= key_groups.0 && key_group <= key_groups.1)
    });
    batch.filter(&mine.collect()).unwrap()
}

/// Deterministic random numbers.
pub(crate) struct Random(pub u64);

impl Random {
    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
