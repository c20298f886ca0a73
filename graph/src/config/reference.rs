//! The configuration reference for people, generated from the registry.

use std::fmt::Write;

use super::effect::has_effect;
use super::{ConfigOption, ValueType, keys};

/// All registered keys by subject, as Markdown tables; those without effect last.
pub fn markdown_reference() -> String {
    let mut text = String::new();
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
        group(title, &mut options.iter().filter(|o| has_effect(o)));
    }
    group("Read for compatibility, without effect", &mut keys::all().filter(|o| !has_effect(o)));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn row(text: &mut String, option: &ConfigOption) {
    let default = option.default.map_or("none".to_owned(), |d| format!("`{d}`"));
    let older = match option.fallback_keys {
        [] => String::new(),
        keys => format!(" Older spelling: `{}`.", keys.join("`, `")),
    };
    let kind = type_name(option.value_type);
    let _ = writeln!(text, "| `{}` | {kind} | {default} | {}{older} |", option.key, option.description);
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
            assert_eq!(rows[0].matches(" | ").count(), 3, "{}", rows[0]);
        }
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
