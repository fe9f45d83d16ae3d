//! The node lifecycle controller: notices nodes that fell silent, keeps pods off them, and after a
//! while moves pods away (upstream: `pkg/controller/nodelifecycle`, `pkg/controller/tainteviction`).
//!
//! Inputs: nodes, their leases, pods. Outputs: `Ready=Unknown`, taints, pods marked not ready and
//! evicted, events.
//! Invariants: silence is measured with our own clock, from when we last saw a change, so that
//! neither a restart nor a wrong clock on a node evicts anybody; when *all* nodes are silent the
//! fault is ours, and nobody is evicted. Idle, a node costs one timer.

mod evict;
mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use crate::api::{self, Api};
use crate::cache::{Change, Key};
use crate::clock;
use crate::controllers::{self, Config, Context};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::pod;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{Plan, Write};

/// The namespace of the nodes' leases.
pub(crate) const LEASES: &str = "kube-node-lease";
const COMPONENT: &str = "node-controller";
const PARALLEL: usize = 8;

/// A node to judge, or a pod to evict when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Node(String),
    Pod(Key),
}

/// When each node was last heard of.
#[derive(Default)]
struct Pulse {
    heard: Mutex<HashMap<String, Instant>>,
}

impl Pulse {
    fn beat(&self, node: &str) {
        let now = Instant::now();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), now);
    }

    fn forget(&self, node: &str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// How long the node has been silent; a node never heard of begins now.
    fn silence(&self, node: &str) -> Duration {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(node.to_owned()).or_insert_with(Instant::now).elapsed()
    }
}

/// What one look at a node needs.
struct Monitor {
    api: Arc<Api>,
    view: Arc<View>,
    pulse: Arc<Pulse>,
    queue: Arc<Queue<Subject>>,
    grace: Duration,
    startup_grace: Duration,
}

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context, config: &Config) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let pulse = Arc::new(Pulse::default());
    register(context, &queue, &pulse);
    let monitor = Arc::new(Monitor {
        api: context.api.clone(),
        view: context.view.clone(),
        pulse,
        queue: queue.clone(),
        grace: config.node_grace,
        startup_grace: config.node_startup_grace,
    });
    let look_at = move |_, subject| {
        let monitor = monitor.clone();
        async move {
            match subject {
                Subject::Node(name) => monitor.judge(&name).await,
                Subject::Pod(key) => monitor.evict(&key).await,
            }
        }
    };
    controllers::serve("nodelifecycle", context.clone(), queue, PARALLEL, look_at)
}

fn register(context: &Context, queue: &Arc<Queue<Subject>>, pulse: &Arc<Pulse>) {
    let Context { api, view, .. } = context;
    let heart = pulse.clone();
    view.leases.on_change(move |change| {
        // The lease has the node's name. Its timer runs already and will find the new beat.
        if change.new.is_some() {
            heart.beat(meta::name(change.latest()));
        }
    });
    let (sink, heart) = (queue.clone(), pulse.clone());
    let (teller, source) = (api.clone(), Arc::downgrade(view));
    view.nodes.on_change(move |change| {
        let name = meta::name(change.latest());
        match (&change.old, &change.new) {
            (_, None) => heart.forget(name),
            (old, Some(new)) => {
                if old.as_ref().is_none_or(|old| plan::heartbeat(old) != plan::heartbeat(new)) {
                    heart.beat(name);
                }
            }
        }
        announce(&teller, change);
        if change.new.is_none() || is_news(change) {
            sink.add(Subject::Node(name.to_owned()));
        }
        // One node's recovery ends the state in which nobody is evicted.
        if plan::readiness(change)
            && let Some(view) = source.upgrade()
        {
            for node in view.nodes.all() {
                sink.add(Subject::Node(meta::name(&*node).to_owned()));
            }
        }
    });
    let sink = queue.clone();
    view.pods.on_change(move |change| {
        if change.new.is_some() && is_pod_news(change) {
            sink.add(Subject::Pod(meta::key(change.latest())));
        }
    });
}

/// Whether more than the time of the last heartbeat changed.
fn is_news(change: &Change<Node>) -> bool {
    let facts = |node: &Arc<Node>| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let states: Vec<_> = conditions.map(|c| (c.type_.clone(), c.status.clone())).collect();
        (states, node.spec.clone(), meta::uid(&**node).to_owned())
    };
    change.old.as_ref().map(facts) != change.new.as_ref().map(facts)
}

fn is_pod_news(change: &Change<Pod>) -> bool {
    let facts = |pod: &Arc<Pod>| {
        let tolerations = pod::spec(pod).and_then(|spec| spec.tolerations.clone());
        (pod::node_name(pod).map(str::to_owned), tolerations)
    };
    change.old.as_ref().map(facts) != change.new.as_ref().map(facts)
}

/// Nodes come and go; people read it in `kubectl describe node`.
fn announce(api: &Api, change: &Change<Node>) {
    let node = change.latest();
    let name = meta::name(node);
    let (reason, message) = match (&change.old, &change.new) {
        (None, Some(_)) => {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            ("RegisteredNode", message)
        }
        (Some(_), None) => {
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            ("RemovingNode", message)
        }
        _ => return,
    };
    api.tell(Occurrence::new(COMPONENT, node, Severity::Normal, reason, message));
}

impl Monitor {
    async fn judge(&self, name: &str) -> Result<Recheck, api::Error> {
        let Some(node) = self.view.nodes.get(&Key::new("", name)) else { return Ok(None) };
        let now = clock::now();
        let grace = if plan::has_reported(&node) { self.grace } else { self.startup_grace };
        let silence = self.pulse.silence(name);
        let silent = silence >= grace;
        if let Some(write) = silent.then(|| plan::unknown(&node, now)).flatten() {
            self.api.execute(write).await?;
        }
        let node = self.view.nodes.get(&Key::new("", name)).unwrap_or(node);
        let all = self.view.nodes.all();
        let cut_off = all.iter().all(|node| !plan::is_ready(node));
        if let Some(write) = plan::taints(&node, cut_off, now) {
            self.api.execute(write).await?;
        }
        let pods: Vec<Arc<Pod>> = self
            .view
            .pods
            .all()
            .into_iter()
            .filter(|pod| pod::node_name(pod) == Some(name))
            .collect();
        for write in plan::pods_not_ready(&node, &pods, now) {
            self.api.execute(write).await?;
        }
        if plan::has_evicting_taint(&self.view.nodes.get(&Key::new("", name)).unwrap_or(node)) {
            for pod in &pods {
                self.queue.add(Subject::Pod(meta::key(&**pod)));
            }
        }
        // A silent node speaks by changing something, which brings us back by itself.
        Ok((!silent).then(|| grace.saturating_sub(self.pulse.silence(name))))
    }

    async fn evict(&self, key: &Key) -> Result<Recheck, api::Error> {
        let Some(pod) = self.view.pods.get(key) else { return Ok(None) };
        let node = pod::node_name(&pod).and_then(|name| self.view.nodes.get(&Key::new("", name)));
        let plan: Plan = match node {
            Some(node) => evict::plan(&pod, &node, clock::now()),
            None => Plan::default(),
        };
        self.api.run(plan).await
    }
}

/// An event about one of this controller's objects.
fn event<K: crate::view::Kind>(
    object: &K,
    severity: Severity,
    reason: &'static str,
    message: String,
) -> Write {
    Write::Event(Occurrence::new(COMPONENT, object, severity, reason, message))
}

#[cfg(test)]
mod tests;
