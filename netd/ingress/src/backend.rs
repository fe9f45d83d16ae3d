//! New connections to backends: TCP, TLS where the backend speaks it, and HTTP on top.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::Upload;
use crate::connection::prepare;
use crate::limits::{BUFFER_SIZE, CONNECT_TIMEOUT, HEAD_SIZE, WINDOW};
use crate::pool::{Peer, Sender};
use crate::table::Protocol;

/// How often a quiet connection with requests on it is checked for life.
const PING: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody answered in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection was refused, or TLS failed.
    #[error("{0}")]
    Connect(io::Error),
    /// HTTP did not begin.
    #[error("{0}")]
    Handshake(hyper::Error),
}

/// The settings of TLS to backends: a pod's certificate has no name that could be checked.
#[must_use]
pub(crate) fn tls(provider: &Arc<CryptoProvider>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring knows the versions of TLS that rustls does");
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Connects.
///
/// # Errors
/// The endpoint can't be reached, or does not speak what its Service says.
pub(crate) async fn connect(peer: &Peer, tls: &Arc<ClientConfig>) -> Result<Sender, ConnectError> {
    let connecting = async {
        let stream = TcpStream::connect(peer.address).await.map_err(ConnectError::Connect)?;
        prepare(&stream).map_err(ConnectError::Connect)?;
        match peer.protocol {
            Protocol::Http => http1(stream).await,
            Protocol::H2c => http2(stream).await,
            Protocol::Https => {
                let name =
                    peer.name.as_deref().and_then(|n| ServerName::try_from(n.to_owned()).ok());
                let name = name.unwrap_or_else(|| ServerName::from(peer.address.ip()));
                let stream = TlsConnector::from(tls.clone())
                    .connect(name, stream)
                    .await
                    .map_err(ConnectError::Connect)?;
                http1(stream).await
            }
        }
    };
    let timeout = tokio::time::timeout(CONNECT_TIMEOUT, connecting);
    timeout.await.unwrap_or(Err(ConnectError::Timeout(CONNECT_TIMEOUT)))
}

async fn http1<S>(stream: S) -> Result<Sender, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_SIZE)
        .max_header_size(HEAD_SIZE)
        .handshake::<_, Upload>(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Handshake)?;
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::Http1(sender))
}

async fn http2(stream: TcpStream) -> Result<Sender, ConnectError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .keep_alive_interval(PING)
        .handshake::<_, Upload>(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Handshake)?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

/// Who knows the addresses of names outside the cluster.
#[derive(Clone)]
pub struct Names(Arc<Lookup>);

/// A question, and the answer when it comes.
type Lookup = dyn Fn(Arc<str>) -> Answering + Send + Sync;
type Answering = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Asks by this function.
    pub fn by<A>(lookup: impl Fn(Arc<str>) -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(lookup(name))))
    }

    /// Asks as every program of the machine does.
    #[must_use]
    pub fn of_the_machine() -> Self {
        Self::by(async |name| {
            let found = tokio::net::lookup_host((&*name, 0)).await?;
            Ok(found.map(|address: SocketAddr| address.ip()).collect())
        })
    }

    /// The addresses of a name. Loopback and link-local ones are left out: they would be the node
    /// itself, which nobody outside may ask.
    ///
    /// # Errors
    /// The name has no address, or none that may be asked.
    pub(crate) async fn resolve(&self, name: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        let looked_up = tokio::time::timeout(CONNECT_TIMEOUT, (self.0)(name.clone()));
        let found = looked_up.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if found.is_empty() {
            return Err(io::Error::other("nobody knows it"));
        }
        let addresses: Vec<IpAddr> = found.into_iter().filter(may_be_asked).collect();
        if addresses.is_empty() {
            return Err(io::Error::other("only addresses of the node itself"));
        }
        Ok(addresses.into())
    }
}

fn may_be_asked(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_unspecified() || v4.is_link_local() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

/// Takes every certificate, but checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_not_lead_to_the_node_itself() {
        for bad in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1"]
        {
            assert!(!may_be_asked(&bad.parse().unwrap()), "{bad}");
        }
        for good in ["192.168.56.1", "203.0.113.5", "fd00::1"] {
            assert!(may_be_asked(&good.parse().unwrap()), "{good}");
        }
    }
}
