//! One conditional write at a time to one object, and finding out whether it worked.
//!
//! | waiting for | answer | then |
//! | --- | --- | --- |
//! | swap | new version | written |
//! | swap | refused for good, and no earlier attempt is in doubt | failed |
//! | swap | anything else | read back, after a pause unless it was a conflict |
//! | read back | the intended content | written |
//! | read back | the old version | swap again: only that fences off an attempt still under way |
//! | read back | something else | taken: another has written |
//! | read back | an error | read back again after a pause |
//!
//! Contents of different writers always differ (they carry the writer's name and a count), so what
//! is read back tells whose it is.

use super::storage::{Content, HaReply, HaRequest, Object};
use crate::storage::{StorageError, Version};

/// What comes of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The object has the intended content.
    Written,
    /// Certainly nothing was written.
    Failed(StorageError),
    /// Another has written the object: what was found.
    Taken(Option<(Content, Version)>),
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Make this call and give its reply to [`Writer::on_reply`].
    Request(HaRequest),
    /// Call [`Writer::tick`] later.
    Wait,
    /// The write has ended.
    Done(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Swapping,
    ReadingBack,
    PausedUntil(i64),
}

#[derive(Debug)]
struct Write {
    content: Content,
    in_doubt: bool,
    state: State,
}

/// The object's version as last known, and the write under way.
#[derive(Debug)]
pub struct Writer {
    version: Option<Version>,
    write: Option<Write>,
    pause_ms: i64,
}

impl Writer {
    /// Pauses `pause_ms` between two attempts when the store does not answer.
    pub fn new(pause_ms: i64) -> Self {
        Writer { version: None, write: None, pause_ms }
    }

    /// The object was read.
    pub fn observed(&mut self, version: Option<Version>) {
        self.version = version;
    }

    /// A write is under way.
    pub fn busy(&self) -> bool {
        self.write.is_some()
    }

    /// Starts a write. There must be none under way.
    pub fn start(&mut self, content: Content) -> HaRequest {
        debug_assert!(self.write.is_none(), "one write of an object at a time");
        let request = HaRequest::Swap { content: content.clone(), expected: self.version.clone() };
        self.write = Some(Write { content, in_doubt: false, state: State::Swapping });
        request
    }

    /// Forgets the write under way, whose outcome does not matter any more.
    pub fn give_up(&mut self) {
        self.write = None;
    }

    /// When to call [`Writer::tick`].
    pub fn deadline(&self) -> Option<i64> {
        match self.write.as_ref()?.state {
            State::PausedUntil(time) => Some(time),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: i64) -> Option<HaRequest> {
        let write = self.write.as_mut()?;
        match write.state {
            State::PausedUntil(time) if time <= now => {
                write.state = State::ReadingBack;
                Some(HaRequest::Load(write.content.object()))
            }
            _ => None,
        }
    }

    /// The answer to the call under way.
    pub fn on_reply(&mut self, reply: HaReply, now: i64) -> Step {
        let Some(write) = self.write.as_mut() else { return Step::Wait };
        let object: Object = write.content.object();
        match reply {
            HaReply::Swapped(Ok(version)) => self.done(Some(version), Outcome::Written),
            HaReply::Swapped(Err(StorageError::Conflict(_))) => {
                write.state = State::ReadingBack;
                Step::Request(HaRequest::Load(object))
            }
            HaReply::Swapped(Err(error @ (StorageError::Permanent(_) | StorageError::NotFound(_))))
                if !write.in_doubt =>
            {
                self.write = None;
                Step::Done(Outcome::Failed(error))
            }
            HaReply::Loaded(Ok(found)) => self.read_back(found),
            _ => {
                write.in_doubt = true;
                write.state = State::PausedUntil(now + self.pause_ms);
                Step::Wait
            }
        }
    }

    fn read_back(&mut self, found: Option<(Content, Version)>) -> Step {
        let Some(write) = self.write.as_mut() else { return Step::Wait };
        let version = found.as_ref().map(|(_, version)| version.clone());
        if found.as_ref().is_some_and(|(content, _)| *content == write.content) {
            self.done(version, Outcome::Written)
        } else if version == self.version {
            write.state = State::Swapping;
            Step::Request(HaRequest::Swap { content: write.content.clone(), expected: version })
        } else {
            self.done(version, Outcome::Taken(found))
        }
    }

    fn done(&mut self, version: Option<Version>, outcome: Outcome) -> Step {
        self.write = None;
        self.version = version;
        Step::Done(outcome)
    }
}
