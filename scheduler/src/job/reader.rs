//! Whose job it is: the rows of a query belong to the client that reads them, and a query that
//! nobody reads any more is to end.
//!
//! A client is there while its stream of rows is open, however slowly it reads. What ends the job is
//! the absence of a reader for longer than a limit, from the start of the job or from the moment at
//! which the stream broke; whoever attaches in time takes the rows over.
//!
//! | from | event | to |
//! | --- | --- | --- |
//! | Absent | a reader attaches | Present |
//! | Present | another reader attaches | Present, of that one |
//! | Present | that reader has gone | Absent since then |
//! | Present | an earlier reader has gone (the message was late) | Present |
//! | Absent | the limit has passed | Given up |

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The job has no result rows, or may go on without a reader.
    Unneeded,
    Absent {
        since_ms: i64,
    },
    Present {
        reader: u64,
    },
    GivenUp,
}

/// See the module documentation.
#[derive(Debug)]
pub struct ReaderWatch {
    state: State,
    limit_ms: i64,
}

impl ReaderWatch {
    /// Of a job that starts `now`. `limit_ms`: `None` where it may go on without a reader.
    pub fn new(limit_ms: Option<u64>, now: i64) -> Self {
        match limit_ms {
            Some(ms) => {
                ReaderWatch { state: State::Absent { since_ms: now }, limit_ms: i64::try_from(ms).unwrap_or(i64::MAX) }
            }
            None => ReaderWatch { state: State::Unneeded, limit_ms: i64::MAX },
        }
    }

    /// A reader has come.
    pub fn attached(&mut self, reader: u64) {
        if matches!(self.state, State::Absent { .. } | State::Present { .. }) {
            self.state = State::Present { reader };
        }
    }

    /// A reader has gone.
    pub fn detached(&mut self, reader: u64, now: i64) {
        if self.state == (State::Present { reader }) {
            self.state = State::Absent { since_ms: now };
        }
    }

    /// When [`ReaderWatch::give_up`] is due.
    pub fn deadline(&self) -> Option<i64> {
        match self.state {
            State::Absent { since_ms } => Some(since_ms.saturating_add(self.limit_ms)),
            _ => None,
        }
    }

    /// Whether the limit has passed; true once.
    pub fn give_up(&mut self, now: i64) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.state = State::GivenUp;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stays_away_too_long_is_given_up_once() {
        let mut watch = ReaderWatch::new(Some(100), 1_000);
        assert!(!watch.give_up(1_099));
        watch.attached(1);
        assert_eq!(watch.deadline(), None);
        assert!(!watch.give_up(1_000_000), "a reader may be as slow as it likes");
        watch.detached(1, 2_000);
        assert_eq!(watch.deadline(), Some(2_100));
        assert!(watch.give_up(2_100));
        assert_eq!((watch.give_up(9_000), watch.deadline()), (false, None));
    }

    #[test]
    fn another_reader_in_time_takes_over_and_a_late_farewell_of_the_first_does_not_count() {
        let mut watch = ReaderWatch::new(Some(100), 0);
        watch.attached(1);
        watch.attached(2);
        watch.detached(1, 50);
        assert_eq!(watch.deadline(), None);
        watch.detached(2, 60);
        watch.attached(3);
        assert!(!watch.give_up(1_000));
    }

    #[test]
    fn nobody_is_missed_where_no_reader_is_needed() {
        let mut watch = ReaderWatch::new(None, 0);
        watch.attached(1);
        watch.detached(1, 0);
        assert_eq!((watch.deadline(), watch.give_up(i64::MAX)), (None, false));
    }
}
