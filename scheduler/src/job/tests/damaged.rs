//! A latest checkpoint whose objects are missing or damaged.

use super::*;

impl Bench {
    fn damaged(&mut self, task: usize, checkpoint: u64) {
        self.message(task, |attempt| {
            FromTask::TaskState(internal::TaskStateChanged {
                attempt: Some(attempt),
                state: "FAILED".into(),
                error: "'s3://b/1.sst' is not what the checkpoint says".into(),
                restore: None,
                damaged_checkpoint: checkpoint,
            })
        });
    }

    /// Fails a task; gives what its region restores.
    fn fail_and_redeploy(&mut self) -> Vec<u64> {
        self.state(0, "FAILED");
        self.redeploy()
    }

    fn redeploy(&mut self) -> Vec<u64> {
        for task in self.all_tasks() {
            if self.job.executions[task].state == ExecutionState::Canceling {
                self.state(task, "CANCELED");
            }
        }
        self.at(self.now + 2_000);
        self.deployments().iter().map(|d| d.restore_checkpoint_id).collect()
    }
}

fn two_checkpoints(fall_back: &str) -> (Bench, u64, u64) {
    let pairs = [
        CHECKPOINTS,
        &[
            ("execution.checkpointing.num-retained", "2"),
            ("hurtig.recovery.fall-back-to-earlier-checkpoint", fall_back),
        ],
    ]
    .concat();
    let mut bench = Bench::new(pipelines(), &pairs, &[2, 2]);
    bench.all_run();
    let (first, second) = (bench.checkpoint(), bench.checkpoint());
    (bench, first, second)
}

#[test]
fn all_regions_go_back_to_the_checkpoint_before_it_and_head_names_it_no_more() {
    let (mut bench, first, second) = two_checkpoints("true");
    assert_eq!(bench.fail_and_redeploy(), [second, second]);
    bench.damaged(0, second);
    let named: Vec<u64> =
        bench.store.head.as_ref().unwrap().0.retained.iter().map(|entry| entry.checkpoint_id).collect();
    assert_eq!(named, [first]);
    assert_eq!(bench.redeploy(), [first; 4], "the other region has read what comes after it");
    assert!(bench.job.status().root_cause.contains("the checkpoint before it is restored"));
    bench.all_run();
    let third = bench.checkpoint();
    assert!(third > second, "its number is not given out again");
}

#[test]
fn nothing_is_deployed_before_head_is_changed() {
    let (mut bench, first, second) = two_checkpoints("true");
    bench.fail_and_redeploy();
    bench.hold_storage = true;
    bench.damaged(0, second);
    assert!(bench.redeploy().is_empty());
    bench.release_storage();
    assert_eq!(bench.redeploy(), [first; 4]);
}

#[test]
fn without_the_option_the_error_says_which_object_and_which_option() {
    let (mut bench, first, second) = two_checkpoints("false");
    bench.fail_and_redeploy();
    bench.damaged(0, second);
    let cause = bench.job.status().root_cause;
    assert!(cause.contains("'s3://b/1.sst'"), "{cause}");
    let advice = format!("hurtig.recovery.fall-back-to-earlier-checkpoint lets the job restore checkpoint {first}");
    assert!(cause.contains(&advice), "{cause}");
    assert_eq!(bench.redeploy(), [second, second]);
}
