//! A stream whose writes of one turn leave together.
//!
//! The codec of HTTP/2 flushes after every larger frame. In TLS that is a record and a system call for
//! each answer, and both cost more than the answer itself. So what is written is gathered here, and
//! sent when the connection has nothing more to do. Invariants: no more than [`MOST`] is held
//! back, and [`Outlet::driven`] leaves nothing behind when it waits.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait: a few records of TLS.
const MOST: usize = 64 << 10;
/// What a connection without work keeps of its buffer.
const SPARE: usize = 16 << 10;

/// The stream as HTTP sees it: a flush is a promise.
#[derive(Debug)]
pub(crate) struct Gathered<S>(Arc<Mutex<Inner<S>>>);

/// The other handle of the same stream, which keeps the promise.
#[derive(Debug)]
pub(crate) struct Outlet<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    out: BytesMut,
    /// Something was written that the stream may still keep for itself: TLS does, as long as its
    /// socket is full.
    unflushed: bool,
}

/// Both handles of a stream.
pub(crate) fn gather<S>(stream: S) -> (Gathered<S>, Outlet<S>) {
    let inner = Arc::new(Mutex::new(Inner { stream, out: BytesMut::new(), unflushed: false }));
    (Gathered(inner.clone()), Outlet(inner))
}

/// The two handles belong to one task: nobody ever waits here.
fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            self.unflushed = true;
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
        }
        if self.out.capacity() > SPARE {
            self.out = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    /// Polls what works on the stream, and then sends what it wrote.
    pub(crate) fn driven<T>(
        &self,
        context: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let polled = work(context);
        // Whoever broke off is noticed by the next read or write. A stream that takes no more wakes
        // this task as soon as it does.
        if let Poll::Ready(Err(error)) = lock(&self.0).poll_drain(context) {
            tracing::trace!(%error, "send what was gathered");
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = lock(&self.0);
        if inner.out.len() >= MOST {
            ready!(inner.poll_drain(context))?;
        }
        let before = inner.out.len();
        for part in parts {
            let room = MOST - inner.out.len();
            inner.out.extend_from_slice(&part[..part.len().min(room)]);
        }
        Poll::Ready(Ok(inner.out.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_drain(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};
    use tokio::time::timeout;

    use super::*;

    /// Frames that are flushed one by one come out in one piece, when the turn is over.
    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_together() {
        let (near, mut far) = duplex(1 << 20);
        let (mut gathered, outlet) = gather(near);
        for part in ["one ", "two ", "three"] {
            gathered.write_all(part.as_bytes()).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let mut context = Context::from_waker(Waker::noop());
        assert!(outlet.driven(&mut context, |_| Poll::<()>::Pending).is_pending());
        let mut seen = [0; 64];
        let count = far.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..count], b"one two three");
    }

    /// A client that reads nothing does not make the proxy keep more and more for it.
    #[tokio::test]
    async fn no_more_is_gathered_than_a_few_records() {
        let (near, mut far) = duplex(1000);
        let (gathered, outlet) = gather(near);
        let mut gathered = Some(gathered);
        let mut written = 0;
        let mut context = Context::from_waker(Waker::noop());
        let turn = outlet.driven(&mut context, |context| {
            loop {
                let gathered = Pin::new(gathered.as_mut().unwrap());
                match gathered.poll_write(context, &[7; 4096]) {
                    Poll::Ready(count) => written += count.unwrap(),
                    Poll::Pending => return Poll::<()>::Pending,
                }
            }
        });
        assert!(turn.is_pending());
        assert!((MOST..=MOST + 1000).contains(&written), "{written}");
        // All of it arrives, though the end was announced long before.
        let mut seen = Vec::new();
        let mut last = gathered.take().unwrap();
        let (end, _) = tokio::join!(last.shutdown(), far.read_to_end(&mut seen));
        end.unwrap();
        assert_eq!(seen.len(), written);
    }
    /// The stream takes all at once and sends it only when it is flushed, as TLS does; its other
    /// end reads more slowly than that. Nothing is written any more, and yet all of it has to leave.
    #[tokio::test(start_paused = true)]
    async fn what_the_stream_keeps_is_flushed_in_later_turns() {
        let (near, mut far) = duplex(1000);
        let (mut gathered, outlet) = gather(BufWriter::with_capacity(MOST, near));
        gathered.write_all(&[7; 20_000]).await.unwrap();
        let driving = poll_fn(|context| outlet.driven(context, |_| Poll::<()>::Pending));
        let mut seen = vec![0; 20_000];
        let reading = timeout(Duration::from_secs(1), far.read_exact(&mut seen));
        let read = tokio::select! {
            () = driving => unreachable!("the work never ends"),
            read = reading => read,
        };
        assert_eq!(read.expect("the end does not come").unwrap(), 20_000);
        assert!(seen.iter().all(|byte| *byte == 7));
    }
}
