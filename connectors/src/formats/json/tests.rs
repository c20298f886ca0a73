//! What the json format reads and writes.

use super::change::ChangeOptions;
use super::{JsonDecoder, JsonEncoder, JsonOptions, NullKey};
use crate::formats::calendar::TimestampStyle;
use crate::formats::decoder::{RecordDecoder, RecordError, ScanLimits};
use crate::testing::{decode, json_options, json_rows, schema, shown};

fn read(columns: &str, text: &str, options: JsonOptions) -> Result<Vec<String>, RecordError> {
    let schema = schema(columns);
    let rows = decode(&mut JsonDecoder::new(&schema, options), &schema, text.as_bytes())?;
    Ok(shown(&schema, &rows))
}

fn strict(columns: &str, text: &str) -> Result<Vec<String>, RecordError> {
    read(columns, text, json_options())
}

fn lenient(columns: &str, text: &str) -> Vec<String> {
    read(columns, text, JsonOptions { ignore_parse_errors: true, ..json_options() }).unwrap()
}

fn one(columns: &str, text: &str) -> String {
    strict(columns, text).unwrap().remove(0)
}

#[test]
fn fields_go_by_name_in_any_order() {
    let rows = strict("a INT, b STRING", "{\"b\":\"x\",\"z\":[1,{\"a\":9}],\"a\":1}\n\n {\"A\":5} \r\n{}").unwrap();
    assert_eq!(rows, ["1,\"x\"", "null,null", "null,null"]);
    // An escaped name is that name; of a name that comes twice the last counts.
    assert_eq!(one("ä INT", r#"{"\u00e4":1,"ä":2}"#), "2");
}

#[test]
fn scalars_are_lenient() {
    assert_eq!(one("a INT, b BIGINT, c SMALLINT", r#"{"a":"2","b":" 7 ","c":3}"#), "2,7,3");
    assert_eq!(one("a INT, b BIGINT", r#"{"a":2.9,"b":-1.5e3}"#), "2,-1500");
    assert_eq!(
        one("a STRING, b STRING, c STRING", r#"{"a":5.10,"b":true,"c":{"x" : [1, "a b"]}}"#),
        r#""5.10","true","{\"x\":[1,\"a b\"]}""#
    );
    assert_eq!(one("a DECIMAL(4, 1), b DECIMAL(2, 0)", r#"{"a":"2.55","b":1000}"#), "\"2.6\",null");
    assert_eq!(one("a BOOLEAN, b BOOLEAN", r#"{"a":"TRUE","b":"yes"}"#), "true,false");
    assert_eq!(one("a DOUBLE, b FLOAT", r#"{"a":"1e3","b":"NaN"}"#), "1000,\"NaN\"");
}

#[test]
fn strings_resolve_escapes() {
    let text = r#"{"s":"a\"\\\/\b\f\n\r\té😀\ud83d\ude00\ud83d"}"#;
    assert_eq!(one("s STRING", text), "\"a\\\"\\\\/\\b\\f\\n\\r\\té😀😀\u{fffd}\"");
}

#[test]
fn times_have_the_form_of_the_option() {
    let columns = "a TIMESTAMP(3), b TIMESTAMP_LTZ(3), c TIMESTAMP(9), d DATE, e TIME(0)";
    let sql = r#"{"a":"2024-01-01 01:02:03.5","b":"2024-01-01 01:02:03Z","c":"1969-12-31 23:59:59.999999999",
        "d":"0001-01-01","e":"01:02:03"}"#
        .replace('\n', "");
    let shown =
        r#""2024-01-01 01:02:03.5","2024-01-01 01:02:03","1969-12-31 23:59:59.999999999","0001-01-01","01:02:03""#;
    assert_eq!(one(columns, &sql), shown);
    let iso = JsonOptions { style: TimestampStyle::Iso8601, ..json_options() };
    let text = r#"{"a":"2024-01-01T01:02","b":"2024-01-01T01:02:03.250Z"}"#;
    assert_eq!(
        read("a TIMESTAMP(3), b TIMESTAMP_LTZ(3)", text, iso).unwrap(),
        [r#""2024-01-01 01:02:00","2024-01-01 01:02:03.25""#]
    );
    let error = strict("a TIMESTAMP(3)", r#"{"a":"2024-01-01T01:02:03"}"#).unwrap_err();
    assert!(error.reason.contains("2024-01-01T01:02:03"), "{error:?}");
}

#[test]
fn nested_values_are_read_whole() {
    let columns = "r ROW<x INT, y ROW<z STRING>>, a ARRAY<ROW<k INT>>, m MAP<STRING, ARRAY<INT>>, n ARRAY<ARRAY<INT>>";
    assert_eq!(
        one(columns, r#"{"r":{"y":{"z":"q"}},"a":[{"k":1},null,{}],"m":{"b":[1],"a":null},"n":[[],null,[4,null]]}"#),
        r#"[null,["q"]],[[1],null,[null]],[["a",null],["b",[1]]],[[],null,[4,null]]"#
    );
    assert_eq!(one(columns, r#"{"r":null,"a":[],"m":{}}"#), "null,[],[],null");
}

#[test]
fn what_does_not_fit_names_the_field() {
    let error =
        strict("a INT, r ROW<x ARRAY<ROW<y INT>>>", "{\"a\":1}\n{\"r\":{\"x\":[{},{\"y\":\"abc\"}]}}").unwrap_err();
    assert_eq!((error.row, error.path.join(".")), (1, "r.x.y".to_owned()));
    assert!(error.reason.contains("'abc' is not a value of type INT"), "{error:?}");
    assert!(strict("a TINYINT", r#"{"a":128}"#).is_err());
    assert!(strict("a INT", r#"{"a":{"b":1}}"#).is_err());
    assert!(strict("a ARRAY<INT>", r#"{"a":1}"#).unwrap_err().reason.contains("ARRAY<INT>"));
    assert!(strict("a BYTES", r#"{"a":"?"}"#).is_err());
}

#[test]
fn malformed_lines_are_refused_with_their_place() {
    for text in ["not json", "{\"a\":}", "{\"a\":1", "[1]", "{\"a\":1} x", "{'a':1}", "{\"a\":\"x}", "{\"a\":1,}"] {
        let error = strict("a INT", &format!("{{\"a\":1}}\n{text}\n")).unwrap_err();
        assert!(error.path.is_empty() && error.row == 1 && error.offset == 8, "{text}: {error:?}");
        assert!(error.reason.contains("malformed JSON"), "{error:?}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(strict("b INT", &deep).unwrap_err().reason.contains("deeply"));
}

#[test]
fn ignored_errors_cost_a_field_or_a_line() {
    let text =
        "{\"id\":1,\"v\":\"ok\"}\n{\"id\":\"x\",\"v\":\"bad\"}\nnot json\n{\"id\":3,\"v\":{\"n\": [1]}}\n{\"id\":";
    assert_eq!(lenient("id INT, v STRING", text), ["1,\"ok\"", "null,\"bad\"", "3,\"{\\\"n\\\":[1]}\""]);
    assert_eq!(lenient("r ROW<x INT, y INT>", r#"{"r":{"x":"q","y":2}}"#), ["[null,2]"]);
    assert_eq!(lenient("r ROW<x INT>, a ARRAY<INT>", r#"{"r":7,"a":["q",1]}"#), ["null,[null,1]"]);
}

#[test]
fn a_missing_field_can_be_an_error() {
    let options = || JsonOptions { fail_on_missing_field: true, ..json_options() };
    assert!(read("a INT, b INT", r#"{"a":1,"b":null}"#, options()).is_ok());
    let error = read("a INT, b INT", r#"{"a":1}"#, options()).unwrap_err();
    assert_eq!(error.path, ["b"]);
    assert!(read("r ROW<x INT>", r#"{"r":{}}"#, options()).is_err());
    assert!(read("r ROW<x INT>", r#"{"r":null}"#, options()).is_ok());
}

#[test]
fn text_that_is_not_utf8_is_an_error_or_null() {
    let schema = schema("s STRING, t STRING");
    let text = b"{\"s\":\"ok\",\"t\":\"x\"}\n{\"s\":\"\xff\",\"t\":\"y\"}";
    let error = decode(&mut JsonDecoder::new(&schema, json_options()), &schema, text).unwrap_err();
    assert_eq!((error.row, error.path), (1, vec!["s".to_owned()]));
    let options = JsonOptions { ignore_parse_errors: true, ..json_options() };
    let rows = decode(&mut JsonDecoder::new(&schema, options), &schema, text).unwrap();
    assert_eq!(shown(&schema, &rows), ["\"ok\",\"x\"", "null,\"y\""]);
}

#[test]
fn lines_are_taken_only_when_whole_and_up_to_the_limits() {
    let schema = schema("a INT");
    let mut decoder = JsonDecoder::new(&schema, json_options());
    let data = b"{\"a\":1}\n{\"a\":2}\n{\"a\":3}";
    let mut scan = |at, limits| decoder.scan(data, at, limits).unwrap();
    let unlimited = ScanLimits { at_end: false, until: usize::MAX, rows: usize::MAX };
    let found = scan(0, ScanLimits { rows: 1, ..unlimited });
    assert_eq!((found.end, found.starved), (8, false));
    let found = scan(8, ScanLimits { until: 9, ..unlimited });
    assert_eq!((found.end, found.starved), (16, false));
    let found = scan(16, unlimited);
    assert_eq!((found.end, found.starved), (16, true));
    let found = scan(16, ScanLimits { at_end: true, ..unlimited });
    assert_eq!((found.end, found.starved), (23, true));
    assert_eq!(decoder.pending(), 3);
}

const ALL: &str = "b BOOLEAN, i1 TINYINT, i8 BIGINT, de DECIMAL(10, 2), f FLOAT, d DOUBLE, s STRING, x BYTES, dt DATE, \
    tm TIME(0), ts TIMESTAMP(6), lz TIMESTAMP_LTZ(3), a ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT, y STRING>";

#[test]
fn what_is_written_reads_back_equal() {
    let schema = schema(ALL);
    let text = concat!(
        r#"{"b":true,"i1":-128,"i8":9223372036854775807,"de":100000,"f":0.1,"d":1e300,"s":"a\n\"\u0001é","x":"AP8Q","#,
        r#""dt":"2024-02-29","tm":"01:02:03","ts":"2024-01-01 00:00:00.000001","lz":"1969-12-31 23:59:59.5Z","#,
        r#""a":[1,null],"m":{"b":1,"a":null},"r":{"x":1,"y":null}}"#,
        "\n{}\n"
    );
    let rows = json_rows(&schema, text);
    for style in [TimestampStyle::Sql, TimestampStyle::Iso8601] {
        for ignore_null_fields in [false, true] {
            let options = JsonOptions { style, ignore_null_fields, ..json_options() };
            let mut out = Vec::new();
            JsonEncoder::new(schema.clone(), options.clone()).encode(&rows, &mut out).unwrap();
            let back = decode(&mut JsonDecoder::new(&schema, options), &schema, &out).unwrap();
            assert_eq!(back, rows);
        }
    }
}

#[test]
fn values_are_written_as_flink_writes_them() {
    let schema = schema("de DECIMAL(10, 2), d DOUBLE, ts TIMESTAMP(3), lz TIMESTAMP_LTZ(3), n INT");
    let text = r#"{"de":100000,"d":1e10,"ts":"2024-01-01 01:02:03.120","lz":"1970-01-01 00:00:00Z"}"#;
    let write = |options| {
        let mut out = Vec::new();
        JsonEncoder::new(schema.clone(), options).encode(&json_rows(&schema, text), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        write(json_options()),
        "{\"de\":1E+5,\"d\":1.0E10,\"ts\":\"2024-01-01 01:02:03.12\",\"lz\":\"1970-01-01 00:00:00Z\",\"n\":null}\n"
    );
    let plain = JsonOptions { plain_decimals: true, ignore_null_fields: true, ..json_options() };
    assert!(write(plain).starts_with("{\"de\":100000.00,") && !write(json_options()).contains("\"x\""));
    assert_eq!(json_options().null_key, NullKey::Fail);
}

/// The changes in `text`, as `+I 1,"x"`.
fn changes(format: &str, columns: &str, text: &str, more: &[(&str, &str)]) -> Result<Vec<String>, RecordError> {
    let schema = schema(columns);
    let change = ChangeOptions::read(format, &crate::testing::options(more)).unwrap().unwrap();
    let mut decoder = JsonDecoder::of_changes(&schema, change);
    let rows = decode(&mut decoder, &schema, text.as_bytes())?;
    let kinds = decoder.take_kinds().unwrap();
    let symbol = |k: u8| hurtig_engine::batch::RowKind::from_u8(k).unwrap().symbol();
    Ok(shown(&schema, &rows).into_iter().zip(kinds).map(|(row, kind)| format!("{} {row}", symbol(kind))).collect())
}

#[test]
fn debezium_messages_are_changes() {
    let text = concat!(
        r#"{"before":null,"after":{"id":1,"v":"a"},"op":"c","source":{"db":"x"}}"#,
        "\n",
        r#"{"op":"u","before":{"id":1,"v":"a"},"after":{"id":1,"v":null}}"#,
        "\n\n",
        r#"{"op":"d","before":{"id":1,"v":null},"after":null}"#,
        "\n",
        r#"{"op":"r","after":{"v":"z"}}"#
    );
    let expected = ["+I 1,\"a\"", "-U 1,\"a\"", "+U 1,null", "-D 1,null", "+I null,\"z\""];
    assert_eq!(changes("debezium-json", "id INT, v STRING", text, &[]).unwrap(), expected);
    let wrapped: String = text
        .lines()
        .filter(|l| !l.is_empty())
        .map(|l| format!("{{\"schema\":{{\"op\":1}},\"payload\":{l}}}\n"))
        .chain(["{\"schema\":{},\"payload\":null}".to_owned()])
        .collect();
    let include = [("debezium-json.schema-include", "true")];
    assert_eq!(changes("debezium-json", "id INT, v STRING", &wrapped, &include).unwrap(), expected);
}

#[test]
fn bad_change_messages_are_refused_or_skipped_whole() {
    let good = r#"{"op":"c","after":{"id":1}}"#;
    for bad in [
        r#"{"op":"u","before":null,"after":{"id":2}}"#,
        r#"{"op":"x","after":{"id":2}}"#,
        r#"{"after":{"id":2}}"#,
        r#"{"op":"u","before":{"id":1},"after":[2]}"#,
        r#"{"op":"c","after":{"id":2}"#,
    ] {
        let text = format!("{good}\n{bad}\n{good}");
        let error = changes("debezium-json", "id INT", &text, &[]).unwrap_err();
        assert_eq!((error.row, error.offset), (1, 28), "{error:?}");
        let ignore = [("debezium-json.ignore-parse-errors", "true")];
        assert_eq!(changes("debezium-json", "id INT", &text, &ignore).unwrap(), ["+I 1", "+I 1"]);
    }
    let wrong = crate::testing::options(&[("ogg-json.timestamp-format.standard", "Unix")]);
    let error = ChangeOptions::read("ogg-json", &wrong).unwrap_err().to_string();
    assert!(error.starts_with("ogg-json.timestamp-format.standard"), "{error}");
}

#[test]
fn old_rows_of_canal_and_maxwell_are_what_has_changed() {
    let text = concat!(
        r#"{"type":"INSERT","data":[{"id":"1","v":"a"},{"id":"2","v":"b"}],"old":null}"#,
        "\n",
        r#"{"type":"UPDATE","data":[{"id":"1","v":"c"},{"id":"3","v":"b"}],"old":[{"v":"a"},{"id":"2"}]}"#,
        "\n",
        r#"{"type":"CREATE","data":null,"sql":"CREATE TABLE t"}"#,
        "\n",
        r#"{"type":"DELETE","data":[{"id":"1","v":"c"}],"old":null}"#
    );
    assert_eq!(
        changes("canal-json", "id INT, v STRING", text, &[]).unwrap(),
        ["+I 1,\"a\"", "+I 2,\"b\"", "-U 1,\"a\"", "+U 1,\"c\"", "-U 2,\"b\"", "+U 3,\"b\"", "-D 1,\"c\""]
    );
    let text = concat!(
        r#"{"type":"insert","data":{"id":1,"v":"a"}}"#,
        "\n",
        r#"{"type":"update","data":{"id":1,"v":"b"},"old":{"v":null}}"#,
        "\n",
        r#"{"type":"delete","data":{"id":1,"v":"b"}}"#
    );
    let expected = ["+I 1,\"a\"", "-U 1,null", "+U 1,\"b\"", "-D 1,\"b\""];
    assert_eq!(changes("maxwell-json", "id INT, v STRING", text, &[]).unwrap(), expected);
    let text =
        "{\"op_type\":\"U\",\"before\":{\"id\":1},\"after\":{\"id\":2}}\n{\"op_type\":\"D\",\"before\":{\"id\":2}}";
    assert_eq!(changes("ogg-json", "id INT", text, &[]).unwrap(), ["-U 1", "+U 2", "-D 2"]);
}
