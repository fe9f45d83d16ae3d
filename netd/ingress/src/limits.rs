//! How much a client may ask of the proxy, and how long all may wait: in one place, because they
//! belong together.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How long a client may take for a request's head, and how long a connection may be idle.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take, and the first byte after it or without it.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection to a backend may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Endpoints that a request is tried at: one more if the first can't be reached.
pub(crate) const TRIES: usize = 2;
/// How long a backend may take to begin its answer while the request makes no progress either;
/// `minictl.io/response-timeout` on the Ingress is another.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the kernel tries to get rid of what the other side does not read.
pub(crate) const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may be quiet before the kernel looks whether its other end lives.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);

/// Longest head of a request or an answer, in bytes; a longer one is answered with 431.
pub(crate) const HEAD_SIZE: usize = 32 << 10;
/// What is read from a connection at a time, in bytes.
pub(crate) const BUFFER_SIZE: usize = 64 << 10;
/// Longest list of headers in HTTP/2, in bytes.
pub(crate) const HEADER_LIST_SIZE: u32 = 32 << 10;
/// Requests at a time on one HTTP/2 connection.
pub(crate) const STREAMS: u32 = 128;
/// Requests that were taken back before they were looked at ("rapid reset").
pub(crate) const PENDING_RESETS: usize = 20;
/// Requests that were in error, on one connection, before it is ended.
pub(crate) const ERROR_RESETS: usize = 128;
/// Bytes of a body that may be under way in HTTP/2.
pub(crate) const WINDOW: u32 = 256 << 10;
/// Connections of clients that a worker serves at a time; more wait in the kernel.
const CONNECTIONS: usize = 8192;
/// One client may have this part of them; what is more is closed.
const PART_OF_ONE: usize = 4;

/// How many connections a worker serves at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Of all clients together.
    pub(crate) all: usize,
    /// Of one client ([`client_of`]).
    pub(crate) of_one: usize,
}

impl Connections {
    /// For each of so many workers, in a process that may open so many files. A connection has two
    /// ends, and half of the files are left to the rest of the process.
    pub(crate) fn of(workers: usize, files: usize) -> Self {
        let all = (files / 2 / 2 / workers.max(1)).clamp(16, CONNECTIONS);
        Self { all, of_one: all / PART_OF_ONE }
    }
}

/// Which client an address belongs to, as far as limits go: whoever has an address of IPv6 usually
/// has all of its /64 (RFC 6177), and could come from another one each time.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        for (address, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ] {
            assert_eq!(client_of(address.parse().unwrap()).to_string(), client, "{address}");
        }
    }

    #[test]
    fn connections_leave_files_to_the_rest_of_the_process() {
        assert_eq!(Connections::of(2, 1024), Connections { all: 128, of_one: 32 });
        assert_eq!(Connections::of(2, 20_000), Connections { all: 2500, of_one: 625 });
        assert_eq!(Connections::of(8, 1 << 20).all, 8192);
        assert_eq!(Connections::of(64, 256).all, 16);
    }
}
