//! The JobManager over gRPC, with a TaskManager that only pretends to run tasks.

mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;

use hurtig_graph::config::Configuration;
use hurtig_graph::connector::{ConnectorCatalog, ConnectorError, Options, SinkInfo, SourceInfo};
use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::job::ExprResolver;
use hurtig_graph::{DataType, Expr, RowSchema};
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::internal::v1::cluster_service_client::ClusterServiceClient;
use hurtig_proto::internal::v1::from_task_manager::Message as FromTask;
use hurtig_proto::internal::v1::to_task_manager::Message as ToTask;
use hurtig_proto::v1;
use hurtig_proto::v1::job_service_client::JobServiceClient;
use hurtig_proto::v1::operator::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use super::*;
use crate::storage::MemoryStorage;

struct Connectors;

impl ConnectorCatalog for Connectors {
    fn source(&self, options: &Options, _: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        match options.get("connector").map(String::as_str) {
            Some("test") => Ok(SourceInfo { bounded: true, projection_pushdown: false, changelog: false }),
            other => Err(ConnectorError::validation(format!("there is no connector {other:?}"))),
        }
    }

    fn sink(&self, _: &Options, _: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        Ok(SinkInfo { accepts_updates: true, wants_update_before: false })
    }

    fn source_coordinator(&self, _: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError> {
        Ok(None)
    }

    fn discover_splits(&self, _: &Options) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(Vec::new())
    }
}

struct NoExpressions;

impl ExprResolver for NoExpressions {
    fn scalar(&self, sql: &str, _: &RowSchema, _: &Configuration) -> Result<Expr, String> {
        Err(format!("no expressions here: {sql}"))
    }

    fn aggregate_type(&self, _: &str, _: &[DataType], _: bool) -> Result<DataType, String> {
        Err("no aggregates here".into())
    }
}

struct EchoSql;

impl SqlHandler for EchoSql {
    fn plan(&self, sql: &str, _: &Configuration) -> crate::Result<SqlPlan> {
        if sql.contains("SELEC ") {
            let message = "cannot parse 'SELEC'".to_owned();
            return Err(SchedulerError::Other { kind: hurtig_graph::ErrorKind::Parse, message });
        }
        Ok(SqlPlan { graphs: vec![graph(1)], result_schema: Some(schema()) })
    }
}

fn start(pairs: &[(&str, &str)]) -> (JobManager, Arc<MemoryStorage>) {
    let storage = Arc::new(MemoryStorage::default());
    let for_factory = storage.clone();
    let services = JobManagerServices {
        catalog: Arc::new(Connectors),
        resolver: Arc::new(NoExpressions),
        storage: Arc::new(move |_, _, _| Ok(for_factory.clone() as Arc<dyn CheckpointStorage>)),
        declarations: None,
        sql: Some(Arc::new(EchoSql)),
        routes: None,
        ha: None,
    };
    let configuration =
        Configuration::from_map(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    let config = JobManagerConfig {
        bind: "127.0.0.1:0".into(),
        configuration,
        temp_dir: std::env::temp_dir(),
        version: "1".into(),
        commit: "abc".into(),
    };
    (JobManager::start(config, services, &Handle::current()).unwrap(), storage)
}

fn schema() -> v1::Schema {
    v1::Schema { fields: vec![v1::Field { name: "n".into(), r#type: "BIGINT".into(), time_attribute: 0 }] }
}

/// A source, one row after another to the client.
fn graph(parallelism: u32) -> v1::JobGraph {
    let options = |connector: &str| BTreeMap::from([("connector".to_owned(), connector.to_owned())]);
    let vertex = |id: &str, kind| v1::Vertex {
        id: id.into(),
        parallelism,
        operator: Some(v1::Operator { kind: Some(kind), ..Default::default() }),
        ..Default::default()
    };
    let source = v1::Source { options: options("test"), schema: Some(schema()), ..Default::default() };
    let sink = v1::Sink { options: options("collect"), schema: Some(schema()), ..Default::default() };
    let rebalance = v1::Partitioner { kind: Some(v1::partitioner::Kind::Rebalance(v1::Rebalance {})) };
    v1::JobGraph {
        name: "rows".into(),
        vertices: vec![vertex("in", Kind::Source(source)), vertex("out", Kind::Sink(sink))],
        edges: vec![v1::Edge {
            from: "in".into(),
            to: "out".into(),
            partitioner: Some(rebalance),
            ..Default::default()
        }],
        configuration: BTreeMap::new(),
    }
}

/// A connected TaskManager whose tasks do what the test says.
struct FakeTaskManager {
    epoch: u64,
    to: mpsc::UnboundedSender<internal::FromTaskManager>,
    from: tonic::Streaming<internal::ToTaskManager>,
}

impl FakeTaskManager {
    async fn register(address: SocketAddr, resource_id: &str, slots: u32) -> FakeTaskManager {
        let mut client = ClusterServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (to, receiver) = mpsc::unbounded_channel();
        let from = client.attach(UnboundedReceiverStream::new(receiver)).await.unwrap().into_inner();
        let mut taskmanager = FakeTaskManager { epoch: 0, to, from };
        let data_address = format!("{resource_id}:1");
        let resource_id = resource_id.to_owned();
        taskmanager.send(FromTask::Register(internal::Register {
            resource_id,
            slots,
            data_address,
            ..Default::default()
        }));
        let first = taskmanager.from.message().await.unwrap().unwrap();
        assert!(matches!(first.message, Some(ToTask::Registered(_))));
        taskmanager.epoch = first.epoch;
        taskmanager
    }

    fn send(&self, message: FromTask) {
        self.to.send(internal::FromTaskManager { epoch: self.epoch, message: Some(message) }).unwrap();
    }

    fn state(&self, attempt: &internal::AttemptId, state: &str, error: &str) {
        self.send(FromTask::TaskState(internal::TaskStateChanged {
            attempt: Some(attempt.clone()),
            state: state.into(),
            error: error.into(),
            restore: None,
            damaged_checkpoint: 0,
        }));
    }

    /// The next message that is not a heartbeat.
    async fn next(&mut self) -> ToTask {
        loop {
            match self.from.message().await.unwrap().unwrap().message.unwrap() {
                ToTask::Heartbeat(_) => {}
                message => return message,
            }
        }
    }

    async fn deployments(&mut self, count: usize) -> Vec<internal::TaskDeployment> {
        let mut deployments = Vec::new();
        while deployments.len() < count {
            match self.next().await {
                ToTask::Deploy(deployment) => deployments.push(deployment),
                other => panic!("expected a deployment, got {other:?}"),
            }
        }
        deployments
    }
}

async fn job_client(jobmanager: &JobManager) -> JobServiceClient<Channel> {
    JobServiceClient::connect(format!("http://{}", jobmanager.address())).await.unwrap()
}

async fn wait_for(client: &Client, job: &str, state: &str) -> v1::JobStatus {
    let mut watch = client.watch(job).await.unwrap();
    while let Some(status) = watch.next().await {
        if status.state == state {
            return status;
        }
    }
    panic!("the job ended before it was {state}");
}

fn attempt_of(deployment: &internal::TaskDeployment) -> internal::AttemptId {
    deployment.attempt.clone().unwrap()
}

#[tokio::test]
async fn a_job_graph_runs_over_grpc_and_its_rows_come_back() {
    let (jobmanager, _) = start(&[]);
    let mut client = job_client(&jobmanager).await;
    let id = "0123456789abcdef0123456789abcdef";
    let request = v1::SubmitJobGraphRequest { job_id: id.into(), graph: Some(graph(2)) };
    let first = client.submit_job_graph(request.clone()).await.unwrap().into_inner();
    let again = client.submit_job_graph(request).await.unwrap().into_inner();
    assert_eq!((first.job_id.as_str(), first.created, again.created), (id, true, false));

    let mut a = FakeTaskManager::register(jobmanager.address(), "a", 1).await;
    let mut b = FakeTaskManager::register(jobmanager.address(), "b", 1).await;
    let (on_a, on_b) = (a.deployments(2).await, b.deployments(2).await);
    for (taskmanager, deployments) in [(&a, &on_a), (&b, &on_b)] {
        deployments.iter().for_each(|d| taskmanager.state(&attempt_of(d), "RUNNING", ""));
    }
    wait_for(jobmanager.client(), id, "RUNNING").await;
    let producer = on_a.iter().find(|d| !d.outputs.is_empty()).unwrap();
    let addresses: Vec<_> = producer.outputs[0].channels.iter().map(|c| c.data_address.as_str()).collect();
    assert_eq!(addresses, ["a:1", "b:1"]);

    let mut rows = client.collect_results(v1::CollectResultsRequest { job_id: id.into() }).await.unwrap().into_inner();
    for (taskmanager, deployments) in [(&a, &on_a), (&b, &on_b)] {
        deployments.iter().for_each(|d| taskmanager.state(&attempt_of(d), "FINISHED", ""));
    }
    assert_eq!(rows.message().await.unwrap(), None);
    let details = client.describe_job(v1::DescribeJobRequest { job_id: id.into() }).await.unwrap().into_inner();
    assert_eq!(details.status.unwrap().state, "FINISHED");
    assert_eq!(details.vertices.len(), 2);
    assert!(details.vertices.iter().flat_map(|v| &v.subtasks).all(|s| s.state == "FINISHED"));
    assert!(matches!(a.next().await, ToTask::JobEnded(_)));
    let overview = client.cluster_overview(v1::ClusterOverviewRequest {}).await.unwrap().into_inner();
    assert_eq!((overview.slots_total, overview.slots_free, overview.commit.as_str()), (2, 2, "abc"));
    jobmanager.stop().await;
}

#[tokio::test]
async fn bad_graphs_are_refused_with_the_field_and_leave_no_job() {
    let (jobmanager, _) = start(&[]);
    let mut client = job_client(&jobmanager).await;
    let mut dangling = graph(1);
    dangling.edges[0].to = "nowhere".into();
    let mut unknown = graph(1);
    if let Some(Kind::Source(source)) = &mut unknown.vertices[0].operator.as_mut().unwrap().kind {
        source.options.insert("connector".into(), "tset".into());
    }
    let mut restarts = graph(1);
    restarts.configuration.insert("restart-strategy.type".into(), "sometimes".into());
    for (graph, expected) in
        [(dangling, "edges[0]"), (unknown, "vertices[0].operator.source"), (restarts, "restart-strategy.type")]
    {
        let request = v1::SubmitJobGraphRequest { job_id: String::new(), graph: Some(graph) };
        let status = client.submit_job_graph(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expected), "{status:?}");
    }
    let bad_id = v1::SubmitJobGraphRequest { job_id: "xyz".into(), graph: Some(graph(1)) };
    assert_eq!(client.submit_job_graph(bad_id).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert!(client.list_jobs(v1::ListJobsRequest {}).await.unwrap().into_inner().jobs.is_empty());
    let unknown = client.describe_job(v1::DescribeJobRequest { job_id: "0".repeat(32) }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn sql_goes_to_the_handler() {
    let (jobmanager, _) = start(&[]);
    let mut client = job_client(&jobmanager).await;
    let id = "1".repeat(32);
    let request = v1::SubmitSqlRequest { job_id: id.clone(), sql: "SELECT 1".into(), ..Default::default() };
    let response = client.submit_sql(request).await.unwrap().into_inner();
    assert_eq!((response.job_ids, response.result_schema), (vec![id], Some(schema())));
    let wrong = v1::SubmitSqlRequest { sql: "SELEC 1".into(), ..Default::default() };
    let status = client.submit_sql(wrong).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(status.metadata().get("hurtig-error-kind").unwrap(), "PARSE");
}

#[tokio::test]
async fn a_failed_job_tells_its_reader_why() {
    let (jobmanager, _) = start(&[]);
    let client = jobmanager.client().clone();
    let mut taskmanager = FakeTaskManager::register(jobmanager.address(), "a", 4).await;
    let job = client.submit_graph("", graph(1)).await.unwrap().job_id;
    let deployments = taskmanager.deployments(2).await;
    let mut rows = client.collect(&job).await.unwrap();
    assert!(client.collect(&job).await.is_err(), "one reader");
    taskmanager.state(&attempt_of(&deployments[0]), "FAILED", "division by zero");
    let ToTask::Cancel(cancel) = taskmanager.next().await else { panic!("the other task is not cancelled") };
    taskmanager.state(&cancel.attempt.unwrap(), "CANCELED", "");
    let error = rows.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    assert_eq!(wait_for(&client, &job, "FAILED").await.root_cause, error.to_string());
}

#[tokio::test]
async fn a_closed_connection_is_noticed_at_once_and_the_job_moves() {
    let pairs =
        [("execution.checkpointing.interval", "1 h"), ("restart-strategy.exponential-delay.initial-backoff", "1 ms")];
    let (jobmanager, storage) = start(&pairs);
    let client = jobmanager.client().clone();
    let mut a = FakeTaskManager::register(jobmanager.address(), "a", 1).await;
    let job = client.submit_graph("", graph(1)).await.unwrap().job_id;
    a.deployments(2).await;
    drop(a);
    let mut b = FakeTaskManager::register(jobmanager.address(), "b", 1).await;
    let deployments = b.deployments(2).await;
    assert!(deployments.iter().all(|d| attempt_of(d).attempt == 1));
    deployments.iter().for_each(|d| b.state(&attempt_of(d), "RUNNING", ""));
    let status = wait_for(&client, &job, "RUNNING").await;
    assert_eq!(status.restarts, 1);
    assert!(status.root_cause.contains("TaskManager a is lost"), "{}", status.root_cause);
    client.cancel(&job).await.unwrap();
    for _ in 0..2 {
        let ToTask::Cancel(cancel) = b.next().await else { panic!("not cancelled") };
        b.state(&cancel.attempt.unwrap(), "CANCELED", "");
    }
    wait_for(&client, &job, "CANCELED").await;
    jobmanager.stop().await;
    assert_eq!(storage.contents().head.unwrap().0.job_status, "CANCELED");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = listen(&address).unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("jobmanager.rpc.port"), "{error}");
}
