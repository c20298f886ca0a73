//! The registry: every configuration key that Hurtig reads, by subject.
//!
//! The constants are how code names a key, [`all`] is how validation and the reference see them.
//! Keys, defaults and older spellings are those of Flink 2.3; what is Hurtig's own begins with
//! `hurtig.`.

use super::{ConfigOption, ValueType};

/// Declares the keys of one subject: constants, and `OPTIONS` with all of them in order.
macro_rules! options {
    ($($name:ident = $key:literal, [$($fallback:literal),*], $value_type:expr, $default:expr, $description:literal;)*) => {
        $(
            #[doc = concat!("`", $key, "`: ", $description)]
            pub const $name: ConfigOption = ConfigOption {
                key: $key,
                fallback_keys: &[$($fallback),*],
                value_type: $value_type,
                default: $default,
                description: $description,
            };
        )*
        /// All keys of this subject, in order.
        pub(super) const OPTIONS: &[ConfigOption] = &[$($name),*];
    };
}

mod checkpointing;
mod cluster;
mod high_availability;
mod jobmanager;
mod metrics;
mod own;
mod pipeline;
mod restart;
mod s3;
mod security;
mod state;
mod table;
mod taskmanager;

pub use checkpointing::*;
pub use cluster::*;
pub use high_availability::*;
pub use jobmanager::*;
pub use metrics::*;
pub use own::*;
pub use pipeline::*;
pub use restart::*;
pub use s3::*;
pub use security::*;
pub use state::*;
pub use table::*;
pub use taskmanager::*;

/// The registry by subject: title and keys.
pub const GROUPS: &[(&str, &[ConfigOption])] = &[
    ("Checkpointing and recovery", checkpointing::OPTIONS),
    ("Restart strategies", restart::OPTIONS),
    ("JobManager and scheduling", jobmanager::OPTIONS),
    ("TaskManager", taskmanager::OPTIONS),
    ("Cluster: heartbeats, slots, directories, ports", cluster::OPTIONS),
    ("High availability", high_availability::OPTIONS),
    ("State backend", state::OPTIONS),
    ("S3", s3::OPTIONS),
    ("Security", security::OPTIONS),
    ("Pipelines", pipeline::OPTIONS),
    ("SQL", table::OPTIONS),
    ("Metrics", metrics::OPTIONS),
    ("Hurtig", own::OPTIONS),
];

/// Every registered key.
pub fn all() -> impl Iterator<Item = &'static ConfigOption> {
    GROUPS.iter().flat_map(|(_, options)| options.iter())
}

/// The registered keys that `key` sets: its own, or those that it is an older spelling of (more than
/// one where a key was split). Empty: not registered.
pub fn find(key: &str) -> Vec<&'static ConfigOption> {
    if let Some(option) = all().find(|o| o.key == key) {
        return vec![option];
    }
    all().filter(|o| o.fallback_keys.contains(&key)).collect()
}
