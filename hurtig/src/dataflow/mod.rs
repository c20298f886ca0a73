//! The dataflow API: a job built from Rust, one call a transformation.
//!
//! A [`Dataflow`] collects vertices and edges of a job graph; [`Stream`]s are its edges in the
//! making. Expressions are SQL text, as everywhere in a job graph, resolved when the job is
//! submitted. What SQL cannot say is a Rust closure ([`Stream::map_batches`]) or a registered
//! operator ([`Stream::apply`]).
//!
//! ```
//! use std::time::Duration;
//! use hurtig::dataflow::{Aggregate, Dataflow, Table};
//!
//! let flow = Dataflow::new("clicks per user and minute");
//! flow.source(Table::new("datagen").column("user_id", "BIGINT").column("at", "TIMESTAMP(3)"))
//!     .filter("user_id > 0")
//!     .watermark("at", "`at` - INTERVAL '5' SECOND")
//!     .key_by(["user_id"])
//!     .tumble("at", Duration::from_secs(60))
//!     .aggregate([Aggregate::count().named("clicks")])
//!     .sink(Table::new("print"));
//! assert_eq!(flow.graph().vertices.len(), 5);
//! ```

mod closures;
mod stream;
mod table;

use std::sync::Arc;

use hurtig_engine::registry::OperatorFactory;
use hurtig_proto::v1;
use parking_lot::Mutex;

pub use closures::BatchError;
pub(crate) use closures::{CLOSURE_FACTORY, Closures};
pub use stream::{Aggregate, KeyedStream, Stream, WindowedStream};
pub use table::Table;

/// A job in the making. Cheap to clone; clones are the same job.
#[derive(Clone)]
pub struct Dataflow {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    graph: v1::JobGraph,
    /// What the closures of this job become operators by, by their key in the graph.
    closures: Vec<(String, OperatorFactory)>,
}

impl Dataflow {
    /// An empty job.
    pub fn new(name: impl Into<String>) -> Dataflow {
        let graph = v1::JobGraph { name: name.into(), ..Default::default() };
        Dataflow { inner: Arc::new(Mutex::new(Inner { graph, closures: Vec::new() })) }
    }

    /// Sets a configuration key of the job, for example `execution.checkpointing.interval`.
    #[must_use]
    pub fn configure(self, key: impl Into<String>, value: impl Into<String>) -> Dataflow {
        self.inner.lock().graph.configuration.insert(key.into(), value.into());
        self
    }

    /// The parallelism of all transformations that set none of their own.
    #[must_use]
    pub fn parallelism(self, parallelism: u32) -> Dataflow {
        self.configure("parallelism.default", parallelism.to_string())
    }

    /// Reads a table.
    pub fn source(&self, table: Table) -> Stream {
        let (options, schema) = table.into_parts();
        let source = v1::Source { options, schema: Some(schema), ..Default::default() };
        Stream::new(self, "source", v1::operator::Kind::Source(source))
    }

    /// The job graph so far.
    pub fn graph(&self) -> v1::JobGraph {
        self.inner.lock().graph.clone()
    }

    pub(crate) fn closures(&self) -> Vec<(String, OperatorFactory)> {
        self.inner.lock().closures.clone()
    }

    /// Adds a vertex and gives its id.
    fn add(&self, kind_name: &str, kind: v1::operator::Kind, output_schema: Option<v1::Schema>) -> String {
        let mut inner = self.inner.lock();
        let id = format!("{kind_name}-{}", inner.graph.vertices.len());
        let operator = v1::Operator { kind: Some(kind), output_schema, ..Default::default() };
        inner.graph.vertices.push(v1::Vertex { id: id.clone(), operator: Some(operator), ..Default::default() });
        id
    }

    fn connect(&self, edge: v1::Edge) {
        self.inner.lock().graph.edges.push(edge);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut v1::Vertex)) {
        if let Some(vertex) = self.inner.lock().graph.vertices.iter_mut().find(|v| v.id == id) {
            change(vertex);
        }
    }

    fn add_closure(&self, factory: OperatorFactory) -> String {
        let key = uuid::Uuid::new_v4().simple().to_string();
        self.inner.lock().closures.push((key.clone(), factory));
        key
    }
}
