//! A JobManager that leads by a lease: jobs are in the registry before their submission is answered,
//! and their results before anything of them is cleaned up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;

use super::{Action, ENDED_JOBS_KEPT, Master};
use crate::error::{Result, SchedulerError};
use crate::ha::{Change, HaReply, Registry, RegistryOutput};
use crate::job::adoption::Durable;
use crate::job::{JobAction, JobEvent, JobMaster, Submission};
use crate::slots::SessionId;

/// What a leader knows besides its jobs.
#[derive(Debug)]
pub(super) struct Leadership {
    registry: Registry,
    /// How long a recovered job waits for TaskManagers to say what runs.
    reconcile_ms: u64,
    /// Jobs of earlier leaders whose graphs are being read.
    recovering: BTreeSet<String>,
    open: bool,
    /// Jobs on their way into the registry.
    submitting: BTreeMap<JobId, Box<Waiting>>,
    /// Objects of job graphs.
    graphs: BTreeMap<JobId, String>,
    /// Of jobs of which nothing else is left.
    unneeded: BTreeMap<JobId, String>,
    /// What came of a change, to be carried out in order.
    outputs: VecDeque<RegistryOutput>,
}

struct Waiting(Submission);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.0.job).finish()
    }
}

impl Leadership {
    pub(super) fn deadline(&self) -> Option<i64> {
        self.registry.deadline()
    }
}

impl Master {
    /// This JobManager leads by the lease of its epoch and keeps jobs in a registry. To be followed by
    /// [`Master::lead`].
    #[must_use]
    pub fn with_registry(mut self, reconcile_ms: u64) -> Self {
        self.ha = Some(Leadership {
            registry: Registry::new(self.epoch, self.id.clone()),
            reconcile_ms,
            recovering: BTreeSet::new(),
            open: false,
            submitting: BTreeMap::new(),
            graphs: BTreeMap::new(),
            unneeded: BTreeMap::new(),
            outputs: VecDeque::new(),
        });
        self
    }

    /// Takes the registry over.
    pub fn lead(&mut self, now: i64) -> Vec<Action> {
        if let Some(ha) = &mut self.ha {
            let outputs = ha.registry.claim();
            ha.outputs.extend(outputs);
        }
        self.carry_out_registry(now);
        std::mem::take(&mut self.actions)
    }

    /// Takes on a job of an earlier leader.
    pub fn recover(&mut self, submission: Submission, entry: &internal::RegisteredJob, now: i64) -> Vec<Action> {
        let id = submission.job.clone();
        let (epoch, leader) = (self.epoch, self.id.clone());
        let Some(ha) = &mut self.ha else { return Vec::new() };
        ha.graphs.insert(id.clone(), entry.graph_object.clone());
        let mut job = JobMaster::new(submission, leader, now);
        job.make_durable(Durable::recovered(epoch, entry, ha.reconcile_ms));
        self.jobs.insert(id.clone(), job);
        self.job(&id, JobEvent::Start, now);
        self.recovered(&entry.job_id);
        std::mem::take(&mut self.actions)
    }

    /// The graph of a job of an earlier leader cannot be used: the job ends with this error.
    pub fn cannot_recover(&mut self, entry: &internal::RegisteredJob, error: &str, now: i64) -> Vec<Action> {
        tracing::error!(job = entry.job_id, error, "a job cannot be recovered");
        let status = v1::JobStatus {
            job_id: entry.job_id.clone(),
            state: "FAILED".to_owned(),
            start_time_ms: entry.submitted_ms,
            end_time_ms: now,
            root_cause: format!("the job could not be recovered by another JobManager: {error}"),
            ..Default::default()
        };
        if entry.result.is_none() {
            self.change(Change::Ended { job: entry.job_id.clone(), status: Box::new(status) }, now);
        }
        self.recovered(&entry.job_id);
        std::mem::take(&mut self.actions)
    }

    fn recovered(&mut self, job: &str) {
        let Some(ha) = &mut self.ha else { return };
        ha.recovering.remove(job);
        if ha.recovering.is_empty() && !ha.open {
            ha.open = true;
            self.actions.push(Action::Open);
        }
    }

    /// Takes a job on once the registry has it: answered by [`Action::Submitted`]. `graph_object` is
    /// where its graph is.
    pub fn submit_durable(&mut self, submission: Submission, graph_object: String, now: i64) -> Vec<Action> {
        let id = submission.job.clone();
        if self.knows(&id) {
            self.actions.push(Action::DeleteGraph(graph_object));
            // The answer of one that is on its way tells that it is there, too.
            if self.ha.as_ref().is_none_or(|ha| !ha.submitting.contains_key(&id)) {
                self.actions.push(Action::Submitted { job: id, result: Ok(false) });
            }
            return std::mem::take(&mut self.actions);
        }
        let entry = internal::RegisteredJob {
            job_id: id.as_str().to_owned(),
            graph_object: graph_object.clone(),
            submitted_ms: now,
            attempts_below: crate::ha::registry::ATTEMPT_BLOCK,
            collects: crate::job::topology::plan_collects(&submission.plan),
            ..Default::default()
        };
        if let Some(ha) = &mut self.ha {
            ha.graphs.insert(id.clone(), graph_object);
            ha.submitting.insert(id, Box::new(Waiting(submission)));
        }
        self.change(Change::Add(entry), now);
        std::mem::take(&mut self.actions)
    }

    /// Whether a job of this id runs, has run, or is on its way.
    pub fn knows(&self, id: &JobId) -> bool {
        self.jobs.contains_key(id)
            || self
                .ha
                .as_ref()
                .is_some_and(|ha| ha.submitting.contains_key(id) || ha.registry.job(id.as_str()).is_some())
    }

    /// This JobManager leads no more: jobs are left to the next leader, their tasks run on.
    pub fn suspend(&mut self, now: i64) -> Vec<Action> {
        let jobs: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| !job.state().is_terminal()).map(|(id, _)| id.clone()).collect();
        for id in jobs {
            self.job(&id, JobEvent::Suspend, now);
        }
        self.ha = None;
        std::mem::take(&mut self.actions)
    }

    /// A summary of each job, also of those that ended under earlier leaders.
    pub fn statuses(&self) -> Vec<v1::JobStatus> {
        let mut all: BTreeMap<String, v1::JobStatus> =
            self.results().map(|status| (status.job_id.clone(), status.clone())).collect();
        all.extend(self.jobs.values().map(|job| (job.id().as_str().to_owned(), job.status())));
        all.into_values().collect()
    }

    /// Everything about a job; of one that ended under an earlier leader only its last status.
    ///
    /// # Errors
    /// There is none, or it ended long ago.
    pub fn details(&self, id: &str) -> Result<v1::JobDetails> {
        self.find(id).map(JobMaster::details).or_else(|unknown| {
            let result = self.results().find(|status| status.job_id == id).ok_or(unknown)?;
            Ok(v1::JobDetails { status: Some(result.clone()), ..Default::default() })
        })
    }

    fn results(&self) -> impl Iterator<Item = &v1::JobStatus> {
        self.ha.iter().flat_map(|ha| ha.registry.jobs()).filter_map(|job| job.result.as_ref())
    }

    /// Where the job is kept in a registry, that the user wants it to stop is kept first.
    pub(super) fn cancel(&mut self, id: &JobId, now: i64) {
        let runs = self.jobs.get(id).is_some_and(|job| !job.state().is_terminal());
        if self.ha.is_some() && runs {
            self.change(Change::CancelRequested { job: id.as_str().to_owned() }, now);
        } else {
            self.job(id, JobEvent::Cancel, now);
        }
    }

    pub(super) fn change(&mut self, change: Change, now: i64) {
        if let Some(ha) = &mut self.ha {
            let outputs = ha.registry.change(change);
            ha.outputs.extend(outputs);
        }
        self.carry_out_registry(now);
    }

    pub(super) fn on_ha_reply(&mut self, ticket: u64, reply: HaReply, now: i64) {
        if let Some(ha) = &mut self.ha {
            let outputs = ha.registry.on_reply(ticket, reply, now);
            ha.outputs.extend(outputs);
        }
        self.carry_out_registry(now);
    }

    pub(super) fn tick_ha(&mut self, now: i64) {
        if let Some(ha) = &mut self.ha {
            let outputs = ha.registry.tick(now);
            ha.outputs.extend(outputs);
        }
        self.carry_out_registry(now);
    }

    pub(super) fn carry_out_durable(&mut self, job: &JobId, action: JobAction) {
        let id = job.as_str().to_owned();
        let change = match action {
            JobAction::Ended(status) => Change::Ended { job: id, status },
            JobAction::ReserveAttempts => Change::Attempts { job: id },
            _ => {
                let reason = format!("another JobManager has written HEAD of job {job}");
                return self.actions.push(Action::StepDown(reason));
            }
        };
        // What comes of it is carried out by the caller's loop or by the reply.
        if let Some(ha) = &mut self.ha {
            let outputs = ha.registry.change(change);
            ha.outputs.extend(outputs);
        }
        self.push_registry_calls();
    }

    /// Calls go out at once; what has become of changes waits for its turn.
    fn push_registry_calls(&mut self) {
        let Some(ha) = &mut self.ha else { return };
        for output in std::mem::take(&mut ha.outputs) {
            match output {
                RegistryOutput::Call { ticket, request } => self.actions.push(Action::Ha { ticket, request }),
                other => ha.outputs.push_back(other),
            }
        }
    }

    fn carry_out_registry(&mut self, now: i64) {
        while let Some(output) = self.ha.as_mut().and_then(|ha| ha.outputs.pop_front()) {
            match output {
                RegistryOutput::Call { ticket, request } => self.actions.push(Action::Ha { ticket, request }),
                RegistryOutput::Claimed(jobs) => self.claimed(jobs),
                RegistryOutput::Done(change) => self.changed(change, now),
                RegistryOutput::Failed(change, error) => self.not_changed(change, error),
                RegistryOutput::Deposed => {
                    let reason = "another JobManager has taken the registry of jobs".to_owned();
                    self.actions.push(Action::StepDown(reason));
                }
            }
        }
    }

    fn claimed(&mut self, jobs: Vec<internal::RegisteredJob>) {
        let Some(ha) = &mut self.ha else { return };
        let unclean: Vec<_> = jobs.into_iter().filter(|job| !job.graph_object.is_empty()).collect();
        ha.recovering = unclean.iter().map(|job| job.job_id.clone()).collect();
        let nothing = unclean.is_empty();
        self.actions.extend(unclean.into_iter().map(|job| Action::Recover(Box::new(job))));
        if nothing {
            self.recovered("");
        }
    }

    fn changed(&mut self, change: Change, now: i64) {
        match change {
            Change::Add(entry) => self.start_submitted(&entry.job_id, now),
            Change::Ended { job, .. } => self.job_event(&job, JobEvent::ResultStored, now),
            Change::CancelRequested { job } => self.job_event(&job, JobEvent::Cancel, now),
            Change::Attempts { job } => {
                let below = self.ha.as_ref().and_then(|ha| ha.registry.job(&job)).map_or(0, |job| job.attempts_below);
                self.job_event(&job, JobEvent::AttemptsReserved { below }, now);
            }
            Change::Cleaned { job } => {
                let graph = JobId::parse(&job).ok().and_then(|id| self.ha.as_mut()?.unneeded.remove(&id));
                self.actions.extend(graph.map(Action::DeleteGraph));
                self.forget_old_results(now);
            }
            Change::Required { .. } | Change::Forget { .. } => {}
        }
    }

    fn not_changed(&mut self, change: Change, error: crate::storage::StorageError) {
        let Change::Add(entry) = change else { return };
        let Ok(id) = JobId::parse(&entry.job_id) else { return };
        if let Some(ha) = &mut self.ha {
            ha.submitting.remove(&id);
            ha.graphs.remove(&id);
        }
        self.actions.push(Action::DeleteGraph(entry.graph_object));
        self.actions.push(Action::Submitted { job: id, result: Err(SchedulerError::Storage(error)) });
    }

    fn start_submitted(&mut self, id: &str, now: i64) {
        let epoch = self.epoch;
        let Ok(id) = JobId::parse(id) else { return };
        let Some(waiting) = self.ha.as_mut().and_then(|ha| ha.submitting.remove(&id)) else { return };
        let mut job = JobMaster::new(waiting.0, self.id.clone(), now);
        job.make_durable(Durable::submitted(epoch));
        self.jobs.insert(id.clone(), job);
        self.actions.push(Action::Submitted { job: id.clone(), result: Ok(true) });
        self.job(&id, JobEvent::Start, now);
    }

    fn job_event(&mut self, id: &str, event: JobEvent, now: i64) {
        if let Ok(id) = JobId::parse(id) {
            self.job(&id, event, now);
        }
    }

    /// Nothing of an ended job is left but its result: its graph may go.
    pub(super) fn clean_if_closed(&mut self, id: &JobId, now: i64) {
        let closed = self.jobs.get(id).is_some_and(|job| job.closed() && job.state().is_globally_terminal());
        let Some(ha) = self.ha.as_mut().filter(|_| closed) else { return };
        let kept = ha.registry.job(id.as_str()).is_some_and(|job| job.result.is_some());
        if kept && let Some(graph) = ha.graphs.remove(id) {
            ha.unneeded.insert(id.clone(), graph);
            self.change(Change::Cleaned { job: id.as_str().to_owned() }, now);
        }
    }

    fn forget_old_results(&mut self, now: i64) {
        let Some(ha) = &self.ha else { return };
        let mut cleaned: Vec<(i64, &str)> = ha
            .registry
            .jobs()
            .iter()
            .filter(|job| job.graph_object.is_empty())
            .filter_map(|job| Some((job.result.as_ref()?.end_time_ms, job.job_id.as_str())))
            .collect();
        cleaned.sort_unstable();
        let surplus = cleaned.len().saturating_sub(ENDED_JOBS_KEPT);
        let old: Vec<String> = cleaned[..surplus].iter().map(|(_, id)| (*id).to_owned()).collect();
        for job in old {
            self.change(Change::Forget { job }, now);
        }
    }

    /// Tells each job which of its tasks a TaskManager has kept running; tasks of jobs that are no
    /// more are to end.
    pub(super) fn distribute_attempts(&mut self, session: SessionId, register: &internal::Register, now: i64) {
        let mut by_job: BTreeMap<String, Vec<internal::RunningAttempt>> = BTreeMap::new();
        for report in &register.attempts {
            let job = report.attempt.as_ref().map_or(String::new(), |attempt| attempt.job_id.clone());
            by_job.entry(job).or_default().push(report.clone());
        }
        for (job_id, attempts) in by_job {
            let known =
                JobId::parse(&job_id).ok().filter(|id| self.jobs.get(id).is_some_and(|j| !j.state().is_terminal()));
            match known {
                Some(id) => self.job(&id, JobEvent::Attempts { session, attempts }, now),
                None => self.send(session, ToTask::JobEnded(internal::JobEnded { job_id, drop_local_state: true })),
            }
        }
    }
}
