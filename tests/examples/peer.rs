//! The two ends of a call, for the virtual machine's checks: a server that says who it is and whom
//! it sees, and a caller that says what came of each call.
//!
//! `peer serve NAME PORT` answers a line `NAME CLIENT-ADDRESS` over TCP and UDP, on all addresses of
//! both families; over a TCP connection that stays open, again at each byte it is sent.
//! `peer call` reads lines and answers each with a line: what the server said, or `refused`,
//! `unreachable`, `silence`. The lines are `tcp|udp ADDRESS:PORT [SOURCE-PORT]` for a call,
//! `open ADDRESS:PORT` for a TCP connection that stays, `again` to ask over it once more, and
//! `close`. It acts in the network namespace that it is started in, and one process makes all
//! calls, because starting one for each would be most of the time of a run.

#![expect(clippy::print_stdout, reason = "outcomes are what the checks read")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
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
        ["call"] => {
            let mut open = None;
            io::stdin().lines().try_for_each(|line| {
                println!("{}", call(&line?, &mut open));
                Ok(())
            })
        }
        _ => Err(io::Error::other("peer serve NAME PORT, or peer call")),
    }
}

fn serve(name: &str, port: u16) -> io::Result<()> {
    // Both families: what comes by IPv4 has a mapped address here.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    let line = |name: &str, client: SocketAddr| format!("{name} {}\n", client.ip().to_canonical());
    let by_udp = name.to_owned();
    thread::spawn(move || {
        let mut ignored = [0; 64];
        loop {
            if let Ok((_, client)) = socket.recv_from(&mut ignored) {
                // The client may be gone.
                let _ = socket.send_to(line(&by_udp, client).as_bytes(), client);
            }
        }
    });
    for stream in listener.incoming() {
        let stream = stream?;
        let line = line(name, stream.peer_addr()?);
        thread::spawn(move || converse(stream, &line));
    }
    Ok(())
}

/// Says a line at once, and again at each byte, until the client has enough.
fn converse(mut stream: TcpStream, line: &str) {
    let mut byte = [0];
    while stream.write_all(line.as_bytes()).is_ok() && stream.read(&mut byte).is_ok_and(|n| n == 1)
    {
    }
}

fn call(line: &str, open: &mut Option<TcpStream>) -> String {
    let start = Instant::now();
    let outcome = match line.split(' ').collect::<Vec<_>>()[..] {
        ["tcp", to] => parsed(to).and_then(connect).and_then(|stream| hear(&stream)),
        ["udp", to] => parsed(to).and_then(|to| udp(to, 0)),
        ["udp", to, from] => parsed(to).and_then(|to| udp(to, parsed(from)?)),
        ["open", to] => parsed(to).and_then(connect).and_then(|stream| hear(open.insert(stream))),
        ["again"] => again(open.as_mut()),
        ["close"] => {
            *open = None;
            Ok("closed".to_owned())
        }
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

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What the server says next.
fn hear(mut stream: &TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn again(open: Option<&mut TcpStream>) -> io::Result<String> {
    let stream = open.ok_or_else(|| io::Error::other("no connection is open"))?;
    stream.write_all(b"?")?;
    hear(stream)
}

fn udp(to: SocketAddr, from: u16) -> io::Result<String> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, from))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim_end().to_owned())
}
