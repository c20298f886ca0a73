//! Between which bounds the parallelism of each vertex may be, and how slots are shared out between
//! slot sharing groups.
//!
//! The upper bounds are the parallelism in the planned [`JobPlan`], so that whoever wants "all of it"
//! runs the plan as it is.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_graph::job::{JobPlan, PlanVertex};
use hurtig_proto::v1;
use hurtig_proto::v1::partitioner::Kind as Partitioner;

/// Lower bounds by position of the vertex, and the plan with the upper bounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Requirements {
    pub plan: JobPlan,
    pub lower: Vec<u32>,
}

impl Requirements {
    /// One subtask at least, and as many as planned at most.
    pub fn of(plan: JobPlan) -> Self {
        let lower = vec![1; plan.vertices.len()];
        Requirements { plan, lower }
    }

    /// As of a job in reactive mode: as many subtasks as the max parallelism allows.
    pub fn reactive(mut plan: JobPlan) -> Self {
        for vertex in parallel_vertices(&plan) {
            plan.vertices[vertex].parallelism = plan.vertices[vertex].max_parallelism;
        }
        even_out(&mut plan);
        Requirements::of(plan)
    }

    /// With the bounds of `request`, all of which are checked.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn changed(&self, request: &v1::RescaleJobRequest) -> Result<Self, String> {
        let mut wrong = Vec::new();
        let mut new = self.clone();
        let parallel = parallel_vertices(&self.plan);
        if request.parallelism > 0 {
            for &vertex in &parallel {
                new.plan.vertices[vertex].parallelism = request.parallelism;
                new.lower[vertex] = new.lower[vertex].min(request.parallelism);
            }
        } else if request.vertices.is_empty() {
            wrong.push("parallelism: write a number above 0, or bounds for every vertex".to_owned());
        }
        let mut named = BTreeSet::new();
        for bounds in &request.vertices {
            let Some(vertex) = self.plan.vertices.iter().position(|v| v.id == bounds.vertex_id) else {
                wrong.push(format!("the job has no vertex '{}'", bounds.vertex_id));
                continue;
            };
            named.insert(vertex);
            new.lower[vertex] = bounds.lower_bound.max(1);
            let v = &mut new.plan.vertices[vertex];
            v.parallelism = if bounds.upper_bound == 0 { v.max_parallelism } else { bounds.upper_bound };
        }
        for (vertex, v) in new.plan.vertices.iter().enumerate() {
            if request.parallelism == 0 && !request.vertices.is_empty() && !named.contains(&vertex) {
                wrong.push(format!("vertex {} ({}) is not named", v.id, v.name));
            }
            if v.parallelism > v.max_parallelism {
                wrong.push(format!(
                    "vertex {} ({}): parallelism {} is above its max parallelism, {}",
                    v.id, v.name, v.parallelism, v.max_parallelism
                ));
            }
            if v.parallelism > 1 && !parallel.contains(&vertex) {
                wrong.push(format!("vertex {} ({}) runs with parallelism 1 only", v.id, v.name));
            }
            if new.lower[vertex] > v.parallelism {
                wrong.push(format!(
                    "vertex {} ({}): the lower bound {} is above the upper bound {}",
                    v.id, v.name, new.lower[vertex], v.parallelism
                ));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        even_out(&mut new.plan);
        Ok(new)
    }

    /// The bounds of all vertices.
    pub fn to_request(&self, job_id: &str) -> v1::RescaleJobRequest {
        let bounds = |(vertex, lower): (&PlanVertex, &u32)| v1::VertexRequirements {
            vertex_id: vertex.id.clone(),
            lower_bound: *lower,
            upper_bound: vertex.parallelism,
        };
        let vertices = self.plan.vertices.iter().zip(&self.lower).map(bounds).collect();
        v1::RescaleJobRequest { job_id: job_id.to_owned(), parallelism: 0, vertices }
    }

    /// The slots that each slot sharing group gets out of `available`, by Flink's rule; `None`: fewer
    /// than the lower bounds need.
    pub fn share_slots(&self, available: u32) -> Option<BTreeMap<String, u32>> {
        let mut bounds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for (vertex, lower) in self.plan.vertices.iter().zip(&self.lower) {
            let group = bounds.entry(&vertex.slot_sharing_group).or_default();
            *group = (group.0.max(*lower), group.1.max(vertex.parallelism));
        }
        let mut groups: Vec<(&str, u32, u32)> = bounds.into_iter().map(|(name, (l, u))| (name, l, u)).collect();
        let mut spare = available.checked_sub(groups.iter().map(|(_, lower, _)| lower).sum())?;
        groups.sort_by_key(|(_, lower, upper)| upper - lower);
        let mut shares = BTreeMap::new();
        for (i, (group, lower, upper)) in groups.iter().enumerate() {
            let extra = (spare / (groups.len() - i) as u32).min(upper - lower);
            spare -= extra;
            shares.insert((*group).to_owned(), lower + extra);
        }
        Some(shares)
    }

    /// The plan with no vertex wider than the slots of its group.
    pub fn limited(&self, shares: &BTreeMap<String, u32>) -> JobPlan {
        let limit = |vertex: &PlanVertex| {
            let share = shares.get(&vertex.slot_sharing_group).copied().unwrap_or(1);
            PlanVertex { parallelism: vertex.parallelism.min(share), ..vertex.clone() }
        };
        let mut plan = JobPlan { vertices: self.plan.vertices.iter().map(limit).collect(), ..self.plan.clone() };
        even_out(&mut plan);
        plan
    }
}

/// Parallelism by vertex.
pub(super) fn widths(plan: &JobPlan) -> Vec<u32> {
    plan.vertices.iter().map(|v| v.parallelism).collect()
}

/// Vertices that may have more than one subtask: not those whose whole input goes to the first.
fn parallel_vertices(plan: &JobPlan) -> BTreeSet<usize> {
    let global = |vertex: &usize| {
        plan.edges
            .iter()
            .any(|edge| edge.to == *vertex && matches!(edge.partitioner.kind, Some(Partitioner::Global(_))))
    };
    (0..plan.vertices.len()).filter(|v| plan.vertices[*v].max_parallelism > 1 && !global(v)).collect()
}

/// Forward edges need equal parallelism: the smaller one.
fn even_out(plan: &mut JobPlan) {
    loop {
        let mut changed = false;
        for edge in &plan.edges {
            if matches!(edge.partitioner.kind, Some(Partitioner::Forward(_))) {
                let (from, to) = (plan.vertices[edge.from].parallelism, plan.vertices[edge.to].parallelism);
                let narrow = from.min(to);
                plan.vertices[edge.from].parallelism = narrow;
                plan.vertices[edge.to].parallelism = narrow;
                changed |= from != to;
            }
        }
        if !changed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::plans::{PlanBuilder, forward, hash};

    fn plan() -> JobPlan {
        let mut plan = PlanBuilder::new().source("s", 4).vertex("k", 4).source("t", 2).edge(0, 1, forward()).build();
        plan.vertices[2].slot_sharing_group = "other".into();
        plan
    }

    #[test]
    fn slots_are_shared_by_flinks_rule() {
        let requirements = Requirements::of(plan());
        let shares = |available| requirements.share_slots(available).map(|s| (s["default"], s["other"]));
        assert_eq!([shares(1), shares(2), shares(3)], [None, Some((1, 1)), Some((2, 1))]);
        assert_eq!([shares(5), shares(6), shares(9)], [Some((3, 2)), Some((4, 2)), Some((4, 2))]);
    }

    #[test]
    fn lower_bounds_are_kept() {
        let mut requirements = Requirements::of(plan());
        requirements.lower = vec![1, 3, 1];
        let shares = |available| requirements.share_slots(available).map(|s| (s["default"], s["other"]));
        assert_eq!([shares(3), shares(4), shares(5)], [None, Some((3, 1)), Some((3, 2))]);
    }

    #[test]
    fn no_vertex_is_wider_than_its_share_and_forward_edges_stay_even() {
        let requirements = Requirements::of(plan());
        assert_eq!(widths(&requirements.limited(&requirements.share_slots(4).unwrap())), [2, 2, 2]);
        let mut plan = plan();
        plan.vertices[1].slot_sharing_group = "other".into();
        let requirements = Requirements::of(plan);
        let shares = BTreeMap::from([("default".to_owned(), 3), ("other".to_owned(), 1)]);
        assert_eq!(widths(&requirements.limited(&shares)), [1, 1, 1]);
    }

    fn request(parallelism: u32, vertices: &[(&str, u32, u32)]) -> v1::RescaleJobRequest {
        let bounds = |(id, lower, upper): &(&str, u32, u32)| v1::VertexRequirements {
            vertex_id: (*id).to_owned(),
            lower_bound: *lower,
            upper_bound: *upper,
        };
        v1::RescaleJobRequest { job_id: String::new(), parallelism, vertices: vertices.iter().map(bounds).collect() }
    }

    #[test]
    fn one_number_is_for_all_that_can_run_in_parallel() {
        let global = v1::Partitioner { kind: Some(Partitioner::Global(v1::Global {})) };
        let plan =
            PlanBuilder::new().source("s", 2).vertex("k", 2).vertex("one", 1).edge(0, 1, hash()).edge(1, 2, global);
        let requirements = Requirements::of(plan.build());
        assert_eq!(widths(&requirements.changed(&request(5, &[])).unwrap().plan), [5, 5, 1]);
        assert_eq!(widths(&Requirements::reactive(requirements.plan).plan), [128, 128, 1]);
    }

    #[test]
    fn all_that_is_wrong_with_a_request_is_said_at_once() {
        let requirements = Requirements::of(plan());
        let wrong = requirements.changed(&request(0, &[("s", 3, 2), ("k", 1, 129), ("x", 1, 1)])).unwrap_err();
        for part in
            ["vertex s (s): the lower bound 3", "vertex k (k): parallelism 129", "no vertex 'x'", "t (t) is not named"]
        {
            assert!(wrong.contains(part), "{part} is not in {wrong}");
        }
        assert!(requirements.changed(&request(0, &[])).is_err());
        let bounds = requirements.changed(&request(0, &[("s", 2, 3), ("k", 0, 3), ("t", 1, 0)])).unwrap();
        assert_eq!(Requirements::of(plan()).changed(&bounds.to_request("")), Ok(bounds.clone()));
        assert_eq!((widths(&bounds.plan), bounds.lower), (vec![3, 3, 128], vec![2, 1, 1]));
    }
}
