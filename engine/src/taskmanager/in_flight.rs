//! What was in flight when an unaligned checkpoint was taken, to the subtasks that are restored.
//!
//! At equal parallelism it goes back to the channels that it was in. Otherwise rows that were on their
//! way to a consumer go to whom the edge's partitioner now sends them, and those that a producer had
//! not handed over are sent again by the producer that takes its place; watermarks are left out, since
//! every producer says the next one by itself.

use bytes::Bytes;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use hurtig_proto::v1::partitioner::Kind;
use hurtig_state::storage::ObjectStores;

use super::deploy::row_schema;
use crate::element::StreamElement;
use crate::error::{EngineError, Result};
use crate::exchange::Outputs;
use crate::exchange::captured::decode;
use crate::exchange::codec::Decoder;
use crate::exchange::scatter::Scatter;
use crate::task::machine::RecoveredInput;
use crate::task::snapshot::SnapshotStore;

/// Sends what producers had not handed over to `outputs`, and gives what was on its way to `subtask`.
/// Blocks.
///
/// # Errors
/// State that cannot be read, or of an edge that the job has not any more.
pub fn restore(
    stores: &ObjectStores,
    d: &internal::TaskDeployment,
    subtask: u32,
    outputs: &mut Outputs,
) -> Result<Vec<RecoveredInput>> {
    if d.restore_checkpoint_id == 0 {
        return Ok(Vec::new());
    }
    let equal = d.restore_parallelism == d.parallelism;
    let mut snapshots: Vec<&v1::SubtaskSnapshot> =
        d.restore.iter().filter(|s| !equal || s.subtask == subtask).collect();
    snapshots.sort_by_key(|s| s.subtask);
    for snapshot in &snapshots {
        if equal || snapshot.subtask % d.parallelism.max(1) == subtask {
            for state in &snapshot.outputs {
                resend(stores, d, state, equal, outputs)?;
            }
        }
    }
    let mut recovered = Vec::new();
    for snapshot in snapshots {
        for state in &snapshot.inputs {
            recovered.extend(input(stores, d, snapshot.subtask, subtask, state)?);
        }
    }
    Ok(recovered)
}

fn resend(
    stores: &ObjectStores,
    d: &internal::TaskDeployment,
    state: &v1::ChannelState,
    equal: bool,
    outputs: &mut Outputs,
) -> Result<()> {
    let edge = d.outputs.iter().find(|e| e.edge_id == state.edge_id).ok_or_else(|| gone(state))?;
    let elements = read(stores, state, edge.schema.as_ref())?;
    let same = equal && state.channels as usize == edge.channels.len();
    outputs.resend(&state.edge_id, same.then_some(state.consumer_subtask), &elements)
}

/// What `subtask` takes over of what was on its way to the subtask `from`.
fn input(
    stores: &ObjectStores,
    d: &internal::TaskDeployment,
    from: u32,
    subtask: u32,
    state: &v1::ChannelState,
) -> Result<Option<RecoveredInput>> {
    let gate = d.inputs.iter().find(|g| g.edge_id == state.edge_id).ok_or_else(|| gone(state))?;
    let equal = d.restore_parallelism == d.parallelism;
    let kind = gate.partitioner.as_ref().and_then(|p| p.kind.as_ref());
    let mine = match kind {
        _ if equal => true,
        Some(Kind::Hash(_)) => true,
        // Every subtask had a copy of its own.
        Some(Kind::Broadcast(_)) => from == 0,
        _ => from % d.parallelism.max(1) == subtask,
    };
    if !mine {
        return Ok(None);
    }
    let mut elements = read(stores, state, gate.schema.as_ref())?;
    if let (false, Some(Kind::Hash(hash))) = (equal, kind) {
        let columns = hash.columns.iter().map(|&c| c as usize).collect();
        let mut scatter = Scatter::new(columns, d.parallelism as usize, d.max_parallelism);
        let mut kept = Vec::new();
        for element in elements {
            if let StreamElement::Data(batch) = element {
                scatter.scatter(&batch, |target, rows| {
                    if target == subtask as usize {
                        kept.push(StreamElement::Data(rows));
                    }
                    Ok(())
                })?;
            }
        }
        elements = kept;
    }
    Ok((!elements.is_empty()).then(|| RecoveredInput {
        edge: state.edge_id.clone(),
        producer_subtask: state.producer_subtask,
        port: gate.port as usize,
        same_producer: equal && state.channels as usize == gate.channels.len(),
        elements: elements.into(),
    }))
}

fn read(stores: &ObjectStores, state: &v1::ChannelState, schema: Option<&v1::Schema>) -> Result<Vec<StreamElement>> {
    let stored: Bytes = SnapshotStore::read_channel(stores, state)?;
    decode(stored, &Decoder::new(row_schema(schema)?.to_arrow()))
}

fn gone(state: &v1::ChannelState) -> EngineError {
    EngineError::Validation(format!(
        "the checkpoint has rows in flight on the edge {}, which the job has not: start from a savepoint instead, \
         which has none",
        state.edge_id
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::clock::VirtualClock;
    use crate::exchange::captured::CapturedChannel;
    use crate::exchange::channel::{Channel, Payload};
    use crate::exchange::{ExchangeConfig, Outputs};
    use crate::task::testing::{channel, drain, output, read, row_schema, rows, shown};

    fn by_hash() -> Kind {
        Kind::Hash(v1::Hash { columns: vec![0], ..Default::default() })
    }

    fn stored(channel: &Channel, channels: usize, elements: &[StreamElement]) -> v1::ChannelState {
        let elements = elements.iter().cloned().map(Payload::Element).collect();
        let captured = CapturedChannel::of(channel, channels, elements);
        let content = v1::channel_state::Content::Inline(captured.encode().unwrap().to_vec());
        let (producer_subtask, consumer_subtask) = (captured.producer_subtask, captured.consumer_subtask);
        let (edge_id, channels) = (captured.edge, channels as u32);
        v1::ChannelState { edge_id, producer_subtask, consumer_subtask, channels, content: Some(content) }
    }

    /// A deployment with one input and one output edge, of two subtasks before.
    fn deployment(parallelism: u32, kind: Kind, restore: Vec<v1::SubtaskSnapshot>) -> internal::TaskDeployment {
        let partitioner = Some(v1::Partitioner { kind: Some(kind) });
        let schema = Some(row_schema().to_proto());
        let gate = internal::InputGate {
            edge_id: "in".into(),
            port: 0,
            schema: schema.clone(),
            channels: vec![internal::InputChannel::default(); 2],
            partitioner: partitioner.clone(),
        };
        let out = internal::OutputEdge {
            edge_id: "out".into(),
            partitioner,
            schema,
            channels: vec![internal::OutputChannel::default(); 2],
            ..Default::default()
        };
        internal::TaskDeployment {
            parallelism,
            max_parallelism: 128,
            inputs: vec![gate],
            outputs: vec![out],
            restore_checkpoint_id: 7,
            restore_parallelism: 2,
            restore,
            ..Default::default()
        }
    }

    fn outputs(channels: &[Arc<Channel>]) -> Outputs {
        let spec = output("out", by_hash(), channels);
        Outputs::new(vec![spec], VirtualClock::at(0), &ExchangeConfig::default(), 0).unwrap()
    }

    fn values(recovered: &[RecoveredInput]) -> Vec<i64> {
        let rows = recovered.iter().flat_map(|r| &r.elements).filter_map(|e| match e {
            StreamElement::Data(batch) => Some(read(batch)),
            _ => None,
        });
        rows.flatten().map(|r| r.1).collect()
    }

    fn numbers(range: std::ops::Range<i64>) -> StreamElement {
        StreamElement::Data(rows(&range.map(|n| (n, n)).collect::<Vec<_>>()))
    }

    fn snapshots() -> Vec<v1::SubtaskSnapshot> {
        let snapshot = |subtask: u32, range: std::ops::Range<i64>| v1::SubtaskSnapshot {
            subtask,
            inputs: vec![stored(&channel("in", 1, subtask), 2, &[numbers(range.clone()), StreamElement::Watermark(3)])],
            outputs: vec![stored(&channel("out", subtask, 1), 2, &[numbers(range)])],
            ..Default::default()
        };
        vec![snapshot(0, 0..100), snapshot(1, 100..200)]
    }

    #[test]
    fn at_equal_parallelism_everything_returns_to_its_channel() {
        let channels = [channel("out", 1, 0), channel("out", 1, 1)];
        let mut outputs = outputs(&channels);
        let d = deployment(2, by_hash(), vec![snapshots().remove(1)]);
        let recovered = restore(&ObjectStores::default(), &d, 1, &mut outputs).unwrap();
        assert_eq!((recovered.len(), recovered[0].producer_subtask, recovered[0].same_producer), (1, 1, true));
        assert_eq!(values(&recovered), (100..200).collect::<Vec<_>>());
        assert_eq!(recovered[0].elements.len(), 2, "the watermark too");
        assert!(drain(&channels[0]).is_empty());
        assert_eq!(shown(&drain(&channels[1])).len(), 1);
    }

    #[test]
    fn after_rescaling_each_row_goes_to_one_subtask_the_owner_of_its_key() {
        for parallelism in [1, 3, 7] {
            let (mut taken, mut sent) = (Vec::new(), Vec::new());
            for subtask in 0..parallelism {
                let channels: Vec<_> = (0..3).map(|c| channel("out", subtask, c)).collect();
                let mut outputs = outputs(&channels);
                let d = deployment(parallelism, by_hash(), snapshots());
                let recovered = restore(&ObjectStores::default(), &d, subtask, &mut outputs).unwrap();
                taken.extend(values(&recovered));
                assert!(recovered.iter().all(|r| !r.same_producer && r.elements.len() == 1));
                outputs.flush().unwrap();
                let rows = channels.iter().flat_map(|c| drain(c)).filter_map(|e| match e {
                    StreamElement::Data(batch) => Some(read(&batch)),
                    _ => None,
                });
                sent.extend(rows.flatten().map(|r| r.1));
            }
            for all in [&taken, &sent] {
                assert_eq!(all.len(), 200, "at {parallelism}");
                assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 200, "at {parallelism}");
            }
        }
    }

    #[test]
    fn copies_of_broadcast_rows_are_not_doubled() {
        for subtask in 0..3 {
            let mut outputs = outputs(&[channel("out", subtask, 0)]);
            let d = deployment(3, Kind::Broadcast(v1::Broadcast {}), snapshots());
            let recovered = restore(&ObjectStores::default(), &d, subtask, &mut outputs).unwrap();
            assert_eq!(values(&recovered), (0..100).collect::<Vec<_>>());
        }
    }
}
