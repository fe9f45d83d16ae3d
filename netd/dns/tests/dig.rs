//! The name server, asked by `dig`: a second opinion on what goes over the wire.
#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use dns::zone::{Endpoint, Port, Service, Slice};
use dns::{Dns, DomainName};

/// Whether there is a `dig`; where there must be one, its absence is a failure.
fn dig() -> bool {
    let there = Command::new("dig").arg("-v").output().is_ok();
    if !there {
        // Not by a macro: what a test prints is kept back unless it fails.
        let _ = writeln!(io::stderr(), "SKIPPED: no dig here (package dnsutils)");
        assert!(std::env::var_os("CI").is_none(), "a skip is a failure here");
    }
    there
}

/// A cluster with one Service of each kind, until dropped.
struct Cluster {
    at: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn start() -> Self {
        let domain: DomainName = "cluster.local.".parse().unwrap();
        let dns = Dns::new("node-1", &domain, vec!["10.96.0.0/12".parse().unwrap()]);
        dns.change(fill);
        // Not by UDP: connections that are over keep their ports for a minute.
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        dns.listen(vec![at]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move { dns.run().await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(at).is_err() {
            assert!(Instant::now() < deadline, "nobody listens at {at}");
            std::thread::yield_now();
        }
        Self { at, _runtime: runtime }
    }

    /// What dig prints of an answer.
    fn dig(&self, arguments: &str) -> String {
        let (ip, port) = (self.at.ip().to_string(), self.at.port().to_string());
        let mut command = Command::new("dig");
        command.args([&format!("@{ip}"), "-p", &port, "+tries=1", "+time=5", "+nocookie"]);
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn short(&self, arguments: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            self.dig(&format!("+short {arguments}")).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn fill(zone: &mut dns::zone::Zone) -> bool {
    let ips =
        |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|ip| ip.parse().unwrap()).collect() };
    let port = |name: &str| Port { name: name.into(), protocol: "tcp", number: 80 };
    let web = Service::Addresses {
        ips: ips(&["10.96.0.20", "fd00:10:96::14"]),
        ports: vec![port("http")],
    };
    zone.set_service("shop", "web", Some(web));
    let target = DomainName::from_ascii("web.shop.svc.cluster.local.").unwrap();
    zone.set_service("shop", "alias", Some(Service::External(Box::new(target))));
    zone.set_service("shop", "many", Some(Service::Headless { publish_not_ready: false }));
    let endpoints = (1..=200).map(|last| Endpoint {
        addr: IpAddr::from([10, 244, 0, last]),
        hostname: None,
        ready: true,
    });
    let slice = Slice { ports: vec![port("http")], endpoints: endpoints.collect() };
    zone.set_slice("shop", "many-x", Some(("many", slice)))
}

#[test]
fn records_of_each_kind_are_understood() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    assert_eq!(cluster.short("web.shop.svc.cluster.local A"), ["10.96.0.20"]);
    assert_eq!(cluster.short("web.shop.svc.cluster.local AAAA"), ["fd00:10:96::14"]);
    assert_eq!(
        cluster.short("_http._tcp.web.shop.svc.cluster.local SRV"),
        ["0 100 80 web.shop.svc.cluster.local."]
    );
    assert_eq!(cluster.short("-x 10.96.0.20"), ["web.shop.svc.cluster.local."]);
    assert_eq!(cluster.short("dns-version.cluster.local TXT"), ["\"1.1.0\""]);
    assert_eq!(
        cluster.short("alias.shop.svc.cluster.local A"),
        ["10.96.0.20", "web.shop.svc.cluster.local."]
    );
}

#[test]
fn what_is_not_there_says_for_how_long() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    let none = cluster.dig("none.shop.svc.cluster.local A");
    assert!(
        none.contains("status: NXDOMAIN") && none.contains("SOA\tns.dns.cluster.local."),
        "{none}"
    );
    assert!(none.contains(" aa "), "{none}");
    let no_data = cluster.dig("shop.svc.cluster.local A");
    assert!(no_data.contains("status: NOERROR") && no_data.contains("ANSWER: 0"), "{no_data}");
}

#[test]
fn a_long_answer_comes_by_tcp() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    let name = "many.shop.svc.cluster.local A";
    let cut = cluster.dig(&format!("+ignore +noedns {name}"));
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
    let cut = cluster.dig(&format!("+ignore +bufsize=4096 {name}"));
    assert!(cut.contains(" tc "), "more than a datagram carries in one piece: {cut}");
    assert_eq!(cluster.short(name).len(), 200, "dig comes again by TCP by itself");
    let whole = cluster.dig(&format!("+tcp {name}"));
    assert!(whole.contains("ANSWER: 200") && !whole.contains(" tc "), "{whole}");
}

#[test]
fn questions_for_everything_and_for_unheard_of_records_are_answered() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    let name = "web.shop.svc.cluster.local";
    assert_eq!(cluster.short(&format!("{name} ANY")), ["10.96.0.20", "fd00:10:96::14"]);
    // The alias itself, and not what it leads to.
    let alias = cluster.short("alias.shop.svc.cluster.local ANY");
    assert_eq!(alias, ["web.shop.svc.cluster.local."]);
    for kind in ["TYPE65280", "HTTPS", "CAA", "DNSKEY", "NULL"] {
        let text = cluster.dig(&format!("{name} {kind}"));
        assert!(text.contains("status: NOERROR") && text.contains("ANSWER: 0"), "{kind}: {text}");
        assert!(text.contains("SOA\tns.dns.cluster.local."), "{kind}: {text}");
    }
}

#[test]
fn questions_of_other_forms_are_refused() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    let status = |arguments: &str| {
        let text = cluster.dig(arguments);
        let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
        status.map(str::to_owned).unwrap_or(text.clone())
    };
    assert_eq!(status("version.bind CH TXT"), "REFUSED");
    assert_eq!(status("+opcode=notify cluster.local SOA"), "NOTIMP");
    assert_eq!(status("+opcode=update cluster.local SOA"), "NOTIMP");
    assert_eq!(status("+edns=1 +noednsneg web.shop.svc.cluster.local"), "BADVERS");
    assert_eq!(status("+header-only"), "FORMERR");
    let transfer = cluster.dig("cluster.local AXFR");
    assert!(transfer.contains("Transfer failed"), "{transfer}");
}

#[test]
fn the_name_stands_as_it_was_asked() {
    if !dig() {
        return;
    }
    let cluster = Cluster::start();
    let text = cluster.dig("+noall +question +answer wEB.Shop.SVC.cluster.LOCAL A");
    assert_eq!(text.matches("wEB.Shop.SVC.cluster.LOCAL.").count(), 2, "{text}");
}
