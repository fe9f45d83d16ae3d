//! Watching: a stream of events, and waiting for an object to reach a state.
//!
//! Owns: line framing of watch streams, and [`until`], the informer pattern of `wait`, `rollout
//! status`, `delete --wait` and `run`: list one object, then watch it from that revision, again if
//! the server ends the watch. Invariant: a 410 (too old) starts over with a new list.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::Instant;

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::{Error, Status};
use crate::session::Call;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    pub(crate) kind: String,
    pub(crate) object: Value,
}

/// An open watch.
pub(crate) struct Stream {
    body: kube::client::Body,
    buffer: Vec<u8>,
}

/// Starts a watch from a revision; an empty one means "all objects first".
pub(crate) async fn start(
    ctx: &mut Context<'_>,
    call: Call,
    version: &str,
) -> Result<Stream, Error> {
    let call = call.query("watch", "true").query("resourceVersion", version);
    let session = ctx.session().await?;
    let response = session.start(&call).await?;
    Ok(Stream { body: response.into_body(), buffer: Vec::new() })
}

impl Stream {
    /// The next event; `None` when the server has ended the watch.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return event(&line).map(Some);
            }
            match self.body.frame().await {
                None | Some(Err(_)) if self.buffer.trim_ascii().is_empty() => return Ok(None),
                // A watch that ends without a final line break has still said something.
                None | Some(Err(_)) => self.buffer.push(b'\n'),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Event, Error> {
    let bad = |detail: String| Error::BadAnswer { what: "watch".to_owned(), detail };
    let mut value: Value = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
    let kind = text(&value, "/type").to_owned();
    let object = value.get_mut("object").map(Value::take).unwrap_or_default();
    if kind == "ERROR" {
        let code = object.get("code").and_then(Value::as_u64).unwrap_or(500);
        let status =
            Status::from_body(u16::try_from(code).unwrap_or(500), &object.to_string().into_bytes());
        return Err(Error::Server(Box::new(status)));
    }
    Ok(Event { kind, object })
}

/// How long to wait between the end of a watch and the next one.
const PAUSE: Duration = Duration::from_millis(200);

/// What a look at an object says to one who waits.
pub(crate) enum Verdict<T> {
    Go(T),
    Wait,
}

/// Looks at an object now and after each change, until the verdict is `Go` (`Some`) or the time is
/// over (`None`). The object is `None` while it does not exist.
pub(crate) async fn until<T>(
    ctx: &mut Context<'_>,
    resource: &ApiResource,
    namespace: &str,
    name: &str,
    limit: Option<Duration>,
    mut look: impl FnMut(&mut Context<'_>, Option<&Value>) -> Result<Verdict<T>, Error>,
) -> Result<Option<T>, Error> {
    let deadline = limit.map(|l| Instant::now() + l);
    let collection = Call::get(resource.path(Some(namespace), "", ""))
        .query("fieldSelector", format!("metadata.name={name}"));
    loop {
        let list = ctx.json(&collection).await?;
        let version = text(&list, "/metadata/resourceVersion").to_owned();
        let object = list.pointer("/items/0").cloned();
        let object = object.map(|mut o| {
            crate::edit_value::set(&mut o, &["apiVersion"], resource.api_version());
            crate::edit_value::set(&mut o, &["kind"], resource.kind.as_str());
            o
        });
        if let Verdict::Go(result) = look(ctx, object.as_ref())? {
            return Ok(Some(result));
        }
        let started = bounded(deadline, start(ctx, collection.clone(), &version)).await;
        let mut stream = match started {
            None => return Ok(None),
            Some(Ok(stream)) => stream,
            Some(Err(Error::Server(status))) if status.code == 410 => continue,
            Some(Err(e)) => return Err(e),
        };
        loop {
            let event = match bounded(deadline, stream.next()).await {
                None => return Ok(None),
                Some(Ok(Some(event))) => event,
                Some(Ok(None)) => break,
                Some(Err(Error::Server(status))) if status.code == 410 => break,
                Some(Err(e)) => return Err(e),
            };
            let object = match event.kind.as_str() {
                "DELETED" => None,
                "ADDED" | "MODIFIED" => Some(&event.object),
                _ => continue,
            };
            if let Verdict::Go(result) = look(ctx, object)? {
                return Ok(Some(result));
            }
        }
        // A server that ends watches at once must not be asked in a tight loop.
        if bounded(deadline, tokio::time::sleep(PAUSE)).await.is_none() {
            return Ok(None);
        }
    }
}

/// The future's result, or `None` if the time is over first.
async fn bounded<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_event_is_the_server_s_error() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#;
        match event(line).unwrap_err() {
            Error::Server(status) => {
                assert_eq!((status.code, status.reason.as_str()), (410, "Expired"))
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_event_is_a_kind_and_an_object() {
        let e = event(br#"{"type":"ADDED","object":{"kind":"Pod"}}"#).unwrap();
        assert_eq!((e.kind.as_str(), text(&e.object, "/kind")), ("ADDED", "Pod"));
        assert!(event(b"nonsense").is_err());
    }
}
