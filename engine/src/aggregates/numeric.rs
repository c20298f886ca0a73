//! COUNT, SUM, AVG and the variances.
//!
//! Integers add up in i64 and wrap, as Flink's do in the result's type (wrapping is the same in
//! either width). SUM of FLOAT adds in single precision. Decimals add up in all of i128, so that the
//! result does not depend on how rows are split into partial sums; a sum of more than 38 digits is
//! NULL, and so is its average. Variances of integers are computed exactly
//! and truncated to the result's type, those of decimals in double precision.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Decimal128Array, Int64Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};
use hurtig_graph::aggregates::AggregateFunction;

use super::chunks::{ChunkedVec, Writer};
use super::columns::{
    Representation, decimal_array, decimal_values, float_array, float_values, int_array, int_values, take_array,
};
use super::grouped::{Function, Grouped, wrong_partials};
use super::{Accumulator, AggregateSpec, Rows};
use crate::error::{EngineError, Result};

pub(super) fn create(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>> {
    if spec.function == AggregateFunction::Count {
        return Ok(Grouped::boxed(Count, false));
    }
    let argument = &spec.arguments[0];
    let result = spec.result.clone();
    let average = spec.function == AggregateFunction::Avg;
    match (spec.function, Representation::of(argument)?) {
        (AggregateFunction::Sum | AggregateFunction::Avg, representation) => match representation {
            Representation::Int => Ok(Grouped::boxed(Sum::<i64>::new(average, result, argument), false)),
            Representation::Float if *argument == DataType::Float32 && !average => {
                Ok(Grouped::boxed(Sum::<f32>::new(average, result, argument), false))
            }
            Representation::Float => Ok(Grouped::boxed(Sum::<f64>::new(average, result, argument), false)),
            Representation::Decimal => Ok(Grouped::boxed(Sum::<i128>::new(average, result, argument), false)),
            _ => Err(unfit(spec)),
        },
        (function, Representation::Int) => Ok(Grouped::boxed(Variance::<i128>::new(function, result, argument), false)),
        (function, Representation::Float | Representation::Decimal) => {
            Ok(Grouped::boxed(Variance::<f64>::new(function, result, argument), false))
        }
        _ => Err(unfit(spec)),
    }
}

fn unfit(spec: &AggregateSpec) -> EngineError {
    EngineError::Validation(format!("{} does not take an argument of type {}", spec.function.name(), spec.arguments[0]))
}

/// COUNT(*) and COUNT(x).
#[derive(Clone)]
struct Count;

impl Function for Count {
    type State = i64;

    fn update(&self, states: &mut Writer<'_, i64>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        match arguments.first().and_then(|a| a.logical_nulls()).filter(|n| n.null_count() > 0) {
            None => rows.for_each(|_, group, sign| *states.at(group) += sign),
            Some(nulls) => rows.for_each(|row, group, sign| {
                if nulls.is_valid(row) {
                    *states.at(group) += sign;
                }
            }),
        }
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<i64>, groups: &[u32]) -> Result<ArrayRef> {
        let counts: Vec<i64> = groups.iter().map(|&g| *states.get(g)).collect();
        Ok(Arc::new(Int64Array::from(counts)))
    }

    fn partial(&self, states: &ChunkedVec<i64>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(states, groups)?])
    }

    fn merge(&self, states: &mut Writer<'_, i64>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [counts] = partials else { return Err(wrong_partials()) };
        let (counts, _) = int_values(counts)?;
        rows.for_each(|row, group, _| *states.at(group) += counts[row]);
        Ok(())
    }

    fn encode(&self, state: &i64, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.to_le_bytes());
    }

    fn decode(&self, input: &mut &[u8]) -> Result<i64> {
        Ok(i64::from_le_bytes(take_array(input)?))
    }

    fn combine(&self, state: &mut i64, later: i64) {
        *state += later;
    }
}

/// A number that SUM adds up in.
trait Number: ArrowNativeType + Send + Sync {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)>;
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef>;
    /// A column of an accumulator: `values` as they are, also those too large for a result.
    fn write_state(values: impl Iterator<Item = Self>, ty: &DataType) -> Result<ArrayRef> {
        Self::write(values.map(Some), ty)
    }
    fn plus(self, other: Self, sign: i64) -> Self;
    /// Too large for any type: SUM and AVG are NULL.
    fn overflows(self) -> bool {
        false
    }
    /// The mean of `count` values that sum up to `self`, at the scale and width of the result.
    fn mean(self, count: i64, scale_up: u32) -> Self;
    fn put(self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Result<Self>;
}

impl Number for i64 {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        int_values(array)
    }
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef> {
        int_array(values, ty)
    }
    #[inline]
    fn plus(self, other: Self, sign: i64) -> Self {
        self.wrapping_add(other.wrapping_mul(sign))
    }
    fn mean(self, count: i64, _: u32) -> Self {
        self.wrapping_div(count)
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(input: &mut &[u8]) -> Result<Self> {
        Ok(i64::from_le_bytes(take_array(input)?))
    }
}

/// The sum that i128 does not hold.
const OVERFLOW: i128 = i128::MAX;

impl Number for i128 {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        decimal_values(array)
    }
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef> {
        decimal_array(values, ty)
    }
    #[inline]
    fn plus(self, other: Self, sign: i64) -> Self {
        // What exceeds even i128 stays so whatever follows.
        if self == OVERFLOW || other == OVERFLOW {
            return OVERFLOW;
        }
        let sum = if sign < 0 { self.checked_sub(other) } else { self.checked_add(other) };
        sum.unwrap_or(OVERFLOW)
    }
    fn write_state(values: impl Iterator<Item = Self>, ty: &DataType) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal128Array::from_iter_values(values).with_data_type(ty.clone())))
    }
    fn overflows(self) -> bool {
        self.unsigned_abs() >= 10_u128.pow(38)
    }
    fn mean(self, count: i64, scale_up: u32) -> Self {
        divide_half_up(self, i128::from(count), scale_up)
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(input: &mut &[u8]) -> Result<Self> {
        Ok(i128::from_le_bytes(take_array(input)?))
    }
}

/// `value * 10^scale_up / count`, rounded half away from zero; saturates.
fn divide_half_up(value: i128, count: i128, scale_up: u32) -> i128 {
    let factor = 10_i128.pow(scale_up);
    // Whole part and remainder apart, so that the multiplication overflows only with the result.
    let (whole, rest) = (value / count, value % count);
    let scaled = rest.saturating_mul(factor);
    let (mut fraction, left) = (scaled / count, scaled % count);
    if left.unsigned_abs() * 2 >= count.unsigned_abs() {
        fraction += if (left < 0) == (count < 0) { 1 } else { -1 };
    }
    whole.saturating_mul(factor).saturating_add(fraction)
}

impl Number for f64 {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        float_values(array)
    }
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef> {
        float_array(values, ty)
    }
    #[inline]
    fn plus(self, other: Self, sign: i64) -> Self {
        if sign < 0 { self - other } else { self + other }
    }
    fn mean(self, count: i64, _: u32) -> Self {
        self / count as f64
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(input: &mut &[u8]) -> Result<Self> {
        Ok(f64::from_le_bytes(take_array(input)?))
    }
}

impl Number for f32 {
    fn read(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        let (values, nulls) = float_values(array)?;
        Ok((values.iter().map(|&v| v as f32).collect(), nulls))
    }
    fn write(values: impl Iterator<Item = Option<Self>>, ty: &DataType) -> Result<ArrayRef> {
        float_array(values.map(|v| v.map(f64::from)), ty)
    }
    #[inline]
    fn plus(self, other: Self, sign: i64) -> Self {
        if sign < 0 { self - other } else { self + other }
    }
    fn mean(self, count: i64, _: u32) -> Self {
        self / count as f32
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(input: &mut &[u8]) -> Result<Self> {
        Ok(f32::from_le_bytes(take_array(input)?))
    }
}

/// The sum and number of the values that are not NULL.
#[derive(Clone, Copy, Default)]
struct SumState<N> {
    sum: N,
    count: i64,
}

/// SUM and AVG.
#[derive(Clone)]
struct Sum<N> {
    average: bool,
    result: DataType,
    /// The type of the accumulator's sum column.
    state: DataType,
    /// Digits that AVG of a DECIMAL has behind those of its argument.
    scale_up: u32,
    number: PhantomData<N>,
}

impl<N> Sum<N> {
    fn new(average: bool, result: DataType, argument: &DataType) -> Self {
        let (state, scale_up) = match (argument, &result) {
            (DataType::Decimal128(_, s), DataType::Decimal128(_, r)) => {
                (DataType::Decimal128(38, *s), u32::from((r - s).max(0) as u8))
            }
            (DataType::Float32, _) if !average => (DataType::Float32, 0),
            (DataType::Float32 | DataType::Float64, _) => (DataType::Float64, 0),
            _ => (DataType::Int64, 0),
        };
        Sum { average, result, state, scale_up, number: PhantomData }
    }
}

impl<N: Number> Function for Sum<N> {
    type State = SumState<N>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let (values, nulls) = N::read(&arguments[0])?;
        let mut add = |row: usize, group: u32, sign: i64| {
            let state = states.at(group);
            state.sum = state.sum.plus(values[row], sign);
            state.count += sign;
        };
        match nulls.filter(|n| n.null_count() > 0) {
            None => rows.for_each(add),
            Some(nulls) => rows.for_each(|row, group, sign| {
                if nulls.is_valid(row) {
                    add(row, group, sign);
                }
            }),
        }
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        let results = groups.iter().map(|&g| states.get(g)).map(|s| match s.count {
            0 => None,
            _ if s.sum.overflows() => None,
            count if self.average => Some(s.sum.mean(count, self.scale_up)),
            _ => Some(s.sum),
        });
        N::write(results, &self.result)
    }

    fn partial(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let sums = N::write_state(groups.iter().map(|&g| states.get(g).sum), &self.state)?;
        let counts: Vec<i64> = groups.iter().map(|&g| states.get(g).count).collect();
        Ok(vec![sums, Arc::new(Int64Array::from(counts))])
    }

    fn merge(&self, states: &mut Writer<'_, Self::State>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [sums, counts] = partials else { return Err(wrong_partials()) };
        let ((sums, _), (counts, _)) = (N::read(sums)?, int_values(counts)?);
        rows.for_each(|row, group, _| {
            let state = states.at(group);
            state.sum = state.sum.plus(sums[row], 1);
            state.count += counts[row];
        });
        Ok(())
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        state.sum.put(out);
        out.extend_from_slice(&state.count.to_le_bytes());
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(SumState { sum: N::take(input)?, count: i64::from_le_bytes(take_array(input)?) })
    }

    fn combine(&self, state: &mut Self::State, later: Self::State) {
        state.sum = state.sum.plus(later.sum, 1);
        state.count += later.count;
    }
}

/// Number, sum and sum of squares of the values that are not NULL.
#[derive(Clone, Copy, Default)]
struct VarianceState<N> {
    count: i64,
    sum: N,
    squares: N,
}

/// A number that variances are computed in.
trait Moment: Number {
    /// The column as this number (decimals as f64).
    fn widen(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)>;
    fn square(self) -> Self;
    /// (squares - sum² / count) / denominator.
    fn variance(state: &VarianceState<Self>, denominator: i64) -> f64;
}

impl Moment for i128 {
    fn widen(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        let (values, nulls) = int_values(array)?;
        Ok((values.iter().map(|&v| i128::from(v)).collect(), nulls))
    }
    fn square(self) -> Self {
        self.saturating_mul(self)
    }
    fn variance(state: &VarianceState<Self>, denominator: i64) -> f64 {
        let count = i128::from(state.count);
        let exact = state.sum.checked_mul(state.sum).zip(state.squares.checked_mul(count));
        let difference = match exact {
            Some((square, squares)) => (squares - square) as f64 / count as f64,
            None => state.squares as f64 - state.sum as f64 * (state.sum as f64 / count as f64),
        };
        difference / denominator as f64
    }
}

impl Moment for f64 {
    fn widen(array: &ArrayRef) -> Result<(ScalarBuffer<Self>, Option<NullBuffer>)> {
        match array.data_type() {
            DataType::Decimal128(_, scale) => {
                let (values, nulls) = decimal_values(array)?;
                let factor = 10_f64.powi(i32::from(*scale));
                Ok((values.iter().map(|&v| v as f64 / factor).collect(), nulls))
            }
            _ => float_values(array),
        }
    }
    fn square(self) -> Self {
        self * self
    }
    fn variance(state: &VarianceState<Self>, denominator: i64) -> f64 {
        (state.squares - state.sum * state.sum / state.count as f64) / denominator as f64
    }
}

/// STDDEV_POP, STDDEV_SAMP, VAR_POP and VAR_SAMP.
#[derive(Clone)]
struct Variance<N> {
    sample: bool,
    root: bool,
    argument: DataType,
    result: DataType,
    number: PhantomData<N>,
}

impl<N> Variance<N> {
    fn new(function: AggregateFunction, result: DataType, argument: &DataType) -> Self {
        Variance {
            sample: matches!(function, AggregateFunction::StddevSamp | AggregateFunction::VarSamp),
            root: matches!(function, AggregateFunction::StddevPop | AggregateFunction::StddevSamp),
            argument: argument.clone(),
            result,
            number: PhantomData,
        }
    }
}

impl<N: Moment> Function for Variance<N> {
    type State = VarianceState<N>;

    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let (values, nulls) = N::widen(&arguments[0])?;
        rows.for_each(|row, group, sign| {
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                let (state, value) = (states.at(group), values[row]);
                state.count += sign;
                state.sum = state.sum.plus(value, sign);
                state.squares = state.squares.plus(value.square(), sign);
            }
        });
        Ok(())
    }

    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef> {
        let results = groups.iter().map(|&g| states.get(g)).map(|state| {
            let denominator = state.count - i64::from(self.sample);
            (denominator > 0).then(|| {
                let variance = N::variance(state, denominator);
                if self.root { variance.sqrt() } else { variance }
            })
        });
        match &self.result {
            DataType::Decimal128(_, scale) => {
                let factor = 10_f64.powi(i32::from(*scale));
                decimal_array(results.map(|r| r.map(|r| (r * factor).round() as i128)), &self.result)
            }
            DataType::Float32 | DataType::Float64 => float_array(results, &self.result),
            _ => int_array(results.map(|r| r.map(|r| r as i64)), &self.result),
        }
    }

    fn partial(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let counts: Vec<i64> = groups.iter().map(|&g| states.get(g).count).collect();
        let ty = if matches!(self.argument, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..)) {
            DataType::Float64
        } else {
            DataType::Decimal128(38, 0)
        };
        Ok(vec![
            Arc::new(Int64Array::from(counts)),
            N::write_state(groups.iter().map(|&g| states.get(g).sum), &ty)?,
            N::write_state(groups.iter().map(|&g| states.get(g).squares), &ty)?,
        ])
    }

    fn merge(&self, states: &mut Writer<'_, Self::State>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [counts, sums, squares] = partials else { return Err(wrong_partials()) };
        let ((counts, _), (sums, _), (squares, _)) = (int_values(counts)?, N::read(sums)?, N::read(squares)?);
        rows.for_each(|row, group, _| {
            let later = VarianceState { count: counts[row], sum: sums[row], squares: squares[row] };
            self.combine(states.at(group), later);
        });
        Ok(())
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.count.to_le_bytes());
        state.sum.put(out);
        state.squares.put(out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(VarianceState {
            count: i64::from_le_bytes(take_array(input)?),
            sum: N::take(input)?,
            squares: N::take(input)?,
        })
    }

    fn combine(&self, state: &mut Self::State, later: Self::State) {
        state.count += later.count;
        state.sum = state.sum.plus(later.sum, 1);
        state.squares = state.squares.plus(later.squares, 1);
    }
}
