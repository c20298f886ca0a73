//! Typed reading of table options.
//!
//! A connector or format declares its options as [`ConfigOption`]s, like configuration keys; the
//! declarations give types, defaults, the list that an unknown option is answered with, and docs.

use hurtig_graph::config::{ConfigOption, Configuration, ValueType};
use hurtig_graph::connector::Options;

use crate::error::{Error, Result};

/// The page that says what is supported.
pub const DOCS_PAGE: &str = "docs/connectors.md";

/// Options that the planner reads and every table may have.
pub const COMMON: &[ConfigOption] = &[
    option("connector", ValueType::String, None, "Which connector the table uses."),
    option("scan.parallelism", ValueType::Int, None, "Parallelism of the source."),
    option("sink.parallelism", ValueType::Int, None, "Parallelism of the sink."),
    option("scan.watermark.emit.strategy", ValueType::String, None, "When watermarks are emitted."),
    option("scan.watermark.idle-timeout", ValueType::Duration, None, "When an input counts as idle."),
];

/// A declaration, shorter to write.
pub const fn option(
    key: &'static str,
    value_type: ValueType,
    default: Option<&'static str>,
    description: &'static str,
) -> ConfigOption {
    ConfigOption { key, fallback_keys: &[], value_type, default, description }
}

/// The options of one table.
pub struct TableOptions {
    connector: String,
    values: Configuration,
}

impl TableOptions {
    /// Reads `options`.
    pub fn new(options: &Options) -> TableOptions {
        TableOptions {
            connector: options.get("connector").cloned().unwrap_or_default(),
            values: Configuration::from_map(options.clone()),
        }
    }

    /// The text of an option or its default.
    pub fn text(&self, option: &ConfigOption) -> Option<&str> {
        self.values.text(option)
    }

    /// Whether the option is given.
    pub fn is_set(&self, option: &ConfigOption) -> bool {
        self.values.is_set(option)
    }

    /// An option that must be given.
    pub fn required(&self, option: &ConfigOption) -> Result<&str> {
        self.text(option).ok_or_else(|| {
            Error::Validation(format!(
                "one or more required options are missing for connector '{}'; missing: {}",
                self.connector, option.key
            ))
        })
    }

    /// A BOOLEAN option with a default.
    pub fn bool(&self, option: &ConfigOption) -> Result<bool> {
        Ok(self.values.bool(option)?.unwrap_or(false))
    }

    /// A whole number.
    pub fn int(&self, option: &ConfigOption) -> Result<Option<i64>> {
        Ok(self.values.int(option)?)
    }

    /// A whole number that is not negative.
    pub fn count(&self, option: &ConfigOption) -> Result<Option<u64>> {
        match self.values.int(option)? {
            None => Ok(None),
            Some(n) => u64::try_from(n)
                .map(Some)
                .map_err(|_| Error::Validation(format!("{}: '{n}' is negative: write 0 or more", option.key))),
        }
    }

    /// A number.
    pub fn float(&self, option: &ConfigOption) -> Result<Option<f64>> {
        Ok(self.values.float(option)?)
    }

    /// A memory size in bytes.
    pub fn memory(&self, option: &ConfigOption) -> Result<Option<u64>> {
        Ok(self.values.memory_bytes(option)?)
    }

    /// A duration in milliseconds.
    pub fn duration_ms(&self, option: &ConfigOption) -> Result<Option<u64>> {
        Ok(self.values.duration_ms(option)?)
    }

    /// One of the words of an enumerated option, as declared.
    pub fn word(&self, option: &ConfigOption) -> Result<&'static str> {
        let text = self.text(option).unwrap_or_default();
        let ValueType::Enum(words) = option.value_type else {
            return Err(Error::Internal(format!("option {} is not enumerated", option.key)));
        };
        words
            .iter()
            .find(|w| w.eq_ignore_ascii_case(text.trim()))
            .copied()
            .ok_or_else(|| Error::Validation(format!("{}: '{text}' is not one of {}", option.key, words.join(", "))))
    }

    /// One character, with `\t` for a tab.
    pub fn byte(&self, option: &ConfigOption) -> Result<Option<u8>> {
        let Some(text) = self.text(option) else { return Ok(None) };
        match text {
            "\\t" => Ok(Some(b'\t')),
            "\\\\" => Ok(Some(b'\\')),
            _ if text.len() == 1 => Ok(Some(text.as_bytes()[0])),
            _ => Err(Error::Validation(format!("{}: '{text}' is not a single ASCII character", option.key))),
        }
    }

    /// Refuses every key that is neither declared in `known` nor begins with one of `prefixes`.
    pub fn reject_unknown(&self, known: &[&[ConfigOption]], prefixes: &[&str]) -> Result<()> {
        let declared = known.iter().copied().chain([COMMON]).flatten();
        let mut names: Vec<&str> =
            declared.flat_map(|o| [o.key].into_iter().chain(o.fallback_keys.iter().copied())).collect();
        let unknown: Vec<&str> = self
            .values
            .as_map()
            .keys()
            .map(String::as_str)
            .filter(|key| !names.contains(key) && !prefixes.iter().any(|p| key.starts_with(p)))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        Err(Error::Validation(format!(
            "unsupported options found for '{}': {}; supported options are {}",
            self.connector,
            unknown.join(", "),
            names.join(", ")
        )))
    }
}
