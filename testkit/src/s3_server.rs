//! An S3 server on a thread of its own: HTTP on a free port of the loopback interface, signature
//! checks, conditional writes, a log of all requests, and faults on demand.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
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

use super::s3_objects::{Api, Objects};

/// A running server; stops when dropped. Its endpoint takes path-style requests.
pub struct S3Server {
    endpoint: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    objects: Arc<Objects>,
    service: S3Service,
    log: Mutex<Vec<LoggedRequest>>,
    faults: Mutex<Vec<Fault>>,
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
}

/// Something that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only requests with this method; empty: all.
    pub method: String,
    /// Only requests whose bucket and key contain this.
    pub path_contains: String,
    /// How many requests it meets; then it is over.
    pub times: usize,
    /// What happens to them.
    pub kind: FaultKind,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
pub enum FaultKind {
    /// Nothing is done; this status is answered.
    Status(u16),
    /// It is done and the connection closed without an answer.
    LostAnswer,
    /// It is done after a pause.
    Stall(Duration),
}

impl S3Server {
    /// Starts a server with one bucket and one pair of keys.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(bucket: &str, access_key: &str, secret_key: &str) -> S3Server {
        let objects = Arc::new(Objects::default());
        objects.create_bucket(bucket);
        let mut builder = S3ServiceBuilder::new(Api(objects.clone()));
        builder.set_auth(OnePair { access_key: access_key.to_owned(), secret_key: SecretKey::from(secret_key) });
        let shared =
            Arc::new(Shared { objects, service: builder.build(), log: Mutex::default(), faults: Mutex::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback interface");
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("s3-server".into())
            .spawn(move || serve(listener, &serving, stopped))
            .expect("a thread for the S3 server");
        S3Server { endpoint: format!("http://{address}"), shared, stop: Some(stop), thread: Some(thread) }
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
        self.shared.faults.lock().push(fault);
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
        let fault = self.next_fault(&method, &path);
        let response = match fault {
            Some(FaultKind::Status(status)) => refuse(status),
            Some(FaultKind::Stall(pause)) => {
                tokio::time::sleep(pause).await;
                self.perform(request).await
            }
            _ => self.perform(request).await,
        };
        self.log.lock().push(LoggedRequest { method, path, status: response.status().as_u16(), bytes });
        match fault {
            Some(FaultKind::LostAnswer) => Err(AnswerLost),
            _ => Ok(response),
        }
    }

    async fn perform(&self, request: Request<Incoming>) -> Response<Body> {
        self.service.call(request.map(Body::from)).await.unwrap_or_else(|_| refuse(500))
    }

    fn next_fault(&self, method: &str, path: &str) -> Option<FaultKind> {
        let mut faults = self.faults.lock();
        let fault = faults
            .iter_mut()
            .find(|f| f.times > 0 && (f.method.is_empty() || f.method == method) && path.contains(&f.path_contains))?;
        fault.times -= 1;
        Some(fault.kind)
    }
}

fn refuse(status: u16) -> Response<Body> {
    let code = if status == 503 { "SlowDown" } else { "InternalError" };
    let text = format!("<Error><Code>{code}</Code><Message>fault injected by the test</Message></Error>");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
