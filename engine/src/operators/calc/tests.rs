//! Tests of filter and projection.

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
