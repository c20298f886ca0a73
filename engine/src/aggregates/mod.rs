//! Aggregate functions over grouped columns.
//!
//! An [`Accumulator`] holds the states of all groups of one aggregate call, in chunks
//! ([`chunks`]), and works on whole batches: `update` adds (or, by sign, takes back) rows, `merge`
//! adds the accumulator columns of another phase or window slice, `evaluate` gives results. Types
//! and results follow Flink; `hurtig_graph::aggregates` has the type rules and the accumulator
//! columns of calls that can be split into phases. For a call that cannot, `partial` gives one
//! BINARY column with the encoded states, so that window slices merge all the same.
//!
//! | module | functions |
//! | --- | --- |
//! | `numeric` | COUNT, SUM, AVG, STDDEV, VAR |
//! | `minmax` | MIN, MAX |
//! | `ordered` | FIRST_VALUE, LAST_VALUE, LISTAGG, ARRAY_AGG |
//! | `counted` | COLLECT, MIN and MAX where rows can be taken back |
//! | `distinct` | DISTINCT of any of them |
//! | `sets` | sets of values, large ones kept element by element |
//! | [`columns`] | uniform access to columns, values as bytes |

pub mod chunks;
pub mod columns;
mod counted;
mod distinct;
mod grouped;
mod minmax;
mod numeric;
mod ordered;
mod sets;
#[cfg(test)]
mod tests;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType as ArrowType;
use hurtig_graph::aggregates::{AggregateFunction, accumulator_types, argument_types, function_of, result_field};
use hurtig_graph::{DataType, RowSchema};
use hurtig_proto::v1;

use crate::error::{EngineError, Result};
use chunks::{GroupBits, Touched};
pub use sets::{ElementChange, ElementWrites};

/// Rows of a batch with their groups.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The group of each row.
    pub groups: &'a [u32],
    /// Which rows of the columns these are, in order; `None`: all, from the first.
    pub selection: Option<&'a [u32]>,
    /// +1 or -1 for each; `None`: all +1.
    pub signs: Option<&'a [i8]>,
    /// The chunks of `groups`.
    pub touched: &'a Touched,
}

impl Rows<'_> {
    /// Calls `f(row, group, sign)` for each row.
    #[inline]
    pub fn for_each(&self, mut f: impl FnMut(usize, u32, i64)) {
        match (self.selection, self.signs) {
            (None, None) => self.groups.iter().enumerate().for_each(|(row, &g)| f(row, g, 1)),
            (Some(rows), None) => rows.iter().zip(self.groups).for_each(|(&row, &g)| f(row as usize, g, 1)),
            (None, Some(signs)) => {
                self.groups.iter().zip(signs).enumerate().for_each(|(row, (&g, &s))| f(row, g, i64::from(s)));
            }
            (Some(rows), Some(signs)) => {
                let rows = rows.iter().zip(self.groups).zip(signs);
                rows.for_each(|((&row, &g), &s)| f(row as usize, g, i64::from(s)));
            }
        }
    }
}

/// The states of all groups of one aggregate call.
pub trait Accumulator: Send {
    /// Grows to `groups` groups; new ones are empty.
    fn resize(&mut self, groups: usize);
    /// Adds rows of the argument columns, or takes them back where their sign is -1.
    fn update(&mut self, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()>;
    /// Adds what [`Accumulator::partial`] of another accumulator gave.
    fn merge(&mut self, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()>;
    /// The results of `groups`.
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef>;
    /// The states of `groups` in columns.
    fn partial(&self, groups: &[u32]) -> Result<Vec<ArrayRef>>;
    /// Sets the state of `group` to what a [`FrozenAccumulator`] wrote, and reads it off `input`.
    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()>;
    /// Whether the state just decoded is one of a large set, whose elements come by
    /// [`Accumulator::restore_element`].
    fn wants_elements(&self, _group: u32) -> bool {
        false
    }
    /// Adds an element that a [`FrozenAccumulator`] gave to be written.
    fn restore_element(&mut self, _group: u32, _value: &[u8], _stored: &[u8]) -> Result<()> {
        Ok(())
    }
    /// Whether the database has elements of the group's set.
    fn has_stored_elements(&self, _group: u32) -> bool {
        false
    }
    /// The database has elements of the group's set, which came here by [`Accumulator::merge`].
    fn note_stored_elements(&mut self, _group: u32) {}
    /// Makes `groups` empty.
    fn reset(&mut self, groups: &[u32]);
    /// The numbers of `groups`, which are empty, will be given to others.
    fn forget(&mut self, _groups: &[u32]) {}
    /// The states of the chunks of these numbers, by reference. Of them `puts` are to be written and
    /// `deletes` to be deleted.
    fn freeze(&mut self, chunks: &[usize], puts: &GroupBits, deletes: &GroupBits) -> Box<dyn FrozenAccumulator>;
    /// Bytes of each group's state, without what it owns beside.
    fn state_bytes(&self) -> usize;
    /// Whether states own memory beside themselves.
    fn owns_heap(&self) -> bool {
        false
    }
    /// Approximate bytes that the states of `groups` own beside themselves. Cheap: called before and after
    /// each change.
    fn heap_bytes(&self, _groups: &[u32]) -> usize {
        0
    }
}

/// States as they were at a freeze.
pub trait FrozenAccumulator: Send {
    /// Appends the state at `offset` of the `index`-th chunk frozen.
    fn encode(&self, index: usize, offset: usize, out: &mut Vec<u8>);
    /// Whether that state is one of a large set, whose elements are written beside.
    fn is_large(&self, _index: usize, _offset: usize) -> bool {
        false
    }
    /// What is to be written of the elements of a group's large set.
    fn elements(&self, _group: u32) -> Option<&ElementWrites> {
        None
    }
}

/// What an aggregate call computes, without its place in a batch.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// The function.
    pub function: AggregateFunction,
    /// Physical types of the arguments.
    pub arguments: Vec<ArrowType>,
    /// Physical type of the result.
    pub result: ArrowType,
    /// Each value counts once.
    pub distinct: bool,
    /// Constant parameters.
    pub parameters: Vec<String>,
    /// Rows may be taken back.
    pub retracts: bool,
    /// Large sets are kept element by element in the database.
    pub keeps_elements: bool,
}

/// Makes an accumulator without groups.
///
/// # Errors
/// Arguments of a type that the function does not take.
pub fn create(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>> {
    if spec.distinct && !spec.arguments.is_empty() {
        return distinct::create(spec);
    }
    match spec.function {
        AggregateFunction::Count
        | AggregateFunction::Sum
        | AggregateFunction::Avg
        | AggregateFunction::StddevPop
        | AggregateFunction::StddevSamp
        | AggregateFunction::VarPop
        | AggregateFunction::VarSamp => numeric::create(spec),
        AggregateFunction::Min | AggregateFunction::Max => minmax::create(spec),
        _ => ordered::create(spec),
    }
}

/// An aggregate call of an operator: its spec and where its columns are.
#[derive(Debug, Clone)]
pub struct BoundCall {
    /// What it computes.
    pub spec: AggregateSpec,
    /// Positions of the arguments, or of the accumulator columns when `merges`.
    pub columns: Vec<usize>,
    /// Position of the FILTER column, none when `merges`.
    pub filter: Option<usize>,
    /// The call has a FILTER, here or in the LOCAL phase before: not every row counts.
    pub filtered: bool,
    /// Whether the input carries accumulator columns.
    pub merges: bool,
    /// The call in Flink's terms, as `COUNT(DISTINCT BIGINT)`: state is declared with it.
    pub declaration: String,
    /// The result's column.
    pub field: hurtig_graph::RowField,
    /// The columns of the accumulator when the call can be split, else empty.
    pub accumulator_fields: Vec<hurtig_graph::RowField>,
}

impl BoundCall {
    /// The call over rows of `input`.
    ///
    /// # Errors
    /// An unknown function, arguments that do not exist or fit.
    pub fn bind(call: &v1::AggregateCall, input: &RowSchema, retracts: bool) -> Result<BoundCall> {
        let function = function_of(call)?;
        let arguments = argument_types(call, input)?;
        let expected = usize::from(function != AggregateFunction::Count);
        if arguments.len() > 1 || arguments.len() < expected {
            return Err(EngineError::Validation(format!(
                "{} takes one argument, but {} are given for '{}'",
                function.name(),
                arguments.len(),
                call.name
            )));
        }
        let filter = call.filter.map(|f| f as usize);
        if let Some(filter) = filter
            && input.fields.get(filter).is_none_or(|f| f.data_type.logical != hurtig_graph::LogicalType::Boolean)
        {
            return Err(EngineError::Validation(format!(
                "the filter of '{}' must be a BOOLEAN column of the input, but column {filter} is not",
                call.name
            )));
        }
        let field = result_field(call, input)?;
        let spec = AggregateSpec {
            function,
            arguments: arguments.iter().map(|t: &DataType| t.logical.to_arrow()).collect(),
            result: field.data_type.logical.to_arrow(),
            distinct: call.distinct,
            parameters: call.parameters.clone(),
            retracts,
            keeps_elements: false,
        };
        create(&spec)?;
        let types: Vec<String> = arguments.iter().map(|t| t.logical.to_string()).collect();
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        Ok(BoundCall {
            spec,
            declaration: format!("{}({distinct}{})", function.name(), types.join(", ")),
            columns: call.arguments.iter().map(|&i| i as usize).collect(),
            filter,
            filtered: filter.is_some(),
            merges: false,
            field,
            accumulator_fields: accumulator_types(call, input, retracts)?.unwrap_or_default(),
        })
    }

    /// The same call over the output of a LOCAL phase, its accumulator columns from `first` on.
    pub fn after_local(mut self, first: usize) -> Result<BoundCall> {
        if self.accumulator_fields.is_empty() {
            return Err(EngineError::Validation(format!(
                "'{}' cannot be computed in two phases: plan it with phase SINGLE",
                self.field.name
            )));
        }
        self.columns = (first..first + self.accumulator_fields.len()).collect();
        self.filter = None;
        self.merges = true;
        Ok(self)
    }

    /// Adds rows of `records` to `accumulator`. `scratch` is reused from call to call.
    pub fn apply(
        &self,
        accumulator: &mut dyn Accumulator,
        records: &RecordBatch,
        rows: &Rows<'_>,
        scratch: &mut FilterScratch,
    ) -> Result<()> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&c| records.column(c).clone()).collect();
        if self.merges {
            return accumulator.merge(&columns, rows);
        }
        match self.filter {
            None => accumulator.update(&columns, rows),
            Some(filter) => {
                scratch.fill(records.column(filter), rows)?;
                accumulator.update(&columns, &scratch.rows(rows))
            }
        }
    }
}

/// The rows that pass a FILTER.
#[derive(Debug, Default)]
pub struct FilterScratch {
    selection: Vec<u32>,
    groups: Vec<u32>,
    signs: Vec<i8>,
}

impl FilterScratch {
    fn fill(&mut self, filter: &ArrayRef, rows: &Rows<'_>) -> Result<()> {
        self.selection.clear();
        self.groups.clear();
        self.signs.clear();
        let Some(filter) = filter.as_boolean_opt() else {
            return Err(EngineError::Internal("the column of a FILTER is not BOOLEAN".into()));
        };
        rows.for_each(|row, group, sign| {
            if filter.is_valid(row) && filter.value(row) {
                self.push(row, group, sign);
            }
        });
        Ok(())
    }

    fn push(&mut self, row: usize, group: u32, sign: i64) {
        self.selection.push(row as u32);
        self.groups.push(group);
        self.signs.push(sign as i8);
    }

    fn clear(&mut self) {
        self.selection.clear();
        self.groups.clear();
        self.signs.clear();
    }

    fn rows<'a>(&'a self, of: &Rows<'a>) -> Rows<'a> {
        Rows {
            groups: &self.groups,
            selection: Some(&self.selection),
            signs: of.signs.is_some().then_some(&self.signs),
            touched: of.touched,
        }
    }
}
