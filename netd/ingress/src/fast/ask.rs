//! A question to a backend by plain HTTP/1.1: a head goes there, the head of the answer comes back.
//!
//! Input: the bytes of a request without a body that may be sent twice (GET, HEAD), and endpoints.
//! Output: the connection, what was read of the body already, and how the rest of it is found; or why
//! there is no answer. An endpoint that can't be reached was sent nothing, so one other is tried.
//! Deliberately not here: who asks, and how the answer is passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::head::{self, Answer, Response, Scribe};
use crate::backend::ConnectError;
use crate::connection::prepare;
use crate::limits::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, TRIES};
use crate::metrics::Failure;
use crate::refusal::Refusal;
use crate::table::Route;
use crate::worker::Worker;

/// What is asked, and whom.
pub(super) struct Question<'a> {
    pub(super) worker: &'a Worker,
    pub(super) route: &'a Arc<Route>,
    /// Those who may answer.
    pub(super) endpoints: &'a [SocketAddr],
    /// The request.
    pub(super) head: &'a [u8],
    /// HEAD: the answer has no body.
    pub(super) head_only: bool,
    /// How many bytes are read at a time.
    pub(super) part: usize,
}

/// What is heard of a backend.
pub(super) struct Heard {
    pub(super) endpoint: SocketAddr,
    pub(super) backend: TcpStream,
    pub(super) answer: Answer,
}

/// Why an endpoint gives no answer.
#[derive(Debug)]
enum Trouble {
    /// It can't be reached.
    Connect(ConnectError),
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

    /// Asks one endpoint, or another one if the first can't be reached. Afterwards `bytes` begins
    /// with the body of the answer, and `scribe` has its head.
    pub(super) async fn ask(
        &self,
        bytes: &mut BytesMut,
        scribe: &mut impl Scribe,
    ) -> Result<Heard, Refusal> {
        let (counts, pool) = (&self.worker.counts, &self.worker.pool);
        let (mut tried, mut causes) = (Vec::new(), Vec::new());
        while tried.len() < TRIES {
            let Some(endpoint) = pool.choose(self.endpoints, &tried) else { break };
            match self.ask_one(endpoint, bytes, scribe).await {
                Ok((backend, answer)) => return Ok(Heard { endpoint, backend, answer }),
                Err(Trouble::Connect(error)) => {
                    counts.failed(Failure::Connect);
                    pool.shun(endpoint);
                    tried.push(endpoint);
                    causes.push((endpoint, error.to_string()));
                }
                Err(Trouble::Broken(cause)) => {
                    counts.failed(Failure::Broken);
                    return Err(Refusal::Broken { route: self.route.clone(), endpoint, cause });
                }
                Err(Trouble::Late) => {
                    counts.failed(Failure::Timeout);
                    let patience = self.patience();
                    return Err(Refusal::Late { route: self.route.clone(), endpoint, patience });
                }
            }
        }
        Err(Refusal::Unreachable { route: self.route.clone(), tried: causes })
    }

    async fn ask_one(
        &self,
        endpoint: SocketAddr,
        bytes: &mut BytesMut,
        scribe: &mut impl Scribe,
    ) -> Result<(TcpStream, Answer), Trouble> {
        loop {
            let kept = self.worker.pool.take_plain(endpoint);
            let is_kept = kept.is_some();
            match self.ask_by(kept, endpoint, bytes, scribe).await {
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
        endpoint: SocketAddr,
        bytes: &mut BytesMut,
        scribe: &mut impl Scribe,
    ) -> Result<(TcpStream, Answer), Trouble> {
        bytes.clear();
        let mut backend = match kept {
            Some(kept) => kept,
            None => connect(endpoint).await?,
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
}

async fn connect(endpoint: SocketAddr) -> Result<TcpStream, Trouble> {
    let connecting = async {
        let stream = TcpStream::connect(endpoint).await?;
        prepare(&stream)?;
        Ok(stream)
    };
    let error = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => ConnectError::Connect(error),
        Err(_) => ConnectError::Timeout(CONNECT_TIMEOUT),
    };
    Err(Trouble::Connect(error))
}
