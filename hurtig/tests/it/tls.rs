//! Mutual TLS between all processes: a cluster works with it, and nobody gets in without it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use hurtig_testkit::Authority;

use crate::harness::{Cluster, PATIENCE, Process, hurtig, lines_below};

/// A folder with certificates: the cluster's, and those of three kinds of strangers.
struct Certificates {
    folder: tempfile::TempDir,
    authority: PathBuf,
}

/// Whose connection must be refused, and why the cluster refuses it.
const STRANGERS: [&str; 3] = ["none", "foreign", "expired"];

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("cluster-authority");
        authority.issue(folder.path(), "member", false);
        authority.issue(folder.path(), "expired", true);
        Authority::new("another-authority").issue(folder.path(), "foreign", false);
        let authority = authority.write(folder.path(), "authority");
        Certificates { folder, authority }
    }

    /// The configuration of a process that shows the certificate `name` and trusts the cluster's
    /// authority. "none": that knows of no TLS.
    fn options(&self, name: &str) -> Vec<String> {
        if name == "none" {
            return Vec::new();
        }
        let path = |path: &Path| path.display().to_string();
        vec![
            "security.ssl.internal.enabled=true".into(),
            format!("security.ssl.internal.keystore={}", path(&self.folder.path().join(format!("{name}.pem")))),
            format!("security.ssl.internal.truststore={}", path(&self.authority)),
        ]
    }
}

fn command(arguments: &[&str], options: &[String]) -> Output {
    let mut command = hurtig();
    command.args(arguments);
    for option in options {
        command.args(["-D", option]);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn start(certificates: &Certificates, taskmanagers: usize) -> Cluster {
    let options = certificates.options("member");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Cluster::start(taskmanagers, 1, &options)
}

#[test]
fn a_job_runs_over_encrypted_connections_between_all_processes() {
    let certificates = Certificates::new();
    let cluster = start(&certificates, 2);
    let (address, folder) = (cluster.address(), cluster.folder.path().join("out"));
    let script = format!(
        "SET 'parallelism.default' = '2'; SET 'table.dml-sync' = 'true';
         CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000',
           'rows-per-second' = '1000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '999');
         CREATE TABLE b (k BIGINT, c BIGINT, s BIGINT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{}');
         INSERT INTO b SELECT n % 10, 1, n FROM a;",
        folder.display()
    );
    let options = certificates.options("member");
    let output = command(&["sql", "--cluster", &address, "-e", &script], &options);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(lines_below(&folder).len(), 1000);
    let query = "SELECT COUNT(*) FROM (VALUES (1), (2), (3)) AS t (x)";
    let output = command(&["sql", "--cluster", &address, "-e", query], &options);
    assert!(output.status.success() && text(&output).contains('3'), "{}", text(&output));
}

#[test]
fn clients_without_a_certificate_of_the_cluster_are_refused() {
    let certificates = Certificates::new();
    let cluster = start(&certificates, 0);
    let address = cluster.address();
    for stranger in STRANGERS {
        let options = certificates.options(stranger);
        let create = "CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen'); \
                      CREATE TABLE b (n BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO b SELECT n FROM a;";
        let output = command(&["sql", "--cluster", &address, "-e", create], &options);
        assert_eq!(output.status.code(), Some(9), "{stranger}: {}", text(&output));
        assert!(text(&output).contains("JobManager"), "{stranger}: {}", text(&output));
    }
    let listed = command(&["jobs", "list", "--json", "--cluster", &address], &certificates.options("member"));
    assert_eq!(text(&listed).trim(), "[]", "nothing was started");
}

#[test]
fn taskmanagers_without_a_certificate_of_the_cluster_do_not_register() {
    let certificates = Certificates::new();
    let mut cluster = start(&certificates, 0);
    let address = cluster.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut strangers = Vec::new();
    for stranger in STRANGERS {
        let mut arguments = vec!["taskmanager".to_owned()];
        let own = [format!("jobmanager.rpc.address={host}"), format!("jobmanager.rpc.port={port}")];
        for option in certificates.options(stranger).into_iter().chain(own) {
            arguments.extend(["-D".to_owned(), option]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        strangers.push(Process::start(&arguments, cluster.folder.path().join(format!("{stranger}.log"))));
    }
    // Each has been told, and goes on trying.
    let start = Instant::now();
    for stranger in &strangers {
        let log = || std::fs::read_to_string(&stranger.log).unwrap_or_default();
        while !log().contains("JobManager") {
            assert!(start.elapsed() < PATIENCE, "{}: {}", stranger.log.display(), log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let member = cluster.spawn_taskmanager(0);
    cluster.taskmanagers.push(member);
    let options = certificates.options("member");
    loop {
        let found = text(&command(&["doctor", "--cluster", &address], &options));
        if found.contains("1 TaskManagers") {
            break;
        }
        assert!(!found.contains("2 TaskManagers") && start.elapsed() < PATIENCE, "{found}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn data_streams_without_a_certificate_of_the_cluster_are_refused() {
    let certificates = Certificates::new();
    let cluster = start(&certificates, 1);
    let data = cluster.taskmanagers[0].ready["data"].as_str().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connects = |name: &str| {
        let options = certificates.options(name);
        let configuration = hurtig_graph::config::from_dynamic_properties(&options).unwrap();
        let files = hurtig_graph::config::TlsFiles::read(&configuration).unwrap();
        let endpoint = hurtig_engine::tls::endpoint(data, files.as_ref()).unwrap();
        runtime.block_on(async move {
            let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
            let mut client = hurtig_proto::internal::v1::exchange_service_client::ExchangeServiceClient::new(channel);
            // The handshake of TLS 1.3 ends for the client before the server has judged its certificate.
            let frames = tokio_stream::iter([hurtig_proto::internal::v1::ExchangeFrame::default()]);
            client.exchange(frames).await.map(drop).map_err(|status| status.to_string())
        })
    };
    for stranger in STRANGERS {
        assert!(connects(stranger).is_err(), "{stranger}");
    }
    connects("member").unwrap();
}
