//! What users get wrong: one clear message that says what to do, an exit code that is not 0, no panic,
//! nothing half done.

use serde_json::{Value, json};

use crate::harness::{Cluster, Process, hurtig};

/// Runs a command that must fail; gives its exit code and standard error.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = hurtig().args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal: {errors}"));
    assert!(code != 0 && code != 101, "{arguments:?} ended with {code}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let messages = errors.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(messages, 1, "one message: {errors}");
    (code, errors)
}

fn vertex(id: &str, operator: Value) -> Value {
    json!({"id": id, "parallelism": 1, "operator": operator})
}

fn source() -> Value {
    vertex(
        "source",
        json!({"source": {"options": {"connector": "datagen", "number-of-rows": "10"},
            "schema": {"fields": [{"name": "n", "type": "BIGINT"}]}}}),
    )
}

fn sink() -> Value {
    vertex("sink", json!({"sink": {"options": {"connector": "blackhole"}}}))
}

#[test]
fn graphs_that_make_no_sense_are_refused_with_the_field_and_leave_no_job() {
    let cluster = Cluster::start(1, 1, &[]);
    let calc = |id: &str| vertex(id, json!({"calc": {"filter": {"sql": "n > 1"}}}));
    let cycle = json!({
        "vertices": [source(), vertex("u", json!({"union": {}})), calc("c"), sink()],
        "edges": [{"from": "source", "to": "u"}, {"from": "u", "to": "c"}, {"from": "c", "to": "u"}, {"from": "c", "to": "sink"}]
    });
    let dangling = json!({"vertices": [source(), sink()], "edges": [{"from": "source", "to": "nowhere"}]});
    let no_kind = json!({"vertices": [source(), vertex("x", json!({})), sink()],
        "edges": [{"from": "source", "to": "x"}, {"from": "x", "to": "sink"}]});
    let unknown_operator = json!({"vertices": [source(), vertex("x", json!({"teleport": {}})), sink()], "edges": []});
    let unknown_column = json!({
        "vertices": [source(), vertex("c", json!({"calc": {"filter": {"sql": "m > 1"}}})), sink()],
        "edges": [{"from": "source", "to": "c"}, {"from": "c", "to": "sink"}]
    });
    for (name, graph, message) in [
        ("cycle", cycle, "cycle"),
        ("dangling", dangling, "nowhere"),
        ("no kind", no_kind, "vertices[1].operator"),
        ("unknown operator", unknown_operator, "teleport"),
        ("unknown column", unknown_column, "vertices[1].operator.calc.filter"),
    ] {
        let file = cluster.folder.path().join("graph.json");
        std::fs::write(&file, graph.to_string()).unwrap();
        let (code, errors) = failure(&["jobs", "submit", file.to_str().unwrap(), "--cluster", &cluster.address()]);
        // A field that job graphs do not have is found while the JSON is read.
        assert_eq!(code, if name == "unknown operator" { 2 } else { 3 }, "{name}: {errors}");
        assert!(errors.contains(message), "{name}: {errors}");
    }
    let output = hurtig().args(["jobs", "list", "--json", "--cluster", &cluster.address()]).output().unwrap();
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(jobs.as_array().map(Vec::len), Some(0), "{jobs}");
}

#[test]
fn a_misspelt_key_suggests_the_right_one() {
    let (code, errors) = failure(&["sql", "-D", "paralelism.default=2", "-e", "SELECT 1"]);
    assert_eq!(code, 5);
    assert!(errors.contains("parallelism.default"), "{errors}");
}

#[test]
fn a_wrong_value_names_its_key() {
    let (code, errors) = failure(&["jobmanager", "-D", "execution.checkpointing.interval=soon"]);
    assert_eq!(code, 5);
    assert!(errors.contains("execution.checkpointing.interval") && errors.contains("soon"), "{errors}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_, errors) = failure(&["jobmanager", "-D", &format!("jobmanager.rpc.port={port}")]);
    assert!(errors.contains(&port), "{errors}");
}

#[test]
fn another_interface_needs_the_flag() {
    let jobmanager = ["jobmanager", "-D", "jobmanager.bind-host=0.0.0.0", "-D", "jobmanager.rpc.port=0"];
    let address = ["-D", "jobmanager.rpc.address=127.0.0.1", "-D", "jobmanager.rpc.port=6123"];
    let taskmanager = [&["taskmanager", "-D", "taskmanager.bind-host=0.0.0.0"], address.as_slice()].concat();
    for arguments in [jobmanager.as_slice(), &taskmanager] {
        let (code, errors) = failure(arguments);
        assert_eq!(code, 5);
        assert!(errors.contains("refusing to listen on 0.0.0.0") && errors.contains("--insecure-network"), "{errors}");
    }
    let folder = tempfile::tempdir().unwrap();
    let allowed = [jobmanager.as_slice(), &["--insecure-network"]].concat();
    let process = Process::start(&allowed, folder.path().join("jobmanager.log"));
    assert!(process.ready["rpc"].as_str().unwrap().starts_with("0.0.0.0:"), "{}", process.ready);
}

#[test]
fn a_taskmanager_says_what_it_lacks() {
    let (code, errors) = failure(&["taskmanager"]);
    assert_eq!(code, 5);
    assert!(errors.contains("jobmanager.rpc.address is not set"), "{errors}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data_port = format!("taskmanager.data.port={port}");
    let (_, errors) = failure(&["taskmanager", "-D", "jobmanager.rpc.address=127.0.0.1", "-D", &data_port]);
    assert!(errors.contains(&port) && errors.contains("taskmanager.data.port"), "{errors}");
}

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    let s3 = hurtig_testkit::S3Server::start("flink", "access", "secret");
    let endpoint = format!("s3.endpoint={}", s3.endpoint());
    let keys = ["s3.access-key=access", "s3.secret-key=secret", &endpoint, "execution.checkpointing.interval=1 s"];
    let mut arguments = vec!["sql", "-D", "execution.checkpointing.dir=s3p://nowhere/checkpoints"];
    arguments.extend(keys.iter().flat_map(|key| ["-D", *key]));
    arguments.extend(["-e", "SELECT n FROM (VALUES (1)) AS t (n)"]);
    let (_, errors) = failure(&arguments);
    assert!(errors.contains("bucket 'nowhere' does not exist"), "{errors}");
}

#[test]
fn a_statement_that_fails_on_a_cluster_leaves_no_job() {
    let cluster = Cluster::start(1, 1, &[]);
    let table = "CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');
        CREATE TABLE b (n BIGINT) WITH ('connector' = 'blackhole');";
    for (statement, code, message) in [
        ("INSERT INTO b SELECT m FROM a;", 3, "'m'"),
        ("INSERT INTO c SELECT n FROM a;", 3, "default_database.c'"),
        ("INSERT INTO b SELECT n FROM a", 0, ""),
    ] {
        let script = format!("{table} {statement}");
        let output = hurtig().args(["sql", "--cluster", &cluster.address(), "-e", &script]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{statement}: {errors}");
        assert!(errors.contains(message), "{statement}: {errors}");
    }
    let output = hurtig().args(["jobs", "list", "--json", "--cluster", &cluster.address()]).output().unwrap();
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "only the one that is right: {jobs}");
}

#[test]
fn a_row_that_is_no_json_is_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    std::fs::write(&file, "{\"n\": 1}\n{\"n\": 2\n").unwrap();
    let script = format!(
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'); SELECT n FROM t;",
        file.display()
    );
    let (code, errors) = failure(&["sql", "-e", &script]);
    assert_eq!(code, 6);
    assert!(errors.contains("rows.json") && errors.contains("line 2"), "{errors}");
}

#[test]
fn a_wrong_option_value_names_the_option() {
    let script =
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = 'many'); SELECT n FROM t;";
    let (code, errors) = failure(&["sql", "-e", script]);
    assert_eq!(code, 3);
    assert!(errors.contains("rows-per-second") && errors.contains("many"), "{errors}");
}

#[test]
fn an_s3_endpoint_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("s3.endpoint=http://{free}");
    let (_, errors) = failure(&[
        "sql",
        "-D",
        "execution.checkpointing.interval=1 s",
        "-D",
        "execution.checkpointing.dir=s3p://nowhere/checkpoints",
        "-D",
        "s3.path.style.access=true",
        "-D",
        "s3.access-key=a",
        "-D",
        "s3.secret-key=b",
        "-D",
        &endpoint,
        "-e",
        "SELECT n FROM (VALUES (1)) AS t (n)",
    ]);
    assert!(errors.contains(&free.to_string()) || errors.contains("s3.endpoint"), "{errors}");
}
