//! What the csv format reads and writes.

use super::{CsvDecoder, CsvEncoder, CsvOptions};
use crate::formats::decoder::{RecordDecoder, RecordError, ScanLimits};
use crate::options::TableOptions;
use crate::testing::{decode, json_rows, options, schema, shown};

fn csv(pairs: &[(&str, &str)]) -> CsvOptions {
    CsvOptions::read(&TableOptions::new(&options(pairs))).unwrap()
}

fn read(columns: &str, text: &str, pairs: &[(&str, &str)]) -> Result<Vec<String>, RecordError> {
    let schema = schema(columns);
    let all: Vec<usize> = (0..schema.len()).collect();
    let rows = decode(&mut CsvDecoder::new(&schema, &all, csv(pairs)), &schema, text.as_bytes())?;
    Ok(shown(&schema, &rows))
}

const QUOTES: &str = "1,\"plain\",1.50,2024-01-01\n2,\"with, comma\",2.25,2024-02-29\n\
    3,\"say \"\"hi\"\"\",-3.10,1969-12-31\n4,\"two\nlines\",0.00,2024-01-02\n5,n/a,n/a,n/a\n6,\"\",7.00,2024-05-05\n\
    7, padded ,8.10,2024-06-06\r\n8,\"q\" ,9.99,2024-7-7";

#[test]
fn quoted_fields_hold_anything() {
    let rows = read("id INT, txt STRING, v DECIMAL(6, 2), d DATE", QUOTES, &[("csv.null-literal", "n/a")]).unwrap();
    assert_eq!(
        rows,
        [
            r#"1,"plain","1.50","2024-01-01""#,
            r#"2,"with, comma","2.25","2024-02-29""#,
            r#"3,"say \"hi\"","-3.10","1969-12-31""#,
            r#"4,"two\nlines","0.00","2024-01-02""#,
            r#"5,null,null,null"#,
            r#"6,"","7.00","2024-05-05""#,
            r#"7," padded ","8.10","2024-06-06""#,
            r#"8,"q","9.99","2024-07-07""#,
        ]
    );
}

#[test]
fn a_record_cut_anywhere_is_waited_for() {
    let schema = schema("id INT, txt STRING, v STRING, d STRING");
    for cut in 0..QUOTES.len() {
        let mut decoder = CsvDecoder::new(&schema, &[0, 1], csv(&[]));
        let open = ScanLimits { at_end: false, until: usize::MAX, rows: usize::MAX };
        let found = decoder.scan(&QUOTES.as_bytes()[..cut], 0, open).unwrap();
        let found = decoder.scan(QUOTES.as_bytes(), found.end, ScanLimits { at_end: true, ..open }).unwrap();
        assert_eq!((found.end, decoder.pending()), (QUOTES.len(), 8), "cut at {cut}");
        let rows = decoder.finish(QUOTES.as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
    }
}

#[test]
fn a_bad_record_cut_anywhere_is_skipped_as_a_whole() {
    let schema = schema("a STRING, b STRING");
    let text = b"\"x\"y,z,\n1,2\n\"x\"y,\"z\n3,4";
    for cut in 0..text.len() {
        let mut decoder = CsvDecoder::new(&schema, &[0, 1], csv(&[("csv.ignore-parse-errors", "true")]));
        let open = ScanLimits { at_end: false, until: usize::MAX, rows: usize::MAX };
        let found = decoder.scan(&text[..cut], 0, open).unwrap();
        decoder.scan(text, found.end, ScanLimits { at_end: true, ..open }).unwrap();
        assert_eq!(decoder.pending(), 2, "cut at {cut}");
    }
}

#[test]
fn the_number_of_fields_must_fit() {
    let error = read("a INT", "1,2\n", &[]).unwrap_err();
    assert!(error.reason.contains("1 fields expected but 2 found"), "{error:?}");
    let error = read("a INT, b INT", "1,2\n3\n", &[]).unwrap_err();
    assert_eq!((error.row, error.offset), (1, 4));
    let ignore = ("csv.ignore-parse-errors", "true");
    assert_eq!(read("a INT, b INT", "1,2\n3\n4,5,6\n7,8", &[ignore]).unwrap(), ["1,2", "7,8"]);
    assert_eq!(read("a INT, b INT", "1,2,\n", &[]).unwrap(), ["1,2"]);
    assert!(read("a INT, b INT", "1,2,\n", &[("csv.allow-trailing-comma", "false")]).is_err());
    assert_eq!(read("a INT", "1,2,3\n", &[("csv.ignore-trailing-unmappable", "true")]).unwrap(), ["1"]);
}

#[test]
fn what_does_not_parse_is_an_error_or_null() {
    let error = read("a STRING, b INT", "x,1\ny,1.50\n", &[]).unwrap_err();
    assert_eq!((error.row, error.path.join(".")), (1, "b".to_owned()));
    assert!(error.reason.contains("'1.50' is not a value of type INT"), "{error:?}");
    assert!(read("a INT, b INT", ",1\n", &[]).is_err());
    assert_eq!(read("a INT, b STRING", ",\n", &[("csv.null-literal", "")]).unwrap(), ["null,null"]);
    assert_eq!(read("a INT, b STRING", ",\n", &[("csv.empty-string-as-null", "true")]).unwrap(), ["null,null"]);
    assert_eq!(read("a INT, b STRING", "x,\n", &[("csv.ignore-parse-errors", "true")]).unwrap(), ["null,\"\""]);
}

#[test]
fn quotes_can_be_off_and_comments_on() {
    let text =
        "# a comment line\n1|'a|b'|true\n  # another\n2|'it\\'s'|false\n3|\"plain|true\nbroken|row|maybe\n4|last|no";
    let pairs = [
        ("csv.field-delimiter", "|"),
        ("csv.disable-quote-character", "true"),
        ("csv.allow-comments", "true"),
        ("csv.ignore-parse-errors", "true"),
    ];
    assert_eq!(
        read("id INT, txt STRING, ok STRING", text, &pairs).unwrap(),
        [r#"2,"'it\\'s'","false""#, r#"3,"\"plain","true""#, r#"null,"row","maybe""#, r#"4,"last","no""#]
    );
}

#[test]
fn escapes_and_broken_quotes() {
    let escape = ("csv.escape-character", "\\\\");
    let text = "a\\,b,\"c\\\"d\"\n\"e\\\\\",f\n";
    assert_eq!(read("a STRING, b STRING", text, &[escape]).unwrap(), [r#""a,b","c\"d""#, r#""e\\","f""#]);
    assert!(read("a STRING, b STRING", "\"x\"y,z\n", &[]).unwrap_err().reason.contains("behind a quoted field"));
    assert!(read("a STRING", "\"x\n", &[]).unwrap_err().reason.contains("does not end"));
    let ignore = ("csv.ignore-parse-errors", "true");
    assert_eq!(read("a STRING, b STRING", "\"x\"y,z\np,q\n", &[ignore]).unwrap(), [r#""p","q""#]);
}

#[test]
fn arrays_and_rows_are_elements_in_one_field() {
    assert_eq!(
        read("a ARRAY<INT>, r ROW<x INT, y STRING>", "1;2,7;z\n,8;\n", &[]).unwrap(),
        [r#"[1,2],[7,"z"]"#, r#"[],[8,""]"#]
    );
    let error = read("a ARRAY<INT>", "1\n2;x\n", &[]).unwrap_err();
    assert_eq!(error.row, 1);
    assert!(read("r ROW<x INT, y INT>", "1\n", &[]).is_err());
}

#[test]
fn what_is_written_reads_back_equal() {
    let schema = schema(
        "b BOOLEAN, i BIGINT, de DECIMAL(10, 2), d DOUBLE, s STRING, x BYTES, dt DATE, tm TIME(0), ts TIMESTAMP(6), \
         lz TIMESTAMP_LTZ(3), a ARRAY<INT>",
    );
    let text = concat!(
        r#"{"b":true,"i":1,"de":100000,"d":1e10,"s":"a,\"b\"\nc ","x":"AP8Q","dt":"2024-02-29","tm":"01:02:03","#,
        r#""ts":"2024-01-01 00:00:00.12","lz":"2024-01-01 00:00:00Z","a":[1,2]}"#,
        "\n{\"s\":\"#\"}\n"
    );
    let rows = json_rows(&schema, text);
    let all: Vec<usize> = (0..schema.len()).collect();
    for delimiter in [",", ";", "\\t"] {
        let pairs =
            [("csv.null-literal", "-"), ("csv.field-delimiter", delimiter), ("csv.array-element-delimiter", "_")];
        let mut out = Vec::new();
        CsvEncoder::new(schema.clone(), csv(&pairs)).encode(&rows, &mut out).unwrap();
        let back = decode(&mut CsvDecoder::new(&schema, &all, csv(&pairs)), &schema, &out).unwrap();
        assert_eq!(back, rows);
    }
}

#[test]
fn values_are_written_as_flink_writes_them() {
    let schema = schema("b BOOLEAN, de DECIMAL(10, 2), s STRING, ts TIMESTAMP(3), n INT");
    let rows = json_rows(&schema, r#"{"b":true,"de":100000,"s":"a b","ts":"2024-01-01 00:00:00"}"#);
    let mut out = Vec::new();
    CsvEncoder::new(schema.clone(), csv(&[])).encode(&rows, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "true,1E+5,\"a b\",\"2024-01-01 00:00:00\",\n");
    let unquoted = csv(&[("csv.disable-quote-character", "true"), ("csv.field-delimiter", " ")]);
    assert!(CsvEncoder::new(schema, unquoted).encode(&rows, &mut Vec::new()).is_err());
}
