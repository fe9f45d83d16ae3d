//! All that netd listens on: pages about itself, checks of Services for load balancers, and node
//! ports on loopback.
//!
//! Everything is bound in the network namespace of the process. A port that somebody else holds is
//! told and tried again; nothing else waits for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use netmodel::dataplane::Dataplane;
use netmodel::snapshot::ServiceName;

use crate::Config;
use crate::control::Control;
use crate::events::Severity;
use crate::health::Health;
use crate::inputs::Inputs;
use crate::l7;
use crate::metrics::Metrics;
use crate::relay::{self, Relay};
use crate::service_health::{self, Checks};
use crate::tell::Teller;
use crate::wanted::engine_name;
use crate::web::{Answer, listen, not_found, serve, text};

/// The pause before a page's port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Listeners that follow the Services.
#[derive(Debug)]
pub(crate) struct Listeners {
    relay: Relay,
    checks: Checks,
    /// Ports that can't be had, as far as that has been told.
    told: BTreeSet<(ServiceName, &'static str, u16)>,
}

impl Listeners {
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self { relay: Relay::new(), checks: Checks::new(health), told: BTreeSet::new() }
    }

    /// Opens and closes what the data plane and the Services ask for.
    pub(crate) fn follow(&mut self, plane: &Dataplane, inputs: &Inputs, teller: &Teller) {
        let mut failed = BTreeSet::new();
        let mut tell = |name: &ServiceName, reason: &'static str, port: u16, message: String| {
            let key = (name.clone(), reason, port);
            if !self.told.contains(&key) {
                tracing::warn!(service = %name, reason, message);
                teller.about_service(inputs, name, Severity::Warning, reason, message);
            }
            failed.insert(key);
        };
        let node = &inputs.snapshot.settings.node_name;
        for (name, port, error) in self.checks.follow(&service_health::wanted(inputs)) {
            let message = format!(
                "node {node} failed to start healthcheck \"{name}\" on port {port}: {error}"
            );
            tell(&name, "FailedToStartServiceHealthcheck", port, message);
        }
        let doors = relay::wanted(plane, inputs.snapshot.this_node());
        for (name, door, error) in self.relay.follow(&doors) {
            let at = door.address();
            let message =
                format!("node {node} does not serve node port {at}/{}: {error}", door.protocol);
            tell(&name, "FailedToListenOnLocalhost", at.port(), message);
        }
        self.told = failed;
    }
}

/// Serves the pages about netd itself, for ever.
pub(crate) fn pages(
    config: &Config,
    control: Control,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    ingress: l7::Counted,
) -> impl Future<Output = ()> + use<> {
    let (counted, health, asked) = (metrics.clone(), health.clone(), metrics.clone());
    let about_itself = page("metrics", config.metrics_address, move |path| {
        measured(path, control.clone(), counted.clone(), ingress.clone())
    });
    let about_health = page("health", config.health_address, move |path| {
        std::future::ready(healthy(&path, &health, &asked))
    });
    async {
        tokio::join!(about_itself, about_health);
    }
}

/// Serves at an address as soon as it can be had.
async fn page<A, F>(what: &'static str, address: Option<SocketAddr>, answer: A)
where
    A: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let Some(address) = address else { return std::future::pending().await };
    let mut warned = false;
    loop {
        match listen(address) {
            Ok(listener) => return serve(listener, answer).await,
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(%error, "listen on {address} for {what}; it is tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn healthy(path: &str, health: &Health, metrics: &Metrics) -> Answer {
    match path {
        "/healthz" => {
            let answer = health.healthz(Timestamp::now());
            metrics.asked_for_health(answer.status().as_u16());
            answer
        }
        "/livez" => {
            let answer = health.livez(Timestamp::now());
            metrics.asked_for_life(answer.status().as_u16());
            answer
        }
        _ => not_found(),
    }
}

async fn measured(
    path: String,
    control: Control,
    metrics: Arc<Metrics>,
    ingress: l7::Counted,
) -> Answer {
    if !matches!(path.as_str(), "/metrics" | "/proxyMode" | "/healthz") {
        return not_found();
    }
    let Ok(status) = control.status().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "netd is stopping\n");
    };
    match path.as_str() {
        "/metrics" => {
            let mut page = metrics.render(&status, resident_memory());
            page.extend(ingress.get().map(ingress::Counters::render));
            page.extend(control.dns.get().map(dns::Dns::metrics));
            page.extend(control.announcer.view().await.map(|view| view.metrics()));
            text(StatusCode::OK, &page)
        }
        // As kube-proxy answers on this port.
        "/proxyMode" => text(StatusCode::OK, status.engine.map_or("", engine_name)),
        _ => text(StatusCode::OK, "ok"),
    }
}

/// What the kernel says this process has in memory, in bytes.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}
