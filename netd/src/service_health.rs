//! `healthCheckNodePort`: tells load balancers whether this node has endpoints of a Service.
//!
//! One listener on all addresses of the node for each Service of type `LoadBalancer` with
//! `externalTrafficPolicy: Local`; answers are upstream's (`pkg/proxy/healthcheck/
//! service_health.go`). A port that somebody else holds is told, and tried again; the others are
//! not affected.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use http::header::HeaderValue;
use netmodel::snapshot::{ServiceName, Snapshot};
use tokio_util::task::AbortOnDropHandle;

use crate::health::Health;
use crate::inputs::Inputs;
use crate::web::{Answer, json, listen, serve};

/// What a Service's port is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) port: u16,
    /// Ready endpoints on this node.
    pub(crate) endpoints: usize,
}

/// All checks that should be open.
pub(crate) fn wanted(inputs: &Inputs) -> BTreeMap<ServiceName, Check> {
    let with_port = inputs.facts.iter().filter_map(|(name, facts)| {
        let served = inputs.snapshot.services.contains_key(name);
        Some((name, facts.health_check_port.filter(|_| served)?))
    });
    with_port
        .map(|(name, port)| {
            (name.clone(), Check { port, endpoints: local_endpoints(&inputs.snapshot, name) })
        })
        .collect()
}

/// Ready endpoints on this node. One with an address in each family counts once.
fn local_endpoints(snapshot: &Snapshot, name: &ServiceName) -> usize {
    let here = &*snapshot.settings.node_name;
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    for slice in snapshot.slices.get(name).into_iter().flat_map(|slices| slices.values()) {
        let local = slice.endpoints.iter().filter(|e| e.ready && e.node.as_deref() == Some(here));
        addresses.extend(local.filter_map(|e| e.addresses.first()));
    }
    let four = addresses.iter().filter(|addr| addr.is_ipv4()).count();
    four.max(addresses.len() - four)
}

/// The open listeners.
#[derive(Debug)]
pub(crate) struct Checks {
    health: Arc<Health>,
    open: BTreeMap<ServiceName, Open>,
}

#[derive(Debug)]
struct Open {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Checks {
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self { health, open: BTreeMap::new() }
    }

    /// Opens, closes and updates; returns those that could not be opened. Runs inside tokio.
    pub(crate) fn follow(
        &mut self,
        wanted: &BTreeMap<ServiceName, Check>,
    ) -> Vec<(ServiceName, u16, io::Error)> {
        // A port may pass from one Service to another: close before opening.
        self.open
            .retain(|name, open| wanted.get(name).is_some_and(|check| check.port == open.port));
        let mut failed = Vec::new();
        for (name, check) in wanted {
            if let Some(open) = self.open.get(name) {
                open.endpoints.store(check.endpoints, Ordering::Relaxed);
                continue;
            }
            match self.listen(name, *check) {
                Ok(open) => drop(self.open.insert(name.clone(), open)),
                Err(error) => failed.push((name.clone(), check.port, error)),
            }
        }
        failed
    }

    fn listen(&self, name: &ServiceName, check: Check) -> io::Result<Open> {
        let listener = listen((Ipv4Addr::UNSPECIFIED, check.port).into())?;
        let endpoints = Arc::new(AtomicUsize::new(check.endpoints));
        let (name, count, health) = (name.clone(), endpoints.clone(), self.health.clone());
        let serving = serve(listener, move |_| {
            let answer = answer(&name, count.load(Ordering::Relaxed), health.is_healthy());
            std::future::ready(answer)
        });
        let serving = AbortOnDropHandle::new(tokio::spawn(serving));
        Ok(Open { port: check.port, endpoints, _serving: serving })
    }
}

/// What a load balancer is told.
fn answer(name: &ServiceName, endpoints: usize, healthy: bool) -> Answer {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\
         \t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        &*name.namespace, &*name.name
    );
    let good = endpoints > 0 && healthy;
    let mut answer =
        json(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body);
    answer.headers_mut().insert("x-load-balancing-endpoint-weight", HeaderValue::from(endpoints));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netmodel::address::Family;
    use netmodel::snapshot::{Endpoint, EndpointSlice, Settings};

    use super::*;

    #[test]
    fn the_answer_is_upstreams() {
        let name = ServiceName::new("shop", "web");
        let good = answer(&name, 2, true);
        assert_eq!(good.status(), 200);
        assert_eq!(good.headers()["X-Load-Balancing-Endpoint-Weight"], "2");
        assert_eq!(good.headers()["Content-Type"], "application/json");
        assert_eq!(good.headers()["X-Content-Type-Options"], "nosniff");
        assert_eq!(
            good.body(),
            "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\
             \t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
        );
        assert_eq!(answer(&name, 0, true).status(), 503);
        assert_eq!(answer(&name, 2, false).status(), 503);
    }

    #[test]
    fn ready_endpoints_of_this_node_count_once_each() {
        let endpoint = |addr: &str, node: &str, ready| Endpoint {
            addresses: vec![addr.parse().unwrap()],
            node: Some(node.into()),
            ready,
            ..Endpoint::default()
        };
        let slice =
            |family, endpoints| Arc::new(EndpointSlice { family, ports: Vec::new(), endpoints });
        let settings = Settings {
            node_name: "here".into(),
            cluster_cidrs: vec![],
            service_cidrs: vec![],
            bridge: "mini0".into(),
            node_ports: 30000..=32767,
            default_scheduler: "rr".into(),
        };
        let mut snapshot = Snapshot::new(settings);
        let name = ServiceName::new("shop", "web");
        let slices = snapshot.slices.entry(name.clone()).or_default();
        slices.insert(
            "a".into(),
            slice(
                Family::V4,
                vec![
                    endpoint("10.244.1.5", "here", true),
                    endpoint("10.244.1.6", "here", false),
                    endpoint("10.244.2.5", "there", true),
                ],
            ),
        );
        slices.insert(
            "b".into(),
            slice(
                Family::V4,
                vec![endpoint("10.244.1.5", "here", true), endpoint("10.244.1.7", "here", true)],
            ),
        );
        slices.insert("c".into(), slice(Family::V6, vec![endpoint("fd00::5", "here", true)]));
        assert_eq!(local_endpoints(&snapshot, &name), 2);
        assert_eq!(local_endpoints(&snapshot, &ServiceName::new("shop", "other")), 0);
    }
}
