//! A question to a backend by plain HTTP/1.1: a head goes there, the head of the answer comes back.
//!
//! Input: the bytes of a request without a body that may be sent twice (GET, HEAD). Output: the connection,
//! what was read of the body already, and how the rest of it is found. Deliberately not here: who
//! asks, and how the answer is passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::head::{self, Answer, Response, Scribe};
use crate::connection::prepare;
use crate::limits::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::metrics::Failure;
use crate::refusal::Refusal;
use crate::table::Route;
use crate::worker::Worker;

/// What is asked, and whom.
pub(super) struct Question<'a> {
    pub(super) worker: &'a Worker,
    pub(super) route: &'a Arc<Route>,
    pub(super) endpoint: SocketAddr,
    /// The request.
    pub(super) head: &'a [u8],
    /// HEAD: the answer has no body.
    pub(super) head_only: bool,
    /// How many bytes are read at a time.
    pub(super) part: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The endpoint can't be reached.
    Connect,
    /// It broke off, or what it said is no answer.
    Broken(String),
    /// It did not begin to answer in time.
    Late,
}

impl Question<'_> {
    /// How long a backend may take to begin its answer.
    fn patience(&self) -> Duration {
        self.route.options.response_timeout.unwrap_or(RESPONSE_TIMEOUT)
    }

    /// Asks. Afterwards `bytes` begins with the body of the answer, and `scribe` has its head.
    pub(super) async fn ask(
        &self,
        bytes: &mut BytesMut,
        scribe: &mut impl Scribe,
    ) -> Result<(TcpStream, Answer), Trouble> {
        loop {
            let kept = self.worker.pool.take_plain(self.endpoint);
            let is_kept = kept.is_some();
            match self.ask_by(kept, bytes, scribe).await {
                // A kept connection had ended: that says nothing about the endpoint.
                Err(Trouble::Broken(_)) if is_kept && bytes.is_empty() => {}
                Ok((backend, answer)) => {
                    bytes.advance(answer.length);
                    return Ok((backend, answer));
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    async fn ask_by(
        &self,
        kept: Option<TcpStream>,
        bytes: &mut BytesMut,
        scribe: &mut impl Scribe,
    ) -> Result<(TcpStream, Answer), Trouble> {
        bytes.clear();
        let mut backend = match kept {
            Some(kept) => kept,
            None => connect(self.endpoint).await.ok_or(Trouble::Connect)?,
        };
        let broken = |error: io::Error| Trouble::Broken(error.to_string());
        backend.write_all(self.head).await.map_err(broken)?;
        let reading = async {
            loop {
                bytes.reserve(self.part);
                if backend.read_buf(bytes).await.map_err(broken)? == 0 {
                    return Err(Trouble::Broken("it closed the connection".to_owned()));
                }
                while !bytes.is_empty() {
                    match head::response(bytes, self.head_only, scribe) {
                        Response::Partial => break,
                        Response::Early(length) => bytes.advance(length),
                        Response::Answer(answer) => return Ok(answer),
                        Response::Bad(why) => return Err(Trouble::Broken(why.to_owned())),
                    }
                }
            }
        };
        let answer = timeout(self.patience(), reading).await.unwrap_or(Err(Trouble::Late))?;
        Ok((backend, answer))
    }

    /// What a client is told about it, unless another way may be tried: nothing was sent yet.
    pub(super) fn refusal(&self, trouble: Trouble) -> Option<Refusal> {
        let (route, endpoint) = (self.route.clone(), self.endpoint);
        let counts = &self.worker.counts;
        match trouble {
            Trouble::Connect => {
                counts.failed(Failure::Connect);
                self.worker.pool.shun(endpoint);
                None
            }
            Trouble::Broken(cause) => {
                counts.failed(Failure::Broken);
                Some(Refusal::Broken { route, endpoint, cause })
            }
            Trouble::Late => {
                counts.failed(Failure::Timeout);
                Some(Refusal::Late { route, endpoint, patience: self.patience() })
            }
        }
    }
}

async fn connect(endpoint: SocketAddr) -> Option<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint)).await.ok()?.ok()?;
    prepare(&stream).ok()?;
    Some(stream)
}
