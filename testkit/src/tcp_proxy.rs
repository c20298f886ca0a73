//! A TCP proxy that makes a connection slow, silent or broken.
//!
//! Bytes are carried unchanged and in order. Conditions hold for open and for new connections alike
//! and can be changed at any time; what was held back by a stall goes on when that ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::dice::Dice;

/// Bytes that are carried at once.
const CHUNK: usize = 16 << 10;
/// Chunks that may wait for their time in one direction of a connection.
const CHUNKS_AHEAD: usize = 64;

/// What happens to connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// How long bytes take in each direction.
    pub latency: Duration,
    /// At most this much more, at random.
    pub jitter: Duration,
    /// In each direction of each connection.
    pub bytes_per_second: Option<u64>,
    /// Nothing that clients send arrives.
    pub stall_requests: bool,
    /// Nothing that the server sends arrives.
    pub stall_answers: bool,
    /// New connections are reset.
    pub refuse: bool,
}

/// Figures of a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyFigures {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that were reset, or refused.
    pub resets: u64,
    /// Chunks that latency, bandwidth or a stall held back.
    pub delayed: u64,
    /// Bytes carried in both directions.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    resets: AtomicU64,
    delayed: AtomicU64,
    bytes: AtomicU64,
}

/// A running proxy; stops when dropped, and its connections with it.
pub struct TcpProxy {
    address: SocketAddr,
    conditions: watch::Sender<Conditions>,
    /// Connections that are older than the last change of the number are reset.
    generation: watch::Sender<u64>,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// Listens on a free port of the interface `on`, in the network namespace of the calling thread,
    /// and carries connections to `target`. `seed` is for jitter.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(on: IpAddr, target: SocketAddr, seed: u64) -> TcpProxy {
        let listener = std::net::TcpListener::bind((on, 0)).expect("a free port for the proxy");
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let (conditions, conditions_seen) = watch::channel(Conditions::default());
        let (generation, generation_seen) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            target,
            conditions: conditions_seen,
            generation: generation_seen,
            counters: Arc::clone(&counters),
            dice: Arc::new(Mutex::new(Dice::new(seed))),
        };
        let thread = std::thread::Builder::new()
            .name("tcp-proxy".into())
            .spawn(move || serve(listener, &shared, stopped))
            .expect("a thread for the proxy");
        TcpProxy { address, conditions, generation, counters, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to connections.
    pub fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// Resets all open connections.
    pub fn reset_all(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Figures since the start.
    pub fn figures(&self) -> ProxyFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        ProxyFigures {
            connections: read(&counters.connections),
            resets: read(&counters.resets),
            delayed: read(&counters.delayed),
            bytes: read(&counters.bytes),
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    conditions: watch::Receiver<Conditions>,
    generation: watch::Receiver<u64>,
    counters: Arc<Counters>,
    dice: Arc<Mutex<Dice>>,
}

fn serve(listener: std::net::TcpListener, shared: &Shared, mut stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the proxy");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listening socket");
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(shared.clone().connection(stream));
                    }
                }
            }
        }
    });
}

impl Shared {
    async fn connection(self, client: TcpStream) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        if self.conditions.borrow().refuse {
            return self.reset(&client);
        }
        let Ok(server) = TcpStream::connect(self.target).await else { return self.reset(&client) };
        // Delays are the proxy's own affair.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let generation = *self.generation.borrow();
        let (up, down) = tokio::join!(
            self.carry(client_read, server_write, generation, |c| c.stall_requests),
            self.carry(server_read, client_write, generation, |c| c.stall_answers)
        );
        if up || down {
            self.counters.resets.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn reset(&self, stream: &TcpStream) {
        self.counters.resets.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_zero_linger();
    }

    /// Carries one direction until its end, which is passed on. True: it was reset.
    async fn carry(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        generation: u64,
        stalled: impl Fn(&Conditions) -> bool,
    ) -> bool {
        let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_AHEAD);
        let (reader, writer) = (&mut from, &mut to);
        let read = async move {
            let mut free_at = Instant::now();
            let mut buffer = vec![0; CHUNK];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let due = self.due(length, &mut free_at);
                if sender.send((due, buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
        };
        let write = async move {
            let mut conditions = self.conditions.clone();
            while let Some((due, bytes)) = chunks.recv().await {
                let mut delayed = due > Instant::now();
                tokio::time::sleep_until(due).await;
                delayed |= stalled(&conditions.borrow());
                if delayed {
                    self.counters.delayed.fetch_add(1, Ordering::Relaxed);
                }
                if conditions.wait_for(|c| !stalled(c)).await.is_err() || writer.write_all(&bytes).await.is_err() {
                    return;
                }
                self.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            // The other side may have gone already.
            let _ = writer.shutdown().await;
        };
        let mut generations = self.generation.clone();
        let reset = tokio::select! {
            _ = async { tokio::join!(read, write) } => false,
            changed = generations.wait_for(|&now| now != generation) => changed.is_ok(),
        };
        if reset {
            let _ = (from.as_ref().set_zero_linger(), to.as_ref().set_zero_linger());
            // Not an orderly end, which dropping it would be.
            to.forget();
        }
        reset
    }

    /// When `length` bytes that come now are to go on. `free_at`: when the line is free.
    fn due(&self, length: usize, free_at: &mut Instant) -> Instant {
        let (latency, jitter, rate) = {
            let conditions = self.conditions.borrow();
            (conditions.latency, conditions.jitter, conditions.bytes_per_second)
        };
        let now = Instant::now();
        let jitter = Duration::from_micros(self.dice.lock().below(jitter.as_micros() as u64 + 1));
        let mut due = now + latency + jitter;
        if let Some(rate) = rate.filter(|&rate| rate > 0) {
            *free_at = (*free_at).max(now) + Duration::from_secs_f64(length as f64 / rate as f64);
            due = due.max(*free_at);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = StdListener::bind((LOOPBACK, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..length]).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(stream: &mut StdStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_and_latency_delays_them() {
        let proxy = TcpProxy::start(LOOPBACK, echo(), 1);
        let mut stream = StdStream::connect(proxy.address()).unwrap();
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        proxy.set(Conditions { latency: Duration::from_millis(50), ..Conditions::default() });
        let start = std::time::Instant::now();
        assert_eq!(ask(&mut stream, b"again").unwrap(), b"again");
        assert!(start.elapsed() >= Duration::from_millis(100));
        let figures = proxy.figures();
        assert_eq!((figures.connections, figures.delayed), (1, 2));
    }

    #[test]
    fn a_stall_of_one_direction_holds_bytes_back_and_loses_none() {
        let proxy = TcpProxy::start(LOOPBACK, echo(), 1);
        let mut stream = StdStream::connect(proxy.address()).unwrap();
        proxy.set(Conditions { stall_answers: true, ..Conditions::default() });
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(ask(&mut stream, b"one").is_err());
        proxy.set(Conditions::default());
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"one");
    }

    #[test]
    fn connections_can_be_reset_and_refused() {
        let proxy = TcpProxy::start(LOOPBACK, echo(), 1);
        let mut stream = StdStream::connect(proxy.address()).unwrap();
        ask(&mut stream, b"up").unwrap();
        proxy.reset_all();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        proxy.set(Conditions { refuse: true, ..Conditions::default() });
        let refused = StdStream::connect(proxy.address()).and_then(|mut stream| ask(&mut stream, b"x"));
        assert!(refused.is_err());
        assert!(proxy.figures().resets >= 2);
    }

    #[test]
    fn bandwidth_is_limited() {
        let proxy = TcpProxy::start(LOOPBACK, echo(), 1);
        proxy.set(Conditions { bytes_per_second: Some(100_000), ..Conditions::default() });
        let mut stream = StdStream::connect(proxy.address()).unwrap();
        let start = std::time::Instant::now();
        ask(&mut stream, &[7; 20_000]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(200));
    }
}
