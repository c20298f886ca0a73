//! The options of fields: `fields.<name>.<option>`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::str::FromStr;

use hurtig_graph::config::Configuration;
use hurtig_graph::connector::Options;

use crate::error::{Error, Result};
use crate::options::option;

/// Reads options of fields and remembers which were read.
pub struct FieldOptions<'a> {
    options: &'a Options,
    known: RefCell<BTreeSet<String>>,
}

impl<'a> FieldOptions<'a> {
    /// Of the options of a table.
    pub fn new(options: &'a Options) -> Self {
        FieldOptions { options, known: RefCell::default() }
    }

    /// The text of `<field>.<name>`.
    pub fn text(&self, field: &str, name: &str) -> Option<&'a str> {
        let key = format!("{field}.{name}");
        let value = self.options.get(&key).map(String::as_str);
        self.known.borrow_mut().insert(key);
        value
    }

    /// A value that `what` describes.
    pub fn value<T: FromStr>(&self, field: &str, name: &str, what: &str) -> Result<Option<T>> {
        let Some(text) = self.text(field, name) else { return Ok(None) };
        match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::Validation(format!("{field}.{name}: '{text}' is not {what}"))),
        }
    }

    /// A duration in milliseconds.
    pub fn duration_ms(&self, field: &str, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(field, name) else { return Ok(None) };
        const ANY: hurtig_graph::config::ConfigOption =
            option("duration", hurtig_graph::config::ValueType::Duration, None, "");
        let mut values = Configuration::default();
        values.set(ANY.key, text);
        values.duration_ms(&ANY).map_err(|_| {
            Error::Validation(format!("{field}.{name}: '{text}' is not a duration: write '10 s', '500 ms' or '2 min'"))
        })
    }

    /// Refuses options that no field has read.
    pub fn reject_unknown(&self) -> Result<()> {
        let known = self.known.borrow();
        let unknown: Vec<&str> = self
            .options
            .keys()
            .map(String::as_str)
            .filter(|k| k.starts_with("fields.") && !known.contains(*k))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        Err(Error::Validation(format!(
            "unsupported options found for 'datagen': {}; options of this table's fields are {}",
            unknown.join(", "),
            known.join(", ")
        )))
    }
}
