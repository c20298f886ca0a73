//! Support for tests of this and other crates: an S3 server that runs in the test's process and can
//! fail in many ways, a TCP proxy that makes connections slow or silent, hosts in network namespaces,
//! certificates, and seeded choices.

mod certificates;
mod dice;
mod namespaces;
mod s3_faults;
mod s3_objects;
mod s3_server;
mod tcp_proxy;

pub use certificates::Authority;
pub use dice::Dice;
pub use namespaces::{Host, Network, OPT_OUT};
pub use s3_faults::{Fault, FaultKind, RandomFaults};
pub use s3_server::{LoggedRequest, S3Server};
pub use tcp_proxy::{Conditions, ProxyFigures, TcpProxy};
