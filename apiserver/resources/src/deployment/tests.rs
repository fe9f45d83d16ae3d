//! Deployments: defaults, generations, rows, and what is refused.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::Deployments;
use crate::columns::Cell;
use crate::strategy::Strategy;

fn deployment(spec: Value) -> Deployment {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    serde_json::from_value(object).expect("a Deployment")
}

fn created(spec: Value) -> Deployment {
    let mut deployment = deployment(spec);
    Strategy::default(&Deployments, &mut deployment);
    Deployments.prepare_create(&mut deployment);
    deployment
}

fn problems(spec: Value) -> Vec<String> {
    Deployments.validate(&created(spec)).iter().map(ToString::to_string).collect()
}

fn good() -> Value {
    json!({
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    spec.pointer_mut(parent).expect("the parent")[field] = value;
    spec
}

#[test]
fn a_bare_deployment_rolls_by_quarters() {
    let deployment = created(good());
    assert_eq!(
        serde_json::to_value(&deployment.spec).expect("JSON"),
        json!({
            "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate",
                         "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "web", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent",
                        "resources": {}, "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                    "schedulerName": "default-scheduler", "securityContext": {},
                    "terminationGracePeriodSeconds": 30,
                },
            },
        }),
        "a template gets less than a pod"
    );
    assert_eq!(deployment.metadata.generation, Some(1));
    assert_eq!(Deployments.validate(&deployment), []);
}

#[test]
fn bad_deployments_are_refused_in_upstreams_words() {
    let mismatch = |labels: &str| {
        format!(
            "spec.template.metadata.labels: Invalid value: {labels}: `selector` does not match \
             template `labels`"
        )
    };
    let cases = [
        (
            with("/selector", json!({})),
            vec!["spec.selector: Required value".to_owned(), mismatch(r#"{"app":"web"}"#)],
        ),
        (
            with("/selector/matchLabels", json!({"app": "db"})),
            vec![mismatch(r#"{"app":"web"}"#)],
        ),
        (with("/template/metadata", json!({})), vec![mismatch("null")]),
        (
            with("/replicas", json!(-1)),
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0".to_owned(),
            ],
        ),
        (
            with("/template/spec/restartPolicy", json!("Never")),
            vec![
                r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#
                    .to_owned(),
            ],
        ),
        (
            with("/template/spec/containers", json!([{"name": "web"}])),
            vec!["spec.template.spec.containers[0].image: Required value".to_owned()],
        ),
        (
            with("/strategy", json!({"type": "Rolling"})),
            vec![
                r#"spec.strategy: Unsupported value: {"Type":"Rolling","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate""#
                    .to_owned(),
            ],
        ),
        (
            with("/strategy", json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}})),
            vec![
                r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#
                    .to_owned(),
            ],
        ),
        (
            with("/strategy", json!({"rollingUpdate": {"maxUnavailable": "120%"}})),
            vec![
                r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "120%": must not be greater than 100%"#
                    .to_owned(),
            ],
        ),
        (
            with("/progressDeadlineSeconds", json!(0)),
            vec![
                "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than \
                 minReadySeconds"
                    .to_owned(),
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(problems(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn the_selector_cannot_change() {
    let old = created(good());
    let new = created(with("/selector/matchLabels", json!({"tier": "front"})));
    assert_eq!(
        Deployments.validate_update(&new, &old)[0].to_string(),
        r#"spec.selector: Invalid value: {"matchLabels":{"tier":"front"}}: field is immutable"#
    );
    assert_eq!(Deployments.validate_update(&old, &old), []);
}

#[test]
fn the_generation_counts_changes_of_the_wish() {
    let old = created(good());
    let generation = |change: &dyn Fn(&mut Deployment)| {
        let mut new = old.clone();
        change(&mut new);
        Deployments.prepare_update(&mut new, &old);
        new.metadata.generation
    };
    assert_eq!(generation(&|_| {}), Some(1));
    assert_eq!(generation(&|d| d.status = None), Some(1));
    assert_eq!(
        generation(&|d| d.metadata.labels = Some([("a".into(), "b".into())].into())),
        Some(1)
    );
    assert_eq!(generation(&|d| Deployments.set_replicas(d, 3)), Some(2));
    let annotations = [("a".to_owned(), "b".to_owned())];
    assert_eq!(
        generation(&|d| d.metadata.annotations = Some(annotations.clone().into())),
        Some(2),
        "controllers copy annotations"
    );
}

#[test]
fn scale_is_a_view_of_the_replicas() {
    let mut deployment = created(good());
    Deployments.set_replicas(&mut deployment, 5);
    deployment.status.as_mut().expect("a status").replicas = Some(2);
    let scale = Deployments.scale(&deployment).expect("a scale");
    assert_eq!(scale.metadata.name.as_deref(), Some("web"));
    assert_eq!(scale.spec.expect("a spec").replicas, Some(5));
    let status = scale.status.expect("a status");
    assert_eq!((status.replicas, status.selector.as_deref()), (2, Some("app=web")));
}

#[test]
fn rows_are_kubectls() {
    let mut deployment = created(with("/replicas", json!(3)));
    let status = json!({"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    deployment.status = serde_json::from_value(status).expect("a status");
    let cells = Deployments.cells(&deployment, Timestamp::UNIX_EPOCH);
    let text = |text: &str| Cell::Text(text.to_owned());
    assert_eq!(
        cells,
        [
            text("web"),
            text("2/3"),
            Cell::Number(3),
            Cell::Number(1),
            text("<unknown>"),
            text("web"),
            text("nginx:1.27"),
            text("app=web"),
        ]
    );
}

#[test]
fn counts_of_a_status_add_up() {
    let old = created(good());
    let mut new = old.clone();
    let status = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3});
    new.status = serde_json::from_value(status).expect("a status");
    let found = Deployments.validate_status_update(&new, &old);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
        ]
    );
}
