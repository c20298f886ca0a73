//! Which JobManager leads, as this process sees it: the lease around the driver.
//!
//! [`contend`] keeps the lease's state machine going. While this process leads there is one driver,
//! with a state machine of its own for that term; when the term ends the driver goes and with it all
//! streams, so that nothing of one term reaches another. [`Role`] is where commands go.

use std::sync::Arc;
use std::time::Duration;

use hurtig_proto::internal::v1::LeaderLease;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::driver::{Clock, Command, Driver, Term};
use crate::error::{Result, SchedulerError};
use crate::ha::storage::perform;
use crate::ha::{HaReply, HaRequest, HaStorage, Lease, LeaseAction, LeaseEvent, LeaseSettings};
use crate::storage::StorageError;

/// What a JobManager needs to stand in for others, and they for it.
#[derive(Clone)]
pub struct HaServices {
    /// The cluster's part of the object store.
    pub storage: Arc<dyn HaStorage>,
    /// host:port by which TaskManagers and clients reach this process; `None`: where it listens.
    pub address: Option<String>,
    /// Of the lease.
    pub lease: LeaseSettings,
    /// How long a recovered job waits for TaskManagers to say what they run.
    pub reconcile: Duration,
}

/// Where commands go.
#[derive(Clone)]
pub(super) struct Role {
    state: Arc<RwLock<State>>,
    /// This process leads; `None`: not known yet.
    leads: Arc<watch::Sender<Option<bool>>>,
}

enum State {
    Leading { commands: mpsc::UnboundedSender<Command>, epoch: u64 },
    Standby { leader: Option<String> },
}

impl Role {
    /// Of a JobManager that is the only one.
    pub(super) fn alone(commands: mpsc::UnboundedSender<Command>) -> Role {
        let state = State::Leading { commands, epoch: 0 };
        Role { state: Arc::new(RwLock::new(state)), leads: Arc::new(watch::Sender::new(Some(true))) }
    }

    fn contender() -> Role {
        let state = State::Standby { leader: None };
        Role { state: Arc::new(RwLock::new(state)), leads: Arc::new(watch::Sender::new(None)) }
    }

    /// Sends to the driver.
    ///
    /// # Errors
    /// Another JobManager leads, or this one is stopping.
    pub(super) fn send(&self, command: Command) -> Result<()> {
        self.sender()?.send(command).map_err(|_| SchedulerError::Stopped)
    }

    /// The driver's end.
    ///
    /// # Errors
    /// As [`Role::send`].
    pub(super) fn sender(&self) -> Result<mpsc::UnboundedSender<Command>> {
        match &*self.state.read() {
            State::Leading { commands, .. } => Ok(commands.clone()),
            State::Standby { leader } => Err(SchedulerError::NotLeader { leader: leader.clone() }),
        }
    }

    /// The epoch in which this process leads; 0 without high availability.
    ///
    /// # Errors
    /// As [`Role::send`].
    pub(super) fn epoch(&self) -> Result<u64> {
        match &*self.state.read() {
            State::Leading { epoch, .. } => Ok(*epoch),
            State::Standby { leader } => Err(SchedulerError::NotLeader { leader: leader.clone() }),
        }
    }

    /// Why a question was not answered: the driver is gone.
    pub(super) fn gone(&self) -> SchedulerError {
        match &*self.state.read() {
            State::Leading { .. } => SchedulerError::Stopped,
            State::Standby { leader } => SchedulerError::NotLeader { leader: leader.clone() },
        }
    }

    /// Whether this process leads; waits until that is known.
    pub(super) async fn known(&self) -> bool {
        let mut leads = self.leads.subscribe();
        let known = leads.wait_for(Option::is_some).await.map(|known| *known);
        known.ok().flatten().unwrap_or(false)
    }

    /// Whether this process leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        *self.leads.borrow() == Some(true)
    }

    /// All jobs of earlier leaders are known.
    pub(super) fn lead(&self, commands: mpsc::UnboundedSender<Command>, epoch: u64) {
        *self.state.write() = State::Leading { commands, epoch };
        self.leads.send_replace(Some(true));
    }

    fn stand_by(&self, leader: Option<String>) {
        let known = leader.is_some();
        *self.state.write() = State::Standby { leader };
        if known || self.leads() {
            self.leads.send_replace(Some(false));
        }
    }
}

/// Makes the driver of a term.
pub(super) type StartTerm = Box<dyn Fn(Term) -> Driver + Send>;

/// What [`contend`] needs.
pub(super) struct Contender {
    lease: Lease,
    services: HaServices,
    clock: Clock,
    role: Role,
    start_term: StartTerm,
    term: Option<RunningTerm>,
    leader: Option<String>,
    deposed: mpsc::UnboundedSender<(u64, String)>,
    calls: JoinSet<(u64, HaReply)>,
}

/// Says that the driver of a term has ended, also when it has crashed: a leader without one must not
/// stay leader.
struct TermEnded {
    epoch: u64,
    deposed: mpsc::UnboundedSender<(u64, String)>,
}

impl Drop for TermEnded {
    fn drop(&mut self) {
        let _ = self.deposed.send((self.epoch, "the driver of the term has ended".to_owned()));
    }
}

struct RunningTerm {
    epoch: u64,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

/// The parts of a contender: where commands go, and what to run.
pub(super) fn contender(
    services: HaServices,
    address: String,
    clock: Clock,
    start_term: StartTerm,
) -> (Role, impl Future<Output = ()> + Send + 'static, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    let role = Role::contender();
    let (deposed, deposals) = mpsc::unbounded_channel();
    let process = uuid::Uuid::new_v4().simple().to_string();
    let address = services.address.clone().unwrap_or(address);
    let contender = Contender {
        lease: Lease::new(process, address, services.lease),
        services,
        clock,
        role: role.clone(),
        start_term,
        term: None,
        leader: None,
        deposed,
        calls: JoinSet::new(),
    };
    (role, contender.contend(deposals, stopped), stop)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}

impl Contender {
    async fn contend(mut self, mut deposals: mpsc::UnboundedReceiver<(u64, String)>, mut stop: watch::Receiver<bool>) {
        self.tell(LeaseEvent::Tick).await;
        loop {
            let wake = self.clock.instant(self.lease.deadline().unwrap_or(i64::MAX));
            tokio::select! {
                biased;
                // An error means that the JobManager was dropped: stop as well.
                () = stopped(&mut stop) => break,
                Some(reply) = self.calls.join_next() => match reply {
                    Ok((ticket, reply)) => self.tell(LeaseEvent::Reply { ticket, reply }).await,
                    Err(error) => tracing::error!(%error, "a call of the lease's store has crashed"),
                },
                Some((epoch, reason)) = deposals.recv() => {
                    if self.lease.epoch() == Some(epoch) {
                        tracing::warn!(epoch, reason, "a write of this JobManager was refused");
                        self.tell(LeaseEvent::Deposed).await;
                    }
                }
                () = tokio::time::sleep_until(wake) => self.tell(LeaseEvent::Tick).await,
            }
        }
        self.tell(LeaseEvent::Release).await;
        self.end_term("the JobManager stops").await;
        // The lease's release; when it is lost, others wait for its time.
        let patience = self.call_timeout();
        let released = async { while self.calls.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, released).await;
    }

    fn call_timeout(&self) -> Duration {
        Duration::from_millis((self.services.lease.lease_ms / 3).max(100))
    }

    async fn tell(&mut self, event: LeaseEvent) {
        let actions = self.lease.handle(event, self.clock.now_ms());
        for action in actions {
            match action {
                LeaseAction::Store { ticket, request } => self.call(ticket, request),
                LeaseAction::Lead { epoch, leader_id } => self.begin_term(epoch, leader_id),
                LeaseAction::StepDown { reason } => self.end_term(&reason).await,
                LeaseAction::LeaderIs(lease) => self.leader_is(lease),
            }
        }
    }

    fn call(&mut self, ticket: u64, request: HaRequest) {
        let (storage, timeout) = (self.services.storage.clone(), self.call_timeout());
        self.calls.spawn(async move {
            let lost = HaReply::of(&request, StorageError::Unavailable("the store does not answer".to_owned()));
            let reply = tokio::time::timeout(timeout, perform(storage.as_ref(), request)).await;
            (ticket, reply.unwrap_or(lost))
        });
    }

    fn leader_is(&mut self, lease: Option<LeaderLease>) {
        self.leader = lease.map(|lease| lease.address);
        if self.lease.epoch().is_none() {
            if let Some(leader) = &self.leader {
                tracing::info!(leader, "another JobManager leads, this one stands by");
            }
            self.role.stand_by(self.leader.clone());
        }
    }

    fn begin_term(&mut self, epoch: u64, leader_id: String) {
        tracing::info!(epoch, "this JobManager leads");
        metrics::gauge!("hurtig_ha_leader_epoch").set(epoch as f64);
        let (commands, receiver) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let term = Term {
            epoch,
            leader_id,
            commands,
            role: self.role.clone(),
            deposed: self.deposed.clone(),
            services: self.services.clone(),
        };
        let driver = (self.start_term)(term);
        let ended = TermEnded { epoch, deposed: self.deposed.clone() };
        let driver = tokio::spawn(async move {
            let _ended = ended;
            driver.run(receiver, stopped).await;
        });
        self.term = Some(RunningTerm { epoch, stop, driver });
    }

    async fn end_term(&mut self, reason: &str) {
        self.role.stand_by(None);
        let Some(term) = self.term.take() else { return };
        tracing::warn!(epoch = term.epoch, reason, "this JobManager leads no more; its jobs run on without it");
        metrics::counter!("hurtig_ha_step_downs_total").increment(1);
        metrics::gauge!("hurtig_ha_leader_epoch").set(0.0);
        let _ = term.stop.send(true);
        if let Err(error) = term.driver.await {
            tracing::error!(%error, "the driver of a term has crashed");
        }
    }
}
