//! Expressions of a graph: SQL text resolved, typed ones checked.

use hurtig_proto::v1;
use hurtig_proto::v1::expr::Kind;

use super::operators::Context;
use crate::error::GraphError;
use crate::expr::Expr;
use crate::schema::RowSchema;

/// The typed form of `proto` over rows of `input`. SQL text may stand anywhere in the tree.
pub(super) fn resolve(
    proto: &v1::Expr,
    input: &RowSchema,
    context: &Context<'_>,
    path: &str,
) -> Result<Expr, GraphError> {
    let typed = resolve_text(proto, input, context, path)?;
    Expr::from_proto(&typed, input, path)
}

fn resolve_text(
    proto: &v1::Expr,
    input: &RowSchema,
    context: &Context<'_>,
    path: &str,
) -> Result<v1::Expr, GraphError> {
    let kind = match &proto.kind {
        Some(Kind::Sql(text)) => {
            let resolved = context.resolver.scalar(text, input, context.configuration).map_err(|reason| {
                GraphError::at(path, format!("the SQL expression '{text}' is not valid here: {reason}"))
            })?;
            return Ok(resolved.to_proto());
        }
        Some(Kind::Call(call)) => {
            let mut arguments = Vec::with_capacity(call.arguments.len());
            for (i, argument) in call.arguments.iter().enumerate() {
                arguments.push(resolve_text(argument, input, context, &format!("{path}.call.arguments[{i}]"))?);
            }
            Kind::Call(v1::Call { function: call.function.clone(), arguments })
        }
        Some(Kind::Cast(cast)) => {
            let inner = resolve_boxed(cast.input.as_deref(), input, context, &format!("{path}.cast.input"))?;
            Kind::Cast(Box::new(v1::Cast { input: inner, safe: cast.safe }))
        }
        Some(Kind::CaseWhen(case)) => {
            let list = |expressions: &[v1::Expr], field: &str| {
                let paths = expressions.iter().enumerate().map(|(i, e)| (e, format!("{path}.case_when.{field}[{i}]")));
                paths.map(|(e, p)| resolve_text(e, input, context, &p)).collect::<Result<Vec<_>, _>>()
            };
            Kind::CaseWhen(Box::new(v1::Case {
                conditions: list(&case.conditions, "conditions")?,
                results: list(&case.results, "results")?,
                otherwise: resolve_boxed(
                    case.otherwise.as_deref(),
                    input,
                    context,
                    &format!("{path}.case_when.otherwise"),
                )?,
            }))
        }
        _ => return Ok(proto.clone()),
    };
    if proto.r#type.is_empty() {
        let reason = "the expression has no type: set 'type', or send it as SQL text";
        return Err(GraphError::at(path, reason));
    }
    Ok(v1::Expr { kind: Some(kind), r#type: proto.r#type.clone() })
}

fn resolve_boxed(
    proto: Option<&v1::Expr>,
    input: &RowSchema,
    context: &Context<'_>,
    path: &str,
) -> Result<Option<Box<v1::Expr>>, GraphError> {
    match proto {
        Some(proto) => Ok(Some(Box::new(resolve_text(proto, input, context, path)?))),
        None => Ok(None),
    }
}
