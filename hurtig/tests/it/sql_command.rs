//! `hurtig sql`: results, errors and exit codes as its callers see them.

use std::io::Write;

use crate::harness::{Cluster, hurtig};

fn orders(folder: &std::path::Path) -> String {
    let path = folder.join("orders.csv");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"1,EUR,12.50\n2,USD,7.00\n3,EUR,20.00\n").unwrap();
    format!(
        "CREATE TABLE orders (id INT, currency STRING, amount DECIMAL(10, 2)) \
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');",
        path.display()
    )
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = hurtig().args(arguments).output().unwrap();
    (
        output.status.code().expect("ended by a signal"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_projection_and_filter_over_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{} SELECT id, amount FROM orders WHERE currency = 'EUR';", orders(folder.path()));
    let (code, out, err) = run(&["sql", "--changelog-json", "-e", &script]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"schema":[{"name":"id","type":"INT"},{"name":"amount","type":"DECIMAL(10, 2)"}]}"#,
            r#"{"op":"+I","row":[1,"12.50"]}"#,
            r#"{"op":"+I","row":[3,"20.00"]}"#,
        ]
    );
}

#[test]
fn an_updating_aggregate_ends_in_the_right_rows_embedded_and_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "SET 'parallelism.default' = '4'; {} SELECT currency, COUNT(*) AS n, SUM(amount) AS total FROM orders GROUP BY currency;",
        orders(folder.path())
    );
    let cluster = Cluster::start(3, 2, &[]);
    let address = cluster.address();
    for arguments in [vec![], vec!["--cluster", &address]] {
        let mut all = vec!["sql", "--changelog-json", "-e", &script];
        all.extend(arguments);
        let (code, out, err) = run(&all);
        assert_eq!(code, 0, "{err}");
        let mut rows = std::collections::BTreeMap::<String, i64>::new();
        for line in out.lines().skip(1) {
            let change: serde_json::Value = serde_json::from_str(line).unwrap();
            let sign = if change["op"].as_str().unwrap().starts_with('+') { 1 } else { -1 };
            *rows.entry(change["row"].to_string()).or_default() += sign;
        }
        rows.retain(|_, count| *count != 0);
        // Updates come with -U only if somebody needs it; fold by key then.
        let last: Vec<&String> = rows.keys().collect();
        assert!(last.contains(&&r#"["EUR",2,"32.50"]"#.to_owned()), "{out}");
        assert!(last.contains(&&r#"["USD",1,"7.00"]"#.to_owned()), "{out}");
    }
}

#[test]
fn mistakes_give_one_clear_message_and_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let table = orders(folder.path());
    for (script, code, message) in [
        (format!("{table} SELECT nothing FROM orders;"), 3, "nothing"),
        (format!("{table} SELEC id FROM orders;"), 2, "line 1"),
        ("SELECT * FROM missing;".to_owned(), 3, "missing"),
        (table.replace("'csv'", "'csw'") + " SELECT * FROM orders;", 3, "csw"),
        (table.replace("orders.csv", "nowhere.csv") + " SELECT * FROM orders;", 8, "nowhere.csv"),
        (
            "SET 'execution.checkpointing.intervall' = '1 s'; SELECT 1;".to_owned(),
            5,
            "execution.checkpointing.interval",
        ),
    ] {
        let (actual, out, err) = run(&["sql", "-e", &script]);
        assert_eq!(actual, code, "{script}\n{out}{err}");
        assert!(err.contains(message), "{script}\n{err}");
        assert!(!err.contains("panicked"), "{err}");
    }
}

#[test]
fn a_file_runs_to_its_end_if_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sql");
    std::fs::write(&file, "SELECT 1 AS n;\nSELECT nothing FROM nowhere;\nSELECT 2 AS n;\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = run(&["sql", "--changelog-json", "-f", file]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("nowhere") && err.contains("line 2"), "{err}");
    assert!(out.contains("[1]") && !out.contains("[2]"), "{out}");

    let (code, out, _) = run(&["sql", "--changelog-json", "--continue-on-error", "--file", file]);
    assert_eq!(code, 0, "every error has its line");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["row"], serde_json::json!([1]));
    assert_eq!(lines[2]["error"]["kind"], "VALIDATION");
    assert_eq!(lines.last().unwrap()["row"], serde_json::json!([2]));

    let (code, out, err) = run(&["sql", "--continue-on-error", "-f", file]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains('2'), "{out}");
    let (code, _, err) = run(&["sql", "-f", "/nowhere/script.sql"]);
    assert_eq!(code, 5);
    assert!(err.contains("/nowhere/script.sql"), "{err}");
}

#[test]
fn an_insert_gives_its_job_or_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(1, 1, &[]);
    let script = |out: &str| {
        format!(
            "CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '100',
               'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '100');
             CREATE TABLE b (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
             INSERT INTO b SELECT n FROM a;",
            folder.path().join(out).display()
        )
    };
    let (code, out, err) = run(&["sql", "--cluster", &cluster.address(), "-e", &script("one")]);
    assert_eq!(code, 0, "{err}");
    let id = out.trim().strip_prefix("job ").unwrap();
    cluster.wait_finished(id);
    let waiting = format!("SET 'table.dml-sync' = 'true'; {}", script("two"));
    let (code, out, err) = run(&["sql", "--cluster", &cluster.address(), "-e", &waiting]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    // Not a moment later.
    assert_eq!(crate::harness::lines_below(&folder.path().join("two")).len(), 100);
}
