//! The client verbs of minictl: kubectl's commands, with kubectl's output.
//!
//! Owns: everything that talks to the API from the command line. Inputs: parsed flags ([`Globals`],
//! [`Verb`]) and streams ([`Io`]). Outputs: text on the streams, an exit code. Invariants: what can
//! be decided without the server is decided by pure functions (generators, introspection, patches,
//! layout); a closed output pipe ends a verb quietly; only the kubeconfig's server is contacted.
//! Deliberately not here: the process (exit, signals, argv), labs and nodes.

pub mod apply;
mod catalog;
pub mod client;
pub mod cluster;
mod context;
pub mod cordon;
pub mod create;
pub mod delete;
pub mod describe;
mod duration;
pub mod edit;
mod edit_value;
pub mod error;
pub mod events;
pub mod exec;
pub mod explain;
pub mod expose;
mod flags;
pub mod get;
pub mod io;
pub mod label;
pub mod logs;
pub mod manifest;
pub mod patch;
mod pods;
mod render;
pub mod report;
pub mod rollout;
pub mod run;
pub mod scale;
pub mod service_url;
pub mod session;
mod stream;
pub mod taint;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
mod three_way;
pub mod usage;
pub mod wait;
mod watch;

use std::path::PathBuf;

pub use error::Error;
pub use io::Io;
pub use session::Globals;

use context::Context;
use session::Settings;

/// A client verb.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(mut_subcommands(flags::switches_with_values))]
pub enum Verb {
    /// Display one or many resources
    Get(get::Get),
    /// Show details of a specific resource or group of resources
    Describe(describe::Describe),
    /// Describe fields and structure of various resources
    Explain(explain::Explain),
    /// Apply a configuration to a resource by file name or stdin
    Apply(apply::Apply),
    /// Create a resource from a file or from stdin, or from flags
    Create(create::Create),
    /// Delete resources by file names, stdin, resources and names, or by label selector
    Delete(delete::Delete),
    /// Take a pod, replica set, deployment or service and expose it as a new service
    Expose(expose::Expose),
    /// Create and run a particular image in a pod
    Run(run::Run),
    /// Execute a command in a container
    Exec(exec::Exec),
    /// Attach to a running container
    Attach(exec::Attach),
    /// Print the logs for a container in a pod
    Logs(logs::Logs),
    /// Set a new size for a deployment or replica set
    Scale(scale::Scale),
    /// Update the labels on a resource
    Label(label::Label),
    /// Update the annotations on a resource
    Annotate(label::Label),
    /// Mark node as unschedulable
    Cordon(cordon::Cordon),
    /// Mark node as schedulable
    Uncordon(cordon::Cordon),
    /// Update the taints on one or more nodes
    Taint(taint::Taint),
    /// Update fields of a resource
    Patch(patch::Patch),
    /// Replace a resource by file name or stdin
    Replace(patch::Replace),
    /// Edit a resource on the server
    Edit(edit::Edit),
    /// Manage the rollout of a resource
    Rollout(rollout::Rollout),
    /// Wait for a specific condition on one or many resources
    Wait(wait::Wait),
    /// List events
    Events(events::Events),
    /// Print the URLs of a service's node ports, as "minikube service" does
    Service(service_url::ServiceUrl),
    /// Display cluster information
    ClusterInfo(cluster::ClusterInfo),
    /// Print the client and server version information
    Version(cluster::Version),
    /// Print the supported API resources on the server
    ApiResources(cluster::ApiResources),
    /// Print the supported API versions on the server, as group/version
    ApiVersions,
    /// Look at the kubeconfig in use
    Config(cluster::ConfigVerb),
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
        Verb::Get(verb) => verb.run(ctx).await?,
        Verb::Describe(verb) => verb.run(ctx).await?,
        Verb::Explain(verb) => verb.run(ctx).await?,
        Verb::Apply(verb) => verb.run(ctx).await?,
        Verb::Create(verb) => verb.run(ctx).await?,
        Verb::Delete(verb) => verb.run(ctx).await?,
        Verb::Expose(verb) => verb.run(ctx).await?,
        Verb::Run(verb) => return verb.run(ctx).await,
        Verb::Exec(verb) => return verb.run(ctx).await,
        Verb::Attach(verb) => return verb.run(ctx).await,
        Verb::Logs(verb) => verb.run(ctx).await?,
        Verb::Scale(verb) => verb.run(ctx).await?,
        Verb::Label(verb) => verb.run(ctx, label::Pairs::Labels).await?,
        Verb::Annotate(verb) => verb.run(ctx, label::Pairs::Annotations).await?,
        Verb::Cordon(verb) => verb.run(ctx, true).await?,
        Verb::Uncordon(verb) => verb.run(ctx, false).await?,
        Verb::Taint(verb) => verb.run(ctx).await?,
        Verb::Patch(verb) => verb.run(ctx).await?,
        Verb::Edit(verb) => verb.run(ctx).await?,
        Verb::Replace(verb) => verb.run(ctx).await?,
        Verb::Rollout(verb) => verb.run(ctx).await?,
        Verb::Wait(verb) => verb.run(ctx).await?,
        Verb::Events(verb) => verb.run(ctx).await?,
        Verb::Service(verb) => verb.run(ctx).await?,
        Verb::ClusterInfo(verb) => verb.run(ctx).await?,
        Verb::Version(verb) => verb.run(ctx).await?,
        Verb::ApiResources(verb) => verb.run(ctx).await?,
        Verb::ApiVersions => cluster::api_versions(ctx).await?,
        Verb::Config(verb) => verb.run(ctx)?,
    }
    Ok(0)
}
