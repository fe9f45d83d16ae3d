//! `run`: one pod from an image, attached to or left running.
//!
//! Owns: the pod and Service that the flags mean (pure), and the attached life of `--rm -it`: create,
//! wait until it runs, attach, take the exit code, delete — the last on every way out, a signal
//! included. Upstream: `kubectl/pkg/cmd/run/run.go`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::exec;
use crate::pods::{is_ready, typed};
use crate::report::{DryRun, Output};
use crate::session::{Call, encode};
use crate::stream::{End, Wiring};
use crate::terminal::Interrupts;
use crate::watch::{self, Verdict};
use crate::{create, expose};

/// Create and run a particular image in a pod
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Run {
    /// Name of the pod
    pub name: Option<String>,
    /// Arguments of the container, or with --command its command; may stand after --
    pub arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The image for the container to run
    #[arg(long, required = true)]
    pub image: String,
    /// Never, IfNotPresent or Always
    #[arg(long, default_value = "", hide_default_value = true)]
    pub image_pull_policy: String,
    /// Environment variables to set in the container, NAME=value
    #[arg(long)]
    pub env: Vec<String>,
    /// Labels of the pod, key=value,key=value
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub labels: String,
    /// Annotations of the pod, key=value
    #[arg(long)]
    pub annotations: Vec<String>,
    /// The port that this container exposes
    #[arg(long)]
    pub port: Option<String>,
    /// Also create a ClusterIP service for the pod's port
    #[arg(long)]
    pub expose: bool,
    /// Use the arguments as the container's command instead of its args
    #[arg(long)]
    pub command: bool,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always")]
    pub restart: String,
    /// Keep stdin open on the container, even if nothing is attached
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Allocate a terminal for the container
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Wait for the pod to run and attach to it; the default with -i
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub attach: Option<bool>,
    /// Delete the pod after it exits; only for attached containers
    #[arg(long)]
    pub rm: bool,
    /// Leave stdin open after the first attach
    #[arg(long)]
    pub leave_stdin_open: bool,
    /// Run the container in privileged mode
    #[arg(long)]
    pub privileged: bool,
    /// Don't print prompt messages
    #[arg(short, long)]
    pub quiet: bool,
    /// How long to wait until at least one pod is running
    #[arg(long, default_value = "1m0s")]
    pub pod_running_timeout: String,
    /// JSON that overrides fields of the generated pod
    #[arg(long)]
    pub overrides: Option<String>,
    /// Record the object in the annotation that apply works with
    #[arg(long)]
    pub save_config: bool,
}

impl Run {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<i32, Error> {
        let attach = self.attach.unwrap_or(self.stdin);
        let name = self.check(attach)?.to_owned();
        let mut pod = self.pod(&name)?;
        if let Some(overrides) = &self.overrides {
            let overrides: Value = serde_json::from_str(overrides)
                .map_err(|e| Error::refused(format!("invalid JSON in --overrides: {e}")))?;
            pod = wire::patch::merge(&pod, &overrides);
        }
        let dry_run = self.output.dry_run;
        // Signals count from here on: what is created now must be removed again.
        let interrupts = if attach && self.rm { Some(Interrupts::listen()?) } else { None };
        let created = create::post(ctx, pod, dry_run, self.save_config, "kubectl-run").await?;
        let mut objects = vec![created];
        let mut failure = None;
        if self.expose {
            let service = self.service(&name)?;
            match create::post(ctx, service, dry_run, self.save_config, "kubectl-run").await {
                Ok(service) => objects.push(service),
                Err(e) => failure = Some(e),
            }
        }
        if attach {
            let result = self.attached(ctx, &objects[0], interrupts).await;
            let removed = if self.rm { self.remove(ctx, &objects).await } else { Ok(()) };
            // How the pod ended is said last, as upstream's error is printed after its removal.
            let ended = result?;
            if let Some(sentence) = ended.sentence {
                ctx.io.warn(sentence);
            }
            return removed.map(|()| ended.code);
        }
        print_objects(ctx, &self.output, &objects)?;
        failure.map_or(Ok(0), Err)
    }

    /// The combinations of flags that upstream refuses, in its order. Gives the pod's name.
    fn check(&self, attach: bool) -> Result<&str, Error> {
        let refuse = |text: &str| Err(Error::refused(text));
        let Some(name) = &self.name else { return refuse("NAME is required for run") };
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return Err(Error::refused(format!(
                "invalid image name {:?}: invalid reference format",
                self.image
            )));
        }
        if self.tty && !self.stdin {
            return refuse("-i/--stdin is required for containers with -t/--tty=true");
        }
        match &self.port {
            None if self.expose => return refuse("--port must be set when exposing a service"),
            Some(port) if port.parse::<u16>().is_err() => return refuse("--port must be a number"),
            _ => {}
        }
        if self.rm && !attach {
            return refuse("--rm should only be used for attached containers");
        }
        if attach && self.output.dry_run != DryRun::None {
            return refuse(
                "--dry-run=[server|client] can't be used with attached containers options \
                 (--attach, --stdin, or --tty)",
            );
        }
        if !matches!(self.restart.as_str(), "Always" | "OnFailure" | "Never") {
            return Err(Error::refused(format!(
                "invalid restart policy: {}, valid values are: Always, OnFailure, Never",
                self.restart
            )));
        }
        if !matches!(self.image_pull_policy.as_str(), "" | "Always" | "IfNotPresent" | "Never") {
            return Err(Error::refused(format!(
                "invalid image pull policy: {}",
                self.image_pull_policy
            )));
        }
        Ok(name)
    }

    fn pod(&self, name: &str) -> Result<Value, Error> {
        let mut container = Map::new();
        if !self.arguments.is_empty() {
            let key = if self.command { "command" } else { "args" };
            container.insert(key.into(), json!(self.arguments));
        }
        if !self.env.is_empty() {
            container.insert("env".into(), Value::Array(environment(&self.env)?));
        }
        container.insert("image".into(), json!(self.image));
        if !self.image_pull_policy.is_empty() {
            container.insert("imagePullPolicy".into(), json!(self.image_pull_policy));
        }
        container.insert("name".into(), json!(name));
        if let Some(port) = self.port.as_ref().and_then(|p| p.parse::<u16>().ok()) {
            container.insert("ports".into(), json!([{"containerPort": port}]));
        }
        container.insert("resources".into(), json!({}));
        if self.privileged {
            container.insert("securityContext".into(), json!({"privileged": true}));
        }
        if self.stdin {
            container.insert("stdin".into(), json!(true));
            if !self.leave_stdin_open {
                container.insert("stdinOnce".into(), json!(true));
            }
        }
        if self.tty {
            container.insert("tty".into(), json!(true));
        }
        let mut metadata = Map::new();
        if !self.annotations.is_empty() {
            let annotations = expose::pairs(&self.annotations.join(","))?;
            metadata.insert("annotations".into(), annotations);
        }
        metadata.insert("labels".into(), self.pod_labels(name)?);
        metadata.insert("name".into(), json!(name));
        Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"containers": [container], "dnsPolicy": "ClusterFirst",
                     "restartPolicy": self.restart},
            "status": {}}))
    }

    fn pod_labels(&self, name: &str) -> Result<Value, Error> {
        if self.labels.is_empty() { Ok(json!({"run": name})) } else { expose::pairs(&self.labels) }
    }

    fn service(&self, name: &str) -> Result<Value, Error> {
        let port: u16 = self.port.as_ref().and_then(|p| p.parse().ok()).unwrap_or(0);
        let mut metadata = Map::new();
        // Only labels that were asked for; the selector has the pod's in any case.
        if !self.labels.is_empty() {
            metadata.insert("labels".into(), expose::pairs(&self.labels)?);
        }
        metadata.insert("name".into(), json!(name));
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}],
                     "selector": self.pod_labels(name)?},
            "status": {"loadBalancer": {}}}))
    }

    /// Waits, attaches, and finds the exit code.
    async fn attached(
        &self,
        ctx: &mut Context<'_>,
        created: &Value,
        interrupts: Option<Interrupts>,
    ) -> Result<Ended, Error> {
        let limit = crate::duration::parse_timeout(&self.pod_running_timeout)?;
        let pod = match interrupts {
            None => started(ctx, created, limit).await?,
            Some(mut interrupts) => tokio::select! {
                pod = started(ctx, created, limit) => pod?,
                code = interrupts.next() => return Ok(Ended::with(code)),
            },
        };
        let container = text(created, "/spec/containers/0/name").to_owned();
        if completed(&pod) {
            print_log(ctx, &pod, &container).await?;
        } else {
            let wiring = Wiring::possible(self.stdin, self.tty, ctx.io);
            match exec::attach(ctx, &pod, &container, wiring, self.quiet).await {
                Ok(End::Interrupted(code)) => return Ok(Ended::with(code)),
                Ok(End::Exit(0)) => {}
                // A node that knows the exit code of an attached container tells it here.
                Ok(End::Exit(code)) if self.restart == "Always" => return Ok(Ended::with(code)),
                Ok(End::Exit(_)) => {}
                Ok(End::Failed(message)) => self.fall_back(ctx, &pod, &container, &message).await?,
                Err(e @ Error::Output(_)) => return Err(e),
                Err(e) => self.fall_back(ctx, &pod, &container, &e.report()).await?,
            }
        }
        if self.restart == "Always" || self.leave_stdin_open {
            return Ok(Ended::default());
        }
        let success_only = self.restart == "OnFailure";
        exit_code(ctx, created, limit, success_only).await
    }

    /// Removes what was created; what is gone already is no failure.
    async fn remove(&self, ctx: &mut Context<'_>, objects: &[Value]) -> Result<(), Error> {
        let mut errors = Vec::new();
        for object in objects {
            let namespace = text(object, "/metadata/namespace");
            let name = text(object, "/metadata/name");
            let kind = text(object, "/kind").to_lowercase();
            let path = format!("/api/v1/namespaces/{}/{kind}s/{}", encode(namespace), encode(name));
            let call = Call::delete(path, &json!({"propagationPolicy": "Background"}));
            match ctx.call(&call).await {
                Ok(_) if self.quiet => {}
                Ok(_) => ctx
                    .io
                    .say(format_args!("{kind} {name:?} deleted from {namespace} namespace"))?,
                Err(e) if e.is_not_found() => {}
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)
    }

    /// A container that ended before the attach reached it has left its output in the log.
    async fn fall_back(
        &self,
        ctx: &mut Context<'_>,
        pod: &Pod,
        container: &str,
        why: &str,
    ) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or("");
        ctx.io.warn(format_args!(
            "warning: couldn't attach to pod/{name}, falling back to streaming logs: {}",
            why.trim_start_matches("error: ")
        ));
        print_log(ctx, pod, container).await
    }
}

fn environment(pairs: &[String]) -> Result<Vec<Value>, Error> {
    let parse = |pair: &String| match pair.split_once('=') {
        Some((name, value)) if is_env_name(name) => Ok(json!({"name": name, "value": value})),
        _ => Err(Error::refused(format!("invalid env: {pair}"))),
    };
    pairs.iter().map(parse).collect()
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_graphic() && c != '=')
}

fn pods_resource() -> ApiResource {
    ApiResource {
        version: "v1".into(),
        plural: "pods".into(),
        kind: "Pod".into(),
        namespaced: true,
        ..ApiResource::default()
    }
}

fn completed(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Waits until the pod is running and ready, or has completed already.
async fn started(
    ctx: &mut Context<'_>,
    created: &Value,
    limit: Option<Duration>,
) -> Result<Pod, Error> {
    let (namespace, name) = (text(created, "/metadata/namespace"), text(created, "/metadata/name"));
    let look = |_: &mut Context<'_>, object: Option<&Value>| {
        let Some(object) = object else {
            return Err(Error::refused(format!("pods {name:?} not found")));
        };
        let pod: Pod = typed(object.clone())?;
        let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let go = completed(&pod) || (running && is_ready(&pod));
        Ok(if go { Verdict::Go(pod) } else { Verdict::Wait })
    };
    watch::until(ctx, &pods_resource(), namespace, name, limit, look)
        .await?
        .ok_or_else(|| Error::refused("timed out waiting for the condition"))
}

/// How an attached pod ended.
#[derive(Debug, Default)]
struct Ended {
    code: i32,
    /// What is said of it, if it failed.
    sentence: Option<String>,
}

impl Ended {
    fn with(code: i32) -> Self {
        Ended { code, sentence: None }
    }
}

/// Waits for the pod's end and gives its container's exit code.
async fn exit_code(
    ctx: &mut Context<'_>,
    created: &Value,
    limit: Option<Duration>,
    success_only: bool,
) -> Result<Ended, Error> {
    let (namespace, name) = (text(created, "/metadata/namespace"), text(created, "/metadata/name"));
    let look = |_: &mut Context<'_>, object: Option<&Value>| {
        let Some(object) = object else {
            return Err(Error::refused(format!("pods {name:?} not found")));
        };
        let done = match text(object, "/status/phase") {
            "Succeeded" => true,
            "Failed" => !success_only,
            _ => false,
        };
        Ok(if done { Verdict::Go(object.clone()) } else { Verdict::Wait })
    };
    let ended = watch::until(ctx, &pods_resource(), namespace, name, limit, look).await?;
    let ended = ended.ok_or_else(|| Error::refused("timed out waiting for the condition"))?;
    if text(&ended, "/status/phase") == "Succeeded" {
        return Ok(Ended::default());
    }
    let state = ended.pointer("/status/containerStatuses/0/state/terminated");
    let code = state.and_then(|s| s.get("exitCode")).and_then(Value::as_i64).unwrap_or(0);
    match i32::try_from(code) {
        Ok(0) | Err(_) => {
            Err(Error::refused(format!("pod {namespace}/{name} failed with unknown exit code")))
        }
        Ok(code) => {
            let reason = state.map_or("", |s| text(s, "/reason"));
            let message = state.map_or("", |s| text(s, "/message"));
            let sentence = format!("pod {namespace}/{name} terminated ({reason})\n{message}");
            Ok(Ended { code, sentence: Some(sentence.trim_end().to_owned()) })
        }
    }
}

async fn print_log(ctx: &mut Context<'_>, pod: &Pod, container: &str) -> Result<(), Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let path = format!("/api/v1/namespaces/{}/pods/{}/log", encode(namespace), encode(name));
    let call = Call::get(path).accept("*/*").query("container", container);
    let log = ctx.call(&call).await?;
    ctx.io.bytes(&log)
}

fn print_objects(ctx: &mut Context<'_>, output: &Output, objects: &[Value]) -> Result<(), Error> {
    for (i, object) in objects.iter().enumerate() {
        // kubectl separates the documents of `run --expose -o yaml`.
        if i > 0 && output.output == "yaml" {
            ctx.io.say("---")?;
        }
        output.print(ctx.io, object, "created")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "run/tests.rs"]
mod tests;
