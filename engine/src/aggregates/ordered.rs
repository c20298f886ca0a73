//! Functions whose state is the values themselves, in order of arrival: FIRST_VALUE, LAST_VALUE, LISTAGG,
//! ARRAY_AGG.
//!
//! Taking a row back removes the oldest equal value and keeps the order of the others, as in Flink.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use hurtig_graph::aggregates::AggregateFunction;

use super::chunks::{ChunkedVec, Writer};
use super::columns::{ColumnReader, decode_column, put_bytes, take_array, take_sized};
use super::counted::{Counted, Outcome};
use super::grouped::{Function, Grouped};
use super::{Accumulator, AggregateSpec, Rows};
use crate::error::{EngineError, Result};

pub(super) fn create(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>> {
    let ty = spec.arguments[0].clone();
    let result = spec.result.clone();
    let first = spec.function == AggregateFunction::FirstValue;
    Ok(match spec.function {
        AggregateFunction::FirstValue | AggregateFunction::LastValue if !spec.retracts => {
            Grouped::boxed(Single { first, ty }, true)
        }
        AggregateFunction::FirstValue => Grouped::boxed(List { shape: Shape::First, ty, result }, true),
        AggregateFunction::LastValue => Grouped::boxed(List { shape: Shape::Last, ty, result }, true),
        AggregateFunction::ListAgg => {
            let separator = spec.parameters.first().cloned().unwrap_or_else(|| ",".into());
            Grouped::boxed(List { shape: Shape::Joined(separator), ty, result }, true)
        }
        AggregateFunction::ArrayAgg => {
            let ignore_nulls = spec.parameters.iter().any(|p| p.eq_ignore_ascii_case("IGNORE NULLS"));
            Grouped::boxed(List { shape: Shape::Array { ignore_nulls }, ty, result }, true)
        }
        AggregateFunction::Collect => Counted::boxed(ty, Outcome::Multiset(result), spec.keeps_elements),
        other => {
            return Err(EngineError::Internal(format!("{} is not a function over lists", other.name())));
        }
    })
}

/// FIRST_VALUE and LAST_VALUE over append-only input. Values are shared with what is frozen, so that a
/// chunk is copied without copying them.
#[derive(Clone)]
struct Single {
    first: bool,
    ty: DataType,
}

impl Function for Single {
    type State = Option<Arc<[u8]>>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], false)?;
        let mut value = Vec::new();
        rows.for_each(|row, group, _| {
            let state = states.at(group);
            if reader.is_null(row) || (self.first && state.is_some()) {
                return;
            }
            value.clear();
            reader.encode(row, &mut value);
            match state.as_mut().and_then(Arc::get_mut) {
                // The common case of LAST_VALUE over fixed-width values: no allocation.
                Some(old) if old.len() == value.len() => old.copy_from_slice(&value),
                _ => *state = Some(value.as_slice().into()),
            }
        });
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        decode_column(groups.iter().map(|&g| states.get(g).as_deref()), &self.ty)
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(value) = state {
            put_bytes(value, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        let [present] = take_array(input)?;
        (present != 0).then(|| take_sized(input).map(Into::into)).transpose()
    }

    fn combine(&self, state: &mut Self::State, later: Self::State) {
        if later.is_some() && !(self.first && state.is_some()) {
            *state = later;
        }
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        // Behind two counters.
        state.as_ref().map_or(0, |v| v.len() + 2 * size_of::<usize>())
    }
}

/// What becomes of a list of values.
#[derive(Clone)]
enum Shape {
    First,
    Last,
    /// With this separator.
    Joined(String),
    Array {
        ignore_nulls: bool,
    },
}

type Values = Vec<Option<Box<[u8]>>>;

/// Functions over all values in order of arrival.
#[derive(Clone)]
struct List {
    shape: Shape,
    ty: DataType,
    result: DataType,
}

impl List {
    fn keeps_nulls(&self) -> bool {
        matches!(self.shape, Shape::Array { ignore_nulls: false })
    }

    fn joined(&self, values: &Values, separator: &str) -> Result<Option<String>> {
        if values.is_empty() {
            return Ok(None);
        }
        let mut text = Vec::new();
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                text.extend_from_slice(separator.as_bytes());
            }
            text.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        String::from_utf8(text)
            .map(Some)
            .map_err(|_| EngineError::Internal("a string in the state is not UTF-8".into()))
    }

    fn arrays(&self, states: &ChunkedVec<Arc<Values>>, groups: &[u32]) -> Result<ArrayRef> {
        let DataType::List(item) = &self.result else {
            return Err(EngineError::Internal("the result of ARRAY_AGG is not an array".into()));
        };
        let lists = || groups.iter().map(|&g| states.get(g));
        let values = decode_column(lists().flat_map(|l| l.iter().map(Option::as_deref)), item.data_type())?;
        let offsets = OffsetBuffer::from_lengths(lists().map(|l| l.len()));
        let nulls = NullBuffer::from_iter(lists().map(|l| !l.is_empty()));
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(nulls))?))
    }
}

impl Function for List {
    type State = Arc<Values>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], false)?;
        let mut bytes = Vec::new();
        rows.for_each(|row, group, sign| {
            let null = reader.is_null(row);
            if null && !self.keeps_nulls() {
                return;
            }
            bytes.clear();
            if !null {
                reader.encode(row, &mut bytes);
            }
            let value = (!null).then_some(bytes.as_slice());
            let values = Arc::make_mut(states.at(group));
            if sign > 0 {
                values.push(value.map(Into::into));
            } else if let Some(oldest) = values.iter().position(|v| v.as_deref() == value) {
                values.remove(oldest);
            }
        });
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        let lists = groups.iter().map(|&g| states.get(g));
        match &self.shape {
            Shape::First => decode_column(lists.map(|l| l.first().and_then(Option::as_deref)), &self.ty),
            Shape::Last => decode_column(lists.map(|l| l.last().and_then(Option::as_deref)), &self.ty),
            Shape::Joined(separator) => {
                let mut builder = StringBuilder::new();
                for list in lists {
                    builder.append_option(self.joined(list, separator)?);
                }
                Ok(Arc::new(builder.finish()))
            }
            Shape::Array { .. } => self.arrays(states, groups),
        }
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.extend_from_slice(&(state.len() as u32).to_le_bytes());
        for value in state.iter() {
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                put_bytes(value, out);
            }
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        let length = u32::from_le_bytes(take_array(input)?);
        let mut values = Values::new();
        for _ in 0..length {
            let [present] = take_array(input)?;
            values.push((present != 0).then(|| take_sized(input).map(Into::into)).transpose()?);
        }
        Ok(Arc::new(values))
    }

    fn combine(&self, state: &mut Self::State, later: Self::State) {
        Arc::make_mut(state).extend(later.iter().cloned());
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        // Values of a list are taken to be as long as its first.
        state.len() * (32 + state.first().and_then(Option::as_ref).map_or(0, |v| v.len()))
    }
}
