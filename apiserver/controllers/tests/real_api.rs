//! The controllers on the real API server, in one process: what the fake server of the unit tests
//! promises is held to what the real one does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use apiserver::{Server, User};
use controllers::{Config, ResourceId};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Client, ResourceExt};
use resources::address_pool::AddressPool;
use resources::service::balancer;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Nothing here takes a hundredth of this, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVICE_NAME: &str = "kubernetes.io/service-name";

struct Cluster {
    client: Client,
    _dir: tempfile::TempDir,
    _server: Server,
    _stop: DropGuard,
}

impl Cluster {
    async fn start() -> Self {
        // A second call in the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let authority = pki::Authority::load_or_create(&dir.path().join("pki")).unwrap();
        let server = Server::start(apiserver::Config {
            data_dir: dir.path().to_owned(),
            pki: authority.server_identity(&["127.0.0.1".into()]).unwrap(),
            listeners: vec![TcpListener::bind("127.0.0.1:0").unwrap()],
            advertise: "192.168.56.70:6443".parse().unwrap(),
            service_cidrs: nets(["10.96.0.0/12", "fd00:10:96::/112"]),
            cluster_cidrs: nets(["10.244.0.0/16", "fd00:10:244::/56"]),
            node_cidr_prefix: 24,
            node_cidr_prefix_v6: 64,
            node_ports: 30000..=32767,
            features: apiserver::Features::default(),
        })
        .await
        .unwrap();
        let router = server.router(User::controllers());
        let client = Client::new(router, "default");
        let stop = CancellationToken::new();
        let config = Config { ca_pem: "PEM".to_owned(), resources: stored(), ..Config::default() };
        tokio::spawn({
            let (client, stop) = (client.clone(), stop.clone());
            async move { controllers::run(client, config, stop).await.unwrap() }
        });
        for name in ["node-1", "node-2"] {
            let node = json!({
                "metadata": { "name": name },
                "status": {
                    "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                    "capacity": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            });
            let nodes: Api<Node> = Api::all(client.clone());
            let node: Node = serde_json::from_value(node).unwrap();
            nodes.create(&PostParams::default(), &node).await.unwrap();
            let status = json!({ "status": node.status });
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
        Self { client, _dir: dir, _server: server, _stop: stop.drop_guard() }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>(namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace).list(&ListParams::default()).await.unwrap().items
    }

    /// Plays the agents: every bound pod runs and is ready.
    async fn start_pods(&self, namespace: &str) {
        for (number, pod) in self.pods(namespace).await.iter().enumerate() {
            let status = json!({ "status": {
                "phase": "Running",
                "podIP": format!("10.244.1.{}", number + 2),
                "podIPs": [
                    { "ip": format!("10.244.1.{}", number + 2) },
                    { "ip": format!("fd00:10:244:1::{:x}", number + 2) },
                ],
                "conditions": [{
                    "type": "Ready", "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            }});
            let (name, params) = (pod.name_any(), PatchParams::default());
            let api = self.api::<Pod>(namespace);
            api.patch_status(&name, &params, &Patch::Merge(status)).await.unwrap();
        }
    }

    /// Plays the agents: every pod that is to go is gone.
    async fn end_pods(&self, namespace: &str) {
        for pod in self.pods(namespace).await {
            if pod.metadata.deletion_timestamp.is_some() {
                let params = DeleteParams::default().grace_period(0);
                let _ = self.api::<Pod>(namespace).delete(&pod.name_any(), &params).await;
            }
        }
    }

    async fn slices(&self, service: &str) -> Vec<EndpointSlice> {
        let params = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
        self.api::<EndpointSlice>("default").list(&params).await.unwrap().items
    }

    /// The ready addresses of a Service, in order.
    async fn ready(&self, service: &str) -> Vec<String> {
        let slices = self.slices(service).await.into_iter();
        let endpoints = slices.flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true));
        let mut all: Vec<String> = ready.flat_map(|endpoint| endpoint.addresses).collect();
        all.sort();
        all
    }

    /// A merge patch of a Service.
    async fn change_service(&self, name: &str, change: Value) {
        let (api, params) = (self.api::<Service>("default"), PatchParams::default());
        api.patch(name, &params, &Patch::Merge(change)).await.unwrap();
    }

    async fn eventually<F>(&self, what: &str, mut holds: F)
    where
        F: AsyncFnMut(&Self) -> bool,
    {
        let start = Instant::now();
        while !holds(self).await {
            if start.elapsed() > PATIENCE {
                let pods = self.pods("default").await;
                let events = self.api::<Event>("default").list(&ListParams::default()).await;
                let said: Vec<_> = events.unwrap().items.into_iter().map(|e| e.message).collect();
                panic!("never: {what}\n{pods:#?}\n{said:#?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn nets(all: [&str; 2]) -> Vec<ipnet::IpNet> {
    all.map(|net| net.parse().unwrap()).to_vec()
}

fn stored() -> Vec<ResourceId> {
    let rows = resources::table::all().iter().filter(|row| row.shared.is_none());
    rows.map(|row| ResourceId {
        group: row.group,
        version: row.version,
        plural: row.plural,
        kind: row.kind,
        namespaced: row.namespaced,
    })
    .collect()
}

fn web(replicas: i32) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "nginx" }] },
            },
        },
    })
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_and_its_service_come_and_go() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Service>(
            "default",
            json!({
                "metadata": { "name": "web" },
                "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
            }),
        )
        .await;
    cluster.create::<Deployment>("default", web(10)).await;
    cluster
        .eventually("ten pods are bound", async |cluster| {
            let pods = cluster.pods("default").await;
            pods.len() == 10 && pods.iter().all(is_bound)
        })
        .await;
    cluster.start_pods("default").await;
    cluster
        .eventually("ten endpoints", async |cluster| {
            let slices = cluster.api::<EndpointSlice>("default");
            let params = ListParams::default().labels("kubernetes.io/service-name=web");
            let slices = slices.list(&params).await.unwrap().items;
            let ready = |slice: &EndpointSlice| {
                slice.endpoints.as_ref().map_or(0, |endpoints| {
                    let ready = endpoints.iter().filter(|endpoint| {
                        endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true)
                    });
                    ready.count()
                })
            };
            slices.iter().map(ready).sum::<usize>() == 10
        })
        .await;
    cluster
        .eventually("the deployment is complete", async |cluster| {
            let deployment = cluster.api::<Deployment>("default").get("web").await.unwrap();
            let revision =
                deployment.annotations().get("deployment.kubernetes.io/revision").cloned();
            let status = deployment.status.unwrap_or_default();
            let complete = status
                .conditions
                .iter()
                .flatten()
                .any(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
            complete && status.available_replicas == Some(10) && revision.as_deref() == Some("1")
        })
        .await;
    let endpoints = cluster.api::<Endpoints>("default").get("web").await.unwrap();
    assert_eq!(endpoints.subsets.unwrap()[0].addresses.as_ref().unwrap().len(), 10);

    let api = cluster.api::<Deployment>("default");
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    api.delete("web", &foreground).await.unwrap();
    cluster.api::<Service>("default").delete("web", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("nothing of it is left", async |cluster| {
            cluster.end_pods("default").await;
            let all = ListParams::default();
            let params = ListParams::default().labels("kubernetes.io/service-name=web");
            let slices = cluster.api::<EndpointSlice>("default").list(&params).await.unwrap();
            cluster.pods("default").await.is_empty()
                && cluster.api::<ReplicaSet>("default").list(&all).await.unwrap().items.is_empty()
                && cluster.api::<Deployment>("default").get_opt("web").await.unwrap().is_none()
                && cluster.api::<Endpoints>("default").get_opt("web").await.unwrap().is_none()
                && slices.items.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_comes_provided_and_goes_with_everything_in_it() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let shop: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    cluster
        .eventually("provided", async |cluster| {
            let account = cluster.api::<ServiceAccount>("shop").get_opt("default").await.unwrap();
            let map = cluster.api::<ConfigMap>("shop").get_opt("kube-root-ca.crt").await.unwrap();
            account.is_some() && map.is_some_and(|map| map.data.unwrap()["ca.crt"] == "PEM")
        })
        .await;
    cluster.create::<Deployment>("shop", web(3)).await;
    cluster
        .eventually("pods", async |cluster| {
            let pods = cluster.pods("shop").await;
            pods.len() == 3 && pods.iter().all(is_bound)
        })
        .await;
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("gone", async |cluster| {
            cluster.end_pods("shop").await;
            namespaces.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    assert!(cluster.pods("shop").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Pod>(
            "default",
            json!({
                "metadata": { "name": "big" },
                "spec": { "containers": [{
                    "name": "c", "image": "nginx", "resources": { "requests": { "cpu": "64" } },
                }]},
            }),
        )
        .await;
    cluster
        .eventually("it says why", async |cluster| {
            let pod = cluster.api::<Pod>("default").get("big").await.unwrap();
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|condition| {
                condition.type_ == "PodScheduled"
                    && condition.reason.as_deref() == Some("Unschedulable")
                    && condition.message.as_deref().is_some_and(|m| {
                        m.starts_with("0/2 nodes are available: 2 Insufficient cpu.")
                    })
            })
        })
        .await;
    cluster
        .eventually("an event says so, too", async |cluster| {
            let events = cluster.api::<Event>("default").list(&ListParams::default()).await;
            events.unwrap().items.iter().any(|e| e.reason.as_deref() == Some("FailedScheduling"))
        })
        .await;
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// A cluster in which as many pods of the Deployment `web` run.
async fn with_web(replicas: i32) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>("default", web(replicas)).await;
    cluster
        .eventually("all pods are bound", async |cluster| {
            let pods = cluster.pods("default").await;
            pods.len() == usize::try_from(replicas).unwrap() && pods.iter().all(is_bound)
        })
        .await;
    cluster.start_pods("default").await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_both_families_has_slices_of_both() {
    let cluster = with_web(2).await;
    let spec = json!({
        "selector": { "app": "web" }, "ports": [{ "port": 80 }],
        "ipFamilyPolicy": "RequireDualStack", "trafficDistribution": "PreferSameNode",
    });
    cluster.create::<Service>("default", service("web", spec)).await;
    cluster
        .eventually("four addresses", async |cluster| cluster.ready("web").await.len() == 4)
        .await;
    let mut families: Vec<String> =
        cluster.slices("web").await.into_iter().map(|slice| slice.address_type).collect();
    families.sort();
    assert_eq!(families, ["IPv4", "IPv6"]);
    let slices = cluster.slices("web").await;
    let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
    let for_nodes = endpoint.hints.as_ref().unwrap().for_nodes.as_ref().unwrap();
    assert_eq!(Some(&for_nodes[0].name), endpoint.node_name.as_ref());
    let single = json!({ "spec": { "ipFamilyPolicy": "SingleStack" } });
    cluster.change_service("web", single).await;
    cluster
        .eventually("two addresses", async |cluster| {
            let slices = cluster.slices("web").await;
            slices.len() == 1 && slices[0].address_type == "IPv4"
        })
        .await;
}

/// Nobody may write this down by hand; nodes send nothing to the API server and say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_claims_the_api_servers_place_takes_no_others_endpoints_away() {
    let cluster = with_web(2).await;
    let pod = cluster.pods("default").await.remove(0).name_any();
    let address = "192.168.56.70";
    let host = json!({ "status": { "podIP": address, "podIPs": [{ "ip": address }] } });
    let (pods, params) = (cluster.api::<Pod>("default"), PatchParams::default());
    pods.patch_status(&pod, &params, &Patch::Merge(host)).await.unwrap();
    let ports = json!([{ "port": 80, "targetPort": 6443 }]);
    let spec = json!({ "selector": { "app": "web" }, "ports": ports });
    cluster.create::<Service>("default", service("web", spec)).await;
    let all = ["10.244.1.3", address];
    cluster.eventually("slices", async |cluster| cluster.ready("web").await == all).await;
    cluster
        .eventually("Endpoints", async |cluster| {
            let endpoints = cluster.api::<Endpoints>("default").get_opt("web").await.unwrap();
            let subsets = endpoints.and_then(|e| e.subsets).unwrap_or_default();
            subsets.iter().flat_map(|s| s.addresses.iter().flatten()).count() == all.len()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_by_hand_serve_until_a_selector_comes_and_again_when_it_went() {
    let cluster = with_web(1).await;
    cluster
        .create::<Service>("default", service("outside", json!({ "ports": [{ "port": 80 }] })))
        .await;
    let subsets = json!([{
        "addresses": [{ "ip": "11.11.11.11" }, { "ip": "fd00:11::11" }],
        "notReadyAddresses": [{ "ip": "22.22.22.22" }],
        "ports": [{ "port": 80 }],
    }]);
    let by_hand = json!({ "metadata": { "name": "outside" }, "subsets": subsets });
    cluster.create::<Endpoints>("default", by_hand).await;
    let serves = async |cluster: &Cluster, wanted: &[&str]| {
        let what = format!("{wanted:?} serve");
        cluster.eventually(&what, async |cluster| cluster.ready("outside").await == wanted).await;
    };
    serves(&cluster, &["11.11.11.11", "fd00:11::11"]).await;

    let pods = ["10.244.1.2"];
    cluster.change_service("outside", json!({ "spec": { "selector": { "app": "web" } } })).await;
    serves(&cluster, &pods).await;
    let api = cluster.api::<Endpoints>("default");
    cluster
        .eventually("the Endpoints are replaced", async |_| {
            let subsets = api.get("outside").await.unwrap().subsets.unwrap();
            subsets[0].addresses.as_ref().unwrap()[0].ip == pods[0]
        })
        .await;
    let replaced = api.get("outside").await.unwrap();

    cluster.change_service("outside", json!({ "spec": { "selector": null } })).await;
    cluster
        .eventually("the Endpoints are mirrored, and they alone", async |cluster| {
            let slices = cluster.slices("outside").await;
            slices.len() == 1
                && slices[0].labels()["endpointslice.kubernetes.io/managed-by"]
                    == "endpointslicemirroring-controller.k8s.io"
        })
        .await;
    assert_eq!(cluster.ready("outside").await, pods);
    assert_eq!(api.get("outside").await.unwrap(), replaced, "as they were last written");

    let change = json!({ "subsets": subsets });
    api.patch("outside", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    serves(&cluster, &["11.11.11.11", "fd00:11::11"]).await;
    api.delete("outside", &DeleteParams::default()).await.unwrap();
    serves(&cluster, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_becomes_another_name_gives_its_endpoints_up_and_gets_them_back() {
    let cluster = with_web(1).await;
    let spec = json!({ "selector": { "app": "web" }, "ports": [{ "port": 80 }] });
    cluster.create::<Service>("default", service("web", spec)).await;
    let serves = async |cluster: &Cluster, number: usize| {
        cluster
            .eventually("as many serve", async |cluster| {
                let endpoints = cluster.api::<Endpoints>("default").get_opt("web").await.unwrap();
                cluster.ready("web").await.len() == number && endpoints.is_some() == (number > 0)
            })
            .await;
    };
    serves(&cluster, 1).await;
    let other = json!({ "spec": { "type": "ExternalName", "externalName": "api.example.com" } });
    cluster.change_service("web", other).await;
    serves(&cluster, 0).await;
    assert!(cluster.slices("web").await.is_empty());
    let back = json!({ "spec": { "type": "ClusterIP", "externalName": null } });
    cluster.change_service("web", back).await;
    serves(&cluster, 1).await;
}

/// Upstream collects changes of endpoints for a while; here a pod that is to go is out of the way
/// of new connections before its containers hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_to_go_is_no_longer_ready_within_moments() {
    let cluster = with_web(10).await;
    let spec = json!({ "selector": { "app": "web" }, "ports": [{ "port": 80 }] });
    cluster.create::<Service>("default", service("web", spec)).await;
    cluster.eventually("all serve", async |cluster| cluster.ready("web").await.len() == 10).await;
    let slice = cluster.slices("web").await[0].name_any();
    let slices = cluster.api::<EndpointSlice>("default");
    let pods = cluster.pods("default").await;
    let mut delays = Vec::new();
    for pod in &pods {
        let uid = pod.uid();
        let is_going = |slice: &EndpointSlice| {
            let mut endpoints = slice.endpoints.iter().flatten();
            let of_pod = endpoints.find(|e| e.target_ref.as_ref().unwrap().uid == uid).unwrap();
            of_pod.conditions.as_ref().unwrap().terminating == Some(true)
        };
        let params = DeleteParams::default();
        cluster.api::<Pod>("default").delete(&pod.name_any(), &params).await.unwrap();
        let deleted = Instant::now();
        while !is_going(&slices.get(&slice).await.unwrap()) {
            assert!(deleted.elapsed() < PATIENCE, "never: {delays:?}");
        }
        delays.push(deleted.elapsed());
    }
    delays.sort();
    assert!(delays[delays.len() / 2] < Duration::from_millis(500), "too late: {delays:?}");
    let conditions = slices.get(&slice).await.unwrap().endpoints.unwrap();
    let serving = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|conditions| conditions.serving)
    };
    assert!(conditions.iter().filter(|e| e.target_ref.is_some()).all(|e| {
        let going = e.conditions.as_ref().unwrap().terminating == Some(true);
        !going || serving(e) == Some(true)
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_service_addresses_is_used_and_goes_with_its_last_service() {
    use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
    let cluster = Cluster::start().await;
    let ranges: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    let addresses: Api<IPAddress> = Api::all(cluster.client.clone());
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.200.0.0/24"] } });
    let range: ServiceCIDR = serde_json::from_value(range).unwrap();
    ranges.create(&PostParams::default(), &range).await.unwrap();
    let state = async |name: &str| {
        let status = ranges.get_opt(name).await.unwrap()?.status?;
        status.conditions?.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status)
    };
    cluster
        .eventually("both are ready", async |_| {
            state("kubernetes").await.as_deref() == Some("True")
                && state("more").await.as_deref() == Some("True")
        })
        .await;
    let spec = json!({ "ports": [{ "port": 80 }], "clusterIP": "10.200.0.7" });
    cluster.create::<Service>("default", service("web", spec)).await;
    assert!(addresses.get_opt("10.200.0.7").await.unwrap().is_some());
    ranges.delete("more", &DeleteParams::default()).await.unwrap();
    cluster.eventually("it waits", async |_| state("more").await.as_deref() == Some("False")).await;
    cluster.api::<Service>("default").delete("web", &DeleteParams::default()).await.unwrap();
    cluster.eventually("it goes", async |_| ranges.get_opt("more").await.unwrap().is_none()).await;
}

fn balanced(name: &str, port: u16) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": port }] },
    })
}

fn pool(addresses: &[&str]) -> AddressPool {
    let object = json!({ "metadata": { "name": "default" }, "spec": { "addresses": addresses } });
    serde_json::from_value(object).unwrap()
}

fn texts(service: &Service) -> Vec<String> {
    balancer::served_at(service).iter().map(ToString::to_string).collect()
}

impl Cluster {
    /// Waits until a Service has these addresses, and this reason for them.
    async fn balances(&self, name: &str, addresses: &[&str], reason: &str) {
        let what = format!("{name} at {addresses:?} by {reason}");
        self.eventually(&what, async |cluster| {
            let service = cluster.api::<Service>("default").get(name).await.unwrap();
            let said = balancer::condition(&service).map(|c| c.reason.clone());
            texts(&service) == addresses && said.as_deref() == Some(reason)
        })
        .await;
    }

    async fn address_nodes(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        for (name, address) in [("node-1", "10.1.0.1"), ("node-2", "10.1.0.2")] {
            let addresses = json!([{ "type": "InternalIP", "address": address }]);
            let status = json!({ "status": { "addresses": addresses } });
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    }

    /// Waits until events about a Service have these reasons.
    async fn tells(&self, name: &str, reasons: &[&str]) {
        self.eventually(&format!("events of {name}: {reasons:?}"), async |cluster| {
            let all = cluster.api::<Event>("default").list(&ListParams::default()).await.unwrap();
            let about = all.iter().filter(|e| e.involved_object.name.as_deref() == Some(name));
            let told: Vec<&str> = about.filter_map(|e| e.reason.as_deref()).collect();
            reasons.iter().all(|reason| told.contains(reason))
        })
        .await;
    }

    fn pools(&self) -> Api<AddressPool> {
        Api::all(self.client.clone())
    }
}

#[tokio::test]
async fn services_move_from_the_nodes_to_a_pool_and_wait_for_what_is_taken() {
    let cluster = Cluster::start().await;
    cluster.address_nodes().await;
    cluster
        .eventually("the proxies have their ports", async |cluster| {
            let proxies = cluster.api::<Service>("kube-system").get("minictl-ingress").await;
            texts(&proxies.unwrap()) == ["10.1.0.1", "10.1.0.2"]
        })
        .await;
    cluster.create::<Service>("default", balanced("a", 80)).await;
    cluster.balances("a", &[], "PortConflict").await;
    cluster.change_service("a", json!({ "spec": { "ports": [{ "port": 8080 }] } })).await;
    cluster.balances("a", &["10.1.0.1", "10.1.0.2"], "NodeAddresses").await;

    cluster.pools().create(&PostParams::default(), &pool(&["10.2.0.1-10.2.0.2"])).await.unwrap();
    cluster
        .eventually("both have an address of the pool", async |cluster| {
            let mut all = texts(&cluster.api::<Service>("default").get("a").await.unwrap());
            let proxies = cluster.api::<Service>("kube-system").get("minictl-ingress").await;
            all.extend(texts(&proxies.unwrap()));
            all.sort_unstable();
            all == ["10.2.0.1", "10.2.0.2"]
        })
        .await;
    cluster
        .eventually("the pool is counted", async |cluster| {
            let status = cluster.pools().get("default").await.unwrap().status.unwrap_or_default();
            (status.assigned, status.available) == (2, 0)
        })
        .await;

    cluster.create::<Service>("default", balanced("b", 80)).await;
    cluster.balances("b", &[], "PoolExhausted").await;
    let services: Api<Service> = cluster.api("default");
    let freed = texts(&services.get("a").await.unwrap());
    let freed: Vec<&str> = freed.iter().map(String::as_str).collect();
    services.delete("a", &DeleteParams::default()).await.unwrap();
    cluster.balances("b", &freed, "FromPool").await;
    cluster.tells("b", &["AllocationFailed", "IPAllocated"]).await;

    // The pool goes, and the address stays.
    cluster.pools().delete("default", &DeleteParams::default()).await.unwrap();
    cluster.create::<Service>("default", balanced("c", 8081)).await;
    cluster.balances("c", &["10.1.0.1", "10.1.0.2"], "NodeAddresses").await;
    cluster.balances("b", &freed, "FromPool").await;
    cluster.tells("b", &["OutsidePools"]).await;
}

#[tokio::test]
async fn an_ingress_is_reached_at_the_address_of_the_proxies() {
    let cluster = Cluster::start().await;
    let pool = pool(&["10.2.0.7-10.2.0.7", "fd00:2::7-fd00:2::7"]);
    cluster.pools().create(&PostParams::default(), &pool).await.unwrap();
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let object = json!({ "metadata": { "name": "web" }, "spec": { "defaultBackend": backend } });
    let made: Ingress = cluster.create("default", object).await;
    let class = made.spec.and_then(|spec| spec.ingress_class_name);
    assert_eq!(class.as_deref(), Some("minictl"), "the default class");
    let addresses = async |cluster: &Cluster| {
        let ingress = cluster.api::<Ingress>("default").get("web").await.unwrap();
        let entries = ingress.status.and_then(|s| s.load_balancer?.ingress).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.ip).collect::<Vec<_>>()
    };
    cluster
        .eventually("it has addresses", async |cluster| {
            addresses(cluster).await == ["10.2.0.7", "fd00:2::7"]
        })
        .await;
    let other = Patch::Merge(json!({ "spec": { "ingressClassName": "other" } }));
    let ingresses = cluster.api::<Ingress>("default");
    ingresses.patch("web", &PatchParams::default(), &other).await.unwrap();
    cluster
        .eventually("they go with the class", async |cluster| addresses(cluster).await.is_empty())
        .await;
}
