//! The producer's side: one pump for each peer, draining channels into the stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hurtig_graph::config::TlsFiles;
use hurtig_proto::internal::v1 as internal;
use internal::exchange_control::Control;
use internal::exchange_frame::Frame;
use internal::exchange_service_client::ExchangeServiceClient;
use internal::{ExchangeControl, ExchangeFrame};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::frames::to_frame;
use super::{CONTROL_OVERDRAFT, HTTP2_WINDOW_BYTES, MAX_FRAME_BYTES};
use crate::exchange::ExchangeConfig;
use crate::exchange::channel::{Channel, ChannelFailure, ChannelKey};
use crate::tls::causes;

/// Frames handed to the transport ahead. Few: what waits there is not bounded by a channel's queue.
const FRAMES_AHEAD: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

enum Command {
    Open { id: u64, channel: Arc<Channel>, scheduled: Arc<AtomicBool> },
    Ready(u64),
}

struct Peer {
    commands: mpsc::UnboundedSender<Command>,
    next_channel: AtomicU64,
    pump: tokio::task::AbortHandle,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// The outgoing streams of a process. Dropping it closes them.
pub struct ExchangeNetwork {
    runtime: Handle,
    config: ExchangeConfig,
    peers: Mutex<HashMap<String, Peer>>,
}

impl ExchangeNetwork {
    /// No stream yet. Streams run on `runtime`.
    pub fn new(runtime: Handle, config: ExchangeConfig) -> ExchangeNetwork {
        ExchangeNetwork { runtime, config, peers: Mutex::default() }
    }

    /// A channel whose consumer is in the process at `address` (host:port). If the connection cannot
    /// be made or breaks, the channel fails.
    pub fn open(&self, address: &str, key: ChannelKey) -> Arc<Channel> {
        let channel = Channel::new(key, self.config.queue_bytes);
        let mut peers = self.peers.lock();
        peers.retain(|_, peer| !peer.commands.is_closed());
        {
            let peer = peers.entry(address.to_owned()).or_insert_with(|| self.connect(address));
            let id = peer.next_channel.fetch_add(1, Ordering::Relaxed);
            let scheduled = Arc::new(AtomicBool::new(false));
            let open = Command::Open { id, channel: Arc::clone(&channel), scheduled: Arc::clone(&scheduled) };
            if peer.commands.send(open).is_err() {
                channel.fail(ChannelFailure::Lost(format!("the connection to {address} closed")));
            }
            let commands = peer.commands.clone();
            channel.set_consumer_waker(Arc::new(move || {
                if !scheduled.swap(true, Ordering::AcqRel) {
                    // The pump has ended if this fails, and with it the channel.
                    let _ = commands.send(Command::Ready(id));
                }
            }));
        }
        channel
    }

    fn connect(&self, address: &str) -> Peer {
        let (commands, receiver) = mpsc::unbounded_channel();
        let tls = self.config.tls.clone();
        let pump = self.runtime.spawn(run_pump(address.to_owned(), tls, receiver)).abort_handle();
        Peer { commands, next_channel: AtomicU64::new(0), pump }
    }
}

/// A channel as the pump sees it.
struct Outgoing {
    channel: Arc<Channel>,
    scheduled: Arc<AtomicBool>,
    sequence: u64,
    /// `None` until the consumer's side has accepted.
    credit: Option<i64>,
    window: i64,
}

impl Outgoing {
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }
}

/// Fails what is left when the pump ends, however it ends.
struct Pump {
    address: String,
    tls: Option<Arc<TlsFiles>>,
    channels: HashMap<u64, Outgoing>,
    ready: VecDeque<u64>,
    commands: mpsc::UnboundedReceiver<Command>,
    reason: String,
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Open { channel, .. } = command {
                channel.fail(ChannelFailure::Lost(self.reason.clone()));
            }
        }
        for (_, outgoing) in self.channels.drain() {
            outgoing.channel.fail(ChannelFailure::Lost(self.reason.clone()));
        }
    }
}

async fn run_pump(address: String, tls: Option<Arc<TlsFiles>>, commands: mpsc::UnboundedReceiver<Command>) {
    let reason = format!("the connection to TaskManager {address} closed");
    let mut pump = Pump { address, tls, channels: HashMap::new(), ready: VecDeque::new(), commands, reason };
    if let Err(reason) = pump.run().await {
        tracing::info!(peer = %pump.address, %reason, "exchange stream ended");
        pump.reason = reason;
    }
}

impl Pump {
    async fn run(&mut self) -> Result<(), String> {
        let address = self.address.clone();
        let endpoint = crate::tls::endpoint(&address, self.tls.as_deref())
            .map_err(|e| format!("cannot connect to TaskManager {address}: {e}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES);
        let transport =
            endpoint.connect().await.map_err(|e| format!("cannot connect to TaskManager {address}: {}", causes(&e)))?;
        let (frames, outgoing) = mpsc::channel::<ExchangeFrame>(FRAMES_AHEAD);
        let mut controls = ExchangeServiceClient::new(transport)
            .max_decoding_message_size(MAX_FRAME_BYTES)
            .max_encoding_message_size(MAX_FRAME_BYTES)
            .exchange(ReceiverStream::new(outgoing))
            .await
            .map_err(|e| format!("TaskManager {address} refused the exchange stream: {}", e.message()))?
            .into_inner();
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Open { id, channel, scheduled }) => self.open(id, channel, scheduled, &frames).await?,
                    Some(Command::Ready(id)) => self.ready.push_back(id),
                    None => return Ok(()),
                },
                control = controls.message() => match control {
                    Ok(Some(control)) => self.control(control),
                    Ok(None) => return Err(format!("TaskManager {address} closed the exchange stream")),
                    Err(e) => return Err(format!("the connection to TaskManager {address} broke: {}", e.message())),
                },
                permit = frames.reserve(), if !self.ready.is_empty() => {
                    let permit = permit.map_err(|_| format!("the connection to TaskManager {address} broke"))?;
                    if let Some(frame) = self.next_frame() {
                        permit.send(frame);
                    }
                }
            }
        }
    }

    async fn open(
        &mut self,
        id: u64,
        channel: Arc<Channel>,
        scheduled: Arc<AtomicBool>,
        frames: &mpsc::Sender<ExchangeFrame>,
    ) -> Result<(), String> {
        let open = Frame::Open(channel.key().to_proto());
        self.channels.insert(id, Outgoing { channel, scheduled, sequence: 1, credit: None, window: 0 });
        frames
            .send(ExchangeFrame { channel: id, sequence: 0, frame: Some(open) })
            .await
            .map_err(|_| format!("the connection to TaskManager {} broke", self.address))
    }

    fn control(&mut self, control: ExchangeControl) {
        let id = control.channel;
        let Some(outgoing) = self.channels.get_mut(&id) else { return };
        match control.control {
            Some(Control::Credit(bytes)) => {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
                match &mut outgoing.credit {
                    Some(credit) => *credit = credit.saturating_add(bytes),
                    none => {
                        *none = Some(bytes);
                        outgoing.window = bytes;
                    }
                }
                if !outgoing.scheduled.swap(true, Ordering::AcqRel) {
                    self.ready.push_back(id);
                }
            }
            Some(Control::Closed(_)) => {
                outgoing.channel.close_consumer();
                self.channels.remove(&id);
            }
            Some(Control::Refused(reason)) => {
                outgoing.channel.fail(ChannelFailure::Lost(reason));
                self.channels.remove(&id);
            }
            None => {}
        }
    }

    /// The next frame of the next ready channel, if it may send one.
    fn next_frame(&mut self) -> Option<ExchangeFrame> {
        let id = self.ready.pop_front()?;
        let outgoing = self.channels.get_mut(&id)?;
        // Cleared before looking: an element put from now on schedules the channel again.
        outgoing.scheduled.store(false, Ordering::Release);
        let Some(credit) = outgoing.credit else {
            return self.failed_frame(id);
        };
        let window = outgoing.window;
        let item = outgoing.channel.take_if(|is_data, bytes| {
            if is_data { bytes as i64 <= credit || credit >= window } else { credit > -CONTROL_OVERDRAFT }
        });
        let Some(item) = item else { return self.failed_frame(id) };
        outgoing.credit = Some(credit - item.bytes as i64);
        let sequence = outgoing.next_sequence();
        let frame = match to_frame(item.payload) {
            Ok(frame) => frame,
            Err(reason) => {
                outgoing.channel.fail(ChannelFailure::Lost(reason.to_owned()));
                Frame::Failed(reason.to_owned())
            }
        };
        if matches!(frame, Frame::EndOfPartition(_) | Frame::Failed(_)) {
            self.channels.remove(&id);
        } else if !outgoing.scheduled.swap(true, Ordering::AcqRel) {
            self.ready.push_back(id);
        }
        Some(ExchangeFrame { channel: id, sequence, frame: Some(frame) })
    }

    /// If the producer of the channel is gone without an end: the frame that says so.
    fn failed_frame(&mut self, id: u64) -> Option<ExchangeFrame> {
        let outgoing = self.channels.get_mut(&id)?;
        let failure = outgoing.channel.failure()?;
        let sequence = outgoing.next_sequence();
        self.channels.remove(&id);
        Some(ExchangeFrame { channel: id, sequence, frame: Some(Frame::Failed(failure.reason().to_owned())) })
    }
}
