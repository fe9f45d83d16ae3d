//! The agents' tunnels: an agent dials in and offers its services on the connection, on which the
//! server is then the gRPC client. So a node needs no open port.
//!
//! Invariant: a node has at most one tunnel, the latest; a tunnel leaves the table when its
//! connection ends.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::upgrade::{OnUpgrade, Upgraded};
use proto::v1::node_client::NodeClient;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

use crate::api::Api;
use crate::status::ApiError;

/// How soon a node that vanished without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The open tunnels by node.
#[derive(Default)]
pub(crate) struct Tunnels(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<String, (u64, Channel)>,
}

impl Tunnels {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of the node's agent.
    pub(crate) fn client(&self, node: &str) -> Option<NodeClient<Channel>> {
        self.channel(node).map(NodeClient::new)
    }

    /// The way to all that the node offers.
    pub(crate) fn channel(&self, node: &str) -> Option<Channel> {
        self.lock().open.get(node).map(|(_, channel)| channel.clone())
    }

    /// How many nodes are connected.
    pub(crate) fn count(&self) -> usize {
        self.lock().open.len()
    }

    fn insert(&self, node: &str, channel: Channel) -> u64 {
        let mut table = self.lock();
        table.next += 1;
        let id = table.next;
        table.open.insert(node.to_owned(), (id, channel));
        id
    }

    fn remove(&self, node: &str, id: u64) {
        let mut table = self.lock();
        if table.open.get(node).is_some_and(|(present, _)| *present == id) {
            table.open.remove(node);
        }
    }
}

/// Takes an agent's offer.
///
/// # Errors
/// 400 when the request does not ask for the upgrade.
pub(crate) fn open(api: &Arc<Api>, parts: &mut Parts, node: &str) -> Result<Response, ApiError> {
    let asked = parts.headers.get(header::UPGRADE).and_then(|v| v.to_str().ok());
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let Some(upgrade) = upgrade.filter(|_| asked == Some(proto::TUNNEL_PROTOCOL)) else {
        return Err(ApiError::BadRequest(format!(
            "an HTTP/1.1 upgrade to {} is expected here",
            proto::TUNNEL_PROTOCOL
        )));
    };
    let (api, node) = (api.clone(), node.to_owned());
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => keep(&api.tunnels, &node, upgraded).await,
            Err(error) => tracing::warn!(node, %error, "upgrade a tunnel"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(proto::TUNNEL_PROTOCOL));
    Ok(response)
}

/// Holds a tunnel in the table as long as its connection lives.
async fn keep(tunnels: &Tunnels, node: &str, upgraded: Upgraded) {
    let (alive, ended) = oneshot::channel();
    let mut connection = Some(Guarded { upgraded, _alive: alive });
    let connector = tower::service_fn(move |_| {
        // A tunnel is one connection; when it is gone, the agent dials again.
        let connection = connection.take().ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::NotConnected, "the tunnel is closed")
        });
        std::future::ready(connection)
    });
    let endpoint = Endpoint::from_static("http://node")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    match endpoint.connect_with_connector(connector).await {
        Ok(channel) => {
            let id = tunnels.insert(node, channel);
            tracing::info!(node, "node connected");
            // Ends with an error when the connection is dropped, which is what it is for.
            let _ = ended.await;
            tunnels.remove(node, id);
            tracing::info!(node, "node disconnected");
        }
        Err(error) => tracing::warn!(node, %error, "open a tunnel"),
    }
}

/// The connection, and a sign of its life.
struct Guarded {
    upgraded: Upgraded,
    _alive: oneshot::Sender<()>,
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.upgraded).poll_read(cx, buf)
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.upgraded).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.upgraded).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.upgraded).poll_shutdown(cx)
    }
}
