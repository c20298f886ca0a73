//! JSON paths: `lax $.a[0]`, `strict $..b`, `$.c[*]`, `$.d[?(@.x > 1)]`.

use super::value::Json;

/// A path that has been read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    /// What is missing is empty, not an error.
    pub lax: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Every field of this name below (`..name`).
    Below(String),
    Slice(Option<i64>, Option<i64>),
    Filter(Vec<String>, Option<(String, Json)>),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// The value; the list of values for a path that may lead to several.
    Value(Json),
    /// Nothing, or JSON null.
    Nothing,
}

impl Path {
    /// Reads a path; `None` when it is none. Without mode it is strict.
    pub fn parse(text: &str) -> Option<Path> {
        let text = text.trim();
        let (lax, body) = match text.split_once(char::is_whitespace) {
            Some((mode, rest)) if mode.eq_ignore_ascii_case("lax") => (true, rest.trim_start()),
            Some((mode, rest)) if mode.eq_ignore_ascii_case("strict") => (false, rest.trim_start()),
            _ => (false, text),
        };
        let mut rest = body.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest)?;
            steps.push(step);
            rest = after;
        }
        Some(Path { lax, steps })
    }

    /// Follows the path from `root`.
    pub fn find(&self, root: &Json) -> Found {
        let definite = self.steps.iter().all(|s| matches!(s, Step::Field(_) | Step::Index(_)));
        let mut current = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            current.into_iter().for_each(|value| follow(step, value, &mut next));
            current = next;
        }
        if !definite {
            return Found::Value(Json::Array(current.into_iter().cloned().collect()));
        }
        match current.first() {
            None | Some(Json::Null) => Found::Nothing,
            Some(value) => Found::Value((*value).clone()),
        }
    }
}

fn step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("..") {
        let (name, rest) = name(rest)?;
        return Some((Step::Below(name), rest));
    }
    if let Some(rest) = text.strip_prefix('.') {
        if let Some(rest) = rest.strip_prefix('*') {
            return Some((Step::All, rest));
        }
        let (name, rest) = name(rest)?;
        return Some((Step::Field(name), rest));
    }
    let inner = text.strip_prefix('[')?.trim_start();
    if let Some(quote) = inner.chars().next().filter(|c| *c == '\'' || *c == '"') {
        let (name, rest) = inner[1..].split_once(quote)?;
        return Some((Step::Field(name.to_owned()), rest.trim_start().strip_prefix(']')?));
    }
    if let Some(filter) = inner.strip_prefix("?(") {
        let (filter, rest) = filter.split_once(")]")?;
        return Some((filter_step(filter)?, rest));
    }
    let (inside, rest) = inner.split_once(']')?;
    let inside = inside.trim();
    if inside == "*" {
        return Some((Step::All, rest));
    }
    let bound = |text: &str| if text.trim().is_empty() { Some(None) } else { text.trim().parse().ok().map(Some) };
    if let Some((from, to)) = inside.split_once(':') {
        return Some((Step::Slice(bound(from)?, bound(to)?), rest));
    }
    Some((Step::Index(inside.parse().ok()?), rest))
}

fn name(text: &str) -> Option<(String, &str)> {
    let end = text.find(['.', '[', ' ', '\t']).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// `@.x`, `@.x > 1`, `@ == 'a'`.
fn filter_step(text: &str) -> Option<Step> {
    let text = text.trim().strip_prefix('@')?;
    let operators = ["==", "!=", "<=", ">=", "<", ">"];
    let (fields, condition) = match operators.iter().find_map(|op| text.split_once(op).map(|(l, r)| (l, *op, r))) {
        Some((left, operator, right)) => {
            let right = right.trim();
            let value = match right.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')) {
                Some(text) => Json::Text(text.to_owned()),
                None => Json::parse(right)?,
            };
            (left.trim(), Some((operator.to_owned(), value)))
        }
        None => (text, None),
    };
    let fields = fields.split('.').filter(|f| !f.is_empty()).map(str::to_owned).collect();
    Some(Step::Filter(fields, condition))
}

fn follow<'a>(step: &Step, value: &'a Json, out: &mut Vec<&'a Json>) {
    match (step, value) {
        (Step::Field(name), Json::Object(fields)) => out.extend(fields.get(name)),
        (Step::Index(index), Json::Array(items)) => out.extend(at(items, *index)),
        (Step::All, Json::Array(items)) => out.extend(items),
        (Step::All, Json::Object(fields)) => out.extend(fields.values()),
        (Step::Below(name), value) => below(name, value, out),
        (Step::Slice(from, to), Json::Array(items)) => {
            let length = items.len() as i64;
            let bound = |b: i64| if b < 0 { (length + b).max(0) } else { b.min(length) };
            let (from, to) = (from.map_or(0, bound), to.map_or(length, bound));
            if from < to {
                out.extend(&items[from as usize..to as usize]);
            }
        }
        (Step::Filter(fields, condition), Json::Array(items)) => {
            out.extend(items.iter().filter(|item| holds(item, fields, condition.as_ref())));
        }
        _ => {}
    }
}

fn at(items: &[Json], index: i64) -> Option<&Json> {
    let index = if index < 0 { items.len() as i64 + index } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn below<'a>(name: &str, value: &'a Json, out: &mut Vec<&'a Json>) {
    match value {
        Json::Object(fields) => {
            out.extend(fields.get(name));
            fields.values().for_each(|child| below(name, child, out));
        }
        Json::Array(items) => items.iter().for_each(|child| below(name, child, out)),
        _ => {}
    }
}

fn holds(item: &Json, fields: &[String], condition: Option<&(String, Json)>) -> bool {
    let mut current = item;
    for field in fields {
        match current {
            Json::Object(object) => match object.get(field) {
                Some(value) => current = value,
                None => return false,
            },
            _ => return false,
        }
    }
    let Some((operator, wanted)) = condition else { return true };
    let ordering = match (current, wanted) {
        (Json::Number(a), Json::Number(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.partial_cmp(&b),
            _ => None,
        },
        (Json::Text(a), Json::Text(b)) => Some(a.cmp(b)),
        (a, b) if operator == "==" || operator == "!=" => {
            return (a == b) == (operator == "==");
        }
        _ => None,
    };
    let Some(ordering) = ordering else { return false };
    match operator.as_str() {
        "==" => ordering.is_eq(),
        "!=" => ordering.is_ne(),
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        _ => ordering.is_ge(),
    }
}
