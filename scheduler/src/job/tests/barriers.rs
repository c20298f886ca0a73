//! What tasks are told about the barriers of a checkpoint.

use super::*;

/// Unaligned, the timeout of an aligned one, at least once: of a checkpoint and of a savepoint.
fn barriers(pairs: &[(&str, &str)]) -> [(bool, u64, bool); 2] {
    let mut bench = Bench::new(exchange(), &[CHECKPOINTS, pairs].concat(), &[2]);
    bench.all_run();
    let options = |bench: &mut Bench| {
        let triggers = std::mem::take(&mut bench.sent).into_iter().filter_map(|(_, message)| match message {
            ToTask::TriggerCheckpoint(t) => Some((t.unaligned, t.aligned_timeout_ms, t.at_least_once)),
            _ => None,
        });
        let triggers: Vec<_> = triggers.collect();
        assert_eq!(triggers.len(), 2, "one a source");
        assert_eq!(triggers[0], triggers[1]);
        triggers[0]
    };
    bench.sent.clear();
    bench.at(bench.now + 20_000);
    let checkpoint = options(&mut bench);
    let id = bench.job.checkpoints.pending_id().unwrap();
    for task in bench.all_tasks() {
        bench.ack(task, id);
    }
    bench.event(savepoint(1, Some("s3://b/save"), StopMode::None));
    [checkpoint, options(&mut bench)]
}

#[test]
fn checkpoints_may_be_unaligned_and_savepoints_never_are() {
    let unaligned = ("execution.checkpointing.unaligned.enabled", "true");
    let timeout = ("execution.checkpointing.aligned-checkpoint-timeout", "3 s");
    let mode = ("execution.checkpointing.mode", "AT_LEAST_ONCE");
    let plain = (false, 0, false);
    assert_eq!(barriers(&[]), [plain, plain]);
    assert_eq!(barriers(&[timeout]), [plain, plain]);
    assert_eq!(barriers(&[unaligned]), [(true, 0, false), plain]);
    assert_eq!(barriers(&[unaligned, timeout]), [(false, 3_000, false), plain]);
    assert_eq!(barriers(&[unaligned, timeout, mode]), [(false, 0, true); 2]);
}
