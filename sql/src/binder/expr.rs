//! The walk over the parser's tree.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T};
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType as AstType, DateTimeField, Expr as Ast,
    Ident, InTarget, Spanned, Subscript, TrimWhereField, UnaryOperator, Value,
};

use super::aggregate::{self, BoundAggregate};
use super::operators::{self, arithmetic, boolean_call, case, cast, comparison, concat, condition, in_list, logic};
use super::types::explicit_cast_allowed;
use super::{Scope, call, collection, json, literal};
use crate::error::SqlError;
use crate::functions;
use crate::parser::SYMMETRIC;

/// What columns mean.
pub(super) enum Mode<'m> {
    /// Columns of the input; aggregates are refused.
    Scalar,
    /// Group keys and aggregates.
    Grouped {
        /// Bound over the input.
        keys: &'m [Expr],
        /// Collected.
        aggregates: &'m mut Vec<BoundAggregate>,
    },
}

pub(super) struct Binder<'a, 'm> {
    pub scope: &'a Scope<'a>,
    pub mode: Mode<'m>,
}

impl Binder<'_, '_> {
    /// Binds `expr`; errors carry its place.
    pub fn bind(&mut self, expr: &Ast) -> Result<Expr, SqlError> {
        self.bind_here(expr).map_err(|error| error.or_at(expr.span()))
    }

    fn bind_here(&mut self, expr: &Ast) -> Result<Expr, SqlError> {
        if let Mode::Grouped { keys, .. } = &self.mode
            && let Ok(bound) = (Binder { scope: self.scope, mode: Mode::Scalar }).node(expr)
        {
            if let Some(position) = keys.iter().position(|key| *key == bound) {
                return Ok(Expr::column(position, bound.data_type));
            }
            let mut uses_columns = false;
            bound.visit(&mut |e| uses_columns |= e.as_column().is_some());
            if !uses_columns {
                return Ok(bound);
            }
        }
        self.node(expr)
    }

    /// Binds over the input's columns, whatever the mode: for arguments of aggregates.
    pub fn bind_input(&self, expr: &Ast) -> Result<Expr, SqlError> {
        Binder { scope: self.scope, mode: Mode::Scalar }.bind(expr)
    }

    fn all(&mut self, exprs: &[Ast]) -> Result<Vec<Expr>, SqlError> {
        exprs.iter().map(|e| self.bind(e)).collect()
    }

    fn node(&mut self, expr: &Ast) -> Result<Expr, SqlError> {
        match expr {
            Ast::Nested(inner) => self.bind(inner),
            Ast::Identifier(ident) => self.path(std::slice::from_ref(ident)),
            Ast::CompoundIdentifier(parts) => self.path(parts),
            Ast::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Ast::Value(value) => literal::value(&value.value),
            Ast::TypedString(typed) => typed_string(&typed.data_type, &typed.value.value),
            Ast::Interval(interval) => literal::interval(interval),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr),
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::IsTrue(e) => self.truth("IS TRUE", e),
            Ast::IsNotTrue(e) => self.truth("IS NOT TRUE", e),
            Ast::IsFalse(e) => self.truth("IS FALSE", e),
            Ast::IsNotFalse(e) => self.truth("IS NOT FALSE", e),
            Ast::IsUnknown(e) => self.truth("IS UNKNOWN", e),
            Ast::IsNotUnknown(e) => self.truth("IS NOT UNKNOWN", e),
            Ast::IsNull(e) => self.null_test("IS NULL", e),
            Ast::IsNotNull(e) => self.null_test("IS NOT NULL", e),
            Ast::IsDistinctFrom(a, b) => comparison("IS DISTINCT FROM", self.bind(a)?, self.bind(b)?),
            Ast::IsNotDistinctFrom(a, b) => comparison("IS NOT DISTINCT FROM", self.bind(a)?, self.bind(b)?),
            Ast::IsJson { expr, kind, unique_keys: None, negated } => {
                let tested = json::is_json(self.bind(expr)?, kind.as_ref())?;
                negate_if(*negated, tested)
            }
            Ast::Between { expr, negated, low, high } => self.between(expr, *negated, low, high),
            Ast::In { expr, target: InTarget::List(items), negated, .. } => {
                let found = in_list(self.bind(expr)?, self.all(items)?)?;
                negate_if(*negated, found)
            }
            Ast::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like("LIKE", *negated, expr, pattern, escape_char.as_deref())
            }
            Ast::SimilarTo { negated, expr, pattern, escape_char } => {
                self.like("SIMILAR TO", *negated, expr, pattern, escape_char.as_deref())
            }
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Ast::Cast { kind, expr, data_type, format: None } => self.cast(kind, expr, data_type),
            Ast::Extract { field, expr, .. } => {
                let value = self.bind(expr)?;
                call::extract(&literal::unit_name(field), value)
            }
            Ast::Ceil { expr, field } => self.floor_ceil("CEIL", expr, field),
            Ast::Floor { expr, field } => self.floor_ceil("FLOOR", expr, field),
            Ast::Position { expr, r#in } => {
                let arguments = vec![self.bind(expr)?, self.bind(r#in)?];
                builtin("POSITION", arguments)
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let from = match substring_from {
                    Some(from) => self.bind(from)?,
                    None => literal::number("1", false)?,
                };
                let mut arguments = vec![self.bind(expr)?, from];
                if let Some(length) = substring_for {
                    arguments.push(self.bind(length)?);
                }
                builtin("SUBSTRING", arguments)
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let side = match trim_where {
                    Some(TrimWhereField::Leading) => "LEADING",
                    Some(TrimWhereField::Trailing) => "TRAILING",
                    _ => "BOTH",
                };
                let set = trim_what.as_ref().map(|w| self.bind(w)).transpose()?;
                call::trim(side, self.bind(expr)?, set, true)
            }
            Ast::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut arguments = vec![self.bind(expr)?, self.bind(overlay_what)?, self.bind(overlay_from)?];
                if let Some(length) = overlay_for {
                    arguments.push(self.bind(length)?);
                }
                builtin("OVERLAY", arguments)
            }
            Ast::Function(function) => match aggregate::name_of(function) {
                Some(name) => self.aggregate(&name, function),
                None => call::function(self, function),
            },
            Ast::Array(array) if array.named => collection::array(self.all(&array.elem)?),
            Ast::Tuple(fields) => collection::row(self.all(fields)?),
            Ast::Subquery(_) | Ast::Exists { .. } | Ast::In { .. } => {
                Err(SqlError::unsupported("subqueries in expressions are", expr.span()))
            }
            Ast::ILike { .. } | Ast::RLike { .. } => Err(SqlError::validation(
                "ILIKE and RLIKE are not part of Flink SQL: use LOWER(x) LIKE p, or REGEXP(x, p)",
            )),
            Ast::AtTimeZone { .. } => Err(SqlError::validation(
                "AT TIME ZONE is not part of Flink SQL: use CONVERT_TZ, or CAST and the session's time zone",
            )),
            other => Err(SqlError::unsupported(format!("expressions as '{other}' are"), other.span())),
        }
    }

    fn aggregate(&mut self, name: &str, function: &sqlparser::ast::Function) -> Result<Expr, SqlError> {
        if function.over.is_some() {
            return Err(SqlError::unsupported("OVER windows here are", function.name.span()));
        }
        let Mode::Grouped { .. } = &self.mode else {
            return Err(SqlError::validation(format!(
                "the aggregate {name} is not allowed here: aggregates stand in SELECT and HAVING, not in other aggregates, WHERE or GROUP BY"
            )));
        };
        let bound = aggregate::bind(self, name, function)?;
        let Mode::Grouped { keys, aggregates } = &mut self.mode else {
            return Err(SqlError::Internal("the binder lost its groups".to_owned()));
        };
        let position = match aggregates.iter().position(|known| *known == bound) {
            Some(position) => position,
            None => {
                aggregates.push(bound.clone());
                aggregates.len() - 1
            }
        };
        Ok(Expr::column(keys.len() + position, bound.result))
    }

    /// `column`, `table.column`, `column.field`, `table.column.field`.
    fn path(&mut self, parts: &[Ident]) -> Result<Expr, SqlError> {
        if let [name] = parts
            && name.quote_style.is_none()
            && name.value.eq_ignore_ascii_case("PI")
            && self.column(parts)?.is_none()
        {
            return builtin("PI", Vec::new());
        }
        let written = || parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".");
        let (column, used) = self.column(parts)?.ok_or_else(|| {
            let names: Vec<&str> = self.scope.columns.iter().map(|c| c.name.as_str()).collect();
            let known = if names.is_empty() {
                "there are no columns here".to_owned()
            } else {
                format!("columns are {}", names.join(", "))
            };
            SqlError::validation(format!("there is no column '{}': {known}", written()))
        })?;
        if matches!(self.mode, Mode::Grouped { .. }) {
            return Err(SqlError::validation(format!(
                "column '{}' is neither grouped by nor aggregated: add it to GROUP BY or use an aggregate",
                written()
            )));
        }
        parts[used..].iter().try_fold(column, |row, part| collection::field(row, &part.value))
    }

    /// The column that the first parts name, and how many of them do.
    fn column(&self, parts: &[Ident]) -> Result<Option<(Expr, usize)>, SqlError> {
        let unique = |qualifier: Option<&str>, name: &str| {
            let mut found = self
                .scope
                .columns
                .iter()
                .filter(|c| c.name == name && qualifier.is_none_or(|q| c.qualifier.as_deref() == Some(q)));
            match (found.next(), found.next()) {
                (Some(column), None) => Ok(Some(Expr::column(column.index, column.data_type.clone()))),
                (None, _) => Ok(None),
                _ => Err(SqlError::validation(format!("column '{name}' is ambiguous: write its table before it"))),
            }
        };
        for at in 1..parts.len() {
            // A qualifier may be `catalog.database.table`: only its last part counts.
            if let Some(column) = unique(Some(&parts[at - 1].value), &parts[at].value)? {
                return Ok(Some((column, at + 1)));
            }
        }
        match parts.first() {
            Some(first) => Ok(unique(None, &first.value)?.map(|column| (column, 1))),
            None => Ok(None),
        }
    }

    fn access(&mut self, root: &Ast, chain: &[AccessExpr]) -> Result<Expr, SqlError> {
        if let Ast::Identifier(ident) = root
            && ident.quote_style.is_none()
            && ident.value.eq_ignore_ascii_case("MAP")
            && let [AccessExpr::Subscript(Subscript::Index { .. })] = chain
        {
            return Err(SqlError::parse("MAP needs pairs of keys and values", None));
        }
        let mut value = self.bind(root)?;
        for access in chain {
            value = match access {
                AccessExpr::Dot(Ast::Identifier(ident)) => collection::field(value, &ident.value)?,
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index = self.bind(index)?;
                    collection::item(value, index)?
                }
                other => return Err(SqlError::parse(format!("'{other}' is no access to a field or element"), None)),
            };
        }
        Ok(value)
    }

    fn unary(&mut self, op: UnaryOperator, expr: &Ast) -> Result<Expr, SqlError> {
        match op {
            UnaryOperator::Minus => {
                if let Ast::Value(value) = expr
                    && let Value::Number(text, _) = &value.value
                {
                    return literal::number(text, true);
                }
                operators::negate(self.bind(expr)?)
            }
            UnaryOperator::Plus => {
                let value = self.bind(expr)?;
                if value.data_type.logical.is_numeric() || value.data_type.logical.is_interval() {
                    return Ok(value);
                }
                Err(SqlError::validation(format!("+ needs a number, not {}", value.data_type.logical)))
            }
            UnaryOperator::Not => logic("NOT", vec![self.bind(expr)?]),
            other => Err(SqlError::parse(format!("there is no operator {other} in Flink SQL"), None)),
        }
    }

    fn binary(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Result<Expr, SqlError> {
        let name = match op {
            BinaryOperator::Plus => "+",
            BinaryOperator::Minus => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::Modulo => "%",
            BinaryOperator::StringConcat => "||",
            BinaryOperator::Eq => "=",
            BinaryOperator::NotEq => "<>",
            BinaryOperator::Lt => "<",
            BinaryOperator::LtEq => "<=",
            BinaryOperator::Gt => ">",
            BinaryOperator::GtEq => ">=",
            BinaryOperator::And => "AND",
            BinaryOperator::Or => "OR",
            other => return Err(SqlError::parse(format!("there is no operator {other} in Flink SQL"), None)),
        };
        let (left, right) = (self.bind(left)?, self.bind(right)?);
        match name {
            "+" | "-" | "*" | "/" | "%" => arithmetic(name, left, right),
            "||" => concat(left, right),
            "AND" | "OR" => logic(name, vec![left, right]),
            _ => comparison(name, left, right),
        }
    }

    fn truth(&mut self, name: &str, expr: &Ast) -> Result<Expr, SqlError> {
        let value = condition(self.bind(expr)?, name)?;
        Ok(Expr::call(name, vec![value], T::Boolean.not_null()))
    }

    fn null_test(&mut self, name: &str, expr: &Ast) -> Result<Expr, SqlError> {
        let mut value = self.bind(expr)?;
        if value.data_type.logical == T::Null {
            value = cast(value, &T::Int);
        }
        Ok(Expr::call(name, vec![value], T::Boolean.not_null()))
    }

    fn between(&mut self, expr: &Ast, negated: bool, low: &Ast, high: &Ast) -> Result<Expr, SqlError> {
        let value = self.bind(expr)?;
        let mut within = |low: &Ast, high: &Ast| {
            let above = comparison(">=", value.clone(), self.bind(low)?)?;
            let below = comparison("<=", value.clone(), self.bind(high)?)?;
            Ok::<_, SqlError>(boolean_call("AND", vec![above, below]))
        };
        if let Ast::Function(function) = low
            && function.name.to_string() == SYMMETRIC
        {
            let bounds = call::plain_arguments("BETWEEN SYMMETRIC", &function.args)?;
            let [low] = bounds.as_slice() else {
                return Err(SqlError::validation("BETWEEN SYMMETRIC takes two bounds"));
            };
            let either = boolean_call("OR", vec![within(low, high)?, within(high, low)?]);
            return negate_if(negated, either);
        }
        let between = within(low, high)?;
        negate_if(negated, between)
    }

    fn like(
        &mut self,
        name: &str,
        negated: bool,
        expr: &Ast,
        pattern: &Ast,
        escape: Option<&Ast>,
    ) -> Result<Expr, SqlError> {
        let mut arguments = vec![self.bind(expr)?, self.bind(pattern)?];
        if let Some(escape) = escape {
            arguments.push(self.bind(escape)?);
        }
        if let Some(other) = arguments.iter().map(|a| &a.data_type.logical).find(|t| !t.is_string()) {
            return Err(SqlError::validation(format!("{name} compares strings, not {other}")));
        }
        if name == "LIKE" {
            check_escapes(&arguments)?;
        }
        negate_if(negated, boolean_call(name, arguments))
    }

    fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
    ) -> Result<Expr, SqlError> {
        let operand = operand.map(|o| self.bind(o)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for when in conditions {
            let tested = self.bind(&when.condition)?;
            let tested = match &operand {
                Some(operand) => comparison("=", operand.clone(), tested)?,
                None => condition(tested, "WHEN")?,
            };
            branches.push((tested, self.bind(&when.result)?));
        }
        let otherwise = otherwise.map(|o| self.bind(o)).transpose()?;
        case(branches, otherwise)
    }

    fn cast(&mut self, kind: &CastKind, expr: &Ast, data_type: &AstType) -> Result<Expr, SqlError> {
        let safe = match kind {
            CastKind::Cast => false,
            CastKind::TryCast => true,
            _ => return Err(SqlError::parse("write CAST(x AS type)", None)),
        };
        let to = cast_type(data_type)?;
        let input = self.bind(expr)?;
        if input.data_type.logical == T::Null {
            return Ok(cast(input, &to));
        }
        if !explicit_cast_allowed(&input.data_type.logical, &to) {
            return Err(no_cast(&input.data_type.logical, &to));
        }
        let nullable = safe || input.data_type.nullable;
        if input.data_type.logical == to {
            return Ok(Expr { data_type: DataType { logical: to, nullable }, ..input });
        }
        let kind = ExprKind::Cast { input: Box::new(input), safe };
        Ok(Expr { kind, data_type: DataType { logical: to, nullable } })
    }

    fn floor_ceil(&mut self, name: &str, expr: &Ast, field: &CeilFloorKind) -> Result<Expr, SqlError> {
        let value = self.bind(expr)?;
        match field {
            CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => builtin(name, vec![value]),
            CeilFloorKind::DateTimeField(field) => call::round_to_unit(name, value, &literal::unit_name(field)),
            CeilFloorKind::Scale(_) => Err(SqlError::validation(format!("{name} takes one number, or x TO unit"))),
        }
    }
}

/// A built-in function that the registry must know.
pub(super) fn builtin(name: &str, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    functions::call(name, arguments)
        .unwrap_or_else(|| Err(SqlError::Internal(format!("the function registry lacks {name}"))))
}

fn negate_if(negated: bool, expr: Expr) -> Result<Expr, SqlError> {
    if negated { logic("NOT", vec![expr]) } else { Ok(expr) }
}

fn no_cast(from: &T, to: &T) -> SqlError {
    let hint = match (from, to) {
        (from, to) if from.is_numeric() && to.is_timestamp() => ": use TO_TIMESTAMP_LTZ(epoch, precision)",
        (from, to) if from.is_timestamp() && to.is_numeric() => ": use UNIX_TIMESTAMP or EXTRACT(EPOCH FROM x)",
        _ => "",
    };
    SqlError::validation(format!("{from} cannot be cast to {to}{hint}"))
}

/// The target of a CAST. Without length, VARCHAR and VARBINARY have the greatest one here.
fn cast_type(data_type: &AstType) -> Result<T, SqlError> {
    let text = match data_type {
        AstType::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [part] => part.as_ident().map_or_else(|| name.to_string(), |ident| ident.value.clone()),
            _ => name.to_string(),
        },
        other => other.to_string(),
    };
    match text.to_uppercase().as_str() {
        "VARCHAR" | "CHARACTER VARYING" | "CHAR VARYING" => return Ok(T::STRING),
        "VARBINARY" => return Ok(T::BYTES),
        _ => {}
    }
    Ok(DataType::parse(&text).map_err(|e| SqlError::validation(e.to_string()))?.logical)
}

/// `DATE '...'` and its like.
fn typed_string(data_type: &AstType, value: &Value) -> Result<Expr, SqlError> {
    let Value::SingleQuotedString(text) = value else {
        return Err(SqlError::parse(format!("{data_type} needs a string in single quotes"), None));
    };
    match data_type {
        AstType::Date => literal::date_literal(text),
        AstType::Time(None, _) => literal::time_literal(text),
        AstType::Timestamp(None, _) => literal::timestamp_literal(text),
        AstType::Decimal(_) => {
            let (sign, digits) = match text.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, text.as_str()),
            };
            let ok = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            if ok {
                literal::number(digits, sign)
            } else {
                Err(SqlError::validation(format!("'{text}' is no DECIMAL")))
            }
        }
        other => Err(SqlError::parse(format!("there are no {other} literals: use CAST('{text}' AS {other})"), None)),
    }
}

/// In a literal LIKE pattern the escape character stands before `%`, `_` or itself only.
fn check_escapes(arguments: &[Expr]) -> Result<(), SqlError> {
    let [_, pattern, escape] = arguments else { return Ok(()) };
    let (Some(pattern), Some(escape)) = (literal_text(pattern), literal_text(escape)) else { return Ok(()) };
    let mut characters = escape.chars();
    let (Some(escape), None) = (characters.next(), characters.next()) else {
        return if escape.is_empty() {
            Ok(())
        } else {
            Err(SqlError::validation(format!("ESCAPE needs one character, not '{escape}'")))
        };
    };
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c == escape && !rest.next().is_some_and(|next| next == '%' || next == '_' || next == escape) {
            return Err(SqlError::validation(format!(
                "the pattern '{pattern}' has its escape character before something else than %, _ or itself"
            )));
        }
    }
    Ok(())
}

/// A string literal's value.
pub(super) fn literal_text(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}
