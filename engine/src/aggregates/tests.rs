//! Tests of the aggregate functions: Flink's results, and that merging, freezing and taking back
//! rows agree with plain updates.

use std::sync::Arc;

use super::*;
use crate::operators::testing::{batch, rows_of, schema};
use arrow::datatypes::{Field, Schema};

/// The accumulator of `function` over a column of type `ty`.
fn accumulator(function: &str, ty: &str, distinct: bool, parameters: &[&str], retracts: bool) -> Box<dyn Accumulator> {
    let call = v1::AggregateCall {
        function: function.into(),
        arguments: vec![0],
        distinct,
        parameters: parameters.iter().map(|p| (*p).to_owned()).collect(),
        name: "x".into(),
        ..Default::default()
    };
    let input = schema(&[&format!("v {ty}")]).unwrap();
    create(&BoundCall::bind(&call, &input, retracts).unwrap().spec).unwrap()
}

/// Adds rows `+I(v)` or `-D(v)` to group `group`.
fn add(accumulator: &mut dyn Accumulator, ty: &str, group: u32, rows: &[&str]) {
    let rows = batch(&schema(&[&format!("v {ty}")]).unwrap(), rows).unwrap();
    let signs: Vec<i8> = (0..rows.num_rows()).map(|r| rows.kind(r).sign() as i8).collect();
    let groups = vec![group; rows.num_rows()];
    let mut touched = Touched::default();
    accumulator.resize(group as usize + 1);
    touched.set(&groups, group as usize + 1);
    let rows_ref = Rows { groups: &groups, selection: None, signs: Some(&signs), touched: &touched };
    accumulator.update(&[rows.column(0).clone()], &rows_ref).unwrap();
}

fn text(column: ArrayRef) -> Vec<String> {
    let schema = Schema::new(vec![Field::new("x", column.data_type().clone(), true)]);
    let records = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
    let rows = rows_of(&crate::Batch::inserts(records));
    rows.into_iter().map(|row| row[3..row.len() - 1].to_owned()).collect()
}

fn result(function: &str, ty: &str, rows: &[&str]) -> String {
    let retracts = rows.iter().any(|r| r.starts_with('-'));
    let mut accumulator = accumulator(function, ty, false, &[], retracts);
    add(accumulator.as_mut(), ty, 0, rows);
    text(accumulator.evaluate(&[0]).unwrap()).remove(0)
}

#[test]
fn sums_keep_the_arguments_type_and_wrap() {
    assert_eq!(result("SUM", "TINYINT", &["100", "100"]), "-56");
    assert_eq!(result("SUM", "INT", &["null"]), "null");
    assert_eq!(result("SUM", "DECIMAL(4, 2)", &["99.99", "0.02", "null"]), "100.01");
    assert_eq!(result("SUM", "DOUBLE", &["0.5", "0.25"]), "0.75");
    assert_eq!(result("COUNT", "STRING", &["a", "null", "b"]), "2");
}

#[test]
fn averages_of_integers_truncate_and_of_decimals_round() {
    assert_eq!(result("AVG", "INT", &["1", "2"]), "1");
    assert_eq!(result("AVG", "INT", &["-1", "-2"]), "-1");
    assert_eq!(result("AVG", "DECIMAL(8, 2)", &["0.01", "0.01", "0.00"]), "0.006667");
    assert_eq!(result("AVG", "DECIMAL(8, 2)", &["-0.01", "-0.01", "0.00"]), "-0.006667");
    assert_eq!(result("AVG", "DOUBLE", &["1", "2"]), "1.5");
}

#[test]
fn variances_of_integers_are_integers() {
    assert_eq!(result("VAR_POP", "INT", &["10", "20"]), "25");
    assert_eq!(result("STDDEV_POP", "INT", &["10", "20"]), "5");
    // 15.333 before truncation.
    assert_eq!(result("VAR_SAMP", "BIGINT", &["9000000000", "9000000004", "9000000007", "9000000009"]), "15");
    assert_eq!(result("VAR_SAMP", "INT", &["10"]), "null");
    assert_eq!(result("VAR_SAMP", "DOUBLE", &["1", "2", "3"]), "1.0");
    assert_eq!(result("VARIANCE", "DOUBLE", &["1", "2", "+I(8)", "-D(8)", "3"]), "1.0");
    assert_eq!(result("STDDEV_SAMP", "DECIMAL(6, 2)", &["1.00", "2.00", "4.00"]), "1.53");
}

#[test]
fn extremes_are_of_every_ordered_type() {
    assert_eq!(result("MAX", "STRING", &["b", "é", "null", "c"]), "é");
    assert_eq!(result("MIN", "STRING", &["b", "", "c"]), "");
    assert_eq!(result("MIN", "BOOLEAN", &["true", "false"]), "false");
    assert_eq!(result("MAX", "DECIMAL(30, 2)", &["-5.00", "-7.00"]), "-5.00");
    assert_eq!(result("MAX", "TIMESTAMP(3)", &["1000", "-5"]), "1970-01-01T00:00:01");
    assert_eq!(result("MIN", "FLOAT", &["2.5", "-0.5"]), "-0.5");
}

#[test]
fn retraction_uncovers_the_value_before() {
    for (function, ty, expected) in [
        ("MAX", "INT", "20"),
        ("MIN", "INT", "5"),
        ("MAX", "DOUBLE", "20.0"),
        ("FIRST_VALUE", "INT", "20"),
        ("LAST_VALUE", "INT", "5"),
        ("LISTAGG", "STRING", "20,5"),
        ("SUM", "INT", "25"),
    ] {
        assert_eq!(result(function, ty, &["10", "20", "30", "5", "-D(30)", "-D(10)"]), expected, "{function}");
    }
}

#[test]
fn lists_keep_the_order_of_arrival() {
    assert_eq!(result("LISTAGG", "STRING", &["b", "null", "a", "b"]), "b,a,b");
    assert_eq!(result("ARRAY_AGG", "INT", &["2", "null", "1"]), "[2, null, 1]");
    assert_eq!(result("FIRST_VALUE", "INT", &["null", "7", "8"]), "7");
    assert_eq!(result("LAST_VALUE", "STRING", &["x", "long", "null"]), "long");
    let mut bars = accumulator("LISTAGG", "STRING", true, &["|"], false);
    add(bars.as_mut(), "STRING", 0, &["b", "a", "b"]);
    assert_eq!(text(bars.evaluate(&[0]).unwrap()), ["b|a"]);
    let mut some = accumulator("ARRAY_AGG", "INT", false, &["IGNORE NULLS"], false);
    add(some.as_mut(), "INT", 0, &["null"]);
    assert_eq!(text(some.evaluate(&[0]).unwrap()), ["null"]);
}

#[test]
fn collect_counts_values() {
    assert_eq!(result("COLLECT", "STRING", &["b", "a", "b", "null"]), "{a: 1, b: 2}");
    assert_eq!(result("COLLECT", "STRING", &["null"]), "{}");
}

/// Every function with a type it takes.
fn all() -> Vec<(&'static str, &'static str, bool)> {
    let mut all = Vec::new();
    for ty in ["INT", "DOUBLE", "FLOAT", "DECIMAL(10, 2)"] {
        for function in ["SUM", "AVG", "MIN", "MAX", "VAR_POP", "STDDEV_SAMP"] {
            all.push((function, ty, false));
        }
    }
    for ty in ["INT", "STRING"] {
        for function in ["COUNT", "MIN", "MAX", "FIRST_VALUE", "LAST_VALUE", "COLLECT", "ARRAY_AGG"] {
            all.push((function, ty, false));
            all.push((function, ty, true));
        }
    }
    all.push(("LISTAGG", "STRING", false));
    all.push(("LISTAGG", "STRING", true));
    all
}

const EARLIER: [&str; 5] = ["3", "1", "null", "3", "7"];
const LATER: [&str; 4] = ["2", "null", "3", "9"];

#[test]
fn merged_parts_equal_the_whole() {
    for (function, ty, distinct) in all() {
        for retracts in [false, true] {
            let new = || accumulator(function, ty, distinct, &[], retracts);
            let (mut whole, mut first, mut second) = (new(), new(), new());
            add(whole.as_mut(), ty, 0, &EARLIER);
            add(whole.as_mut(), ty, 0, &LATER);
            add(first.as_mut(), ty, 0, &EARLIER);
            add(second.as_mut(), ty, 1, &LATER);
            let partial = second.partial(&[1]).unwrap();
            let mut touched = Touched::default();
            touched.set(&[0], 1);
            let rows = Rows { groups: &[0], selection: None, signs: None, touched: &touched };
            first.merge(&partial, &rows).unwrap();
            let expected = text(whole.evaluate(&[0]).unwrap());
            assert_eq!(text(first.evaluate(&[0]).unwrap()), expected, "{function} {ty} {distinct}");
        }
    }
}

/// `function` over all rows, each of `parts` summed apart and merged.
fn merged(function: &str, ty: &str, parts: &[&[&str]]) -> String {
    let mut whole = accumulator(function, ty, false, &[], false);
    whole.resize(1);
    for part in parts {
        let mut first = accumulator(function, ty, false, &[], false);
        add(first.as_mut(), ty, 0, part);
        let partial = first.partial(&[0]).unwrap();
        let mut touched = Touched::default();
        touched.set(&[0], 1);
        whole.merge(&partial, &Rows { groups: &[0], selection: None, signs: None, touched: &touched }).unwrap();
    }
    text(whole.evaluate(&[0]).unwrap()).remove(0)
}

#[test]
fn a_decimal_sum_of_too_many_digits_is_null_however_rows_are_split() {
    let (ty, nines) = ("DECIMAL(38, 0)", "9".repeat(38));
    let (n, minus) = (nines.as_str(), format!("-{nines}"));
    for function in ["SUM", "AVG"] {
        assert_eq!(merged(function, ty, &[&[n], &["1"]]), "null", "{function}");
        assert_eq!(merged(function, ty, &[&[n, "1"], &["5"]]), "null", "{function}");
        // More than i128 holds stays too much.
        assert_eq!(merged(function, ty, &[&[n, n], &[&minus]]), "null", "{function}");
        assert_eq!(result(function, ty, &[n, n, &minus]), "null", "{function}");
    }
    // A partial sum may have more digits than the result.
    assert_eq!(merged("SUM", ty, &[&[n, "1"], &["-1"]]), nines);
}

#[test]
fn frozen_states_come_back_and_later_rows_do_not_reach_them() {
    for (function, ty, distinct) in all() {
        for retracts in [false, true] {
            let new = || accumulator(function, ty, distinct, &[], retracts);
            let mut live = new();
            add(live.as_mut(), ty, 1500, &EARLIER);
            let expected = text(live.evaluate(&[1500, 0]).unwrap());
            let mut puts = GroupBits::default();
            puts.insert(1500);
            let frozen = live.freeze(&[1], &puts, &GroupBits::default());
            add(live.as_mut(), ty, 1500, &LATER);
            let mut bytes = Vec::new();
            frozen.encode(0, 1500 - 1024, &mut bytes);
            let mut restored = new();
            restored.resize(8);
            let mut input = bytes.as_slice();
            restored.decode(7, &mut input).unwrap();
            assert!(input.is_empty(), "{function} {ty} reads all it wrote");
            assert_eq!(text(restored.evaluate(&[7, 0]).unwrap()), expected, "{function} {ty} {distinct}");
            add(restored.as_mut(), ty, 7, &LATER);
            let after = text(live.evaluate(&[1500]).unwrap());
            assert_eq!(text(restored.evaluate(&[7]).unwrap()), after, "{function} {ty} {distinct} goes on");
        }
    }
}

#[test]
fn rows_that_are_all_taken_back_leave_an_empty_group() {
    for (function, ty, distinct) in all() {
        let mut accumulator = accumulator(function, ty, distinct, &[], true);
        add(accumulator.as_mut(), ty, 1, &[]);
        add(accumulator.as_mut(), ty, 0, &["3", "null", "-D(3)", "-D(null)", "5", "-D(5)"]);
        let results = text(accumulator.evaluate(&[0, 1]).unwrap());
        assert_eq!(results[0], results[1], "{function} {ty} {distinct}");
    }
}

#[test]
fn a_filter_counts_rows_for_which_it_is_true() {
    let input = schema(&["v INT", "f BOOLEAN"]).unwrap();
    let call = v1::AggregateCall {
        function: "SUM".into(),
        arguments: vec![0],
        filter: Some(1),
        name: "x".into(),
        ..Default::default()
    };
    let bound = BoundCall::bind(&call, &input, false).unwrap();
    let rows = batch(&input, &["1, true", "2, false", "4, null", "8, true"]).unwrap();
    let mut accumulator = create(&bound.spec).unwrap();
    accumulator.resize(1);
    let mut touched = Touched::default();
    touched.set(&[0; 4], 1);
    let all = Rows { groups: &[0; 4], selection: None, signs: None, touched: &touched };
    bound.apply(accumulator.as_mut(), rows.records(), &all, &mut FilterScratch::default()).unwrap();
    assert_eq!(text(accumulator.evaluate(&[0]).unwrap()), ["9"]);
    let wrong = v1::AggregateCall { filter: Some(0), ..call };
    assert!(BoundCall::bind(&wrong, &input, false).is_err());
}
