//! MIN and MAX. Over append-only input the state is the value; where rows can be taken back it is
//! every value with its count, ordered.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use hurtig_graph::aggregates::AggregateFunction;

use super::chunks::{ChunkedVec, Writer};
use super::columns::{
    ColumnReader, Representation, decimal_array, decimal_values, decode_column, float_array, float_values, int_array,
    int_values, put_bytes, take_array, take_sized,
};
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
        return Ok(Grouped::boxed(Counted { max, ty }, true));
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

/// What a value of a set weighs beside its bytes: its node's share, its box.
const ENTRY_BYTES: usize = 48;

/// Values (encoded, so ordered) with their counts. Below zero: taken back before they came.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueCounts {
    counts: BTreeMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl ValueCounts {
    /// Adds `change` appearances of a value.
    pub(super) fn add(&mut self, value: &[u8], change: i64) {
        match self.counts.get_mut(value) {
            Some(count) => {
                *count += change;
                if *count == 0 {
                    self.counts.remove(value);
                    self.bytes -= value.len() + ENTRY_BYTES;
                }
            }
            None => {
                self.counts.insert(value.into(), change);
                self.bytes += value.len() + ENTRY_BYTES;
            }
        }
    }

    /// Adds another set's appearances.
    pub(super) fn add_all(&mut self, other: &ValueCounts) {
        other.counts.iter().for_each(|(value, count)| self.add(value, *count));
    }

    /// The values that are there, in order, with their counts.
    pub(super) fn present(&self) -> impl DoubleEndedIterator<Item = (&[u8], i64)> {
        self.counts.iter().filter(|(_, count)| **count > 0).map(|(value, count)| (value.as_ref(), *count))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.counts.len() as u32).to_le_bytes());
        for (value, count) in &self.counts {
            put_bytes(value, out);
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    pub(super) fn decode(input: &mut &[u8]) -> Result<ValueCounts> {
        let length = u32::from_le_bytes(take_array(input)?);
        let mut counts = ValueCounts::default();
        for _ in 0..length {
            let value = take_sized(input)?;
            counts.add(value, i64::from_le_bytes(take_array(input)?));
        }
        Ok(counts)
    }

    /// Approximate memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// MIN or MAX where rows can be taken back.
#[derive(Clone)]
struct Counted {
    max: bool,
    ty: DataType,
}

impl Function for Counted {
    type State = Arc<ValueCounts>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], false)?;
        let mut value = Vec::new();
        rows.for_each(|row, group, sign| {
            if !reader.is_null(row) {
                value.clear();
                reader.encode(row, &mut value);
                Arc::make_mut(states.at(group)).add(&value, sign);
            }
        });
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        let extremes = groups.iter().map(|&g| {
            let mut present = states.get(g).present().map(|(value, _)| value);
            if self.max { present.next_back() } else { present.next() }
        });
        decode_column(extremes, &self.ty)
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(Arc::new(ValueCounts::decode(input)?))
    }

    fn combine(&self, state: &mut Self::State, later: Self::State) {
        Arc::make_mut(state).add_all(&later);
    }

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.bytes()
    }
}
