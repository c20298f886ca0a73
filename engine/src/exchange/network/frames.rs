//! Stream elements as frames and back.

use hurtig_proto::internal::v1 as internal;
use internal::exchange_frame::Frame;

use crate::element::{Barrier, StreamElement};
use crate::exchange::channel::Payload;
use crate::exchange::codec::EncodedBatch;

/// The frame of a payload. Rows must be encoded already.
pub(super) fn to_frame(payload: Payload) -> Result<Frame, &'static str> {
    let element = match payload {
        Payload::Encoded(batch) => {
            let (header, body) = (batch.header, batch.body);
            return Ok(Frame::Data(internal::DataFrame { header, body, has_kinds: batch.has_kinds }));
        }
        Payload::Element(element) => element,
    };
    Ok(match element {
        StreamElement::Data(_) => return Err("rows reached the network without being encoded"),
        StreamElement::Watermark(ms) => Frame::Watermark(ms),
        StreamElement::Idle => Frame::Idle(true),
        StreamElement::Active => Frame::Idle(false),
        StreamElement::Barrier(barrier) => Frame::Barrier(internal::BarrierFrame {
            checkpoint_id: barrier.checkpoint,
            timestamp_ms: barrier.timestamp_ms,
            savepoint: barrier.savepoint.is_some(),
            stop: barrier.stop.into(),
            target: barrier.savepoint.unwrap_or_default(),
            unaligned: barrier.unaligned,
            aligned_timeout_ms: barrier.aligned_timeout_ms,
            at_least_once: barrier.at_least_once,
        }),
        StreamElement::CancelBarrier(checkpoint) => Frame::CancelBarrier(checkpoint),
        StreamElement::EndOfData { drain } => Frame::EndOfData(drain),
        StreamElement::EndOfPartition => Frame::EndOfPartition(true),
    })
}

/// What a frame of an open channel carries; `None` for frames that carry no element.
pub(super) fn to_payload(frame: Frame) -> Option<Payload> {
    Some(Payload::Element(match frame {
        Frame::Data(data) => {
            let batch = EncodedBatch { header: data.header, body: data.body, has_kinds: data.has_kinds, rows: 0 };
            return Some(Payload::Encoded(batch));
        }
        Frame::Watermark(ms) => StreamElement::Watermark(ms),
        Frame::Idle(true) => StreamElement::Idle,
        Frame::Idle(false) => StreamElement::Active,
        Frame::Barrier(barrier) => StreamElement::Barrier(Barrier {
            stop: barrier.stop(),
            checkpoint: barrier.checkpoint_id,
            timestamp_ms: barrier.timestamp_ms,
            savepoint: barrier.savepoint.then_some(barrier.target),
            unaligned: barrier.unaligned,
            aligned_timeout_ms: barrier.aligned_timeout_ms,
            at_least_once: barrier.at_least_once,
        }),
        Frame::CancelBarrier(checkpoint) => StreamElement::CancelBarrier(checkpoint),
        Frame::EndOfData(drain) => StreamElement::EndOfData { drain },
        Frame::EndOfPartition(_) => StreamElement::EndOfPartition,
        Frame::Open(_) | Frame::Failed(_) => return None,
    }))
}
