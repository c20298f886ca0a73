//! What rows look like.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt8Array};
use hurtig_engine::Batch;
use hurtig_graph::{DataType, RowField, RowSchema};

use super::changelog::ChangelogRenderer;
use super::java::write_rows;
use super::table::TableRenderer;
use crate::testing::json_rows;

fn schema(columns: &[(&str, &str)]) -> RowSchema {
    RowSchema::new(columns.iter().map(|(n, t)| RowField::new(*n, DataType::parse(t).unwrap())).collect())
}

fn batch(schema: &RowSchema, json: &str) -> Batch {
    Batch::inserts(json_rows(schema, json))
}

fn lines(schema: &RowSchema, json: &str) -> String {
    let mut out = Vec::new();
    ChangelogRenderer::new(schema.clone()).rows(&batch(schema, json), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_type_has_its_json_form() {
    let s = schema(&[
        ("b", "BOOLEAN"),
        ("i", "BIGINT"),
        ("de", "DECIMAL(10, 2)"),
        ("f", "FLOAT"),
        ("d", "DOUBLE"),
        ("s", "STRING"),
        ("x", "BYTES"),
        ("dt", "DATE"),
        ("tm", "TIME(0)"),
        ("ts", "TIMESTAMP(6)"),
        ("lz", "TIMESTAMP_LTZ(3)"),
        ("a", "ARRAY<INT>"),
        ("m", "MAP<STRING, INT>"),
        ("r", "ROW<x INT, y STRING>"),
    ]);
    let json = r#"{"b": true, "i": 9223372036854775807, "de": 12.5, "f": 0.1, "d": 5e-324, "s": "a\"\u0001é",
        "x": "AP8Q", "dt": "2024-02-29", "tm": "01:02:03", "ts": "2024-01-01 00:00:00.120000",
        "lz": "2024-01-01 00:00:00Z", "a": [1, null], "m": {"b": 1, "a": null}, "r": {"y": "k"}}"#
        .replace('\n', " ");
    assert_eq!(
        lines(&s, &json),
        concat!(
            r#"{"op":"+I","row":[true,9223372036854775807,"12.50",0.1,5e-324,"a\"\u0001é","00ff10","2024-02-29","#,
            r#""01:02:03","2024-01-01 00:00:00.12","2024-01-01 00:00:00",[1,null],[["a",null],["b",1]],[null,"k"]]}"#,
            "\n"
        )
    );
    assert_eq!(lines(&s, "{}"), format!("{{\"op\":\"+I\",\"row\":[{}]}}\n", ["null"; 14].join(",")));
}

#[test]
fn the_header_names_columns_types_and_key() {
    let s = schema(&[("a \"q\"", "INT NOT NULL"), ("r", "ROW<x INT>")]);
    assert_eq!(
        ChangelogRenderer::new(s).header(Some(&[0])),
        r#"{"schema":[{"name":"a \"q\"","type":"INT NOT NULL"},{"name":"r","type":"ROW<`x` INT>"}],"upsert_key":[0]}"#
    );
}

#[test]
fn infinities_are_strings_and_intervals_have_signs() {
    let s = schema(&[("d", "DOUBLE"), ("y", "INTERVAL YEAR TO MONTH"), ("t", "INTERVAL DAY TO SECOND(3)")]);
    assert_eq!(
        lines(&s, r#"{"d": "-Infinity", "y": -14, "t": 93784005}"#),
        "{\"op\":\"+I\",\"row\":[\"-Infinity\",\"-1-02\",\"+1 02:03:04.005\"]}\n"
    );
}

#[test]
fn the_print_form_is_that_of_java() {
    let s = schema(&[
        ("s", "STRING"),
        ("d", "DOUBLE"),
        ("ts", "TIMESTAMP(3)"),
        ("lz", "TIMESTAMP_LTZ(3)"),
        ("r", "ROW<x INT, y BOOLEAN>"),
        ("m", "MAP<STRING, INT>"),
    ]);
    let json = r#"{"s":"a","d":1e7,"ts":"2024-01-01 10:00:00","lz":"2024-01-01 10:00:00Z","r":{"x":1},"m":{"k":2}}"#;
    let b = batch(&s, json);
    let b = Batch::new(b.records().clone(), Some(UInt8Array::from(vec![2])));
    let mut out = Vec::new();
    write_rows(&s, &b, "1> ", &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "1> +U[a, 1.0E7, 2024-01-01T10:00, 2024-01-01T10:00:00Z, +I[1, null], {k=2}]\n"
    );
}

#[test]
fn tables_align_numbers_right_and_print_the_header_once() {
    let s = schema(&[("name", "STRING"), ("n", "INT")]);
    let mut table = TableRenderer::new(s.clone(), true);
    let mut out = String::new();
    table.rows(&batch(&s, "{\"name\":\"ab\",\"n\":1}\n{\"n\":100}"), &mut out).unwrap();
    table.rows(&batch(&s, "{\"name\":\"c\",\"n\":7}"), &mut out).unwrap();
    assert_eq!(out, "op  name  n\n--  ----  ---\n+I  ab      1\n+I  NULL  100\n+I  c       7\n");
}

#[test]
fn sliced_batches_render_their_own_rows() {
    let s = schema(&[("a", "ARRAY<STRING>"), ("r", "ROW<x INT>")]);
    let all = batch(&s, "{\"a\":[\"x\"],\"r\":{\"x\":1}}\n{\"a\":[\"y\",\"z\"],\"r\":{\"x\":2}}\n{}");
    let mut out = Vec::new();
    ChangelogRenderer::new(s).rows(&all.slice(1, 2), &mut out).unwrap();
    let expected = "{\"op\":\"+I\",\"row\":[[\"y\",\"z\"],[2]]}\n{\"op\":\"+I\",\"row\":[null,null]}\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let empty = RecordBatch::new_empty(Arc::clone(&all.schema()));
    assert_eq!(empty.num_rows(), 0);
}
