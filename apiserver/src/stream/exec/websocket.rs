//! Exec over WebSocket: binary messages whose first byte is the channel (upstream:
//! `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`).

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use proto::v1::ServerFrame;
use proto::v1::server_frame::Frame;
use tonic::Streaming;

use super::{LINGER, Process, Stdin, Wants, farewell};

pub(super) const V5: &str = "v5.channel.k8s.io";
pub(super) const V4: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const NORMAL: u16 = 1000;

/// Joins a WebSocket and a process until one of them ends.
pub(super) async fn run(socket: WebSocket, process: Process, wants: Wants, half_close: bool) {
    let (sink, mut stream) = socket.split();
    let (stdin, output) = process.split();
    let over = tokio::select! {
        () = to_client(output, sink, wants) => true,
        // When the client goes, dropping the output tells the agent.
        () = to_process(&mut stream, stdin, wants, half_close) => false,
    };
    if over {
        // A close with input still unread would reset the connection, and a client may lose the
        // Status on its way.
        let read = async { while let Some(Ok(_)) = stream.next().await {} };
        let patient = tokio::time::timeout(LINGER, read).await.is_ok();
        tracing::trace!(patient, "an exec session is over");
    }
}

async fn to_process(
    stream: &mut SplitStream<WebSocket>,
    stdin: Stdin,
    wants: Wants,
    half_close: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(mut bytes) = message else {
            if let Message::Close(_) = message {
                return;
            }
            continue;
        };
        if bytes.is_empty() {
            continue;
        }
        let channel = bytes.split_to(1)[0];
        let alive = match channel {
            STDIN if wants.stdin => stdin.send(bytes).await,
            RESIZE if wants.tty => stdin.resize(&bytes).await,
            CLOSE if half_close && bytes.first() == Some(&STDIN) => stdin.close().await,
            _ => true,
        };
        if !alive {
            // The process is gone: its last word is on the way to the client.
            return std::future::pending().await;
        }
    }
}

async fn to_client(
    mut output: Streaming<ServerFrame>,
    mut sink: SplitSink<WebSocket, Message>,
    wants: Wants,
) {
    let exit = loop {
        let (channel, bytes) = match output.message().await {
            Ok(Some(ServerFrame { frame: Some(Frame::Stdout(bytes)) })) => (STDOUT, bytes),
            Ok(Some(ServerFrame { frame: Some(Frame::Stderr(bytes)) })) => (STDERR, bytes),
            Ok(Some(ServerFrame { frame: Some(Frame::Exit(exit)) })) => break Some(exit),
            Ok(Some(ServerFrame { frame: None })) => continue,
            Ok(None) | Err(_) => break None,
        };
        let wanted = if channel == STDOUT { wants.stdout } else { wants.stderr };
        if wanted && sink.send(message(channel, &bytes)).await.is_err() {
            return;
        }
    };
    let close = CloseFrame { code: NORMAL, reason: "".into() };
    // A client that went first misses nothing.
    let said = sink.send(message(ERROR, &farewell(exit.as_ref()))).await.is_ok();
    if said && sink.send(Message::Close(Some(close))).await.is_ok() {
        let _ = sink.flush().await.is_ok();
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary(Bytes::from([&[channel], bytes].concat()))
}
