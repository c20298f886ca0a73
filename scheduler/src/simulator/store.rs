//! The object store of a job with its state files, and what sinks have made visible outside.

use std::collections::{BTreeMap, BTreeSet};

use hurtig_proto::v1;

use super::task::{Records, TaskId, Transaction};
use crate::storage::memory::{MEMORY_DIRECTORY, MemoryStore};
use crate::storage::{StorageReply, StorageRequest, Version};

/// What becomes of a storage call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Works,
    /// It never arrives; the caller times out.
    RequestLost,
    /// It is done, and the caller times out.
    AnswerLost,
    /// The caller times out, and it is done later.
    DoneLate,
    /// It is refused for good.
    Refused,
}

/// One job's part of the object store.
#[derive(Debug, Default)]
pub struct Store {
    /// HEAD and metadata.
    pub objects: MemoryStore,
    /// State files.
    pub files: BTreeSet<String>,
    /// Ids that HEAD has named.
    pub completed: BTreeSet<u64>,
    /// Folders of savepoints by checkpoint id.
    pub savepoints: BTreeMap<u64, String>,
    /// Those that the user was told are complete.
    pub saved: BTreeSet<String>,
    /// HEAD can be swapped whatever its version.
    pub unfenced: bool,
    next_file: u64,
}

impl Store {
    /// With nothing in it.
    pub fn new(unfenced: bool) -> Store {
        Store { unfenced, ..Store::default() }
    }

    /// Does what `request` asks.
    pub fn apply(&mut self, request: &StorageRequest) -> StorageReply {
        match request {
            StorageRequest::SwapHead { head, .. } if self.unfenced => {
                let expected = self.objects.head.as_ref().map(|(_, version)| Version(version.to_string()));
                self.objects.apply(&StorageRequest::SwapHead { head: head.clone(), expected })
            }
            request => self.objects.apply(request),
        }
    }

    /// The name of a new state file.
    pub fn new_file(&mut self, task: &TaskId, checkpoint: u64) -> String {
        self.next_file += 1;
        let TaskId { vertex, subtask, attempt, .. } = task;
        let directory = self.savepoints.get(&checkpoint).map_or(MEMORY_DIRECTORY, String::as_str);
        format!("{directory}/{vertex}-{subtask}-{attempt}-{}", self.next_file)
    }

    /// The savepoint with which the job was stopped.
    pub fn stopped_with(&self) -> Option<&v1::CheckpointMetadata> {
        let (head, _) = self.objects.head.as_ref()?;
        self.objects.metadata.get(&head.stopped_with)
    }

    /// The files that the checkpoints named by HEAD refer to.
    pub fn referenced(&self) -> BTreeSet<&str> {
        let retained = self.objects.head.iter().flat_map(|(head, _)| &head.retained);
        let metadata = retained.filter_map(|entry| self.objects.metadata.get(&entry.metadata_object));
        let subtasks = metadata.flat_map(|m| &m.vertices).flat_map(|v| &v.subtasks);
        subtasks.flat_map(crate::checkpoint::files::objects_of).collect()
    }
}

/// (vertex, (subtask, attempt), checkpoint): the name of a transaction in the outside world.
type TransactionName = (String, (u32, u32), u64);

/// What the sinks of a job have committed.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    transactions: BTreeMap<TransactionName, Vec<Records>>,
    /// By sink vertex and split: ranges by their start.
    visible: BTreeMap<(String, u32), BTreeMap<u64, u64>>,
}

impl Ledger {
    /// Commits a transaction; one that is committed already is no change.
    ///
    /// # Errors
    /// Records would become visible twice.
    pub fn commit(&mut self, task: &TaskId, transaction: &Transaction) -> Result<(), String> {
        let name = (task.vertex.clone(), transaction.writer, transaction.checkpoint);
        if let Some(committed) = self.transactions.get(&name) {
            let same = *committed == transaction.records;
            return if same { Ok(()) } else { Err(format!("transaction {name:?} has two contents")) };
        }
        for records in &transaction.records {
            let ranges = self.visible.entry((task.vertex.clone(), records.split)).or_default();
            let before = ranges.range(..records.to).next_back();
            if before.is_some_and(|(_, to)| *to > records.from) {
                return Err(format!("{records:?} of {name:?} become visible twice"));
            }
            ranges.insert(records.from, records.to);
        }
        self.transactions.insert(name, transaction.records.clone());
        Ok(())
    }

    /// Whether the sink `vertex` has made `0..records` of `split` visible.
    pub fn is_complete(&self, vertex: &str, split: u32, records: u64) -> bool {
        let ranges = self.visible.get(&(vertex.to_owned(), split));
        let total: u64 = ranges.into_iter().flatten().map(|(from, to)| to - from).sum();
        let last = ranges.into_iter().flatten().map(|(_, to)| *to).max().unwrap_or(0);
        total == records && last == records
    }
}
