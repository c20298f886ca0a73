use std::sync::Barrier;

use super::*;

/// The contract that every kind of store keeps.
pub(super) fn check_contract(stores: &ObjectStores, base: &str) {
    let blocking = stores.blocking();
    let a = join(base, "dir/a");
    assert!(matches!(blocking.get(&a), Err(StateError::NotFound(_))));
    assert!(!blocking.exists(&a).unwrap());
    blocking.put(&a, Bytes::from_static(b"one")).unwrap();
    blocking.put(&a, Bytes::from_static(b"0123456789")).unwrap();
    assert_eq!(blocking.get(&a).unwrap(), "0123456789");
    assert_eq!(blocking.get_range(&a, 2..5).unwrap(), "234");
    assert!(blocking.get_range(&a, 8..12).is_err());
    assert!(blocking.exists(&a).unwrap());

    let conflict = blocking.put_if_absent(&a, Bytes::from_static(b"two")).unwrap_err();
    assert_eq!(conflict.to_string(), format!("'{}' exists already", shown(&a)));
    let b = join(base, "dir/sub/b");
    let first = blocking.put_if_absent(&b, Bytes::from_static(b"first")).unwrap();
    let second = blocking.compare_and_swap(&b, &first, Bytes::from_static(b"second")).unwrap();
    let conflict = blocking.compare_and_swap(&b, &first, Bytes::from_static(b"third")).unwrap_err();
    assert_eq!(conflict.to_string(), format!("'{}' was changed by another writer", shown(&b)));
    assert_eq!(blocking.get_versioned(&b).unwrap(), (Bytes::from_static(b"second"), second.clone()));
    assert!(matches!(
        blocking.compare_and_swap(&join(base, "none"), &second, Bytes::new()),
        Err(StateError::Conflict(_))
    ));

    let listed: Vec<(String, u64)> =
        blocking.list(&join(base, "dir")).unwrap().into_iter().map(|o| (o.uri, o.size)).collect();
    assert_eq!(listed, vec![(a.clone(), 10), (b.clone(), 6)]);

    let directory = tempfile::tempdir().unwrap();
    let (source, copy) = (directory.path().join("source"), directory.path().join("copy"));
    let content: Vec<u8> = (0..20 << 20u32).map(|i| ((i * 7) >> 3) as u8).collect();
    std::fs::write(&source, &content).unwrap();
    let large = join(base, "large");
    blocking.put_file(&large, &source).unwrap();
    let hash = blocking.get_to_file(&large, 1..content.len() as u64, &copy).unwrap();
    assert_eq!(hash, xxhash_rust::xxh3::xxh3_128(&content[1..]));
    assert!(std::fs::read(&copy).unwrap() == content[1..]);

    blocking.delete(&a).unwrap();
    blocking.delete(&a).unwrap();
    assert!(!blocking.exists(&a).unwrap());
    blocking.delete_all(&join(base, "dir")).unwrap();
    assert_eq!(blocking.list(&join(base, "dir")).unwrap(), vec![]);
    assert_eq!(blocking.list(&join(base, "never")).unwrap(), vec![]);
}

/// Errors name a local file by its path.
fn shown(uri: &str) -> &str {
    uri.strip_prefix("file://").unwrap_or(uri)
}

/// Of concurrent creators, and then of concurrent swappers, exactly one succeeds.
pub(super) fn check_races(stores: &ObjectStores, base: &str) {
    let uri = join(base, "race");
    // Each race writes contents of its own: S3's version is a hash of the content, so that a swap to the
    // very same bytes does not change it.
    let race = |name: &str, attempt: &(dyn Fn(Bytes) -> Result<Version> + Sync)| {
        let barrier = Barrier::new(4);
        let won: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|i| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        match attempt(Bytes::from(format!("{name} {i}"))) {
                            Ok(_) => true,
                            Err(StateError::Conflict(_)) => false,
                            Err(e) => panic!("{e}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "{won:?}");
        let winner = won.iter().position(|w| *w).unwrap();
        assert_eq!(stores.blocking().get(&uri).unwrap(), format!("{name} {winner}"));
    };
    race("creator", &|content| stores.blocking().put_if_absent(&uri, content));
    let (_, version) = stores.blocking().get_versioned(&uri).unwrap();
    race("swapper", &|content| stores.blocking().compare_and_swap(&uri, &version, content));
}

#[test]
fn local_files_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let stores = ObjectStores::default();
    for base in [format!("file://{}/x", directory.path().display()), directory.path().join("y").display().to_string()] {
        check_contract(&stores, &base);
    }
    check_races(&stores, &directory.path().join("z").display().to_string());
}

#[test]
fn memory_keeps_the_contract() {
    let stores = ObjectStores::default();
    check_contract(&stores, "memory://test/x");
    check_races(&stores, "memory://test/y");
}

#[test]
fn stores_can_be_dropped_in_async_code() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stores = ObjectStores::default();
    stores.blocking().put("memory://a/b", Bytes::new()).unwrap();
    runtime.block_on(async move { drop(stores) });
}

#[test]
fn two_stores_do_not_share_memory() {
    let (a, b) = (ObjectStores::default(), ObjectStores::default());
    a.blocking().put("memory://m/k", Bytes::new()).unwrap();
    assert!(!b.blocking().exists("memory://m/k").unwrap());
    assert!(a.clone().blocking().exists("memory://m/k").unwrap());
}
