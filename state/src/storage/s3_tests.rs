//! The S3 store against a real HTTP server.

use std::sync::Barrier;
use std::time::Duration;

use super::tests::{check_contract, check_races};
use super::*;
use hurtig_testkit::{Fault, FaultKind, S3Server};

fn configuration(server: &S3Server, changes: &[(&str, &str)]) -> Configuration {
    let mut configuration = Configuration::default();
    configuration.set("s3.endpoint", server.endpoint());
    configuration.set("s3.path.style.access", "true");
    configuration.set("s3.access-key", "access");
    configuration.set("s3.secret-key", "secret");
    for (key, value) in changes {
        configuration.set(*key, *value);
    }
    configuration
}

fn start() -> (S3Server, ObjectStores) {
    let server = S3Server::start("flink", "access", "secret");
    let stores = ObjectStores::new(configuration(&server, &[]), None);
    (server, stores)
}

fn fault(method: &str, path: &str, times: usize, kind: FaultKind) -> Fault {
    Fault { method: method.into(), path_contains: path.into(), times, kind }
}

#[test]
fn s3_keeps_the_contract_under_all_schemes() {
    let (_server, stores) = start();
    for scheme in ["s3", "s3a", "s3p"] {
        check_contract(&stores, &format!("{scheme}://flink/{scheme}"));
    }
}

#[test]
fn of_concurrent_creators_exactly_one_succeeds() {
    let (server, stores) = start();
    check_races(&stores, "s3p://flink/x");
    assert_eq!(server.requests().iter().filter(|r| r.status == 412).count(), 6);
}

#[test]
fn of_creators_whose_answers_are_lost_exactly_one_succeeds() {
    let (server, stores) = start();
    for round in 0..5 {
        let uri = format!("s3p://flink/race-{round}");
        server.inject(fault("PUT", &format!("race-{round}"), 3, FaultKind::LostAnswer));
        let barrier = Barrier::new(2);
        let won: Vec<bool> = std::thread::scope(|scope| {
            let attempt = |content: &'static str| {
                barrier.wait();
                match stores.blocking().put_if_absent(&uri, Bytes::from_static(content.as_bytes())) {
                    Ok(_) => true,
                    Err(StateError::Conflict(_)) => false,
                    Err(e) => panic!("{e}"),
                }
            };
            let other = scope.spawn(move || attempt("a"));
            let mine = {
                barrier.wait();
                stores.blocking().put_if_absent(&uri, Bytes::from_static(b"b")).is_ok()
            };
            vec![other.join().unwrap(), mine]
        });
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "{won:?}");
        assert_eq!(stores.blocking().get(&uri).unwrap(), if won[0] { "a" } else { "b" });
    }
}

#[test]
fn a_lost_answer_is_resolved_by_reading_back() {
    let (server, stores) = start();
    let blocking = stores.blocking();
    let uri = "s3p://flink/HEAD";
    server.inject(fault("PUT", "HEAD", 1, FaultKind::LostAnswer));
    let first = blocking.put_if_absent(uri, Bytes::from_static(b"one")).unwrap();
    assert_eq!((server.count("PUT", "HEAD"), server.count("GET", "HEAD")), (2, 1));
    server.inject(fault("PUT", "HEAD", 1, FaultKind::LostAnswer));
    let second = blocking.compare_and_swap(uri, &first, Bytes::from_static(b"two")).unwrap();
    assert_eq!(blocking.get_versioned(uri).unwrap(), (Bytes::from_static(b"two"), second.clone()));
    // With no answer lost, a refusal is a refusal even if the same content is there.
    let refused = blocking.compare_and_swap(uri, &first, Bytes::from_static(b"two")).unwrap_err();
    assert!(matches!(refused, StateError::Conflict(_)));
    // A lost answer to a write that was refused stays a refusal.
    server.inject(fault("PUT", "HEAD", 1, FaultKind::LostAnswer));
    let refused = blocking.compare_and_swap(uri, &first, Bytes::from_static(b"three")).unwrap_err();
    assert!(matches!(refused, StateError::Conflict(_)));
    assert_eq!(blocking.get(uri).unwrap(), "two");
}

/// "Certainly not written" would let the caller delete what the object names.
#[test]
fn an_error_behind_a_lost_answer_leaves_the_write_in_doubt() {
    let (server, stores) = start();
    let blocking = stores.blocking();
    let uri = "s3p://flink/HEAD";
    server.inject(fault("PUT", "HEAD", 1, FaultKind::LostAnswer));
    server.inject(fault("PUT", "HEAD", 1, FaultKind::Status(403)));
    let version = blocking.put_if_absent(uri, Bytes::from_static(b"one")).unwrap();
    server.inject(fault("PUT", "HEAD", 1, FaultKind::LostAnswer));
    server.inject(fault("PUT", "HEAD", 1, FaultKind::Status(403)));
    server.inject(fault("GET", "HEAD", 1, FaultKind::Status(403)));
    let error = blocking.compare_and_swap(uri, &version, Bytes::from_static(b"two")).unwrap_err();
    assert!(matches!(&error, StateError::Storage(m) if m.starts_with("it is not known")), "{error}");
    assert_eq!(blocking.get(uri).unwrap(), "two");
    // Without a lost answer the same refusal is certain.
    server.inject(fault("PUT", "HEAD", 1, FaultKind::Status(403)));
    let error = blocking.compare_and_swap(uri, &version, Bytes::from_static(b"three")).unwrap_err();
    assert!(matches!(error, StateError::Config(_)), "{error}");
}

/// S3 answers one of two conditional writes at the same time with 409: nothing is decided yet. An object
/// that has these digits in its name is none the less refused at once.
#[test]
fn a_concurrent_write_is_tried_again_and_a_refused_one_is_not_whatever_its_name() {
    let (server, stores) = start();
    let blocking = stores.blocking();
    for uri in ["s3p://flink/chk-409/_metadata", "s3p://flink/other"] {
        server.clear_log();
        server.inject(fault("PUT", "", 2, FaultKind::Conflict));
        let version = blocking.put_if_absent(uri, Bytes::from_static(b"one")).unwrap();
        assert_eq!(server.count("PUT", ""), 3, "{uri}");
        let error = blocking.put_if_absent(uri, Bytes::from_static(b"two")).unwrap_err();
        assert!(matches!(error, StateError::Conflict(_)), "{error}");
        assert_eq!(server.count("PUT", ""), 4, "{uri}");
        server.inject(fault("PUT", "", 2, FaultKind::Conflict));
        blocking.compare_and_swap(uri, &version, Bytes::from_static(b"two")).unwrap();
        assert_eq!(server.count("PUT", ""), 7, "{uri}");
        assert_eq!(blocking.get(uri).unwrap(), "two");
    }
}

#[test]
fn what_may_pass_is_tried_again_and_ends() {
    let (server, stores) = start();
    let blocking = stores.blocking();
    server.inject(fault("PUT", "a", 2, FaultKind::Status(503)));
    blocking.put("s3://flink/a", Bytes::from_static(b"x")).unwrap();
    server.inject(fault("GET", "a", 1, FaultKind::Status(500)));
    server.inject(fault("GET", "a", 1, FaultKind::LostAnswer));
    assert_eq!(blocking.get("s3://flink/a").unwrap(), "x");
    server.inject(fault("PUT", "b", 2, FaultKind::Status(503)));
    blocking.put_if_absent("s3://flink/b", Bytes::from_static(b"x")).unwrap();

    let stores = ObjectStores::new(configuration(&server, &[("s3.max-error-retries", "1")]), None);
    server.clear_log();
    server.inject(fault("PUT", "never", 100, FaultKind::Status(503)));
    let error = stores.blocking().put("s3://flink/never", Bytes::new()).unwrap_err();
    assert!(matches!(&error, StateError::Storage(m) if m.contains("503")), "{error}");
    assert_eq!(server.count("PUT", "never"), 2);
    let error = stores.blocking().put_if_absent("s3://flink/never", Bytes::new()).unwrap_err();
    assert!(matches!(&error, StateError::Storage(m) if m.contains("503")), "{error}");
    assert_eq!(server.count("PUT", "never"), 4);
}

#[test]
fn wrong_keys_and_buckets_say_what_to_change() {
    let (server, _) = start();
    let endpoint = server.endpoint();
    let with = |changes: &[(&str, &str)]| ObjectStores::new(configuration(&server, changes), None);
    let put = |stores: &ObjectStores, uri: &str| {
        let plain = stores.blocking().put(uri, Bytes::from_static(b"x")).unwrap_err();
        let conditional = stores.blocking().put_if_absent(uri, Bytes::from_static(b"x")).unwrap_err();
        assert!(matches!((&plain, &conditional), (StateError::Config(_), StateError::Config(_))), "{plain}");
        plain.to_string()
    };
    assert_eq!(
        put(&with(&[("s3.secret-key", "wrong")]), "s3p://flink/x"),
        format!(
            "cannot write 's3p://flink/x': S3 at {endpoint} refuses the signature; check that 's3.secret-key' belongs \
             to access key 'access'"
        )
    );
    assert_eq!(
        put(&with(&[("s3.access-key", "nobody")]), "s3p://flink/x"),
        format!(
            "cannot write 's3p://flink/x': S3 at {endpoint} does not know access key 'nobody'; check 's3.access-key'"
        )
    );
    assert_eq!(
        put(&with(&[]), "s3p://other/x"),
        format!(
            "cannot write 's3p://other/x': bucket 'other' does not exist at {endpoint}; create it or correct the URI"
        )
    );
    let exists = with(&[("s3.secret-key", "wrong")]).blocking().exists("s3p://flink/x").unwrap_err();
    assert!(exists.to_string().contains("'s3.secret-key'"), "{exists}");
}

#[test]
fn an_unreachable_endpoint_is_named_with_its_key() {
    let (server, _) = start();
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let changes = [("s3.endpoint", endpoint.as_str()), ("s3.max-error-retries", "1")];
    let stores = ObjectStores::new(configuration(&server, &changes), None);
    for error in [
        stores.blocking().get("s3://flink/x").unwrap_err(),
        stores.blocking().put_if_absent("s3://flink/x", Bytes::new()).unwrap_err(),
    ] {
        assert!(matches!(error, StateError::Connection(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("cannot reach S3 at {endpoint}")) && text.contains("check 's3.endpoint'"),
            "{text}"
        );
    }
    let changes = [("s3.endpoint", "http://")];
    let error = ObjectStores::new(configuration(&server, &changes), None).blocking().get("s3://flink/x").unwrap_err();
    assert_eq!(error.to_string(), "s3.endpoint: 'http://' is not a URL: write http://host:port or https://host");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let (server, _) = start();
    let changes = [("s3.socket-timeout", "200 ms"), ("s3.max-error-retries", "1")];
    let stores = ObjectStores::new(configuration(&server, &changes), None);
    server.inject(fault("GET", "x", 10, FaultKind::Stall(Duration::from_secs(5))));
    let error = stores.blocking().get("s3://flink/x").unwrap_err();
    assert!(matches!(error, StateError::Connection(_)), "{error}");
}
