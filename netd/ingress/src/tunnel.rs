//! Connections that change to another protocol: WebSocket, and whatever else both ends agree on.
//!
//! A client asks for it by `Upgrade` in HTTP/1.1 or by an extended CONNECT in HTTP/2 (RFC 8441);
//! backends are always asked in HTTP/1.1. After that bytes pass unseen, both ways. Idle tunnels stay
//! open: the kernel's keep-alive finds out which ends are dead.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::Download;
use crate::connection::Guest;
use crate::headers;

/// A client's wish.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// What to change to.
    protocol: HeaderValue,
    /// The client's side, once it was told.
    client: OnUpgrade,
    /// It asked by CONNECT.
    connect: bool,
}

impl Tunnel {
    /// Does the client want a tunnel? To be asked before the headers are edited.
    pub(crate) fn wanted(request: &mut Request<Incoming>) -> Option<Self> {
        if request.method() == Method::CONNECT {
            let protocol = request.extensions().get::<Protocol>()?;
            let protocol = HeaderValue::from_str(protocol.as_str()).ok()?;
            let client = hyper::upgrade::on(request);
            return Some(Self { protocol, client, connect: true });
        }
        let protocol = headers::upgrade(request.headers())?;
        let client = hyper::upgrade::on(request);
        Some(Self { protocol, client, connect: false })
    }

    /// Asks the backend for it.
    pub(crate) fn ask(&self, parts: &mut http::request::Parts) {
        if self.connect {
            parts.method = Method::GET;
            parts.extensions.remove::<Protocol>();
            // HTTP/2 needs no key, HTTP/1.1 does (RFC 6455, 4.1).
            let key = STANDARD.encode(rand::random::<[u8; 16]>());
            if let Ok(key) = HeaderValue::try_from(key) {
                parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
            }
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// The backend agreed: tells the client, and joins the two ends. The guest counts among the
    /// connections until they end.
    pub(crate) fn open(
        self,
        mut response: Response<Incoming>,
        guest: Arc<Guest>,
    ) -> Response<Download> {
        let backend = hyper::upgrade::on(&mut response);
        let client = self.client;
        tokio::spawn(async move {
            let _stay = guest.stay();
            let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // An end that breaks off ends the other one, too; that is all there is to do.
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                tracing::trace!(%error, "a tunnel broke off");
            }
        });
        let mut response = response.map(|_| Download::Page(None));
        if self.connect {
            *response.status_mut() = StatusCode::OK;
            headers::remove_hops(response.headers_mut());
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        response
    }
}
