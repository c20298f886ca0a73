//! Schemas: named, typed columns with time attributes.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use hurtig_proto::v1;

use crate::error::GraphError;
use crate::types::DataType;

/// Whether a column carries the time that windows and time joins go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeAttribute {
    /// An ordinary column.
    #[default]
    None,
    /// Event time: the column that the table's watermark is defined on.
    Rowtime,
    /// Processing time.
    Proctime,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowField {
    /// Case-sensitive, as everywhere in Flink SQL.
    pub name: String,
    /// Type and nullability.
    pub data_type: DataType,
    /// Whether it is a time attribute.
    pub time: TimeAttribute,
}

impl RowField {
    /// An ordinary column.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        RowField { name: name.into(), data_type, time: TimeAttribute::None }
    }
}

/// The columns of a stream or table. Names need not be unique between operators.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RowSchema {
    /// In order.
    pub fields: Vec<RowField>,
}

impl RowSchema {
    /// A schema of the given columns.
    pub fn new(fields: Vec<RowField>) -> Self {
        RowSchema { fields }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The position of the first column of this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The Arrow schema of batches of this stream. All fields are nullable.
    pub fn to_arrow(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.fields.iter().map(|f| Field::new(&f.name, f.data_type.logical.to_arrow(), true)).collect();
        Arc::new(Schema::new(fields))
    }

    /// The columns at `indices`, in that order.
    pub fn project(&self, indices: &[usize]) -> RowSchema {
        RowSchema { fields: indices.iter().map(|&i| self.fields[i].clone()).collect() }
    }

    /// The wire form.
    pub fn to_proto(&self) -> v1::Schema {
        let fields = self.fields.iter().map(|f| v1::Field {
            name: f.name.clone(),
            r#type: f.data_type.to_string(),
            time_attribute: match f.time {
                TimeAttribute::None => v1::TimeAttribute::None,
                TimeAttribute::Rowtime => v1::TimeAttribute::Rowtime,
                TimeAttribute::Proctime => v1::TimeAttribute::Proctime,
            } as i32,
        });
        v1::Schema { fields: fields.collect() }
    }

    /// From the wire form.
    ///
    /// # Errors
    /// A type that cannot be read, or an unknown time attribute.
    pub fn from_proto(proto: &v1::Schema) -> Result<RowSchema, GraphError> {
        let mut fields = Vec::with_capacity(proto.fields.len());
        for (i, field) in proto.fields.iter().enumerate() {
            let time = match v1::TimeAttribute::try_from(field.time_attribute) {
                Ok(v1::TimeAttribute::None) => TimeAttribute::None,
                Ok(v1::TimeAttribute::Rowtime) => TimeAttribute::Rowtime,
                Ok(v1::TimeAttribute::Proctime) => TimeAttribute::Proctime,
                Err(_) => return Err(GraphError::at(format!("fields[{i}].time_attribute"), "unknown value")),
            };
            fields.push(RowField { name: field.name.clone(), data_type: DataType::parse(&field.r#type)?, time });
        }
        Ok(RowSchema { fields })
    }
}
