//! Tests of volumes: what lies in them, and where they appear.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{downward::NodeFacts, env::References};

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u", "labels": {"a": "b"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn references(colour: &str) -> References {
    let map = json!({"data": {"colour": colour, "size": "big"}});
    let secret = json!({"data": {"password": "aHVudGVyMg=="}});
    References {
        config_maps: BTreeMap::from([("cfg".into(), serde_json::from_value(map).unwrap())]),
        secrets: BTreeMap::from([("login".into(), serde_json::from_value(secret).unwrap())]),
        ..References::default()
    }
}

fn node() -> NodeFacts {
    NodeFacts {
        name: "node-1".into(),
        host_ips: vec!["192.168.56.70".parse().unwrap()],
        cpu_milli: 1000,
        memory: 1 << 30,
    }
}

fn place(folder: &PodFolder, pod: &Pod, references: &References) -> Result<(), VolumeError> {
    set_up(folder, &PayloadInput { pod, references, node: &node() })
}

#[test]
fn objects_become_files_and_change_all_at_once() {
    let state = tempfile::tempdir().unwrap();
    let folder = PodFolder::new(state.path(), "u");
    let pod = pod(json!({"containers": [], "volumes": [{"name": "all", "projected": {"sources": [
        {"configMap": {"name": "cfg", "items": [{"key": "colour", "path": "sub/colour"}]}},
        {"secret": {"name": "login"}},
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]}}]}));
    place(&folder, &pod, &references("red")).unwrap();
    let read = |name: &str| fs::read_to_string(folder.volumes().join("all").join(name)).unwrap();
    assert_eq!(read("sub/colour"), "red");
    assert_eq!(read("password"), "hunter2");
    assert_eq!(read("labels"), "a=\"b\"");
    let data = || fs::read_link(folder.volumes().join("all/..data")).unwrap();
    let before = data();
    place(&folder, &pod, &references("red")).unwrap();
    assert_eq!(data(), before, "nothing changed, so nothing was written");
    place(&folder, &pod, &references("blue")).unwrap();
    assert_eq!(read("sub/colour"), "blue");
    assert!(!folder.volumes().join("all").join(before).exists());
}

#[test]
fn a_missing_object_is_named_unless_it_is_optional() {
    let state = tempfile::tempdir().unwrap();
    let folder = PodFolder::new(state.path(), "u");
    let with = |source: Value| pod(json!({"containers": [], "volumes": [source]}));
    let missing = with(json!({"name": "v", "configMap": {"name": "nope"}}));
    assert_eq!(
        place(&folder, &missing, &references("red")).unwrap_err().to_string(),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"nope\" not found"
    );
    let optional = with(json!({"name": "v", "configMap": {"name": "nope", "optional": true}}));
    place(&folder, &optional, &references("red")).unwrap();
    let unknown = with(json!({"name": "v", "nfs": {"server": "x", "path": "/"}}));
    let error = place(&folder, &unknown, &references("red")).unwrap_err();
    assert!(matches!(error, VolumeError::Unsupported { .. }));
}

#[test]
fn mounts_stay_inside_their_volume() {
    let state = tempfile::tempdir().unwrap();
    let folder = PodFolder::new(state.path(), "u");
    let with = |mount: Value| {
        pod(json!({
            "containers": [{"name": "c", "volumeMounts": [mount]}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "login"}}],
        }))
    };
    let mounts = |mount: Value| {
        let pod = with(mount);
        place(&folder, &pod, &references("red")).unwrap();
        let env = [("NAME".to_owned(), "x".to_owned())];
        bind_mounts(&folder, &pod, &pod.spec.as_ref().unwrap().containers[0], &env)
    };
    let plain = mounts(json!({"name": "v", "mountPath": "/data"})).unwrap();
    assert_eq!(plain[0].source, folder.volumes().join("v"));
    assert!(!plain[0].read_only);
    let below =
        mounts(json!({"name": "v", "mountPath": "/d", "subPathExpr": "$(NAME)/y"})).unwrap();
    assert_eq!(below[0].source, folder.volumes().join("v/x/y").canonicalize().unwrap());
    assert!(mounts(json!({"name": "s", "mountPath": "/s"})).unwrap()[0].read_only);
    let outside = mounts(json!({"name": "v", "mountPath": "/d", "subPath": "../../x"}));
    assert!(matches!(outside, Err(VolumeError::Outside { .. })));
    std::os::unix::fs::symlink("/etc", folder.volumes().join("v/link")).unwrap();
    let linked = mounts(json!({"name": "v", "mountPath": "/d", "subPath": "link"}));
    assert!(matches!(linked, Err(VolumeError::Outside { .. })));
    let unknown = mounts(json!({"name": "zz", "mountPath": "/d"}));
    assert!(matches!(unknown, Err(VolumeError::NoVolume { .. })));
}

#[test]
fn every_reference_of_a_pod_is_found() {
    let pod = pod(json!({
        "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m1"}}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s2"}}]}],
        "volumes": [
            {"name": "a", "configMap": {"name": "m2"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "s3"}}]}},
        ],
    }));
    let names = referenced(&pod);
    assert_eq!(names.config_maps, BTreeSet::from(["m1".to_owned(), "m2".to_owned()]));
    assert_eq!(names.secrets, BTreeSet::from(["s1".to_owned(), "s2".to_owned(), "s3".to_owned()]));
}
