//! `describe`: what a person wants to know of an object, with its events.
//!
//! Owns: choosing the objects, fetching what belongs to them, and choosing the describer. The texts
//! are pure functions of typed objects (`describe::*`), aligned by `describe::text`. Upstream:
//! `kubectl/pkg/cmd/describe/describe.go`, `kubectl/pkg/describe/describe.go`.

mod container;
mod endpoints;
mod generic;
mod ingress;
mod metadata;
mod node;
mod plain;
mod pod;
mod quantity;
mod service;
mod text;
mod volume;
mod workload;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::Value;

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text as field;
use crate::error::Error;
use crate::manifest::Files;
use crate::pods::{selector_text, typed};
use crate::session::Call;
use crate::target;
use text::Text;

/// Show details of a specific resource or group of resources
#[derive(clap::Args, Clone, Debug)]
pub struct Describe {
    /// TYPE [NAME_PREFIX…] or TYPE/NAME…
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Describe the objects of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Show the events that belong to the object; by default only for a single one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub show_events: Option<bool>,
}

/// What belongs to an object and is shown with it.
struct Surroundings {
    /// `None` if events are not shown.
    events: Option<Vec<Event>>,
    now: Timestamp,
}

impl Describe {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let (objects, errors) = self.objects(ctx).await?;
        let show_events = self.show_events.unwrap_or(objects.len() == 1 && errors.is_empty());
        let mut first = true;
        for (resource, object) in &objects {
            let text = describe(ctx, resource, object, show_events).await?;
            let gap = if first { "" } else { "\n\n" };
            first = false;
            ctx.io.print(&format!("{gap}{text}"))?;
        }
        if objects.is_empty() && errors.is_empty() {
            if self.all_namespaces {
                ctx.io.warn("No resources found");
            } else {
                let namespace = ctx.namespace();
                ctx.io.warn(format_args!("No resources found in {namespace} namespace."));
            }
        }
        Error::all(errors)
    }

    async fn objects(
        &self,
        ctx: &mut Context<'_>,
    ) -> Result<(Vec<(ApiResource, Value)>, Vec<Error>), Error> {
        let (mut objects, mut errors) = (Vec::new(), Vec::new());
        if !self.files.is_empty() {
            for mut manifest in self.files.read(ctx.io).await? {
                let (resource, namespace) = ctx.place(&mut manifest).await?;
                match ctx.object(&resource, &namespace, manifest.name()).await {
                    Ok(object) => objects.push((resource, object)),
                    Err(e) => errors.push(e),
                }
            }
            return Ok((objects, errors));
        }
        if self.resources.is_empty() {
            return Err(Error::refused(
                "You must specify the type of resource to describe. Use \"minictl api-resources\" \
                 for a complete list of supported resources.",
            ));
        }
        let catalog = ctx.catalog().await?;
        let targets = target::parse(&catalog, &self.resources)?;
        target::check_selection(&targets, &self.selector, false)?;
        let namespace = (!self.all_namespaces).then(|| ctx.namespace());
        let by_prefix = self.resources.len() == 2 && !self.resources[0].contains('/');
        for target in targets {
            let collection = Call::get(target.resource.path(namespace.as_deref(), "", ""))
                .query("labelSelector", self.selector.as_str());
            let Some(name) = &target.name else {
                let found = ctx.list(&collection).await?;
                objects.extend(found.into_iter().map(|o| (target.resource.clone(), o)));
                continue;
            };
            let space = namespace.as_deref().unwrap_or("");
            match ctx.object(&target.resource, space, name).await {
                Ok(object) => objects.push((target.resource, object)),
                Err(e) if e.is_not_found() && by_prefix => {
                    let mut found = ctx.list(&collection).await?;
                    found.retain(|o| field(o, "/metadata/name").starts_with(name.as_str()));
                    if found.is_empty() {
                        return Err(e);
                    }
                    objects.extend(found.into_iter().map(|o| (target.resource.clone(), o)));
                }
                Err(e) => errors.push(e),
            }
        }
        Ok((objects, errors))
    }
}

/// Fetches what belongs to the object and describes it.
async fn describe(
    ctx: &mut Context<'_>,
    resource: &ApiResource,
    object: &Value,
    show_events: bool,
) -> Result<String, Error> {
    let events = if show_events { Some(events(ctx, object).await) } else { None };
    let around = Surroundings { events, now: Timestamp::now() };
    let mut out = Text::default();
    let copy = object.clone();
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::describe(&mut out, &typed(copy)?, &around),
        ("", "Service") => {
            let slices = endpoint_slices(ctx, object).await;
            service::describe(&mut out, &typed(copy)?, &slices, &around);
        }
        ("", "Endpoints") => endpoints::endpoints(&mut out, &typed(copy)?, &around),
        ("discovery.k8s.io", "EndpointSlice") => {
            endpoints::slice(&mut out, &typed(copy)?, &around);
        }
        ("apps", "Deployment") => {
            let sets = replica_sets(ctx, object).await;
            workload::deployment(&mut out, &typed(copy)?, &sets, &around);
        }
        ("apps", "ReplicaSet") => {
            let pods = pods_of(ctx, object).await;
            workload::replica_set(&mut out, &typed(copy)?, &pods, &around);
        }
        ("networking.k8s.io", "Ingress") => {
            let ingress = typed(copy)?;
            let targets = ingress_targets(ctx, &ingress).await;
            ingress::describe(&mut out, &ingress, &targets, &around);
        }
        ("networking.k8s.io", "IngressClass") => {
            ingress::class(&mut out, &typed(copy)?, &around);
        }
        ("", "Node") => {
            let name = field(object, "/metadata/name");
            let (pods, lease) = node_parts(ctx, name).await?;
            node::describe(&mut out, &typed(copy)?, &pods, lease, &around);
        }
        ("", "Namespace") => plain::namespace(&mut out, &typed(copy)?),
        ("", "ConfigMap") => plain::config_map(&mut out, &typed(copy)?, &around),
        ("", "Secret") => plain::secret(&mut out, &typed(copy)?),
        ("", "ServiceAccount") => plain::service_account(&mut out, &typed(copy)?, &around),
        _ => generic::describe(&mut out, object, &around),
    }
    Ok(out.render())
}

/// The pod template of a workload, for `rollout history --revision`, with tabs and a blank line
/// behind it, as kubectl prints it there.
pub(crate) fn pod_template(workload: &Value) -> Result<String, Error> {
    let template = workload.pointer("/spec/template").cloned().unwrap_or_default();
    let template = serde_json::from_value(template).map_err(|e| Error::BadAnswer {
        what: crate::edit_value::short_name(workload),
        detail: e.to_string(),
    })?;
    let mut out = Text::default();
    workload::template(&mut out, &template);
    Ok(out.raw() + "\n")
}

/// The events about an object, oldest first. Their absence is no reason to show nothing.
async fn events(ctx: &mut Context<'_>, object: &Value) -> Vec<Event> {
    let (name, namespace, uid) = (
        field(object, "/metadata/name"),
        field(object, "/metadata/namespace"),
        field(object, "/metadata/uid"),
    );
    let kind = field(object, "/kind");
    let path = if namespace.is_empty() {
        "/api/v1/events".to_owned()
    } else {
        format!("/api/v1/namespaces/{}/events", crate::session::encode(namespace))
    };
    let mut uids = vec![uid];
    if kind == "Node" {
        // A node reports of itself under its name.
        uids.push(name);
    }
    let mut found: Vec<Event> = Vec::new();
    for uid in uids {
        let mut selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        if !namespace.is_empty() {
            selector.push_str(&format!(",involvedObject.namespace={namespace}"));
        }
        if !uid.is_empty() {
            selector.push_str(&format!(",involvedObject.uid={uid}"));
        }
        let call = Call::get(path.as_str()).query("fieldSelector", selector);
        let items = ctx.list(&call).await.unwrap_or_default();
        found.extend(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()));
    }
    metadata::sort_events(&mut found);
    found
}

async fn list_typed<T: serde::de::DeserializeOwned>(ctx: &mut Context<'_>, call: &Call) -> Vec<T> {
    let items = ctx.list(call).await.unwrap_or_default();
    items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()
}

async fn endpoint_slices(
    ctx: &mut Context<'_>,
    service: &Value,
) -> Vec<k8s_openapi::api::discovery::v1::EndpointSlice> {
    let namespace = crate::session::encode(field(service, "/metadata/namespace"));
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let name = field(service, "/metadata/name");
    let call = Call::get(path).query("labelSelector", format!("kubernetes.io/service-name={name}"));
    list_typed(ctx, &call).await
}

/// The Services that an Ingress leads to; one that cannot be had says why.
async fn ingress_targets(
    ctx: &mut Context<'_>,
    ingress: &k8s_openapi::api::networking::v1::Ingress,
) -> Vec<ingress::Target> {
    let namespace =
        crate::session::encode(ingress.metadata.namespace.as_deref().unwrap_or_default());
    let mut targets = Vec::new();
    for name in ingress::services(ingress) {
        let path = format!("/api/v1/namespaces/{namespace}/services/");
        let path = format!("{path}{}", crate::session::encode(&name));
        let (service, slices) = match ctx.json(&Call::get(path)).await {
            Ok(object) => {
                let slices = endpoint_slices(ctx, &object).await;
                (typed(object).map_err(|e| e.to_string()), slices)
            }
            Err(e) => (Err(e.to_string()), Vec::new()),
        };
        targets.push(ingress::Target { name, service, slices });
    }
    targets
}

async fn replica_sets(ctx: &mut Context<'_>, deployment: &Value) -> Vec<ReplicaSet> {
    let namespace = crate::session::encode(field(deployment, "/metadata/namespace"));
    let call = Call::get(format!("/apis/apps/v1/namespaces/{namespace}/replicasets"))
        .query("labelSelector", selector_text(deployment).unwrap_or_default());
    let mut sets: Vec<ReplicaSet> = list_typed(ctx, &call).await;
    let uid = field(deployment, "/metadata/uid");
    sets.retain(|set| metadata::is_controlled_by(&set.metadata, uid));
    sets
}

async fn pods_of(ctx: &mut Context<'_>, set: &Value) -> Vec<Pod> {
    let namespace = crate::session::encode(field(set, "/metadata/namespace"));
    let call = Call::get(format!("/api/v1/namespaces/{namespace}/pods"))
        .query("labelSelector", selector_text(set).unwrap_or_default());
    let mut pods: Vec<Pod> = list_typed(ctx, &call).await;
    let uid = field(set, "/metadata/uid");
    pods.retain(|pod| metadata::is_controlled_by(&pod.metadata, uid));
    pods
}

async fn node_parts(
    ctx: &mut Context<'_>,
    name: &str,
) -> Result<(Vec<Pod>, Result<node::Lease, String>), Error> {
    let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    let call = Call::get("/api/v1/pods").query("fieldSelector", selector);
    let pods = ctx.list(&call).await?.into_iter().map(typed).collect::<Result<_, _>>()?;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/";
    let lease = ctx.json(&Call::get(format!("{path}{}", crate::session::encode(name)))).await;
    let lease = match lease {
        Ok(lease) => typed(lease).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    Ok((pods, lease))
}
