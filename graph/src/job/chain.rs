//! Chaining: operators that can share a task become one vertex of the plan.

use hurtig_proto::v1::operator::Kind;
use hurtig_proto::v1::partitioner::Kind as Partitioning;

use super::identity::{display_name, id_of};
use super::structure::Draft;
use super::{PlanEdge, PlanVertex};

/// Chains a draft in which everything is settled.
pub(super) fn chain(draft: Draft, chaining: bool) -> (Vec<PlanVertex>, Vec<PlanEdge>) {
    // Position in the plan of the chain that each node is in.
    let mut chain_of = vec![usize::MAX; draft.nodes.len()];
    let mut vertices: Vec<PlanVertex> = Vec::new();
    for &position in &draft.order {
        let node = &draft.nodes[position];
        let mut operator = node.operator.clone();
        operator.name = display_name(&operator);
        operator.output_schema = Some(node.output.to_proto());
        operator.changelog = node.mode as i32;
        let upstream = chaining.then(|| chainable_input(&draft, position)).flatten();
        if let Some(upstream) = upstream {
            let vertex = chain_of[upstream];
            chain_of[position] = vertex;
            vertices[vertex].name.push_str(" -> ");
            vertices[vertex].name.push_str(&operator.name);
            vertices[vertex].operators.push(operator);
            continue;
        }
        chain_of[position] = vertices.len();
        vertices.push(PlanVertex {
            id: id_of(&operator.uid),
            name: operator.name.clone(),
            parallelism: node.parallelism,
            max_parallelism: node.max_parallelism,
            max_parallelism_set: node.max_parallelism_set,
            slot_sharing_group: node.slot_sharing_group.clone(),
            is_source: matches!(node.kind(), Kind::Source(_)),
            operators: vec![operator],
        });
    }
    let edges = edges_between(&draft, &chain_of);
    (vertices, edges)
}

/// The producer that `position` is chained to.
fn chainable_input(draft: &Draft, position: usize) -> Option<usize> {
    let node = &draft.nodes[position];
    let [input] = node.inputs[..] else { return None };
    let link = &draft.links[input];
    let producer = &draft.nodes[link.from];
    let chained = matches!(link.partitioner.kind, Some(Partitioning::Forward(_)))
        // The rows of a chain's end go to all its consumers; only a single one can be the next.
        && producer.outputs.len() == 1
        && !matches!(node.kind(), Kind::Union(_))
        && node.parallelism == producer.parallelism
        && node.slot_sharing_group == producer.slot_sharing_group;
    chained.then_some(link.from)
}

fn edges_between(draft: &Draft, chain_of: &[usize]) -> Vec<PlanEdge> {
    let mut edges = Vec::new();
    for link in &draft.links {
        let (from, to) = (chain_of[link.from], chain_of[link.to]);
        if from == to {
            continue;
        }
        // The uids of both operators, so that the id stays when chaining changes.
        let (producer, consumer) = (&draft.nodes[link.from].operator.uid, &draft.nodes[link.to].operator.uid);
        edges.push(PlanEdge {
            id: id_of(&format!("{producer}\n{consumer}\n{}", link.port)),
            from,
            to,
            to_port: link.port,
            partitioner: link.partitioner.clone(),
            ordered: link.ordered,
            schema: draft.nodes[link.from].output.to_proto(),
        });
    }
    edges
}
