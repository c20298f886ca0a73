//! Tasks on one thread with a virtual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hurtig_proto::v1;
use hurtig_proto::v1::partitioner::Kind;
use parking_lot::Mutex;

use super::slot::SlotRunner;
use super::testing::*;
use super::{BlockReason, Outcome, Step, TaskMessage};
use crate::batch::Batch;
use crate::element::{Barrier, StopMode, StreamElement};
use crate::exchange::channel::{Channel, ChannelFailure, Payload};

fn barrier(checkpoint: u64) -> Barrier {
    Barrier { checkpoint, ..Barrier::default() }
}

fn stop_barrier(checkpoint: u64, stop: StopMode) -> Barrier {
    Barrier { savepoint: Some("memory://savepoints/one".into()), stop, ..barrier(checkpoint) }
}

fn put(channel: &Channel, v: &[i64]) {
    let batch = rows(&v.iter().map(|&v| (0, v)).collect::<Vec<_>>());
    channel.put(Payload::Element(StreamElement::Data(batch)), 16 * v.len());
}

/// Runs until no task can do anything.
fn run(runner: &mut SlotRunner) {
    for _ in 0..100_000 {
        if !runner.pass().progressed {
            return;
        }
    }
    panic!("the tasks never come to rest: {:?}", runner.blocked().collect::<Vec<_>>());
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

fn input_blocked() -> Step {
    Step::Blocked { reason: BlockReason::Input, until_ms: None }
}

#[test]
fn a_whole_job_runs_on_one_thread() {
    let harness = Harness::default();
    let committed = Arc::new(Mutex::new(Vec::new()));
    let mut runner = SlotRunner::new(harness.clock.clone());
    let mut recorders = Vec::new();
    let hash = |channels: &[Arc<Channel>]| {
        output("keyed", Kind::Hash(v1::Hash { columns: vec![0], ..Default::default() }), channels)
    };
    let keyed: Vec<Vec<_>> = (0..2).map(|p| (0..3).map(|c| channel("keyed", p, c)).collect()).collect();
    let last: Vec<_> = (0..3).map(|c| channel("out", c, 0)).collect();
    for p in 0..2u32 {
        let reader = Numbers::new(i64::from(p) * 50_000, 50_000, 97, 1_000);
        let members = vec![source(reader), operator(Pass::default())];
        let built = harness.task("source", p, members, &[], vec![hash(&keyed[p as usize])]);
        recorders.push(built.recorder);
        runner.add(built.task);
    }
    for c in 0..3 {
        let inputs = [(0, keyed[0][c].clone()), (0, keyed[1][c].clone())];
        let out = output("out", Kind::Global(v1::Global {}), &last[c..=c]);
        let built = harness.task("sum", c as u32, vec![operator(Sum::default())], &inputs, vec![out]);
        recorders.push(built.recorder);
        runner.add(built.task);
    }
    let inputs: Vec<_> = last.iter().map(|c| (0, c.clone())).collect();
    let sink = operator(CommitSink::new(&committed, false));
    let built = harness.task("sink", 0, vec![sink], &inputs, vec![]);
    recorders.push(built.recorder);
    runner.add(built.task);

    run(&mut runner);
    assert!(runner.is_empty());
    for recorder in recorders {
        assert_eq!(recorder.outcome(), Some(Outcome::Finished));
    }
    let mut sums = committed.lock().clone();
    sums.sort_unstable();
    let expected: Vec<(i64, i64)> = (0..97).map(|k| (k, (0..100_000i64).filter(|n| n % 97 == k).sum())).collect();
    assert_eq!(sums, expected);
}

#[test]
fn rows_behind_a_barrier_wait_for_the_other_channel() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let pass = operator(Pass { before_barrier: Some(99) });
    let mut built =
        harness.task("pass", 0, vec![pass], &inputs, vec![output("out", forward(), std::slice::from_ref(&out))]);
    put(&a, &[1]);
    a.put_control(StreamElement::Barrier(barrier(1)));
    put(&a, &[2]);
    put(&b, &[3]);
    assert_eq!(step(&mut built.task), input_blocked());
    assert_eq!(shown(&drain(&out)), ["[1, 3]"]);
    b.put_control(StreamElement::Barrier(barrier(1)));
    put(&b, &[4]);
    assert_eq!(step(&mut built.task), input_blocked());
    let rest = shown(&drain(&out));
    assert_eq!(rest[..2], ["[99]", "B1"], "what is emitted for the barrier goes before it");
    assert!(rest[2] == "[2, 4]" || rest[2] == "[4, 2]", "{rest:?}");
    assert!(built.recorder.has(&Event::Ack(1)));
}

#[test]
fn an_aborted_checkpoint_unblocks_and_is_cancelled_downstream() {
    let harness = Harness::default();
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (0, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    a.put_control(StreamElement::Barrier(barrier(1)));
    put(&a, &[1]);
    step(&mut built.task);
    assert!(drain(&out).is_empty());
    built.handle.send(TaskMessage::Aborted(1));
    step(&mut built.task);
    assert_eq!(shown(&drain(&out)), ["C1", "[1]"]);
}

#[test]
fn watermarks_combine_and_idleness_passes() {
    let harness = Harness::default();
    let (a, b, out) = (channel("in", 0, 0), channel("in", 1, 0), channel("out", 0, 0));
    let inputs = [(0, a.clone()), (1, b.clone())];
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &inputs, outputs);
    let mut send = |channel: &Channel, element| {
        channel.put_control(element);
        step(&mut built.task);
        shown(&drain(&out))
    };
    assert!(send(&a, StreamElement::Watermark(10)).is_empty());
    assert_eq!(send(&b, StreamElement::Watermark(4)), ["W(4)"]);
    assert_eq!(send(&b, StreamElement::Idle), ["W(10)"]);
    assert_eq!(send(&a, StreamElement::Idle), ["Idle"]);
    assert_eq!(send(&a, StreamElement::Active), ["Active"]);
    assert_eq!(send(&a, StreamElement::Watermark(20)), ["W(20)"]);
}

#[test]
fn the_end_without_checkpoints() {
    let harness = Harness::default();
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("sum", 0, vec![operator(Sum::default())], &[(0, a.clone())], outputs);
    a.put(Payload::Element(StreamElement::Data(rows(&[(1, 2), (2, 5), (1, 3)]))), 48);
    a.put_control(StreamElement::EndOfData { drain: true });
    a.put_control(StreamElement::EndOfPartition);
    let Step::Ended(outcome) = step(&mut built.task) else { panic!("not ended") };
    built.task.end(&outcome);
    let elements = drain(&out);
    assert_eq!(shown(&elements), ["W(max)", "[5, 5]", "EOD", "EndOfPartition"]);
    assert_eq!(*built.recorder.events.lock(), [Event::Running, Event::EndOfData, Event::Ended(Outcome::Finished)]);
}

#[test]
fn stopping_without_drain_neither_ends_time_nor_finishes() {
    let harness = Harness::default();
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("sum", 0, vec![operator(Sum::default())], &[(0, a.clone())], outputs);
    put(&a, &[1]);
    a.put_control(StreamElement::EndOfData { drain: false });
    a.put_control(StreamElement::EndOfPartition);
    assert_eq!(step(&mut built.task), Step::Ended(Outcome::Finished));
    assert_eq!(shown(&drain(&out)), ["EOD", "EndOfPartition"]);
}

/// Rows that a sink has made visible.
type Committed = Arc<Mutex<Vec<(i64, i64)>>>;

/// A sink whose job is stopped with savepoint 3: it has taken its snapshot, and a row waits behind it.
fn stopped_sink(checkpointing: bool) -> (Built, Arc<Channel>, Committed) {
    let harness = Harness { checkpointing, ..Harness::default() };
    let a = channel("in", 0, 0);
    let committed = Arc::new(Mutex::new(Vec::new()));
    let sink = operator(CommitSink::new(&committed, true));
    let mut built = harness.task("sink", 0, vec![sink], &[(0, a.clone())], vec![]);
    put(&a, &[1]);
    a.put_control(StreamElement::Barrier(stop_barrier(3, StopMode::Suspend)));
    put(&a, &[2]);
    let waits = Step::Blocked { reason: BlockReason::FinalCheckpoint, until_ms: None };
    assert_eq!(step(&mut built.task), waits);
    assert!(built.recorder.has(&Event::Ack(3)) && committed.lock().is_empty());
    assert!(!a.is_empty(), "it takes nothing more");
    (built, a, committed)
}

#[test]
fn a_task_that_is_stopped_with_a_savepoint_commits_it_and_ends() {
    for checkpointing in [true, false] {
        let (mut built, _, committed) = stopped_sink(checkpointing);
        built.handle.send(TaskMessage::Complete(3));
        assert_eq!(step(&mut built.task), Step::Ended(Outcome::Finished));
        assert_eq!(*committed.lock(), [(0, 1)]);
    }
}

#[test]
fn a_task_goes_on_when_the_savepoint_that_it_was_stopped_with_fails() {
    let (mut built, a, committed) = stopped_sink(true);
    built.handle.send(TaskMessage::Aborted(3));
    assert_eq!(step(&mut built.task), input_blocked());
    assert!(a.is_empty());
    a.put_control(StreamElement::Barrier(barrier(4)));
    assert_eq!(step(&mut built.task), input_blocked());
    built.handle.send(TaskMessage::Complete(4));
    assert_eq!(step(&mut built.task), input_blocked());
    assert_eq!(*committed.lock(), [(0, 1), (0, 2)]);
}

#[test]
fn a_source_ends_event_time_before_a_draining_savepoint_and_not_before_another() {
    for (stop, expected) in [(StopMode::Suspend, vec!["B7"]), (StopMode::Drain, vec!["W(max)", "EOD", "B7"])] {
        let harness = Harness { checkpointing: true, ..Harness::default() };
        let out = channel("out", 0, 0);
        let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
        let members = vec![source(Numbers::new(0, 1_000_000, 1, 10))];
        let mut built = harness.task("source", 0, members, &[], outputs);
        let _ = built.task.step(3);
        built.handle.send(TaskMessage::Trigger(stop_barrier(7, stop)));
        while built.task.step(1) == Step::Progress {}
        let mut shown = shown(&drain(&out));
        shown.retain(|element| !element.starts_with('['));
        assert_eq!(shown, expected, "{stop:?}");
        assert_eq!(step(&mut built.task), Step::Blocked { reason: BlockReason::FinalCheckpoint, until_ms: None });
        built.handle.send(TaskMessage::Complete(7));
        assert_eq!(step(&mut built.task), Step::Ended(Outcome::Finished));
    }
}

#[test]
fn a_task_waits_for_a_checkpoint_that_covers_its_end() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let a = channel("in", 0, 0);
    let committed = Arc::new(Mutex::new(Vec::new()));
    let sink = operator(CommitSink::new(&committed, true));
    let mut built = harness.task("sink", 0, vec![sink], &[(0, a.clone())], vec![]);
    a.put_control(StreamElement::Barrier(barrier(1)));
    put(&a, &[1]);
    a.put_control(StreamElement::EndOfData { drain: true });
    let waits = Step::Blocked { reason: BlockReason::FinalCheckpoint, until_ms: None };
    assert_eq!(step(&mut built.task), waits);
    built.handle.send(TaskMessage::Complete(1));
    assert_eq!(step(&mut built.task), waits, "checkpoint 1 does not cover the row");
    a.put_control(StreamElement::Barrier(barrier(2)));
    assert_eq!(step(&mut built.task), waits);
    assert!(built.recorder.has(&Event::Ack(2)) && committed.lock().is_empty());
    built.handle.send(TaskMessage::Complete(2));
    assert_eq!(step(&mut built.task), Step::Ended(Outcome::Finished));
    assert_eq!(*committed.lock(), [(0, 1)]);
}

#[test]
fn a_restart_from_a_snapshot_commits_each_row_once() {
    let committed = Arc::new(Mutex::new(Vec::new()));
    let build = |source_state: Option<(u64, v1::SubtaskSnapshot)>, sink_state| {
        let harness = Harness { checkpointing: true, restore: source_state, ..Harness::default() };
        let edge = channel("edge", 0, 0);
        let out = vec![output("edge", Kind::Rebalance(v1::Rebalance {}), std::slice::from_ref(&edge))];
        let source = harness.task("source", 0, vec![source(Numbers::new(0, 1_000, 1_000, 10))], &[], out);
        let harness = Harness { restore: sink_state, ..harness };
        let sink = operator(CommitSink::new(&committed, true));
        let sink = harness.task("sink", 0, vec![sink], &[(0, edge)], vec![]);
        (SlotRunner::new(harness.clock.clone()), source, sink)
    };
    let (mut runner, source, sink) = build(None, None);
    let (source_recorder, sink_recorder) = (source.recorder, sink.recorder);
    let handles = [source.handle, sink.handle];
    runner.add(source.task);
    runner.add(sink.task);
    runner.pass();
    handles[0].send(TaskMessage::Trigger(barrier(1)));
    for _ in 0..4 {
        runner.pass();
    }
    assert!(source_recorder.has(&Event::Ack(1)) && sink_recorder.has(&Event::Ack(1)));
    assert!(committed.lock().is_empty(), "nothing is committed before the checkpoint is complete");
    // The failure comes before the sink is told: the restored state lists what it has to commit.
    handles.iter().for_each(super::TaskHandle::cancel);
    run(&mut runner);
    assert!(runner.is_empty());
    assert_eq!(sink_recorder.outcome(), Some(Outcome::Canceled));

    let state = |recorder: &Recorder| Some((1, recorder.snapshots.lock()[&1].clone()));
    let (mut runner, source, sink) = build(state(&source_recorder), state(&sink_recorder));
    runner.add(source.task);
    runner.add(sink.task);
    run(&mut runner);
    assert!(!committed.lock().is_empty(), "restored committables are committed first");
    source.handle.send(TaskMessage::Trigger(barrier(2)));
    run(&mut runner);
    for handle in [&source.handle, &sink.handle] {
        handle.send(TaskMessage::Complete(2));
    }
    run(&mut runner);
    assert!(runner.is_empty());
    assert_eq!(sink.recorder.outcome(), Some(Outcome::Finished));
    let mut rows: Vec<i64> = committed.lock().iter().map(|r| r.1).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_split_given_behind_a_barrier_is_not_in_its_snapshot() {
    let harness = Harness { checkpointing: true, ..Harness::default() };
    let mut built = harness.task("source", 0, vec![source(Splits::default())], &[], vec![]);
    let give = |n: u8| TaskMessage::Coordinator { uid: "source-0".into(), payload: vec![n] };
    step(&mut built.task);
    for message in [give(1), TaskMessage::Trigger(barrier(1)), give(2), TaskMessage::Trigger(barrier(2)), give(3)] {
        built.handle.send(message);
    }
    step(&mut built.task);
    built.handle.send(TaskMessage::Trigger(barrier(3)));
    step(&mut built.task);
    let splits = |checkpoint: u64| {
        let snapshots = built.recorder.snapshots.lock();
        snapshots[&checkpoint].operators[0].lists[0].elements.concat()
    };
    // The first barrier was subsumed by the second, which is behind the second split.
    assert_eq!((splits(2), splits(3)), (vec![1, 2], vec![1, 2, 3]));
}

#[test]
fn a_subtask_restored_as_finished_runs_no_operator() {
    let snapshot = v1::SubtaskSnapshot { finished: true, ..Default::default() };
    let harness = Harness { checkpointing: true, restore: Some((3, snapshot)), ..Harness::default() };
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("dead", 0, vec![failing("must not run")], &[(0, a.clone())], outputs);
    put(&a, &[1]);
    step(&mut built.task);
    assert_eq!(shown(&drain(&out)), ["W(max)", "EOD"]);
    a.put_control(StreamElement::EndOfPartition);
    built.handle.send(TaskMessage::Trigger(barrier(4)));
    step(&mut built.task);
    assert!(built.recorder.snapshots.lock()[&4].finished);
    built.handle.send(TaskMessage::Complete(4));
    assert_eq!(step(&mut built.task), Step::Ended(Outcome::Finished));
}

#[test]
fn a_full_output_stops_the_task_until_there_is_room() {
    let harness = Harness::default();
    let out = channel("out", 0, 0);
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let count = operator(Call(move |batch: &Batch| {
        counted.fetch_add(batch.num_rows(), Ordering::Relaxed);
        Ok(())
    }));
    let members = vec![source(Numbers::new(0, 10_000_000, 10, 8_192)), count];
    let mut built = harness.task("source", 0, members, &[], vec![output("out", forward(), std::slice::from_ref(&out))]);
    let full = Step::Blocked { reason: BlockReason::Output, until_ms: None };
    assert_eq!(step(&mut built.task), full);
    let bound = out.queued_bytes();
    assert!(bound <= 2 << 20, "{bound}");
    let before = polls.load(Ordering::Relaxed);
    assert_eq!(step(&mut built.task), full);
    assert_eq!(polls.load(Ordering::Relaxed), before, "a stopped task does nothing");
    // A barrier is not held up by the operators, only by the rows before it.
    built.handle.send(TaskMessage::Trigger(barrier(1)));
    step(&mut built.task);
    assert!(built.recorder.has(&Event::Ack(1)));
    assert!(built.task.take_woken());
    drain(&out);
    assert!(built.task.take_woken(), "room in the channel wakes the task");
    assert_eq!(step(&mut built.task), full);
    assert!(polls.load(Ordering::Relaxed) > before);
}

#[test]
fn the_next_snapshot_waits_for_the_one_in_flight() {
    let executor = Arc::new(ManualExecutor::default());
    let harness = Harness { executor: executor.clone(), ..Harness::default() };
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let mut built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, a.clone())], outputs);
    for checkpoint in 1..3 {
        a.put_control(StreamElement::Barrier(barrier(checkpoint)));
        put(&a, &[checkpoint as i64]);
    }
    assert_eq!(step(&mut built.task), Step::Blocked { reason: BlockReason::WriteBack, until_ms: None });
    assert_eq!(shown(&drain(&out)), ["B1", "[1]"]);
    assert!(!built.recorder.has(&Event::Ack(1)));
    executor.run();
    assert_eq!(step(&mut built.task), input_blocked());
    assert!(built.recorder.has(&Event::Ack(1)));
    assert_eq!(shown(&drain(&out)), ["B2", "[2]"]);
}

#[test]
fn timers_fire_by_the_clock_and_work_in_flight_is_waited_for() {
    let harness = Harness::default();
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let work = Arc::default();
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let alarm = operator(Alarm::new(&[1_005, 1_020], &work));
    let built = harness.task("alarm", 0, vec![alarm], &[(0, a.clone())], outputs);
    let mut runner = SlotRunner::new(harness.clock.clone());
    runner.add(built.task);
    let rest = |runner: &mut SlotRunner| {
        run(runner);
        (runner.pass().next_ms, shown(&drain(&out)))
    };
    assert_eq!(rest(&mut runner), (Some(1_005), vec![]));
    harness.clock.advance(4);
    assert_eq!(rest(&mut runner), (Some(1_005), vec![]));
    harness.clock.advance(1);
    assert_eq!(rest(&mut runner), (Some(1_020), vec!["[1005]".to_owned()]));
    harness.clock.advance(100);
    assert_eq!(rest(&mut runner), (None, vec!["[1105]".to_owned()]));
    put(&a, &[1]);
    a.put_control(StreamElement::EndOfData { drain: true });
    a.put_control(StreamElement::EndOfPartition);
    assert_eq!(rest(&mut runner).1, ["W(max)", "EOD"], "it does not end before its work has");
    assert_eq!(runner.blocked().next().unwrap().1, Some(BlockReason::Operator));
    let job: crate::executor::Job = work.lock().take().unwrap();
    job();
    assert_eq!(rest(&mut runner).1, ["EndOfPartition"]);
    assert_eq!(built.recorder.outcome(), Some(Outcome::Finished));
}

#[test]
fn waiting_is_measured_where_the_task_waits() {
    let harness = Harness::default();
    let (a, out) = (channel("in", 0, 0), channel("out", 0, 0));
    let outputs = vec![output("out", forward(), std::slice::from_ref(&out))];
    let built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, a.clone())], outputs);
    let metrics = Arc::clone(built.task.metrics());
    let mut runner = SlotRunner::new(harness.clock.clone());
    runner.add(built.task);
    run(&mut runner);
    harness.clock.advance(30);
    // More than the output takes.
    let batch = rows(&vec![(0, 0); 100_000]);
    for _ in 0..2 {
        a.put(Payload::Element(StreamElement::Data(batch.clone())), batch.bytes());
    }
    run(&mut runner);
    harness.clock.advance(70);
    drain(&out);
    run(&mut runner);
    let times = [&metrics.idle_us, &metrics.backpressured_us].map(|t| t.load(Ordering::Relaxed));
    assert_eq!(times, [30_000, 70_000]);
    assert_eq!(metrics.records_in.load(Ordering::Relaxed), 200_000);
}

#[test]
fn a_source_task_counts_the_rows_of_its_reader_whatever_is_chained_behind_it() {
    let harness = Harness::default();
    let swallow = operator(Call(|_: &Batch| Ok(())));
    let built = harness.task("source", 0, vec![source(Numbers::new(0, 10, 1, 3)), swallow], &[], vec![]);
    let metrics = Arc::clone(built.task.metrics());
    let mut runner = SlotRunner::new(harness.clock.clone());
    runner.add(built.task);
    run(&mut runner);
    assert_eq!(built.recorder.outcome(), Some(Outcome::Finished));
    assert_eq!(metrics.to_proto().records_in, 10);
}

#[test]
fn a_panic_fails_its_task_and_no_other() {
    let harness = Harness::default();
    let panics = operator(Call(|_: &Batch| -> crate::Result<()> { panic!("boom {}", 7) }));
    let bad = harness.task("bad", 0, vec![source(Numbers::new(0, 10, 1, 1)), panics], &[], vec![]);
    let good = harness.task("good", 0, vec![source(Numbers::new(0, 10, 1, 1))], &[], vec![]);
    let mut runner = SlotRunner::new(harness.clock.clone());
    runner.add(bad.task);
    runner.add(good.task);
    run(&mut runner);
    let Some(Outcome::Failed(reason)) = bad.recorder.outcome() else { panic!("did not fail") };
    assert!(reason.contains("panic: boom 7"), "{reason}");
    assert_eq!(good.recorder.outcome(), Some(Outcome::Finished));
}

#[test]
fn an_error_of_an_operator_fails_the_task_and_its_consumers_hear_of_it() {
    let harness = Harness::default();
    let out = channel("out", 0, 0);
    let members = vec![source(Numbers::new(0, 10, 1, 1)), failing("value 7 is out of range")];
    let bad = harness.task("bad", 0, members, &[], vec![output("out", forward(), std::slice::from_ref(&out))]);
    let mut runner = SlotRunner::new(harness.clock.clone());
    runner.add(bad.task);
    run(&mut runner);
    assert_eq!(bad.recorder.outcome(), Some(Outcome::Failed("value 7 is out of range".into())));
    assert_eq!(out.failure(), Some(ChannelFailure::PeerEnded("the producer failed".into())));
}

#[test]
fn a_lost_channel_fails_the_task_only_if_nobody_cancels_it() {
    for cancel in [true, false] {
        let harness = Harness::default();
        let a = channel("in", 0, 0);
        let built = harness.task("pass", 0, vec![operator(Pass::default())], &[(0, a.clone())], vec![]);
        let mut runner = SlotRunner::new(harness.clock.clone());
        runner.add(built.task);
        run(&mut runner);
        a.fail(ChannelFailure::Lost("the connection broke".into()));
        run(&mut runner);
        assert_eq!(built.recorder.outcome(), None);
        if cancel {
            built.handle.cancel();
        } else {
            harness.clock.advance(1_000);
        }
        run(&mut runner);
        match built.recorder.outcome() {
            Some(Outcome::Canceled) => assert!(cancel),
            Some(Outcome::Failed(reason)) => assert!(!cancel && reason.contains("the connection broke"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}
