//! The client verbs of minictl: kubectl's commands, with kubectl's output.
//!
//! Owns: everything that talks to the API from the command line. Inputs: parsed flags ([`Globals`],
//! [`Verb`]) and streams ([`Io`]). Outputs: text on the streams, an exit code. Invariants: what can
//! be decided without the server is decided by pure functions (generators, introspection, patches,
//! layout); a closed output pipe ends a verb quietly; only the kubeconfig's server is contacted.
//! Deliberately not here: the process (exit, signals, argv), labs and nodes.

pub mod apply;
mod catalog;
mod context;
pub mod create;
pub mod delete;
mod duration;
mod edit_value;
pub mod error;
pub mod exec;
pub mod expose;
pub mod get;
pub mod io;
pub mod logs;
pub mod manifest;
mod pods;
mod render;
pub mod report;
pub mod scale;
pub mod session;
mod stream;
mod target;
mod terminal;
mod three_way;
mod watch;

use std::path::PathBuf;

pub use error::Error;
pub use io::Io;
pub use session::Globals;

use context::Context;
use session::Settings;

/// A client verb.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Verb {
    /// Display one or many resources
    Get(get::Get),
    /// Apply a configuration to a resource by file name or stdin
    Apply(apply::Apply),
    /// Create a resource from a file or from stdin
    Create(create::Create),
    /// Delete resources by file names, stdin, resources and names
    Delete(delete::Delete),
    /// Expose a resource as a new Kubernetes service
    Expose(expose::Expose),
    /// Set a new size for a deployment or replica set
    Scale(scale::Scale),
    /// Print the logs for a container in a pod
    Logs(logs::Logs),
    /// Execute a command in a container
    Exec(exec::Exec),
    /// Attach to a running container
    Attach(exec::Attach),
}

/// Runs a verb. `lab` is the running lab's kubeconfig, used when neither `--kubeconfig` nor
/// `KUBECONFIG` is given. Gives the exit code, which is a command's own for `exec` and `run`.
///
/// # Errors
/// Whatever made the verb fail; [`Error::report`] has the text for standard error, and the exit code
/// is then 1.
pub async fn run(
    globals: &Globals,
    verb: Verb,
    lab: Option<PathBuf>,
    io: &mut Io,
) -> Result<i32, Error> {
    let settings = Settings::load(globals, lab)?;
    let mut ctx = Context::new(settings, io);
    match dispatch(&mut ctx, verb).await {
        Err(e) if e.is_closed_pipe() => Ok(0),
        result => result,
    }
}

async fn dispatch(ctx: &mut Context<'_>, verb: Verb) -> Result<i32, Error> {
    match verb {
        Verb::Get(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Apply(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Create(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Delete(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Expose(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Scale(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Logs(verb) => verb.run(ctx).await.map(|()| 0),
        Verb::Exec(verb) => verb.run(ctx).await,
        Verb::Attach(verb) => verb.run(ctx).await,
    }
}
