//! Heads of simple requests and of their answers: read, judged, and written for the other side.
//!
//! Pure. A request is simple if there is nothing in it that needs thought: GET or HEAD of HTTP/1.1,
//! one plain host, a path without percent signs and dots, no body, no upgrade. Everything else, and
//! everything doubtful, is left to hyper and to [`crate::request`]. Of answers hyper's
//! strictness is kept: what two readers could understand differently is an error. Lines are written
//! anew, never passed on as they came, so that nothing can hide between them.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::Client;

/// Longest head of a request that is looked at here.
pub(crate) const MOST: usize = 8 << 10;
/// Most headers of a request that is read here.
const HEADERS: usize = 64;
/// Most headers of an answer: nobody else could read one with more, hyper neither.
const HEADERS_OF_ANSWER: usize = 100;

/// A request that needs no thought.
#[derive(Debug)]
pub(crate) struct Simple {
    /// Where in the bytes the host and the path are.
    host: std::ops::Range<usize>,
    path: std::ops::Range<usize>,
    /// Its length in bytes.
    pub(crate) length: usize,
    /// HEAD: the answer has no body.
    pub(crate) head_only: bool,
}

impl Simple {
    /// The host without its port.
    pub(crate) fn host<'b>(&self, bytes: &'b [u8]) -> &'b str {
        std::str::from_utf8(&bytes[self.host.clone()]).unwrap_or_default()
    }

    /// The path without its query.
    pub(crate) fn path<'b>(&self, bytes: &'b [u8]) -> &'b str {
        std::str::from_utf8(&bytes[self.path.clone()]).unwrap_or_default()
    }
}

/// What the first bytes of a connection are.
#[derive(Debug)]
pub(crate) enum Request {
    /// Not a whole head yet.
    Partial,
    /// Something to think about.
    Other,
    /// A simple request; its head for the backend was written.
    Simple(Simple),
}

/// Reads a request, and writes what a backend shall see of it.
pub(crate) fn request(bytes: &[u8], client: &Client, out: &mut Vec<u8>) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MOST => return Request::Partial,
        _ => return Request::Other,
    };
    match simple(bytes, &parsed, length, client, out) {
        Some(simple) => Request::Simple(simple),
        None => Request::Other,
    }
}

fn simple(
    bytes: &[u8],
    parsed: &httparse::Request<'_, '_>,
    length: usize,
    client: &Client,
    out: &mut Vec<u8>,
) -> Option<Simple> {
    let (method, target) = (parsed.method?, parsed.path?);
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let path = target.split('?').next().unwrap_or_default();
    let plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if parsed.version != Some(1)
        || length > MOST
        || !plain
        || !path.starts_with('/')
        || path.contains(['%', '\\'])
        || path.contains("..")
    {
        return None;
    }
    out.clear();
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut authority = None;
    for header in parsed.headers.iter() {
        match judge(header.name) {
            Judgement::Pass => line(out, header.name, header.value),
            Judgement::Drop => {}
            Judgement::Other => return None,
            Judgement::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            Judgement::Connection => return None,
            Judgement::Host if authority.is_none() => authority = Some(header.value),
            Judgement::Host => return None,
        }
    }
    let authority = authority?;
    let host = plain_host(authority)?;
    line(out, "host", authority);
    line(out, "x-forwarded-host", authority);
    client.write_lines(out);
    out.extend_from_slice(b"\r\n");
    Some(Simple {
        host: range(bytes, host),
        path: range(bytes, path.as_bytes()),
        length,
        head_only,
    })
}

/// What becomes of a request's header.
enum Judgement {
    Pass,
    Drop,
    Host,
    Connection,
    Other,
}

fn judge(name: &str) -> Judgement {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // Most names differ in their length already.
    match name.len() {
        2 if is("te") => Judgement::Other,
        4 if is("host") => Judgement::Host,
        6 if is("expect") => Judgement::Other,
        7 if is("upgrade") || is("trailer") => Judgement::Other,
        9 if is("forwarded") || is("x-real-ip") => Judgement::Drop,
        10 if is("connection") => Judgement::Connection,
        10 if is("keep-alive") => Judgement::Drop,
        14 if is("content-length") || is("http2-settings") => Judgement::Other,
        15 if is("x-forwarded-for") => Judgement::Drop,
        16 if is("x-forwarded-host") || is("x-forwarded-port") => Judgement::Drop,
        16 if is("proxy-connection") => Judgement::Drop,
        17 if is("x-forwarded-proto") => Judgement::Drop,
        17 if is("transfer-encoding") => Judgement::Other,
        18 if is("proxy-authenticate") => Judgement::Drop,
        19 if is("proxy-authorization") => Judgement::Drop,
        _ => Judgement::Pass,
    }
}

/// Is this header of HTTP/2 (where names are in lower case) not the client's to tell a backend? It has
/// no meaning behind the proxy, or the proxy says something else.
pub(crate) fn is_replaced(name: &str) -> bool {
    match judge(name) {
        Judgement::Pass => false,
        Judgement::Other => name != "trailer",
        Judgement::Drop | Judgement::Host | Judgement::Connection => true,
    }
}

/// The name in "name" or "name:port", if there is nothing to be normalised in it.
fn plain_host(authority: &[u8]) -> Option<&[u8]> {
    let colon = authority.iter().position(|b| *b == b':').unwrap_or(authority.len());
    let (name, port) = authority.split_at(colon);
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let fits = name.iter().all(allowed)
        && name.last().is_some_and(|last| *last != b'.')
        && name.len() <= 253
        && port.len() <= 6
        && port.iter().skip(1).all(u8::is_ascii_digit);
    fits.then_some(name)
}

/// Writes a header.
pub(crate) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Where a part lies within the whole.
fn range(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// How the end of an answer's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// In its chunks.
    Chunks,
    /// Where the connection ends; the client gets it in chunks.
    UntilClose,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: http::StatusCode,
    /// Its length in bytes.
    pub(crate) length: usize,
    pub(crate) body: Body,
    /// The backend takes another request on this connection.
    pub(crate) keeps: bool,
}

/// What a backend's first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Not a whole head yet.
    Partial,
    /// Something that comes before the answer, of this length.
    Early(usize),
    /// A head; what the client shall see was written.
    Answer(Answer),
    /// No answer that could be passed on, and why.
    Bad(&'static str),
}

/// Takes down what the client shall see of an answer's head, in the words of its own protocol.
pub(crate) trait Scribe {
    /// A new head begins; what was taken down before is void.
    fn begin(&mut self, status: http::StatusCode, reason: &str);
    /// A header that is not about where the body ends, except for its length.
    fn header(&mut self, name: &str, value: &[u8]);
    /// The head is whole, and its body is of this kind.
    fn end(&mut self, body: Body);
}

/// HTTP/1.1.
impl Scribe for Vec<u8> {
    fn begin(&mut self, status: http::StatusCode, reason: &str) {
        self.clear();
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            self.extend_from_slice(part.as_bytes());
        }
    }

    fn header(&mut self, name: &str, value: &[u8]) {
        line(self, name, value);
    }

    fn end(&mut self, body: Body) {
        if matches!(body, Body::Chunks | Body::UntilClose) {
            line(self, "transfer-encoding", b"chunked");
        }
        self.extend_from_slice(b"\r\n");
    }
}

/// HTTP/2, which has frames for all that is not a header.
impl Scribe for HeaderMap {
    fn begin(&mut self, _: http::StatusCode, _: &str) {
        self.clear();
    }

    fn header(&mut self, name: &str, value: &[u8]) {
        // The parser lets nothing pass that is neither.
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }

    fn end(&mut self, _: Body) {}
}

/// Reads an answer, and takes down what the client shall see of it.
pub(crate) fn response(bytes: &[u8], head_only: bool, out: &mut impl Scribe) -> Response {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_OF_ANSWER];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < crate::limits::HEAD_SIZE => {
            return Response::Partial;
        }
        Ok(httparse::Status::Partial) => return Response::Bad("its head is too long"),
        Err(_) => return Response::Bad("what it sent is no HTTP"),
    };
    let code = parsed.code.unwrap_or_default();
    match code {
        101 => return Response::Bad("it changed to another protocol, unasked"),
        100..=199 => return Response::Early(length),
        _ => {}
    }
    let Ok(status) = http::StatusCode::from_u16(code) else {
        return Response::Bad("its status is no number of three digits");
    };
    let reason = parsed.reason.filter(|reason| !reason.is_empty());
    let reason = reason.or(status.canonical_reason()).unwrap_or_default();
    out.begin(status, reason);
    match answer(&parsed, status, head_only, out) {
        Ok((body, keeps)) => Response::Answer(Answer { status, length, body, keeps }),
        Err(why) => Response::Bad(why),
    }
}

fn answer(
    parsed: &httparse::Response<'_, '_>,
    status: http::StatusCode,
    head_only: bool,
    out: &mut impl Scribe,
) -> Result<(Body, bool), &'static str> {
    let (mut length, mut chunked) = (None, false);
    let mut keeps = parsed.version == Some(1);
    let bodiless = head_only || matches!(status.as_u16(), 204 | 304);
    let tokens = |value: &[u8]| -> String { String::from_utf8_lossy(value).to_ascii_lowercase() };
    let is = |header: &httparse::Header<'_>, name: &str| header.name.eq_ignore_ascii_case(name);
    let mut named = String::new();
    for header in parsed.headers.iter().filter(|header| is(header, "connection")) {
        let value = tokens(header.value);
        keeps &= !value.split(',').any(|token| token.trim() == "close");
        named.push_str(&value);
        named.push(',');
    }
    for header in parsed.headers.iter() {
        if is(header, "content-length") {
            let parsed = number(header.value).ok_or("its Content-Length is no number")?;
            if length.replace(parsed).is_some() {
                return Err("it has more than one Content-Length");
            }
            if status != http::StatusCode::NO_CONTENT {
                out.header(header.name, header.value);
            }
        } else if is(header, "transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err("its Transfer-Encoding is not \"chunked\"");
            }
            chunked = true;
        } else if !is_hop(header.name, &named) {
            out.header(header.name, header.value);
        }
    }
    if chunked && (length.is_some() || parsed.version != Some(1)) {
        return Err("it has a length and chunks, or chunks in HTTP/1.0");
    }
    let body = match length {
        _ if bodiless => Body::None,
        _ if chunked => Body::Chunks,
        Some(0) => Body::None,
        Some(length) => Body::Length(length),
        None => Body::UntilClose,
    };
    out.end(body);
    Ok((body, keeps && body != Body::UntilClose))
}

/// Does this header belong to the backend's connection only? `named` are those that `Connection`
/// names.
fn is_hop(name: &str, named: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let known = match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        16 => is("proxy-connection"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        _ => false,
    };
    known || !named.is_empty() && named.split(',').any(|token| is(token.trim()))
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
