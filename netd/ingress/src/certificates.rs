//! Certificates by the name that a client asks for (SNI).
//!
//! Input: Secrets and which host wants which. Output: a resolver for rustls whose content can be
//! exchanged between two handshakes. An exact name comes before a wildcard; who asks for a name
//! that has none, or for no name, gets a certificate that the proxy made for itself. One bad Secret
//! is left out and told; the others are not affected.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::objects::{Cluster, ObjectName, TlsSecret};
use crate::routes::{Finding, Routes};

/// The name in the certificate for those who ask for none that is known.
const FALLBACK_NAME: &str = "minictl-ingress.invalid";

/// Why a Secret gives no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain is no PEM.
    #[error("read tls.crt")]
    Chain(#[source] pem::Error),
    /// There is none in it.
    #[error("tls.crt has no certificate")]
    Empty,
    /// The key is no PEM.
    #[error("read tls.key")]
    Key(#[source] pem::Error),
    /// A key of a kind that TLS does not know, or a certificate that is none.
    #[error("use tls.key")]
    Unusable(#[source] rustls::Error),
    /// The key belongs to another certificate.
    #[error("tls.key does not belong to tls.crt")]
    Mismatch(#[source] rustls::Error),
    /// The proxy could not make its own.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
}

/// Reads a Secret.
///
/// # Errors
/// It has no certificate, or no key that fits.
pub fn certified_key(secret: &TlsSecret) -> Result<CertifiedKey, CertificateError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&secret.chain)
        .collect::<Result<_, _>>()
        .map_err(CertificateError::Chain)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(&secret.key).map_err(CertificateError::Key)?;
    let key = any_supported_type(&key).map_err(CertificateError::Unusable)?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(CertificateError::Mismatch)?;
    Ok(key)
}

fn fallback() -> Result<CertifiedKey, CertificateError> {
    let key = rcgen::KeyPair::generate().map_err(CertificateError::Make)?;
    let params = rcgen::CertificateParams::new(vec![FALLBACK_NAME.to_owned()]);
    let certificate =
        params.and_then(|params| params.self_signed(&key)).map_err(CertificateError::Make)?;
    let signer = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|_| CertificateError::Mismatch(rustls::Error::General("key".to_owned())))?;
    let signer = any_supported_type(&signer).map_err(CertificateError::Unusable)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}

/// Certificates by host.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For `*.` and this.
    wildcards: HashMap<Box<str>, Arc<CertifiedKey>>,
}

/// The resolver.
#[derive(Debug)]
pub struct Certificates {
    hosts: ArcSwap<Hosts>,
    fallback: Arc<CertifiedKey>,
}

impl Certificates {
    /// A resolver that knows no host yet.
    ///
    /// # Errors
    /// The fallback can't be made.
    pub fn new() -> Result<Self, CertificateError> {
        Ok(Self { hosts: ArcSwap::default(), fallback: Arc::new(fallback()?) })
    }

    fn find(&self, name: &str) -> Arc<CertifiedKey> {
        let hosts = self.hosts.load();
        let wildcard = || name.split_once('.').and_then(|(_, rest)| hosts.wildcards.get(rest));
        hosts.exact.get(name).or_else(wildcard).unwrap_or(&self.fallback).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        Some(self.find(name.strip_suffix('.').unwrap_or(&name)))
    }
}

/// A Secret that was read, and what came of it.
type ReadSecret = (Arc<TlsSecret>, Result<Arc<CertifiedKey>, String>);

/// Secrets that were read already: endpoints change more often than keys.
#[derive(Debug, Default)]
pub struct Keyring {
    known: BTreeMap<ObjectName, ReadSecret>,
    /// When certificates in use begin to be valid, and cease to be.
    moments: Vec<Timestamp>,
    /// When they were looked at.
    judged: Timestamp,
}

impl Keyring {
    /// Gives the resolver what the cluster wants now; the next handshake uses it.
    pub fn follow(
        &mut self,
        certificates: &Certificates,
        routes: &Routes,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Vec<Finding> {
        let mut hosts = Hosts::default();
        let mut findings = Vec::new();
        let mut used = BTreeMap::new();
        for (host, (secret, ingress)) in &routes.secrets {
            let read = match cluster.secrets.get(secret) {
                None => Err(format!("Secret {secret} of type kubernetes.io/tls does not exist")),
                Some(content) => self.read(secret, content, &mut used),
            };
            match read {
                Ok(key) => {
                    if let Some(message) = expiry(&key, secret, now) {
                        let (ingress, reason) = (ingress.clone(), "TLSCertificateExpired");
                        findings.push(Finding { ingress, reason, message });
                    }
                    match host.strip_prefix("*.") {
                        Some(rest) => hosts.wildcards.insert(rest.into(), key),
                        None => hosts.exact.insert(host.clone(), key),
                    };
                }
                Err(message) => {
                    let (ingress, reason) = (ingress.clone(), "BadTLSSecret");
                    findings.push(Finding { ingress, reason, message });
                }
            }
        }
        self.known = used;
        let keys = hosts.exact.values().chain(hosts.wildcards.values());
        self.moments =
            keys.filter_map(|key| validity(key)).flat_map(|(begin, end)| [begin, end]).collect();
        self.judged = now;
        certificates.hosts.store(Arc::new(hosts));
        findings.sort();
        findings.dedup();
        findings
    }

    /// Has a certificate become valid, or expired, since they were looked at? Nobody tells: nothing
    /// but the clock changed.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.moments.iter().any(|moment| (self.judged <= *moment) != (now <= *moment))
    }

    fn read(
        &self,
        name: &ObjectName,
        content: &Arc<TlsSecret>,
        used: &mut BTreeMap<ObjectName, ReadSecret>,
    ) -> Result<Arc<CertifiedKey>, String> {
        let read = used.entry(name.clone()).or_insert_with(|| {
            if let Some(known) = self.known.get(name).filter(|(old, _)| old == content) {
                return known.clone();
            }
            let key = certified_key(content).map(Arc::new).map_err(|error| {
                let mut message = format!("Secret {name} can't be used: {error}");
                if let Some(cause) = std::error::Error::source(&error) {
                    message = format!("{message}: {cause}");
                }
                message
            });
            (content.clone(), key)
        });
        read.1.clone()
    }
}

/// A certificate out of its time is served all the same: a browser's warning says more than a
/// failed connection.
fn expiry(key: &CertifiedKey, secret: &ObjectName, now: Timestamp) -> Option<String> {
    let (begin, end) = validity(key)?;
    if now > end {
        return Some(format!("the certificate in Secret {secret} expired at {end}"));
    }
    (now < begin).then(|| format!("the certificate in Secret {secret} is valid from {begin} on"))
}

/// The first and the last moment of a certificate.
fn validity(key: &CertifiedKey) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    let validity = certificate.validity();
    let time = |seconds: i64| Timestamp::from_second(seconds).ok();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests;
