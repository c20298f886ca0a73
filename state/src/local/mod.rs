//! Checkpoint directories kept on local disk, so that a restart need not read object storage.
//!
//! `<working directory>/localState/<job>/<vertex>-<subtask>/chk-<id>/` holds `db/` (hard links of the
//! files of the RocksDB checkpoint) and `manifest` (the acknowledged `KeyedSnapshot`: names, sizes
//! and hashes). It appears under this name only when complete, and stays until a later checkpoint
//! completes. A local copy is never the truth: a restore takes from it the files that are exactly
//! those of the checkpoint to restore, and everything else from object storage.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use hurtig_proto::internal::v1::LocalState;
use hurtig_proto::v1;

use crate::checkpoint::frame::{self, Kind};
use crate::error::{Result, StateError};

const MANIFEST: &str = "manifest";
const UNFINISHED: &str = ".tmp";

/// The name of an execution of a subtask, for directories and object names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName {
    /// 32 hex digits.
    pub job_id: String,
    /// The vertex.
    pub vertex_id: String,
    /// From 0.
    pub subtask: u32,
    /// From 0.
    pub attempt: u32,
}

impl TaskName {
    pub(crate) fn object_prefix(&self) -> String {
        format!("{}-{}-{}", escape(&self.vertex_id), self.subtask, self.attempt)
    }
}

/// The local checkpoints of one TaskManager.
#[derive(Debug)]
pub struct LocalStateStore {
    root: PathBuf,
}

/// A complete local checkpoint.
#[derive(Debug)]
pub(crate) struct LocalCheckpoint {
    pub(crate) database: PathBuf,
    pub(crate) manifest: v1::KeyedSnapshot,
}

impl LocalStateStore {
    /// Opens (or creates) the store under a TaskManager's working directory and removes what an
    /// earlier process left unfinished.
    pub fn open(working_directory: &Path) -> Result<Self> {
        let root = working_directory.join("localState");
        fs::create_dir_all(&root).map_err(|e| failed("create", &root, &e))?;
        let store = LocalStateStore { root };
        for task in store.tasks() {
            for (name, path) in directories(&task.path) {
                if name.ends_with(UNFINISHED) {
                    remove(&path);
                }
            }
        }
        Ok(store)
    }

    /// All complete local checkpoints, for the registration at the JobManager, in a stable order.
    /// Damaged ones are removed.
    pub fn inventory(&self) -> Vec<LocalState> {
        let mut found = Vec::new();
        for task in self.tasks() {
            for (checkpoint, path) in checkpoints(&task.path) {
                match read_manifest(&path) {
                    Ok(manifest) => found.push(LocalState {
                        job_id: task.job_id.clone(),
                        vertex_id: task.vertex_id.clone(),
                        subtask: task.subtask,
                        checkpoint_id: checkpoint,
                        key_group_start: manifest.key_group_start,
                        key_group_end: manifest.key_group_end,
                        bytes: manifest.total_bytes,
                    }),
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "removing a damaged local checkpoint");
                        remove(&path);
                    }
                }
            }
        }
        found
    }

    /// Removes everything kept for a job.
    pub fn drop_job(&self, job_id: &str) {
        remove(&self.root.join(escape(job_id)));
    }

    fn task_directory(&self, task: &TaskName) -> PathBuf {
        self.root.join(escape(&task.job_id)).join(format!("{}-{}", escape(&task.vertex_id), task.subtask))
    }

    fn unfinished(&self, task: &TaskName, checkpoint: u64) -> PathBuf {
        self.task_directory(task).join(format!("chk-{checkpoint}{UNFINISHED}"))
    }

    fn finished(&self, task: &TaskName, checkpoint: u64) -> PathBuf {
        self.task_directory(task).join(format!("chk-{checkpoint}"))
    }

    /// The path at which the database files of a checkpoint are to be put; its parent exists.
    pub(crate) fn prepare(&self, task: &TaskName, checkpoint: u64) -> Result<PathBuf> {
        let directory = self.unfinished(task, checkpoint);
        remove(&directory);
        fs::create_dir_all(&directory).map_err(|e| failed("create", &directory, &e))?;
        Ok(directory.join("db"))
    }

    /// Declares what [`LocalStateStore::prepare`] began complete.
    pub(crate) fn seal(&self, task: &TaskName, checkpoint: u64, snapshot: &v1::KeyedSnapshot) -> Result<()> {
        let (from, to) = (self.unfinished(task, checkpoint), self.finished(task, checkpoint));
        let manifest = from.join(MANIFEST);
        fs::write(&manifest, frame::encode(Kind::LocalManifest, snapshot))
            .map_err(|e| failed("write", &manifest, &e))?;
        // Of an earlier attempt that did not complete this checkpoint.
        remove(&to);
        fs::rename(&from, &to).map_err(|e| failed("rename", &from, &e))
    }

    /// Removes what was kept or begun for a checkpoint.
    pub(crate) fn discard(&self, task: &TaskName, checkpoint: u64) {
        remove(&self.unfinished(task, checkpoint));
        remove(&self.finished(task, checkpoint));
    }

    /// Checkpoint `checkpoint` is complete: removes the older ones.
    pub(crate) fn retain_from(&self, task: &TaskName, checkpoint: u64) {
        for (id, path) in checkpoints(&self.task_directory(task)) {
            if id < checkpoint {
                remove(&path);
            }
        }
    }

    /// Checkpoint `checkpoint` is restored: removes all others, which cannot be restored any more.
    pub(crate) fn retain_only(&self, task: &TaskName, checkpoint: u64) {
        for (id, path) in checkpoints(&self.task_directory(task)) {
            if id != checkpoint {
                remove(&path);
            }
        }
    }

    /// The local copy of a snapshot of any subtask of the vertex, by the identity of its database.
    pub(crate) fn find(&self, task: &TaskName, checkpoint: u64, database_id: &str) -> Option<LocalCheckpoint> {
        self.tasks()
            .into_iter()
            .filter(|t| t.job_id == task.job_id && t.vertex_id == task.vertex_id)
            .map(|t| t.path.join(format!("chk-{checkpoint}")))
            .filter_map(|path| {
                let manifest = read_manifest(&path).ok()?;
                Some(LocalCheckpoint { database: path.join("db"), manifest })
            })
            .find(|local| local.manifest.database_id == database_id)
    }

    fn tasks(&self) -> Vec<TaskDirectory> {
        let mut found = Vec::new();
        for (job, path) in directories(&self.root) {
            for (name, path) in directories(&path) {
                let parsed = name.rsplit_once('-').and_then(|(v, s)| Some((unescape(v)?, s.parse().ok()?)));
                if let (Some(job_id), Some((vertex_id, subtask))) = (unescape(&job), parsed) {
                    found.push(TaskDirectory { job_id, vertex_id, subtask, path });
                }
            }
        }
        found
    }
}

struct TaskDirectory {
    job_id: String,
    vertex_id: String,
    subtask: u32,
    path: PathBuf,
}

impl LocalCheckpoint {
    /// The path of the local copy of `file` if it is that file: same hash on record, same size on
    /// disk, and for an SST file the footer of one. The blocks are checked as they are read.
    pub(crate) fn usable(&self, file: &v1::StateFile) -> Option<PathBuf> {
        let wanted = file.handle.as_ref()?;
        let recorded = self.manifest.files.iter().find(|f| f.name == file.name)?.handle.as_ref()?;
        let path = self.database.join(&file.name);
        let good = recorded.hash == wanted.hash
            && recorded.length == wanted.length
            && fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == wanted.length)
            && (!file.name.ends_with(".sst") || has_sst_footer(&path).unwrap_or(false));
        good.then_some(path)
    }
}

/// The last eight bytes of a block-based table, little endian.
const SST_MAGIC: u64 = 0x88e2_41b7_85f4_cff7;

fn has_sst_footer(path: &Path) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::End(-8))?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    Ok(u64::from_le_bytes(magic) == SST_MAGIC)
}

fn read_manifest(checkpoint: &Path) -> Result<v1::KeyedSnapshot> {
    let path = checkpoint.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|e| failed("read", &path, &e))?;
    frame::decode(Kind::LocalManifest, &bytes, &path.display().to_string())
}

/// Sub-directories by name, in order. An unreadable directory has none.
fn directories(path: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        .collect();
    found.sort();
    found
}

fn checkpoints(task: &Path) -> Vec<(u64, PathBuf)> {
    let parse = |name: &str| name.strip_prefix("chk-").and_then(|id| id.parse().ok());
    directories(task).into_iter().filter_map(|(name, path)| Some((parse(&name)?, path))).collect()
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove local state");
        }
        _ => {}
    }
}

fn failed(operation: &str, path: &Path, error: &io::Error) -> StateError {
    StateError::Storage(format!("cannot {operation} '{}': {error}", path.display()))
}

/// A name as a part of a path: everything but letters, digits, `-` and `_` as `%XX`.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(vertex: &str) -> TaskName {
        TaskName { job_id: "0a".repeat(16), vertex_id: vertex.into(), subtask: 3, attempt: 0 }
    }

    #[test]
    fn names_survive_directories() {
        for name in ["a-b", "x/../y", "Sink: print%", "\u{fc}"] {
            assert_eq!(unescape(&escape(name)).unwrap(), name);
            assert!(!escape(name).contains(['/', '.']));
        }
    }

    #[test]
    fn inventory_lists_what_was_sealed_and_a_new_process_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStateStore::open(directory.path()).unwrap();
        let task = task("cbc357ccb763df2852fee8c4fc7d55f2");
        let snapshot = v1::KeyedSnapshot {
            key_group_start: 32,
            key_group_end: 63,
            total_bytes: 77,
            ..v1::KeyedSnapshot::default()
        };
        for checkpoint in [4, 5] {
            fs::create_dir(store.prepare(&task, checkpoint).unwrap()).unwrap();
            store.seal(&task, checkpoint, &snapshot).unwrap();
        }
        store.prepare(&task, 6).unwrap();
        store.retain_from(&task, 5);

        let store = LocalStateStore::open(directory.path()).unwrap();
        let expected = LocalState {
            job_id: task.job_id.clone(),
            vertex_id: task.vertex_id.clone(),
            subtask: 3,
            checkpoint_id: 5,
            key_group_start: 32,
            key_group_end: 63,
            bytes: 77,
        };
        assert_eq!(store.inventory(), vec![expected]);
        assert!(!store.unfinished(&task, 6).exists());
        store.drop_job(&task.job_id);
        assert_eq!(store.inventory(), vec![]);
    }

    #[test]
    fn a_damaged_manifest_is_no_local_state() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStateStore::open(directory.path()).unwrap();
        store.prepare(&task("v"), 1).unwrap();
        store.seal(&task("v"), 1, &v1::KeyedSnapshot::default()).unwrap();
        fs::write(store.finished(&task("v"), 1).join(MANIFEST), b"HRTG").unwrap();
        assert_eq!(store.inventory(), vec![]);
        assert!(!store.finished(&task("v"), 1).exists());
    }
}
