//! Tests of filter and projection.

use arrow::array::{Int32Array, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType as ArrowType, Field, Fields};
use hurtig_graph::{DataType, Literal};

use super::*;
use crate::operators::testing::{Harness, HarnessConfig, batch, schema};

fn boolean(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::call(name, arguments, DataType::parse("BOOLEAN").unwrap())
}

fn open(calc: &v1::Calc, input: &RowSchema) -> Harness {
    let operator = Box::new(Calc::new(calc, input, &BuildContext::default()).unwrap());
    Harness::open(operator, HarnessConfig::fresh(vec![input.clone()])).unwrap()
}

fn named(name: &str, expr: &Expr) -> v1::NamedExpr {
    v1::NamedExpr { name: name.into(), expr: Some(expr.to_proto()) }
}

#[test]
fn rows_for_which_the_filter_is_true_pass_with_their_kinds() {
    let input = schema(&["a INT", "b STRING"]).unwrap();
    let one = Expr::literal(Literal::Int(1), DataType::parse("INT NOT NULL").unwrap());
    let filter = boolean(">", vec![Expr::column_of(&input, 0), one]);
    let calc = v1::Calc { filter: Some(filter.to_proto()), projections: vec![named("b", &Expr::column_of(&input, 1))] };
    let mut harness = open(&calc, &input);
    harness.process(batch(&input, &["+I(1, x)", "-U(2, y)", "+U(3, z)", "+I(null, n)"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["-U(y)", "+U(z)"]);
}

#[test]
fn bare_columns_are_not_copied() {
    let input = schema(&["a INT", "b STRING"]).unwrap();
    let calc = v1::Calc { filter: None, projections: vec![named("x", &Expr::column_of(&input, 1))] };
    let mut harness = open(&calc, &input);
    let rows = batch(&input, &["1, x", "2, y"]).unwrap();
    harness.process(rows.clone()).unwrap();
    let emitted = harness.take_batches();
    assert!(Arc::ptr_eq(emitted[0].column(0), rows.column(1)));
    assert_eq!(emitted[0].schema().field(0).name(), "x");
}

#[test]
fn expressions_run_only_over_rows_that_pass() {
    let input = schema(&["a INT", "b INT"]).unwrap();
    let ty = DataType::parse("INT").unwrap();
    let zero = Expr::literal(Literal::Int(0), DataType::parse("INT NOT NULL").unwrap());
    let filter = boolean("<>", vec![Expr::column_of(&input, 1), zero]);
    let quotient = Expr::call("/", vec![Expr::column_of(&input, 0), Expr::column_of(&input, 1)], ty);
    let calc = v1::Calc { filter: Some(filter.to_proto()), projections: vec![named("q", &quotient)] };
    let mut harness = open(&calc, &input);
    harness.process(batch(&input, &["7, 0", "7, 2"]).unwrap()).unwrap();
    assert_eq!(harness.take_rows(), ["+I(3)"]);
}

#[test]
fn fields_of_rows_are_taken_out_before_the_filter_and_before_case() {
    let input = schema(&["a INT", "r ROW<x INT, s ROW<y STRING>>"]).unwrap();
    let field = |row: Expr, position, ty| {
        let index = Expr::literal(Literal::Int(position), DataType::parse("INT NOT NULL").unwrap());
        Expr::call("FIELD", vec![row, index], DataType::parse(ty).unwrap())
    };
    let x = field(Expr::column_of(&input, 1), 0, "INT");
    let y = field(field(Expr::column_of(&input, 1), 1, "ROW<y STRING>"), 0, "STRING");
    let number = |n| Expr::literal(Literal::Int(n), DataType::parse("INT NOT NULL").unwrap());
    let positive = boolean(">", vec![Expr::column_of(&input, 0), number(0)]);
    let even = boolean("=", vec![Expr::column_of(&input, 0), number(2)]);
    let case = Expr {
        kind: ExprKind::Case {
            branches: vec![(even, x.clone())],
            otherwise: Some(Box::new(Expr::column_of(&input, 0))),
        },
        data_type: DataType::parse("INT").unwrap(),
    };
    let calc = v1::Calc {
        filter: Some(positive.to_proto()),
        projections: vec![named("c", &case), named("y", &y), named("x", &x)],
    };
    let operator = Calc::new(&calc, &input, &BuildContext::default()).unwrap();
    let (inputs, _) = operator.projections.as_ref().unwrap();
    assert!(
        inputs.schema.fields().iter().all(|f| !f.data_type().is_nested()),
        "no ROW is filtered: {:?}",
        inputs.schema
    );
    let records =
        RecordBatch::try_new(input.to_arrow(), vec![Arc::new(Int32Array::from(vec![1, 2, 0, 2])), rows()]).unwrap();
    let mut harness = open(&calc, &input);
    harness.process(Batch::inserts(records)).unwrap();
    assert_eq!(harness.take_rows(), ["+I(1, p, 10)", "+I(20, null, 20)", "+I(null, null, null)"]);
}

/// (10, (p)), (20, NULL), (30, (r)), NULL
fn rows() -> ArrayRef {
    let field = |name: &str, ty| Field::new(name, ty, true);
    let y: ArrayRef = Arc::new(StringArray::from(vec!["p", "q", "r", "s"]));
    let inner = Fields::from(vec![field("y", ArrowType::Utf8)]);
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    let s: ArrayRef = Arc::new(StructArray::new(inner.clone(), vec![y], Some(nulls)));
    let x: ArrayRef = Arc::new(Int32Array::from(vec![10, 20, 30, 40]));
    let outer = Fields::from(vec![field("x", ArrowType::Int32), field("s", ArrowType::Struct(inner))]);
    Arc::new(StructArray::new(outer, vec![x, s], Some(NullBuffer::from(vec![true, true, true, false]))))
}
