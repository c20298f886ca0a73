//! Key groups: the unit in which keyed state is distributed and rescaled.
//!
//! A key belongs to one of *max parallelism* key groups for the life of its state; a subtask owns a
//! contiguous range of them. Formulas as in Flink.

/// The largest allowed max parallelism.
pub const MAX_PARALLELISM_LIMIT: u32 = 32768;

/// The max parallelism of a vertex for which none was set.
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    let grown = parallelism + parallelism / 2;
    grown.next_power_of_two().clamp(128, MAX_PARALLELISM_LIMIT)
}

/// The inclusive range of key groups that `subtask` owns, `None` when it owns none (more subtasks
/// than key groups).
pub fn key_group_range(max_parallelism: u32, parallelism: u32, subtask: u32) -> Option<(u32, u32)> {
    let (m, p, i) = (u64::from(max_parallelism), u64::from(parallelism), u64::from(subtask));
    let start = (i * m).div_ceil(p);
    let end = ((i + 1) * m).div_ceil(p);
    (start < end).then(|| (start as u32, end as u32 - 1))
}

/// The subtask that owns `key_group`.
pub fn subtask_of_key_group(max_parallelism: u32, parallelism: u32, key_group: u32) -> u32 {
    (u64::from(key_group) * u64::from(parallelism) / u64::from(max_parallelism)) as u32
}

/// The key group of a 64-bit key hash: the high half, scaled.
#[inline]
pub fn key_group_of_hash(hash: u64, max_parallelism: u32) -> u32 {
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_max_parallelism_follows_flink() {
        for (p, m) in [(1, 128), (85, 128), (86, 256), (170, 256), (171, 256), (1000, 2048), (30000, 32768)] {
            assert_eq!(default_max_parallelism(p), m, "parallelism {p}");
        }
    }

    #[test]
    fn ranges_partition_the_key_groups_and_agree_with_the_owner() {
        for m in [1, 10, 128, 720, 32768] {
            for p in [1, 2, 3, 4, 7, 100] {
                let mut next = 0;
                for i in 0..p {
                    if let Some((start, end)) = key_group_range(m, p, i) {
                        assert_eq!(start, next);
                        for g in [start, end] {
                            assert_eq!(subtask_of_key_group(m, p, g), i);
                        }
                        next = end + 1;
                    }
                }
                assert_eq!(next, m);
            }
        }
        assert_eq!(key_group_range(10, 4, 1), Some((3, 4)));
    }
}
