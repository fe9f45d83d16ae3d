//! `GET /minictl.io/v1/nodes/NAME/lb/check?address=ADDRESS`: what a node knows of a LoadBalancer
//! address and hears of it on its network, by way of the agent's tunnel, as JSON (contract:
//! `proto/lb.proto`).

use std::time::Duration;

use bytes::Bytes;
use proto::lb::CheckRequest;
use proto::lb::load_balancer_client::LoadBalancerClient;

use crate::api::Api;
use crate::http::query::Query;
use crate::status::ApiError;
use crate::stream::dataplane::{json, refused, to_netd, unavailable};

/// A node asks its network for less than a second, and knocks at ports meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// The node's answer.
///
/// # Errors
/// 400 for what is no address, 404 for a node that does not exist, 503 for one that is not connected
/// or runs no netd.
pub(crate) async fn check(api: &Api, node: &str, query: &Query) -> Result<Bytes, ApiError> {
    let mut netd = LoadBalancerClient::new(to_netd(api, node)?);
    let address = query.get("address").unwrap_or_default().to_owned();
    match tokio::time::timeout(PATIENCE, netd.check(CheckRequest { address })).await {
        Err(_) => Err(unavailable(format!("the netd of node {node:?} does not answer"))),
        Ok(Err(status)) => Err(refused(node, &status)),
        Ok(Ok(reply)) => json(reply),
    }
}
