//! Headers on their way through: what belongs to one connection goes, what the backend should know
//! of the client comes.
//!
//! Pure edits in place. Invariants: nothing that a client wrote into the headers that we set gets
//! through, as there is no proxy before this one that could be trusted; headers of one hop, those
//! named by `Connection` included, never pass (RFC 9110, 7.6.1).

use std::net::IpAddr;

use http::header::{self, Entry, HeaderName, HeaderValue};
use http::{HeaderMap, Version};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// An offer to change to HTTP/2, together with `Upgrade: h2c`.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What a client tells about itself by connecting; made once for each connection.
#[derive(Clone, Debug)]
pub struct Client {
    address: HeaderValue,
    scheme: HeaderValue,
    port: HeaderValue,
    /// All of it as lines of a head.
    lines: Box<[u8]>,
    /// Came by TLS.
    pub tls: bool,
}

impl Client {
    /// A client at an address, that reached this port.
    #[must_use]
    pub fn new(address: IpAddr, port: u16, tls: bool) -> Self {
        // A listener for both families sees IPv4 in IPv6's clothes.
        let text = address.to_canonical().to_string();
        let scheme = if tls { "https" } else { "http" };
        let lines = format!(
            "x-forwarded-for: {text}\r\nx-real-ip: {text}\r\n\
             x-forwarded-proto: {scheme}\r\nx-forwarded-port: {port}\r\n"
        );
        Self {
            lines: lines.into_bytes().into(),
            address: HeaderValue::from_str(&text).expect("an address is made of visible letters"),
            scheme: HeaderValue::from_static(scheme),
            port: HeaderValue::from(port),
            tls,
        }
    }

    /// Writes the headers that tell of the client, as [`to_backend`] sets them.
    pub(crate) fn write_lines(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
    }
}

/// Removes what belongs to one connection only.
pub fn remove_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // Naming one of these is an attempt to hide it, not a hop's matter.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
}

/// Makes a request's headers fit for a backend. `authority` is what the client asked for, `host`
/// what the backend is to see instead.
pub fn to_backend(
    headers: &mut HeaderMap,
    client: &Client,
    authority: Option<&HeaderValue>,
    host: Option<&HeaderValue>,
    version: Version,
) {
    remove_hops(headers);
    headers.remove(header::FORWARDED);
    headers.remove(HTTP2_SETTINGS);
    // Ours is the only answer to it that the client gets.
    headers.remove(header::EXPECT);
    headers.insert(FORWARDED_FOR, client.address.clone());
    headers.insert(REAL_IP, client.address.clone());
    headers.insert(FORWARDED_PROTO, client.scheme.clone());
    headers.insert(FORWARDED_PORT, client.port.clone());
    match authority {
        Some(authority) => headers.insert(FORWARDED_HOST, authority.clone()),
        None => headers.remove(FORWARDED_HOST),
    };
    if let Some(host) = host.or(authority) {
        headers.insert(header::HOST, host.clone());
    }
    if version >= Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// HTTP/2 sends each cookie by itself; HTTP/1.1 knows only one line of them (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(cookies) = headers.entry(header::COOKIE) else { return };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The protocol that both sides of an HTTP/1.1 connection want to change to, if it may pass.
/// `h2c` may not: what is inside such a tunnel would be routed by nobody.
#[must_use]
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(header::UPGRADE)?;
    let text = wanted.to_str().ok()?;
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    let plain = !text.contains(',') && !text.trim().to_ascii_lowercase().starts_with("h2c");
    (asks && plain).then(|| wanted.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn client() -> Client {
        Client::new("203.0.113.9".parse().unwrap(), 443, true)
    }

    #[test]
    fn headers_of_one_hop_stay_behind() {
        let mut edited = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-more, Content-Length, host"),
            ("x-secret", "1"),
            ("x-more", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("host", "a.test"),
            ("accept", "*/*"),
        ]);
        remove_hops(&mut edited);
        let mut left: Vec<_> = edited.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host"]);
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut edited = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("host", "a.test"),
        ]);
        let authority = HeaderValue::from_static("a.test:8443");
        to_backend(&mut edited, &client(), Some(&authority), None, Version::HTTP_11);
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.test:8443"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "203.0.113.9"),
            ("host", "a.test:8443"),
        ] {
            let all: Vec<_> = edited.get_all(name).iter().collect();
            assert_eq!(all, [value], "{name}");
        }
        assert!(!edited.contains_key(header::FORWARDED));
    }

    #[test]
    fn cookies_of_http2_become_one_line() {
        let mut edited = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        to_backend(&mut edited, &client(), None, None, Version::HTTP_2);
        let all: Vec<_> = edited.get_all(header::COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn upgrades_pass_but_not_to_http2() {
        let asks = |connection: &str, upgrade: &str| {
            super::upgrade(&headers(&[("connection", connection), ("upgrade", upgrade)])).is_some()
        };
        assert!(asks("keep-alive, Upgrade", "websocket"));
        assert!(asks("upgrade", "SPDY/3.1"));
        assert!(!asks("keep-alive", "websocket"));
        assert!(!asks("Upgrade, HTTP2-Settings", "h2c"));
        assert!(!asks("upgrade", "websocket, h2c"));
    }
}
