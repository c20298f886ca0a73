//! What is refused, with what message and where.

use super::*;

fn refused(statement: &str, parts: &[&str]) {
    let mut session = session_with_tables();
    let message = error(&mut session, statement);
    for part in parts {
        assert!(message.contains(part), "{statement}\n  gives '{message}'\n  without '{part}'");
    }
}

#[test]
fn errors_name_the_place() {
    refused("SELECT auction\nFROM bid WHERE WHERE price > 1", &["line 2, column"]);
    refused("SELECT auction, colour FROM bid", &["line 1, column 17", "colour"]);
    refused(
        "SELECT auction FROM bids",
        &["line 1, column 21", "'default_catalog.default_database.bids' does not exist", "did you mean 'bid'?"],
    );
    refused(
        "CREATE TABLE t (a INT, a INT) WITH ('connector' = 'files')",
        &["line 1, column 24", "'a' is defined twice"],
    );
    refused("SELECT auction FROM", &["line 1", "the end of the statement"]);
    refused("FETCH x", &["line 1, column 1", "expected a statement"]);
}

#[test]
fn what_is_not_built_says_so_by_name() {
    for (statement, construct) in [
        (
            "SELECT a.auction FROM bid a JOIN bid b ON a.auction = b.auction",
            "line 1, column 34: joins are not supported",
        ),
        ("SELECT a.auction FROM bid a, bid b", "joins are"),
        ("SELECT auction FROM bid ORDER BY price", "ORDER BY is not supported; see docs/sql.md"),
        ("SELECT auction FROM bid LIMIT 3", "LIMIT and OFFSET are"),
        (
            "SELECT SUM(price) OVER (PARTITION BY auction ORDER BY ts) FROM bid",
            "OVER windows (Top-N and ranking included) are",
        ),
        ("SELECT auction FROM bid WHERE auction IN (SELECT bidder FROM bid)", "IN with a subquery is"),
        ("SELECT auction FROM bid WHERE EXISTS (SELECT 1 FROM bid)", "EXISTS is"),
        ("SELECT auction FROM bid INTERSECT SELECT bidder FROM bid", "INTERSECT is"),
        (
            "SELECT * FROM TABLE(SESSION(TABLE bid PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "SESSION windows are",
        ),
        ("SELECT COUNT(*) FROM bid GROUP BY SESSION(ts, INTERVAL '1' MINUTE)", "SESSION windows are"),
        (
            "SELECT * FROM bid MATCH_RECOGNIZE (PARTITION BY auction ORDER BY ts MEASURES a.price AS p PATTERN (a b) DEFINE a AS a.price > 1) AS m",
            "MATCH_RECOGNIZE is",
        ),
        (
            "SELECT a.auction FROM bid a JOIN rates FOR SYSTEM_TIME AS OF a.ts AS r ON a.channel = r.currency",
            "not supported",
        ),
        ("SELECT x FROM UNNEST(ARRAY[1]) AS t(x)", "UNNEST is"),
        ("WITH RECURSIVE r AS (SELECT 1 AS a) SELECT a FROM r", "recursive common table expressions are"),
        ("UPDATE bid SET price = 1", "UPDATE statements are"),
        ("CREATE FUNCTION f AS 'x'", "CREATE FUNCTION is"),
    ] {
        refused(statement, &[construct]);
    }
}

#[test]
fn definitions_are_checked() {
    for (statement, part) in [
        ("CREATE TABLE t (n INT, PRIMARY KEY (n)) WITH ('connector' = 'files')", "must be declared NOT ENFORCED"),
        ("CREATE TABLE t (n INT, PRIMARY KEY (m) NOT ENFORCED)", "'m' of the primary key"),
        ("CREATE TABLE t (s STRING, WATERMARK FOR s AS s)", "'s' is STRING, but must be TIMESTAMP(p)"),
        ("CREATE TABLE t (s TIMESTAMP(6), WATERMARK FOR s AS s)", "precision p from 0 to 3"),
        ("CREATE TABLE t (s TIMESTAMP(3), WATERMARK FOR r AS s)", "'r' is not a column"),
        ("CREATE TABLE t (value INT)", "'value' is a reserved word"),
        ("CREATE TABLE t (a FOO)", "there is no type 'FOO'"),
        ("CREATE TABLE t (a CHAR(0))", "must be at least 1"),
        ("CREATE TABLE bid (a INT)", "an object 'default_catalog.default_database.bid' already exists"),
        ("CREATE TABLE t (a INT) WITH ('a' = 'b', 'a' = 'c')", "option 'a' is given twice"),
        ("CREATE VIEW v AS SELECT nope FROM bid", "nope"),
        ("CREATE VIEW v (a, b) AS SELECT price FROM bid", "names 2 columns, but its query has 1"),
        ("CREATE TABLE t (a INT) PARTITIONED BY (b)", "partition column 'b'"),
        ("DROP TABLE nothing", "table 'default_catalog.default_database.nothing' does not exist"),
        ("DROP VIEW bid", "view 'default_catalog.default_database.bid' does not exist"),
        ("USE nowhere", "database 'nowhere' does not exist"),
    ] {
        refused(statement, &[part]);
    }
}

#[test]
fn tables_are_checked_when_used() {
    refused(
        "CREATE TABLE t (a INT); SELECT a FROM t",
        &["table default_catalog.default_database.t", "'connector' is missing"],
    );
    refused("CREATE TABLE t (a INT) WITH ('connector' = 'x'); SELECT a FROM t", &["no source connector 'x'"]);
    refused(
        "CREATE TABLE t (a INT, b INT METADATA) WITH ('connector' = 'files'); SELECT a FROM t",
        &["metadata columns"],
    );
    refused(
        "CREATE TABLE t (a INT) WITH ('connector' = 'cdc'); SET 'table.exec.source.cdc-events-duplicate' = 'true'; \
         SELECT a FROM t",
        &["'table.exec.source.cdc-events-duplicate'", "not supported"],
    );
}

#[test]
fn sinks_are_checked() {
    refused(
        "INSERT INTO out_files SELECT channel, ts FROM bid",
        &[
            "incompatible types for sink column 'n' at position 1",
            "query schema: [channel: STRING, ts: TIMESTAMP(3)]",
            "sink schema: [k: STRING, n: BIGINT]",
        ],
    );
    refused("INSERT INTO out_files SELECT channel FROM bid", &["the query has 1 columns, the sink takes 2"]);
    refused("INSERT INTO out_files (k, nope) SELECT channel, price FROM bid", &["column 'nope' not found"]);
    refused("INSERT INTO out_files (k, k) SELECT channel, channel FROM bid", &["'k' is given twice"]);
    refused("INSERT INTO out_files PARTITION (k = 'x') SELECT price FROM bid", &["'k' is not a partition column"]);
}

#[test]
fn windows_are_checked() {
    let tvf =
        |call: &str| format!("SELECT window_start, COUNT(*) FROM TABLE({call}) GROUP BY window_start, window_end");
    for (call, part) in [
        ("HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '40' SECOND, INTERVAL '1' MINUTE)", "multiple of the slide"),
        ("TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '1' MINUTE)", "need a time attribute"),
        ("TUMBLE(TABLE bid, DESCRIPTOR(nope), INTERVAL '1' MINUTE)", "column 'nope' not found"),
        ("TUMBLE(TABLE bid, DESCRIPTOR(ts))", "lacks the argument SIZE"),
        ("TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '0' SECOND)", "must be positive"),
        ("TUMBLE(bid, DESCRIPTOR(ts), INTERVAL '1' SECOND)", "is TABLE and a name"),
        ("TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), LENGTH => INTERVAL '1' SECOND)", "no argument 'LENGTH'"),
    ] {
        refused(&tvf(call), &[part]);
    }
    refused("SELECT auction, COUNT(*) FROM bid", &["auction"]);
    refused("SELECT COUNT(*) FROM bid GROUP BY 1", &["not positions"]);
    refused("SELECT auction FROM bid UNION ALL SELECT auction, bidder FROM bid", &["equally many columns"]);
    refused("SELECT ts FROM bid UNION ALL SELECT auction FROM bid", &["TIMESTAMP(3) and BIGINT"]);
}
