//! Containers of a pod or of a template.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerState, ContainerStatus, EnvVar, Pod, Probe,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::{date, date_or_zero};
use super::text::Text;

/// A list of containers. `space` is `"  "` inside a template.
pub(super) fn containers(
    out: &mut Text,
    title: &str,
    containers: &[Container],
    statuses: &[ContainerStatus],
    pod: Option<&Pod>,
    space: &str,
) {
    let none = if containers.is_empty() { " <none>" } else { "" };
    out.line(0, format_args!("{space}{title}:{none}"));
    for container in containers {
        let status = statuses.iter().find(|s| s.name == container.name);
        basics(out, container, status, space);
        command(out, container);
        if let Some(status) = status {
            state(out, "State", status.state.as_ref());
            let last = status.last_state.as_ref();
            if last.is_some_and(|s| s.terminated.is_some()) {
                state(out, "Last State", last);
            }
            out.pair(2, "Ready", if status.ready { "True" } else { "False" });
            out.pair(2, "Restart Count", status.restart_count);
        }
        resources(out, container.resources.as_ref(), 2);
        let probes = [
            ("Liveness", &container.liveness_probe),
            ("Readiness", &container.readiness_probe),
            ("Startup", &container.startup_probe),
        ];
        for (title, kind) in probes {
            if let Some(kind) = kind {
                out.pair(2, title, probe(kind));
            }
        }
        env_from(out, container);
        environment(out, container, pod);
        mounts(out, container);
    }
}

fn basics(out: &mut Text, container: &Container, status: Option<&ContainerStatus>, space: &str) {
    let indent = if space.is_empty() { "" } else { " " };
    out.line(1, format_args!("{indent}{}:", container.name));
    if let Some(status) = status {
        out.pair(2, "Container ID", status.container_id.as_deref().unwrap_or(""));
    }
    out.pair(2, "Image", container.image.as_deref().unwrap_or(""));
    if let Some(status) = status {
        out.pair(2, "Image ID", &status.image_id);
    }
    let list = container.ports.as_deref().unwrap_or_default();
    ports(out, "Port", list, |p| p.container_port);
    ports(out, "Host Port", list, |p| p.host_port.unwrap_or(0));
    let security = container.security_context.as_ref();
    if let Some(profile) = security.and_then(|s| s.seccomp_profile.as_ref()) {
        out.pair(2, "SeccompProfile", &profile.type_);
        if let Some(path) = &profile.localhost_profile {
            out.pair(3, "LocalhostProfile", path);
        }
    }
}

fn ports(out: &mut Text, title: &str, list: &[ContainerPort], number: fn(&ContainerPort) -> i32) {
    let texts: Vec<String> = list
        .iter()
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            match port.name.as_deref() {
                None | Some("") => format!("{}/{protocol}", number(port)),
                Some(name) => format!("{}/{protocol} ({name})", number(port)),
            }
        })
        .collect();
    match texts.as_slice() {
        [] => out.pair(2, title, "<none>"),
        [one] => out.pair(2, title, one),
        many => out.pair(2, &format!("{title}s"), many.join(", ")),
    }
}

fn command(out: &mut Text, container: &Container) {
    for (title, words) in [("Command", &container.command), ("Args", &container.args)] {
        let Some(words) = words.as_ref().filter(|w| !w.is_empty()) else { continue };
        out.line(2, format_args!("{title}:"));
        words.iter().flat_map(|w| w.split('\n')).for_each(|line| out.line(3, line));
    }
}

fn state(out: &mut Text, title: &str, state: Option<&ContainerState>) {
    let Some(state) = state else { return out.pair(2, title, "Waiting") };
    if let Some(running) = &state.running {
        out.pair(2, title, "Running");
        out.pair(3, "Started", date_or_zero(running.started_at.as_ref().map(|t| t.0)));
    } else if let Some(ended) = &state.terminated {
        out.pair(2, title, "Terminated");
        let optional = [("Reason", &ended.reason), ("Message", &ended.message)];
        for (title, text) in optional {
            if let Some(text) = text.as_ref().filter(|t| !t.is_empty()) {
                out.pair(3, title, text);
            }
        }
        out.pair(3, "Exit Code", ended.exit_code);
        if let Some(signal) = ended.signal.filter(|s| *s > 0) {
            out.pair(3, "Signal", signal);
        }
        out.pair(3, "Started", date_or_zero(ended.started_at.as_ref().map(|t| t.0)));
        out.pair(3, "Finished", date_or_zero(ended.finished_at.as_ref().map(|t| t.0)));
    } else {
        out.pair(2, title, "Waiting");
        let reason = state.waiting.as_ref().and_then(|w| w.reason.as_ref());
        if let Some(reason) = reason.filter(|r| !r.is_empty()) {
            out.pair(3, "Reason", reason);
        }
    }
}

/// Limits and requests.
pub(super) fn resources(out: &mut Text, resources: Option<&ResourceRequirements>, level: usize) {
    let Some(resources) = resources else { return };
    for (title, map) in [("Limits", &resources.limits), ("Requests", &resources.requests)] {
        let Some(map) = map.as_ref().filter(|m| !m.is_empty()) else { continue };
        out.line(level, format_args!("{title}:"));
        map.iter().for_each(|(name, quantity)| out.pair(level + 1, name, &quantity.0));
    }
}

fn probe(probe: &Probe) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        probe.initial_delay_seconds.unwrap_or(0),
        probe.timeout_seconds.unwrap_or(0),
        probe.period_seconds.unwrap_or(0),
        probe.success_threshold.unwrap_or(0),
        probe.failure_threshold.unwrap_or(0)
    );
    let host = |h: &Option<String>| h.clone().unwrap_or_default();
    if let Some(exec) = &probe.exec {
        let command = exec.command.as_deref().unwrap_or_default().join(" ");
        format!("exec [{command}] {attributes}")
    } else if let Some(get) = &probe.http_get {
        let scheme = get.scheme.as_deref().unwrap_or("http").to_lowercase();
        let path = get.path.as_deref().unwrap_or("");
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        let (host, port) = (host(&get.host), port(&get.port));
        format!("http-get {scheme}://{host}:{port}{slash}{path} {attributes}")
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("tcp-socket {}:{} {attributes}", host(&tcp.host), port(&tcp.port))
    } else if let Some(grpc) = &probe.grpc {
        let service = grpc.service.as_deref().unwrap_or("");
        format!("grpc <pod>:{} {service} {attributes}", grpc.port)
    } else {
        format!("unknown {attributes}")
    }
}

/// A port by number or name.
pub(super) fn port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn env_from(out: &mut Text, container: &Container) {
    let Some(sources) = container.env_from.as_ref().filter(|s| !s.is_empty()) else { return };
    out.line(2, "Environment Variables from:");
    for source in sources {
        let (from, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => ("ConfigMap", &map.name, map.optional),
            (None, Some(secret)) => ("Secret", &secret.name, secret.optional),
            (None, None) => continue,
        };
        let prefix = match source.prefix.as_deref() {
            None | Some("") => String::new(),
            Some(prefix) => format!(" with prefix '{prefix}'"),
        };
        let optional = optional.unwrap_or(false);
        out.line(3, format_args!("{name}\t{from}{prefix}\tOptional: {optional}"));
    }
}

fn environment(out: &mut Text, container: &Container, pod: Option<&Pod>) {
    let list = container.env.as_deref().unwrap_or_default();
    out.line(2, if list.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    for variable in list {
        match variable.value_from {
            None => {
                let mut name = format!("{}:", variable.name);
                for line in variable.value.as_deref().unwrap_or("").split('\n') {
                    out.line(3, format_args!("{name}\t{line}"));
                    name.clear();
                }
            }
            Some(_) => {
                if let Some(text) = reference(variable, pod) {
                    out.line(3, format_args!("{}:\t{text}", variable.name));
                }
            }
        }
    }
}

/// Where a variable's value comes from.
fn reference(variable: &EnvVar, pod: Option<&Pod>) -> Option<String> {
    let source = variable.value_from.as_ref()?;
    if let Some(field) = &source.field_ref {
        let value = pod.map(|pod| pod_field(pod, &field.field_path)).unwrap_or_default();
        let version = field.api_version.as_deref().unwrap_or("v1");
        return Some(format!("{value} ({version}:{})", field.field_path));
    }
    if let Some(field) = &source.resource_field_ref {
        return Some(format!(" ({})", field.resource));
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional.unwrap_or(false);
        return Some(format!(
            "<set to the key '{}' in secret '{}'>\tOptional: {optional}",
            key.key, key.name
        ));
    }
    source.config_map_key_ref.as_ref().map(|key| {
        let optional = key.optional.unwrap_or(false);
        format!("<set to the key '{}' of config map '{}'>\tOptional: {optional}", key.key, key.name)
    })
}

/// The pod's own fields that the downward API offers to environment variables.
fn pod_field(pod: &Pod, path: &str) -> String {
    let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()),
        "status.hostIP" => status.and_then(|s| s.host_ip.clone()),
        "status.podIP" => status.and_then(|s| s.pod_ip.clone()),
        _ => None,
    };
    value.unwrap_or_default()
}

fn mounts(out: &mut Text, container: &Container) {
    let mut list: Vec<_> = container.volume_mounts.iter().flatten().collect();
    list.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    out.line(2, if list.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    for mount in list {
        let mut flags = if mount.read_only == Some(true) { "ro" } else { "rw" }.to_owned();
        if let Some(path) = mount.sub_path.as_ref().filter(|p| !p.is_empty()) {
            flags.push_str(&format!(",path={path:?}"));
        }
        out.line(3, format_args!("{} from {} ({flags})", mount.mount_path, mount.name));
    }
}

/// The moment a pod started, for its head.
pub(super) fn started(time: Option<jiff::Timestamp>) -> Option<String> {
    time.map(date)
}
