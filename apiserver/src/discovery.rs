//! Discovery: which groups, versions and resources there are, derived from the resource table.
//!
//! Output: the aggregated forms (`apidiscovery.k8s.io` v2 and v2beta1) and the plain ones. The
//! aggregated documents are made once and carry an ETag, so that a client asks once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};
use resources::table::{self, Resource, Subresource};
use serde_json::{Value, json};

use crate::http::accept::{self, DiscoveryForm};
use crate::http::respond::Reply;
use crate::http::route::{Route, segment};
use crate::status::ApiError;

/// The version we are compatible with.
const MAJOR: &str = "1";
const MINOR: &str = "36";
const GIT_VERSION: &str = "v1.36.0+minictl";

/// `/version`.
pub(crate) fn version() -> Bytes {
    let version = json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    });
    version.to_string().into()
}

/// The list of custom resource definitions: this server has none.
pub(crate) fn no_definitions() -> Bytes {
    let list = json!({
        "kind": "CustomResourceDefinitionList",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "resourceVersion": "1" },
        "items": [],
    });
    list.to_string().into()
}

/// The machine's architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A document and its ETag.
struct Document {
    body: Bytes,
    etag: String,
}

impl Document {
    fn of(value: &Value) -> Self {
        let body = value.to_string();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { etag: format!("{:016X}", hasher.finish()), body: body.into() }
    }
}

/// The aggregated documents: core and named groups, each in both versions.
pub(crate) struct Discovery {
    core: [Document; 2],
    named: [Document; 2],
}

impl Discovery {
    /// Makes the documents from the resource table.
    pub(crate) fn new() -> Self {
        let both = |core: bool| ["v2", "v2beta1"].map(|v| Document::of(&aggregated(core, v)));
        Self { core: both(true), named: both(false) }
    }
}

/// Answers a discovery request.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn answer(
    discovery: &Discovery,
    route: &Route,
    headers: &HeaderMap,
    reply: &Reply,
) -> Result<Response, ApiError> {
    let accepted = crate::http::header(headers, header::ACCEPT.as_str());
    let form = accept::discovery(accepted.as_deref());
    let aggregated = |documents: &[Document; 2], version: &str| {
        let document = if version == "v2" { &documents[0] } else { &documents[1] };
        let kind =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        reply.document(&kind, &document.etag, document.body.clone())
    };
    let plain = |value: Value| Ok(reply.json(value.to_string().into()));
    match (route, form) {
        (Route::CoreVersions, DiscoveryForm::Aggregated(v)) => Ok(aggregated(&discovery.core, v)),
        (Route::Groups, DiscoveryForm::Aggregated(v)) => Ok(aggregated(&discovery.named, v)),
        (Route::CoreVersions, DiscoveryForm::Plain) => plain(json!({
            "kind": "APIVersions",
            "versions": versions(""),
            "serverAddressByClientCIDRs": [],
        })),
        (Route::Groups, DiscoveryForm::Plain) => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            plain(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        (Route::Group(name), _) => {
            let known = groups().into_iter().find(|g| g == name).ok_or(ApiError::UnknownPath)?;
            let mut value = group(known);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            plain(value)
        }
        (Route::Resources { group, version }, _) => plain(resources(group, version)?),
        _ => Err(ApiError::UnknownPath),
    }
}

/// The named groups in the order of the table.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for row in table::all().iter().filter(|r| !r.group.is_empty()) {
        if !groups.contains(&row.group) {
            groups.push(row.group);
        }
    }
    groups
}

fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = Vec::new();
    for row in table::all().iter().filter(|r| r.group == group) {
        if !versions.contains(&row.version) {
            versions.push(row.version);
        }
    }
    versions
}

fn rows(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    table::all().iter().filter(move |r| r.group == group && r.version == version)
}

/// An entry of APIGroupList.
fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .into_iter()
        .map(|v| json!({ "groupVersion": format!("{name}/{v}"), "version": v }))
        .collect();
    json!({ "name": name, "preferredVersion": versions.first(), "versions": versions })
}

/// APIResourceList of a group version.
fn resources(group: &str, version: &str) -> Result<Value, ApiError> {
    let mut list: Vec<Value> = Vec::new();
    for row in rows(group, version) {
        let mut entry = json!({
            "name": row.plural,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": VERBS,
        });
        if !row.short_names.is_empty() {
            entry["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            entry["categories"] = json!(row.categories);
        }
        list.push(entry);
        for part in row.subresources {
            let shape = Shape::of(row, *part);
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, segment(*part)),
                "singularName": "",
                "namespaced": row.namespaced,
                "kind": shape.kind,
                "verbs": shape.verbs,
            });
            if let Some((group, version)) = shape.gv {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(ApiError::UnknownPath);
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": list,
    }))
}

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What a subresource takes and gives.
struct Shape {
    kind: &'static str,
    /// Group and version, where they are not the resource's.
    gv: Option<(&'static str, &'static str)>,
    verbs: &'static [&'static str],
}

impl Shape {
    fn of(row: &Resource, part: Subresource) -> Self {
        const CHANGE: &[&str] = &["get", "patch", "update"];
        const CREATE: &[&str] = &["create"];
        const STREAM: &[&str] = &["create", "get"];
        let own = |kind, verbs| Self { kind, gv: None, verbs };
        match part {
            Subresource::Status => own(row.kind, CHANGE),
            Subresource::Scale => {
                Self { kind: "Scale", gv: Some(("autoscaling", "v1")), verbs: CHANGE }
            }
            Subresource::Finalize => own(row.kind, &["update"]),
            Subresource::Binding => own("Binding", CREATE),
            Subresource::Eviction => {
                Self { kind: "Eviction", gv: Some(("policy", "v1")), verbs: CREATE }
            }
            Subresource::Log => own(row.kind, &["get"]),
            Subresource::Exec => own("PodExecOptions", STREAM),
            Subresource::Attach => own("PodAttachOptions", STREAM),
            Subresource::PortForward => own("PodPortForwardOptions", STREAM),
        }
    }
}

/// APIGroupDiscoveryList of the core group or of all others.
fn aggregated(core: bool, version: &str) -> Value {
    let names = if core { vec![""] } else { groups() };
    let items: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let versions: Vec<Value> = versions(name)
                .into_iter()
                .map(|v| {
                    let list: Vec<Value> = rows(name, v).map(aggregated_resource).collect();
                    json!({ "version": v, "resources": list, "freshness": "Current" })
                })
                .collect();
            let metadata = if name.is_empty() {
                json!({ "creationTimestamp": null })
            } else {
                json!({ "name": name, "creationTimestamp": null })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(row: &Resource) -> Value {
    let own = |kind: &str| json!({ "group": row.group, "version": row.version, "kind": kind });
    let parts: Vec<Value> = row
        .subresources
        .iter()
        .map(|part| {
            let shape = Shape::of(row, *part);
            let kind = match shape.gv {
                Some((group, version)) => {
                    json!({ "group": group, "version": version, "kind": shape.kind })
                }
                None => own(shape.kind),
            };
            json!({
                "subresource": segment(*part), "responseKind": kind, "verbs": shape.verbs,
            })
        })
        .collect();
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": own(row.kind),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": VERBS,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    if !parts.is_empty() {
        entry["subresources"] = json!(parts);
    }
    entry
}
