//! Where questions are taken: sockets at the addresses of the cluster's DNS Service.
//!
//! An address need not be on a link yet, and it may be anybody's turn to put it there. A socket that
//! can't be had is tried again; the others are not affected.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Server, tcp, udp};

/// More sockets for datagrams than this at one address make nothing faster.
const MOST_SOCKETS: usize = 4;
/// Bursts of questions wait in a buffer of this size, in bytes.
const BUFFER: usize = 1 << 20;
/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// The pause before an address that can't be had is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Serves at the addresses that are wanted, as they change, for ever.
pub(crate) async fn follow(server: Arc<Server>, mut wanted: watch::Receiver<Vec<SocketAddr>>) {
    let mut open = Open(BTreeMap::new());
    loop {
        let addrs = wanted.borrow_and_update().clone();
        open.0.retain(|addr, tasks| {
            let keep = addrs.contains(addr);
            if !keep {
                tasks.iter().for_each(AbortHandle::abort);
            }
            keep
        });
        // Before a socket is there that a question of our own could reach.
        server.resolver.upstreams.set_own(&addrs);
        let mut all = true;
        for addr in addrs {
            if open.0.contains_key(&addr) {
                continue;
            }
            match serve(addr, &server) {
                Ok(tasks) => {
                    tracing::info!(%addr, "DNS is answered");
                    open.0.insert(addr, tasks);
                }
                Err(error) => {
                    tracing::warn!(%addr, %error, "DNS can't be answered; it is tried again");
                    all = false;
                }
            }
        }
        let retry = async {
            match all {
                true => std::future::pending().await,
                false => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                // Nobody can want anything else any more.
                std::future::pending::<()>().await;
            },
            () = retry => {}
        }
    }
}

/// Tasks by address, which end with this.
struct Open(BTreeMap<SocketAddr, Vec<AbortHandle>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.values().flatten().for_each(AbortHandle::abort);
    }
}

fn serve(addr: SocketAddr, server: &Arc<Server>) -> io::Result<Vec<AbortHandle>> {
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_SOCKETS);
    let listener = socket(addr, Type::STREAM)?;
    listener.listen(BACKLOG)?;
    let listener = TcpListener::from_std(listener.into())?;
    let sockets = (0..count).map(|_| {
        let socket = socket(addr, Type::DGRAM)?;
        // As much as the machine allows.
        let _ = socket.set_recv_buffer_size(BUFFER);
        UdpSocket::from_std(socket.into())
    });
    let sockets: Vec<UdpSocket> = sockets.collect::<io::Result<_>>()?;
    let mut tasks = vec![tokio::spawn(tcp::serve(listener, server.clone())).abort_handle()];
    tasks.extend(
        sockets
            .into_iter()
            .map(|socket| tokio::spawn(udp::serve(socket, server.clone())).abort_handle()),
    );
    Ok(tasks)
}

fn socket(addr: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    match addr.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    // Datagrams are shared out by client, so that all cores work.
    if kind == Type::DGRAM {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}
