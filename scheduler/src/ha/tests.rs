//! The lease and the registry against a store that loses answers, and against each other.

use hurtig_proto::internal::v1::RegisteredJob;

use super::*;
use crate::storage::StorageError;

const SETTINGS: LeaseSettings = LeaseSettings { lease_ms: 3_000, retry_ms: 200 };

fn lease(name: &str) -> Lease {
    Lease::new(name.into(), format!("{name}:6123"), SETTINGS)
}

/// Carries out what the lease wants at once; gives what else it said.
fn settle(lease: &mut Lease, store: &mut MemoryHaStore, event: LeaseEvent, now: i64) -> Vec<LeaseAction> {
    let mut said = Vec::new();
    let mut todo = lease.handle(event, now);
    while !todo.is_empty() {
        let mut next = Vec::new();
        for action in todo {
            match action {
                LeaseAction::Store { ticket, request } => {
                    let reply = store.apply(&request);
                    next.extend(lease.handle(LeaseEvent::Reply { ticket, reply }, now));
                }
                other => said.push(other),
            }
        }
        todo = next;
    }
    said
}

fn leads(said: &[LeaseAction]) -> Option<u64> {
    said.iter().find_map(|action| match action {
        LeaseAction::Lead { epoch, .. } => Some(*epoch),
        _ => None,
    })
}

fn steps_down(said: &[LeaseAction]) -> bool {
    said.iter().any(|action| matches!(action, LeaseAction::StepDown { .. }))
}

#[test]
fn the_first_leads_and_the_second_watches_for_as_long_as_it_renews() {
    let (mut store, mut a, mut b) = (MemoryHaStore::default(), lease("a"), lease("b"));
    assert_eq!(leads(&settle(&mut a, &mut store, LeaseEvent::Tick, 0)), Some(1));
    for now in (0..20_000).step_by(100) {
        assert!(!steps_down(&settle(&mut a, &mut store, LeaseEvent::Tick, now)));
        // Its clock may be any.
        assert_eq!(leads(&settle(&mut b, &mut store, LeaseEvent::Tick, now + 7_000_000)), None);
    }
    assert_eq!(store.lease().unwrap().address, "a:6123");
    assert!(store.lease().unwrap().renewals > 15);
}

#[test]
fn a_dead_leader_is_followed_after_the_lease_time_and_the_epoch_rises() {
    let (mut store, mut a, mut b) = (MemoryHaStore::default(), lease("a"), lease("b"));
    settle(&mut a, &mut store, LeaseEvent::Tick, 0);
    let led = (0..10_000)
        .step_by(50)
        .find_map(|now| leads(&settle(&mut b, &mut store, LeaseEvent::Tick, now)).map(|epoch| (now, epoch)));
    assert_eq!(led, Some((3_750, 2)));
    // The first comes back from a pause: its time is over, and it says so before anything else.
    let said = settle(&mut a, &mut store, LeaseEvent::Tick, 4_000);
    assert!(steps_down(&said) && leads(&said).is_none());
    assert_eq!((a.epoch(), b.epoch()), (None, Some(2)));
}

#[test]
fn a_leader_whose_store_does_not_answer_steps_down_before_anyone_follows() {
    let (mut store, mut a) = (MemoryHaStore::default(), lease("a"));
    settle(&mut a, &mut store, LeaseEvent::Tick, 0);
    let mut down = None;
    for now in (1_000..5_000).step_by(50) {
        let mut todo = a.handle(LeaseEvent::Tick, now);
        while let Some(action) = todo.pop() {
            match action {
                LeaseAction::Store { ticket, request } => {
                    let reply = HaReply::of(&request, StorageError::Unavailable("no answer".into()));
                    todo.extend(a.handle(LeaseEvent::Reply { ticket, reply }, now));
                }
                LeaseAction::StepDown { .. } => down = down.or(Some(now)),
                _ => {}
            }
        }
    }
    assert_eq!(down, Some(3_000));
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_by_reading_back() {
    let (mut store, mut a) = (MemoryHaStore::default(), lease("a"));
    settle(&mut a, &mut store, LeaseEvent::Tick, 0);
    let mut actions = a.handle(LeaseEvent::Tick, 1_000);
    let Some(LeaseAction::Store { ticket, request }) = actions.pop() else { panic!("no renewal") };
    store.apply(&request);
    let reply = HaReply::of(&request, StorageError::Unavailable("no answer".into()));
    a.handle(LeaseEvent::Reply { ticket, reply }, 1_500);
    assert!(!steps_down(&settle(&mut a, &mut store, LeaseEvent::Tick, 1_700)));
    // It counts from when it was sent.
    assert!(!steps_down(&settle(&mut a, &mut store, LeaseEvent::Tick, 3_999)));
    assert_eq!(a.epoch(), Some(1));
}

#[test]
fn of_two_that_claim_one_leads() {
    let (mut store, mut a, mut b) = (MemoryHaStore::default(), lease("a"), lease("b"));
    let first = |lease: &mut Lease, store: &mut MemoryHaStore| {
        let mut actions = lease.handle(LeaseEvent::Tick, 0);
        let Some(LeaseAction::Store { ticket, request }) = actions.pop() else { panic!("no look") };
        let reply = store.apply(&request);
        lease.handle(LeaseEvent::Reply { ticket, reply }, 0)
    };
    let (claim_a, claim_b) = (first(&mut a, &mut store), first(&mut b, &mut store));
    let mut run = |lease: &mut Lease, mut todo: Vec<LeaseAction>| {
        let mut said = Vec::new();
        while let Some(action) = todo.pop() {
            match action {
                LeaseAction::Store { ticket, request } => {
                    let reply = store.apply(&request);
                    todo.extend(lease.handle(LeaseEvent::Reply { ticket, reply }, 10));
                }
                other => said.push(other),
            }
        }
        said
    };
    assert_eq!(leads(&run(&mut a, claim_a)), Some(1));
    let said = run(&mut b, claim_b);
    assert_eq!(leads(&said), None);
    assert!(said.iter().any(|s| matches!(s, LeaseAction::LeaderIs(Some(lease)) if lease.address == "a:6123")));
}

#[test]
fn an_orderly_end_lets_the_next_one_lead_at_once() {
    let (mut store, mut a, mut b) = (MemoryHaStore::default(), lease("a"), lease("b"));
    settle(&mut a, &mut store, LeaseEvent::Tick, 0);
    settle(&mut b, &mut store, LeaseEvent::Tick, 0);
    assert!(steps_down(&settle(&mut a, &mut store, LeaseEvent::Release, 500)));
    assert_eq!(leads(&settle(&mut b, &mut store, LeaseEvent::Tick, 600)), Some(2));
}

fn carry_out(registry: &mut Registry, store: &mut MemoryHaStore, todo: Vec<RegistryOutput>) -> Vec<RegistryOutput> {
    let (mut said, mut todo) = (Vec::new(), std::collections::VecDeque::from(todo));
    while let Some(output) = todo.pop_front() {
        match output {
            RegistryOutput::Call { ticket, request } => {
                let reply = store.apply(&request);
                todo.extend(registry.on_reply(ticket, reply, 0));
            }
            other => said.push(other),
        }
    }
    said
}

fn add(id: &str) -> Change {
    Change::Add(RegisteredJob { job_id: id.into(), attempts_below: 5, ..RegisteredJob::default() })
}

#[test]
fn a_deposed_leader_cannot_change_the_registry() {
    let mut store = MemoryHaStore::default();
    let [mut old, mut new] = [1, 2].map(|epoch| Registry::new(epoch, format!("leader-{epoch}")));
    let todo = old.claim();
    carry_out(&mut old, &mut store, todo);
    let todo = old.change(add("a"));
    assert_eq!(carry_out(&mut old, &mut store, todo), [RegistryOutput::Done(add("a"))]);
    let todo = new.claim();
    let said = carry_out(&mut new, &mut store, todo);
    let [RegistryOutput::Claimed(jobs)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(jobs[0].attempts_below, 5 + registry::ATTEMPT_BLOCK, "numbers of the old leader are not used again");
    let todo = old.change(add("b"));
    assert_eq!(carry_out(&mut old, &mut store, todo), [RegistryOutput::Deposed]);
    assert_eq!(store.registry().unwrap().jobs.len(), 1);
    let mut late = Registry::new(1, "late".into());
    let todo = late.claim();
    assert_eq!(carry_out(&mut late, &mut store, todo), [RegistryOutput::Deposed]);
}

#[test]
fn a_claim_wins_over_an_old_leader_that_writes_meanwhile() {
    let mut store = MemoryHaStore::default();
    let [mut old, mut new] = [1, 2].map(|epoch| Registry::new(epoch, format!("leader-{epoch}")));
    let todo = old.claim();
    carry_out(&mut old, &mut store, todo);
    let mut todo = new.claim();
    let Some(RegistryOutput::Call { ticket, request }) = todo.pop() else { panic!("no load") };
    let swap = new.on_reply(ticket, store.apply(&request), 0);
    let late = old.change(add("a"));
    carry_out(&mut old, &mut store, late);
    let said = carry_out(&mut new, &mut store, swap);
    assert!(matches!(&said[..], [RegistryOutput::Claimed(jobs)] if jobs.len() == 1), "{said:?}");
}

#[test]
fn changes_that_come_together_are_written_together_and_a_result_is_not_replaced() {
    let mut store = MemoryHaStore::default();
    let mut registry = Registry::new(1, "leader".into());
    let todo = registry.claim();
    carry_out(&mut registry, &mut store, todo);
    let mut todo = registry.change(add("a"));
    for state in ["FAILED", "FINISHED"] {
        let status = Box::new(hurtig_proto::v1::JobStatus { state: state.into(), ..Default::default() });
        todo.extend(registry.change(Change::Ended { job: "a".into(), status }));
    }
    todo.extend(registry.change(Change::Cleaned { job: "a".into() }));
    assert_eq!(carry_out(&mut registry, &mut store, todo).len(), 4);
    let stored = &store.registry().unwrap();
    assert_eq!(stored.changes, 3);
    assert_eq!(stored.jobs[0].result.as_ref().unwrap().state, "FAILED");
}
