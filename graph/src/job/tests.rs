//! Planning job graphs as a client in another language would write them.

use std::collections::BTreeMap;

use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;
use hurtig_proto::v1::partitioner::Kind as Partitioning;

use super::*;
use crate::expr::Literal;
use crate::types::LogicalType;

/// Understands `column`, `column > number`; knows COUNT, SUM and MAX.
struct TinyResolver;

impl ExprResolver for TinyResolver {
    fn scalar(&self, sql: &str, input: &RowSchema, _: &Configuration) -> Result<Expr, String> {
        let column = |name: &str| {
            let index = input.index_of(name).ok_or_else(|| format!("there is no column '{name}'"))?;
            Ok::<_, String>(Expr::column_of(input, index))
        };
        let Some((left, right)) = sql.split_once(" > ") else { return column(sql) };
        let number = right.parse().map_err(|_| format!("'{right}' is not a number"))?;
        let arguments = vec![column(left)?, Expr::literal(Literal::Int(number), LogicalType::Int.not_null())];
        Ok(Expr::call(">", arguments, LogicalType::Boolean.nullable()))
    }

    fn aggregate_type(&self, function: &str, arguments: &[DataType], _: bool) -> Result<DataType, String> {
        match (function, arguments) {
            ("COUNT", _) => Ok(LogicalType::BigInt.not_null()),
            ("SUM" | "MAX", [argument]) => Ok(argument.with_nullable(true)),
            _ => Err(format!("there is no aggregate function {function} for these arguments")),
        }
    }
}

fn schema(columns: &[(&str, &str)]) -> v1::Schema {
    let field =
        |(name, ty): &(&str, &str)| v1::Field { name: name.to_string(), r#type: ty.to_string(), ..Default::default() };
    v1::Schema { fields: columns.iter().map(field).collect() }
}

fn connector(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("connector".to_owned(), name.to_owned())])
}

fn vertex(id: &str, kind: Kind) -> v1::Vertex {
    let operator = v1::Operator { kind: Some(kind), ..Default::default() };
    v1::Vertex { id: id.into(), operator: Some(operator), ..Default::default() }
}

fn source() -> v1::Vertex {
    let columns = schema(&[("k", "STRING"), ("v", "INT"), ("ts", "TIMESTAMP(3)")]);
    vertex(
        "source",
        Kind::Source(v1::Source { options: connector("datagen"), schema: Some(columns), ..Default::default() }),
    )
}

fn sql(text: &str) -> Option<v1::Expr> {
    Some(v1::Expr { kind: Some(v1::expr::Kind::Sql(text.into())), r#type: String::new() })
}

fn filter(text: &str) -> v1::Vertex {
    vertex("filter", Kind::Calc(v1::Calc { filter: sql(text), projections: vec![] }))
}

fn watermark() -> v1::Vertex {
    let assigner = v1::WatermarkAssigner { rowtime_name: "ts".into(), expr: sql("ts"), ..Default::default() };
    vertex("watermark", Kind::Watermark(assigner))
}

fn call(function: &str, arguments: &[&str], name: &str) -> v1::AggregateCall {
    v1::AggregateCall {
        function: function.into(),
        argument_names: arguments.iter().map(|a| a.to_string()).collect(),
        name: name.into(),
        ..Default::default()
    }
}

fn group(keys: &[&str]) -> v1::Vertex {
    let aggregate = v1::GroupAggregate {
        key_names: keys.iter().map(|k| k.to_string()).collect(),
        aggregates: vec![call("count", &[], "n"), call("SUM", &["v"], "total")],
        emit_update_before: true,
        ..Default::default()
    };
    vertex("group", Kind::GroupAggregate(aggregate))
}

fn window(spec: v1::WindowSpec) -> v1::Vertex {
    let aggregate = v1::WindowAggregate {
        window: Some(spec),
        key_names: vec!["k".into()],
        aggregates: vec![call("MAX", &["v"], "most")],
        ..Default::default()
    };
    vertex("window", Kind::WindowAggregate(aggregate))
}

fn tumble(size_ms: i64) -> v1::WindowSpec {
    v1::WindowSpec { kind: v1::WindowKind::Tumble as i32, time_name: "ts".into(), size_ms, ..Default::default() }
}

fn sink() -> v1::Vertex {
    vertex("sink", Kind::Sink(v1::Sink { options: connector("collect"), ..Default::default() }))
}

fn edge(from: &str, to: &str) -> v1::Edge {
    v1::Edge { from: from.into(), to: to.into(), ..Default::default() }
}

fn with(kind: Partitioning, mut edge: v1::Edge) -> v1::Edge {
    edge.partitioner = Some(v1::Partitioner { kind: Some(kind) });
    edge
}

/// The vertices in a line.
fn line(vertices: Vec<v1::Vertex>) -> v1::JobGraph {
    let edges = vertices.windows(2).map(|pair| edge(&pair[0].id, &pair[1].id)).collect();
    v1::JobGraph { name: "test".into(), vertices, edges, ..Default::default() }
}

fn planned(graph: &v1::JobGraph) -> Result<JobPlan, GraphError> {
    plan(graph, &TinyResolver, &Configuration::default())
}

fn refused(graph: &v1::JobGraph) -> String {
    planned(graph).expect_err("the graph must be refused").to_string()
}

fn columns_of(schema: &v1::Schema) -> Vec<String> {
    schema.fields.iter().map(|f| format!("{} {}", f.name, f.r#type)).collect()
}

#[test]
fn a_line_of_equal_parallelism_is_one_chain() {
    let plan = planned(&line(vec![source(), filter("v > 1"), sink()])).unwrap();
    assert_eq!(plan.vertices.len(), 1);
    let vertex = &plan.vertices[0];
    assert_eq!(vertex.name, "Source: datagen -> Calc -> Sink: collect");
    assert_eq!((vertex.parallelism, vertex.max_parallelism), (1, 128));
    assert!(vertex.is_source && vertex.slot_sharing_group == "default");
    let uids: Vec<&str> = vertex.operators.iter().map(|o| o.uid.as_str()).collect();
    assert_eq!(uids, ["collect/source-0", "collect/calc-0", "collect/sink-0"]);
    assert_eq!(vertex.id, format!("{:032x}", xxhash_rust::xxh3::xxh3_128(b"collect/source-0")));
    let Some(Kind::Calc(calc)) = &vertex.operators[1].kind else { panic!("not a calc") };
    assert_eq!(calc.filter.as_ref().unwrap().r#type, "BOOLEAN");
    assert!(plan.edges.is_empty());
}

#[test]
fn chaining_can_be_switched_off_and_vertices_keep_their_ids() {
    let mut graph = line(vec![source(), filter("v > 1"), sink()]);
    let chained = planned(&graph).unwrap();
    graph.configuration.insert("pipeline.operator-chaining".into(), "false".into());
    let plan = planned(&graph).unwrap();
    assert_eq!(plan.vertices.len(), 3);
    assert_eq!(plan.vertices[0].id, chained.vertices[0].id);
    assert_eq!(plan.edges.len(), 2);
    assert!(matches!(plan.edges[0].partitioner.kind, Some(Partitioning::Forward(_))));
    assert_ne!(plan.edges[0].id, plan.edges[1].id);
}

#[test]
fn different_parallelism_is_rebalanced_unless_forward_is_asked_for() {
    let mut graph = line(vec![source(), filter("v > 1"), sink()]);
    graph.vertices[1].parallelism = 4;
    graph.configuration.insert("parallelism.default".into(), "2".into());
    let plan = planned(&graph).unwrap();
    assert_eq!(plan.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>(), [2, 4, 2]);
    assert!(matches!(plan.edges[0].partitioner.kind, Some(Partitioning::Rebalance(_))));

    graph.edges[0] = with(Partitioning::Forward(v1::Forward {}), edge("source", "filter"));
    assert_eq!(
        refused(&graph),
        "edges[0].partitioner: forward needs equal parallelism, but the producer has 2 and the consumer 4: use \
         rebalance or rescale"
    );
}

#[test]
fn slot_sharing_groups_break_chains_and_are_inherited() {
    let mut graph = line(vec![source(), filter("v > 1"), sink()]);
    graph.vertices[1].slot_sharing_group = "other".into();
    let plan = planned(&graph).unwrap();
    let groups: Vec<&str> = plan.vertices.iter().map(|v| v.slot_sharing_group.as_str()).collect();
    assert_eq!(groups, ["default", "other"], "the sink shares the filter's group and chain");
}

#[test]
fn a_keyed_aggregate_is_hash_partitioned_and_typed() {
    let plan = planned(&line(vec![source(), group(&["k"]), sink()])).unwrap();
    let edge = &plan.edges[0];
    assert!(matches!(&edge.partitioner.kind, Some(Partitioning::Hash(h)) if h.columns == [0]));
    let operator = &plan.vertices[1].operators[0];
    assert_eq!(columns_of(operator.output_schema.as_ref().unwrap()), ["k STRING", "n BIGINT NOT NULL", "total INT"]);
    assert_eq!(operator.changelog, v1::ChangelogMode::Retract as i32);
    let Some(Kind::GroupAggregate(aggregate)) = &operator.kind else { panic!("not an aggregate") };
    assert_eq!((aggregate.keys.as_slice(), aggregate.key_names.len()), (&[0][..], 0));
    assert_eq!(aggregate.aggregates[1].arguments, [1]);
    assert_eq!(aggregate.aggregates[0].function, "COUNT");
}

#[test]
fn a_keyed_aggregate_with_another_partitioning_is_refused() {
    let hash = |name: &str| Partitioning::Hash(v1::Hash { columns: vec![], column_names: vec![name.into()] });
    for kind in [Partitioning::Rebalance(v1::Rebalance {}), Partitioning::Forward(v1::Forward {}), hash("v")] {
        let mut graph = line(vec![source(), group(&["k"]), sink()]);
        graph.edges[0] = with(kind, edge("source", "group"));
        assert_eq!(
            refused(&graph),
            "edges[0].partitioner: 'group' aggregates by key, so its input must be partitioned by hash on its keys \
             (k), in that order"
        );
    }
}

#[test]
fn an_aggregate_without_keys_gets_all_rows_in_one_subtask() {
    let mut graph = line(vec![source(), group(&[]), sink()]);
    assert_eq!(planned(&graph).unwrap().vertices.len(), 1, "at parallelism 1 it is chained");
    graph.vertices[0].parallelism = 4;
    let plan = planned(&graph).unwrap();
    assert!(matches!(plan.edges[0].partitioner.kind, Some(Partitioning::Global(_))));
    graph.vertices[1].parallelism = 2;
    graph.edges[0] = with(Partitioning::Rebalance(v1::Rebalance {}), edge("source", "group"));
    assert!(refused(&graph).contains("aggregates without a key, so its input must be partitioned as global"));
}

#[test]
fn a_window_aggregate_appends_the_window_columns() {
    let plan = planned(&line(vec![source(), watermark(), window(tumble(60_000)), sink()])).unwrap();
    let operator = &plan.vertices[1].operators[0];
    let schema = operator.output_schema.as_ref().unwrap();
    assert_eq!(
        columns_of(schema),
        [
            "k STRING",
            "most INT",
            "window_start TIMESTAMP(3) NOT NULL",
            "window_end TIMESTAMP(3) NOT NULL",
            "window_time TIMESTAMP(3) NOT NULL"
        ]
    );
    assert_eq!(schema.fields[4].time_attribute, v1::TimeAttribute::Rowtime as i32);
    assert_eq!(operator.changelog, v1::ChangelogMode::Append as i32);
}

#[test]
fn windows_are_checked() {
    let hop = |size_ms, slide_ms| v1::WindowSpec { kind: v1::WindowKind::Hop as i32, slide_ms, ..tumble(size_ms) };
    for (spec, message) in [
        (v1::WindowSpec::default(), ".kind: the kind is missing: use TUMBLE, HOP or CUMULATE"),
        (tumble(0), ".size_ms: the size must be more than 0 ms, it is 0"),
        (hop(10, 0), ".slide_ms: the slide of 0 ms does not fit the size of 10 ms"),
        (hop(10, 3), ".size_ms: the size 10 ms is not a multiple of 3 ms: aggregation over windows needs that"),
        (
            v1::WindowSpec { time_name: "v".into(), ..tumble(10) },
            ".time_name: windows need a column of event time, 'v' is not one: put a watermark operator on it before",
        ),
    ] {
        let error = refused(&line(vec![source(), watermark(), window(spec), sink()]));
        assert_eq!(error, format!("vertices[2].operator.window_aggregate.window{message}"));
    }
}

#[test]
fn local_and_global_phases_fit_each_other() {
    let (mut local, mut global) = (group(&["k"]), group(&["k"]));
    local.id = "local".into();
    for (vertex, phase) in [(&mut local, v1::AggregatePhase::Local), (&mut global, v1::AggregatePhase::Global)] {
        let Some(Kind::GroupAggregate(aggregate)) = &mut vertex.operator.as_mut().unwrap().kind else { panic!() };
        aggregate.phase = phase as i32;
    }
    let mut graph = line(vec![source(), local, global, sink()]);
    assert_eq!(
        refused(&graph),
        "vertices[2].operator.group_aggregate.aggregate_input: a GLOBAL phase needs the schema of the rows before the \
         LOCAL phase"
    );
    let Some(Kind::GroupAggregate(aggregate)) = &mut graph.vertices[2].operator.as_mut().unwrap().kind else {
        panic!()
    };
    aggregate.aggregate_input = Some(schema(&[("k", "STRING"), ("v", "INT"), ("ts", "TIMESTAMP(3)")]));
    let plan = planned(&graph).unwrap();
    assert_eq!(plan.vertices[0].name, "Source: datagen -> LocalGroupAggregate");
    assert_eq!(
        columns_of(&plan.edges[0].schema),
        ["k STRING", "n$count BIGINT", "total$sum BIGINT", "total$count BIGINT"]
    );
    let global = &plan.vertices[1].operators[0];
    assert_eq!(columns_of(global.output_schema.as_ref().unwrap()), ["k STRING", "n BIGINT NOT NULL", "total INT"]);
    assert_eq!(global.uid, "collect/group-aggregate-0");
}

#[test]
fn aggregation_of_upserts_is_refused_and_of_retractions_noted() {
    let mut inner = group(&["k"]);
    inner.id = "inner".into();
    let outer = group(&["k"]);
    let rename = |vertex: &mut v1::Vertex| {
        let Some(Kind::GroupAggregate(a)) = &mut vertex.operator.as_mut().unwrap().kind else { panic!() };
        a.aggregates[1].name = "v".into();
        a.emit_update_before = false;
    };
    rename(&mut inner);
    let mut graph = line(vec![source(), inner, outer, sink()]);
    let error = refused(&graph);
    assert!(error.starts_with("vertices[2].operator.group_aggregate: the input updates rows without"), "{error}");
    let Some(Kind::GroupAggregate(a)) = &mut graph.vertices[1].operator.as_mut().unwrap().kind else { panic!() };
    a.emit_update_before = true;
    let plan = planned(&graph).unwrap();
    let Some(Kind::GroupAggregate(a)) = &plan.vertices[2].operators[0].kind else { panic!() };
    assert!(a.input_retracts);
}

#[test]
fn a_calc_names_columns_and_keeps_event_time_of_bare_ones() {
    let project = |name: &str, text: &str| v1::NamedExpr { name: name.into(), expr: sql(text) };
    let projections = vec![project("", "ts"), project("key", "k"), project("", "v > 1")];
    let calc = vertex("calc", Kind::Calc(v1::Calc { filter: None, projections }));
    let plan = planned(&line(vec![source(), watermark(), calc, sink()])).unwrap();
    let schema = plan.vertices[0].operators[2].output_schema.as_ref().unwrap();
    assert_eq!(columns_of(schema), ["ts TIMESTAMP(3)", "key STRING", "EXPR$2 BOOLEAN"]);
    assert_eq!(schema.fields[0].time_attribute, v1::TimeAttribute::Rowtime as i32);
}

#[test]
fn unions_number_their_ports_and_need_equal_types() {
    let mut other = source();
    other.id = "other".into();
    let union = vertex("union", Kind::Union(v1::Union {}));
    let mut graph = v1::JobGraph {
        vertices: vec![source(), other, union, sink()],
        edges: vec![edge("source", "union"), edge("other", "union"), edge("union", "sink")],
        ..Default::default()
    };
    let plan = planned(&graph).unwrap();
    assert_eq!(plan.edges.iter().map(|e| e.to_port).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(plan.vertices[2].name, "Union -> Sink: collect");
    let uids: Vec<&str> = plan.vertices.iter().map(|v| v.operators[0].uid.as_str()).collect();
    assert_eq!(uids, ["collect/source-0", "collect/source-1", "collect/union-0"]);

    graph.edges.push(edge("source", "sink"));
    assert_eq!(refused(&graph), "edges[3]: 'sink' takes one input and has several: put a union before it");
    graph.edges.pop();
    let Some(Kind::Source(source)) = &mut graph.vertices[1].operator.as_mut().unwrap().kind else { panic!() };
    source.schema = Some(schema(&[("k", "STRING"), ("v", "STRING"), ("ts", "TIMESTAMP(3)")]));
    assert_eq!(
        refused(&graph),
        "vertices[2].operator.union.fields[1]: 'v' is declared as INT, the input of port 1 is STRING"
    );
}

#[test]
fn one_output_to_two_consumers_is_not_chained() {
    let mut second = sink();
    second.id = "sink2".into();
    let mut graph = line(vec![source(), sink(), second]);
    graph.edges[1] = edge("source", "sink2");
    let plan = planned(&graph).unwrap();
    assert_eq!((plan.vertices.len(), plan.edges.len()), (3, 2));
}

#[test]
fn bad_shapes_are_refused_with_the_field() {
    let good = || line(vec![source(), filter("v > 1"), sink()]);
    let change = |f: &dyn Fn(&mut v1::JobGraph)| {
        let mut graph = good();
        f(&mut graph);
        refused(&graph)
    };
    assert_eq!(refused(&v1::JobGraph::default()), "vertices: the job graph has no vertices");
    assert_eq!(change(&|g| g.vertices[1].id.clear()), "vertices[1].id: a vertex needs an id");
    assert_eq!(
        change(&|g| g.vertices[1].id = "source".into()),
        "vertices[1].id: vertices[0] has the id 'source' too: ids must be unique"
    );
    assert_eq!(
        change(&|g| g.edges[1].to = "nowhere".into()),
        "edges[1].to: there is no vertex 'nowhere': the vertices are filter, sink, source"
    );
    assert_eq!(
        change(&|g| g.edges[0].to_port = 1),
        "edges[0].to_port: 'filter' has one input, port 0; there is no port 1"
    );
    assert_eq!(change(&|g| drop(g.edges.remove(0))), "vertices[1]: 'filter' has no input: add an edge to it");
    assert_eq!(change(&|g| g.edges.push(edge("sink", "filter"))), "edges[2].from: 'sink' is a sink: it has no output");
    assert_eq!(
        change(&|g| g.edges.push(edge("filter", "source"))),
        "edges[2].to: 'source' is a source: it has no input"
    );
    let error = change(&|g| g.vertices[1].operator = None);
    assert!(error.starts_with("vertices[1].operator: the operator of 'filter' has no kind"), "{error}");
    assert_eq!(
        change(&|g| g.vertices[0].max_parallelism = 40_000),
        "vertices[0].max_parallelism: the max parallelism 40000 is not from 1 to 32768"
    );
    let error = change(&|g| {
        g.vertices[0].parallelism = 8;
        g.vertices[0].max_parallelism = 4;
    });
    assert_eq!(error, "vertices[0].max_parallelism: the max parallelism 4 is below the parallelism 8");
}

#[test]
fn a_cycle_is_shown() {
    let union = vertex("union", Kind::Union(v1::Union {}));
    let mut graph = line(vec![source(), union, filter("v > 1"), sink()]);
    graph.edges.push(edge("filter", "union"));
    assert_eq!(refused(&graph), "edges[3]: the edges form a cycle: union -> filter -> union");
    let mut own = line(vec![source(), filter("v > 1"), sink()]);
    own.edges[0].from = "filter".into();
    assert_eq!(refused(&own), "edges[0]: the edges form a cycle: filter -> filter");
}

#[test]
fn bad_operators_are_refused_with_the_field() {
    assert_eq!(
        refused(&line(vec![source(), filter("w > 1"), sink()])),
        "vertices[1].operator.calc.filter: the SQL expression 'w > 1' is not valid here: there is no column 'w'"
    );
    assert_eq!(
        refused(&line(vec![source(), filter("v"), sink()])),
        "vertices[1].operator.calc.filter: a filter must be BOOLEAN, this is INT"
    );
    assert_eq!(
        refused(&line(vec![source(), group(&["z"]), sink()])),
        "vertices[1].operator.group_aggregate.key_names[0]: the input has no column 'z': its columns are k, v, ts"
    );
    let mut graph = line(vec![source(), group(&["k"]), sink()]);
    let Some(Kind::GroupAggregate(a)) = &mut graph.vertices[1].operator.as_mut().unwrap().kind else { panic!() };
    a.aggregates[1].function = "MEDIAN".into();
    assert_eq!(
        refused(&graph),
        "vertices[1].operator.group_aggregate.aggregates[1]: there is no aggregate function MEDIAN for these arguments"
    );
    let mut graph = line(vec![source(), sink()]);
    let Some(Kind::Sink(s)) = &mut graph.vertices[1].operator.as_mut().unwrap().kind else { panic!() };
    s.schema = Some(schema(&[("k", "STRING")]));
    assert_eq!(refused(&graph), "vertices[1].operator.sink.schema: 1 columns are declared, the sink's input has 3");
    let mut graph = line(vec![source(), sink()]);
    let Some(Kind::Source(s)) = &mut graph.vertices[0].operator.as_mut().unwrap().kind else { panic!() };
    s.options.clear();
    assert_eq!(refused(&graph), "vertices[0].operator.source.options: the option 'connector' is missing");
    let Some(Kind::Source(s)) = &mut graph.vertices[0].operator.as_mut().unwrap().kind else { panic!() };
    s.options = connector("datagen");
    s.schema = Some(schema(&[("k", "TEXT")]));
    let error = refused(&graph);
    assert!(error.starts_with("vertices[0].operator.source.schema: cannot read the type 'TEXT'"), "{error}");
}

#[test]
fn an_untyped_call_and_a_wrong_declared_output_are_refused() {
    let column = v1::Expr {
        kind: Some(v1::expr::Kind::Column(v1::ColumnRef { index: 0, name: "v".into() })),
        r#type: String::new(),
    };
    let untyped = v1::Expr {
        kind: Some(v1::expr::Kind::Call(v1::Call { function: "IS NULL".into(), arguments: vec![column] })),
        r#type: String::new(),
    };
    let calc = vertex("filter", Kind::Calc(v1::Calc { filter: Some(untyped.clone()), projections: vec![] }));
    assert_eq!(
        refused(&line(vec![source(), calc, sink()])),
        "vertices[1].operator.calc.filter: the expression has no type: set 'type', or send it as SQL text"
    );
    let typed = v1::Expr { r#type: "BOOLEAN NOT NULL".into(), ..untyped };
    let mut calc = vertex("filter", Kind::Calc(v1::Calc { filter: Some(typed), projections: vec![] }));
    assert!(planned(&line(vec![source(), calc.clone(), sink()])).is_ok());
    calc.operator.as_mut().unwrap().output_schema = Some(schema(&[("k", "STRING"), ("v", "BIGINT"), ("ts", "DATE")]));
    assert_eq!(
        refused(&line(vec![source(), calc, sink()])),
        "vertices[1].operator.output_schema.fields[1]: 'v' is declared as BIGINT, the operator's output is INT"
    );
}

#[test]
fn uids_are_kept_and_doubled_ones_refused() {
    let mut graph = line(vec![source(), filter("v > 1"), sink()]);
    for vertex in &mut graph.vertices[..2] {
        vertex.operator.as_mut().unwrap().uid = "mine".into();
    }
    assert_eq!(refused(&graph), "vertices[1].operator.uid: 'source' has the uid 'mine' too: uids must be unique");
    graph.vertices[1].operator.as_mut().unwrap().uid = "collect/sink-0".into();
    let plan = planned(&graph).unwrap();
    let uids: Vec<&str> = plan.vertices[0].operators.iter().map(|o| o.uid.as_str()).collect();
    assert_eq!(uids, ["mine", "collect/sink-0", "collect/sink-1"]);
}

#[test]
fn a_wrong_configuration_value_names_the_key() {
    let mut graph = line(vec![source(), sink()]);
    graph.configuration.insert("parallelism.default".into(), "0".into());
    assert_eq!(refused(&graph), "parallelism.default: '0' is out of range: it must be from 1 to 32768");
}
