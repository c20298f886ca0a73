//! JSON functions. Their clauses come as literals that begin with `$`, see the parser's `calls`.

use hurtig_graph::{DataType, Expr, Literal, LogicalType as T};
use sqlparser::ast::{Expr as Ast, JsonPredicateType, Value};

use super::expr::Binder;
use super::literal;
use super::operators::cast;
use crate::error::SqlError;

/// A JSON function; `None` for other names.
pub(super) fn call(binder: &mut Binder<'_, '_>, name: &str, asts: &[Ast]) -> Result<Option<Expr>, SqlError> {
    Ok(Some(match name {
        "JSON_EXISTS" => exists(binder, asts)?,
        "JSON_VALUE" => value(binder, asts)?,
        "JSON_QUERY" => query(binder, asts)?,
        "JSON_STRING" => {
            let [argument] = asts else { return Err(wrong_count(name, "one argument")) };
            serialised(binder.bind(argument)?)?
        }
        "JSON_OBJECT" => object(binder, asts)?,
        "JSON_ARRAY" => array(binder, asts)?,
        "JSON" => {
            return Err(SqlError::validation("JSON(s) stands only as a value in JSON_OBJECT and JSON_ARRAY"));
        }
        _ => return Ok(None),
    }))
}

fn wrong_count(name: &str, takes: &str) -> SqlError {
    SqlError::validation(format!("{name} takes {takes}"))
}

/// Document, path and the clauses behind them.
struct Parts<'a> {
    document: Expr,
    path: Expr,
    clauses: Vec<(String, Option<&'a Ast>)>,
}

fn text_of(ast: &Ast) -> Option<&str> {
    match ast {
        Ast::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn parts<'a>(binder: &mut Binder<'_, '_>, name: &str, asts: &'a [Ast]) -> Result<Parts<'a>, SqlError> {
    let [document, path, rest @ ..] = asts else { return Err(wrong_count(name, "a document and a path")) };
    let text = |expr: Expr| match expr.data_type.logical {
        ref ty if ty.is_string() => Ok(expr),
        ref other => Err(SqlError::validation(format!("{name} takes strings, not {other}"))),
    };
    let (document, path) = (text(binder.bind(document)?)?, text(binder.bind(path)?)?);
    let mut clauses = Vec::new();
    let mut rest = rest.iter();
    while let Some(clause) = rest.next() {
        let clause = text_of(clause)
            .and_then(|text| text.strip_prefix('$'))
            .ok_or_else(|| wrong_count(name, "a document, a path and clauses"))?;
        let takes = clause == "RETURNING" || clause.starts_with("DEFAULT");
        clauses.push((clause.to_owned(), if takes { rest.next() } else { None }));
    }
    Ok(Parts { document, path, clauses })
}

impl Parts<'_> {
    /// How `ON EMPTY` or `ON ERROR` is handled.
    fn handling(
        &self,
        name: &str,
        on: &str,
        allowed: &[&str],
        default: &str,
    ) -> Result<(String, Option<&Ast>), SqlError> {
        let mut found = None;
        for (clause, value) in &self.clauses {
            let Some(kind) = clause.strip_suffix(on) else { continue };
            let kind = kind.trim_end();
            if !allowed.contains(&kind) {
                return Err(SqlError::validation(format!("{name} has no {kind} {on}")));
            }
            found = Some((kind.to_owned(), *value));
        }
        Ok(found.unwrap_or_else(|| (default.to_owned(), None)))
    }

    fn returning(&self) -> Result<Option<T>, SqlError> {
        let ty = self.clauses.iter().find(|(clause, _)| clause == "RETURNING").and_then(|(_, value)| *value);
        match ty.and_then(text_of) {
            Some("VARCHAR") => Ok(Some(T::STRING)),
            Some(text) => Ok(Some(DataType::parse(text).map_err(|e| SqlError::validation(e.to_string()))?.logical)),
            None => Ok(None),
        }
    }
}

fn exists(binder: &mut Binder<'_, '_>, asts: &[Ast]) -> Result<Expr, SqlError> {
    let parts = parts(binder, "JSON_EXISTS", asts)?;
    let (on_error, _) = parts.handling("JSON_EXISTS", "ON ERROR", &["TRUE", "FALSE", "UNKNOWN", "ERROR"], "FALSE")?;
    let arguments = vec![parts.document, parts.path, literal::string(&on_error)];
    Ok(Expr::call("JSON_EXISTS", arguments, T::Boolean.nullable()))
}

fn value(binder: &mut Binder<'_, '_>, asts: &[Ast]) -> Result<Expr, SqlError> {
    let parts = parts(binder, "JSON_VALUE", asts)?;
    let result = parts.returning()?.unwrap_or(T::STRING);
    if !matches!(result, T::Boolean | T::Int | T::Double) && !result.is_string() {
        return Err(SqlError::validation(format!(
            "JSON_VALUE cannot return {result}: use STRING, BOOLEAN, INTEGER or DOUBLE and CAST"
        )));
    }
    let kinds = ["NULL", "ERROR", "DEFAULT"];
    let (on_empty, empty) = parts.handling("JSON_VALUE", "ON EMPTY", &kinds, "NULL")?;
    let (on_error, error) = parts.handling("JSON_VALUE", "ON ERROR", &kinds, "NULL")?;
    let mut default = |ast: Option<&Ast>| match ast {
        Some(ast) => {
            let value = binder.bind(ast)?;
            if value.data_type.logical.is_string() != result.is_string() && value.data_type.logical != T::Null {
                return Err(SqlError::validation(format!(
                    "JSON_VALUE returns {result}, but a default is {}",
                    value.data_type.logical
                )));
            }
            Ok(cast(value, &result))
        }
        None => Ok(Expr::literal(Literal::Null, result.clone().nullable())),
    };
    let (empty, error) = (default(empty)?, default(error)?);
    let (document, path) = (parts.document, parts.path);
    let arguments = vec![document, path, literal::string(&on_empty), literal::string(&on_error), empty, error];
    Ok(Expr::call("JSON_VALUE", arguments, result.nullable()))
}

fn query(binder: &mut Binder<'_, '_>, asts: &[Ast]) -> Result<Expr, SqlError> {
    let parts = parts(binder, "JSON_QUERY", asts)?;
    let result = parts.returning()?.unwrap_or(T::STRING);
    let strings = T::Array(Box::new(T::STRING.nullable()));
    if !result.is_string() && result != strings {
        return Err(SqlError::validation(format!("JSON_QUERY returns STRING or ARRAY<STRING>, not {result}")));
    }
    let kinds = ["NULL", "ERROR", "EMPTY ARRAY", "EMPTY OBJECT"];
    let (on_empty, _) = parts.handling("JSON_QUERY", "ON EMPTY", &kinds, "NULL")?;
    let (on_error, _) = parts.handling("JSON_QUERY", "ON ERROR", &kinds, "NULL")?;
    let wrapper =
        parts.clauses.iter().find_map(|(clause, _)| clause.strip_suffix(" WRAPPER")).unwrap_or("WITHOUT").to_owned();
    let options = [&wrapper, &on_empty, &on_error].map(|text| literal::string(text));
    let arguments = [parts.document, parts.path].into_iter().chain(options).collect();
    Ok(Expr::call("JSON_QUERY", arguments, result.nullable()))
}

/// A value for a constructor: JSON(s) is allowed here.
fn member(binder: &mut Binder<'_, '_>, ast: &Ast) -> Result<Expr, SqlError> {
    if let Ast::Function(function) = ast
        && function.name.to_string().eq_ignore_ascii_case("JSON")
    {
        let asts = super::call::plain_arguments("JSON", &function.args)?;
        let [text] = asts.as_slice() else { return Err(wrong_count("JSON", "one argument")) };
        let text = binder.bind(text)?;
        if !text.data_type.logical.is_string() {
            return Err(SqlError::validation(format!("JSON takes a string, not {}", text.data_type.logical)));
        }
        let nullable = text.data_type.nullable;
        return Ok(Expr::call("JSON", vec![text], DataType { logical: T::STRING, nullable }));
    }
    let value = binder.bind(ast)?;
    check_json(&value.data_type.logical)?;
    Ok(value)
}

/// Whether values of a type have a JSON form.
fn check_json(ty: &T) -> Result<(), SqlError> {
    match ty {
        T::Null => Err(super::bare_null()),
        T::Date | T::Time(_) | T::IntervalDayTime | T::IntervalYearMonth | T::Multiset(_) => {
            Err(SqlError::validation(format!("a value of type {ty} has no JSON form: CAST it to STRING")))
        }
        T::Array(item) => check_json(&item.logical),
        T::Map(key, value) if key.logical.is_string() => check_json(&value.logical),
        T::Map(key, _) => {
            Err(SqlError::validation(format!("a MAP with keys of type {} has no JSON form", key.logical)))
        }
        T::Row(fields) => fields.iter().try_for_each(|(_, ty)| check_json(&ty.logical)),
        _ => Ok(()),
    }
}

/// JSON_STRING(value).
pub(super) fn serialised(value: Expr) -> Result<Expr, SqlError> {
    check_json(&value.data_type.logical)?;
    let nullable = value.data_type.nullable;
    Ok(Expr::call("JSON_STRING", vec![value], DataType { logical: T::STRING, nullable }))
}

fn object(binder: &mut Binder<'_, '_>, asts: &[Ast]) -> Result<Expr, SqlError> {
    let [nulls, members @ ..] = asts else { return Err(wrong_count("JSON_OBJECT", "pairs of keys and values")) };
    let mut arguments = vec![binder.bind(nulls)?];
    for pair in members.chunks(2) {
        let [key, value] = pair else { return Err(wrong_count("JSON_OBJECT", "pairs of keys and values")) };
        let key = binder.bind(key)?;
        if !key.data_type.logical.is_string() {
            return Err(SqlError::validation(format!(
                "the keys of JSON_OBJECT are strings, not {}",
                key.data_type.logical
            )));
        }
        arguments.push(key);
        arguments.push(member(binder, value)?);
    }
    Ok(Expr::call("JSON_OBJECT", arguments, T::STRING.not_null()))
}

fn array(binder: &mut Binder<'_, '_>, asts: &[Ast]) -> Result<Expr, SqlError> {
    let [nulls, members @ ..] = asts else { return Err(wrong_count("JSON_ARRAY", "values")) };
    let mut arguments = vec![binder.bind(nulls)?];
    for value in members {
        arguments.push(member(binder, value)?);
    }
    Ok(Expr::call("JSON_ARRAY", arguments, T::STRING.not_null()))
}

/// `x IS JSON [VALUE | SCALAR | ARRAY | OBJECT]`.
pub(super) fn is_json(value: Expr, kind: Option<&JsonPredicateType>) -> Result<Expr, SqlError> {
    if !value.data_type.logical.is_string() {
        return Err(SqlError::validation(format!("IS JSON tests strings, not {}", value.data_type.logical)));
    }
    let kind = kind.map_or_else(|| "VALUE".to_owned(), ToString::to_string);
    Ok(Expr::call("IS JSON", vec![value, literal::string(&kind)], T::Boolean.not_null()))
}
