//! What a TaskManager's memory is for: from Flink's keys to the sizes of the state's parts.
//!
//! Of the process's memory a base is for the program itself and Flink's fraction for the exchange. The
//! rest is the *state pool*: the managed fraction is RocksDB's as far as it goes there (block cache and
//! write buffers, one for all databases), everything else is for the live state of operators, an equal
//! part for each slot.

use hurtig_graph::config::{Configuration, keys};
use hurtig_state::backend::{CompactionStyle, SharedRocksConfig};

use super::config::network_budget;
use crate::error::{EngineError, Result};

/// The program's own memory: code, threads, buffers of connections.
const BASE_BYTES: u64 = 64 << 20;
/// One part in so many is not given out: allocators and batches in flight need it.
const RESERVE_PARTS: u64 = 8;
/// Without a setting a process takes this share of the machine's memory.
const MACHINE_PARTS: u64 = 2;
/// No part is smaller.
const LEAST_PART: u64 = 4 << 20;
/// RocksDB's share of managed memory.
const ROCKS_PARTS: u64 = 2;
/// What RocksDB has at most unless it is told otherwise.
const MOST_FOR_ROCKS: u64 = 512 << 20;

/// Sizes of a TaskManager's state.
#[derive(Debug, Clone, Copy)]
pub struct StateMemory {
    /// Live state of the operators of a slot.
    pub slot_bytes: usize,
    /// What all databases share.
    pub rocks: SharedRocksConfig,
}

impl StateMemory {
    /// For a TaskManager of so many slots.
    ///
    /// # Errors
    /// A value that cannot be read or used.
    pub fn from_configuration(configuration: &Configuration, slots: u32) -> Result<StateMemory> {
        let c = configuration;
        let slots = u64::from(slots.max(1));
        let process = match c.memory_bytes(&keys::TASKMANAGER_MEMORY_PROCESS)? {
            Some(bytes) => bytes,
            None => match c.memory_bytes(&keys::TASKMANAGER_MEMORY_FLINK)? {
                Some(bytes) => bytes,
                None => machine_bytes() / MACHINE_PARTS,
            },
        };
        let usable = (process - process / RESERVE_PARTS).saturating_sub(BASE_BYTES);
        let fraction = |option| -> Result<f64> { Ok(c.float(option)?.unwrap_or(0.0).clamp(0.0, 1.0)) };
        let network = network_budget(c)?.map_or(usable / 10, |bytes| bytes as u64);
        let pool = usable.saturating_sub(network.min(usable / 2));
        let managed = match c.memory_bytes(&keys::TASKMANAGER_MEMORY_MANAGED_SIZE)? {
            Some(bytes) => bytes,
            None => (usable as f64 * fraction(&keys::TASKMANAGER_MEMORY_MANAGED_FRACTION)?) as u64,
        };
        let rocks_bytes = rocks_bytes(c, managed, slots)?.max(2 * LEAST_PART);
        let live = pool.max(managed).saturating_sub(rocks_bytes).max(slots * LEAST_PART);
        Ok(StateMemory { slot_bytes: to_usize(live / slots), rocks: rocks_config(c, rocks_bytes)? })
    }
}

/// RocksDB's memory for the whole TaskManager.
fn rocks_bytes(c: &Configuration, managed: u64, slots: u64) -> Result<u64> {
    if let Some(per_slot) = c.memory_bytes(&keys::ROCKSDB_FIXED_PER_SLOT)? {
        return Ok(per_slot.saturating_mul(slots));
    }
    if let Some(per_tm) = c.memory_bytes(&keys::ROCKSDB_FIXED_PER_TM)? {
        return Ok(per_tm);
    }
    Ok((managed / ROCKS_PARTS).min(MOST_FOR_ROCKS))
}

fn rocks_config(c: &Configuration, bytes: u64) -> Result<SharedRocksConfig> {
    let ratio = c.float(&keys::ROCKSDB_WRITE_BUFFER_RATIO)?.unwrap_or(0.5);
    if !(ratio > 0.0 && ratio < 1.0) {
        return Err(EngineError::Validation(format!(
            "{}: {ratio} is not between 0 and 1",
            keys::ROCKSDB_WRITE_BUFFER_RATIO.key
        )));
    }
    let number = |option, default: i64, most: i64| -> Result<i64> {
        let value = c.int(option)?.unwrap_or(default);
        match value >= 1 {
            true => Ok(value.min(most)),
            false => Err(EngineError::Validation(format!("{}: {value} is less than 1", option.key))),
        }
    };
    let compaction = match c.choice(&keys::ROCKSDB_COMPACTION_STYLE)? {
        Some("LEVEL") => CompactionStyle::Level,
        _ => CompactionStyle::Universal,
    };
    let one = c.memory_bytes(&keys::ROCKSDB_WRITE_BUFFER_SIZE)?;
    Ok(SharedRocksConfig {
        cache_bytes: to_usize(bytes),
        write_buffer_bytes: to_usize((bytes as f64 * ratio) as u64).max(1 << 20),
        background_threads: number(&keys::ROCKSDB_THREADS, 2, 64)? as i32,
        concurrent_transfers: number(&keys::ROCKSDB_TRANSFER_THREADS, 4, 256)? as usize,
        block_bytes: to_usize(c.memory_bytes(&keys::ROCKSDB_BLOCK_SIZE)?.unwrap_or(8 << 10)).clamp(1 << 10, 4 << 20),
        single_write_buffer_bytes: one.map(|bytes| to_usize(bytes).max(64 << 10)),
        compaction,
        ..SharedRocksConfig::default()
    })
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The memory that this process may use: the least of the machine's and the limits of its control groups.
fn machine_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    });
    let limit = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let limits = [total, limit("/sys/fs/cgroup/memory.max"), limit("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    limits.into_iter().flatten().min().unwrap_or(4 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pairs: &[(&str, &str)], slots: u32) -> StateMemory {
        let mut configuration = Configuration::default();
        pairs.iter().for_each(|(key, value)| configuration.set(*key, *value));
        StateMemory::from_configuration(&configuration, slots).unwrap()
    }

    #[test]
    fn parts_add_up_to_less_than_the_process() {
        let size = 1024_u64 << 20;
        let m = memory(&[("taskmanager.memory.process.size", "1024m")], 2);
        let given = 2 * m.slot_bytes as u64 + m.rocks.cache_bytes as u64;
        assert!(given < size - (128 << 20), "{given}");
        assert!(given > size / 2, "{given}");
        assert_eq!(m.rocks.write_buffer_bytes, m.rocks.cache_bytes / 2);
        let four = memory(&[("taskmanager.memory.process.size", "1024m")], 4);
        assert_eq!(four.slot_bytes, m.slot_bytes / 2);
    }

    #[test]
    fn rocksdb_gets_what_it_is_told_and_the_operators_the_rest() {
        let base = [("taskmanager.memory.process.size", "1g")];
        let with = |pairs: &[(&str, &str)]| memory(&[&base, pairs].concat(), 2);
        let usual = with(&[]);
        let fixed = with(&[("state.backend.rocksdb.memory.fixed-per-slot", "100m")]);
        assert_eq!(fixed.rocks.cache_bytes, 200 << 20);
        assert_eq!(2 * fixed.slot_bytes + fixed.rocks.cache_bytes, 2 * usual.slot_bytes + usual.rocks.cache_bytes);
        let per_tm = with(&[
            ("state.backend.rocksdb.memory.fixed-per-tm", "80m"),
            ("state.backend.rocksdb.memory.write-buffer-ratio", "0.25"),
            ("state.backend.rocksdb.compaction.style", "level"),
            ("state.backend.rocksdb.block.blocksize", "64kb"),
            ("state.backend.rocksdb.writebuffer.size", "8mb"),
            ("state.backend.rocksdb.checkpoint.transfer.thread.num", "7"),
        ]);
        assert_eq!((per_tm.rocks.cache_bytes, per_tm.rocks.write_buffer_bytes), (80 << 20, 20 << 20));
        assert_eq!(per_tm.rocks.compaction, CompactionStyle::Level);
        assert_eq!((per_tm.rocks.block_bytes, per_tm.rocks.single_write_buffer_bytes), (64 << 10, Some(8 << 20)));
        assert_eq!(per_tm.rocks.concurrent_transfers, 7);
    }

    #[test]
    fn a_tiny_process_still_has_something_and_wrong_values_are_refused() {
        let m = memory(&[("taskmanager.memory.process.size", "32m")], 8);
        assert!(m.slot_bytes >= 4 << 20 && m.rocks.cache_bytes >= 8 << 20);
        let mut configuration = Configuration::default();
        configuration.set("state.backend.rocksdb.memory.write-buffer-ratio", "1.5");
        assert!(StateMemory::from_configuration(&configuration, 1).is_err());
    }
}
