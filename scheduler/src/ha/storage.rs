//! What high availability needs of an object store.
//!
//! The state machines ask by [`HaRequest`]s and are told [`HaReply`]s, so that the simulator can lose
//! and delay them. Job graphs are large and written once; the shell moves them by [`HaStorage`]
//! directly.

use async_trait::async_trait;
use hurtig_graph::ids::JobId;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;

use crate::storage::{StorageError, Version};

/// The objects that change by compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// Who leads.
    Leader,
    /// Which jobs there are.
    Registry,
}

/// The content of an [`Object`].
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Of [`Object::Leader`].
    Lease(internal::LeaderLease),
    /// Of [`Object::Registry`].
    Registry(internal::JobRegistry),
}

impl Content {
    /// The object that it is of.
    pub fn object(&self) -> Object {
        match self {
            Content::Lease(_) => Object::Leader,
            Content::Registry(_) => Object::Registry,
        }
    }
}

/// A call that a state machine wants made.
#[derive(Debug, Clone, PartialEq)]
pub enum HaRequest {
    /// Read an object and its version.
    Load(Object),
    /// Replace an object if its version is still `expected` (`None`: if there is none).
    Swap {
        /// The new content.
        content: Content,
        /// The version that it replaces.
        expected: Option<Version>,
    },
}

/// The answer to an [`HaRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum HaReply {
    /// To [`HaRequest::Load`].
    Loaded(Result<Option<(Content, Version)>, StorageError>),
    /// To [`HaRequest::Swap`].
    Swapped(Result<Version, StorageError>),
}

impl HaReply {
    /// The answer to `request` that says that it failed.
    pub fn of(request: &HaRequest, error: StorageError) -> HaReply {
        match request {
            HaRequest::Load(_) => HaReply::Loaded(Err(error)),
            HaRequest::Swap { .. } => HaReply::Swapped(Err(error)),
        }
    }
}

/// The object store of a cluster.
#[async_trait]
pub trait HaStorage: Send + Sync {
    /// Reads an object; `None`: there is none.
    async fn load(&self, object: Object) -> Result<Option<(Content, Version)>, StorageError>;

    /// Replaces the object of `content` if its version is still `expected`.
    async fn swap(&self, content: &Content, expected: Option<&Version>) -> Result<Version, StorageError>;

    /// Writes a job graph under a new name, as the leader of `epoch`, and returns that.
    async fn write_graph(&self, job: &JobId, graph: &v1::JobGraph, epoch: u64) -> Result<String, StorageError>;

    /// Reads a job graph.
    async fn read_graph(&self, name: &str) -> Result<v1::JobGraph, StorageError>;

    /// Deletes the job graphs of leaders before `epoch` that the registry does not name: what
    /// submissions that came to nothing have left.
    async fn sweep_graphs(&self, epoch: u64) -> Result<(), StorageError>;

    /// Deletes a job graph; one that does not exist is no error.
    async fn delete_graph(&self, name: &str) -> Result<(), StorageError>;
}

/// Makes the call that `request` describes.
pub async fn perform(storage: &dyn HaStorage, request: HaRequest) -> HaReply {
    match request {
        HaRequest::Load(object) => HaReply::Loaded(storage.load(object).await),
        HaRequest::Swap { content, expected } => HaReply::Swapped(storage.swap(&content, expected.as_ref()).await),
    }
}

/// The objects in memory, for tests and the simulator: does at once what it is asked.
#[derive(Debug, Default, Clone)]
pub struct MemoryHaStore {
    leader: Option<(Content, u64)>,
    registry: Option<(Content, u64)>,
    swaps: u64,
}

impl MemoryHaStore {
    /// Does what `request` asks.
    pub fn apply(&mut self, request: &HaRequest) -> HaReply {
        match request {
            HaRequest::Load(object) => {
                let found = self.slot(*object).as_ref();
                HaReply::Loaded(Ok(found.map(|(content, version)| (content.clone(), Version(version.to_string())))))
            }
            HaRequest::Swap { content, expected } => HaReply::Swapped(self.swap(content, expected.as_ref())),
        }
    }

    fn swap(&mut self, content: &Content, expected: Option<&Version>) -> Result<Version, StorageError> {
        self.swaps += 1;
        let version = self.swaps;
        let slot = self.slot(content.object());
        let current = slot.as_ref().map(|(_, version)| Version(version.to_string()));
        if current.as_ref() != expected {
            return Err(StorageError::Conflict("the object has another version than expected".into()));
        }
        *slot = Some((content.clone(), version));
        Ok(Version(version.to_string()))
    }

    fn slot(&mut self, object: Object) -> &mut Option<(Content, u64)> {
        match object {
            Object::Leader => &mut self.leader,
            Object::Registry => &mut self.registry,
        }
    }

    /// The lease.
    pub fn lease(&self) -> Option<&internal::LeaderLease> {
        match &self.leader {
            Some((Content::Lease(lease), _)) => Some(lease),
            _ => None,
        }
    }

    /// The registry.
    pub fn registry(&self) -> Option<&internal::JobRegistry> {
        match &self.registry {
            Some((Content::Registry(registry), _)) => Some(registry),
            _ => None,
        }
    }
}
