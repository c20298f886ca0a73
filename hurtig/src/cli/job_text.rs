//! What `hurtig jobs list|show|exceptions` and `hurtig doctor` show to people: figures as short
//! text, in tables.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use hurtig::v1;

use super::resources::bytes_text;

/// Figures that are older are not what a task does now.
pub const STALE_MS: i64 = 10_000;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `340 ms`, `4.2 s`, `3 min 12 s`, `5 h 2 min`, `12 d 3 h`.
pub fn duration_text(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60_000..3_600_000 => format!("{minutes} min {} s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A moment as `2026-11-25 03:04:05 UTC`.
pub fn time_text(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{ms} ms after 1970"),
    }
}

fn ago(ms: i64, now: i64) -> String {
    format!("{} ago", duration_text(now - ms))
}

/// Columns as wide as their widest cell; numbers are told by the caller to be aligned right.
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings; one that begins with '>' is aligned right.
    pub fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        Table { right, rows: vec![headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, each line indented by `indent`. Columns without any content are left out.
    pub fn text(&self, indent: &str) -> String {
        let columns = 0..self.right.len();
        let filled = |&c: &usize| self.rows.len() == 1 || self.rows[1..].iter().any(|r| !r[c].is_empty());
        let shown: Vec<usize> = columns.filter(filled).collect();
        let width = |c: usize| self.rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let cells = shown.iter().map(|&c| {
                let (cell, width) = (&row[c], width(c));
                if self.right[c] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{indent}{}", line.trim_end());
        }
        text
    }
}

/// All jobs, a line each, with what is wrong below.
pub fn list(jobs: &[v1::JobStatus], now: i64) -> String {
    let mut table = Table::new(&["ID", "STATE", "SINCE", ">RESTARTS", "LAST CHECKPOINT", ">FAILED", "NAME"]);
    for job in jobs {
        let since = match job.state.as_str() {
            _ if job.end_time_ms != 0 => ago(job.end_time_ms, now),
            "RUNNING" if job.running_since_ms != 0 => duration_text(now - job.running_since_ms),
            _ => duration_text(now - job.start_time_ms),
        };
        table.row(vec![
            job.job_id.clone(),
            job.state.clone(),
            since,
            job.restarts.to_string(),
            last_checkpoint(job, now),
            job.checkpoints_failed.to_string(),
            job.name.clone(),
        ]);
    }
    let mut text = table.text("");
    for job in jobs.iter().filter(|j| j.end_time_ms == 0 && j.state != "RUNNING") {
        let why = if job.waiting_for.is_empty() { &job.root_cause } else { &job.waiting_for };
        if !why.is_empty() {
            let _ = writeln!(text, "\n{} is {}: {}", job.job_id, job.state, first_line(why));
        }
    }
    text
}

fn last_checkpoint(job: &v1::JobStatus, now: i64) -> String {
    match (job.last_checkpoint, job.checkpoint_interval_ms) {
        (0, 0) => "off".to_owned(),
        (0, _) => "none".to_owned(),
        (id, _) => format!("{id}, {}", ago(job.last_checkpoint_time_ms, now)),
    }
}

/// The first line of a message that may have several.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A job with its subtasks.
pub fn show(details: &v1::JobDetails, now: i64) -> String {
    let status = details.status.clone().unwrap_or_default();
    let mut text = String::new();
    head(&mut text, &status, details, now);
    for vertex in &details.vertices {
        let _ = writeln!(text, "\n{}  (parallelism {})", vertex.name, vertex.parallelism);
        text.push_str(&subtasks(vertex, now));
    }
    text
}

fn head(text: &mut String, job: &v1::JobStatus, details: &v1::JobDetails, now: i64) {
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    line("job", format!("{}  {}", job.job_id, job.name));
    line("state", state(job, now));
    line("restarts", job.restarts.to_string());
    line("checkpoint", checkpoint(job, now));
    if job.pending_checkpoint != 0 {
        let since = duration_text(now - job.pending_checkpoint_since_ms);
        let awaits = match job.pending_checkpoint_awaits.as_slice() {
            [] => "being made durable".to_owned(),
            tasks => format!("waits for {}", tasks.join(", ")),
        };
        line("", format!("{} under way for {since}: {awaits}", job.pending_checkpoint));
    }
    if !job.last_checkpoint_failure.is_empty() {
        let when = ago(job.last_checkpoint_failure_time_ms, now);
        line("", format!("last failure, {when}: {}", job.last_checkpoint_failure));
    }
    if job.checkpoint_interval_ms != 0 {
        let lost = "; lost with the JobManager: set execution.checkpointing.dir";
        let note = if job.checkpoint_directory_is_temporary { lost } else { "" };
        line("folder", format!("{}{note}", job.checkpoint_directory));
    }
    if job.restored_checkpoint != 0 {
        line("restored", restored(job, details, now));
    }
    if !job.waiting_for.is_empty() {
        line("waiting", job.waiting_for.clone());
    }
    if !job.root_cause.is_empty() {
        line("root cause", job.root_cause.clone());
        // The failure that it was: where, and when.
        let last = details.failures.iter().rev().find(|f| f.message == job.root_cause);
        if let Some(failure) = last.or(details.failures.last()) {
            let place = if failure.taskmanager.is_empty() { "" } else { ", TaskManager " };
            let when = time_text(failure.time_ms);
            line("", format!("{when} ({}){place}{}", ago(failure.time_ms, now), failure.taskmanager));
        }
    }
}

fn state(job: &v1::JobStatus, now: i64) -> String {
    let state = &job.state;
    if job.end_time_ms != 0 {
        let ran = duration_text(job.end_time_ms - job.start_time_ms);
        return format!("{state} {}, after {ran}", ago(job.end_time_ms, now));
    }
    let started = ago(job.start_time_ms, now);
    if job.running_since_ms != 0 {
        return format!("{state} for {}, submitted {started}", duration_text(now - job.running_since_ms));
    }
    match job.restart_due_ms - now {
        wait if job.restart_due_ms != 0 && wait > 0 => format!("{state}, next attempt in {}", duration_text(wait)),
        _ => format!("{state}, submitted {started}"),
    }
}

fn checkpoint(job: &v1::JobStatus, now: i64) -> String {
    let counts = format!("{} completed, {} failed", job.checkpoints_completed, job.checkpoints_failed);
    match (job.last_checkpoint, job.checkpoint_interval_ms) {
        (0, 0) => "off: set execution.checkpointing.interval to survive failures".to_owned(),
        (0, interval) => format!("none yet, every {}; {counts}", duration_text(interval as i64)),
        (id, _) => format!(
            "{id}, {}, took {}, {} ({} uploaded); {counts}",
            ago(job.last_checkpoint_time_ms, now),
            duration_text(job.last_checkpoint_duration_ms as i64),
            bytes_text(job.last_checkpoint_bytes),
            bytes_text(job.last_checkpoint_uploaded_bytes),
        ),
    }
}

/// The sum of the subtasks' reports; each has its own in the table.
fn restored(job: &v1::JobStatus, details: &v1::JobDetails, now: i64) -> String {
    let reports = details.vertices.iter().flat_map(|v| &v.subtasks).filter_map(|s| s.restore.as_ref());
    let (mut local, mut remote, mut longest) = (0, 0, 0);
    for report in reports.filter(|r| r.checkpoint_id == job.restored_checkpoint) {
        local += report.local_bytes;
        remote += report.remote_bytes;
        longest = longest.max(report.duration_ms);
    }
    format!(
        "checkpoint {}, {}: {} from local disk, {} from object storage, the slowest task in {}",
        job.restored_checkpoint,
        ago(job.restored_time_ms, now),
        bytes_text(local),
        bytes_text(remote),
        duration_text(longest as i64)
    )
}

fn subtasks(vertex: &v1::VertexDetails, now: i64) -> String {
    let mut table = Table::new(&[
        ">SUBTASK",
        ">ATTEMPT",
        "STATE",
        ">BUSY",
        ">BACKPR",
        "WAITS FOR",
        ">ROWS/S IN",
        ">ROWS/S OUT",
        ">ROWS IN",
        ">ROWS OUT",
        ">LATE",
        ">LAG",
        "CHECKPOINT",
        "RESTORED",
        ">REGION",
        "TASKMANAGER",
    ]);
    for s in &vertex.subtasks {
        let live = s.state == "RUNNING" && s.reported_time_ms != 0;
        let now_only = |text: String| if live { text } else { "-".to_owned() };
        table.row(vec![
            s.subtask.to_string(),
            s.attempt.to_string(),
            s.state.clone(),
            now_only(percent(s.busy_ms_per_second)),
            now_only(percent(s.backpressured_ms_per_second)),
            if live { waits_for(s, now) } else { "-".to_owned() },
            now_only(rate(s.records_in_per_second)),
            now_only(rate(s.records_out_per_second)),
            s.records_in.to_string(),
            s.records_out.to_string(),
            if s.late_records_dropped == 0 { String::new() } else { s.late_records_dropped.to_string() },
            watermark_lag(s.watermark_ms, now),
            if s.checkpoint == 0 {
                String::new()
            } else {
                format!("{}, {}, {}", s.checkpoint, ago(s.checkpoint_time_ms, now), bytes_text(s.checkpoint_bytes))
            },
            s.restore.as_ref().map(restore).unwrap_or_default(),
            s.region.to_string(),
            s.taskmanager.clone(),
        ]);
    }
    table.text("  ")
}

fn percent(ms_per_second: u32) -> String {
    format!("{} %", ms_per_second.min(1000) / 10)
}

fn rate(rows: f64) -> String {
    match rows {
        r if r >= 100_000_000.0 => format!("{:.0} M", r / 1e6),
        r if r >= 1_000_000.0 => format!("{:.1} M", r / 1e6),
        r if r >= 10_000.0 => format!("{:.0} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

/// What the subtask waits for, or how long it has been busy with one step.
pub fn waits_for(s: &v1::SubtaskDetails, now: i64) -> String {
    if now - s.reported_time_ms > STALE_MS {
        return format!("no figures for {}", duration_text(now - s.reported_time_ms));
    }
    if s.step_ms > 1000 {
        return format!("in one step for {}", duration_text(s.step_ms as i64));
    }
    match s.blocked_ms {
        _ if s.blocked_on.is_empty() => String::new(),
        0..1000 => s.blocked_on.clone(),
        ms => format!("{} for {}", s.blocked_on, duration_text(ms as i64)),
    }
}

/// How far event time is behind the clock.
fn watermark_lag(watermark_ms: i64, now: i64) -> String {
    match watermark_ms {
        i64::MIN => "none".to_owned(),
        i64::MAX => "end".to_owned(),
        w if w > now => format!("-{}", duration_text(w.saturating_sub(now))),
        w => duration_text(now.saturating_sub(w)),
    }
}

fn restore(report: &v1::RestoreReport) -> String {
    format!(
        "{}: {} local, {} remote in {}",
        report.checkpoint_id,
        bytes_text(report.local_bytes),
        bytes_text(report.remote_bytes),
        duration_text(report.duration_ms as i64)
    )
}

/// What has failed, newest first.
pub fn exceptions(details: &v1::JobDetails, now: i64) -> String {
    let status = details.status.clone().unwrap_or_default();
    let mut text = String::new();
    if details.failures.is_empty() {
        let _ = writeln!(text, "job {} ({}) has not failed", status.job_id, status.state);
        return text;
    }
    if !status.root_cause.is_empty() {
        let _ = writeln!(text, "root cause  {}\n", status.root_cause);
    }
    for failure in details.failures.iter().rev() {
        let _ = writeln!(text, "{} ({})", time_text(failure.time_ms), ago(failure.time_ms, now));
        if !failure.taskmanager.is_empty() {
            let _ = writeln!(text, "  TaskManager  {}", failure.taskmanager);
        }
        if !failure.task.is_empty() {
            let _ = writeln!(text, "  task         {}", failure.task);
        }
        for line in failure.message.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates_are_short() {
        for (ms, text) in [
            (340, "340 ms"),
            (4_250, "4.2 s"),
            (192_000, "3 min 12 s"),
            (18_120_000, "5 h 2 min"),
            (1_047_600_000, "12 d 3 h"),
            (-5, "0 ms"),
        ] {
            assert_eq!(duration_text(ms), text);
        }
        let rates = [3.4, 9_999.0, 12_345.0, 1_234_567.0, 250_000_000.0].map(rate);
        assert_eq!(rates, ["3", "9999", "12 k", "1.2 M", "250 M"]);
        assert_eq!(
            [i64::MIN, i64::MAX, 5_000, 9_500].map(|w| watermark_lag(w, 9_000)),
            ["none", "end", "4.0 s", "-500 ms"]
        );
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be_and_leaves_out_what_is_empty() {
        let mut table = Table::new(&[">N", "EMPTY", "NAME"]);
        table.row(vec!["1".into(), String::new(), "a".into()]);
        table.row(vec!["22".into(), String::new(), "bc".into()]);
        assert_eq!(table.text("  "), "   N  NAME\n   1  a\n  22  bc\n");
    }

    fn job() -> v1::JobDetails {
        let subtask = v1::SubtaskDetails {
            state: "RUNNING".into(),
            busy_ms_per_second: 123,
            backpressured_ms_per_second: 870,
            blocked_on: "output".into(),
            blocked_ms: 65_000,
            reported_time_ms: 99_500,
            watermark_ms: 90_000,
            records_in: 7,
            checkpoint: 4,
            checkpoint_time_ms: 95_000,
            checkpoint_bytes: 2048,
            taskmanager: "tm-1".into(),
            restore: Some(v1::RestoreReport { checkpoint_id: 3, local_bytes: 1 << 20, ..Default::default() }),
            ..Default::default()
        };
        let status = v1::JobStatus {
            job_id: "a1".into(),
            name: "orders".into(),
            state: "RUNNING".into(),
            start_time_ms: 1_000,
            running_since_ms: 40_000,
            restarts: 1,
            root_cause: "sink (1/1) failed: disk full".into(),
            last_checkpoint: 4,
            last_checkpoint_time_ms: 95_000,
            checkpoint_interval_ms: 1000,
            restored_checkpoint: 3,
            restored_time_ms: 39_000,
            pending_checkpoint: 5,
            pending_checkpoint_since_ms: 96_000,
            pending_checkpoint_awaits: vec!["agg (1/1)".into()],
            ..Default::default()
        };
        let failure = v1::FailureRecord {
            time_ms: 38_000,
            message: status.root_cause.clone(),
            task: "sink (1/1)".into(),
            taskmanager: "tm-1".into(),
            ..Default::default()
        };
        v1::JobDetails {
            status: Some(status),
            vertices: vec![v1::VertexDetails {
                name: "agg".into(),
                parallelism: 1,
                subtasks: vec![subtask],
                ..Default::default()
            }],
            failures: vec![failure],
            ..Default::default()
        }
    }

    #[test]
    fn a_job_shows_what_decides_at_night() {
        let text = show(&job(), 100_000);
        for part in [
            "RUNNING for 1 min 0 s, submitted 1 min 39 s ago",
            "4, 5.0 s ago",
            "5 under way for 4.0 s: waits for agg (1/1)",
            "checkpoint 3, 1 min 1 s ago: 1024 kB from local disk",
            "root cause  sink (1/1) failed: disk full",
            "(1 min 2 s ago), TaskManager tm-1",
            "12 %",
            "87 %",
            "output for 1 min 5 s",
            "10.0 s",
            "4, 5.0 s ago, 2048 B",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let failures = exceptions(&job(), 100_000);
        assert!(failures.contains("TaskManager  tm-1") && failures.contains("disk full"), "{failures}");
        let mut stopped = job();
        stopped.vertices[0].subtasks[0].reported_time_ms = 60_000;
        assert!(show(&stopped, 100_000).contains("no figures for 40.0 s"));
    }

    #[test]
    fn a_list_says_why_a_job_does_not_run() {
        let mut status = job().status.unwrap();
        status.state = "RESTARTING".into();
        let text = list(&[status], 100_000);
        assert!(text.contains("a1 is RESTARTING: sink (1/1) failed: disk full"), "{text}");
        assert!(text.contains("4, 5.0 s ago"), "{text}");
    }
}
