//! An S3 server on a thread of its own: HTTP on a free port of the loopback interface, signature
//! checks, conditional writes, a log of all requests, and faults on demand.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use s3s::Body;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::s3_faults::{Fault, FaultKind, Faults, RandomFaults};
use super::s3_objects::{Api, Objects};

/// A running server; stops when dropped. Its endpoint takes path-style requests.
pub struct S3Server {
    endpoint: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    objects: Arc<Objects>,
    service: S3Service,
    log: Mutex<Vec<LoggedRequest>>,
    faults: Mutex<Faults>,
}

/// Refuses unknown access keys with the code that AWS gives.
struct OnePair {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OnePair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(s3_error!(InvalidAccessKeyId, "the access key id does not exist"))
    }
}

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// GET, PUT, ...
    pub method: String,
    /// Bucket and key, without the first slash.
    pub path: String,
    /// What was answered (also where the answer was lost).
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes: u64,
    /// What went wrong with it.
    pub fault: Option<FaultKind>,
}

impl S3Server {
    /// Starts a server with one bucket and one pair of keys.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(bucket: &str, access_key: &str, secret_key: &str) -> S3Server {
        S3Server::start_on(Ipv4Addr::LOCALHOST.into(), bucket, access_key, secret_key)
    }

    /// As [`S3Server::start`], on another interface than loopback, in the network namespace of the
    /// calling thread.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_on(on: IpAddr, bucket: &str, access_key: &str, secret_key: &str) -> S3Server {
        let objects = Arc::new(Objects::default());
        objects.create_bucket(bucket);
        let mut builder = S3ServiceBuilder::new(Api(objects.clone()));
        builder.set_auth(OnePair { access_key: access_key.to_owned(), secret_key: SecretKey::from(secret_key) });
        let shared =
            Arc::new(Shared { objects, service: builder.build(), log: Mutex::default(), faults: Mutex::default() });
        let listener = std::net::TcpListener::bind((on, 0)).expect("a free port for the S3 server");
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("s3-server".into())
            .spawn(move || serve(listener, &serving, stopped))
            .expect("a thread for the S3 server");
        S3Server { endpoint: format!("http://{address}"), address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for `s3.endpoint`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Everything asked since the start or [`S3Server::clear_log`].
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.log.lock().clone()
    }

    /// Number of logged requests with this method whose bucket and key contain `path_contains`.
    pub fn count(&self, method: &str, path_contains: &str) -> usize {
        self.shared.log.lock().iter().filter(|r| r.method == method && r.path.contains(path_contains)).count()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.shared.log.lock().clear();
    }

    /// Makes something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.lock().named.push(fault);
    }

    /// Makes requests go wrong at random from now on; `None`: no more, and none of
    /// [`S3Server::inject`] either.
    pub fn set_random(&self, random: Option<RandomFaults>) {
        let mut faults = self.shared.faults.lock();
        if random.is_none() {
            faults.named.clear();
        }
        faults.random = random;
    }

    /// Flips a bit in the middle of a stored object. False: there is no such object, or it is empty.
    pub fn corrupt(&self, bucket: &str, key: &str) -> bool {
        self.shared.objects.corrupt(bucket, key)
    }

    /// Keys and sizes of all objects in a bucket.
    pub fn objects(&self, bucket: &str) -> Vec<(String, u64)> {
        self.shared.objects.list(bucket)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by a panic of its own.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: std::net::TcpListener, shared: &Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the S3 server");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listening socket");
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(connection(stream, shared.clone()));
                    }
                }
            }
        }
    });
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { shared.answer(request).await }
    });
    // The end of a connection, in whatever way, is the client's affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Why a connection is closed without an answer.
#[derive(Debug)]
struct AnswerLost;

impl std::fmt::Display for AnswerLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer is lost on purpose")
    }
}

impl std::error::Error for AnswerLost {}

impl From<Infallible> for AnswerLost {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, AnswerLost> {
        let method = request.method().to_string();
        let path = request.uri().path().trim_start_matches('/').to_owned();
        // Of known length, as S3 wants it.
        let bytes = hyper::body::Body::size_hint(request.body()).exact().unwrap_or(0);
        let conditional = ["if-match", "if-none-match"].iter().any(|name| request.headers().contains_key(*name));
        let fault = self.faults.lock().next(&method, &path, method == "PUT" && conditional);
        let response = match fault {
            Some(FaultKind::Status(status)) => refuse(status),
            Some(FaultKind::Conflict) => refuse(409),
            Some(FaultKind::Stall(pause)) => {
                tokio::time::sleep(pause).await;
                self.perform(request).await
            }
            _ => self.perform(request).await,
        };
        self.log.lock().push(LoggedRequest { method, path, status: response.status().as_u16(), bytes, fault });
        match fault {
            Some(FaultKind::LostAnswer) => Err(AnswerLost),
            Some(FaultKind::PartialBody) => cut_short(response).await,
            Some(FaultKind::CorruptBody) => Ok(corrupt(response).await),
            _ => Ok(response),
        }
    }

    async fn perform(&self, request: Request<Incoming>) -> Response<Body> {
        self.service.call(request.map(Body::from)).await.unwrap_or_else(|_| refuse(500))
    }
}

fn refuse(status: u16) -> Response<Body> {
    let code = match status {
        503 => "SlowDown",
        409 => "ConditionalRequestConflict",
        _ => "InternalError",
    };
    let text = format!("<Error><Code>{code}</Code><Message>fault injected by the test</Message></Error>");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The answer with half of its body, and then the end of the connection.
async fn cut_short(response: Response<Body>) -> Result<Response<Body>, AnswerLost> {
    let (parts, body) = response.into_parts();
    let bytes = whole(body).await;
    if bytes.len() < 2 {
        return Err(AnswerLost);
    }
    let half = bytes.slice(..bytes.len() / 2);
    let pieces = [Ok(half), Err(std::io::Error::other(AnswerLost))];
    let body = Body::from(s3s::dto::StreamingBlob::wrap(futures::stream::iter(pieces)));
    let mut response = Response::from_parts(parts, body);
    response.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
    Ok(response)
}

/// The answer with one bit of its body changed.
async fn corrupt(response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let mut bytes = whole(body).await.to_vec();
    if let Some(byte) = bytes.len().checked_sub(1).and_then(|last| bytes.get_mut(last / 2)) {
        *byte ^= 0x10;
    }
    Response::from_parts(parts, Body::from(Bytes::from(bytes)))
}

async fn whole(mut body: Body) -> Bytes {
    // Bodies of this server are in memory: reading one cannot fail.
    body.store_all_limited(usize::MAX).await.unwrap_or_default()
}
