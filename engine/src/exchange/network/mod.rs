//! Channels between processes: one gRPC stream for each ordered pair of TaskManagers.
//!
//! The producer's side ([`ExchangeNetwork`]) opens the stream and drains its channels into it, round
//! robin, each within its credit. The consumer's side ([`ExchangeServer`]) puts frames into the
//! channels of its registry and grants credit as they are consumed. The reader of a stream never
//! waits for a consumer, so one that stalls holds back nothing but its own channels.
//!
//! Credit is counted in bytes. A data frame is sent when its bytes fit the credit, or when nothing
//! of the channel is outstanding (so that a frame larger than the window passes). Any other frame
//! costs [`CONTROL_BYTES`](crate::exchange::channel::CONTROL_BYTES) and may overdraw the credit by
//! [`CONTROL_OVERDRAFT`]: data never keeps a barrier back, yet a stalled consumer gets a bounded
//! number of frames.

mod client;
mod frames;
mod server;

pub use client::ExchangeNetwork;
pub use server::ExchangeServer;

/// Bytes by which frames other than data may exceed the credit.
pub const CONTROL_OVERDRAFT: i64 = 1024 * crate::exchange::channel::CONTROL_BYTES as i64;

/// The largest frame that is accepted; a row may be large.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 30;

/// HTTP/2 windows. They only have to keep the connection busy: memory is bounded by credit.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 16 << 20;
