//! Configuration: the registry of keys and reading values.

use std::collections::BTreeMap;

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
#[derive(Debug, Clone, Default, PartialEq)]
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

    /// `overrides` win.
    pub fn merged_with(&self, overrides: &Configuration) -> Configuration {
        let mut values = self.values.clone();
        values.extend(overrides.values.clone());
        Configuration { values }
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
            None => Err(GraphError::Config(format!("{}: '{text}' is not {what}", option.key))),
        }
    }

    /// A BOOLEAN value.
    pub fn bool(&self, option: &ConfigOption) -> Result<Option<bool>, GraphError> {
        self.parsed(option, "true or false", |t| match t.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A whole number.
    pub fn int(&self, option: &ConfigOption) -> Result<Option<i64>, GraphError> {
        self.parsed(option, "a whole number", |t| t.parse().ok())
    }

    /// A number.
    pub fn float(&self, option: &ConfigOption) -> Result<Option<f64>, GraphError> {
        self.parsed(option, "a number", |t| t.parse().ok())
    }

    /// A duration in milliseconds.
    pub fn duration_ms(&self, option: &ConfigOption) -> Result<Option<u64>, GraphError> {
        self.parsed(option, "a duration: write '10 s', '500 ms' or '2 min'", values::parse_duration_ms)
    }

    /// A memory size in bytes.
    pub fn memory_bytes(&self, option: &ConfigOption) -> Result<Option<u64>, GraphError> {
        self.parsed(option, "a memory size: write '64 mb' or '1 gb'", values::parse_memory_bytes)
    }
}

mod values {
    //! Reading durations and memory sizes as Flink writes them.

    fn split(text: &str) -> Option<(u64, String)> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = text[..digits].parse().ok()?;
        Some((number, text[digits..].trim().to_ascii_lowercase()))
    }

    pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
        let (number, unit) = split(text)?;
        let factor = match unit.as_str() {
            "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(factor)
    }

    pub(super) fn parse_memory_bytes(text: &str) -> Option<u64> {
        let (number, unit) = split(text)?;
        let shift = match unit.as_str() {
            "" | "b" | "bytes" => 0,
            "k" | "kb" | "kib" | "kibibytes" => 10,
            "m" | "mb" | "mib" | "mebibytes" => 20,
            "g" | "gb" | "gib" | "gibibytes" => 30,
            "t" | "tb" | "tib" | "tebibytes" => 40,
            _ => return None,
        };
        number.checked_mul(1 << shift)
    }
}
