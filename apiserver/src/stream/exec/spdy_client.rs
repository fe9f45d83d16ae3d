//! Exec over SPDY/3.1: one stream each for error, stdin, stdout, stderr and resize, which the
//! client opens (upstream: `k8s.io/apiserver/pkg/server/httplog`'s peer in
//! `k8s.io/kubelet/pkg/cri/streaming/remotecommand/httpstream.go`).

use std::time::Duration;

use proto::v1::ServerFrame;
use proto::v1::server_frame::Frame;
use tonic::Streaming;

use super::{LINGER, Process, Stdin, Wants, farewell};
use crate::stream::spdy::session::{Event, Session, Writer};
use crate::stream::transport::{Drain, Source};

pub(super) const V4: &str = "v4.channel.k8s.io";

/// How long a client may take to open its streams (upstream: `DefaultStreamCreationTimeout`).
const OPENING: Duration = Duration::from_secs(30);

/// The client's streams; `None` until it opened them.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    error: Option<u32>,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

impl Streams {
    fn open(&mut self, stream: u32, headers: &[(String, String)]) {
        let kind = headers.iter().find(|(n, _)| n == "streamtype").map(|(_, v)| v.as_str());
        let slot = match kind {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            _ => return,
        };
        *slot = Some(stream);
    }

    fn complete(&self, wants: Wants) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !wants.stdin)
            && (self.stdout.is_some() || !wants.stdout)
            && (self.stderr.is_some() || !wants.stderr)
            && (self.resize.is_some() || !wants.tty)
    }
}

/// Joins a SPDY connection and a process until one of them ends.
pub(super) async fn run(source: Source, drain: Drain, process: Process, wants: Wants) {
    let mut session = Session::start(source, drain);
    let (stdin, output) = process.split();
    let mut streams = Streams::default();
    let opened = tokio::time::timeout(OPENING, async {
        while !streams.complete(wants) {
            let Some(event) = session.next().await else { return false };
            take(event, &mut streams, &stdin).await;
        }
        true
    });
    if opened.await != Ok(true) {
        return;
    }
    let writer = session.writer();
    let complete = streams;
    let over = tokio::select! {
        () = to_client(output, writer, complete) => true,
        () = async {
            while let Some(event) = session.next().await {
                take(event, &mut streams, &stdin).await;
            }
        } => false,
    };
    if over {
        session.finish(LINGER).await;
    }
}

async fn take(event: Event, streams: &mut Streams, stdin: &Stdin) {
    match event {
        Event::Open { stream, headers } => streams.open(stream, &headers),
        Event::Data { stream, data } if Some(stream) == streams.stdin => {
            // A process that is gone takes no input; its last word follows.
            let _ = stdin.send(data).await;
        }
        Event::Data { stream, data } if Some(stream) == streams.resize => {
            let _ = stdin.resize(&data).await;
        }
        Event::End { stream } if Some(stream) == streams.stdin => {
            let _ = stdin.close().await;
        }
        Event::Data { .. } | Event::End { .. } => {}
    }
}

async fn to_client(mut output: Streaming<ServerFrame>, writer: Writer, streams: Streams) {
    let exit = loop {
        let (stream, bytes) = match output.message().await {
            Ok(Some(ServerFrame { frame: Some(Frame::Stdout(bytes)) })) => (streams.stdout, bytes),
            Ok(Some(ServerFrame { frame: Some(Frame::Stderr(bytes)) })) => (streams.stderr, bytes),
            Ok(Some(ServerFrame { frame: Some(Frame::Exit(exit)) })) => break Some(exit),
            Ok(Some(ServerFrame { frame: None })) => continue,
            Ok(None) | Err(_) => break None,
        };
        let Some(stream) = stream else { continue };
        if !writer.data(stream, bytes.into(), false).await {
            return;
        }
    };
    if let Some(error) = streams.error {
        writer.data(error, farewell(exit.as_ref()), true).await;
    }
    for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
        writer.end(stream).await;
    }
}
