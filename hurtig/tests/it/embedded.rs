//! The library in a program of its own: dataflows, own sources and sinks, two clusters, an end
//! without remains.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hurtig::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use hurtig::arrow::compute::concat_batches;
use hurtig::arrow::datatypes::{Int64Type, TimestampMillisecondType};
use hurtig::dataflow::{Aggregate, Dataflow, Table};
use hurtig::extensions::{FnSink, FnSource};
use hurtig::sql::SqlResult;
use hurtig::{Batch, EmbeddedCluster, ErrorKind};

/// Columns `user` STRING, `n` BIGINT, `at` TIMESTAMP(3).
fn clicks(rows: &[(&str, i64, i64)]) -> RecordBatch {
    let users: StringArray = rows.iter().map(|r| Some(r.0)).collect();
    let numbers: Int64Array = rows.iter().map(|r| Some(r.1)).collect();
    let times: TimestampMillisecondArray = rows.iter().map(|r| Some(r.2)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("user", Arc::new(users) as Arc<dyn Array>, true),
        ("n", Arc::new(numbers), true),
        ("at", Arc::new(times), true),
    ])
    .unwrap()
}

fn clicks_table() -> Table {
    Table::new("clicks").column("user", "STRING").column("n", "BIGINT").column("at", "TIMESTAMP(3)")
}

fn all_rows(batches: &[Batch]) -> RecordBatch {
    let schema = batches[0].records().schema();
    concat_batches(&schema, batches.iter().map(Batch::records)).unwrap()
}

#[tokio::test]
async fn windows_over_an_own_source() {
    let batches = vec![
        clicks(&[("ann", 1, 1_000), ("bob", 2, 2_000), ("ann", 3, 59_000)]),
        clicks(&[("ann", 4, 61_000), ("eve", -5, 62_000)]),
    ];
    let cluster =
        EmbeddedCluster::builder().slots(2).source("clicks", FnSource::of_batches(batches)).start().await.unwrap();
    let flow = Dataflow::new("clicks per user and minute").parallelism(2);
    flow.source(clicks_table())
        .filter("n > 0")
        .watermark("at", "`at` - INTERVAL '5' SECOND")
        .key_by(["user"])
        .tumble("at", Duration::from_secs(60))
        .aggregate([Aggregate::count().named("clicks"), Aggregate::sum("n").named("total")])
        .collect();
    let job = cluster.execute(&flow).await.unwrap();
    let rows = all_rows(&job.results().await.unwrap().collect().await.unwrap());
    let (users, clicks) = (rows.column(0).as_string::<i32>(), rows.column(1).as_primitive::<Int64Type>());
    let (totals, starts) =
        (rows.column(2).as_primitive::<Int64Type>(), rows.column(3).as_primitive::<TimestampMillisecondType>());
    let mut found: Vec<_> =
        (0..rows.num_rows()).map(|i| (users.value(i), clicks.value(i), totals.value(i), starts.value(i))).collect();
    found.sort_unstable();
    assert_eq!(found, [("ann", 1, 4, 60_000), ("ann", 2, 4, 0), ("bob", 1, 2, 0)]);
    assert_eq!(job.wait().await.unwrap().state, "FINISHED");
}

#[tokio::test]
async fn subtasks_without_a_batch_end_as_well() {
    let cluster = EmbeddedCluster::builder()
        .slots(4)
        .source("clicks", FnSource::of_batches(vec![clicks(&[("ann", 1, 0)])]))
        .start()
        .await
        .unwrap();
    for round in 0..20 {
        let flow = Dataflow::new(format!("round {round}")).parallelism(4);
        flow.source(clicks_table()).collect();
        let job = cluster.execute(&flow).await.unwrap();
        let rows = job.results().await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(Batch::num_rows).sum::<usize>(), 1);
    }
}

#[tokio::test]
async fn an_own_sink_gets_what_a_closure_made_of_every_batch() {
    let sum = Arc::new(AtomicUsize::new(0));
    let seen = sum.clone();
    let sink = FnSink::new(move |batch| {
        let column = batch.column(0).as_primitive::<Int64Type>();
        seen.fetch_add(column.values().iter().sum::<i64>() as usize, Ordering::SeqCst);
        Ok(())
    });
    let cluster = EmbeddedCluster::builder()
        .source("clicks", FnSource::of_batches(vec![clicks(&[("ann", 20, 0), ("bob", 1, 0)])]))
        .sink("sum", sink)
        .start()
        .await
        .unwrap();
    let flow = Dataflow::new("doubled");
    flow.source(clicks_table())
        .map_batches(Table::default().column("n", "BIGINT"), |batch| {
            let doubled: Int64Array =
                batch.column(1).as_primitive::<Int64Type>().iter().map(|n| n.map(|n| 2 * n)).collect();
            let records = RecordBatch::try_from_iter_with_nullable([("n", Arc::new(doubled) as Arc<dyn Array>, true)])?;
            Ok(Batch::inserts(records))
        })
        .sink(Table::new("sum"));
    cluster.execute(&flow).await.unwrap().wait().await.unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 42);
}

#[tokio::test]
async fn an_own_function_is_there_in_dataflows_and_in_sql() {
    let cluster = EmbeddedCluster::builder()
        .source("clicks", FnSource::of_batches(vec![clicks(&[("ann", 20, 0), ("bob", 1, 0)])]))
        .function("half", &["BIGINT"], "BIGINT", |arguments| {
            let halved: Int64Array = arguments[0].as_primitive::<Int64Type>().unary(|n| n / 2);
            Ok(Arc::new(halved))
        })
        .start()
        .await
        .unwrap();
    let flow = Dataflow::new("halves");
    flow.source(clicks_table()).filter("HALF(n) > 5").map([("h", "half(n)")]).collect();
    let rows = cluster.execute(&flow).await.unwrap().results().await.unwrap().collect().await.unwrap();
    assert_eq!(all_rows(&rows).column(0).as_primitive::<Int64Type>().values(), &[10]);

    let mut session = cluster.sql(hurtig::Configuration::default()).unwrap();
    let table = "CREATE TABLE c (`user` STRING, n BIGINT, `at` TIMESTAMP(3)) WITH ('connector' = 'clicks')";
    session.execute(table).await.unwrap();
    let SqlResult::Query(query) = session.execute("SELECT half(n + 2) FROM c").await.unwrap() else { panic!() };
    let rows = all_rows(&query.rows.collect().await.unwrap());
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[11, 1]);
    let error = session.execute("SELECT half(`user`) FROM c").await.err().unwrap();
    assert!(error.to_string().contains("HALF takes (BIGINT), not (STRING)"), "{error}");
}

#[tokio::test]
async fn a_failing_source_fails_the_job_with_its_reason() {
    let source = FnSource::new(|_| Ok(std::iter::once(Err("the cable is out".into()))));
    let cluster = EmbeddedCluster::builder().source("clicks", source).start().await.unwrap();
    let flow = Dataflow::new("broken");
    flow.source(clicks_table()).collect();
    let job = cluster.execute(&flow).await.unwrap();
    let error = job.results().await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("the cable is out"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Runtime);
    let error = job.wait().await.unwrap_err();
    assert!(error.to_string().contains("the cable is out"), "{error}");
}

#[tokio::test]
async fn a_job_that_is_not_valid_is_refused_with_the_field() {
    let cluster = EmbeddedCluster::builder().start().await.unwrap();
    let flow = Dataflow::new("nowhere");
    flow.source(clicks_table()).collect();
    let error = cluster.execute(&flow).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    assert!(error.to_string().starts_with("vertices[0].operator.source"), "{error}");
    assert!(cluster.client().jobs().await.unwrap().is_empty(), "no half-made job is left");
}

#[tokio::test]
async fn two_clusters_live_in_one_process_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &'static str| {
        EmbeddedCluster::builder()
            .configure("io.tmp.dirs", folder.path().display().to_string())
            .source("clicks", FnSource::of_batches(vec![clicks(&[(name, 1, 0)])]))
            .start()
    };
    let (one, two) = (start("one").await.unwrap(), start("two").await.unwrap());
    for (cluster, name) in [(&one, "one"), (&two, "two")] {
        let flow = Dataflow::new(name);
        flow.source(clicks_table()).collect();
        let job = cluster.execute(&flow).await.unwrap();
        let rows = all_rows(&job.results().await.unwrap().collect().await.unwrap());
        assert_eq!(rows.column(0).as_string::<i32>().value(0), name);
    }
    let address = one.address().to_owned();
    drop(one);
    assert!(std::net::TcpStream::connect(&address).is_err(), "the port is free");
    assert_eq!(two.client().jobs().await.unwrap().len(), 1, "the other lives on");
    drop(two);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
}

// With a thread of its own for the connection, which ends while the cluster waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_can_ask_which_services_there_are_and_whether_they_are_well() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::{v1, v1alpha};
    let cluster = EmbeddedCluster::builder().start().await.unwrap();
    let address = format!("http://{}", cluster.address());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();

    for service in ["", "hurtig.v1.JobService"] {
        let request = HealthCheckRequest { service: service.into() };
        let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "'{service}'");
    }

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let wanted = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { message_request: Some(wanted), ..Default::default() };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let new = format!("{:?}", answers.message().await.unwrap());

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let wanted = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { message_request: Some(wanted), ..Default::default() };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let old = format!("{:?}", answers.message().await.unwrap());
    for answer in [new, old] {
        assert!(answer.contains("\"hurtig.v1.JobService\""), "{answer}");
    }
}
