//! All channels of a process, by key. Whichever end comes first makes the channel, the other finds
//! it: a producer may run, and a stream from another process may open, before the consumer is
//! deployed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::exchange::ExchangeConfig;
use crate::exchange::channel::{Channel, ChannelKey, RemoteProducer};

/// What a channel may hold however many there are, so that all of them move.
pub const LEAST_WINDOW_BYTES: usize = 32 << 10;

/// An edge between two subtasks, whatever the attempts.
type PairKey = (String, String, u32, u32);

#[derive(Default)]
struct State {
    channels: HashMap<ChannelKey, Arc<Channel>>,
    /// The newest attempts (producer, consumer) that a consumer was deployed for.
    newest: HashMap<PairKey, (u32, u32)>,
}

/// See the module documentation.
pub struct ChannelRegistry {
    config: ExchangeConfig,
    state: Mutex<State>,
}

impl ChannelRegistry {
    /// Without channels.
    pub fn new(config: ExchangeConfig) -> ChannelRegistry {
        ChannelRegistry { config, state: Mutex::default() }
    }

    /// The sizes.
    pub fn config(&self) -> &ExchangeConfig {
        &self.config
    }

    /// The channel for a producer in this process whose consumer is (or will be) in this process.
    pub fn local_producer(&self, key: &ChannelKey) -> Arc<Channel> {
        self.entry(&mut self.state.lock(), key)
    }

    /// The channel for a consumer in this process; opens of older attempts are refused from now on.
    pub fn consumer(&self, key: &ChannelKey) -> Arc<Channel> {
        let channel = {
            let mut state = self.state.lock();
            let newest = state.newest.entry(pair(key)).or_default();
            *newest = (newest.0.max(key.producer_attempt), newest.1.max(key.consumer_attempt));
            self.entry(&mut state, key)
        };
        channel.accept(self.window());
        channel
    }

    /// The channel for a producer in another process. Its first credit is granted once the consumer
    /// is there.
    ///
    /// # Errors
    /// Why the open is refused: a newer attempt is deployed.
    pub fn remote_producer(&self, key: &ChannelKey, remote: Arc<dyn RemoteProducer>) -> Result<Arc<Channel>, String> {
        let channel = {
            let mut state = self.state.lock();
            if let Some(&(producer, consumer)) = state.newest.get(&pair(key))
                && (key.producer_attempt < producer || key.consumer_attempt < consumer)
            {
                return Err(format!("{key} is of an older attempt than the deployed {producer} to {consumer}"));
            }
            self.entry(&mut state, key)
        };
        channel.set_remote_producer(self.window(), remote);
        Ok(channel)
    }

    /// Bytes that a producer in another process may have in flight: its share of the budget.
    fn window(&self) -> usize {
        self.share(self.config.credit_bytes, self.len())
    }

    /// `wanted`, or less where `channels` of that size exceed the budget. What was given to channels
    /// before is not taken back.
    fn share(&self, wanted: usize, channels: usize) -> usize {
        match self.config.budget_bytes {
            Some(budget) => wanted.min((budget / channels.max(1)).max(LEAST_WINDOW_BYTES)),
            None => wanted,
        }
    }

    fn entry(&self, state: &mut State, key: &ChannelKey) -> Arc<Channel> {
        let limit = self.share(self.config.queue_bytes, state.channels.len() + 1);
        Arc::clone(state.channels.entry(key.clone()).or_insert_with(|| Channel::new(key.clone(), limit)))
    }

    /// The consumer is done with `channel`.
    pub fn release_consumer(&self, channel: &Channel) {
        self.state.lock().channels.remove(channel.key());
        channel.close_consumer();
    }

    /// The producer in this process is done with `channel`. One that ended in order stays for a
    /// consumer that is yet to come.
    pub fn release_producer(&self, channel: &Channel, reason: &str) {
        if !channel.has_ended() && !channel.is_accepted() {
            self.state.lock().channels.remove(channel.key());
        }
        channel.close_producer(reason);
    }

    /// Forgets an open from another process whose consumer never came.
    pub fn abandon(&self, channel: &Channel) {
        if !channel.is_accepted() {
            self.state.lock().channels.remove(channel.key());
        }
    }

    /// The job has ended: nothing of it will be deployed any more.
    pub fn forget_job(&self, job: &str) {
        let mut state = self.state.lock();
        state.channels.retain(|key, _| key.job != job);
        state.newest.retain(|key, _| key.0 != job);
    }

    /// The JobManager is lost and all tasks have ended: forgets everything. The next one counts
    /// attempts from the beginning.
    pub fn clear(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        state.channels.into_values().for_each(|channel| channel.close_consumer());
    }

    /// Number of channels known.
    pub fn len(&self) -> usize {
        self.state.lock().channels.len()
    }

    /// Whether no channel is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn pair(key: &ChannelKey) -> PairKey {
    (key.job.clone(), key.edge.clone(), key.producer_subtask, key.consumer_subtask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_channels_share_the_budget_and_each_keeps_the_least() {
        let registry = |budget_bytes| {
            ChannelRegistry::new(ExchangeConfig { budget_bytes, queue_bytes: 256 << 10, ..ExchangeConfig::default() })
        };
        let channel = |registry: &ChannelRegistry, consumer_subtask| {
            let (job, edge) = ("j".to_owned(), "e".to_owned());
            let attempts = (0, 0);
            registry.local_producer(&ChannelKey {
                job,
                edge,
                producer_subtask: 0,
                producer_attempt: attempts.0,
                consumer_subtask,
                consumer_attempt: attempts.1,
            })
        };
        let limits = |budget| {
            let registry = registry(budget);
            (0..64).map(|i| channel(&registry, i).limit()).collect::<Vec<_>>()
        };
        assert!(limits(None).iter().all(|&limit| limit == 256 << 10));
        let limited = limits(Some(1 << 20));
        assert_eq!((limited[0], limited[7], limited[63]), (256 << 10, 128 << 10, LEAST_WINDOW_BYTES));
    }
}
