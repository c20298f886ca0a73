//! The frame of every persisted message: magic `HRTG`, format version (u16 LE), kind (u16 LE), then
//! the message in protocol-buffer encoding.

use bytes::Bytes;
use prost::Message;

use crate::error::{Result, StateError};

const MAGIC: &[u8; 4] = b"HRTG";
const HEADER_LEN: usize = 8;

/// Version of the format that this code writes; it reads all up to it.
pub const FORMAT_VERSION: u16 = 1;

/// What a framed message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `CheckpointMetadata`
    CheckpointMetadata = 1,
    /// `Head`
    Head = 2,
    /// `KeyedSnapshot`, the manifest of a local checkpoint.
    LocalManifest = 3,
    /// `JobGraph`, in the job store of the JobManager.
    JobGraph = 4,
    /// `LeaderLease`, who leads.
    LeaderLease = 20,
    /// `JobRegistry`, the jobs and results of a cluster.
    JobRegistry = 21,
}

/// Frames a message.
pub fn encode(kind: Kind, message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_LEN + message.encoded_len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(kind as u16).to_le_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    Bytes::from(bytes)
}

/// Reads a framed message; `source` names it in errors.
///
/// # Errors
/// [`StateError::Corrupt`] when the bytes are not such a message, [`StateError::Incompatible`] when a
/// newer version has written them.
pub fn decode<M: Message + Default>(kind: Kind, bytes: &[u8], source: &str) -> Result<M> {
    let corrupt = |reason: &str| StateError::Corrupt(format!("'{source}' is damaged: {reason}"));
    let (header, body) =
        bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(|| corrupt("it is shorter than its header"))?;
    let [m0, m1, m2, m3, v0, v1, k0, k1] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(corrupt("it does not begin with 'HRTG'"));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version == 0 || version > FORMAT_VERSION {
        return Err(StateError::Incompatible(format!(
            "'{source}' has format version {version}, this version of Hurtig reads up to {FORMAT_VERSION}: use a \
             newer one"
        )));
    }
    let found = u16::from_le_bytes([k0, k1]);
    if found != kind as u16 {
        return Err(corrupt(&format!("it holds a message of kind {found}, expected {kind:?}")));
    }
    M::decode(body).map_err(|e| corrupt(&e.to_string()))
}
