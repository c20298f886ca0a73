//! Objects as local files, with create-only and conditional writes.
//!
//! A write goes to a temporary file in the same directory, is synced, and takes its name by a link
//! (create-only) or a rename, so a reader sees the old or the new content, whole, also after a loss
//! of power. Compare-and-swap holds a lock on a lock file beside the object meanwhile; the version
//! of a file is its inode, time of change and the hash of its content. All functions block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{ObjectInfo, Version};
use crate::error::{Result, StateError};

/// Marks temporary and lock files, which are no objects.
const HIDDEN_PREFIX: &str = ".hurtig-";

fn failed(operation: &str, path: &Path, error: &io::Error) -> StateError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => StateError::NotFound(format!("cannot {operation} '{path}': it does not exist")),
        io::ErrorKind::PermissionDenied => {
            StateError::Storage(format!("cannot {operation} '{path}': permission denied for the user of this process"))
        }
        io::ErrorKind::StorageFull => StateError::Storage(format!("cannot {operation} '{path}': the disk is full")),
        _ => StateError::Storage(format!("cannot {operation} '{path}': {error}")),
    }
}

pub(super) fn get_versioned(path: &Path) -> Result<(Bytes, Version)> {
    read_versioned(path).map_err(|e| failed("read", path, &e))
}

fn read_versioned(path: &Path) -> io::Result<(Bytes, Version)> {
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let metadata = file.metadata()?;
    let (inode, seconds, nanos) = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
    let version = Version(format!("{inode}-{seconds}.{nanos}-{:032x}", xxh3_128(&content)));
    Ok((Bytes::from(content), version))
}

pub(super) fn get_range(path: &Path, range: Range<u64>) -> Result<Bytes> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| failed("read", path, &e))?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(StateError::Corrupt(format!(
            "'{}' ends before byte {} that was asked for",
            path.display(),
            range.end
        )));
    }
    Ok(Bytes::from(bytes))
}

pub(super) fn put(path: &Path, content: &[u8]) -> Result<()> {
    let run = || {
        let temporary = write_temporary(path, content)?;
        persist(temporary, path)
    };
    run().map_err(|e| failed("write", path, &e))
}

pub(super) fn put_if_absent(path: &Path, content: &[u8]) -> Result<Version> {
    let run = || {
        let temporary = write_temporary(path, content)?;
        // A link fails if the name exists; the content is complete when the name appears.
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        linked?;
        sync_parent(path)
    };
    match run().and_then(|()| read_versioned(path)) {
        Ok((_, version)) => Ok(version),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(StateError::Conflict(format!("'{}' exists already", path.display())))
        }
        Err(e) => Err(failed("create", path, &e)),
    }
}

pub(super) fn compare_and_swap(path: &Path, expected: &Version, content: &[u8]) -> Result<Version> {
    let lock_path = hidden(path, "lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| failed("lock", &lock_path, &e))?;
    // Released when the file is closed, also by the death of the process.
    lock.lock().map_err(|e| failed("lock", &lock_path, &e))?;
    let found = match read_versioned(path) {
        Ok((_, version)) => Some(version),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed("read", path, &e)),
    };
    if found.as_ref() != Some(expected) {
        return Err(StateError::Conflict(format!("'{}' was changed by another writer", path.display())));
    }
    put(path, content)?;
    Ok(get_versioned(path)?.1)
}

pub(super) fn put_file(path: &Path, source: &Path) -> Result<()> {
    let run = || {
        create_parent(path)?;
        let temporary = temporary_beside(path);
        fs::copy(source, &temporary)?;
        File::open(&temporary)?.sync_all()?;
        persist(temporary, path)
    };
    run().map_err(|e| failed("write", path, &e))
}

pub(super) fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("delete", path, &e)),
    }
}

pub(super) fn delete_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("delete", path, &e)),
    }
}

/// Removes `path` if it is an empty directory.
pub(super) fn delete_empty_directory(path: &Path) {
    // Not empty, or gone already: nothing to do.
    let _ = fs::remove_dir(path);
}

pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| failed("look up", path, &e))
}

/// All files under `directory` (or the file of that name), in the order of their paths.
pub(super) fn list(directory: &Path, to_uri: &dyn Fn(&Path) -> String) -> Result<Vec<ObjectInfo>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Deleted meanwhile, or never there: there is nothing to list.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed("list", &path, &e)),
        };
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(|e| failed("list", &path, &e))? {
                let entry = entry.map_err(|e| failed("list", &path, &e))?;
                if !entry.file_name().to_string_lossy().starts_with(HIDDEN_PREFIX) {
                    open.push(entry.path());
                }
            }
        } else {
            let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            found.push(ObjectInfo {
                uri: to_uri(&path),
                size: metadata.len(),
                modified_ms: modified.map_or(0, |d| d.as_millis() as i64),
            });
        }
    }
    found.sort_by(|a, b| a.uri.cmp(&b.uri));
    Ok(found)
}

fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    path.with_file_name(format!("{HIDDEN_PREFIX}{name}.{suffix}"))
}

fn temporary_beside(path: &Path) -> PathBuf {
    hidden(path, &uuid::Uuid::new_v4().simple().to_string())
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn write_temporary(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    create_parent(path)?;
    let temporary = temporary_beside(path);
    let mut file = File::create_new(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(temporary)
}

fn persist(temporary: PathBuf, path: &Path) -> io::Result<()> {
    if let Err(error) = fs::rename(&temporary, path) {
        // The rename's error is what matters.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
