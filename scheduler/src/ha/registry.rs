//! The registry of jobs as its leader changes it.
//!
//! A new leader reads the registry and swaps its epoch in ([`Registry::claim`]); from then on every
//! write of an older leader fails. Changes that come while a swap is under way go together with the
//! next one. A change is done only when the registry has it, and only then may anything be told or
//! deleted because of it.

use std::collections::VecDeque;

use hurtig_proto::internal::v1::{JobRegistry, RegisteredJob};
use hurtig_proto::v1;

use super::storage::{Content, HaReply, HaRequest, Object};
use super::writer::{Outcome, Step, Writer};
use crate::storage::StorageError;

/// Version of the registry's format.
const FORMAT: u32 = 1;
/// When the store does not answer.
const RETRY_PAUSE_MS: i64 = 500;
/// Attempt numbers that one swap reserves for a job.
pub const ATTEMPT_BLOCK: u32 = 10_000;

/// A change of the registry.
#[allow(clippy::large_enum_variant, reason = "few exist at a time")]
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job is submitted.
    Add(RegisteredJob),
    /// A job has ended.
    Ended {
        /// Its id.
        job: String,
        /// Its last status.
        status: Box<v1::JobStatus>,
    },
    /// Nothing of an ended job is left but its result.
    Cleaned {
        /// Its id.
        job: String,
    },
    /// The user has cancelled a job.
    CancelRequested {
        /// Its id.
        job: String,
    },
    /// The user has changed the bounds of a job's parallelism.
    Required {
        /// Its id.
        job: String,
        /// Bounds of every vertex.
        requirements: v1::RescaleJobRequest,
    },
    /// A job needs more attempt numbers.
    Attempts {
        /// Its id.
        job: String,
    },
    /// The result of a job need not be known any more.
    Forget {
        /// Its id.
        job: String,
    },
}

/// What the registry wants done, or has done.
#[derive(Debug, PartialEq)]
pub enum RegistryOutput {
    /// Make this call and give its reply to [`Registry::on_reply`].
    Call {
        /// Names the call.
        ticket: u64,
        /// The call.
        request: HaRequest,
    },
    /// The registry is this leader's; these are its jobs.
    Claimed(Vec<RegisteredJob>),
    /// The registry has the change.
    Done(Change),
    /// The registry certainly has it not, and will not: only of [`Change::Add`].
    Failed(Change, StorageError),
    /// There is a newer leader.
    Deposed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    New,
    Loading,
    Claiming,
    Open,
    Deposed,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Registry {
    epoch: u64,
    leader_id: String,
    stage: Stage,
    writer: Writer,
    current: JobRegistry,
    /// What the swap under way makes of it.
    intended: JobRegistry,
    writing: Vec<Change>,
    queue: VecDeque<Change>,
    ticket: u64,
    retry_at: Option<i64>,
    outputs: Vec<RegistryOutput>,
}

impl Registry {
    /// For the leader `leader_id` of `epoch`.
    pub fn new(epoch: u64, leader_id: String) -> Self {
        Registry {
            epoch,
            leader_id,
            stage: Stage::New,
            writer: Writer::new(RETRY_PAUSE_MS),
            current: JobRegistry::default(),
            intended: JobRegistry::default(),
            writing: Vec::new(),
            queue: VecDeque::new(),
            ticket: 0,
            retry_at: None,
            outputs: Vec::new(),
        }
    }

    /// Begins to take the registry over.
    pub fn claim(&mut self) -> Vec<RegistryOutput> {
        self.stage = Stage::Loading;
        self.call(HaRequest::Load(Object::Registry));
        std::mem::take(&mut self.outputs)
    }

    /// Asks for a change.
    pub fn change(&mut self, change: Change) -> Vec<RegistryOutput> {
        self.queue.push_back(change);
        self.write_queue();
        std::mem::take(&mut self.outputs)
    }

    /// The job of this id, as the registry has it.
    pub fn job(&self, id: &str) -> Option<&RegisteredJob> {
        self.current.jobs.iter().find(|job| job.job_id == id)
    }

    /// All jobs, as the registry has them.
    pub fn jobs(&self) -> &[RegisteredJob] {
        &self.current.jobs
    }

    /// When [`Registry::tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        [self.retry_at, self.writer.deadline()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: i64) -> Vec<RegistryOutput> {
        if self.retry_at.is_some_and(|time| time <= now) {
            self.retry_at = None;
            match self.stage {
                Stage::Open => self.write_queue(),
                _ => self.call(HaRequest::Load(Object::Registry)),
            }
        }
        if let Some(request) = self.writer.tick(now) {
            self.call(request);
        }
        std::mem::take(&mut self.outputs)
    }

    /// The answer to a call.
    pub fn on_reply(&mut self, ticket: u64, reply: HaReply, now: i64) -> Vec<RegistryOutput> {
        if ticket == self.ticket && self.stage != Stage::Deposed {
            if self.stage == Stage::Loading {
                self.loaded(reply, now);
            } else {
                match self.writer.on_reply(reply, now) {
                    Step::Request(request) => self.call(request),
                    Step::Wait => {}
                    Step::Done(outcome) => self.written(outcome, now),
                }
            }
        }
        std::mem::take(&mut self.outputs)
    }

    fn call(&mut self, request: HaRequest) {
        self.ticket += 1;
        self.outputs.push(RegistryOutput::Call { ticket: self.ticket, request });
    }

    fn loaded(&mut self, reply: HaReply, now: i64) {
        match reply {
            HaReply::Loaded(Ok(found)) => self.swap_epoch_in(found),
            HaReply::Loaded(Err(error)) => {
                tracing::warn!(%error, "the registry of jobs cannot be read");
                self.retry_at = Some(now + RETRY_PAUSE_MS);
            }
            HaReply::Swapped(_) => {}
        }
    }

    fn swap_epoch_in(&mut self, found: Option<(Content, crate::storage::Version)>) {
        let (registry, version) = match found {
            Some((Content::Registry(registry), version)) => (registry, Some(version)),
            _ => (JobRegistry::default(), None),
        };
        if registry.epoch >= self.epoch {
            return self.deposed();
        }
        self.writer.observed(version);
        let mut intended = registry;
        intended.jobs.iter_mut().filter(|job| job.result.is_none()).for_each(raise);
        self.stage = Stage::Claiming;
        self.swap(intended);
    }

    fn swap(&mut self, mut intended: JobRegistry) {
        intended.format_version = FORMAT;
        intended.epoch = self.epoch;
        intended.leader_id.clone_from(&self.leader_id);
        intended.changes += 1;
        self.intended = intended.clone();
        let request = self.writer.start(Content::Registry(intended));
        self.call(request);
    }

    fn deposed(&mut self) {
        self.stage = Stage::Deposed;
        self.outputs.push(RegistryOutput::Deposed);
    }

    fn written(&mut self, outcome: Outcome, now: i64) {
        match outcome {
            Outcome::Written => {
                self.current = std::mem::take(&mut self.intended);
                if self.stage == Stage::Claiming {
                    self.stage = Stage::Open;
                    self.outputs.push(RegistryOutput::Claimed(self.current.jobs.clone()));
                }
                let done = std::mem::take(&mut self.writing);
                self.outputs.extend(done.into_iter().map(RegistryOutput::Done));
                self.write_queue();
            }
            Outcome::Failed(error) if self.stage == Stage::Claiming => {
                tracing::error!(%error, "the registry of jobs cannot be written");
                self.stage = Stage::Loading;
                self.retry_at = Some(now + RETRY_PAUSE_MS);
            }
            Outcome::Failed(error) => {
                tracing::error!(%error, "the registry of jobs cannot be written");
                for change in std::mem::take(&mut self.writing).into_iter().rev() {
                    match change {
                        Change::Add(_) => self.outputs.push(RegistryOutput::Failed(change, error.clone())),
                        // These must come to be, whenever the store allows it.
                        other => self.queue.push_front(other),
                    }
                }
                self.retry_at = Some(now + RETRY_PAUSE_MS);
            }
            // The old leader has written once more while its registry was being taken over.
            Outcome::Taken(found) if self.stage == Stage::Claiming => self.swap_epoch_in(found),
            Outcome::Taken(_) => self.deposed(),
        }
    }

    fn write_queue(&mut self) {
        if self.stage != Stage::Open || self.writer.busy() || self.queue.is_empty() {
            return;
        }
        self.writing = self.queue.drain(..).collect();
        let mut intended = self.current.clone();
        for change in &self.writing {
            apply(&mut intended, change);
        }
        self.swap(intended);
    }
}

fn raise(job: &mut RegisteredJob) {
    job.attempts_below = job.attempts_below.saturating_add(ATTEMPT_BLOCK);
}

fn apply(registry: &mut JobRegistry, change: &Change) {
    let mut with = |id: &str, f: &mut dyn FnMut(&mut RegisteredJob)| {
        if let Some(job) = registry.jobs.iter_mut().find(|job| job.job_id == id) {
            f(job);
        }
    };
    match change {
        Change::Add(job) => {
            if !registry.jobs.iter().any(|known| known.job_id == job.job_id) {
                registry.jobs.push(job.clone());
            }
        }
        Change::Ended { job, status } => with(job, &mut |job| {
            job.result.get_or_insert_with(|| status.as_ref().clone());
        }),
        Change::Cleaned { job } => with(job, &mut |job| job.graph_object.clear()),
        Change::CancelRequested { job } => with(job, &mut |job| job.cancel_requested = true),
        Change::Required { job, requirements } => {
            with(job, &mut |job| job.requirements = Some(requirements.clone()));
        }
        Change::Attempts { job } => with(job, &mut raise),
        Change::Forget { job } => registry.jobs.retain(|known| known.job_id != *job),
    }
}
