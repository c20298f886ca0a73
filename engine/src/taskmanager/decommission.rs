//! That the TaskManager is to go: who has said so, that the JobManager knows, and when nothing is left.
//!
//! A notice is kept and told to every JobManager that the TaskManager registers with, so that a new leader
//! goes on with what an earlier one has begun. Nothing else changes here: tasks run until the JobManager
//! takes them away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hurtig_proto::internal::v1 as internal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::Core;

/// How often a TaskManager without a JobManager looks whether tasks are left.
const ALONE_CHECK: Duration = Duration::from_millis(100);
/// A notice file that is larger is not read.
const MOST_FILE_BYTES: u64 = 64 << 10;

/// Where a notice may be found, and how long one without a time leaves.
#[derive(Debug, Clone)]
pub struct DecommissionConfig {
    /// From a notice without a time to the end.
    pub timeout: Duration,
    /// File whose existence is a notice.
    pub notice_file: Option<PathBuf>,
    /// How often it is looked for.
    pub poll: Duration,
}

#[derive(Debug, Clone)]
struct Notice {
    source: String,
    /// When the process ends; `None`: not known.
    deadline: Option<Instant>,
}

/// See the module documentation.
pub struct Decommission {
    notice: watch::Sender<Option<Notice>>,
    drained: watch::Sender<bool>,
    registered: AtomicBool,
}

impl Decommission {
    pub(super) fn new() -> Decommission {
        let (notice, drained) = (watch::Sender::new(None), watch::Sender::new(false));
        Decommission { notice, drained, registered: AtomicBool::new(false) }
    }

    /// The TaskManager is to go. Of several notices the first names the source, and the one that leaves least time counts.
    pub fn notice(&self, source: &str, remaining: Option<Duration>) {
        let deadline = remaining.map(|remaining| Instant::now() + remaining);
        self.notice.send_modify(|known| match known {
            Some(known) => known.deadline = [known.deadline, deadline].into_iter().flatten().min(),
            None => {
                tracing::info!(
                    source,
                    remaining_ms = remaining.map(|r| r.as_millis() as u64),
                    "this TaskManager is to go"
                );
                *known = Some(Notice { source: source.to_owned(), deadline });
            }
        });
    }

    /// What the JobManager is to know; `None`: the TaskManager stays.
    pub(super) fn message(&self) -> Option<internal::DecommissionNotice> {
        let notice = self.notice.borrow();
        let notice = notice.as_ref()?;
        let left = notice.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_millis());
        let remaining_ms = left.map_or(0, |left| u64::try_from(left).unwrap_or(u64::MAX).max(1));
        Some(internal::DecommissionNotice { source: notice.source.clone(), remaining_ms })
    }

    /// Changes with each notice.
    pub(super) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        let mut changes = self.notice.subscribe();
        changes.mark_changed();
        changes
    }

    /// Whether a JobManager has it.
    pub(super) fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Release);
    }

    /// The JobManager says that nothing is left here.
    pub(super) fn set_drained(&self) {
        tracing::info!("nothing is left on this TaskManager");
        self.drained.send_replace(true);
    }
}

/// Returns when nothing is left on the TaskManager of `core`: the JobManager says so, or there is none
/// and no task runs.
pub(super) async fn left(core: &Core) {
    let mut drained = core.decommission.drained.subscribe();
    let alone = async {
        while core.decommission.registered.load(Ordering::Acquire) || core.has_tasks() {
            tokio::time::sleep(ALONE_CHECK).await;
        }
    };
    tokio::select! {
        // The sender lives as long as `core`.
        _ = drained.wait_for(|drained| *drained) => {}
        () = alone => {}
    }
}

/// Looks for the notice file until it is there.
pub(super) async fn watch_file(core: Arc<Core>) {
    let Some(config) = core.config.decommission.clone() else { return };
    let Some(file) = config.notice_file else { return };
    let core = Arc::downgrade(&core);
    loop {
        tokio::time::sleep(config.poll).await;
        let path = file.clone();
        let found = tokio::task::spawn_blocking(move || read(&path)).await.ok().flatten();
        let Some(core) = core.upgrade() else { return };
        if let Some(text) = found {
            let remaining = time_in(&text).map_or(config.timeout, |time| until(time, &core));
            return core.decommission.notice("notice file", Some(remaining));
        }
    }
}

/// The text of the file; `None`: there is none.
fn read(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > MOST_FILE_BYTES {
        return Some(String::new());
    }
    // That it cannot be read does not make it less of a notice.
    Some(std::fs::read_to_string(path).unwrap_or_default())
}

/// The time of a notice of EC2: `{"action": "terminate", "time": "2026-11-25T08:22:00Z"}`.
fn time_in(text: &str) -> Option<i64> {
    let notice: serde_json::Value = serde_json::from_str(text).ok()?;
    let time = chrono::DateTime::parse_from_rfc3339(notice.get("time")?.as_str()?).ok()?;
    Some(time.timestamp_millis())
}

fn until(time_ms: i64, core: &Core) -> Duration {
    Duration::from_millis(u64::try_from(time_ms - core.config.clock.now_ms()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_notice_is_read_and_anything_else_is_none() {
        assert_eq!(time_in(r#"{"action": "terminate", "time": "1970-01-01T00:00:07Z"}"#), Some(7_000));
        for text in ["", "soon", "{}", r#"{"time": 7}"#, r#"{"time": "tomorrow"}"#] {
            assert_eq!(time_in(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_notice_names_the_source_and_the_least_time_counts() {
        let decommission = Decommission::new();
        assert!(decommission.message().is_none());
        decommission.notice("request", None);
        assert_eq!(decommission.message().unwrap().remaining_ms, 0);
        decommission.notice("SIGTERM", Some(Duration::from_secs(100)));
        decommission.notice("SIGTERM", Some(Duration::from_secs(500)));
        let message = decommission.message().unwrap();
        assert!(message.source == "request" && (1..=100_000).contains(&message.remaining_ms), "{message:?}");
    }
}
