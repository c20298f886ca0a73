//! Large sets: kept element by element.

use super::*;
use hurtig_state::backend::SnapshotTarget;

fn set_calls() -> Vec<v1::AggregateCall> {
    vec![
        v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) },
        v1::AggregateCall { distinct: true, ..call("LISTAGG", &[2]) },
        call("MIN", &[1]),
        call("MAX", &[1]),
        call("COLLECT", &[2]),
    ]
}

/// Values of a key that grow to hundreds and shrink again.
struct Values {
    random: Random,
    live: Vec<(i64, i64)>,
    growing: bool,
}

impl Values {
    fn next_rows(&mut self) -> Vec<String> {
        if self.live.len() > 400 || self.live.len() < 20 {
            self.growing = self.live.len() < 20;
        }
        (0..50)
            .map(|_| {
                let back = self.random.below(10) < if self.growing { 2 } else { 8 };
                let (kind, (key, value)) = if back && !self.live.is_empty() {
                    ("-D", self.live.swap_remove(self.random.below(self.live.len() as u64) as usize))
                } else {
                    let row = (self.random.below(3) as i64, self.random.below(300) as i64);
                    self.live.push(row);
                    ("+I", row)
                };
                format!("{kind}({key}, {value}, s{value})")
            })
            .collect()
    }
}

#[test]
fn sets_that_grow_and_shrink_give_the_same_with_restores_and_without_memory() {
    let input = schema(&["k BIGINT", "v BIGINT", "s STRING"]).unwrap();
    let description = aggregate(&[0], set_calls(), true);
    let operator = || Box::new(GroupAggregate::new(&description, &input).unwrap());
    for (seed, fixture) in
        [StateFixture::new(), StateFixture::with_memory(1), StateFixture::with_memory(60_000)].into_iter().enumerate()
    {
        let mut reference = open(&description, &input);
        let (mut harness, mut keyed) = fixture.open(operator(), &input, None);
        let mut values = Values { random: Random(seed as u64), live: Vec::new(), growing: true };
        for step in 0..100 {
            let rows = batch(&input, &values.next_rows()).unwrap();
            reference.process(rows.clone()).unwrap();
            harness.process(rows).unwrap();
            assert_eq!(harness.take_rows(), reference.take_rows(), "seed {seed} step {step}");
            harness.advance_clock(3).unwrap();
            if step % 7 == 3 {
                let checkpoint = fixture.checkpoint(&mut harness, &keyed, step + 1);
                if step % 3 == 0 {
                    drop((harness, keyed));
                    (harness, keyed) = fixture.open(operator(), &input, Some(&checkpoint));
                }
            }
        }
    }
}

#[test]
fn a_checkpoint_writes_the_elements_that_changed() {
    #[derive(Default)]
    struct Counts {
        puts: usize,
        deletes: usize,
        bytes: usize,
    }
    impl StateWriter for Counts {
        fn put(&mut self, key: &[u8], value: &[u8]) -> hurtig_state::error::Result<()> {
            self.puts += 1;
            self.bytes += key.len() + value.len();
            Ok(())
        }
        fn delete(&mut self, key: &[u8]) -> hurtig_state::error::Result<()> {
            self.deletes += 1;
            self.bytes += key.len();
            Ok(())
        }
        fn delete_range(&mut self, _: &[u8], _: &[u8]) -> hurtig_state::error::Result<()> {
            Ok(())
        }
    }
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let calls = vec![v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) }];
    let mut harness = open(&aggregate(&[0], calls, true), &input);
    let written = |harness: &mut Harness| {
        let mut counts = Counts::default();
        harness.snapshot(1).unwrap().keyed.into_iter().for_each(|cell| cell(&mut counts).unwrap());
        counts
    };
    let rows: Vec<String> = (0..5000).map(|v| format!("7, {v}")).collect();
    harness.process(batch(&input, &rows).unwrap()).unwrap();
    assert_eq!(written(&mut harness).puts, 5001);
    harness.process(batch(&input, &["+I(7, 5000)", "-D(7, 17)", "+I(7, 4)"]).unwrap()).unwrap();
    let counts = written(&mut harness);
    assert_eq!((counts.puts, counts.deletes), (3, 1), "the group, one new and one changed element; one is gone");
    assert!(counts.bytes < 300, "{} bytes", counts.bytes);
    assert!(written(&mut harness).puts == 0, "nothing has changed");
}

#[test]
fn a_group_with_a_large_set_that_goes_leaves_nothing_behind() {
    let input = schema(&["k BIGINT", "v BIGINT"]).unwrap();
    let calls = vec![v1::AggregateCall { distinct: true, ..call("COUNT", &[1]) }];
    let description = aggregate(&[0], calls, true);
    let fixture = StateFixture::new();
    let (mut harness, keyed) = fixture.open(Box::new(GroupAggregate::new(&description, &input).unwrap()), &input, None);
    let rows = |kind: &str| -> Vec<String> { (0..500).map(|v| format!("{kind}(7, {v})")).collect() };
    harness.process(batch(&input, &rows("+I")).unwrap()).unwrap();
    fixture.checkpoint(&mut harness, &keyed, 1);
    let all = || keyed.scan(&[0; 4], &[0xff; 4], usize::MAX).unwrap().len();
    assert_eq!(all(), 501);
    harness.process(batch(&input, &rows("-D")).unwrap()).unwrap();
    let snapshot = harness.snapshot(2).unwrap();
    keyed.snapshot(2, snapshot.keyed, &SnapshotTarget::checkpoint("memory://c/job", 2)).unwrap();
    assert_eq!(all(), 0);
}
