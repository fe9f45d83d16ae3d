//! Datagrams: one loop for each socket, and a task for each question that takes a while.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_server::net::xfer::Protocol;
use tokio::net::UdpSocket;

use super::{Handled, Server};
use crate::ready::Ready;

/// Longer questions are none.
const LONGEST: usize = 4096;
/// Questions that are answered before others get a turn.
const BURST: usize = 64;

/// Answers at a socket, for ever.
pub(super) async fn serve(socket: UdpSocket, server: Arc<Server>) {
    let socket = Arc::new(socket);
    let mut ready = Ready::default();
    let mut packet = vec![0; LONGEST];
    let mut answer = Vec::with_capacity(LONGEST);
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        let mut burst = 0;
        while burst < BURST {
            burst += 1;
            match socket.try_recv_from(&mut packet) {
                Ok((length, from)) => {
                    let packet = &packet[..length];
                    take(&socket, &server, packet, from, &mut ready, &mut answer).await;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // An error of an earlier answer: its client has gone.
                Err(_) => {}
            }
        }
        if burst == BURST {
            tokio::task::yield_now().await;
        }
    }
}

async fn take(
    socket: &Arc<UdpSocket>,
    server: &Arc<Server>,
    packet: &[u8],
    from: SocketAddr,
    ready: &mut Ready,
    answer: &mut Vec<u8>,
) {
    match server.handle(packet, from, Protocol::Udp, ready, answer) {
        Handled::Answered => send(socket, answer, from).await,
        Handled::Ignored => {}
        Handled::Later(question) => {
            let (socket, server, packet) = (socket.clone(), server.clone(), packet.to_vec());
            tokio::spawn(async move {
                let answer = server.answer(&packet, &question, from, false).await;
                send(&socket, &answer, from).await;
            });
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    let sent = match socket.try_send_to(answer, to) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            socket.send_to(answer, to).await
        }
        sent => sent,
    };
    // A client that went away is no news.
    if let Err(error) = sent {
        tracing::debug!(client = %to, %error, "send an answer");
    }
}
