//! Datagrams to a node port on loopback.
//!
//! Each client has a session: a socket connected to the node port, so that answers find back.
//! Sessions without traffic expire as the kernel's own do. What can't be passed on is dropped, as
//! datagrams are.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long a session without traffic is kept (the kernel's `nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// The largest datagram there is.
const LARGEST: usize = 65_535;

struct Session {
    /// The task that answers has the socket, and closes it when the session expires.
    upstream: Weak<UdpSocket>,
    last: Arc<Mutex<Instant>>,
    _answering: AbortOnDropHandle<()>,
}

/// Passes on every datagram, for ever.
pub(super) async fn serve(socket: UdpSocket, target: SocketAddr, slots: Arc<Semaphore>) {
    let socket = Arc::new(socket);
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        drain(&socket, |client, datagram| {
            let is_open = |session: &Session| session.upstream.strong_count() > 0;
            if !sessions.get(&client).is_some_and(is_open) {
                sessions.retain(|_, session| is_open(session));
                let Ok(slot) = slots.clone().try_acquire_owned() else { return };
                let Ok(session) = open(&socket, client, target, slot) else { return };
                sessions.insert(client, session);
            }
            let Some(session) = sessions.get(&client) else { return };
            touch(&session.last);
            let Some(upstream) = session.upstream.upgrade() else { return };
            // A full buffer or a refusal loses a datagram, which is theirs to bear. By the system
            // call itself: tokio does not know yet that a new socket can be written to.
            let _ = send(upstream.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT);
        });
    }
}

/// Reads what there is. The buffer lives no longer than that.
fn drain(socket: &UdpSocket, mut take: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer = vec![0; LARGEST];
    loop {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, from)) => take(from, &buffer[..length]),
            // That an earlier datagram was refused; told once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

fn open(
    door: &Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
    slot: OwnedSemaphorePermit,
) -> io::Result<Session> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let upstream = std::net::UdpSocket::bind(any)?;
    upstream.connect(target)?;
    upstream.set_nonblocking(true)?;
    let upstream = Arc::new(UdpSocket::from_std(upstream)?);
    let last = Arc::new(Mutex::new(Instant::now()));
    let kept = Arc::downgrade(&upstream);
    let answering = answer(upstream, door.clone(), client, last.clone(), slot);
    let answering = AbortOnDropHandle::new(tokio::spawn(answering));
    Ok(Session { upstream: kept, last, _answering: answering })
}

/// Passes answers back until the session has been idle.
async fn answer(
    upstream: Arc<UdpSocket>,
    door: Arc<UdpSocket>,
    client: SocketAddr,
    last: Arc<Mutex<Instant>>,
    _slot: OwnedSemaphorePermit,
) {
    loop {
        let end = expiry(&last);
        match tokio::time::timeout_at(end, upstream.readable()).await {
            Ok(Ok(())) => drain(&upstream, |_, datagram| {
                touch(&last);
                let _ = door.try_send_to(datagram, client);
            }),
            Ok(Err(_)) => return,
            // The client may have sent meanwhile.
            Err(_) if expiry(&last) > end => {}
            Err(_) => return,
        }
    }
}

fn expiry(last: &Mutex<Instant>) -> Instant {
    *last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE
}

fn touch(last: &Mutex<Instant>) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}
