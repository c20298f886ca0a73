//! Edges in one process, and channels over a loopback connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use hurtig_proto::v1::partitioner::Kind;
use internal::exchange_control::Control;
use internal::exchange_frame::Frame;
use internal::exchange_service_client::ExchangeServiceClient;
use internal::{ExchangeControl, ExchangeFrame};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};

use super::channel::{Channel, ChannelFailure, ChannelKey, Payload};
use super::codec::{Decoder, Encoder};
use super::network::{ExchangeNetwork, ExchangeServer};
use super::output::OutputSpec;
use super::{ChannelRegistry, ExchangeConfig, Outputs};
use crate::batch::{Batch, TARGET_ROWS};
use crate::clock::VirtualClock;
use crate::element::{Barrier, StreamElement};
use crate::task::testing::{channel, drain, output, read, rows, schema, shown};

fn numbers(range: std::ops::Range<i64>) -> Batch {
    rows(&range.map(|n| (n, n)).collect::<Vec<_>>())
}

fn outputs(spec: OutputSpec, clock: &Arc<VirtualClock>) -> Outputs {
    Outputs::new(vec![spec], clock.clone(), &ExchangeConfig::default(), 0).unwrap()
}

fn batches(channel: &Channel) -> Vec<Vec<(i64, i64)>> {
    drain(channel)
        .into_iter()
        .map(|e| match e {
            StreamElement::Data(batch) => read(&batch),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn by_hash() -> Kind {
    Kind::Hash(v1::Hash { columns: vec![0], ..Default::default() })
}

// ---- edges ----------------------------------------------------------------------------------------

#[test]
fn hashing_keeps_keys_together_and_their_rows_in_order() {
    let clock = VirtualClock::at(0);
    let channels: Vec<_> = (0..7).map(|c| channel("e", 0, c)).collect();
    let mut outputs = outputs(output("e", by_hash(), &channels), &clock);
    for part in 0..40 {
        let batch: Vec<_> = (0..1_000).map(|i| (i % 101, part * 1_000 + i)).collect();
        outputs.emit(rows(&batch)).unwrap();
    }
    outputs.flush().unwrap();
    let mut owner = BTreeMap::new();
    let mut last = BTreeMap::new();
    let mut total = 0;
    for (c, channel) in channels.iter().enumerate() {
        let batches = batches(channel);
        assert!(!batches.is_empty(), "target {c} gets nothing");
        for (key, n) in batches.into_iter().flatten() {
            assert_eq!(*owner.entry(key).or_insert(c), c);
            assert!(last.insert(key, n).is_none_or(|before| before < n));
            total += 1;
        }
    }
    assert_eq!((owner.len(), total), (101, 40_000));
}

#[test]
fn batches_leave_when_full_and_partial_ones_when_they_have_waited() {
    let clock = VirtualClock::at(0);
    let out = channel("e", 0, 0);
    let spec = output("e", Kind::Rebalance(v1::Rebalance {}), std::slice::from_ref(&out));
    let mut outputs = outputs(spec, &clock);
    for part in 0..10 {
        outputs.emit(numbers(part * 1_000..(part + 1) * 1_000)).unwrap();
    }
    let full = batches(&out);
    assert_eq!(full.len(), 1);
    assert!(full[0].len() >= TARGET_ROWS);
    outputs.flush_lingering().unwrap();
    assert!(out.is_empty());
    clock.advance(5);
    outputs.flush_lingering().unwrap();
    assert_eq!(full[0].len() + batches(&out)[0].len(), 10_000);
}

#[test]
fn control_elements_go_to_every_channel_behind_the_rows() {
    let clock = VirtualClock::at(0);
    let channels: Vec<_> = (0..3).map(|c| channel("e", 0, c)).collect();
    for (kind, expected) in [
        (Kind::Global(v1::Global {}), [vec!["[1, 2]", "W(5)"], vec!["W(5)"], vec!["W(5)"]]),
        (Kind::Broadcast(v1::Broadcast {}), std::array::from_fn(|_| vec!["[1, 2]", "W(5)"])),
        (Kind::Rescale(v1::Rescale {}), [vec!["[1, 2]", "W(5)"], vec!["W(5)"], vec!["W(5)"]]),
    ] {
        let mut outputs = outputs(output("e", kind, &channels), &clock);
        outputs.emit(numbers(1..2)).unwrap();
        outputs.emit(numbers(2..3)).unwrap();
        outputs.control(&StreamElement::Watermark(5)).unwrap();
        for (channel, expected) in channels.iter().zip(expected) {
            assert_eq!(shown(&drain(channel)), expected);
        }
    }
}

#[test]
fn rebalancing_takes_turns() {
    let clock = VirtualClock::at(0);
    let channels: Vec<_> = (0..3).map(|c| channel("e", 0, c)).collect();
    let mut outputs = outputs(output("e", Kind::Rebalance(v1::Rebalance {}), &channels), &clock);
    for n in 0..7 {
        outputs.emit(numbers(n..n + 1)).unwrap();
        outputs.flush().unwrap();
    }
    assert_eq!(channels.iter().map(|c| batches(c).len()).collect::<Vec<_>>(), [3, 2, 2]);
}

#[test]
fn rows_of_another_type_than_planned_are_an_internal_error() {
    let clock = VirtualClock::at(0);
    let mut spec = output("e", by_hash(), &[channel("e", 0, 0)]);
    spec.schema = Arc::new(schema().project(&[0]).unwrap());
    let error = outputs(spec, &clock).emit(numbers(0..1)).unwrap_err().to_string();
    assert!(error.starts_with("internal error: rows of edge e"), "{error}");
}

#[test]
fn a_watermark_behind_a_watermark_replaces_it() {
    let channel = channel("e", 0, 0);
    for ms in [1, 2, 3] {
        channel.put_control(StreamElement::Watermark(ms));
    }
    channel.put_control(StreamElement::Idle);
    channel.put_control(StreamElement::Watermark(4));
    assert_eq!(shown(&drain(&channel)), ["W(3)", "Idle", "W(4)"]);
}

// ---- network --------------------------------------------------------------------------------------

struct Pair {
    consumer: Arc<ChannelRegistry>,
    network: ExchangeNetwork,
    address: String,
    stop: tokio::sync::watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

fn config() -> ExchangeConfig {
    ExchangeConfig { queue_bytes: 64 << 10, credit_bytes: 128 << 10, ..ExchangeConfig::default() }
}

fn pair(config: ExchangeConfig) -> Pair {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let consumer = Arc::new(ChannelRegistry::new(config.clone()));
    let (address, stop) = serve(&runtime, &consumer);
    let network = ExchangeNetwork::new(runtime.handle().clone(), config);
    Pair { consumer, network, address: address.to_string(), stop, runtime }
}

fn serve(
    runtime: &tokio::runtime::Runtime,
    registry: &Arc<ChannelRegistry>,
) -> (SocketAddr, tokio::sync::watch::Sender<bool>) {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let service = ExchangeServer::service(Arc::clone(registry), stopped);
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    (address, stop)
}

fn key(edge: &str, producer_attempt: u32, consumer_attempt: u32) -> ChannelKey {
    ChannelKey {
        job: "j".into(),
        edge: edge.into(),
        producer_subtask: 0,
        producer_attempt,
        consumer_subtask: 0,
        consumer_attempt,
    }
}

/// Waits until `ready` gives a value; far longer than it should ever take.
fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(channel: &Channel, batch: &Batch) {
    let encoded = Encoder::new(&batch.schema(), false).unwrap().encode(batch).unwrap();
    let bytes = encoded.bytes();
    channel.put(Payload::Encoded(encoded), bytes);
}

/// Takes the next element as a task would.
fn receive(channel: &Channel) -> StreamElement {
    let item = eventually("an element", || channel.take());
    match item.payload {
        Payload::Element(element) => element,
        Payload::Encoded(encoded) => StreamElement::Data(Decoder::new(schema()).decode(&encoded).unwrap()),
    }
}

#[test]
fn elements_cross_processes_in_order() {
    let pair = pair(config());
    let consumer = pair.consumer.consumer(&key("e", 0, 0));
    let producer = pair.network.open(&pair.address, key("e", 0, 0));
    let kinds = Batch::new(numbers(1..3).records().clone(), Some(vec![1, 2].into()));
    send(&producer, &kinds);
    let stop = crate::element::StopMode::Drain;
    let barrier = Barrier {
        checkpoint: 9,
        timestamp_ms: 3,
        savepoint: Some("file:///s".into()),
        stop,
        aligned_timeout_ms: 7,
        ..Barrier::default()
    };
    for element in [
        StreamElement::Watermark(-5),
        StreamElement::Idle,
        StreamElement::Active,
        StreamElement::Barrier(barrier.clone()),
        StreamElement::CancelBarrier(8),
    ] {
        producer.put_control(element);
    }
    send(&producer, &numbers(3..4));
    producer.put_control(StreamElement::EndOfData { drain: true });
    producer.put_control(StreamElement::EndOfPartition);
    let received: Vec<_> = (0..9).map(|_| receive(&consumer)).collect();
    assert_eq!(shown(&received), ["[1, 2]", "W(-5)", "Idle", "Active", "B9", "C8", "[3]", "EOD", "EndOfPartition"]);
    let StreamElement::Data(first) = &received[0] else { panic!() };
    assert_eq!(first.kinds(), Some(&[1, 2][..]));
    assert!(matches!(&received[4], StreamElement::Barrier(b) if *b == barrier));
    assert_eq!(consumer.failure(), None);
}

#[test]
fn a_stalled_consumer_is_bounded_and_holds_up_nobody_else() {
    let pair = pair(config());
    let stalled = pair.consumer.consumer(&key("stalled", 0, 0));
    let lively = pair.consumer.consumer(&key("lively", 0, 0));
    let to_stalled = pair.network.open(&pair.address, key("stalled", 0, 0));
    let to_lively = pair.network.open(&pair.address, key("lively", 0, 0));
    let batch = numbers(0..500);
    let mut sent = 0;
    // Until both the window and the queue of the producer are used up.
    eventually("the producer of the stalled channel is stopped", || {
        while !to_stalled.is_full() {
            send(&to_stalled, &batch);
            sent += 1;
        }
        let before = stalled.queued_bytes();
        std::thread::sleep(Duration::from_millis(20));
        (to_stalled.is_full() && stalled.queued_bytes() == before && before > 64 << 10).then_some(())
    });
    assert!(stalled.queued_bytes() <= 128 << 10, "no more than was granted");
    to_stalled.put_control(StreamElement::Watermark(1));
    for n in 0..200 {
        send(&to_lively, &numbers(n * 500..(n + 1) * 500));
        let StreamElement::Data(batch) = receive(&lively) else { panic!() };
        assert_eq!(read(&batch)[0].0, n * 500);
    }
    // Everything comes once it is wanted.
    for _ in 0..sent {
        assert!(matches!(receive(&stalled), StreamElement::Data(_)));
    }
    assert_eq!(shown(&[receive(&stalled)]), ["W(1)"]);
}

#[test]
fn control_elements_pass_when_there_is_no_credit() {
    let pair = pair(ExchangeConfig { credit_bytes: 1, ..config() });
    let consumer = pair.consumer.consumer(&key("e", 0, 0));
    let producer = pair.network.open(&pair.address, key("e", 0, 0));
    // Larger than the window: passes because nothing is under way, and uses it up.
    send(&producer, &numbers(0..100));
    for checkpoint in 1..4 {
        producer.put_control(StreamElement::CancelBarrier(checkpoint));
    }
    eventually("all four are there", || (consumer.len() == 4).then_some(()));
}

#[test]
fn a_channel_opened_before_its_consumer_is_deployed_waits_for_it() {
    let pair = pair(config());
    let producer = pair.network.open(&pair.address, key("e", 0, 0));
    producer.put_control(StreamElement::Watermark(1));
    send(&producer, &numbers(0..10));
    eventually("the open arrives", || (!pair.consumer.is_empty()).then_some(()));
    let consumer = pair.consumer.consumer(&key("e", 0, 0));
    assert_eq!(shown(&[receive(&consumer)]), ["W(1)"]);
    assert!(matches!(receive(&consumer), StreamElement::Data(_)));
}

#[test]
fn a_channel_whose_consumer_never_comes_fails() {
    let pair = pair(ExchangeConfig { open_timeout_ms: 0, ..config() });
    let producer = pair.network.open(&pair.address, key("e", 0, 0));
    let failure = eventually("the open is given up", || producer.failure());
    assert!(failure.reason().contains("no consumer was deployed"), "{failure:?}");
    assert!(pair.consumer.is_empty());
}

#[test]
fn channels_of_older_attempts_are_refused() {
    let pair = pair(config());
    let consumer = pair.consumer.consumer(&key("e", 1, 2));
    for (producer_attempt, consumer_attempt) in [(0, 2), (1, 1), (0, 0)] {
        let producer = pair.network.open(&pair.address, key("e", producer_attempt, consumer_attempt));
        let failure = eventually("the open is refused", || producer.failure());
        assert!(failure.reason().contains("older attempt"), "{failure:?}");
    }
    let producer = pair.network.open(&pair.address, key("e", 1, 2));
    producer.put_control(StreamElement::Watermark(1));
    assert_eq!(shown(&[receive(&consumer)]), ["W(1)"]);
}

#[test]
fn a_gap_in_the_sequence_fails_the_channel_at_both_ends() {
    let pair = pair(config());
    let consumer = pair.consumer.consumer(&key("e", 0, 0));
    let other = pair.consumer.consumer(&key("other", 0, 0));
    pair.runtime.block_on(async {
        let (frames, outgoing) = tokio::sync::mpsc::channel(16);
        let mut controls = ExchangeServiceClient::connect(format!("http://{}", pair.address))
            .await
            .unwrap()
            .exchange(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        let frame = |channel, sequence, frame| ExchangeFrame { channel, sequence, frame: Some(frame) };
        frames.send(frame(1, 0, Frame::Open(key("e", 0, 0).to_proto()))).await.unwrap();
        frames.send(frame(2, 0, Frame::Open(key("other", 0, 0).to_proto()))).await.unwrap();
        frames.send(frame(1, 1, Frame::Watermark(1))).await.unwrap();
        frames.send(frame(1, 3, Frame::Watermark(3))).await.unwrap();
        frames.send(frame(2, 1, Frame::Watermark(7))).await.unwrap();
        loop {
            let control: ExchangeControl = controls.message().await.unwrap().unwrap();
            if let (1, Some(Control::Refused(reason))) = (control.channel, control.control) {
                assert!(reason.starts_with("frame 3 instead of 2"), "{reason}");
                break;
            }
        }
    });
    assert!(matches!(eventually("failed", || consumer.failure()), ChannelFailure::Lost(_)));
    assert_eq!(shown(&[receive(&other)]), ["W(7)"], "other channels of the stream go on");
}

#[test]
fn a_broken_connection_fails_the_channels_at_both_ends() {
    let Pair { consumer: registry, network, address, stop, runtime: _runtime } = pair(config());
    let consumer = registry.consumer(&key("e", 0, 0));
    let ended = registry.consumer(&key("ended", 0, 0));
    let producer = network.open(&address, key("e", 0, 0));
    let done = network.open(&address, key("ended", 0, 0));
    producer.put_control(StreamElement::Watermark(1));
    done.put_control(StreamElement::EndOfPartition);
    receive(&consumer);
    receive(&ended);
    stop.send_replace(true);
    assert!(matches!(eventually("the producer fails", || producer.failure()), ChannelFailure::Lost(_)));
    assert!(matches!(eventually("the consumer fails", || consumer.failure()), ChannelFailure::Lost(_)));
    assert_eq!((ended.failure(), done.failure()), (None, None), "a channel that has ended cannot fail");
}

#[test]
fn a_process_that_cannot_be_reached_fails_the_channel() {
    let pair = pair(config());
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let producer = pair.network.open(&unused, key("e", 0, 0));
    let failure = eventually("the channel fails", || producer.failure());
    assert!(failure.reason().contains(&unused), "{failure:?}");
}

#[test]
fn the_end_of_one_side_reaches_the_other() {
    let pair = pair(config());
    let consumer = pair.consumer.consumer(&key("failing", 0, 0));
    let producer = pair.network.open(&pair.address, key("failing", 0, 0));
    producer.put_control(StreamElement::Watermark(1));
    receive(&consumer);
    producer.close_producer("the producer was cancelled");
    let failure = eventually("the consumer hears of it", || consumer.failure());
    assert_eq!(failure, ChannelFailure::PeerEnded("the producer was cancelled".into()));

    let consumer = pair.consumer.consumer(&key("leaving", 0, 0));
    let producer = pair.network.open(&pair.address, key("leaving", 0, 0));
    send(&producer, &numbers(0..10));
    receive(&consumer);
    pair.consumer.release_consumer(&consumer);
    eventually("the producer hears of it", || producer.is_consumer_gone().then_some(()));
    (0..1_000).for_each(|_| send(&producer, &numbers(0..100)));
    assert!(!producer.is_full() && producer.failure().is_none(), "rows for a consumer that has ended are dropped");
}
