//! Several JobManagers for one cluster: who leads, which jobs there are, and what became of those
//! that have ended, kept in object storage.
//!
//! ```text
//! <high-availability.storageDir>/<high-availability.cluster-id>/
//!   leader          the lease: epoch, id and address of the leader, renewed by it
//!   jobs            the registry: every job with its graph's object, or its result
//!   graphs/<...>    job graphs, written before the registry names them
//! ```
//!
//! Both truths change by compare-and-swap on the version last read and carry the epoch of their
//! writer. A new leader first swaps its epoch into the registry, and into HEAD of each job, so that
//! whatever a deposed leader writes later fails. The lease only decides who may try: safety never
//! depends on its time.
//!
//! | module | what |
//! | --- | --- |
//! | [`storage`] | what is asked of an object store |
//! | [`writer`] | one conditional write, and finding out whether it worked |
//! | [`lease`] | becoming leader, staying it, stepping down |
//! | [`registry`] | jobs and results, changed by the leader only |

pub mod lease;
pub mod registry;
pub mod storage;
#[cfg(test)]
mod tests;
pub mod writer;

pub use lease::{Lease, LeaseAction, LeaseEvent, LeaseSettings};
pub use registry::{Change, Registry, RegistryOutput};
pub use storage::{Content, HaReply, HaRequest, HaStorage, MemoryHaStore, Object};
