//! Object storage for plain threads: each call runs on the runtime and waits for its end.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::runtime::{Handle, Runtime};

use super::{ObjectInfo, ObjectStores, Version};
use crate::error::{Result, StateError};

/// Where asynchronous work of blocking calls runs: on the runtime given, else on one of its own
/// that is started when first needed.
pub(super) struct WorkRuntime {
    given: Option<Handle>,
    own: OnceLock<Result<Runtime, String>>,
}

impl WorkRuntime {
    pub(super) fn new(given: Option<Handle>) -> Self {
        WorkRuntime { given, own: OnceLock::new() }
    }

    fn handle(&self) -> Result<Handle> {
        if let Some(handle) = &self.given {
            return Ok(handle.clone());
        }
        let start = || {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("hurtig-storage")
                .enable_all()
                .build()
                .map_err(|e| e.to_string())
        };
        match self.own.get_or_init(start) {
            Ok(runtime) => Ok(runtime.handle().clone()),
            Err(e) => Err(StateError::Storage(format!("cannot start the runtime of object storage: {e}"))),
        }
    }
}

impl Drop for WorkRuntime {
    fn drop(&mut self) {
        // A runtime must not be dropped in async code; this form of shutdown may be.
        if let Some(Ok(runtime)) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}

/// The operations of [`ObjectStores`] for threads that may block. Not to be called on a thread of an
/// async runtime.
pub struct BlockingStores<'a> {
    pub(super) stores: &'a ObjectStores,
}

impl BlockingStores<'_> {
    fn run<T, F, Fut>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(ObjectStores) -> Fut,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let future = operation(self.stores.clone());
        self.stores.inner.runtime.handle()?.spawn(async move {
            // The receiver waits below until this has run.
            let _ = send.send(future.await);
        });
        receive
            .recv()
            .unwrap_or_else(|_| Err(StateError::Storage("the runtime of object storage has been shut down".into())))
    }

    /// As [`ObjectStores::get`].
    pub fn get(&self, uri: &str) -> Result<Bytes> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.get(&uri).await })
    }

    /// As [`ObjectStores::get_versioned`].
    pub fn get_versioned(&self, uri: &str) -> Result<(Bytes, Version)> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.get_versioned(&uri).await })
    }

    /// As [`ObjectStores::get_range`].
    pub fn get_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.get_range(&uri, range).await })
    }

    /// As [`ObjectStores::get_to_file`].
    pub fn get_to_file(&self, uri: &str, range: Range<u64>, target: &Path) -> Result<u128> {
        let (uri, target) = (uri.to_owned(), target.to_owned());
        self.run(|stores| async move { stores.get_to_file(&uri, range, &target).await })
    }

    /// As [`ObjectStores::put`].
    pub fn put(&self, uri: &str, content: Bytes) -> Result<()> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.put(&uri, content).await })
    }

    /// As [`ObjectStores::put_file`].
    pub fn put_file(&self, uri: &str, source: &Path) -> Result<()> {
        let (uri, source) = (uri.to_owned(), source.to_owned());
        self.run(|stores| async move { stores.put_file(&uri, &source).await })
    }

    /// As [`ObjectStores::put_if_absent`].
    pub fn put_if_absent(&self, uri: &str, content: Bytes) -> Result<Version> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.put_if_absent(&uri, content).await })
    }

    /// As [`ObjectStores::compare_and_swap`].
    pub fn compare_and_swap(&self, uri: &str, expected: &Version, content: Bytes) -> Result<Version> {
        let (uri, expected) = (uri.to_owned(), expected.clone());
        self.run(|stores| async move { stores.compare_and_swap(&uri, &expected, content).await })
    }

    /// As [`ObjectStores::delete`].
    pub fn delete(&self, uri: &str) -> Result<()> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.delete(&uri).await })
    }

    /// As [`ObjectStores::delete_all`].
    pub fn delete_all(&self, directory: &str) -> Result<()> {
        let directory = directory.to_owned();
        self.run(|stores| async move { stores.delete_all(&directory).await })
    }

    /// As [`ObjectStores::list`].
    pub fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>> {
        let directory = directory.to_owned();
        self.run(|stores| async move { stores.list(&directory).await })
    }

    /// As [`ObjectStores::exists`].
    pub fn exists(&self, uri: &str) -> Result<bool> {
        let uri = uri.to_owned();
        self.run(|stores| async move { stores.exists(&uri).await })
    }

    /// Runs any asynchronous operation that needs the stores' runtime.
    pub fn block_on<T: Send + 'static>(&self, future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.run(|_| future)
    }
}

/// Runs file work where it may block: off the runtime's threads when called on one.
pub(super) async fn file_work<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if Handle::try_current().is_err() {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(StateError::Storage(format!("file operation was stopped: {e}"))))
}

/// The runtime is shared by all clones of an [`ObjectStores`].
pub(super) type SharedRuntime = Arc<WorkRuntime>;
