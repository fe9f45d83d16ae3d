//! Hears when links, addresses or routes of a namespace change, whoever changes them.
//!
//! It hears of the namespaces, too, that links of this one lead into: of pods, in a node's. A
//! notification only says "look again"; what there is, is for [`Links`](crate::Links) to say.

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rtnetlink::MulticastGroup;

use crate::links::LinkError;

/// What is listened to.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_NEWADDR`, `RTM_DELADDR`, `RTM_DELROUTE` of
/// `linux/rtnetlink.h`. A new route does no harm that can be mended here.
const WORTH_A_LOOK: [u16; 5] = [16, 17, 20, 21, 25];

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A subscription to changes of a namespace.
pub struct Monitor {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}

impl Monitor {
    /// A subscription in the namespace of the calling thread. Must be called within a runtime.
    ///
    /// # Errors
    /// When no netlink socket can be made.
    pub fn here() -> Result<Self, LinkError> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let inner = socket.socket_mut();
            inner.bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                inner.add_membership(group as u32)?;
            }
            inner.set_listen_all_namespaces(true)?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(LinkError::Socket)?, buffer: Vec::with_capacity(8192) })
    }

    /// Returns when something changed. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) if !is_worth_a_look(&self.buffer) => {}
                // An error means that more was told than the socket could keep: look at all.
                _ => return,
            }
        }
    }
}

/// Whether a datagram has a message of a kind that matters.
fn is_worth_a_look(mut datagram: &[u8]) -> bool {
    while let Some(header) = datagram.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if WORTH_A_LOOK.contains(&kind) {
            return true;
        }
        // Messages begin at multiples of four bytes.
        let next = usize::try_from(length).map_or(datagram.len(), |n| n.next_multiple_of(4));
        datagram = datagram.get(next.max(HEADER)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: usize) -> Vec<u8> {
        let length = u32::try_from(HEADER + body).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize((HEADER + body).next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn only_what_may_have_broken_something_is_worth_a_look() {
        assert!(is_worth_a_look(&message(17, 5)));
        assert!(!is_worth_a_look(&message(24, 40)), "a new route");
        let both = [message(24, 3), message(21, 8)].concat();
        assert!(is_worth_a_look(&both));
    }

    #[test]
    fn a_damaged_datagram_is_not_read_beyond_its_end() {
        assert!(!is_worth_a_look(&[]));
        assert!(!is_worth_a_look(&[0; HEADER - 1]));
        assert!(!is_worth_a_look(&[0; 3 * HEADER]), "a length of nothing ends all the same");
        assert!(!is_worth_a_look(&[0xff; HEADER]));
    }
}
