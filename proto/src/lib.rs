//! Protocol buffers of Hurtig and the code generated from them; nothing else.
//!
//! [`v1`] is the public interface: job graphs, expressions, `JobService`, and what checkpoints
//! persist. [`internal`] is spoken between JobManager and TaskManagers of one version.

/// The public, versioned interface.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("hurtig.v1");
}

/// Messages between the processes of one cluster.
pub mod internal {
    /// Version 1 of the internal protocol.
    pub mod v1 {
        #![allow(missing_docs, clippy::all)]
        tonic::include_proto!("hurtig.internal.v1");
    }
}

/// The encoded `FileDescriptorSet` of all packages, for reflection and JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
