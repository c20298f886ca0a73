//! Windows: what TUMBLE, HOP and CUMULATE mean, and their table functions in FROM.

use hurtig_graph::{ExprKind, Literal, LogicalType, TimeAttribute};
use hurtig_proto::v1;
use sqlparser::ast::{
    Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableFactor,
};
use sqlparser::tokenizer::Span;

use super::node::NodeKind;
use super::query::{Environment, Relation};
use super::{Planner, object_name};
use crate::binder::{self, Scope};
use crate::error::SqlError;
use crate::parser::{Name, OPTIONS_HINT, TABLE_ARGUMENT};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowKind {
    Tumble,
    Hop,
    Cumulate,
}

/// How rows are assigned to windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub kind: WindowKind,
    /// The time attribute.
    pub time_column: usize,
    pub size_ms: i64,
    /// HOP: slide; CUMULATE: step; TUMBLE: the size.
    pub slide_ms: i64,
    pub offset_ms: i64,
    /// Of windows over TIMESTAMP_LTZ.
    pub time_zone: String,
}

impl Window {
    /// Whether a row can belong to several windows.
    pub(crate) fn overlaps(&self) -> bool {
        self.kind != WindowKind::Tumble && self.slide_ms != self.size_ms
    }

    /// The same window over another column.
    pub(crate) fn over(&self, time_column: usize) -> Window {
        Window { time_column, ..self.clone() }
    }

    pub(crate) fn to_proto(&self) -> v1::WindowSpec {
        let (kind, slide_ms) = match self.kind {
            WindowKind::Tumble => (v1::WindowKind::Tumble, 0),
            WindowKind::Hop => (v1::WindowKind::Hop, self.slide_ms),
            WindowKind::Cumulate => (v1::WindowKind::Cumulate, self.slide_ms),
        };
        v1::WindowSpec {
            kind: kind as i32,
            time_column: self.time_column as u32,
            size_ms: self.size_ms,
            slide_ms,
            offset_ms: self.offset_ms,
            time_name: String::new(),
            time_zone: self.time_zone.clone(),
        }
    }

    /// For plans.
    pub(crate) fn describe(&self, time: &str) -> String {
        let mut text = match self.kind {
            WindowKind::Tumble => format!("TUMBLE({time}, size {} ms", self.size_ms),
            WindowKind::Hop => format!("HOP({time}, slide {} ms, size {} ms", self.slide_ms, self.size_ms),
            WindowKind::Cumulate => format!("CUMULATE({time}, step {} ms, size {} ms", self.slide_ms, self.size_ms),
        };
        if self.offset_ms != 0 {
            text.push_str(&format!(", offset {} ms", self.offset_ms));
        }
        text.push(')');
        text
    }

    /// Refuses what cannot be aggregated.
    pub(crate) fn check_aggregation(&self) -> Result<(), SqlError> {
        let (name, part) = match self.kind {
            WindowKind::Tumble => return Ok(()),
            WindowKind::Hop => ("HOP", "slide"),
            WindowKind::Cumulate => ("CUMULATE", "step"),
        };
        if self.size_ms % self.slide_ms == 0 {
            return Ok(());
        }
        Err(SqlError::validation(format!(
            "an aggregation over {name} windows needs a size that is a multiple of the {part}, but the size is {} ms \
             and the {part} {} ms",
            self.size_ms, self.slide_ms
        )))
    }
}

/// Which columns of a node are bounds of the windows that its rows belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WindowColumns {
    pub window: Window,
    pub start: Vec<usize>,
    pub end: Vec<usize>,
    pub time: Vec<usize>,
}

/// The three bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowBound {
    Start,
    End,
    Time,
}

impl WindowColumns {
    /// The three columns from `at`.
    pub(crate) fn at(window: Window, at: usize) -> WindowColumns {
        WindowColumns { window, start: vec![at], end: vec![at + 1], time: vec![at + 2] }
    }

    /// With the columns that each column becomes; `None` when no bound is left.
    pub(crate) fn map(&self, positions: impl Fn(usize) -> Vec<usize>) -> Option<WindowColumns> {
        let map = |columns: &[usize]| columns.iter().flat_map(|&c| positions(c)).collect::<Vec<_>>();
        let mapped = WindowColumns {
            window: self.window.clone(),
            start: map(&self.start),
            end: map(&self.end),
            time: map(&self.time),
        };
        (!mapped.start.is_empty() || !mapped.end.is_empty() || !mapped.time.is_empty()).then_some(mapped)
    }

    /// Which bound `column` is.
    pub(crate) fn bound(&self, column: usize) -> Option<WindowBound> {
        if self.start.contains(&column) {
            Some(WindowBound::Start)
        } else if self.end.contains(&column) {
            Some(WindowBound::End)
        } else if self.time.contains(&column) {
            Some(WindowBound::Time)
        } else {
            None
        }
    }
}

/// The call of a window table function in FROM.
pub(crate) struct WindowCall<'a> {
    kind: WindowKind,
    name: String,
    arguments: Vec<(Option<String>, &'a Ast)>,
    span: Span,
}

impl<'a> WindowCall<'a> {
    /// If `factor` calls a window table function.
    pub(crate) fn of(factor: &'a TableFactor) -> Result<Option<WindowCall<'a>>, SqlError> {
        let (name, arguments): (&ObjectName, &[FunctionArg]) = match factor {
            TableFactor::TableFunction { expr: Ast::Function(function), .. } => match &function.args {
                FunctionArguments::List(list) => (&function.name, &list.args),
                _ => return Ok(None),
            },
            TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
            _ => return Ok(None),
        };
        let span = factor.span();
        let text = name.to_string().to_ascii_uppercase();
        let kind = match text.as_str() {
            "TUMBLE" => WindowKind::Tumble,
            "HOP" => WindowKind::Hop,
            "CUMULATE" => WindowKind::Cumulate,
            "SESSION" => return Err(SqlError::unsupported("SESSION windows are", span)),
            _ => return Ok(None),
        };
        let arguments = arguments.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(WindowCall { kind, name: text, arguments, span }))
    }

    /// The argument of that name or position.
    fn argument(&self, name: &str, position: usize) -> Option<&'a Ast> {
        let named = self.arguments.iter().find(|(n, _)| n.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        let positional = self.arguments.get(position).filter(|(n, _)| n.is_none());
        named.or(positional).map(|(_, expr)| *expr)
    }

    fn required(&self, name: &str, position: usize) -> Result<&'a Ast, SqlError> {
        self.argument(name, position)
            .ok_or_else(|| SqlError::validation_at(format!("{} lacks the argument {name}", self.name), self.span))
    }

    /// The names of the intervals in order, offset last.
    fn intervals(&self) -> &'static [&'static str] {
        match self.kind {
            WindowKind::Tumble => &["SIZE", "OFFSET"],
            WindowKind::Hop => &["SLIDE", "SIZE", "OFFSET"],
            WindowKind::Cumulate => &["STEP", "SIZE", "OFFSET"],
        }
    }

    fn check_names(&self) -> Result<(), SqlError> {
        let known = |name: &str| {
            ["DATA", "TIMECOL"].iter().chain(self.intervals()).any(|known| known.eq_ignore_ascii_case(name))
        };
        if let Some((Some(name), expr)) = self.arguments.iter().find(|(n, _)| n.as_deref().is_some_and(|n| !known(n))) {
            let message = format!("{} has no argument '{name}'", self.name);
            return Err(SqlError::validation_at(message, expr.span()));
        }
        if self.arguments.len() > 2 + self.intervals().len() {
            return Err(SqlError::validation_at(format!("{} has too many arguments", self.name), self.span));
        }
        Ok(())
    }
}

fn argument(argument: &FunctionArg) -> Result<(Option<String>, &Ast), SqlError> {
    let (name, value) = match argument {
        FunctionArg::Named { name, arg, .. } => (Some(name.value.clone()), arg),
        FunctionArg::ExprNamed { name, arg, .. } => (Some(name.to_string()), arg),
        FunctionArg::Unnamed(arg) => (None, arg),
    };
    match value {
        FunctionArgExpr::Expr(expr) => Ok((name, expr)),
        _ => Err(SqlError::validation_at("'*' is not an argument of a window table function", argument.span())),
    }
}

/// Arguments of a plain call without names.
pub(crate) fn plain_arguments(function: &Function) -> Option<Vec<&Ast>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.args
        .iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

impl Planner<'_> {
    /// The rows of the table argument with the columns of their windows.
    pub(crate) fn window_table(&mut self, call: &WindowCall<'_>, env: &Environment) -> Result<Relation, SqlError> {
        call.check_names()?;
        let relation = self.table_argument(call.required("DATA", 0)?, env)?;
        let time_column = self.descriptor(call.required("TIMECOL", 1)?, &relation)?;
        let mut lengths = Vec::new();
        for (i, name) in call.intervals().iter().enumerate() {
            match call.argument(name, i + 2) {
                Some(expr) => lengths.push(self.window_length(expr, *name == "OFFSET")?),
                None if *name == "OFFSET" => lengths.push(0),
                None => return Err(call.required(name, i + 2).err().unwrap_or_else(|| SqlError::validation(*name))),
            }
        }
        let (slide_ms, size_ms, offset_ms) = match lengths.as_slice() {
            [size, offset] => (*size, *size, *offset),
            [slide, size, offset] => (*slide, *size, *offset),
            _ => return Err(SqlError::Internal(format!("{} has unexpected intervals", call.name))),
        };
        let window = self.make_window(call.kind, time_column, slide_ms, size_ms, offset_ms, &relation, call.span)?;
        self.assign_windows(relation, window)
    }

    /// Appends the window columns to a relation.
    pub(crate) fn assign_windows(&mut self, relation: Relation, window: Window) -> Result<Relation, SqlError> {
        let node = self.plan.add(NodeKind::WindowTable(window), vec![relation.node])?;
        Ok(Relation::of_node(&self.plan, node, None).with_names_of(&relation))
    }

    /// Checks and makes a window.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn make_window(
        &self,
        kind: WindowKind,
        time_column: usize,
        slide_ms: i64,
        size_ms: i64,
        offset_ms: i64,
        relation: &Relation,
        span: Span,
    ) -> Result<Window, SqlError> {
        let field = &self.plan.schema(relation.node).fields[time_column];
        match field.time {
            TimeAttribute::Rowtime => {}
            TimeAttribute::Proctime => return Err(SqlError::unsupported("windows over processing time are", span)),
            TimeAttribute::None => {
                return Err(SqlError::validation_at(
                    format!(
                        "windows need a time attribute, but '{}' is {}: declare WATERMARK FOR it in the table",
                        field.name, field.data_type
                    ),
                    span,
                ));
            }
        }
        if kind == WindowKind::Cumulate && slide_ms > size_ms {
            return Err(SqlError::validation_at("the step of CUMULATE must not exceed its size", span));
        }
        let time_zone = match field.data_type.logical {
            LogicalType::TimestampLtz(_) => self.settings.time_zone().to_owned(),
            _ => String::new(),
        };
        Ok(Window { kind, time_column, size_ms, slide_ms, offset_ms, time_zone })
    }

    fn table_argument(&mut self, argument: &Ast, env: &Environment) -> Result<Relation, SqlError> {
        let not_a_table = || {
            SqlError::validation_at(
                "the first argument of a window table function is TABLE and a name",
                argument.span(),
            )
        };
        let Ast::Function(function) = argument else { return Err(not_a_table()) };
        if function.name.to_string() != TABLE_ARGUMENT {
            return Err(not_a_table());
        }
        let arguments = plain_arguments(function).ok_or_else(not_a_table)?;
        let table = match arguments.as_slice() {
            [table] => table,
            [_, partition, ..] => {
                let message = "PARTITION BY goes with SESSION windows only: group by the columns instead";
                return Err(SqlError::validation_at(message, partition.span()));
            }
            [] => return Err(not_a_table()),
        };
        let (parts, hints) = match table {
            Ast::Identifier(ident) => (vec![ident.value.clone()], Vec::new()),
            Ast::CompoundIdentifier(idents) => (idents.iter().map(|i| i.value.clone()).collect(), Vec::new()),
            Ast::Function(hinted) => {
                let hints = match plain_arguments(hinted).as_deref() {
                    Some([Ast::Function(hint)]) if hint.name.to_string() == OPTIONS_HINT => options_hint(hint)?,
                    _ => return Err(not_a_table()),
                };
                (object_name(&hinted.name)?, hints)
            }
            _ => return Err(not_a_table()),
        };
        self.named_relation(&Name { parts, span: table.span() }, &hints, env)
    }

    fn descriptor(&self, argument: &Ast, relation: &Relation) -> Result<usize, SqlError> {
        let wrong = || SqlError::validation_at("the time column is given as DESCRIPTOR(column)", argument.span());
        let Ast::Function(function) = argument else { return Err(wrong()) };
        if !function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR") {
            return Err(wrong());
        }
        match plain_arguments(function).as_deref() {
            Some([Ast::Identifier(Ident { value, span, .. })]) => relation
                .columns
                .iter()
                .find(|c| c.name == *value)
                .map(|c| c.index)
                .ok_or_else(|| SqlError::validation_at(format!("column '{value}' not found in the table"), *span)),
            _ => Err(wrong()),
        }
    }

    /// A length in milliseconds.
    pub(crate) fn window_length(&self, expr: &Ast, may_be_negative: bool) -> Result<i64, SqlError> {
        let scope = Scope { columns: Vec::new(), session: self.settings };
        let bound = binder::bind_scalar(expr, &scope).map_err(|e| e.or_at(expr.span()))?;
        match (&bound.kind, &bound.data_type.logical) {
            (ExprKind::Literal(Literal::Int(ms)), LogicalType::IntervalDayTime) if may_be_negative || *ms > 0 => {
                Ok(*ms)
            }
            (ExprKind::Literal(Literal::Int(_)), LogicalType::IntervalDayTime) => {
                Err(SqlError::validation_at("the length of a window must be positive", expr.span()))
            }
            (_, LogicalType::IntervalYearMonth) => Err(SqlError::validation_at(
                "windows of months or years are not possible: use an interval of DAY to SECOND",
                expr.span(),
            )),
            _ => Err(SqlError::validation_at(
                format!("the length of a window must be a constant interval, not {}", bound.data_type),
                expr.span(),
            )),
        }
    }
}

/// The pairs of an OPTIONS hint.
pub(crate) fn options_hint(hint: &Function) -> Result<Vec<(String, String)>, SqlError> {
    let wrong = || SqlError::parse("a table hint is written /*+ OPTIONS('key' = 'value', ...) */", None);
    let text = |expr: &Ast| match expr {
        Ast::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    plain_arguments(hint)
        .ok_or_else(wrong)?
        .into_iter()
        .map(|argument| match argument {
            Ast::BinaryOp { left, op: sqlparser::ast::BinaryOperator::Eq, right } => {
                text(left).zip(text(right)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        })
        .collect()
}
