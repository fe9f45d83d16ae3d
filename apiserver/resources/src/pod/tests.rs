//! Pods through the strategy: what a new pod becomes, which changes pass, when it may go.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use proptest::prelude::{Strategy as _, any, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{Pods, qos_class};
use crate::strategy::Strategy;

pub(super) fn pod(spec: Value) -> Pod {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    serde_json::from_value(object).expect("a Pod")
}

/// As the pipeline has it before it validates.
pub(super) fn created(spec: Value) -> Pod {
    let mut pod = pod(spec);
    Strategy::default(&Pods, &mut pod);
    Pods.prepare_create(&mut pod);
    pod
}

fn spec_of(pod: &Pod) -> Value {
    serde_json::to_value(&pod.spec).expect("JSON")
}

fn change_problems(new: &Pod, old: &Pod) -> Vec<String> {
    Pods.validate_update(new, old).iter().map(ToString::to_string).collect()
}

fn plain() -> Value {
    json!({"containers": [{"name": "web", "image": "nginx"}]})
}

#[test]
fn a_bare_pod_gets_everything_that_upstream_gives_it() {
    let pod = created(plain());
    assert_eq!(
        serde_json::to_value(&pod).expect("JSON"),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "default", "generation": 1},
            "spec": {
                "containers": [{
                    "name": "web", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true,
                "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
                "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "serviceAccount": "default",
                "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                     "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists",
                     "effect": "NoExecute", "tolerationSeconds": 300},
                ],
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        })
    );
    assert_eq!(Pods.validate(&pod), []);
}

#[test]
fn the_tag_decides_about_pulling() {
    for (image, expected) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("gcr.io/google-samples/node-hello:1.0", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ] {
        let pod = created(json!({"containers": [{"name": "web", "image": image}]}));
        assert_eq!(spec_of(&pod)["containers"][0]["imagePullPolicy"], expected, "{image}");
    }
}

#[test]
fn defaults_reach_into_containers_and_volumes() {
    let pod = created(json!({
        "hostNetwork": false,
        "serviceAccount": "old-name",
        "containers": [{
            "name": "web", "image": "nginx:1",
            "ports": [{"containerPort": 80, "hostPort": 0}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "100m"}},
            "readinessProbe": {"httpGet": {"port": 80}, "initialDelaySeconds": 0},
            "livenessProbe": {"grpc": {"port": 9090}, "timeoutSeconds": 5},
            "lifecycle": {"preStop": {"httpGet": {"port": "http"}}},
        }],
        "volumes": [
            {"name": "a"},
            {"name": "b", "configMap": {"name": "c"}},
            {"name": "c", "secret": {"secretName": "s", "defaultMode": 256}},
            {"name": "d", "hostPath": {"path": "/tmp"}},
        ],
    }));
    let spec = spec_of(&pod);
    let web = &spec["containers"][0];
    assert_eq!(spec.get("hostNetwork"), None);
    assert_eq!(spec["serviceAccountName"], "old-name");
    assert_eq!(web["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
    assert_eq!(web["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        web["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Gi"},
               "requests": {"cpu": "100m", "memory": "1Gi"}})
    );
    assert_eq!(
        web["readinessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
               "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(web["livenessProbe"]["grpc"], json!({"port": 9090, "service": ""}));
    assert_eq!(web["livenessProbe"]["timeoutSeconds"], 5);
    assert_eq!(web["lifecycle"]["preStop"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
            {"name": "c", "secret": {"secretName": "s", "defaultMode": 256}},
            {"name": "d", "hostPath": {"path": "/tmp", "type": ""}},
        ])
    );
    assert_eq!(Pods.validate(&pod), []);
}

#[test]
fn with_the_hosts_network_ports_are_the_hosts() {
    let pod = created(json!({
        "hostNetwork": true,
        "containers": [{"name": "web", "image": "a:1", "ports": [{"containerPort": 8080}]}],
    }));
    assert_eq!(spec_of(&pod)["containers"][0]["ports"][0]["hostPort"], 8080);
}

#[test]
fn own_tolerations_and_priorities_are_respected() {
    let mut spec = plain();
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    spec["priorityClassName"] = json!("system-node-critical");
    let pod = created(spec);
    assert_eq!(spec_of(&pod)["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec_of(&pod)["priority"], 2_000_001_000);
}

#[test]
fn a_gated_pod_says_so() {
    let mut spec = plain();
    spec["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    let status = created(spec).status.expect("a status");
    let condition = &status.conditions.expect("a condition")[0];
    assert_eq!(condition.reason.as_deref(), Some("SchedulingGated"));
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let of = |resources: Value| {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        qos_class(&serde_json::from_value::<PodSpec>(spec).expect("a spec"))
    };
    assert_eq!(of(json!({})), "BestEffort");
    assert_eq!(of(json!({"requests": {"cpu": "0"}})), "BestEffort");
    assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(of(json!({"requests": {"example.com/gpu": "1"}})), "BestEffort");
    let both = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(
        of(json!({"limits": both, "requests": {"cpu": "1000m", "memory": "1Gi"}})),
        "Guaranteed"
    );
    assert_eq!(of(json!({"limits": both, "requests": {"cpu": "1"}})), "Burstable");
}

#[test]
fn an_image_may_change_and_a_port_may_not() {
    let old = created(plain());
    let mut new = old.clone();
    new.spec.as_mut().expect("a spec").containers[0].image = Some("nginx:1.27".to_owned());
    Pods.prepare_update(&mut new, &old);
    assert_eq!(change_problems(&new, &old), [""; 0]);
    assert_eq!(new.metadata.generation, Some(2));

    let mut other = old.clone();
    other.spec.as_mut().expect("a spec").hostname = Some("a".to_owned());
    assert_eq!(
        change_problems(&other, &old),
        ["spec: Forbidden: pod updates may not change fields other than \
          `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
          `spec.tolerations` (only additions to existing tolerations),\
          `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
          negative)\nchanged: spec.hostname"]
    );
}

#[test]
fn containers_deadlines_tolerations_and_gates_change_in_one_direction() {
    let mut spec = plain();
    spec["activeDeadlineSeconds"] = json!(60);
    spec["schedulingGates"] = json!([{"name": "a"}]);
    let old = created(spec.clone());
    let changed = |change: &dyn Fn(&mut PodSpec)| {
        let mut new = old.clone();
        change(new.spec.as_mut().expect("a spec"));
        change_problems(&new, &old)
    };
    assert_eq!(changed(&|s| s.active_deadline_seconds = Some(30)), [""; 0]);
    assert_eq!(
        changed(&|s| s.active_deadline_seconds = Some(90)),
        ["spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to previous \
          value"]
    );
    assert_eq!(
        changed(&|s| s.active_deadline_seconds = None),
        ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive \
          integer to nil value"]
    );
    assert_eq!(changed(&|s| s.scheduling_gates = None), [""; 0]);
    assert_eq!(
        changed(&|s| s.tolerations = None),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its \
          tolerationSeconds"]
    );
    assert_eq!(
        changed(&|s| s.containers.push(s.containers[0].clone())),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn putting_the_manifest_back_is_no_change() {
    // What a client sends that has only its file; the cluster fills in the rest again.
    let mut spec = plain();
    spec["serviceAccountName"] = json!("default");
    let old = created(spec.clone());
    let mut new = pod(spec);
    Strategy::default(&Pods, &mut new);
    new.metadata.generation = old.metadata.generation;
    Pods.prepare_update(&mut new, &old);
    assert_eq!(change_problems(&new, &old), [""; 0]);
    assert_eq!(new.metadata.generation, Some(1));
}

#[test]
fn a_delete_waits_only_for_a_pod_that_somebody_runs() {
    let mut pod = created(plain());
    assert_eq!(Pods.grace_period(&pod, None), 0, "not scheduled");
    pod.spec.as_mut().expect("a spec").node_name = Some("node-1".to_owned());
    assert_eq!(Pods.grace_period(&pod, None), 30);
    assert_eq!(Pods.grace_period(&pod, Some(5)), 5);
    assert_eq!(Pods.grace_period(&pod, Some(0)), 0);
    assert_eq!(Pods.grace_period(&pod, Some(-1)), 1);
    pod.status.as_mut().expect("a status").phase = Some("Succeeded".to_owned());
    assert_eq!(Pods.grace_period(&pod, Some(5)), 0, "finished");
}

#[test]
fn a_reported_status_is_brought_together_and_checked() {
    let old = created(plain());
    let mut new = old.clone();
    new.spec = None;
    new.status.as_mut().expect("a status").pod_ip = Some("10.244.0.5".to_owned());
    Pods.prepare_status_update(&mut new, &old);
    assert_eq!(new.spec, old.spec);
    let status = serde_json::to_value(&new.status).expect("JSON");
    assert_eq!(status["podIPs"], json!([{"ip": "10.244.0.5"}]));
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(Pods.validate_status_update(&new, &old), []);

    new.status.as_mut().expect("a status").qos_class = Some("Guaranteed".to_owned());
    assert_eq!(
        Pods.validate_status_update(&new, &old)[0].to_string(),
        "status.qosClass: Invalid value: \"Guaranteed\": field is immutable"
    );
}

#[test]
fn a_pod_has_at_most_one_address_of_each_family() {
    let problems = |addresses: &[&str]| {
        let old = created(plain());
        let mut new = old.clone();
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let status = json!({"podIPs": ips, "hostIPs": ips, "qosClass": "BestEffort"});
        new.status = serde_json::from_value(status).expect("a status");
        Pods.prepare_status_update(&mut new, &old);
        let errors = Pods.validate_status_update(&new, &old);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(problems(&["10.244.0.5", "fd00:10:244::5"]), [""; 0]);
    let detail = "may specify no more than one IP for each IP family";
    let shown = r#"[{"ip":"10.244.0.5"},{"ip":"10.244.0.6"}]"#;
    assert_eq!(
        problems(&["10.244.0.5", "10.244.0.6"]),
        [
            format!("status.podIPs: Invalid value: {shown}: {detail}"),
            format!("status.hostIPs: Invalid value: {shown}: {detail}"),
        ]
    );
    assert_eq!(problems(&["10.244.0.5", "fd00::5", "fd00::6"]).len(), 2);
}

#[test]
fn a_container_that_ended_for_good_does_not_come_back() {
    let with = |policy: &str, state: Value| {
        let mut spec = plain();
        spec["restartPolicy"] = json!(policy);
        let mut pod = created(spec);
        let statuses = json!([{"name": "web", "ready": false, "restartCount": 0, "image": "",
                               "imageID": "", "state": state}]);
        pod.status.as_mut().expect("a status").container_statuses =
            serde_json::from_value(statuses).expect("statuses");
        pod
    };
    let ended = |code: i32| json!({"terminated": {"exitCode": code}});
    let running = json!({"running": {}});
    for (policy, code, problems) in
        [("Always", 0, 0), ("Never", 1, 1), ("OnFailure", 1, 0), ("OnFailure", 0, 1)]
    {
        let (new, old) = (with(policy, running.clone()), with(policy, ended(code)));
        let found = Pods.validate_status_update(&new, &old);
        assert_eq!(found.len(), problems, "{policy} after {code}: {found:?}");
    }
}

#[test]
fn pods_are_found_by_node_and_phase() {
    let mut spec = plain();
    spec["nodeName"] = json!("node-1");
    let fields = Pods.fields(&created(spec));
    let value = |name: &str| &fields.iter().find(|(n, _)| *n == name).expect(name).1;
    assert_eq!(value("spec.nodeName"), "node-1");
    assert_eq!(value("status.phase"), "Pending");
    assert_eq!(value("spec.hostNetwork"), "false");
    assert_eq!(value("status.podIP"), "");
}

proptest! {
    #[test]
    fn defaults_are_idempotent(
        policy in prop::sample::select(vec!["Always", "Never", ""]),
        host_network in any::<bool>(),
        image in "[a-z]{1,4}(:[a-z0-9]{1,3})?",
        cpu in (1..4000_u32).prop_map(|milli| format!("{milli}m")),
    ) {
        let once = created(json!({
            "restartPolicy": policy, "hostNetwork": host_network,
            "containers": [{"name": "a", "image": image, "ports": [{"containerPort": 80}],
                            "resources": {"limits": {"cpu": cpu}}}],
            "volumes": [{"name": "v"}],
        }));
        let mut twice = once.clone();
        Strategy::default(&Pods, &mut twice);
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(Pods.validate(&once), vec![]);
    }
}

#[test]
fn written_out_empties_are_left_out() {
    let verbose = created(json!({
        "nodeName": "", "hostname": "", "subdomain": "", "priorityClassName": "",
        "restartPolicy": "", "dnsPolicy": "", "schedulerName": "", "serviceAccountName": "",
        "serviceAccount": "", "hostNetwork": false, "hostPID": false, "hostIPC": false,
        "containers": [{"name": "web", "image": "nginx", "workingDir": "", "imagePullPolicy": "",
                        "terminationMessagePath": "", "terminationMessagePolicy": "",
                        "stdin": false, "stdinOnce": false, "tty": false}],
    }));
    assert_eq!(verbose, created(plain()));
}
