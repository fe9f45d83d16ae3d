//! One client's connection: TLS, which HTTP it speaks, and how it ends.
//!
//! Invariants: a client that is slow to say what it wants is closed; told to end, a connection
//! finishes the requests that it has and takes no more.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::forward::answer;
use crate::headers::Client;
use crate::limits::{
    BUFFER_SIZE, ERROR_RESETS, HANDSHAKE_TIMEOUT, HEAD_SIZE, HEAD_TIMEOUT, HEADER_LIST_SIZE,
    KEEPALIVE, PENDING_RESETS, STREAMS, UNREAD_TIMEOUT, WINDOW,
};
use crate::worker::Worker;

/// How HTTP/2 begins without TLS; no method of HTTP/1 has this name.
const PREFACE: &[u8] = b"PRI ";
/// The pause before a client that sent less than that is looked at again.
const PEEK_PAUSE: Duration = Duration::from_millis(10);
/// How often a quiet HTTP/2 connection is checked for life.
const PING: Duration = Duration::from_secs(30);

/// Serves a connection to its end; `end` is told, or dropped, when it shall finish.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    (peer, port): (SocketAddr, u16),
    end: oneshot::Receiver<()>,
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "set up a client's connection");
        return;
    }
    let client = Arc::new(Client::new(peer.ip(), port, tls.is_some()));
    let Some(tls) = tls else {
        match timeout(HANDSHAKE_TIMEOUT, speaks_http2(&stream)).await {
            Ok(Ok(true)) => http2(worker, client, stream, end).await,
            Ok(Ok(false)) => http1(worker, client, stream, end).await,
            // It left, or never said anything.
            Ok(Err(_)) | Err(_) => {}
        }
        return;
    };
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, accepting).await else {
        worker.counts.handshake_failed();
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(worker, client, stream, end).await;
    } else {
        http1(worker, client, stream, end).await;
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNREAD_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Does the client begin with HTTP/2?
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        let seen = &first[..count];
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count == PREFACE.len() || !PREFACE.starts_with(seen) {
            return Ok(seen == PREFACE);
        }
        // Rare enough for a pause: what was peeked at stays readable.
        tokio::time::sleep(PEEK_PAUSE).await;
    }
}

async fn http1<S>(
    worker: Arc<Worker>,
    client: Arc<Client>,
    stream: S,
    mut end: oneshot::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(worker.clone(), client.clone(), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_SIZE)
        .max_header_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        _ = &mut end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(%error, "a client's connection");
    }
}

async fn http2<S>(
    worker: Arc<Worker>,
    client: Arc<Client>,
    stream: S,
    mut end: oneshot::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(worker.clone(), client.clone(), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
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
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        _ = &mut end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(%error, "a client's connection");
    }
}
