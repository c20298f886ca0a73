//! Configuration: the registry of keys, reading values, loading and checking.
//!
//! A [`Configuration`] is keys with their values as text. The registry ([`keys`]) says which keys
//! there are and what their values look like; reading is typed by [`ConfigOption`]. [`load`] reads
//! `config.yaml` and `-D key=value`, [`check`] finds what is wrong in a configuration, and
//! [`markdown_reference`] is the reference for people.

mod check;
mod effect;
pub mod keys;
mod load;
mod other_flink_keys;
mod redact;
mod reference;
mod reporters;
mod tls;
mod values;

use std::collections::BTreeMap;
use std::fmt;

pub use check::{Diagnostic, Severity, check, check_pair, first_error};
pub use load::{from_dynamic_properties, from_file, from_yaml};
pub use redact::{REDACTED, is_secret};
pub use reference::markdown_reference;
pub use reporters::PrometheusReporter;
pub use tls::TlsFiles;

use crate::error::GraphError;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// true, false
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Text.
    String,
    /// `10 s`, `500ms`, `2 min`; a bare number is milliseconds.
    Duration,
    /// `64mb`, `1 gb`; a bare number is bytes.
    Memory,
    /// One of the given words, in any case.
    Enum(&'static [&'static str]),
    /// A port, or a range of ports as `50100-50200` of which any free one is taken. 0: any.
    Port,
}

/// A configuration key.
#[derive(Debug, Clone, Copy)]
pub struct ConfigOption {
    /// Flink's key.
    pub key: &'static str,
    /// Older spellings, still read; using one logs the new name.
    pub fallback_keys: &'static [&'static str],
    /// Type of its values.
    pub value_type: ValueType,
    /// In the text form; `None`: no default.
    pub default: Option<&'static str>,
    /// Documentation, in Markdown.
    pub description: &'static str,
}

/// Keys with values, as text. Reading is typed by [`ConfigOption`].
#[derive(Clone, Default, PartialEq)]
pub struct Configuration {
    values: BTreeMap<String, String>,
}

impl Configuration {
    /// Of the given pairs, unchecked.
    pub fn from_map(values: BTreeMap<String, String>) -> Self {
        Configuration { values }
    }

    /// All pairs as set, without defaults.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// Sets one pair.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.values.insert(key.into(), value.into());
    }

    /// Takes a key away.
    pub fn unset(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// `overrides` win, whatever spelling of a key either side uses.
    pub fn merged_with(&self, overrides: &Configuration) -> Configuration {
        let mut merged = self.canonical();
        merged.values.extend(overrides.canonical().values);
        merged
    }

    /// The same configuration with every older spelling replaced by the keys of today. A value set
    /// under today's key wins over one under an older spelling.
    pub fn canonical(&self) -> Configuration {
        let mut values = BTreeMap::new();
        for (key, value) in &self.values {
            let options = keys::find(key);
            if options.is_empty() {
                values.insert(key.clone(), value.clone());
            }
            for option in options {
                // Of several spellings the first in the option's order counts.
                let text = std::iter::once(&option.key)
                    .chain(option.fallback_keys)
                    .find_map(|k| self.values.get(*k))
                    .unwrap_or(value);
                values.insert(option.key.to_owned(), text.clone());
            }
        }
        Configuration { values }
    }

    /// The pairs for display: values of secret keys are replaced.
    pub fn redacted(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(k, v)| (k.clone(), redact::shown(k, v).to_owned())).collect()
    }

    /// The text set for `option` or a fallback key, else its default.
    pub fn text(&self, option: &ConfigOption) -> Option<&str> {
        std::iter::once(&option.key)
            .chain(option.fallback_keys)
            .find_map(|key| self.values.get(*key))
            .map(String::as_str)
            .or(option.default)
    }

    /// Whether `option` was set by its key or a fallback key.
    pub fn is_set(&self, option: &ConfigOption) -> bool {
        std::iter::once(&option.key).chain(option.fallback_keys).any(|key| self.values.contains_key(*key))
    }

    fn parsed<T>(
        &self,
        option: &ConfigOption,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, GraphError> {
        let Some(text) = self.text(option) else { return Ok(None) };
        match parse(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => {
                let shown = redact::shown(option.key, text);
                Err(GraphError::Config(format!("{}: '{shown}' is not {what}", option.key)))
            }
        }
    }

    /// A BOOLEAN value.
    pub fn bool(&self, option: &ConfigOption) -> Result<Option<bool>, GraphError> {
        self.parsed(option, "true or false", values::parse_bool)
    }

    /// A whole number.
    pub fn int(&self, option: &ConfigOption) -> Result<Option<i64>, GraphError> {
        self.parsed(option, "a whole number", |t| t.parse().ok())
    }

    /// A number.
    pub fn float(&self, option: &ConfigOption) -> Result<Option<f64>, GraphError> {
        self.parsed(option, "a number", |t| t.parse().ok().filter(|f: &f64| f.is_finite()))
    }

    /// A duration in milliseconds.
    pub fn duration_ms(&self, option: &ConfigOption) -> Result<Option<u64>, GraphError> {
        self.parsed(option, "a duration: write '10 s', '500 ms' or '2 min'", values::parse_duration_ms)
    }

    /// A memory size in bytes.
    pub fn memory_bytes(&self, option: &ConfigOption) -> Result<Option<u64>, GraphError> {
        self.parsed(option, "a memory size: write '64 mb' or '1 gb'", values::parse_memory_bytes)
    }

    /// The word that was chosen, as the registry spells it.
    pub fn choice(&self, option: &ConfigOption) -> Result<Option<&'static str>, GraphError> {
        let ValueType::Enum(words) = option.value_type else {
            return Err(GraphError::Config(format!("{} is not a choice of words", option.key)));
        };
        self.parsed(option, &format!("one of {}", words.join(", ")), |t| {
            words.iter().find(|w| w.eq_ignore_ascii_case(t)).copied()
        })
    }

    /// The inclusive range of ports to try; 0 to 0: any.
    pub fn ports(&self, option: &ConfigOption) -> Result<Option<(u16, u16)>, GraphError> {
        self.parsed(option, "a port or a range of ports: write '6123' or '50100-50200'", values::parse_ports)
    }

    /// The items of a list: `a;b`, `a, b` or `[a, b]`.
    pub fn list(&self, option: &ConfigOption) -> Vec<String> {
        self.text(option).map(values::parse_list).unwrap_or_default()
    }
}

/// Shows keys and values, secrets replaced.
impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.redacted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Configuration {
        Configuration::from_map(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn values_are_read_by_their_type() {
        let c = of(&[
            ("execution.checkpointing.interval", "15000"),
            ("taskmanager.memory.process.size", "1728m"),
            ("restart-strategy.type", "Fixed-Delay"),
            ("taskmanager.data.port", "50100-50200"),
            ("restart-strategy.exponential-delay.backoff-multiplier", "2.5"),
        ]);
        assert_eq!(c.duration_ms(&keys::CHECKPOINTING_INTERVAL).unwrap(), Some(15_000));
        assert_eq!(c.memory_bytes(&keys::TASKMANAGER_MEMORY_PROCESS).unwrap(), Some(1728 << 20));
        assert_eq!(c.choice(&keys::RESTART_STRATEGY).unwrap(), Some("fixed-delay"));
        assert_eq!(c.ports(&keys::TASKMANAGER_DATA_PORT).unwrap(), Some((50100, 50200)));
        assert_eq!(c.float(&keys::RESTART_EXPONENTIAL_MULTIPLIER).unwrap(), Some(2.5));
        assert_eq!(c.int(&keys::TASK_SLOTS).unwrap(), Some(1), "the default");
        assert_eq!(c.duration_ms(&keys::CHECKPOINTING_MIN_PAUSE).unwrap(), Some(0));
    }

    #[test]
    fn a_wrong_value_names_the_key_and_says_what_is_wanted() {
        let c = of(&[("execution.checkpointing.interval", "1h30m")]);
        assert_eq!(
            c.duration_ms(&keys::CHECKPOINTING_INTERVAL).unwrap_err().to_string(),
            "execution.checkpointing.interval: '1h30m' is not a duration: write '10 s', '500 ms' or '2 min'"
        );
    }

    #[test]
    fn older_spellings_are_read_and_one_may_set_two_keys() {
        let c = of(&[("state.backend.local-recovery", "true"), ("state.checkpoints.dir", "s3p://b/c")]);
        assert_eq!(c.bool(&keys::RECOVERY_FROM_LOCAL).unwrap(), Some(true));
        assert_eq!(c.bool(&keys::CHECKPOINTING_LOCAL_BACKUP).unwrap(), Some(true));
        assert_eq!(c.text(&keys::CHECKPOINTING_DIRECTORY), Some("s3p://b/c"));
    }

    #[test]
    fn an_override_wins_whatever_its_spelling() {
        let cluster = of(&[("restart-strategy.type", "none"), ("state.backend.local-recovery", "true")]);
        let job = of(&[("restart-strategy", "fixed-delay"), ("execution.state-recovery.from-local", "false")]);
        let merged = cluster.merged_with(&job);
        assert_eq!(merged.choice(&keys::RESTART_STRATEGY).unwrap(), Some("fixed-delay"));
        assert_eq!(merged.bool(&keys::RECOVERY_FROM_LOCAL).unwrap(), Some(false));
        assert_eq!(merged.bool(&keys::CHECKPOINTING_LOCAL_BACKUP).unwrap(), Some(true));
    }

    #[test]
    fn secrets_are_not_shown() {
        let c = of(&[("s3.secret-key", "hunter2"), ("parallelism.default", "2")]);
        let shown = format!("{c:?}");
        assert!(!shown.contains("hunter2") && shown.contains("parallelism.default"), "{shown}");
    }

    #[test]
    fn lists_are_read_in_all_their_forms() {
        for text in ["a;b c", "[a, b c]", "a, b c", "['a', \"b c\"]"] {
            assert_eq!(of(&[("metrics.reporters", text)]).list(&keys::METRICS_REPORTERS), ["a", "b c"], "{text}");
        }
    }
}
