//! What becomes of a Service's endpoints when the Service, its pods or its Endpoints change.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::EndpointSubset;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};

use super::*;
use crate::endpointslice::{LAST_CHANGE, MANAGED_BY, SERVICE_NAME};

fn slices(api: &FakeApi, service: &str) -> Vec<EndpointSlice> {
    let mut all = api.all::<EndpointSlice>();
    all.retain(|slice| meta::label(slice, SERVICE_NAME) == Some(service));
    all
}

/// Who wrote each slice, and for which family.
fn writers(api: &FakeApi, service: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = slices(api, service)
        .into_iter()
        .map(|slice| {
            let writer = meta::label(&slice, MANAGED_BY).unwrap_or("nobody");
            (writer.split('.').next().unwrap().to_owned(), slice.address_type)
        })
        .collect();
    all.sort();
    all
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

const OURS: &str = "endpointslice-controller";
const MIRROR: &str = "endpointslicemirroring-controller";

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

/// The ready addresses of a Service after each write of any slice since the first.
fn ready_over_time(api: &FakeApi, service: &str) -> Vec<BTreeSet<String>> {
    let mut now: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut states = Vec::new();
    for (gone, slice) in api.history::<EndpointSlice>() {
        if meta::label(&slice, SERVICE_NAME) != Some(service) {
            continue;
        }
        let name = meta::name(&slice).to_owned();
        if gone {
            now.remove(&name);
        } else {
            let ready = slice.endpoints.iter().flatten().filter(|e| is_ready(e));
            now.insert(name, ready.flat_map(|e| e.addresses.clone()).collect());
        }
        states.push(now.values().flatten().cloned().collect());
    }
    states
}

fn set_selector(api: &FakeApi, service: &str, app: Option<&str>) {
    let selector = app.map(|app| BTreeMap::from([("app".to_owned(), app.to_owned())]));
    api.change::<Service>("default", service, |service| {
        service.spec.as_mut().unwrap().selector = selector;
    });
}

fn dual_stack(name: &str, app: &str) -> Service {
    let mut dual = service(name, Some(app));
    let spec = dual.spec.as_mut().unwrap();
    spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    dual
}

/// Nothing is under way any more: the clock only moves on when nobody has anything to do.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_two_families_has_slices_of_both_and_endpoints_of_the_first() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&dual_stack("web", "web"));
    api.create(&deployment("web", 3, "nginx"));
    api.eventually("six addresses", |api| slice_addresses(api, "web").len() == 6).await;
    assert_eq!(writers(api, "web"), pairs(&[(OURS, "IPv4"), (OURS, "IPv6")]));
    settle().await;
    let subsets = api.get::<Endpoints>("default", "web").unwrap().subsets.unwrap();
    let addresses = subsets[0].addresses.as_ref().unwrap();
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| address.ip.starts_with("10.")), "{addresses:?}");
    api.change::<Service>("default", "web", |service| {
        service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".to_owned()]);
    });
    api.eventually("three addresses", |api| slice_addresses(api, "web").len() == 3).await;
    assert_eq!(writers(api, "web"), pairs(&[(OURS, "IPv4")]));
}

#[tokio::test(start_paused = true)]
async fn a_selector_takes_over_from_hand_written_endpoints_without_a_gap_and_gives_back_again() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.eventually("pods", |api| status_of(api, "web") == (2, 2, 2)).await;
    api.create(&service("outside", None));
    let hand_written: Endpoints = read(json!({
        "metadata": { "name": "outside", "namespace": "default" },
        "subsets": [{ "addresses": [{ "ip": "11.11.11.11" }], "ports": [{ "port": 80 }] }],
    }));
    api.create(&hand_written);
    api.eventually("mirrored", |api| slice_addresses(api, "outside") == ["11.11.11.11"]).await;

    // Whoever takes over is late each time; nobody must go before it has come.
    let creation = "POST /apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    api.refuse(creation, 3);
    set_selector(api, "outside", Some("web"));
    settle().await;
    let of_pods = slice_addresses(api, "outside");
    assert!(of_pods.len() == 2 && of_pods.iter().all(|ip| ip.starts_with("10.244.")));
    assert_eq!(writers(api, "outside"), pairs(&[(OURS, "IPv4")]), "the mirror is gone");
    let replaced = api.get::<Endpoints>("default", "outside").unwrap();
    let written: Vec<EndpointSubset> = replaced.subsets.clone().unwrap();
    assert_eq!(written[0].addresses.as_ref().unwrap().len(), 2, "{written:?}");

    api.refuse(creation, 3);
    set_selector(api, "outside", None);
    settle().await;
    api.change::<Deployment>("default", "web", |deployment| {
        deployment.spec.as_mut().unwrap().replicas = Some(5);
    });
    api.eventually("more pods", |api| status_of(api, "web") == (5, 5, 5)).await;
    settle().await;
    let frozen = api.get::<Endpoints>("default", "outside").unwrap();
    assert_eq!(frozen, replaced, "the Endpoints stay as they were last written");
    assert_eq!(slice_addresses(api, "outside"), of_pods, "and so does what is served");
    assert_eq!(writers(api, "outside"), pairs(&[(MIRROR, "IPv4")]), "each address stands once");

    api.change::<Endpoints>("default", "outside", |endpoints| {
        endpoints.subsets = hand_written.subsets.clone();
    });
    settle().await;
    assert_eq!(slice_addresses(api, "outside"), ["11.11.11.11"], "what is written by hand counts");
    let states = ready_over_time(api, "outside");
    let first = states.iter().position(|ready| !ready.is_empty()).unwrap();
    assert!(states[first..].iter().all(|ready| !ready.is_empty()), "a gap: {states:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_goes_leaves_the_second_family_as_it_was() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&dual_stack("web", "web"));
    api.create(&deployment("web", 1, "nginx"));
    api.eventually("two addresses", |api| slice_addresses(api, "web").len() == 2).await;
    settle().await;
    let before = slice_addresses(api, "web");
    set_selector(api, "web", None);
    settle().await;
    assert_eq!(slice_addresses(api, "web"), before);
    assert_eq!(writers(api, "web"), pairs(&[(OURS, "IPv6"), (MIRROR, "IPv4")]));
    set_selector(api, "web", Some("web"));
    settle().await;
    assert_eq!(writers(api, "web"), pairs(&[(OURS, "IPv4"), (OURS, "IPv6")]));
}

#[tokio::test(start_paused = true)]
async fn hand_written_slices_are_left_alone_whatever_becomes_of_the_service() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&service("outside", None));
    let written: EndpointSlice = api.create(&read(json!({
        "metadata": {
            "name": "by-hand", "namespace": "default", "labels": { SERVICE_NAME: "outside" },
        },
        "addressType": "IPv4", "ports": [{ "port": 80 }],
        "endpoints": [{ "addresses": ["11.11.11.11"], "conditions": { "ready": true } }],
    })));
    set_selector(api, "outside", Some("web"));
    settle().await;
    set_selector(api, "outside", None);
    settle().await;
    assert_eq!(api.get::<EndpointSlice>("default", "by-hand"), Some(written.clone()));
    api.delete::<Service>("default", "outside", "Background");
    settle().await;
    assert_eq!(api.get::<EndpointSlice>("default", "by-hand"), Some(written));
}

#[tokio::test(start_paused = true)]
async fn another_name_has_no_endpoints_and_an_address_again_has_them_again() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.create(&service("web", Some("web")));
    api.eventually("two addresses", |api| slice_addresses(api, "web").len() == 2).await;
    let set_type = |kind: &str, name: Option<&str>| {
        let (kind, name) = (kind.to_owned(), name.map(str::to_owned));
        api.change::<Service>("default", "web", |service| {
            let spec = service.spec.as_mut().unwrap();
            (spec.type_, spec.external_name) = (Some(kind), name);
        });
    };
    set_type("ExternalName", Some("api.example.com"));
    settle().await;
    assert_eq!(writers(api, "web"), []);
    assert_eq!(api.get::<Endpoints>("default", "web"), None);
    set_type("NodePort", None);
    api.eventually("two addresses again", |api| {
        let endpoints = api.get::<Endpoints>("default", "web");
        slice_addresses(api, "web").len() == 2 && endpoints.is_some_and(|e| e.subsets.is_some())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_headless_service_becomes_a_plain_one_in_its_labels() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let mut headless = service("web", Some("web"));
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
    api.create(&headless);
    api.create(&deployment("web", 1, "nginx"));
    let marked = |api: &FakeApi| {
        let slices = slices(api, "web");
        let endpoints = api.get::<Endpoints>("default", "web");
        slices.len() == 1
            && meta::label(&slices[0], crate::endpointslice::HEADLESS).is_some()
            && endpoints.is_some_and(|e| meta::label(&e, crate::endpointslice::HEADLESS).is_some())
    };
    api.eventually("marked as headless", marked).await;
    api.change::<Service>("default", "web", |service| {
        service.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.8".to_owned());
    });
    api.eventually("no longer", |api| !marked(api)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_to_go_is_told_of_at_once_and_serves_on() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 2, "nginx"));
    api.create(&service("web", Some("web")));
    api.eventually("two addresses", |api| slice_addresses(api, "web").len() == 2).await;
    settle().await;
    // The agents let nothing go from now on, as if the containers took their time.
    cluster.silent.lock().unwrap().extend(["node-1".to_owned(), "node-2".to_owned()]);
    let victim = cluster.running("web").remove(0);
    let address = victim.status.as_ref().unwrap().pod_ip.clone().unwrap();
    api.delete::<Pod>("default", meta::name(&victim), "Background");
    let deleted = tokio::time::Instant::now();
    let conditions = |api: &FakeApi| -> Option<EndpointConditions> {
        let endpoints = slices(api, "web").into_iter().flat_map(|slice| slice.endpoints);
        let mut all = endpoints.flatten();
        all.find(|endpoint| endpoint.addresses.contains(&address))?.conditions
    };
    api.eventually("terminating", |api| {
        conditions(api).is_some_and(|conditions| conditions.terminating == Some(true))
    })
    .await;
    assert!(deleted.elapsed() <= Duration::from_millis(2), "only after {:?}", deleted.elapsed());
    let wanted =
        EndpointConditions { ready: Some(false), serving: Some(true), terminating: Some(true) };
    assert_eq!(conditions(api), Some(wanted));
    assert_eq!(slice_addresses(api, "web").len(), 1, "the other one and no more");
}

#[tokio::test(start_paused = true)]
async fn at_every_moment_of_a_rollout_enough_endpoints_are_ready() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let mut wanted = deployment("web", 4, "nginx:1");
    wanted.spec.as_mut().unwrap().strategy = read_strategy(json!({
        "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 },
    }));
    wanted.spec.as_mut().unwrap().min_ready_seconds = Some(3);
    api.create(&wanted);
    api.create(&service("web", Some("web")));
    api.eventually("available", |api| status_of(api, "web") == (4, 4, 4)).await;
    settle().await;
    let before = ready_over_time(api, "web").len();
    let start = tokio::time::Instant::now();
    api.change::<Deployment>("default", "web", |deployment| {
        let template = &mut deployment.spec.as_mut().unwrap().template;
        template.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".to_owned());
    });
    api.eventually("rolled out", |api| {
        let images = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone();
        let new = api.all::<Pod>().iter().all(|pod| images(pod).as_deref() == Some("nginx:2"));
        new && status_of(api, "web") == (4, 4, 4)
    })
    .await;
    assert!(start.elapsed() >= Duration::from_secs(12), "each pod is watched for three seconds");
    let states = ready_over_time(api, "web");
    assert!(states.len() > before + 4, "{states:#?}");
    let least = states[before..].iter().map(BTreeSet::len).min();
    assert_eq!(least, Some(4), "{states:#?}");
}

fn read_strategy(strategy: Value) -> Option<k8s_openapi::api::apps::v1::DeploymentStrategy> {
    Some(serde_json::from_value(strategy).unwrap())
}

#[tokio::test(start_paused = true)]
async fn slices_and_endpoints_tell_what_triggered_their_last_change() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let made = api.create(&service("web", Some("web"))).metadata.creation_timestamp.unwrap();
    let told = |api: &FakeApi| -> Vec<Option<String>> {
        let endpoints = api.get::<Endpoints>("default", "web").unwrap();
        let slice = slices(api, "web").remove(0);
        [meta::annotation(&endpoints, LAST_CHANGE), meta::annotation(&slice, LAST_CHANGE)]
            .map(|value| value.map(str::to_owned))
            .to_vec()
    };
    settle().await;
    let first = Some(made.0.to_string());
    assert_eq!(told(api), [first.clone(), first]);
    api.create(&deployment("web", 1, "nginx"));
    settle().await;
    let pod = cluster.running("web").remove(0);
    let since = pod::ready_since(&pod).map(|at| at.to_string());
    assert!(since.is_some());
    assert_eq!(told(api), [since.clone(), since]);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_cannot_be_written_is_told_of_on_the_service_and_comes_later() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.refuse("POST /apis/discovery.k8s.io/v1/namespaces/default/endpointslices", 2);
    api.create(&service("web", Some("web")));
    api.eventually("written", |api| !slices(api, "web").is_empty()).await;
    let said = "FailedToUpdateEndpointSlices: Error updating Endpoint Slices for Service \
                default/web: quota exceeded";
    api.eventually("said", |api| api.events().contains(&said.to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_a_former_service_do_not_come_back_with_its_name() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    api.create(&deployment("web", 1, "nginx"));
    for _ in 0..3 {
        let made = api.create(&service("web", Some("web")));
        api.eventually("an address", |api| {
            let slices = slices(api, "web");
            let owner = |slice: &EndpointSlice| {
                meta::controller_of(&slice.metadata).map(|owner| owner.uid.clone())
            };
            slices.len() == 1
                && owner(&slices[0]) == made.metadata.uid
                && slice_addresses(api, "web").len() == 1
        })
        .await;
        api.delete::<Service>("default", "web", "Background");
    }
    api.eventually("nothing left", |api| slices(api, "web").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_range_of_service_addresses_goes_when_its_last_address_went() {
    use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
    let cluster = Cluster::start();
    let api = &cluster.api;
    let range = |name: &str, prefix: &str| -> ServiceCIDR {
        read(json!({ "metadata": { "name": name }, "spec": { "cidrs": [prefix] } }))
    };
    api.create(&range("kubernetes", "10.96.0.0/16"));
    api.create(&range("more", "10.200.0.0/24"));
    let state = |api: &FakeApi, name: &str| {
        let status = api.get::<ServiceCIDR>("", name)?.status?;
        status.conditions?.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status)
    };
    api.eventually("ready", |api| {
        ["kubernetes", "more"].iter().all(|name| state(api, name).as_deref() == Some("True"))
    })
    .await;
    let address: IPAddress = read(json!({
        "metadata": {
            "name": "10.200.0.7",
            "labels": { "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" },
        },
        "spec": { "parentRef": { "resource": "services", "name": "a", "namespace": "default" } },
    }));
    api.create(&address);
    api.delete::<ServiceCIDR>("", "more", "Background");
    settle().await;
    assert_eq!(state(api, "more").as_deref(), Some("False"));
    api.delete::<IPAddress>("", "10.200.0.7", "Background");
    api.eventually("gone", |api| api.get::<ServiceCIDR>("", "more").is_none()).await;
    assert_eq!(state(api, "kubernetes").as_deref(), Some("True"));
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_spread_over_zones_as_long_as_the_nodes_tell_theirs() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let set_zone = |node: &str, zone: Option<&str>| {
        let zone = zone.map(|zone| ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()));
        api.change::<Node>("", node, |node| {
            node.metadata.labels = Some(zone.into_iter().collect())
        });
    };
    set_zone("node-1", Some("a"));
    set_zone("node-2", Some("b"));
    let mut even = service("web", Some("web"));
    let mode = ("service.kubernetes.io/topology-mode".to_owned(), "Auto".to_owned());
    even.metadata.annotations = Some(BTreeMap::from([mode]));
    api.create(&even);
    api.create(&deployment("web", 4, "nginx"));
    let zones = |api: &FakeApi| -> Vec<String> {
        let endpoints = slices(api, "web").into_iter().flat_map(|slice| slice.endpoints).flatten();
        let hints = endpoints.filter_map(|endpoint| endpoint.hints?.for_zones);
        let mut zones: Vec<String> = hints.flatten().map(|zone| zone.name).collect();
        zones.sort();
        zones
    };
    api.eventually("two for each zone", |api| zones(api) == ["a", "a", "b", "b"]).await;
    let enabled = "TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, \
                   addressType: IPv4";
    api.eventually("said", |api| api.events().contains(&enabled.to_owned())).await;
    set_zone("node-2", None);
    api.eventually("for all again", |api| zones(api).is_empty()).await;
    api.eventually("said why", |api| {
        let said = "TopologyAwareHintsDisabled: Insufficient Node information";
        api.events().iter().any(|event| event.starts_with(said))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_selector_with_a_slip_is_told_of_whichever_came_first() {
    let cluster = Cluster::start();
    let api = &cluster.api;
    let with_tier = |name: &str| {
        let mut slipped = deployment(name, 2, "nginx");
        let spec = slipped.spec.as_mut().unwrap();
        let labels = Some(BTreeMap::from([("tier".to_owned(), name.to_owned())]));
        spec.selector.match_labels.clone_from(&labels);
        spec.template.metadata.get_or_insert_default().labels = labels;
        slipped
    };
    let said = |name: &str| {
        format!(
            "SelectorMatchesNothing: No pod is selected: the selector asks for app={name}, but \
             there are pods with tier={name}. Change the selector, or the labels of the pods"
        )
    };
    api.create(&service("early", Some("early")));
    settle().await;
    api.create(&with_tier("early"));
    api.create(&with_tier("late"));
    settle().await;
    api.create(&service("late", Some("late")));
    api.create(&service("fine", Some("fine")));
    api.create(&deployment("fine", 2, "nginx"));
    settle().await;
    let events = api.events();
    for name in ["early", "late"] {
        assert_eq!(events.iter().filter(|event| **event == said(name)).count(), 1, "{events:#?}");
    }
    let mut slips = events.iter().filter(|event| event.starts_with("SelectorMatches"));
    assert!(slips.all(|event| !event.contains("fine")), "{events:#?}");
}
