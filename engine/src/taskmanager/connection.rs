//! The stream to the JobManager: registration, heartbeats, reports; again after each loss.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hurtig_proto::internal::v1 as internal;
use hurtig_state::ha::read_leader;
use internal::cluster_service_client::ClusterServiceClient;
use internal::from_task_manager::Message;
use internal::to_task_manager::Message as FromJobManager;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::core::Core;
use super::session::Session;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Why a connection ended.
enum End {
    /// The TaskManager is stopped.
    Stopped,
    /// The JobManager told it to end.
    ShutDown(String),
    /// The JobManager cannot be reached, or is gone.
    Lost(String),
}

/// Keeps the TaskManager connected until it is stopped, or is to end by itself: then `ended` says why.
pub async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>, ended: watch::Sender<Option<String>>) {
    let mut backoff = FIRST_BACKOFF;
    let mut unregistered_since = Instant::now();
    let mut told = None;
    let mut tries = 0;
    // Since when tasks run on without a JobManager.
    let mut alone_since: Option<Instant> = None;
    loop {
        let mut registered = false;
        let end = serve(&core, tries, &mut stop, &mut registered).await;
        core.decommission.set_registered(false);
        if registered {
            alone_since = None;
        }
        tries += 1;
        let reason = match end {
            End::Stopped => {
                core.cancel_all().await;
                return;
            }
            End::ShutDown(reason) => {
                tracing::info!(reason, "the JobManager ended this TaskManager");
                core.cancel_all().await;
                ended.send_replace(Some(reason));
                return;
            }
            End::Lost(reason) => reason,
        };
        core.detach();
        let alone = *alone_since.get_or_insert_with(Instant::now);
        let grace = core.config.ha.as_ref().map_or(Duration::ZERO, |ha| ha.grace);
        if alone.elapsed() >= grace {
            if core.has_tasks() && !grace.is_zero() {
                tracing::warn!(grace_ms = grace.as_millis() as u64, "no JobManager has come: the tasks are cancelled");
            }
            // The JobManager takes the tasks for lost and will start others in their place.
            let cancelled = core.cancel_all();
            tokio::select! {
                () = cancelled => {}
                () = stopped(&mut stop) => {
                    core.cancel_all().await;
                    return;
                }
            }
            core.channels().clear();
        }
        if registered {
            tracing::warn!(reason, "lost the JobManager");
            backoff = FIRST_BACKOFF;
            unregistered_since = Instant::now();
            told = None;
        } else {
            // Once for each reason: who starts it must see why it does not come up.
            if told.as_ref() != Some(&reason) {
                tracing::warn!(jobmanager = core.config.jobmanager, reason, "cannot register with the JobManager yet");
                told = Some(reason.clone());
            }
            let longest = core.config.ha.as_ref().map_or(LONGEST_BACKOFF, |ha| ha.poll);
            backoff = (backoff * 2).min(longest);
        }
        let limit = core.config.registration_timeout;
        if !limit.is_zero() && unregistered_since.elapsed() > limit {
            let at = if core.config.jobmanager.is_empty() { "that leads" } else { &core.config.jobmanager };
            let text = format!("could not register with the JobManager {at} within {} s: {reason}", limit.as_secs());
            core.cancel_all().await;
            tracing::error!("{text}");
            ended.send_replace(Some(text));
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(spread(&core, backoff)) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Returns when the TaskManager is stopped or dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await.is_ok();
}

/// A part of `backoff` that differs between TaskManagers, so that they do not all come at once.
fn spread(core: &Core, backoff: Duration) -> Duration {
    let hash = core.instance_id.bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    backoff.mul_f64(0.75 + f64::from(hash % 1000) / 2000.0)
}

/// Where to find a JobManager: the one that leads; where that is not known, one after the other of
/// those that are configured.
async fn target(core: &Core, tries: usize) -> Result<String, String> {
    let mut reason = "no address of a JobManager is configured".to_owned();
    if let Some(ha) = &core.config.ha {
        match read_leader(&core.stores, &ha.directory).await {
            Ok(Some(lease)) if !lease.released => return Ok(lease.address),
            Ok(_) => reason = "no JobManager leads yet".to_owned(),
            Err(error) => reason = format!("cannot read which JobManager leads: {error}"),
        }
    }
    let configured: Vec<&str> = core.config.jobmanager.split(',').filter(|address| !address.is_empty()).collect();
    match configured.get(tries % configured.len().max(1)) {
        Some(address) => Ok((*address).to_owned()),
        None => Err(reason),
    }
}

/// Returns when a JobManager leads that is newer than the one of `epoch`.
async fn newer_leader(core: &Core, epoch: u64) -> String {
    let Some(ha) = &core.config.ha else { return std::future::pending().await };
    loop {
        tokio::time::sleep(ha.poll).await;
        if let Ok(Some(lease)) = read_leader(&core.stores, &ha.directory).await
            && lease.epoch > epoch
        {
            return lease.address;
        }
    }
}

async fn serve(core: &Arc<Core>, tries: usize, stop: &mut watch::Receiver<bool>, registered: &mut bool) -> End {
    let connected = tokio::select! {
        connected = connect(core, tries) => connected,
        () = stopped(stop) => return End::Stopped,
    };
    let (sender, mut incoming, registration, close) = match connected {
        Ok(connected) => connected,
        Err(reason) => return End::Lost(reason),
    };
    *registered = true;
    core.decommission.set_registered(true);
    let session = Session::new(registration.epoch, sender);
    tracing::info!(resource_id = core.config.resource_id, epoch = session.epoch(), "registered");
    let mut heartbeat = tokio::time::interval(registration.heartbeat_interval);
    let mut reports = tokio::time::interval(core.config.report_interval);
    reports.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut heard = Instant::now();
    let mut sequence = 0;
    let newer_leader = newer_leader(core, session.epoch());
    tokio::pin!(newer_leader);
    let mut notices = core.decommission.changes();
    loop {
        tokio::select! {
            address = &mut newer_leader => return End::Lost(format!("the JobManager at {address} leads now")),
            () = stopped(stop) => {
                // Cancelled tasks still report through the open stream.
                core.cancel_all().await;
                drop(session);
                // Closing it from here could drop what is still on its way: the JobManager closes it.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
                    while let Ok(Some(_)) = incoming.message().await {}
                })
                .await;
                return End::Stopped;
            }
            message = incoming.message() => {
                let message = match message {
                    Ok(Some(message)) => message,
                    Ok(None) => return End::Lost("the JobManager closed the stream".into()),
                    Err(status) => return End::Lost(format!("the stream broke: {}", status.message())),
                };
                heard = Instant::now();
                if message.epoch < session.epoch() {
                    tracing::warn!(epoch = message.epoch, current = session.epoch(), "refused a message of a deposed leader");
                    continue;
                }
                match message.message {
                    Some(FromJobManager::Shutdown(shutdown)) => return End::ShutDown(shutdown.reason),
                    Some(message) => core.handle(message, &session),
                    None => {}
                }
            }
            Ok(()) = notices.changed() => {
                if let Some(notice) = core.decommission.message() {
                    session.send(Message::Decommission(notice));
                }
            }
            _ = heartbeat.tick() => {
                if heard.elapsed() > registration.heartbeat_timeout {
                    return End::Lost(format!(
                        "no heartbeat of the JobManager for {} ms",
                        registration.heartbeat_timeout.as_millis()
                    ));
                }
                sequence += 1;
                session.send(Message::Heartbeat(internal::Heartbeat { sequence }));
            }
            _ = reports.tick() => {
                core.report(&session);
                if let Some(reason) = core.stuck() {
                    // Whoever waits for the task to end hears that it is lost: from the end of the
                    // stream, which the task holds open.
                    close.notify_one();
                    return End::Lost(reason);
                }
            }
        }
    }
}

struct Registration {
    epoch: u64,
    heartbeat_interval: Duration,
    heartbeat_timeout: Duration,
}

type Connected = (
    mpsc::UnboundedSender<internal::FromTaskManager>,
    tonic::Streaming<internal::ToTaskManager>,
    Registration,
    Arc<Notify>,
);

async fn connect(core: &Core, tries: usize) -> Result<Connected, String> {
    let address = tokio::time::timeout(CONNECT_TIMEOUT, target(core, tries))
        .await
        .map_err(|_| "the store that says which JobManager leads does not answer".to_owned())??;
    let endpoint = crate::tls::endpoint(&address, core.config.exchange.tls.as_deref())
        .map_err(|e| format!("cannot connect to the JobManager at {address}: {e}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    let transport =
        endpoint.connect().await.map_err(|e| format!("cannot connect to {address}: {}", crate::tls::causes(&e)))?;
    let (sender, receiver) = mpsc::unbounded_channel();
    // The JobManager answers the call only once the registration has come.
    let _ = sender.send(internal::FromTaskManager { epoch: 0, message: Some(core.register_message()) });
    let close = Arc::new(Notify::new());
    let closed = Arc::clone(&close);
    let outgoing = UnboundedReceiverStream::new(receiver).take_until(async move { closed.notified().await });
    let call = async {
        let mut incoming = ClusterServiceClient::new(transport)
            .max_decoding_message_size(core.config.max_message_bytes)
            .max_encoding_message_size(core.config.max_message_bytes)
            .attach(outgoing)
            .await
            .map_err(|status| format!("the JobManager refused the registration: {}", status.message()))?
            .into_inner();
        let first = incoming
            .message()
            .await
            .map_err(|status| format!("the JobManager refused the registration: {}", status.message()))?;
        Ok::<_, String>((incoming, first))
    };
    let (incoming, first) = tokio::time::timeout(REGISTRATION_TIMEOUT, call)
        .await
        .map_err(|_| "the JobManager does not answer the registration".to_owned())??;
    match first {
        Some(internal::ToTaskManager { epoch, message: Some(FromJobManager::Registered(registered)) }) => {
            let registration = Registration {
                epoch,
                heartbeat_interval: Duration::from_millis(registered.heartbeat_interval_ms.max(1)),
                heartbeat_timeout: Duration::from_millis(registered.heartbeat_timeout_ms.max(1)),
            };
            Ok((sender, incoming, registration, close))
        }
        Some(_) => Err("the JobManager sent something else before the registration's answer".into()),
        None => Err("the JobManager closed the stream instead of registering".into()),
    }
}
