//! Support for tests of this and other crates: an S3 server that runs in the test's process, and
//! certificates.

mod certificates;
mod s3_objects;
mod s3_server;

pub use certificates::Authority;
pub use s3_server::{Fault, FaultKind, LoggedRequest, S3Server};
