//! The consumer's side: frames into channels, credit back.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hurtig_proto::internal::v1 as internal;
use internal::exchange_control::Control;
use internal::exchange_frame::Frame;
use internal::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use internal::{ExchangeControl, ExchangeFrame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::MAX_FRAME_BYTES;
use super::frames::to_payload;
use crate::element::StreamElement;
use crate::exchange::channel::{CONTROL_BYTES, Channel, ChannelFailure, ChannelKey, Payload, RemoteProducer};
use crate::exchange::registry::ChannelRegistry;

/// The service of a TaskManager's data port.
pub struct ExchangeServer {
    registry: Arc<ChannelRegistry>,
    stop: watch::Receiver<bool>,
}

impl ExchangeServer {
    /// For the channels of `registry`. Streams end when `stop` becomes true or its sender is dropped.
    pub fn service(registry: Arc<ChannelRegistry>, stop: watch::Receiver<bool>) -> ExchangeServiceServer<Self> {
        ExchangeServiceServer::new(ExchangeServer { registry, stop })
            .max_decoding_message_size(MAX_FRAME_BYTES)
            .max_encoding_message_size(MAX_FRAME_BYTES)
    }
}

#[tonic::async_trait]
impl ExchangeService for ExchangeServer {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeControl, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let peer = request.remote_addr().map_or_else(|| "unknown".to_owned(), |a| a.to_string());
        let (controls, receiver) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel::<()>();
        let reader = Reader {
            reason: format!("the connection from {peer} closed"),
            registry: Arc::clone(&self.registry),
            channels: HashMap::new(),
            controls,
            _end: end,
        };
        tokio::spawn(reader.run(request.into_inner(), self.stop.clone()));
        // Channels keep senders of controls; the stream ends with its reader all the same.
        let controls = UnboundedReceiverStream::new(receiver).map(Ok).take_until(ended);
        Ok(Response::new(Box::pin(controls)))
    }
}

/// How the consumer of one channel reaches its producer.
struct ControlSender {
    channel: u64,
    controls: mpsc::UnboundedSender<ExchangeControl>,
}

impl ControlSender {
    fn send(&self, control: Control) {
        // Nobody listens any more once the stream is gone; its channels have failed then.
        let _ = self.controls.send(ExchangeControl { channel: self.channel, control: Some(control) });
    }
}

impl RemoteProducer for ControlSender {
    fn grant(&self, bytes: usize) {
        self.send(Control::Credit(bytes as u64));
    }

    fn closed(&self) {
        self.send(Control::Closed("the consumer has ended".into()));
    }
}

struct Incoming {
    channel: Arc<Channel>,
    next_sequence: u64,
    opened: Instant,
}

/// The barrier of an unaligned checkpoint: it overtakes on this side too.
fn urgent(frame: &Frame) -> Option<Payload> {
    match frame {
        Frame::Barrier(barrier) if barrier.unaligned => to_payload(frame.clone()),
        _ => None,
    }
}

/// Reads one stream.
struct Reader {
    registry: Arc<ChannelRegistry>,
    channels: HashMap<u64, Incoming>,
    controls: mpsc::UnboundedSender<ExchangeControl>,
    /// Why channels fail that have not ended when the reader does.
    reason: String,
    /// Dropped with the reader: ends the stream of controls.
    _end: oneshot::Sender<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for (_, incoming) in self.channels.drain() {
            incoming.channel.fail(ChannelFailure::Lost(self.reason.clone()));
            self.registry.abandon(&incoming.channel);
        }
    }
}

impl Reader {
    async fn run(mut self, mut frames: Streaming<ExchangeFrame>, mut stop: watch::Receiver<bool>) {
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        let stopped = async move { stop.wait_for(|s| *s).await.is_ok() };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                frame = frames.message() => match frame {
                    Ok(Some(frame)) => self.frame(frame),
                    Ok(None) => return,
                    Err(status) => {
                        self.reason = format!("{}: {}", self.reason, status.message());
                        return;
                    }
                },
                _ = sweep.tick() => self.sweep(),
                () = self.controls.closed() => return,
                _ = &mut stopped => return,
            }
        }
    }

    fn frame(&mut self, frame: ExchangeFrame) {
        let id = frame.channel;
        let kind = match frame.frame {
            Some(Frame::Open(open)) => return self.open(id, &ChannelKey::from_proto(&open), frame.sequence),
            Some(kind) => kind,
            // A frame kind of a newer version: the sequence check would miss it.
            None => return self.refuse(id, "unknown kind of frame: the TaskManagers have different versions"),
        };
        let Some(incoming) = self.channels.get_mut(&id) else {
            // Of a channel that was closed or refused; the producer has been told.
            return;
        };
        if frame.sequence != incoming.next_sequence {
            let reason = format!(
                "frame {} instead of {} on {}: data was lost or doubled on the way",
                frame.sequence,
                incoming.next_sequence,
                incoming.channel.key()
            );
            return self.refuse(id, &reason);
        }
        incoming.next_sequence += 1;
        match kind {
            Frame::Failed(reason) => {
                incoming.channel.fail(ChannelFailure::PeerEnded(reason));
                self.registry.abandon(&incoming.channel);
                self.channels.remove(&id);
            }
            kind => {
                let ended = matches!(kind, Frame::EndOfPartition(_));
                if let Some(Payload::Element(StreamElement::Barrier(barrier))) = urgent(&kind) {
                    incoming.channel.put_urgent(barrier, false);
                } else if let Some(payload) = to_payload(kind) {
                    let bytes = match &payload {
                        Payload::Encoded(batch) => batch.bytes(),
                        Payload::Element(_) => CONTROL_BYTES,
                    };
                    incoming.channel.put(payload, bytes);
                }
                if ended {
                    self.channels.remove(&id);
                }
            }
        }
    }

    fn open(&mut self, id: u64, key: &ChannelKey, sequence: u64) {
        let sender = Arc::new(ControlSender { channel: id, controls: self.controls.clone() });
        if sequence != 0 || self.channels.contains_key(&id) {
            return self.refuse(id, "the channel number is taken");
        }
        match self.registry.remote_producer(key, Arc::clone(&sender) as Arc<dyn RemoteProducer>) {
            Ok(channel) => {
                self.channels.insert(id, Incoming { channel, next_sequence: 1, opened: Instant::now() });
            }
            Err(reason) => sender.send(Control::Refused(reason)),
        }
    }

    /// Fails a channel at both ends.
    fn refuse(&mut self, id: u64, reason: &str) {
        if let Some(incoming) = self.channels.remove(&id) {
            incoming.channel.fail(ChannelFailure::Lost(reason.to_owned()));
            self.registry.abandon(&incoming.channel);
        }
        let sender = ControlSender { channel: id, controls: self.controls.clone() };
        sender.send(Control::Refused(reason.to_owned()));
    }

    /// Gives up opens whose consumer has not come.
    fn sweep(&mut self) {
        let timeout = Duration::from_millis(self.registry.config().open_timeout_ms);
        let late: Vec<(u64, String)> = self
            .channels
            .iter()
            .filter(|(_, incoming)| incoming.opened.elapsed() > timeout && !incoming.channel.is_accepted())
            .map(|(&id, incoming)| {
                (id, format!("no consumer was deployed within {} s for {}", timeout.as_secs(), incoming.channel.key()))
            })
            .collect();
        for (id, reason) in late {
            self.refuse(id, &reason);
        }
    }
}
