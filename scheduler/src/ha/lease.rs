//! Becoming leader and staying it: the lease of one JobManager process.
//!
//! | state | event | then |
//! | --- | --- | --- |
//! | watching | no lease, or a released one | claim it |
//! | watching | the same version for the lease time and a quarter, by this process's clock | claim it |
//! | claiming | written in time | leading |
//! | claiming | taken by another | watching |
//! | leading | a third of the lease time has passed | renew |
//! | leading | renewed | leading, for the lease time from when the renewal was sent |
//! | leading | taken by another, not renewed in time, or a write was refused elsewhere | step down, watching |
//! | any | release | released: the others need not wait |
//!
//! Clocks are never compared: a watcher measures how long it has seen no change, from after it read
//! the version for the first time; a leader counts from before it sent the renewal. So the leader
//! gives up first if both clocks run at the same rate within a quarter. When they do not, or when the
//! leader does not notice the time (it was paused), two may lead for a while: epochs in HEAD and in
//! the registry see to it that only the newer one can write.

use hurtig_proto::internal::v1::LeaderLease;

use super::storage::{Content, HaReply, HaRequest, Object};
use super::writer::{Outcome, Step, Writer};
use crate::storage::Version;

/// Version of the lease's format.
const FORMAT: u32 = 1;

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// A leader that has not renewed for so long is taken for dead.
    pub lease_ms: u64,
    /// Between two looks at the lease, and between tries.
    pub retry_ms: u64,
}

/// What happened.
#[derive(Debug)]
pub enum LeaseEvent {
    /// Time has passed; also the first event.
    Tick,
    /// The answer to [`LeaseAction::Store`].
    Reply {
        /// As given.
        ticket: u64,
        /// The answer.
        reply: HaReply,
    },
    /// A write of this leader was refused: there is a newer one.
    Deposed,
    /// The process ends in order.
    Release,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum LeaseAction {
    /// Make this call.
    Store {
        /// Names the call.
        ticket: u64,
        /// The call.
        request: HaRequest,
    },
    /// This process leads from now on.
    Lead {
        /// Above that of every earlier leader.
        epoch: u64,
        /// No other leader's, ever.
        leader_id: String,
    },
    /// This process leads no more. Nothing may be sent or written in the name of the term.
    StepDown {
        /// For people.
        reason: String,
    },
    /// Who leads now, as far as this process sees.
    LeaderIs(Option<LeaderLease>),
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Watching,
    Claiming { lease: LeaderLease, since: i64 },
    Leading { lease: LeaderLease, valid_until: i64, renew_at: i64, sent: i64 },
    Released,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Lease {
    process: String,
    address: String,
    settings: LeaseSettings,
    state: State,
    writer: Writer,
    /// The lease as last read while watching, and since when it has been the same.
    seen: Option<(Version, i64)>,
    told: Option<LeaderLease>,
    look_at: i64,
    /// The call whose answer counts.
    ticket: Option<u64>,
    next_ticket: u64,
    actions: Vec<LeaseAction>,
}

impl Lease {
    /// For the process `process`, a name that no other has, reached by clients at `address`.
    pub fn new(process: String, address: String, settings: LeaseSettings) -> Self {
        Lease {
            process,
            address,
            writer: Writer::new(settings.retry_ms as i64),
            settings,
            state: State::Watching,
            seen: None,
            told: None,
            look_at: i64::MIN,
            ticket: None,
            next_ticket: 1,
            actions: Vec::new(),
        }
    }

    /// The epoch in which this process leads.
    pub fn epoch(&self) -> Option<u64> {
        match &self.state {
            State::Leading { lease, .. } => Some(lease.epoch),
            _ => None,
        }
    }

    /// Takes one event and returns what is to be done. `now` is a monotonic clock in ms.
    pub fn handle(&mut self, event: LeaseEvent, now: i64) -> Vec<LeaseAction> {
        self.expire(now);
        match event {
            LeaseEvent::Tick => {}
            LeaseEvent::Reply { ticket, reply } => {
                if self.ticket == Some(ticket) {
                    self.ticket = None;
                    self.on_reply(reply, now);
                }
            }
            LeaseEvent::Deposed => self.step_down("another JobManager has taken over: a write was refused", now),
            LeaseEvent::Release => self.release(),
        }
        self.go_on(now);
        std::mem::take(&mut self.actions)
    }

    /// When [`LeaseEvent::Tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        let free = self.ticket.is_none();
        match &self.state {
            State::Watching => free.then_some(self.look_at),
            State::Claiming { .. } => self.writer.deadline(),
            State::Leading { valid_until, renew_at, .. } => {
                let renewal = (free && !self.writer.busy()).then_some(*renew_at);
                [Some(*valid_until), renewal, self.writer.deadline()].into_iter().flatten().min()
            }
            State::Released => None,
        }
    }

    /// The leader's own time has run out.
    fn expire(&mut self, now: i64) {
        if let State::Leading { valid_until, .. } = self.state
            && valid_until <= now
        {
            let reason = format!("the lease could not be renewed within {} ms", self.settings.lease_ms);
            self.step_down(&reason, now);
        }
    }

    fn step_down(&mut self, reason: &str, now: i64) {
        if !matches!(self.state, State::Leading { .. }) {
            return;
        }
        self.actions.push(LeaseAction::StepDown { reason: reason.to_owned() });
        self.watch(None, now);
    }

    /// Watches from now on; a write under way may still be done, its answer does not count.
    fn watch(&mut self, found: Option<(Content, Version)>, now: i64) {
        self.state = State::Watching;
        self.writer.give_up();
        self.ticket = None;
        self.seen = None;
        self.look_at = now;
        if let Some(found) = found {
            self.look_at = now + self.settings.retry_ms as i64;
            self.observe(Some(found), now);
        }
    }

    fn go_on(&mut self, now: i64) {
        if let Some(request) = self.writer.tick(now) {
            return self.call(request);
        }
        if self.ticket.is_some() {
            return;
        }
        match &self.state {
            State::Watching if self.look_at <= now => self.call(HaRequest::Load(Object::Leader)),
            State::Leading { lease, renew_at, valid_until, .. } if *renew_at <= now && !self.writer.busy() => {
                let lease = LeaderLease { renewals: lease.renewals + 1, ..lease.clone() };
                let request = self.writer.start(Content::Lease(lease.clone()));
                self.state = State::Leading { lease, valid_until: *valid_until, renew_at: i64::MAX, sent: now };
                self.call(request);
            }
            _ => {}
        }
    }

    fn call(&mut self, request: HaRequest) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.ticket = Some(ticket);
        self.actions.push(LeaseAction::Store { ticket, request });
    }

    fn on_reply(&mut self, reply: HaReply, now: i64) {
        if self.state == State::Watching {
            self.look_at = now + self.settings.retry_ms as i64;
            match reply {
                HaReply::Loaded(Ok(found)) => self.observe(found, now),
                HaReply::Loaded(Err(error)) => tracing::warn!(%error, "the lease of the leader cannot be read"),
                HaReply::Swapped(_) => {}
            }
            return;
        }
        match self.writer.on_reply(reply, now) {
            Step::Request(request) => self.call(request),
            Step::Wait => {}
            Step::Done(outcome) => self.written(outcome, now),
        }
    }

    /// The lease as it is, read while watching.
    fn observe(&mut self, found: Option<(Content, Version)>, now: i64) {
        let Some((Content::Lease(lease), version)) = found else {
            return self.claim(None, 0, now);
        };
        if lease.released {
            self.tell(None);
            return self.claim(Some(version), lease.epoch, now);
        }
        let patience = lease.lease_ms.saturating_add(lease.lease_ms / 4) as i64;
        match &self.seen {
            Some((seen, since)) if *seen == version => {
                if now.saturating_sub(*since) >= patience {
                    self.tell(None);
                    return self.claim(Some(version), lease.epoch, now);
                }
                self.look_at = self.look_at.min(since.saturating_add(patience));
            }
            _ => self.seen = Some((version, now)),
        }
        self.tell(Some(lease));
    }

    fn tell(&mut self, leader: Option<LeaderLease>) {
        let same = |a: &LeaderLease, b: &LeaderLease| a.epoch == b.epoch && a.leader_id == b.leader_id;
        let unchanged = match (&self.told, &leader) {
            (Some(told), Some(leader)) => same(told, leader),
            (told, leader) => told.is_none() && leader.is_none(),
        };
        if !unchanged {
            self.told.clone_from(&leader);
            self.actions.push(LeaseAction::LeaderIs(leader));
        }
    }

    fn claim(&mut self, version: Option<Version>, old_epoch: u64, now: i64) {
        let epoch = old_epoch + 1;
        let lease = LeaderLease {
            format_version: FORMAT,
            epoch,
            leader_id: format!("{}-{epoch}", self.process),
            address: self.address.clone(),
            renewals: 0,
            lease_ms: self.settings.lease_ms,
            released: false,
        };
        self.writer.observed(version);
        let request = self.writer.start(Content::Lease(lease.clone()));
        self.state = State::Claiming { lease, since: now };
        self.call(request);
    }

    fn written(&mut self, outcome: Outcome, now: i64) {
        match (self.state.clone(), outcome) {
            (State::Claiming { lease, since }, Outcome::Written) => {
                let valid_until = since + self.settings.lease_ms as i64;
                if valid_until <= now {
                    // It took too long to be sure that nobody else has waited long enough by now.
                    return self.watch(None, now);
                }
                let renew_at = since + self.settings.lease_ms as i64 / 3;
                self.tell(Some(lease.clone()));
                self.actions.push(LeaseAction::Lead { epoch: lease.epoch, leader_id: lease.leader_id.clone() });
                self.state = State::Leading { lease, valid_until, renew_at, sent: since };
            }
            (State::Leading { lease, sent, .. }, Outcome::Written) => {
                let valid_until = sent + self.settings.lease_ms as i64;
                let renew_at = sent + self.settings.lease_ms as i64 / 3;
                self.state = State::Leading { lease, valid_until, renew_at: renew_at.max(now), sent };
            }
            (State::Leading { lease, valid_until, sent, .. }, Outcome::Failed(error)) => {
                tracing::warn!(%error, "the lease cannot be renewed");
                let renew_at = now + self.settings.retry_ms as i64;
                self.state = State::Leading { lease, valid_until, renew_at, sent };
            }
            (State::Claiming { .. }, Outcome::Failed(error)) => {
                tracing::warn!(%error, "the lease of the leader cannot be written");
                self.watch(None, now);
                self.look_at = now + self.settings.retry_ms as i64;
            }
            (State::Claiming { .. }, Outcome::Taken(found)) => self.watch(found, now),
            (State::Leading { .. }, Outcome::Taken(found)) => {
                self.step_down("another JobManager has taken over", now);
                self.watch(found, now);
            }
            (State::Watching | State::Released, _) => {}
        }
    }

    /// Says that nobody needs to wait. Whether that is written is not waited for.
    fn release(&mut self) {
        if let State::Leading { lease, .. } = &self.state
            && !self.writer.busy()
        {
            let lease = LeaderLease { renewals: lease.renewals + 1, released: true, ..lease.clone() };
            let request = self.writer.start(Content::Lease(lease));
            self.call(request);
        }
        if matches!(self.state, State::Leading { .. }) {
            self.actions.push(LeaseAction::StepDown { reason: "the JobManager stops".into() });
        }
        self.state = State::Released;
        self.writer.give_up();
    }
}
