//! Packet sockets: frames of one kind in and out of one link.
//!
//! A socket sees the frames of its kind before any firewall or protocol of the kernel does. The
//! crate's only unsafe code is here: addresses of packet sockets have no safe constructor, and tokio
//! can't see that a socket lives as long as its registration.

#![expect(unsafe_code, reason = "sockaddr_ll and AsyncFd's registration have no safe makers")]

use std::io::{self, Read as _};
use std::net::Ipv6Addr;

use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::frame::EtherType;

/// No frame that is read is longer.
pub const LONGEST: usize = 1514;

/// A socket on a link.
#[derive(Debug)]
pub struct Wire(AsyncFd<Socket>);

impl Wire {
    /// Opens one in the namespace of the calling thread, which must be in a tokio runtime.
    ///
    /// # Errors
    /// When there is no such link, or the process may not (it takes `CAP_NET_RAW`).
    pub fn open(link: u32, kind: EtherType) -> io::Result<Self> {
        // Without a protocol it hears nothing until it is bound, filter and all.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        if kind == EtherType::Ipv6 {
            socket.attach_filter(&neighbour_messages())?;
        }
        socket.bind(&address(link, kind)?)?;
        // SAFETY: the Socket owns its descriptor and closes it only when it is dropped, which is
        // after AsyncFd has given up the registration.
        let wire = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(wire?))
    }

    /// The next frame; gives its length.
    ///
    /// # Errors
    /// When the link is down.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|socket| {
                let mut socket = socket.get_ref();
                socket.read(buffer)
            });
            if let Ok(read) = read {
                return read;
            }
        }
    }

    /// Sends a frame, or fails: nobody waits for a link that takes none.
    ///
    /// # Errors
    /// When the link is down, or too much waits already.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.get_ref().send(frame).map(drop)
    }
}

/// Membership of groups: the kernel lets their frames in, and tells switches that snoop.
#[derive(Debug)]
pub(crate) struct Groups(Socket);

impl Groups {
    pub(crate) fn open() -> io::Result<Self> {
        Socket::new(Domain::IPV6, Type::DGRAM, None).map(Self)
    }

    pub(crate) fn join(&self, group: &Ipv6Addr, link: u32) -> io::Result<()> {
        self.0.join_multicast_v6(group, link)
    }

    pub(crate) fn leave(&self, group: &Ipv6Addr, link: u32) -> io::Result<()> {
        self.0.leave_multicast_v6(group, link)
    }
}

fn address(link: u32, kind: EtherType) -> io::Result<SockAddr> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let index = i32::try_from(link).map_err(invalid)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll fits in the storage, and all bytes make a valid one.
    let packet = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    packet.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(invalid)?;
    packet.sll_protocol = kind.number().to_be();
    packet.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(invalid)?;
    // SAFETY: the storage holds an address of that family and length.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// A filter that lets IPv6 packets pass that are neighbour solicitations or advertisements: the
/// kernel drops the rest of the traffic for this socket without waking anybody.
fn neighbour_messages() -> [SockFilter; 7] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NEXT_HEADER: u32 = 14 + 6;
    const ICMP_TYPE: u32 = 14 + 40;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NEXT_HEADER),
        SockFilter::new(JUMP_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, ICMP_TYPE),
        SockFilter::new(JUMP_EQUAL, 2, 0, 135),
        SockFilter::new(JUMP_EQUAL, 1, 0, 136),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}
