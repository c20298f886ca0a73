//! What the barriers of unaligned checkpoints have overtaken, as part of the state of a subtask.
//!
//! The format is that of `ChannelState` in `hurtig/v1/state.proto`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::channel::{Channel, ChannelKey, Payload};
use super::codec::{Decoder, EncodedBatch, Encoder};
use crate::batch::Batch;
use crate::element::StreamElement;
use crate::error::{EngineError, Result};

const VERSION: u8 = 1;
const ROWS: u8 = 0;
const ROWS_WITH_KINDS: u8 = 1;
const WATERMARK: u8 = 2;

/// Elements of one channel, in order.
#[derive(Debug, Clone)]
pub struct CapturedChannel {
    /// The edge.
    pub edge: String,
    /// Who sent them.
    pub producer_subtask: u32,
    /// Whom they are for.
    pub consumer_subtask: u32,
    /// Channels of the edge at the subtask that keeps them.
    pub channels: usize,
    /// Rows and watermarks.
    pub elements: Vec<Payload>,
}

impl CapturedChannel {
    /// Elements of `channel`, one of `channels` of its edge.
    pub fn of(channel: &Channel, channels: usize, elements: Vec<Payload>) -> CapturedChannel {
        let ChannelKey { edge, producer_subtask, consumer_subtask, .. } = channel.key();
        CapturedChannel {
            edge: edge.clone(),
            producer_subtask: *producer_subtask,
            consumer_subtask: *consumer_subtask,
            channels,
            elements,
        }
    }

    /// The stored form.
    ///
    /// # Errors
    /// Rows that cannot be encoded.
    pub fn encode(&self) -> Result<Bytes> {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        for payload in &self.elements {
            match payload {
                Payload::Encoded(batch) => put_batch(&mut out, batch)?,
                Payload::Element(StreamElement::Data(batch)) => {
                    put_batch(&mut out, &Encoder::new(&batch.schema(), false)?.encode(batch)?)?;
                }
                Payload::Element(StreamElement::Watermark(ms)) => {
                    out.put_u8(WATERMARK);
                    out.put_i64_le(*ms);
                }
                Payload::Element(other) => {
                    return Err(EngineError::Internal(format!("{other:?} is not part of the state of a channel")));
                }
            }
        }
        Ok(out.freeze())
    }
}

fn put_batch(out: &mut BytesMut, batch: &EncodedBatch) -> Result<()> {
    let length = |bytes: &Bytes| {
        u32::try_from(bytes.len())
            .map_err(|_| EngineError::Unsupported(format!("a batch of {} bytes in flight is too large", bytes.len())))
    };
    out.put_u8(if batch.has_kinds { ROWS_WITH_KINDS } else { ROWS });
    out.put_u32_le(length(&batch.header)?);
    out.put_u32_le(length(&batch.body)?);
    out.put_slice(&batch.header);
    // Aligned in memory the buffers of the body need not be copied when they are decoded.
    out.put_slice(&batch.body);
    Ok(())
}

/// Reads the stored form of a channel of rows that `decoder` reads.
///
/// # Errors
/// Bytes that are not such a form.
pub fn decode(mut stored: Bytes, decoder: &Decoder) -> Result<Vec<StreamElement>> {
    let corrupt = |what: &str| EngineError::Connection(format!("the state of a channel is corrupt: {what}"));
    let mut elements = Vec::new();
    if stored.is_empty() || stored.get_u8() != VERSION {
        return Err(corrupt("it has an unknown version"));
    }
    while stored.has_remaining() {
        match stored.get_u8() {
            kind @ (ROWS | ROWS_WITH_KINDS) => {
                if stored.remaining() < 8 {
                    return Err(corrupt("it ends within a batch"));
                }
                let (header, body) = (stored.get_u32_le() as usize, stored.get_u32_le() as usize);
                if stored.remaining() < header.saturating_add(body) {
                    return Err(corrupt("it ends within a batch"));
                }
                let (header, body) = (stored.split_to(header), stored.split_to(body));
                let has_kinds = kind == ROWS_WITH_KINDS;
                let batch: Batch = decoder.decode(&EncodedBatch { header, body, has_kinds, rows: 0 })?;
                elements.push(StreamElement::Data(batch));
            }
            WATERMARK if stored.remaining() >= 8 => elements.push(StreamElement::Watermark(stored.get_i64_le())),
            other => return Err(corrupt(&format!("an element of kind {other}"))),
        }
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::testing::{channel, rows, schema, shown};
    use arrow::array::UInt8Array;

    fn captured() -> CapturedChannel {
        let changes = Batch::new(rows(&[(1, 5), (2, 6)]).records().clone(), Some(UInt8Array::from(vec![3, 0])));
        let encoded = Encoder::new(&schema(), false).unwrap().encode(&changes).unwrap();
        let elements = vec![
            Payload::Element(StreamElement::Data(rows(&[(1, 4)]))),
            Payload::Element(StreamElement::Watermark(7)),
            Payload::Encoded(encoded),
        ];
        CapturedChannel::of(&channel("e", 2, 3), 1, elements)
    }

    #[test]
    fn rows_their_kinds_and_watermarks_come_back_in_order() {
        let captured = captured();
        assert_eq!((captured.edge.as_str(), captured.producer_subtask, captured.consumer_subtask), ("e", 2, 3));
        let back = decode(captured.encode().unwrap(), &Decoder::new(schema())).unwrap();
        assert_eq!(shown(&back), ["[4]", "W(7)", "[5, 6]"]);
        let StreamElement::Data(batch) = &back[2] else { panic!("{:?}", back[2]) };
        assert_eq!(batch.kinds(), Some(&[3, 0][..]));
    }

    #[test]
    fn bytes_cut_anywhere_are_an_error_or_a_prefix_never_a_panic() {
        let stored = captured().encode().unwrap();
        let decoder = Decoder::new(schema());
        for cut in 0..stored.len() {
            let whole = decode(stored.slice(..cut), &decoder).map(|elements| elements.len());
            assert!(whole.is_err() || whole.is_ok_and(|n| n < 3), "cut at {cut}");
        }
    }
}
