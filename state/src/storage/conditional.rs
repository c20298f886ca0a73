//! Conditional writes to stores that answer over a network.
//!
//! When the answer to a conditional write is lost, the write may have happened. The next attempt
//! then finds the condition not met, for the writer's own sake: what is there is read back, and
//! where it is what was to be written, the write has succeeded. So writers whose writes must be told
//! apart write different content: HEAD carries the name of its leader. A refusal without a lost
//! answer before it is a conflict and needs no second look.

use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rand::Rng;

use super::Version;
use super::s3::{FIRST_BACKOFF, Retries, text_of};

/// How a conditional write ended.
pub(super) enum Outcome {
    /// Written, by this call and no other.
    Written(Version),
    /// The condition is not met.
    Refused,
    /// It cannot be done.
    Failed(Error),
    /// It may have been written or may yet be, whatever the last error was.
    InDoubt(Error),
}

/// Writes `content` under the condition `mode`, through a store that does not retry by itself.
pub(super) async fn put(
    store: &dyn ObjectStore,
    path: &Path,
    content: Bytes,
    mode: PutMode,
    retries: Retries,
) -> Outcome {
    let start = Instant::now();
    let mut answer_lost = false;
    let mut pause = FIRST_BACKOFF;
    for attempt in 0.. {
        let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
        let error = match store.put_opts(path, content.clone().into(), options).await {
            Ok(result) => return written(store, path, &content, result.e_tag).await,
            Err(error) => error,
        };
        match judge(&error) {
            Verdict::ConditionNotMet if answer_lost => return read_back(store, path, &content).await,
            Verdict::ConditionNotMet => return Outcome::Refused,
            // The write whose answer was lost may have happened, or be under way yet.
            Verdict::Final if answer_lost => {
                return match read_back(store, path, &content).await {
                    Outcome::Written(version) => Outcome::Written(version),
                    _ => Outcome::InDoubt(error),
                };
            }
            Verdict::Final => return Outcome::Failed(error),
            Verdict::NotDone => {}
            Verdict::Unknown => answer_lost = true,
        }
        if attempt >= retries.max || start.elapsed() >= retries.time {
            return match read_back(store, path, &content).await {
                Outcome::Written(version) if answer_lost => Outcome::Written(version),
                _ if answer_lost => Outcome::InDoubt(error),
                _ => Outcome::Failed(error),
            };
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    unreachable!("the loop over attempts ends by a return")
}

async fn written(store: &dyn ObjectStore, path: &Path, content: &Bytes, e_tag: Option<String>) -> Outcome {
    match e_tag {
        Some(tag) => Outcome::Written(Version(tag)),
        None => read_back(store, path, content).await,
    }
}

/// Whether what is there is what was to be written.
async fn read_back(store: &dyn ObjectStore, path: &Path, content: &Bytes) -> Outcome {
    let found = async {
        let result = store.get(path).await?;
        let tag = result.meta.e_tag.clone();
        Ok::<_, Error>((result.bytes().await?, tag))
    };
    match found.await {
        Ok((bytes, Some(tag))) if bytes == content => Outcome::Written(Version(tag)),
        Ok(_) | Err(Error::NotFound { .. }) => Outcome::Refused,
        Err(error) => Outcome::InDoubt(error),
    }
}

enum Verdict {
    ConditionNotMet,
    /// Certainly not written; trying again may help.
    NotDone,
    /// Possibly written.
    Unknown,
    /// Trying again cannot help.
    Final,
}

fn judge(error: &Error) -> Verdict {
    // Of two conditional writes at the same time S3 may answer one with 409 although neither has
    // decided the matter: such a write is to be repeated.
    // The whole phrase: the text also has the path, in which any number may occur.
    let concurrent = || text_of(error).contains("status code: 409");
    match error {
        Error::AlreadyExists { .. } if concurrent() => Verdict::NotDone,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => Verdict::ConditionNotMet,
        Error::Generic { .. } => {
            let text = text_of(error);
            let client_error = (400..500).any(|status| text.contains(&format!("status code: {status}")));
            let throttled = text.contains("status code: 429") || text.contains("status code: 408");
            if client_error && !throttled { Verdict::Final } else { Verdict::Unknown }
        }
        _ => Verdict::Final,
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
