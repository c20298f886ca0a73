//! One channel between two TaskManagers over gRPC on loopback. Budget: 1 GB of Arrow data a second.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use criterion::{Criterion, Throughput};
use hurtig_engine::Batch;
use hurtig_engine::exchange::channel::Payload;
use hurtig_engine::exchange::codec::Encoder;
use hurtig_engine::exchange::network::{ExchangeNetwork, ExchangeServer};
use hurtig_engine::exchange::{Channel, ChannelKey, ChannelRegistry, ExchangeConfig};
use tokio_stream::wrappers::TcpListenerStream;

const ROWS: usize = 8192;
const COLUMNS: usize = 8;
const BATCHES: usize = 256;

fn rows() -> Batch {
    let columns = (0..COLUMNS).map(|column| {
        let values: ArrayRef = Arc::new((0..ROWS as i64).map(|i| i * column as i64).collect::<Int64Array>());
        (format!("c{column}"), values)
    });
    Batch::inserts(RecordBatch::try_from_iter(columns).expect("the columns have equal lengths"))
}

fn key() -> ChannelKey {
    ChannelKey {
        job: "bench".into(),
        edge: "edge".into(),
        producer_subtask: 0,
        producer_attempt: 0,
        consumer_subtask: 0,
        consumer_attempt: 0,
    }
}

/// Sends the batches and takes them on the other side, as two tasks would.
fn transfer(encoder: &Encoder, producer: &Channel, consumer: &Channel, batch: &Batch) {
    let (mut sent, mut received) = (0, 0);
    while received < BATCHES {
        while sent < BATCHES && !producer.is_full() {
            let encoded = encoder.encode(batch).expect("the batch can be encoded");
            let bytes = encoded.bytes();
            producer.put(Payload::Encoded(encoded), bytes);
            sent += 1;
        }
        while consumer.take().is_some() {
            received += 1;
        }
        std::thread::yield_now();
    }
}

pub fn over_loopback(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let config = ExchangeConfig::default();
    let registry = Arc::new(ChannelRegistry::new(config.clone()));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let (_running, stopped) = tokio::sync::watch::channel(false);
    let service = ExchangeServer::service(Arc::clone(&registry), stopped);
    runtime.spawn(
        tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let network = ExchangeNetwork::new(runtime.handle().clone(), config);
    let consumer = registry.consumer(&key());
    let producer = network.open(&address, key());
    let batch = rows();
    let encoder = Encoder::new(&batch.schema(), false).expect("an uncompressed encoder");
    let mut group = c.benchmark_group("exchange");
    group.sample_size(10);
    group.throughput(Throughput::Bytes((batch.bytes() * BATCHES) as u64));
    group.bench_function("grpc_loopback", |b| b.iter(|| transfer(&encoder, &producer, &consumer, &batch)));
    group.finish();
}
