//! Tables, views, settings and inserts.

use super::*;
use v1::operator::Kind;

fn rows(result: StatementResult) -> Vec<Vec<String>> {
    match result {
        StatementResult::Table(table) => {
            table.rows.into_iter().map(|row| row.into_iter().map(|v| v.unwrap_or("-".to_owned())).collect()).collect()
        }
        other => panic!("not a table: {other:?}"),
    }
}

#[test]
fn a_table_is_described_as_created() {
    let mut session = session();
    run(
        &mut session,
        "CREATE TABLE t (
           id BIGINT COMMENT 'the key', name STRING NOT NULL, r ROW<a INT, b ARRAY<STRING NOT NULL>>,
           ts TIMESTAMP(3), doubled AS id * 2, at_ltz TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
           WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
         ) COMMENT 'a table' PARTITIONED BY (name) WITH ('connector' = 'files', 'a.password' = 'x')",
    );
    assert_eq!(
        rows(run(&mut session, "DESCRIBE t")),
        [
            ["id", "BIGINT", "false", "PRI(id)", "-", "-", "the key"],
            ["name", "STRING", "false", "-", "-", "-", "-"],
            ["r", "ROW<`a` INT, `b` ARRAY<STRING NOT NULL>>", "true", "-", "-", "-", "-"],
            ["ts", "TIMESTAMP(3) *ROWTIME*", "true", "-", "-", "ts - INTERVAL '5' SECOND", "-"],
            ["doubled", "BIGINT", "true", "-", "AS id * 2", "-", "-"],
            ["at_ltz", "TIMESTAMP_LTZ(3)", "true", "-", "METADATA FROM 'timestamp' VIRTUAL", "-", "-"],
        ]
    );
    assert_eq!(
        rows(run(&mut session, "SHOW CREATE TABLE t"))[0][0],
        "CREATE TABLE `default_catalog`.`default_database`.`t` (\n  `id` BIGINT NOT NULL COMMENT 'the key',\n  \
         `name` VARCHAR(2147483647) NOT NULL,\n  `r` ROW<`a` INT, `b` ARRAY<VARCHAR(2147483647) NOT NULL>>,\n  \
         `ts` TIMESTAMP(3),\n  `doubled` AS id * 2,\n  `at_ltz` TIMESTAMP(3) WITH LOCAL TIME ZONE METADATA FROM \
         'timestamp' VIRTUAL,\n  WATERMARK FOR `ts` AS ts - INTERVAL '5' SECOND,\n  CONSTRAINT `PK_id` PRIMARY KEY \
         (`id`) NOT ENFORCED\n)\nCOMMENT 'a table'\nPARTITIONED BY (`name`)\nWITH (\n  'a.password' = '******',\n  \
         'connector' = 'files'\n)\n"
    );
}

#[test]
fn what_show_create_table_prints_creates_the_table_again() {
    let mut session = session_with_tables();
    let sql = rows(run(&mut session, "SHOW CREATE TABLE bid"))[0][0].clone();
    run(&mut session, &format!("DROP TABLE bid; {sql}"));
    assert_eq!(rows(run(&mut session, "SHOW CREATE TABLE bid"))[0][0], sql);
}

#[test]
fn names_are_listed_and_filtered() {
    let mut session = session_with_tables();
    run(&mut session, "CREATE VIEW v AS SELECT bidder FROM bid");
    assert_eq!(rows(run(&mut session, "SHOW TABLES LIKE 'out%'")), [["out_files"], ["out_print"], ["out_upsert"]]);
    assert_eq!(rows(run(&mut session, "SHOW VIEWS")), [["v"]]);
    run(&mut session, "CREATE DATABASE d; USE d");
    assert_eq!(rows(run(&mut session, "SHOW CURRENT DATABASE")), [["d"]]);
    assert!(rows(run(&mut session, "SHOW TABLES")).is_empty());
    run(&mut session, "SELECT bidder FROM default_database.v");
    run(&mut session, "DROP TABLE IF EXISTS nothing; USE default_database; DROP DATABASE d; DROP VIEW v");
}

#[test]
fn like_takes_over_and_overrides() {
    let mut session = session_with_tables();
    run(&mut session, "CREATE TABLE b2 (extra INT) WITH ('path' = '/b2') LIKE bid");
    let sql = rows(run(&mut session, "SHOW CREATE TABLE b2"))[0][0].clone();
    assert!(
        sql.contains("`extra` INT") && sql.contains("WATERMARK FOR `ts`") && sql.contains("'path' = '/b2'"),
        "{sql}"
    );
    run(&mut session, "CREATE TABLE b3 WITH ('connector' = 'print') LIKE bid (EXCLUDING ALL)");
    let sql = rows(run(&mut session, "SHOW CREATE TABLE b3"))[0][0].clone();
    assert!(!sql.contains("WATERMARK") && !sql.contains("/bids"), "{sql}");
}

#[test]
fn an_insert_fills_all_columns_of_the_sink() {
    let mut session = session_with_tables();
    let graph = graph(&mut session, "INSERT INTO out_files (n) SELECT price FROM bid");
    assert_eq!(graph.name, "insert-into_default_catalog.default_database.out_files");
    let Some(Kind::Calc(calc)) = &operator(&graph, "out_files/calc-1").kind else { panic!("{:?}", shape(&graph)) };
    assert_eq!(calc.projections.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["k", "n"]);
}

#[test]
fn partitions_and_not_null_columns_are_written_as_declared() {
    let mut session = session_with_tables();
    run(
        &mut session,
        "CREATE TABLE parts (n BIGINT NOT NULL, k STRING) PARTITIONED BY (k) WITH ('connector' = 'files');",
    );
    let graph1 = graph(&mut session, "INSERT INTO parts PARTITION (k = 'low') SELECT price FROM bid");
    let Some(Kind::Sink(sink)) = &operator(&graph1, "parts/sink-1").kind else { panic!() };
    assert_eq!(sink.partition_by, [1]);
    assert!(!shape(&graph1).iter().any(|s| s.contains("IS NOT NULL")));
    run(&mut session, "SET 'table.exec.sink.not-null-enforcer' = 'DROP'");
    let graph2 = graph(&mut session, "INSERT INTO parts SELECT price, channel FROM bid");
    assert!(shape(&graph2).iter().any(|s| s.contains("IS NOT NULL(price)")), "{:?}", shape(&graph2));
    let message = error(&mut session, "INSERT INTO parts (k) SELECT channel FROM bid");
    assert!(message.contains("column 'n' has no default value and does not allow NULLs"), "{message}");
}

#[test]
fn a_statement_set_shares_its_source_and_merges_equal_sinks() {
    let mut session = session_with_tables();
    let graph = graph(
        &mut session,
        "EXECUTE STATEMENT SET BEGIN
           INSERT INTO out_files SELECT channel, price FROM bid WHERE price > 5;
           INSERT INTO out_files SELECT channel, bidder FROM bid;
           INSERT INTO out_print SELECT channel, COUNT(*) FROM bid GROUP BY channel;
         END",
    );
    let count = |part: &str| graph.vertices.iter().filter(|v| v.id.contains(part)).count();
    assert_eq!((count("source"), count("sink"), count("union")), (1, 2, 1), "{:?}", shape(&graph));
    let Some(Kind::Source(source)) = &operator(&graph, "out_files/source-1").kind else { panic!() };
    assert_eq!(source.projection, [1, 2, 3, 4]);
    let Some(Kind::GroupAggregate(a)) = &operator(&graph, "out_print/group-aggregate-1").kind else { panic!() };
    assert!(a.emit_update_before, "print takes the row before an update");
}

#[test]
fn sinks_by_key_take_updates_of_that_key_only() {
    let mut session = session_with_tables();
    let graph = graph(&mut session, "INSERT INTO out_upsert SELECT channel, COUNT(*) FROM bid GROUP BY channel");
    let Some(Kind::GroupAggregate(a)) = &operator(&graph, "out_upsert/group-aggregate-1").kind else { panic!() };
    assert!(!a.emit_update_before);
    let message = error(
        &mut session,
        "INSERT INTO out_upsert SELECT channel, bidder FROM (SELECT channel, bidder, COUNT(*) FROM bid GROUP BY channel, bidder HAVING COUNT(*) > 1)",
    );
    assert!(message.contains("primary key (k)"), "{message}");
    let message = error(&mut session, "INSERT INTO out_files SELECT channel, COUNT(*) FROM bid GROUP BY channel");
    assert!(message.contains("takes inserts only"), "{message}");
}

#[test]
fn create_table_as_makes_the_table_and_fills_it() {
    let mut session = session_with_tables();
    let graph = graph(
        &mut session,
        "CREATE TABLE kept (twice AS price * 2, channel STRING) WITH ('connector' = 'files') AS SELECT channel, price FROM bid",
    );
    assert!(shape(&graph).iter().any(|s| s.contains("fields=[channel, price]")), "{:?}", shape(&graph));
    let names: Vec<String> = rows(run(&mut session, "DESCRIBE kept")).into_iter().map(|r| r[0].clone()).collect();
    assert_eq!(names, ["twice", "channel", "price"]);
}

#[test]
fn settings_are_set_shown_and_reset() {
    let mut session = session();
    run(&mut session, "SET 'table.local-time-zone' = 'Asia/Tokyo'; SET 'a' = 'b'");
    assert_eq!(session.settings().time_zone(), "Asia/Tokyo");
    assert_eq!(rows(run(&mut session, "SET")), [["a", "b"], ["table.local-time-zone", "Asia/Tokyo"]]);
    run(&mut session, "RESET 'table.local-time-zone'");
    assert_eq!(session.settings().time_zone(), "UTC");
    run(&mut session, "RESET");
    assert!(rows(run(&mut session, "SET")).is_empty());
    assert!(error(&mut session, "SET 'table.local-time-zone' = 'Mars'").contains("'Mars' is not a time zone"));
}

#[test]
fn explain_has_flinks_sections() {
    let mut session = session_with_tables();
    let text = rows(run(&mut session, "EXPLAIN CHANGELOG_MODE SELECT channel, COUNT(*) FROM bid GROUP BY channel"))[0]
        [0]
    .clone();
    let sections: Vec<&str> = text.lines().filter(|l| l.starts_with("== ")).collect();
    assert_eq!(
        sections,
        ["== Abstract Syntax Tree ==", "== Optimized Physical Plan ==", "== Optimized Execution Plan =="]
    );
    assert!(text.contains("changelogMode=[I,UA,D], upsertKey=[channel]"), "{text}");
    assert!(text.contains("state: one accumulator a key"), "{text}");
}
