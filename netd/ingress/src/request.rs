//! What a request is for, and whether it may pass: checks before routing.
//!
//! Input: a request as hyper read it. Output: its host, and its path, or a refusal. Pure. hyper has
//! refused what is no HTTP (bad lengths, folded headers, bad chunks); here is refused what would
//! be understood differently by the next server. Deliberately not here: editing
//! ([`crate::headers`]).

use std::borrow::Cow;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Uri, Version};

use crate::refusal::Refusal;

/// Longest name of a host in DNS.
const LONGEST_HOST: usize = 253;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The host in lower case, without port and last dot. Empty in HTTP/1.0 without a host.
    pub host: Cow<'a, str>,
    /// The host as the client wrote it, its port included, for those behind the proxy.
    pub authority: Option<&'a str>,
    /// The path.
    pub path: &'a str,
}

/// Reads what a request asks for.
///
/// # Errors
/// The request may not pass.
pub fn asked<B>(request: &Request<B>) -> Result<Asked<'_>, Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    check_method(request)?;
    check_codings(headers)?;
    let authority = authority(request.version(), uri, headers)?;
    let host = host(authority.unwrap_or_default())?;
    let path = match uri.path() {
        "" => "/",
        path => path,
    };
    if !path.starts_with('/') && (path != "*" || request.method() != Method::OPTIONS) {
        return Err(Refusal::BadRequest("its target is no path"));
    }
    if has_dots(path) {
        return Err(Refusal::BadRequest("its path leads up by \"..\""));
    }
    Ok(Asked { host, authority, path })
}

fn check_method<B>(request: &Request<B>) -> Result<(), Refusal> {
    match *request.method() {
        // CONNECT with a protocol opens a WebSocket in HTTP/2 (RFC 8441).
        Method::CONNECT if request.extensions().get::<hyper::ext::Protocol>().is_some() => Ok(()),
        // TRACE shows a client's secrets to its scripts.
        Method::CONNECT | Method::TRACE => Err(Refusal::Method),
        _ => Ok(()),
    }
}

/// A coding other than plain chunks would be lost, because chunks are undone and made anew.
fn check_codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::TransferCoding),
    }
}

/// Host and port as the client wrote them. In HTTP/1.1 a target with a host wins over the header
/// (RFC 9112, 3.2.2); in HTTP/2 the two must be equal (RFC 9113, 8.3.1).
fn authority<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let header = hosts.next().map(HeaderValue::to_str);
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("it has more than one Host"));
    }
    let header = header.transpose().map_err(|_| Refusal::BadRequest("its Host is no name"))?;
    let target = uri.authority().map(http::uri::Authority::as_str);
    match (target, header) {
        (Some(target), Some(header))
            if version >= Version::HTTP_2 && !target.eq_ignore_ascii_case(header) =>
        {
            Err(Refusal::BadRequest("its Host is not its :authority"))
        }
        (None, None) if version >= Version::HTTP_11 => Err(Refusal::BadRequest("it has no Host")),
        _ => Ok(target.or(header)),
    }
}

/// The name without port, brackets and last dot, in lower case.
fn host(authority: &str) -> Result<Cow<'_, str>, Refusal> {
    let bad = || Refusal::BadRequest("its Host is no name");
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']').ok_or_else(bad)?;
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad());
            }
            (inside, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(bad)?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_v6 = authority.starts_with('[');
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if port.len() > 5
        || !port.bytes().all(|b| b.is_ascii_digit())
        || name.len() > LONGEST_HOST
        || !(is_v6 || name.as_bytes().iter().all(allowed))
    {
        return Err(bad());
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

/// Does an element of the path mean "up"? Those behind would undo it, past the rule that matched.
fn has_dots(path: &str) -> bool {
    let plain: Cow<'_, str> = if path.contains('%') {
        let lower = path.to_ascii_lowercase();
        lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\").into()
    } else {
        path.into()
    };
    plain.contains("..")
        && plain.split(['/', '\\']).any(|one| one.split(';').next().unwrap_or_default() == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap()
    }

    fn asked_host(version: Version, uri: &str, hosts: &[&str]) -> Result<(String, String), String> {
        let request = request(version, uri, hosts);
        let asked = asked(&request).map_err(|refusal| refusal.to_string())?;
        Ok((asked.host.into_owned(), asked.path.to_owned()))
    }

    #[test]
    fn a_host_is_found_wherever_it_stands() {
        let found = |host: &str, path: &str| Ok((host.to_owned(), path.to_owned()));
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        assert_eq!(asked_host(v11, "/a?b=/c", &["Shop.Test:8080"]), found("shop.test", "/a"));
        assert_eq!(asked_host(v11, "/", &["shop.test."]), found("shop.test", "/"));
        assert_eq!(asked_host(v11, "/", &["[fd00::1]:80"]), found("fd00::1", "/"));
        assert_eq!(asked_host(v11, "http://a.test/x", &["b.test"]), found("a.test", "/x"));
        assert_eq!(asked_host(v2, "https://a.test/x", &[]), found("a.test", "/x"));
        assert_eq!(asked_host(v2, "https://a.test/x", &["A.test"]), found("a.test", "/x"));
        assert_eq!(asked_host(v10, "/x", &[]), found("", "/x"));
    }

    #[test]
    fn doubtful_hosts_and_paths_are_refused() {
        let (v11, v2) = (Version::HTTP_11, Version::HTTP_2);
        let refused = |version, uri, hosts: &[&str], word: &str| {
            let told = asked_host(version, uri, hosts).unwrap_err();
            assert!(told.contains(word), "{uri} {hosts:?}: {told}");
        };
        refused(v11, "/", &[], "no Host");
        refused(v11, "/", &["a.test", "a.test"], "more than one Host");
        refused(v2, "https://a.test/", &["b.test"], "not its :authority");
        for host in ["a.test/..", "a test", "a@b", "[::1", "[x]", "a.test:80:80", "a:bc", "[::1]x"]
        {
            refused(v11, "/", &[host], "no name");
        }
        for path in ["/a/../b", "/a/%2e%2E/b", "/..", "/a/..;x/b", "/a/.%2e", "/a%2f..%2Fb"] {
            refused(v11, path, &["a.test"], "leads up");
        }
        assert!(asked_host(v11, "/a..b/...", &["a.test"]).is_ok());
    }

    #[test]
    fn methods_and_codings_that_can_not_be_passed_on() {
        for method in [Method::TRACE, Method::CONNECT] {
            let mut request = request(Version::HTTP_11, "/", &["a.test"]);
            *request.method_mut() = method;
            assert!(matches!(asked(&request), Err(Refusal::Method)));
        }
        for (coding, passes) in [("chunked", true), ("Chunked", true), ("gzip, chunked", false)] {
            let mut request = request(Version::HTTP_11, "/", &["a.test"]);
            request.headers_mut().insert(header::TRANSFER_ENCODING, coding.parse().unwrap());
            assert_eq!(asked(&request).is_ok(), passes, "{coding}");
        }
    }
}
