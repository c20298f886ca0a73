//! Which kinds of change each node emits: bottom up what can occur, top down who needs the row
//! before an update.

use hurtig_proto::v1;

use super::NodeId;
use super::node::{NodeKind, Plan, Sink};
use crate::error::SqlError;

/// The kinds of change on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangelogMode {
    /// +I only.
    Append,
    /// +I, +U and -D, to be read by key.
    Upsert,
    /// +I, -U, +U and -D.
    Retract,
}

impl ChangelogMode {
    pub(crate) fn to_proto(self) -> v1::ChangelogMode {
        match self {
            ChangelogMode::Append => v1::ChangelogMode::Append,
            ChangelogMode::Upsert => v1::ChangelogMode::Upsert,
            ChangelogMode::Retract => v1::ChangelogMode::Retract,
        }
    }

    /// The kinds as plans show them.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            ChangelogMode::Append => "[I]",
            ChangelogMode::Upsert => "[I,UA,D]",
            ChangelogMode::Retract => "[I,UB,UA,D]",
        }
    }
}

/// The mode of every node's output; for sinks that of their input.
///
/// # Errors
/// A sink that cannot take what its query emits.
pub(crate) fn infer(plan: &Plan) -> Result<Vec<ChangelogMode>, SqlError> {
    let updating = updating(plan);
    let needs_before = needs_before(plan, &updating)?;
    let mut modes: Vec<ChangelogMode> = Vec::with_capacity(plan.nodes.len());
    for (id, node) in plan.nodes.iter().enumerate() {
        let mode = match &node.kind {
            _ if !updating[id] => ChangelogMode::Append,
            NodeKind::Source(_) => ChangelogMode::Retract,
            NodeKind::GroupAggregate(_) if needs_before[id] => ChangelogMode::Retract,
            NodeKind::GroupAggregate(_) => ChangelogMode::Upsert,
            _ => strongest(node.inputs.iter().map(|&input| modes[input])),
        };
        modes.push(mode);
    }
    Ok(modes)
}

fn strongest(modes: impl Iterator<Item = ChangelogMode>) -> ChangelogMode {
    let mut result = ChangelogMode::Append;
    for mode in modes {
        result = match (result, mode) {
            (ChangelogMode::Append, other) | (other, ChangelogMode::Append) => other,
            (ChangelogMode::Upsert, ChangelogMode::Upsert) => ChangelogMode::Upsert,
            _ => ChangelogMode::Retract,
        };
    }
    result
}

/// Which nodes can emit anything but +I.
fn updating(plan: &Plan) -> Vec<bool> {
    let mut updating: Vec<bool> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let of_inputs = node.inputs.iter().any(|&input| updating[input]);
        updating.push(match &node.kind {
            NodeKind::Source(source) => source.info.changelog,
            // Without calls it emits the first row of each key and nothing else, unless state expires:
            // then unchanged rows are emitted again, to keep those behind alive.
            NodeKind::GroupAggregate(aggregate) => {
                of_inputs || !aggregate.calls.is_empty() || aggregate.state_ttl_ms > 0
            }
            NodeKind::WindowAggregate(_) => false,
            _ => of_inputs,
        });
    }
    updating
}

/// Which nodes have a consumer that needs -U in front of +U.
fn needs_before(plan: &Plan, updating: &[bool]) -> Result<Vec<bool>, SqlError> {
    let mut needs = vec![false; plan.nodes.len()];
    for (id, node) in plan.nodes.iter().enumerate().rev() {
        for &input in &node.inputs {
            if updating[input] {
                needs[input] |= consumer_needs_before(plan, id, input, needs[id])?;
            }
        }
    }
    Ok(needs)
}

fn consumer_needs_before(plan: &Plan, id: NodeId, input: NodeId, asked: bool) -> Result<bool, SqlError> {
    let node = &plan.nodes[id];
    Ok(match &node.kind {
        NodeKind::GroupAggregate(_) | NodeKind::WindowAggregate(_) | NodeKind::Union => true,
        NodeKind::Calc(calc) => {
            let key = plan.nodes[input].key.as_deref().unwrap_or(&[]);
            let filters_by_key = calc.filter.as_ref().is_none_or(|filter| {
                let mut by_key = true;
                filter.visit(&mut |e| by_key &= e.as_column().is_none_or(|c| key.contains(&c)));
                by_key
            });
            asked || !filters_by_key || node.key.is_none()
        }
        NodeKind::Sink(sink) => sink_needs_before(plan, sink, input)?,
        NodeKind::Watermark(_) | NodeKind::WindowTable(_) | NodeKind::Source(_) => asked || node.key.is_none(),
    })
}

fn sink_needs_before(plan: &Plan, sink: &Sink, input: NodeId) -> Result<bool, SqlError> {
    let node = &plan.nodes[input];
    if !sink.info.accepts_updates {
        return Err(SqlError::validation(format!(
            "table sink '{}' takes inserts only, but the query updates its result (changes come from {}): write it to \
             a sink that takes updates, or aggregate in windows",
            sink.table,
            first_updating(plan, input),
        )));
    }
    if sink.info.wants_update_before || node.key.is_none() && sink.primary_key.is_empty() {
        return Ok(true);
    }
    if sink.primary_key.is_empty() {
        return Ok(false);
    }
    let mut key = node.key.clone().unwrap_or_default();
    let mut primary_key = sink.primary_key.clone();
    key.sort_unstable();
    primary_key.sort_unstable();
    if node.key.is_none() || key != primary_key {
        let names = |columns: &[usize]| {
            columns.iter().map(|&c| sink.schema.fields[c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let upsert = if node.key.is_none() { "none".to_owned() } else { format!("({})", names(&key)) };
        return Err(SqlError::Unsupported {
            construct: format!(
                "writing to '{}' with the primary key ({}) from a query whose upsert key is {upsert} is",
                sink.table,
                names(&primary_key)
            ),
            position: None,
        });
    }
    Ok(false)
}

/// The node that the changes come from, for messages.
fn first_updating(plan: &Plan, mut id: NodeId) -> String {
    let updating = updating(plan);
    while let Some(&input) = plan.nodes[id].inputs.iter().find(|&&input| updating[input]) {
        id = input;
    }
    plan.label(id)
}
