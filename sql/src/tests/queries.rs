//! What queries become.

use super::*;
use crate::ChangelogMode;
use v1::operator::Kind;

fn query(session: &mut Session, sql: &str) -> (v1::JobGraph, Vec<String>, ChangelogMode, Option<Vec<usize>>) {
    match run(session, sql) {
        StatementResult::Query { graph, schema, changelog, upsert_key } => {
            plan(&graph);
            (graph, columns(&schema), changelog, upsert_key)
        }
        other => panic!("not a query: {other:?}"),
    }
}

#[test]
fn a_projection_reads_only_what_it_needs() {
    let (graph, columns, changelog, _) =
        query(&mut session_with_tables(), "SELECT price * 2 AS double_price, b.auction FROM bid AS b WHERE bidder > 7");
    assert_eq!(columns, ["double_price BIGINT", "auction BIGINT"]);
    assert_eq!(changelog, ChangelogMode::Append);
    assert_eq!(
        shape(&graph),
        [
            "collect/source-1: Source(table=[default_catalog.default_database.bid], fields=[auction, bidder, price, ts])",
            "collect/watermark-1: WatermarkAssigner(rowtime=[ts], watermark=[(ts - 4000:INTERVAL SECOND(3))])",
            "collect/calc-1: Calc(select=[(price * CAST(2 AS BIGINT)) AS double_price, auction], where=[(bidder > CAST(7 AS BIGINT))])",
            "collect/sink-1: Sink(table=[collect], fields=[double_price, auction])",
            "collect/source-1 -> collect/watermark-1: forward",
            "collect/watermark-1 -> collect/calc-1: forward",
            "collect/calc-1 -> collect/sink-1: forward",
        ]
    );
    let Some(Kind::Source(source)) = &operator(&graph, "collect/source-1").kind else { panic!("no source") };
    assert_eq!((source.projection.as_slice(), source.projected), ([0, 1, 2, 4].as_slice(), true));
    assert_eq!(source.schema.as_ref().unwrap().fields.len(), 5);
}

#[test]
fn a_window_aggregation_is_one_operator_behind_a_shuffle() {
    let (graph, columns, changelog, _) = query(
        &mut session_with_tables(),
        "SELECT bidder, COUNT(*) AS n, window_start, window_end
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price > 3
          GROUP BY bidder, window_start, window_end",
    );
    assert_eq!(
        columns,
        [
            "bidder BIGINT",
            "n BIGINT NOT NULL",
            "window_start TIMESTAMP(3) NOT NULL",
            "window_end TIMESTAMP(3) NOT NULL"
        ]
    );
    assert_eq!(changelog, ChangelogMode::Append);
    let aggregate = graph.vertices.iter().find_map(|v| match &v.operator.as_ref()?.kind {
        Some(Kind::WindowAggregate(a)) if a.phase != v1::AggregatePhase::Local as i32 => Some(a),
        _ => None,
    });
    let window = aggregate.unwrap().window.as_ref().unwrap();
    assert_eq!((window.size_ms, window.kind), (10_000, v1::WindowKind::Tumble as i32));
    assert!(!shape(&graph).iter().any(|s| s.contains("WindowTableFunction")));
}

#[test]
fn hop_and_cumulate_take_slide_and_step_before_size() {
    for (call, expected) in [
        ("HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)", (5_000, 10_000, 0)),
        (
            "CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '1' MINUTE, INTERVAL '3' SECOND)",
            (5_000, 60_000, 3_000),
        ),
        (
            "HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND, SLIDE => INTERVAL '5' SECOND)",
            (5_000, 10_000, 0),
        ),
    ] {
        let sql = format!("SELECT window_start, COUNT(*) FROM TABLE({call}) GROUP BY window_start, window_end");
        let (graph, ..) = query(&mut session_with_tables(), &sql);
        let Some(Kind::WindowAggregate(aggregate)) = graph.vertices.iter().find_map(|v| {
            let kind = v.operator.as_ref()?.kind.clone()?;
            matches!(&kind, Kind::WindowAggregate(_)).then_some(kind)
        }) else {
            panic!("no window aggregate: {:?}", shape(&graph))
        };
        let window = aggregate.window.unwrap();
        assert_eq!((window.slide_ms, window.size_ms, window.offset_ms), expected, "{call}");
    }
}

#[test]
fn windows_chain_by_window_time() {
    let (graph, ..) = query(
        &mut session_with_tables(),
        "CREATE VIEW v AS SELECT bidder, COUNT(*) AS n, window_time AS wt
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
          GROUP BY bidder, window_start, window_end, window_time;
         SELECT window_start, SUM(n) AS total FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(wt), INTERVAL '3' MINUTE))
          GROUP BY window_start, window_end",
    );
    let windows = graph.vertices.iter().filter(|v| {
        matches!(&v.operator.as_ref().unwrap().kind,
            Some(Kind::WindowAggregate(a)) if a.phase != v1::AggregatePhase::Local as i32)
    });
    assert_eq!(windows.count(), 2);
}

#[test]
fn a_window_function_alone_appends_columns() {
    let (graph, columns, ..) = query(
        &mut session_with_tables(),
        "SELECT auction, window_time FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE price > 1",
    );
    assert_eq!(columns, ["auction BIGINT", "window_time TIMESTAMP(3) NOT NULL"]);
    assert!(shape(&graph).iter().any(|s| s.contains("WindowTableFunction")));
}

#[test]
fn window_columns_of_a_subquery_that_are_filtered_still_make_a_window_aggregation() {
    let (graph, ..) = query(
        &mut session_with_tables(),
        "SELECT window_start, COUNT(*) AS n FROM (
           SELECT * FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
         ) WHERE window_start IS NOT NULL GROUP BY window_start, window_end",
    );
    let shape = shape(&graph);
    assert!(shape.iter().any(|s| s.contains("WindowTableFunction")), "{shape:?}");
    assert!(shape.iter().any(|s| s.contains("WindowAggregate(groupBy=[window_start, window_end]")), "{shape:?}");
}

#[test]
fn grouping_by_one_bound_only_is_an_updating_aggregation() {
    let (_, _, changelog, key) = query(
        &mut session_with_tables(),
        "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
          GROUP BY window_start",
    );
    assert_eq!((changelog, key), (ChangelogMode::Upsert, Some(vec![0])));
}

#[test]
fn legacy_group_windows_are_window_aggregations() {
    let (graph, columns, changelog, _) = query(
        &mut session_with_tables(),
        "SELECT channel, HOP_START(ts, INTERVAL '30' SECOND, INTERVAL '1' MINUTE) AS ws,
                HOP_ROWTIME(ts, INTERVAL '30' SECOND, INTERVAL '1' MINUTE) AS wt, SUM(price) AS s
           FROM bid GROUP BY channel, HOP(ts, INTERVAL '30' SECOND, INTERVAL '1' MINUTE)",
    );
    assert_eq!(changelog, ChangelogMode::Append);
    assert_eq!(columns[1], "ws TIMESTAMP(3) NOT NULL");
    assert!(shape(&graph).iter().any(|s| s.contains("WindowAggregate(groupBy=[channel], window=[HOP(ts")));
}

#[test]
fn group_by_shuffles_by_key_and_updates() {
    let (graph, columns, changelog, key) = query(
        &mut session_with_tables(),
        "SELECT SUM(price) AS s, UPPER(channel) AS c, COUNT(*) AS n FROM bid GROUP BY UPPER(channel)",
    );
    assert_eq!(columns, ["s BIGINT", "c STRING", "n BIGINT NOT NULL"]);
    assert_eq!((changelog, key), (ChangelogMode::Upsert, Some(vec![1])));
    let shape = shape(&graph);
    assert!(shape.iter().any(|s| s.starts_with("collect/calc-1: Calc(select=[UPPER(channel) AS ")), "{shape:?}");
    assert!(
        shape.contains(&"collect/group-aggregate-1-local -> collect/group-aggregate-1: hash [0]".to_owned()),
        "{shape:?}"
    );
    assert!(shape.contains(&"collect/calc-1 -> collect/group-aggregate-1-local: forward".to_owned()), "{shape:?}");
}

#[test]
fn a_global_aggregation_runs_once() {
    let (graph, _, changelog, key) = query(&mut session_with_tables(), "SELECT COUNT(*) AS n FROM bid");
    assert_eq!((changelog, key), (ChangelogMode::Upsert, Some(vec![])));
    let vertex = graph.vertices.iter().find(|v| v.id == "collect/group-aggregate-1").unwrap();
    assert_eq!(vertex.parallelism, 1);
}

#[test]
fn having_needs_the_row_before_an_update() {
    let (graph, _, changelog, key) =
        query(&mut session_with_tables(), "SELECT bidder, COUNT(*) AS n FROM bid GROUP BY bidder HAVING COUNT(*) > 2");
    assert_eq!((changelog, key), (ChangelogMode::Retract, None));
    let Some(Kind::GroupAggregate(aggregate)) = &operator(&graph, "collect/group-aggregate-1").kind else { panic!() };
    assert!(aggregate.emit_update_before);
    let (_, _, by_key, _) =
        query(&mut session_with_tables(), "SELECT bidder, COUNT(*) AS n FROM bid GROUP BY bidder HAVING bidder > 2");
    assert_eq!(by_key, ChangelogMode::Upsert);
    let (_, _, without_key, _) = query(&mut session_with_tables(), "SELECT COUNT(*) AS n FROM bid GROUP BY bidder");
    assert_eq!(without_key, ChangelogMode::Retract);
}

#[test]
fn aggregating_changes_retracts() {
    let (graph, ..) = query(
        &mut session_with_tables(),
        "SELECT n, COUNT(*) AS c FROM (SELECT bidder, COUNT(*) AS n FROM bid GROUP BY bidder) GROUP BY n",
    );
    let Some(Kind::GroupAggregate(inner)) = &operator(&graph, "collect/group-aggregate-1").kind else { panic!() };
    let Some(Kind::GroupAggregate(outer)) = &operator(&graph, "collect/group-aggregate-2").kind else { panic!() };
    assert!(inner.emit_update_before && !inner.input_retracts);
    assert!(outer.input_retracts && !outer.emit_update_before);
}

#[test]
fn distinct_is_an_aggregation_without_calls_and_appends() {
    let (graph, columns, changelog, _) = query(&mut session_with_tables(), "SELECT DISTINCT channel, bidder FROM bid");
    assert_eq!(columns, ["channel STRING", "bidder BIGINT"]);
    assert_eq!(changelog, ChangelogMode::Append);
    let Some(Kind::GroupAggregate(aggregate)) = &operator(&graph, "collect/group-aggregate-1").kind else { panic!() };
    assert!(aggregate.aggregates.is_empty());
}

#[test]
fn unions_merge_inputs_of_one_type() {
    let (graph, columns, ..) = query(
        &mut session_with_tables(),
        "SELECT bidder AS id, 'b' AS what FROM bid UNION ALL SELECT auction, 'auction' FROM bid UNION ALL SELECT price, channel FROM bid",
    );
    assert_eq!(columns, ["id BIGINT", "what STRING"]);
    let unions: Vec<_> = graph.edges.iter().filter(|e| e.to == "collect/union-1").map(|e| e.to_port).collect();
    assert_eq!(unions, [0, 1, 2]);
    assert_eq!(graph.vertices.iter().filter(|v| v.id.contains("source")).count(), 1, "one scan of bid");
}

#[test]
fn values_and_select_without_from_are_rows_of_a_generator() {
    let (graph, columns, ..) = query(&mut session(), "SELECT a, b FROM (VALUES (1, 'x'), (2, 'yy')) AS t(a, b)");
    assert_eq!(columns[0], "a INT NOT NULL");
    assert_eq!(graph.vertices[0].parallelism, 1);
    let Some(Kind::Source(source)) = &operator(&graph, "collect/source-1").kind else { panic!() };
    assert_eq!(source.options["fields.row.end"], "1");
    let (graph, columns, ..) = query(&mut session(), "SELECT 1 AS n, 'a'");
    assert_eq!(columns, ["n INT NOT NULL", "EXPR$1 CHAR(1) NOT NULL"]);
    assert_eq!(graph.vertices.len(), 3);
}

#[test]
fn common_table_expressions_and_views_are_tables() {
    let (graph, columns, ..) = query(
        &mut session_with_tables(),
        "CREATE TEMPORARY VIEW v (who, what) AS SELECT bidder, auction FROM bid;
         WITH c AS (SELECT who FROM v), d (x) AS (SELECT who FROM c) SELECT x, d.* FROM d",
    );
    assert_eq!(columns, ["x BIGINT", "x0 BIGINT"]);
    assert_eq!(graph.vertices.len(), 4, "{:?}", shape(&graph));
}

#[test]
fn computed_columns_are_computed_between_source_and_watermark() {
    let (graph, ..) = query(
        &mut session(),
        "CREATE TABLE t (a BIGINT, raw STRING, ts AS CAST(raw AS TIMESTAMP(3)), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'files');
         SELECT a, ts FROM t",
    );
    let kinds: Vec<&str> = graph.vertices.iter().map(|v| v.id.as_str()).collect();
    assert_eq!(kinds, ["collect/source-1", "collect/calc-1", "collect/watermark-1", "collect/sink-1"]);
}

#[test]
fn hints_override_options_and_parallelism_can_be_set() {
    let (graph, ..) = query(
        &mut session_with_tables(),
        "SET 'parallelism.default' = '3'; SELECT auction FROM bid /*+ OPTIONS('path' = '/other', 'scan.parallelism' = '2') */ AS b",
    );
    let Some(Kind::Source(source)) = &operator(&graph, "collect/source-1").kind else { panic!() };
    assert_eq!(source.options["path"], "/other");
    assert_eq!(graph.vertices[0].parallelism, 2);
    assert_eq!(graph.configuration["parallelism.default"], "3");
}

#[test]
fn grouping_sets_are_one_branch_a_set() {
    let (graph, columns, changelog, _) = query(
        &mut session_with_tables(),
        "SELECT channel, bidder, COUNT(*) AS n, GROUPING(channel) AS g, GROUPING_ID(channel, bidder) AS gid
           FROM bid GROUP BY CUBE (channel, bidder)",
    );
    assert_eq!(columns[3..], ["g BIGINT NOT NULL", "gid BIGINT NOT NULL"]);
    assert_eq!(changelog, ChangelogMode::Retract);
    assert_eq!(graph.edges.iter().filter(|e| e.to == "collect/union-1").count(), 4);
    let (graph, ..) = query(
        &mut session_with_tables(),
        "SELECT window_start, channel, COUNT(*) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
          GROUP BY window_start, window_end, ROLLUP (channel)",
    );
    assert!(shape(&graph).iter().any(|s| s.contains("WindowAggregate(")), "{:?}", shape(&graph));
}

#[test]
fn what_cannot_be_split_is_aggregated_behind_the_shuffle() {
    for (setting, sql) in [
        ("AUTO", "SELECT channel, COUNT(DISTINCT bidder) AS n FROM bid GROUP BY channel"),
        ("ONE_PHASE", "SELECT channel, COUNT(*) AS n FROM bid GROUP BY channel"),
        ("AUTO", "SELECT currency, COUNT(*) AS n FROM rates GROUP BY currency"),
    ] {
        let script = format!("SET 'table.optimizer.agg-phase-strategy' = '{setting}'; {sql}");
        let (graph, ..) = query(&mut session_with_tables(), &script);
        assert!(!shape(&graph).iter().any(|s| s.contains("-local")), "{sql}: {:?}", shape(&graph));
    }
}

#[test]
fn windows_of_a_subquery_can_be_aggregated_again() {
    let (graph, columns, changelog, _) = query(
        &mut session_with_tables(),
        "SELECT window_start, window_end, MAX(n) AS most FROM (
           SELECT auction, window_start, window_end, COUNT(*) AS n
             FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
            GROUP BY auction, window_start, window_end)
          GROUP BY window_start, window_end",
    );
    assert_eq!(columns[2], "most BIGINT");
    assert_eq!(changelog, ChangelogMode::Append);
    assert!(shape(&graph).iter().any(|s| s.contains("TUMBLE($window_time, size 5000 ms)")), "{:?}", shape(&graph));
}

#[test]
fn an_aggregation_over_distinct_rows_takes_inserts() {
    let (graph, ..) = query(&mut session_with_tables(), "SELECT COUNT(*) AS n FROM (SELECT DISTINCT bidder FROM bid)");
    let Some(Kind::GroupAggregate(outer)) = &operator(&graph, "collect/group-aggregate-2").kind else { panic!() };
    assert!(!outer.input_retracts);
}

#[test]
fn spellings_that_the_parser_does_not_know_are_understood() {
    let sql =
        "SELECT 2 BETWEEN SYMMETRIC 3 AND 1 AS a, 2 NOT BETWEEN ASYMMETRIC 1 AND 3 AS b, TRIM(BOTH FROM ' x ') AS c,
                      CAST(1 AS CHARACTER VARYING(3)) AS d, DECIMAL '1.5' AS e, '' AS f";
    let (_, columns, ..) = query(&mut session(), sql);
    assert_eq!(columns[3..], ["d VARCHAR(3) NOT NULL", "e DECIMAL(2, 1) NOT NULL", "f CHAR(0) NOT NULL"]);
}

#[test]
fn a_random_value_is_filtered_and_aggregated_as_one() {
    let (graph, ..) = query(
        &mut session_with_tables(),
        "SELECT window_start, MAX(r) AS m FROM (
           SELECT window_start, window_end, RAND() AS r
             FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
         ) WHERE r < 0.5 GROUP BY window_start, window_end",
    );
    let calls: usize = shape(&graph).iter().map(|s| s.matches("RAND()").count()).sum();
    assert_eq!(calls, 1, "{:?}", shape(&graph));
}

#[test]
fn watermarks_advance_row_by_row_where_a_query_reads_them() {
    let every_advance = |sql: &str| {
        let (graph, ..) = query(&mut session_with_tables(), sql);
        match &operator(&graph, "collect/watermark-1").kind {
            Some(Kind::Watermark(assigner)) => assigner.every_advance,
            other => panic!("not a watermark assigner: {other:?}"),
        }
    };
    assert!(every_advance("SELECT auction FROM bid WHERE CURRENT_WATERMARK(ts) IS NULL"));
    assert!(!every_advance("SELECT auction FROM bid WHERE ts IS NOT NULL"));
}
