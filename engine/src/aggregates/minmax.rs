//! MIN and MAX. Over append-only input the state is the value; where rows can be taken back see
//! `counted`.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use hurtig_graph::aggregates::AggregateFunction;

use super::chunks::{ChunkedVec, Writer};
use super::columns::{
    ColumnReader, Representation, decimal_array, decimal_values, float_array, float_values, int_array, int_values,
    put_bytes, take_array, take_sized,
};
use super::counted::{Counted, Outcome};
use super::grouped::{Function, Grouped, wrong_partials};
use super::{Accumulator, AggregateSpec, Rows};
use crate::error::{EngineError, Result};

pub(super) fn create(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>> {
    let max = spec.function == AggregateFunction::Max;
    let ty = spec.arguments[0].clone();
    let representation = Representation::of(&ty)?;
    if representation == Representation::Nested {
        return Err(EngineError::Validation(format!("{} does not take values of type {ty}", spec.function.name())));
    }
    if spec.retracts {
        return Ok(Counted::boxed(ty, Outcome::Extreme { max }, spec.keeps_elements));
    }
    Ok(match representation {
        Representation::Int => Grouped::boxed(Extreme::<i64> { max, ty, number: PhantomData }, false),
        Representation::Float => Grouped::boxed(Extreme::<f64> { max, ty, number: PhantomData }, false),
        Representation::Decimal => Grouped::boxed(Extreme::<i128> { max, ty, number: PhantomData }, false),
        _ => Grouped::boxed(ExtremeBytes { max, ty }, true),
    })
}

trait Comparable: Copy + PartialOrd + Default + Send + Sync + 'static {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)>
    where
        Self: arrow::datatypes::ArrowNativeType;
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef>;
    fn put(self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Result<Self>;
}

macro_rules! comparable {
    ($native:ty, $read:path, $write:path) => {
        impl Comparable for $native {
            fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
                $read(array)
            }
            fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef> {
                $write(values, ty)
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut &[u8]) -> Result<Self> {
                Ok(Self::from_le_bytes(take_array(input)?))
            }
        }
    };
}

comparable!(i64, int_values, int_array);
comparable!(f64, float_values, float_array);
comparable!(i128, decimal_values, decimal_array);

/// MIN or MAX of numbers and times.
#[derive(Clone)]
struct Extreme<N> {
    max: bool,
    ty: DataType,
    number: PhantomData<N>,
}

impl<N: Comparable + arrow::datatypes::ArrowNativeType> Function for Extreme<N> {
    type State = Option<N>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let (values, nulls) = N::read(&arguments[0])?;
        let mut offer = |row: usize, group: u32, _: i64| self.combine(states.at(group), Some(values[row]));
        match nulls.filter(|n| n.null_count() > 0) {
            None => rows.for_each(offer),
            Some(nulls) => rows.for_each(|row, group, sign| {
                if nulls.is_valid(row) {
                    offer(row, group, sign);
                }
            }),
        }
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        N::write(groups.iter().map(|&g| *states.get(g)), &self.ty)
    }

    fn partial(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(states, groups)?])
    }

    fn merge(&self, states: &mut Writer<'_, Self::State>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        if partials.len() != 1 {
            return Err(wrong_partials());
        }
        self.update(states, partials, rows)
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(value) = state {
            Comparable::put(*value, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        let [present] = take_array(input)?;
        (present != 0).then(|| <N as Comparable>::take(input)).transpose()
    }

    #[inline]
    fn combine(&self, state: &mut Self::State, later: Self::State) {
        let better = match (&state, &later) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => {
                if self.max {
                    new > old
                } else {
                    new < old
                }
            }
        };
        if better {
            *state = later;
        }
    }
}

/// A column of strings or binaries.
fn bytes_array<'a>(values: impl Iterator<Item = Option<&'a [u8]>>, ty: &DataType) -> Result<ArrayRef> {
    if *ty == DataType::Binary {
        let mut builder = BinaryBuilder::new();
        values.for_each(|v| builder.append_option(v));
        return Ok(Arc::new(builder.finish()));
    }
    let mut builder = StringBuilder::new();
    for value in values {
        let text = value.map(std::str::from_utf8).transpose();
        builder.append_option(text.map_err(|_| EngineError::Internal("a string in the state is not UTF-8".into()))?);
    }
    Ok(Arc::new(builder.finish()))
}

/// MIN or MAX of strings and binaries, by their bytes.
#[derive(Clone)]
struct ExtremeBytes {
    max: bool,
    ty: DataType,
}

impl ExtremeBytes {
    fn better(&self, old: Option<&[u8]>, new: &[u8]) -> bool {
        old.is_none_or(|old| if self.max { new > old } else { new < old })
    }
}

impl Function for ExtremeBytes {
    type State = Option<Box<[u8]>>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], false)?;
        let mut value = Vec::new();
        rows.for_each(|row, group, _| {
            if !reader.is_null(row) {
                value.clear();
                reader.encode(row, &mut value);
                let state = states.at(group);
                if self.better(state.as_deref(), &value) {
                    *state = Some(value.as_slice().into());
                }
            }
        });
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        bytes_array(groups.iter().map(|&g| states.get(g).as_deref()), &self.ty)
    }

    fn partial(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(states, groups)?])
    }

    fn merge(&self, states: &mut Writer<'_, Self::State>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        if partials.len() != 1 {
            return Err(wrong_partials());
        }
        self.update(states, partials, rows)
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
        if let Some(value) = later
            && self.better(state.as_deref(), &value)
        {
            *state = Some(value);
        }
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |v| v.len())
    }
}
