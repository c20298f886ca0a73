//! Splits, positions in them, and what enumerator and readers tell each other. All are protobuf
//! messages, so that fields can be added.

use prost::Message;

use crate::error::{Error, Result};

/// A piece of a table: a file or part of one.
#[derive(Clone, PartialEq, Message)]
pub struct FileSplit {
    /// Position in the order of reading.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The file.
    #[prost(string, tag = "2")]
    pub path: String,
    /// First byte (json, csv) or row group (parquet).
    #[prost(uint64, tag = "3")]
    pub start: u64,
    /// Behind the last byte or row group; [`WHOLE`]: to the end.
    #[prost(uint64, tag = "4")]
    pub end: u64,
    /// Size of the file when it was found.
    #[prost(uint64, tag = "5")]
    pub file_bytes: u64,
    /// From the folders between the table's path and the file.
    #[prost(message, repeated, tag = "6")]
    pub partition: Vec<PartitionValue>,
    /// How many splits the table had when this one was found; 0: not known.
    #[prost(uint64, tag = "7")]
    pub of: u64,
}

/// The end of a split that reaches to the end of its file.
pub const WHOLE: u64 = u64::MAX;

/// A folder `key=value`.
#[derive(Clone, PartialEq, Message)]
pub struct PartitionValue {
    /// Name of the column.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its text, unescaped.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// How far a split has been read.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Position {
    /// Offset of the next record in the (uncompressed) file; 0 with `rows` 0: not begun.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Line breaks before it, from the split's first record on.
    #[prost(uint64, tag = "2")]
    pub lines: u64,
    /// Rows emitted.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// Something was read, so `offset` counts.
    #[prost(bool, tag = "4")]
    pub begun: bool,
}

/// A split with its position: an element of a reader's state.
#[derive(Clone, PartialEq, Message)]
pub struct SplitState {
    /// The split.
    #[prost(message, optional, tag = "1")]
    pub split: Option<FileSplit>,
    /// How far it has been read.
    #[prost(message, optional, tag = "2")]
    pub position: Option<Position>,
}

/// From a reader: it has nothing to read.
#[derive(Clone, PartialEq, Message)]
pub struct SplitRequest {}

/// To a reader: a split, or that there are no more.
#[derive(Clone, PartialEq, Message)]
pub struct SplitResponse {
    /// `None`: no more.
    #[prost(message, optional, tag = "1")]
    pub split: Option<FileSplit>,
}

/// The enumerator's state.
#[derive(Clone, PartialEq, Message)]
pub struct EnumeratorState {
    /// Files have been listed.
    #[prost(bool, tag = "1")]
    pub discovered: bool,
    /// Not given to any reader.
    #[prost(message, repeated, tag = "2")]
    pub unassigned: Vec<FileSplit>,
}

/// The bytes of a message.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// A message from its bytes; `what` names it in the error.
pub fn decode<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::Internal(format!("{what} cannot be read: {e}")))
}
