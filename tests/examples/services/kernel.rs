//! What the kernel says of changes: the moments at which it took one.
//!
//! Listens as `nft monitor` and `ip monitor` do, in the calling thread's network namespace, so that
//! every change counts, whoever makes it and however it was counted there.

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

/// Group of `NETLINK_NETFILTER` for tables, and its message at the end of a transaction.
const GROUP_NFTABLES: u32 = 7;
const NEW_GENERATION: u16 = 0x0a0f;
/// Groups of `NETLINK_ROUTE`: addresses and routes of both families, and links.
const GROUPS_ROUTE: &[u32] = &[1, 5, 7, 9, 11];
/// Room for the notices of a transaction with many thousand elements.
const BUFFER: usize = 256 << 20;

/// The moments of all changes from its making on.
pub(crate) struct Changes(Receiver<Instant>);

impl Changes {
    /// Of nftables transactions alone.
    pub(crate) fn of_tables() -> Self {
        let (tell, told) = channel();
        listen(NETLINK_NETFILTER, &[GROUP_NFTABLES], Some(NEW_GENERATION), tell);
        Self(told)
    }

    /// Of everything that netd may write.
    pub(crate) fn of_everything() -> Self {
        let (tell, told) = channel();
        listen(NETLINK_NETFILTER, &[GROUP_NFTABLES], Some(NEW_GENERATION), tell.clone());
        listen(NETLINK_ROUTE, GROUPS_ROUTE, None, tell);
        Self(told)
    }

    /// The next change, at most `limit` from now.
    pub(crate) fn next(&self, limit: Duration) -> Option<Instant> {
        match self.0.recv_timeout(limit) {
            Ok(at) => Some(at),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the listener ended"),
        }
    }

    /// The last change before a pause as long as `quiet`.
    pub(crate) fn last(&self, first: Duration, quiet: Duration) -> Option<Instant> {
        let mut last = self.next(first)?;
        while let Some(at) = self.next(quiet) {
            last = at;
        }
        Some(last)
    }
}

fn listen(
    protocol: isize,
    groups: &[u32],
    only: Option<u16>,
    tell: std::sync::mpsc::Sender<Instant>,
) {
    let mut socket = Socket::new(protocol).expect("netlink");
    socket.bind(&SocketAddr::new(0, 0)).expect("a netlink address");
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("root may ask for room");
    for group in groups {
        socket.add_membership(*group).expect("a multicast group");
    }
    thread::spawn(move || {
        loop {
            let told = match socket.recv_from_full() {
                Ok((message, _)) => concerns(&message, only),
                // Too much at once is news as well.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => true,
                Err(error) if error.kind() == ErrorKind::Interrupted => false,
                Err(error) => panic!("netlink: {error}"),
            };
            if told && tell.send(Instant::now()).is_err() {
                return;
            }
        }
    });
}

/// Whether one of the messages of a datagram is of the kind.
fn concerns(mut bytes: &[u8], only: Option<u16>) -> bool {
    let Some(only) = only else { return true };
    while bytes.len() >= 16 {
        let length = u32::from_ne_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
        if u16::from_ne_bytes(bytes[4..6].try_into().expect("two bytes")) == only {
            return true;
        }
        bytes = bytes.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}
