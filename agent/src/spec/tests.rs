//! Tests of the OCI spec: what runc is told for a pod's wishes.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{user::Accounts, *};

fn pod(container: Value, rest: Value) -> Pod {
    let mut spec = rest;
    spec["containers"] = json!([container]);
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u-1"}, "spec": spec,
    }))
    .unwrap()
}

fn build_as(pod: &Pod, image: Value, user: UserIds) -> Result<Value, SpecError> {
    build_on(false, pod, image, user)
}

fn build_on(cgroup2: bool, pod: &Pod, image: Value, user: UserIds) -> Result<Value, SpecError> {
    let image: ImageConfig = serde_json::from_value(image).unwrap();
    let namespaces = NamespacePaths {
        net: PathBuf::from("/pins/net"),
        ipc: PathBuf::from("/pins/ipc"),
        uts: PathBuf::from("/pins/uts"),
    };
    let spec = container_spec(SpecInput {
        pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        image: &image,
        env: vec![("A".to_owned(), "1".to_owned())],
        user,
        hostname: "web",
        mounts: vec![BindMount {
            source: PathBuf::from("/state/hosts"),
            target: PathBuf::from("/etc/hosts"),
            read_only: false,
            propagation: "rprivate",
        }],
        namespaces: &namespaces,
        cgroup: std::path::Path::new("/minictl/podu-1/c1"),
        oom: OomFacts { memory: 1 << 30, floor: 1 },
        cgroup2,
    })?;
    Ok(serde_json::to_value(spec).unwrap())
}

fn build(pod: &Pod, image: Value) -> Result<Value, SpecError> {
    build_as(pod, image, UserIds::default())
}

#[test]
fn command_and_args_replace_the_images_as_kubernetes_says() {
    let image = json!({"Entrypoint": ["/entry"], "Cmd": ["cmd"]});
    for (container, expected) in [
        (json!({"name": "c"}), json!(["/entry", "cmd"])),
        (json!({"name": "c", "args": ["x"]}), json!(["/entry", "x"])),
        (json!({"name": "c", "command": ["y"]}), json!(["y"])),
        (
            json!({"name": "c", "command": ["y"], "args": ["$(A)", "$(B)"]}),
            json!(["y", "1", "$(B)"]),
        ),
    ] {
        let spec = build(&pod(container, json!({})), image.clone()).unwrap();
        assert_eq!(spec["process"]["args"], expected);
    }
    let nothing = build(&pod(json!({"name": "c"}), json!({})), json!({}));
    assert!(matches!(nothing, Err(SpecError::NoCommand)));
}

#[test]
fn the_containers_variables_lie_over_the_images() {
    let image = json!({"Cmd": ["x"], "Env": ["A=0", "PATH=/opt"]});
    let spec = build(&pod(json!({"name": "c", "tty": true}), json!({})), image).unwrap();
    assert_eq!(spec["process"]["env"], json!(["PATH=/opt", "HOSTNAME=web", "TERM=xterm", "A=1"]));
    assert_eq!(spec["process"]["terminal"], true);
}

#[test]
fn a_container_joins_the_pods_namespaces_and_shim() {
    let spec = build(&pod(json!({"name": "c"}), json!({})), json!({"Cmd": ["x"]})).unwrap();
    assert_eq!(
        spec["linux"]["namespaces"],
        json!([
            {"type": "mount"},
            {"type": "network", "path": "/pins/net"},
            {"type": "uts", "path": "/pins/uts"},
            {"type": "ipc", "path": "/pins/ipc"},
            {"type": "pid"},
        ])
    );
    assert_eq!(spec["annotations"]["io.containerd.runc.v2.group"], "u-1");
    assert_eq!(spec["linux"]["cgroupsPath"], "/minictl/podu-1/c1");
    assert!(spec.get("hostname").is_none_or(Value::is_null), "it is joined, not set");
}

#[test]
fn a_container_sees_its_own_cgroup_alone_where_cgroups_have_version_2() {
    let has = |cgroup2: bool, privileged: bool| {
        let pod =
            pod(json!({"name": "c", "securityContext": {"privileged": privileged}}), json!({}));
        let spec = build_on(cgroup2, &pod, json!({"Cmd": ["x"]}), UserIds::default()).unwrap();
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap().clone();
        namespaces.contains(&json!({"type": "cgroup"}))
    };
    assert!(has(true, false));
    assert!(!has(true, true), "who may do anything sees everything");
    assert!(!has(false, false), "version 1 hides its folders by other means");
}

#[test]
fn requests_and_limits_become_shares_quota_and_memory() {
    let resources =
        json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}});
    let container = json!({"name": "c", "resources": resources});
    let spec = build(&pod(container, json!({})), json!({"Cmd": ["x"]})).unwrap();
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["cpu"]["shares"], 256);
    assert_eq!(resources["cpu"]["quota"], 50_000);
    assert_eq!(resources["memory"]["limit"], 64 << 20);
    assert_eq!(resources["devices"], json!([{"allow": false, "access": "rwm"}]));
}

#[test]
fn capabilities_are_added_and_dropped() {
    let with = |capabilities: Value, user: u32| {
        let security = json!({"capabilities": capabilities});
        let pod = pod(json!({"name": "c", "securityContext": security}), json!({}));
        let ids = UserIds { uid: user, ..UserIds::default() };
        let spec = build_as(&pod, json!({"Cmd": ["x"]}), ids).unwrap();
        let list = |set: &str| -> Vec<String> {
            let mut names: Vec<String> =
                serde_json::from_value(spec["process"]["capabilities"][set].clone()).unwrap();
            names.sort();
            names
        };
        (list("bounding"), list("effective"))
    };
    let (bounding, effective) = with(json!({}), 0);
    assert_eq!(bounding.len(), DEFAULT_CAPABILITIES.len());
    assert_eq!(bounding, effective);
    let (bounding, _) = with(json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}), 0);
    assert_eq!(bounding, ["CAP_NET_BIND_SERVICE"]);
    let (bounding, effective) = with(json!({"add": ["NET_ADMIN"]}), 1000);
    assert!(bounding.contains(&"CAP_NET_ADMIN".to_owned()));
    assert!(effective.is_empty());
}

#[test]
fn a_privileged_container_sees_and_may_everything() {
    let container = json!({"name": "c", "securityContext": {"privileged": true}});
    let spec = build(&pod(container, json!({})), json!({"Cmd": ["x"]})).unwrap();
    assert!(spec["linux"].get("maskedPaths").is_none_or(Value::is_null));
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class =
        |resources: Value| qos_class(&pod(json!({"name": "c", "resources": resources}), json!({})));
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    let different = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
    assert_eq!(class(different), "Burstable");
}

#[test]
fn an_oom_score_never_goes_below_what_may_be_written() {
    let guaranteed = json!({"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}});
    let spec = build(&pod(guaranteed, json!({})), json!({"Cmd": ["x"]})).unwrap();
    assert_eq!(spec["process"]["oomScoreAdj"], 1);
    let best_effort = build(&pod(json!({"name": "c"}), json!({})), json!({"Cmd": ["x"]})).unwrap();
    assert_eq!(best_effort["process"]["oomScoreAdj"], 1000);
}

#[test]
fn users_come_from_the_pod_or_the_images_accounts() {
    let accounts = || Accounts {
        passwd: "root:x:0:0::/:/bin/sh\nweb:x:101:102::/:/bin/sh\n".to_owned(),
        group: "web:x:102:\nlogs:x:7:web\n".to_owned(),
    };
    let ids = |container: Value, rest: Value, user: &str| {
        let pod = pod(container, rest);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        user::resolve(&pod, container, user, accounts)
            .map(|ids| (ids.uid, ids.gid, ids.additional_gids))
    };
    let plain = || json!({"name": "c"});
    assert_eq!(ids(plain(), json!({}), "").unwrap(), (0, 0, vec![]));
    assert_eq!(ids(plain(), json!({}), "web").unwrap(), (101, 102, vec![7]));
    assert_eq!(ids(plain(), json!({}), "5:logs").unwrap(), (5, 7, vec![]));
    let as_user = json!({"name": "c", "securityContext": {"runAsUser": 9}});
    assert_eq!(ids(as_user, json!({}), "web").unwrap(), (9, 0, vec![]));
    let group = json!({"securityContext": {"fsGroup": 55, "runAsGroup": 3}});
    assert_eq!(ids(plain(), group, "web").unwrap(), (101, 3, vec![7, 55]));
    assert!(matches!(ids(plain(), json!({}), "nobody"), Err(SpecError::UnknownUser { .. })));
    let strict = json!({"securityContext": {"runAsNonRoot": true}});
    assert!(matches!(ids(plain(), strict, ""), Err(SpecError::Root)));
}
