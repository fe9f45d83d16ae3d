//! `minictl dns …`: what nodes' name servers tell, fetched and printed.
//!
//! Inputs: flags; answers of the API server, or of a netd's own socket. Outputs: lines, or the
//! answers as JSON or YAML; an exit code. Deliberately not here: how names are looked for (the
//! node's name server plays a pod's search through).

mod ask;
mod text;

use std::path::PathBuf;

use proto::dns::{LogEntry, LogRequest, TraceReply, TraceRequest};
use verbs::client;
use verbs::{Error, Globals, Io};

use crate::cli::dns::{DnsCommand, Log, Trace};
use ask::Source;

/// What `trace` exits with when the name has no records, and what when it could not be told.
const NOTHING: i32 = 1;
const FAILED: i32 = 2;

/// Runs a verb; gives its exit code. `lab` is the running lab's kubeconfig.
///
/// # Errors
/// What kept it from asking at all; a node that does not answer is told, and the others are printed.
pub(crate) async fn run(
    globals: &Globals,
    command: DnsCommand,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let result = match command {
        DnsCommand::Log(verb) => log(globals, &verb, lab, io).await,
        DnsCommand::Trace(verb) => match trace(globals, &verb, lab, io).await {
            Err(error) if !error.is_closed_pipe() => {
                io.warn(error.report());
                Ok(FAILED)
            }
            done => done,
        },
    };
    match result {
        Err(error) if error.is_closed_pipe() => Ok(0),
        done => done,
    }
}

async fn log(
    globals: &Globals,
    verb: &Log,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let source = match &verb.socket {
        Some(path) => Source::socket(path).await?,
        None => Source::api(globals, lab, verb.node.as_deref()).await?,
    };
    let (namespace, pod) = match verb.pod.as_deref().map(without_type) {
        None => (globals.namespace.clone().unwrap_or_default(), String::new()),
        Some(pod) => match pod.split_once('/') {
            Some((namespace, pod)) => (namespace.to_owned(), pod.to_owned()),
            None => (namespace_of(globals, &source), pod.to_owned()),
        },
    };
    if verb.tail == 0 && !verb.follow {
        return Ok(0);
    }
    let tail = u32::try_from(verb.tail).unwrap_or(0);
    let only_new = verb.tail == 0;
    let follow = verb.follow;
    let request = LogRequest { namespace, pod, follow, tail, only_new, marked: true };
    let mut entries = source.log(request);
    let print = |io: &mut Io, entry: &LogEntry| match verb.output.as_str() {
        "json" => io.say(serde_json::to_string(entry).unwrap_or_default()),
        _ => io.say(text::line(entry)),
    };
    let (remembered, silent) = entries.remembered().await;
    let mut failed = !silent.is_empty();
    for error in silent {
        io.warn(error.report());
    }
    for entry in &remembered {
        print(io, entry)?;
    }
    while let Some(told) = entries.news().await {
        match told {
            Ok(entry) => print(io, &entry)?,
            Err(error) => {
                io.warn(error.report());
                failed = true;
            }
        }
    }
    Ok(i32::from(failed))
}

async fn trace(
    globals: &Globals,
    verb: &Trace,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let mut source = match &verb.socket {
        Some(path) => Source::socket(path).await?,
        None => Source::api(globals, lab, None).await?,
    };
    let from = without_type(&verb.from);
    let (namespace, pod) = match from.split_once('/') {
        Some((namespace, pod)) => (namespace.to_owned(), pod),
        None => (namespace_of(globals, &source), from),
    };
    let request = TraceRequest {
        name: verb.name.clone(),
        r#type: verb.kind.clone(),
        namespace,
        pod: pod.to_owned(),
    };
    let reply: TraceReply = source.trace(request).await?;
    let document =
        serde_json::to_value(&reply).map_err(|error| Error::Refused(format!("encode: {error}")))?;
    match client::document(&verb.output, &document)? {
        Some(text) => io.print(&text)?,
        None => io.print(&text::trace(&reply))?,
    }
    Ok(if reply.answers.is_empty() { NOTHING } else { 0 })
}

/// The namespace of a name without one.
fn namespace_of(globals: &Globals, source: &Source) -> String {
    globals.namespace.clone().unwrap_or_else(|| source.namespace())
}

/// `pod/web` as `web`.
fn without_type(name: &str) -> &str {
    ["pods/", "pod/", "po/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name)
}
