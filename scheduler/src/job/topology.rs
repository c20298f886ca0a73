//! The tasks of a job, how they are wired, and its pipelined regions.
//!
//! Tasks are numbered through all vertices of the plan in their order. A region is a connected
//! component of tasks over all edges; it fails over as one.

use std::collections::BTreeMap;

use hurtig_graph::job::{JobPlan, consumers_of, producers_of};
use hurtig_proto::v1::operator::Kind;

/// One subtask of one vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRef {
    /// Position in [`JobPlan::vertices`].
    pub vertex: usize,
    /// From 0.
    pub subtask: u32,
    /// Number of its region.
    pub region: usize,
}

/// A slot that the job needs: subtask `index` of every vertex of the group shares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    /// Slot sharing group.
    pub group: String,
    /// From 0.
    pub index: u32,
}

/// A job's plan, expanded into tasks.
#[derive(Debug)]
pub struct Topology {
    /// The plan.
    pub plan: JobPlan,
    /// All tasks.
    pub tasks: Vec<TaskRef>,
    /// Tasks of each region, ascending.
    pub regions: Vec<Vec<usize>>,
    first: Vec<usize>,
    by_id: BTreeMap<String, usize>,
    producers: Vec<Vec<usize>>,
}

impl Topology {
    /// Expands `plan`.
    pub fn new(plan: JobPlan) -> Self {
        let mut first = Vec::with_capacity(plan.vertices.len());
        let mut tasks = Vec::new();
        for (vertex, v) in plan.vertices.iter().enumerate() {
            first.push(tasks.len());
            tasks.extend((0..v.parallelism).map(|subtask| TaskRef { vertex, subtask, region: 0 }));
        }
        let by_id = plan.vertices.iter().enumerate().map(|(i, v)| (v.id.clone(), i)).collect();
        let mut topology =
            Topology { producers: vec![Vec::new(); tasks.len()], plan, tasks, regions: Vec::new(), first, by_id };
        topology.wire();
        topology.find_regions();
        topology
    }

    fn wire(&mut self) {
        for edge in &self.plan.edges {
            let (from, to) = (&self.plan.vertices[edge.from], &self.plan.vertices[edge.to]);
            for subtask in 0..to.parallelism {
                let consumer = self.first[edge.to] + subtask as usize;
                let producers = producers_of(&edge.partitioner, from.parallelism, to.parallelism, subtask);
                self.producers[consumer].extend(producers.into_iter().map(|p| self.first[edge.from] + p as usize));
            }
        }
    }

    fn find_regions(&mut self) {
        let mut parent: Vec<usize> = (0..self.tasks.len()).collect();
        for (consumer, producers) in self.producers.iter().enumerate() {
            for &producer in producers {
                let (a, b) = (root(&mut parent, consumer), root(&mut parent, producer));
                parent[a.max(b)] = a.min(b);
            }
        }
        let mut numbers = BTreeMap::new();
        for task in 0..self.tasks.len() {
            let next = numbers.len();
            let region = *numbers.entry(root(&mut parent, task)).or_insert(next);
            if region == self.regions.len() {
                self.regions.push(Vec::new());
            }
            self.regions[region].push(task);
            self.tasks[task].region = region;
        }
    }

    /// The task of a subtask, if there is such a one.
    pub fn find(&self, vertex_id: &str, subtask: u32) -> Option<usize> {
        let vertex = *self.by_id.get(vertex_id)?;
        (subtask < self.plan.vertices[vertex].parallelism).then(|| self.task(vertex, subtask))
    }

    /// The task of a subtask that exists.
    pub fn task(&self, vertex: usize, subtask: u32) -> usize {
        self.first[vertex] + subtask as usize
    }

    /// Tasks that `task` reads from.
    pub fn producers(&self, task: usize) -> &[usize] {
        &self.producers[task]
    }

    /// The tasks that subtask `subtask` of the edge's producer writes to, in the order of subtasks.
    pub fn consumer_subtasks(&self, edge: usize, subtask: u32) -> Vec<u32> {
        let edge = &self.plan.edges[edge];
        let (from, to) = (&self.plan.vertices[edge.from], &self.plan.vertices[edge.to]);
        consumers_of(&edge.partitioner, from.parallelism, to.parallelism, subtask)
    }

    /// The producer subtasks that subtask `subtask` of the edge's consumer reads from.
    pub fn producer_subtasks(&self, edge: usize, subtask: u32) -> Vec<u32> {
        let edge = &self.plan.edges[edge];
        let (from, to) = (&self.plan.vertices[edge.from], &self.plan.vertices[edge.to]);
        producers_of(&edge.partitioner, from.parallelism, to.parallelism, subtask)
    }

    /// The slot that a task needs.
    pub fn slot_key(&self, task: usize) -> SlotKey {
        let TaskRef { vertex, subtask, .. } = self.tasks[task];
        SlotKey { group: self.plan.vertices[vertex].slot_sharing_group.clone(), index: subtask }
    }

    /// The task is one of a source.
    pub fn is_source(&self, task: usize) -> bool {
        self.plan.vertices[self.tasks[task].vertex].is_source
    }

    /// What people call a task: `name (2/4)`.
    pub fn task_name(&self, task: usize) -> String {
        let TaskRef { vertex, subtask, .. } = self.tasks[task];
        let vertex = &self.plan.vertices[vertex];
        format!("{} ({}/{})", vertex.name, subtask + 1, vertex.parallelism)
    }
}

/// Whether a job delivers rows to its client.
pub fn plan_collects(plan: &JobPlan) -> bool {
    plan.vertices.iter().flat_map(|v| &v.operators).any(|operator| match &operator.kind {
        Some(Kind::Sink(sink)) => sink.options.get("connector").is_some_and(|c| c == "collect"),
        _ => false,
    })
}

fn root(parent: &mut [usize], mut task: usize) -> usize {
    while parent[task] != task {
        parent[task] = parent[parent[task]];
        task = parent[task];
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::plans::{PlanBuilder, forward, hash};

    #[test]
    fn forward_pipelines_are_regions_of_their_own() {
        let plan = PlanBuilder::new().source("s", 4).vertex("k", 4).edge(0, 1, forward()).build();
        let topology = Topology::new(plan);
        assert_eq!(topology.regions, [vec![0, 4], vec![1, 5], vec![2, 6], vec![3, 7]]);
        assert_eq!(topology.tasks[6].region, 2);
    }

    #[test]
    fn an_exchange_joins_everything_that_it_connects_and_nothing_else() {
        let plan = PlanBuilder::new()
            .source("a", 2)
            .vertex("b", 2)
            .source("c", 2)
            .vertex("d", 2)
            .edge(0, 1, hash())
            .edge(2, 3, forward())
            .build();
        let topology = Topology::new(plan);
        assert_eq!(topology.regions, [vec![0, 1, 2, 3], vec![4, 6], vec![5, 7]]);
        assert_eq!(topology.producers(3), [0, 1]);
        assert_eq!(topology.slot_key(3), SlotKey { group: "default".into(), index: 1 });
        assert_eq!(topology.find("d", 1), Some(7));
        assert_eq!(topology.find("d", 2), None);
    }
}
