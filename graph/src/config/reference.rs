//! The configuration reference for people, generated from the registry.

use std::fmt::Write;

use super::effect::{has_effect, partly_refused};
use super::{ConfigOption, ValueType, keys};

/// All registered keys by subject, as Markdown tables; those without effect and those with
/// refused values last.
pub fn markdown_reference() -> String {
    let mut text = String::new();
    let refused = |option: &ConfigOption| partly_refused().any(|(o, ..)| o.key == option.key);
    let mut group = |title: &str, options: &mut dyn Iterator<Item = &'static ConfigOption>| {
        let mut options = options.peekable();
        if options.peek().is_some() {
            // Writing to a String cannot fail.
            let _ = write!(text, "## {title}\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
            options.for_each(|option| row(&mut text, option));
            text.push('\n');
        }
    };
    for (title, options) in keys::GROUPS {
        group(title, &mut options.iter().filter(|o| has_effect(o) && !refused(o)));
    }
    let ignored = &mut keys::all().filter(|o| !has_effect(o) && !refused(o));
    group("Read for compatibility, without effect", ignored);
    text.push_str("## Refused unless they have a supported value\n\n");
    text.push_str("| key | type | default | supported | why |\n| --- | --- | --- | --- | --- |\n");
    for (option, fine, reason) in partly_refused() {
        let fine: Vec<String> = fine.iter().filter(|f| !f.is_empty()).map(|f| format!("`{f}`")).collect();
        let fine = if fine.is_empty() { "not set".to_owned() } else { fine.join(", ") };
        let (key, default) = (key(option), default(option));
        let _ = writeln!(text, "| {key} | {} | {default} | {fine} | {reason} |", type_name(option.value_type));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn row(text: &mut String, option: &ConfigOption) {
    let older = match option.fallback_keys {
        [] => String::new(),
        keys => format!(" Older spelling: `{}`.", keys.join("`, `")),
    };
    let (key, kind, default) = (key(option), type_name(option.value_type), default(option));
    let _ = writeln!(text, "| {key} | {kind} | {default} | {}{older} |", option.description);
}

fn key(option: &ConfigOption) -> String {
    format!("`{}`", option.key)
}

fn default(option: &ConfigOption) -> String {
    option.default.map_or("none".to_owned(), |d| format!("`{d}`"))
}

fn type_name(value_type: ValueType) -> String {
    match value_type {
        ValueType::Bool => "boolean".to_owned(),
        ValueType::Int => "whole number".to_owned(),
        ValueType::Float => "number".to_owned(),
        ValueType::String => "text".to_owned(),
        ValueType::Duration => "duration".to_owned(),
        ValueType::Memory => "memory size".to_owned(),
        ValueType::Enum(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        ValueType::Port => "port or range".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_row_and_no_row_breaks_the_table() {
        let text = markdown_reference();
        for option in keys::all() {
            let rows: Vec<&str> = text.lines().filter(|l| l.starts_with(&format!("| `{}` |", option.key))).collect();
            assert_eq!(rows.len(), 1, "{}", option.key);
            let columns = if partly_refused().any(|(o, ..)| o.key == option.key) { 4 } else { 3 };
            assert_eq!(rows[0].matches(" | ").count(), columns, "{}", rows[0]);
        }
    }

    #[test]
    fn keys_are_in_the_group_that_says_what_becomes_of_them() {
        let text = markdown_reference();
        let group = |key: &str| {
            let (before, _) = text.split_once(&format!("| `{key}` |")).unwrap();
            before.rsplit_once("## ").unwrap().1.lines().next().unwrap()
        };
        assert_eq!(group("table.exec.legacy-cast-behaviour"), "Refused unless they have a supported value");
        assert_eq!(group("table.exec.mini-batch.enabled"), "Read for compatibility, without effect");
        let scheduler = group("jobmanager.scheduler");
        assert_eq!(group("jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling"), scheduler);
        assert!(!scheduler.contains("without effect"), "{scheduler}");
    }

    /// `HURTIG_WRITE_DOCS=1` writes the page instead.
    #[test]
    fn the_page_of_the_documentation_is_up_to_date() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (introduction, reference) = text.split_once("\n## ").unwrap_or((text.trim_end_matches('\n'), ""));
        if std::env::var_os("HURTIG_WRITE_DOCS").is_some() {
            std::fs::write(page, format!("{}\n\n{}", introduction.trim_end(), markdown_reference())).unwrap();
            return;
        }
        assert_eq!(format!("## {reference}"), markdown_reference(), "run this test with HURTIG_WRITE_DOCS=1");
    }
}
