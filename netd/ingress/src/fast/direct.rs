//! The short way of a request that hyper read: HTTP/2's.
//!
//! Most requests of HTTP/2 have no body, too, and a client of HTTP for each connection to a backend,
//! with a task of its own and channels to it, is most of what the proxy would add to them. So
//! their head is written here, and [`Body`] reads the answer in the task of the stream that
//! asked. Invariants as in [`crate::fast`]; the request was edited before by the rules for all.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::Frame;
use tokio::net::TcpStream;

use super::ask::Question;
use super::chunks::{Broken, Chunks};
use super::head;
use crate::body::{BodyError, Download};
use crate::headers;
use crate::limits::BUFFER_SIZE;
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::table::Route;
use crate::worker::Worker;

/// Most trailers of an answer.
const TRAILERS: usize = 64;

/// May a request without a body, of this method, go this way? It might be sent twice.
pub(crate) fn may_go(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Asks one of the endpoints, which speak plain HTTP/1.1; `None` if it can't be reached, so that nothing
/// was sent.
pub(crate) async fn answer(
    worker: &Arc<Worker>,
    route: &Arc<Route>,
    endpoints: &[SocketAddr],
    parts: &Parts,
) -> Option<Result<http::Response<Download>, Refusal>> {
    let endpoint = worker.pool.choose(endpoints, &[])?;
    let head_only = parts.method == Method::HEAD;
    let head = written(parts);
    let question = Question { worker, route, endpoint, head: &head, head_only };
    let (mut bytes, mut headers) = (BytesMut::new(), HeaderMap::new());
    let (backend, answer) = match question.ask(&mut bytes, &mut headers).await {
        Ok(heard) => heard,
        Err(trouble) => return question.refusal(trouble).map(Err),
    };
    let pool = answer.keeps.then(|| worker.pool.clone());
    let backend = Backend { stream: backend, endpoint, pool };
    let mut response = http::Response::new(download(backend, answer.body, bytes));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    Some(Ok(response))
}

/// The request as a backend of HTTP/1.1 reads it.
fn written(parts: &Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut out = Vec::with_capacity(512);
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &parts.headers {
        head::line(&mut out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
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
                let part = bytes.split_to(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
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
