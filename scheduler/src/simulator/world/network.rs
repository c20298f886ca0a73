//! Connections between the JobManager and processes: delay, order, breaking, silence.

use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use rand::Rng;

use super::{Happening, Outcome, World, kind_of};
use crate::master::Event;
use crate::slots::SessionId;

impl World {
    pub(super) fn delay(&mut self) -> i64 {
        if self.rng.random_range(0..100) < 3 { self.rng.random_range(100..2_000) } else { self.rng.random_range(1..30) }
    }

    pub(super) fn send_to_process(&mut self, session: SessionId, message: Box<internal::ToTaskManager>) {
        let delay = self.delay();
        let now = self.now;
        let Some(link) = self.links.get_mut(&session) else { return };
        link.last_to_process = link.last_to_process.max(now + delay);
        let after = link.last_to_process - now;
        self.trace(&[1, session.0, message.message.as_ref().map_or(0, kind_of)]);
        self.later(after, Happening::Deliver(session, message));
    }

    pub(super) fn send_to_master(&mut self, process: usize, message: FromTask) {
        let delay = self.delay();
        let now = self.now;
        let Some(session) = self.processes[process].session else { return };
        let epoch = self.processes[process].epoch;
        let Some(link) = self.links.get_mut(&session) else { return };
        link.last_to_master = link.last_to_master.max(now + delay);
        let after = link.last_to_master - now;
        let message = Box::new(internal::FromTaskManager { epoch, message: Some(message) });
        self.later(after, Happening::Arrive(session, message));
    }

    pub(super) fn arrive(&mut self, session: SessionId, message: Box<internal::FromTaskManager>) -> Outcome {
        match self.links.get(&session) {
            Some(link) if !link.broken && !link.silent => {
                self.tell(link.term, Event::FromTaskManager { session, message })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn deliver(&mut self, session: SessionId, message: internal::ToTaskManager) -> Outcome {
        let Some(link) = self.links.get(&session) else { return Ok(()) };
        let (process, usable) = (link.process, !link.broken && !link.silent);
        if !usable || self.processes[process].session != Some(session) || !self.processes[process].alive {
            return Ok(());
        }
        match message.message {
            Some(inner) => self.obey(process, session, message.epoch, inner),
            None => Ok(()),
        }
    }

    /// A process sees whether another JobManager leads.
    pub(super) fn look(&mut self, process: usize, life: u64, session: SessionId) -> Outcome {
        let p = &self.processes[process];
        if !p.alive || p.life != life || p.session != Some(session) {
            return Ok(());
        }
        let epoch = self.links.get(&session).map_or(0, |link| link.epoch);
        if self.ha.lease().is_some_and(|lease| lease.epoch > epoch) {
            if let Some(link) = self.links.get_mut(&session) {
                link.broken = true;
            }
            let after = self.rng.random_range(1..500);
            self.later(after, Happening::BrokenAtMaster(session));
            return self.broken_at_process(session);
        }
        self.later(1_000, Happening::Look(process, life, session));
        Ok(())
    }

    pub(super) fn grace_end(&mut self, process: usize, life: u64, alone: u64) -> Outcome {
        let p = &mut self.processes[process];
        if p.life == life && p.alone == alone && p.session.is_none() {
            p.cancel_all();
        }
        Ok(())
    }

    pub(super) fn broken_at_process(&mut self, session: SessionId) -> Outcome {
        let Some(link) = self.links.get(&session) else { return Ok(()) };
        let process = link.process;
        if self.processes[process].session != Some(session) || !self.processes[process].alive {
            return Ok(());
        }
        // It keeps its tasks for a while, or cancels them, and comes back.
        let grace = self.scenario.grace_ms;
        let p = &mut self.processes[process];
        p.detach();
        if grace == 0 {
            p.cancel_all();
        } else {
            let (life, alone) = (p.life, p.alone);
            self.later(grace, Happening::GraceEnd(process, life, alone));
        }
        let (life, after) = (self.processes[process].life, self.rng.random_range(50..1_000));
        self.later(after, Happening::Connect(process, life));
        Ok(())
    }
}
