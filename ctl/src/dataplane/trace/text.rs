//! A packet's way in words: the rules it meets, who may answer, and why nobody does.
//!
//! Pure.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use proto::dataplane::{End, TraceReply};
use serde::Serialize;
use verbs::{Error, client};

use super::ends::{Cluster, Kind, is_cluster_ip};
use super::{Packet, Seen};

/// How a packet may end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// The node that decides.
    pub(super) node: String,
    /// `Delivered`, `Refused` or `Dropped`.
    pub(super) verdict: String,
    /// To whom it is delivered; empty if it is not.
    pub(super) to: String,
    /// Who that is.
    pub(super) who: String,
    /// How likely it is, from 0 to 1.
    pub(super) share: f64,
    /// The receiver sees this node as the sender, and not the client.
    pub(super) masqueraded: bool,
}

/// All ends, on all nodes that see the packet.
pub(super) fn ends(seen: &[Seen], cluster: &Cluster) -> Vec<Told> {
    let of_node = |seen: &Seen| {
        let all: u32 = seen.reply.ends.iter().map(|end| end.share).sum();
        let (node, share) = (seen.reply.node.clone(), seen.share / f64::from(all.max(1)));
        let told = move |end: &End| Told {
            node: node.clone(),
            verdict: end.verdict.clone(),
            to: end.address.clone(),
            who: who(&end.address, &node, cluster),
            share: share * f64::from(end.share),
            masqueraded: end.masqueraded,
        };
        seen.reply.ends.iter().map(told).collect::<Vec<_>>()
    };
    // A node that passes everything on ends nothing.
    seen.iter().filter(|seen| seen.share > 0.0).flat_map(of_node).collect()
}

fn who(address: &str, here: &str, cluster: &Cluster) -> String {
    let Ok(to) = address.parse::<SocketAddr>() else { return String::new() };
    if let Some(pod) = cluster.pod_at(to.ip()) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let namespace = pod.namespace().unwrap_or_default();
        return format!("pod {namespace}/{} on {node}", pod.name_any());
    }
    match cluster.node_at(to.ip()) {
        Some(node) if node == here => format!("a process of {node} itself"),
        Some(node) => format!("node {node}"),
        None if cluster.is_a_services(to.ip()) => format!("a process of {here} itself"),
        None => "outside the cluster".to_owned(),
    }
}

/// Everything, for a terminal.
pub(super) fn way(
    packet: &Packet,
    seen: &[Seen],
    ends: &[Told],
    notes: &[String],
) -> Result<String, Error> {
    let Packet { origin, destination, .. } = packet;
    let source = origin.source(destination.address)?;
    let name = &origin.name;
    let from =
        if *name == source.to_string() { name.clone() } else { format!("{name} ({source})") };
    let mut text = format!("{from} -> {}/{}\n", destination.socket(), destination.protocol);
    let first = seen.first().map(|seen| seen.reply.node.clone()).unwrap_or_default();
    for seen in seen {
        text.push_str(&format!("\n{}\n", heading(packet, seen, &first)));
        text.push_str(&steps(seen));
    }
    let mut lines =
        vec![["NODE", "VERDICT", "TO", "SHARE", "SOURCE SEEN", "WHO"].map(str::to_owned).to_vec()];
    for end in ends {
        let seen_as = match (end.masqueraded, &*end.verdict) {
            (_, "Refused" | "Dropped") => "<none>".to_owned(),
            (true, _) => format!("{} (masqueraded)", end.node),
            (false, _) => source.to_string(),
        };
        let or_none =
            |text: &String| if text.is_empty() { "<none>".to_owned() } else { text.clone() };
        let share = format!("{:.0}%", end.share * 100.0);
        lines.push(vec![
            end.node.clone(),
            end.verdict.clone(),
            or_none(&end.to),
            share,
            seen_as,
            or_none(&end.who),
        ]);
    }
    text.push_str(&format!("\n{}", client::columns(&lines)));
    for note in notes {
        text.push_str(&format!("\n{note}\n"));
    }
    Ok(text)
}

fn heading(packet: &Packet, seen: &Seen, first: &str) -> String {
    let TraceReply { node, engine, .. } = &seen.reply;
    if node != first {
        return format!("{node} ({engine}), to which {first} passes it on");
    }
    match packet.origin.kind {
        Kind::Node => format!("{node} ({engine}) sends it"),
        Kind::Pod => format!("{node} ({engine}) gets it from its pod"),
        Kind::Network => format!("{node} ({engine}) gets it from the network"),
    }
}

fn steps(seen: &Seen) -> String {
    let reply = &seen.reply;
    let mut text = String::new();
    for passed in &reply.passed_on {
        let (share, of) = (passed.share, reply.passed_on_of);
        let line = format!(
            "  ingress of the link: {share} of {of} slots, by a hash of the client's address and port, \
             are {}'s: on to {}, unchanged\n",
            passed.node, passed.address
        );
        text.push_str(&line);
    }
    if seen.share <= 0.0 {
        return text;
    }
    for step in &reply.steps {
        text.push_str(&format!("  {}: {}\n", step.place, step.what));
    }
    if reply.steps.is_empty() {
        text.push_str("  no rule for Services concerns it\n");
    }
    text
}

/// What is worth a sentence: why it is not delivered, and what the way there takes for granted.
pub(super) fn notes(packet: &Packet, seen: &[Seen], cluster: &Cluster) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    out.extend(needs_a_route(packet, cluster));
    for seen in seen.iter().filter(|seen| seen.share > 0.0) {
        let refused = seen.reply.ends.iter().find(|end| end.verdict != "Delivered");
        let why = refused.map(|end| why(packet, &seen.reply, end, cluster));
        out.extend(why.filter(|why| !out.contains(why)));
    }
    out
}

/// Addresses of pods and Services mean something inside the cluster only.
fn needs_a_route(packet: &Packet, cluster: &Cluster) -> Option<String> {
    let Packet { origin, destination, node } = packet;
    let to = destination.address;
    let service = cluster.service_of(destination).map(|(service, _)| service);
    let what = match service {
        Some(service) if is_cluster_ip(service, to) => "a cluster address",
        _ if cluster.pod_at(to).is_some() => "a pod's address",
        _ => return None,
    };
    (origin.kind == Kind::Network).then(|| {
        format!(
            "Note: {to} is {what}, which means something inside the cluster only. {} sends nothing there \
             unless it has a route that leads to a node; this is what {node} would then do.",
            origin.name
        )
    })
}

fn why(packet: &Packet, reply: &TraceReply, end: &End, cluster: &Cluster) -> String {
    let Packet { origin, destination, .. } = packet;
    let (to, verdict) = (destination.socket(), end.verdict.to_lowercase());
    let node = &reply.node;
    let last = reply.steps.last().map(|step| step.place.as_str()).unwrap_or_default();
    if last.ends_with("check-source") {
        let source = origin.addresses.first().map(IpAddr::to_string).unwrap_or_default();
        return format!("Dropped: {source} is not of the range of {node}'s pods.");
    }
    let Some((service, port)) = cluster.service_of(destination) else {
        return format!("{}: no Service has {to}/{}.", capital(&verdict), destination.protocol);
    };
    let name = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
    if port.is_none() {
        return format!(
            "Refused: {name} has the address {}, but no port {}/{}.",
            destination.address, destination.port, destination.protocol
        );
    }
    if last.ends_with(" admit") {
        return format!(
            "Dropped: spec.loadBalancerSourceRanges of {name} does not admit this client."
        );
    }
    match local_policy(service, packet) {
        Some(policy) if verdict == "dropped" => format!(
            "Dropped: spec.{policy} of {name} is Local, and {node} has no ready endpoint of it."
        ),
        _ => format!(
            "{}: {name} has no ready endpoint: minictl get endpointslices -n {} -l \
             kubernetes.io/service-name={}",
            capital(&verdict),
            service.namespace().unwrap_or_default(),
            service.name_any()
        ),
    }
}

/// The field that makes a node answer by its own pods only.
fn local_policy(service: &Service, packet: &Packet) -> Option<&'static str> {
    let spec = service.spec.as_ref()?;
    let internal = is_cluster_ip(service, packet.destination.address);
    let (field, value) = match internal {
        true => ("internalTrafficPolicy", &spec.internal_traffic_policy),
        false => ("externalTrafficPolicy", &spec.external_traffic_policy),
    };
    (value.as_deref() == Some("Local")).then_some(field)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
