//! One client's connection: TLS, which HTTP it speaks, and how it ends.
//!
//! Invariants: a client that is slow to say what it wants is closed; told to end, a connection
//! finishes the requests that it has and takes no more.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::body::Staying;
use crate::fast::{self, Next};
use crate::forward::answer;
use crate::gathered::gather;
use crate::headers::Client;
use crate::limits::{
    BUFFER_SIZE, ERROR_RESETS, HANDSHAKE_TIMEOUT, HEAD_SIZE, HEAD_TIMEOUT, HEADER_LIST_SIZE,
    KEEPALIVE, PENDING_RESETS, STREAMS, UNREAD_TIMEOUT, WINDOW,
};
use crate::rewound::Rewound;
use crate::worker::{Seat, Worker};

/// How HTTP/2 begins without TLS; no method of HTTP/1 has this name.
const PREFACE: &[u8] = b"PRI ";
/// How often a quiet HTTP/2 connection is checked for life.
const PING: Duration = Duration::from_secs(30);

/// How long a connection of HTTP/2 may be without a request, though its client answers pings; it may
/// take twice as long to be noticed.
const IDLE: Duration = Duration::from_secs(60);

/// Who is at the other end, for as long as anything of the connection is under way.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) client: Client,
    _seat: Seat,
    requests: Requests,
}

impl Guest {
    /// A request is under way until what is returned is dropped.
    pub(crate) fn stay(self: &Arc<Self>) -> Stay {
        self.requests.begun.fetch_add(1, Ordering::Relaxed);
        Stay(self.clone())
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Stay(Arc<Guest>);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.requests.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many requests there were on a connection.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Requests {
    /// Returns when there was none for a while. No request pays for a clock that way.
    async fn idle(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        loop {
            let before = count(&self.begun);
            tokio::time::sleep(IDLE).await;
            if count(&self.begun) == before && count(&self.ended) == before {
                return;
            }
        }
    }
}

/// Serves a connection to its end; `end` is told, or dropped, when it shall finish.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    (peer, port): (SocketAddr, u16),
    (seat, end): (Seat, oneshot::Receiver<()>),
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "set up a client's connection");
        return;
    }
    let client = Client::new(peer.ip(), port, tls.is_some());
    let guest = Arc::new(Guest { client, _seat: seat, requests: Requests::default() });
    let Some(tls) = tls else { return http(worker, guest, stream, end).await };
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, accepting).await else {
        worker.counts.handshake_failed();
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(worker, guest, stream, end).await;
    } else {
        http(worker, guest, stream, end).await;
    }
}

/// Serves what may be HTTP/1.1 or, by prior knowledge, HTTP/2.
async fn http<S>(
    worker: Arc<Worker>,
    guest: Arc<Guest>,
    mut stream: S,
    mut end: oneshot::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Next::Other(first) = fast::serve(&worker, &guest.client, &mut stream, &mut end).await
    else {
        // Whoever reads the end knows that nothing is missing.
        let _ = stream.shutdown().await;
        return;
    };
    let is_http2 = first.starts_with(PREFACE);
    let stream = Rewound { first: first.freeze(), stream };
    // Its state is large, and most connections never need it.
    if is_http2 {
        Box::pin(http2(worker, guest, stream, end)).await;
    } else {
        Box::pin(http1(worker, guest, stream, end)).await;
    }
}

/// Sets up a connection, to a client or to a backend: small parts must not wait for the
/// acknowledgement of those before, and an end that died is found out.
///
/// # Errors
/// The kernel refuses, because it is over already.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNREAD_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

async fn http1<S>(worker: Arc<Worker>, guest: Arc<Guest>, stream: S, end: oneshot::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        // Its state is large, and hyper would move it from hand to hand.
        let answer = Box::pin(answer(worker.clone(), guest.clone(), request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_SIZE)
        .max_header_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let poll = |connection: &mut Pin<&mut _>, context: &mut Context<'_>| {
        Future::poll(Pin::as_mut(connection), context)
    };
    // hyper itself closes one that is idle.
    let told = async { drop(end.await) };
    until(told, &mut connection, poll, |one| one.as_mut().graceful_shutdown()).await;
}

async fn http2<S>(worker: Arc<Worker>, guest: Arc<Guest>, stream: S, end: oneshot::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asker = guest.clone();
    let service = service_fn(move |request| {
        // Its state is large, and hyper would move it from hand to hand.
        let answer = Box::pin(answer(worker.clone(), asker.clone(), request));
        let stay = asker.stay();
        async { Ok::<_, Infallible>(answer.await.map(|body| Staying { body, _stay: stay })) }
    });
    let (stream, outlet) = gather(stream);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .keep_alive_interval(PING)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let poll = |connection: &mut Pin<&mut _>, context: &mut Context<'_>| {
        outlet.driven(context, |context| Future::poll(Pin::as_mut(connection), context))
    };
    let told = async {
        tokio::select! {
            _ = end => {}
            () = guest.requests.idle() => {}
        }
    };
    until(told, &mut connection, poll, |one| one.as_mut().graceful_shutdown()).await;
}

/// Serves a connection until it is over; told to end, it finishes what is under way.
async fn until<C>(
    told: impl Future<Output = ()>,
    connection: &mut C,
    poll: impl Fn(&mut C, &mut Context<'_>) -> Poll<hyper::Result<()>>,
    finish: impl FnOnce(&mut C),
) {
    let over = tokio::select! {
        biased;
        result = poll_fn(|context| poll(connection, context)) => Some(result),
        () = told => None,
    };
    let result = match over {
        Some(result) => result,
        None => {
            finish(connection);
            poll_fn(|context| poll(connection, context)).await
        }
    };
    if let Err(error) = result {
        tracing::trace!(%error, "a client's connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_no_request_begins_or_goes_on() {
        let requests = Requests::default();
        let began = tokio::time::Instant::now();
        let work = async {
            // One short request in the first minute, and then one that takes three.
            tokio::time::sleep(IDLE / 2).await;
            requests.begun.fetch_add(1, Ordering::Relaxed);
            requests.ended.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(IDLE).await;
            requests.begun.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(3 * IDLE).await;
            requests.ended.fetch_add(1, Ordering::Relaxed);
            tokio::time::Instant::now()
        };
        let ((), last) = tokio::join!(requests.idle(), work);
        let (waited, until_last) = (began.elapsed(), last - began);
        assert!(
            waited > until_last && waited <= until_last + 2 * IDLE,
            "{waited:?} {until_last:?}"
        );
    }
}
