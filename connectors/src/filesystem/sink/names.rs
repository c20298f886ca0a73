//! Names of files, and from them what an earlier attempt left behind.

use std::path::{Path, PathBuf};

use hurtig_engine::operator::OperatorContext;

use crate::filesystem::FilesystemOptions;

/// Names of the files of one attempt of one subtask.
pub struct Names {
    root: PathBuf,
    staging: PathBuf,
    /// Identifies the operator within the job.
    operator: u64,
    subtask: u32,
    parallelism: u32,
    attempt: u32,
    /// Differs between all attempts ever made.
    uuid: String,
    extension: &'static str,
}

impl Names {
    /// For the subtask of `context`.
    pub fn new(options: &FilesystemOptions, context: &OperatorContext) -> Names {
        let task = &context.task;
        Names {
            staging: options.path.join(format!(".staging-{}", task.attempt.job)),
            root: options.path.clone(),
            operator: fnv(context.uid.as_bytes()),
            subtask: task.attempt.subtask,
            parallelism: task.parallelism,
            attempt: task.attempt.attempt,
            uuid: uuid::Uuid::new_v4().simple().to_string(),
            extension: options.format.name(),
        }
    }

    /// The hidden folder.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    fn stem(&self, part: u64) -> String {
        format!("{:016x}-{}-{}-{}-{part}", self.operator, self.subtask, self.attempt, self.uuid)
    }

    /// A file that is being written.
    pub fn in_progress(&self, part: u64) -> PathBuf {
        self.staging.join(self.stem(part) + ".inprogress")
    }

    /// A closed file that `checkpoint` is the first to list.
    pub fn pending(&self, part: u64, checkpoint: u64) -> String {
        text(&self.staging.join(format!("{}.{checkpoint}.pending", self.stem(part))))
    }

    /// A visible file.
    pub fn target(&self, folder: &str, part: u64) -> String {
        let name = format!("part-{}-{}-{part}.{}", self.uuid, self.subtask, self.extension);
        text(&self.root.join(folder).join(name))
    }

    /// Which files this subtask removes when it starts from `checkpoint`.
    pub fn cleanup(&self, checkpoint: u64) -> Cleanup {
        Cleanup { operator: self.operator, subtask: self.subtask, parallelism: self.parallelism, checkpoint }
    }
}

/// Paths were UTF-8 when they came in as options.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// See [`Names::cleanup`].
#[derive(Debug, Clone)]
pub struct Cleanup {
    operator: u64,
    subtask: u32,
    parallelism: u32,
    checkpoint: u64,
}

impl Cleanup {
    /// Whether a staged file of this name is garbage: of an earlier attempt of this subtask (of
    /// subtasks that no longer exist, if this is the first) and not listed by the checkpoint that
    /// the job starts from. Pending files that it does list are committed by whichever subtask was
    /// given them.
    pub fn is_garbage(&self, name: &str) -> bool {
        let mut parts = name.split('-');
        let operator = parts.next().and_then(|p| u64::from_str_radix(p, 16).ok());
        let subtask = parts.next().and_then(|p| p.parse::<u32>().ok());
        let (Some(operator), Some(subtask)) = (operator, subtask) else { return false };
        let gone = self.subtask == 0 && subtask >= self.parallelism;
        if operator != self.operator || subtask != self.subtask && !gone {
            return false;
        }
        if name.ends_with(".inprogress") {
            return true;
        }
        let listed_by = name.strip_suffix(".pending").and_then(|n| n.rsplit_once('.')?.1.parse::<u64>().ok());
        listed_by.is_some_and(|checkpoint| checkpoint > self.checkpoint)
    }
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_what_this_subtask_left_and_no_checkpoint_lists() {
        let cleanup = |subtask| Cleanup { operator: 0xab, subtask, parallelism: 2, checkpoint: 5 };
        let one = "00000000000000ab-1-0-cafe-3";
        assert!(cleanup(1).is_garbage(&format!("{one}.inprogress")));
        assert!(!cleanup(0).is_garbage(&format!("{one}.inprogress")));
        assert!(cleanup(1).is_garbage(&format!("{one}.6.pending")));
        assert!(!cleanup(1).is_garbage(&format!("{one}.5.pending")));
        // A subtask that no longer exists; another operator; something else.
        assert!(cleanup(0).is_garbage("00000000000000ab-7-0-cafe-3.inprogress"));
        assert!(!cleanup(1).is_garbage("00000000000000ab-7-0-cafe-3.inprogress"));
        assert!(!cleanup(1).is_garbage("00000000000000ac-1-0-cafe-3.inprogress"));
        assert!(!cleanup(1).is_garbage("notes.txt"));
    }
}
