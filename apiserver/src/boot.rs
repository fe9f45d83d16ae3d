//! The objects without which no cluster works: the first namespaces, and the Service by which pods
//! find the API server (upstream: `pkg/controlplane/controller/{systemnamespaces,kubernetesservice}`,
//! `pkg/controlplane/reconcilers`).
//!
//! They are made through the ordinary verbs, put right when they are wrong at a later start, and
//! made again when they are deleted. So are those of `boot/addons.rs`, without which it would work.

mod addons;

use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use resources::service_cidr::DEFAULT_NAME;
use resources::table::{self, Resource};
use serde_json::{Value, json};
use store::{Change, WatchError};
use thiserror::Error;

use crate::allocate::{self, cluster_ip};
use crate::api::Api;
use crate::authn::User;
use crate::authz::MASTERS;
use crate::http::query::Query;
use crate::http::route::Target;
use crate::key;
use crate::status::ApiError;
use crate::verbs::update::Part;
use crate::verbs::{Body, Call, create, update};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const HTTPS: u16 = 443;

/// Why a first object cannot be made.
#[derive(Debug, Error)]
#[error("make {kind} {name}: {reason}")]
pub struct BootError {
    kind: &'static str,
    name: String,
    reason: String,
}

/// Makes or corrects the first objects.
pub(crate) async fn make_first_objects(api: &Api) -> Result<(), BootError> {
    let namespaces = NAMESPACES.map(|name| First {
        group: "",
        plural: "namespaces",
        namespace: None,
        object: json!({ "metadata": { "name": name } }),
    });
    // Together they share one sync of the disk.
    let namespaces = futures::future::join_all(namespaces.iter().map(|first| ensure(api, first)));
    let (namespaces, ranges) = futures::join!(namespaces, make_service_cidr(api));
    namespaces.into_iter().collect::<Result<Vec<()>, _>>()?;
    ranges?;
    take_missing_addresses(api).await?;
    let of_server = of_server(api);
    ensure(api, &of_server[0]).await?;
    let others = of_server[1..].iter().map(|first| ensure(api, first));
    let (others, ()) = futures::join!(futures::future::join_all(others), addons::make(api));
    others.into_iter().collect()
}

/// The Service by which pods find the API server, and where it leads.
fn of_server(api: &Api) -> Vec<First> {
    let namespace = Some("default");
    let service = First { group: "", plural: "services", namespace, object: service(api) };
    let address = api.advertise.ip();
    if address.is_loopback() || address.is_unspecified() {
        // Not valid as an endpoint, and no pod could reach it.
        tracing::warn!(%address, "the kubernetes Service has no endpoint");
        return vec![service];
    }
    let endpoints = First { group: "", plural: "endpoints", namespace, object: endpoints(api) };
    let group = "discovery.k8s.io";
    let slice = First { group, plural: "endpointslices", namespace, object: slice(api) };
    vec![service, endpoints, slice]
}

/// The ranges of the flags as an object (upstream: `pkg/controlplane/controller/defaultservicecidr`).
/// One that is there already stays as it is, but for a second family that was added to the flags.
async fn make_service_cidr(api: &Api) -> Result<(), BootError> {
    let ranges: Vec<String> = api.ranges.service_cidrs.iter().map(ToString::to_string).collect();
    let (plural, group) = ("servicecidrs", "networking.k8s.io");
    let object = json!({ "metadata": { "name": DEFAULT_NAME }, "spec": { "cidrs": ranges } });
    ensure(api, &First { group, plural, namespace: None, object }).await?;
    let Some(resource) = table::by_path(group, "v1", plural) else { return Ok(()) };
    let call = call(resource, None, Some(DEFAULT_NAME.to_owned()));
    let changed = update::change(api, &call, Part::Main, |current| {
        let mut object = current.object.clone_boxed();
        if let Some(object) = object.as_any_mut().downcast_mut::<ServiceCIDR>() {
            object.spec.get_or_insert_default().cidrs = Some(ranges.clone());
        }
        Ok(object)
    });
    if let Err(error) = changed.await {
        // The ranges of a cluster outlive the flags of its server.
        tracing::warn!("Services keep their ranges, which are not those of the flags: {error}");
    }
    Ok(())
}

/// Every address that a Service holds has an IPAddress.
async fn take_missing_addresses(api: &Api) -> Result<(), BootError> {
    let failed =
        |reason: String| BootError { kind: "IPAddress", name: "of Services".into(), reason };
    let txn = allocate::service::missing_addresses(&api.store.snapshot())
        .map_err(|error| failed(error.to_string()))?;
    if !txn.ops.is_empty() {
        api.store.commit(txn).await.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Makes the objects of the `kubernetes` Service again when somebody deletes them, until the store
/// closes. Upstream looks every ten seconds; here the deletion itself says so.
pub(crate) async fn keep_first_objects(api: Arc<Api>) {
    let cidr = First {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        namespace: None,
        object: json!({ "metadata": { "name": DEFAULT_NAME } }),
    };
    let mut kept = of_server(&api);
    kept.push(cidr);
    kept.extend(addons::wanted(&api));
    let keys: Vec<String> = kept.iter().filter_map(First::key).collect();
    let after = api.store.snapshot().revision();
    let watches: Result<Vec<store::Watch>, WatchError> =
        keys.iter().map(|key| api.store.watch(key, after)).collect();
    let Ok(watches) = watches else { return };
    let mut events = futures::stream::select_all(watches);
    // A watch that fell behind would end here; it has a few keys that hardly ever change.
    while let Some(Ok(event)) = events.next().await {
        let ours = keys.iter().any(|key| **key == *event.key);
        if ours
            && matches!(event.change, Change::Delete { .. })
            && let Err(error) = make_first_objects(&api).await
        {
            tracing::error!("what was deleted is not restored: {error}");
        }
    }
}

fn service(api: &Api) -> Value {
    // Upstream: `ServiceIPRange`.
    let range = api.ranges.service_cidrs.first();
    let own_address = range.map(|range| cluster_ip::address(*range, 0).to_string());
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": own_address,
            "ports": [{
                "name": "https",
                "port": HTTPS,
                "protocol": "TCP",
                "targetPort": api.advertise.port(),
            }],
        },
    })
}

fn endpoints(api: &Api) -> Value {
    json!({
        "metadata": {
            "name": "kubernetes",
            // The slice is written here, too: nobody shall mirror it.
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": api.advertise.ip().to_string() }],
            "ports": [{
                "name": "https", "port": api.advertise.port(), "protocol": "TCP",
            }],
        }],
    })
}

fn slice(api: &Api) -> Value {
    let address = api.advertise.ip();
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": match address { IpAddr::V4(_) => "IPv4", IpAddr::V6(_) => "IPv6" },
        "endpoints": [{
            "addresses": [address.to_string()], "conditions": { "ready": true },
        }],
        "ports": [{ "name": "https", "port": api.advertise.port(), "protocol": "TCP" }],
    })
}

/// An object that the server makes by itself.
struct First {
    group: &'static str,
    plural: &'static str,
    namespace: Option<&'static str>,
    object: Value,
}

impl First {
    fn resource(&self) -> Option<&'static Resource> {
        table::by_path(self.group, "v1", self.plural)
    }

    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn key(&self) -> Option<String> {
        Some(key::object(self.resource()?, self.namespace, self.name()))
    }

    /// Whether nobody else may have written to it: it is put right at each start.
    fn is_ours_alone(&self) -> bool {
        matches!(self.plural, "endpoints" | "endpointslices")
    }
}

/// Creates the object; one that is there already keeps what others added to it, unless nobody may.
async fn ensure(api: &Api, first: &First) -> Result<(), BootError> {
    let kind = first.resource().map_or(first.plural, |resource| resource.kind);
    let failed = |reason: String| BootError { kind, name: first.name().to_owned(), reason };
    let resource = first.resource().ok_or_else(|| failed("no such resource".to_owned()))?;
    let bytes = first.object.to_string().into();
    let body = Body { content_type: "application/json".into(), bytes };
    let made = match create::create(api, &call(resource, first.namespace, None), &body).await {
        Err(ApiError::AlreadyExists { .. }) if !first.is_ours_alone() => return Ok(()),
        Err(ApiError::AlreadyExists { .. }) => {
            let call = call(resource, first.namespace, Some(first.name().to_owned()));
            update::replace(api, &call, &body).await
        }
        made => made,
    };
    made.map(|_| ()).map_err(|error| failed(error.to_string()))
}

/// A request of the server itself.
fn call(resource: &'static Resource, namespace: Option<&str>, name: Option<String>) -> Call {
    Call {
        user: User::new("system:apiserver", &[MASTERS]),
        target: Target {
            resource,
            namespace: namespace.map(str::to_owned),
            name,
            subresource: None,
        },
        query: Query::default(),
        dry_run: false,
    }
}
