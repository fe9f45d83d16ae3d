//! The Ingress status controller: where the Ingresses that the nodes serve are reached.
//!
//! Inputs: Ingresses, their classes, the Service of the nodes' proxies. Output: `status.loadBalancer`
//! of Ingresses: the addresses of that Service.
//! Invariant: the status of an Ingress of another controller is that one's, but for what we wrote
//! there before its class changed.
//! Deliberately not here: routing, certificates, whether a backend is there (the nodes' proxies).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressLoadBalancerIngress, IngressLoadBalancerStatus,
};
use resources::{ingress, ingress_class};

use crate::api::{self, Api};
use crate::cache::Key;
use crate::controllers::{self, Context};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{Plan, Write};

const CONTROLLER: &str = "minictl.io/ingress";
const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "minictl-ingress";
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let context = context.clone();
    async move {
        let listed = async {
            tokio::join!(
                context.view.ingresses.wait_listed(),
                context.view.ingress_classes.wait_listed(),
            )
        };
        if context.stop.run_until_cancelled(listed).await.is_none() {
            return;
        }
        let look_at = |Context { api, view, .. }: Context, key: Key| async move {
            reconcile(&api, &view, &key).await
        };
        controllers::serve("ingress", context.clone(), queue, PARALLEL, look_at).await;
    }
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let sink = queue.clone();
    view.ingresses.on_change(move |change| sink.add(meta::key(change.latest())));
    let all = |view: &View, sink: &Queue<Key>| {
        view.ingresses.all().iter().for_each(|ingress| sink.add(meta::key(&**ingress)));
    };
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.ingress_classes.on_change(move |_| {
        source.upgrade().iter().for_each(|view| all(view, &sink));
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.services.on_change(move |change| {
        if meta::key(change.latest()) == Key::new(NAMESPACE, SERVICE) {
            source.upgrade().iter().for_each(|view| all(view, &sink));
        }
    });
}

async fn reconcile(api: &Api, view: &View, key: &Key) -> Result<Recheck, api::Error> {
    let Some(ingress) = view.ingresses.get(key) else { return Ok(None) };
    let service = view.services.get(&Key::new(NAMESPACE, SERVICE));
    let classes = view.ingress_classes.all();
    let write = plan(&ingress, &classes, service.as_deref());
    api.run(Plan::of(write.into_iter().collect())).await
}

fn plan(
    ingress: &Ingress,
    classes: &[Arc<IngressClass>],
    service: Option<&Service>,
) -> Option<Write> {
    let addresses = service.map(addresses).unwrap_or_default();
    let held = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let held = held.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
    let ours = held.iter().all(|entry| addresses.contains(entry));
    let wanted = match (is_served(ingress, classes), ours) {
        (true, _) => addresses,
        (false, true) => Vec::new(),
        (false, false) => return None,
    };
    if meta::is_deleted(ingress) || held == wanted {
        return None;
    }
    let mut new = ingress.clone();
    let ingress = (!wanted.is_empty()).then_some(wanted);
    new.status.get_or_insert_default().load_balancer = Some(IngressLoadBalancerStatus { ingress });
    Some(Write::update_status(new))
}

/// Whether the nodes' proxies serve the Ingress: its class says so, or the annotation that named
/// the class before there was a field.
fn is_served(ingress: &Ingress, classes: &[Arc<IngressClass>]) -> bool {
    let class = ingress::class(ingress).or_else(|| ingress::class_annotation(ingress));
    classes.iter().any(|held| {
        Some(meta::name(&**held)) == class && ingress_class::controller(held) == CONTROLLER
    })
}

fn addresses(service: &Service) -> Vec<IngressLoadBalancerIngress> {
    let addresses = resources::service::balancer::served_at(service).into_iter();
    let entry = |address: std::net::IpAddr| IngressLoadBalancerIngress {
        ip: Some(address.to_string()),
        ..IngressLoadBalancerIngress::default()
    };
    addresses.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ingress(class: Option<&str>, status: &[&str]) -> Ingress {
        let entries: Vec<Value> = status.iter().map(|ip| json!({ "ip": ip })).collect();
        let object = json!({
            "metadata": { "name": "a", "namespace": "d" },
            "spec": { "ingressClassName": class },
            "status": { "loadBalancer": { "ingress": entries } },
        });
        serde_json::from_value(object).expect("an Ingress")
    }

    fn service(addresses: &[&str]) -> Service {
        let entries: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        let object =
            json!({ "metadata": {}, "status": { "loadBalancer": { "ingress": entries } } });
        serde_json::from_value(object).expect("a Service")
    }

    fn classes() -> Vec<Arc<IngressClass>> {
        let class = |name: &str, controller: &str| {
            let object =
                json!({ "metadata": { "name": name }, "spec": { "controller": controller } });
            Arc::new(serde_json::from_value(object).expect("a class"))
        };
        vec![class("minictl", CONTROLLER), class("nginx", "k8s.io/ingress-nginx")]
    }

    /// The addresses that the plan writes; `None` for no write.
    fn written(ingress: &Ingress, service: Option<&Service>) -> Option<Vec<String>> {
        let Write::UpdateStatus(crate::view::Object::Ingress(new)) =
            plan(ingress, &classes(), service)?
        else {
            panic!("a status, nothing else");
        };
        let entries = new.status?.load_balancer?.ingress.unwrap_or_default();
        Some(entries.into_iter().filter_map(|entry| entry.ip).collect())
    }

    #[test]
    fn an_ingress_is_reached_where_its_proxies_are() {
        let at = service(&["10.0.0.1", "fd00::1"]);
        let both = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        assert_eq!(written(&ingress(Some("minictl"), &[]), Some(&at)), Some(both));
        let there = ingress(Some("minictl"), &["10.0.0.1", "fd00::1"]);
        assert_eq!(written(&there, Some(&at)), None, "nothing is written twice");
        assert_eq!(written(&there, None), Some(Vec::new()), "the Service went");
        let moved = service(&["10.0.0.2"]);
        assert_eq!(written(&there, Some(&moved)), Some(vec!["10.0.0.2".to_owned()]));
    }

    #[test]
    fn what_others_serve_is_theirs() {
        let at = service(&["10.0.0.1"]);
        assert_eq!(written(&ingress(Some("nginx"), &[]), Some(&at)), None);
        assert_eq!(written(&ingress(Some("nginx"), &["10.9.9.9"]), Some(&at)), None);
        let changed = ingress(Some("nginx"), &["10.0.0.1"]);
        assert_eq!(written(&changed, Some(&at)), Some(Vec::new()), "its class was ours");
        assert_eq!(written(&ingress(None, &[]), Some(&at)), None);
        assert_eq!(written(&ingress(Some("gone"), &[]), Some(&at)), None);
    }

    #[test]
    fn the_old_annotation_names_a_class_too() {
        let mut old = ingress(None, &[]);
        let annotation = (ingress::CLASS_ANNOTATION.to_owned(), "minictl".to_owned());
        old.metadata.annotations = Some([annotation].into());
        let at = service(&["10.0.0.1"]);
        assert_eq!(written(&old, Some(&at)), Some(vec!["10.0.0.1".to_owned()]));
    }
}
