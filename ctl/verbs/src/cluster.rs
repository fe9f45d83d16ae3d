//! Verbs about the cluster as a whole: `cluster-info`, `version`, `api-resources`, `api-versions`,
//! `config`.
//!
//! Upstream: `kubectl/pkg/cmd/{clusterinfo,version,apiresources,config}`.

use serde_json::{Value, json};

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::render::table::Layout;
use crate::render::{Format, to_json};
use crate::session::Call;

/// Display addresses of the control plane and of services with the label
/// kubernetes.io/cluster-service=true
#[derive(clap::Args, Clone, Debug)]
pub struct ClusterInfo {
    #[command(subcommand)]
    what: Option<InfoWhat>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum InfoWhat {
    /// Dump relevant information for debugging and diagnosis
    Dump,
}

impl ClusterInfo {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if self.what.is_some() {
            return dump(ctx).await;
        }
        let call = Call::get("/api/v1/namespaces/kube-system/services")
            .query("labelSelector", "kubernetes.io/cluster-service=true");
        let services = ctx.list(&call).await?;
        let server = ctx.session().await?.server.clone();
        ctx.io.say(format_args!("Kubernetes control plane is running at {server}"))?;
        for service in &services {
            let (name, link) = service_link(&server, service);
            ctx.io.say(format_args!("{name} is running at {link}"))?;
        }
        ctx.io.say(
            "\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.",
        )
    }
}

/// A cluster service's name and where the API server's proxy serves it.
fn service_link(server: &str, service: &Value) -> (String, String) {
    let name = text(service, "/metadata/name");
    let label = service.pointer("/metadata/labels/kubernetes.io~1name").and_then(Value::as_str);
    let port = service.pointer("/spec/ports/0");
    let scheme = match port.and_then(|p| p.get("port")).and_then(Value::as_i64) {
        Some(443) => "https:",
        _ => "",
    };
    let port = port.map_or("", |p| text(p, "/name"));
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    let namespace = text(service, "/metadata/namespace");
    let link =
        format!("{server}/api/v1/namespaces/{namespace}/services/{scheme}{name}{port}/proxy");
    (label.unwrap_or(name).to_owned(), link)
}

async fn dump(ctx: &mut Context<'_>) -> Result<(), Error> {
    let catalog = ctx.catalog().await?;
    let nodes = ctx.json(&Call::get("/api/v1/nodes")).await?;
    ctx.io.say(to_json(&nodes))?;
    for namespace in ["kube-system".to_owned(), ctx.namespace()] {
        for name in ["events", "services", "deployments", "replicasets", "pods"] {
            let Ok(resource) = catalog.resolve(name) else { continue };
            let list = ctx.json(&Call::get(resource.path(Some(&namespace), "", ""))).await?;
            ctx.io.say(to_json(&list))?;
        }
    }
    Ok(())
}

/// Print the client and server version
#[derive(clap::Args, Clone, Debug)]
pub struct Version {
    /// Only the client's version, without asking a server
    #[arg(long)]
    client: bool,
    /// yaml or json
    #[arg(short, long, default_value = "", hide_default_value = true)]
    output: String,
}

impl Version {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if !matches!(self.output.as_str(), "" | "yaml" | "json") {
            return Err(Error::refused("--output must be 'yaml' or 'json'"));
        }
        let client = json!({"gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
            "major": env!("CARGO_PKG_VERSION_MAJOR"), "minor": env!("CARGO_PKG_VERSION_MINOR"),
            "platform": format!("{}/{}", std::env::consts::OS, architecture())});
        let server =
            if self.client { Ok(None) } else { ctx.json(&Call::get("/version")).await.map(Some) };
        let mut all = json!({ "clientVersion": client });
        if let Ok(Some(server)) = &server {
            all["serverVersion"] = server.clone();
        }
        match self.output.as_str() {
            "json" => {
                let text = serde_json::to_string_pretty(&all).unwrap_or_default();
                ctx.io.say(text)?;
            }
            "yaml" => ctx.io.print(&crate::render::yaml::to_yaml(&all))?,
            _ => {
                ctx.io.say(format_args!("Client Version: {}", text(&client, "/gitVersion")))?;
                if let Ok(Some(server)) = &server {
                    ctx.io.say(format_args!("Server Version: {}", text(server, "/gitVersion")))?;
                }
            }
        }
        server.map(|_| ())
    }
}

/// Go's name for the processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Print the supported API resources on the server
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ApiResources {
    /// wide or name
    #[arg(short, long, default_value = "", hide_default_value = true)]
    output: String,
    /// Only resources of this API group
    #[arg(long)]
    api_group: Option<String>,
    /// Only namespaced resources, or with =false only others
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Only resources that support these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Only resources of these categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
}

impl ApiResources {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let catalog = ctx.catalog().await?;
        let text = self.print(&catalog.resources)?;
        ctx.io.print(&text)
    }

    fn print(&self, resources: &[ApiResource]) -> Result<String, Error> {
        let mut shown: Vec<&ApiResource> = resources.iter().filter(|r| self.wants(r)).collect();
        shown.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        let wide = match self.output.as_str() {
            "" => false,
            "wide" => true,
            "name" => return Ok(shown.iter().map(|r| r.qualified() + "\n").collect()),
            other => return Err(Error::refused(format!("--output {other} is not available"))),
        };
        let mut lines = Vec::new();
        if !self.no_headers {
            let mut headings = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
            if wide {
                headings.extend(["VERBS", "CATEGORIES"]);
            }
            lines.push(headings.into_iter().map(str::to_owned).collect());
        }
        lines.extend(shown.into_iter().map(|r| {
            let mut line = vec![
                r.plural.clone(),
                r.short_names.join(","),
                r.api_version(),
                r.namespaced.to_string(),
                r.kind.clone(),
            ];
            if wide {
                line.extend([r.verbs.join(","), r.categories.join(",")]);
            }
            line
        }));
        Ok(Layout::default().format(&lines))
    }

    fn wants(&self, resource: &ApiResource) -> bool {
        let has_all = |wanted: &[String], has: &[String]| wanted.iter().all(|w| has.contains(w));
        self.api_group.as_ref().is_none_or(|g| *g == resource.group)
            && self.namespaced.is_none_or(|n| n == resource.namespaced)
            && has_all(&self.verbs, &resource.verbs)
            && has_all(&self.categories, &resource.categories)
    }
}

/// Prints the API versions on the server, as group/version.
pub(crate) async fn api_versions(ctx: &mut Context<'_>) -> Result<(), Error> {
    let catalog = ctx.catalog().await?;
    let mut versions: Vec<String> =
        catalog.resources.iter().map(ApiResource::api_version).collect();
    versions.sort();
    versions.dedup();
    versions.into_iter().try_for_each(|version| ctx.io.say(version))
}

/// Look at the kubeconfig
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigVerb {
    #[command(subcommand)]
    what: ConfigWhat,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum ConfigWhat {
    /// Display the kubeconfig in use
    View {
        /// Show certificates and keys
        #[arg(long)]
        raw: bool,
        /// yaml or json
        #[arg(short, long, default_value = "yaml")]
        output: String,
        /// Only what the current context uses
        #[arg(long)]
        minify: bool,
    },
    /// Display the current context
    CurrentContext,
    /// Describe the contexts
    GetContexts,
}

impl ConfigVerb {
    pub(crate) fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let Some(config) = ctx.settings.kubeconfig.clone() else { return Err(Error::NoCluster) };
        match &self.what {
            ConfigWhat::CurrentContext => match &config.current_context {
                Some(name) => ctx.io.say(name),
                None => Err(Error::refused("current-context is not set")),
            },
            ConfigWhat::GetContexts => {
                let mut lines = vec![
                    "CURRENT NAME CLUSTER AUTHINFO NAMESPACE"
                        .split(' ')
                        .map(str::to_owned)
                        .collect(),
                ];
                for named in &config.contexts {
                    let current = config.current_context.as_ref() == Some(&named.name);
                    let context = named.context.clone().unwrap_or_default();
                    lines.push(vec![
                        if current { "*".to_owned() } else { String::new() },
                        named.name.clone(),
                        context.cluster,
                        context.user.unwrap_or_default(),
                        context.namespace.unwrap_or_default(),
                    ]);
                }
                ctx.io.print(&Layout::default().format(&lines))
            }
            ConfigWhat::View { raw, output, minify } => {
                let format = Format::parse(output)?;
                let mut config = config;
                if *minify {
                    minimise(&mut config);
                }
                let mut value = serde_json::to_value(&config).unwrap_or_default();
                if !raw {
                    redact(&mut value);
                }
                ctx.io.print(&format.object(&value).unwrap_or_default())
            }
        }
    }
}

/// Keeps only the current context with its cluster and user.
fn minimise(config: &mut kube::config::Kubeconfig) {
    let current = config.current_context.clone().unwrap_or_default();
    config.contexts.retain(|c| c.name == current);
    let context = config.contexts.first().and_then(|c| c.context.clone()).unwrap_or_default();
    config.clusters.retain(|c| c.name == context.cluster);
    config.auth_infos.retain(|u| Some(&u.name) == context.user.as_ref());
}

/// Hides certificates and secrets, as kubectl does without `--raw`.
fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "certificate-authority-data" | "client-certificate-data" => {
                        *value = "DATA+OMITTED".into();
                    }
                    "client-key-data" | "token" | "password" => *value = "REDACTED".into(),
                    _ => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::example;

    #[test]
    fn resources_are_listed_by_group_and_name() {
        let all = ApiResources { api_group: Some("apps".into()), ..ApiResources::default() };
        assert_eq!(
            all.print(&example().resources).unwrap(),
            "NAME          SHORTNAMES   APIVERSION   NAMESPACED   KIND\n\
             deployments   deploy       apps/v1      true         Deployment\n\
             replicasets   rs           apps/v1      true         ReplicaSet\n"
        );
        let names = ApiResources {
            output: "name".into(),
            namespaced: Some(false),
            ..ApiResources::default()
        };
        assert_eq!(names.print(&example().resources).unwrap(), "namespaces\nnodes\n");
    }

    #[test]
    fn a_cluster_service_is_reached_through_the_proxy() {
        let dns = json!({"metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"kubernetes.io/name": "CoreDNS"}}, "spec": {"ports": [{"name": "dns"}]}});
        assert_eq!(
            service_link("https://h:1", &dns),
            (
                "CoreDNS".to_owned(),
                "https://h:1/api/v1/namespaces/kube-system/services/kube-dns:dns/proxy".to_owned()
            )
        );
    }

    #[test]
    fn secrets_of_a_kubeconfig_are_hidden() {
        let mut value = json!({"users": [{"user": {"client-key-data": "secret", "token": "t"}}]});
        redact(&mut value);
        assert!(!value.to_string().contains("secret"));
    }
}
