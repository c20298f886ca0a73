//! Small job plans, for tests and the simulator.

use hurtig_graph::config::Configuration;
use hurtig_graph::job::{JobPlan, PlanEdge, PlanVertex};
use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;
use hurtig_proto::v1::partitioner::Kind as PartitionerKind;

/// Builds a [`JobPlan`] vertex by vertex. Ids and names are as given.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: JobPlan,
}

impl Default for PlanBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl PlanBuilder {
    /// An empty plan named "job".
    pub fn new() -> Self {
        let plan = JobPlan {
            name: "job".into(),
            vertices: Vec::new(),
            edges: Vec::new(),
            configuration: Configuration::default(),
        };
        PlanBuilder { plan }
    }

    /// A source. The uid of its operator is `id`.
    pub fn source(self, id: &str, parallelism: u32) -> Self {
        let options = [("connector".to_owned(), "test".to_owned())].into();
        self.add(id, parallelism, Kind::Source(v1::Source { options, ..Default::default() }))
    }

    /// Something that is not a source.
    pub fn vertex(self, id: &str, parallelism: u32) -> Self {
        self.add(id, parallelism, Kind::Union(v1::Union {}))
    }

    /// A sink for the client.
    pub fn collect(self, id: &str, parallelism: u32) -> Self {
        let options = [("connector".to_owned(), "collect".to_owned())].into();
        self.add(id, parallelism, Kind::Sink(v1::Sink { options, ..Default::default() }))
    }

    fn add(mut self, id: &str, parallelism: u32, kind: Kind) -> Self {
        let is_source = matches!(kind, Kind::Source(_));
        let operator = v1::Operator { uid: id.into(), name: id.into(), kind: Some(kind), ..Default::default() };
        self.plan.vertices.push(PlanVertex {
            id: id.into(),
            name: id.into(),
            parallelism,
            max_parallelism: 128,
            max_parallelism_set: false,
            slot_sharing_group: "default".into(),
            operators: vec![operator],
            is_source,
        });
        self
    }

    /// An edge between vertices by position.
    pub fn edge(mut self, from: usize, to: usize, partitioner: v1::Partitioner) -> Self {
        self.plan.edges.push(PlanEdge {
            id: format!("e{}", self.plan.edges.len()),
            from,
            to,
            to_port: 0,
            partitioner,
            ordered: false,
            schema: v1::Schema::default(),
        });
        self
    }

    /// Sets a key of the job's configuration.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.plan.configuration.set(key, value);
        self
    }

    /// The plan.
    pub fn build(self) -> JobPlan {
        self.plan
    }
}

/// One to one.
pub fn forward() -> v1::Partitioner {
    v1::Partitioner { kind: Some(PartitionerKind::Forward(v1::Forward {})) }
}

/// All to all.
pub fn hash() -> v1::Partitioner {
    v1::Partitioner { kind: Some(PartitionerKind::Hash(v1::Hash::default())) }
}
