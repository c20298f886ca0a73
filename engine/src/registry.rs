//! From operator descriptions to operators: the factories that a TaskManager is given.

use std::collections::HashMap;
use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::config::{Configuration, keys};
use hurtig_graph::connector::Options;
use hurtig_proto::v1;

use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::expr::{ExprContext, ScalarFunction, ScalarFunctions};
use crate::operator::Operator;
use crate::operators::{self, BuildContext};
use crate::source::SourceReader;

/// What a source factory is given.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Table options.
    pub options: Options,
    /// The physical columns of the table.
    pub schema: RowSchema,
    /// Positions of the columns to produce; `None`: all.
    pub projection: Option<Vec<usize>>,
}

/// What a sink factory is given.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// Table options.
    pub options: Options,
    /// The columns written.
    pub schema: RowSchema,
    /// Positions of the primary key.
    pub primary_key: Vec<usize>,
    /// Positions of the partition columns.
    pub partition_by: Vec<usize>,
}

/// Builds readers of one connector.
pub type SourceFactory = Arc<dyn Fn(&SourceSpec) -> Result<Box<dyn SourceReader>> + Send + Sync>;
/// Builds writers of one connector.
pub type SinkFactory = Arc<dyn Fn(&SinkSpec) -> Result<Box<dyn Operator>> + Send + Sync>;
/// Builds custom operators from their configuration bytes.
pub type OperatorFactory = Arc<dyn Fn(&[u8]) -> Result<Box<dyn Operator>> + Send + Sync>;

/// The head of a chain, or a later member of it.
pub enum ChainMember {
    /// Has no input.
    Source(Box<dyn SourceReader>),
    /// Has inputs.
    Operator(Box<dyn Operator>),
}

/// All factories of a process. Built once, then shared.
#[derive(Clone, Default)]
pub struct OperatorRegistry {
    sources: HashMap<String, SourceFactory>,
    sinks: HashMap<String, SinkFactory>,
    custom: HashMap<String, OperatorFactory>,
    functions: ScalarFunctions,
}

impl OperatorRegistry {
    /// Registers the source of connector `name`.
    pub fn register_source(&mut self, name: impl Into<String>, factory: SourceFactory) {
        self.sources.insert(name.into(), factory);
    }

    /// Registers the sink of connector `name`.
    pub fn register_sink(&mut self, name: impl Into<String>, factory: SinkFactory) {
        self.sinks.insert(name.into(), factory);
    }

    /// Registers a custom operator.
    pub fn register_operator(&mut self, name: impl Into<String>, factory: OperatorFactory) {
        self.custom.insert(name.into(), factory);
    }

    /// Registers a user-defined scalar function. Its signature is registered with the SQL session.
    pub fn register_function(&mut self, name: &str, function: ScalarFunction) {
        self.functions.register(name, function);
    }

    /// The user-defined scalar functions, for [`crate::expr::ExprContext`].
    pub fn functions(&self) -> &ScalarFunctions {
        &self.functions
    }

    /// Builds the source or sink or custom operator of `operator`; `None` for the built-in kinds,
    /// which [`crate::operators::build`] makes.
    pub fn build_external(&self, operator: &v1::Operator) -> Result<Option<ChainMember>> {
        use v1::operator::Kind;
        match &operator.kind {
            Some(Kind::Source(source)) => {
                let spec = SourceSpec {
                    options: source.options.clone(),
                    schema: RowSchema::from_proto(&source.schema.clone().unwrap_or_default())?,
                    projection: source.projected.then(|| source.projection.iter().map(|&i| i as usize).collect()),
                };
                let factory = self.find(&self.sources, &source.options, "source")?;
                Ok(Some(ChainMember::Source(factory(&spec)?)))
            }
            Some(Kind::Sink(sink)) => {
                let spec = SinkSpec {
                    options: sink.options.clone(),
                    schema: RowSchema::from_proto(&sink.schema.clone().unwrap_or_default())?,
                    primary_key: sink.primary_key.iter().map(|&i| i as usize).collect(),
                    partition_by: sink.partition_by.iter().map(|&i| i as usize).collect(),
                };
                let factory = self.find(&self.sinks, &sink.options, "sink")?;
                Ok(Some(ChainMember::Operator(factory(&spec)?)))
            }
            Some(Kind::Custom(custom)) => {
                let factory = self.custom.get(&custom.factory).ok_or_else(|| {
                    EngineError::Validation(format!(
                        "no operator '{}' is registered in this process: register it on every TaskManager",
                        custom.factory
                    ))
                })?;
                Ok(Some(ChainMember::Operator(factory(&custom.configuration)?)))
            }
            _ => Ok(None),
        }
    }

    /// Builds any operator: from a registered factory, or a built-in kind over inputs of the given
    /// schemas.
    ///
    /// # Errors
    /// A description that cannot be built, or an unknown time zone in `configuration`.
    pub fn build(
        &self,
        operator: &v1::Operator,
        inputs: &[RowSchema],
        configuration: &Configuration,
        clock: &Arc<dyn Clock>,
    ) -> Result<ChainMember> {
        if let Some(member) = self.build_external(operator)? {
            return Ok(member);
        }
        let context = match configuration.text(&keys::LOCAL_TIME_ZONE) {
            None | Some("default") => ExprContext::default(),
            Some(zone) => ExprContext::with_zone(zone)?,
        };
        let expressions = ExprContext { functions: self.functions.clone(), clock: Arc::clone(clock), ..context };
        Ok(ChainMember::Operator(operators::build(operator, inputs, &BuildContext { expressions })?))
    }

    fn find<'a, F>(&self, factories: &'a HashMap<String, F>, options: &Options, role: &str) -> Result<&'a F> {
        let name = options.get("connector").map_or("", String::as_str);
        factories.get(name).ok_or_else(|| {
            let mut known: Vec<&str> = factories.keys().map(String::as_str).collect();
            known.sort_unstable();
            EngineError::Validation(format!("there is no {role} connector '{name}'; known are {}", known.join(", ")))
        })
    }
}
