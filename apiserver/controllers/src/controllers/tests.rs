//! All controllers together, against an API server in memory and nodes that obey at once, on a
//! clock that moves on by itself.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, NodeCondition, NodeStatus, Pod, PodIP, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::fake::FakeApi;
use crate::meta;
use crate::pod;

mod services;

fn read<K: Kind>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn deployment(name: &str, replicas: i32, image: &str) -> Deployment {
    read(json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "selector": { "matchLabels": { "app": name } },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
            },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            },
        },
    }))
}

fn node(name: &str) -> Node {
    read(json!({
        "metadata": { "name": name },
        "status": {
            "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
        },
    }))
}

fn namespace(name: &str) -> Namespace {
    read(json!({ "metadata": { "name": name } }))
}

/// An API server with two nodes whose agents run in the background.
struct Cluster {
    api: FakeApi,
    /// Nodes that are cut off: their agents do nothing.
    silent: Arc<std::sync::Mutex<HashSet<String>>>,
    _guards: (tokio_util::sync::DropGuard, tokio_util::sync::DropGuard),
}

impl Cluster {
    fn start() -> Self {
        let api = FakeApi::default();
        api.create(&namespace("default"));
        for name in ["node-1", "node-2"] {
            api.create(&node(name));
            let lease = json!({ "metadata": { "name": name, "namespace": "kube-node-lease" } });
            api.create::<Lease>(&read(lease));
        }
        let stop = CancellationToken::new();
        let silent = Arc::default();
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(agents(api.clone(), Arc::clone(&silent))),
        );
        let guards = (api.run_controllers(), stop.drop_guard());
        Self { api, silent, _guards: guards }
    }

    fn running(&self, app: &str) -> Vec<Pod> {
        let of_app = |pod: &Pod| meta::label(pod, "app") == Some(app) && pod::is_active(pod);
        self.api.all::<Pod>().into_iter().filter(of_app).collect()
    }
}

/// Every millisecond each node starts what is bound to it and lets go what is to go; every ten
/// seconds it renews its lease.
async fn agents(api: FakeApi, silent: Arc<std::sync::Mutex<HashSet<String>>>) {
    let mut renewed: HashMap<String, tokio::time::Instant> = HashMap::new();
    for round in 0_u64.. {
        tokio::time::sleep(Duration::from_millis(if round < 5_000 { 1 } else { 100 })).await;
        let silent = silent.lock().unwrap().clone();
        for name in ["node-1", "node-2"].map(str::to_owned) {
            if silent.contains(&name) || api.get::<Node>("", &name).is_none() {
                continue;
            }
            let now = tokio::time::Instant::now();
            if renewed.get(&name).is_none_or(|at| now - *at > Duration::from_secs(10)) {
                renewed.insert(name.clone(), now);
                let time = clock::now();
                api.change::<Lease>("kube-node-lease", &name, |lease| {
                    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(time));
                });
                report_ready(&api, &name, time);
            }
        }
        for pod in api.all::<Pod>() {
            let (namespace, name) = (meta::namespace(&pod), meta::name(&pod));
            let Some(node) = pod::node_name(&pod).filter(|node| !silent.contains(*node)) else {
                continue;
            };
            if meta::is_deleted(&pod) {
                api.take::<Pod>(namespace, name);
            } else if !pod::is_ready(&pod) && !pod::is_terminal(&pod) {
                let number: u64 = meta::uid(&pod).trim_start_matches("uid-").parse().unwrap();
                let third = if node == "node-1" { 1 } else { 2 };
                start(&api, &pod, third, number % 250);
            }
        }
    }
}

fn report_ready(api: &FakeApi, node: &str, time: Timestamp) {
    if api.get::<Node>("", node).is_some_and(|node| {
        let status: NodeStatus = node.status.unwrap_or_default();
        status.conditions.iter().flatten().all(|c| c.type_ != "Ready" || c.status == "True")
    }) {
        return;
    }
    api.change::<Node>("", node, |node| {
        node.status.as_mut().unwrap().conditions = Some(vec![NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_heartbeat_time: Some(Time(time)),
            ..NodeCondition::default()
        }]);
    });
}

fn start(api: &FakeApi, pod: &Pod, node: u64, number: u64) {
    let ips = [format!("10.244.{node}.{number}"), format!("fd00:10:244:{node}::{number}")];
    let since = clock::now();
    api.change::<Pod>(meta::namespace(pod), meta::name(pod), |pod| {
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Running".to_owned());
        status.pod_ip = Some(ips[0].clone());
        status.pod_ips = Some(ips.map(|ip| PodIP { ip }).to_vec());
        status.conditions = Some(vec![read_condition(since)]);
    });
}

fn read_condition(since: Timestamp) -> k8s_openapi::api::core::v1::PodCondition {
    k8s_openapi::api::core::v1::PodCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(since)),
        ..Default::default()
    }
}

fn status_of(api: &FakeApi, name: &str) -> (i32, i32, i32) {
    let status = api.get::<Deployment>("default", name).and_then(|d| d.status).unwrap_or_default();
    (
        status.replicas.unwrap_or(0),
        status.updated_replicas.unwrap_or(0),
        status.available_replicas.unwrap_or(0),
    )
}

fn condition(api: &FakeApi, name: &str, kind: &str) -> Option<(String, String)> {
    let status = api.get::<Deployment>("default", name)?.status?;
    let found = status.conditions?.into_iter().find(|condition| condition.type_ == kind)?;
    Some((found.status, found.reason.unwrap_or_default()))
}

fn text(pair: (&str, &str)) -> Option<(String, String)> {
    Some((pair.0.to_owned(), pair.1.to_owned()))
}

/// Addresses of all ready endpoints in a Service's slices.
fn slice_addresses(api: &FakeApi, service: &str) -> Vec<String> {
    let mut all: Vec<String> = api
        .all::<EndpointSlice>()
        .into_iter()
        .filter(|slice| meta::label(slice, "kubernetes.io/service-name") == Some(service))
        .flat_map(|slice| slice.endpoints.unwrap_or_default())
        .filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true))
        .flat_map(|endpoint| endpoint.addresses)
        .collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_pods_on_all_nodes_and_says_so() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 10, "nginx"));
    api.eventually("ten available pods", |api| status_of(api, "web") == (10, 10, 10)).await;

    let pods = cluster.running("web");
    assert_eq!(pods.len(), 10);
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in &pods {
        *per_node.entry(pod::node_name(pod).unwrap()).or_default() += 1;
    }
    assert_eq!(per_node.into_values().collect::<Vec<_>>(), [5, 5], "spread over both nodes");

    let sets = api.all::<ReplicaSet>();
    let [set] = sets.as_slice() else { panic!("one replica set: {sets:?}") };
    let name = meta::name(set);
    assert_eq!(meta::annotation(set, "deployment.kubernetes.io/revision"), Some("1"));
    let stored = api.get::<Deployment>("default", "web").unwrap();
    assert_eq!(meta::annotation(&stored, "deployment.kubernetes.io/revision"), Some("1"));
    assert_eq!(condition(api, "web", "Progressing"), text(("True", "NewReplicaSetAvailable")),);
    assert_eq!(condition(api, "web", "Available"), text(("True", "MinimumReplicasAvailable")));

    let events = api.events();
    let scaled = format!("ScalingReplicaSet: Scaled up replica set {name} from 0 to 10");
    assert!(events.contains(&scaled), "{events:#?}");
    let said = |start: &str| events.iter().filter(|event| event.starts_with(start)).count();
    assert_eq!(said("SuccessfulCreate: Created pod: web-"), 9);
    assert_eq!(said("SuccessfulCreate: (combined from similar events): Created pod: web-"), 1);
    assert_eq!(said("Scheduled: Successfully assigned default/web-"), 10);
    let creations = api.writes().iter().filter(|w| w.ends_with("default/pods")).count();
    assert_eq!(creations, 10, "no pod is made twice");
}

#[tokio::test(start_paused = true)]
async fn a_settled_cluster_is_left_alone() {
    let cluster = Cluster::start();
    cluster.api.create(&deployment("web", 3, "nginx"));
    cluster.api.eventually("available", |api| status_of(api, "web") == (3, 3, 3)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cluster.api.writes();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let after = cluster.api.writes();
    assert_eq!(after.len(), before.len(), "wrote without need: {:#?}", &after[before.len()..]);
}

#[tokio::test(start_paused = true)]
async fn a_new_image_rolls_out_within_its_bounds_and_an_old_template_comes_back() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 4, "nginx:1"));
    api.eventually("first", |api| status_of(api, "web") == (4, 4, 4)).await;

    let watch = tokio::spawn({
        let api = api.clone();
        async move {
            let mut bounds = (usize::MAX, 0);
            loop {
                tokio::time::sleep(Duration::from_micros(200)).await;
                let pods = api.all::<Pod>();
                let ready = pods.iter().filter(|p| pod::is_active(p) && pod::is_ready(p)).count();
                let all = pods.iter().filter(|p| pod::is_active(p)).count();
                bounds = (ready.min(bounds.0), all.max(bounds.1));
                if api.get::<ConfigMap>("default", "enough").is_some() {
                    return bounds;
                }
            }
        }
    });
    let set_image = |image: &str| {
        let image = image.to_owned();
        api.change::<Deployment>("default", "web", |deployment| {
            let template = &mut deployment.spec.as_mut().unwrap().template;
            template.spec.as_mut().unwrap().containers[0].image = Some(image);
        });
    };
    let images = |api: &FakeApi| -> HashSet<String> {
        let pods = api.all::<Pod>();
        pods.iter().filter_map(|p| p.spec.as_ref()?.containers[0].image.clone()).collect()
    };
    let one = |image: &str| HashSet::from([image.to_owned()]);
    set_image("nginx:2");
    api.eventually("second", |api| {
        status_of(api, "web") == (4, 4, 4) && images(api) == one("nginx:2")
    })
    .await;
    set_image("nginx:1");
    api.eventually("back", |api| {
        status_of(api, "web") == (4, 4, 4) && images(api) == one("nginx:1")
    })
    .await;
    api.create::<ConfigMap>(&read(
        json!({ "metadata": { "name": "enough", "namespace": "default" } }),
    ));
    let (least_ready, most) = watch.await.unwrap();
    assert!(least_ready >= 3, "maxUnavailable is one of four, yet only {least_ready} were ready");
    assert!(most <= 5, "maxSurge is one of four, yet there were {most}");

    let sets = api.all::<ReplicaSet>();
    let mut revisions: Vec<&str> = sets
        .iter()
        .filter_map(|set| meta::annotation(set, "deployment.kubernetes.io/revision"))
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, ["2", "3"], "the old template is found again and gets a new number");
    let history = sets
        .iter()
        .find_map(|set| meta::annotation(set, "deployment.kubernetes.io/revision-history"));
    assert_eq!(history, Some("1"));
}

#[tokio::test(start_paused = true)]
async fn recreate_never_mixes_old_and_new_pods() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let mut wanted = deployment("web", 3, "nginx:1");
    wanted.spec.as_mut().unwrap().strategy =
        Some(serde_json::from_value(json!({ "type": "Recreate" })).unwrap());
    api.create(&wanted);
    api.eventually("first", |api| status_of(api, "web") == (3, 3, 3)).await;
    api.change::<Deployment>("default", "web", |deployment| {
        let template = &mut deployment.spec.as_mut().unwrap().template;
        template.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".to_owned());
    });
    api.eventually("second", |api| {
        let images: HashSet<_> = api
            .all::<Pod>()
            .iter()
            .map(|p| p.spec.as_ref().unwrap().containers[0].image.clone())
            .collect();
        assert!(images.len() <= 1, "old and new at once: {images:?}");
        images.contains(&Some("nginx:2".to_owned())) && status_of(api, "web") == (3, 3, 3)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn scaling_up_and_down_to_zero_follows_the_wish() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    for replicas in [7, 1, 0, 3] {
        api.change::<Deployment>("default", "web", |deployment| {
            deployment.spec.as_mut().unwrap().replicas = Some(replicas);
        });
        api.eventually("as many as wished", |api| {
            status_of(api, "web") == (replicas, replicas, replicas)
                && api.all::<Pod>().len() == usize::try_from(replicas).unwrap()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_deletes_is_replaced() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("first", |api| status_of(api, "web") == (2, 2, 2)).await;
    let victim = meta::name(&cluster.running("web")[0]).to_owned();
    api.delete::<Pod>("default", &victim, "Background");
    api.eventually("another one", |api| {
        api.get::<Pod>("default", &victim).is_none() && status_of(api, "web") == (2, 2, 2)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn controllers_go_on_after_their_watches_were_cut() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("first", |api| status_of(api, "web") == (2, 2, 2)).await;
    api.cut_watches();
    api.create(&deployment("more", 3, "nginx"));
    api.eventually("second", |api| status_of(api, "more") == (3, 3, 3)).await;
    assert_eq!(cluster.running("more").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn refused_pods_are_told_of_and_tried_again() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.refuse("POST /api/v1/namespaces/default/pods", 4);
    api.create(&deployment("web", 3, "nginx"));
    api.eventually("the failure is shown", |api| {
        condition(api, "web", "ReplicaFailure") == text(("True", "FailedCreate"))
    })
    .await;
    api.eventually("all there", |api| {
        status_of(api, "web") == (3, 3, 3) && condition(api, "web", "ReplicaFailure").is_none()
    })
    .await;
    assert!(api.events().contains(&"FailedCreate: Error creating: quota exceeded".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_stands_still_times_out() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    cluster.silent.lock().unwrap().extend(["node-1".to_owned(), "node-2".to_owned()]);
    api.create(&deployment("web", 1, "nginx"));
    api.eventually("stuck", |api| {
        condition(api, "web", "Progressing") == text(("False", "ProgressDeadlineExceeded"))
    })
    .await;
}

fn service(name: &str, app: Option<&str>) -> Service {
    let mut spec = json!({
        "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
        "ports": [{ "port": 80, "targetPort": 8080, "protocol": "TCP" }],
    });
    if let Some(app) = app {
        spec["selector"] = json!({ "app": app });
    }
    read(json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }))
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_its_pods_in_slices_and_endpoints() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&service("web", Some("web")));
    api.eventually("a slice that says: nobody", |api| api.all::<EndpointSlice>().len() == 1).await;
    api.create(&deployment("web", 3, "nginx"));
    let addresses = |api: &FakeApi| {
        let mut all: Vec<String> = api
            .all::<Pod>()
            .iter()
            .filter(|pod| pod::is_ready(pod) && pod::is_active(pod))
            .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .collect();
        all.sort();
        all
    };
    let endpoints = |api: &FakeApi| {
        let subsets = api.get::<Endpoints>("default", "web").and_then(|e| e.subsets);
        let subsets = subsets.unwrap_or_default();
        let mut all: Vec<String> = subsets
            .into_iter()
            .flat_map(|s| s.addresses.unwrap_or_default())
            .map(|a| a.ip)
            .collect();
        all.sort();
        all
    };
    let agree = |api: &FakeApi, n: usize| {
        let wanted = addresses(api);
        wanted.len() == n && slice_addresses(api, "web") == wanted && endpoints(api) == wanted
    };
    api.eventually("three endpoints", |api| agree(api, 3)).await;
    let slices = api.all::<EndpointSlice>();
    assert_eq!(slices.len(), 1, "the empty slice is filled, not joined by another");
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
    api.change::<Deployment>("default", "web", |deployment| {
        deployment.spec.as_mut().unwrap().replicas = Some(1);
    });
    api.eventually("one endpoint", |api| agree(api, 1)).await;
    api.delete::<Service>("default", "web", "Background");
    api.eventually("nothing left", |api| {
        api.all::<EndpointSlice>().is_empty() && api.all::<Endpoints>().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hand_written_endpoints_are_mirrored_until_a_selector_takes_over() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    // Written before its Service, as course notes do.
    api.create::<Endpoints>(&read(json!({
        "metadata": { "name": "outside", "namespace": "default" },
        "subsets": [{ "addresses": [{ "ip": "11.11.11.11" }, { "ip": "22.22.22.22" }],
                      "ports": [{ "port": 80 }] }],
    })));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.get::<Endpoints>("default", "outside").is_some(), "left alone without a Service");
    api.create(&service("outside", None));
    api.eventually("mirrored", |api| {
        slice_addresses(api, "outside") == ["11.11.11.11", "22.22.22.22"]
    })
    .await;
    api.create(&deployment("web", 1, "nginx"));
    api.change::<Service>("default", "outside", |service| {
        let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        service.spec.as_mut().unwrap().selector = Some(selector);
    });
    let own = |api: &FakeApi| {
        let found = slice_addresses(api, "outside");
        found.len() == 1 && found[0].starts_with("10.244.")
    };
    api.eventually("the pod's address alone", own).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_comes_when_there_is_room() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let big = json!({ "resources": { "requests": { "cpu": "3" } }, "name": "c", "image": "nginx" });
    let pod = |name: &str| -> Pod {
        read(json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "containers": [big] },
        }))
    };
    for name in ["a", "b"] {
        api.create(&pod(name));
    }
    let ready = |api: &FakeApi, name: &str| {
        api.get::<Pod>("default", name).is_some_and(|pod| pod::is_ready(&pod))
    };
    api.eventually("two run", |api| ready(api, "a") && ready(api, "b")).await;
    api.create(&pod("c"));
    let why = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
               2 No preemption victims found for incoming pod.";
    api.eventually("it says why", |api| {
        let pod = api.get::<Pod>("default", "c").unwrap();
        pod::condition(&pod, "PodScheduled").is_some_and(|condition| {
            condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
                && condition.message.as_deref() == Some(why)
        })
    })
    .await;
    assert!(api.events().contains(&format!("FailedScheduling: {why}")), "{:?}", api.events());
    api.delete::<Pod>("default", "a", "Background");
    api.eventually("it runs", |api| ready(api, "c")).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_loses_its_pods_after_five_minutes() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("first", |api| status_of(api, "web") == (2, 2, 2)).await;
    cluster.silent.lock().unwrap().insert("node-2".to_owned());
    let cut = tokio::time::Instant::now();
    let taints = |api: &FakeApi| -> Vec<String> {
        let spec = api.get::<Node>("", "node-2").unwrap().spec.unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    };
    api.eventually("tainted", |api| taints(api).len() == 2).await;
    let noticed = cut.elapsed();
    assert!((30..45).contains(&noticed.as_secs()), "noticed after {noticed:?}");
    let unreachable = "node.kubernetes.io/unreachable";
    assert_eq!(
        taints(api),
        [format!("{unreachable}:NoSchedule"), format!("{unreachable}:NoExecute")]
    );
    let state = api.get::<Node>("", "node-2").unwrap().status.unwrap().conditions.unwrap();
    let ready = state.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "Unknown");
    assert_eq!(ready.reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(ready.message.as_deref(), Some("Kubelet stopped posting node status."));
    api.eventually("its pods are not ready", |api| status_of(api, "web").2 == 1).await;

    api.eventually("replaced on the other node", |api| status_of(api, "web") == (2, 2, 2)).await;
    let moved = cut.elapsed();
    assert!((330..350).contains(&moved.as_secs()), "moved after {moved:?}");
    assert!(cluster.running("web").iter().all(|pod| pod::node_name(pod) == Some("node-1")));

    cluster.silent.lock().unwrap().clear();
    api.eventually("back", |api| taints(api).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_evicted_when_all_nodes_are_silent() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("first", |api| status_of(api, "web") == (2, 2, 2)).await;
    cluster.silent.lock().unwrap().extend(["node-1".to_owned(), "node-2".to_owned()]);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(cluster.running("web").len(), 2);
    let deletions = api.writes().iter().filter(|write| write.starts_with("DELETE")).count();
    assert_eq!(deletions, 0);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_removed_node_are_removed() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("first", |api| status_of(api, "web") == (2, 2, 2)).await;
    api.delete::<Node>("", "node-2", "Background");
    api.eventually("moved", |api| {
        let pods = api.all::<Pod>();
        status_of(api, "web") == (2, 2, 2)
            && pods.iter().all(|pod| pod::node_name(pod) == Some("node-1"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_deployment_owned_goes_with_it() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    for (name, policy) in [("behind", "Background"), ("before", "Foreground")] {
        api.create(&deployment(name, 2, "nginx"));
        api.eventually("there", |api| status_of(api, name) == (2, 2, 2)).await;
        api.delete::<Deployment>("default", name, policy);
        api.eventually("all gone", |api| {
            let left = (
                api.get::<Deployment>("default", name).is_some(),
                api.all::<ReplicaSet>().len(),
                api.all::<Pod>().len(),
            );
            if policy == "Foreground" && !left.0 {
                assert_eq!(left.2, 0, "the owner went before its dependents");
            }
            left == (false, 0, 0)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_are_adopted_by_the_next_owner() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("there", |api| status_of(api, "web") == (2, 2, 2)).await;
    let names = |api: &FakeApi| -> Vec<String> {
        api.all::<Pod>().iter().map(|pod| meta::name(pod).to_owned()).collect()
    };
    let before = names(api);
    api.delete::<Deployment>("default", "web", "Orphan");
    api.eventually("the owner is gone", |api| api.all::<Deployment>().is_empty()).await;
    let sets = api.all::<ReplicaSet>();
    assert_eq!(sets.len(), 1);
    assert!(meta::controller_of(&sets[0].metadata).is_none());
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("adopted", |api| status_of(api, "web") == (2, 2, 2)).await;
    assert_eq!(names(api), before, "the pods were not made anew");
}

#[tokio::test(start_paused = true)]
async fn every_namespace_is_provided_for_and_can_be_removed_with_all_that_is_in_it() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&namespace("shop"));
    let provided = |api: &FakeApi| {
        let map = api.get::<ConfigMap>("shop", "kube-root-ca.crt");
        api.get::<ServiceAccount>("shop", "default").is_some()
            && map.is_some_and(|map| map.data.unwrap()["ca.crt"] == "PEM")
    };
    api.eventually("provided", provided).await;
    api.delete::<ServiceAccount>("shop", "default", "Background");
    api.eventually("provided again", provided).await;

    let mut web = deployment("web", 2, "nginx");
    web.metadata.namespace = Some("shop".to_owned());
    api.create(&web);
    api.eventually("pods", |api| {
        api.all::<Pod>().iter().filter(|pod| pod::is_ready(pod)).count() == 2
    })
    .await;
    api.delete::<Namespace>("", "shop", "Background");
    api.eventually("gone", |api| api.get::<Namespace>("", "shop").is_none()).await;
    assert!(api.all::<Pod>().is_empty() && api.all::<ReplicaSet>().is_empty());
    assert!(api.get::<ConfigMap>("shop", "kube-root-ca.crt").is_none());
    assert!(api.get::<ConfigMap>("default", "kube-root-ca.crt").is_some(), "others keep theirs");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_says_what_holds_it_up() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&namespace("shop"));
    api.create::<ConfigMap>(&read(json!({
        "metadata": { "name": "held", "namespace": "shop", "finalizers": ["example.org/wait"] },
    })));
    api.delete::<Namespace>("", "shop", "Background");
    let messages = |api: &FakeApi| -> Vec<String> {
        let status = api.get::<Namespace>("", "shop").and_then(|held| held.status);
        let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
        let bad = conditions.into_iter().filter(|condition| condition.status == "True");
        bad.filter_map(|condition| condition.message).collect()
    };
    api.eventually("it says so", |api| {
        messages(api)
            == [
                "Some resources are remaining: configmaps. has 1 resource instances",
                "Some content in the namespace has finalizers remaining: \
                 example.org/wait in 1 resource instances",
            ]
    })
    .await;
    api.change::<ConfigMap>("shop", "held", |map| map.metadata.finalizers = None);
    api.eventually("gone", |api| api.get::<Namespace>("", "shop").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_everything() {
    let api = FakeApi::default();
    let stop = CancellationToken::new();
    let running = tokio::spawn(crate::run(api.client(), Config::default(), stop.clone()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
