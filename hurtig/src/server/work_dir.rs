//! Where a process keeps files on local disk.
//!
//! With an identity (`taskmanager.resource-id`) the folder is named by it and stays, so that the
//! next process of that identity finds the local copies of checkpoints. Without one it is new, and
//! removed at the end; what a killed process has left is removed by the next one that starts in the
//! same place. Such a folder has a file that its process holds a lock on: the lock ends with the
//! process, however it ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use hurtig_graph::config::{ConfigOption, Configuration, keys};
use tempfile::TempDir;

use crate::error::{Error, Result};

/// A folder for one process.
pub(super) enum WorkDir {
    Kept(PathBuf),
    /// With the lock that says that the process lives, held for as long.
    Removed(TempDir, #[expect(dead_code, reason = "held, not read")] File),
}

/// The locked file of a folder without an identity.
const LOCK: &str = "lock";

impl WorkDir {
    /// Makes the folder of a process with the given prefix (`tm` or `jm`). `own` is the key for
    /// processes of that role only.
    pub fn create(
        configuration: &Configuration,
        own: &ConfigOption,
        prefix: &str,
        resource_id: Option<&str>,
    ) -> Result<WorkDir> {
        let set = configuration.text(own).or_else(|| configuration.text(&keys::WORKING_DIR)).map(PathBuf::from);
        let temporary = || configuration.list(&keys::IO_TMP_DIRS).first().map(PathBuf::from);
        let base = set.or_else(temporary).unwrap_or_else(std::env::temp_dir);
        let failed = |path: &Path| Error::io(format!("cannot make the working directory {}", path.display()));
        std::fs::create_dir_all(&base).map_err(failed(&base))?;
        if let Some(id) = resource_id {
            let path = base.join(format!("{prefix}_{id}"));
            std::fs::create_dir_all(&path).map_err(failed(&path))?;
            return Ok(WorkDir::Kept(path));
        }
        let prefix = format!("hurtig-{prefix}-");
        remove_abandoned(&base, &prefix);
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(&base).map_err(failed(&base))?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file)).map_err(failed(&path))?;
        Ok(WorkDir::Removed(folder, lock))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            WorkDir::Kept(path) => path,
            WorkDir::Removed(folder, _) => folder.path(),
        }
    }
}

/// Deletes, in the background, the folders of processes that were killed. One without the file may
/// belong to a process that is just starting, and is left alone.
fn remove_abandoned(base: &Path, prefix: &str) {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let mut abandoned = Vec::new();
    for folder in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()) {
        let Ok(file) = File::options().write(true).open(folder.join(LOCK)) else { continue };
        match file.try_lock() {
            Ok(()) => abandoned.push((folder, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, folder = %folder.display(), "cannot tell whether a process still uses a folder");
            }
        }
    }
    if abandoned.is_empty() {
        return;
    }
    let remove = move || {
        for (folder, _lock) in abandoned {
            tracing::info!(folder = %folder.display(), "removing what a killed process has left");
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot remove what a killed process has left");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("clean-up".into()).spawn(remove) {
        tracing::warn!(%error, "cannot start a thread to remove what killed processes have left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_an_identity_stays_and_one_without_goes() {
        let base = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::default();
        configuration.set("process.working-dir", base.path().display().to_string());
        let make = |id| WorkDir::create(&configuration, &keys::TASKMANAGER_WORKING_DIR, "tm", id).unwrap();
        let kept = make(Some("worker-1"));
        assert_eq!(kept.path(), base.path().join("tm_worker-1"));
        let removed = make(None);
        let path = removed.path().to_owned();
        drop((kept, removed));
        assert!(base.path().join("tm_worker-1").exists() && !path.exists());
    }

    #[test]
    fn the_folder_of_a_killed_process_goes_at_the_next_start_and_that_of_a_live_one_stays() {
        let base = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::default();
        configuration.set("process.working-dir", base.path().display().to_string());
        let make = || WorkDir::create(&configuration, &keys::TASKMANAGER_WORKING_DIR, "tm", None).unwrap();
        let live = make();
        let starting = base.path().join("hurtig-tm-starting");
        std::fs::create_dir(&starting).unwrap();
        let killed = base.path().join("hurtig-tm-killed");
        std::fs::create_dir_all(killed.join("db")).unwrap();
        std::fs::write(killed.join(LOCK), "").unwrap();
        let next = make();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while killed.exists() {
            assert!(std::time::Instant::now() < deadline, "the folder is not removed");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(live.path().exists() && next.path().exists() && starting.exists());
    }
}
