//! Kernels through compiled expressions: hand-built trees over small batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::{Decimal128Type, Int64Type};
use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T, RowField, RowSchema};

use super::{ExprContext, compile};
use crate::error::{EngineError, Result};

fn schema(types: &[T]) -> RowSchema {
    RowSchema::new(
        types.iter().enumerate().map(|(i, ty)| RowField::new(format!("c{i}"), ty.clone().nullable())).collect(),
    )
}

fn batch(schema: &RowSchema, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
}

fn call(name: &str, arguments: Vec<Expr>, result: T) -> Expr {
    Expr::call(name, arguments, result.nullable())
}

fn int(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), T::Int.not_null())
}

fn text(value: &str) -> Expr {
    Expr::literal(Literal::String(value.to_owned()), T::Char(value.chars().count() as u32).not_null())
}

fn run(expr: &Expr, schema: &RowSchema, batch: &RecordBatch) -> Result<ArrayRef> {
    compile(expr, schema, &ExprContext::default())?.evaluate(batch)
}

/// The value of a constant expression as text, `None` for NULL.
fn constant(expr: Expr) -> Result<Option<String>> {
    let ty = expr.data_type.logical.clone();
    let schema = schema(&[T::Int]);
    let batch = batch(&schema, vec![Arc::new(Int32Array::from(vec![1]))]);
    let array = run(&expr, &schema, &batch)?;
    super::cast::to_text(&ty, super::zone::Zone::UTC, &array, 0)
}

#[test]
fn integers_wrap_and_division_by_zero_fails() {
    let schema = schema(&[T::BigInt, T::BigInt]);
    let batch = batch(
        &schema,
        vec![
            Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(-7), None])),
            Arc::new(Int64Array::from(vec![1, 2, 0])),
        ],
    );
    let columns = || vec![Expr::column_of(&schema, 0), Expr::column_of(&schema, 1)];
    let sum = run(&call("+", columns(), T::BigInt), &schema, &batch).unwrap();
    assert_eq!(sum.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(i64::MIN), Some(-5), None]));
    // NULL / 0 is NULL: the divisor does not matter.
    let quotient = run(&call("/", columns(), T::BigInt), &schema, &batch).unwrap();
    assert_eq!(quotient.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(i64::MAX), Some(-3), None]));
    let by_zero = call("/", vec![Expr::column_of(&schema, 0), int(0).cast_to(T::BigInt.not_null())], T::BigInt);
    let error = run(&by_zero, &schema, &batch).unwrap_err();
    assert!(matches!(error, EngineError::Runtime(_)), "{error:?}");
}

#[test]
fn decimals_round_half_up_and_overflow_to_null() {
    let ty = T::Decimal(10, 2);
    let schema = schema(&[ty.clone(), T::Decimal(8, 4)]);
    let decimal = |values: Vec<i128>, p, s| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap())
    };
    let batch = batch(&schema, vec![decimal(vec![100, -200], 10, 2), decimal(vec![30_000, 7], 8, 4)]);
    let columns = || vec![Expr::column_of(&schema, 0), Expr::column_of(&schema, 1)];
    let values = |name: &str, p, s| {
        let array = run(&call(name, columns(), T::Decimal(p, s)), &schema, &batch).unwrap();
        array.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>()
    };
    assert_eq!(values("+", 13, 4), vec![Some(40_000), Some(-19_993)]);
    assert_eq!(values("*", 19, 6), vec![Some(3_000_000), Some(-1400)]);
    assert_eq!(values("/", 23, 11), vec![Some(33_333_333_333), Some(-285_714_285_714_286)]);
    assert_eq!(values("/", 3, 2), vec![Some(33), None]);
    assert_eq!(values("%", 10, 4), vec![Some(10_000), Some(-1)]);
}

#[test]
fn doubles_compare_as_java_primitives() {
    let schema = schema(&[T::Double, T::Double]);
    let column = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let batch = batch(&schema, vec![column(vec![f64::NAN, -0.0, 1.0]), column(vec![f64::NAN, 0.0, f64::NAN])]);
    let holds = |name: &str| {
        let columns = vec![Expr::column_of(&schema, 0), Expr::column_of(&schema, 1)];
        run(&call(name, columns, T::Boolean), &schema, &batch).unwrap().as_boolean().clone()
    };
    assert_eq!(holds("="), BooleanArray::from(vec![false, true, false]));
    assert_eq!(holds("<"), BooleanArray::from(vec![false, false, false]));
    assert_eq!(holds("IS DISTINCT FROM"), BooleanArray::from(vec![true, false, true]));
}

/// `1 / column = 1`, which fails where the column is 0.
fn risky(schema: &RowSchema) -> Expr {
    let quotient = call("/", vec![int(1), Expr::column_of(schema, 0)], T::Int);
    call("=", vec![quotient, int(1)], T::Boolean)
}

#[test]
fn what_is_not_needed_does_not_fail() {
    let schema = schema(&[T::Int]);
    let batch = batch(&schema, vec![Arc::new(Int32Array::from(vec![Some(0), Some(1), None, Some(2)]))]);
    let column = || Expr::column_of(&schema, 0);
    let nonzero = call("<>", vec![column(), int(0)], T::Boolean);
    let and = call("AND", vec![nonzero.clone(), risky(&schema)], T::Boolean);
    let result = run(&and, &schema, &batch).unwrap();
    assert_eq!(result.as_boolean(), &BooleanArray::from(vec![Some(false), Some(true), None, Some(false)]));
    let zero = call("=", vec![column(), int(0)], T::Boolean);
    let or = call("OR", vec![zero, risky(&schema)], T::Boolean);
    let result = run(&or, &schema, &batch).unwrap();
    assert_eq!(result.as_boolean(), &BooleanArray::from(vec![Some(true), Some(true), None, Some(false)]));
    let case = Expr {
        kind: ExprKind::Case { branches: vec![(nonzero, risky(&schema))], otherwise: None },
        data_type: T::Boolean.nullable(),
    };
    let result = run(&case, &schema, &batch).unwrap();
    assert_eq!(result.as_boolean(), &BooleanArray::from(vec![None, Some(true), None, Some(false)]));
    let fails = run(&risky(&schema), &schema, &batch).unwrap_err();
    assert!(matches!(fails, EngineError::Runtime(_)));
    let coalesce = call("COALESCE", vec![int(1), call("/", vec![int(1), int(0)], T::Int)], T::Int);
    assert_eq!(constant(coalesce).unwrap().as_deref(), Some("1"));
    let never = Expr::literal(Literal::Boolean(false), T::Boolean.not_null());
    assert_eq!(constant(call("AND", vec![risky_constant(), never], T::Boolean)).unwrap().as_deref(), Some("FALSE"));
}

fn risky_constant() -> Expr {
    call("=", vec![call("/", vec![int(1), int(0)], T::Int), int(1)], T::Boolean)
}

#[test]
fn constants_fold_and_constant_failures_wait_for_rows() {
    let schema = schema(&[T::Int]);
    let one = batch(&schema, vec![Arc::new(Int32Array::from(vec![1]))]);
    let none = one.slice(0, 0);
    let bad = text("x").cast_to(T::Int.nullable());
    let compiled = compile(&bad, &schema, &ExprContext::default()).unwrap();
    assert_eq!(compiled.evaluate(&none).unwrap().len(), 0);
    let error = compiled.evaluate(&one).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot cast the string 'x' to INT: correct the data, or use TRY_CAST to get NULL for it"
    );
}

/// Casts a string column or literal value and prints the result.
fn cast_text(value: &str, to: T) -> Option<String> {
    constant(text(value).cast_to(to.nullable())).unwrap()
}

#[test]
fn casts_from_text() {
    let some = |s: &str| Some(s.to_owned());
    assert_eq!(cast_text(" 12.7 ", T::Int), some("12"));
    assert_eq!(cast_text("1e5", T::Double), some("100000.0"));
    assert_eq!(cast_text("12345.6789", T::Decimal(8, 3)), some("12345.679"));
    assert_eq!(cast_text("2024-2-9 1:2:3", T::Timestamp(3)), some("2024-02-09 01:02:03.000"));
    assert_eq!(cast_text("2024-02-30 00:00:00", T::Timestamp(6)), some("2024-02-29 00:00:00.000000"));
    assert_eq!(cast_text("12:34:56.789", T::Time(0)), some("12:34:56"));
    assert_eq!(cast_text("yes", T::Boolean), some("TRUE"));
    assert_eq!(cast_text("abc", T::Varchar(2)), some("ab"));
    assert_eq!(cast_text("abc", T::Char(5)), some("abc  "));
    let safe = Expr { kind: ExprKind::Cast { input: Box::new(text("x")), safe: true }, data_type: T::Int.nullable() };
    assert_eq!(constant(safe).unwrap(), None);
}

#[test]
fn casts_among_numbers_wrap_saturate_and_round() {
    let double = |v| Expr::literal(Literal::Double(v), T::Double.not_null());
    let cast = |expr: Expr, to: T| constant(expr.cast_to(to.nullable())).unwrap();
    let some = |s: &str| Some(s.to_owned());
    assert_eq!(cast(int(300), T::TinyInt), some("44"));
    assert_eq!(cast(double(1e20), T::Int), some("2147483647"));
    assert_eq!(cast(double(1e20), T::TinyInt), some("-1"));
    assert_eq!(cast(double(f64::NAN), T::BigInt), some("0"));
    assert_eq!(cast(double(-98765.4321), T::Decimal(10, 2)), some("-98765.43"));
    assert_eq!(cast(double(1e10), T::Decimal(5, 1)), None);
    assert_eq!(cast(int(12345), T::Varchar(3)), some("123"));
    assert_eq!(cast(int(5), T::Decimal(12, 2)), some("5.00"));
}

#[test]
fn session_zone_applies_to_ltz() {
    let context = ExprContext::with_zone("Asia/Shanghai").unwrap();
    let schema = schema(&[T::Int]);
    let batch = batch(&schema, vec![Arc::new(Int32Array::from(vec![1]))]);
    let ltz = text("2024-03-01 00:00:00").cast_to(T::TimestampLtz(3).nullable());
    let epoch = call("EXTRACT", vec![text("EPOCH"), ltz.clone().cast_to(T::Timestamp(3).nullable())], T::BigInt);
    let hour = call("EXTRACT", vec![text("HOUR"), ltz.clone()], T::BigInt);
    let stored = compile(&ltz, &schema, &context).unwrap().evaluate(&batch).unwrap();
    assert_eq!(
        super::cast::to_text(&T::TimestampLtz(3), super::zone::Zone::UTC, &stored, 0).unwrap().as_deref(),
        Some("2024-02-29 16:00:00.000")
    );
    let long = |e: &Expr| {
        let array = compile(e, &schema, &context).unwrap().evaluate(&batch).unwrap();
        array.as_primitive::<Int64Type>().value(0)
    };
    assert_eq!(long(&epoch), 1_709_251_200);
    assert_eq!(long(&hour), 0);
    assert!(ExprContext::with_zone("Nowhere/City").is_err());
}

#[test]
fn user_functions_see_full_columns() {
    let mut context = ExprContext::default();
    context.functions.register(
        "twice",
        Arc::new(|columns, rows| {
            let longs = columns[0].as_primitive::<Int64Type>();
            assert_eq!(columns[1].len(), rows);
            Ok(Arc::new(longs.unary::<_, Int64Type>(|v| v * 2)))
        }),
    );
    let schema = schema(&[T::BigInt]);
    let batch = batch(&schema, vec![Arc::new(Int64Array::from(vec![1, 2]))]);
    let expr = call("TWICE", vec![Expr::column_of(&schema, 0), int(1)], T::BigInt);
    let array = compile(&expr, &schema, &context).unwrap().evaluate(&batch).unwrap();
    assert_eq!(array.as_primitive::<Int64Type>().values(), &[2, 4]);
    let unknown = call("FROBNICATE", vec![Expr::column_of(&schema, 0)], T::BigInt);
    let error = compile(&unknown, &schema, &context).unwrap_err();
    assert_eq!(error.to_string(), "the function FROBNICATE(BIGINT) is not supported");
}

#[test]
fn in_lists_follow_three_valued_logic() {
    let schema = schema(&[T::STRING]);
    let batch = batch(&schema, vec![Arc::new(StringArray::from(vec![Some("a"), Some("z"), None]))]);
    let string = |s: &str| text(s).cast_to(T::STRING.not_null());
    let null = Expr::literal(Literal::Null, T::STRING.nullable());
    let list = vec![Expr::column_of(&schema, 0), string("a"), null];
    let result = run(&call("IN", list, T::Boolean), &schema, &batch).unwrap();
    assert_eq!(result.as_boolean(), &BooleanArray::from(vec![Some(true), None, None]));
}

#[test]
fn case_changes_on_slices_and_beyond_ascii() {
    let schema = schema(&[T::STRING]);
    let words = StringArray::from(vec![Some("Ab"), None, Some("ÉcOLE"), Some("zZ")]);
    let batch = batch(&schema, vec![Arc::new(words)]);
    let upper = call("UPPER", vec![Expr::column_of(&schema, 0)], T::STRING);
    let result = run(&upper, &schema, &batch).unwrap();
    let expected = StringArray::from(vec![Some("AB"), None, Some("ÉCOLE"), Some("ZZ")]);
    assert_eq!(result.as_string::<i32>(), &expected);
    let tail = run(&upper, &schema, &batch.slice(3, 1)).unwrap();
    assert_eq!(tail.as_string::<i32>(), &StringArray::from(vec!["ZZ"]));
    let head = run(&upper, &schema, &batch.slice(0, 2)).unwrap();
    assert_eq!(head.as_string::<i32>(), &StringArray::from(vec![Some("AB"), None]));
}

#[test]
fn timestamps_move_by_intervals() {
    let schema = schema(&[T::Timestamp(6), T::IntervalDayTime]);
    let micros = arrow::array::TimestampMicrosecondArray::from(vec![Some(1_500), None, Some(i64::MAX)]);
    let spans = arrow::array::DurationMillisecondArray::from(vec![1, 2, 3]);
    let all = batch(&schema, vec![Arc::new(micros), Arc::new(spans)]);
    let second = Expr::literal(Literal::Int(1000), T::IntervalDayTime.not_null());
    let moved = |name: &str, by: Expr| call(name, vec![Expr::column_of(&schema, 0), by], T::Timestamp(6));
    let some = all.slice(0, 2);
    let result = run(&moved("-", second.clone()), &schema, &some).unwrap();
    let micros = |array: &ArrayRef| {
        array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().iter().collect::<Vec<_>>()
    };
    assert_eq!(micros(&result), vec![Some(-998_500), None]);
    let result = run(&moved("+", Expr::column_of(&schema, 1)), &schema, &some).unwrap();
    assert_eq!(micros(&result), vec![Some(2_500), None]);
    assert!(run(&moved("+", second), &schema, &all).is_err());
}

#[test]
fn conditions_match_only_true() {
    let schema = schema(&[T::Boolean]);
    let batch = batch(&schema, vec![Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))]);
    let compiled = compile(&Expr::column_of(&schema, 0), &schema, &ExprContext::default()).unwrap();
    assert_eq!(compiled.matches(&batch).unwrap(), BooleanArray::from(vec![true, false, false]));
    let wrong: DataType = T::Int.nullable();
    let error = compile(&Expr::column(0, wrong), &schema, &ExprContext::default()).unwrap_err();
    assert_eq!(error.to_string(), "the expression takes column 'c0' for INT, but it is BOOLEAN");
}
