//! `hurtig.internal.v1.ClusterService`: one stream in each direction for each TaskManager.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::cluster_service_server::ClusterService;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::client::Client;
use super::driver::{Command, SessionStream};
use crate::error::SchedulerError;
use crate::master::Event;
use crate::slots::SessionId;

/// How long a TaskManager that was given up is listened to.
const LATE_MESSAGES: Duration = Duration::from_secs(300);

pub(super) struct ClusterServiceImpl {
    client: Client,
    sessions: AtomicU64,
}

impl ClusterServiceImpl {
    pub(super) fn new(client: Client) -> Self {
        ClusterServiceImpl { client, sessions: AtomicU64::new(1) }
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterServiceImpl {
    type AttachStream = UnboundedReceiverStream<Result<internal::ToTaskManager, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<internal::FromTaskManager>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        // Control messages only: their number is bounded by tasks and checkpoints.
        let (sender, receiver) = mpsc::unbounded_channel();
        let (open, closed) = oneshot::channel();
        let commands = self.client.leader()?;
        // A stream belongs to one term of leadership: what comes later goes nowhere.
        let attach = Command::Attach(session, SessionStream { to: sender, _open: open });
        commands.send(attach).map_err(|_| SchedulerError::Stopped)?;
        tokio::spawn(read(commands, session, request.into_inner(), closed));
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

async fn read(
    commands: mpsc::UnboundedSender<Command>,
    session: SessionId,
    mut stream: Streaming<internal::FromTaskManager>,
    mut closed: oneshot::Receiver<()>,
) {
    let reason = loop {
        let message = tokio::select! {
            biased;
            _ = &mut closed => return refuse_late(commands, session, stream).await,
            message = stream.message() => message,
        };
        match message {
            Ok(Some(message)) => {
                let message = Box::new(message);
                let _ = commands.send(Command::Event(Event::FromTaskManager { session, message }));
            }
            Ok(None) => break "it has closed the connection".to_owned(),
            Err(status) => break format!("the connection is broken: {}", status.message()),
        }
    };
    let _ = commands.send(Command::Event(Event::Disconnected { session, reason }));
}

/// A TaskManager that was given up (it was paused, or cut off) may not know yet. What it still sends
/// goes to the state machine, which refuses it and says so.
async fn refuse_late(
    commands: mpsc::UnboundedSender<Command>,
    session: SessionId,
    mut stream: Streaming<internal::FromTaskManager>,
) {
    let late = async {
        while let Ok(Some(message)) = stream.message().await {
            let _ = commands.send(Command::Event(Event::FromTaskManager { session, message: Box::new(message) }));
        }
    };
    tokio::select! {
        () = late => {}
        () = commands.closed() => {}
        () = tokio::time::sleep(LATE_MESSAGES) => {}
    }
}
