//! Bytes to and from a client, on an upgraded connection or inside WebSocket messages.

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

const READ: usize = 32 * 1024;

/// What comes from the client.
pub(crate) enum Source {
    Raw(ReadHalf<TokioIo<Upgraded>>, BytesMut),
    WebSocket(SplitStream<WebSocket>),
}

/// What goes to the client.
pub(crate) enum Drain {
    Raw(WriteHalf<TokioIo<Upgraded>>),
    WebSocket(SplitSink<WebSocket, Message>),
}

/// Both halves of an upgraded connection.
pub(crate) fn raw(upgraded: Upgraded) -> (Source, Drain) {
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    (Source::Raw(read, BytesMut::new()), Drain::Raw(write))
}

/// Both halves of a WebSocket whose binary messages are a stream of bytes.
pub(crate) fn tunnelled(socket: WebSocket) -> (Source, Drain) {
    let (sink, stream) = socket.split();
    (Source::WebSocket(stream), Drain::WebSocket(sink))
}

impl Source {
    /// The next bytes; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Raw(read, buffer) => {
                buffer.reserve(READ);
                let count = read.read_buf(buffer).await.ok()?;
                (count > 0).then(|| buffer.split().freeze())
            }
            Self::WebSocket(stream) => loop {
                match stream.next().await?.ok()? {
                    Message::Binary(bytes) => return Some(bytes),
                    Message::Close(_) => return None,
                    Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
                }
            },
        }
    }
}

impl Drain {
    /// Sends bytes; `false` when the client is gone.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> bool {
        match self {
            Self::Raw(write) => {
                write.write_all(&bytes).await.is_ok() && write.flush().await.is_ok()
            }
            Self::WebSocket(sink) => sink.send(Message::Binary(bytes)).await.is_ok(),
        }
    }

    /// Ends the connection.
    pub(crate) async fn close(mut self) {
        // A client that is gone already needs no farewell.
        let _ = match &mut self {
            Self::Raw(write) => write.shutdown().await.is_ok(),
            Self::WebSocket(sink) => sink.send(Message::Close(None)).await.is_ok(),
        };
    }
}
