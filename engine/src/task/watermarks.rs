//! Event time of a task from the watermarks of its input channels.
//!
//! A [`Valve`] combines the channels of one input port as Flink's status watermark valve does: the
//! minimum over *aligned* channels, where a channel that was idle counts again only once it has
//! caught up. [`InputWatermarks`] combines the ports; those of a union are one to it.

use crate::element::MIN_WATERMARK;

/// What the combination says downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeEvent {
    /// Event time has advanced.
    Watermark(i64),
    /// No input is active.
    Idle,
    /// An input is active again.
    Active,
}

#[derive(Debug, Clone, Copy)]
struct ChannelTime {
    watermark: i64,
    active: bool,
    aligned: bool,
}

/// The channels of one port.
#[derive(Debug)]
pub struct Valve {
    channels: Vec<ChannelTime>,
    last_output: i64,
    idle: bool,
}

impl Valve {
    /// All channels active and without a watermark.
    pub fn new(channels: usize) -> Valve {
        let start = ChannelTime { watermark: MIN_WATERMARK, active: true, aligned: true };
        Valve { channels: vec![start; channels], last_output: MIN_WATERMARK, idle: false }
    }

    /// A watermark of `channel`. One of an idle channel is dropped.
    pub fn watermark(&mut self, channel: usize, watermark: i64, out: &mut Vec<TimeEvent>) {
        let status = &mut self.channels[channel];
        if self.idle || !status.active || watermark <= status.watermark {
            return;
        }
        status.watermark = watermark;
        if watermark >= self.last_output {
            status.aligned = true;
        }
        self.advance(out);
    }

    /// `channel` became idle.
    pub fn idle(&mut self, channel: usize, out: &mut Vec<TimeEvent>) {
        if !self.channels[channel].active {
            return;
        }
        self.channels[channel].active = false;
        self.channels[channel].aligned = false;
        let held_back = self.channels[channel].watermark == self.last_output;
        if self.channels.iter().any(|c| c.active) {
            if held_back {
                self.advance(out);
            }
            return;
        }
        if held_back {
            let max = self.channels.iter().map(|c| c.watermark).max().unwrap_or(MIN_WATERMARK);
            self.emit(max, out);
        }
        self.idle = true;
        out.push(TimeEvent::Idle);
    }

    /// `channel` became active again.
    pub fn active(&mut self, channel: usize, out: &mut Vec<TimeEvent>) {
        let status = &mut self.channels[channel];
        if status.active {
            return;
        }
        status.active = true;
        status.aligned = status.watermark >= self.last_output;
        if self.idle {
            self.idle = false;
            out.push(TimeEvent::Active);
        }
    }

    fn advance(&mut self, out: &mut Vec<TimeEvent>) {
        if let Some(min) = self.channels.iter().filter(|c| c.aligned).map(|c| c.watermark).min() {
            self.emit(min, out);
        }
    }

    fn emit(&mut self, watermark: i64, out: &mut Vec<TimeEvent>) {
        if watermark > self.last_output {
            self.last_output = watermark;
            out.push(TimeEvent::Watermark(watermark));
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct PortTime {
    watermark: i64,
    idle: bool,
}

/// All ports of a task.
#[derive(Debug)]
pub struct InputWatermarks {
    /// Of each port its valve and its first channel there.
    places: Vec<(usize, usize)>,
    valves: Vec<Valve>,
    ports: Vec<PortTime>,
    combined: i64,
    idle: bool,
    scratch: Vec<TimeEvent>,
}

impl InputWatermarks {
    /// With the given number of channels for each port. `united` ports are as one.
    pub fn new(channels: &[usize], united: bool) -> InputWatermarks {
        let (mut places, mut valves) = (Vec::with_capacity(channels.len()), Vec::new());
        if united {
            let mut first = 0;
            for &n in channels {
                places.push((0, first));
                first += n;
            }
            valves.push(Valve::new(first));
        } else {
            places.extend((0..channels.len()).map(|port| (port, 0)));
            valves.extend(channels.iter().map(|&n| Valve::new(n)));
        }
        InputWatermarks {
            ports: vec![PortTime { watermark: MIN_WATERMARK, idle: false }; valves.len()],
            places,
            valves,
            combined: MIN_WATERMARK,
            idle: false,
            scratch: Vec::new(),
        }
    }

    /// A watermark or status of a channel of a port; what follows for the task is appended to `out`.
    pub fn event(&mut self, port: usize, channel: usize, event: TimeEvent, out: &mut Vec<TimeEvent>) {
        let (port, first) = self.places[port];
        let channel = first + channel;
        let mut events = std::mem::take(&mut self.scratch);
        events.clear();
        match event {
            TimeEvent::Watermark(ms) => self.valves[port].watermark(channel, ms, &mut events),
            TimeEvent::Idle => self.valves[port].idle(channel, &mut events),
            TimeEvent::Active => self.valves[port].active(channel, &mut events),
        }
        for event in &events {
            match *event {
                TimeEvent::Watermark(ms) => self.ports[port].watermark = ms,
                TimeEvent::Idle => self.ports[port].idle = true,
                TimeEvent::Active => self.ports[port].idle = false,
            }
            self.combine(out);
        }
        self.scratch = events;
    }

    /// The task's event time.
    pub fn current(&self) -> i64 {
        self.combined
    }

    fn combine(&mut self, out: &mut Vec<TimeEvent>) {
        let active = self.ports.iter().filter(|p| !p.idle).map(|p| p.watermark).min();
        let idle = active.is_none();
        if self.idle && !idle {
            self.idle = false;
            out.push(TimeEvent::Active);
        }
        let time = active.or_else(|| self.ports.iter().map(|p| p.watermark).max()).unwrap_or(MIN_WATERMARK);
        if time > self.combined {
            self.combined = time;
            out.push(TimeEvent::Watermark(time));
        }
        if idle && !self.idle {
            self.idle = true;
            out.push(TimeEvent::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimeEvent::{Active, Idle, Watermark};
    use super::*;

    fn run(ports: &[usize], events: &[(usize, usize, TimeEvent)]) -> Vec<TimeEvent> {
        run_in(InputWatermarks::new(ports, false), events)
    }

    fn run_in(mut inputs: InputWatermarks, events: &[(usize, usize, TimeEvent)]) -> Vec<TimeEvent> {
        let mut out = Vec::new();
        for &(port, channel, event) in events {
            inputs.event(port, channel, event, &mut out);
        }
        out
    }

    #[test]
    fn the_slowest_channel_holds_event_time_back() {
        let events = [(0, 0, Watermark(10)), (0, 1, Watermark(5)), (0, 1, Watermark(4)), (0, 1, Watermark(12))];
        assert_eq!(run(&[2], &events), [Watermark(5), Watermark(10)]);
    }

    #[test]
    fn an_idle_channel_does_not_hold_back_and_its_watermarks_are_dropped() {
        let events = [(0, 0, Watermark(10)), (0, 1, Idle), (0, 1, Watermark(3)), (0, 0, Watermark(20))];
        assert_eq!(run(&[2], &events), [Watermark(10), Watermark(20)]);
    }

    #[test]
    fn a_reactivated_channel_counts_only_once_it_has_caught_up() {
        let events = [
            (0, 0, Watermark(10)),
            (0, 1, Idle),
            (0, 1, Active),
            // Behind: channel 0 alone decides.
            (0, 1, Watermark(7)),
            (0, 0, Watermark(15)),
            // Caught up: from now on it holds back.
            (0, 1, Watermark(16)),
            (0, 0, Watermark(30)),
        ];
        assert_eq!(run(&[2], &events), [Watermark(10), Watermark(15), Watermark(16)]);
    }

    #[test]
    fn the_last_channel_to_become_idle_flushes_the_highest_watermark() {
        let events = [(0, 0, Watermark(10)), (0, 1, Watermark(5)), (0, 0, Idle), (0, 1, Idle), (0, 0, Active)];
        assert_eq!(run(&[2], &events), [Watermark(5), Watermark(10), Idle, Active]);
        // The one that held the minimum goes first: the minimum of the rest counts.
        let events = [(0, 0, Watermark(10)), (0, 1, Watermark(5)), (0, 1, Idle), (0, 0, Idle)];
        assert_eq!(run(&[2], &events), [Watermark(5), Watermark(10), Idle]);
    }

    #[test]
    fn a_reactivated_port_of_a_union_counts_only_once_it_has_caught_up() {
        let events = [
            (0, 0, Watermark(10)),
            (1, 0, Idle),
            (1, 1, Idle),
            (1, 1, Active),
            (1, 1, Watermark(7)),
            (0, 0, Watermark(15)),
            (1, 1, Watermark(16)),
            (0, 0, Watermark(30)),
        ];
        let united = InputWatermarks::new(&[1, 2], true);
        assert_eq!(run_in(united, &events), [Watermark(10), Watermark(15), Watermark(16)]);
    }

    #[test]
    fn ports_combine_by_their_minimum_without_idle_ones() {
        let events = [
            (0, 0, Watermark(10)),
            (1, 0, Watermark(4)),
            (1, 0, Idle),
            (0, 0, Watermark(11)),
            (0, 0, Idle),
            (1, 0, Active),
        ];
        assert_eq!(run(&[1, 1], &events), [Watermark(4), Watermark(10), Watermark(11), Idle, Active]);
    }
}
