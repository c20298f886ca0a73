//! Threads that run tasks: one for each slot, with the tasks of the slot taking turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::machine::Task;
use super::{BlockReason, Outcome, Step, panics};
use crate::clock::Clock;
use crate::executor::Waker;

/// Turns of a step.
const BUDGET: usize = 1024;
/// How long a task goes on before the next task of the slot gets its turn. Consumers get the larger
/// share: what waits in channels costs memory and delays barriers, so a slot empties them before it
/// makes more, and a source still moves when its consumers never come to rest.
const CONSUMER_SLICE_US: u64 = 10_000;
const SOURCE_SLICE_US: u64 = 2_000;
/// A wait is counted in parts, so that a long one shows while it lasts.
const REPORT_WAITS_US: u64 = 250_000;
/// A step that takes longer is reported by name.
const LONG_STEP_US: u64 = 30_000_000;
/// The longest sleep: a bound on what a lost wake-up could cost.
const LONGEST_PARK: Duration = Duration::from_millis(500);

struct Running {
    task: Box<Task>,
    blocked: Option<(BlockReason, Option<i64>)>,
    /// When the current stretch of working or waiting began.
    since_us: u64,
    /// Says in logs whose step it is.
    span: tracing::Span,
}

/// What a pass over all tasks came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// A task did something.
    pub progressed: bool,
    /// If none did: when (wall clock, ms) one wants to be stepped at the latest.
    pub next_ms: Option<i64>,
}

/// Tasks that share a thread. Driven by [`SlotThread`], or by a test.
pub struct SlotRunner {
    tasks: Vec<Running>,
    clock: Arc<dyn Clock>,
}

impl SlotRunner {
    /// Without tasks.
    pub fn new(clock: Arc<dyn Clock>) -> SlotRunner {
        SlotRunner { tasks: Vec::new(), clock }
    }

    /// Adds a task.
    pub fn add(&mut self, task: Box<Task>) {
        let span = task.info().span();
        self.tasks.push(Running { task, blocked: None, since_us: self.clock.monotonic_us(), span });
    }

    /// Number of tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task is left.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What each task waits for, by its name; `None`: it is working.
    pub fn blocked(&self) -> impl Iterator<Item = (String, Option<BlockReason>)> {
        self.tasks.iter().map(|r| (r.task.info().attempt.to_string(), r.blocked.map(|(reason, _)| reason)))
    }

    /// Steps each task that can do something once.
    pub fn pass(&mut self) -> Pass {
        let mut pass = Pass { progressed: false, next_ms: None };
        let mut index = 0;
        while index < self.tasks.len() {
            let running = &mut self.tasks[index];
            if !running.is_ready(self.clock.as_ref()) {
                if let Some((_, Some(until_ms))) = running.blocked {
                    pass.next_ms = Some(pass.next_ms.map_or(until_ms, |t| t.min(until_ms)));
                }
                index += 1;
                continue;
            }
            pass.progressed = true;
            match running.step(self.clock.as_ref()) {
                Some(outcome) => {
                    let mut ended = self.tasks.remove(index);
                    ended.end(&outcome);
                    // Dropping it removes its database: file work, not for this thread.
                    let executor = Arc::clone(ended.task.executor());
                    executor.spawn(Box::new(move || drop(ended)));
                }
                None => index += 1,
            }
        }
        pass
    }

    /// Cancels all tasks, without stepping them again.
    pub fn cancel_all(&mut self) {
        for mut running in self.tasks.drain(..) {
            running.end(&Outcome::Canceled);
        }
    }
}

impl Running {
    fn is_ready(&mut self, clock: &dyn Clock) -> bool {
        let woken = self.task.take_woken();
        let Some((reason, until_ms)) = self.blocked else { return true };
        let ready = woken || until_ms.is_some_and(|t| clock.now_ms() >= t);
        let now_us = clock.monotonic_us();
        let waited = now_us.saturating_sub(self.since_us);
        if !ready && waited < REPORT_WAITS_US {
            return false;
        }
        let metrics = self.task.metrics();
        let counter = match reason {
            BlockReason::Input | BlockReason::FinalCheckpoint => &metrics.idle_us,
            BlockReason::Output => &metrics.backpressured_us,
            BlockReason::WriteBack | BlockReason::Operator | BlockReason::Peer => &metrics.otherwise_blocked_us,
        };
        counter.fetch_add(waited, Ordering::Relaxed);
        self.since_us = now_us;
        if ready {
            self.blocked = None;
        }
        ready
    }

    fn step(&mut self, clock: &dyn Clock) -> Option<Outcome> {
        let _entered = self.span.clone().entered();
        let started_us = clock.monotonic_us();
        self.task.metrics().activity.begin_step(started_us);
        let slice = if self.task.is_source() { SOURCE_SLICE_US } else { CONSUMER_SLICE_US };
        let step = panics::guard(|| self.task.step_until(BUDGET, started_us + slice))
            .unwrap_or_else(|text| Step::Ended(Outcome::Failed(text)));
        let now_us = clock.monotonic_us();
        if now_us.saturating_sub(started_us) > LONG_STEP_US {
            tracing::warn!(
                task = %self.task.info().attempt,
                seconds = now_us.saturating_sub(started_us) / 1_000_000,
                "a step of this task took very long: its thread could do nothing else meanwhile"
            );
        }
        // From the end of the last wait: time spent ready while another task had the thread counts as busy.
        self.task.metrics().busy_us.fetch_add(now_us.saturating_sub(self.since_us), Ordering::Relaxed);
        self.since_us = now_us;
        let blocked_on = match &step {
            Step::Blocked { reason, .. } => Some(*reason),
            Step::Progress | Step::Ended(_) => None,
        };
        self.task.metrics().activity.end_step(blocked_on, self.task.turns(), now_us);
        match step {
            Step::Progress => None,
            Step::Blocked { reason, until_ms } => {
                self.blocked = Some((reason, until_ms));
                None
            }
            Step::Ended(outcome) => Some(outcome),
        }
    }

    fn end(&mut self, outcome: &Outcome) {
        let _entered = self.span.clone().entered();
        if let Err(text) = panics::guard(|| self.task.end(outcome)) {
            tracing::error!(task = %self.task.info().attempt, error = %text, "a task could not be ended");
        }
    }
}

/// A slot's thread. Dropping it cancels its tasks and joins the thread.
pub struct SlotThread {
    sender: Option<Sender<Box<Task>>>,
    stop: Arc<AtomicBool>,
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

impl SlotThread {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(name: String, clock: Arc<dyn Clock>) -> std::io::Result<SlotThread> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let join = std::thread::Builder::new().name(name).spawn(move || run(&receiver, clock, &stopped))?;
        Ok(SlotThread { sender: Some(sender), stop, thread: join.thread().clone(), join: Some(join) })
    }

    /// Wakes the thread.
    pub fn unpark(&self) -> Waker {
        let thread = self.thread.clone();
        Arc::new(move || thread.unpark())
    }

    /// Runs `task` on this thread.
    pub fn submit(&self, task: Box<Task>) {
        if let Some(sender) = &self.sender
            && let Err(refused) = sender.send(task)
        {
            refused.into_inner().end(&Outcome::Canceled);
        }
        self.thread.unpark();
    }

    /// Cancels all tasks; the thread ends after the current step.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for SlotThread {
    fn drop(&mut self) {
        self.stop();
        self.sender = None;
        if let Some(join) = self.join.take()
            && join.thread().id() != std::thread::current().id()
        {
            // A panic of the thread has been reported by its hook; there is nobody to hand it to.
            let _ = join.join();
        }
    }
}

fn run(receiver: &Receiver<Box<Task>>, clock: Arc<dyn Clock>, stop: &AtomicBool) {
    let mut runner = SlotRunner::new(Arc::clone(&clock));
    loop {
        while let Ok(task) = receiver.try_recv() {
            runner.add(task);
        }
        if stop.load(Ordering::Acquire) {
            break;
        }
        let pass = runner.pass();
        if pass.progressed {
            continue;
        }
        let park = pass.next_ms.map_or(LONGEST_PARK, |t| {
            Duration::from_millis(t.saturating_sub(clock.now_ms()).max(1).unsigned_abs()).min(LONGEST_PARK)
        });
        std::thread::park_timeout(park);
    }
    runner.cancel_all();
    while let Ok(mut task) = receiver.try_recv() {
        task.end(&Outcome::Canceled);
    }
}
