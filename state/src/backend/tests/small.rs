//! State without a database, and its way into one.

use super::*;

/// A new attempt whose checkpoints carry up to `inline` bytes.
fn open(
    fixture: &Fixture,
    inline: u64,
    key_groups: (u32, u32),
    checkpoint: u64,
    restore: &[v1::KeyedSnapshot],
) -> KeyedBackend {
    KeyedBackend::open(BackendConfig { inline_bytes: inline, ..fixture.config(0, key_groups, checkpoint, restore) })
        .unwrap()
}

#[test]
fn small_state_has_neither_files_nor_objects_and_comes_back() {
    let fixture = Fixture::new();
    let backend = open(&fixture, 20_000, (0, 127), 0, &[]);
    let table = backend.register("op", &cell("c")).unwrap();
    backend.snapshot(1, vec![puts((1, 4), table, 0..3)], &fixture.target(1)).unwrap();
    let deletes: FrozenCell = Box::new(move |writer| {
        writer.delete(&key(1, table, 1))?;
        writer.delete_range(&key(2, table, 1), &key(2, table, 3))
    });
    let snapshot = backend.snapshot(2, vec![deletes], &fixture.target(2)).unwrap().unwrap();
    let left = vec![
        key(1, table, 0),
        key(1, table, 2),
        key(2, table, 0),
        key(3, table, 0),
        key(3, table, 1),
        key(3, table, 2),
        key(4, table, 0),
        key(4, table, 1),
        key(4, table, 2),
    ];
    assert_eq!(all_keys(&backend), left);
    assert_eq!(backend.multi_get(&[key(1, table, 1), key(1, table, 2)]).unwrap(), vec![None, Some(value(1, 2))]);
    assert_eq!(backend.scan(&key(3, table, 1), &key(4, table, 1), 2).unwrap().len(), 2);
    assert_eq!((snapshot.files.len(), snapshot.entries.len(), snapshot.format_version), (0, 9, 2));
    assert_eq!(fixture.objects(), Vec::<String>::new());
    assert!(!fixture.directory.path().join("live-0").exists());

    let restored = open(&fixture, 20_000, (0, 127), 2, std::slice::from_ref(&snapshot));
    assert_eq!(restored.register("op", &cell("c")).unwrap(), table);
    assert!(restored.restored());
    assert_eq!(all_keys(&restored), left);
    // Rescaled: each part takes its key groups.
    let upper = open(&fixture, 20_000, (3, 127), 2, std::slice::from_ref(&snapshot));
    assert_eq!(all_keys(&upper), left[3..]);
}

#[test]
fn state_that_grows_moves_into_a_database_and_stays_there() {
    let fixture = Fixture::new();
    let backend = open(&fixture, 1000, (0, 127), 0, &[]);
    let table = backend.register("op", &cell("c")).unwrap();
    let small = backend.snapshot(1, vec![puts((5, 5), table, 0..4)], &fixture.target(1)).unwrap().unwrap();
    assert_eq!((small.entries.len(), small.files.len()), (4, 0));
    let large = backend.snapshot(2, vec![puts((6, 7), table, 0..40)], &fixture.target(2)).unwrap().unwrap();
    assert!(large.entries.is_empty() && !large.files.is_empty());
    assert_eq!(large.format_version, 1, "an older version can read it");
    let expected = [expected_keys((5, 5), table, 0..4), expected_keys((6, 7), table, 0..40)].concat();
    assert_eq!(all_keys(&backend), expected);
    let everything: FrozenCell = Box::new(move |writer| writer.delete_range(&key(5, table, 0), &key(8, table, 0)));
    let emptied = backend.snapshot(3, vec![everything], &fixture.target(3)).unwrap().unwrap();
    assert!(emptied.entries.is_empty(), "it does not move back");
    let restored = open(&fixture, 1000, (0, 127), 2, &[large]);
    assert_eq!(all_keys(&restored), expected);
}

#[test]
fn donors_with_and_without_files_are_restored_into_one() {
    let fixture = Fixture::new();
    let parts: Vec<v1::KeyedSnapshot> = [(0, 49, 2_u64), (50, 127, 200)]
        .into_iter()
        .map(|(first, last, rows)| {
            let backend = open(&fixture, 1000, (first, last), 0, &[]);
            // The tables have other numbers in each.
            if first == 0 {
                backend.register("op", &cell("other")).unwrap();
            }
            let table = backend.register("op", &cell("c")).unwrap();
            let cells = vec![puts((last, last), table, 0..rows)];
            backend.snapshot(1, cells, &fixture.target(1)).unwrap().unwrap()
        })
        .collect();
    assert!(parts[0].files.is_empty() && parts[1].entries.is_empty());
    let restored = open(&fixture, 1000, (0, 127), 1, &parts);
    let table = restored.register("op", &cell("c")).unwrap();
    let expected = [expected_keys((49, 49), table, 0..2), expected_keys((127, 127), table, 0..200)].concat();
    assert_eq!(all_keys(&restored), expected);
    // All small: together they may need a database.
    let small: Vec<v1::KeyedSnapshot> = [(0, 63), (64, 127)]
        .into_iter()
        .map(|groups| {
            let backend = open(&fixture, 1000, groups, 0, &[]);
            let table = backend.register("op", &cell("c")).unwrap();
            backend.snapshot(1, vec![puts((groups.0, groups.0), table, 0..7)], &fixture.target(1)).unwrap().unwrap()
        })
        .collect();
    assert!(small.iter().all(|s| s.files.is_empty()));
    let merged = open(&fixture, 1000, (0, 127), 1, &small);
    let table = merged.register("op", &cell("c")).unwrap();
    assert_eq!(all_keys(&merged), [expected_keys((0, 0), table, 0..7), expected_keys((64, 64), table, 0..7)].concat());
    let next = merged.snapshot(2, vec![], &fixture.target(2)).unwrap().unwrap();
    assert!(!next.files.is_empty());
}
