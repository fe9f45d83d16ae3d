//! The short way: simple requests, from socket to socket.
//!
//! Nearly all requests are a GET without a body to a plain path, and what hyper's generality costs
//! for each of them is half of all that the proxy does in user space. So a connection begins here:
//! while requests are simple ([`head::Request::Simple`]) and their backend speaks plain HTTP/1.1,
//! they go this way. With the first one that is not, the connection and the bytes that were read
//! belong to hyper, for good; what hyper reads in HTTP/2 may take the second half of this way
//! ([`direct`]). Invariants: a request is looked at by the same table, and edited by the
//! same rules; one that is handed over was sent to nobody; an answer that can't be understood fully
//! is never passed on.

mod ask;
mod chunks;
pub(crate) mod direct;
mod head;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::DOWNLOAD_PAUSE;
use crate::headers::Client;
use crate::limits::{BUFFER_SIZE, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT};
use crate::refusal::Refusal;
use crate::table::{Found, Protocol, Route, Target};
use crate::worker::Worker;
use ask::{Heard, Question};
use chunks::Chunks;
use head::{Body, Request, Simple};

/// What is read from a socket at a time while bodies are small; the buffer is kept.
const PART: usize = 16 << 10;
/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is over.
    Closed,
    /// Somebody else must go on, with these bytes first.
    Other(BytesMut),
}

/// Serves simple requests as long as there is nothing else.
pub(crate) async fn serve<S>(
    worker: &Worker,
    client: &Client,
    stream: &mut S,
    end: &mut oneshot::Receiver<()>,
) -> Next
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (out, head) = (Vec::new(), Vec::new());
    let (early, answer) = (BytesMut::new(), BytesMut::new());
    let mut exchange = Exchange { worker, stream, early, out, head, answer };
    let mut read = BytesMut::with_capacity(head::MOST);
    // However slowly a head comes: it has to be there in time.
    let mut due = Instant::now() + HANDSHAKE_TIMEOUT;
    loop {
        match head::request(&read, client, &mut exchange.out) {
            Request::Other => return Next::Other(read),
            Request::Partial => {
                read.reserve(head::MOST);
                let reading = timeout_at(due, exchange.stream.read_buf(&mut read));
                let count = tokio::select! {
                    biased;
                    count = reading => count,
                    _ = &mut *end => return Next::Closed,
                };
                match count {
                    Ok(Ok(count)) if count > 0 => {}
                    _ => return Next::Closed,
                }
            }
            Request::Simple(request) => {
                let Some(route) = find(worker, client, &request, &read) else {
                    return Next::Other(read);
                };
                let Target::Endpoints(Protocol::Http, endpoints) = &route.target else {
                    return Next::Other(read);
                };
                let again = exchange.run(&route, endpoints, &request).await;
                // To be told to end is to serve no further request.
                if !again || end.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
                    return Next::Closed;
                }
                read.extend_from_slice(&exchange.early);
                exchange.early.clear();
                read.advance(request.length);
                exchange.forget_large_bodies();
                due = Instant::now() + HEAD_TIMEOUT;
            }
        }
    }
}

/// The route of a request, if what its Ingress asks for can be done this way.
fn find(worker: &Worker, client: &Client, request: &Simple, bytes: &[u8]) -> Option<Arc<Route>> {
    let table = worker.table.load();
    let Found::Route(route) = table.find(request.host(bytes), request.path(bytes)) else {
        return None;
    };
    let options = &route.options;
    let plain = options.upstream_host.is_none() && (client.tls || !options.ssl_redirect);
    plain.then(|| route.clone())
}

struct Exchange<'a, S> {
    worker: &'a Worker,
    stream: &'a mut S,
    /// What the client sent while its answer was under way.
    early: BytesMut,
    /// The head for the backend.
    out: Vec<u8>,
    /// The head for the client, and the body behind it as far as it came with it.
    head: Vec<u8>,
    /// What came from the backend.
    answer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<'_, S> {
    /// Serves a request; may its client send another one?
    async fn run(
        &mut self,
        route: &Arc<Route>,
        endpoints: &[SocketAddr],
        request: &Simple,
    ) -> bool {
        let (worker, head_only, began) = (self.worker, request.head_only, Instant::now());
        let question =
            Question { worker, route, endpoints, head: &self.out, head_only, part: PART };
        let asking = question.ask(&mut self.answer, &mut self.head);
        match unless_gone(self.stream, &mut self.early, asking).await {
            Some(Ok(heard)) => {
                worker.counts.answered(heard.answer.status, began.elapsed());
                self.pass_on(heard).await
            }
            Some(Err(refusal)) => self.refuse(&refusal, began, head_only).await,
            // Nobody waits for the answer any more.
            None => false,
        }
    }

    /// Sends the answer to the client as it comes; is the client sure to have all of it?
    async fn pass_on(&mut self, heard: Heard) -> bool {
        let Heard { endpoint, mut backend, answer } = heard;
        let mut body = Progress::of(answer.body);
        let whole = loop {
            let Ok(part) = body.read(&self.answer) else { break false };
            // A small answer leaves in one piece, head and body.
            body.write(&self.answer[..part], &mut self.head);
            self.answer.advance(part);
            if self.send_head().await.is_err() {
                break false;
            }
            if body.is_done() {
                break true;
            }
            self.answer.reserve(BUFFER_SIZE);
            let reading = timeout(DOWNLOAD_PAUSE, backend.read_buf(&mut self.answer));
            match unless_gone(self.stream, &mut self.early, reading).await {
                Some(Ok(Ok(count))) if count > 0 => {}
                // Whoever gets it in chunks knows that it is whole.
                Some(Ok(Ok(_))) if body.ends_here() => {
                    self.head.extend_from_slice(LAST_CHUNK);
                    break self.send_head().await.is_ok();
                }
                _ => break false,
            }
        };
        // Bytes after the end belong to no request: such a connection is not used again.
        if whole && answer.keeps && self.answer.is_empty() {
            self.worker.pool.put_plain(endpoint, backend);
        }
        whole
    }

    /// Sends what is there of the answer.
    async fn send_head(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.head).await?;
        self.stream.flush().await?;
        self.head.clear();
        Ok(())
    }

    /// A connection that waits for its next request keeps no more memory than it needs.
    fn forget_large_bodies(&mut self) {
        if self.answer.capacity() > PART {
            self.answer = BytesMut::new();
        }
        if self.head.capacity() > PART {
            self.head = Vec::new();
        }
    }

    /// Answers with a page that says why; did it get there?
    async fn refuse(&mut self, refusal: &Refusal, began: Instant, head_only: bool) -> bool {
        tracing::debug!(word = refusal.word(), %refusal, "a request is not answered by a backend");
        let html = accepts_html(&self.out);
        let mut page = refusal.answer(html);
        let length = HeaderValue::from(page.body().len());
        page.headers_mut().insert(header::CONTENT_LENGTH, length);
        self.worker.counts.answered(page.status(), began.elapsed());
        let mut out = format!("HTTP/1.1 {}\r\n", page.status()).into_bytes();
        for (name, value) in page.headers() {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(page.body());
        }
        self.head = out;
        self.send_head().await.is_ok()
    }
}

/// Waits for a backend, unless the client leaves meanwhile; what the client sends is kept.
async fn unless_gone<S, T>(
    stream: &mut S,
    early: &mut BytesMut,
    backend: impl Future<Output = T>,
) -> Option<T>
where
    S: AsyncRead + Unpin,
{
    let mut backend = std::pin::pin!(backend);
    loop {
        tokio::select! {
            biased;
            heard = backend.as_mut() => return Some(heard),
            // Whoever sends that much ahead is there.
            count = stream.read_buf(early), if early.len() < head::MOST => match count {
                Ok(count) if count > 0 => {}
                _ => return None,
            },
        }
    }
}

/// Is it a browser that asks? The head is our own writing.
fn accepts_html(head: &[u8]) -> bool {
    String::from_utf8_lossy(head)
        .lines()
        .any(|line| line.to_ascii_lowercase().starts_with("accept:") && line.contains("text/html"))
}

/// How much of a body is still to come.
enum Progress {
    Left(u64),
    Chunks(Chunks),
    UntilClose,
}

impl Progress {
    fn of(body: Body) -> Self {
        match body {
            Body::None => Self::Left(0),
            Body::Length(length) => Self::Left(length),
            Body::Chunks => Self::Chunks(Chunks::new()),
            Body::UntilClose => Self::UntilClose,
        }
    }

    /// How many of the bytes belong to the body.
    fn read(&mut self, bytes: &[u8]) -> Result<usize, chunks::Broken> {
        match self {
            Self::Left(left) => {
                let part = (*left).min(bytes.len() as u64);
                *left -= part;
                usize::try_from(part).map_err(|_| chunks::Broken)
            }
            Self::Chunks(chunks) => chunks.read(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    /// Writes a part as the client gets it: a body without an end of its own in chunks, so that one
    /// that breaks off does not look whole.
    fn write(&self, part: &[u8], out: &mut Vec<u8>) {
        if !matches!(self, Self::UntilClose) {
            return out.extend_from_slice(part);
        }
        if !part.is_empty() {
            out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            out.extend_from_slice(part);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Left(left) => *left == 0,
            Self::Chunks(chunks) => chunks.done(),
            Self::UntilClose => false,
        }
    }

    /// May the connection end here?
    fn ends_here(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}
