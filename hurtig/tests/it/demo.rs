//! `hurtig demo` on the flights of 2013, as `make run` starts it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::hurtig;

fn demo(speed: &str, folder: &Path) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/flights.sql");
    let mut command = hurtig();
    command.args(["demo", "--file", script, "--speed", speed]).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

fn assert_empty(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The line that begins with `name`, without it.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no line begins with '{name}': {text}")).trim()
}

#[test]
fn a_year_of_flights_is_replayed_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo("max", folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(value(&text, "checkpoints ").starts_with("file://"), "{text}");
    assert!(text.contains("hurtig jobs list --cluster "), "{text}");
    let summary = &text[text.rfind("336776 rows in ").expect("all rows")..];
    assert!(summary.contains("checkpoints, the last of") && summary.contains("peak memory "), "{summary}");
    // Every airline's and airport's hour that had flights.
    let results: u64 = summary.lines().nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let rows = text.lines().filter(|line| line.starts_with("2013-")).count() as u64;
    assert_eq!((results, rows), (116_904, 116_904));
    assert_empty(folder.path());
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_can_run_again() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // The tests themselves may run in the background, where the signal is ignored.
        let inner = demo("year-in-30s", folder.path());
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(inner.get_program()).args(inner.get_args());
        command.env("TMPDIR", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("2013-01-01") {
            assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let address = value(&text, "JobManager ").to_owned();
        let metrics = value(&text, "metrics ").strip_prefix("http://").unwrap().trim_end_matches("/metrics").to_owned();
        for address in [&address, &metrics] {
            std::net::TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        }
        let output = hurtig().args(["jobs", "list", "--cluster", &address]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("RUNNING"));

        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(rest.contains("stopped by SIGINT"), "{rest}");
        for address in [&address, &metrics] {
            assert!(std::net::TcpStream::connect(address).is_err(), "{address} still answers");
        }
        assert_empty(folder.path());
    }
}
