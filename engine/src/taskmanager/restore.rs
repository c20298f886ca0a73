//! Non-keyed state to the subtasks of a restored operator.
//!
//! At equal parallelism each subtask gets what was its own. Otherwise the elements of each list, in
//! the order of the old subtasks, are dealt out in runs as equal as can be; the subtask that gets the
//! first longer run moves on from list to list, so that the surplus is spread (Flink's split
//! distribution).

use std::collections::BTreeMap;

use hurtig_proto::v1;

use crate::element::MIN_WATERMARK;
use crate::operator::RestoredState;

/// What `operator_uid` in `subtask` of `parallelism` takes over from `old`, which was taken at
/// `old_parallelism`.
pub fn operator_state(
    operator_uid: &str,
    checkpoint: u64,
    old: &[v1::SubtaskSnapshot],
    old_parallelism: u32,
    subtask: u32,
    parallelism: u32,
) -> RestoredState {
    if checkpoint == 0 {
        return RestoredState::default();
    }
    let mut sorted: Vec<&v1::SubtaskSnapshot> = old.iter().collect();
    sorted.sort_by_key(|s| s.subtask);
    let equal = old_parallelism == parallelism;
    let operators = sorted
        .iter()
        .filter(|s| !equal || s.subtask == subtask)
        .flat_map(|s| &s.operators)
        .filter(|o| o.operator_uid == operator_uid);
    let mut lists: BTreeMap<&str, Vec<&Vec<u8>>> = BTreeMap::new();
    let mut watermark_ms = None;
    for operator in operators {
        for list in &operator.lists {
            lists.entry(&list.name).or_default().extend(&list.elements);
        }
        if operator.watermark_ms != MIN_WATERMARK {
            watermark_ms = Some(watermark_ms.map_or(operator.watermark_ms, |w: i64| w.min(operator.watermark_ms)));
        }
    }
    let mut first = 0;
    let mut taken = Vec::with_capacity(lists.len());
    for (name, elements) in lists {
        let range = if equal { 0..elements.len() } else { run(elements.len(), parallelism, subtask, &mut first) };
        taken.push((name.to_owned(), elements[range].iter().map(|e| e.to_vec()).collect()));
    }
    RestoredState { checkpoint, lists: taken, watermark_ms }
}

/// The run of `total` elements that falls to `subtask`. `first` is the subtask that the dealing starts
/// with and becomes the one that the next list's starts with.
fn run(total: usize, parallelism: u32, subtask: u32, first: &mut u32) -> std::ops::Range<usize> {
    let p = parallelism as usize;
    let (base, surplus) = (total / p, total % p);
    let mut start = 0;
    let mut mine = 0..0;
    for i in 0..p {
        let length = base + usize::from(i < surplus);
        if (*first as usize + i) % p == subtask as usize {
            mine = start..start + length;
        }
        start += length;
    }
    *first = ((*first as usize + surplus) % p) as u32;
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(subtask: u32, lists: &[(&str, &[u8])]) -> v1::SubtaskSnapshot {
        let lists = lists
            .iter()
            .map(|(name, elements)| v1::ListState {
                name: (*name).to_owned(),
                elements: elements.iter().map(|&e| vec![e]).collect(),
            })
            .collect();
        let operator = v1::OperatorSnapshot {
            operator_uid: "a".into(),
            lists,
            watermark_ms: i64::from(subtask) + 5,
            ..Default::default()
        };
        v1::SubtaskSnapshot { subtask, operators: vec![operator], ..Default::default() }
    }

    fn elements(state: &RestoredState, list: &str) -> Vec<u8> {
        state.list(list).iter().map(|e| e[0]).collect()
    }

    #[test]
    fn at_equal_parallelism_each_subtask_keeps_its_own() {
        let old = [snapshot(1, &[("x", &[3])]), snapshot(0, &[("x", &[1, 2])])];
        assert_eq!(elements(&operator_state("a", 7, &old, 2, 0, 2), "x"), [1, 2]);
        let state = operator_state("a", 7, &old, 2, 1, 2);
        assert_eq!((elements(&state, "x"), state.watermark_ms, state.checkpoint), (vec![3], Some(6), 7));
    }

    #[test]
    fn otherwise_elements_are_dealt_in_runs_and_the_surplus_moves_on() {
        let old = [snapshot(0, &[("x", &[1, 2, 3]), ("y", &[10])]), snapshot(1, &[("x", &[4]), ("y", &[20])])];
        let taken: Vec<_> = (0..3)
            .map(|i| {
                let state = operator_state("a", 1, &old, 2, i, 3);
                (elements(&state, "x"), elements(&state, "y"))
            })
            .collect();
        // x: one more for subtask 0; y therefore starts with subtask 1.
        assert_eq!(taken, [(vec![1, 2], vec![]), (vec![3], vec![10]), (vec![4], vec![20])]);
    }

    #[test]
    fn nothing_is_lost_or_doubled_at_any_parallelism() {
        for new in 1..9 {
            let old: Vec<_> = (0..5).map(|s| snapshot(s, &[("x", &[2 * s as u8, 2 * s as u8 + 1])])).collect();
            let mut all: Vec<u8> =
                (0..new).flat_map(|i| elements(&operator_state("a", 1, &old, 5, i, new), "x")).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<u8>>(), "{new} subtasks");
        }
    }
}
