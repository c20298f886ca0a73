//! Unaligned checkpoints of tasks on one thread.

use std::collections::BTreeMap;

use hurtig_proto::v1::partitioner::Kind;
use hurtig_proto::v1::{self};
use hurtig_state::storage::ObjectStores;

use super::machine::RecoveredInput;
use super::snapshot::SnapshotStore;
use super::testing::*;
use super::{Step, TaskMessage};
use crate::element::{Barrier, StreamElement};
use crate::exchange::captured::decode;
use crate::exchange::channel::{Channel, Payload};
use crate::exchange::codec::Decoder;
use crate::exchange::output::OutputTarget;

fn overtaking(checkpoint: u64) -> Barrier {
    Barrier { checkpoint, unaligned: true, ..Barrier::default() }
}

fn put(channel: &Channel, v: &[i64]) {
    let batch = rows(&v.iter().map(|&v| (0, v)).collect::<Vec<_>>());
    channel.put(Payload::Element(StreamElement::Data(batch)), 16 * v.len());
}

fn step(task: &mut super::Task) -> Step {
    for _ in 0..1_000 {
        match task.step(16) {
            Step::Progress => {}
            other => return other,
        }
    }
    panic!("the task never comes to rest");
}

/// What a snapshot has in flight, by producer of inputs and consumer of outputs.
fn in_flight(states: &[v1::ChannelState], key: fn(&v1::ChannelState) -> u32) -> BTreeMap<u32, Vec<String>> {
    let read = |state: &v1::ChannelState| {
        let stored = SnapshotStore::read_channel(&ObjectStores::default(), state).unwrap();
        shown(&decode(stored, &Decoder::new(schema())).unwrap())
    };
    states.iter().map(|state| (key(state), read(state))).collect()
}

fn inputs_of(recorder: &Recorder, checkpoint: u64) -> BTreeMap<u32, Vec<String>> {
    in_flight(&recorder.snapshots.lock()[&checkpoint].inputs, |state| state.producer_subtask)
}

fn strings(elements: &[&str]) -> Vec<String> {
    elements.iter().map(ToString::to_string).collect()
}

#[test]
fn a_barrier_overtakes_what_is_queued_and_that_becomes_state() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    step(&mut built.task);

    // Nothing of this is taken before the barrier is.
    put(&a, &[1]);
    a.put_control(StreamElement::Watermark(5));
    put(&a, &[2]);
    a.put_urgent(overtaking(1), false);
    put(&a, &[3]);
    put(&b, &[4]);
    step(&mut built.task);
    let (barrier, overtaken) = out.take_urgent().expect("the barrier has gone on");
    assert_eq!((barrier, overtaken.len()), (overtaking(1), 0), "it left before any of the rows");
    assert!(!built.recorder.has(&Event::Ack(1)), "what comes through the other channel still belongs to it");

    put(&b, &[5]);
    b.put_urgent(overtaking(1), false);
    put(&b, &[6]);
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    let expected = BTreeMap::from([(0, strings(&["[1]", "W(5)", "[2]"])), (1, strings(&["[4]", "[5]"]))]);
    assert_eq!(inputs_of(&built.recorder, 1), expected);
    let sent: Vec<i64> = drain(&out)
        .iter()
        .filter_map(|e| if let StreamElement::Data(b) = e { Some(read(b)) } else { None })
        .flatten()
        .map(|r| r.1)
        .collect();
    assert_eq!(sent.len(), 6, "and all of it is processed: {sent:?}");
}

#[test]
fn a_full_output_does_not_hold_the_barrier() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = format!("file://{}", folder.path().display());
    let harness = Harness { checkpointing: true, checkpoints, ..Harness::default() };
    let (input, out) = (channel("in", 0, 0), channel("out", 0, 3));
    let hash = Kind::Hash(v1::Hash { columns: vec![0], ..Default::default() });
    let mut spec = output("out", hash, std::slice::from_ref(&out));
    // As of a consumer in another process.
    spec.targets = vec![OutputTarget { channel: out.clone(), remote: true }];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, input.clone())], vec![spec]);
    let row: Vec<i64> = (0..8_192).collect();
    while !out.is_full() {
        put(&input, &row);
        step(&mut built.task);
    }
    put(&input, &[7]);
    step(&mut built.task);
    assert_eq!(input.len(), 1, "the task is stopped by its consumer");
    input.put_urgent(overtaking(1), false);
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    let snapshot = built.recorder.snapshots.lock()[&1].clone();
    assert_eq!(in_flight(&snapshot.inputs, |s| s.producer_subtask), BTreeMap::from([(0, strings(&["[7]"]))]));
    let sent = &in_flight(&snapshot.outputs, |s| s.consumer_subtask)[&3];
    assert_eq!(sent.len(), out.len() - 1, "all that waits for the consumer, which will not copy it");
    assert!(out.has_urgent());
}

#[test]
fn what_was_in_flight_comes_before_anything_new_and_is_in_flight_again() {
    let state = |producer_subtask, elements: Vec<StreamElement>| RecoveredInput {
        edge: "in".into(),
        producer_subtask,
        port: 0,
        same_producer: true,
        elements: elements.into(),
    };
    let recovered = vec![
        state(0, vec![StreamElement::Data(rows(&[(0, 1)])), StreamElement::Watermark(9)]),
        state(1, vec![StreamElement::Watermark(4), StreamElement::Data(rows(&[(0, 2)]))]),
    ];
    let harness = Harness { checkpointing: true, recovered, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = || vec![output("out", forward(), std::slice::from_ref(&out))];
    put(&a, &[3]);
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs());
    step(&mut built.task);
    assert_eq!(shown(&drain(&out)), ["[1]", "W(4)", "[2, 3]"]);

    // A checkpoint before they are processed has them in flight again.
    put(&a, &[3]);
    a.put_urgent(overtaking(1), false);
    b.put_urgent(overtaking(1), false);
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs());
    step(&mut built.task);
    assert_eq!(out.take_urgent().map(|(b, _)| b.checkpoint), Some(1));
    let snapshot = built.recorder.snapshots.lock()[&1].clone();
    let all: Vec<_> = snapshot.inputs.iter().map(|s| (s.producer_subtask, s.channels)).collect();
    assert_eq!(all, [(0, 2), (1, 2), (0, 2)], "first what was recovered, then what is queued");
    assert_eq!(shown(&drain(&out)), ["[1]", "W(4)", "[2, 3]"]);
}

#[test]
fn a_checkpoint_given_up_while_barriers_are_missing_lets_the_next_one_begin() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    a.put_urgent(overtaking(1), false);
    step(&mut built.task);
    built.handle.send(TaskMessage::Aborted(1));
    put(&b, &[1]);
    step(&mut built.task);
    b.put_urgent(overtaking(1), false);
    a.put_urgent(overtaking(2), false);
    step(&mut built.task);
    put(&b, &[2]);
    step(&mut built.task);
    b.put_urgent(overtaking(2), false);
    step(&mut built.task);
    let events = built.recorder.events.lock().clone();
    assert!(!events.contains(&Event::Ack(1)) && events.contains(&Event::Ack(2)), "{events:?}");
    assert_eq!(inputs_of(&built.recorder, 2), BTreeMap::from([(1, strings(&["[2]"]))]));
}

#[test]
fn a_source_sends_its_barrier_ahead_of_its_rows() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let out = channel("out", 0, 0);
    let members = vec![source(Numbers::new(0, 1_000_000, 7, 8_192))];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("source", 0, members, &[], outputs);
    assert!(matches!(step(&mut built.task), Step::Blocked { .. }), "the channel is full");
    built.handle.send(TaskMessage::Trigger(overtaking(1)));
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    let queued = out.len() - 1;
    let (barrier, overtaken) = out.take_urgent().unwrap();
    assert_eq!((barrier.checkpoint, overtaken.len()), (1, queued));
}

/// Steps one turn at a time until `done`.
fn turn_until(task: &mut super::Task, done: impl Fn() -> bool) {
    for _ in 0..100 {
        if done() {
            return;
        }
        task.step(1);
    }
    panic!("it never comes to that");
}

#[test]
fn rows_of_a_checkpoint_given_up_before_its_snapshot_are_not_in_the_next() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, a.clone())], outputs);
    step(&mut built.task);
    put(&a, &[1]);
    a.put_urgent(overtaking(1), false);
    // The barrier is taken, the snapshot is not.
    turn_until(&mut built.task, || !a.has_urgent());
    built.handle.send(TaskMessage::Aborted(1));
    a.put_control(StreamElement::EndOfData { drain: true });
    a.put_control(StreamElement::EndOfPartition);
    step(&mut built.task);
    assert!(!built.recorder.has(&Event::Ack(1)));
    built.handle.send(TaskMessage::Trigger(overtaking(2)));
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(2)));
    assert_eq!(inputs_of(&built.recorder, 2), BTreeMap::new(), "the row was processed before");
}

#[test]
fn a_newer_barrier_waits_for_the_snapshot_under_way() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let members = (0..4).map(|_| operator(Pass::default())).collect();
    let mut built = harness.task("pass", 0, members, &[(0, a.clone())], outputs);
    step(&mut built.task);
    put(&a, &[1]);
    a.put_urgent(overtaking(1), false);
    turn_until(&mut built.task, || !a.has_urgent());
    // Two of the four operators are prepared.
    (0..3).for_each(|_| drop(built.task.step(1)));
    a.put_urgent(overtaking(2), false);
    step(&mut built.task);
    for checkpoint in [1, 2] {
        assert!(built.recorder.has(&Event::Ack(checkpoint)), "{:?}", built.recorder.events.lock());
        assert_eq!(inputs_of(&built.recorder, checkpoint), BTreeMap::from([(0, strings(&["[1]"]))]));
    }
}

/// Triggered at 1 000 ms, when the clock of a [`Harness`] begins.
fn timed(checkpoint: u64) -> Barrier {
    Barrier { checkpoint, timestamp_ms: 1_000, aligned_timeout_ms: 100, ..Barrier::default() }
}

#[test]
fn a_barrier_in_time_stays_aligned() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    a.put_control(StreamElement::Barrier(timed(1)));
    put(&a, &[1]);
    put(&b, &[2]);
    let Step::Blocked { until_ms, .. } = step(&mut built.task) else { panic!("it is blocked") };
    assert_eq!(until_ms, Some(1_100), "it looks after the barrier in time");
    assert_eq!((a.len(), b.len()), (1, 0), "the first waits");
    harness.clock.advance(99);
    b.put_control(StreamElement::Barrier(timed(1)));
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    assert_eq!(inputs_of(&built.recorder, 1), BTreeMap::new());
    assert!(!out.has_urgent());
    assert_eq!(shown(&drain(&out)), ["[2]", "B1", "[1]"]);
}

#[test]
fn when_the_timeout_has_passed_the_barrier_overtakes_wherever_it_is() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    step(&mut built.task);
    let row: Vec<i64> = (0..8_192).collect();
    while !out.is_full() {
        put(&a, &row);
        step(&mut built.task);
    }
    let full = out.len();
    // Neither of these barriers is reached: the consumer takes nothing.
    put(&a, &[1]);
    a.put_control(StreamElement::Barrier(timed(1)));
    put(&a, &[2]);
    put(&b, &[3]);
    let Step::Blocked { until_ms, .. } = step(&mut built.task) else { panic!("it is blocked") };
    assert_eq!((until_ms, out.len()), (Some(1_100), full));
    harness.clock.advance(100);
    step(&mut built.task);
    assert!(out.has_urgent() && !built.recorder.has(&Event::Ack(1)));
    // It comes too late, so it overtakes at once.
    put(&b, &[4]);
    b.put_control(StreamElement::Barrier(timed(1)));
    put(&b, &[5]);
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    let expected = BTreeMap::from([(0, strings(&["[1]"])), (1, strings(&["[3]", "[4]"]))]);
    assert_eq!(inputs_of(&built.recorder, 1), expected);
    let (barrier, overtaken) = out.take_urgent().unwrap();
    assert_eq!((barrier, overtaken.len()), (timed(1).overtaking(), full));
}

#[test]
fn an_input_that_waits_for_the_others_is_read_on_after_the_timeout() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    a.put_control(StreamElement::Barrier(timed(1)));
    put(&a, &[1]);
    step(&mut built.task);
    assert_eq!(a.len(), 1);
    harness.clock.advance(100);
    step(&mut built.task);
    assert!(a.is_empty() && out.has_urgent());
    put(&b, &[2]);
    step(&mut built.task);
    b.put_control(StreamElement::Barrier(timed(1)));
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    assert_eq!(inputs_of(&built.recorder, 1), BTreeMap::from([(1, strings(&["[2]"]))]));
}

#[test]
fn a_sent_barrier_overtakes_in_the_queue_to_another_process() {
    for overtakes in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = format!("file://{}", folder.path().display());
        let harness = Harness { checkpointing: true, checkpoints, ..Harness::default() };
        let (input, out) = (channel("in", 0, 0), channel("out", 0, 3));
        let mut spec = output("out", forward(), std::slice::from_ref(&out));
        spec.targets = vec![OutputTarget { channel: out.clone(), remote: true }];
        let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, input.clone())], vec![spec]);
        put(&input, &[1]);
        input.put_control(StreamElement::Barrier(timed(1)));
        step(&mut built.task);
        put(&input, &[2]);
        let Step::Blocked { until_ms, .. } = step(&mut built.task) else { panic!("it is blocked") };
        assert_eq!((until_ms, out.len()), (Some(1_100), 3));
        assert!(!built.recorder.has(&Event::Ack(1)), "what is ahead of the barrier may become part of it");
        if !overtakes {
            out.take_if(|_, _| true).unwrap();
            out.take_if(|_, _| true).unwrap();
        }
        harness.clock.advance(100);
        step(&mut built.task);
        assert!(built.recorder.has(&Event::Ack(1)));
        assert_eq!(out.has_urgent(), overtakes);
        let snapshot = built.recorder.snapshots.lock()[&1].clone();
        let sent = in_flight(&snapshot.outputs, |s| s.consumer_subtask);
        let expected = if overtakes { BTreeMap::from([(3, strings(&["[1]"]))]) } else { BTreeMap::new() };
        assert_eq!(sent, expected);
    }
}

#[test]
fn a_barrier_that_left_in_time_completes_without_its_timeout() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (input, out) = (channel("in", 0, 0), channel("out", 0, 3));
    let mut spec = output("out", forward(), std::slice::from_ref(&out));
    spec.targets = vec![OutputTarget { channel: out.clone(), remote: true }];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, input.clone())], vec![spec]);
    input.put_control(StreamElement::Barrier(timed(1)));
    step(&mut built.task);
    assert!(!built.recorder.has(&Event::Ack(1)));
    built.task.take_woken();
    assert!(out.take_if(|_, _| true).is_some());
    assert!(built.task.take_woken(), "the sender says that the barrier has left");
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
}

#[test]
fn at_least_once_no_input_waits_for_another() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    let barrier = || StreamElement::Barrier(Barrier { checkpoint: 1, at_least_once: true, ..Barrier::default() });
    a.put_control(barrier());
    put(&a, &[1]);
    step(&mut built.task);
    assert_eq!(shown(&drain(&out)), ["[1]"], "rows behind the first barrier go on");
    b.put_control(barrier());
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    assert_eq!(shown(&drain(&out)), ["B1"]);
}
