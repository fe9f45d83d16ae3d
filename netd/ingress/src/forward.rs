//! One request: where it goes, how it gets there, and what comes back.
//!
//! Input: a request as hyper read it. Output: the backend's answer while it is still being sent,
//! or a page that says why there is none. A request whose connection fails before anything was sent
//! is tried at one other endpoint; one that was sent is never sent again, because it may have been
//! acted on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::backend;
use crate::body::{BodyError, Download, Upload};
use crate::connection::Guest;
use crate::fast::direct::{self, Wish};
use crate::headers;
use crate::limits::{RESPONSE_TIMEOUT, TRIES};
use crate::metrics::Failure;
use crate::pool::{Lease, Peer, Sender};
use crate::refusal::{Refusal, wants_html};
use crate::request::asked;
use crate::table::{Found, Protocol, Route, Target};
use crate::tunnel::Tunnel;
use crate::worker::Worker;

/// Answers a request.
pub(crate) async fn answer(
    worker: Arc<Worker>,
    guest: Arc<Guest>,
    request: Request<Incoming>,
) -> Response<Download> {
    let began = Instant::now();
    let (html, version) = (wants_html(request.headers()), request.version());
    let answer = forward(&worker, &guest, request).await.unwrap_or_else(|refusal| {
        tracing::debug!(word = refusal.word(), %refusal, "a request is not answered by a backend");
        let mut answer = refusal.answer(html).map(|page| Download::Page(Some(page)));
        // What follows a request that is no good is not to be believed either.
        if refusal.is_clients_fault() && version < Version::HTTP_2 {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    });
    worker.counts.answered(answer.status(), began.elapsed());
    answer
}

async fn forward(
    worker: &Arc<Worker>,
    guest: &Arc<Guest>,
    mut request: Request<Incoming>,
) -> Result<Response<Download>, Refusal> {
    let client = &guest.client;
    let route = route(worker, &request)?;
    let authority = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(header::HOST).cloned(),
    };
    if route.options.ssl_redirect && !client.tls {
        return Ok(to_https(authority.as_ref(), request.uri()));
    }
    let tunnel = Tunnel::wanted(&mut request);
    let endpoints = Endpoints::of(worker, &route, tunnel.is_some()).await?;
    let host = endpoints.host(&route);
    if tunnel.is_none() && endpoints.protocol == Protocol::Http {
        let wish = Wish::of(&request, client, authority.as_ref(), host.as_ref());
        if let Some(wish) = wish {
            return direct::answer(worker, &route, &endpoints.addresses, wish).await;
        }
    }
    let version = request.version();
    let keeps_trailers = accepts_trailers(request.headers());
    headers::to_backend(request.headers_mut(), client, authority.as_ref(), host.as_ref(), version);
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    parts.uri = path_only(&parts.uri);
    if endpoints.protocol == Protocol::H2c {
        to_http2(&mut parts, keeps_trailers);
    }
    let (body, progress) = match &tunnel {
        Some(tunnel) => {
            tunnel.ask(&mut parts);
            (Upload::empty(), None)
        }
        None => Upload::new(body),
    };
    let request = Request::from_parts(parts, body);
    let (mut response, lease) = send(worker, &route, &endpoints, request, progress).await?;
    if let Some(tunnel) = tunnel {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(tunnel.open(response, guest.clone()));
        }
    } else if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let cause = "it changed to another protocol, unasked".to_owned();
        let endpoint = lease.map_or(endpoints.addresses[0], |lease| lease.peer.address);
        return Err(Refusal::Broken { route, endpoint, cause });
    }
    headers::remove_hops(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| Download::new(body, lease)))
}

fn route(worker: &Worker, request: &Request<Incoming>) -> Result<Arc<Route>, Refusal> {
    let asked = asked(request)?;
    let table = worker.table.load();
    match table.find(&asked.host, asked.path) {
        Found::Route(route) => Ok(route.clone()),
        Found::NoHost => Err(Refusal::NoHost { host: asked.host.into() }),
        Found::NoPath => Err(Refusal::NoPath { host: asked.host.into(), path: asked.path.into() }),
        Found::NoPathWithoutHost => {
            let (host, path) = (asked.host.into(), asked.path.into());
            Err(Refusal::NoPathWithoutHost { host, path })
        }
    }
}

/// The same place by HTTPS (308: the method and the body stay).
fn to_https(authority: Option<&HeaderValue>, uri: &Uri) -> Response<Download> {
    let authority = authority.and_then(|value| value.to_str().ok()).unwrap_or_default();
    // The port of plain HTTP is not that of TLS.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut response = Response::new(Download::Page(None));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{path}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// gRPC needs to know that trailers get through.
fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// The target without scheme and host, as servers of HTTP/1.1 expect it.
fn path_only(uri: &Uri) -> Uri {
    if uri.authority().is_none() {
        return uri.clone();
    }
    uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from)
}

/// In HTTP/2 the host is a part of the target.
fn to_http2(parts: &mut http::request::Parts, keeps_trailers: bool) {
    parts.version = Version::HTTP_2;
    let host = parts.headers.remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    if keeps_trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Only HTTP/1.1 can change to another protocol.
fn usable(protocol: Protocol, tunnel: bool) -> Protocol {
    if tunnel && protocol == Protocol::H2c { Protocol::Http } else { protocol }
}

/// Those who may answer.
struct Endpoints<'a> {
    addresses: std::borrow::Cow<'a, [SocketAddr]>,
    protocol: Protocol,
    name: Option<Arc<str>>,
}

impl<'a> Endpoints<'a> {
    /// Those of a route.
    async fn of(worker: &Worker, route: &'a Arc<Route>, tunnel: bool) -> Result<Self, Refusal> {
        match &route.target {
            Target::Endpoints(protocol, addresses) => Ok(Self {
                addresses: (&**addresses).into(),
                protocol: usable(*protocol, tunnel),
                name: None,
            }),
            Target::External(protocol, name, port) => {
                // Rare, and large: in a box of its own it does not make every request's state larger.
                let addresses = Box::pin(resolve(worker, route, name)).await?;
                let at = |ip: &IpAddr| SocketAddr::new(*ip, *port);
                Ok(Self {
                    addresses: addresses.iter().map(at).collect(),
                    protocol: usable(*protocol, tunnel),
                    name: Some(name.clone()),
                })
            }
            Target::Nobody(why) => Err(Refusal::Nobody { route: route.clone(), why: why.clone() }),
        }
    }

    /// The Host that a backend sees, where it is not the client's: by annotation, and for a name
    /// outside the cluster that name, because it is the one the other side knows itself by.
    fn host(&self, route: &Route) -> Option<HeaderValue> {
        let host = route.options.upstream_host.as_ref().or(self.name.as_ref())?;
        HeaderValue::from_str(host).ok()
    }
}

async fn resolve(
    worker: &Worker,
    route: &Arc<Route>,
    name: &Arc<str>,
) -> Result<Arc<[IpAddr]>, Refusal> {
    if let Some(known) = worker.pool.resolved(name) {
        return Ok(known);
    }
    let addresses = worker.names.resolve(name).await.map_err(|error| Refusal::Unresolved {
        route: route.clone(),
        name: name.clone(),
        cause: error.to_string(),
    })?;
    worker.pool.remember(name.clone(), addresses.clone());
    Ok(addresses)
}

/// Sends a request to an endpoint, or to another one if the first can't be reached.
async fn send(
    worker: &Arc<Worker>,
    route: &Arc<Route>,
    endpoints: &Endpoints<'_>,
    mut request: Request<Upload>,
    progress: Option<Arc<AtomicU64>>,
) -> Result<(Response<Incoming>, Option<Lease>), Refusal> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut causes: Vec<(SocketAddr, String)> = Vec::new();
    let patience = route.options.response_timeout.unwrap_or(RESPONSE_TIMEOUT);
    while tried.len() < TRIES {
        let Some(address) = worker.pool.choose(&endpoints.addresses, &tried) else { break };
        let (protocol, name) = (endpoints.protocol, endpoints.name.clone());
        let peer = Peer { address, protocol, name };
        loop {
            let (sender, is_new) = match worker.pool.take(&peer) {
                Some(sender) => (sender, false),
                None => match Box::pin(backend::connect(&peer, &worker.tls)).await {
                    Ok(sender) => (sender, true),
                    Err(error) => {
                        worker.counts.failed(Failure::Connect);
                        worker.pool.shun(address);
                        causes.push((address, error.to_string()));
                        break;
                    }
                },
            };
            let waiting = try_send(worker, peer.clone(), sender, request);
            match patiently(patience, progress.as_deref(), waiting).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(Unsent::Again(unsent))) if !is_new => request = *unsent,
                Some(Err(unsent)) => {
                    return Err(broken(worker, route, address, unsent));
                }
                None => {
                    worker.counts.failed(Failure::Timeout);
                    let route = route.clone();
                    return Err(Refusal::Late { route, endpoint: address, patience });
                }
            }
        }
        tried.push(address);
    }
    Err(Refusal::Unreachable { route: route.clone(), tried: causes })
}

/// A request without an answer.
enum Unsent {
    /// Nothing of it was sent: the connection had ended meanwhile.
    Again(Box<Request<Upload>>),
    /// It may have been acted on.
    Broken(hyper::Error),
}

async fn try_send(
    worker: &Arc<Worker>,
    peer: Peer,
    sender: Sender,
    request: Request<Upload>,
) -> Result<(Response<Incoming>, Option<Lease>), Unsent> {
    let (answer, lease) = match sender {
        Sender::Http1(mut sender) => {
            let answer = sender.try_send_request(request).await;
            (answer, Some(Lease { pool: worker.pool.clone(), peer, sender }))
        }
        Sender::Http2(mut sender) => {
            worker.pool.share(peer, sender.clone());
            (sender.try_send_request(request).await, None)
        }
    };
    match answer {
        Ok(response) => Ok((response, lease)),
        Err(mut error) => Err(match error.take_message() {
            Some(request) => Unsent::Again(Box::new(request)),
            None => Unsent::Broken(error.into_error()),
        }),
    }
}

fn broken(worker: &Worker, route: &Arc<Route>, endpoint: SocketAddr, unsent: Unsent) -> Refusal {
    let cause = match unsent {
        Unsent::Again(_) => "it closed the connection at once".to_owned(),
        Unsent::Broken(error) => {
            if let Some(BodyError::Stalled(_)) = body_error(&error) {
                return Refusal::SlowBody;
            }
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    };
    worker.counts.failed(Failure::Broken);
    Refusal::Broken { route: route.clone(), endpoint, cause }
}

/// Was it the client's body that broke off?
fn body_error(error: &hyper::Error) -> Option<&BodyError> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref() {
            return Some(body);
        }
        source = cause.source();
    }
    None
}

/// Waits for an answer; while the request's body is still being sent, the clock starts again with
/// each part of it.
async fn patiently<T>(
    patience: Duration,
    progress: Option<&AtomicU64>,
    waiting: impl Future<Output = T>,
) -> Option<T> {
    let mut waiting = std::pin::pin!(waiting);
    let count = || progress.map(|progress| progress.load(Ordering::Relaxed));
    loop {
        let before = count();
        match tokio::time::timeout(patience, waiting.as_mut()).await {
            Ok(answer) => return Some(answer),
            Err(_) if count() != before => {}
            Err(_) => return None,
        }
    }
}
