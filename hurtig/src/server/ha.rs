//! Leadership, jobs and results in object storage, for the JobManager; see `hurtig_state::ha` for the
//! names and formats.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hurtig_graph::config::{Configuration, keys};
use hurtig_graph::ids::JobId;
use hurtig_proto::v1;
use hurtig_scheduler::ha::{Content, HaStorage, LeaseSettings, Object};
use hurtig_scheduler::shell::HaServices;
use hurtig_scheduler::storage::{StorageError, Version};
use hurtig_state::ha::{self, HaDirectory};
use hurtig_state::storage::{self, ObjectStores};

use super::storage::storage_error;
use crate::error::{Error, Result};
use hurtig_graph::ErrorKind;

/// The folder of one cluster.
pub(super) struct HaObjects {
    stores: Arc<ObjectStores>,
    directory: HaDirectory,
}

/// What a JobManager needs where the configuration says that others stand in for it; reached by
/// others at `host`, if that is set.
pub(super) fn services(configuration: &Configuration, stores: Arc<ObjectStores>) -> Result<Option<HaServices>> {
    let Some(directory) = HaDirectory::of(configuration)? else { return Ok(None) };
    let lease_ms = configuration.duration_ms(&keys::HA_LEASE)?.unwrap_or(10_000);
    if lease_ms < 500 {
        let reason = format!("{}: {lease_ms} ms is too short, it must be at least 500 ms", keys::HA_LEASE.key);
        return Err(Error::new(ErrorKind::Config, reason));
    }
    let reconcile = Duration::from_millis(configuration.duration_ms(&keys::HA_RECONCILE)?.unwrap_or(10_000));
    Ok(Some(HaServices {
        storage: Arc::new(HaObjects { stores, directory }),
        address: None,
        lease: LeaseSettings { lease_ms, retry_ms: (lease_ms / 10).clamp(50, 1_000) },
        reconcile,
    }))
}

#[async_trait]
impl HaStorage for HaObjects {
    async fn load(&self, object: Object) -> Result<Option<(Content, Version)>, StorageError> {
        let name = match object {
            Object::Leader => self.directory.leader(),
            Object::Registry => self.directory.registry(),
        };
        let Some((bytes, version)) = ha::read(&self.stores, &name).await.map_err(storage_error)? else {
            return Ok(None);
        };
        let content = match object {
            Object::Leader => ha::decode_lease(&bytes, &name).map(Content::Lease),
            Object::Registry => ha::decode_registry(&bytes, &name).map(Content::Registry),
        };
        Ok(Some((content.map_err(storage_error)?, Version(version.as_str().to_owned()))))
    }

    async fn swap(&self, content: &Content, expected: Option<&Version>) -> Result<Version, StorageError> {
        let (name, bytes) = match content {
            Content::Lease(lease) => (self.directory.leader(), ha::encode_lease(lease)),
            Content::Registry(registry) => (self.directory.registry(), ha::encode_registry(registry)),
        };
        let written = match expected {
            None => self.stores.put_if_absent(&name, bytes).await,
            Some(version) => {
                let version = storage::Version::from(version.0.clone());
                self.stores.compare_and_swap(&name, &version, bytes).await
            }
        };
        Ok(Version(written.map_err(storage_error)?.as_str().to_owned()))
    }

    async fn write_graph(&self, job: &JobId, graph: &v1::JobGraph, epoch: u64) -> Result<String, StorageError> {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{epoch}-{job}-{}", &random[..12]);
        let written = self.stores.put_if_absent(&self.directory.graph(&name), ha::encode_graph(graph)).await;
        written.map_err(storage_error)?;
        Ok(name)
    }

    async fn read_graph(&self, name: &str) -> Result<v1::JobGraph, StorageError> {
        let object = self.directory.graph(name);
        let bytes = self.stores.get(&object).await.map_err(storage_error)?;
        ha::decode_graph(&bytes, &object).map_err(storage_error)
    }

    async fn sweep_graphs(&self, epoch: u64) -> Result<(), StorageError> {
        let found = self.stores.list(&self.directory.graphs()).await.map_err(storage_error)?;
        let Some((Content::Registry(registry), _)) = self.load(Object::Registry).await? else { return Ok(()) };
        if registry.epoch != epoch {
            return Ok(());
        }
        for object in found {
            let name = object.uri.rsplit('/').next().unwrap_or_default();
            let of = name.split('-').next().and_then(|epoch| epoch.parse::<u64>().ok());
            let older = of.is_some_and(|of| of < epoch);
            if older && !registry.jobs.iter().any(|job| job.graph_object == name) {
                self.stores.delete(&object.uri).await.map_err(storage_error)?;
            }
        }
        Ok(())
    }

    async fn delete_graph(&self, name: &str) -> Result<(), StorageError> {
        self.stores.delete(&self.directory.graph(name)).await.map_err(storage_error)
    }
}

#[cfg(test)]
mod tests {
    use hurtig_proto::internal::v1::{JobRegistry, LeaderLease, RegisteredJob};

    use super::*;

    fn objects(base: &std::path::Path) -> Arc<dyn HaStorage> {
        let mut configuration = Configuration::default();
        configuration.set("high-availability.type", "zookeeper".to_owned());
        configuration.set("high-availability.storageDir", format!("file://{}", base.display()));
        services(&configuration, Arc::new(ObjectStores::default())).unwrap().unwrap().storage
    }

    #[tokio::test]
    async fn a_lease_is_replaced_only_on_the_version_last_read() {
        let base = tempfile::tempdir().unwrap();
        let objects = objects(base.path());
        assert_eq!(objects.load(Object::Leader).await.unwrap(), None);
        let lease = |epoch| Content::Lease(LeaderLease { epoch, ..LeaderLease::default() });
        let first = objects.swap(&lease(1), None).await.unwrap();
        assert!(matches!(objects.swap(&lease(2), None).await, Err(StorageError::Conflict(_))));
        let second = objects.swap(&lease(2), Some(&first)).await.unwrap();
        assert!(matches!(objects.swap(&lease(3), Some(&first)).await, Err(StorageError::Conflict(_))));
        assert_eq!(objects.load(Object::Leader).await.unwrap(), Some((lease(2), second)));
    }

    #[tokio::test]
    async fn a_sweep_takes_graphs_of_earlier_leaders_that_the_registry_does_not_name() {
        let base = tempfile::tempdir().unwrap();
        let objects = objects(base.path());
        let (job, graph) = (JobId::from_u128(7), v1::JobGraph::default());
        let mut names = Vec::new();
        for epoch in [1, 1, 2] {
            names.push(objects.write_graph(&job, &graph, epoch).await.unwrap());
        }
        let jobs = vec![RegisteredJob { graph_object: names[0].clone(), ..RegisteredJob::default() }];
        let registry = JobRegistry { epoch: 2, jobs, ..JobRegistry::default() };
        objects.swap(&Content::Registry(registry), None).await.unwrap();
        objects.sweep_graphs(2).await.unwrap();
        assert!(objects.read_graph(&names[0]).await.is_ok() && objects.read_graph(&names[2]).await.is_ok());
        assert!(matches!(objects.read_graph(&names[1]).await, Err(StorageError::NotFound(_))));
    }
}
