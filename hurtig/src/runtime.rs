//! The library's own async runtime, on its own threads.
//!
//! Nothing of Hurtig runs on a caller's thread or needs a caller's runtime: calls are spawned here
//! and awaited through a handle that works on any executor. Dropping the runtime ends its threads;
//! that works inside async code, since no runtime is dropped on the caller's thread.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use hurtig_graph::ErrorKind;
use tokio::runtime::Handle;

use crate::error::{Error, Result};

/// How long tasks that are still running may take to see that the runtime ends.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// An async runtime that lives as long as this value.
pub(crate) struct OwnRuntime {
    handle: Handle,
    /// Dropped to end the runtime.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnRuntime {
    /// Starts a runtime with this many I/O threads.
    pub fn start(threads: usize) -> Result<OwnRuntime> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads.max(1))
                .thread_name("hurtig-io")
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => {
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    // Returns when the sender is dropped.
                    let _ = stopped.recv();
                    runtime.shutdown_timeout(SHUTDOWN);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new()
            .name("hurtig-runtime".into())
            .spawn(body)
            .map_err(Error::io("cannot start a thread"))?;
        match started.recv() {
            Ok(Ok(handle)) => Ok(OwnRuntime { handle, stop: Some(stop), thread: Some(thread) }),
            Ok(Err(error)) => Err(Error::io("cannot start the async runtime")(error)),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the async runtime ended while it started")),
        }
    }

    /// For spawning.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future` here and gives its output to whatever executor awaits it. Dropping the returned
    /// future cancels the work.
    pub fn run<T, F>(&self, future: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let task = AbortOnDrop(self.handle.spawn(future));
        async move {
            let mut task = task;
            match (&mut task.0).await {
                Ok(result) => result,
                Err(error) if error.is_panic() => {
                    Err(Error::new(ErrorKind::Internal, format!("a background task panicked: {error}")))
                }
                Err(_) => Err(Error::new(ErrorKind::Connection, "the cluster was shut down")),
            }
        }
    }

    /// Runs `future` here and blocks the calling thread, which must be an ordinary one.
    pub fn run_blocking<T, F>(&self, future: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (send, receive) = mpsc::channel();
        self.handle.spawn(async move { drop(send.send(future.await)) });
        receive
            .recv()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a background task ended without an answer")))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        self.stop.take();
        // The last owner may be a task of this very runtime: then its thread ends by itself.
        let inside = Handle::try_current().is_ok_and(|current| current.id() == self.handle.id());
        if let Some(thread) = self.thread.take().filter(|_| !inside) {
            let _ = thread.join();
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_for_any_executor_and_ends_with_the_runtime() {
        // Without I/O or timers: nothing of the caller's executor is needed.
        let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtime = OwnRuntime::start(1).unwrap();
        let answer = runtime.run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(6 * 7)
        });
        assert_eq!(executor.block_on(answer).unwrap(), 42);
        assert_eq!(runtime.run_blocking(async { Ok("done") }).unwrap(), "done");
        let endless = runtime.run(async {
            std::future::pending::<()>().await;
            Ok(())
        });
        drop(runtime);
        assert_eq!(executor.block_on(endless).unwrap_err().kind(), ErrorKind::Connection);
    }

    #[tokio::test]
    async fn it_can_be_dropped_in_async_code() {
        let runtime = OwnRuntime::start(1).unwrap();
        assert_eq!(runtime.run(async { Ok(1) }).await.unwrap(), 1);
        drop(runtime);
    }
}
