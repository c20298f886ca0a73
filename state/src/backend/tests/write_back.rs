//! Generations: what is written when, and what a checkpoint holds.

use super::*;

#[test]
fn changes_between_checkpoints_are_written_in_their_order_and_none_while_one_is_frozen() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let early = backend.queue_write_back(vec![puts((1, 1), table, 0..2)]).map_err(drop).unwrap();
    assert!(backend.write_back_pending() && backend.written() < early);
    let frozen = backend.begin_checkpoint();
    assert_eq!((backend.generation(), frozen), (frozen, early + 1));
    assert!(!backend.may_write_back());
    assert!(backend.queue_write_back(vec![puts((9, 9), table, 0..1)]).is_err(), "later than the frozen checkpoint");
    // What was handed over first is written first, whoever comes first.
    let deletes: FrozenCell = Box::new(move |writer| writer.delete(&key(1, table, 0)));
    let snapshot = backend.snapshot(1, vec![deletes], &fixture.target(1)).unwrap().unwrap();
    assert_eq!((backend.written(), backend.write_back_pending()), (frozen, false));
    backend.write_queued().unwrap();
    assert_eq!(all_keys(&backend), vec![key(1, table, 1)]);
    let later = backend.queue_write_back(vec![puts((9, 9), table, 0..1)]).map_err(drop).unwrap();
    backend.write_queued().unwrap();
    assert_eq!(backend.written(), later);
    let restored = fixture.open(0, (0, 127), 1, &[snapshot]).unwrap();
    assert_eq!(all_keys(&restored), vec![key(1, table, 1)], "nothing later is in the checkpoint");
}

#[test]
fn operators_are_told_of_every_generation_and_link() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    let told = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&told);
    backend.on_write_back(Arc::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }));
    backend.queue_write_back(vec![puts((1, 1), table, 0..2)]).map_err(drop).unwrap();
    backend.write_queued().unwrap();
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1);
    backend.begin_checkpoint();
    backend.snapshot(1, vec![], &fixture.target(1)).unwrap();
    assert!(told.load(std::sync::atomic::Ordering::SeqCst) >= 3);
}

#[test]
fn without_room_on_the_disk_a_checkpoint_is_declined_and_nothing_is_lost() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let table = backend.register("op", &cell("c")).unwrap();
    backend.snapshot(1, vec![puts((1, 1), table, 0..2)], &fixture.target(1)).unwrap();
    fixture.rocks.reserve_on_disk(u64::MAX);
    let error = backend.snapshot(2, vec![puts((2, 2), table, 0..2)], &fixture.target(2)).unwrap_err();
    assert!(matches!(error, StateError::Storage(_)), "the task goes on: {error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(backend.check().is_ok());
    let overwrites: FrozenCell = Box::new(move |writer| writer.put(&key(2, table, 1), b"later"));
    assert!(backend.snapshot(3, vec![overwrites], &fixture.target(3)).is_err());
    fixture.rocks.reserve_on_disk(0);
    let snapshot = backend.snapshot(4, vec![], &fixture.target(4)).unwrap().unwrap();
    let restored = fixture.open(0, (0, 127), 4, &[snapshot]).unwrap();
    assert_eq!(all_keys(&restored), [expected_keys((1, 1), table, 0..2), expected_keys((2, 2), table, 0..2)].concat());
    assert_eq!(restored.multi_get(&[key(2, table, 1)]).unwrap(), vec![Some(b"later".to_vec())]);
}

#[test]
fn entries_that_have_expired_leave_the_database_when_it_compacts() {
    let fixture = Fixture::new();
    let backend = fixture.open(0, (0, 127), 0, &[]).unwrap();
    let mortal = backend.register("op", &cell("mortal")).unwrap();
    let other = backend.register("op", &cell("other")).unwrap();
    let old: Vec<Vec<u8>> = (0..10).map(|n| value(1, n)).collect();
    backend.expire(mortal, Arc::new(move |value| old.iter().any(|old| old == value)));
    let cells = || vec![puts((1, 1), mortal, 0..20), puts((1, 1), other, 0..20)];
    backend.snapshot(1, cells(), &fixture.target(1)).unwrap();
    backend.compact().unwrap();
    let expected = [expected_keys((1, 1), mortal, 10..20), expected_keys((1, 1), other, 0..20)].concat();
    assert_eq!(all_keys(&backend), expected);
}
