//! What an operator has at hand: queries that end with their client, shown jobs, metrics, logs, the
//! state of a cluster, exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Process, Setup, hurtig};

const NUMBERS: &str = "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '200',
    'fields.n.min' = '0', 'fields.n.max' = '9');";

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = hurtig().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn jobs(cluster: &Cluster) -> Vec<Value> {
    let (_, text, errors) = run(&["jobs", "list", "--json", "--cluster", &cluster.address()]);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{errors}"))
}

fn wait_until<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_query_whose_client_was_killed_is_cancelled_and_one_that_is_not_read_goes_on() {
    let cluster = Cluster::start(1, 2, &["client.heartbeat.timeout=5 s", "hurtig.collect.buffer=1 kb"]);
    let script = format!("{NUMBERS} SELECT n FROM numbers");
    let query = || {
        let mut command = hurtig();
        command.args(["sql", "--cluster", &cluster.address(), "--changelog-json", "-e", &script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // The header, and that rows flow; then nobody reads any more.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.by_ref().take(3).for_each(|line| drop(line.unwrap()));
        (child, lines)
    };
    let (mut killed, _lines) = query();
    let first = jobs(&cluster)[0]["job_id"].as_str().unwrap().to_owned();
    let (mut paused, _unread) = query();
    let second = jobs(&cluster).iter().map(|j| j["job_id"].as_str().unwrap().to_owned()).find(|id| *id != first);
    let second = second.unwrap();
    // SIGKILL: it cannot say goodbye.
    killed.kill().unwrap();
    killed.wait().unwrap();
    let ended = cluster.wait_for(&first, "the job of the killed client ends", |job| job["state"] == "CANCELED");
    let cause = ended["root_cause"].as_str().unwrap();
    assert!(cause.contains("its client has gone") && cause.contains("client.heartbeat.timeout"), "{cause}");
    assert_eq!(cluster.job(&second)["state"], "RUNNING", "its client is there");
    let (_, text, _) = run(&["jobs", "exceptions", &first, "--cluster", &cluster.address()]);
    assert!(text.contains("its client has gone"), "{text}");
    paused.kill().unwrap();
    paused.wait().unwrap();
    cluster.wait_for(&second, "the other job ends with its client", |job| job["state"] == "CANCELED");
}

#[test]
fn a_job_and_what_is_wrong_with_it_are_shown_to_people() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir=file://{}", folder.path().display());
    let backoff = "restart-strategy.exponential-delay.initial-backoff=1 ms";
    let options = ["execution.checkpointing.interval=300 ms", &directory, backoff];
    let mut cluster = Cluster::start(2, 1, &options);
    let id = cluster.insert(&format!(
        "SET 'parallelism.default' = '2'; {NUMBERS}
         CREATE TABLE nowhere (n BIGINT, c BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nowhere SELECT n, COUNT(*) FROM numbers GROUP BY n;"
    ));
    let address = cluster.address();
    cluster.wait_for(&id, "a checkpoint is complete", |job| job["last_checkpoint"] != 0);
    cluster.kill_taskmanager(1);
    cluster.wait_for(&id, "the loss is noticed", |job| job["state"] == "RESTARTING");
    let (code, doctor, _) = run(&["doctor", "--cluster", &address]);
    assert_eq!(code, Some(1), "{doctor}");
    assert!(doctor.contains("PROBLEM  TaskManager tm-1") && doctor.contains("has not come back"), "{doctor}");
    let (_, list, _) = run(&["jobs", "list", "--cluster", &address]);
    assert!(list.contains(&format!("{id} is RESTARTING: ")), "{list}");
    cluster.restart_taskmanager(1);
    cluster.wait_for(&id, "it runs again with a new checkpoint", |job| {
        job["state"] == "RUNNING"
            && job["restarts"] == 1
            && crate::harness::subtasks(job).all(|s| s["checkpoint"] != 0 && s["reported_time_ms"] != 0)
    });
    let (_, text, _) = run(&["jobs", "show", &id, "--cluster", &address]);
    for part in
        ["RUNNING for", "restarts    1", "from local disk", "root cause  TaskManager tm-1 is lost", "BUSY", "tm-0"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (_, text, _) = run(&["jobs", "exceptions", &id, "--cluster", &address]);
    assert!(text.contains("TaskManager  tm-1") && text.contains("is lost"), "{text}");
    let (code, doctor, _) = run(&["doctor", "--cluster", &address]);
    assert_eq!(code, Some(1), "{doctor}");
    assert!(doctor.contains("has restarted 1 times") && doctor.contains("no slot is free"), "{doctor}");
}

/// The metrics of a process at one of its endpoints.
fn scrape(address: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn figures_have_the_names_that_dashboards_of_flink_use() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir=file://{}", folder.path().display());
    let cluster = Cluster::start(1, 1, &["execution.checkpointing.interval=200 ms", &directory]);
    let id = cluster.insert(&format!(
        "{NUMBERS} CREATE TABLE nowhere (n BIGINT, c BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nowhere SELECT n, COUNT(*) FROM numbers GROUP BY n;"
    ));
    cluster.wait_for(&id, "a checkpoint is complete", |job| job["last_checkpoint"] != 0);
    let metrics = |process: &Process| scrape(process.ready["metrics"].as_str().unwrap());
    let value = |text: &str, name: &str| -> Option<f64> {
        let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))?;
        line.rsplit_once(' ')?.1.parse().ok()
    };
    let expect = |process: &Process, names: &[&str]| {
        wait_until("all figures are served", || {
            let text = metrics(process);
            let missing: Vec<&&str> = names.iter().filter(|name| value(&text, name).is_none()).collect();
            if missing.is_empty() { Some(text) } else { None }
        })
    };
    let text = expect(
        &cluster.jobmanager,
        &[
            "flink_jobmanager_numRunningJobs",
            "flink_jobmanager_taskSlotsAvailable",
            "flink_jobmanager_job_uptime",
            "flink_jobmanager_job_downtime",
            "flink_jobmanager_job_runningTime",
            "flink_jobmanager_job_restartingTime",
            "flink_jobmanager_job_numRestarts",
            "flink_jobmanager_job_fullRestarts",
            "flink_jobmanager_job_lastCheckpointDuration",
            "flink_jobmanager_job_lastCheckpointSize",
            "flink_jobmanager_job_lastCheckpointFullSize",
            "flink_jobmanager_job_lastCheckpointRestoreTimestamp",
            "flink_jobmanager_job_lastCheckpointCompletedTimestamp",
            "flink_jobmanager_Status_JVM_Memory_Heap_Used",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
        ],
    );
    assert_eq!(value(&text, "flink_jobmanager_job_lastCheckpointRestoreTimestamp"), Some(-1.0), "never restored");
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6, "{text}");
    let task = [
        "isBackPressured",
        "hardBackPressuredTimeMsPerSecond",
        "accumulateBusyTimeMs",
        "checkpointAlignmentTime",
        "checkpointStartDelayNanos",
        "mailboxQueueSize",
        "mailboxLatencyMs",
        "Shuffle_Netty_Input_Buffers_inPoolUsage",
        "Shuffle_Netty_Input_Buffers_inputQueueLength",
        "Shuffle_Netty_Output_Buffers_outPoolUsage",
        "operator_currentOutputWatermark",
        "operator_numLateRecordsDropped",
    ]
    .map(|name| format!("flink_taskmanager_job_task_{name}"));
    let mut names: Vec<&str> = task.iter().map(String::as_str).collect();
    names.extend([
        "flink_taskmanager_Status_Shuffle_Netty_TotalMemory",
        "flink_taskmanager_Status_Flink_Memory_Managed_Total",
        "flink_taskmanager_Status_JVM_CPU_Time",
        "process_open_fds",
    ]);
    expect(&cluster.taskmanagers[0], &names);
}

#[test]
fn a_prometheus_reporter_of_flinks_configuration_gets_its_port() {
    // Two ports that are free now, next to each other.
    let from = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let first = (from..60_000)
        .step_by(7)
        .find(|&port| [port, port + 1].iter().all(|&p| std::net::TcpListener::bind(("127.0.0.1", p)).is_ok()));
    let first = first.unwrap();
    let range = format!("metrics.reporter.prom.port={first}-{}", first + 1);
    let class = "metrics.reporter.prom.factory.class=org.apache.flink.metrics.prometheus.PrometheusReporterFactory";
    let cluster = Cluster::start(1, 1, &[class, &range]);
    let ports: Vec<u16> = [&cluster.jobmanager, &cluster.taskmanagers[0]]
        .map(|p| p.ready["metrics"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap())
        .to_vec();
    assert_eq!(ports, [first, first + 1], "each process takes the first that is free");
    assert!(scrape(&format!("127.0.0.1:{first}")).contains("flink_jobmanager_taskSlotsTotal"));
}

#[test]
fn logs_in_json_say_whose_step_it_was_and_hold_no_secret() {
    let secret = "correct-horse-battery-staple";
    let key = format!("s3.secret-key={secret}");
    let options = [key.as_str(), "s3.access-key=reader", "hurtig.log.format=JSON", "hurtig.no.such=1"];
    let setup = Setup { environment: vec![("RUST_LOG", "debug,h2=info".into())], ..Setup::default() };
    let cluster = Cluster::start_as(setup, 1, &options);
    let id = cluster.insert(&format!(
        "SET 's3.secret-key' = '{secret}'; {NUMBERS} CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nowhere SELECT n FROM numbers;"
    ));
    cluster.wait_running(&id);
    let (_, _, errors) = run(&["jobs", "cancel", &id, "--cluster", &cluster.address()]);
    assert_eq!(errors, "");
    cluster.wait_for(&id, "it is cancelled", |job| job["state"] == "CANCELED");
    let lines = |process: &Process| -> Vec<Value> {
        let text = process.logged();
        assert!(!text.contains(secret), "a secret is in the log");
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(parse).collect()
    };
    let jobmanager = lines(&cluster.jobmanager);
    let warned = |line: &&Value| line["message"].as_str().is_some_and(|m| m.starts_with("hurtig.no.such is not"));
    let warning = jobmanager.iter().find(warned).expect("a line about the unknown key");
    assert_eq!(warning["level"], "WARN");
    assert!(warning["timestamp"].is_string() && warning["target"].is_string(), "{warning}");
    let of_job = |line: &&Value| line["span"]["name"] == "job" && line["span"]["job"] == id.as_str();
    assert!(jobmanager.iter().any(|line| of_job(&line)), "{jobmanager:#?}");
    let ended = wait_until("the task's end is logged", || {
        let lines = lines(&cluster.taskmanagers[0]);
        lines.into_iter().find(|line| line["message"] == "task ended")
    });
    let span = &ended["span"];
    assert_eq!((&span["name"], &span["job"]), (&Value::from("task"), &Value::from(id.as_str())), "{ended}");
    assert!(span["vertex"].is_string() && span["subtask"] == 0 && span["attempt"] == 0, "{ended}");
}

#[test]
fn the_format_of_logs_can_be_chosen_by_flag_and_by_environment() {
    let misspelt = |command: &mut Command| {
        let output = command.args(["sql", "-e", "SELECT 1 AS n", "-D", "my.own.key=1"]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let line = errors.lines().find(|l| l.contains("my.own.key")).unwrap_or_else(|| panic!("{errors}")).to_owned();
        serde_json::from_str::<Value>(&line).is_ok()
    };
    assert!(!misspelt(&mut hurtig()));
    assert!(misspelt(hurtig().args(["--log-format", "json"])));
    assert!(misspelt(hurtig().env("HURTIG_LOG_FORMAT", "json")));
    assert!(
        !misspelt(hurtig().env("HURTIG_LOG_FORMAT", "json").args(["--log-format", "text"])),
        "the flag comes first"
    );
}

#[test]
fn a_cluster_says_where_everything_is_and_whether_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let (code, text, errors) = run(&["cluster", "start", "-n", "1", "--dir", &dir, "-D", "jobmanager.rpc.port=0"]);
    assert_eq!(code, Some(0), "{errors}");
    let log = folder.path().join("taskmanager-0.log").display().to_string();
    for part in ["jobmanager", "taskmanager-0", "/metrics", &log, "hurtig jobs list --cluster", "hurtig cluster stop"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (code, text, _) = run(&["cluster", "status", "--dir", &dir]);
    assert_eq!(code, Some(0), "{text}");
    let (_, json, _) = run(&["cluster", "status", "--json", "--dir", &dir]);
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["processes"].as_array().unwrap().len(), 2, "{status}");
    let taskmanager = status["processes"].as_array().unwrap().iter().find(|p| p["name"] == "taskmanager-0").unwrap();
    let kill = Command::new("kill").args(["-9", &taskmanager["pid"].to_string()]).status().unwrap();
    assert!(kill.success());
    let text = wait_until("the loss shows", || {
        let (code, text, _) = run(&["cluster", "status", "--dir", &dir]);
        (code == Some(1) && text.contains("GONE")).then_some(text)
    });
    assert!(text.contains("jobmanager"), "{text}");
    let (code, _, errors) = run(&["cluster", "stop", "--dir", &dir]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, _, _) = run(&["cluster", "status", "--dir", &dir]);
    assert_eq!(code, Some(10), "nothing is known of a cluster any more");
}

#[test]
fn exit_codes_tell_kinds_of_errors_apart() {
    let (code, _, errors) = run(&["jobs", "list", "--no-such-flag"]);
    assert_eq!(code, Some(5), "{errors}");
    let (code, help, _) = run(&["--help"]);
    assert!(code == Some(0) && help.contains("--log-format"), "{help}");
    assert_eq!(run(&["sql", "-e", "SELEC 1"]).0, Some(2));
    assert_eq!(run(&["sql", "-e", "SELECT * FROM missing"]).0, Some(3));
    let cluster = Cluster::start(1, 1, &[]);
    let address = cluster.address();
    assert_eq!(run(&["jobs", "show", &"0".repeat(32), "--cluster", &address]).0, Some(10));
    let failing = format!("{NUMBERS} SELECT 1 / (n - n) AS x FROM numbers");
    for arguments in [vec!["sql", "-e", &failing], vec!["sql", "--cluster", &address, "-e", &failing]] {
        let (code, _, errors) = run(&arguments);
        assert_eq!(code, Some(6), "{errors}");
        assert!(errors.contains("zero"), "{errors}");
    }
}
