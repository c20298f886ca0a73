//! Column names to positions, and schemas from the wire.

use hurtig_proto::v1;

use crate::error::GraphError;
use crate::schema::RowSchema;

/// The position of the column `name`.
pub(super) fn by_name(name: &str, input: &RowSchema, path: &str) -> Result<u32, GraphError> {
    match input.index_of(name) {
        Some(index) => Ok(index as u32),
        None => {
            let names: Vec<&str> = input.fields.iter().map(|f| f.name.as_str()).collect();
            let reason = format!("the input has no column '{name}': its columns are {}", names.join(", "));
            Err(GraphError::at(path, reason))
        }
    }
}

/// Checks that column `index` exists.
pub(super) fn in_range(index: u32, input: &RowSchema, path: &str) -> Result<u32, GraphError> {
    if (index as usize) < input.len() {
        return Ok(index);
    }
    Err(GraphError::at(path, format!("column {index} does not exist: the input has {} columns", input.len())))
}

/// Positions by `names` where there are any, else `indices` checked. `path` is that of the field
/// with positions; the one with names is called `names_field`.
pub(super) fn resolve(
    indices: &mut Vec<u32>,
    names: &mut Vec<String>,
    input: &RowSchema,
    path: &str,
    fields: (&str, &str),
) -> Result<(), GraphError> {
    let (indices_field, names_field) = fields;
    if names.is_empty() {
        for (i, &index) in indices.iter().enumerate() {
            in_range(index, input, &format!("{path}.{indices_field}[{i}]"))?;
        }
        return Ok(());
    }
    let named = names.iter().enumerate().map(|(i, n)| by_name(n, input, &format!("{path}.{names_field}[{i}]")));
    *indices = named.collect::<Result<_, _>>()?;
    names.clear();
    Ok(())
}

/// The schema of the field at `path`.
pub(super) fn schema(proto: &v1::Schema, path: &str) -> Result<RowSchema, GraphError> {
    RowSchema::from_proto(proto).map_err(|e| below(path, e))
}

/// The error with its path, if it has one, put below `path`.
pub(super) fn below(path: &str, error: GraphError) -> GraphError {
    match error {
        GraphError::Graph { path: inner, reason } => GraphError::at(format!("{path}.{inner}"), reason),
        GraphError::Unsupported(reason) => GraphError::Unsupported(format!("{path}: {reason}")),
        other => GraphError::at(path, other.to_string()),
    }
}
