//! `logs`: what containers wrote.
//!
//! Upstream: `kubectl/pkg/cmd/logs/logs.go`. The pure part is [`Logs::sources`]: which containers of
//! which pods are read, under which prefix.

use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::Error;
use crate::pods;
use crate::session::{Call, encode};
use crate::target;

/// Print the logs for a container in a pod or specified resource
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Logs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME")]
    pub pod: Option<String>,
    /// Container name
    #[arg(value_name = "CONTAINER", hide = true)]
    pub container_argument: Option<String>,
    /// Print the logs of this container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on printing as the logs grow
    #[arg(short, long)]
    pub follow: bool,
    /// Print the logs of the container's previous instance
    #[arg(short, long)]
    pub previous: bool,
    /// Put a timestamp before each line
    #[arg(long)]
    pub timestamps: bool,
    /// Lines of recent log to show; -1 shows all, 10 with a selector
    #[arg(long, allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// Only logs newer than this, e.g. 5s, 2m or 3h
    #[arg(long)]
    pub since: Option<String>,
    /// Only logs after this time (RFC 3339)
    #[arg(long)]
    pub since_time: Option<String>,
    /// Maximum bytes of logs to return
    #[arg(long)]
    pub limit_bytes: Option<i64>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Get all containers' logs in the pods
    #[arg(long)]
    pub all_containers: bool,
    /// Get the logs of all pods of a workload
    #[arg(long)]
    pub all_pods: bool,
    /// Put pod and container before each line
    #[arg(long)]
    pub prefix: bool,
    /// Go on with other containers if one's logs cannot be read
    #[arg(long)]
    pub ignore_errors: bool,
    /// How many logs may be followed at once
    #[arg(long, default_value_t = 5)]
    pub max_log_requests: usize,
}

/// One container's log.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    pod: String,
    container: String,
}

impl Logs {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let pods = self.pods(ctx).await?;
        let namespace = ctx.namespace();
        let mut sources = Vec::new();
        for pod in &pods {
            let (found, guess) = self.sources(pod)?;
            sources.extend(found);
            if let Some(guess) = guess {
                ctx.io.warn(guess);
            }
        }
        if self.follow && sources.len() > 1 {
            if sources.len() > self.max_log_requests {
                return Err(Error::refused(format!(
                    "you are attempting to follow {} log streams, but maximum allowed concurrency \
                     is {}, use --max-log-requests to increase the limit",
                    sources.len(),
                    self.max_log_requests
                )));
            }
            return self.follow_all(ctx, &namespace, sources).await;
        }
        for source in sources {
            match self.copy(ctx, &namespace, &source).await {
                Err(e) if self.ignore_errors && !e.is_closed_pipe() => {
                    ctx.io.warn(format_args!("error: {}", e.report()));
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn pods(&self, ctx: &mut Context<'_>) -> Result<Vec<Pod>, Error> {
        match &self.pod {
            None if self.selector.is_empty() => Err(Error::refused(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is \
                 a required argument for the logs command",
            )),
            None => {
                let found = pods::select(ctx, &self.selector).await?;
                if found.is_empty() {
                    let namespace = ctx.namespace();
                    ctx.io.warn(format_args!("No resources found in {namespace} namespace."));
                }
                Ok(found)
            }
            Some(_) if !self.selector.is_empty() => {
                Err(Error::refused("only a selector (-l) or a POD name is allowed"))
            }
            Some(name) => self.named(ctx, name).await,
        }
    }

    async fn named(&self, ctx: &mut Context<'_>, name: &str) -> Result<Vec<Pod>, Error> {
        let kind = name.split_once('/').map_or("pods", |(kind, _)| kind);
        let is_pod = matches!(kind, "pods" | "pod" | "po");
        if is_pod {
            return Ok(vec![pods::find(ctx, name).await?]);
        }
        let catalog = ctx.catalog().await?;
        let (resource, object) = target::one(&catalog, "pods", name)?;
        let all = pods::behind(ctx, &resource, &object).await?;
        if self.all_pods {
            return Ok(all);
        }
        let chosen = pods::find(ctx, name).await?;
        if all.len() > 1 {
            let pod = chosen.metadata.name.as_deref().unwrap_or("");
            ctx.io.warn(format_args!("Found {} pods, using pod/{pod}", all.len()));
        }
        Ok(vec![chosen])
    }

    /// The containers of a pod that are read, and the sentence that tells of a guess.
    fn sources(&self, pod: &Pod) -> Result<(Vec<Source>, Option<String>), Error> {
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let source =
            |container: &str| Source { pod: pod_name.clone(), container: container.to_owned() };
        let given = self.container.as_deref().or(self.container_argument.as_deref());
        if self.all_containers {
            if given.is_some() {
                return Err(Error::refused(
                    "--all-containers=true should not be specified with container name",
                ));
            }
            // Init containers ran first.
            let spec = pod.spec.as_ref();
            let init = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
            let main = spec.map(|s| s.containers.iter()).into_iter().flatten();
            return Ok((init.chain(main).map(|c| source(&c.name)).collect(), None));
        }
        let (container, guess) = pods::choose_container(pod, given)?;
        Ok((vec![source(&container)], guess))
    }

    fn call(&self, namespace: &str, source: &Source) -> Result<Call, Error> {
        let path =
            format!("/api/v1/namespaces/{}/pods/{}/log", encode(namespace), encode(&source.pod));
        let flag = |on: bool| if on { "true" } else { "" };
        let since = match &self.since {
            None => String::new(),
            Some(text) => match crate::duration::parse(text) {
                Some(seconds) if seconds > 0.0 => format!("{:.0}", seconds.ceil()),
                _ => {
                    return Err(Error::refused(format!(
                        "invalid argument {text:?} for \"--since\" flag"
                    )));
                }
            },
        };
        let tail = match self.tail {
            Some(lines) if lines >= 0 => lines.to_string(),
            Some(-1) => String::new(),
            Some(_) => return Err(Error::refused("--tail must be greater than or equal to -1")),
            None if !self.selector.is_empty() => "10".to_owned(),
            None => String::new(),
        };
        Ok(Call::get(path)
            .accept("*/*")
            .query("container", source.container.as_str())
            .query("follow", flag(self.follow))
            .query("previous", flag(self.previous))
            .query("timestamps", flag(self.timestamps))
            .query("tailLines", tail)
            .query("sinceSeconds", since)
            .query("sinceTime", self.since_time.clone().unwrap_or_default())
            .query("limitBytes", self.limit_bytes.map(|b| b.to_string()).unwrap_or_default()))
    }

    fn line_prefix(&self, source: &Source) -> String {
        if self.prefix {
            format!("[pod/{}/{}] ", source.pod, source.container)
        } else {
            String::new()
        }
    }

    /// Prints one log to its end.
    async fn copy(
        &self,
        ctx: &mut Context<'_>,
        namespace: &str,
        source: &Source,
    ) -> Result<(), Error> {
        let call = self.call(namespace, source)?;
        let session = ctx.session().await?;
        let mut body = session.start(&call).await?.into_body();
        let mut lines = Lines::new(self.line_prefix(source));
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                ctx.io.bytes(&lines.prefixed(&data))?;
            }
        }
        ctx.io.bytes(&lines.rest())
    }

    /// Follows several logs; their lines are not torn apart.
    async fn follow_all(
        &self,
        ctx: &mut Context<'_>,
        namespace: &str,
        sources: Vec<Source>,
    ) -> Result<(), Error> {
        let session = ctx.session().await?;
        let (sender, mut receiver) = mpsc::channel::<Result<Vec<u8>, Error>>(64);
        let mut tasks = tokio::task::JoinSet::new();
        for source in sources {
            let (session, sender) = (session.clone(), sender.clone());
            let call = self.call(namespace, &source)?;
            let mut lines = Lines::new(self.line_prefix(&source));
            tasks.spawn(async move {
                let mut body = match session.start(&call).await {
                    Ok(response) => response.into_body(),
                    Err(e) => {
                        let _ = sender.send(Err(e)).await;
                        return;
                    }
                };
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(data) = frame.into_data() else { continue };
                    if sender.send(Ok(lines.whole(&data))).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send(Ok(lines.rest())).await;
            });
        }
        drop(sender);
        while let Some(lines) = receiver.recv().await {
            match lines {
                Ok(lines) => ctx.io.bytes(&lines)?,
                Err(e) if self.ignore_errors => ctx.io.warn(format_args!("error: {}", e.report())),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Puts a prefix before each line of a stream that comes in arbitrary pieces.
struct Lines {
    prefix: String,
    held: Vec<u8>,
    at_start: bool,
}

impl Lines {
    fn new(prefix: String) -> Self {
        Lines { prefix, held: Vec::new(), at_start: true }
    }

    /// The piece with prefixes; nothing is held back.
    fn prefixed(&mut self, data: &[u8]) -> Vec<u8> {
        if self.prefix.is_empty() {
            return data.to_vec();
        }
        let mut out = Vec::with_capacity(data.len() + self.prefix.len());
        for line in data.split_inclusive(|b| *b == b'\n') {
            if self.at_start {
                out.extend_from_slice(self.prefix.as_bytes());
            }
            out.extend_from_slice(line);
            self.at_start = line.ends_with(b"\n");
        }
        out
    }

    /// The whole lines of what has come; a torn one waits for its end.
    fn whole(&mut self, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        let Some(end) = self.held.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let ready: Vec<u8> = self.held.drain(..=end).collect();
        self.prefixed(&ready)
    }

    fn rest(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.prefixed(&held)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}}))
        .unwrap()
    }

    fn names(logs: &Logs) -> Vec<String> {
        logs.sources(&pod()).unwrap().0.into_iter().map(|s| s.container).collect()
    }

    #[test]
    fn which_containers_are_read() {
        assert_eq!(names(&Logs::default()), ["a"]);
        assert_eq!(names(&Logs { container: Some("b".into()), ..Logs::default() }), ["b"]);
        let all = Logs { all_containers: true, ..Logs::default() };
        assert_eq!(names(&all), ["i", "a", "b"]);
        assert!(Logs { container: Some("a".into()), ..all }.sources(&pod()).is_err());
    }

    #[test]
    fn prefixes_stand_at_line_starts_whatever_the_pieces() {
        let mut lines = Lines::new("> ".into());
        let text = [lines.prefixed(b"a\nb"), lines.prefixed(b"c\n"), lines.prefixed(b"d")].concat();
        assert_eq!(String::from_utf8(text).unwrap(), "> a\n> bc\n> d");
        let mut lines = Lines::new("> ".into());
        let text = [lines.whole(b"a\nb"), lines.whole(b"c\nd"), lines.rest()].concat();
        assert_eq!(String::from_utf8(text).unwrap(), "> a\n> bc\n> d");
    }

    #[test]
    fn flags_become_query_parameters() {
        let source = Source { pod: "p".into(), container: "a".into() };
        let logs = Logs { since: Some("1m".into()), tail: Some(5), ..Logs::default() };
        let call = format!("{:?}", logs.call("default", &source).unwrap());
        assert!(call.contains("(\"tailLines\", \"5\")"), "{call}");
        assert!(call.contains("(\"sinceSeconds\", \"60\")"), "{call}");
        assert!(!call.contains("follow"), "{call}");
        assert!(Logs { tail: Some(-2), ..Logs::default() }.call("d", &source).is_err());
        assert!(Logs { since: Some("x".into()), ..Logs::default() }.call("d", &source).is_err());
    }
}
