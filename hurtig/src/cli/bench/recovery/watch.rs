//! What the probes have printed so far: how far the job is, how fast, how late.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::processes::{Heard, Line, Processes};
use super::workload::{Schedule, Seen};

/// How long rates are remembered: longer than any lag lasts.
const MEMORY: Duration = Duration::from_secs(900);

/// See the module documentation.
#[derive(Default)]
pub struct Watch {
    /// The last line of each subtask of the sink.
    pub last: BTreeMap<u32, (Instant, Seen)>,
    /// The largest row number each subtask of the sink has seen.
    reached: BTreeMap<u32, u64>,
    /// Times and numbers of rows.
    rows: VecDeque<(Instant, u64)>,
    /// When processes were ready.
    pub ready: BTreeMap<u32, Instant>,
    /// Rows with a wrong value.
    pub wrong: u64,
}

impl Watch {
    /// Waits for the next line, until `deadline`. Gives it once it is counted.
    pub fn next(&mut self, processes: &Processes, deadline: Instant) -> anyhow::Result<Option<Heard>> {
        let Some(heard) = processes.next(deadline)? else { return Ok(None) };
        match &heard.what {
            Line::Rows(seen) => {
                self.last.insert(seen.subtask, (heard.at, *seen));
                let reached = self.reached.entry(seen.subtask).or_default();
                *reached = seen.numbers.1.max(*reached);
                self.rows.push_back((heard.at, seen.rows));
                while self.rows.front().is_some_and(|(at, _)| heard.at.duration_since(*at) > MEMORY) {
                    self.rows.pop_front();
                }
                self.wrong += seen.wrong;
                if seen.wrong > 0 {
                    bail!(
                        "{} rows have a wrong value, the first in {seen:?}: state was lost or rows doubled",
                        seen.wrong
                    );
                }
            }
            Line::Ready(_) => {
                self.ready.insert(heard.process, heard.at);
            }
            Line::End => {}
        }
        Ok(Some(heard))
    }

    /// Takes lines until `deadline`.
    pub fn until(&mut self, processes: &Processes, deadline: Instant) -> anyhow::Result<()> {
        while Instant::now() < deadline {
            self.next(processes, deadline)?;
        }
        Ok(())
    }

    /// The row that every subtask has come to. Once all available rows are read it is about the last of
    /// them, however they came, in many batches or in one: what is made available by it goes on.
    pub fn progress(&self) -> u64 {
        self.reached.values().copied().min().unwrap_or(0)
    }

    /// Rows a second from `from` to `to`.
    pub fn rate(&self, from: Instant, to: Instant) -> f64 {
        let within = self.rows.iter().filter(|(at, _)| (from..to).contains(at));
        within.map(|(_, rows)| rows).sum::<u64>() as f64 / to.duration_since(from).as_secs_f64()
    }

    /// How late the oldest rows of the last batch of any subtask were, where each of `subtasks` has
    /// had one since `since`.
    pub fn lag_ms(&self, schedule: &Schedule, since: Instant, subtasks: u32) -> Option<i64> {
        let new = self.last.values().filter(|(at, seen)| *at >= since && seen.subtask < subtasks);
        let ages: Vec<i64> = new
            .map(|(at, seen)| {
                let ago = Instant::now().duration_since(*at).as_millis() as i64;
                schedule.age_ms(seen.numbers.0, now_ms() - ago)
            })
            .collect();
        (ages.len() as u32 == subtasks).then(|| ages.into_iter().max().unwrap_or(i64::MAX))
    }
}

/// The wall clock, by which rows become available.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}
