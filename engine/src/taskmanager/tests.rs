//! TaskManagers against a JobManager that a test plays.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::Stream;
use hurtig_graph::config::Configuration;
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use hurtig_state::storage::ObjectStores;
use internal::cluster_service_server::{ClusterService, ClusterServiceServer};
use internal::from_task_manager::Message as FromTm;
use internal::to_task_manager::Message as ToTm;
use internal::{FromTaskManager, ToTaskManager};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{TaskManager, TaskManagerConfig};
use crate::batch::Batch;
use crate::operator::{Collector, Flow, Operator, OperatorContext};
use crate::registry::OperatorRegistry;
use crate::task::testing::{CommitSink, Numbers, Sum, job_id, row_schema};

const LONG: Duration = Duration::from_secs(30);

/// A registered TaskManager as the JobManager sees it.
struct Link {
    register: internal::Register,
    epoch: u64,
    to: mpsc::UnboundedSender<Result<ToTaskManager, Status>>,
    from: Streaming<FromTaskManager>,
}

impl Link {
    fn send(&self, message: ToTm) {
        self.to.send(Ok(ToTaskManager { epoch: self.epoch, message: Some(message) })).unwrap();
    }

    /// The next message that `pick` wants; others are dropped.
    async fn next<T>(&mut self, what: &str, mut pick: impl FnMut(FromTm) -> Option<T>) -> T {
        let wait = async {
            loop {
                let message = self.from.message().await.unwrap().expect("the TaskManager closed the stream");
                assert_eq!(message.epoch, self.epoch);
                if let Some(wanted) = message.message.and_then(&mut pick) {
                    return wanted;
                }
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what} never came"))
    }

    /// Waits for a state of a task, and gives its error.
    async fn state(&mut self, vertex: &str, subtask: u32, state: &str) -> String {
        self.next(&format!("{vertex}[{subtask}] {state}"), |message| match message {
            FromTm::TaskState(s) => {
                let attempt = s.attempt.unwrap();
                assert!(
                    s.state != "FAILED" || state == "FAILED",
                    "{}[{}] failed: {}",
                    attempt.vertex_id,
                    attempt.subtask,
                    s.error
                );
                let wanted = attempt.vertex_id == vertex && attempt.subtask == subtask && s.state == state;
                wanted.then_some(s.error)
            }
            _ => None,
        })
        .await
    }
}

/// Does not return from its opening until it is released.
struct Stuck(Arc<Gate>);

#[derive(Default)]
struct Gate {
    reached: AtomicBool,
    open: AtomicBool,
}

impl Operator for Stuck {
    fn open(&mut self, _context: OperatorContext) -> crate::Result<()> {
        self.0.reached.store(true, Ordering::Release);
        while !self.0.open.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn process(&mut self, _port: usize, _batch: Batch, _out: &mut dyn Collector) -> crate::Result<Flow> {
        Ok(Flow::Done)
    }
}

struct FakeJobManager {
    links: mpsc::UnboundedSender<Link>,
    epochs: Mutex<u64>,
}

#[tonic::async_trait]
impl ClusterService for FakeJobManager {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<ToTaskManager, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<FromTaskManager>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut from = request.into_inner();
        let Some(FromTaskManager { epoch: 0, message: Some(FromTm::Register(register)) }) = from.message().await?
        else {
            return Err(Status::invalid_argument("not a registration"));
        };
        let epoch = {
            let mut epochs = self.epochs.lock();
            *epochs += 1;
            *epochs
        };
        let (to, receiver) = mpsc::unbounded_channel();
        let link = Link { register, epoch, to, from };
        link.send(ToTm::Registered(internal::Registered {
            jobmanager_id: "jm".into(),
            heartbeat_interval_ms: 50,
            heartbeat_timeout_ms: 60_000,
        }));
        self.links.send(link).map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver).map(|m| m))))
    }
}

struct Cluster {
    address: String,
    links: mpsc::UnboundedReceiver<Link>,
    registry: Arc<OperatorRegistry>,
    committed: Arc<Mutex<Vec<(i64, i64)>>>,
    /// At which operators "stuck" wait.
    gate: Arc<Gate>,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, links) = mpsc::unbounded_channel();
        let service = ClusterServiceServer::new(FakeJobManager { links: sender, epochs: Mutex::new(0) });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let committed = Arc::new(Mutex::new(Vec::new()));
        let mut registry = OperatorRegistry::default();
        registry.register_source(
            "numbers",
            Arc::new(|spec| {
                let number = |key: &str| spec.options[key].parse::<i64>().unwrap();
                Ok(Box::new(Numbers::new(0, number("count"), number("keys"), 100)))
            }),
        );
        registry.register_operator("sum", Arc::new(|_| Ok(Box::<Sum>::default())));
        let gate = Arc::<Gate>::default();
        let stuck = Arc::clone(&gate);
        registry.register_operator("stuck", Arc::new(move |_| Ok(Box::new(Stuck(Arc::clone(&stuck))))));
        let sink = Arc::clone(&committed);
        registry.register_sink(
            "commit",
            Arc::new(move |spec| Ok(Box::new(CommitSink::new(&sink, spec.options["checkpointing"] == "true")))),
        );
        let folder = tempfile::tempdir().unwrap();
        Cluster { address, links, registry: Arc::new(registry), committed, gate, folder }
    }

    async fn taskmanager(&mut self, name: &str) -> (TaskManager, Link) {
        self.taskmanager_with(name, |_| {}).await
    }

    async fn taskmanager_with(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut TaskManagerConfig),
    ) -> (TaskManager, Link) {
        let mut configuration = Configuration::default();
        configuration.set("taskmanager.numberOfTaskSlots", "2");
        configuration.set("taskmanager.resource-id", name);
        configuration.set("hurtig.metrics.report-interval", "20 ms");
        let work_dir = self.folder.path().join(name);
        let mut config = TaskManagerConfig::from_configuration(&configuration, &self.address, work_dir).unwrap();
        change(&mut config);
        let runtime = tokio::runtime::Handle::current();
        let stores = Arc::new(ObjectStores::default());
        let tm = TaskManager::start(config, Arc::clone(&self.registry), stores, runtime).await.unwrap();
        let link = self.link().await;
        assert_eq!((link.register.resource_id.as_str(), link.register.slots), (name, 2));
        assert_eq!(link.register.data_address, tm.data_address());
        (tm, link)
    }

    async fn link(&mut self) -> Link {
        tokio::time::timeout(LONG, self.links.recv()).await.expect("a registration").unwrap()
    }
}

fn attempt(vertex: &str, subtask: u32, attempt: u32) -> internal::AttemptId {
    internal::AttemptId { job_id: job_id().as_str().into(), vertex_id: vertex.into(), subtask, attempt }
}

fn source(count: i64, keys: i64) -> v1::operator::Kind {
    let options = [("connector", "numbers".to_owned()), ("count", count.to_string()), ("keys", keys.to_string())];
    let options = options.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    v1::operator::Kind::Source(v1::Source { options, schema: Some(row_schema().to_proto()), ..Default::default() })
}

fn sink(checkpointing: bool) -> v1::operator::Kind {
    let options: BTreeMap<_, _> =
        [("connector".into(), "commit".into()), ("checkpointing".into(), checkpointing.to_string())].into();
    v1::operator::Kind::Sink(v1::Sink { options, schema: Some(row_schema().to_proto()), ..Default::default() })
}

fn sum() -> v1::operator::Kind {
    v1::operator::Kind::Custom(v1::Custom { factory: "sum".into(), configuration: Vec::new() })
}

fn hash() -> v1::partitioner::Kind {
    v1::partitioner::Kind::Hash(v1::Hash { columns: vec![0], ..Default::default() })
}

fn global() -> v1::partitioner::Kind {
    v1::partitioner::Kind::Global(v1::Global {})
}

/// A deployment of attempt `number`, without edges.
fn task(
    vertex: &str,
    subtask: u32,
    number: u32,
    parallelism: u32,
    kind: v1::operator::Kind,
) -> internal::TaskDeployment {
    internal::TaskDeployment {
        attempt: Some(attempt(vertex, subtask, number)),
        job_name: "job".into(),
        vertex_name: vertex.into(),
        parallelism,
        max_parallelism: 128,
        slot: subtask % 2,
        operators: vec![v1::Operator {
            uid: format!("{vertex}-uid"),
            name: vertex.into(),
            output_schema: Some(row_schema().to_proto()),
            kind: Some(kind),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn with_input(mut task: internal::TaskDeployment, edge: &str, producers: u32, number: u32) -> internal::TaskDeployment {
    let channels = (0..producers).map(|producer_subtask| internal::InputChannel {
        producer_subtask,
        producer_attempt: number,
        producer_vertex: String::new(),
    });
    task.inputs.push(internal::InputGate {
        partitioner: None,
        edge_id: edge.into(),
        port: 0,
        schema: Some(row_schema().to_proto()),
        channels: channels.collect(),
    });
    task
}

fn with_output(
    mut task: internal::TaskDeployment,
    edge: &str,
    kind: v1::partitioner::Kind,
    consumers: &[&TaskManager],
    number: u32,
) -> internal::TaskDeployment {
    let channels = consumers.iter().zip(0..).map(|(tm, consumer_subtask)| internal::OutputChannel {
        consumer_subtask,
        consumer_attempt: number,
        data_address: tm.data_address().to_owned(),
    });
    task.outputs.push(internal::OutputEdge {
        edge_id: edge.into(),
        partitioner: Some(v1::Partitioner { kind: Some(kind) }),
        schema: Some(row_schema().to_proto()),
        consumer_vertex: String::new(),
        consumer_max_parallelism: 128,
        consumer_parallelism: consumers.len() as u32,
        channels: channels.collect(),
        ordered: false,
    });
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_across_two_taskmanagers() {
    let mut cluster = Cluster::start().await;
    let (a, mut link_a) = cluster.taskmanager("a").await;
    let (b, mut link_b) = cluster.taskmanager("b").await;
    let s = with_output(task("source", 0, 0, 1, source(20_000, 50)), "keyed", hash(), &[&a, &b], 0);
    link_a.send(ToTm::Deploy(s));
    for (subtask, link) in [(0, &link_a), (1, &link_b)] {
        let t = with_input(task("sum", subtask, 0, 2, sum()), "keyed", 1, 0);
        link.send(ToTm::Deploy(with_output(t, "out", global(), &[&b], 0)));
    }
    link_b.send(ToTm::Deploy(with_input(task("sink", 0, 0, 1, sink(false)), "out", 2, 0)));
    let mut records_in = 0;
    let mut running = vec!["sink", "sum"];
    while !running.is_empty() {
        link_b
            .next("the end of the tasks", |message| match message {
                FromTm::Reports(reports) => {
                    let mut sums = reports.reports.iter().filter(|r| r.attempt.as_ref().unwrap().vertex_id == "sum");
                    records_in = sums.next().map_or(records_in, |r| r.metrics.as_ref().unwrap().records_in);
                    Some(())
                }
                FromTm::TaskState(s) => {
                    assert_ne!(s.state, "FAILED", "{}", s.error);
                    let vertex = s.attempt.unwrap().vertex_id;
                    running.retain(|v| s.state != "FINISHED" || *v != vertex);
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    link_a.state("source", 0, "FINISHED").await;
    link_a.state("sum", 0, "FINISHED").await;
    assert!(records_in > 1_000, "the last report of a task counts all its rows, not {records_in}");
    let mut sums = cluster.committed.lock().clone();
    sums.sort_unstable();
    let expected: Vec<(i64, i64)> = (0..50).map(|k| (k, (0..20_000i64).filter(|n| n % 50 == k).sum())).collect();
    assert_eq!(sums, expected);
    a.stop().await;
    b.stop().await;
}

/// Deploys source -> sink over two TaskManagers with checkpoints, as attempt `number`.
fn deploy_pipeline(
    cluster: &Cluster,
    tms: [&TaskManager; 2],
    links: [&Link; 2],
    number: u32,
    restore: Option<(u64, [v1::SubtaskSnapshot; 2])>,
) {
    let mut s =
        with_output(task("source", 0, number, 1, source(200_000, 200_000)), "edge", global(), &[tms[1]], number);
    let mut t = with_input(task("sink", 0, number, 1, sink(true)), "edge", 1, number);
    for d in [&mut s, &mut t] {
        d.checkpoint_directory = format!("file://{}/checkpoints", cluster.folder.path().display());
    }
    if let Some((checkpoint, [source, sink])) = restore {
        for (d, snapshot) in [(&mut s, source), (&mut t, sink)] {
            d.restore_checkpoint_id = checkpoint;
            d.restore = vec![snapshot];
            d.restore_parallelism = 1;
        }
    }
    links[0].send(ToTm::Deploy(s));
    links[1].send(ToTm::Deploy(t));
}

async fn acknowledged(link: &mut Link, checkpoint: u64) -> v1::SubtaskSnapshot {
    link.next(&format!("the acknowledgement of {checkpoint}"), |message| match message {
        FromTm::CheckpointAck(ack) if ack.checkpoint_id == checkpoint => ack.snapshot,
        FromTm::CheckpointDecline(d) => panic!("declined: {}", d.reason),
        FromTm::TaskState(s) => {
            assert_ne!(s.state, "FAILED", "{}", s.error);
            None
        }
        _ => None,
    })
    .await
}

fn trigger(checkpoint: u64, number: u32) -> ToTm {
    ToTm::TriggerCheckpoint(internal::TriggerCheckpoint {
        unaligned: false,
        attempt: Some(attempt("source", 0, number)),
        checkpoint_id: checkpoint,
        timestamp_ms: 0,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_loss_of_the_jobmanager_a_job_goes_on_from_its_checkpoint() {
    let mut cluster = Cluster::start().await;
    let (a, mut link_a) = cluster.taskmanager("a").await;
    let (b, mut link_b) = cluster.taskmanager("b").await;
    deploy_pipeline(&cluster, [&a, &b], [&link_a, &link_b], 3, None);
    link_a.state("source", 0, "RUNNING").await;
    link_a.send(trigger(1, 3));
    let snapshots = [acknowledged(&mut link_a, 1).await, acknowledged(&mut link_b, 1).await];
    assert_eq!(snapshots[0].operators[0].operator_kind, "source");
    // Both streams close: the tasks are cancelled and both TaskManagers come again, under a new epoch.
    let (old_a, old_b) = (link_a.epoch, link_b.epoch);
    drop((link_a, link_b));
    let mut links = [cluster.link().await, cluster.link().await];
    links.sort_by(|x, y| x.register.resource_id.cmp(&y.register.resource_id));
    let [mut link_a, mut link_b] = links;
    assert!(link_a.epoch > old_a.max(old_b) && link_b.epoch > old_a.max(old_b));

    // A new JobManager counts attempts from the beginning.
    deploy_pipeline(&cluster, [&a, &b], [&link_a, &link_b], 0, Some((1, snapshots)));
    let report = link_b
        .next("RUNNING with a restore report", |message| match message {
            FromTm::TaskState(s) if s.state == "RUNNING" => Some(s.restore),
            _ => None,
        })
        .await;
    assert!(report.is_some());
    for link in [&mut link_a, &mut link_b] {
        link.next("the end of data", |m| matches!(m, FromTm::EndOfData(_)).then_some(())).await;
    }
    link_a.send(trigger(2, 0));
    acknowledged(&mut link_a, 2).await;
    acknowledged(&mut link_b, 2).await;
    for link in [&link_a, &link_b] {
        let job_id = job_id().as_str().to_owned();
        link.send(ToTm::CheckpointComplete(internal::CheckpointComplete { job_id, checkpoint_id: 2 }));
    }
    link_a.state("source", 0, "FINISHED").await;
    link_b.state("sink", 0, "FINISHED").await;
    let mut rows: Vec<i64> = cluster.committed.lock().iter().map(|r| r.1).collect();
    rows.sort_unstable();
    assert!(rows.iter().copied().eq(0..200_000), "{} rows", rows.len());
    a.stop().await;
    b.stop().await;
}

/// GROUP BY k: SUM(v), an upsert stream.
fn sum_by_key() -> v1::operator::Kind {
    v1::operator::Kind::GroupAggregate(v1::GroupAggregate {
        keys: vec![0],
        aggregates: vec![v1::AggregateCall {
            function: "SUM".into(),
            arguments: vec![1],
            name: "v".into(),
            r#type: "BIGINT".into(),
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// Deploys source -> sum by key -> sink; the sums on all `links` in turn. `restore`: the checkpoint
/// and the snapshots of the three vertices.
fn deploy_aggregation(
    cluster: &Cluster,
    tms: [&TaskManager; 2],
    links: [&Link; 2],
    number: u32,
    parallelism: u32,
    restore: Option<(u64, [Vec<v1::SubtaskSnapshot>; 3])>,
) {
    let owners: Vec<&TaskManager> = (0..parallelism).map(|i| tms[i as usize % 2]).collect();
    let source = task("source", 0, number, 1, source(200_000, 1_000));
    let mut tasks = vec![(0, links[0], with_output(source, "keyed", hash(), &owners, number))];
    for subtask in 0..parallelism {
        let sum = with_input(task("sum", subtask, number, parallelism, sum_by_key()), "keyed", 1, number);
        tasks.push((1, links[subtask as usize % 2], with_output(sum, "out", global(), &[tms[1]], number)));
    }
    let sink = with_input(task("sink", 0, number, 1, sink(true)), "out", parallelism, number);
    tasks.push((2, links[1], sink));
    for (vertex, link, mut d) in tasks.into_iter().rev() {
        d.checkpoint_directory = format!("file://{}/checkpoints", cluster.folder.path().display());
        d.configuration.insert("execution.checkpointing.interval".into(), "1 h".into());
        if let Some((checkpoint, snapshots)) = &restore {
            d.restore_checkpoint_id = *checkpoint;
            d.restore = snapshots[vertex].clone();
            d.restore_parallelism = snapshots[vertex].len() as u32;
        }
        link.send(ToTm::Deploy(d));
    }
}

/// Acknowledgements of `count` tasks of one TaskManager by vertex.
async fn all_acknowledged(
    link: &mut Link,
    checkpoint: u64,
    count: usize,
) -> BTreeMap<String, Vec<v1::SubtaskSnapshot>> {
    let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for _ in 0..count {
        let (vertex, snapshot) = link
            .next(&format!("an acknowledgement of {checkpoint}"), |message| match message {
                FromTm::CheckpointAck(ack) if ack.checkpoint_id == checkpoint => {
                    Some((ack.attempt.unwrap().vertex_id, ack.snapshot.unwrap()))
                }
                FromTm::CheckpointDecline(d) => panic!("declined: {}", d.reason),
                FromTm::TaskState(s) => {
                    assert_ne!(s.state, "FAILED", "{}", s.error);
                    None
                }
                _ => None,
            })
            .await;
        found.entry(vertex).or_default().push(snapshot);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyed_state_is_restored_at_another_parallelism() {
    let mut cluster = Cluster::start().await;
    let (a, mut link_a) = cluster.taskmanager("a").await;
    let (b, mut link_b) = cluster.taskmanager("b").await;
    deploy_aggregation(&cluster, [&a, &b], [&link_a, &link_b], 0, 2, None);
    link_a.state("source", 0, "RUNNING").await;
    link_a.send(trigger(1, 0));
    let mut snapshots = all_acknowledged(&mut link_a, 1, 2).await;
    for (vertex, more) in all_acknowledged(&mut link_b, 1, 2).await {
        snapshots.entry(vertex).or_default().extend(more);
    }
    assert!(snapshots["sum"].iter().all(|s| s.keyed.is_some()), "sums are keyed state");
    let restore = ["source", "sum", "sink"].map(|vertex| snapshots[vertex].clone());
    // A restart of all tasks in place.
    for link in [&link_a, &link_b] {
        for (vertex, subtask) in [("source", 0), ("sum", 0), ("sum", 1), ("sink", 0)] {
            link.send(ToTm::Cancel(internal::CancelTask { attempt: Some(attempt(vertex, subtask, 0)) }));
        }
    }
    link_a.state("source", 0, "CANCELED").await;
    link_b.state("sink", 0, "CANCELED").await;
    deploy_aggregation(&cluster, [&a, &b], [&link_a, &link_b], 1, 3, Some((1, restore)));
    link_a.next("the end of data", |m| matches!(m, FromTm::EndOfData(_)).then_some(())).await;
    link_a.send(trigger(2, 1));
    all_acknowledged(&mut link_a, 2, 3).await;
    all_acknowledged(&mut link_b, 2, 2).await;
    for link in [&link_a, &link_b] {
        let job_id = job_id().as_str().to_owned();
        link.send(ToTm::CheckpointComplete(internal::CheckpointComplete { job_id, checkpoint_id: 2 }));
    }
    link_b.state("sink", 0, "FINISHED").await;
    let sums: BTreeMap<i64, i64> = cluster.committed.lock().iter().copied().collect();
    let expected = (0..1_000).map(|k| (k, (0..200_000i64).filter(|n| n % 1_000 == k).sum())).collect();
    assert!(sums == expected, "the last committed sums are not those of all rows");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_answered() {
    let mut cluster = Cluster::start().await;
    let (tm, mut link) = cluster.taskmanager("a").await;
    // A connector that is not there.
    let mut unknown = source(1, 1);
    if let v1::operator::Kind::Source(source) = &mut unknown {
        source.options.insert("connector".into(), "kafka".into());
    }
    link.send(ToTm::Deploy(task("bad", 0, 0, 1, unknown)));
    let error = link.state("bad", 0, "FAILED").await;
    assert!(error.contains("kafka") && error.contains("numbers"), "{error}");
    // A task that does not run here.
    link.send(ToTm::Cancel(internal::CancelTask { attempt: Some(attempt("ghost", 0, 0)) }));
    link.state("ghost", 0, "CANCELED").await;
    link.send(trigger(5, 0));
    let reason = link
        .next("a decline", |m| match m {
            FromTm::CheckpointDecline(d) => Some(d.reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, "the task does not run here");
    // A deployment of a leader that is no more: nothing happens; the next message shows it.
    let old = task("stale", 0, 0, 1, source(10, 1));
    link.to.send(Ok(ToTaskManager { epoch: link.epoch - 1, message: Some(ToTm::Deploy(old)) })).unwrap();
    let waits = with_input(task("sink", 0, 3, 1, sink(false)), "edge", 1, 0);
    link.send(ToTm::Deploy(waits.clone()));
    let first = link
        .next("a state", |m| match m {
            FromTm::TaskState(s) => Some(s.attempt.unwrap().vertex_id),
            _ => None,
        })
        .await;
    assert_eq!(first, "sink");
    link.state("sink", 0, "RUNNING").await;
    // An older attempt of a subtask that runs.
    link.send(ToTm::Deploy(internal::TaskDeployment { attempt: Some(attempt("sink", 0, 2)), ..waits }));
    let error = link.state("sink", 0, "FAILED").await;
    assert!(error.contains("attempt 3"), "{error}");
    link.send(ToTm::Cancel(internal::CancelTask { attempt: Some(attempt("sink", 0, 3)) }));
    link.state("sink", 0, "CANCELED").await;
    link.send(ToTm::Shutdown(internal::Shutdown { reason: "the session is over".into() }));
    assert_eq!(tokio::time::timeout(LONG, tm.ended()).await.unwrap(), "the session is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_does_not_end_is_fatal_and_given_up() {
    let mut cluster = Cluster::start().await;
    let (fatal, mut reasons) = mpsc::unbounded_channel();
    let (tm, mut link) = cluster
        .taskmanager_with("a", |config| {
            config.cancellation_timeout = Duration::from_millis(20);
            config.on_fatal = Arc::new(move |reason| fatal.send(reason.to_owned()).unwrap());
        })
        .await;
    let stuck = v1::operator::Kind::Custom(v1::Custom { factory: "stuck".into(), configuration: Vec::new() });
    link.send(ToTm::Deploy(with_input(task("stuck", 0, 0, 1, stuck), "edge", 1, 0)));
    let reached = async {
        while !cluster.gate.reached.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, reached).await.expect("the task is opened");
    link.send(ToTm::Cancel(internal::CancelTask { attempt: Some(attempt("stuck", 0, 0)) }));
    let reason = tokio::time::timeout(LONG, reasons.recv()).await.unwrap().unwrap();
    assert!(reason.contains("did not end within 20 ms of being cancelled"), "{reason}");
    // The JobManager hears that the TaskManager is gone, and need not wait for the task.
    let end = async { while let Ok(Some(_)) = link.from.message().await {} };
    tokio::time::timeout(LONG, end).await.expect("the stream ends");
    cluster.gate.open.store(true, Ordering::Release);
    let back = cluster.link().await;
    assert_eq!(back.register.resource_id, "a");
    assert!(reasons.try_recv().is_err(), "it is reported once");
    tm.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_a_killed_process_are_removed() {
    let mut cluster = Cluster::start().await;
    let (database, copy) = (cluster.folder.path().join("a/db/job/0-0-x"), cluster.folder.path().join("a/localState/x"));
    for folder in [&database, &copy] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let (tm, _link) = cluster.taskmanager("a").await;
    assert!(!database.exists() && copy.exists());
    tm.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_frees_the_port_and_cancels_tasks() {
    let mut cluster = Cluster::start().await;
    let (tm, mut link) = cluster.taskmanager("a").await;
    link.send(ToTm::Deploy(with_input(task("sink", 0, 0, 1, sink(false)), "edge", 1, 0)));
    link.state("sink", 0, "RUNNING").await;
    let address = tm.data_address().to_owned();
    let stopped = tokio::spawn(tm.stop());
    link.state("sink", 0, "CANCELED").await;
    stopped.await.unwrap();
    std::net::TcpListener::bind(address).unwrap();
}
