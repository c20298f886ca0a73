//! Expression text to typed trees.

use hurtig_graph::{DataType, Expr, TimeAttribute};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::{BoundAggregate, Scope, ScopeColumn, bind_scalar, bind_with_aggregates};
use crate::error::SqlError;
use crate::session::{FunctionSignature, SessionSettings, UserFunctions};

const COLUMNS: [(&str, &str); 9] = [
    ("i", "INT"),
    ("b", "BIGINT NOT NULL"),
    ("d", "DECIMAL(10, 2)"),
    ("f", "DOUBLE"),
    ("s", "STRING"),
    ("ts", "TIMESTAMP(3)"),
    ("dt", "DATE"),
    ("r", "ROW<x INT, y ROW<z STRING NOT NULL> NOT NULL>"),
    ("t", "TINYINT"),
];

fn columns() -> Vec<ScopeColumn> {
    COLUMNS
        .iter()
        .enumerate()
        .map(|(index, (name, ty))| ScopeColumn {
            qualifier: Some("tab".to_owned()),
            name: (*name).to_owned(),
            data_type: DataType::parse(ty).unwrap(),
            time: TimeAttribute::None,
            index,
        })
        .collect()
}

fn parse(text: &str) -> sqlparser::ast::Expr {
    Parser::new(&GenericDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap()
}

fn bind(text: &str) -> Result<Expr, SqlError> {
    let session = SessionSettings::default();
    bind_scalar(&parse(text), &Scope { columns: columns(), session: &session })
}

/// The bound tree and its type.
fn shown(text: &str) -> String {
    match bind(text) {
        Ok(expr) => format!("{expr} :: {}", expr.data_type),
        Err(error) => format!("{}: {error}", error.kind().name()),
    }
}

#[test]
fn user_functions_are_found_after_built_in_ones_and_their_arguments_are_cast() {
    let ty = |text| DataType::parse(text).unwrap();
    let mut functions = UserFunctions::default();
    for name in ["twice", "upper"] {
        functions.register(name, FunctionSignature { arguments: vec![ty("BIGINT")], result: ty("BIGINT") });
    }
    let session = SessionSettings::default().with_functions(functions.into());
    let bind = |text| bind_scalar(&parse(text), &Scope { columns: columns(), session: &session });
    assert_eq!(bind("Twice(i)").unwrap().to_string(), "TWICE(CAST($0 AS BIGINT))");
    assert_eq!(bind("twice(s)").unwrap_err().to_string(), "line 1, column 1: TWICE takes (BIGINT), not (STRING)");
    assert_eq!(bind("twice(i, i)").unwrap_err().to_string(), "line 1, column 1: TWICE takes (BIGINT), not (INT, INT)");
    assert_eq!(bind("UPPER(s)").unwrap().to_string(), "UPPER($4)");
}

#[test]
fn operators_insert_their_casts() {
    for (text, expected) in [
        ("i + 1", "($0 + 1) :: INT"),
        ("b * i", "($1 * CAST($0 AS BIGINT)) :: BIGINT"),
        ("0.908 * b", "(908:DECIMAL(4, 3) * CAST($1 AS DECIMAL(19, 0))) :: DECIMAL(24, 3) NOT NULL"),
        ("d / 2", "($2 / CAST(2 AS DECIMAL(10, 0))) :: DECIMAL(21, 13)"),
        ("i % t", "CAST(($0 % CAST($8 AS INT)) AS TINYINT) :: TINYINT"),
        ("- i", "-($0) :: INT"),
        ("-5", "-5 :: INT NOT NULL"),
        ("f > i", "($3 > CAST($0 AS DOUBLE)) :: BOOLEAN"),
        ("s = 'a'", "($4 = 'a') :: BOOLEAN"),
        ("dt = '2024-01-01'", "($6 = CAST('2024-01-01' AS DATE)) :: BOOLEAN"),
        ("b BETWEEN 1 AND 2", "(($1 >= CAST(1 AS BIGINT)) AND ($1 <= CAST(2 AS BIGINT))) :: BOOLEAN NOT NULL"),
        ("i IN (1, 2)", "IN($0, 1, 2) :: BOOLEAN"),
        ("s || 'x'", "($4 || 'x') :: STRING"),
        ("'a' || 'bc'", "('a' || 'bc') :: CHAR(3) NOT NULL"),
        ("i IS NULL AND NOT f > 1", "(IS NULL($0) AND NOT(($3 > CAST(1 AS DOUBLE)))) :: BOOLEAN"),
        ("ts + INTERVAL '1' DAY", "($5 + 86400000:INTERVAL SECOND(3)) :: TIMESTAMP(3)"),
        ("i IS DISTINCT FROM NULL", "($0 IS DISTINCT FROM NULL) :: BOOLEAN NOT NULL"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn conditionals_take_common_types() {
    for (text, expected) in [
        (
            "CASE WHEN i > 1 THEN 'a' ELSE 'bcd' END",
            "CASE WHEN ($0 > 1) THEN CAST('a' AS VARCHAR(3)) ELSE CAST('bcd' AS VARCHAR(3)) END :: VARCHAR(3) NOT NULL",
        ),
        ("CASE i WHEN 1 THEN 2 END", "CASE WHEN ($0 = 1) THEN 2 END :: INT"),
        (
            "IF(i > 1, 1, 2.5)",
            "CASE WHEN ($0 > 1) THEN CAST(1 AS DECIMAL(11, 1)) ELSE CAST(25:DECIMAL(2, 1) AS DECIMAL(11, 1)) END :: DECIMAL(11, 1) NOT NULL",
        ),
        ("COALESCE(i, 0)", "COALESCE($0, 0) :: INT NOT NULL"),
        ("NULLIF(i, 0)", "CASE WHEN ($0 = 0) THEN NULL ELSE $0 END :: INT"),
        ("GREATEST(i, b)", "GREATEST(CAST($0 AS BIGINT), $1) :: BIGINT"),
        ("CASE WHEN TRUE THEN NULL ELSE 1 END", "CASE WHEN TRUE THEN NULL ELSE 1 END :: INT"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn functions_have_flink_s_types() {
    for (text, expected) in [
        ("UPPER('ab')", "CHAR(2) NOT NULL"),
        ("LOWER(s)", "STRING"),
        ("CHAR_LENGTH(s)", "INT"),
        ("SUBSTRING('abc', 2)", "VARCHAR(3)"),
        ("SUBSTRING(s FROM 2 FOR 1)", "STRING"),
        ("TRIM(' a ')", "VARCHAR(3) NOT NULL"),
        ("REGEXP_EXTRACT(s, '(a)', 1)", "STRING"),
        ("SPLIT_INDEX(s, '/', 3)", "STRING"),
        ("DATE_FORMAT(ts, 'yyyy')", "STRING"),
        ("HOUR(ts)", "BIGINT"),
        ("EXTRACT(YEAR FROM dt)", "BIGINT"),
        ("FLOOR(ts TO DAY)", "TIMESTAMP(3)"),
        ("FLOOR(d)", "DECIMAL(10, 0)"),
        ("ROUND(d, 1)", "DECIMAL(10, 1)"),
        ("ROUND(d)", "DECIMAL(9, 0)"),
        ("TIMESTAMPADD(HOUR, 1, dt)", "TIMESTAMP(6)"),
        ("TIMESTAMPDIFF(DAY, ts, ts)", "INT"),
        ("MOD(b, 123)", "INT NOT NULL"),
        ("CAST('x' AS STRING)", "STRING NOT NULL"),
        ("CAST(s AS INT)", "INT"),
        ("TRY_CAST('1' AS INT)", "INT"),
        ("CAST(NULL AS DECIMAL(5, 2))", "DECIMAL(5, 2)"),
        ("CURRENT_TIMESTAMP", "TIMESTAMP_LTZ(3) NOT NULL"),
        ("ABS(t)", "TINYINT"),
        ("PI()", "DOUBLE NOT NULL"),
        ("r.y.z", "STRING"),
        ("tab.r.x", "INT"),
        ("tab.i", "INT"),
        ("POSITION('a' IN s)", "INT"),
    ] {
        let ty = bind(text).map(|e| e.data_type.to_string()).unwrap_or_else(|e| e.to_string());
        assert_eq!(ty, expected, "{text}");
    }
}

#[test]
fn what_flink_refuses_is_refused() {
    for (text, message) in [
        ("i = s", "= cannot be applied to INT and STRING: CAST one of them to the other's type"),
        ("zz", "there is no column 'zz': columns are i, b, d, f, s, ts, dt, r, t"),
        ("UPPER(i)", "argument 1 of UPPER must be a string, not INT"),
        ("FROBNICATE(zz)", "there is no function FROBNICATE: check its spelling, or register it"),
        ("IF(i)", "IF does not take 1 arguments"),
        ("UPPER()", "UPPER takes 1 arguments, not 0"),
        ("FROBNICATE(i)", "there is no function FROBNICATE: check its spelling, or register it"),
        ("NULL", "a bare NULL has no type here: write CAST(NULL AS type)"),
        ("1 + NULL", "a bare NULL has no type here: write CAST(NULL AS type)"),
        ("dt = ts", "= cannot be applied to DATE and TIMESTAMP(3): CAST one of them to the other's type"),
        ("s + 1", "+ cannot be applied to STRING and INT: CAST one of them to the other's type"),
        ("f % 2", "% takes integers and DECIMAL, not DOUBLE and INT"),
        ("CAST(i AS TIMESTAMP(3))", "INT cannot be cast to TIMESTAMP(3): use TO_TIMESTAMP_LTZ(epoch, precision)"),
        (
            "COUNT(*)",
            "the aggregate COUNT is not allowed here: aggregates stand in SELECT and HAVING, not in other aggregates, WHERE or GROUP BY",
        ),
        ("r.q", "there is no field 'q': fields are x, y"),
        ("NOT s", "NOT needs a BOOLEAN, not STRING"),
        ("s LIKE 1", "LIKE compares strings, not INT"),
        ("TIMESTAMPADD(FOO, 1, ts)", "TIMESTAMPADD knows no unit FOO"),
    ] {
        let error = bind(text).unwrap_err().to_string();
        let error = error.split_once(": ").filter(|(at, _)| at.starts_with("line")).map_or(error.as_str(), |(_, m)| m);
        assert_eq!(error, message, "{text}");
    }
}

fn grouped(text: &str, keys: &[&str]) -> Result<(Expr, Vec<BoundAggregate>), SqlError> {
    let session = SessionSettings::default();
    let scope = Scope { columns: columns(), session: &session };
    let keys: Vec<Expr> = keys.iter().map(|k| bind_scalar(&parse(k), &scope).unwrap()).collect();
    let mut aggregates = Vec::new();
    let expr = bind_with_aggregates(&parse(text), &scope, &keys, &mut aggregates)?;
    Ok((expr, aggregates))
}

#[test]
fn groups_are_keys_then_aggregates() {
    let (expr, aggregates) = grouped("SUM(i) + COUNT(*) + b * 2 + SUM(i)", &["s", "b * 2"]).unwrap();
    assert_eq!(expr.to_string(), "(((CAST($2 AS BIGINT) + $3) + $1) + CAST($2 AS BIGINT))");
    let shown: Vec<String> =
        aggregates.iter().map(|a| format!("{} {:?} {}", a.function, a.args.len(), a.result)).collect();
    assert_eq!(shown, ["SUM 1 INT", "COUNT 0 BIGINT NOT NULL"]);
    let error = grouped("i + COUNT(*)", &["s"]).unwrap_err().to_string();
    assert!(
        error.ends_with("column 'i' is neither grouped by nor aggregated: add it to GROUP BY or use an aggregate"),
        "{error}"
    );
}

#[test]
fn aggregates_have_flink_s_types() {
    for (text, expected) in [
        ("SUM(t)", "TINYINT"),
        ("SUM(d)", "DECIMAL(38, 2)"),
        ("AVG(d)", "DECIMAL(38, 6)"),
        ("AVG(b)", "BIGINT"),
        ("MAX(s)", "STRING"),
        ("COUNT(DISTINCT i)", "BIGINT NOT NULL"),
        ("COLLECT(i)", "MULTISET<INT> NOT NULL"),
        ("ARRAY_AGG(b)", "ARRAY<BIGINT NOT NULL>"),
        ("STDDEV(i)", "INT"),
        ("LISTAGG(s, '|')", "STRING"),
    ] {
        let (_, aggregates) = grouped(text, &[]).unwrap();
        assert_eq!(aggregates[0].result.to_string(), expected, "{text}");
    }
    let (_, aggregates) = grouped("COUNT(*) FILTER (WHERE i > 1)", &[]).unwrap();
    assert_eq!(aggregates[0].filter.as_ref().map(ToString::to_string).as_deref(), Some("($0 > 1)"));
    let (_, aggregates) = grouped("COUNT(i, s)", &[]).unwrap();
    assert_eq!(aggregates[0].args[0].to_string(), "CASE WHEN (IS NOT NULL($0) AND IS NOT NULL($4)) THEN TRUE END");
    let (_, aggregates) = grouped("LISTAGG(s, '|')", &[]).unwrap();
    assert_eq!(aggregates[0].parameters, ["|"]);
    assert!(grouped("SUM(s)", &[]).is_err());
    assert!(grouped("SUM(COUNT(*))", &[]).is_err());
}
