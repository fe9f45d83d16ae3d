//! A packet's way in words: the rules it meets, who may answer, and why nobody does.
//!
//! Pure.

use std::net::SocketAddr;

use kube::ResourceExt as _;
use proto::dataplane::{End, TraceReply};
use serde::Serialize;
use verbs::{Error, client};

use super::ends::{Cluster, Destination, Kind};
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
    if to.ip().is_loopback() {
        return format!("a process of {here} itself; netd is it for node ports");
    }
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
    if seen.silent.is_some() {
        return format!("{node}, to which {first} passes it on, does not answer");
    }
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
    if seen.share <= 0.0 || seen.silent.is_some() {
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
    out.extend(comes_to(packet, seen, cluster));
    for seen in seen.iter().filter(|seen| seen.share > 0.0) {
        let reply = &seen.reply;
        if let Some(error) = &seen.silent {
            let share = seen.share * 100.0;
            out.push(format!("What becomes of {share:.0}% is not known: {}: {error}", reply.node));
        }
        for note in [why(packet, reply, cluster), unequal(reply)].into_iter().flatten() {
            if !out.contains(&note) {
                out.push(note);
            }
        }
    }
    out
}

/// Why the packet comes to the first node, where that is not plain.
fn comes_to(packet: &Packet, seen: &[Seen], cluster: &Cluster) -> Option<String> {
    let Packet { origin, destination, node } = packet;
    let to = destination.address;
    let what = match () {
        () if cluster.is_a_cluster_ip(to) => "a cluster address",
        () if cluster.pod_at(to).is_some() => "a pod's address",
        () => "",
    };
    if origin.kind != Kind::Network {
        return None;
    }
    if !what.is_empty() {
        return Some(format!(
            "Note: {to} is {what}, which means something inside the cluster only. {} sends nothing there \
             unless it has a route that leads to a node; this is what {node} would then do.",
            origin.name
        ));
    }
    let announcer = seen.first().map(|seen| seen.reply.announcer.as_str()).unwrap_or_default();
    match (cluster.may_come_to_any(packet), announcer) {
        (false, _) => None,
        (true, "") => Some(format!(
            "Note: nobody announces {to} on the nodes' network, so that it may come to any node: \
             this is what {node} would do. --node asks about another."
        )),
        (true, announcer) => {
            let but = if announcer == node { "." } else { "; this is what the other would do." };
            Some(format!("Note: {announcer} answers for {to} on the nodes' network{but}"))
        }
    }
}

/// What makes some ends likelier than their shares say.
fn unequal(reply: &TraceReply) -> Option<String> {
    let TraceReply { affinity_seconds, scheduler, .. } = reply;
    if *affinity_seconds > 0 {
        return Some(format!(
            "Note: a client that called within the last {affinity_seconds} s keeps its pod \
             (sessionAffinity: ClientIP); the shares are those of clients that did not."
        ));
    }
    (!matches!(scheduler.as_str(), "" | "rr")).then(|| {
        format!(
            "Note: IPVS chooses by its scheduler {scheduler}, so that the real shares may differ."
        )
    })
}

fn why(packet: &Packet, reply: &TraceReply, cluster: &Cluster) -> Option<String> {
    let Packet { origin, destination, .. } = packet;
    let Destination { address, port, protocol } = destination;
    let (node, to) = (&reply.node, destination.socket());
    let service = reply.service.clone().unwrap_or_default();
    let (namespace, name) = (&service.namespace, &service.name);
    let because = match reply.why.as_str() {
        "" => return None,
        "NotItsAddress" => {
            let source = origin.source(*address).map(|addr| addr.to_string()).unwrap_or_default();
            format!("{source} is not of the range of {node}'s pods")
        }
        "NotAdmitted" => {
            format!(
                "spec.loadBalancerSourceRanges of {namespace}/{name} does not admit this client"
            )
        }
        "NoEndpointHere" => {
            let policy = cluster.local_policy(namespace, name).unwrap_or("externalTrafficPolicy");
            let local = format!("spec.{policy} of {namespace}/{name} is Local");
            format!("{local}, and {node} has no ready endpoint of it")
        }
        "NoEndpoint" => format!(
            "{namespace}/{name} has no ready endpoint: minictl get endpointslices -n {namespace} -l \
             kubernetes.io/service-name={name}"
        ),
        "NoSuchPort" => {
            format!("{namespace}/{name} has the address {address}, but no port {port}/{protocol}")
        }
        "NoService" => format!("no Service has {to}/{protocol}"),
        // A node of another version.
        other => other.to_owned(),
    };
    let verdicts = reply.ends.iter().map(|end| end.verdict.as_str());
    let verdict =
        verdicts.filter(|verdict| *verdict != "Delivered").min().unwrap_or("Not delivered");
    Some(format!("{verdict}: {because}."))
}

#[cfg(test)]
mod tests;
