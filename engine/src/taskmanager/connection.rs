//! The stream to the JobManager: registration, heartbeats, reports; again after each loss.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hurtig_proto::internal::v1 as internal;
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
    loop {
        let mut registered = false;
        let end = serve(&core, &mut stop, &mut registered).await;
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
        if registered {
            tracing::warn!(jobmanager = core.config.jobmanager, reason, "lost the JobManager");
            backoff = FIRST_BACKOFF;
            unregistered_since = Instant::now();
            told = None;
        } else {
            // Once for each reason: who starts it must see why it does not come up.
            if told.as_ref() != Some(&reason) {
                tracing::warn!(jobmanager = core.config.jobmanager, reason, "cannot register with the JobManager yet");
                told = Some(reason.clone());
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        let limit = core.config.registration_timeout;
        if !limit.is_zero() && unregistered_since.elapsed() > limit {
            let text = format!(
                "could not register with the JobManager at {} within {} s: {reason}",
                core.config.jobmanager,
                limit.as_secs()
            );
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

async fn serve(core: &Arc<Core>, stop: &mut watch::Receiver<bool>, registered: &mut bool) -> End {
    let connected = tokio::select! {
        connected = connect(core) => connected,
        () = stopped(stop) => return End::Stopped,
    };
    let (sender, mut incoming, registration, close) = match connected {
        Ok(connected) => connected,
        Err(reason) => return End::Lost(reason),
    };
    *registered = true;
    let session = Session::new(registration.epoch, sender);
    tracing::info!(
        jobmanager = core.config.jobmanager,
        resource_id = core.config.resource_id,
        epoch = session.epoch(),
        "registered"
    );
    let mut heartbeat = tokio::time::interval(registration.heartbeat_interval);
    let mut reports = tokio::time::interval(core.config.report_interval);
    reports.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut heard = Instant::now();
    let mut sequence = 0;
    loop {
        tokio::select! {
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

async fn connect(core: &Core) -> Result<Connected, String> {
    let address = &core.config.jobmanager;
    let endpoint = crate::tls::endpoint(address, core.config.exchange.tls.as_deref())
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
