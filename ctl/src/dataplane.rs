//! `minictl dataplane …`: what netd tells, fetched and printed; and the wish for another engine.
//!
//! Inputs: flags; answers of the API server, or of a netd's own socket. Outputs: tables as kubectl
//! aligns them, or the answers as JSON or YAML; an exit code. Deliberately not here: anything about
//! what should be in a kernel (netd knows).

mod ask;
mod machine;
mod serve;
mod switch;
mod tables;
mod trace;

use std::path::{Path, PathBuf};

use proto::dataplane::{DiffReply, DumpReply, StatusReply};
use serde::Serialize;
use serde_json::json;
use verbs::{Error, Globals, Io, client};

use crate::cli::dataplane::{DataplaneCommand, Diff, Dump, Status, Whom};
use ask::{Answers, Source};

pub(crate) use ask::{Language, Way, netd_at, nodes};
pub(crate) use machine::warn_of_firewalls;
pub(crate) use serve::{Socket, serve};

/// What `diff` exits with when it finds something, and what when it could not look.
const DIFFERENT: i32 = 1;
const FAILED: i32 = 2;

/// Runs a verb; gives its exit code. `state` is the folder of this machine's clusters.
///
/// # Errors
/// What kept it from asking at all; a node that does not answer is told, and the others are printed.
pub(crate) async fn run(
    globals: &Globals,
    command: DataplaneCommand,
    state: &Path,
    io: &mut Io,
) -> Result<i32, Error> {
    let lab = lab::status::default_kubeconfig(state);
    let result = match command {
        DataplaneCommand::Status(verb) => status(globals, &verb, lab, io).await,
        DataplaneCommand::Dump(verb) => dump(globals, &verb, lab, io).await,
        DataplaneCommand::Diff(verb) => match diff(globals, &verb, lab, io).await {
            Err(error) if !error.is_closed_pipe() => {
                io.warn(error.report());
                Ok(FAILED)
            }
            done => done,
        },
        DataplaneCommand::Trace(verb) => trace::run(globals, &verb, state, io).await,
        DataplaneCommand::Use(verb) => switch::run(globals, &verb, lab, io).await,
    };
    match result {
        Err(error) if error.is_closed_pipe() => Ok(0),
        done => done,
    }
}

async fn status(
    globals: &Globals,
    verb: &Status,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let mut source = source(globals, &verb.whom, lab).await?;
    let answers: Answers<StatusReply> = source.status().await?;
    print(io, &verb.output, &answers.told, tables::status)?;
    Ok(complain(io, &answers))
}

async fn dump(
    globals: &Globals,
    verb: &Dump,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let mut source = source(globals, &verb.whom, lab).await?;
    let service = verb.service.as_deref().map(without_type).unwrap_or_default();
    // A node serves all namespaces; a service's name means something in one only.
    let namespace = match (&globals.namespace, service) {
        (Some(namespace), _) => namespace.clone(),
        (None, "") => String::new(),
        (None, _) => source.namespace(),
    };
    let answers: Answers<DumpReply> = source.dump(&namespace, service).await?;
    let nothing = answers.told.iter().all(|reply| reply.frontends.is_empty());
    if nothing && !answers.told.is_empty() && (verb.output.is_empty() || verb.output == "wide") {
        let place =
            if namespace.is_empty() { String::new() } else { format!(" in {namespace} namespace") };
        io.warn(format_args!("No services found{place}."));
    } else {
        let with_namespace = namespace.is_empty();
        print(io, &verb.output, &answers.told, |replies, wide| {
            tables::dump(replies, wide, with_namespace)
        })?;
    }
    Ok(complain(io, &answers))
}

async fn diff(
    globals: &Globals,
    verb: &Diff,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let mut source = source(globals, &verb.whom, lab).await?;
    let answers: Answers<DiffReply> = source.diff().await?;
    print(io, &verb.output, &answers.told, |replies, _| tables::diff(replies))?;
    if complain(io, &answers) != 0 {
        return Ok(FAILED);
    }
    let equal = answers.told.iter().all(|reply| reply.differences.is_empty());
    Ok(if equal { 0 } else { DIFFERENT })
}

async fn source(globals: &Globals, whom: &Whom, lab: Option<PathBuf>) -> Result<Source, Error> {
    match &whom.socket {
        Some(path) => Source::socket(path).await,
        None => Source::api(globals, lab, whom.node.as_deref()).await,
    }
}

/// `svc/web` as `web`.
fn without_type(name: &str) -> &str {
    ["service/", "services/", "svc/"].iter().find_map(|t| name.strip_prefix(t)).unwrap_or(name)
}

/// Prints what nodes told: as tables, or one as it is and several as a list.
fn print<T: Serialize>(
    io: &mut Io,
    output: &str,
    told: &[T],
    table: impl Fn(&[T], bool) -> String,
) -> Result<(), Error> {
    let document = match told {
        [one] => serde_json::to_value(one),
        several => {
            serde_json::to_value(several).map(|items| json!({"kind": "List", "items": items}))
        }
    };
    let document = document.map_err(|error| Error::Refused(format!("encode: {error}")))?;
    let text = match client::document(output, &document)? {
        Some(text) => text,
        None if told.is_empty() => return Ok(()),
        None => table(told, output == "wide"),
    };
    io.print(&text)
}

/// Tells which nodes gave no answer; the exit code is then 1.
fn complain<T>(io: &mut Io, answers: &Answers<T>) -> i32 {
    for error in &answers.silent {
        io.warn(error.report());
    }
    i32::from(!answers.silent.is_empty())
}
