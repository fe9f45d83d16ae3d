//! `minictl dataplane trace`: the way of a packet, told by the nodes that it comes to.
//!
//! Inputs: flags; nodes, pods and the Service from the API; the nodes' answers. Outputs: the way in
//! words, or as JSON or YAML; an exit code. What names mean is decided in [`ends`], what is said in
//! [`text`]. Nothing is sent to anybody but the API server.

mod ends;
mod text;

use std::path::Path;

use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use proto::dataplane::TraceReply;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use verbs::client::{self, Client};
use verbs::{Error, Globals, Io};

use crate::cli::dataplane::Trace;
use ends::{Cluster, Destination, Origin, Wanted};

/// What it exits with when somebody is not served, and when it can't be told.
const NOT_SERVED: i32 = 1;
const FAILED: i32 = 2;

/// A packet, and the node that sees it first.
struct Packet {
    origin: Origin,
    destination: Destination,
    node: String,
}

/// What a node answered.
struct Seen {
    reply: TraceReply,
    /// The share of all such packets that come to this node, from 0 to 1.
    share: f64,
    /// Why it answered nothing.
    silent: Option<String>,
}

/// Runs the verb; gives its exit code. `state` is the folder of this machine's labs.
///
/// # Errors
/// When standard output is of no use.
pub(super) async fn run(
    globals: &Globals,
    verb: &Trace,
    state: &Path,
    io: &mut Io,
) -> Result<i32, Error> {
    let told = match trace(globals, verb, state).await {
        Ok((seen, packet, cluster)) => tell(verb, &packet, &seen, &cluster, io),
        Err(error) => Err(error),
    };
    match told {
        Err(error) if !error.is_closed_pipe() => {
            io.warn(error.report());
            Ok(FAILED)
        }
        done => done,
    }
}

async fn trace(
    globals: &Globals,
    verb: &Trace,
    state: &Path,
) -> Result<(Vec<Seen>, Packet, Cluster), Error> {
    let client = Client::connect(globals, lab::status::default_kubeconfig(state)).await?;
    let cluster = Cluster {
        nodes: read::<List<Node>>(&client, "/api/v1/nodes").await?.items,
        pods: read::<List<Pod>>(&client, "/api/v1/pods").await?.items,
        services: read::<List<Service>>(&client, "/api/v1/services").await?.items,
        namespace: client.namespace(),
    };
    let hosts = |name: &str| host(state, &cluster, name);
    let wanted = Wanted::parse(&verb.to, verb.protocol.as_deref())?;
    let origin = cluster.origin(&verb.from, hosts)?;
    let destination = cluster.destination(&wanted, &origin)?;
    let node = cluster.entry(&origin, &destination, verb.node.as_deref())?;
    let mut packet = Packet { origin, destination, node };
    let mut first = ask(&client, &packet, &packet.node, false).await?;
    // A load balancer's address is answered for by one node, unless another was asked about.
    let elected = std::mem::take(&mut first.announcer);
    if cluster.may_come_to_any(&packet) {
        if verb.node.is_none() && !elected.is_empty() && elected != packet.node {
            first = ask(&client, &packet, &elected, false).await?;
            packet.node.clone_from(&elected);
        }
        first.announcer = elected;
    }
    Ok((follow(&client, &packet, first).await, packet, cluster))
}

/// Asks the nodes, too, to which the first one may pass the packet on.
async fn follow(client: &Client, packet: &Packet, first: TraceReply) -> Vec<Seen> {
    let of = f64::from(first.passed_on_of.max(1));
    let passed: u32 = first.passed_on.iter().map(|passed| passed.share).sum();
    let mut seen = Vec::new();
    for passed in &first.passed_on {
        let (reply, silent) = match ask(client, packet, &passed.node, true).await {
            Ok(reply) => (reply, None),
            // The others' shares are worth telling all the same.
            Err(error) => {
                let node = passed.node.clone();
                (TraceReply { node, ..TraceReply::default() }, Some(error.report()))
            }
        };
        seen.push(Seen { reply, share: f64::from(passed.share) / of, silent });
    }
    let share = 1.0 - f64::from(passed) / of;
    seen.insert(0, Seen { reply: first, share, silent: None });
    seen
}

async fn read<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Error> {
    decode(path, client.get(path, &[]).await?)
}

async fn ask(
    client: &Client,
    packet: &Packet,
    node: &str,
    handed_over: bool,
) -> Result<TraceReply, Error> {
    let Packet { origin, destination, .. } = packet;
    let path = proto::dataplane_path(node, "trace");
    let source = origin.source(destination.address)?.to_string();
    let to = destination.socket().to_string();
    let query = [
        ("origin", if handed_over { "Network" } else { origin.kind.name() }),
        ("source", &source),
        ("destination", &to),
        ("protocol", &destination.protocol),
        ("handedOver", if handed_over { "true" } else { "" }),
    ];
    decode(&path, client.get(&path, &query).await?)
}

fn decode<T: DeserializeOwned>(what: &str, answer: Value) -> Result<T, Error> {
    serde_json::from_value(answer)
        .map_err(|error| Error::BadAnswer { what: what.to_owned(), detail: error.to_string() })
}

/// The addresses of a host of the lab whose cluster this is.
fn host(state: &Path, cluster: &Cluster, name: &str) -> Option<Vec<std::net::IpAddr>> {
    let specs = lab::status::labs(state).into_iter();
    let mut specs = specs.filter_map(|lab| lab::status::spec(state, &lab).ok());
    let spec = specs.find(|spec| {
        let mut hosts = spec.node_hosts().into_iter();
        hosts.any(|host| cluster.node_at(host.address()) == Some(&host.name))
    })?;
    let host = spec.host_named(name).ok()?;
    Some(host.addresses.iter().map(ipnet::IpNet::addr).collect())
}

fn tell(
    verb: &Trace,
    packet: &Packet,
    seen: &[Seen],
    cluster: &Cluster,
    io: &mut Io,
) -> Result<i32, Error> {
    let ends = text::ends(seen, cluster);
    let notes = text::notes(packet, seen, cluster);
    let replies: Vec<&TraceReply> = seen.iter().map(|seen| &seen.reply).collect();
    let document = json!({
        "source": packet.origin.source(packet.destination.address)?,
        "destination": packet.destination.socket(),
        "protocol": packet.destination.protocol,
        "nodes": replies,
        "ends": ends,
        "notes": notes,
    });
    match client::document(&verb.output, &document)? {
        Some(text) => io.print(&text)?,
        None => io.print(&text::way(packet, seen, &ends, &notes)?)?,
    }
    if seen.iter().any(|seen| seen.silent.is_some()) {
        return Ok(FAILED);
    }
    let served = ends.iter().all(|end| end.verdict == "Delivered");
    Ok(if served { 0 } else { NOT_SERVED })
}
