//! The planner: queries and inserts to a logical plan, and that to a job graph.
//!
//! | step | module |
//! | --- | --- |
//! | syntax trees to nodes | [`query`], [`select`], [`aggregate`], [`window`], [`scan`], [`sink`] |
//! | unused columns are not read, calculations are fused | [`optimize`] |
//! | which changes each node emits | [`changelog`] |
//! | nodes to vertices | [`graph`] |
//! | plans for people | [`explain`] |

mod aggregate;
mod changelog;
mod explain;
mod graph;
mod grouping;
mod node;
mod optimize;
mod query;
mod scan;
mod select;
mod sink;
mod window;

use std::collections::BTreeMap;

use hurtig_graph::connector::{ConnectorCatalog, Options};
use sqlparser::ast::{ObjectName, ObjectNamePart, Spanned};

pub use changelog::ChangelogMode;
pub(crate) use changelog::infer;
pub(crate) use explain::{job_graph_text, tree};
pub(crate) use graph::job_graph;
pub(crate) use node::{NodeId, Plan};
pub(crate) use optimize::optimize;
pub(crate) use query::Environment;

use crate::catalog::{Catalog, ObjectIdentifier};
use crate::error::SqlError;
use crate::session::SessionSettings;

/// Plans the statements of one job.
pub(crate) struct Planner<'a> {
    pub plan: Plan,
    catalog: &'a Catalog,
    connectors: &'a dyn ConnectorCatalog,
    settings: &'a SessionSettings,
    /// Unqualified names are looked up there.
    database: String,
    /// Tables already read, with the options they are read with.
    scans: BTreeMap<(ObjectIdentifier, Options), NodeId>,
    /// Views on the way, to find those that contain themselves.
    open_views: Vec<ObjectIdentifier>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        catalog: &'a Catalog,
        connectors: &'a dyn ConnectorCatalog,
        settings: &'a SessionSettings,
    ) -> Planner<'a> {
        Planner {
            plan: Plan::default(),
            catalog,
            connectors,
            settings,
            database: catalog.current_database().to_owned(),
            scans: BTreeMap::new(),
            open_views: Vec::new(),
        }
    }
}

/// The parts of a name.
pub(crate) fn object_name(name: &ObjectName) -> Result<Vec<String>, SqlError> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident.value.clone()),
            ObjectNamePart::Function(_) => {
                Err(SqlError::parse(format!("'{name}' is not a name"), crate::Position::of(name.span())))
            }
        })
        .collect()
}
