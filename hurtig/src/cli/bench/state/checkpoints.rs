//! Checkpoints of a large state of which little changes: the operator of a GROUP BY with its real state,
//! without a cluster around it, so that exactly one percent of the keys changes between two checkpoints
//! and the pause is that of the operator's freeze.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch};
use hurtig_engine::Batch;
use hurtig_engine::operators::testing::{Harness, HarnessConfig, schema};
use hurtig_engine::operators::{BuildContext, build};
use hurtig_proto::v1;
use hurtig_state::backend::{BackendConfig, KeyedBackend, MemoryPool, SharedRocks, SharedRocksConfig, SnapshotTarget};
use hurtig_state::local::TaskName;
use hurtig_state::storage::ObjectStores;
use serde::Serialize;

use super::{StateArgs, parse_size};

/// Incompressible bytes of each key's value.
const VALUE_BYTES: usize = 100;
/// What a key takes in the database: prefix, key, headers, value.
const ENTRY_BYTES: u64 = 4 + 9 + 4 + 5 + VALUE_BYTES as u64;
const BATCH_ROWS: usize = 8_192;

/// The figures.
#[derive(Debug, Serialize)]
pub struct Checkpoints {
    pub state_bytes: u64,
    pub keys: u64,
    pub checkpoints: u64,
    pub changed_bytes: u64,
    pub uploaded_median_bytes: u64,
    pub uploaded_total_bytes: u64,
    pub median_ratio: f64,
    pub total_ratio: f64,
    pub pause_median_us: u64,
    pub pause_p99_us: u64,
    pub durable_median_ms: u64,
}

/// Takes the checkpoints.
pub fn measure(args: &StateArgs) -> anyhow::Result<Checkpoints> {
    let keys = (parse_size(&args.state)? / ENTRY_BYTES).max(100);
    let folder = tempfile::Builder::new().prefix("hurtig-bench-").tempdir()?;
    let keyed = Arc::new(KeyedBackend::open(BackendConfig {
        directory: folder.path().join("live"),
        key_groups: (0, 127),
        max_parallelism: 128,
        task: TaskName { job_id: "00".repeat(16), vertex_id: "bench".into(), subtask: 0, attempt: 0 },
        rocks: Arc::new(SharedRocks::new(SharedRocksConfig::default())),
        memory: MemoryPool::unlimited(),
        inline_bytes: 0,
        stores: Arc::new(ObjectStores::default()),
        local: None,
        restore_checkpoint: 0,
        restore: Vec::new(),
    })?);
    let input = schema(&["k BIGINT", "v BYTES"])?;
    let last_value = v1::AggregateCall {
        function: "LAST_VALUE".into(),
        arguments: vec![1],
        name: "v".into(),
        ..v1::AggregateCall::default()
    };
    let aggregate = v1::GroupAggregate { keys: vec![0], aggregates: vec![last_value], ..v1::GroupAggregate::default() };
    let operator =
        v1::Operator { kind: Some(v1::operator::Kind::GroupAggregate(aggregate)), ..v1::Operator::default() };
    let operator = build(&operator, std::slice::from_ref(&input), &BuildContext::default())?;
    let mut config = HarnessConfig::fresh(vec![input.clone()]);
    config.keyed = Arc::clone(&keyed);
    let mut harness = Harness::open(operator, config)?;

    let mut random = Random(1);
    let all: Vec<i64> = (0..keys as i64).collect();
    write(&mut harness, &input.to_arrow(), &all, &mut random)?;
    let target = |checkpoint| SnapshotTarget::checkpoint(&format!("file://{}", folder.path().display()), checkpoint);
    let snapshot = harness.snapshot(1)?;
    keyed.snapshot(1, snapshot.keyed, &target(1))?;
    keyed.confirm(1);

    let changed = (keys / 100).max(1);
    let (mut pauses, mut uploads, mut durations) = (Vec::new(), Vec::new(), Vec::new());
    let mut state_bytes = 0;
    for checkpoint in 2..args.checkpoints + 2 {
        let some: Vec<i64> = (0..changed).map(|_| random.below(keys) as i64).collect();
        write(&mut harness, &input.to_arrow(), &some, &mut random)?;
        let start = Instant::now();
        let snapshot = harness.snapshot(checkpoint)?;
        pauses.push(start.elapsed().as_micros() as u64);
        if let Some(state) = keyed.snapshot(checkpoint, snapshot.keyed, &target(checkpoint))? {
            uploads.push(state.uploaded_bytes);
            state_bytes = state.total_bytes;
        }
        durations.push(start.elapsed().as_millis() as u64);
        keyed.confirm(checkpoint);
    }
    let changed_bytes = changed * ENTRY_BYTES;
    let total: u64 = uploads.iter().sum();
    let median = quantile(&mut uploads, 0.5);
    Ok(Checkpoints {
        state_bytes,
        keys,
        checkpoints: args.checkpoints,
        changed_bytes,
        uploaded_median_bytes: median,
        uploaded_total_bytes: total,
        median_ratio: median as f64 / changed_bytes as f64,
        total_ratio: total as f64 / (changed_bytes * args.checkpoints) as f64,
        pause_median_us: quantile(&mut pauses, 0.5),
        pause_p99_us: quantile(&mut pauses, 0.99),
        durable_median_ms: quantile(&mut durations, 0.5),
    })
}

fn write(
    harness: &mut Harness,
    schema: &arrow::datatypes::SchemaRef,
    keys: &[i64],
    random: &mut Random,
) -> anyhow::Result<()> {
    for keys in keys.chunks(BATCH_ROWS) {
        let mut values = BinaryBuilder::with_capacity(keys.len(), keys.len() * VALUE_BYTES);
        let mut value = [0; VALUE_BYTES];
        for _ in keys {
            value.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]));
            values.append_value(value);
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(values.finish())];
        harness.process(Batch::inserts(RecordBatch::try_new(Arc::clone(schema), columns)?))?;
        harness.take();
    }
    Ok(())
}

/// The value below which a share of all lies. 0 of none.
fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).ceil() as usize).copied().unwrap_or(0)
}

/// Random numbers that are the same in each run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
