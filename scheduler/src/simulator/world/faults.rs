//! What goes wrong.

use hurtig_proto::internal::v1::StopMode;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::v1;
use rand::Rng;

use super::{HEARTBEAT_TIMEOUT_MS, Happening, Outcome, World};
use crate::checkpoint::SavepointWish;
use crate::job::state::JobState;
use crate::job::{JobEvent, JobMaster};
use crate::simulator::process::Notice;
use crate::simulator::scenario::Fault;
use crate::simulator::task::TaskId;
use crate::slots::SessionId;
use crate::storage::{StorageRequest, Version};

/// What a user asks for at most: more than some clusters have slots.
const MOST_PARALLELISM: u32 = 4;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) -> Outcome {
        self.trace(&[7, fault as u64]);
        match fault {
            Fault::Kill | Fault::Vanish => self.kill(fault == Fault::Vanish),
            Fault::Disconnect | Fault::Silence => self.cut(fault == Fault::Silence),
            Fault::FailTask => {
                let live: Vec<(usize, TaskId)> = self
                    .processes
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.alive)
                    .flat_map(|(i, p)| p.tasks.keys().map(move |id| (i, id.clone())))
                    .collect();
                if live.is_empty() {
                    return Ok(());
                }
                let (process, id) = &live[self.rng.random_range(0..live.len())];
                let life = self.processes[*process].life;
                self.fail_task(*process, life, id)
            }
            Fault::Savepoint => self.ask_for_savepoint(1, StopMode::None),
            Fault::Stop | Fault::StopDraining => {
                // The user waits until it runs.
                let job = self.leader().and_then(|(_, leading)| leading.master.find(self.job.as_str()).ok());
                match job.map(JobMaster::state) {
                    None if !self.closed() => {
                        self.later(700, Happening::Fault(fault));
                        Ok(())
                    }
                    Some(state) if !state.is_terminal() && state != JobState::Running => {
                        self.later(300, Happening::Fault(fault));
                        Ok(())
                    }
                    _ if fault == Fault::Stop => self.ask_for_savepoint(2, StopMode::Suspend),
                    _ => self.ask_for_savepoint(2, StopMode::Drain),
                }
            }
            Fault::Cancel => {
                if !self.tell_job(JobEvent::Cancel)? {
                    // The user tries again.
                    self.later(700, Happening::Fault(Fault::Cancel));
                }
                Ok(())
            }
            Fault::Rescale => self.rescale(),
            Fault::Decommission => self.decommission(),
            Fault::KillLeader => match self.leader() {
                Some((m, _)) => {
                    let back = self.rng.random_range(500..9_000);
                    self.crash(m, back)
                }
                None => Ok(()),
            },
            Fault::PauseLeader => {
                let until = self.now + self.rng.random_range(1_000..12_000);
                if let Some((m, _)) = self.leader() {
                    self.managers[m].paused_until = until;
                }
                Ok(())
            }
            Fault::CutLeader => {
                let until = self.now + self.rng.random_range(1_000..9_000);
                if let Some((m, _)) = self.leader() {
                    self.managers[m].cut_until = until;
                }
                Ok(())
            }
            Fault::Usurp => {
                if let Some((mut head, _)) = self.store.objects.head.clone() {
                    head.epoch += 1;
                    head.leader_id = "usurper".into();
                    let expected = self.store.objects.head.as_ref().map(|(_, v)| Version(v.to_string()));
                    self.store.objects.apply(&StorageRequest::SwapHead { head, expected });
                }
                Ok(())
            }
        }
    }

    fn ask_for_savepoint(&mut self, request: u64, stop: StopMode) -> Outcome {
        let (target, nonce) = (Some("memory://savepoints".into()), self.events.to_string());
        self.tell_job(JobEvent::Savepoint(SavepointWish { request, target, nonce, stop })).map(drop)
    }

    fn rescale(&mut self) -> Outcome {
        let (job, now) = (self.job.clone(), self.now);
        let parallelism = self.rng.random_range(1..=MOST_PARALLELISM);
        let request = v1::RescaleJobRequest { job_id: job.as_str().into(), parallelism, vertices: Vec::new() };
        let Some(term) = self.leader().map(|(_, leading)| leading.term) else { return Ok(()) };
        let Some((_, leading)) = self.leading(term) else { return Ok(()) };
        match leading.master.rescale(&request, now) {
            Ok(actions) => self.carry_out(term, actions),
            // There is no job yet, or it ends.
            Err(_) => Ok(()),
        }
    }

    /// A process gets notice, by a signal or by a request to the JobManager.
    fn decommission(&mut self) -> Outcome {
        let stay: Vec<usize> = (0..self.processes.len())
            .filter(|&p| self.processes[p].alive && self.processes[p].notice.is_none())
            .collect();
        if stay.is_empty() {
            return Ok(());
        }
        let busy: Vec<usize> = stay.iter().copied().filter(|&p| !self.processes[p].tasks.is_empty()).collect();
        let among = if busy.is_empty() || self.rng.random_bool(0.2) { stay } else { busy };
        let process = among[self.rng.random_range(0..among.len())];
        let remaining = self.rng.random_range(2_000..25_000);
        if self.rng.random_bool(0.3) {
            return self.request_decommission(process, remaining);
        }
        let (deadline, epoch) = (self.now + remaining, self.processes[process].epoch);
        let signalled = self.rng.random_bool(0.7);
        self.note(process, Notice { deadline, signalled, epoch });
        if let Some(notice) = self.processes[process].decommission(self.now) {
            self.send_to_master(process, FromTask::Decommission(notice));
        }
        Ok(())
    }

    fn request_decommission(&mut self, process: usize, remaining: i64) -> Outcome {
        let (resource_id, now) = (self.processes[process].resource_id.clone(), self.now);
        let request = v1::DecommissionTaskManagerRequest { resource_id, remaining_ms: remaining as u64 };
        let Some(term) = self.leader().map(|(_, leading)| leading.term) else { return Ok(()) };
        let Some((_, leading)) = self.leading(term) else { return Ok(()) };
        match leading.master.decommission(&request, now) {
            Ok(actions) => self.carry_out(term, actions),
            // It is not connected.
            Err(_) => Ok(()),
        }
    }

    /// A process knows that it is to go.
    pub(super) fn note(&mut self, process: usize, notice: Notice) {
        self.totals.notices += 1;
        self.processes[process].notice = Some(notice);
        let life = self.processes[process].life;
        self.later(notice.deadline - self.now, Happening::Deadline(process, life));
    }

    /// Its time is up.
    pub(super) fn deadline(&mut self, process: usize, life: u64) -> Outcome {
        let p = &self.processes[process];
        if p.alive && p.life == life { self.end_process(process, false) } else { Ok(()) }
    }

    /// The JobManager says that nothing is left on a process.
    pub(super) fn drained(&mut self, process: usize) -> Outcome {
        let p = &self.processes[process];
        if let Some(id) = p.tasks.keys().find(|id| p.is_attached(id)) {
            return Err(format!("{} is said to be drained, but {id:?} runs there", p.resource_id));
        }
        self.totals.drained += 1;
        if p.notice.is_some_and(|notice| notice.signalled) { self.end_process(process, false) } else { Ok(()) }
    }

    pub(super) fn kill(&mut self, silently: bool) -> Outcome {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|&p| self.processes[p].alive).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let process = alive[self.rng.random_range(0..alive.len())];
        self.end_process(process, silently)
    }

    /// A process ends and comes back later.
    fn end_process(&mut self, process: usize, silently: bool) -> Outcome {
        let gone: Vec<TaskId> = self.processes[process].tasks.keys().cloned().collect();
        self.processes[process].alive = false;
        self.processes[process].cancel_all();
        if let Some(session) = self.processes[process].session
            && let Some(link) = self.links.get_mut(&session)
        {
            link.broken = true;
            if !silently {
                let after = self.rng.random_range(1..300);
                self.later(after, Happening::BrokenAtMaster(session));
            }
        }
        let back = self.rng.random_range(500..14_000);
        self.later(back, Happening::Start(process));
        if !silently {
            self.neighbours_notice(&gone);
        }
        Ok(())
    }

    /// Tasks that exchange data with the ones that are gone may fail before the JobManager knows.
    pub(super) fn neighbours_notice(&mut self, gone: &[TaskId]) {
        let mut failing = Vec::new();
        for (i, process) in self.processes.iter().enumerate().filter(|(_, p)| p.alive) {
            for id in process.tasks.keys() {
                let related = gone.iter().any(|g| g.vertex.get(1..) == id.vertex.get(1..) && g.vertex != id.vertex);
                if related && self.rng.random_bool(0.3) {
                    failing.push((i, process.life, id.clone()));
                }
            }
        }
        for (process, life, id) in failing {
            let after = self.rng.random_range(1..400);
            self.later(after, Happening::Fail(process, life, id));
        }
    }

    pub(super) fn cut(&mut self, silently: bool) -> Outcome {
        let connected: Vec<SessionId> = self.processes.iter().filter(|p| p.alive).filter_map(|p| p.session).collect();
        if connected.is_empty() {
            return Ok(());
        }
        let session = connected[self.rng.random_range(0..connected.len())];
        let Some(link) = self.links.get_mut(&session) else { return Ok(()) };
        if silently {
            link.silent = true;
            let after = HEARTBEAT_TIMEOUT_MS as i64 + self.rng.random_range(0..3_000);
            self.later(after, Happening::BrokenAtProcess(session));
        } else {
            link.broken = true;
            let (at_master, at_process) = (self.rng.random_range(1..1_500), self.rng.random_range(1..3_000));
            self.later(at_master, Happening::BrokenAtMaster(session));
            self.later(at_process, Happening::BrokenAtProcess(session));
        }
        Ok(())
    }
}
