//! A small HTTP server for answers that fit into a line or a page: health and metrics.
//!
//! Owns connections, not what is answered. Invariants: a connection that is slow to ask is closed;
//! no more than [`MOST`] are served at a time; whoever drops the future closes everything.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is answered.
pub(crate) type Answer = Response<String>;

/// Connections at a time; probes are short.
const MOST: usize = 64;
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the machine has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// Listens at an address. `0.0.0.0` and `::` both mean all addresses of the node, of both families
/// where it has IPv6, as they do in Go's programs.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
    let first = if address.ip().is_unspecified() { all } else { address };
    let listener = match std::net::TcpListener::bind(first) {
        Err(error) if first == all && error.kind() != io::ErrorKind::AddrInUse => {
            std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers every GET and HEAD at this listener by its path, for ever.
pub(crate) async fn serve<A, F>(listener: TcpListener, answer: A)
where
    A: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let answer = Arc::new(answer);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(BREATH).await;
                    continue;
                };
                connections.spawn(converse(stream, answer.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<A, F>(stream: TcpStream, answer: Arc<A>)
where
    A: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let known = matches!(*request.method(), Method::GET | Method::HEAD);
        let answered = known.then(|| answer(request.uri().path().to_owned()));
        async move {
            let answer = match answered {
                Some(answer) => answer.await,
                None => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is no news.
    if let Err(error) = connection.await {
        tracing::trace!(%error, "a connection to health or metrics");
    }
}

/// An answer in JSON, with the headers that kube-proxy sends.
pub(crate) fn json(code: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer in plain text.
pub(crate) fn text(code: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(body.to_owned());
    *answer.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

/// The answer to a path that there is not.
pub(crate) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}
