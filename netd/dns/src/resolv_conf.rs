//! Which servers a machine asks: `/etc/resolv.conf`, and what lies behind a stub.
//!
//! Pure: text in, addresses out. systemd-resolved has programs ask a stub on loopback, and tells the
//! servers behind it in a file of its own. A stub may ask us again, and the servers it knows are
//! better asked at once: kubeadm has people set this by hand, and those who forget get a loop.

use std::net::{IpAddr, SocketAddr};

/// Where DNS is spoken.
const PORT: u16 = 53;
/// The stub of systemd-resolved.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// The files that are read, in this order.
pub const FILE: &str = "/etc/resolv.conf";
/// What systemd-resolved asks itself.
pub const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// The servers that a file names.
#[must_use]
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())?
    });
    // The scope of a link-local address is its link's name, which no socket takes as it is.
    named.filter_map(|word| Some(SocketAddr::new(word.parse().ok()?, PORT))).collect()
}

/// The servers to ask: those of `file`, or those of `behind` where `file` names nothing but a stub.
/// Our own addresses are left out, and handed back beside.
#[must_use]
pub fn choose(
    file: &str,
    behind: Option<&str>,
    own: &[IpAddr],
) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let stubs = STUBS.map(|stub| stub.parse::<IpAddr>().expect("it is an address"));
    let mut named = servers(file);
    if named.iter().all(|server| stubs.contains(&server.ip())) {
        named = behind.map(servers).unwrap_or_default();
    }
    named.dedup();
    named.into_iter().partition(|server| !own.contains(&server.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(servers: Vec<SocketAddr>) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_as_libc_reads_them() {
        let file = "# a comment\n nameserver 192.0.2.1 # here\nnameserver\t2001:db8::1\n\
                    nameservers 192.0.2.9\nsearch nameserver\n;nameserver 192.0.2.8\n\
                    nameserver fe80::1%eth0\nnameserver nonsense\nnameserver";
        assert_eq!(text(servers(file)), ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn behind_a_stub_are_the_servers_that_it_asks() {
        let own = ["10.96.0.10".parse().unwrap()];
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        let behind = Some("nameserver 192.0.2.1\nnameserver 10.96.0.10\n");
        let (ask, ours) = choose(stub, behind, &own);
        assert_eq!(
            (text(ask), text(ours)),
            (vec!["192.0.2.1:53".to_owned()], vec!["10.96.0.10:53".to_owned()])
        );
        assert_eq!(choose(stub, None, &own), (vec![], vec![]));
        // Another server on loopback is somebody's choice.
        let local = "nameserver 127.0.0.1\n";
        assert_eq!(text(choose(local, behind, &own).0), ["127.0.0.1:53"]);
        assert_eq!(text(choose("", behind, &own).0), ["192.0.2.1:53"]);
    }
}
