//! Which endpoints a Service gets from its pods.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints};
use serde_json::{Value, json};

use super::desired::groups;
use super::*;

fn service(change: impl FnOnce(&mut Value)) -> Service {
    let mut service = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "s", "labels": { "team": "a" } },
        "spec": {
            "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": { "app": "web" },
            "ports": [{ "name": "http", "port": 80, "targetPort": "web", "protocol": "TCP" }],
        },
    });
    change(&mut service);
    serde_json::from_value(service).unwrap()
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name, "labels": { "app": "web" } },
        "spec": {
            "nodeName": "node-1",
            "containers": [{ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }],
        },
        "status": {
            "phase": "Running", "podIP": "10.244.1.5",
            "podIPs": [{ "ip": "10.244.1.5" }, { "ip": "fd00::5" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// The cluster has one node with a zone and one without.
fn node(name: &str) -> Option<Arc<Node>> {
    let labels = match name {
        "node-1" => json!({ "topology.kubernetes.io/zone": "zone-a" }),
        "node-2" => json!({}),
        _ => return None,
    };
    let node = json!({ "metadata": { "name": name, "labels": labels } });
    Some(Arc::new(serde_json::from_value(node).unwrap()))
}

fn made(service: &Service, pods: &[Arc<Pod>]) -> Vec<Group> {
    groups(service, pods, &node)
}

fn on_node(name: &str) -> impl Fn(&mut Value) {
    move |pod| pod["spec"]["nodeName"] = name.into()
}

fn only(service: &Service, pod: Arc<Pod>) -> Endpoint {
    let groups = made(service, &[pod]);
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    let [endpoint] = group.endpoints.as_slice() else { panic!("{group:?}") };
    endpoint.clone()
}

fn conditions(endpoint: &Endpoint) -> (bool, bool, bool) {
    let held = endpoint.conditions.as_ref().unwrap();
    (held.ready.unwrap(), held.serving.unwrap(), held.terminating.unwrap())
}

#[test]
fn an_endpoint_tells_where_its_pod_is() {
    let endpoint = only(&service(|_| {}), pod("a", |_| {}));
    assert_eq!(endpoint.addresses, ["10.244.1.5"]);
    assert_eq!(endpoint.node_name.as_deref(), Some("node-1"));
    assert_eq!(endpoint.zone.as_deref(), Some("zone-a"));
    let target = endpoint.target_ref.unwrap();
    assert_eq!((target.kind.as_deref(), target.name.as_deref()), (Some("Pod"), Some("a")));
}

#[test]
fn conditions_tell_ready_serving_and_terminating_apart() {
    let not_ready = |p: &mut Value| p["status"]["conditions"][0]["status"] = "False".into();
    let going = |p: &mut Value| p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let plain = service(|_| {});
    let publish = service(|s| s["spec"]["publishNotReadyAddresses"] = true.into());
    assert_eq!(conditions(&only(&plain, pod("a", |_| {}))), (true, true, false));
    assert_eq!(conditions(&only(&plain, pod("a", not_ready))), (false, false, false));
    assert_eq!(conditions(&only(&plain, pod("a", going))), (false, true, true));
    assert_eq!(conditions(&only(&publish, pod("a", not_ready))), (true, false, false));
    assert_eq!(conditions(&only(&publish, pod("a", going))), (true, true, true));
}

#[test]
fn pods_that_ended_or_have_no_address_are_no_endpoints() {
    let plain = service(|_| {});
    for (what, phase, ip) in
        [("ended", "Succeeded", true), ("failed", "Failed", true), ("new", "Pending", false)]
    {
        let pod = pod("a", |p| {
            p["status"]["phase"] = phase.into();
            if !ip {
                p["status"]["podIP"] = Value::Null;
                p["status"]["podIPs"] = Value::Null;
            }
        });
        let groups = made(&plain, &[pod]);
        assert!(groups.len() == 1 && groups[0].endpoints.is_empty(), "{what}: {groups:?}");
    }
}

#[test]
fn a_named_port_is_each_pods_own() {
    let other = pod("b", |p| p["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090.into());
    let without = pod("c", |p| p["spec"]["containers"][0]["ports"] = json!([]));
    let groups = made(&service(|_| {}), &[pod("a", |_| {}), other, without]);
    let ports: Vec<Vec<Option<i32>>> =
        groups.iter().map(|group| group.ports.iter().map(|port| port.port).collect()).collect();
    assert_eq!(ports, [vec![Some(8080)], vec![Some(9090)], vec![]]);
}

#[test]
fn a_service_of_two_families_has_slices_of_both() {
    let dual = service(|s| s["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]));
    let groups = made(&dual, &[pod("a", |_| {})]);
    let found: Vec<(&str, &str)> = groups
        .iter()
        .map(|group| (group.address_type.as_str(), group.endpoints[0].addresses[0].as_str()))
        .collect();
    assert_eq!(found, [("IPv4", "10.244.1.5"), ("IPv6", "fd00::5")]);
}

#[test]
fn a_pod_without_an_address_of_the_family_is_in_the_other_familys_slice_only() {
    let dual = service(|s| s["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]));
    let old = pod("a", |p| p["status"]["podIPs"] = json!([{ "ip": "10.244.1.5" }]));
    let found: Vec<(String, usize)> = made(&dual, &[old])
        .into_iter()
        .map(|group| (group.address_type, group.endpoints.len()))
        .collect();
    assert_eq!(found, [("IPv6".to_owned(), 0), ("IPv4".to_owned(), 1)]);
}

#[test]
fn an_address_is_written_in_its_shortest_form() {
    let v6 = service(|s| s["spec"]["ipFamilies"] = json!(["IPv6"]));
    let long = pod("a", |p| p["status"]["podIPs"] = json!([{ "ip": "fd00:0:0::0005" }]));
    assert_eq!(only(&v6, long).addresses, ["fd00::5"]);
}

#[test]
fn a_pod_of_a_node_that_is_gone_counts_only_where_whatever_there_is_is_wanted() {
    let lost = || pod("a", on_node("node-9"));
    assert!(made(&service(|_| {}), &[lost()])[0].endpoints.is_empty());
    let publish = service(|s| s["spec"]["publishNotReadyAddresses"] = true.into());
    let endpoint = only(&publish, lost());
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone), (Some("node-9"), None));
}

#[test]
fn hints_follow_the_services_wish_and_the_pods_place() {
    let wish = |wish: &str| service(|s| s["spec"]["trafficDistribution"] = wish.into());
    let not_ready = |p: &mut Value| p["status"]["conditions"][0]["status"] = "False".into();
    let hints = |service: &Service, pod: Arc<Pod>| -> Value {
        let hints: Option<EndpointHints> = only(service, pod).hints;
        serde_json::to_value(hints).unwrap()
    };
    let zone = json!({ "forZones": [{ "name": "zone-a" }] });
    let both = json!({ "forZones": [{ "name": "zone-a" }], "forNodes": [{ "name": "node-1" }] });
    let node_alone = json!({ "forNodes": [{ "name": "node-2" }] });
    assert_eq!(hints(&service(|_| {}), pod("a", |_| {})), Value::Null);
    assert_eq!(hints(&wish("PreferClose"), pod("a", |_| {})), zone);
    assert_eq!(hints(&wish("PreferSameZone"), pod("a", |_| {})), zone);
    assert_eq!(hints(&wish("PreferSameNode"), pod("a", |_| {})), both);
    assert_eq!(hints(&wish("PreferSameNode"), pod("a", on_node("node-2"))), node_alone);
    assert_eq!(hints(&wish("PreferSameZone"), pod("a", on_node("node-2"))), Value::Null);
    assert_eq!(hints(&wish("PreferSameZone"), pod("a", not_ready)), Value::Null);
    assert_eq!(hints(&wish("PreferSomethingNew"), pod("a", |_| {})), Value::Null);
    let annotated = service(|s| {
        s["spec"]["trafficDistribution"] = "PreferClose".into();
        s["metadata"]["annotations"] = json!({ "service.kubernetes.io/topology-mode": "Auto" });
    });
    assert_eq!(hints(&annotated, pod("a", |_| {})), Value::Null, "the annotation wins");
}

#[test]
fn slices_carry_the_services_labels_and_say_when_it_is_headless() {
    let labels = |service: &Service| desired::owner(service, MANAGER, None).labels;
    let plain = labels(&service(|_| {}));
    assert_eq!(plain["team"], "a");
    assert_eq!(plain[SERVICE_NAME], "web");
    assert_eq!(plain[MANAGED_BY], MANAGER);
    assert!(!plain.contains_key(HEADLESS));
    let headless = service(|s| s["spec"]["clusterIP"] = "None".into());
    assert_eq!(labels(&headless)[HEADLESS], "");
    let other_proxy = "service.kubernetes.io/service-proxy-name";
    let marked = service(|s| {
        s["metadata"]["labels"] = json!({
            HEADLESS: "", MANAGED_BY: "me", SERVICE_NAME: "other", other_proxy: "theirs",
        });
    });
    let marked = labels(&marked);
    assert!(!marked.contains_key(HEADLESS), "what is reserved says the truth");
    assert_eq!((marked[MANAGED_BY].as_str(), marked[SERVICE_NAME].as_str()), (MANAGER, "web"));
    assert_eq!(marked[other_proxy], "theirs");
}

#[test]
fn a_hostname_needs_the_services_name_as_subdomain() {
    let named = |subdomain: &str| {
        pod("a", |p| {
            p["spec"]["hostname"] = "db-0".into();
            p["spec"]["subdomain"] = subdomain.into();
        })
    };
    let plain = service(|_| {});
    assert_eq!(only(&plain, named("web")).hostname.as_deref(), Some("db-0"));
    assert_eq!(only(&plain, named("other")).hostname, None);
}

#[test]
fn only_changes_that_an_endpoint_shows_are_looked_at() {
    let before = pod("a", |_| {});
    let annotated = pod("a", |p| p["metadata"]["annotations"] = json!({ "x": "y" }));
    assert!(!desired::differs(&before, &annotated));
    for change in [
        (|p: &mut Value| p["status"]["conditions"][0]["status"] = "False".into()) as fn(&mut Value),
        |p| p["metadata"]["labels"]["app"] = "other".into(),
        |p| p["status"]["podIPs"][0]["ip"] = "10.244.1.6".into(),
        |p| p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
        |p| p["status"]["phase"] = "Failed".into(),
    ] {
        let after = pod("a", change);
        assert!(desired::differs(&before, &after), "{after:?}");
    }
}

#[test]
fn services_without_selector_or_with_an_external_name_are_not_served() {
    assert!(is_managed(&service(|_| {})));
    assert!(!is_managed(&service(|s| s["spec"]["selector"] = Value::Null)));
    assert!(!is_managed(&service(|s| s["spec"]["selector"] = json!({}))));
    assert!(!is_managed(&service(|s| s["spec"]["type"] = "ExternalName".into())));
}
