//! The paths that the performance budget of the design names, one group each. Throughput is in rows, or
//! in bytes of Arrow data for the exchange.

mod exchange;
mod operators;
mod partition;
mod sources;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    sources::nexmark,
    sources::json,
    partition::hash_partition,
    operators::aggregates,
    exchange::over_loopback
);
criterion_main!(benches);
