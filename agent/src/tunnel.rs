//! The tunnel: the agent dials the API server and then serves gRPC on that connection.
//!
//! Flow: TCP (and TLS, with the agent's client certificate), an HTTP/1.1 request with
//! `Upgrade: minictl-node`, then HTTP/2 with the roles reversed. So a node needs no open port.
//! Guarantee: a broken tunnel is dialled again, soon at first, at latest every few seconds.
//! Other parts of the node's process may serve on it, too ([`crate::Config::services`]).
//! Deliberately not here: what the calls do ([`service`]).

mod service;
mod target;

use std::{sync::Arc, time::Duration};

use http::{StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube::client::ConfigExt as _;
use proto::v1::node_server::NodeServer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(crate) use service::NodeService;

/// The first pause after a broken tunnel.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a silent peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The step of dialling that failed.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("the API server's URL {url} has no host")]
    Url { url: http::Uri },
    #[error("connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("prepare TLS")]
    TlsConfig(#[source] Box<kube::Error>),
    #[error("{name} is no server name")]
    ServerName {
        name: String,
        #[source]
        source: tokio_rustls::rustls::pki_types::InvalidDnsNameError,
    },
    #[error("speak TLS with {name}")]
    Tls {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("ask for the upgrade")]
    Request(#[source] hyper::Error),
    #[error("write the upgrade's request")]
    BuildRequest(#[source] http::Error),
    #[error("the API server answered {status} instead of upgrading")]
    Refused { status: StatusCode },
    #[error("serve the tunnel")]
    Serve(#[source] hyper::Error),
}

/// Keeps the tunnel up until `stop`. `more` is served on it beside the agent's own service.
pub(crate) async fn run(
    config: kube::Config,
    node: String,
    service: NodeService,
    more: Routes,
    stop: CancellationToken,
) {
    let routes = more.add_service(NodeServer::new(service)).prepare();
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = async {
            let upgraded = dial(&config, &node).await?;
            tracing::debug!("the tunnel to the API server stands");
            pause = FIRST_PAUSE;
            serve(upgraded, routes.clone()).await
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = attempt => outcome,
        };
        match outcome {
            Ok(()) => tracing::debug!("the tunnel has ended"),
            Err(error) => {
                tracing::debug!(error = crate::error_chain(&error), "the tunnel is broken");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial(config: &kube::Config, node: &str) -> Result<Upgraded, TunnelError> {
    let url = &config.cluster_url;
    let host = url.host().ok_or_else(|| TunnelError::Url { url: url.clone() })?;
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let address = format!("{host}:{port}");
    let tcp = TcpStream::connect(&address)
        .await
        .map_err(|source| TunnelError::Connect { address: address.clone(), source })?;
    // Key strokes of an exec are small and must not wait for each other.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "the tunnel batches small writes");
    }
    let io: Box<dyn Stream> =
        if secure { Box::new(secured(config, host, tcp).await?) } else { Box::new(tcp) };
    upgrade(io, &address, node).await
}

async fn secured(
    config: &kube::Config,
    host: &str,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, TunnelError> {
    let mut tls =
        config.rustls_client_config().map_err(|error| TunnelError::TlsConfig(Box::new(error)))?;
    // An upgrade is a matter of HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = config.tls_server_name.as_deref().unwrap_or(host);
    let name = name.trim_matches(['[', ']']).to_owned();
    let server = ServerName::try_from(name.clone())
        .map_err(|source| TunnelError::ServerName { name: name.clone(), source })?;
    TlsConnector::from(Arc::new(tls))
        .connect(server, tcp)
        .await
        .map_err(|source| TunnelError::Tls { name, source })
}

async fn upgrade(io: Box<dyn Stream>, address: &str, node: &str) -> Result<Upgraded, TunnelError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(TunnelError::Request)?;
    // Ends by handing the connection to the upgrade, or with it.
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::get(proto::tunnel_path(node))
        .header(header::HOST, address)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, proto::TUNNEL_PROTOCOL)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(TunnelError::BuildRequest)?;
    let answer = sender.send_request(request).await.map_err(TunnelError::Request)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(TunnelError::Refused { status: answer.status() });
    }
    hyper::upgrade::on(answer).await.map_err(TunnelError::Request)
}

async fn serve(upgraded: Upgraded, routes: Routes) -> Result<(), TunnelError> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(KEEP_ALIVE);
    let service = TowerToHyperService::new(routes);
    builder.serve_connection(upgraded, service).await.map_err(TunnelError::Serve)
}
