//! Responses: codes, headers, Warning texts, compression.
//!
//! Inputs: answers and errors. Outputs: HTTP responses with upstream's headers.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use crate::http::accept;
use crate::present::{self, View};
use crate::status::ApiError;
use crate::verbs::{Answer, Call};

/// Bodies below this are not worth compressing (upstream: `defaultGzipThresholdBytes`).
const WORTH_COMPRESSING: usize = 128 * 1024;
const JSON: &str = "application/json";

/// What of a request matters for its response.
pub(crate) struct Reply {
    gzip: bool,
    /// ETags that the client has.
    has: Option<String>,
}

impl Reply {
    pub(crate) fn to(request: &Parts) -> Self {
        let accepted = super::header(&request.headers, header::ACCEPT_ENCODING.as_str());
        Self {
            gzip: accept::names(accepted.as_deref(), "gzip"),
            has: super::header(&request.headers, header::IF_NONE_MATCH.as_str()),
        }
    }

    /// The response of a verb.
    pub(crate) fn answer(
        &self,
        call: &Call,
        answer: Answer,
        view: View,
    ) -> Result<Response, ApiError> {
        let resource = call.resource();
        let now = Timestamp::now();
        let (code, body, warnings) = match answer {
            Answer::Object { json, created, warnings } => {
                let code = if created { StatusCode::CREATED } else { StatusCode::OK };
                (code, present::object(resource, &json, view, now)?, warnings)
            }
            Answer::List { items, metadata } => {
                let body = present::list(resource, &items, &metadata, view, now)?;
                (StatusCode::OK, body, Vec::new())
            }
            Answer::Json(json) => (StatusCode::OK, json, Vec::new()),
            Answer::Status { status, created } => {
                let code = if created { StatusCode::CREATED } else { StatusCode::OK };
                (code, encoded(&status), Vec::new())
            }
        };
        let mut response = self.body(code, JSON, body);
        for warning in warnings {
            warn(&mut response, &warning);
        }
        Ok(response)
    }

    /// A failure as a Status object.
    pub(crate) fn error(&self, error: &ApiError) -> Response {
        if matches!(error, ApiError::UnknownPath) {
            // Upstream's mux knows nothing of Status objects; clients expect its text.
            return self.body(
                error.code(),
                "text/plain; charset=utf-8",
                "404 page not found\n".into(),
            );
        }
        let mut response = self.body(error.code(), JSON, encoded(&error.status()));
        if let ApiError::FutureVersion { .. } = error {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// JSON that is ready.
    pub(crate) fn json(&self, body: Bytes) -> Response {
        self.body(StatusCode::OK, JSON, body)
    }

    /// Plain text.
    pub(crate) fn text(&self, text: &str) -> Response {
        let body = Bytes::copy_from_slice(text.as_bytes());
        self.body(StatusCode::OK, "text/plain; charset=utf-8", body)
    }

    /// A document with an ETag, which a client that has it gets only once.
    pub(crate) fn document(&self, content_type: &str, etag: &str, body: Bytes) -> Response {
        let quoted = format!("\"{etag}\"");
        let known =
            self.has.as_deref().is_some_and(|has| has.split(',').any(|h| h.trim() == quoted));
        let mut response = if known {
            self.body(StatusCode::NOT_MODIFIED, content_type, Bytes::new())
        } else {
            self.body(StatusCode::OK, content_type, body)
        };
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&quoted) {
            headers.insert(header::ETAG, value);
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }

    /// A body that comes bit by bit.
    pub(crate) fn stream(
        &self,
        content_type: &'static str,
        stream: impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    ) -> Response {
        headed(StatusCode::OK, content_type, Body::from_stream(stream))
    }

    fn body(&self, code: StatusCode, content_type: &str, body: Bytes) -> Response {
        if !self.gzip || body.len() < WORTH_COMPRESSING {
            return headed(code, content_type, Body::from(body));
        }
        match compressed(&body) {
            Ok(smaller) => {
                let mut response = headed(code, content_type, Body::from(smaller));
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
                response
            }
            Err(_) => headed(code, content_type, Body::from(body)),
        }
    }
}

fn headed(code: StatusCode, content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn encoded(value: &impl Serialize) -> Bytes {
    // A Status is made of strings and numbers: it always encodes.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Adds a text that clients print as `Warning: …`.
pub(crate) fn warn(response: &mut Response, text: &str) {
    if let Some(value) = warning_header(text) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// RFC 7234's `299 - "text"` (upstream: `k8s.io/apiserver/pkg/warning`).
fn warning_header(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    HeaderValue::from_str(&format!("299 - \"{quoted}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        let value = warning_header("unknown field \"spec.x\"\n").unwrap();
        assert_eq!(value.to_str().unwrap(), r#"299 - "unknown field \"spec.x\"""#);
    }

    #[test]
    fn a_client_that_has_the_document_does_not_get_it_again() {
        let reply = Reply { gzip: false, has: Some("\"a\", \"b\"".into()) };
        assert_eq!(reply.document(JSON, "b", "x".into()).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(reply.document(JSON, "c", "x".into()).status(), StatusCode::OK);
    }

    #[test]
    fn only_large_bodies_are_compressed_and_only_for_those_who_ask() {
        let large = Bytes::from(vec![b'a'; WORTH_COMPRESSING]);
        let encoding = |gzip: bool, body: &Bytes| {
            let response = Reply { gzip, has: None }.json(body.clone());
            response.headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(encoding(true, &large));
        assert!(!encoding(false, &large));
        assert!(!encoding(true, &Bytes::from_static(b"{}")));
    }
}
