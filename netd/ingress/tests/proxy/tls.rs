//! TLS: certificates by name and their renewal, HTTP/2 by agreement, backends that speak TLS, and
//! the same by tools that everybody has.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::objects::TlsSecret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rig::{Rig, Rules, Server, get, soon, text};

fn secret(host: &str) -> TlsSecret {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    TlsSecret { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Connects as somebody who trusts this Secret's certificate and no other.
async fn connect(
    address: SocketAddr,
    host: &str,
    trusted: &TlsSecret,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&trusted.chain).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn names_get_their_certificates_and_one_bad_secret_harms_nobody() {
    let web = Server::telling("web").await;
    let (exact, wild) = (secret("a.test"), secret("*.b.test"));
    let bad = TlsSecret { chain: exact.chain.clone(), key: wild.key.clone() };
    let rules = || {
        Rules::default()
            .secured("a.test", "exact", exact.clone())
            .lead("a.test", "/", "web", &[web.address])
            .secured("*.b.test", "wild", wild.clone())
            .lead("*.b.test", "/", "web", &[web.address])
            .secured("c.test", "bad", bad.clone())
            .lead("c.test", "/", "web", &[web.address])
    };
    let mut rig = Rig::start(rules());
    let told = rig.change(rules());
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].reason, &*told[0].ingress.name), ("BadTLSSecret", "rule-2"));
    for (host, trusted, works) in [
        ("a.test", &exact, true),
        ("x.b.test", &wild, true),
        ("c.test", &exact, false),
        ("other.test", &exact, false),
    ] {
        let connected = connect(rig.tls, host, trusted, &[]).await;
        assert_eq!(connected.is_ok(), works, "{host}: {connected:?}");
    }
    // Plain HTTP goes on for all of them.
    assert_eq!(get(rig.plain, "c.test", "/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_renewed_certificate_serves_the_next_handshake_and_ends_no_connection() {
    let web = Server::telling("web").await;
    let (old, new) = (secret("a.test"), secret("a.test"));
    let rules = |content: &TlsSecret| {
        Rules::default().secured("a.test", "tls", content.clone()).lead(
            "a.test",
            "/",
            "web",
            &[web.address],
        )
    };
    let mut rig = Rig::start(rules(&old));
    let stream = connect(rig.tls, "a.test", &old, &[b"http/1.1"]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    rig.change(rules(&new));
    assert!(connect(rig.tls, "a.test", &old, &[]).await.is_err());
    assert!(connect(rig.tls, "a.test", &new, &[]).await.is_ok());
    let request = Request::get("/").header("host", "a.test").body(Empty::<Bytes>::new()).unwrap();
    let answer = text(sender.send_request(request).await.unwrap()).await;
    assert!(answer.body().contains("x-forwarded-proto: https\n"), "{}", answer.body());
}

#[tokio::test]
async fn http2_is_spoken_where_both_agree() {
    let web = Server::telling("web").await;
    let content = secret("a.test");
    let rules = Rules::default().secured("a.test", "tls", content.clone()).lead(
        "a.test",
        "/",
        "web",
        &[web.address],
    );
    let rig = Rig::start(rules);
    for (offered, agreed) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = connect(rig.tls, "a.test", &content, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
    let stream = connect(rig.tls, "a.test", &content, &[b"h2"]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://a.test/").body(Empty::<Bytes>::new()).unwrap();
    let answer = text(sender.send_request(request).await.unwrap()).await;
    assert!(answer.body().starts_with("web"), "{}", answer.body());
}

#[tokio::test]
async fn a_backend_that_speaks_tls_is_spoken_to_by_tls() {
    let content = secret("pod.test");
    let certificate = CertificateDer::from_pem_slice(&content.chain).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&content.key).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let service = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(crate::rig::page("secret page"))
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let rules = Rules::default().lead("", "/", "web", &[address]).speaking("web", "https");
    let rig = Rig::start(rules);
    assert_eq!(get(rig.plain, "a", "/").await.body(), "secret page");
    serving.abort();
}

/// Runs a tool; `None` if the machine lacks it, which CI may not.
async fn tool(program: &str, arguments: &[&str]) -> Option<Output> {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match soon(program, run).await {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
            println!("SKIPPED: {program} is not here: {error}");
            None
        }
    }
}

#[tokio::test]
async fn curl_and_openssl_find_what_they_look_for() {
    let web = Server::telling("web").await;
    let content = secret("a.test");
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &content.chain).unwrap();
    let authority = authority.to_str().unwrap();
    let rules = Rules::default().secured("a.test", "tls", content).lead(
        "a.test",
        "/",
        "web",
        &[web.address],
    );
    let rig = Rig::start(rules);
    let (plain, tls) = (rig.plain.port(), rig.tls.port());
    let at = |port: u16| format!("a.test:{port}:127.0.0.1");
    let version =
        ["-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    for (flag, scheme, port, expected) in [
        ("--http1.1", "http", plain, "1.1 200"),
        ("--http1.0", "http", plain, "1 200"),
        ("--http2-prior-knowledge", "http", plain, "2 200"),
        // The offer to change to HTTP/2 is not taken up: HTTP/1.1 goes on.
        ("--http2", "http", plain, "1.1 200"),
        ("--http2", "https", tls, "2 200"),
        ("--http1.1", "https", tls, "1.1 200"),
    ] {
        let (resolve, url) = (at(port), format!("{scheme}://a.test:{port}/"));
        let mut arguments = version.to_vec();
        arguments.extend([flag, "--resolve", &resolve, "--cacert", authority, &url]);
        let Some(output) = tool("curl", &arguments).await else { return };
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        let answer = String::from_utf8_lossy(out);
        assert_eq!(answer, expected, "curl {flag} {url}: {err}");
    }
    let connect = format!("127.0.0.1:{tls}");
    for (name, verified) in [("a.test", true), ("b.test", false)] {
        let arguments = [
            "s_client",
            "-connect",
            &connect,
            "-servername",
            name,
            "-CAfile",
            authority,
            "-verify_hostname",
            "a.test",
            "-verify_return_error",
            "-brief",
        ];
        let Some(output) = tool("openssl", &arguments).await else { return };
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(err.contains("Verification: OK"), verified, "{name}: {err}");
    }
}
