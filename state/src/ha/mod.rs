//! What JobManagers that stand in for each other keep in object storage: names and formats. Who may
//! write what is decided by `hurtig-scheduler`; TaskManagers only read who leads.
//!
//! ```text
//! <high-availability.storageDir>/<high-availability.cluster-id>/
//!   leader                        the lease
//!   jobs                          the registry of jobs and results
//!   graphs/<epoch>-<job>-<random> job graphs
//! ```

use bytes::Bytes;
use hurtig_graph::config::{Configuration, keys};
use hurtig_proto::internal::v1::{JobRegistry, LeaderLease};
use hurtig_proto::v1;

use crate::checkpoint::frame::{self, Kind};
use crate::error::{Result, StateError};
use crate::storage::{ObjectStores, Version, join};

/// The folder of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaDirectory {
    directory: String,
}

impl HaDirectory {
    /// The folder that `configuration` says; `None`: high availability is off.
    ///
    /// # Errors
    /// It is on without a folder.
    pub fn of(configuration: &Configuration) -> Result<Option<HaDirectory>> {
        let kind = configuration.text(&keys::HA_TYPE).unwrap_or("NONE");
        if kind.is_empty() || kind.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        let Some(base) = configuration.text(&keys::HA_STORAGE_DIR).filter(|dir| !dir.is_empty()) else {
            return Err(StateError::Config(format!(
                "{} is {kind}, but {} is not set: give a folder that all JobManagers and TaskManagers reach",
                keys::HA_TYPE.key,
                keys::HA_STORAGE_DIR.key
            )));
        };
        let cluster = configuration.text(&keys::HA_CLUSTER_ID).unwrap_or("/default").trim_matches('/');
        let directory = if cluster.is_empty() { base.to_owned() } else { join(base, cluster) };
        Ok(Some(HaDirectory { directory }))
    }

    /// The object of the lease.
    pub fn leader(&self) -> String {
        join(&self.directory, "leader")
    }

    /// The object of the registry.
    pub fn registry(&self) -> String {
        join(&self.directory, "jobs")
    }

    /// The folder of job graphs.
    pub fn graphs(&self) -> String {
        join(&self.directory, "graphs")
    }

    /// The object of a job graph of this name.
    pub fn graph(&self, name: &str) -> String {
        join(&self.graphs(), name)
    }
}

/// The lease; `None`: no JobManager has ever led.
pub async fn read_leader(stores: &ObjectStores, directory: &HaDirectory) -> Result<Option<LeaderLease>> {
    let object = directory.leader();
    read(stores, &object).await?.map(|(bytes, _)| decode_lease(&bytes, &object)).transpose()
}

/// An object and its version; `None`: there is none.
pub async fn read(stores: &ObjectStores, object: &str) -> Result<Option<(Bytes, Version)>> {
    match stores.get_versioned(object).await {
        Ok(found) => Ok(Some(found)),
        Err(StateError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a lease.
pub fn encode_lease(lease: &LeaderLease) -> Bytes {
    frame::encode(Kind::LeaderLease, lease)
}

/// Reads a lease; `object` names it in errors.
pub fn decode_lease(bytes: &[u8], object: &str) -> Result<LeaderLease> {
    frame::decode(Kind::LeaderLease, bytes, object)
}

/// The bytes of a registry.
pub fn encode_registry(registry: &JobRegistry) -> Bytes {
    frame::encode(Kind::JobRegistry, registry)
}

/// Reads a registry; `object` names it in errors.
pub fn decode_registry(bytes: &[u8], object: &str) -> Result<JobRegistry> {
    frame::decode(Kind::JobRegistry, bytes, object)
}

/// The bytes of a job graph.
pub fn encode_graph(graph: &v1::JobGraph) -> Bytes {
    frame::encode(Kind::JobGraph, graph)
}

/// Reads a job graph; `object` names it in errors.
pub fn decode_graph(bytes: &[u8], object: &str) -> Result<v1::JobGraph> {
    frame::decode(Kind::JobGraph, bytes, object)
}

#[cfg(test)]
mod tests {
    use hurtig_proto::internal::v1::RegisteredJob;

    use super::*;
    use crate::golden;

    #[test]
    fn the_formats_stay_readable() {
        let lease = LeaderLease {
            format_version: 1,
            epoch: 3,
            leader_id: "0123-3".into(),
            address: "10.0.0.1:6123".into(),
            renewals: 17,
            lease_ms: 10_000,
            released: false,
        };
        golden::check("leader-v1.bin", &encode_lease(&lease));
        assert_eq!(decode_lease(&encode_lease(&lease), "leader").unwrap(), lease);
        let result =
            v1::JobStatus { job_id: "ff".into(), state: "FINISHED".into(), end_time_ms: 9, ..Default::default() };
        let ended = RegisteredJob { job_id: "ff".into(), result: Some(result), ..Default::default() };
        let runs = RegisteredJob {
            job_id: "aa".into(),
            graph_object: "3-aa-01".into(),
            submitted_ms: 5,
            attempts_below: 20_000,
            cancel_requested: true,
            ..Default::default()
        };
        let registry = JobRegistry {
            format_version: 1,
            epoch: 3,
            leader_id: "0123-3".into(),
            changes: 8,
            jobs: vec![ended, runs],
        };
        golden::check("job-registry-v1.bin", &encode_registry(&registry));
        assert_eq!(decode_registry(&encode_registry(&registry), "jobs").unwrap(), registry);
        assert!(decode_registry(&encode_lease(&lease), "jobs").unwrap_err().to_string().contains("kind"));
    }

    #[test]
    fn a_folder_is_needed_where_high_availability_is_on() {
        let mut configuration = Configuration::default();
        assert_eq!(HaDirectory::of(&configuration).unwrap(), None);
        configuration.set("high-availability.type", "kubernetes".to_owned());
        assert!(HaDirectory::of(&configuration).unwrap_err().to_string().contains("high-availability.storageDir"));
        configuration.set("high-availability.storageDir", "s3p://bucket/ha".to_owned());
        assert_eq!(HaDirectory::of(&configuration).unwrap().unwrap().leader(), "s3p://bucket/ha/default/leader");
        configuration.set("high-availability.cluster-id", "/blue/one".to_owned());
        assert_eq!(HaDirectory::of(&configuration).unwrap().unwrap().registry(), "s3p://bucket/ha/blue/one/jobs");
    }
}
