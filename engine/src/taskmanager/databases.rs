//! Where the live databases of tasks lie: in the working directory, or in the folders of
//! `state.backend.rocksdb.localdir`.
//!
//! Databases are of one attempt and worth nothing after the process, so what an earlier process of the
//! same resource id left is removed at the start, and what this one has at its end.

use std::path::{Path, PathBuf};

use hurtig_graph::config::keys;
use hurtig_graph::ids::AttemptId;

use super::config::TaskManagerConfig;
use crate::error::{EngineError, Result};

/// Folder of the databases in the working directory.
const DATABASES: &str = "db";

/// See the [module](self).
pub(super) struct DatabaseFolders {
    /// At least one.
    folders: Vec<PathBuf>,
    /// Not in the working directory, which others remove.
    own: bool,
}

impl DatabaseFolders {
    /// Makes the folders usable and removes what an earlier process left there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub(super) fn open(config: &TaskManagerConfig) -> Result<DatabaseFolders> {
        let listed = config.configuration.text(&keys::ROCKSDB_LOCAL_DIR).unwrap_or_default();
        let listed = listed.split([',', ':']).map(str::trim).filter(|f| !f.is_empty());
        let name = format!("hurtig-{}", config.resource_id.replace(['/', '\\'], "_"));
        let mut folders: Vec<PathBuf> = listed.map(|folder| Path::new(folder).join(&name)).collect();
        let own = !folders.is_empty();
        if !own {
            folders.push(config.work_dir.join(DATABASES));
        }
        for folder in &folders {
            remove(folder);
            if own {
                std::fs::create_dir_all(folder).map_err(|source| EngineError::Io {
                    context: format!("cannot make the folder {} ({})", folder.display(), keys::ROCKSDB_LOCAL_DIR.key),
                    source,
                })?;
            }
        }
        Ok(DatabaseFolders { folders, own })
    }

    /// A new path for the database of an attempt.
    pub(super) fn of_attempt(&self, attempt: &AttemptId) -> PathBuf {
        let folder = &self.folders[attempt.subtask as usize % self.folders.len()];
        let unique = uuid::Uuid::new_v4().simple().to_string();
        folder.join(attempt.job.as_str()).join(format!("{}-{}-{}", attempt.subtask, attempt.attempt, &unique[..12]))
    }
}

impl Drop for DatabaseFolders {
    fn drop(&mut self) {
        if self.own {
            self.folders.iter().for_each(|folder| remove(folder));
        }
    }
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => tracing::debug!(folder = %folder.display(), "removed databases"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(folder = %folder.display(), %error, "databases cannot be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_graph::config::Configuration;
    use hurtig_graph::ids::JobId;

    #[test]
    fn folders_take_turns_and_are_emptied_at_both_ends() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let mut configuration = Configuration::default();
        configuration.set("taskmanager.resource-id", "tm/1");
        configuration.set("state.backend.rocksdb.localdir", format!("{},{}", a.display(), b.display()));
        let config = TaskManagerConfig::from_configuration(&configuration, "x:1", directory.path()).unwrap();
        std::fs::create_dir_all(a.join("hurtig-tm_1/left")).unwrap();
        let folders = DatabaseFolders::open(&config).unwrap();
        assert!(!a.join("hurtig-tm_1/left").exists());
        let of = |subtask| {
            folders.of_attempt(&AttemptId { job: JobId::from_u128(1), vertex: "v".into(), subtask, attempt: 0 })
        };
        assert!(of(0).starts_with(&a) && of(1).starts_with(&b) && of(2).starts_with(&a));
        assert_ne!(of(0), of(0));
        std::fs::create_dir_all(of(1)).unwrap();
        drop(folders);
        assert!(!b.join("hurtig-tm_1").exists());
    }
}
