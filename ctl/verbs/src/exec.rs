//! `exec` and `attach`: a session in a running container.
//!
//! Upstream: `kubectl/pkg/cmd/exec/exec.go`, `kubectl/pkg/cmd/attach/attach.go`.

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::AttachParams;
use kube::client::Connection;
use kube::core::request;

use crate::context::Context;
use crate::error::{Error, Status};
use crate::pods;
use crate::stream::{self, End, Wiring};

/// Execute a command in a container
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Exec {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME")]
    pub pod: Option<String>,
    /// Left for the sentence that says where the command belongs
    #[arg(hide = true)]
    pub misplaced: Vec<String>,
    /// The command and its arguments, after --
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Container name; the first container by default
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Stdin is a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only print output from the remote session
    #[arg(short, long)]
    pub quiet: bool,
}

/// Attach to a running container
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Attach {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME")]
    pub pod: String,
    /// Container name; the first container by default
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Stdin is a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only print output from the remote session
    #[arg(short, long)]
    pub quiet: bool,
}

/// What is shown before a silent shell.
pub(crate) const PROMPT_HINT: &str = "If you don't see a command prompt, try pressing enter.";

impl Exec {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<i32, Error> {
        let Some(name) = &self.pod else {
            return Err(Error::refused("pod, type/name or --filename must be specified"));
        };
        if !self.misplaced.is_empty() {
            return Err(Error::refused(
                "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
            ));
        }
        if self.command.is_empty() {
            return Err(Error::refused("you must specify at least one command for the container"));
        }
        let pod = pods::find(ctx, name).await?;
        refuse_completed(&pod, "exec into")?;
        let container = choose(ctx, &pod, self.container.as_deref(), self.quiet)?;
        let wiring = Wiring::possible(self.stdin, self.tty, ctx.io);
        let name = pod.metadata.name.as_deref().unwrap_or("");
        let request = requests(&pod).exec(name, &self.command, &parameters(wiring, &container));
        let connection = connect(ctx, request).await?;
        stream::pump(ctx.io, connection, wiring).await?.report(ctx.io)
    }
}

impl Attach {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<i32, Error> {
        let pod = pods::find(ctx, &self.pod).await?;
        refuse_completed(&pod, "attach a container in")?;
        let container = choose(ctx, &pod, self.container.as_deref(), self.quiet)?;
        let wiring = Wiring::possible(self.stdin, self.tty, ctx.io);
        attach(ctx, &pod, &container, wiring, self.quiet).await?.report(ctx.io)
    }
}

/// Attaches to a running container.
pub(crate) async fn attach(
    ctx: &mut Context<'_>,
    pod: &Pod,
    container: &str,
    wiring: Wiring,
    quiet: bool,
) -> Result<End, Error> {
    let wiring = match (wiring.tty, has_tty(pod, container)) {
        (true, false) => {
            if !quiet {
                ctx.io.warn(format_args!(
                    "error: Unable to use a TTY - container {container} did not allocate one"
                ));
            }
            Wiring { tty: false, ..wiring }
        }
        // A container with a terminal has one output channel, wanted or not.
        (_, tty) => Wiring { tty, ..wiring },
    };
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let request = requests(pod).attach(name, &parameters(wiring, container));
    let connection = connect(ctx, request).await?;
    if !quiet {
        ctx.io.warn(PROMPT_HINT);
    }
    let end = stream::pump(ctx.io, connection, wiring).await?;
    let restarts = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("Always");
    if wiring.has_keys(ctx.io) && restarts && !quiet {
        ctx.io.say(format_args!(
            "Session ended, resume using 'kubectl attach {name} -c {container} -i -t' command when \
             the pod is running"
        ))?;
    }
    Ok(end)
}

/// Whether the container was started with a terminal.
fn has_tty(pod: &Pod, container: &str) -> bool {
    let containers = pod.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default();
    containers.iter().any(|c| c.name == container && c.tty == Some(true))
}

fn choose(
    ctx: &mut Context<'_>,
    pod: &Pod,
    given: Option<&str>,
    quiet: bool,
) -> Result<String, Error> {
    let (container, guess) = pods::choose_container(pod, given)?;
    if let Some(guess) = guess.filter(|_| !quiet) {
        ctx.io.warn(guess);
    }
    Ok(container)
}

fn refuse_completed(pod: &Pod, action: &str) -> Result<(), Error> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
    match (phase, action) {
        ("Succeeded" | "Failed", "exec into") => Err(Error::refused(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        ))),
        ("Succeeded" | "Failed", _) => Err(Error::refused(format!(
            "cannot {action} a completed pod; current phase is {phase}"
        ))),
        _ => Ok(()),
    }
}

fn requests(pod: &Pod) -> kube::core::Request {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    kube::core::Request::new(Pod::url_path(&(), Some(namespace)))
}

async fn connect(
    ctx: &mut Context<'_>,
    request: Result<http::Request<Vec<u8>>, request::Error>,
) -> Result<Connection, Error> {
    let request = request.map_err(|e| refused(kube::Error::BuildRequest(e)))?;
    ctx.session().await?.client.connect(request).await.map_err(refused)
}

/// A terminal carries both outputs on one channel.
fn parameters(wiring: Wiring, container: &str) -> AttachParams {
    AttachParams::default()
        .stdin(wiring.stdin)
        .stdout(true)
        .stderr(!wiring.tty)
        .tty(wiring.tty)
        .container(container)
}

/// The server's refusal of an upgrade, as its `Status` says it.
fn refused(error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => Error::Server(Box::new(Status {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            ..Status::default()
        })),
        other => Error::Stream(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_pod_is_not_entered() {
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"status": {"phase": "Failed"}})).unwrap();
        assert_eq!(
            refuse_completed(&pod, "exec into").unwrap_err().report(),
            "error: cannot exec into a container in a completed pod; current phase is Failed"
        );
    }

    #[test]
    fn a_terminal_has_no_separate_standard_error() {
        let with = parameters(Wiring { stdin: true, tty: true }, "c");
        assert!(with.tty && !with.stderr);
        let without = parameters(Wiring { stdin: false, tty: false }, "c");
        assert!(!without.tty && without.stderr);
    }
}
