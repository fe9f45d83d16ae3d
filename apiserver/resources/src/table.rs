//! The resource table: routes, discovery, OpenAPI, Tables and completion derive from these rows.

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

/// All rows, core group first.
#[must_use]
pub fn all() -> &'static [Resource] {
    &[]
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
