//! The short way of a request that hyper read: HTTP/2's.
//!
//! Most requests of HTTP/2 have no body, too, and a client of HTTP for each connection to a backend,
//! with a task of its own and channels to it, is most of what the proxy would add to them. So
//! their head is written here, and [`Body`] reads the answer in the task of the stream that
//! asked. Invariants as in [`crate::fast`].

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use hyper::body::Frame;
use tokio::net::TcpStream;

use super::ask::{Heard, Question};
use super::chunks::{Broken, Chunks};
use super::head;
use crate::body::{BodyError, Download};
use crate::headers::{self, Client};
use crate::limits::BUFFER_SIZE;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::table::Route;
use crate::worker::Worker;

/// Most trailers of an answer.
const TRAILERS: usize = 64;
/// Room for a small answer, and for its headers. Larger buffers cost the allocator more than a second
/// read costs the few that need it.
const SMALL: (usize, usize) = (4 << 10, 16);

/// What goes to a backend: what the client wrote, and what it may not write itself.
pub(crate) struct Wish<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: &'a Client,
    /// What the client asked for.
    pub(crate) authority: &'a HeaderValue,
    /// What the backend is to see instead.
    pub(crate) host: Option<&'a HeaderValue>,
}

impl<'a> Wish<'a> {
    /// A request that may go this way: one of HTTP/2 without a body, that could be sent twice.
    pub(crate) fn of<B: hyper::body::Body>(
        request: &'a Request<B>,
        client: &'a Client,
        authority: Option<&'a HeaderValue>,
        host: Option<&'a HeaderValue>,
    ) -> Option<Self> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let may_go = request.version() == Version::HTTP_2
            && request.body().is_end_stream()
            && !headers.contains_key(header::CONTENT_LENGTH)
            && matches!(*method, Method::GET | Method::HEAD);
        may_go.then_some(Self { method, uri, headers, client, authority: authority?, host })
    }

    /// The request as a backend of HTTP/1.1 reads it: as [`headers::to_backend`] edits it.
    fn written(&self) -> Vec<u8> {
        let target = self.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut out = Vec::with_capacity(1 << 10);
        for part in [self.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, value) in self.headers {
            if *name != header::COOKIE && !head::is_replaced(name.as_str()) {
                head::line(&mut out, name.as_str(), value.as_bytes());
            }
        }
        // HTTP/2 sends each cookie by itself.
        let mut cookies = self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        if let Some(first) = cookies.next() {
            out.extend_from_slice(b"cookie: ");
            out.extend_from_slice(first);
            for cookie in cookies {
                out.extend_from_slice(b"; ");
                out.extend_from_slice(cookie);
            }
            out.extend_from_slice(b"\r\n");
        }
        head::line(&mut out, "host", self.host.unwrap_or(self.authority).as_bytes());
        head::line(&mut out, "x-forwarded-host", self.authority.as_bytes());
        self.client.write_lines(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// Asks one of the endpoints, which speak plain HTTP/1.1.
pub(crate) async fn answer(
    worker: &Arc<Worker>,
    route: &Arc<Route>,
    endpoints: &[SocketAddr],
    wish: Wish<'_>,
) -> Result<http::Response<Download>, Refusal> {
    let (head, head_only) = (wish.written(), *wish.method == Method::HEAD);
    let question = Question { worker, route, endpoints, head: &head, head_only, part: SMALL.0 };
    let mut bytes = BytesMut::with_capacity(SMALL.0);
    let mut headers = HeaderMap::with_capacity(SMALL.1);
    let Heard { endpoint, backend, answer } = question.ask(&mut bytes, &mut headers).await?;
    let pool = answer.keeps.then(|| worker.pool.clone());
    let backend = Backend { stream: backend, endpoint, pool };
    let mut response = http::Response::new(download(backend, answer.body, bytes));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A connection that an answer comes by.
#[derive(Debug)]
struct Backend {
    stream: TcpStream,
    endpoint: SocketAddr,
    /// Where it may wait for another request.
    pool: Option<Arc<Pool>>,
}

impl Backend {
    /// The answer was read to its end, and nothing came after it.
    fn give_back(self) {
        if let Some(pool) = self.pool {
            pool.put_plain(self.endpoint, self.stream);
        }
    }
}

/// The body of an answer of which this came with its head.
fn download(backend: Backend, body: head::Body, mut bytes: BytesMut) -> Download {
    let kind = match body {
        head::Body::None => Kind::Left(0),
        head::Body::Length(length) => Kind::Left(length),
        head::Body::Chunks => Kind::Chunks(Chunks::new(), Vec::new()),
        head::Body::UntilClose => Kind::UntilClose,
    };
    match (&kind, bytes.len()) {
        // A small answer is there as a whole.
        (Kind::Left(left), count) if *left <= count as u64 => {
            let whole = bytes.split_to(count.min(usize::try_from(*left).unwrap_or(count)));
            if bytes.is_empty() {
                backend.give_back();
            }
            Download::Page(Some(whole.freeze()).filter(|whole| !whole.is_empty()))
        }
        _ => Download::direct(Body { backend: Some(backend), bytes, kind }),
    }
}

/// The body of an answer that is still coming.
#[derive(Debug)]
pub(crate) struct Body {
    /// Until the end was seen.
    backend: Option<Backend>,
    /// What was read and not yet passed on.
    bytes: BytesMut,
    kind: Kind,
}

/// How its end is found.
#[derive(Debug)]
enum Kind {
    /// After so many bytes.
    Left(u64),
    /// In its chunks; and the trailers so far.
    Chunks(Chunks, Vec<u8>),
    /// Where the connection ends.
    UntilClose,
}

impl Body {
    /// The next part of it.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.next() {
                Ok(Some(part)) => return Poll::Ready(Some(Ok(Frame::data(part)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.is_done() {
                return Poll::Ready(self.finish().map(Frame::trailers).map(Ok));
            }
            match ready!(self.poll_read(context)) {
                Ok(0) if matches!(self.kind, Kind::UntilClose) => {
                    self.backend = None;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Short))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Receive(error)))),
            }
        }
    }

    /// How much is still to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.kind {
            Kind::Left(left) => Some(left),
            Kind::Chunks(..) | Kind::UntilClose => None,
        }
    }

    /// Takes what is there.
    fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let bytes = &mut self.bytes;
        let part = match &mut self.kind {
            Kind::Left(left) => {
                let part =
                    bytes.split_to(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                *left -= part.len() as u64;
                part.freeze()
            }
            Kind::Chunks(chunks, trailers) => {
                chunks.take(bytes, trailers).map_err(|Broken| BodyError::Chunks)?
            }
            Kind::UntilClose => bytes.split().freeze(),
        };
        Ok(Some(part).filter(|part| !part.is_empty()))
    }

    fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Left(left) => *left == 0,
            Kind::Chunks(chunks, _) => chunks.done(),
            Kind::UntilClose => self.backend.is_none(),
        }
    }

    /// The end was seen: lets the connection go, and gives the trailers, once.
    fn finish(&mut self) -> Option<HeaderMap> {
        let backend = self.backend.take()?;
        // Bytes after the end belong to no request: such a connection is not used again.
        if self.bytes.is_empty() {
            backend.give_back();
        }
        match &self.kind {
            Kind::Chunks(_, trailers) => read_trailers(trailers),
            Kind::Left(_) | Kind::UntilClose => None,
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Some(backend) = &mut self.backend else { return Poll::Ready(Ok(0)) };
        self.bytes.reserve(BUFFER_SIZE);
        tokio_util::io::poll_read_buf(Pin::new(&mut backend.stream), context, &mut self.bytes)
    }
}

/// What comes after the last chunk, without what belongs to one hop only.
fn read_trailers(bytes: &[u8]) -> Option<HeaderMap> {
    let mut parsed = [httparse::EMPTY_HEADER; TRAILERS];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(bytes, &mut parsed)
    else {
        return None;
    };
    let mut trailers = HeaderMap::new();
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) {
            trailers.append(name, value);
        }
    }
    headers::remove_hops(&mut trailers);
    Some(trailers).filter(|trailers| !trailers.is_empty())
}
