//! The two ends of a call, for the virtual machine's checks: a server that says who it is and whom
//! it sees, and a caller that says what came of each call.
//!
//! `peer serve NAME PORT` answers `NAME CLIENT-ADDRESS` over TCP and UDP, on all addresses.
//! `peer call` reads lines `tcp|udp ADDRESS:PORT [SOURCE-PORT]` and answers each with a line: what
//! the server said, or `refused`, `unreachable`, `silence`. It acts in the network namespace that
//! it is started in, and one process makes all calls, because starting one for each would be most
//! of the time of a run.

#![expect(clippy::print_stdout, reason = "outcomes are what the checks read")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as none: more than a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(3);
/// Whoever is refused later than this was not refused at once: TCP repeats its call after a second.
const AT_ONCE: Duration = Duration::from_millis(900);

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name, port] => serve(name, port.parse().map_err(io::Error::other)?),
        ["call"] => io::stdin().lines().try_for_each(|line| {
            println!("{}", call(&line?));
            Ok(())
        }),
        _ => Err(io::Error::other("peer serve NAME PORT, or peer call")),
    }
}

fn serve(name: &str, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let by_udp = name.to_owned();
    thread::spawn(move || {
        let mut ignored = [0; 64];
        loop {
            if let Ok((_, client)) = socket.recv_from(&mut ignored) {
                // The client may be gone.
                let _ = socket.send_to(format!("{by_udp} {}", client.ip()).as_bytes(), client);
            }
        }
    });
    for stream in listener.incoming() {
        let mut stream = stream?;
        let client = stream.peer_addr()?.ip();
        let _ = stream.write_all(format!("{name} {client}").as_bytes());
    }
    Ok(())
}

fn call(line: &str) -> String {
    let start = Instant::now();
    let outcome = match line.split(' ').collect::<Vec<_>>()[..] {
        ["tcp", to] => parsed(to).and_then(tcp),
        ["udp", to] => parsed(to).and_then(|to| udp(to, 0)),
        ["udp", to, from] => parsed(to).and_then(|to| udp(to, parsed(from)?)),
        _ => Err(io::Error::other(format!("not a call: {line}"))),
    };
    let error = match outcome {
        Ok(answer) => return answer,
        Err(error) => error,
    };
    match error.kind() {
        // "Permission denied" is what a node is told of its own datagram that must not leave.
        ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied => {
            if start.elapsed() < AT_ONCE { "refused" } else { "refused late" }.to_owned()
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "silence".to_owned(),
        _ => error.to_string(),
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("not understood: {text}")))
}

fn tcp(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn udp(to: SocketAddr, from: u16) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, from))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
