//! Identity of operators and vertices: what state is matched by when a job is restored.
//!
//! An operator without a uid gets `<sink>/<kind>-<n>`: the sink whose rows it helps to make
//! ("collect" for a query), and the ordinal of its kind in a walk from that sink, inputs first. So
//! the uid does not change when another sink is added behind it, and it is the same at every
//! submission.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_proto::v1;
use hurtig_proto::v1::AggregatePhase;
use hurtig_proto::v1::operator::Kind;
use xxhash_rust::xxh3::xxh3_128;

use super::structure::Draft;
use crate::error::GraphError;

/// Sets the uid of every operator and refuses doubled ones.
pub(super) fn assign_uids(draft: &mut Draft) -> Result<(), GraphError> {
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for (i, node) in draft.nodes.iter().enumerate() {
        if node.operator.uid.is_empty() {
            continue;
        }
        if let Some(other) = given.insert(node.operator.uid.clone(), i) {
            let reason =
                format!("'{}' has the uid '{}' too: uids must be unique", draft.nodes[other].id, node.operator.uid);
            return Err(GraphError::at(format!("{}.operator.uid", node.path), reason));
        }
    }
    let mut taken: BTreeSet<String> = given.into_keys().collect();
    let mut visited = vec![false; draft.nodes.len()];
    let mut ordinals: BTreeMap<(String, &'static str), u32> = BTreeMap::new();
    let ends: Vec<usize> = (0..draft.nodes.len()).filter(|&i| draft.nodes[i].outputs.is_empty()).collect();
    for end in ends {
        let prefix = end_name(draft, end);
        for position in post_order(draft, end, &mut visited) {
            let kind = kind_name(draft.nodes[position].kind());
            let ordinal = ordinals.entry((prefix.clone(), kind)).or_insert(0);
            if !draft.nodes[position].operator.uid.is_empty() {
                *ordinal += 1;
                continue;
            }
            // A uid that was given may look like one of ours.
            let uid = loop {
                let uid = format!("{prefix}/{kind}-{ordinal}");
                *ordinal += 1;
                if taken.insert(uid.clone()) {
                    break uid;
                }
            };
            draft.nodes[position].operator.uid = uid;
        }
    }
    Ok(())
}

/// All nodes that `end` depends on and that were not visited before, inputs first, `end` last.
fn post_order(draft: &Draft, end: usize, visited: &mut [bool]) -> Vec<usize> {
    let mut order = Vec::new();
    // (node, next input to walk)
    let mut stack = vec![(end, 0)];
    visited[end] = true;
    while let Some((node, next)) = stack.pop() {
        match draft.nodes[node].inputs.get(next) {
            None => order.push(node),
            Some(&input) => {
                stack.push((node, next + 1));
                let from = draft.links[input].from;
                if !visited[from] {
                    visited[from] = true;
                    stack.push((from, 0));
                }
            }
        }
    }
    order
}

fn end_name(draft: &Draft, end: usize) -> String {
    let node = &draft.nodes[end];
    if let Kind::Sink(sink) = node.kind()
        && sink.options.get("connector").is_some_and(|c| c == "collect")
    {
        return "collect".to_owned();
    }
    if node.operator.name.is_empty() { node.id.clone() } else { node.operator.name.clone() }
}

/// The kind as it stands in uids: part of the identity of state, never to be changed.
fn kind_name(kind: &Kind) -> &'static str {
    let local = |phase: i32| phase == AggregatePhase::Local as i32;
    match kind {
        Kind::Source(_) => "source",
        Kind::Calc(_) => "calc",
        Kind::Watermark(_) => "watermark-assigner",
        Kind::GroupAggregate(a) if local(a.phase) => "local-group-aggregate",
        Kind::GroupAggregate(_) => "group-aggregate",
        Kind::WindowAggregate(a) if local(a.phase) => "local-window-aggregate",
        Kind::WindowAggregate(_) => "window-aggregate",
        Kind::WindowTableFunction(_) => "window-table-function",
        Kind::Sink(_) => "sink",
        Kind::Custom(_) => "custom",
        Kind::Union(_) => "union",
    }
}

/// The kind of an operator as it is written into snapshots, never to be changed.
pub fn state_kind(operator: &v1::Operator) -> &str {
    match &operator.kind {
        Some(Kind::Source(_)) => "source",
        Some(Kind::Calc(_)) => "calc",
        Some(Kind::Watermark(_)) => "watermark",
        Some(Kind::GroupAggregate(_)) => "group-aggregate",
        Some(Kind::WindowAggregate(_)) => "window-aggregate",
        Some(Kind::WindowTableFunction(_)) => "window-table-function",
        Some(Kind::Sink(_)) => "sink",
        Some(Kind::Custom(custom)) => &custom.factory,
        Some(Kind::Union(_)) => "union",
        None => "",
    }
}

/// A name for people, for an operator that has none.
pub(super) fn display_name(operator: &v1::Operator) -> String {
    if !operator.name.is_empty() {
        return operator.name.clone();
    }
    let connector = |options: &crate::connector::Options| options.get("connector").cloned().unwrap_or_default();
    match &operator.kind {
        Some(Kind::Source(source)) => format!("Source: {}", connector(&source.options)),
        Some(Kind::Sink(sink)) => format!("Sink: {}", connector(&sink.options)),
        Some(Kind::Calc(_)) => "Calc".to_owned(),
        Some(Kind::Watermark(_)) => "WatermarkAssigner".to_owned(),
        Some(Kind::GroupAggregate(a)) => format!("{}GroupAggregate", phase_name(a.phase)),
        Some(Kind::WindowAggregate(a)) => format!("{}WindowAggregate", phase_name(a.phase)),
        Some(Kind::WindowTableFunction(_)) => "WindowTableFunction".to_owned(),
        Some(Kind::Custom(custom)) => custom.factory.clone(),
        Some(Kind::Union(_)) => "Union".to_owned(),
        None => String::new(),
    }
}

fn phase_name(phase: i32) -> &'static str {
    match AggregatePhase::try_from(phase) {
        Ok(AggregatePhase::Local) => "Local",
        Ok(AggregatePhase::Global) => "Global",
        _ => "",
    }
}

/// 128 bits of `text` as 32 hex digits: the form of vertex and edge ids.
pub(super) fn id_of(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}
