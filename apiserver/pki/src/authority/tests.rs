//! Tests of the authority against independent readers of certificates: webpki and x509-parser.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[test]
fn a_second_load_is_the_same_authority_and_its_leaves_verify() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load_or_create(dir.path()).unwrap();
    let second = Authority::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());

    let leaf = second.client("admin", &["system:masters"]).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(&first), provider()).build().unwrap();
    verifier.verify_client_cert(&der(&leaf.cert_pem), &[], UnixTime::now()).unwrap();

    let bytes = der(&leaf.cert_pem);
    let (_, cert) = X509Certificate::from_der(&bytes).unwrap();
    let subject = cert.subject();
    assert_eq!(subject.iter_common_name().next().unwrap().as_str().unwrap(), "admin");
    assert_eq!(subject.iter_organization().next().unwrap().as_str().unwrap(), "system:masters");
}

#[test]
fn a_server_certificate_holds_for_its_names_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let names = ["kubernetes".to_owned(), "192.168.56.70".to_owned()];
    let leaf = authority.server(&names).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&authority), provider()).build().unwrap();
    let holds = |name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(&der(&leaf.cert_pem), &[], &name, &[], UnixTime::now()).is_ok()
    };
    assert!(holds("kubernetes"));
    assert!(holds("192.168.56.70"));
    assert!(!holds("192.168.56.71"));
    PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
}

#[test]
fn certificates_start_before_now_and_end_after_their_life() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let leaf = authority.client("u", &[]).unwrap();
    let now = jiff::Timestamp::now().as_second();
    for (pem, days) in [(authority.ca_pem(), 3650), (leaf.cert_pem.as_str(), 365)] {
        let bytes = der(pem);
        let (_, cert) = X509Certificate::from_der(&bytes).unwrap();
        let (start, end) =
            (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
        assert!((now - 310..=now - 290).contains(&start), "starts {} s ago", now - start);
        assert!((end - now - days * 86_400).abs() < 10, "ends in {} s", end - now);
    }
}

#[test]
fn the_private_key_is_readable_by_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    Authority::load_or_create(dir.path()).unwrap();
    for file in [CERT_FILE, KEY_FILE] {
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn one_file_without_the_other_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Authority::load_or_create(dir.path()).unwrap();
    fs::remove_file(dir.path().join(CERT_FILE)).unwrap();
    let refused = Authority::load_or_create(dir.path());
    assert!(matches!(refused, Err(PkiError::Incomplete { .. })));
    assert!(!dir.path().join(CERT_FILE).exists());
}

#[test]
fn a_damaged_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Authority::load_or_create(dir.path()).unwrap();
    fs::write(dir.path().join(CERT_FILE), "not a certificate").unwrap();
    match Authority::load_or_create(dir.path()) {
        Err(PkiError::Malformed(path, _)) => assert_eq!(path, dir.path().join(CERT_FILE)),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_second_organization_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let refused = authority.client("x", &["a", "b"]);
    assert!(matches!(refused, Err(PkiError::Organizations(_, 2))), "{refused:?}");
}
