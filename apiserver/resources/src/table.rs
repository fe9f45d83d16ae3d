//! The resource table: routes, discovery, OpenAPI, Tables and completion derive from these rows.
//!
//! Owns: which resources exist and how they are named. Adding one is a row here and a strategy file.
//! Invariant: group, version and plural are unique; so are `apiVersion` and kind.
//! Deliberately not here: behaviour, which stands with each kind's strategy.

use crate::address_pool::AddressPools;
use crate::config_map::ConfigMaps;
use crate::deployment::Deployments;
use crate::endpoint_slice::EndpointSlices;
use crate::endpoints::EndpointsStrategy;
use crate::event::{Events, NewEvents, convert};
use crate::ingress::Ingresses;
use crate::ingress_class::IngressClasses;
use crate::ip_address::IpAddresses;
use crate::lease::Leases;
use crate::namespace::Namespaces;
use crate::node::Nodes;
use crate::pod::Pods;
use crate::replica_set::ReplicaSets;
use crate::secret::Secrets;
use crate::service::Services;
use crate::service_account::ServiceAccounts;
use crate::service_cidr::ServiceCidrs;
use crate::strategy::ErasedStrategy;

/// A part of a resource with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `/status`
    Status,
    /// `/scale`
    Scale,
    /// `/finalize` of namespaces
    Finalize,
    /// `/binding` of pods
    Binding,
    /// `/eviction` of pods
    Eviction,
    /// `/log` of pods
    Log,
    /// `/exec` of pods
    Exec,
    /// `/attach` of pods
    Attach,
    /// `/portforward` of pods
    PortForward,
}

/// Turns the JSON of one form of an object into another.
pub type Convert = fn(&[u8]) -> Result<Vec<u8>, serde_json::Error>;

/// Another resource in whose storage this one's objects are kept.
#[derive(Clone, Copy, Debug)]
pub struct SharedStorage {
    /// The other resource's group.
    pub group: &'static str,
    /// The other resource's plural.
    pub plural: &'static str,
    /// From this resource's JSON to the stored one.
    pub to_stored: Convert,
    /// From the stored JSON to this resource's.
    pub from_stored: Convert,
}

/// Which form `metadata.name` must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: labels joined by dots, 253 characters.
    DnsSubdomain,
    /// RFC 1123 label: 63 characters without a dot.
    DnsLabel,
    /// The usual text of an IP address.
    IpAddress,
    /// Anything that can be one segment of a path.
    PathSegment,
}

/// One row: everything the server knows of a resource.
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Lower-case plural, as in paths.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Short names, e.g. `po`.
    pub short_names: &'static [&'static str],
    /// Categories, e.g. `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Subresources.
    pub subresources: &'static [Subresource],
    /// Which form names have.
    pub names: NameRule,
    /// Set when the objects are those of another resource in another form.
    pub shared: Option<SharedStorage>,
    /// Text for the `Warning:` header of every request, reads too; the strategy's warnings do not
    /// repeat it.
    pub deprecation: Option<&'static str>,
    /// Behaviour.
    pub strategy: &'static dyn ErasedStrategy,
}

impl Resource {
    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`: how messages name the resource.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether the row has this subresource.
    #[must_use]
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

static ROWS: &[Resource] = &[
    Resource {
        group: "",
        version: "v1",
        plural: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        short_names: &["ns"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status, Subresource::Finalize],
        names: NameRule::DnsLabel,
        shared: None,
        deprecation: None,
        strategy: &Namespaces,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "nodes",
        singular: "node",
        kind: "Node",
        short_names: &["no"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Nodes,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "pods",
        singular: "pod",
        kind: "Pod",
        short_names: &["po"],
        categories: &["all"],
        namespaced: true,
        subresources: &[
            Subresource::Status,
            Subresource::Binding,
            Subresource::Eviction,
            Subresource::Log,
            Subresource::Exec,
            Subresource::Attach,
            Subresource::PortForward,
        ],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Pods,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "services",
        singular: "service",
        kind: "Service",
        short_names: &["svc"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status],
        names: NameRule::DnsLabel,
        shared: None,
        deprecation: None,
        strategy: &Services,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "endpoints",
        singular: "endpoints",
        kind: "Endpoints",
        short_names: &["ep"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: Some(
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ),
        strategy: &EndpointsStrategy,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "configmaps",
        singular: "configmap",
        kind: "ConfigMap",
        short_names: &["cm"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &ConfigMaps,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Secrets,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        kind: "ServiceAccount",
        short_names: &["sa"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &ServiceAccounts,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "events",
        singular: "event",
        kind: "Event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Events,
    },
    Resource {
        group: "events.k8s.io",
        version: "v1",
        plural: "events",
        singular: "event",
        kind: "Event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: Some(SharedStorage {
            group: "",
            plural: "events",
            to_stored: convert::json_to_core,
            from_stored: convert::json_from_core,
        }),
        deprecation: None,
        strategy: &NewEvents,
    },
    Resource {
        group: "apps",
        version: "v1",
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short_names: &["deploy"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Scale],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Deployments,
    },
    Resource {
        group: "apps",
        version: "v1",
        plural: "replicasets",
        singular: "replicaset",
        kind: "ReplicaSet",
        short_names: &["rs"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Scale],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &ReplicaSets,
    },
    Resource {
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        singular: "endpointslice",
        kind: "EndpointSlice",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &EndpointSlices,
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        plural: "ingresses",
        singular: "ingress",
        kind: "Ingress",
        short_names: &["ing"],
        categories: &[],
        namespaced: true,
        subresources: &[Subresource::Status],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Ingresses,
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        plural: "ingressclasses",
        singular: "ingressclass",
        kind: "IngressClass",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &IngressClasses,
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        plural: "servicecidrs",
        singular: "servicecidr",
        kind: "ServiceCIDR",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &ServiceCidrs,
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        plural: "ipaddresses",
        singular: "ipaddress",
        kind: "IPAddress",
        short_names: &["ip"],
        categories: &[],
        namespaced: false,
        subresources: &[],
        names: NameRule::IpAddress,
        shared: None,
        deprecation: None,
        strategy: &IpAddresses,
    },
    Resource {
        group: "coordination.k8s.io",
        version: "v1",
        plural: "leases",
        singular: "lease",
        kind: "Lease",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &Leases,
    },
    Resource {
        group: "minictl.io",
        version: "v1",
        plural: "addresspools",
        singular: "addresspool",
        kind: "AddressPool",
        short_names: &["pool", "pools"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status],
        names: NameRule::DnsSubdomain,
        shared: None,
        deprecation: None,
        strategy: &AddressPools,
    },
];

/// All rows, core group first.
#[must_use]
pub fn all() -> &'static [Resource] {
    ROWS
}

/// The row at a path's group, version and plural.
#[must_use]
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all().iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The row of an object's `apiVersion` and `kind`.
#[must_use]
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    all().iter().find(|r| r.kind == kind && r.api_version() == api_version)
}

/// The kind that somebody most likely meant, for error texts: the same word in another case, a
/// plural, a singular or a short name (`service`, `Pods`, `deploy`).
#[must_use]
pub fn kind_hint(kind: &str) -> Option<&'static str> {
    let word = kind.to_lowercase();
    let row = all().iter().find(|r| {
        r.singular == word || r.plural == word || r.short_names.contains(&word.as_str())
    })?;
    (row.kind != kind).then_some(row.kind)
}

#[cfg(test)]
mod tests;
