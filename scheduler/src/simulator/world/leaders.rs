//! JobManager processes: their lease, and while they lead, their master.

use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_proto::internal::v1::RegisteredJob;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use rand::Rng;

use super::{Happening, Outcome, World};
use crate::ha::registry::ATTEMPT_BLOCK;
use crate::ha::{HaReply, HaRequest, Lease, LeaseAction, LeaseEvent, LeaseSettings};
use crate::job::{JobEvent, Submission};
use crate::master::{Action, Event, Master};
use crate::settings::{JobSettings, MasterSettings};
use crate::simulator::Bug;
use crate::simulator::enumerator::Enumerator;
use crate::simulator::invariants;
use crate::simulator::scenario::{Blow, When};
use crate::simulator::store::Fate;
use crate::storage::StorageError;
use crate::storage::memory::MEMORY_DIRECTORY;

pub(super) const LEASE: LeaseSettings = LeaseSettings { lease_ms: 3_000, retry_ms: 400 };
const RECONCILE_MS: u64 = 5_000;

/// Names one master of one JobManager, over all.
pub(super) type Term = u64;

/// Who has called the store of high availability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Caller {
    /// The lease of a JobManager in one of its lives.
    Lease(usize, u64),
    Master(Term),
}

/// A JobManager process.
pub(super) struct Manager {
    pub alive: bool,
    pub life: u64,
    pub lease: Lease,
    pub leading: Option<Leading>,
    /// It does nothing until then.
    pub paused_until: i64,
    /// Its calls of any store are lost until then.
    pub cut_until: i64,
    next_tick: Option<i64>,
}

/// A JobManager that leads, or believes so.
pub(super) struct Leading {
    pub term: Term,
    pub epoch: u64,
    pub master: Master,
    /// TaskManagers and clients may come.
    pub open: bool,
    next_tick: Option<i64>,
}

impl Manager {
    pub(super) fn new() -> Manager {
        Manager {
            alive: false,
            life: 0,
            lease: Lease::new(String::new(), String::new(), LEASE),
            leading: None,
            paused_until: 0,
            cut_until: 0,
            next_tick: None,
        }
    }
}

impl World {
    pub(super) fn start_manager(&mut self, m: usize) -> Outcome {
        let manager = &mut self.managers[m];
        if manager.alive {
            return Ok(());
        }
        manager.alive = true;
        manager.life += 1;
        manager.next_tick = None;
        manager.lease = Lease::new(format!("jm{m}-{}", manager.life), m.to_string(), LEASE);
        self.tell_lease(m, LeaseEvent::Tick)
    }

    /// The JobManager of the highest epoch that leads, and its master.
    pub(super) fn leader(&self) -> Option<(usize, &Leading)> {
        let leading = self.managers.iter().enumerate().filter_map(|(m, manager)| Some((m, manager.leading.as_ref()?)));
        leading.max_by_key(|(_, leading)| leading.epoch)
    }

    pub(super) fn leading(&mut self, term: Term) -> Option<(usize, &mut Leading)> {
        let all = self.managers.iter_mut().enumerate();
        all.filter_map(|(m, manager)| Some((m, manager.leading.as_mut()?))).find(|(_, l)| l.term == term)
    }

    pub(super) fn tell_lease(&mut self, m: usize, event: LeaseEvent) -> Outcome {
        let actions = self.managers[m].lease.handle(event, self.now);
        for action in actions {
            match action {
                LeaseAction::Store { ticket, request } => {
                    let life = self.managers[m].life;
                    self.call_ha(Caller::Lease(m, life), ticket, request);
                }
                LeaseAction::Lead { epoch, leader_id } => self.begin_term(m, epoch, leader_id)?,
                LeaseAction::StepDown { .. } => self.end_term(m)?,
                LeaseAction::LeaderIs(_) => {}
            }
        }
        let manager = &mut self.managers[m];
        if let Some(deadline) = manager.lease.deadline()
            && manager.next_tick.is_none_or(|tick| deadline < tick)
        {
            let deadline = deadline.max(self.now);
            manager.next_tick = Some(deadline);
            let life = manager.life;
            self.later(deadline - self.now, Happening::LeaseTick(m, life));
        }
        Ok(())
    }

    pub(super) fn lease_tick(&mut self, m: usize, life: u64) -> Outcome {
        let manager = &mut self.managers[m];
        if !manager.alive || manager.life != life {
            return Ok(());
        }
        manager.next_tick = None;
        self.tell_lease(m, LeaseEvent::Tick)
    }

    fn begin_term(&mut self, m: usize, epoch: u64, leader_id: String) -> Outcome {
        if self.managers.iter().any(|manager| manager.leading.is_some()) {
            self.totals.two_leaders = true;
        }
        self.terms += 1;
        let term = self.terms;
        self.trace(&[8, m as u64, epoch]);
        let settings = MasterSettings {
            heartbeat_interval_ms: super::HEARTBEAT_MS,
            heartbeat_timeout_ms: super::HEARTBEAT_TIMEOUT_MS,
            graceful_decommission: true,
        };
        let mut master = Master::new(leader_id, epoch, settings).with_registry(RECONCILE_MS);
        let actions = master.lead(self.now);
        self.managers[m].leading = Some(Leading { term, epoch, master, open: false, next_tick: None });
        self.carry_out(term, actions)
    }

    /// It leads no more and says so to itself only.
    fn end_term(&mut self, m: usize) -> Outcome {
        let Some(mut leading) = self.managers[m].leading.take() else { return Ok(()) };
        self.trace(&[9, m as u64]);
        leading.master.suspend(self.now);
        self.over(&leading, 300);
        Ok(())
    }

    /// The process dies.
    pub(super) fn crash(&mut self, m: usize, back_ms: i64) -> Outcome {
        let manager = &mut self.managers[m];
        if !manager.alive {
            return Ok(());
        }
        manager.alive = false;
        manager.paused_until = 0;
        self.later(back_ms, Happening::StartManager(m));
        if let Some(leading) = self.managers[m].leading.take() {
            self.totals.leader_crashes += 1;
            let job = leading.master.find(self.job.as_str()).ok();
            if job.is_some_and(|job| job.checkpoints().pending_id().is_some()) {
                self.totals.crashed_in_checkpoint = true;
            }
            self.over(&leading, 300);
        }
        Ok(())
    }

    /// The connections of a term end; its figures are kept.
    fn over(&mut self, leading: &Leading, within_ms: i64) {
        if let Ok(job) = leading.master.find(self.job.as_str()) {
            self.totals.absorb(job);
        }
        let sessions: Vec<_> =
            self.links.iter().filter(|(_, link)| link.term == leading.term).map(|(session, _)| *session).collect();
        for session in sessions {
            if let Some(link) = self.links.get_mut(&session) {
                link.broken = true;
            }
            let after = self.rng.random_range(1..within_ms);
            self.later(after, Happening::BrokenAtProcess(session));
        }
    }

    /// The client submits the job, again and again until it is told that the job is there.
    pub(super) fn submit(&mut self) -> Outcome {
        let known = self.ha.registry().is_some_and(|r| r.jobs.iter().any(|job| job.job_id == self.job.as_str()));
        if self.submitted {
            return if known {
                Ok(())
            } else {
                Err("a job whose submission was answered is not in the registry".into())
            };
        }
        self.later(1_500, Happening::Submit);
        let submission = self.submission()?;
        let now = self.now;
        let Some((m, _)) = self.leader() else { return Ok(()) };
        if self.managers[m].paused_until > now {
            return Ok(());
        }
        let Some(leading) = self.managers[m].leading.as_mut().filter(|leading| leading.open) else { return Ok(()) };
        let (term, actions) = (leading.term, leading.master.submit_durable(submission, "graph".into(), now));
        self.carry_out(term, actions)
    }

    pub(super) fn submission(&self) -> Result<Submission, String> {
        let plan = self.scenario.plan.clone();
        let settings = JobSettings::read(&plan.configuration).map_err(|error| error.to_string())?;
        let coordinator = || Box::new(Enumerator::new(self.bug)) as Box<dyn OperatorCoordinator>;
        let sources = plan.vertices.iter().filter(|v| v.is_source);
        Ok(Submission {
            job: self.job.clone(),
            settings,
            coordinators: sources.map(|v| (v.operators[0].uid.clone(), coordinator())).collect(),
            checkpoint_directory: MEMORY_DIRECTORY.into(),
            seed: self.seed,
            plan,
        })
    }

    pub(super) fn recovered(&mut self, term: Term, mut entry: RegisteredJob) -> Outcome {
        let submission = self.submission()?;
        if self.bug == Some(Bug::AttemptsUsedAgain) {
            entry.attempts_below = ATTEMPT_BLOCK;
        }
        let now = self.now;
        let Some((_, leading)) = self.leading(term) else { return Ok(()) };
        let actions = leading.master.recover(submission, &entry, now);
        self.totals.recoveries += 1;
        self.carry_out(term, actions)
    }

    pub(super) fn tell(&mut self, term: Term, event: Event) -> Outcome {
        let now = self.now;
        let Some((_, leading)) = self.leading(term) else { return Ok(()) };
        let actions = leading.master.handle(event, now);
        self.carry_out(term, actions)
    }

    /// To the job, under whoever leads. False: nobody does.
    pub(super) fn tell_job(&mut self, event: JobEvent) -> Result<bool, String> {
        let Some((_, leading)) = self.leader() else { return Ok(false) };
        let (term, job) = (leading.term, self.job.clone());
        if leading.master.find(job.as_str()).is_err() {
            return Ok(false);
        }
        self.tell(term, Event::Job { job, event: Box::new(event) })?;
        Ok(true)
    }

    pub(super) fn carry_out(&mut self, term: Term, actions: Vec<Action>) -> Outcome {
        self.break_job(term);
        let mut step_down = false;
        for action in actions {
            match action {
                Action::Send { session, message } => {
                    if let (Some((_, leading)), Some(ToTask::Deploy(deployment))) =
                        (self.leading(term), &message.message)
                    {
                        invariants::may_deploy(deployment, session, leading.master.pool())?;
                    }
                    self.send_to_process(session, message);
                }
                Action::Disconnect { session, .. } => self.disconnect(session),
                Action::Job { action, .. } => self.carry_out_job(term, action)?,
                Action::Ha { ticket, request } => self.call_ha(Caller::Master(term), ticket, request),
                Action::Recover(entry) => {
                    let after = self.rng.random_range(5..200);
                    self.later(after, Happening::Recovered(term, entry));
                }
                Action::Open => {
                    if let Some((_, leading)) = self.leading(term) {
                        leading.open = true;
                    }
                }
                Action::Submitted { result, .. } => self.submitted |= result.is_ok(),
                Action::DeleteGraph(_) => {}
                Action::StepDown(_) => step_down = true,
            }
        }
        if step_down && let Some((m, _)) = self.leading(term) {
            self.totals.fenced += 1;
            return self.tell_lease(m, LeaseEvent::Deposed);
        }
        self.schedule_tick(term);
        Ok(())
    }

    fn schedule_tick(&mut self, term: Term) {
        let now = self.now;
        let Some((_, leading)) = self.leading(term) else { return };
        if let Some(deadline) = leading.master.deadline()
            && leading.next_tick.is_none_or(|tick| deadline < tick)
        {
            let deadline = deadline.max(now);
            leading.next_tick = Some(deadline);
            self.later(deadline - now, Happening::Tick(term));
        }
    }

    pub(super) fn tick(&mut self, term: Term) -> Outcome {
        let Some((_, leading)) = self.leading(term) else { return Ok(()) };
        leading.next_tick = None;
        self.tell(term, Event::Tick)
    }

    fn break_job(&mut self, term: Term) {
        let (Some(bug), job) = (self.bug, self.job.clone()) else { return };
        if let Some((_, leading)) = self.leading(term)
            && let Some(job) = leading.master.job_mut(&job)
        {
            job.break_with(bug);
        }
    }

    pub(super) fn call_ha(&mut self, caller: Caller, ticket: u64, request: HaRequest) {
        let (there, back) = (self.rng.random_range(1..60), self.rng.random_range(1..60));
        let timeout = self.rng.random_range(500..1_500);
        let lost = HaReply::of(&request, StorageError::Unavailable("no answer".into()));
        let mut fate = self.ha_fate();
        if self.manager_of(caller).is_some_and(|m| self.managers[m].cut_until > self.now) {
            fate = Fate::RequestLost;
        }
        match fate {
            Fate::Works | Fate::Refused => self.later(there, Happening::HaDoes(caller, ticket, request, Some(back))),
            Fate::RequestLost => self.later(timeout, Happening::HaAnswers(caller, ticket, lost)),
            Fate::AnswerLost => {
                self.later(there, Happening::HaDoes(caller, ticket, request, None));
                self.later(timeout, Happening::HaAnswers(caller, ticket, lost));
            }
            Fate::DoneLate => {
                self.later(timeout, Happening::HaAnswers(caller, ticket, lost));
                let late = timeout + self.rng.random_range(0..4_000);
                self.later(late, Happening::HaDoes(caller, ticket, request, None));
            }
        }
    }

    fn ha_fate(&mut self) -> Fate {
        if self.faults_over || self.rng.random_range(0..100) >= self.scenario.store_faults_percent {
            return Fate::Works;
        }
        match self.rng.random_range(0..3) {
            0 => Fate::RequestLost,
            1 => Fate::AnswerLost,
            _ => Fate::DoneLate,
        }
    }

    pub(super) fn manager_of(&self, caller: Caller) -> Option<usize> {
        match caller {
            Caller::Lease(m, life) => Some(m).filter(|&m| self.managers[m].life == life),
            Caller::Master(term) => {
                self.managers.iter().position(|m| m.leading.as_ref().is_some_and(|l| l.term == term))
            }
        }
    }

    pub(super) fn ha_does(&mut self, request: &HaRequest) -> Result<HaReply, String> {
        let epochs = |ha: &crate::ha::MemoryHaStore| {
            (ha.lease().map_or(0, |lease| lease.epoch), ha.registry().map_or(0, |registry| registry.epoch))
        };
        let before = epochs(&self.ha);
        let results = self.results();
        let reply = self.ha.apply(request);
        let after = epochs(&self.ha);
        if after.0 < before.0 || after.1 < before.1 {
            return Err(format!("epochs of lease and registry fall from {before:?} to {after:?}"));
        }
        if self.results() < results {
            return Err("the result of a job is gone".into());
        }
        Ok(reply)
    }

    fn results(&self) -> usize {
        self.ha.registry().map_or(0, |r| r.jobs.iter().filter(|job| job.result.is_some()).count())
    }

    pub(super) fn ha_answers(&mut self, caller: Caller, ticket: u64, reply: HaReply) -> Outcome {
        match caller {
            Caller::Lease(m, life) if self.managers[m].alive && self.managers[m].life == life => {
                self.tell_lease(m, LeaseEvent::Reply { ticket, reply })
            }
            Caller::Lease(..) => Ok(()),
            Caller::Master(term) => self.tell(term, Event::Ha { ticket, reply }),
        }
    }

    /// Whether the job has ended and nothing of it is left but its result.
    pub(super) fn closed(&self) -> bool {
        let entry = self.ha.registry().and_then(|r| r.jobs.iter().find(|job| job.job_id == self.job.as_str()));
        entry.is_some_and(|entry| entry.result.is_some() && entry.graph_object.is_empty())
    }

    /// What waits for a moment in the life of the job.
    pub(super) fn spring_traps(&mut self) -> Outcome {
        if self.traps.is_empty() {
            return Ok(());
        }
        let Some((m, leading)) = self.leader() else { return Ok(()) };
        let Ok(job) = leading.master.find(self.job.as_str()) else { return Ok(()) };
        let (state, phase) = (job.state(), job.checkpoints().pending().map(|pending| pending.phase));
        let kept = self.results() > 0 && !self.closed();
        let stopped = self.results() == 0 && self.store.stopped_with().is_some();
        let due = |when: &When| match when {
            When::Stopped => stopped,
            When::Phase(wanted) => phase == Some(*wanted),
            When::State(wanted) => state == *wanted,
            When::ResultKept => kept,
        };
        let Some(at) = self.traps.iter().position(|(when, _)| due(when)) else { return Ok(()) };
        let (when, blow) = self.traps.remove(at);
        if self.faults_over && when != When::ResultKept {
            return Ok(());
        }
        match blow {
            Blow::Crash => {
                let back = self.rng.random_range(500..8_000);
                self.crash(m, back)
            }
            Blow::StepDown => self.tell_lease(m, LeaseEvent::Deposed),
            Blow::Cancel => self.tell_job(JobEvent::Cancel).map(drop),
        }
    }
}
