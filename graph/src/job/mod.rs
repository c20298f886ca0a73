//! Job graphs made ready to run: validated, expressions resolved, schemas and identities derived,
//! operators chained into vertices, and the wiring between subtasks.
//!
//! [`plan`] is the one way from what a client submits ([`v1::JobGraph`]) to what the JobManager
//! schedules ([`JobPlan`]).

mod aggregates;
mod chain;
mod columns;
mod expressions;
mod identity;
mod operators;
mod partition;
mod structure;
#[cfg(test)]
mod tests;
mod wiring;

use hurtig_proto::v1;

pub use identity::state_kind;
pub use wiring::{consumers_of, is_all_to_all, producers_of};

use crate::config::{Configuration, keys};
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
    /// The user chose it; else state that is restored may bring another.
    pub max_parallelism_set: bool,
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
/// `cluster` is the configuration of the cluster; that of the graph overrides it.
///
/// # Errors
/// [`GraphError::Graph`] with the path of the first wrong field: an unknown or dangling vertex, a
/// cycle, an operator without kind, a column that does not exist, types that do not fit.
pub fn plan(graph: &v1::JobGraph, resolver: &dyn ExprResolver, cluster: &Configuration) -> Result<JobPlan, GraphError> {
    let configuration = cluster.merged_with(&Configuration::from_map(graph.configuration.clone()));
    let mut draft = structure::Draft::of(graph, &configuration)?;
    let context = operators::Context { resolver, configuration: &configuration };
    for position in draft.order.clone() {
        operators::resolve(&mut draft, position, &context)?;
        partition::settle_inputs(&mut draft, position)?;
    }
    identity::assign_uids(&mut draft)?;
    let chaining = configuration.bool(&keys::OPERATOR_CHAINING)?.unwrap_or(true);
    let (vertices, edges) = chain::chain(draft, chaining);
    let named = configuration.text(&keys::PIPELINE_NAME).unwrap_or("");
    let name = [graph.name.as_str(), named, "job"].into_iter().find(|n| !n.is_empty()).unwrap_or("job").to_owned();
    Ok(JobPlan { name, vertices, edges, configuration })
}
