//! The shape of a graph: ids, edges, ports, parallelism, and an order of vertices.

use std::collections::BTreeMap;

use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;

use crate::config::{Configuration, keys};
use crate::error::GraphError;
use crate::key_groups::{MAX_PARALLELISM_LIMIT, default_max_parallelism};
use crate::schema::RowSchema;

/// A graph while it is being made ready.
pub(super) struct Draft {
    /// As in the graph.
    pub nodes: Vec<Node>,
    /// As in the graph.
    pub links: Vec<Link>,
    /// Positions of all nodes, producers before consumers.
    pub order: Vec<usize>,
}

/// A vertex with what is known of it so far.
pub(super) struct Node {
    /// `vertices[i]`
    pub path: String,
    /// As in the graph.
    pub id: String,
    pub operator: v1::Operator,
    pub parallelism: u32,
    pub max_parallelism: u32,
    pub max_parallelism_set: bool,
    pub slot_sharing_group: String,
    /// Positions of the links into it, by port.
    pub inputs: Vec<usize>,
    /// Positions of the links out of it.
    pub outputs: Vec<usize>,
    /// What it emits; known once it is resolved.
    pub output: RowSchema,
    /// Which changes it emits; known once it is resolved.
    pub mode: v1::ChangelogMode,
}

impl Node {
    /// The kind of the operator. [`Draft::of`] refuses operators without one.
    pub fn kind(&self) -> &Kind {
        self.operator.kind.as_ref().expect("operators without a kind are refused when the draft is made")
    }
}

/// An edge.
pub(super) struct Link {
    /// `edges[i]`
    pub path: String,
    pub from: usize,
    pub to: usize,
    pub port: u32,
    pub partitioner: v1::Partitioner,
    pub ordered: bool,
}

impl Draft {
    /// Checks everything that does not need schemas.
    pub fn of(graph: &v1::JobGraph, configuration: &Configuration) -> Result<Draft, GraphError> {
        if graph.vertices.is_empty() {
            return Err(GraphError::at("vertices", "the job graph has no vertices"));
        }
        let mut positions = BTreeMap::new();
        let mut nodes = Vec::with_capacity(graph.vertices.len());
        for (i, vertex) in graph.vertices.iter().enumerate() {
            let path = format!("vertices[{i}]");
            if vertex.id.is_empty() {
                return Err(GraphError::at(format!("{path}.id"), "a vertex needs an id"));
            }
            if let Some(other) = positions.insert(vertex.id.as_str(), i) {
                let reason = format!("vertices[{other}] has the id '{}' too: ids must be unique", vertex.id);
                return Err(GraphError::at(format!("{path}.id"), reason));
            }
            nodes.push(node(vertex, path, configuration)?);
        }
        let mut draft = Draft { nodes, links: Vec::new(), order: Vec::new() };
        for (i, edge) in graph.edges.iter().enumerate() {
            draft.connect(edge, format!("edges[{i}]"), &positions)?;
        }
        for position in 0..draft.nodes.len() {
            draft.settle_ports(position)?;
        }
        draft.order = draft.topological_order()?;
        draft.settle_slot_sharing_groups();
        Ok(draft)
    }

    fn connect(&mut self, edge: &v1::Edge, path: String, positions: &BTreeMap<&str, usize>) -> Result<(), GraphError> {
        let find = |id: &str, end: &str| {
            positions.get(id).copied().ok_or_else(|| {
                let known: Vec<&str> = positions.keys().copied().take(10).collect();
                let reason = format!("there is no vertex '{id}': the vertices are {}", known.join(", "));
                GraphError::at(format!("{path}.{end}"), reason)
            })
        };
        let (from, to) = (find(&edge.from, "from")?, find(&edge.to, "to")?);
        if matches!(self.nodes[from].kind(), Kind::Sink(_)) {
            let reason = format!("'{}' is a sink: it has no output", edge.from);
            return Err(GraphError::at(format!("{path}.from"), reason));
        }
        if matches!(self.nodes[to].kind(), Kind::Source(_)) {
            return Err(GraphError::at(format!("{path}.to"), format!("'{}' is a source: it has no input", edge.to)));
        }
        let position = self.links.len();
        self.nodes[from].outputs.push(position);
        self.nodes[to].inputs.push(position);
        self.links.push(Link {
            path,
            from,
            to,
            port: edge.to_port,
            partitioner: edge.partitioner.clone().unwrap_or_default(),
            ordered: edge.ordered,
        });
        Ok(())
    }

    /// Checks the number of inputs and their ports, and sorts them by port. The inputs of a union
    /// get ports of their own when all are connected to port 0.
    fn settle_ports(&mut self, position: usize) -> Result<(), GraphError> {
        let node = &self.nodes[position];
        let mut inputs = node.inputs.clone();
        let several = match node.kind() {
            Kind::Source(_) => return Ok(()),
            Kind::Union(_) | Kind::Custom(_) => true,
            _ => false,
        };
        if inputs.is_empty() {
            return Err(GraphError::at(&node.path, format!("'{}' has no input: add an edge to it", node.id)));
        }
        if matches!(node.kind(), Kind::Union(_)) && inputs.iter().all(|&i| self.links[i].port == 0) {
            for (port, &input) in inputs.iter().enumerate() {
                self.links[input].port = port as u32;
            }
        }
        inputs.sort_by_key(|&i| self.links[i].port);
        for (expected, &input) in inputs.iter().enumerate() {
            let link = &self.links[input];
            let path = format!("{}.to_port", link.path);
            if !several && link.port != 0 {
                let reason = format!("'{}' has one input, port 0; there is no port {}", node.id, link.port);
                return Err(GraphError::at(path, reason));
            }
            if !several && expected > 0 {
                let reason = format!("'{}' takes one input and has several: put a union before it", node.id);
                return Err(GraphError::at(&link.path, reason));
            }
            if link.port as usize != expected {
                let reason = format!(
                    "the inputs of '{}' must be connected to the ports 0 to {} once each",
                    node.id,
                    inputs.len() - 1
                );
                return Err(GraphError::at(path, reason));
            }
        }
        self.nodes[position].inputs = inputs;
        Ok(())
    }

    fn topological_order(&self) -> Result<Vec<usize>, GraphError> {
        let mut missing: Vec<usize> = self.nodes.iter().map(|n| n.inputs.len()).collect();
        let mut ready: std::collections::BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| missing[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(position) = ready.pop_first() {
            order.push(position);
            for &output in &self.nodes[position].outputs {
                let to = self.links[output].to;
                missing[to] -= 1;
                if missing[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        if order.len() == self.nodes.len() {
            return Ok(order);
        }
        Err(self.cycle_error(&missing))
    }

    /// Walks back from a vertex that could not be ordered until one is met twice: that is a cycle.
    fn cycle_error(&self, missing: &[usize]) -> GraphError {
        let blocked_input = |node: usize| {
            let inputs = &self.nodes[node].inputs;
            *inputs
                .iter()
                .find(|&&l| missing[self.links[l].from] > 0)
                .expect("a vertex that is not ordered has an input that is not ordered")
        };
        let start = missing.iter().position(|&m| m > 0).expect("the order is incomplete");
        // The links walked, against their direction.
        let mut walked = vec![blocked_input(start)];
        let first = loop {
            let next = blocked_input(self.links[walked[walked.len() - 1]].from);
            if let Some(first) = walked.iter().position(|&l| l == next) {
                break first;
            }
            walked.push(next);
        };
        // The last edge of the graph's list is the one most likely to be wrong: it closes the cycle.
        let mut cycle: Vec<usize> = walked[first..].iter().rev().copied().collect();
        let last = cycle.iter().enumerate().max_by_key(|(_, link)| **link).map_or(0, |(i, _)| i);
        cycle.rotate_left(last + 1);
        let closing = &self.links[cycle[cycle.len() - 1]];
        let mut ids: Vec<&str> = vec![&self.nodes[closing.to].id];
        ids.extend(cycle.iter().map(|&l| self.nodes[self.links[l].to].id.as_str()));
        GraphError::at(&closing.path, format!("the edges form a cycle: {}", ids.join(" -> ")))
    }

    /// A vertex without a group takes the common group of its inputs, else "default".
    fn settle_slot_sharing_groups(&mut self) {
        for &position in &self.order {
            if !self.nodes[position].slot_sharing_group.is_empty() {
                continue;
            }
            let mut groups =
                self.nodes[position].inputs.iter().map(|&l| &self.nodes[self.links[l].from].slot_sharing_group);
            let first = groups.next();
            let common = first.filter(|first| groups.all(|group| group == *first));
            self.nodes[position].slot_sharing_group = common.map_or("default", |g| g).to_owned();
        }
    }
}

fn node(vertex: &v1::Vertex, path: String, configuration: &Configuration) -> Result<Node, GraphError> {
    let operator = vertex.operator.clone().unwrap_or_default();
    if operator.kind.is_none() {
        let reason = format!(
            "the operator of '{}' has no kind, or one that this version does not know: set one of source, calc, \
             watermark, group_aggregate, window_aggregate, window_table_function, sink, custom, union",
            vertex.id
        );
        return Err(GraphError::at(format!("{path}.operator"), reason));
    }
    let parallelism = match vertex.parallelism {
        0 => default_parallelism(configuration)?,
        set => set,
    };
    if parallelism > MAX_PARALLELISM_LIMIT {
        let reason = format!("{parallelism} is more than {MAX_PARALLELISM_LIMIT}");
        return Err(GraphError::at(format!("{path}.parallelism"), reason));
    }
    let (max_parallelism, max_parallelism_set) = max_parallelism(vertex, parallelism, &path, configuration)?;
    Ok(Node {
        path,
        id: vertex.id.clone(),
        operator,
        parallelism,
        max_parallelism,
        max_parallelism_set,
        slot_sharing_group: vertex.slot_sharing_group.clone(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        output: RowSchema::default(),
        mode: v1::ChangelogMode::Append,
    })
}

fn default_parallelism(configuration: &Configuration) -> Result<u32, GraphError> {
    let set = configuration.int(&keys::PARALLELISM_DEFAULT)?.unwrap_or(1);
    match u32::try_from(set) {
        Ok(parallelism @ 1..=MAX_PARALLELISM_LIMIT) => Ok(parallelism),
        _ => Err(GraphError::Config(format!(
            "{}: '{set}' is out of range: it must be from 1 to {MAX_PARALLELISM_LIMIT}",
            keys::PARALLELISM_DEFAULT.key
        ))),
    }
}

fn max_parallelism(
    vertex: &v1::Vertex,
    parallelism: u32,
    path: &str,
    configuration: &Configuration,
) -> Result<(u32, bool), GraphError> {
    let key = keys::MAX_PARALLELISM.key;
    let (max, what) = match (vertex.max_parallelism, configuration.int(&keys::MAX_PARALLELISM)?.unwrap_or(-1)) {
        (0, -1) => return Ok((default_max_parallelism(parallelism), false)),
        (0, set) => (u32::try_from(set).unwrap_or(0), format!("the max parallelism {set} of {key}")),
        (set, _) => (set, format!("the max parallelism {set}")),
    };
    let path = format!("{path}.max_parallelism");
    if !(1..=MAX_PARALLELISM_LIMIT).contains(&max) {
        return Err(GraphError::at(path, format!("{what} is not from 1 to {MAX_PARALLELISM_LIMIT}")));
    }
    if max < parallelism {
        return Err(GraphError::at(path, format!("{what} is below the parallelism {parallelism}")));
    }
    Ok((max, true))
}
