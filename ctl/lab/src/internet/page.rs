//! The pages of the lab's sites: each tells which site it is and what arrived there.
//!
//! A client that followed an ExternalName still asks for the name it knows, which the `Host` line
//! shows; and behind a node that translates, the site sees the node.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::site_at;

/// How many connections may wait to be taken.
const BACKLOG: u32 = 128;

/// Listens for one family only: each has its own listener.
pub(super) fn listen(at: SocketAddr) -> Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = match at {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => {
                let socket = TcpSocket::new_v6()?;
                nix::sys::socket::setsockopt(
                    &socket,
                    nix::sys::socket::sockopt::Ipv6V6Only,
                    &true,
                )?;
                socket
            }
        };
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        socket.listen(BACKLOG)
    };
    open().with_context(|| format!("serve pages at {at}"))
}

/// Serves pages, for ever.
pub(super) async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, from)) = listener.accept().await else { continue };
        let Ok(here) = stream.local_addr() else { continue };
        tokio::spawn(visit(stream, here.ip(), from.ip()));
    }
}

async fn visit(stream: TcpStream, here: IpAddr, from: IpAddr) {
    let answer = service_fn(move |request: Request<Incoming>| async move {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let text = text(here, from, host.unwrap_or("nobody"), request.uri().path());
        let mut response = Response::new(Full::new(Bytes::from(text)));
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Ok::<_, Infallible>(response)
    });
    // hyper's own limits of headers and time; a client's fault ends its connection alone.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer);
    let _ = connection.await;
}

fn text(here: IpAddr, from: IpAddr, host: &str, path: &str) -> String {
    let (name, here, from) = (site_at(here), here.to_canonical(), from.to_canonical());
    let name = name.map_or("the lab's internet host", |site| site.name);
    format!("This is {name} at {here}, outside the cluster.\n{from} asked host {host} for {path}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_site_who_asked_and_the_host_that_was_asked_for() {
        let here = "203.0.113.10".parse().unwrap();
        let from = "192.168.56.71".parse().unwrap();
        assert_eq!(
            text(here, from, "external-service", "/v1"),
            "This is myservice.test.com at 203.0.113.10, outside the cluster.\n\
             192.168.56.71 asked host external-service for /v1\n"
        );
        let own = text("192.168.56.254".parse().unwrap(), from, "x", "/");
        assert!(own.starts_with("This is the lab's internet host at 192.168.56.254"), "{own}");
    }
}
