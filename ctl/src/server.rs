//! `minictl server`: the API server with its controllers, in one process.

use std::net::TcpListener;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use kube::client::Body;
use netns::range::nth_address;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::cli;

/// Prefix lengths of a node's share of the pod addresses, as upstream's node IPAM has them.
const NODE_CIDR_PREFIX: u8 = 24;
const NODE_CIDR_PREFIX_V6: u8 = 64;

/// Runs until `stop`.
pub(crate) async fn run(options: cli::Server, stop: CancellationToken) -> Result<()> {
    let authority = pki::Authority::load_or_create(&options.pki_dir)?;
    let identity = authority.server_identity(&names(&options))?;
    let ca_pem = authority.ca_pem().to_owned();
    let config = apiserver::Config {
        data_dir: options.data_dir.clone(),
        pki: identity,
        listeners: listeners(&options)?,
        advertise: options.advertise,
        service_cidrs: options.ranges.service_cidr.clone(),
        cluster_cidrs: options.ranges.cluster_cidr.clone(),
        node_cidr_prefix: NODE_CIDR_PREFIX,
        node_cidr_prefix_v6: NODE_CIDR_PREFIX_V6,
        node_ports: crate::node::NODE_PORTS,
        features: features(&options),
    };
    let server = apiserver::Server::start(config).await?;
    let client = in_process_client(server.router(apiserver::User::controllers()));
    let controllers = controllers_config(&options, ca_pem);
    let controllers = controllers::run(client, controllers, stop.child_token());
    let serving = server.serve(stop.child_token());
    // Both run to their end: the controllers stop with the token, the server after its requests.
    let (controllers, served) = tokio::join!(controllers, serving);
    served?;
    controllers?;
    Ok(())
}

fn features(options: &cli::Server) -> apiserver::Features {
    apiserver::Features {
        load_balancer: options.load_balancer == cli::LoadBalancer::Pools,
        dns: options.dns,
        ingress: options.ingress,
    }
}

fn controllers_config(options: &cli::Server, ca_pem: String) -> controllers::Config {
    let resources = resources::table::all().iter().map(resource_id).collect();
    let load_balancer = features(options).load_balancer;
    controllers::Config { ca_pem, resources, load_balancer, ..controllers::Config::default() }
}

fn resource_id(resource: &resources::table::Resource) -> controllers::ResourceId {
    controllers::ResourceId {
        group: resource.group,
        version: resource.version,
        plural: resource.plural,
        kind: resource.kind,
        namespaced: resource.namespaced,
    }
}

/// A kubeconfig for a new client of the cluster whose authority is at hand.
pub(crate) fn kubeconfig(options: &cli::Kubeconfig, server: Option<&str>) -> Result<String> {
    let server = server.context("which API server? give --server https://ADDRESS:6443")?;
    let authority = pki::Authority::load_or_create(&options.pki_dir)?;
    let identity = authority.client(&options.as_user, &[&options.as_group])?;
    let ca = authority.ca_pem();
    Ok(pki::kubeconfig("minictl", server, None, ca, &options.as_user, &identity))
}

/// Controllers use the API like everybody, only without a socket.
fn in_process_client(router: axum::Router) -> kube::Client {
    let service =
        router.map_request(|request: http::Request<Body>| request.map(axum::body::Body::new));
    kube::Client::new(service, "default")
}

fn listeners(options: &cli::Server) -> Result<Vec<TcpListener>> {
    let bound = TcpListener::bind(options.bind)
        .with_context(|| format!("listen on {}: is another cluster running here?", options.bind))?;
    let mut listeners = vec![bound];
    if options.listen_stdin {
        let fd = std::io::stdin().as_fd().try_clone_to_owned().context("take over the listener")?;
        listeners.push(TcpListener::from(fd));
    }
    Ok(listeners)
}

/// The names and addresses that clients may call this server by.
fn names(options: &cli::Server) -> Vec<String> {
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(options.advertise.ip().to_string());
    let firsts = options.ranges.service_cidr.iter().filter_map(|range| nth_address(*range, 1));
    names.extend(firsts.map(|address| address.to_string()));
    names
}
