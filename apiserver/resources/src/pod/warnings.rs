//! What a client is told about a pod or a template that is stored all the same.
//!
//! Upstream: `pkg/api/pod/warnings.go`.
//! Deliberately not here: the old annotations of seccomp and AppArmor, and clashes of token paths.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, PodSpec, Volume};

use crate::field::Path;
use crate::quantity::Quantity;

/// Labels of nodes that have got other names, since when, and the new name.
const OLD_NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Warnings about a pod spec at this path (`spec`, `spec.template.spec`).
pub(crate) fn of_spec(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (label, _) in spec.node_selector.iter().flatten() {
        if let Some(message) = old_node_label(label) {
            warnings.push(format!("{}: {message}", path.child("nodeSelector").key(label)));
        }
    }
    warnings.extend(spreading(spec, &path.child("topologySpreadConstraints")));
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        warnings.extend(old_volume(volume, &path.child("volumes").index(i)));
    }
    warnings.extend(repeated_references(spec, path));
    let containers = containers(spec, path);
    for (container, path) in &containers {
        warnings.extend(fractional_bytes(container, path));
        warnings.extend(hidden_variables(container.env.as_deref().unwrap_or_default(), path));
    }
    warnings.extend(repeated_ports(&containers));
    warnings.extend(repeated_port_names(&containers));
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    warnings
}

/// A warning for a name that ends up in `place`, where it should be a DNS label.
pub(crate) fn of_name(name: Option<&str>, place: &str) -> Option<String> {
    let problems = crate::names::dns_label(name.unwrap_or_default());
    (!problems.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {place}, which can result in surprising behavior; a \
             DNS label is recommended: [{}]",
            problems.join(" ")
        )
    })
}

fn containers<'a>(spec: &'a PodSpec, path: &Path) -> Vec<(&'a Container, Path)> {
    let inits = spec.init_containers.iter().flatten().enumerate();
    let inits = inits.map(|(i, c)| (c, path.child("initContainers").index(i)));
    let regular = spec.containers.iter().enumerate();
    inits.chain(regular.map(|(i, c)| (c, path.child("containers").index(i)))).collect()
}

fn old_node_label(label: &str) -> Option<String> {
    let (_, since, new) = OLD_NODE_LABELS.iter().find(|(old, ..)| *old == label)?;
    Some(format!("deprecated since {since}; use {new:?} instead"))
}

fn spreading(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.index(i);
        let key = &constraint.topology_key;
        if let Some(message) = old_node_label(key) {
            warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if constraint.label_selector.is_none() {
            warnings.push(format!(
                "{}: a null labelSelector results in matching no pod",
                path.child("labelSelector")
            ));
        }
    }
    warnings
}

fn old_volume(volume: &Volume, path: &Path) -> Vec<String> {
    let old = [
        ("gitRepo", volume.git_repo.is_some(), "deprecated in v1.11"),
        ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", volume.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", volume.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let used = old.into_iter().filter(|(_, used, _)| *used);
    used.map(|(source, _, text)| format!("{}: {text}", path.child(source))).collect()
}

/// Host aliases and pull secrets that stand twice or have no name.
fn repeated_references(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if !seen.insert(&alias.ip) {
            let path = path.child("hostAliases").index(i).child("ip");
            warnings.push(format!("{path}: duplicate ip {:?}", alias.ip));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let path = path.child("imagePullSecrets").index(i).child("name");
        if !seen.insert(&secret.name) {
            warnings.push(format!("{path}: duplicate name {:?}", secret.name));
        }
        if secret.name.is_empty() {
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
    warnings
}

/// `400m` of memory is less than a byte, and never what was meant.
fn fractional_bytes(container: &Container, path: &Path) -> Vec<String> {
    let resources = container.resources.as_ref();
    let lists = [
        ("limits", resources.and_then(|r| r.limits.as_ref())),
        ("requests", resources.and_then(|r| r.requests.as_ref())),
    ];
    let mut warnings = Vec::new();
    for name in ["memory", "ephemeral-storage"] {
        for (field, list) in &lists {
            let Some(text) = list.and_then(|l| l.get(name)) else { continue };
            if Quantity::parse(&text.0).is_ok_and(|q| !q.is_whole()) {
                let path = path.child("resources").child(field).key(name);
                let value = &text.0;
                warnings.push(format!(
                    "{path}: fractional byte value {value:?} is invalid, must be an integer"
                ));
            }
        }
    }
    warnings
}

/// A variable that is defined twice is fine only if the second refers to the first.
fn hidden_variables(variables: &[EnvVar], path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, variable) in variables.iter().enumerate() {
        if seen.insert(&variable.name) {
            continue;
        }
        let reference = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        let extends = value.contains(&reference) && value != reference;
        if variable.value_from.is_some() || !extends {
            warnings.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                path.child("env").index(i),
                variable.name
            ));
        }
    }
    warnings
}

fn repeated_ports(containers: &[(&Container, Path)]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut known: BTreeMap<(i32, &str), Vec<(&ContainerPort, Path)>> = BTreeMap::new();
    for (port, path) in ports(containers) {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let others = known.entry((port.container_port, protocol)).or_default();
        for (other, first) in others.iter() {
            let host_port = |p: &ContainerPort| p.host_port.unwrap_or_default();
            if port.host_ip == other.host_ip && host_port(port) == host_port(other) {
                warnings.push(format!("{path}: duplicate port definition with {first}"));
            } else if host_port(port) == 0 || host_port(other) == 0 {
                warnings.push(format!("{path}: overlapping port definition with {first}"));
            }
        }
        others.push((port, path));
    }
    warnings
}

fn repeated_port_names(containers: &[(&Container, Path)]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut known: BTreeMap<&str, Path> = BTreeMap::new();
    for (port, path) in ports(containers) {
        let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) else { continue };
        if let Some(first) = known.get(name) {
            warnings.push(format!(
                "{path}: duplicate port name {name:?} with {first}, services and probes that \
                 select ports by name will use {first}"
            ));
        } else {
            known.insert(name, path);
        }
    }
    warnings
}

fn ports<'a>(
    containers: &'a [(&'a Container, Path)],
) -> impl Iterator<Item = (&'a ContainerPort, Path)> {
    containers.iter().flat_map(|(container, path)| {
        let ports = container.ports.iter().flatten().enumerate();
        ports.map(|(i, port)| (port, path.child("ports").index(i)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{of_name, of_spec};
    use crate::field::Path;

    fn warnings(spec: Value) -> Vec<String> {
        let spec = serde_json::from_value(spec).expect("a pod spec");
        of_spec(&spec, &Path::new("spec"))
    }

    #[test]
    fn a_usual_pod_gives_no_warning() {
        assert_eq!(
            warnings(json!({
                "containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "http"}],
                                "env": [{"name": "P", "value": "/a"}, {"name": "P", "value": "$(P):/b"}],
                                "resources": {"limits": {"memory": "64Mi", "cpu": "100m"}}}],
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
            })),
            [""; 0]
        );
    }

    #[test]
    fn odd_pods_are_warned_about_in_upstreams_words() {
        let cases = [
            (
                json!({"containers": [{"name": "a", "env": [
                    {"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]}),
                r#"spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"memory": "400m"}}}]}),
                r#"spec.containers[0].resources.requests[memory]: fractional byte value "400m" is invalid, must be an integer"#,
            ),
            (
                json!({"containers": [
                    {"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                    {"name": "b", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}),
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
            ),
            (
                json!({"containers": [
                    {"name": "a", "ports": [{"containerPort": 80, "name": "http"}]},
                    {"name": "b", "ports": [{"containerPort": 81, "name": "http"}]}]}),
                r#"spec.containers[1].ports[0]: duplicate port name "http" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"#,
            ),
            (
                json!({"containers": [], "nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
            ),
            (
                json!({"containers": [], "terminationGracePeriodSeconds": -1}),
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": ""}]}),
                r#"spec.imagePullSecrets[0].name: invalid empty name """#,
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(warnings(spec.clone()), [expected], "{spec}");
        }
    }

    #[test]
    fn dotted_names_of_owners_surprise_their_pods() {
        let place = "Pod names and hostnames";
        assert_eq!(of_name(Some("web"), place), None);
        assert_eq!(
            of_name(Some("manage-v1.1"), place).as_deref(),
            Some(
                "metadata.name: this is used in Pod names and hostnames, which can result in \
                 surprising behavior; a DNS label is recommended: [must not contain dots]"
            )
        );
    }
}
