//! For verbs of minictl that kubectl does not have and that live outside of this crate: the
//! connection that the flags choose, and kubectl's forms of output.
//!
//! Owns: [`Client`], [`columns`], [`document`]. Deliberately not here: any verb.

use std::path::PathBuf;
use std::time::Duration;

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
