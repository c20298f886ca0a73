//! What the generator must be: the same however it is split, restarted or projected, and in the
//! proportions of the benchmark.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use hurtig_engine::clock::{Clock, VirtualClock};
use hurtig_engine::operator::RestoredState;
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_graph::RowSchema;

use super::NexmarkConnector;
use crate::connector::SourceConnector;
use crate::testing::{Collected, ContextOptions, context, options, poll, restored, schema};

const BID: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), \
    extra STRING";
const AUCTION: &str = "id BIGINT, `itemName` STRING, description STRING, `initialBid` BIGINT, reserve BIGINT, \
    `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING";
const PERSON: &str = "id BIGINT, name STRING, `emailAddress` STRING, `creditCard` STRING, city STRING, state STRING, \
    `dateTime` TIMESTAMP_LTZ(3), extra STRING";

fn events() -> String {
    format!("event_type INT, person ROW<{PERSON}>, auction ROW<{AUCTION}>, bid ROW<{BID}>, `dateTime` TIMESTAMP(3)")
}

fn spec(table: &str, columns: &str, more: &[(&str, &str)], projection: Option<Vec<usize>>) -> SourceSpec {
    let mut pairs = vec![("connector", "nexmark"), ("table", table), ("events.num", "20000")];
    pairs.extend(more);
    SourceSpec { options: options(&pairs), schema: schema(columns), projection }
}

fn output(spec: &SourceSpec) -> RowSchema {
    spec.projection.as_ref().map_or(spec.schema.clone(), |p| spec.schema.project(p))
}

fn open(spec: &SourceSpec, subtask: u32, parallelism: u32, restored: RestoredState) -> Box<dyn SourceReader> {
    let mut reader = NexmarkConnector.reader(spec).unwrap();
    let options = ContextOptions { subtask, parallelism, restored, ..ContextOptions::default() };
    reader.open(context(options).0).unwrap();
    reader
}

/// All rows that one of `parallelism` subtasks makes.
fn rows(spec: &SourceSpec, subtask: u32, parallelism: u32) -> Collected {
    let mut out = Collected::default();
    let mut reader = open(spec, subtask, parallelism, RestoredState::default());
    assert_eq!(poll(reader.as_mut(), usize::MAX, &mut out).unwrap(), SourceStatus::Finished);
    out
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

#[test]
fn any_parallelism_makes_the_same_events() {
    for (table, columns) in [("bid", BID), ("auction", AUCTION), ("person", PERSON), ("events", &events())] {
        let spec = spec(table, columns, &[], None);
        let whole = rows(&spec, 0, 1).rows(&spec.schema);
        let parts: Vec<String> = (0..7).flat_map(|s| rows(&spec, s, 7).rows(&spec.schema)).collect();
        assert!(sorted(parts) == sorted(whole.clone()), "{table}");
        assert!(whole == rows(&spec, 0, 1).rows(&spec.schema), "{table}");
    }
}

#[test]
fn a_projection_changes_no_value() {
    let whole = spec("bid", BID, &[], None);
    let all = rows(&whole, 0, 1);
    for columns in [vec![2], vec![6, 0], vec![4, 3], vec![]] {
        let projected = spec("bid", BID, &[], Some(columns.clone()));
        let found = rows(&projected, 0, 1).rows(&output(&projected));
        let expected: Vec<String> = all
            .batches
            .iter()
            .flat_map(|b| crate::testing::shown(&output(&projected), &b.records().project(&columns).unwrap()))
            .collect();
        assert!(found == expected, "{columns:?}");
    }
}

#[test]
fn the_tables_hold_the_same_events() {
    let wide = rows(&spec("events", &events(), &[], None), 0, 1);
    let mut kinds: BTreeMap<i32, usize> = BTreeMap::new();
    for batch in &wide.batches {
        let types = batch.column(0).as_primitive::<Int32Type>();
        for row in 0..batch.num_rows() {
            *kinds.entry(types.value(row)).or_default() += 1;
            for kind in 0..3 {
                assert_eq!(batch.column(1 + kind).is_valid(row), kind as i32 == types.value(row));
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [(0, 400), (1, 1200), (2, 18_400)]);
    for (column, table, columns) in [(1, "person", PERSON), (2, "auction", AUCTION), (3, "bid", BID)] {
        let spec = spec(table, columns, &[], None);
        let nested: Vec<String> = wide
            .batches
            .iter()
            .flat_map(|b| {
                let rows = b.column(column);
                let valid = arrow::compute::is_not_null(rows).unwrap();
                let rows = arrow::compute::filter(rows, &valid).unwrap();
                let fields = rows.as_struct();
                let records = arrow::array::RecordBatch::try_new(spec.schema.to_arrow(), fields.columns().to_vec());
                crate::testing::shown(&spec.schema, &records.unwrap())
            })
            .collect();
        assert!(nested == rows(&spec, 0, 1).rows(&spec.schema), "{table}");
    }
}

#[test]
fn a_restart_goes_on_with_the_next_event() {
    let spec = spec("bid", BID, &[], None);
    let mut out = Collected::default();
    let mut state = RestoredState::default();
    let mut checkpoint = 0;
    loop {
        let mut reader = open(&spec, 0, 1, state);
        let status = poll(reader.as_mut(), 1, &mut out).unwrap();
        checkpoint += 1;
        let snapshot = reader.snapshot(checkpoint).unwrap();
        poll(reader.as_mut(), 1, &mut Collected::default()).unwrap();
        state = restored(checkpoint, vec![snapshot]);
        if status == SourceStatus::Finished {
            break;
        }
    }
    assert!(checkpoint > 4);
    assert!(out.rows(&spec.schema) == rows(&spec, 0, 1).rows(&spec.schema));
}

#[test]
fn values_have_the_distributions_of_the_benchmark() {
    let out = rows(&spec("bid", BID, &[("events.num", "200000")], None), 0, 1);
    let (mut hot_auction, mut hot_bidder, mut hot_channel, mut extra, mut total) = (0, 0, 0, 0, 0);
    let mut last_time = i64::MIN;
    for batch in &out.batches {
        let ints = |i: usize| batch.column(i).as_primitive::<Int64Type>();
        let text = |i: usize| batch.column(i).as_string::<i32>();
        for row in 0..batch.num_rows() {
            total += 1;
            hot_auction += u32::from(ints(0).value(row) % 100 == 0);
            hot_bidder += u32::from(ints(1).value(row) % 100 == 1);
            assert!((100..=100_000_000).contains(&ints(2).value(row)));
            hot_channel += u32::from(!text(3).value(row).starts_with("channel-"));
            let url = text(4).value(row);
            assert!(url.starts_with("https://www.nexmark.com/") && url.split('/').count() == 7, "{url}");
            extra += text(6).value(row).len();
        }
        let times = batch.column(5).as_primitive::<TimestampMillisecondType>().values();
        assert!(times.is_sorted() && times[0] >= last_time);
        last_time = times[times.len() - 1];
    }
    assert_eq!(total, 184_000);
    let share = |n: u32| f64::from(n) / f64::from(total);
    assert!((0.49..0.53).contains(&share(hot_auction)), "{hot_auction}");
    assert!((0.74..0.78).contains(&share(hot_bidder)), "{hot_bidder}");
    assert!((0.48..0.52).contains(&share(hot_channel)), "{hot_channel}");
    assert!((66..70).contains(&(extra / total as usize)), "{extra}");
    // 10,000 events a second from the base time on.
    assert_eq!(last_time, 1_436_918_400_000 + 19_999);
}

#[test]
fn references_are_to_persons_and_auctions_that_exist_or_soon_will() {
    let auctions = rows(&spec("auction", AUCTION, &[], None), 0, 1);
    let mut next = 1000;
    for batch in &auctions.batches {
        let ints = |i: usize| batch.column(i).as_primitive::<Int64Type>();
        let times = |i: usize| batch.column(i).as_primitive::<TimestampMillisecondType>();
        for row in 0..batch.num_rows() {
            assert_eq!(ints(0).value(row), next);
            next += 1;
            assert!(ints(4).value(row) > ints(3).value(row));
            assert!(times(6).value(row) > times(5).value(row));
            assert!((1000..1000 + 400 + 10).contains(&ints(7).value(row)));
            assert!((10..15).contains(&ints(8).value(row)));
        }
    }
    let bids = rows(&spec("bid", BID, &[], None), 0, 1);
    let highest = bids.batches.iter().map(|b| *b.column(0).as_primitive::<Int64Type>().values().iter().max().unwrap());
    assert!((2190..2210 + 10).contains(&highest.max().unwrap()));
}

#[test]
fn times_can_be_out_of_order_within_groups() {
    let spec = spec("bid", BID, &[("out-of-order.group-size", "40"), ("tps", "1000")], Some(vec![5]));
    let mut times = Vec::new();
    for batch in &rows(&spec, 0, 1).batches {
        times.extend_from_slice(batch.column(0).as_primitive::<TimestampMillisecondType>().values());
    }
    assert!(!times.is_sorted());
    let mut maximum = i64::MIN;
    for time in times {
        maximum = maximum.max(time);
        assert!(maximum - time < 40);
    }
}

#[test]
fn events_can_come_at_their_times() {
    // 5,000 events of a second from 10 s on, on two subtasks: blocks of 200 ms by turns.
    let more = [("events.num", "5000"), ("tps", "5000"), ("base-time", "10000"), ("rate.by-event-time", "true")];
    let spec = spec("events", "`dateTime` TIMESTAMP(3)", &more, None);
    let clock = VirtualClock::at(9_990);
    let mut readers: Vec<_> = (0..2)
        .map(|subtask| {
            let mut reader = NexmarkConnector.reader(&spec).unwrap();
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            let options = ContextOptions { subtask, parallelism: 2, clock, ..ContextOptions::default() };
            reader.open(context(options).0).unwrap();
            reader
        })
        .collect();
    let mut emitted = 0;
    for now in (9_990_i64..11_010).step_by(10) {
        for reader in &mut readers {
            let mut out = Collected::default();
            poll(reader.as_mut(), usize::MAX, &mut out).unwrap();
            for batch in &out.batches {
                let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
                assert!(times.values().iter().all(|t| (now - 10..=now).contains(t)), "{now}: {times:?}");
                emitted += times.len();
            }
        }
        clock.advance(10);
    }
    assert_eq!(emitted, 5000);
}

#[test]
fn wrong_columns_are_refused_with_what_there_is() {
    let refused = |table: &str, columns: &str| {
        NexmarkConnector.info(&spec(table, columns, &[], None).options, &schema(columns)).unwrap_err().message
    };
    assert!(refused("bid", "auction BIGINT, prize BIGINT").contains("auction, bidder, price"));
    assert!(refused("bid", "auction INT").contains("must be BIGINT"));
    assert!(refused("events", "auction BIGINT").contains("must be a ROW"));
    assert!(refused("events", "price BIGINT").contains("'table' = 'bid'"));
    assert!(refused("bids", "auction BIGINT").contains("events, person, auction, bid"));
}
