//! Finding the JobManager that leads.

use std::time::{Duration, Instant};

use hurtig_graph::ErrorKind;
use hurtig_graph::config::TlsFiles;
use hurtig_proto::v1;
use hurtig_proto::v1::job_service_client::JobServiceClient;
use hurtig_scheduler::error::LEADER_METADATA;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::error::{Error, Result, root_reason};

/// Largest message that is accepted.
const MAX_MESSAGE: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long JobManagers may stand by without one that leads.
const LEADERLESS_PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

type Service = JobServiceClient<Channel>;

/// Connects to the first of `addresses` (separated by commas) that leads, or to the leader that one
/// of them names. While a leader is being found, waits.
pub(super) async fn connect(addresses: &str, tls: Option<&TlsFiles>) -> Result<(Service, String)> {
    let start = Instant::now();
    loop {
        let mut last = None;
        let mut leaderless = false;
        for address in addresses.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match connect_one(address, tls).await {
                Ok(Found::Leader(service)) => return Ok((service, address.to_owned())),
                Ok(Found::Standby { leader, status }) => {
                    leaderless = true;
                    last = Some(Error::from(status));
                    let Some(leader) = leader else { continue };
                    if let Ok(Found::Leader(service)) = connect_one(&leader, tls).await {
                        return Ok((service, leader));
                    }
                }
                Err(error) => last = last.or(Some(error)),
            }
        }
        let none = || Error::new(ErrorKind::Config, "an address of a JobManager is needed: write host:port");
        if !leaderless || start.elapsed() > LEADERLESS_PATIENCE {
            return Err(last.unwrap_or_else(none));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Found {
    Leader(Service),
    Standby { leader: Option<String>, status: Status },
}

async fn connect_one(address: &str, tls: Option<&TlsFiles>) -> Result<Found> {
    let unreachable = |reason: String| {
        let message =
            format!("cannot reach the JobManager at {address}: {reason}; is it running, and is the address right?");
        Error::new(ErrorKind::Connection, message)
    };
    let endpoint = hurtig_engine::tls::endpoint(address, tls)
        .map_err(|reason| Error::new(ErrorKind::Config, reason))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(|e| unreachable(root_reason(&e)))?;
    let mut service =
        JobServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let asked = tokio::time::timeout(CONNECT_TIMEOUT, service.cluster_overview(v1::ClusterOverviewRequest {})).await;
    match asked {
        Ok(Err(status)) if stands_by(&status) => {
            let leader = status.metadata().get(LEADER_METADATA).and_then(|leader| leader.to_str().ok());
            Ok(Found::Standby { leader: leader.map(str::to_owned), status })
        }
        Err(_) => Err(unreachable("it does not answer".to_owned())),
        // Whatever else is wrong, the call that matters will say so.
        Ok(_) => Ok(Found::Leader(service)),
    }
}

/// A JobManager that leads answers.
fn stands_by(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("stands by")
}
