//! Whose state is whose: state of a checkpoint or savepoint belongs to the operator with the same uid,
//! however the operators of the job are chained now.
//!
//! [`check`] says before a job starts why it cannot start from a savepoint; [`adopt`] takes over what the
//! state fixes (the number of key groups); [`state_of`] gives a subtask its part.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_graph::job::{JobPlan, PlanVertex, state_kind};
use hurtig_proto::v1;

use crate::settings::StartFrom;

/// The keyed state that operators declare, by uid. What is not known is left out.
pub type Declarations = BTreeMap<String, Vec<v1::TableEntry>>;

/// What a subtask takes over.
#[derive(Debug, Default, PartialEq)]
pub struct Restore {
    /// Its own state of before, or at another parallelism that of all, of which it picks its part.
    pub snapshots: Vec<v1::SubtaskSnapshot>,
    /// The parallelism at which they were taken; 0: none, or several.
    pub parallelism: u32,
}

/// The part of subtask `subtask` of `vertex` in a checkpoint.
pub fn state_of(metadata: &v1::CheckpointMetadata, vertex: &PlanVertex, subtask: u32) -> Restore {
    let uids: BTreeSet<&str> = vertex.operators.iter().map(|operator| operator.uid.as_str()).collect();
    let holds =
        |old: &&v1::VertexSnapshot| old.vertex_id == vertex.id || uids_of(old).iter().any(|uid| uids.contains(uid));
    let old: Vec<&v1::VertexSnapshot> = metadata.vertices.iter().filter(holds).collect();
    let equal = old.iter().all(|old| old.parallelism == vertex.parallelism);
    let all_finished = old.iter().flat_map(|old| &old.subtasks).all(|snapshot| snapshot.finished);
    let mut snapshots = Vec::new();
    for old in &old {
        let own = uids_of(old).is_subset(&uids);
        for snapshot in old.subtasks.iter().filter(|s| !equal || s.subtask == subtask) {
            snapshots.push(if own { snapshot.clone() } else { part_of(snapshot, &uids) });
        }
    }
    if old.len() > 1 {
        // Of several chains that are one now, some may have had more to do.
        snapshots.iter_mut().for_each(|snapshot| snapshot.finished = all_finished);
    }
    let parallelism = match old[..] {
        [] => 0,
        [one] => one.parallelism,
        _ if equal => vertex.parallelism,
        _ => 0,
    };
    Restore { snapshots, parallelism }
}

/// The state of the operators `uids` alone.
fn part_of(snapshot: &v1::SubtaskSnapshot, uids: &BTreeSet<&str>) -> v1::SubtaskSnapshot {
    let mut part = snapshot.clone();
    part.operators.retain(|operator| uids.contains(operator.operator_uid.as_str()));
    if let Some(keyed) = &mut part.keyed {
        let (kept, dropped) =
            std::mem::take(&mut keyed.tables).into_iter().partition(|t| uids.contains(t.operator_uid.as_str()));
        (keyed.tables, keyed.dropped) = (kept, dropped);
    }
    part.keyed = part.keyed.filter(|keyed| !keyed.tables.is_empty());
    part
}

fn uids_of(vertex: &v1::VertexSnapshot) -> BTreeSet<&str> {
    let declared = vertex.operators.iter().map(|operator| operator.uid.as_str());
    let subtasks = || vertex.subtasks.iter();
    let listed = subtasks().flat_map(|subtask| &subtask.operators).map(|operator| operator.operator_uid.as_str());
    let keyed = subtasks().filter_map(|subtask| subtask.keyed.as_ref()).flat_map(|keyed| &keyed.tables);
    if vertex.operators.is_empty() {
        listed.chain(keyed.map(|table| table.operator_uid.as_str())).collect()
    } else {
        declared.collect()
    }
}

/// What there is of an operator in a savepoint.
#[derive(Debug, Default)]
struct Saved<'a> {
    kind: &'a str,
    name: &'a str,
    has_state: bool,
    tables: BTreeMap<&'a str, &'a v1::TableEntry>,
    /// Of its keyed state.
    max_parallelism: Option<u32>,
}

fn saved_operators(metadata: &v1::CheckpointMetadata) -> BTreeMap<&str, Saved<'_>> {
    let mut saved: BTreeMap<&str, Saved<'_>> = BTreeMap::new();
    for vertex in &metadata.vertices {
        for operator in &vertex.operators {
            let entry = saved.entry(&operator.uid).or_default();
            (entry.kind, entry.name) = (&operator.kind, &operator.name);
        }
        for subtask in &vertex.subtasks {
            for operator in &subtask.operators {
                let entry = saved.entry(&operator.operator_uid).or_default();
                entry.kind = &operator.operator_kind;
                entry.has_state |= operator.lists.iter().any(|list| !list.elements.is_empty());
            }
            for keyed in subtask.keyed.iter().filter(|keyed| !keyed.files.is_empty() || !keyed.entries.is_empty()) {
                for table in &keyed.tables {
                    let entry = saved.entry(&table.operator_uid).or_default();
                    entry.has_state = true;
                    entry.tables.insert(&table.cell, table);
                    entry.max_parallelism = Some(vertex.max_parallelism);
                }
            }
        }
    }
    for coordinator in metadata.coordinators.iter().filter(|coordinator| !coordinator.state.is_empty()) {
        let entry = saved.entry(&coordinator.operator_uid).or_default();
        entry.has_state = true;
        if entry.kind.is_empty() {
            entry.kind = "source";
        }
    }
    saved
}

/// Whether a job of `plan` can start from the checkpoint or savepoint.
///
/// # Errors
/// Why it cannot, and what to do.
pub fn check(
    start: &StartFrom,
    metadata: &v1::CheckpointMetadata,
    plan: &JobPlan,
    declared: &Declarations,
) -> Result<(), String> {
    let refused = |why: String| Err(format!("the job cannot start from '{}': {why}", start.path));
    let operators: BTreeMap<&str, &v1::Operator> =
        plan.vertices.iter().flat_map(|v| &v.operators).map(|operator| (operator.uid.as_str(), operator)).collect();
    let mut unclaimed = Vec::new();
    for (uid, saved) in saved_operators(metadata).into_iter().filter(|(_, saved)| saved.has_state) {
        let Some(operator) = operators.get(uid) else {
            let name = if saved.name.is_empty() { String::new() } else { format!(" ({})", saved.name) };
            unclaimed.push(format!("{uid}{name}"));
            continue;
        };
        let kind = state_kind(operator);
        if !saved.kind.is_empty() && saved.kind != kind {
            return refused(format!(
                "operator '{uid}' was a {} and is a {kind} now; give it another uid to start it without state",
                saved.kind
            ));
        }
        let cells = declared.get(uid).map_or(&[][..], Vec::as_slice);
        for (name, table) in saved.tables {
            match cells.iter().find(|cell| cell.cell == name) {
                Some(cell) if !same_schema(cell, table) => {
                    return refused(format!(
                        "state cell '{name}' of operator '{uid}' was {} and is {} now; give the operator another uid to \
                         start it without state",
                        schema(table),
                        schema(cell)
                    ));
                }
                None if !cells.is_empty() => unclaimed.push(format!("{uid} (state cell {name})")),
                _ => {}
            }
        }
    }
    if !unclaimed.is_empty() && !start.ignore_unclaimed {
        return refused(format!(
            "it holds state of operators that the job lacks: {}; give them their uids, or set \
             execution.state-recovery.ignore-unclaimed-state (--allow-non-restored-state) to drop their state",
            unclaimed.join(", ")
        ));
    }
    adopt(&mut plan.clone(), metadata).map(drop).or_else(refused)
}

fn same_schema(a: &v1::TableEntry, b: &v1::TableEntry) -> bool {
    (&a.key_schema, &a.value_schema, a.schema_version) == (&b.key_schema, &b.value_schema, b.schema_version)
}

fn schema(cell: &v1::TableEntry) -> String {
    format!("key ({}), value ({}), version {}", cell.key_schema, cell.value_schema, cell.schema_version)
}

/// Gives vertices the number of key groups that their state has. True: some had another.
///
/// # Errors
/// The user chose another, or there are more subtasks than key groups.
pub fn adopt(plan: &mut JobPlan, metadata: &v1::CheckpointMetadata) -> Result<bool, String> {
    let saved = saved_operators(metadata);
    let mut changed = false;
    for vertex in &mut plan.vertices {
        let keyed = |operator: &v1::Operator| saved.get(operator.uid.as_str())?.max_parallelism;
        for old in vertex.operators.iter().filter_map(keyed).collect::<Vec<_>>() {
            let (now, name) = (vertex.max_parallelism, &vertex.name);
            if vertex.parallelism > old {
                return Err(format!(
                    "{name} has the parallelism {}, but its state has the max parallelism {old}: it cannot be divided \
                     further",
                    vertex.parallelism
                ));
            }
            if now != old && vertex.max_parallelism_set {
                return Err(format!(
                    "{name} has the max parallelism {now}, but its state has {old}: the two must be equal"
                ));
            }
            changed |= now != old;
            vertex.max_parallelism = old;
            // Another operator of the chain must have the same.
            vertex.max_parallelism_set = true;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::plans::{PlanBuilder, forward, hash};

    fn table(uid: &str, value: &str) -> v1::TableEntry {
        v1::TableEntry {
            operator_uid: uid.into(),
            cell: "groups".into(),
            key_schema: "BIGINT".into(),
            value_schema: value.into(),
            schema_version: 1,
            ..Default::default()
        }
    }

    /// Vertex "a" with the operators "a" (a list) and "b" (keyed), at parallelism 2.
    fn savepoint() -> v1::CheckpointMetadata {
        let subtask = |subtask: u32| v1::SubtaskSnapshot {
            subtask,
            operators: vec![v1::OperatorSnapshot {
                operator_uid: "a".into(),
                operator_kind: "union".into(),
                lists: vec![v1::ListState { name: "l".into(), elements: vec![vec![subtask as u8]] }],
                ..Default::default()
            }],
            keyed: Some(v1::KeyedSnapshot {
                tables: vec![table("b", "count BIGINT")],
                files: vec![v1::StateFile::default()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let info = |uid: &str| v1::OperatorInfo { uid: uid.into(), name: format!("Op {uid}"), kind: "union".into() };
        let vertex = v1::VertexSnapshot {
            vertex_id: "a".into(),
            parallelism: 2,
            max_parallelism: 64,
            subtasks: vec![subtask(0), subtask(1)],
            operators: vec![info("a"), info("b")],
            name: "a -> b".into(),
        };
        v1::CheckpointMetadata { checkpoint_id: 7, vertices: vec![vertex], ..Default::default() }
    }

    fn start() -> StartFrom {
        StartFrom { path: "s3://b/s".into(), claim: false, ignore_unclaimed: false }
    }

    fn plan(parallelism: u32) -> JobPlan {
        PlanBuilder::new()
            .source("s", 1)
            .vertex("a", parallelism)
            .vertex("b", parallelism)
            .edge(0, 1, hash())
            .edge(1, 2, forward())
            .build()
    }

    fn refusal(plan: &JobPlan, declared: &Declarations) -> String {
        check(&start(), &savepoint(), plan, declared).unwrap_err()
    }

    #[test]
    fn chains_may_be_cut_otherwise_and_each_part_takes_its_own_state() {
        let plan = plan(2);
        check(&start(), &savepoint(), &plan, &Declarations::new()).unwrap();
        let a = state_of(&savepoint(), &plan.vertices[1], 1);
        assert_eq!((a.parallelism, a.snapshots.len()), (2, 1));
        assert_eq!((a.snapshots[0].subtask, a.snapshots[0].operators.len(), &a.snapshots[0].keyed), (1, 1, &None));
        let b = state_of(&savepoint(), &plan.vertices[2], 0);
        assert!(b.snapshots[0].operators.is_empty());
        assert_eq!(b.snapshots[0].keyed.as_ref().unwrap().tables.len(), 1);
        assert_eq!(state_of(&savepoint(), &plan.vertices[0], 0), Restore::default());
    }

    #[test]
    fn chains_that_become_one_bring_all_their_state() {
        let mut old = savepoint();
        let mut second = old.vertices[0].clone();
        second.vertex_id = "b".into();
        second.operators.remove(0);
        second.subtasks.iter_mut().for_each(|s| s.operators.clear());
        second.subtasks[0].finished = true;
        old.vertices[0].operators.remove(1);
        old.vertices[0].subtasks.iter_mut().for_each(|s| s.keyed = None);
        old.vertices.push(second);
        let mut vertex = plan(2).vertices[1].clone();
        vertex.operators.push(plan(2).vertices[2].operators[0].clone());
        let restore = state_of(&old, &vertex, 0);
        assert_eq!((restore.parallelism, restore.snapshots.len()), (2, 2));
        assert!(restore.snapshots.iter().all(|snapshot| !snapshot.finished));
        vertex.parallelism = 3;
        old.vertices[1].parallelism = 1;
        old.vertices[1].subtasks.truncate(1);
        let restore = state_of(&old, &vertex, 0);
        assert_eq!((restore.parallelism, restore.snapshots.len()), (0, 3), "it is dealt out");
    }

    #[test]
    fn tables_of_operators_that_are_elsewhere_are_named_to_be_dropped() {
        let mut old = savepoint();
        for subtask in &mut old.vertices[0].subtasks {
            subtask.keyed.as_mut().unwrap().tables.push(table("c", "x"));
        }
        let restore = state_of(&old, &plan(2).vertices[2], 0);
        let keyed = restore.snapshots[0].keyed.as_ref().unwrap();
        assert_eq!((keyed.tables.len(), keyed.dropped[0].operator_uid.as_str()), (1, "c"));
    }

    #[test]
    fn state_that_nobody_claims_is_refused_unless_that_is_wanted() {
        let plan = PlanBuilder::new().source("s", 1).vertex("b", 1).edge(0, 1, hash()).build();
        let error = refusal(&plan, &Declarations::new());
        assert!(error.contains("lacks: a (Op a); give") && error.contains("--allow-non-restored-state"), "{error}");
        let start = StartFrom { ignore_unclaimed: true, ..start() };
        check(&start, &savepoint(), &plan, &Declarations::new()).unwrap();
    }

    #[test]
    fn another_kind_or_schema_under_the_same_uid_is_refused_with_both() {
        let declared = Declarations::from([("b".to_owned(), vec![table("b", "sum BIGINT")])]);
        let error = refusal(&plan(2), &declared);
        let both =
            "was key (BIGINT), value (count BIGINT), version 1 and is key (BIGINT), value (sum BIGINT), version 1";
        assert!(error.contains(both), "{error}");
        let mut other = plan(2);
        other.vertices[1].operators[0].kind = Some(v1::operator::Kind::Calc(v1::Calc::default()));
        let error = refusal(&other, &Declarations::new());
        assert!(error.contains("operator 'a' was a union and is a calc now"), "{error}");
    }

    #[test]
    fn the_number_of_key_groups_stays_what_it_was() {
        let mut wide = plan(64);
        assert!(adopt(&mut wide, &savepoint()).unwrap());
        assert_eq!(wide.vertices.iter().map(|v| v.max_parallelism).collect::<Vec<_>>(), [128, 128, 64]);
        let error = refusal(&plan(65), &Declarations::new());
        assert!(error.contains("parallelism 65") && error.contains("max parallelism 64"), "{error}");
        let mut set = plan(2);
        set.vertices[2].max_parallelism_set = true;
        let error = refusal(&set, &Declarations::new());
        assert!(error.contains("max parallelism 128") && error.contains("has 64"), "{error}");
    }
}
