//! Partitioners: what a missing one means, and whether a given one fits both of its ends.

use hurtig_proto::v1;
use hurtig_proto::v1::AggregatePhase;
use hurtig_proto::v1::operator::Kind;
use hurtig_proto::v1::partitioner::Kind as Partitioning;

use super::columns;
use super::structure::Draft;
use crate::error::GraphError;

/// What an operator needs of the partitioning of its input.
enum Need {
    Nothing,
    /// All rows of a key in one subtask, by the key group of these columns.
    Keys(Vec<u32>),
    /// All rows in one subtask.
    OneSubtask,
}

/// Completes and checks the partitioners of all inputs of a (resolved) vertex.
pub(super) fn settle_inputs(draft: &mut Draft, position: usize) -> Result<(), GraphError> {
    let need = need_of(draft.nodes[position].kind());
    for input in draft.nodes[position].inputs.clone() {
        settle(draft, input, &need)?;
    }
    Ok(())
}

fn need_of(kind: &Kind) -> Need {
    let (keys, phase) = match kind {
        Kind::GroupAggregate(aggregate) => (&aggregate.keys, aggregate.phase),
        Kind::WindowAggregate(aggregate) => (&aggregate.keys, aggregate.phase),
        _ => return Need::Nothing,
    };
    if phase == AggregatePhase::Local as i32 {
        return Need::Nothing;
    }
    if keys.is_empty() { Need::OneSubtask } else { Need::Keys(keys.clone()) }
}

fn settle(draft: &mut Draft, input: usize, need: &Need) -> Result<(), GraphError> {
    let (from, to) = (draft.links[input].from, draft.links[input].to);
    let (producers, consumers) = (draft.nodes[from].parallelism, draft.nodes[to].parallelism);
    let schema = draft.nodes[from].output.clone();
    let consumer = draft.nodes[to].id.clone();
    let link = &mut draft.links[input];
    let path = format!("{}.partitioner", link.path);
    if let Some(Partitioning::Hash(hash)) = &mut link.partitioner.kind {
        let path = format!("{path}.hash");
        columns::resolve(&mut hash.columns, &mut hash.column_names, &schema, &path, ("columns", "column_names"))?;
        if hash.columns.is_empty() {
            return Err(GraphError::at(format!("{path}.columns"), "a hash partitioner needs at least one column"));
        }
    }
    let given = link.partitioner.kind.clone();
    let settled = given.clone().unwrap_or_else(|| default_partitioning(need, producers, consumers));
    if matches!(settled, Partitioning::Forward(_)) && producers != consumers {
        let reason = format!(
            "forward needs equal parallelism, but the producer has {producers} and the consumer {consumers}: use \
             rebalance or rescale"
        );
        return Err(GraphError::at(path, reason));
    }
    match need {
        Need::Keys(keys) if !matches!(&settled, Partitioning::Hash(hash) if hash.columns == *keys) => {
            let names: Vec<&str> = keys.iter().map(|&k| schema.fields[k as usize].name.as_str()).collect();
            let reason = format!(
                "'{consumer}' aggregates by key, so its input must be partitioned by hash on its keys ({}), in that \
                 order",
                names.join(", ")
            );
            return Err(GraphError::at(path, reason));
        }
        Need::OneSubtask if consumers > 1 && !matches!(settled, Partitioning::Global(_)) => {
            let reason = format!(
                "'{consumer}' aggregates without a key, so its input must be partitioned as global, or its \
                 parallelism be 1"
            );
            return Err(GraphError::at(path, reason));
        }
        _ => {}
    }
    link.partitioner.kind = Some(settled);
    Ok(())
}

fn default_partitioning(need: &Need, producers: u32, consumers: u32) -> Partitioning {
    match need {
        Need::Keys(keys) => Partitioning::Hash(v1::Hash { columns: keys.clone(), column_names: Vec::new() }),
        Need::OneSubtask if producers > 1 || consumers > 1 => Partitioning::Global(v1::Global {}),
        _ if producers == consumers => Partitioning::Forward(v1::Forward {}),
        _ => Partitioning::Rebalance(v1::Rebalance {}),
    }
}
