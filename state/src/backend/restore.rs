//! Restoring a task's database from snapshots: files by hard link from local disk or from object
//! storage, then key groups to what the task owns.
//!
//! The snapshot with most bytes becomes the database: its key groups outside the task's range are
//! deleted. From every other snapshot the task's key groups are copied into SST files that are
//! ingested. Rows are never hashed again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use hurtig_proto::v1;
use rocksdb::{Direction, IngestExternalFileOptions, IteratorMode, ReadOptions, SstFileWriter};

use super::expiry::Expiry;
use super::rocks::{Database, write_options};
use super::small::entries_of;
use super::snapshot::{SNAPSHOT_VERSION, file_hash, hash_bytes};
use super::tables::{Tables, table_id};
use super::{BackendConfig, TableId, remove_directory};
use crate::encoding::{key_group_range_bounds, table_bounds};
use crate::error::{Result, StateError};
use crate::local::LocalCheckpoint;
use crate::storage::ObjectStores;

/// How often a file is asked for that breaks off or arrives wrong, beside what the store's client repeats.
const FETCH_ATTEMPTS: u32 = 4;
/// Pause before the second attempt; then longer each time.
const FETCH_PAUSE: Duration = Duration::from_millis(200);

/// What a restore gives.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) database: Option<Database>,
    pub(super) tables: Tables,
    /// What snapshots of small state carry.
    pub(super) entries: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) expiry: Expiry,
    /// Objects of the restored files, by file name.
    pub(super) handles: BTreeMap<String, v1::FileHandle>,
    /// Those of them whose local content is unchecked.
    pub(super) unverified: BTreeMap<String, v1::FileHandle>,
    pub(super) report: v1::RestoreReport,
}

pub(super) fn restore(config: &BackendConfig) -> Result<Restored> {
    let start = Instant::now();
    let relevant: Vec<&v1::KeyedSnapshot> = config.restore.iter().filter(|s| overlaps(s, config.key_groups)).collect();
    let mut restored = Restored::default();
    if let Some(local) = config.local.as_ref() {
        local.retain_only(&config.task, config.restore_checkpoint);
    }
    if relevant.is_empty() {
        return Ok(restored);
    }
    for snapshot in &relevant {
        check_version(snapshot)?;
    }
    restored.report.checkpoint_id = config.restore_checkpoint;
    // The first of those with most bytes.
    let base = relevant.iter().rev().max_by_key(|s| (!s.files.is_empty(), s.total_bytes)).copied();
    let mut donors = Vec::new();
    for &snapshot in base.iter().chain(relevant.iter().filter(|s| !is(s, base))) {
        let numbers = restored.tables.merge(&snapshot.tables)?;
        entries_of(snapshot, config.key_groups, &numbers, &mut restored.entries)?;
        if !snapshot.files.is_empty() && !is(snapshot, base) {
            donors.push((snapshot, numbers));
        }
    }
    let result = match base {
        Some(base) if !base.files.is_empty() => open_all(config, base, &donors, &mut restored),
        _ => Ok(()),
    };
    if let Err(error) = result {
        drop(restored.database.take());
        remove_directory(&config.directory);
        return Err(error);
    }
    restored.report.duration_ms = start.elapsed().as_millis() as u64;
    Ok(restored)
}

fn is(snapshot: &v1::KeyedSnapshot, base: Option<&v1::KeyedSnapshot>) -> bool {
    base.is_some_and(|base| std::ptr::eq(base, snapshot))
}

fn overlaps(snapshot: &v1::KeyedSnapshot, (start, end): (u32, u32)) -> bool {
    snapshot.key_group_start <= end && start <= snapshot.key_group_end
}

fn check_version(snapshot: &v1::KeyedSnapshot) -> Result<()> {
    if (1..=SNAPSHOT_VERSION).contains(&snapshot.format_version) {
        return Ok(());
    }
    Err(StateError::Incompatible(format!(
        "a keyed snapshot has format version {}, this version of Hurtig reads up to {SNAPSHOT_VERSION}",
        snapshot.format_version
    )))
}

type Donor<'a> = (&'a v1::KeyedSnapshot, Vec<(TableId, TableId)>);

fn open_all(
    config: &BackendConfig,
    base: &v1::KeyedSnapshot,
    donors: &[Donor<'_>],
    restored: &mut Restored,
) -> Result<()> {
    let start = Instant::now();
    let linked = materialize(config, base, &config.directory, &mut restored.report)?;
    restored.report.files_ms = start.elapsed().as_millis() as u64;
    let shared = base.files.iter().filter(|f| f.shared && f.inline.is_empty());
    restored.handles = shared.filter_map(|f| Some((f.name.clone(), f.handle.clone()?))).collect();
    restored.unverified =
        restored.handles.iter().filter(|(n, _)| linked.contains(n)).map(|(n, h)| (n.clone(), h.clone())).collect();
    let database = Database::open_restored(&config.rocks, &config.directory, &restored.expiry)?;
    delete_outside(&database, base, config.key_groups)?;
    let database = restored.database.insert(database);
    for (i, (donor, numbers)) in donors.iter().enumerate() {
        let directory = config.directory.with_extension(format!("donor-{i}"));
        let copied = materialize(config, donor, &directory, &mut restored.report)
            .and_then(|_| ingest(config, database, donor, numbers, &directory));
        remove_directory(&directory);
        copied?;
    }
    Ok(())
}

/// Deletes the key groups that the snapshot has and the task does not own: whole files where
/// possible, then the rest by range tombstones.
fn delete_outside(database: &Database, base: &v1::KeyedSnapshot, (start, end): (u32, u32)) -> Result<()> {
    let family = database.column_family()?;
    let mut ranges = Vec::new();
    if base.key_group_start < start {
        ranges.push((base.key_group_start, start - 1));
    }
    if end < base.key_group_end {
        ranges.push((end + 1, base.key_group_end));
    }
    for (first, last) in ranges {
        let (from, to) = key_group_range_bounds(first, last);
        database.db().delete_file_in_range_cf(family, &from, &to)?;
        database.db().delete_range_cf_opt(family, &from, &to, &write_options())?;
    }
    // Their numbers may be given to other cells.
    for table in &base.dropped {
        let table = table_id(table.table)?;
        for group in base.key_group_start.max(start)..=base.key_group_end.min(end) {
            let (from, to) = table_bounds(group, table);
            database.db().delete_range_cf_opt(family, &from, &to, &write_options())?;
        }
    }
    Ok(())
}

/// Copies the task's key groups from the donor's database in `directory`.
fn ingest(
    config: &BackendConfig,
    database: &Database,
    donor: &v1::KeyedSnapshot,
    numbers: &[(TableId, TableId)],
    directory: &Path,
) -> Result<()> {
    let source = Database::open_read_only(&config.rocks, directory)?;
    let first = donor.key_group_start.max(config.key_groups.0);
    let last = donor.key_group_end.min(config.key_groups.1);
    let path = directory.with_extension("ingest");
    let options = database.options().clone();
    let mut writer = SstFileWriter::create(&options);
    writer.open(&path)?;
    let mut rows = 0u64;
    if donor.dropped.is_empty() && numbers.iter().all(|(there, here)| there == here) {
        rows += copy(&source, key_group_range_bounds(first, last), None, &mut writer)?;
    } else {
        // Other numbers mean another order of tables within each key group.
        let mut by_target = numbers.to_vec();
        by_target.sort_by_key(|(_, here)| *here);
        for group in first..=last {
            for (there, here) in &by_target {
                rows += copy(&source, table_bounds(group, *there), Some(*here), &mut writer)?;
            }
        }
    }
    drop(source);
    if rows > 0 {
        writer.finish()?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        database.db().ingest_external_file_cf_opts(database.column_family()?, &ingest, vec![&path])?;
    }
    drop(writer);
    // Moved, or empty and of no use.
    let _ = fs::remove_file(&path);
    Ok(())
}

fn copy(
    source: &Database,
    (from, to): (Vec<u8>, Vec<u8>),
    table: Option<TableId>,
    writer: &mut SstFileWriter<'_>,
) -> Result<u64> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to);
    options.fill_cache(false);
    let mut rows = 0;
    for entry in source.db().iterator_opt(IteratorMode::From(&from, Direction::Forward), options) {
        let (mut key, value) = entry?;
        if let Some(table) = table {
            key[2..4].copy_from_slice(&table.to_be_bytes());
        }
        writer.put(&key, &value)?;
        rows += 1;
    }
    Ok(rows)
}

/// Puts the files of a snapshot into the new directory `target`. Returns the names of those linked
/// from local disk.
fn materialize(
    config: &BackendConfig,
    snapshot: &v1::KeyedSnapshot,
    target: &Path,
    report: &mut v1::RestoreReport,
) -> Result<Vec<String>> {
    remove_directory(target);
    fs::create_dir_all(target).map_err(|e| failed("create", target, &e))?;
    let local = config
        .local
        .as_ref()
        .and_then(|local| local.find(&config.task, config.restore_checkpoint, &snapshot.database_id));
    let before = (report.local_bytes, report.remote_bytes);
    let mut linked = Vec::new();
    let mut downloads = Vec::new();
    for file in &snapshot.files {
        let path = target.join(safe_name(&file.name)?);
        let handle = file.handle.clone().unwrap_or_default();
        if !file.inline.is_empty() {
            fs::write(&path, &file.inline).map_err(|e| failed("write", &path, &e))?;
        } else if take_local(local.as_ref(), file, &path) {
            report.local_files += 1;
            report.local_bytes += handle.length;
            linked.push(file.name.clone());
        } else {
            if local.is_some() {
                tracing::warn!(
                    file = file.name,
                    object = handle.object,
                    "the local copy of a state file is missing or damaged: it is read from object storage"
                );
            }
            report.remote_files += 1;
            report.remote_bytes += handle.length;
            downloads.push((handle, path));
        }
    }
    report.ranges.push(v1::RestoredRange {
        key_group_start: snapshot.key_group_start.max(config.key_groups.0),
        key_group_end: snapshot.key_group_end.min(config.key_groups.1),
        local_bytes: report.local_bytes - before.0,
        remote_bytes: report.remote_bytes - before.1,
    });
    download(config, downloads)?;
    Ok(linked)
}

/// Names come from metadata: none may lead out of the directory.
fn safe_name(name: &str) -> Result<&str> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(StateError::Corrupt(format!("a keyed snapshot has a file with the name '{name}'")));
    }
    Ok(name)
}

/// Links an immutable file; copies others, which RocksDB may write to.
fn take_local(local: Option<&LocalCheckpoint>, file: &v1::StateFile, path: &Path) -> bool {
    let Some(source) = local.and_then(|local| local.usable(file)) else { return false };
    if file.shared {
        return fs::hard_link(&source, path).or_else(|_| fs::copy(&source, path).map(drop)).is_ok();
    }
    let expected = file.handle.as_ref().map(|h| h.hash.as_slice());
    let copied = fs::copy(&source, path).is_ok() && file_hash(path).ok().as_deref() == expected;
    if !copied {
        // What is there is not the file; the download writes it anew.
        let _ = fs::remove_file(path);
    }
    copied
}

fn download(config: &BackendConfig, files: Vec<(v1::FileHandle, PathBuf)>) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let stores = config.stores.clone();
    let concurrent = config.rocks.concurrent_transfers();
    let transfers = async move {
        let stores = &stores;
        futures::stream::iter(files)
            .map(|(handle, path)| async move { fetch(stores, &handle, &path).await })
            .buffer_unordered(concurrent)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    };
    config.stores.blocking().block_on(transfers)
}

/// Reads an object into a new file; what breaks off or arrives wrong is read again, up to a limit.
async fn fetch(stores: &ObjectStores, handle: &v1::FileHandle, path: &Path) -> Result<()> {
    let range = handle.offset..handle.offset + handle.length;
    for attempt in 1.. {
        let error = match stores.get_to_file(&handle.object, range.clone(), path).await {
            Ok(hash) if hash_bytes(hash) == handle.hash => return Ok(()),
            Ok(_) => StateError::Corrupt(format!(
                "'{}' is not what the checkpoint says: its hash differs; restore an earlier checkpoint or a savepoint",
                handle.object
            )),
            Err(error) => error,
        };
        let passing = matches!(error, StateError::Storage(_) | StateError::Connection(_) | StateError::Corrupt(_));
        if !passing || attempt == FETCH_ATTEMPTS {
            return Err(error);
        }
        tracing::warn!(%error, attempt, "reading a state file again");
        tokio::time::sleep(FETCH_PAUSE * attempt).await;
    }
    Ok(())
}

fn failed(operation: &str, path: &Path, error: &std::io::Error) -> StateError {
    StateError::Storage(format!("cannot {operation} '{}': {error}", path.display()))
}
