//! [`Connectors`]: all connectors of a process by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use hurtig_engine::registry::OperatorRegistry;
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorCatalog, ConnectorError, Options, SinkInfo, SourceInfo};
use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_graph::error::ErrorKind;

use crate::connector::{SinkConnector, SourceConnector};
use crate::options::DOCS_PAGE;

/// Connectors that Flink has and Hurtig does not have yet.
const NOT_BUILT: &[&str] = &[
    "kafka",
    "upsert-kafka",
    "jdbc",
    "kinesis",
    "firehose",
    "dynamodb",
    "elasticsearch-6",
    "elasticsearch-7",
    "hbase-2.2",
    "hive",
    "mongodb",
    "opensearch",
    "pulsar",
    "mysql-cdc",
    "postgres-cdc",
    "iceberg",
    "paimon",
];

/// The connectors known to a process. [`Connectors::default`] has the built-in ones; a source or
/// sink of the same name replaces the one before.
#[derive(Clone)]
pub struct Connectors {
    sources: BTreeMap<String, Arc<dyn SourceConnector>>,
    sinks: BTreeMap<String, Arc<dyn SinkConnector>>,
}

impl Default for Connectors {
    fn default() -> Self {
        Connectors::empty()
            .with_source("filesystem", Arc::new(crate::filesystem::FilesystemConnector))
            .with_source("nexmark", Arc::new(crate::nexmark::NexmarkConnector))
            .with_source("datagen", Arc::new(crate::datagen::DatagenConnector))
            .with_sink("filesystem", Arc::new(crate::filesystem::FilesystemConnector))
            .with_sink("print", Arc::new(crate::print::PrintConnector))
            .with_sink("blackhole", Arc::new(crate::blackhole::BlackholeConnector))
            .with_sink("collect", Arc::new(crate::collect::CollectConnector))
    }
}

impl Connectors {
    /// No connector at all.
    pub fn empty() -> Self {
        Connectors { sources: BTreeMap::new(), sinks: BTreeMap::new() }
    }

    /// Adds a source.
    pub fn with_source(mut self, name: impl Into<String>, source: Arc<dyn SourceConnector>) -> Self {
        self.sources.insert(name.into(), source);
        self
    }

    /// Adds a sink.
    pub fn with_sink(mut self, name: impl Into<String>, sink: Arc<dyn SinkConnector>) -> Self {
        self.sinks.insert(name.into(), sink);
        self
    }

    /// Registers the factories of all connectors.
    pub fn register(&self, registry: &mut OperatorRegistry) {
        for (name, source) in &self.sources {
            let source = Arc::clone(source);
            registry.register_source(name.clone(), Arc::new(move |spec| source.reader(spec)));
        }
        for (name, sink) in &self.sinks {
            let sink = Arc::clone(sink);
            registry.register_sink(name.clone(), Arc::new(move |spec| sink.writer(spec)));
        }
    }

    fn find_source(&self, options: &Options) -> Result<&Arc<dyn SourceConnector>, ConnectorError> {
        let name = connector_name(options)?;
        self.sources.get(name).ok_or_else(|| {
            if self.sinks.contains_key(name) {
                return ConnectorError::validation(format!(
                    "connector '{name}' can only be used as a sink: a table of it cannot be read"
                ));
            }
            unknown(name, "source", self.sources.keys())
        })
    }

    fn find_sink(&self, options: &Options) -> Result<&Arc<dyn SinkConnector>, ConnectorError> {
        let name = connector_name(options)?;
        self.sinks.get(name).ok_or_else(|| {
            if self.sources.contains_key(name) {
                return ConnectorError::validation(format!(
                    "connector '{name}' can only be used as a source: a table of it cannot be written"
                ));
            }
            unknown(name, "sink", self.sinks.keys())
        })
    }
}

/// Registers the factories of the built-in connectors.
pub fn register_all(registry: &mut OperatorRegistry) {
    Connectors::default().register(registry);
}

fn connector_name(options: &Options) -> Result<&str, ConnectorError> {
    options.get("connector").map(String::as_str).ok_or_else(|| {
        ConnectorError::validation(
            "table options do not contain an option key 'connector' for discovering a connector: \
             write WITH ('connector' = '...')",
        )
    })
}

fn unknown<'a>(name: &str, role: &str, known: impl Iterator<Item = &'a String>) -> ConnectorError {
    if NOT_BUILT.contains(&name) {
        return ConnectorError {
            kind: ErrorKind::Unsupported,
            message: format!("connector '{name}' is not supported yet: {DOCS_PAGE} lists what is"),
        };
    }
    let known: Vec<&str> = known.map(String::as_str).collect();
    ConnectorError::validation(format!(
        "there is no {role} connector '{name}'; available identifiers are {}",
        known.join(", ")
    ))
}

impl ConnectorCatalog for Connectors {
    fn source(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        self.find_source(options)?.info(options, schema)
    }

    fn sink(&self, options: &Options, schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        self.find_sink(options)?.info(options, schema)
    }

    fn source_coordinator(&self, options: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError> {
        self.find_source(options)?.coordinator(options)
    }

    fn discover_splits(&self, options: &Options) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.find_source(options)?.discover(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_graph::{LogicalType, RowField};

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn schema() -> RowSchema {
        RowSchema::new(vec![RowField::new("id", LogicalType::Int.nullable())])
    }

    fn refused(pairs: &[(&str, &str)]) -> ConnectorError {
        Connectors::default().source(&options(pairs), &schema()).unwrap_err()
    }

    #[test]
    fn what_is_wrong_with_options_is_said() {
        assert!(refused(&[]).message.contains("'connector'"));
        let e = refused(&[("connector", "fliesystem")]);
        assert!(e.message.contains("available identifiers are datagen, filesystem, nexmark"), "{e:?}");
        assert_eq!(refused(&[("connector", "kafka")]).kind, ErrorKind::Unsupported);
        assert!(refused(&[("connector", "print")]).message.contains("only be used as a sink"));
        assert!(refused(&[("connector", "filesystem"), ("format", "csv")]).message.contains("missing: path"));
        assert!(refused(&[("connector", "filesystem"), ("path", "/x")]).message.contains("missing: format"));
        let e = refused(&[("connector", "filesystem"), ("path", "/x"), ("format", "csv"), ("paht", "/x")]);
        assert!(e.message.contains(": paht; supported") && e.message.contains("path"), "{e:?}");
        let e =
            refused(&[("connector", "filesystem"), ("path", "/x"), ("format", "csv"), ("scan.split.max-size", "big")]);
        assert!(e.message.contains("scan.split.max-size") && e.message.contains("big"), "{e:?}");
    }

    #[test]
    fn formats_are_checked_but_not_their_unknown_options() {
        let file = |format| [("connector", "filesystem"), ("path", "/x"), ("format", format)];
        assert_eq!(refused(&file("punchcard")).kind, ErrorKind::Validation);
        let e = refused(&file("avro"));
        assert_eq!(e.kind, ErrorKind::Unsupported);
        assert!(e.message.contains(DOCS_PAGE));
        let mut ok = file("csv").to_vec();
        ok.push(("csv.made-up", "1"));
        assert!(Connectors::default().source(&options(&ok), &schema()).is_ok());
        ok.push(("csv.ignore-parse-errors", "maybe"));
        assert!(refused(&ok).message.contains("csv.ignore-parse-errors"));
    }

    #[test]
    fn change_messages_can_be_read_but_not_written() {
        let file = options(&[("connector", "filesystem"), ("path", "/x"), ("format", "debezium-json")]);
        assert!(Connectors::default().source(&file, &schema()).unwrap().changelog);
        assert_eq!(Connectors::default().sink(&file, &schema()).unwrap_err().kind, ErrorKind::Unsupported);
    }

    #[test]
    fn object_stores_are_refused_as_paths_for_now() {
        let e = refused(&[("connector", "filesystem"), ("path", "s3://b/x"), ("format", "csv")]);
        assert_eq!(e.kind, ErrorKind::Unsupported);
    }
}
