//! Finds what is wrong in a configuration. What it finds is data: the caller decides how to show it
//! and what to refuse.

use std::fmt;

use super::{ConfigOption, Configuration, ValueType, effect, keys, other_flink_keys, reporters};
use crate::error::GraphError;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For information: the key has no effect here.
    Info,
    /// Works, but should be changed.
    Warning,
    /// Must not be run with.
    Error,
}

/// A finding about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// The key as it was written.
    pub key: String,
    /// What about it, and what to do; begins with the key.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Everything to say about `configuration`, in the order of its keys; then what is wrong between
/// keys.
pub fn check(configuration: &Configuration) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = configuration.as_map().iter().flat_map(|(k, v)| check_pair(k, v)).collect();
    if !found.iter().any(|d| d.severity == Severity::Error) {
        found.extend(check_between(configuration));
    }
    found
}

/// Everything to say about one key with its value, as for `SET`.
pub fn check_pair(key: &str, value: &str) -> Vec<Diagnostic> {
    let options = keys::find(key);
    if options.is_empty() {
        return reporters::check(key, value).unwrap_or_else(|| vec![unregistered(key)]);
    }
    let mut found = Vec::new();
    if options[0].key != key {
        let names: Vec<&str> = options.iter().map(|o| o.key).collect();
        let message = format!("{key} is an older spelling: write {}", names.join(" and "));
        found.push(diagnostic(Severity::Warning, key, message));
    }
    if let Err(error) = check_value(options[0], key, value) {
        found.push(diagnostic(Severity::Error, key, error.to_string()));
    } else if let Some(reason) = effect::refusal(options[0], value) {
        found.push(diagnostic(Severity::Error, key, format!("{key}: '{value}' is not supported: {reason}")));
    } else if !options.iter().any(|o| effect::has_effect(o)) {
        let message = format!("{key} has no effect in Hurtig: {}", options[0].description.trim_end_matches('.'));
        found.push(diagnostic(Severity::Info, key, message));
    }
    found
}

/// The first error among `found`.
///
/// # Errors
/// [`GraphError::Config`] with the diagnostic's message.
pub fn first_error(found: &[Diagnostic]) -> Result<(), GraphError> {
    match found.iter().find(|d| d.severity == Severity::Error) {
        Some(error) => Err(GraphError::Config(error.message.clone())),
        None => Ok(()),
    }
}

fn diagnostic(severity: Severity, key: &str, message: String) -> Diagnostic {
    Diagnostic { severity, key: key.to_owned(), message }
}

fn unregistered(key: &str) -> Diagnostic {
    if other_flink_keys::contains(key) {
        return without_effect(key);
    }
    if let Some(nearest) = nearest_known(key) {
        let message = format!("{key} is not a configuration key: did you mean {nearest}?");
        return diagnostic(Severity::Error, key, message);
    }
    if other_flink_keys::in_family(key) {
        return without_effect(key);
    }
    diagnostic(Severity::Warning, key, format!("{key} is not a configuration key of Flink or Hurtig and has no effect"))
}

fn without_effect(key: &str) -> Diagnostic {
    diagnostic(Severity::Info, key, format!("{key} is a key of Flink that has no effect in Hurtig"))
}

/// The known key with the least edit distance to `key`, at most 2; of several the first by name.
fn nearest_known(key: &str) -> Option<&'static str> {
    let wanted = key.to_lowercase();
    keys::all()
        .flat_map(|o| std::iter::once(o.key).chain(o.fallback_keys.iter().copied()))
        .chain(other_flink_keys::keys())
        .filter_map(|known| Some((edit_distance_within(&wanted, &known.to_lowercase(), 2)?, known)))
        .min()
        .map(|(_, known)| known)
}

/// The Levenshtein distance of `a` and `b`, if it is at most `limit`.
fn edit_distance_within(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    (row[b.len()] <= limit).then_some(row[b.len()])
}

/// Bounds that the type alone does not give: key, least, most.
const BOUNDS: &[(ConfigOption, f64, f64)] = &[
    (keys::PARALLELISM_DEFAULT, 1.0, 32768.0),
    (keys::TASK_SLOTS, 1.0, 4096.0),
    (keys::CHECKPOINTING_INTERVAL, 10.0, 3.2e13),
    (keys::CHECKPOINTING_TIMEOUT, 10.0, 3.2e13),
    (keys::CHECKPOINTING_MAX_CONCURRENT, 1.0, 1e6),
    (keys::CHECKPOINTING_TOLERABLE_FAILED, 0.0, 2147483647.0),
    (keys::CHECKPOINTING_NUM_RETAINED, 1.0, 1e6),
    (keys::CHECKPOINTING_DATA_INLINE_THRESHOLD, 0.0, 1_048_576.0),
    (keys::RESTART_FIXED_ATTEMPTS, 0.0, 2147483647.0),
    (keys::RESTART_RATE_MAX_FAILURES, 1.0, 1e6),
    (keys::RESTART_EXPONENTIAL_INITIAL, 1.0, 3.2e13),
    (keys::RESTART_EXPONENTIAL_JITTER, 0.0, 1.0),
    (keys::RESTART_EXPONENTIAL_ATTEMPTS, 0.0, 2147483647.0),
    (keys::TASKMANAGER_MEMORY_MANAGED_FRACTION, 0.0, 1.0),
    (keys::TASKMANAGER_MEMORY_NETWORK_FRACTION, 0.0, 1.0),
    (keys::ROCKSDB_WRITE_BUFFER_RATIO, 0.0, 1.0),
    (keys::ROCKSDB_HIGH_PRIO_RATIO, 0.0, 1.0),
    (keys::ROCKSDB_THREADS, 1.0, 1024.0),
    (keys::ROCKSDB_TRANSFER_THREADS, 1.0, 1024.0),
    (keys::HEARTBEAT_INTERVAL, 1.0, 3.2e13),
];

fn check_value(option: &ConfigOption, key: &str, value: &str) -> Result<(), GraphError> {
    // Errors are to name the key as it was written.
    let named = ConfigOption { key: "", fallback_keys: &[], ..*option };
    let mut pair = Configuration::default();
    pair.set("", value);
    let rename = |e: GraphError| GraphError::Config(format!("{key}{e}"));
    let number: Option<f64> = match option.value_type {
        ValueType::String => None,
        ValueType::Bool => pair.bool(&named).map_err(rename)?.and(None),
        ValueType::Enum(_) => pair.choice(&named).map_err(rename)?.and(None),
        ValueType::Port => pair.ports(&named).map_err(rename)?.and(None),
        ValueType::Int => pair.int(&named).map_err(rename)?.map(|i| i as f64),
        ValueType::Float => pair.float(&named).map_err(rename)?,
        ValueType::Duration => pair.duration_ms(&named).map_err(rename)?.map(|ms| ms as f64),
        ValueType::Memory => pair.memory_bytes(&named).map_err(rename)?.map(|b| b as f64),
    };
    let bounds = BOUNDS.iter().find(|(o, ..)| o.key == option.key);
    if let (Some(number), Some((_, least, most))) = (number, bounds)
        && !(*least..=*most).contains(&number)
    {
        let unit = match option.value_type {
            ValueType::Duration => " ms",
            ValueType::Memory => " bytes",
            _ => "",
        };
        let reason = format!("{key}: '{value}' is out of range: it must be from {least} to {most}{unit}");
        return Err(GraphError::Config(reason));
    }
    Ok(())
}

/// Rules that concern several keys. Every single value is known to be readable.
fn check_between(c: &Configuration) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut refuse = |option: &ConfigOption, rule: String| {
        found.push(diagnostic(Severity::Error, option.key, format!("{}: {rule}", option.key)));
    };
    let duration = |option| c.duration_ms(option).ok().flatten().unwrap_or(0);
    if c.float(&keys::RESTART_EXPONENTIAL_MULTIPLIER).ok().flatten().is_some_and(|m| m <= 1.0) {
        refuse(&keys::RESTART_EXPONENTIAL_MULTIPLIER, "the multiplier must be more than 1".into());
    }
    if duration(&keys::RESTART_EXPONENTIAL_MAX) < duration(&keys::RESTART_EXPONENTIAL_INITIAL) {
        let rule = format!("it must not be below {}", keys::RESTART_EXPONENTIAL_INITIAL.key);
        refuse(&keys::RESTART_EXPONENTIAL_MAX, rule);
    }
    if duration(&keys::RESTART_EXPONENTIAL_RESET) < duration(&keys::RESTART_EXPONENTIAL_MAX) {
        let rule = format!("it must not be below {}", keys::RESTART_EXPONENTIAL_MAX.key);
        refuse(&keys::RESTART_EXPONENTIAL_RESET, rule);
    }
    if duration(&keys::HEARTBEAT_TIMEOUT) <= duration(&keys::HEARTBEAT_INTERVAL) {
        refuse(&keys::HEARTBEAT_TIMEOUT, format!("it must be more than {}", keys::HEARTBEAT_INTERVAL.key));
    }
    let max = c.int(&keys::MAX_PARALLELISM).ok().flatten().unwrap_or(-1);
    if max != -1 && !(1..=32768).contains(&max) {
        refuse(&keys::MAX_PARALLELISM, format!("'{max}' is out of range: it must be from 1 to 32768, or -1"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_yaml;

    fn of(pairs: &[(&str, &str)]) -> Configuration {
        Configuration::from_map(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn defaults_are_valid_and_keys_are_registered_once() {
        let mut defaults = Configuration::default();
        let mut seen = std::collections::BTreeSet::new();
        for option in keys::all() {
            assert!(seen.insert(option.key), "{} is registered twice", option.key);
            assert!(!other_flink_keys::contains(option.key), "{}", option.key);
            if let Some(default) = option.default {
                defaults.set(option.key, default);
            }
        }
        let found = check(&defaults);
        assert!(found.iter().all(|d| d.severity == Severity::Info), "{found:?}");
    }

    #[test]
    fn the_configuration_of_the_emr_guide_is_accepted() {
        let c = from_yaml(
            "jobmanager.execution.failover-strategy: region\nrestart-strategy: exponential-delay\n\
             taskmanager.numberOfTaskSlots: \"2\"\nstate.checkpoints.dir: s3p://BUCKET/flink-checkpoint/\n\
             execution.checkpointing.interval: 15000\nstate.backend.local-recovery: true\n\
             s3.endpoint: http://127.0.0.1:9000\ns3.path.style.access: true\ns3.access-key: a\ns3.secret-key: b\n\
             kubernetes.cluster-id: x\n",
            "config.yaml",
        )
        .unwrap();
        let found: Vec<_> = check(&c).into_iter().map(|d| (d.severity, d.message)).collect();
        assert_eq!(
            found,
            [
                (Severity::Info, "kubernetes.cluster-id is a key of Flink that has no effect in Hurtig".to_owned()),
                (Severity::Warning, "restart-strategy is an older spelling: write restart-strategy.type".to_owned()),
                (
                    Severity::Warning,
                    "state.backend.local-recovery is an older spelling: write \
                     execution.checkpointing.local-backup.enabled and execution.state-recovery.from-local"
                        .to_owned()
                ),
                (
                    Severity::Warning,
                    "state.checkpoints.dir is an older spelling: write execution.checkpointing.dir".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_the_nearest_key() {
        for (key, nearest) in [
            ("execution.checkpointing.intervall", "execution.checkpointing.interval"),
            ("taskmanager.numberOfTaskSlot", "taskmanager.numberOfTaskSlots"),
            ("taskmanager.numberoftaskslots", "taskmanager.numberOfTaskSlots"),
            ("restart-stratgey", "restart-strategy"),
            ("s3.secret-kye", "s3.secret-key"),
        ] {
            let found = check_pair(key, "1");
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].severity, Severity::Error);
            assert_eq!(found[0].message, format!("{key} is not a configuration key: did you mean {nearest}?"));
        }
    }

    #[test]
    fn other_unknown_keys_warn_and_flinks_own_inform() {
        assert_eq!(check_pair("my.own.key", "1")[0].severity, Severity::Warning);
        assert_eq!(check_pair("taskmanager.memory.jvm-metaspace.size", "1")[0].severity, Severity::Info);
        assert_eq!(check_pair("metrics.reporter.prom.interval", "1 s")[0].severity, Severity::Info);
        assert_eq!(check_pair("metrics.reporter.prom.port", "9249"), []);
    }

    #[test]
    fn values_that_cannot_be_honoured_are_refused_and_keys_without_effect_say_so() {
        assert_eq!(
            first_error(&check_pair("execution.runtime-mode", "BATCH")).unwrap_err().to_string(),
            "execution.runtime-mode: 'BATCH' is not supported: every job runs in streaming mode: set STREAMING"
        );
        assert_eq!(check_pair("execution.runtime-mode", "streaming")[0].severity, Severity::Info);
        let found = check_pair("state.backend", "rocksdb");
        assert_eq!(found[0].severity, Severity::Warning, "an older spelling");
        assert!(found[1].message.starts_with("state.backend has no effect in Hurtig: "), "{}", found[1]);
        assert_eq!(check_pair("state.backend.local-recovery", "true").len(), 1, "has an effect");
    }

    #[test]
    fn wrong_values_are_errors_naming_the_key_as_written() {
        for (key, value, part) in [
            ("state.backend.local-recovery", "yes", "state.backend.local-recovery: 'yes' is not true or false"),
            ("execution.checkpointing.mode", "exactly-once", "is not one of EXACTLY_ONCE, AT_LEAST_ONCE"),
            ("execution.checkpointing.interval", "5", "is out of range: it must be from 10"),
            ("parallelism.default", "0", "is out of range: it must be from 1 to 32768"),
            ("taskmanager.numberOfTaskSlots", "two", "is not a whole number"),
            ("jobmanager.rpc.port", "99999", "is not a port"),
        ] {
            let error = first_error(&check_pair(key, value)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: '{value}'")) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_wrong_secret_is_not_shown() {
        // No registered secret has a type that can be wrong; reading one as a number shows the rule.
        let c = of(&[("s3.secret-key", "hunter2")]);
        assert!(!c.int(&keys::S3_SECRET_KEY).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn rules_between_keys_are_checked() {
        for (pairs, part) in [
            (vec![("restart-strategy.exponential-delay.backoff-multiplier", "1")], "more than 1"),
            (vec![("restart-strategy.exponential-delay.max-backoff", "10 ms")], "must not be below"),
            (vec![("heartbeat.timeout", "1 s")], "must be more than heartbeat.interval"),
            (vec![("pipeline.max-parallelism", "40000")], "from 1 to 32768"),
        ] {
            let error = first_error(&check(&of(&pairs))).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
