//! Operator coordinators as the job master hosts them: their timers, snapshots and messages.
//!
//! A snapshot is taken in the same call in which the barriers are injected, and both go to a
//! TaskManager over one ordered stream; so a message sent after the snapshot cannot overtake the
//! barrier, and none has to be held back.

use std::collections::BTreeMap;

use hurtig_graph::coordinator::{CoordinatorAction, CoordinatorEvent, OperatorCoordinator};
use hurtig_proto::internal::v1::CoordinatorReceipt;
use hurtig_proto::v1;

/// What a coordinator wants that the job master has to carry out.
#[derive(Debug, PartialEq)]
pub enum HostedAction {
    /// Send to the operator in a subtask.
    Send {
        /// The operator's uid.
        operator_uid: String,
        /// Position of the operator's vertex.
        vertex: usize,
        /// The subtask.
        subtask: u32,
        /// In the connector's encoding.
        payload: Vec<u8>,
    },
    /// List splits; answered by [`HostedCoordinators::discovered`] with the same numbers.
    Discover {
        /// The operator's uid.
        operator_uid: String,
        /// Which life of the coordinator asks: a restored one does not want old answers.
        incarnation: u64,
        /// Options of the source.
        options: BTreeMap<String, String>,
    },
    /// Fail the job.
    Fail(String),
}

struct Hosted {
    operator_uid: String,
    vertex: usize,
    options: BTreeMap<String, String>,
    coordinator: Box<dyn OperatorCoordinator>,
    timers_ms: Vec<i64>,
    incarnation: u64,
}

/// All coordinators of a job.
#[derive(Default)]
pub struct HostedCoordinators {
    all: Vec<Hosted>,
}

impl std::fmt::Debug for HostedCoordinators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|hosted| &hosted.operator_uid)).finish()
    }
}

impl HostedCoordinators {
    /// Adds the coordinator of the source at the head of `vertex`.
    pub fn add(
        &mut self,
        operator_uid: String,
        vertex: usize,
        options: BTreeMap<String, String>,
        coordinator: Box<dyn OperatorCoordinator>,
    ) {
        self.all.push(Hosted { operator_uid, vertex, options, coordinator, timers_ms: Vec::new(), incarnation: 0 });
    }

    /// Starts all of them, from a checkpoint (its id and snapshots) or from the beginning. `restore`
    /// is `None` on the very first start: nothing is reset.
    ///
    /// # Errors
    /// A coordinator cannot read its snapshot.
    pub fn start(
        &mut self,
        restore: Option<(u64, &[v1::CoordinatorSnapshot])>,
        parallelism: impl Fn(usize) -> u32,
        now: i64,
    ) -> Result<Vec<HostedAction>, String> {
        let mut actions = Vec::new();
        for hosted in &mut self.all {
            if let Some((checkpoint, snapshots)) = restore {
                let own = snapshots.iter().find(|s| s.operator_uid == hosted.operator_uid);
                hosted.timers_ms.clear();
                hosted.incarnation += 1;
                let restored = hosted.coordinator.restore(own.map(|s| s.state.as_slice()));
                restored.map_err(|error| format!("source {} cannot be restored: {error}", hosted.operator_uid))?;
                // Its state is that of the checkpoint: what it gives out from now on is behind it.
                hosted.coordinator.snapshot(checkpoint);
            }
            let parallelism = parallelism(hosted.vertex);
            actions.extend(hosted.handle(CoordinatorEvent::Start { parallelism }, now));
        }
        Ok(actions)
    }

    /// A subtask runs.
    pub fn subtask_ready(&mut self, vertex: usize, subtask: u32, attempt: u32, now: i64) -> Vec<HostedAction> {
        self.of_vertex(vertex, |h| h.handle(CoordinatorEvent::SubtaskReady { subtask, attempt }, now))
    }

    /// A message of the operator in a subtask.
    pub fn message(&mut self, operator_uid: &str, subtask: u32, payload: Vec<u8>, now: i64) -> Vec<HostedAction> {
        match self.all.iter_mut().find(|hosted| hosted.operator_uid == operator_uid) {
            Some(hosted) => hosted.handle(CoordinatorEvent::Message { subtask, payload }, now),
            None => Vec::new(),
        }
    }

    /// Splits were listed.
    pub fn discovered(
        &mut self,
        operator_uid: &str,
        incarnation: u64,
        splits: Result<Vec<Vec<u8>>, String>,
        now: i64,
    ) -> Vec<HostedAction> {
        let asked = |h: &&mut Hosted| h.operator_uid == operator_uid && h.incarnation == incarnation;
        match self.all.iter_mut().find(asked) {
            Some(hosted) => hosted.handle(CoordinatorEvent::Discovered { splits }, now),
            None => Vec::new(),
        }
    }

    /// A subtask of `vertex` goes on as it runs, with what coordinators have given it after
    /// `checkpoint`, from which they were restored. False: a coordinator cannot take that up.
    pub fn adopt(&mut self, vertex: usize, subtask: u32, checkpoint: u64, receipts: &[CoordinatorReceipt]) -> bool {
        self.all.iter_mut().filter(|hosted| hosted.vertex == vertex).all(|hosted| {
            let given = receipts
                .iter()
                .filter(|r| r.operator_uid == hosted.operator_uid && r.after_checkpoint >= checkpoint)
                .map(|r| r.payload.clone());
            hosted.coordinator.adopt(subtask, &given.collect::<Vec<_>>())
        })
    }

    /// A checkpoint is complete.
    pub fn checkpoint_complete(&mut self, checkpoint: u64, now: i64) -> Vec<HostedAction> {
        let event = CoordinatorEvent::CheckpointComplete { checkpoint };
        self.all.iter_mut().flat_map(|hosted| hosted.handle(event.clone(), now)).collect()
    }

    /// A subtask restarts from `checkpoint` (0: from the beginning).
    pub fn reset_subtask(&mut self, vertex: usize, subtask: u32, checkpoint: u64, now: i64) -> Vec<HostedAction> {
        self.of_vertex(vertex, |hosted| {
            let actions = hosted.coordinator.reset_subtask(subtask, checkpoint);
            hosted.carry_out(actions, now)
        })
    }

    /// The state of all for a checkpoint whose barriers are injected next.
    pub fn snapshot(&mut self, checkpoint: u64) -> Vec<v1::CoordinatorSnapshot> {
        let snapshot = |hosted: &mut Hosted| v1::CoordinatorSnapshot {
            operator_uid: hosted.operator_uid.clone(),
            state: hosted.coordinator.snapshot(checkpoint),
        };
        self.all.iter_mut().map(snapshot).collect()
    }

    /// When a timer is due.
    pub fn deadline(&self) -> Option<i64> {
        self.all.iter().flat_map(|hosted| &hosted.timers_ms).min().copied()
    }

    /// Fires due timers.
    pub fn tick(&mut self, now: i64) -> Vec<HostedAction> {
        let mut actions = Vec::new();
        for hosted in &mut self.all {
            let due = hosted.timers_ms.iter().filter(|&&time| time <= now).count();
            hosted.timers_ms.retain(|&time| time > now);
            for _ in 0..due {
                actions.extend(hosted.handle(CoordinatorEvent::Timer, now));
            }
        }
        actions
    }

    fn of_vertex(&mut self, vertex: usize, f: impl FnMut(&mut Hosted) -> Vec<HostedAction>) -> Vec<HostedAction> {
        self.all.iter_mut().filter(|hosted| hosted.vertex == vertex).flat_map(f).collect()
    }
}

impl Hosted {
    fn handle(&mut self, event: CoordinatorEvent, now: i64) -> Vec<HostedAction> {
        let actions = self.coordinator.handle(event);
        self.carry_out(actions, now)
    }

    fn carry_out(&mut self, actions: Vec<CoordinatorAction>, now: i64) -> Vec<HostedAction> {
        let mut wanted = Vec::new();
        for action in actions {
            let operator_uid = self.operator_uid.clone();
            match action {
                CoordinatorAction::Send { subtask, payload } => {
                    wanted.push(HostedAction::Send { operator_uid, vertex: self.vertex, subtask, payload });
                }
                CoordinatorAction::Discover => wanted.push(HostedAction::Discover {
                    operator_uid,
                    incarnation: self.incarnation,
                    options: self.options.clone(),
                }),
                CoordinatorAction::SetTimer(after) => {
                    let ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX / 2);
                    self.timers_ms.push(now.saturating_add(ms.max(1)));
                }
                CoordinatorAction::Fail(message) => wanted.push(HostedAction::Fail(message)),
            }
        }
        wanted
    }
}
