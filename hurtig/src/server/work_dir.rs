//! Where a process keeps files on local disk.
//!
//! With an identity (`taskmanager.resource-id`) the folder is named by it and stays, so that the
//! next process of that identity finds the local copies of checkpoints. Without one it is new, and
//! removed at the end.

use std::path::{Path, PathBuf};

use hurtig_graph::config::{ConfigOption, Configuration, keys};
use tempfile::TempDir;

use crate::error::{Error, Result};

/// A folder for one process.
pub(super) enum WorkDir {
    Kept(PathBuf),
    Removed(TempDir),
}

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
        let folder = tempfile::Builder::new().prefix(&format!("hurtig-{prefix}-")).tempdir_in(&base);
        Ok(WorkDir::Removed(folder.map_err(failed(&base))?))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            WorkDir::Kept(path) => path,
            WorkDir::Removed(folder) => folder.path(),
        }
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
}
