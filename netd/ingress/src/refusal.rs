//! Answers of the proxy itself: pages that say why.
//!
//! Owns every reason for which a request is not sent on, its code, its word for machines
//! (`x-minictl-reason`) and its sentence. Browsers get HTML, all others plain text. Invariant: what
//! a client sent is escaped before it is shown.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::objects::ObjectName;
use crate::table::Route;

/// The header with the reason's word.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-minictl-reason");

/// Longest part of a client's own text that is shown again.
const SHOWN: usize = 200;

/// Why a request was not sent on, or not answered.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The request contradicts itself, or tries to hide what it is.
    BadRequest(&'static str),
    /// A method that a proxy for websites has no use for.
    Method,
    /// A coding of the body that can't be passed on.
    TransferCoding,
    /// No rule for the host.
    NoHost {
        /// What was asked for; empty if nothing was.
        host: Box<str>,
    },
    /// No rule of the host for the path.
    NoPath {
        /// What was asked for.
        host: Box<str>,
        /// The path without its query.
        path: Box<str>,
    },
    /// No rule for the host, and no rule without a host for the path.
    NoPathWithoutHost {
        /// What was asked for; empty if nothing was.
        host: Box<str>,
        /// The path without its query.
        path: Box<str>,
    },
    /// There is nobody to ask.
    Nobody {
        /// What led here.
        route: Arc<Route>,
        /// What is missing.
        why: Box<str>,
    },
    /// The name of an `ExternalName` Service can't be resolved.
    Unresolved {
        /// What led here.
        route: Arc<Route>,
        /// The name outside.
        name: Arc<str>,
        /// What the resolver says.
        cause: String,
    },
    /// All endpoints that were tried refused the connection, or did not answer in time.
    Unreachable {
        /// What led here.
        route: Arc<Route>,
        /// Who was tried, and what came of it.
        tried: Vec<(SocketAddr, String)>,
    },
    /// An endpoint took the request and then broke off.
    Broken {
        /// What led here.
        route: Arc<Route>,
        /// Who it was.
        endpoint: SocketAddr,
        /// What happened.
        cause: String,
    },
    /// An endpoint took the request and did not begin to answer in time.
    Late {
        /// What led here.
        route: Arc<Route>,
        /// Who it was.
        endpoint: SocketAddr,
        /// How long was waited.
        patience: Duration,
    },
    /// The client did not send its request's body in time.
    SlowBody,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::NoHost { .. } | Self::NoPath { .. } | Self::NoPathWithoutHost { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Nobody { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Broken { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Is the request itself no good?
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::Method | Self::TransferCoding | Self::SlowBody)
    }

    /// The reason in one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::Method => "method-not-allowed",
            Self::TransferCoding => "transfer-coding",
            Self::NoHost { .. } => "no-rule-for-host",
            Self::NoPath { .. } | Self::NoPathWithoutHost { .. } => "no-rule-for-path",
            Self::Nobody { .. } => "no-endpoints",
            Self::Unresolved { .. } => "name-not-resolved",
            Self::Unreachable { .. } => "connect-failed",
            Self::Broken { .. } => "endpoint-broke-off",
            Self::Late { .. } => "endpoint-timeout",
            Self::SlowBody => "request-timeout",
        }
    }

    /// The answer, in HTML or plain text.
    #[must_use]
    pub fn answer(&self, html: bool) -> Response<Bytes> {
        let status = self.status();
        let (kind, body) = if html {
            let text = escaped(&self.to_string());
            let page = format!(
                "<!doctype html><meta charset=utf-8><title>{status}</title><h1>{status}</h1>\n\
                 <p>{text}</p>\n<hr><p>minictl ingress: {}</p>\n",
                self.word()
            );
            ("text/html; charset=utf-8", page)
        } else {
            ("text/plain; charset=utf-8", format!("{status}\n{self}\n"))
        };
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.word()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if matches!(self, Self::Nobody { .. }) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

/// Is it a browser that asks?
#[must_use]
pub fn wants_html(asked: &HeaderMap) -> bool {
    let accepts = asked.get_all(header::ACCEPT).iter();
    accepts.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(why) => write!(f, "The request is refused: {why}."),
            Self::Method => f.write_str("This method is not passed on."),
            Self::TransferCoding => {
                f.write_str("Of transfer codings only \"chunked\" can be passed on.")
            }
            Self::NoHost { host } if host.is_empty() => {
                f.write_str("The request names no host, and no Ingress has a rule without one.")
            }
            Self::NoHost { host } => {
                write!(f, "No Ingress has a rule for host {}.", shown(host))
            }
            Self::NoPath { host, path } => {
                let (host, path) = (shown(host), shown(path));
                write!(f, "Ingresses have rules for host {host}, but none for path {path}.")
            }
            Self::NoPathWithoutHost { host, path } if host.is_empty() => {
                let path = shown(path);
                write!(f, "Ingresses have rules without a host, but none for path {path}.")
            }
            Self::NoPathWithoutHost { host, path } => {
                let (host, path) = (shown(host), shown(path));
                write!(
                    f,
                    "No Ingress has a rule for host {host}, and those without a host have none \
                     for path {path}."
                )
            }
            Self::Nobody { route, why } => {
                write!(f, "Ingress {} leads here, but {why}.", route.ingress)
            }
            Self::Unresolved { route, name, cause } => {
                let service = &route.service;
                write!(f, "{} stands for {name}, which has no address: {cause}.", named(service))
            }
            Self::Unreachable { route, tried } => {
                write!(f, "{} can't be reached:", named(&route.service))?;
                for (n, (endpoint, cause)) in tried.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ";" };
                    write!(f, "{comma} endpoint {endpoint}: {cause}")?;
                }
                f.write_str(".")
            }
            Self::Broken { route, endpoint, cause } => write!(
                f,
                "Endpoint {endpoint} of {} took the request, but gave no whole answer: {cause}.",
                named(&route.service)
            ),
            Self::Late { route, endpoint, patience } => write!(
                f,
                "Endpoint {endpoint} of {} did not begin to answer within {} s.",
                named(&route.service),
                patience.as_secs()
            ),
            Self::SlowBody => f.write_str("The body of the request did not come in time."),
        }
    }
}

fn named(service: &ObjectName) -> String {
    format!("Service {service}")
}

/// The beginning of a client's text.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(refusal: &Refusal, accept: Option<&'static str>) -> (Response<()>, String) {
        let mut asked = HeaderMap::new();
        if let Some(accept) = accept {
            asked.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let (parts, body) = refusal.answer(wants_html(&asked)).into_parts();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn programs_get_text_and_browsers_html() {
        let refusal = Refusal::NoPath { host: "a.test".into(), path: "/x".into() };
        let (answer, text) = page(&refusal, Some("*/*"));
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()[REASON_HEADER], "no-rule-for-path");
        let sentence = "Ingresses have rules for host a.test, but none for path /x.";
        assert_eq!(text, format!("404 Not Found\n{sentence}\n"));
        let (answer, html) = page(&refusal, Some("text/html,application/xhtml+xml"));
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(html.contains("<h1>404 Not Found</h1>"), "{html}");
    }

    #[test]
    fn a_page_names_no_rule_that_does_not_exist() {
        let no_path = |host: &str| {
            Refusal::NoPathWithoutHost { host: host.into(), path: "/b".into() }.to_string()
        };
        assert_eq!(no_path(""), "Ingresses have rules without a host, but none for path /b.");
        let sentence = "No Ingress has a rule for host x.test, and those without a host have none \
                        for path /b.";
        assert_eq!(no_path("x.test"), sentence);
    }

    #[test]
    fn what_a_client_sent_is_escaped_and_cut() {
        let path = format!("/<script>{}", "x".repeat(10_000));
        let refusal = Refusal::NoPath { host: "a.test".into(), path: path.into() };
        let (_, html) = page(&refusal, Some("text/html"));
        assert!(html.contains("/&lt;script&gt;x") && !html.contains("<script>"), "{html}");
        assert!(html.len() < 1000, "{html}");
    }
}
