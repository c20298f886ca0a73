//! Sources, sinks and formats, and the catalog through which the rest of Hurtig knows them.
//!
//! | module | what |
//! | --- | --- |
//! | [`catalog`] | [`Connectors`]: all connectors of a process, checks for the planner, factories for TaskManagers |
//! | [`connector`] | the traits that a connector implements |
//! | [`options`] | typed reading of table options, with messages that name the key |
//! | [`formats`] | json, csv and parquet: bytes to columns and back |
//! | [`filesystem`] | files and folders as tables: enumerator, reader, exactly-once writer |
//! | [`nexmark`] | the auction-site event generator |
//! | [`datagen`] | random and sequential rows |
//! | [`numbered`], [`random`], [`pacing`] | what generators share |
//! | [`print`], [`blackhole`], [`collect`] | sinks without files |
//! | [`enforcer`] | NOT NULL at sinks |
//! | [`render`] | rows as text: changelog JSON and plain tables |
//! | [`error`] | this crate's error |

pub mod blackhole;
pub mod catalog;
pub mod collect;
pub mod connector;
pub mod datagen;
pub mod enforcer;
pub mod error;
pub mod filesystem;
pub mod formats;
pub mod nexmark;
pub mod numbered;
pub mod options;
pub mod pacing;
pub mod print;
pub mod random;
pub mod render;
#[cfg(test)]
pub(crate) mod testing;

pub use catalog::{Connectors, register_all};
pub use connector::{SinkConnector, SourceConnector};
pub use error::Error;
