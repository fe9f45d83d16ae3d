//! Which servers a machine asks: `/etc/resolv.conf`, and what lies behind a stub.
//!
//! Pure: text in, addresses out. systemd-resolved has programs ask a stub on loopback, and tells the
//! servers behind it in a file of its own. A stub may ask us again, and the servers it knows are
//! better asked at once: kubeadm has people set this by hand, and those who forget get a loop.

use std::collections::HashSet;
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

/// The domains that a file has programs try in turn: its last word on it (resolv.conf(5)).
#[must_use]
pub fn searches(text: &str) -> Vec<String> {
    let mut searches = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let Some("search" | "domain") = words.next() {
            searches = words.map(str::to_owned).collect();
        }
    }
    searches
}

/// The servers to ask: those of `file`, without stubs; where it names nothing else, those of
/// `behind`.
#[must_use]
pub fn choose(file: &str, behind: Option<&str>) -> Vec<SocketAddr> {
    let stubs = STUBS.map(|stub| stub.parse::<IpAddr>().expect("it is an address"));
    let named = |text: &str| -> Vec<SocketAddr> {
        let named = servers(text).into_iter();
        named.filter(|server| !stubs.contains(&server.ip().to_canonical())).collect()
    };
    let mut chosen = named(file);
    if chosen.is_empty() {
        chosen = behind.map(named).unwrap_or_default();
    }
    // Each once, where it stands first.
    let mut seen = HashSet::new();
    chosen.retain(|server| seen.insert(*server));
    chosen
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
    fn the_last_search_path_holds() {
        assert_eq!(searches("search a b\nnameserver 192.0.2.1\ndomain lan\n"), ["lan"]);
        assert!(searches("nameserver 192.0.2.1\n#search x\n").is_empty());
    }

    #[test]
    fn behind_a_stub_are_the_servers_that_it_asks() {
        let chosen = |file: &str, behind: Option<&str>| text(choose(file, behind));
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        let behind = Some("nameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        let both = ["192.0.2.1:53", "[2001:db8::1]:53"];
        assert_eq!(chosen(stub, behind), both);
        assert_eq!(chosen("", behind), both);
        assert!(chosen(stub, None).is_empty());
        // Whoever copied one file over the other is not sent in circles.
        assert!(chosen(stub, Some(stub)).is_empty());
        assert!(chosen("nameserver ::ffff:127.0.0.53\n", None).is_empty());
        // Another server on loopback is somebody's choice; a stub beside it is left out.
        assert_eq!(chosen("nameserver 127.0.0.1\n", behind), ["127.0.0.1:53"]);
        let mixed = "nameserver 127.0.0.53\nnameserver 192.0.2.9\nnameserver 192.0.2.9\n";
        assert_eq!(chosen(mixed, behind), ["192.0.2.9:53"]);
    }
}
