//! The server as a whole: start, serve, stop.
//!
//! Invariant: when [`Server::start`] returns, the store is open and the objects without which no
//! cluster works are there, so that the first request finds them.

use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use ipnet::IpNet;
use store::Store;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Features, Ranges};
use crate::authn::User;
use crate::boot::{self, BootError};
use crate::discovery::Discovery;
use crate::tls::{self, TlsError};

/// Revisions of history for watches.
const HISTORY: usize = 10_000;

/// What a server needs to know.
pub struct Config {
    /// The store's folder is made inside it.
    pub data_dir: PathBuf,
    /// The certificates.
    pub pki: pki::ServerIdentity,
    /// Where to accept connections; already bound.
    pub listeners: Vec<TcpListener>,
    /// Where the `kubernetes` Service leads.
    pub advertise: SocketAddr,
    /// The ranges of cluster IPs, at most one of each family; the first is the cluster's own family.
    pub service_cidrs: Vec<IpNet>,
    /// The ranges of pods, from each of which every Node gets a slice.
    pub cluster_cidrs: Vec<IpNet>,
    /// The prefix length of a Node's IPv4 slice.
    pub node_cidr_prefix: u8,
    /// The prefix length of a Node's IPv6 slice.
    pub node_cidr_prefix_v6: u8,
    /// The range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// What the cluster has beyond the necessary.
    pub features: Features,
}

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store does not open.
    #[error("open the store")]
    Store(#[from] store::OpenError),
    /// The certificates cannot be used.
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    /// A range of pods has no room for a single Node.
    #[error(
        "the range of pods {range} is smaller than the /{node} that each node gets of it: \
         give a shorter prefix"
    )]
    PodRange {
        /// The range.
        range: IpNet,
        /// The prefix length of a Node's slice.
        node: u8,
    },
    /// The first objects cannot be made.
    #[error("set up the cluster's first objects")]
    Boot(#[from] BootError),
}

/// Why the server stopped before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A listener cannot be used.
    #[error("listen for connections")]
    Listen(#[source] std::io::Error),
}

/// A server that is ready to answer.
pub struct Server {
    api: Arc<Api>,
    listeners: Vec<TcpListener>,
    tls: tls::Acceptor,
}

impl Server {
    /// Opens the store and makes the first objects.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let nodes = (config.node_cidr_prefix, config.node_cidr_prefix_v6);
        has_room_for_nodes(&config.cluster_cidrs, nodes)?;
        let tls = tls::Acceptor::new(&config.pki)?;
        let dir = config.data_dir.join("store");
        let store = Store::open(store::Config { dir, history: HISTORY }).await?;
        let ranges = Ranges {
            service_cidrs: config.service_cidrs,
            cluster_cidrs: config.cluster_cidrs,
            node_prefix: config.node_cidr_prefix,
            node_prefix_v6: config.node_cidr_prefix_v6,
            node_ports: config.node_ports,
        };
        let api = Arc::new(Api {
            store,
            ranges,
            features: config.features,
            advertise: config.advertise,
            pages: Default::default(),
            tunnels: Default::default(),
            discovery: Discovery::new(),
        });
        boot::make_first_objects(&api).await?;
        Ok(Server { api, listeners: config.listeners, tls })
    }

    /// The API as a service of this process, for a client that acts as `user`.
    pub fn router(&self, user: User) -> axum::Router {
        crate::http::router(self.api.clone()).layer(Extension(user))
    }

    /// Answers connections until `stop` is cancelled, then closes the store.
    ///
    /// # Errors
    /// A listener cannot be used.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let router = crate::http::router(self.api.clone());
        let keeper = tokio::spawn(boot::keep_first_objects(self.api.clone()));
        let served = tls::serve(self.listeners, self.tls, router, stop).await;
        keeper.abort();
        self.api.store.clone().close().await;
        served.map_err(ServeError::Listen)
    }
}

/// Every range of pods has a slice for a node, whose prefix lengths are given for IPv4 and IPv6.
fn has_room_for_nodes(ranges: &[IpNet], (v4, v6): (u8, u8)) -> Result<(), StartError> {
    for range in ranges {
        let node = if range.addr().is_ipv4() { v4 } else { v6 };
        if range.prefix_len() > node {
            return Err(StartError::PodRange { range: *range, node });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_pods_has_room_for_a_node() {
        let says = |ranges: &[&str]| {
            let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
            has_room_for_nodes(&ranges, (24, 64)).map_err(|error| error.to_string())
        };
        assert_eq!(says(&["10.244.0.0/16", "fd00::/64"]), Ok(()));
        assert_eq!(
            says(&["10.244.0.0/16", "fd00::/72"]),
            Err("the range of pods fd00::/72 is smaller than the /64 that each node gets of it: \
                 give a shorter prefix"
                .to_owned())
        );
        assert!(says(&["10.244.0.0/25"]).is_err());
    }
}
