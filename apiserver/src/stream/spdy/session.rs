//! A SPDY connection in use: reads frames, answers what the framing itself asks for, and writes
//! from one place, so that frames never mix.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Decoder, Encoder, Frame, data};
use crate::stream::transport::{Drain, Source};

/// Frames that may wait for a slow client.
const QUEUE: usize = 16;

/// What the client did.
#[derive(Debug)]
pub(crate) enum Event {
    /// It opened a stream, which is accepted already.
    Open { stream: u32, headers: Vec<(String, String)> },
    /// It sent data.
    Data { stream: u32, data: Bytes },
    /// It will send no more on this stream.
    End { stream: u32 },
}

/// The reading side.
pub(crate) struct Session {
    source: Source,
    decoder: Decoder,
    encoder: Encoder,
    writer: Writer,
    /// A stream that was opened or fed with its end in the same frame.
    ending: Option<u32>,
}

/// The writing side; the connection closes when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Bytes>);

impl Writer {
    /// Sends data on a stream; `false` when the client is gone.
    pub(crate) async fn data(&self, stream: u32, bytes: Bytes, fin: bool) -> bool {
        self.0.send(data(stream, bytes, fin)).await.is_ok()
    }

    /// Ends a stream.
    pub(crate) async fn end(&self, stream: u32) -> bool {
        self.data(stream, Bytes::new(), true).await
    }
}

impl Session {
    /// Starts a session on a connection, and a task that writes to it.
    pub(crate) fn start(source: Source, mut drain: Drain) -> Self {
        let (writer, mut frames) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                if !drain.send(frame).await {
                    return;
                }
            }
            drain.close().await;
        });
        Self {
            source,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            writer: Writer(writer),
            ending: None,
        }
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Ends the session: closes the way to the client when all is written, and reads until the
    /// client closes, too. A close with input still unread would reset the connection, and a
    /// client may lose what is on its way.
    pub(crate) async fn finish(self, patience: Duration) {
        let Self { mut source, writer, .. } = self;
        drop(writer);
        let read = async { while source.next().await.is_some() {} };
        let patient = tokio::time::timeout(patience, read).await.is_ok();
        tracing::trace!(patient, "a SPDY session is over");
    }

    /// What the client does next; `None` when it is gone or does not speak SPDY.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if let Some(stream) = self.ending.take() {
            return Some(Event::End { stream });
        }
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => {
                    if let Some(event) = self.take(frame).await {
                        return Some(event);
                    }
                }
                Ok(None) => self.decoder.feed(&self.source.next().await?),
                Err(error) => {
                    tracing::debug!(%error, "a SPDY client");
                    return None;
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Option<Event> {
        match frame {
            Frame::Open { stream, headers, fin } => {
                let reply = self.encoder.reply(stream);
                self.writer.0.send(reply).await.ok()?;
                self.ending = fin.then_some(stream);
                Some(Event::Open { stream, headers })
            }
            Frame::Data { stream, data, fin } if data.is_empty() => {
                fin.then_some(Event::End { stream })
            }
            Frame::Data { stream, data, fin } => {
                self.ending = fin.then_some(stream);
                Some(Event::Data { stream, data })
            }
            Frame::Reset { stream } => Some(Event::End { stream }),
            Frame::Ping(frame) => {
                // A client that is gone is noticed at the next read.
                let _ = self.writer.0.send(frame).await.is_ok();
                None
            }
            Frame::Goodbye => None,
        }
    }
}
