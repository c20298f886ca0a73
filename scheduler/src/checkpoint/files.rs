//! Which objects checkpoints refer to, and which may be deleted.
//!
//! Nothing is counted and nothing about references is stored: what may go follows from the metadata
//! of the retained checkpoints, those dropped in the last round, and pending acknowledgements. A
//! task bases a checkpoint on the last one that it was *told* completed, which may be one behind;
//! so what a dropped checkpoint referred to stays until the checkpoint after it has completed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hurtig_proto::v1;
use hurtig_proto::v1::channel_state::Content;

/// So many savepoints that failed are remembered, for acknowledgements that come late.
const SAVEPOINTS_REMEMBERED: usize = 16;

/// A completed checkpoint that HEAD names, or named.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedCheckpoint {
    /// Its id.
    pub id: u64,
    /// URI of its metadata object.
    pub metadata_object: String,
    /// The metadata.
    pub metadata: Arc<v1::CheckpointMetadata>,
    /// Size of its state.
    pub bytes: u64,
    /// It was taken over from another run of a job.
    pub claimed: bool,
    objects: BTreeSet<String>,
}

impl CompletedCheckpoint {
    /// Of its metadata.
    pub fn new(metadata_object: String, metadata: Arc<v1::CheckpointMetadata>) -> Self {
        let subtasks = || metadata.vertices.iter().flat_map(|vertex| &vertex.subtasks);
        CompletedCheckpoint {
            id: metadata.checkpoint_id,
            bytes: subtasks().map(|s| sizes(s).0).sum::<u64>() + coordinator_bytes(&metadata.coordinators),
            objects: subtasks().flat_map(objects_of).map(str::to_owned).collect(),
            claimed: false,
            metadata_object,
            metadata,
        }
    }

    /// One that the job starts from and does not own: no later checkpoint may refer to its files.
    pub fn unclaimed(path: String, mut metadata: v1::CheckpointMetadata) -> Self {
        let subtasks = metadata.vertices.iter_mut().flat_map(|vertex| &mut vertex.subtasks);
        for file in subtasks.filter_map(|subtask| subtask.keyed.as_mut()).flat_map(|keyed| &mut keyed.files) {
            file.shared = false;
        }
        Self::new(path, Arc::new(metadata))
    }

    /// URIs of the state objects that it refers to.
    pub fn objects(&self) -> &BTreeSet<String> {
        &self.objects
    }
}

fn coordinator_bytes(coordinators: &[v1::CoordinatorSnapshot]) -> u64 {
    coordinators.iter().map(|c| c.state.len() as u64).sum()
}

/// The URIs that a subtask's state refers to.
pub fn objects_of(snapshot: &v1::SubtaskSnapshot) -> impl Iterator<Item = &str> {
    let files = snapshot.keyed.iter().flat_map(|keyed| &keyed.files).filter_map(|file| file.handle.as_ref());
    let in_flight = channels_of(snapshot).filter_map(|content| match content {
        Content::Handle(handle) => Some(handle),
        Content::Inline(_) => None,
    });
    files.chain(in_flight).map(|handle| handle.object.as_str()).filter(|o| !o.is_empty())
}

/// What an unaligned checkpoint keeps of the subtask's channels.
fn channels_of(snapshot: &v1::SubtaskSnapshot) -> impl Iterator<Item = &Content> {
    snapshot.inputs.iter().chain(&snapshot.outputs).filter_map(|channel| channel.content.as_ref())
}

/// The size of a subtask's state, and how much of it was uploaded for this checkpoint.
pub fn sizes(snapshot: &v1::SubtaskSnapshot) -> (u64, u64) {
    let lists = snapshot.operators.iter().flat_map(|operator| &operator.lists);
    let inline: u64 = lists.flat_map(|list| &list.elements).map(|element| element.len() as u64).sum();
    let in_flight = channels_of(snapshot).map(|content| match content {
        Content::Inline(bytes) => bytes.len() as u64,
        Content::Handle(handle) => handle.length,
    });
    let inline = inline + in_flight.sum::<u64>();
    match &snapshot.keyed {
        Some(keyed) => (inline + keyed.total_bytes, inline + keyed.uploaded_bytes),
        None => (inline, inline),
    }
}

/// The checkpoints whose objects must stay, and those that were dropped and whose objects go soon.
#[derive(Debug)]
pub struct FileTracker {
    /// URIs that do not begin with it belong to someone else and are never deleted, but for those of
    /// claimed checkpoints and of savepoints that failed.
    directory: String,
    /// What the job starts from and does not own.
    unclaimed: Option<CompletedCheckpoint>,
    claimed: BTreeSet<String>,
    /// What checkpoints beside a claimed one refer to: someone may restore those.
    others: BTreeSet<String>,
    /// Folders of the last savepoints that this job has begun and not completed.
    savepoints: VecDeque<String>,
    retained: Vec<CompletedCheckpoint>,
    dropped: Vec<CompletedCheckpoint>,
    /// What the last two rounds deleted: an acknowledgement that refers to it must be refused.
    deleted: [BTreeSet<String>; 2],
}

impl FileTracker {
    /// With nothing retained.
    pub fn new(directory: String) -> Self {
        FileTracker {
            directory,
            unclaimed: None,
            claimed: BTreeSet::new(),
            others: BTreeSet::new(),
            savepoints: VecDeque::new(),
            retained: Vec::new(),
            dropped: Vec::new(),
            deleted: Default::default(),
        }
    }

    /// Retained checkpoints, oldest first.
    pub fn retained(&self) -> &[CompletedCheckpoint] {
        &self.retained
    }

    /// The job's own checkpoints whose files must stay.
    pub fn kept_ids(&self) -> Vec<u64> {
        let own = self.dropped.iter().chain(&self.retained).filter(|completed| !completed.claimed);
        own.map(|completed| completed.id).collect()
    }

    /// The checkpoints that remain retained when one more is: the newest `keep - 1` and it.
    pub fn retained_with(&self, completed: &CompletedCheckpoint, keep: usize) -> Vec<v1::RetainedCheckpoint> {
        let stay = self.retained.len().min(keep.saturating_sub(1));
        let old = self.retained[self.retained.len() - stay..].iter();
        old.chain(std::iter::once(completed)).map(retained_entry).collect()
    }

    /// Adds a checkpoint that a store's HEAD named already.
    pub fn restore(&mut self, completed: CompletedCheckpoint) {
        if completed.claimed {
            self.claimed.extend(completed.objects.iter().cloned());
            self.claimed.insert(completed.metadata_object.clone());
        }
        self.retained.push(completed);
    }

    /// A retained checkpoint that was taken over from a run that kept it, as opposed to a savepoint.
    pub fn claimed_checkpoint(&self) -> Option<&CompletedCheckpoint> {
        self.retained.iter().find(|completed| completed.claimed && completed.metadata_object.contains("/chk-"))
    }

    /// These checkpoints lie beside the claimed one: what they refer to stays. Those from `first` on are
    /// this run's if the claimed one lies in its folder.
    pub fn keep_for_others(&mut self, others: &[v1::CheckpointMetadata], first: u64) {
        let Some(claimed) = self.claimed_checkpoint() else { return };
        let (id, own_folder) = (claimed.id, claimed.metadata_object.starts_with(&self.directory));
        let others =
            others.iter().filter(|other| other.checkpoint_id != id && (other.checkpoint_id < first || !own_folder));
        let subtasks = others.flat_map(|other| &other.vertices).flat_map(|vertex| &vertex.subtasks);
        self.others = subtasks.flat_map(objects_of).map(str::to_owned).collect();
    }

    /// They are read once more.
    pub fn forget_retained(&mut self) {
        self.retained.clear();
        self.claimed.clear();
    }

    /// What the job starts from without owning it.
    pub fn start_from(&mut self, unclaimed: CompletedCheckpoint) {
        self.unclaimed = Some(unclaimed);
    }

    /// What a restart restores.
    pub fn latest(&self) -> Option<&CompletedCheckpoint> {
        self.retained.last().or(self.unclaimed.as_ref())
    }

    /// A savepoint begins: its files can be deleted until it is complete.
    pub fn savepoint_begins(&mut self, folder: &str) {
        self.savepoints.push_back(format!("{folder}/"));
        if self.savepoints.len() > SAVEPOINTS_REMEMBERED {
            self.savepoints.pop_front();
        }
    }

    /// A savepoint is complete: it is its user's.
    pub fn savepoint_completed(&mut self, folder: &str) {
        self.savepoints.retain(|begun| begun.trim_end_matches('/') != folder);
    }

    /// HEAD names `completed` now. Returns what may be deleted.
    pub fn complete(&mut self, completed: CompletedCheckpoint, keep: usize) -> Vec<String> {
        self.retained.push(completed);
        let surplus = self.retained.len().saturating_sub(keep.max(1));
        let newly_dropped: Vec<_> = self.retained.drain(..surplus).collect();
        let long_dropped = std::mem::replace(&mut self.dropped, newly_dropped);
        let candidates: BTreeSet<String> = long_dropped.into_iter().flat_map(|c| c.objects).collect();
        let files: BTreeSet<String> = candidates.into_iter().filter(|o| !self.is_referenced(o)).collect();
        let metadata = self.dropped.iter().map(|dropped| dropped.metadata_object.clone());
        let all = files.iter().cloned().chain(metadata).collect();
        self.deleted.swap(0, 1);
        self.deleted[0] = files;
        self.only_own(all)
    }

    /// HEAD does not name checkpoint `id` any more, which is damaged. Returns what may be deleted.
    pub fn give_up(&mut self, id: u64) -> Vec<String> {
        let Some(at) = self.retained.iter().position(|completed| completed.id == id) else { return Vec::new() };
        let damaged = self.retained.remove(at);
        let metadata = vec![damaged.metadata_object.clone()];
        self.dropped.push(damaged);
        self.only_own(metadata)
    }

    /// What may be deleted of the state in acknowledgements that no checkpoint will contain.
    /// `pending` is what the checkpoint under way refers to.
    pub fn discard<'a>(
        &self,
        snapshots: impl IntoIterator<Item = &'a v1::SubtaskSnapshot>,
        pending: &BTreeSet<String>,
    ) -> Vec<String> {
        let objects: BTreeSet<&str> = snapshots.into_iter().flat_map(objects_of).collect();
        let free = objects.into_iter().filter(|o| !self.is_referenced(o) && !pending.contains(*o));
        self.only_own(free.map(str::to_owned).collect())
    }

    /// Forgets all checkpoints. Returns what may be deleted: everything, or only what was dropped
    /// before when the retained ones are `kept`.
    pub fn end(&mut self, kept: bool) -> Vec<String> {
        let dropped = std::mem::take(&mut self.dropped);
        let objects: BTreeSet<String> = dropped.into_iter().flat_map(|c| c.objects).collect();
        if kept {
            return self.only_own(objects.into_iter().filter(|o| !self.is_referenced(o)).collect());
        }
        let mut all = objects;
        for completed in self.retained.drain(..) {
            all.extend(completed.objects);
            all.insert(completed.metadata_object);
        }
        self.only_own(all.into_iter().collect())
    }

    /// Whether an acknowledgement refers to an object that is gone.
    pub fn refers_to_deleted(&self, snapshot: &v1::SubtaskSnapshot) -> bool {
        objects_of(snapshot).any(|object| self.deleted.iter().any(|deleted| deleted.contains(object)))
    }

    fn is_referenced(&self, object: &str) -> bool {
        self.retained.iter().chain(&self.dropped).any(|completed| completed.objects.contains(object))
    }

    fn only_own(&self, mut objects: Vec<String>) -> Vec<String> {
        let others = self.unclaimed.as_ref().map(|unclaimed| &unclaimed.objects);
        objects.retain(|object| {
            let own = object.starts_with(&self.directory) || self.claimed.contains(object);
            let own = own || self.savepoints.iter().any(|folder| object.starts_with(folder));
            own && !self.others.contains(object) && others.is_none_or(|others| !others.contains(object))
        });
        objects
    }
}

/// How HEAD names a checkpoint.
pub fn retained_entry(completed: &CompletedCheckpoint) -> v1::RetainedCheckpoint {
    v1::RetainedCheckpoint {
        checkpoint_id: completed.id,
        metadata_object: completed.metadata_object.clone(),
        bytes: completed.bytes,
        claimed: completed.claimed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(objects: &[&str]) -> v1::SubtaskSnapshot {
        let file = |object: &&str| v1::StateFile {
            handle: Some(v1::FileHandle { object: format!("s3://b/{object}"), ..Default::default() }),
            ..Default::default()
        };
        let files = objects.iter().map(file).collect();
        v1::SubtaskSnapshot { keyed: Some(v1::KeyedSnapshot { files, ..Default::default() }), ..Default::default() }
    }

    fn checkpoint(id: u64, objects: &[&str]) -> CompletedCheckpoint {
        let vertex = v1::VertexSnapshot { subtasks: vec![snapshot(objects)], ..Default::default() };
        let metadata = v1::CheckpointMetadata { checkpoint_id: id, vertices: vec![vertex], ..Default::default() };
        CompletedCheckpoint::new(format!("s3://b/chk-{id}"), Arc::new(metadata))
    }

    #[test]
    fn shared_objects_live_as_long_as_a_checkpoint_refers_to_them_and_one_round_more() {
        let mut files = FileTracker::new("s3://b/".into());
        assert!(files.complete(checkpoint(1, &["a", "b"]), 1).is_empty());
        assert_eq!(files.complete(checkpoint(2, &["b", "c"]), 1), ["s3://b/chk-1"]);
        assert_eq!(files.complete(checkpoint(3, &["c"]), 1), ["s3://b/a", "s3://b/chk-2"]);
        assert!(files.refers_to_deleted(&snapshot(&["a"])));
        assert_eq!(files.end(false), ["s3://b/b", "s3://b/c", "s3://b/chk-3"]);
    }

    #[test]
    fn a_damaged_checkpoint_is_dropped_and_what_the_one_before_it_has_stays() {
        let mut files = FileTracker::new("s3://b/".into());
        files.complete(checkpoint(1, &["a", "b"]), 2);
        files.complete(checkpoint(2, &["b", "c"]), 2);
        assert_eq!(files.give_up(2), ["s3://b/chk-2"]);
        assert_eq!(files.retained().last().map(|c| c.id), Some(1));
        assert!(files.give_up(2).is_empty());
        assert_eq!(files.complete(checkpoint(3, &["b", "d"]), 2), ["s3://b/c"]);
    }

    #[test]
    fn a_discarded_acknowledgement_leaves_what_others_refer_to() {
        let mut files = FileTracker::new("s3://b/".into());
        files.complete(checkpoint(1, &["a"]), 1);
        let pending = BTreeSet::from(["s3://b/p".to_owned()]);
        assert_eq!(files.discard([&snapshot(&["a", "p", "x"])], &pending), ["s3://b/x"]);
    }

    #[test]
    fn what_the_job_started_from_is_deleted_only_if_it_was_claimed() {
        let at = |id, objects: &[&str]| CompletedCheckpoint { claimed: true, ..checkpoint(id, objects) };
        let mut files = FileTracker::new("s3://own/".into());
        files.restore(at(1, &["a", "b"]));
        assert_eq!(files.latest().map(|c| c.id), Some(1));
        assert_eq!(files.complete(checkpoint(2, &["b"]), 1), ["s3://b/chk-1"]);
        assert_eq!(files.complete(checkpoint(3, &[]), 1), ["s3://b/a"], "the others are not the job's");

        let mut files = FileTracker::new("s3://b/".into());
        files.start_from(CompletedCheckpoint::unclaimed("s3://b/chk-1".into(), (*at(1, &["a"]).metadata).clone()));
        assert_eq!(files.latest().map(|c| c.id), Some(1));
        let shared = files.latest().unwrap().metadata.vertices[0].subtasks[0].keyed.clone().unwrap().files;
        assert!(shared.iter().all(|file| !file.shared));
        assert!(files.discard([&snapshot(&["a"])], &BTreeSet::new()).is_empty());
        files.complete(checkpoint(2, &["c"]), 1);
        assert_eq!(files.end(false), ["s3://b/c", "s3://b/chk-2"]);
    }

    #[test]
    fn files_of_a_savepoint_are_deleted_only_before_it_is_complete() {
        let mut files = FileTracker::new("s3://own/".into());
        files.savepoint_begins("s3://b");
        assert_eq!(files.discard([&snapshot(&["x"])], &BTreeSet::new()), ["s3://b/x"]);
        files.savepoint_completed("s3://b");
        assert!(files.discard([&snapshot(&["x"])], &BTreeSet::new()).is_empty());
    }

    #[test]
    fn objects_of_others_are_never_deleted() {
        let files = FileTracker::new("s3://other/".into());
        assert!(files.discard([&snapshot(&["x"])], &BTreeSet::new()).is_empty());
    }
}
