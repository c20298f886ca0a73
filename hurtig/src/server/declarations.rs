//! The keyed state that the operators of a job declare, for the JobManager, which knows no operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use hurtig_engine::clock::{Clock, SystemClock};
use hurtig_engine::registry::{ChainMember, OperatorRegistry};
use hurtig_graph::RowSchema;
use hurtig_graph::job::JobPlan;
use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;
use hurtig_scheduler::job::savepoint::Declarations;

/// What the operators of `plan` declare. An operator that this process cannot build (a custom one that
/// only TaskManagers know) is left out; it is compared when it restores its state.
pub(super) fn declarations(plan: &JobPlan, registry: &OperatorRegistry) -> Declarations {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut declared = BTreeMap::new();
    for (position, vertex) in plan.vertices.iter().enumerate() {
        let mut inputs = ports(plan, position);
        for operator in &vertex.operators {
            let output = schema(operator.output_schema.as_ref());
            let inputs = std::mem::replace(&mut inputs, vec![output]);
            // They keep no keyed state, and building them may touch the outside world.
            if matches!(operator.kind, Some(Kind::Source(_) | Kind::Sink(_))) {
                continue;
            }
            match registry.build(operator, &inputs, &plan.configuration, &clock) {
                Ok(ChainMember::Operator(built)) => {
                    let cells = built.state_cells().into_iter().map(|cell| v1::TableEntry {
                        operator_uid: operator.uid.clone(),
                        cell: cell.name,
                        table: 0,
                        key_schema: cell.key_schema,
                        value_schema: cell.value_schema,
                        schema_version: u32::from(cell.schema_version),
                    });
                    declared.insert(operator.uid.clone(), cells.collect());
                }
                Ok(ChainMember::Source(_)) => {}
                Err(error) => {
                    tracing::debug!(operator = operator.uid, %error, "its state is compared when it restores")
                }
            }
        }
    }
    declared
}

/// The rows of each input port of a vertex.
fn ports(plan: &JobPlan, position: usize) -> Vec<RowSchema> {
    let edges = || plan.edges.iter().filter(|edge| edge.to == position);
    let ports = edges().map(|edge| edge.to_port as usize + 1).max().unwrap_or(0);
    let of_port = |port: usize| edges().find(|edge| edge.to_port as usize == port).map(|edge| &edge.schema);
    (0..ports).map(|port| schema(of_port(port))).collect()
}

fn schema(schema: Option<&v1::Schema>) -> RowSchema {
    schema.and_then(|schema| RowSchema::from_proto(schema).ok()).unwrap_or_default()
}
