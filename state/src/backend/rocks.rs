//! RocksDB: what all databases of a TaskManager share, options, opening.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompactionStyle, DBCompressionType, LogLevel, Options, UniversalCompactOptions, WaitForCompactOptions,
    WriteBufferManager, WriteOptions,
};

use rocksdb::properties;

use super::expiry::Expiry;
use crate::error::{Result, StateError};

/// How long a checkpoint waits for compactions, so that it need not upload files that the next one would
/// not have any more.
const COMPACTION_PATIENCE_US: u64 = 5_000_000;
/// A restored database is merged no sooner than this, unless it has grown by half: until then the task has
/// to catch up, and needs the cores itself.
const RESTORED_PAUSE: Duration = Duration::from_secs(5);
/// With so many percent of outdated entries beside the oldest run everything is merged. Less would write
/// and upload the whole state more often, more would let files, and what a restore reads, grow further.
const MOST_OUTDATED_PERCENT: i32 = 100;
const COLUMN_FAMILY: &str = "default";

/// Memory and threads that all databases of one TaskManager share.
pub struct SharedRocks {
    cache: Cache,
    write_buffers: WriteBufferManager,
    config: SharedRocksConfig,
    disk_reserve: AtomicU64,
}

/// How a database merges its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CompactionStyle {
    /// Runs of similar size: what has not changed is seldom written again.
    #[default]
    Universal,
    /// Levels: reads touch fewer files, and checkpoints upload more.
    Level,
}

/// Sizes of [`SharedRocks`].
#[derive(Debug, Clone, Copy)]
pub struct SharedRocksConfig {
    /// Bytes of the block cache, out of which the write buffers come.
    pub cache_bytes: usize,
    /// Bytes of all write buffers together.
    pub write_buffer_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_threads: i32,
    /// Files that a task uploads or downloads at once.
    pub concurrent_transfers: usize,
    /// Bytes of a block of a file, before compression.
    pub block_bytes: usize,
    /// Bytes of one write buffer; `None`: by what all may have.
    pub single_write_buffer_bytes: Option<usize>,
    /// See there.
    pub compaction: CompactionStyle,
    /// Bytes that a write-back leaves free on the disk: with less the checkpoint is declined.
    pub disk_reserve_bytes: u64,
}

impl Default for SharedRocksConfig {
    fn default() -> Self {
        SharedRocksConfig {
            cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
            background_threads: 2,
            concurrent_transfers: 4,
            block_bytes: 8 << 10,
            single_write_buffer_bytes: None,
            compaction: CompactionStyle::default(),
            disk_reserve_bytes: 16 << 20,
        }
    }
}

impl SharedRocks {
    /// Reserves nothing yet: memory is taken as databases use it.
    pub fn new(config: SharedRocksConfig) -> Self {
        let cache = Cache::new_lru_cache(config.cache_bytes);
        let write_buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(config.write_buffer_bytes, false, cache.clone());
        SharedRocks { cache, write_buffers, disk_reserve: AtomicU64::new(config.disk_reserve_bytes), config }
    }

    /// Bytes of cache and write buffers in use.
    pub fn memory_usage(&self) -> usize {
        self.cache.get_usage()
    }

    /// Bytes that write-backs leave free on the disk from now on.
    pub fn reserve_on_disk(&self, bytes: u64) {
        self.disk_reserve.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn disk_reserve(&self) -> u64 {
        self.disk_reserve.load(Ordering::Relaxed)
    }

    pub(super) fn concurrent_transfers(&self) -> usize {
        self.config.concurrent_transfers.max(1)
    }

    pub(super) fn options(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_block_size(self.config.block_bytes);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_manager(&self.write_buffers);
        let one = (self.config.write_buffer_bytes / 2).clamp(1 << 20, 64 << 20);
        options.set_write_buffer_size(self.config.single_write_buffer_bytes.unwrap_or(one));
        options.set_max_background_jobs(self.config.background_threads);
        options.set_compression_type(DBCompressionType::Lz4);
        // What is compacted is uploaded again. Changes are spread over all keys, so levels would
        // rewrite the whole state every few checkpoints; merging runs of similar size rewrites it
        // when as much has changed as there is.
        if self.config.compaction == CompactionStyle::Universal {
            options.set_compaction_style(DBCompactionStyle::Universal);
            let mut universal = UniversalCompactOptions::default();
            universal.set_max_size_amplification_percent(MOST_OUTDATED_PERCENT);
            options.set_universal_compaction_options(&universal);
        }
        options.set_level_zero_file_num_compaction_trigger(4);
        // Opening reads the footers of at most so many files, so a large restored state starts at once.
        options.set_max_open_files(512);
        options.set_skip_stats_update_on_db_open(true);
        // The manifest goes into every checkpoint whole.
        options.set_max_manifest_file_size(64 << 10);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(1);
        options.set_stats_dump_period_sec(0);
        options
    }
}

/// One open database.
pub(super) struct Database {
    db: DB,
    path: PathBuf,
    options: Options,
    opened: Instant,
    /// Bytes that it had then.
    opened_bytes: u64,
    /// Files are not merged yet.
    paused: AtomicBool,
}

impl Database {
    pub(super) fn open(rocks: &SharedRocks, path: &Path, expiry: &Expiry) -> Result<Self> {
        Database::open_for_writing(rocks, path, expiry, false)
    }

    /// Of files that a restore has put there. See [`RESTORED_PAUSE`].
    pub(super) fn open_restored(rocks: &SharedRocks, path: &Path, expiry: &Expiry) -> Result<Self> {
        Database::open_for_writing(rocks, path, expiry, true)
    }

    fn open_for_writing(rocks: &SharedRocks, path: &Path, expiry: &Expiry, paused: bool) -> Result<Self> {
        let mut options = rocks.options();
        options.set_disable_auto_compactions(paused);
        expiry.install(&mut options);
        options.create_if_missing(true);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| {
                StateError::Storage(format!("cannot create the state directory '{}': {e}", parent.display()))
            })?;
        }
        let families = [ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone())];
        let db = DB::open_cf_descriptors(&options, path, families)?;
        Ok(Database::of(db, path, options, paused))
    }

    fn of(db: DB, path: &Path, options: Options, paused: bool) -> Database {
        let (opened, paused) = (Instant::now(), AtomicBool::new(paused));
        let mut database = Database { db, path: path.to_owned(), options, opened, opened_bytes: 0, paused };
        database.opened_bytes = database.live_bytes();
        database
    }

    pub(super) fn open_read_only(rocks: &SharedRocks, path: &Path) -> Result<Self> {
        let options = rocks.options();
        let families = [ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone())];
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false)?;
        Ok(Database::of(db, path, options, false))
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Flushes, and gives compactions that follow some time to end: a checkpoint that is taken
    /// before contains files that the next one would upload in another form.
    pub(super) fn settle(&self) -> Result<()> {
        self.db.flush()?;
        self.resume_when_due()?;
        let mut options = WaitForCompactOptions::default();
        options.set_timeout(COMPACTION_PATIENCE_US);
        if let Err(error) = self.db.wait_for_compact(&options) {
            tracing::debug!(%error, path = %self.path.display(), "compaction goes on during the checkpoint");
        }
        Ok(())
    }

    /// Has files merged again once the time after a restore is over, or too much has come to them. Does
    /// nothing else.
    pub(super) fn resume_when_due(&self) -> Result<()> {
        if !self.paused.load(Ordering::Relaxed) {
            return Ok(());
        }
        let large = self.opened_bytes + self.opened_bytes / 2;
        if self.opened.elapsed() >= RESTORED_PAUSE || self.live_bytes() > large {
            self.db.set_options(&[("disable_auto_compactions", "false")])?;
            self.paused.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Bytes of files and write buffers.
    pub(super) fn live_bytes(&self) -> u64 {
        let of = |property| self.db.property_int_value(property).ok().flatten().unwrap_or(0);
        of(properties::LIVE_SST_FILES_SIZE) + of(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    /// Merges all files.
    pub(super) fn compact(&self) -> Result<()> {
        let mut options = CompactOptions::default();
        // Also files that nothing would be merged with: what has expired in them is to go.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.flush()?;
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    pub(super) fn column_family(&self) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(COLUMN_FAMILY)
            .ok_or_else(|| StateError::Database(format!("'{}' has no default column family", self.path.display())))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
    }
}

/// The checkpoint is the log: nothing is written ahead.
pub(super) fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_database_that_grows_is_merged_again() {
        let folder = tempfile::tempdir().unwrap();
        let (rocks, path) = (SharedRocks::new(SharedRocksConfig::default()), folder.path().join("db"));
        let fresh = Database::open(&rocks, &path, &Expiry::default()).unwrap();
        assert!(!fresh.paused.load(Ordering::Relaxed));
        fresh.db().put_opt(b"a", b"1", &write_options()).unwrap();
        fresh.settle().unwrap();
        drop(fresh);
        let restored = Database::open_restored(&rocks, &path, &Expiry::default()).unwrap();
        assert!(restored.paused.load(Ordering::Relaxed), "the task has to catch up first");
        restored.db().put_opt(b"b", [7; 100_000], &write_options()).unwrap();
        restored.resume_when_due().unwrap();
        assert!(!restored.paused.load(Ordering::Relaxed));
    }
}
