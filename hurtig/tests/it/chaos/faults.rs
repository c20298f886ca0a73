//! The faults of a schedule: how each is made, how long it lasts, and by what it is seen to have had an
//! effect. A new kind is an entry of [`Kind`] and of [`KINDS`], and a function here.

use std::time::{Duration, Instant};

use hurtig_testkit::{Conditions, Dice, FaultKind, Host, RandomFaults};

use super::cluster::{ChaosCluster, HEARTBEAT_TIMEOUT, LEADERS_CHECKPOINTS, LEASE, Seen};
use crate::harness::hurtig;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9` of a TaskManager, which comes back as itself with its disk.
    Kill,
    /// `kill -9` of a TaskManager, in whose place a new one comes.
    Replace,
    /// SIGSTOP for less than the heartbeat timeout.
    Pause,
    /// SIGSTOP for more than the heartbeat timeout, then SIGCONT: a zombie.
    Zombie,
    /// What one process sends another is lost.
    CutOneWay,
    /// Two processes cannot reach each other.
    CutBothWays,
    /// A TaskManager and the JobManager cannot reach each other for more than the heartbeat timeout.
    Partition,
    /// A TaskManager receives at a few kilobytes a second.
    SlowLink,
    /// The object store answers late.
    StorageLatency,
    /// The object store answers 503.
    StorageErrors,
    /// The object store does what it is asked, and the answer is lost.
    StorageLostAnswers,
    /// Answers of the object store end halfway.
    StoragePartialBodies,
    /// The object store answers conditional writes with 409.
    StorageConflicts,
    /// Some requests to the object store take seconds.
    StorageStalls,
    /// The object store cannot be reached.
    StorageOutage,
    /// `kill -9` of the JobManager that leads, which comes back to stand by.
    KillLeader,
    /// SIGSTOP of the JobManager that leads until the other one leads, then SIGCONT.
    ZombieLeader,
    /// The job is given another parallelism.
    Rescale,
    /// SIGTERM of a TaskManager, which leaves in order, and in whose place a new one comes.
    Decommission,
}

/// All kinds, in the order in which schedules deal them.
pub const KINDS: [Kind; 19] = [
    Kind::Kill,
    Kind::StorageErrors,
    Kind::KillLeader,
    Kind::Zombie,
    Kind::StorageConflicts,
    Kind::CutOneWay,
    Kind::StorageLatency,
    Kind::Rescale,
    Kind::Replace,
    Kind::StorageLostAnswers,
    Kind::Partition,
    Kind::ZombieLeader,
    Kind::StorageStalls,
    Kind::Pause,
    Kind::Decommission,
    Kind::StorageOutage,
    Kind::CutBothWays,
    Kind::StoragePartialBodies,
    Kind::SlowLink,
];

/// What a fault came to.
#[derive(Debug)]
pub struct Strike {
    /// The job's state when it struck.
    pub state: String,
    /// What was done to whom.
    pub what: String,
    /// What was seen of it. `None`: nothing.
    pub effect: Option<String>,
    /// It was a partition, outlasted the heartbeat timeout, and the JobManager gave a TaskManager up.
    pub outlasted: bool,
}

/// Makes the fault, waits as long as it lasts, ends it, and says what was seen.
pub fn strike(kind: Kind, cluster: &mut ChaosCluster<'_>, job: &str, dice: &mut Dice) -> Strike {
    let before = cluster.see(job);
    let state = before.state.clone();
    if !before.runs() {
        return Strike { state, what: format!("{kind:?}"), effect: None, outlasted: false };
    }
    let (what, effect) = match kind {
        Kind::Kill | Kind::Replace => kill(kind == Kind::Kill, cluster, job, dice, &before),
        Kind::Pause => pause(cluster, job, dice, &before),
        Kind::Zombie => zombie(cluster, job, dice, &before),
        Kind::CutOneWay | Kind::CutBothWays => cut(kind == Kind::CutBothWays, cluster, job, dice, &before),
        Kind::Partition => partition(cluster, job, dice, &before),
        Kind::SlowLink => slow_link(cluster, job, dice, &before),
        Kind::KillLeader => kill_leader(cluster, job, dice, &before),
        Kind::ZombieLeader => zombie_leader(cluster, job, dice, &before),
        Kind::Decommission => decommission(cluster, job, dice, &before),
        Kind::Rescale => rescale(cluster, job, dice, &before),
        Kind::StorageLatency => latency(cluster, job, dice, &before),
        Kind::StorageOutage => outage(cluster, job, dice, &before),
        Kind::StorageErrors => storage(cluster, job, dice, &before, FaultKind::Status(503), 400),
        Kind::StorageLostAnswers => storage(cluster, job, dice, &before, FaultKind::LostAnswer, 300),
        Kind::StoragePartialBodies => storage(cluster, job, dice, &before, FaultKind::PartialBody, 500),
        Kind::StorageConflicts => storage(cluster, job, dice, &before, FaultKind::Conflict, 600),
        Kind::StorageStalls => {
            let stall = FaultKind::Stall(Duration::from_millis(dice.between(500, 2_500)));
            storage(cluster, job, dice, &before, stall, 300)
        }
    };
    let outlasted = kind == Kind::Partition && effect.is_some();
    Strike { state, what, effect, outlasted }
}

fn millis(dice: &mut Dice, least: u64, most: u64) -> Duration {
    Duration::from_millis(dice.between(least, most))
}

/// One of the TaskManagers that run something, by its position.
fn victim(cluster: &ChaosCluster<'_>, dice: &mut Dice, seen: &Seen) -> usize {
    let in_use = seen.in_use();
    let candidates: Vec<usize> =
        (0..cluster.members.len()).filter(|&i| in_use.contains(&cluster.members[i].resource_id)).collect();
    *dice.pick(&candidates)
}

fn restarted(before: &Seen, after: &Seen) -> Option<String> {
    (after.restarts > before.restarts || after.attempts() > before.attempts()).then(|| {
        format!(
            "restarts {} -> {}, attempts {} -> {} ({})",
            before.restarts,
            after.restarts,
            before.attempts(),
            after.attempts(),
            after.root_cause
        )
    })
}

fn failed_checkpoints(before: &Seen, after: &Seen) -> Option<String> {
    (after.failed_checkpoints > before.failed_checkpoints)
        .then(|| format!("failed checkpoints {} -> {}", before.failed_checkpoints, after.failed_checkpoints))
}

/// Lets `time` pass. Tells whether no checkpoint completed in it but for one that was nearly done.
fn no_checkpoint_for(cluster: &ChaosCluster<'_>, job: &str, time: Duration) -> Option<String> {
    let grace = Duration::from_millis(250);
    std::thread::sleep(grace);
    let start = cluster.try_see(job);
    std::thread::sleep(time.saturating_sub(grace));
    let Some(start) = start else { return Some("no JobManager leads".into()) };
    let Some(end) = cluster.try_see(job) else { return Some("no JobManager leads".into()) };
    (start.last_checkpoint == end.last_checkpoint && !end.has_ended())
        .then(|| format!("no checkpoint after {} for {} ms", start.last_checkpoint, time.as_millis()))
}

fn kill(
    as_itself: bool,
    cluster: &mut ChaosCluster<'_>,
    job: &str,
    dice: &mut Dice,
    before: &Seen,
) -> (String, Option<String>) {
    let index = victim(cluster, dice, before);
    let what = format!("kill -9 {}", cluster.members[index].resource_id);
    cluster.kill(index);
    std::thread::sleep(millis(dice, 0, 1_500));
    cluster.restart(index, as_itself);
    let after = cluster.watch(job, HEARTBEAT_TIMEOUT * 2, |seen| restarted(before, seen).is_some());
    (what, after.and_then(|after| restarted(before, &after)))
}

fn pause(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let member = &cluster.members[victim(cluster, dice, before)];
    let time = millis(dice, 1_200, 2_500);
    member.process.pause();
    let effect = no_checkpoint_for(cluster, job, time);
    member.process.resume();
    (format!("SIGSTOP {} for {} ms", member.resource_id, time.as_millis()), effect)
}

fn zombie(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let member = &cluster.members[victim(cluster, dice, before)];
    let time = HEARTBEAT_TIMEOUT + millis(dice, 1_000, 3_000);
    // Uploads of the checkpoint under way are answered while it sleeps: when it wakes it wants to
    // acknowledge.
    cluster.proxy.set(Conditions { stall_answers: true, ..Conditions::default() });
    std::thread::sleep(millis(dice, 300, 600));
    member.process.pause();
    cluster.proxy.set(Conditions::default());
    std::thread::sleep(time);
    let after = cluster.watch(job, HEARTBEAT_TIMEOUT, |seen| restarted(before, seen).is_some());
    member.process.resume();
    (
        format!("SIGSTOP {} for {} ms", member.resource_id, time.as_millis()),
        after.and_then(|after| restarted(before, &after)),
    )
}

fn decommission(cluster: &mut ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let index = victim(cluster, dice, before);
    let what = format!("SIGTERM {}", cluster.members[index].resource_id);
    cluster.members[index].process.signal("TERM");
    let after = cluster.watch(job, HEARTBEAT_TIMEOUT * 2, |seen| restarted(before, seen).is_some());
    let start = Instant::now();
    let ended = loop {
        match cluster.members[index].process.ended() {
            Some(status) => break format!("it ended with {status}"),
            None if start.elapsed() > HEARTBEAT_TIMEOUT * 2 => break "it was killed in the end".to_owned(),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    cluster.kill(index);
    cluster.restart(index, false);
    (what, after.and_then(|after| restarted(before, &after)).map(|effect| format!("{effect}, {ended}")))
}

/// What is seen of the job under a new leader.
fn followed(cluster: &ChaosCluster<'_>, job: &str, before: &Seen) -> Option<String> {
    let after = cluster.watch(job, LEASE * 4, |seen| {
        seen.has_ended() || seen.last_checkpoint > before.last_checkpoint + LEADERS_CHECKPOINTS
    })?;
    let tasks = restarted(before, &after).unwrap_or_else(|| "no task restarted".into());
    let (from, to) = (before.last_checkpoint, after.last_checkpoint);
    Some(format!("the other JobManager leads, checkpoints {from} -> {to}, {tasks}"))
}

fn kill_leader(cluster: &mut ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let leader = cluster.leader();
    let what = format!("kill -9 JobManager {leader}");
    cluster.kill_jobmanager(leader);
    std::thread::sleep(millis(dice, 0, 1_500));
    cluster.restart_jobmanager(leader);
    (what, followed(cluster, job, before))
}

fn zombie_leader(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let leader = cluster.leader();
    let process = &cluster.jobmanagers[leader].process;
    process.pause();
    std::thread::sleep(LEASE + millis(dice, 500, 2_000));
    let effect = followed(cluster, job, before);
    process.resume();
    (format!("SIGSTOP JobManager {leader} until another leads"), effect)
}

fn rescale(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    // Two slots can be missing.
    let widths: Vec<usize> = (1..=4).filter(|&width| width != before.width()).collect();
    let width = *dice.pick(&widths);
    let arguments = ["jobs", "rescale", job, "--parallelism", &width.to_string(), "--cluster", &cluster.addresses()];
    let output = hurtig().args(arguments).output().unwrap();
    let what = format!("rescale from {} to {width}", before.width());
    if !output.status.success() {
        return (format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()), None);
    }
    let after = cluster.watch(job, HEARTBEAT_TIMEOUT * 2, |seen| seen.runs() && seen.width() == width);
    (what, after.and_then(|after| restarted(before, &after)))
}

/// Cuts, sees what happens in `time`, and mends.
fn cut_for(
    cluster: &ChaosCluster<'_>,
    ways: &[(Host, Host)],
    job: &str,
    time: Duration,
    before: &Seen,
) -> Option<String> {
    for &(from, to) in ways {
        cluster.network.cut(from, to).unwrap();
    }
    let silent = no_checkpoint_for(cluster, job, time);
    for &(from, to) in ways {
        cluster.network.mend(from, to).unwrap();
    }
    let after = cluster.see(job);
    restarted(before, &after).or_else(|| failed_checkpoints(before, &after)).or(silent)
}

fn cut(
    both_ways: bool,
    cluster: &ChaosCluster<'_>,
    job: &str,
    dice: &mut Dice,
    before: &Seen,
) -> (String, Option<String>) {
    let index = victim(cluster, dice, before);
    let a = cluster.members[index].host;
    let mut others: Vec<Host> = cluster.members.iter().map(|m| m.host).filter(|&host| host != a).collect();
    others.push(cluster.leader_host());
    let b = *dice.pick(&others);
    let time = millis(dice, 1_500, 6_000);
    let (from, to) = if dice.chance(500) { (a, b) } else { (b, a) };
    let ways = [(from, to), (to, from)];
    let ways = if both_ways { &ways[..] } else { &ways[..1] };
    let effect = cut_for(cluster, ways, job, time, before);
    let arrow = if both_ways { "<->" } else { "->" };
    (format!("cut {} {arrow} {} for {} ms", from.address(), to.address(), time.as_millis()), effect)
}

fn partition(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let member = &cluster.members[victim(cluster, dice, before)];
    let (a, b) = (member.host, cluster.leader_host());
    let time = HEARTBEAT_TIMEOUT + millis(dice, 1_000, 3_000);
    cluster.network.cut(a, b).unwrap();
    cluster.network.cut(b, a).unwrap();
    std::thread::sleep(time);
    let after = cluster.watch(job, HEARTBEAT_TIMEOUT, |seen| restarted(before, seen).is_some());
    cluster.network.mend(a, b).unwrap();
    cluster.network.mend(b, a).unwrap();
    (
        format!("cut {} <-> JobManager for {} ms", member.resource_id, time.as_millis()),
        after.and_then(|after| restarted(before, &after)),
    )
}

fn slow_link(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let member = &cluster.members[victim(cluster, dice, before)];
    let (kilobits, time) = (dice.between(64, 256) as u32, millis(dice, 2_000, 4_000));
    cluster.network.slow_down(member.host, kilobits).unwrap();
    std::thread::sleep(time);
    let held = cluster.network.held_back(member.host).unwrap();
    let after = cluster.see(job);
    cluster.network.speed_up(member.host).unwrap();
    let effect = (held > 0).then(|| {
        let more = restarted(before, &after).or_else(|| failed_checkpoints(before, &after)).unwrap_or_default();
        format!("{held} packets held back or dropped {more}")
    });
    (format!("{} receives {kilobits} kbit/s for {} ms", member.resource_id, time.as_millis()), effect)
}

fn latency(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let latency = millis(dice, 50, 400);
    let time = millis(dice, 2_000, 4_000);
    let earlier = cluster.proxy.figures();
    cluster.proxy.set(Conditions { latency, jitter: latency / 2, ..Conditions::default() });
    std::thread::sleep(time);
    let delayed = cluster.proxy.figures().delayed - earlier.delayed;
    cluster.proxy.set(Conditions::default());
    let after = cluster.see(job);
    let effect = (delayed > 0).then(|| {
        format!("{delayed} packets late, checkpoints {} -> {}", before.last_checkpoint, after.last_checkpoint)
    });
    (format!("S3 answers {} ms late for {} ms", latency.as_millis(), time.as_millis()), effect)
}

fn outage(cluster: &ChaosCluster<'_>, job: &str, dice: &mut Dice, before: &Seen) -> (String, Option<String>) {
    let time = millis(dice, 2_500, 7_000);
    cluster.proxy.set(Conditions { refuse: true, ..Conditions::default() });
    cluster.proxy.reset_all();
    let silent = no_checkpoint_for(cluster, job, time);
    cluster.proxy.set(Conditions::default());
    let after = cluster.see(job);
    let effect = failed_checkpoints(before, &after).or(silent);
    (format!("S3 is away for {} ms", time.as_millis()), effect)
}

fn storage(
    cluster: &ChaosCluster<'_>,
    job: &str,
    dice: &mut Dice,
    before: &Seen,
    kind: FaultKind,
    permille: u64,
) -> (String, Option<String>) {
    let time = millis(dice, 2_500, 5_000);
    cluster.s3.clear_log();
    cluster.s3.set_random(Some(RandomFaults::new(dice.next_u64(), permille, &[kind])));
    std::thread::sleep(time);
    cluster.s3.set_random(None);
    let after = cluster.see(job);
    let requests = cluster.s3.requests();
    let met = requests.iter().filter(|r| r.fault.is_some()).count();
    let repeated = requests
        .iter()
        .enumerate()
        .filter(|(i, r)| r.fault.is_some() && requests[i + 1..].iter().any(|later| later.path == r.path))
        .count();
    let effect = (met > 0).then(|| {
        let more = failed_checkpoints(before, &after).unwrap_or_default();
        format!("{met} of {} requests met, {repeated} asked again {more}", requests.len())
    });
    (format!("S3: {kind:?} for {permille} of 1000 requests, {} ms", time.as_millis()), effect)
}
