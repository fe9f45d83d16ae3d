//! Where things lie in the store.
//!
//! Objects: `/registry/STORAGE/[NAMESPACE/]NAME`; allocations: `/allocations/POOL/ITEM`.
//! A name or namespace never holds a slash: the router refuses such paths and validation such names.

use resources::table::Resource;

/// All objects of a resource.
pub(crate) fn all(resource: &Resource) -> String {
    format!("/registry/{}/", storage(resource))
}

/// The objects of a resource in a namespace, or all of them.
pub(crate) fn prefix(resource: &Resource, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/registry/{}/{namespace}/", storage(resource)),
        None => all(resource),
    }
}

/// One object.
pub(crate) fn object(resource: &Resource, namespace: Option<&str>, name: &str) -> String {
    let mut key = prefix(resource, namespace);
    key.push_str(name);
    key
}

/// The namespace (empty for cluster-wide resources) and the name in an object's key.
pub(crate) fn names<'k>(resource: &Resource, key: &'k str) -> (&'k str, &'k str) {
    let tail = key.strip_prefix("/registry/").unwrap_or(key);
    let tail = tail.split_once('/').map_or("", |(_, tail)| tail);
    if resource.namespaced { tail.split_once('/').unwrap_or(("", tail)) } else { ("", tail) }
}

/// One item of a pool of addresses, ports or ranges.
pub(crate) fn allocation(pool: &str, item: &str) -> String {
    format!("/allocations/{pool}/{item}")
}

/// `pods` or `deployments.apps`; for a resource that shares storage, the other one's.
fn storage(resource: &Resource) -> String {
    match &resource.shared {
        Some(shared) if shared.group.is_empty() => shared.plural.to_owned(),
        Some(shared) => format!("{}.{}", shared.plural, shared.group),
        None => resource.qualified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resources::table;

    #[test]
    fn keys_and_names_are_inverse() {
        let pods = table::by_path("", "v1", "pods").unwrap();
        let nodes = table::by_path("", "v1", "nodes").unwrap();
        assert_eq!(names(pods, &object(pods, Some("default"), "a")), ("default", "a"));
        assert_eq!(names(nodes, &object(nodes, None, "n-1")), ("", "n-1"));
    }

    #[test]
    fn both_forms_of_events_lie_at_one_place() {
        let core = table::by_path("", "v1", "events").unwrap();
        let new = table::by_path("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(object(core, Some("n"), "e"), object(new, Some("n"), "e"));
    }
}
