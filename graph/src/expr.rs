//! Typed scalar expressions: what the SQL binder produces, what job graphs carry, and what the
//! engine compiles to vectorised kernels.
//!
//! Every node knows its result type. All casts are explicit; a consumer inserts none. Functions and
//! operators are named calls: `+`, `=`, `AND`, `IS NULL`, `UPPER`, ... The names that exist, with
//! their result types, are fixed by the SQL function registry; their kernels live in the engine.

use std::fmt;

use hurtig_proto::v1;

use crate::error::GraphError;
use crate::schema::RowSchema;
use crate::types::{DataType, LogicalType};

/// An expression with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it does.
    pub kind: ExprKind,
    /// What it gives.
    pub data_type: DataType,
}

/// The node kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A column of the input, by position.
    Column(usize),
    /// A constant.
    Literal(Literal),
    /// A function or operator, by its upper-case name.
    Call {
        /// The registered name.
        function: String,
        /// In order.
        arguments: Vec<Expr>,
    },
    /// A cast to this node's type, by Flink's run-time rules.
    Cast {
        /// What is cast.
        input: Box<Expr>,
        /// TRY_CAST: NULL instead of an error.
        safe: bool,
    },
    /// CASE WHEN c1 THEN r1 ... ELSE e END; results are of this node's type. Only the chosen
    /// result is evaluated.
    Case {
        /// Condition and result, in order.
        branches: Vec<(Expr, Expr)>,
        /// NULL when missing.
        otherwise: Option<Box<Expr>>,
    },
}

/// A constant, in the physical unit of its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// NULL
    Null,
    /// BOOLEAN
    Boolean(bool),
    /// Integers; DATE in days; TIME in ms; timestamps in the unit of their precision; intervals in
    /// months or ms.
    Int(i64),
    /// FLOAT, DOUBLE
    Double(f64),
    /// CHAR, VARCHAR
    String(String),
    /// DECIMAL: the unscaled value; the scale is that of the type.
    Decimal(i128),
    /// BINARY, VARBINARY
    Bytes(Vec<u8>),
}

impl Expr {
    /// A column reference.
    pub fn column(index: usize, data_type: DataType) -> Expr {
        Expr { kind: ExprKind::Column(index), data_type }
    }

    /// The column `index` of `schema`.
    pub fn column_of(schema: &RowSchema, index: usize) -> Expr {
        Expr::column(index, schema.fields[index].data_type.clone())
    }

    /// A constant.
    pub fn literal(literal: Literal, data_type: DataType) -> Expr {
        Expr { kind: ExprKind::Literal(literal), data_type }
    }

    /// A call.
    pub fn call(function: impl Into<String>, arguments: Vec<Expr>, data_type: DataType) -> Expr {
        Expr { kind: ExprKind::Call { function: function.into(), arguments }, data_type }
    }

    /// A cast, or `self` when it has that type already (nullability aside).
    pub fn cast_to(self, data_type: DataType) -> Expr {
        if self.data_type.logical == data_type.logical {
            return Expr { kind: self.kind, data_type };
        }
        Expr { kind: ExprKind::Cast { input: Box::new(self), safe: false }, data_type }
    }

    /// Whether it is a bare column.
    pub fn as_column(&self) -> Option<usize> {
        match self.kind {
            ExprKind::Column(index) => Some(index),
            _ => None,
        }
    }

    /// Calls `visit` on this node and all below.
    pub fn visit(&self, visit: &mut impl FnMut(&Expr)) {
        visit(self);
        self.for_each_child(|child| child.visit(visit));
    }

    /// Calls `f` on each direct child.
    pub fn for_each_child(&self, mut f: impl FnMut(&Expr)) {
        match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => {}
            ExprKind::Call { arguments, .. } => arguments.iter().for_each(f),
            ExprKind::Cast { input, .. } => f(input),
            ExprKind::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    f(condition);
                    f(result);
                }
                if let Some(otherwise) = otherwise {
                    f(otherwise);
                }
            }
        }
    }

    /// The expression with every column position replaced.
    pub fn map_columns(&self, map: &impl Fn(usize) -> usize) -> Expr {
        self.replace_columns(&|index, ty| Expr::column(map(index), ty.clone()))
    }

    /// The expression with every column replaced by what `replace` gives for its position and type.
    pub fn replace_columns(&self, replace: &impl Fn(usize, &DataType) -> Expr) -> Expr {
        self.replace(&mut |expr| expr.as_column().map(|index| replace(index, &expr.data_type)))
    }

    /// The expression with each part replaced for which `replace` gives another one. It is asked about the
    /// whole first, then about the children of what stays.
    pub fn replace(&self, replace: &mut dyn FnMut(&Expr) -> Option<Expr>) -> Expr {
        if let Some(other) = replace(self) {
            return other;
        }
        let kind = match &self.kind {
            ExprKind::Column(index) => ExprKind::Column(*index),
            ExprKind::Literal(literal) => ExprKind::Literal(literal.clone()),
            ExprKind::Call { function, arguments } => ExprKind::Call {
                function: function.clone(),
                arguments: arguments.iter().map(|a| a.replace(replace)).collect(),
            },
            ExprKind::Cast { input, safe } => ExprKind::Cast { input: Box::new(input.replace(replace)), safe: *safe },
            ExprKind::Case { branches, otherwise } => ExprKind::Case {
                branches: branches.iter().map(|(c, r)| (c.replace(replace), r.replace(replace))).collect(),
                otherwise: otherwise.as_ref().map(|o| Box::new(o.replace(replace))),
            },
        };
        Expr { kind, data_type: self.data_type.clone() }
    }

    /// The wire form.
    pub fn to_proto(&self) -> v1::Expr {
        use v1::expr::Kind;
        let kind = match &self.kind {
            ExprKind::Column(index) => Kind::Column(v1::ColumnRef { index: *index as u32, name: String::new() }),
            ExprKind::Literal(literal) => Kind::Literal(literal_to_proto(literal)),
            ExprKind::Call { function, arguments } => Kind::Call(v1::Call {
                function: function.clone(),
                arguments: arguments.iter().map(Expr::to_proto).collect(),
            }),
            ExprKind::Cast { input, safe } => {
                Kind::Cast(Box::new(v1::Cast { input: Some(Box::new(input.to_proto())), safe: *safe }))
            }
            ExprKind::Case { branches, otherwise } => Kind::CaseWhen(Box::new(v1::Case {
                conditions: branches.iter().map(|(c, _)| c.to_proto()).collect(),
                results: branches.iter().map(|(_, r)| r.to_proto()).collect(),
                otherwise: otherwise.as_ref().map(|o| Box::new(o.to_proto())),
            })),
        };
        v1::Expr { kind: Some(kind), r#type: self.data_type.to_string() }
    }

    /// From the wire form over rows of `input`. Column names are resolved, column types are
    /// checked; SQL text is refused (it must have been resolved before).
    ///
    /// # Errors
    /// [`GraphError::Graph`] with the path of the wrong part below `path`.
    pub fn from_proto(proto: &v1::Expr, input: &RowSchema, path: &str) -> Result<Expr, GraphError> {
        use v1::expr::Kind;
        let kind = match &proto.kind {
            None => {
                return Err(GraphError::at(
                    path,
                    "the expression is empty: set sql, column, literal, call, cast or case_when",
                ));
            }
            Some(Kind::Sql(text)) => {
                return Err(GraphError::at(path, format!("the SQL text '{text}' has not been resolved")));
            }
            Some(Kind::Column(column)) => return column_from_proto(column, input, path),
            Some(Kind::Literal(literal)) => {
                let ty = DataType::parse(&proto.r#type).map_err(|e| GraphError::at(path, e.to_string()))?;
                ExprKind::Literal(literal_from_proto(literal, &ty.logical, path)?)
            }
            Some(Kind::Call(call)) => ExprKind::Call {
                function: call.function.to_uppercase(),
                arguments: call
                    .arguments
                    .iter()
                    .enumerate()
                    .map(|(i, a)| Expr::from_proto(a, input, &format!("{path}.call.arguments[{i}]")))
                    .collect::<Result<_, _>>()?,
            },
            Some(Kind::Cast(cast)) => {
                let inner = cast.input.as_ref().ok_or_else(|| GraphError::at(path, "cast.input is missing"))?;
                let input = Expr::from_proto(inner, input, &format!("{path}.cast.input"))?;
                ExprKind::Cast { input: Box::new(input), safe: cast.safe }
            }
            Some(Kind::CaseWhen(case)) => case_from_proto(case, input, path)?,
        };
        let data_type = DataType::parse(&proto.r#type).map_err(|e| GraphError::at(path, e.to_string()))?;
        Ok(Expr { kind, data_type })
    }
}

fn column_from_proto(column: &v1::ColumnRef, input: &RowSchema, path: &str) -> Result<Expr, GraphError> {
    let index = if column.name.is_empty() {
        column.index as usize
    } else {
        input
            .index_of(&column.name)
            .ok_or_else(|| GraphError::at(path, format!("the input has no column '{}'", column.name)))?
    };
    match input.fields.get(index) {
        Some(field) => Ok(Expr::column(index, field.data_type.clone())),
        None => Err(GraphError::at(path, format!("column {index} does not exist: the input has {}", input.len()))),
    }
}

fn case_from_proto(case: &v1::Case, input: &RowSchema, path: &str) -> Result<ExprKind, GraphError> {
    if case.conditions.len() != case.results.len() {
        return Err(GraphError::at(path, "case_when needs as many results as conditions"));
    }
    let mut branches = Vec::new();
    for (i, (condition, result)) in case.conditions.iter().zip(&case.results).enumerate() {
        branches.push((
            Expr::from_proto(condition, input, &format!("{path}.case_when.conditions[{i}]"))?,
            Expr::from_proto(result, input, &format!("{path}.case_when.results[{i}]"))?,
        ));
    }
    let otherwise = match &case.otherwise {
        Some(otherwise) => Some(Box::new(Expr::from_proto(otherwise, input, &format!("{path}.case_when.otherwise"))?)),
        None => None,
    };
    Ok(ExprKind::Case { branches, otherwise })
}

fn literal_to_proto(literal: &Literal) -> v1::Literal {
    use v1::literal::Value;
    let value = match literal {
        Literal::Null => None,
        Literal::Boolean(b) => Some(Value::BoolValue(*b)),
        Literal::Int(i) => Some(Value::IntValue(*i)),
        Literal::Double(d) => Some(Value::DoubleValue(*d)),
        Literal::String(s) => Some(Value::StringValue(s.clone())),
        // The unscaled digits: the scale is in the type.
        Literal::Decimal(d) => Some(Value::StringValue(format!("{d}e"))),
        Literal::Bytes(b) => Some(Value::BytesValue(b.clone())),
    };
    v1::Literal { value }
}

fn literal_from_proto(literal: &v1::Literal, ty: &LogicalType, path: &str) -> Result<Literal, GraphError> {
    use v1::literal::Value;
    let wrong = || GraphError::at(path, format!("the literal's value does not fit its type {ty}"));
    Ok(match (&literal.value, ty) {
        (None, _) => Literal::Null,
        (Some(Value::BoolValue(b)), LogicalType::Boolean) => Literal::Boolean(*b),
        (Some(Value::DoubleValue(d)), t) if t.is_approximate_numeric() => Literal::Double(*d),
        (Some(Value::StringValue(s)), t) if t.is_string() => Literal::String(s.clone()),
        (Some(Value::StringValue(s)), LogicalType::Decimal(_, scale)) => {
            Literal::Decimal(parse_decimal(s, *scale).ok_or_else(wrong)?)
        }
        (Some(Value::BytesValue(b)), t) if t.is_binary() => Literal::Bytes(b.clone()),
        (Some(Value::IntValue(i)), t) if t.is_integer() || t.is_temporal() || t.is_interval() => Literal::Int(*i),
        (Some(Value::IntValue(i)), LogicalType::Decimal(_, scale)) => {
            Literal::Decimal(i128::from(*i) * 10_i128.pow(u32::from(*scale)))
        }
        (Some(Value::IntValue(i)), t) if t.is_approximate_numeric() => Literal::Double(*i as f64),
        _ => return Err(wrong()),
    })
}

/// Plain decimal text to its unscaled value at `scale`; `digits` + `e` is unscaled already.
fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    if let Some(unscaled) = text.strip_suffix('e') {
        return unscaled.parse().ok();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > usize::from(scale) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{fraction:0<width$}", width = usize::from(scale)).parse().ok()
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Column(index) => write!(f, "${index}"),
            ExprKind::Literal(literal) => write_literal(f, literal, &self.data_type.logical),
            ExprKind::Call { function, arguments } => write_call(f, function, arguments),
            ExprKind::Cast { input, safe } => {
                let name = if *safe { "TRY_CAST" } else { "CAST" };
                write!(f, "{name}({input} AS {})", self.data_type.logical)
            }
            ExprKind::Case { branches, otherwise } => {
                f.write_str("CASE")?;
                for (condition, result) in branches {
                    write!(f, " WHEN {condition} THEN {result}")?;
                }
                if let Some(otherwise) = otherwise {
                    write!(f, " ELSE {otherwise}")?;
                }
                f.write_str(" END")
            }
        }
    }
}

fn write_call(f: &mut fmt::Formatter<'_>, function: &str, arguments: &[Expr]) -> fmt::Result {
    let infix =
        !function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || function == "AND" || function == "OR";
    if infix && arguments.len() == 2 {
        return write!(f, "({} {function} {})", arguments[0], arguments[1]);
    }
    write!(f, "{function}(")?;
    for (i, argument) in arguments.iter().enumerate() {
        write!(f, "{}{argument}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

fn write_literal(f: &mut fmt::Formatter<'_>, literal: &Literal, ty: &LogicalType) -> fmt::Result {
    match literal {
        Literal::Null => f.write_str("NULL"),
        Literal::Boolean(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
        Literal::Int(i) if ty.is_integer() => write!(f, "{i}"),
        Literal::Int(i) => write!(f, "{i}:{ty}"),
        Literal::Double(d) => write!(f, "{d:?}"),
        Literal::String(s) => write!(f, "'{}'", s.replace('\'', "''")),
        Literal::Decimal(d) => write!(f, "{d}:{ty}"),
        Literal::Bytes(b) => {
            f.write_str("x'")?;
            b.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::RowField;

    #[test]
    fn wire_form_round_trips() {
        let input = RowSchema::new(vec![
            RowField::new("a", LogicalType::Int.nullable()),
            RowField::new("b", LogicalType::Decimal(10, 2).not_null()),
        ]);
        let a = Expr::column_of(&input, 0);
        let b = Expr::column_of(&input, 1);
        let two = Expr::literal(Literal::Decimal(-250), LogicalType::Decimal(3, 2).not_null());
        let sum = Expr::call("+", vec![b, two], LogicalType::Decimal(11, 2).not_null());
        let case = Expr {
            kind: ExprKind::Case {
                branches: vec![(Expr::call("IS NULL", vec![a], LogicalType::Boolean.not_null()), sum)],
                otherwise: Some(Box::new(Expr::literal(Literal::Null, LogicalType::Decimal(11, 2).nullable()))),
            },
            data_type: LogicalType::Decimal(11, 2).nullable(),
        };
        let cast = case.cast_to(LogicalType::STRING.nullable());
        assert_eq!(Expr::from_proto(&cast.to_proto(), &input, "e").unwrap(), cast);
    }

    #[test]
    fn columns_are_found_by_name_and_checked() {
        let input = RowSchema::new(vec![RowField::new("a", LogicalType::Int.nullable())]);
        let by_name = |name: &str| v1::Expr {
            kind: Some(v1::expr::Kind::Column(v1::ColumnRef { index: 0, name: name.into() })),
            r#type: String::new(),
        };
        assert_eq!(Expr::from_proto(&by_name("a"), &input, "e").unwrap().as_column(), Some(0));
        let error = Expr::from_proto(&by_name("z"), &input, "e").unwrap_err();
        assert_eq!(error.to_string(), "e: the input has no column 'z'");
    }

    #[test]
    fn decimal_text_is_read_at_the_scale_of_the_type() {
        assert_eq!(parse_decimal("12.5", 2), Some(1250));
        assert_eq!(parse_decimal("-0.05", 2), Some(-5));
        assert_eq!(parse_decimal("1.250", 2), Some(125));
        assert_eq!(parse_decimal("1.251", 2), None);
    }
}
