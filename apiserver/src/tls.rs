//! Connections: TLS, the client's certificate, HTTP/1.1 and HTTP/2 with upgrades.
//!
//! A client without a certificate, or with one of somebody else's authority, gets through the
//! handshake and is told 401 by the pipeline, as upstream does it: a browser or curl sees why.
//! Invariant: the handshake proves that the client holds its certificate's key; whether the
//! certificate is the cluster's is checked right after it.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Timer;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::authn::{self, User};

/// How long a client may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long open requests may go on after the server was told to stop.
const FAREWELL: Duration = Duration::from_millis(500);
/// How often an idle HTTP/2 client is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long an HTTP/1.1 connection may wait for a request. Clients keep idle connections for 90 s
/// (Go's `http.Transport`, hyper), and must be the first to close them: a request that meets the
/// server's close on its way is answered by a reset.
const IDLE: Duration = Duration::from_secs(180);

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM text does not hold what it should.
    #[error("read the {0} as PEM")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// The certificates do not fit together.
    #[error("use the server's certificate")]
    Certificate(#[from] rustls::Error),
    /// The authority cannot be used to verify clients.
    #[error("verify clients by the cluster's authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a handshake needs.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    authority: Arc<dyn ClientCertVerifier>,
}

impl Acceptor {
    pub(crate) fn new(identity: &pki::ServerIdentity) -> Result<Self, TlsError> {
        let certificate = |what, pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Pem(what, e))
        };
        let ca = certificate("authority's certificate", &identity.ca_pem)?;
        let cert = certificate("server's certificate", &identity.cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
            .map_err(|e| TlsError::Pem("server's key", e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let authority =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(AnyClient(authority.clone())))
            .with_single_cert(vec![cert], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), authority })
    }

    /// The user of a connection; `None` without a certificate of the cluster.
    fn user(&self, session: &rustls::ServerConnection) -> Option<User> {
        let (first, rest) = session.peer_certificates()?.split_first()?;
        self.authority.verify_client_cert(first, rest, UnixTime::now()).ok()?;
        authn::user_of(first)
    }
}

/// Lets every client through whose signature fits its certificate, and those without one.
#[derive(Debug)]
struct AnyClient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Accepts and serves connections until `stop` is cancelled.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    acceptor: Acceptor,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut open = Vec::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        open.push(tokio::net::TcpListener::from_std(listener)?);
    }
    let tracker = TaskTracker::new();
    for listener in open {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tracker.spawn(accept(listener, acceptor, router, stop.clone(), tracker.clone()));
    }
    tracker.close();
    stop.cancelled().await;
    if tokio::time::timeout(FAREWELL, tracker.wait()).await.is_err() {
        tracing::debug!(connections = tracker.len(), "connections cut at the end");
    }
    Ok(())
}

/// Accepts the connections of one listener.
async fn accept(
    listener: tokio::net::TcpListener,
    acceptor: Acceptor,
    router: Router,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, _)) => {
                connections.spawn(connection(
                    socket,
                    acceptor.clone(),
                    router.clone(),
                    stop.clone(),
                ));
            }
            // Out of descriptors, or the client is gone already: neither lasts.
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    socket: TcpStream,
    acceptor: Acceptor,
    router: Router,
    stop: CancellationToken,
) {
    // Small answers must not wait for the acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.tls.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let user = acceptor.user(stream.get_ref().1);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(user) = &user {
            request.extensions_mut().insert(user.clone());
        }
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let builder = protocols(TokioTimer::new());
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // Watches do not end by themselves.
            match tokio::time::timeout(FAREWELL / 2, serving).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// HTTP/1.1 and HTTP/2 as this server speaks them.
fn protocols<T: Timer + Clone + Send + Sync + 'static>(timer: T) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // To hyper, the wait for the next request is part of reading its header.
    builder.http1().timer(timer.clone()).header_read_timeout(IDLE);
    builder
        .http2()
        .timer(timer)
        .keep_alive_interval(KEEP_ALIVE)
        // Many watches share one connection: upstream's 100 streams would be few.
        .max_concurrent_streams(1000);
    builder
}

#[cfg(test)]
mod tests;
