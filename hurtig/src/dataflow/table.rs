//! A table by its connector, options and columns, as in `CREATE TABLE ... WITH`.

use std::collections::BTreeMap;

use hurtig_proto::v1;

/// A table to read or write.
#[derive(Debug, Clone, Default)]
pub struct Table {
    options: BTreeMap<String, String>,
    schema: v1::Schema,
}

impl Table {
    /// A table of the connector of this name: built in, or registered with the cluster.
    pub fn new(connector: impl Into<String>) -> Table {
        Table::default().option("connector", connector)
    }

    /// Sets an option of the connector or format.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Table {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Adds a column; `data_type` is written as in SQL, for example `DECIMAL(10, 2)`. A sink without
    /// columns takes those of its input.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>, data_type: impl Into<String>) -> Table {
        self.schema.fields.push(v1::Field { name: name.into(), r#type: data_type.into(), ..Default::default() });
        self
    }

    pub(super) fn into_parts(self) -> (BTreeMap<String, String>, v1::Schema) {
        (self.options, self.schema)
    }
}
