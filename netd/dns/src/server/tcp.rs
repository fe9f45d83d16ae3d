//! Connections: for answers that no datagram carries.
//!
//! Invariants: there is a limit to connections, for each client and for all; one that says nothing
//! for [`IDLE`], or takes longer than [`PATIENCE`] for one message either way, is closed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Handled, Server};
use crate::ready::Ready;

/// Connections of all clients, and of one.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 32;
/// How long a connection may say nothing (RFC 7766: seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long one message may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait when the machine has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// How many connections each client has.
type Guests = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Answers at a listener, for ever.
pub(super) async fn serve(listener: TcpListener, server: Arc<Server>) {
    let guests = Guests::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, from)) = accepted else {
                    tokio::time::sleep(BREATH).await;
                    continue;
                };
                // Closed at once: a full house must not keep others waiting at the door.
                let Some(seat) = Seat::take(&guests, from.ip()) else { continue };
                let server = server.clone();
                connections.spawn(async move {
                    let _seat = seat;
                    if let Err(error) = converse(stream, from, &server).await {
                        tracing::trace!(client = %from, %error, "a connection");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A client's right to one connection, until dropped.
struct Seat {
    guests: Guests,
    client: IpAddr,
}

impl Seat {
    fn take(guests: &Guests, client: IpAddr) -> Option<Self> {
        let mut counts = guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&client).copied().unwrap_or(0);
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        counts.insert(client, own + 1);
        Some(Self { guests: guests.clone(), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

async fn converse(mut stream: TcpStream, from: SocketAddr, server: &Server) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut ready, mut answer) = (Ready::default(), Vec::new());
    let mut packet = Vec::new();
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        packet.resize(length.into(), 0);
        timeout(PATIENCE, stream.read_exact(&mut packet)).await??;
        match server.handle(&packet, from, Protocol::Tcp, &mut ready, &mut answer) {
            Handled::Answered => {}
            // Nobody who means well sends an answer here.
            Handled::Ignored => return Ok(()),
            Handled::Later(question) => {
                answer = server.answer(&packet, &question, from, true).await;
            }
        }
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let message = [&length.to_be_bytes(), &*answer].concat();
        timeout(PATIENCE, stream.write_all(&message)).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_takes_all_the_seats() {
        let guests = Guests::default();
        let ip = |number: u8| IpAddr::from([10, 244, 0, number]);
        let greedy: Vec<Seat> = std::iter::from_fn(|| Seat::take(&guests, ip(1))).collect();
        assert_eq!(greedy.len(), MOST_OF_ONE);
        let others = (2..).map(|number| Seat::take(&guests, ip(number)));
        let others: Vec<Seat> = others.map_while(|seat| seat).collect();
        assert_eq!(greedy.len() + others.len(), MOST.min(MOST_OF_ONE + 254));
        drop(greedy);
        assert!(Seat::take(&guests, ip(1)).is_some());
        drop(others);
        assert!(guests.lock().unwrap().is_empty());
    }
}
