//! Where pods go, and why not elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Node> {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" } },
    });
    change(&mut node);
    Arc::new(serde_json::from_value(node).unwrap())
}

fn plain(name: &str) -> Arc<Node> {
    node(name, |_| {})
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": {} } }] },
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn cluster(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Cluster {
    Cluster::new(nodes, pods, [])
}

fn chosen(pod: &Pod, cluster: &Cluster) -> String {
    match decide::schedule(pod, cluster) {
        Decision::Bind(node) => node,
        Decision::Unschedulable(why) => panic!("nowhere: {why}"),
    }
}

/// What is said when the pod fits on none of two nodes, up to the part about preemption.
fn refusal(pod: &Pod, node: &Arc<Node>, others: &[Arc<Pod>]) -> String {
    match decide::schedule(pod, &cluster(std::slice::from_ref(node), others)) {
        Decision::Bind(node) => panic!("bound to {node}"),
        Decision::Unschedulable(why) => {
            let start = why.strip_prefix("0/1 nodes are available: ").unwrap_or(&why);
            start.split(". preemption").next().unwrap().to_owned()
        }
    }
}

fn taint(key: &str, effect: &str) -> Value {
    json!({ "key": key, "value": "v", "effect": effect })
}

#[test]
fn each_filter_refuses_in_upstreams_words() {
    let any = |_: &mut Value| {};
    let on_node = |pod: &mut Value| pod["spec"]["nodeName"] = "n".into();
    let port = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    let asks = |what: &'static str, much: &'static str| {
        move |pod: &mut Value| {
            pod["spec"]["containers"][0]["resources"]["requests"][what] = much.into();
        }
    };
    type Case = (&'static str, Arc<Pod>, Arc<Node>, Vec<Arc<Pod>>);
    let cases: Vec<Case> = vec![
        (
            "1 node(s) were unschedulable",
            pod("p", any),
            node("n", |n| n["spec"]["unschedulable"] = true.into()),
            vec![],
        ),
        (
            "1 node(s) had untolerated taint(s)",
            pod("p", any),
            node("n", |n| n["spec"]["taints"] = json!([taint("k", "NoSchedule")])),
            vec![],
        ),
        (
            "1 node(s) didn't match Pod's node affinity/selector",
            pod("p", |p| p["spec"]["nodeSelector"] = json!({ "disk": "ssd" })),
            plain("n"),
            vec![],
        ),
        (
            "1 node(s) didn't have free ports for the requested pod ports",
            pod("p", |p| p["spec"]["containers"][0]["ports"] = port.clone()),
            plain("n"),
            vec![pod("q", |q| {
                on_node(q);
                q["spec"]["containers"][0]["ports"] = port.clone();
            })],
        ),
        ("1 Insufficient cpu", pod("p", asks("cpu", "2001m")), plain("n"), vec![]),
        ("1 Insufficient memory", pod("p", asks("memory", "5Gi")), plain("n"), vec![]),
        (
            "1 Insufficient example.org/gpu",
            pod("p", asks("example.org/gpu", "1")),
            plain("n"),
            vec![],
        ),
        (
            "1 Insufficient cpu, 1 Too many pods",
            pod("p", asks("cpu", "1")),
            node("n", |n| n["status"]["allocatable"] = json!({ "cpu": "1500m", "pods": "1" })),
            vec![pod("q", |q| {
                on_node(q);
                asks("cpu", "1")(q);
            })],
        ),
    ];
    for (reason, pod, node, others) in cases {
        assert_eq!(refusal(&pod, &node, &others), reason);
    }
}

#[test]
fn reasons_are_counted_over_all_nodes() {
    let nodes = [
        plain("a"),
        plain("b"),
        node("c", |n| n["spec"]["taints"] = json!([taint("k", "NoExecute")])),
    ];
    let wish =
        pod("p", |p| p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "8".into());
    assert_eq!(
        decide::schedule(&wish, &cluster(&nodes, &[])),
        Decision::Unschedulable(
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
                .to_owned()
        )
    );
    assert_eq!(
        decide::schedule(&wish, &cluster(&[], &[])),
        Decision::Unschedulable("no nodes available to schedule pods".to_owned())
    );
}

#[test]
fn tolerations_match_as_upstreams_do() {
    let cases = [
        (json!({ "operator": "Exists" }), true),
        (json!({ "key": "k", "operator": "Exists" }), true),
        (json!({ "key": "k", "value": "v" }), true),
        (json!({ "key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule" }), true),
        (json!({ "key": "k", "value": "other" }), false),
        (json!({ "key": "k", "value": "v", "effect": "NoExecute" }), false),
        (json!({ "key": "other", "operator": "Exists" }), false),
    ];
    let held = serde_json::from_value(taint("k", "NoSchedule")).unwrap();
    for (toleration, expected) in cases {
        let parsed = serde_json::from_value(toleration.clone()).unwrap();
        assert_eq!(tolerates(&parsed, &held), expected, "{toleration}");
    }
}

#[test]
fn required_affinity_knows_all_operators() {
    let labelled = node("n", |n| n["metadata"]["labels"]["cores"] = "8".into());
    let cases = [
        ("In", json!(["8", "16"]), true),
        ("NotIn", json!(["8"]), false),
        ("Exists", json!([]), true),
        ("DoesNotExist", json!([]), false),
        ("Gt", json!(["4"]), true),
        ("Lt", json!(["8"]), false),
    ];
    for (operator, values, expected) in cases {
        let term = json!({ "matchExpressions": [
            { "key": "cores", "operator": operator, "values": values },
        ]});
        let term = serde_json::from_value(term).unwrap();
        assert_eq!(filter::matches_term(&term, &labelled), expected, "{operator}");
    }
    let empty = serde_json::from_value(json!({})).unwrap();
    assert!(!filter::matches_term(&empty, &labelled), "an empty term matches nothing");
}

#[test]
fn host_ports_conflict_by_protocol_and_address() {
    let wish = |address: &str, protocol: &str| {
        pod("p", |p| {
            p["spec"]["containers"][0]["ports"] = json!([
                { "containerPort": 1, "hostPort": 53, "hostIP": address, "protocol": protocol },
            ]);
        })
    };
    let held = request::host_ports(&wish("10.0.0.1", "UDP"));
    let cases = [
        ("10.0.0.1", "UDP", true),
        ("", "UDP", true),
        ("0.0.0.0", "UDP", true),
        ("10.0.0.2", "UDP", false),
        ("10.0.0.1", "TCP", false),
    ];
    for (address, protocol, expected) in cases {
        let port = &request::host_ports(&wish(address, protocol))[0];
        assert_eq!(held[0].conflicts(port), expected, "{address} {protocol}");
    }
}

#[test]
fn a_pod_needs_what_it_needs_at_its_hungriest_moment() {
    let wish = pod("p", |p| {
        let asks = |cpu: &str| json!({ "requests": { "cpu": cpu } });
        p["spec"]["containers"] = json!([
            { "name": "a", "resources": asks("100m") },
            { "name": "b", "resources": asks("200m") },
        ]);
        p["spec"]["initContainers"] = json!([
            { "name": "first", "resources": asks("1") },
            { "name": "sidecar", "restartPolicy": "Always", "resources": asks("50m") },
            { "name": "second", "resources": asks("500m") },
        ]);
        p["spec"]["overhead"] = json!({ "cpu": "10m" });
    });
    assert_eq!(request::of_pod(&wish)["cpu"], 1010, "the first init container alone, and overhead");
}

#[test]
fn pods_of_one_owner_spread_and_the_emptier_node_is_taken_first() {
    let nodes = [plain("a"), plain("b")];
    let owned = |name: &str, node: Option<&str>| {
        pod(name, |p| {
            p["metadata"]["ownerReferences"] = json!([{ "uid": "set", "kind": "ReplicaSet", "name": "s", "apiVersion": "apps/v1", "controller": true }]);
            if let Some(node) = node {
                p["spec"]["nodeName"] = node.into();
            }
        })
    };
    let busy = pod("other", |p| {
        p["spec"]["nodeName"] = "a".into();
        p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1".into();
    });
    assert_eq!(chosen(&owned("p", None), &cluster(&nodes, std::slice::from_ref(&busy))), "b");
    let company = [busy, owned("q", Some("b"))];
    assert_eq!(chosen(&owned("p", None), &cluster(&nodes, &company)), "a", "spread weighs more");
}

#[test]
fn soft_wishes_decide_between_equal_nodes() {
    let nodes = [
        node("a", |n| n["spec"]["taints"] = json!([taint("k", "PreferNoSchedule")])),
        plain("b"),
        node("c", |n| n["metadata"]["labels"]["disk"] = "ssd".into()),
    ];
    assert_eq!(chosen(&pod("p", |_| {}), &cluster(&nodes, &[])), "b");
    let wish = pod("p", |p| {
        p["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
            { "weight": 5, "preference": { "matchExpressions": [
                { "key": "disk", "operator": "In", "values": ["ssd"] },
            ]}},
        ]);
    });
    assert_eq!(chosen(&wish, &cluster(&nodes, &[])), "c");
}

#[test]
fn an_unschedulable_pod_is_noted_once() {
    let why = Decision::Unschedulable("no".to_owned());
    let now = Timestamp::from_second(5).unwrap();
    let mut pod = (*pod("p", |_| {})).clone();
    let first = decide::writes(&pod, &why, now);
    let [Write::Event(_), Write::Patch { subresource: Some("status"), body, .. }] = &*first else {
        panic!("{first:?}")
    };
    pod.status = serde_json::from_value(body["status"].clone()).unwrap();
    let again = decide::writes(&pod, &why, now);
    assert!(matches!(&*again, [Write::Event(_)]), "{again:?}");
}

proptest! {
    #[test]
    fn no_node_is_ever_given_more_than_it_has(
        sizes in prop::collection::vec(1..6_i64, 1..5),
        wishes in prop::collection::vec(1..4_i64, 0..30),
    ) {
        let nodes: Vec<Arc<Node>> = sizes.iter().enumerate().map(|(n, cpu)| {
            node(&format!("n{n}"), |v| v["status"]["allocatable"]["cpu"] = cpu.to_string().into())
        }).collect();
        let mut cluster = cluster(&nodes, &[]);
        let mut used: BTreeMap<String, i64> = BTreeMap::new();
        for (n, cpu) in wishes.iter().enumerate() {
            let pod = pod(&format!("p{n}"), |p| {
                p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.to_string().into();
            });
            let fits = |n: usize| {
                sizes[n] - used.get(&format!("n{n}")).copied().unwrap_or(0) >= *cpu
            };
            let possible = (0..sizes.len()).any(fits);
            match decide::schedule(&pod, &cluster) {
                Decision::Bind(name) => {
                    *used.entry(name.clone()).or_default() += cpu;
                    let index: usize = name[1..].parse().unwrap();
                    prop_assert!(used[&name] <= sizes[index], "{name} is over-full");
                    cluster.place(&pod, &name);
                }
                Decision::Unschedulable(why) => prop_assert!(!possible, "there was room: {why}"),
            }
        }
    }
}
