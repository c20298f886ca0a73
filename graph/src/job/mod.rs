//! Job graphs made ready to run: validated, expressions resolved, schemas and identities derived,
//! operators chained into vertices, and the wiring between subtasks.
//!
//! [`plan`] is the one way from what a client submits ([`v1::JobGraph`]) to what the JobManager
//! schedules ([`JobPlan`]).

use hurtig_proto::v1;

use crate::config::Configuration;
use crate::error::GraphError;
use crate::expr::Expr;
use crate::schema::RowSchema;
use crate::types::DataType;

/// Turns SQL text into typed expressions, and types calls that clients left untyped. Implemented by
/// `hurtig-sql`.
pub trait ExprResolver: Send + Sync {
    /// A scalar expression over rows of `input`.
    ///
    /// # Errors
    /// A message that says what is wrong in the text.
    fn scalar(&self, sql: &str, input: &RowSchema, configuration: &Configuration) -> Result<Expr, String>;

    /// The result type of an aggregate function.
    ///
    /// # Errors
    /// A message when there is no such function for these arguments.
    fn aggregate_type(&self, function: &str, arguments: &[DataType], grouped: bool) -> Result<DataType, String>;
}

/// A job ready to be scheduled.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPlan {
    /// For people.
    pub name: String,
    /// Chains, in an order in which producers come before consumers.
    pub vertices: Vec<PlanVertex>,
    /// Between chains.
    pub edges: Vec<PlanEdge>,
    /// The job's configuration.
    pub configuration: Configuration,
}

/// A chain of operators that runs as one task a subtask.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanVertex {
    /// Derived from the uid of the head operator: 32 hex digits, stable over submissions.
    pub id: String,
    /// Names of the operators, joined by " -> ".
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Slots are shared within a group.
    pub slot_sharing_group: String,
    /// Head first. Uid, name, output schema and changelog mode are set, expressions are typed.
    pub operators: Vec<v1::Operator>,
    /// The head is a source.
    pub is_source: bool,
}

/// A connection between chains.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanEdge {
    /// Unique and stable within the plan.
    pub id: String,
    /// Positions in [`JobPlan::vertices`].
    pub from: usize,
    /// Positions in [`JobPlan::vertices`].
    pub to: usize,
    /// Input port of the target's head operator.
    pub to_port: u32,
    /// With resolved columns.
    pub partitioner: v1::Partitioner,
    /// See [`v1::Edge`].
    pub ordered: bool,
    /// Rows on this edge.
    pub schema: v1::Schema,
}

/// Validates `graph` and makes it ready to run. Nothing is half done on an error.
///
/// # Errors
/// [`GraphError::Graph`] with the path of the first wrong field: an unknown or dangling vertex, a
/// cycle, an operator without kind, a column that does not exist, types that do not fit.
pub fn plan(
    _graph: &v1::JobGraph,
    _resolver: &dyn ExprResolver,
    _cluster: &Configuration,
) -> Result<JobPlan, GraphError> {
    Err(GraphError::Unsupported("job graphs cannot be planned yet".into()))
}

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
