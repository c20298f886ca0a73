//! A query ends when the client that it belongs to has gone.

use super::*;

fn query() -> PlanBuilder {
    PlanBuilder::new().source("s", 1).collect("k", 1).edge(0, 1, forward())
}

const LIMIT: &[(&str, &str)] = &[("client.heartbeat.timeout", "60 s")];

#[test]
fn a_query_whose_reader_stays_away_is_cancelled_and_says_why() {
    let mut bench = Bench::new(query(), LIMIT, &[1]);
    bench.all_run();
    bench.event(JobEvent::ReaderAttached { reader: 1 });
    bench.at(10_000_000);
    assert_eq!(bench.job.state(), JobState::Running, "a reader that is there may take its time");
    bench.event(JobEvent::ReaderDetached { reader: 1 });
    assert_eq!(bench.job.deadline(), Some(10_060_000));
    bench.at(10_059_999);
    assert_eq!(bench.job.state(), JobState::Running);
    bench.at(10_060_000);
    assert_eq!(bench.shown(), ["cancel s[0]#0", "cancel k[0]#0"]);
    assert_eq!(bench.job.deadline(), None, "it is decided once");
    bench.state(0, "CANCELED");
    bench.state(1, "CANCELED");
    let status = bench.job.status();
    assert_eq!(status.state, "CANCELED");
    assert!(status.root_cause.contains("its client has gone"), "{}", status.root_cause);
    assert!(status.root_cause.contains("client.heartbeat.timeout"), "{}", status.root_cause);
    assert_eq!(bench.pool.free(), 1, "the slot is free");
}

#[test]
fn another_client_in_time_takes_the_query_over() {
    let mut bench = Bench::new(query(), LIMIT, &[1]);
    bench.all_run();
    bench.event(JobEvent::ReaderAttached { reader: 1 });
    bench.event(JobEvent::ReaderDetached { reader: 1 });
    bench.at(59_000);
    bench.event(JobEvent::ReaderAttached { reader: 2 });
    bench.at(1_000_000);
    assert_eq!(bench.job.state(), JobState::Running);
}

#[test]
fn a_query_that_nobody_ever_reads_ends_even_while_it_waits_for_slots() {
    let mut bench = Bench::new(query(), LIMIT, &[]);
    bench.at(60_000);
    assert_eq!(bench.job.state(), JobState::Canceled);
}

#[test]
fn a_query_that_restarts_is_given_up_too() {
    let pairs = [LIMIT, CHECKPOINTS].concat();
    let mut bench = Bench::new(query(), &pairs, &[1]);
    bench.all_run();
    bench.lose(0);
    assert_eq!(bench.job.state(), JobState::Restarting);
    bench.at(60_000);
    assert_eq!(bench.job.state(), JobState::Canceled);
}

#[test]
fn jobs_without_result_rows_and_jobs_without_a_limit_need_no_client() {
    for (plan, pairs) in [(pipelines(), LIMIT), (query(), &[("client.heartbeat.timeout", "0")][..])] {
        let mut bench = Bench::new(plan, pairs, &[2]);
        bench.all_run();
        assert_eq!(bench.job.deadline(), None);
    }
}
