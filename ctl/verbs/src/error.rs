//! What can go wrong in a verb, and the exact text a person sees for it.
//!
//! Owns: [`Error`] and its rendering. The wording follows kubectl's `pkg/cmd/util/helpers.go`
//! (`checkErr`, `StandardErrorMessage`, `MultilineError`), so that course notes and search engines
//! find the same sentences. Invariant: `Display` never repeats a source; [`Error::report`] walks the
//! chain once. Deliberately not here: printing and exit codes of processes (the binary's job).

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// A failed verb.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused with a `Status`.
    #[error("{}", .0.message)]
    Server(Box<Status>),
    /// The command line asks for something impossible, or a check on the client's side failed.
    #[error("{0}")]
    Refused(String),
    /// As [`Error::Refused`], for messages that kubectl prints without the `error: ` prefix.
    #[error("{0}")]
    Plain(String),
    /// No kubeconfig anywhere.
    #[error("no cluster found: start one with \"minictl lab up\" (or set KUBECONFIG)")]
    NoCluster,
    /// A kubeconfig cannot be read.
    #[error("read kubeconfig {}", path.display())]
    ReadKubeconfig {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The client cannot be built from the kubeconfig (certificates, proxy …).
    #[error("client for {server}")]
    Client {
        /// The server's URL.
        server: String,
        /// The reason.
        #[source]
        source: Box<kube::Error>,
    },
    /// The server cannot be reached.
    #[error("{method} {url}")]
    Unreachable {
        /// HTTP method.
        method: String,
        /// Server and path.
        url: String,
        /// `host:port`, as kubectl names it.
        host: String,
        /// The reason.
        #[source]
        source: Box<kube::Error>,
    },
    /// The server answered something that is not what the API says.
    #[error("unexpected answer to {what}: {detail}")]
    BadAnswer {
        /// The request.
        what: String,
        /// What was wrong.
        detail: String,
    },
    /// A stream (exec, attach) broke.
    #[error("stream to the container")]
    Stream(#[source] Box<kube::Error>),
    /// A file cannot be read.
    #[error("read {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Standard input cannot be read.
    #[error("read standard input")]
    ReadInput(#[source] std::io::Error),
    /// Output cannot be written; `BrokenPipe` ends a verb quietly.
    #[error("write output")]
    Output(#[source] std::io::Error),
    /// The terminal cannot be switched to raw mode.
    #[error("switch the terminal to raw mode")]
    Terminal(#[source] std::io::Error),
    /// A manifest does not parse.
    #[error("error parsing {origin}: line {line}, column {column}: {detail}")]
    Manifest {
        /// File name, URL or `STDIN`.
        origin: String,
        /// Line, from 1, in the whole file.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// The parser's sentence.
        detail: String,
    },
    /// Several failures; the verb went on after each.
    #[error("{} errors", .0.len())]
    Many(Vec<Error>),
}

/// The part of the API's `Status` that a client shows or decides upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// `NotFound`, `Invalid` … ; empty if the server gave none.
    pub reason: String,
    /// The server's sentence.
    pub message: String,
    /// `details.kind`.
    pub kind: String,
    /// `details.name`.
    pub name: String,
    /// `details.causes` as (field, message).
    pub causes: Vec<(String, String)>,
}

impl Status {
    /// Reads a `Status` from a response; a body that is none is kept as the message.
    #[must_use]
    pub fn from_body(code: u16, body: &[u8]) -> Self {
        let text =
            |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).unwrap_or("").to_owned();
        match serde_json::from_slice::<Value>(body) {
            Ok(v) if v.get("kind").and_then(Value::as_str) == Some("Status") => {
                let causes = v.pointer("/details/causes").and_then(Value::as_array);
                Status {
                    code,
                    reason: text(&v, "/reason"),
                    message: text(&v, "/message"),
                    kind: text(&v, "/details/kind"),
                    name: text(&v, "/details/name"),
                    causes: causes
                        .into_iter()
                        .flatten()
                        .map(|c| (text(c, "/field"), text(c, "/message")))
                        .collect(),
                }
            }
            _ => {
                let body = String::from_utf8_lossy(body).trim().to_owned();
                let message = if body.is_empty() {
                    format!("the server answered with HTTP status {code}")
                } else {
                    body
                };
                Status { code, message, ..Status::default() }
            }
        }
    }

    fn standard(&self) -> String {
        match self.reason.as_str() {
            "" | "Unknown" => format!("Error from server: {}", self.message),
            "Unauthorized" => {
                format!("error: You must be logged in to the server ({})", self.message)
            }
            reason => format!("Error from server ({reason}): {}", self.message),
        }
    }

    /// `The Service "x" is invalid: …`, one cause per line if there are several.
    fn invalid(&self) -> String {
        let mut s = if !self.kind.is_empty() || !self.name.is_empty() {
            format!("The {} {:?} is invalid", self.kind, self.name)
        } else if self.causes.is_empty() && !self.message.is_empty() {
            return format!("The request is invalid: {}", self.message);
        } else {
            "The request is invalid".to_owned()
        };
        let mut causes: Vec<String> = Vec::new();
        for (field, message) in &self.causes {
            let line = format!("{field}: {message}");
            if !causes.contains(&line) {
                causes.push(line);
            }
        }
        match causes.as_slice() {
            [] => {}
            [one] => {
                let _ = write!(s, ": {one}");
            }
            many => {
                s.push_str(": ");
                for cause in many {
                    let _ = write!(s, "\n* {cause}");
                }
            }
        }
        s
    }
}

impl Error {
    /// What is wrong with a kubeconfig. A file that cannot be read is named once: the library's
    /// sentence has the path, too.
    pub(crate) fn kubeconfig(path: PathBuf, source: kube::config::KubeconfigError) -> Self {
        match source {
            kube::config::KubeconfigError::ReadConfig(source, path) => {
                Error::ReadKubeconfig { path, source }
            }
            source => Error::Kubeconfig { path, source: Box::new(source) },
        }
    }

    /// A refusal with `error: ` before it.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Error::Refused(text.into())
    }

    /// The server's reason, if it was the server that refused.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Error::Server(status) => &status.reason,
            _ => "",
        }
    }

    /// Whether the server said that the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// Whether the reader of our output went away (`minictl get pods | head -1`).
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Error::Output(e) => e.kind() == std::io::ErrorKind::BrokenPipe,
            Error::Many(errors) => errors.iter().any(Error::is_closed_pipe),
            _ => false,
        }
    }

    /// Names the file that a refused object came from, as kubectl's `AddSourceToErr`.
    #[must_use]
    pub(crate) fn in_source(self, verb: &str, origin: &str) -> Self {
        match self {
            Error::Server(mut status) => {
                status.message = format!("error when {verb} {origin:?}: {}", status.message);
                Error::Server(status)
            }
            other => other,
        }
    }

    /// One error out of several: nothing, the one, or all.
    pub(crate) fn all(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Many(errors)),
        }
    }

    /// The text for standard error, without a final newline.
    #[must_use]
    pub fn report(&self) -> String {
        match self {
            Error::Server(status) if status.reason == "Invalid" => status.invalid(),
            Error::Many(errors) => {
                let lines: Vec<String> = errors.iter().map(Error::short).collect();
                lines.join("\n")
            }
            Error::Server(_) | Error::Unreachable { .. } | Error::Plain(_) => self.short(),
            other => format!("error: {}", other.short()),
        }
    }

    /// The text of one of several errors, which kubectl prints without `error: `.
    fn short(&self) -> String {
        match self {
            Error::Server(status) => status.standard(),
            Error::Unreachable { host, source, .. } if refused(source) => format!(
                "The connection to the server {host} was refused - did you specify the right host \
                 or port?"
            ),
            Error::Unreachable { .. } => {
                format!("Unable to connect to the server: {}", chain(self))
            }
            Error::Many(_) => self.report(),
            other => chain(other),
        }
    }
}

/// The error and its sources in one line; a source whose text the line already has is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        next = source.source();
    }
    text
}

/// Whether a connection was refused: the errno hides below hyper's layers.
fn refused(error: &kube::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        next = e.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> Error {
        Error::Server(Box::new(Status::from_body(422, body.as_bytes())))
    }

    #[test]
    fn a_missing_object_is_named_as_kubectl_names_it() {
        let e = status(r#"{"kind":"Status","reason":"NotFound","message":"pods \"x\" not found"}"#);
        assert_eq!(e.report(), "Error from server (NotFound): pods \"x\" not found");
        assert!(e.is_not_found());
    }

    #[test]
    fn one_invalid_field_stands_on_the_same_line() {
        let e = status(
            r#"{"kind":"Status","reason":"Invalid","message":"m","details":{"kind":"Service",
            "name":"a","causes":[{"field":"spec.ports","message":"Required value"}]}}"#,
        );
        assert_eq!(e.report(), "The Service \"a\" is invalid: spec.ports: Required value");
    }

    #[test]
    fn several_invalid_fields_become_a_list_without_duplicates() {
        let e = status(
            r#"{"kind":"Status","reason":"Invalid","message":"m","details":{"kind":"Service",
            "name":"a","causes":[{"field":"f","message":"x"},{"field":"g","message":"y"},
            {"field":"f","message":"x"}]}}"#,
        );
        assert_eq!(e.report(), "The Service \"a\" is invalid: \n* f: x\n* g: y");
    }

    #[test]
    fn a_refused_object_names_its_file() {
        let e = Error::Server(Box::new(Status {
            reason: "AlreadyExists".into(),
            message: "services \"a\" already exists".into(),
            ..Status::default()
        }));
        assert_eq!(
            e.in_source("creating", "svc.yaml").report(),
            "Error from server (AlreadyExists): error when creating \"svc.yaml\": services \"a\" \
             already exists"
        );
    }

    #[test]
    fn a_missing_kubeconfig_is_named_once() {
        let path = std::path::Path::new("/nonexistent/config");
        let source = kube::config::Kubeconfig::read_from(path).unwrap_err();
        assert_eq!(
            Error::kubeconfig(path.to_owned(), source).report(),
            "error: read kubeconfig /nonexistent/config: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_body_that_is_no_status_is_shown_as_it_is() {
        assert_eq!(status("gone fishing\n").report(), "Error from server: gone fishing");
    }

    #[test]
    fn several_errors_stand_below_each_other() {
        let e = Error::Many(vec![Error::refused("a"), Error::refused("b")]);
        assert_eq!(e.report(), "a\nb");
        assert_eq!(Error::refused("a").report(), "error: a");
    }
}
