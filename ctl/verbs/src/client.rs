//! For verbs of minictl that kubectl does not have and that live outside of this crate: the
//! connection that the flags choose, and kubectl's forms of output.
//!
//! Owns: [`Client`], [`Lines`], [`columns`], [`document`]. Deliberately not here: any verb.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::error::Error;
use crate::render::Format;
use crate::render::table::Layout;
use crate::session::{Call, Globals, MERGE_PATCH, Session, Settings};

/// A connection to the API server that the flags choose.
pub struct Client {
    settings: Settings,
    session: Session,
}

impl Client {
    /// Connects as every verb does. `lab` is the running lab's kubeconfig.
    ///
    /// # Errors
    /// No kubeconfig, or one that is of no use.
    pub async fn connect(globals: &Globals, lab: Option<PathBuf>) -> Result<Self, Error> {
        let settings = Settings::load(globals, lab)?;
        let session = settings.connect().await?;
        Ok(Self { settings, session })
    }

    /// The namespace of the flag, else of the kubeconfig's context, else `default`.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.settings.namespace()
    }

    /// Reads a path.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or does not answer in JSON.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Error> {
        let call =
            query.iter().fold(Call::get(path), |call, (name, value)| call.query(name, *value));
        self.json(path, &call).await
    }

    /// Reads a path whose answer comes line by line, perhaps for ever.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn lines(&self, path: &str, query: &[(&str, &str)]) -> Result<Lines, Error> {
        let call =
            query.iter().fold(Call::get(path), |call, (name, value)| call.query(name, *value));
        let body = self.session.start(&call).await?.into_body();
        Ok(Lines { what: path.to_owned(), body, buffer: Vec::new() })
    }

    /// Merges a patch into an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Error> {
        self.json(path, &Call::patch(path, MERGE_PATCH, patch)).await
    }

    async fn json(&self, path: &str, call: &Call) -> Result<Value, Error> {
        let reply = self.session.send(call).await?;
        serde_json::from_slice(&reply.body)
            .map_err(|e| Error::BadAnswer { what: path.to_owned(), detail: e.to_string() })
    }
}

/// An answer that comes line by line.
pub struct Lines {
    what: String,
    body: kube::client::Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line without its end; `None` when there are no more.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer))),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => {
                    let (what, detail) = (self.what.clone(), error.to_string());
                    return Err(Error::BadAnswer { what, detail });
                }
            }
        }
    }
}

/// Lines of cells as kubectl aligns them; the first line is the heading.
#[must_use]
pub fn columns(lines: &[Vec<String>]) -> String {
    Layout::default().format(lines)
}

/// A document in the form that `-o` asks for; `None` where that is a table.
///
/// # Errors
/// A form that kubectl does not have.
pub fn document(output: &str, document: &Value) -> Result<Option<String>, Error> {
    Ok(Format::parse(output)?.object(document))
}

/// Reads a duration as kubectl's `--timeout` does: `30s`, `1m`; `0` is for ever.
///
/// # Errors
/// What is no duration.
pub fn timeout(text: &str) -> Result<Option<Duration>, Error> {
    crate::duration::parse_timeout(text)
}
