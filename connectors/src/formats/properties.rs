//! What holds for any input: nothing panics, and what is written reads back equal.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use std::sync::Arc;

use crate::formats::csv::{CsvDecoder, CsvEncoder, CsvOptions};
use crate::formats::decoder::{RecordDecoder, ScanLimits};
use crate::formats::json::{JsonDecoder, JsonEncoder, JsonOptions};
use crate::options::TableOptions;
use crate::testing::{decode, json_options, options, schema};

fn csv_options(ignore: bool, escape: bool) -> CsvOptions {
    let mut pairs = vec![("csv.null-literal", "NULL"), ("csv.allow-comments", "true")];
    pairs.extend(ignore.then_some(("csv.ignore-parse-errors", "true")));
    pairs.extend(escape.then_some(("csv.escape-character", "\\\\")));
    CsvOptions::read(&TableOptions::new(&options(&pairs))).unwrap()
}

/// Reads `text` in two pieces and as a whole: both give the same rows, or both fail.
fn cut_and_whole(
    mut make: impl FnMut() -> Box<dyn RecordDecoder>,
    text: &[u8],
    cut: usize,
) -> Result<(), TestCaseError> {
    let limits = |at_end| ScanLimits { at_end, until: usize::MAX, rows: usize::MAX };
    let mut cut_decoder = make();
    let cut_rows = cut_decoder
        .scan(&text[..cut], 0, limits(false))
        .and_then(|found| cut_decoder.scan(text, found.end, limits(true)))
        .and_then(|_| cut_decoder.finish(text));
    let mut whole_decoder = make();
    let whole_rows = whole_decoder.scan(text, 0, limits(true)).and_then(|_| whole_decoder.finish(text));
    match (cut_rows, whole_rows) {
        (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
        (a, b) => prop_assert_eq!(a.is_err(), b.is_err()),
    }
    Ok(())
}

/// Bytes that look somewhat like records.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            "{\"a\":",
            "\"b\":",
            "1",
            "-2.5e3",
            "\"x\"",
            "\"",
            "\\",
            "\\u00e4",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\n",
            "\r\n",
            "null",
            "true",
            "#",
            ";",
            "NULL",
            "\"\"",
            " ",
            "{\"a\":1,\"b\":\"q\",\"c\":[1,{\"x\":2}]}\n",
            "1,x,2\n",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_as_json(text in text(), ignore in any::<bool>(), cut in any::<prop::sample::Index>()) {
        let schema = schema("a INT, b STRING, c ARRAY<ROW<x INT>>, m MAP<STRING, DOUBLE>");
        let options = JsonOptions { ignore_parse_errors: ignore, ..json_options() };
        let cut = cut.index(text.len() + 1);
        cut_and_whole(|| Box::new(JsonDecoder::new(&schema, options.clone())), &text, cut)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_as_csv(
        text in text(), ignore in any::<bool>(), escape in any::<bool>(), cut in any::<prop::sample::Index>()
    ) {
        let schema = schema("a INT, b STRING, c ARRAY<INT>");
        let cut = cut.index(text.len() + 1);
        let make = || Box::new(CsvDecoder::new(&schema, &[0, 1, 2], csv_options(ignore, escape))) as Box<dyn RecordDecoder>;
        cut_and_whole(make, &text, cut)?;
    }

    #[test]
    fn any_rows_read_back_equal(
        rows in proptest::collection::vec((any::<Option<i64>>(), any::<Option<String>>(), any::<Option<f64>>()), 1..20),
        escape in any::<bool>(),
    ) {
        let schema = schema("a BIGINT, b STRING, c DOUBLE");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            // The text that stands for NULL in csv.
            Arc::new(rows.iter().map(|r| r.1.clone().filter(|s| s != "NULL")).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| r.2.filter(|v| !v.is_nan())).collect::<Float64Array>()),
        ];
        let batch = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        let mut out = Vec::new();
        JsonEncoder::new(schema.clone(), json_options()).encode(&batch, &mut out).unwrap();
        prop_assert_eq!(&decode(&mut JsonDecoder::new(&schema, json_options()), &schema, &out).unwrap(), &batch);
        out.clear();
        let options = csv_options(false, escape);
        CsvEncoder::new(schema.clone(), options.clone()).encode(&batch, &mut out).unwrap();
        prop_assert_eq!(&decode(&mut CsvDecoder::new(&schema, &[0, 1, 2], options), &schema, &out).unwrap(), &batch);
    }
}
