//! Which resources the server has, and what a person may call them.
//!
//! Owns: [`Catalog`], parsed from aggregated discovery (`APIGroupDiscoveryList`) or, from servers
//! without it, from one list per group and version. Pure. Invariant: resources keep the server's
//! order, in which the core group comes first and a group's preferred version comes first; names
//! are resolved in that order, as client-go's RESTMapper does. Deliberately not here: requests.

use serde_json::Value;

use crate::error::Error;
use crate::session::encode;

/// A resource that the server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiResource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<String>,
}

impl ApiResource {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, `deployments.apps`: as messages name the resource.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `pod`, `deployment.apps`: the part before the slash in `deployment.apps/web`.
    pub(crate) fn kind_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// The URL path of the collection, of one object, or of an object's subresource.
    pub(crate) fn path(&self, namespace: Option<&str>, name: &str, subresource: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let (true, Some(namespace)) = (self.namespaced, namespace) {
            path.push_str(&format!("/namespaces/{}", encode(namespace)));
        }
        for part in [self.plural.as_str(), name, subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(&encode(part));
            }
        }
        path
    }

    fn answers_to(&self, name: &str) -> bool {
        self.plural == name
            || self.singular == name
            || self.kind.to_lowercase() == name
            || self.short_names.iter().any(|s| s == name)
    }
}

/// All resources of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) resources: Vec<ApiResource>,
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    items(value, key).filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Catalog {
    /// Adds the groups of an aggregated discovery answer. False if it is not one.
    pub(crate) fn add_aggregated(&mut self, answer: &Value) -> bool {
        if text(answer, "kind") != "APIGroupDiscoveryList" {
            return false;
        }
        for group in items(answer, "items") {
            let name = group.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
            for version in items(group, "versions") {
                for resource in items(version, "resources") {
                    let Some(kind) = resource.pointer("/responseKind/kind").and_then(Value::as_str)
                    else {
                        continue;
                    };
                    let plural = text(resource, "resource");
                    self.resources.push(ApiResource {
                        group: name.to_owned(),
                        version: text(version, "version"),
                        singular: singular(&text(resource, "singularResource"), kind),
                        plural,
                        kind: kind.to_owned(),
                        namespaced: text(resource, "scope") == "Namespaced",
                        short_names: texts(resource, "shortNames"),
                        categories: texts(resource, "categories"),
                        verbs: texts(resource, "verbs"),
                        subresources: items(resource, "subresources")
                            .map(|s| text(s, "subresource"))
                            .collect(),
                    });
                }
            }
        }
        true
    }

    /// Adds one `APIResourceList` of an older server.
    pub(crate) fn add_list(&mut self, list: &Value) {
        let api_version = text(list, "groupVersion");
        let (group, version) = split_api_version(&api_version);
        let start = self.resources.len();
        for resource in items(list, "resources") {
            let name = text(resource, "name");
            if let Some((parent, sub)) = name.split_once('/') {
                let parent = self.resources[start..].iter_mut().find(|r| r.plural == parent);
                if let Some(parent) = parent {
                    parent.subresources.push(sub.to_owned());
                }
                continue;
            }
            let kind = text(resource, "kind");
            self.resources.push(ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                singular: singular(&text(resource, "singularName"), &kind),
                plural: name,
                kind,
                namespaced: resource.get("namespaced").and_then(Value::as_bool) == Some(true),
                short_names: texts(resource, "shortNames"),
                categories: texts(resource, "categories"),
                verbs: texts(resource, "verbs"),
                subresources: Vec::new(),
            });
        }
    }

    /// Finds what a person calls `po`, `Pods`, `deploy`, `deployments.apps`,
    /// `deployments.v1.apps`.
    pub(crate) fn resolve(&self, name: &str) -> Result<&ApiResource, Error> {
        let wanted = name.to_lowercase();
        if let Some(found) = self.resources.iter().find(|r| r.answers_to(&wanted)) {
            return Ok(found);
        }
        if let Some((resource, rest)) = wanted.split_once('.') {
            let matches = |r: &&ApiResource| {
                let (version, group) = rest.split_once('.').unwrap_or((rest, ""));
                r.answers_to(resource)
                    && (r.group == rest || (r.version == version && r.group == group))
            };
            if let Some(found) = self.resources.iter().find(matches) {
                return Ok(found);
            }
            // kubectl reads `x.y` as resource x of group y and says so.
            return Err(Error::refused(format!(
                "the server doesn't have a resource type {resource:?} in group {rest:?}"
            )));
        }
        Err(Error::refused(format!("the server doesn't have a resource type {name:?}")))
    }

    /// Finds the resource of an object.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&ApiResource> {
        self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The resources of a category (`all`), at each group's preferred version.
    pub(crate) fn category(&self, name: &str) -> Vec<&ApiResource> {
        let mut found: Vec<&ApiResource> = Vec::new();
        for resource in self.resources.iter().filter(|r| r.categories.iter().any(|c| c == name)) {
            if !found.iter().any(|f| f.plural == resource.plural && f.group == resource.group) {
                found.push(resource);
            }
        }
        found
    }
}

fn singular(given: &str, kind: &str) -> String {
    if given.is_empty() { kind.to_lowercase() } else { given.to_owned() }
}

/// `apps/v1` into group and version; `v1` is the core group's.
pub(crate) fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn example() -> Catalog {
        let resource = |plural: &str, kind: &str, scope: &str, short: &[&str], all: &[&str]| {
            json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope,
                   "singularResource": kind.to_lowercase(), "shortNames": short, "categories": all,
                   "verbs": ["create","delete","get","list","patch","update","watch"],
                   "subresources": []})
        };
        let n = "Namespaced";
        let core = json!({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {},
            "versions": [{"version": "v1", "resources": [
                resource("configmaps", "ConfigMap", n, &["cm"], &[]),
                resource("endpoints", "Endpoints", n, &["ep"], &[]),
                resource("events", "Event", n, &["ev"], &[]),
                resource("namespaces", "Namespace", "Cluster", &["ns"], &[]),
                resource("nodes", "Node", "Cluster", &["no"], &[]),
                resource("pods", "Pod", n, &["po"], &["all"]),
                resource("secrets", "Secret", n, &[], &[]),
                resource("serviceaccounts", "ServiceAccount", n, &["sa"], &[]),
                resource("services", "Service", n, &["svc"], &["all"])]}]}]});
        let apps = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "Deployment", n, &["deploy"], &["all"]),
                resource("replicasets", "ReplicaSet", n, &["rs"], &["all"])]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "Event", n, &["ev"], &[])]}]},
            {"metadata": {"name": "discovery.k8s.io"}, "versions": [{"version": "v1",
                "resources": [resource("endpointslices", "EndpointSlice", n, &[], &[])]}]}]});
        let mut catalog = Catalog::default();
        assert!(catalog.add_aggregated(&core));
        assert!(catalog.add_aggregated(&apps));
        catalog
    }

    #[test]
    fn every_name_a_person_uses_finds_the_resource() {
        let catalog = example();
        for (name, qualified) in [
            ("po", "pods"),
            ("pod", "pods"),
            ("Pods", "pods"),
            ("svc", "services"),
            ("deploy", "deployments.apps"),
            ("Deployment", "deployments.apps"),
            ("deployments.apps", "deployments.apps"),
            ("deployment.v1.apps", "deployments.apps"),
            ("ev", "events"),
            ("events.events.k8s.io", "events.events.k8s.io"),
            ("ep", "endpoints"),
        ] {
            assert_eq!(catalog.resolve(name).unwrap().qualified(), qualified, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_in_kubectl_s_words() {
        let catalog = example();
        assert_eq!(
            catalog.resolve("foo").unwrap_err().report(),
            "error: the server doesn't have a resource type \"foo\""
        );
        assert_eq!(
            catalog.resolve("foo.bar").unwrap_err().report(),
            "error: the server doesn't have a resource type \"foo\" in group \"bar\""
        );
    }

    #[test]
    fn the_category_all_lists_each_resource_once() {
        let catalog = example();
        let names: Vec<String> =
            catalog.category("all").into_iter().map(ApiResource::qualified).collect();
        assert_eq!(names, ["pods", "services", "deployments.apps", "replicasets.apps"]);
    }

    #[test]
    fn paths_follow_group_scope_and_subresource() {
        let catalog = example();
        let deploy = catalog.resolve("deploy").unwrap();
        assert_eq!(
            deploy.path(Some("a b"), "web", "scale"),
            "/apis/apps/v1/namespaces/a%20b/deployments/web/scale"
        );
        assert_eq!(deploy.path(None, "", ""), "/apis/apps/v1/deployments");
        let node = catalog.resolve("no").unwrap();
        assert_eq!(node.path(Some("default"), "n1", ""), "/api/v1/nodes/n1");
    }

    #[test]
    fn a_server_without_aggregated_discovery_is_understood() {
        let mut catalog = Catalog::default();
        let plain = json!({"kind": "APIVersions", "versions": ["v1"]});
        assert!(!catalog.add_aggregated(&plain));
        catalog.add_list(&json!({"kind": "APIResourceList", "groupVersion": "apps/v1",
            "resources": [
                {"name": "deployments", "singularName": "", "namespaced": true,
                 "kind": "Deployment", "verbs": ["get"], "shortNames": ["deploy"]},
                {"name": "deployments/scale", "singularName": "", "namespaced": true,
                 "kind": "Scale", "verbs": ["get"]}]}));
        let deploy = catalog.resolve("deployment").unwrap();
        assert_eq!(deploy.api_version(), "apps/v1");
        assert_eq!(deploy.subresources, ["scale"]);
    }
}
