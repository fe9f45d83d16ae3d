//! Where news comes from: a tap on netd's watches, and watches of what only Ingress needs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use ingress::objects::ObjectName;
use ingress::objects::decode;
use k8s_openapi::api::core::v1 as core;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use netmodel::snapshot::ServiceName;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::SERVICE;
use super::view::{Entrance, List, News};
use crate::inputs::SliceName;
use crate::inputs::fan::Listener;
use crate::inputs::slices::Kept;

/// Hears of Services, slices and Nodes.
pub(crate) struct Tap(UnboundedSender<News>);

impl Tap {
    pub(super) fn new(news: UnboundedSender<News>) -> Self {
        Self(news)
    }

    fn pass(&self, news: News) {
        // Nobody listens any more when netd stops.
        let _ = self.0.send(news);
    }
}

impl Listener for Tap {
    fn service(&mut self, name: &ServiceName, object: Option<&core::Service>) {
        if (&*name.namespace, &*name.name) == SERVICE {
            self.pass(News::Entrance(object.map(entrance)));
        }
        self.pass(News::Service(name.clone(), object.map(decode::service)));
    }

    fn slice(&mut self, _name: &SliceName, owner: Option<&ServiceName>, now: Option<&Kept>) {
        let now = now.map(|now| &now.owner);
        for service in now.into_iter().chain(owner.filter(|owner| Some(*owner) != now)) {
            self.pass(News::Endpoints(service.clone()));
        }
    }

    fn node(&mut self, name: &str, object: Option<&core::Node>) {
        self.pass(News::Node(Arc::from(name), object.map(is_ready)));
    }

    fn synced(&mut self) {
        self.pass(News::Listed(List::Shared));
    }
}

fn is_ready(node: &core::Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Addresses and ports of the proxy's own Service.
fn entrance(service: &core::Service) -> Entrance {
    let spec = service.spec.as_ref();
    let own = spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let given = given.filter_map(|one| one.ip.as_ref());
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    Entrance {
        uid: service.metadata.uid.as_deref().unwrap_or_default().into(),
        addresses: own.chain(given).filter_map(|text| text.parse::<IpAddr>().ok()).collect(),
        ports: ports
            .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
            .filter_map(|port| {
                let tls = port.app_protocol.as_deref() == Some("https")
                    || port.name.as_deref() == Some("https");
                Some((u16::try_from(port.port).ok()?, tls))
            })
            .collect(),
    }
}

/// Watches Ingresses, their classes, and Secrets with certificates, for ever.
pub(super) fn watch(
    client: &Client,
    news: UnboundedSender<News>,
) -> impl Future<Output = ()> + use<> {
    let all = watcher::Config::default;
    let secrets = all().fields(&format!("type={}", decode::TLS_SECRET_TYPE));
    let ingresses = follow(client, all(), List::Ingresses, news.clone(), |name, object| {
        News::Ingress(name, object.map(decode::ingress))
    });
    let classes = follow(client, all(), List::Classes, news.clone(), |name, object| {
        News::Class(name, object.map(decode::class))
    });
    let secrets = follow(client, secrets, List::Secrets, news, |name, object| {
        News::Secret(name, object.and_then(decode::secret))
    });
    async {
        tokio::join!(ingresses, classes, secrets);
    }
}

/// Watches one kind. What a new list lacks is gone; what can't be read counts as absent.
fn follow<K, F>(
    client: &Client,
    config: watcher::Config,
    list: List,
    news: UnboundedSender<News>,
    told: F,
) -> impl Future<Output = ()> + use<K, F>
where
    F: Fn(ObjectName, Option<&K>) -> News,
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut events = watcher(api, config).default_backoff().boxed();
    let (mut known, mut unseen) = (BTreeSet::new(), BTreeSet::new());
    let mut warned = false;
    let name = |object: &DeserializeGuard<K>| {
        ObjectName::new(&object.namespace().unwrap_or_default(), &object.name_any())
    };
    async move {
        while let Some(event) = events.next().await {
            let pass = |one: News| {
                let _ = news.send(one);
            };
            match event {
                Ok(watcher::Event::Init) => unseen.clone_from(&known),
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    let name = name(&object);
                    unseen.remove(&name);
                    known.insert(name.clone());
                    if let Err(error) = &object.0 {
                        tracing::warn!(%name, error = %error.error, "one of the {list:?} can't be read");
                    }
                    pass(told(name, object.0.as_ref().ok()));
                }
                Ok(watcher::Event::InitDone) => {
                    warned = false;
                    for name in std::mem::take(&mut unseen) {
                        known.remove(&name);
                        pass(told(name, None));
                    }
                    pass(News::Listed(list));
                }
                Ok(watcher::Event::Delete(object)) => {
                    let name = name(&object);
                    known.remove(&name);
                    pass(told(name, None));
                }
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        let error = crate::error_chain(&error);
                        tracing::warn!(error, "watch {list:?}; it is tried again");
                    }
                }
            }
        }
    }
}
