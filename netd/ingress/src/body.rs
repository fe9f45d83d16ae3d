//! Bodies on their way through: frame by frame, never gathered.
//!
//! [`Upload`] goes to a backend, [`Download`] to a client. Invariants: a body that stands still for
//! too long ends in an error, so that nobody can hold a connection for ever; a backend's connection
//! goes back to the pool exactly when its answer was read to the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::connection::Stay;
use crate::fast::direct;
use crate::pool::Lease;

/// How long a client may pause within a request's body.
pub(crate) const UPLOAD_PAUSE: Duration = Duration::from_secs(60);
/// How long a backend may pause within its answer: streams of events are quiet at times.
pub(crate) const DOWNLOAD_PAUSE: Duration = Duration::from_secs(600);

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection it came by broke off.
    #[error("read the body")]
    Read(#[source] hyper::Error),
    /// The connection of the short way broke off.
    #[error("receive the body")]
    Receive(#[source] io::Error),
    /// The connection ended before the body did.
    #[error("the body ended too early")]
    Short,
    /// What should be chunks is none.
    #[error("the body's chunks are broken")]
    Chunks,
    /// Nothing came for too long.
    #[error("the body stood still for {} s", .0.as_secs())]
    Stalled(Duration),
}

/// A clock that runs only while nothing comes.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    runs: bool,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, runs: false }
    }

    /// Passes a poll's result on, or says that it took too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Option<Result<T, BodyError>>>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        if polled.is_ready() {
            self.runs = false;
            return polled;
        }
        let end = || Instant::now() + self.limit;
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if !self.runs {
                    sleep.as_mut().reset(end());
                }
                sleep
            }
            empty => empty.insert(Box::pin(tokio::time::sleep_until(end()))),
        };
        self.runs = true;
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::Stalled(self.limit))))
    }
}

/// The body of a request on its way to a backend.
#[derive(Debug)]
pub(crate) struct Upload(Option<Box<ClientBody>>);

#[derive(Debug)]
struct ClientBody {
    incoming: Incoming,
    patience: Patience,
    /// Frames that came so far, for whoever waits for the answer.
    progress: Arc<AtomicU64>,
}

impl Upload {
    /// No body.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// A client's body, and a counter of its frames if it has any.
    #[must_use]
    pub(crate) fn new(incoming: Incoming) -> (Self, Option<Arc<AtomicU64>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let progress = Arc::new(AtomicU64::new(0));
        let patience = Patience::new(UPLOAD_PAUSE);
        let body = ClientBody { incoming, patience, progress: progress.clone() };
        (Self(Some(Box::new(body))), Some(progress))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut body.incoming).poll_frame(context).map_err(BodyError::Read);
        let polled = body.patience.watch(context, polled);
        if polled.is_ready() {
            body.progress.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |body| body.incoming.size_hint())
    }
}

/// The body of an answer on its way to a client.
#[derive(Debug)]
pub(crate) enum Download {
    /// A page of the proxy's own.
    Page(Option<Bytes>),
    /// What a backend sends.
    Backend(BackendBody),
    /// What a backend sends by the short way.
    Direct(Box<DirectBody>),
}

/// What a backend sends by the short way.
#[derive(Debug)]
pub(crate) struct DirectBody {
    body: direct::Body,
    patience: Patience,
}

/// What a backend sends.
#[derive(Debug)]
pub(crate) struct BackendBody {
    incoming: Incoming,
    patience: Patience,
    ended: bool,
    lease: Option<Lease>,
}

impl Download {
    /// A backend's body; `lease` is the connection it comes by, if that can be used again.
    #[must_use]
    pub(crate) fn new(incoming: Incoming, lease: Option<Lease>) -> Self {
        let patience = Patience::new(DOWNLOAD_PAUSE);
        Self::Backend(BackendBody { incoming, patience, ended: false, lease })
    }

    /// The body of an answer of the short way.
    #[must_use]
    pub(crate) fn direct(body: direct::Body) -> Self {
        Self::Direct(Box::new(DirectBody { body, patience: Patience::new(DOWNLOAD_PAUSE) }))
    }
}

impl Drop for BackendBody {
    fn drop(&mut self) {
        // A connection whose answer was not read to the end is of no more use.
        if let Some(lease) =
            self.lease.take().filter(|_| self.ended || self.incoming.is_end_stream())
        {
            lease.give_back();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Page(page) => Poll::Ready(page.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Backend(body) => {
                let polled = Pin::new(&mut body.incoming).poll_frame(context);
                body.ended |= matches!(polled, Poll::Ready(None));
                body.patience.watch(context, polled.map_err(BodyError::Read))
            }
            Self::Direct(direct) => {
                let polled = direct.body.poll_frame(context);
                direct.patience.watch(context, polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(page) => page.is_none(),
            Self::Backend(body) => body.incoming.is_end_stream(),
            // It is in its frames that the end is seen, and the connection let go.
            Self::Direct(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => {
                SizeHint::with_exact(page.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Backend(body) => body.incoming.size_hint(),
            Self::Direct(direct) => {
                direct.body.left().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

/// The body of an answer whose request counts as one that is under way, until it was sent.
#[derive(Debug)]
pub(crate) struct Staying {
    pub(crate) body: Download,
    pub(crate) _stay: Stay,
}

impl Body for Staying {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
