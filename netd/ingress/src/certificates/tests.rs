//! Which certificate a name gets, and what a bad Secret does: nothing to the others.

use super::*;

fn secret(host: &str) -> TlsSecret {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    signed(params, &key)
}

fn signed(params: rcgen::CertificateParams, key: &rcgen::KeyPair) -> TlsSecret {
    let certificate = params.self_signed(key).unwrap();
    TlsSecret { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
}

fn named(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn routes(hosts: &[(&str, &str)]) -> Routes {
    let wanted = |(host, secret): &(&str, &str)| {
        (Box::from(*host), (named(secret), named(&format!("of-{secret}"))))
    };
    Routes { secrets: hosts.iter().map(wanted).collect(), ..Routes::default() }
}

fn cluster(secrets: Vec<(&str, TlsSecret)>) -> Cluster {
    let secrets = secrets.into_iter().map(|(name, one)| (named(name), Arc::new(one)));
    Cluster { secrets: secrets.collect(), ..Cluster::default() }
}

fn first_certificate(secret: &TlsSecret) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&secret.chain).unwrap()
}

#[test]
fn names_get_the_closest_certificate() {
    let (exact, wild) = (secret("a.test"), secret("*.test"));
    let certificates = Certificates::new().unwrap();
    let cluster = cluster(vec![("exact", exact.clone()), ("wild", wild.clone())]);
    let routes = routes(&[("a.test", "exact"), ("*.test", "wild")]);
    let told = Keyring::default().follow(&certificates, &routes, &cluster, Timestamp::now());
    assert_eq!(told, []);
    let served = |name: &str| certificates.find(name).cert[0].clone();
    assert_eq!(served("a.test"), first_certificate(&exact));
    assert_eq!(served("b.test"), first_certificate(&wild));
    let fallback = certificates.fallback.cert[0].clone();
    for name in ["c.b.test", "other.example", ""] {
        assert_eq!(served(name), fallback, "{name}");
    }
}

#[test]
fn a_bad_secret_is_told_and_the_others_are_served() {
    let good = secret("good.test");
    let (one, two) = (secret("a.test"), secret("b.test"));
    let mixed = TlsSecret { chain: one.chain, key: two.key };
    let bad = |chain: &[u8], key: &[u8]| TlsSecret { chain: chain.into(), key: key.into() };
    let cluster = cluster(vec![
        ("good", good.clone()),
        ("mixed", mixed),
        ("empty", TlsSecret::default()),
        ("no-key", bad(&good.chain, b"")),
        ("garbage", bad(b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", b"x")),
        ("der", bad(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &good.key)),
    ]);
    let routes = routes(&[
        ("good.test", "good"),
        ("mixed.test", "mixed"),
        ("empty.test", "empty"),
        ("no-key.test", "no-key"),
        ("garbage.test", "garbage"),
        ("der.test", "der"),
        ("gone.test", "gone"),
    ]);
    let certificates = Certificates::new().unwrap();
    let told = Keyring::default().follow(&certificates, &routes, &cluster, Timestamp::now());
    let of: Vec<_> = told.iter().map(|f| (&*f.ingress.name, f.reason)).collect();
    let bad = ["of-der", "of-empty", "of-garbage", "of-gone", "of-mixed", "of-no-key"];
    assert_eq!(of, bad.map(|ingress| (ingress, "BadTLSSecret")));
    let mixed = told.iter().find(|f| &*f.ingress.name == "of-mixed").unwrap();
    assert!(mixed.message.contains("tls.key does not belong to tls.crt"), "{}", mixed.message);
    assert_eq!(certificates.find("good.test").cert[0], first_certificate(&good));
    assert_eq!(certificates.find("mixed.test").cert, certificates.fallback.cert);
}

#[test]
fn a_renewed_secret_is_served_from_then_on() {
    let (old, new) = (secret("a.test"), secret("a.test"));
    let certificates = Certificates::new().unwrap();
    let (mut keyring, routes) = (Keyring::default(), routes(&[("a.test", "tls")]));
    for current in [&old, &new] {
        let cluster = cluster(vec![("tls", current.clone())]);
        keyring.follow(&certificates, &routes, &cluster, Timestamp::now());
        assert_eq!(certificates.find("a.test").cert[0], first_certificate(current));
    }
    // A Secret that goes leaves nothing behind.
    keyring.follow(&certificates, &routes, &cluster(vec![]), Timestamp::now());
    assert_eq!(certificates.find("a.test").cert, certificates.fallback.cert);
}

#[test]
fn an_expired_certificate_is_served_and_told() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = signed(params, &key);
    let certificates = Certificates::new().unwrap();
    let (cluster, routes) = (cluster(vec![("tls", expired.clone())]), routes(&[("a.test", "tls")]));
    let told = Keyring::default().follow(&certificates, &routes, &cluster, Timestamp::now());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].reason, "TLSCertificateExpired");
    assert_eq!(
        told[0].message,
        "the certificate in Secret shop/tls expired at 2001-01-01T00:00:00Z"
    );
    assert_eq!(certificates.find("a.test").cert[0], first_certificate(&expired));
}

/// Nobody touches anything: the clock alone makes it worth another look, once at each moment.
#[test]
fn a_certificate_is_judged_anew_when_it_begins_and_when_it_ends() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let (cluster, routes) =
        (cluster(vec![("tls", signed(params, &key))]), routes(&[("a.test", "tls")]));
    let certificates = Certificates::new().unwrap();
    let mut keyring = Keyring::default();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let mut judge = |time: &str| {
        let due = keyring.is_due(at(time));
        let told = keyring.follow(&certificates, &routes, &cluster, at(time));
        (due, told.first().map(|one| one.message.rsplit_once(" shop/tls ").unwrap().1.to_owned()))
    };
    let early = || Some("is valid from 2000-01-01T00:00:00Z on".to_owned());
    let late = || Some("expired at 2001-01-01T00:00:00Z".to_owned());
    // Never judged before: it is the Secret that is new, not the hour.
    assert_eq!(judge("1999-12-31T23:59:58Z").1, early());
    assert_eq!(judge("1999-12-31T23:59:59Z"), (false, early()));
    assert_eq!(judge("2000-01-01T00:00:01Z"), (true, None));
    assert_eq!(judge("2000-12-31T23:59:59Z"), (false, None));
    assert_eq!(judge("2001-01-01T00:00:00Z"), (false, None));
    assert_eq!(judge("2001-01-01T00:00:01Z"), (true, late()));
    assert_eq!(judge("2002-01-01T00:00:00Z"), (false, late()));
    // A clock that was wrong is set right.
    assert_eq!(judge("2000-06-01T00:00:00Z"), (true, None));
}
