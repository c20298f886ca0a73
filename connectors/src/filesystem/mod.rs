//! The `filesystem` connector: files and folders as tables.
//!
//! Reading: the enumerator in the JobManager lists files in the order of their names and hands one
//! split a time to the reader that asks; a file is one split, read in order, unless it is large and
//! its format can be cut. A reader's state is its split with the position behind the rows emitted.
//!
//! Writing: rows go to hidden files, which a barrier closes and which become visible by a rename
//! only once the checkpoint is complete.
//!
//! | module | what |
//! | --- | --- |
//! | [`split`] | splits, positions, messages between enumerator and readers |
//! | [`discovery`] | listing files |
//! | [`enumerator`] | the JobManager's side |
//! | [`source`] | the reader; `text` and `columnar` read one split |
//! | [`partition`] | `k=v` folders |
//! | [`sink`] | the writer |

pub mod discovery;
pub mod enumerator;
pub mod partition;
pub mod sink;
pub mod source;
pub mod split;

mod columnar;
mod fetch;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;

use hurtig_engine::operator::Operator;
use hurtig_engine::registry::{SinkSpec, SourceSpec};
use hurtig_engine::source::SourceReader;
use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo, SourceInfo};
use hurtig_graph::coordinator::OperatorCoordinator;

use crate::connector::{SinkConnector, SourceConnector};
use crate::enforcer::Enforced;
use crate::error::{Error, Result};
use crate::formats::{FORMAT, Format};
use crate::options::{DOCS_PAGE, TableOptions, option};

const PATH: ConfigOption =
    option("path", ValueType::String, None, "A file or a folder, read with all folders in it; `file://` or plain.");
const DEFAULT_PARTITION: ConfigOption = option(
    "partition.default-name",
    ValueType::String,
    Some("__DEFAULT_PARTITION__"),
    "The folder of rows whose partition column is NULL or empty.",
);
const SPLIT_SIZE: ConfigOption = option(
    "scan.split.max-size",
    ValueType::Memory,
    Some("128 mb"),
    "Larger files are read in several pieces at once, in no order between them; smaller ones by one reader in order. \
     Compressed files, and csv files unless quotes are disabled, are never cut.",
);
const RATE_LIMIT: ConfigOption = option(
    "scan.rate-limit.rows-per-second",
    ValueType::Float,
    None,
    "Rows that the source emits a second, all subtasks together: replays recorded data slower. Unset: no limit.",
);
const MONITOR_INTERVAL: ConfigOption =
    option("source.monitor-interval", ValueType::Duration, None, "Not supported yet: watch for new files.");
const PATH_PATTERN: ConfigOption =
    option("source.path.regex-pattern", ValueType::String, None, "Not supported yet: choose files.");
const STATISTICS: ConfigOption = option("source.report-statistics", ValueType::String, Some("ALL"), "Without effect.");

/// Options of reading.
const SOURCE_OPTIONS: &[ConfigOption] =
    &[PATH, FORMAT, DEFAULT_PARTITION, SPLIT_SIZE, RATE_LIMIT, MONITOR_INTERVAL, PATH_PATTERN, STATISTICS];

const ROLL_SIZE: ConfigOption =
    option("sink.rolling-policy.file-size", ValueType::Memory, Some("128 mb"), "A larger file is closed.");

/// Options of writing. All but the first are Flink's and without effect here: files are closed at
/// every checkpoint, and there are no partition-commit policies.
const SINK_OPTIONS: &[ConfigOption] = &[
    ROLL_SIZE,
    option("sink.rolling-policy.rollover-interval", ValueType::Duration, None, "Without effect."),
    option("sink.rolling-policy.inactivity-interval", ValueType::Duration, None, "Without effect."),
    option("sink.rolling-policy.check-interval", ValueType::Duration, None, "Without effect."),
    option("sink.shuffle-by-partition.enable", ValueType::Bool, None, "Without effect."),
    AUTO_COMPACTION,
    option("compaction.file-size", ValueType::Memory, None, "Without effect."),
    option("compaction.parallelism", ValueType::Int, None, "Without effect."),
    COMMIT_POLICY,
    option("sink.partition-commit.trigger", ValueType::String, None, "Without effect."),
    option("sink.partition-commit.delay", ValueType::Duration, None, "Without effect."),
    option("sink.partition-commit.watermark-time-zone", ValueType::String, None, "Without effect."),
];
const AUTO_COMPACTION: ConfigOption =
    option("auto-compaction", ValueType::Bool, Some("false"), "Not supported yet: merge small files.");
const COMMIT_POLICY: ConfigOption =
    option("sink.partition-commit.policy.kind", ValueType::String, None, "Not supported yet: mark whole partitions.");

/// What the options of a table say.
#[derive(Debug, Clone)]
pub struct FilesystemOptions {
    /// File or folder.
    pub path: PathBuf,
    /// Of the files.
    pub format: Format,
    /// Folder of NULL.
    pub default_partition: String,
    /// Larger files are cut.
    pub split_bytes: u64,
    /// Limit for all subtasks.
    pub rows_per_second: Option<f64>,
    /// A larger file is closed.
    pub roll_bytes: u64,
}

impl FilesystemOptions {
    /// Reads and checks `options`.
    pub fn read(options: &Options) -> Result<FilesystemOptions> {
        let table = TableOptions::new(options);
        let path = local_path(table.required(&PATH)?)?;
        let format = Format::from_options(options)?;
        // Options of a format are the format's business, even unknown ones.
        table.reject_unknown(&[SOURCE_OPTIONS, SINK_OPTIONS], &[&format!("{}.", format.name())])?;
        for unsupported in [&MONITOR_INTERVAL, &PATH_PATTERN, &COMMIT_POLICY] {
            if table.is_set(unsupported) {
                return Err(Error::Unsupported(format!(
                    "option '{}' is not supported yet: {DOCS_PAGE} lists what is",
                    unsupported.key
                )));
            }
        }
        if table.bool(&AUTO_COMPACTION)? {
            return Err(Error::Unsupported(format!(
                "option '{}' is not supported yet: leave it out",
                AUTO_COMPACTION.key
            )));
        }
        let rows_per_second = table.float(&RATE_LIMIT)?;
        if rows_per_second.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(Error::Validation(format!("{}: write a number above 0", RATE_LIMIT.key)));
        }
        Ok(FilesystemOptions {
            path,
            format,
            default_partition: table.text(&DEFAULT_PARTITION).unwrap_or_default().to_owned(),
            split_bytes: table.memory(&SPLIT_SIZE)?.unwrap_or(128 << 20).max(1),
            rows_per_second,
            roll_bytes: table.memory(&ROLL_SIZE)?.unwrap_or(128 << 20).max(1),
        })
    }
}

/// The local path that a `path` option names.
fn local_path(text: &str) -> Result<PathBuf> {
    let Some((scheme, rest)) = text.split_once(':').filter(|(s, _)| is_scheme(s)) else {
        return Ok(PathBuf::from(text));
    };
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(Error::Unsupported(format!(
            "path '{text}': the filesystem connector reads and writes local files only so far, not '{scheme}': \
             {DOCS_PAGE} lists what is supported"
        )));
    }
    if !rest.starts_with("//") {
        return Ok(PathBuf::from(rest));
    }
    let parsed = url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
    parsed.ok_or_else(|| {
        Error::Validation(format!("path: '{text}' is no URI of a local file: write file:///folder/file"))
    })
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// The connector.
pub struct FilesystemConnector;

impl SourceConnector for FilesystemConnector {
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        let format = FilesystemOptions::read(options)?.format;
        format.check(schema)?;
        let changelog = matches!(format, Format::Changes(_));
        Ok(SourceInfo { bounded: true, projection_pushdown: true, changelog })
    }

    fn coordinator(&self, options: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError> {
        // Before there is a job: a path that is not there is the commonest mistake.
        discovery::check_path(&FilesystemOptions::read(options)?)?;
        Ok(Some(Box::new(enumerator::FileEnumerator::default())))
    }

    fn discover(&self, options: &Options) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let splits = discovery::discover(&FilesystemOptions::read(options)?)?;
        Ok(splits.iter().map(split::encode).collect())
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        let options = FilesystemOptions::read(&spec.options)?;
        options.format.check(&spec.schema)?;
        Ok(Box::new(source::FileReader::new(options, spec)))
    }
}

impl SinkConnector for FilesystemConnector {
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        let format = FilesystemOptions::read(options)?.format;
        format.check(schema)?;
        sink::check_format(&format)?;
        Ok(SinkInfo { accepts_updates: false, wants_update_before: false })
    }

    fn writer(&self, spec: &SinkSpec) -> hurtig_engine::Result<Box<dyn Operator>> {
        let writer = sink::FileWriter::new(FilesystemOptions::read(&spec.options)?, spec)?;
        Ok(Box::new(Enforced::new(writer, spec.schema.clone())))
    }
}
