//! Which subtasks a partitioner connects: all with all, or pointwise as Flink does.

use hurtig_proto::v1;

/// Whether every producer subtask of `partitioner` is connected to every consumer subtask.
pub fn is_all_to_all(partitioner: &v1::Partitioner) -> bool {
    use v1::partitioner::Kind;
    !matches!(partitioner.kind, Some(Kind::Forward(_) | Kind::Rescale(_)))
}

/// The consumer subtasks that producer `subtask` of `producers` is connected to, ascending.
pub fn consumers_of(partitioner: &v1::Partitioner, producers: u32, consumers: u32, subtask: u32) -> Vec<u32> {
    if is_all_to_all(partitioner) {
        return (0..consumers).collect();
    }
    (0..consumers).filter(|&c| pointwise_producers(producers, consumers, c).contains(&subtask)).collect()
}

/// The producer subtasks that consumer `subtask` of `consumers` is connected to, ascending.
pub fn producers_of(partitioner: &v1::Partitioner, producers: u32, consumers: u32, subtask: u32) -> Vec<u32> {
    if is_all_to_all(partitioner) {
        return (0..producers).collect();
    }
    pointwise_producers(producers, consumers, subtask).collect()
}

/// Flink's pointwise wiring.
fn pointwise_producers(producers: u32, consumers: u32, consumer: u32) -> std::ops::Range<u32> {
    let (u, d, i) = (u64::from(producers), u64::from(consumers), u64::from(consumer));
    if u >= d {
        return (i * u / d) as u32..((i + 1) * u / d) as u32;
    }
    // Producer p feeds consumers ceil(p*d/u) .. ceil((p+1)*d/u) - 1.
    let p = (i * u / d) as u32;
    p..p + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointwise_wiring_connects_every_subtask_and_agrees_from_both_sides() {
        let forward = v1::Partitioner { kind: Some(v1::partitioner::Kind::Rescale(v1::Rescale {})) };
        for u in 1..8 {
            for d in 1..8 {
                for p in 0..u {
                    let consumers = consumers_of(&forward, u, d, p);
                    assert!(!consumers.is_empty(), "{u} to {d}, producer {p}");
                    for c in consumers {
                        assert!(producers_of(&forward, u, d, c).contains(&p));
                    }
                }
                for c in 0..d {
                    assert!(!producers_of(&forward, u, d, c).is_empty());
                }
            }
        }
        // 2 producers, 3 consumers: p0 feeds 0 and 1, p1 feeds 2 (ceil(3/2) = 2).
        assert_eq!(consumers_of(&forward, 2, 3, 0), [0, 1]);
    }
}
