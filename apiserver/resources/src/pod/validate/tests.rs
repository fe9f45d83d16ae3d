//! Bad pods, and upstream's words for what is wrong with them.

use serde_json::{Value, json};

use crate::pod::Pods;
use crate::pod::tests::created;
use crate::strategy::Strategy;

fn problems(spec: Value) -> Vec<String> {
    Pods.validate(&created(spec)).iter().map(ToString::to_string).collect()
}

/// A pod of one good container with these fields besides.
fn container(fields: Value) -> Value {
    let mut container = json!({"name": "web", "image": "nginx"});
    merge(&mut container, fields);
    json!({"containers": [container]})
}

fn with(fields: Value) -> Value {
    let mut spec = container(json!({}));
    merge(&mut spec, fields);
    spec
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    into.as_object_mut().expect("an object").extend(fields);
}

fn check(cases: Vec<(Value, &[&str])>) {
    for (spec, expected) in cases {
        let found = problems(spec.clone());
        assert_eq!(found.len(), expected.len(), "{spec}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{spec}:\n  {found}\nis not\n  {expected}");
        }
    }
}

#[test]
fn containers_need_names_and_images() {
    check(vec![
        (json!({}), &["spec.containers: Required value"]),
        (
            json!({"containers": [{}]}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            container(json!({"name": "Web"})),
            &[r#"spec.containers[0].name: Invalid value: "Web": a lowercase RFC 1123 label must"#],
        ),
        (
            json!({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "c"}]}),
            &[r#"spec.containers[1].name: Duplicate value: "a""#],
        ),
        (
            container(json!({"image": " nginx"})),
            &[r#"spec.containers[0].image: Invalid value: " nginx": must not have leading or"#],
        ),
        (
            container(json!({"imagePullPolicy": "always"})),
            &[concat!(
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "always": "#,
                r#"supported values: "Always", "IfNotPresent", "Never""#
            )],
        ),
        (
            with(json!({"initContainers": [{"name": "web", "image": "a",
                        "readinessProbe": {"tcpSocket": {"port": 80}}}]})),
            &[
                r#"spec.initContainers[0].name: Duplicate value: "web""#,
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init \
                 containers without restartPolicy=Always",
            ],
        ),
        (
            container(json!({"restartPolicy": "Always"})),
            &[
                "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
            ],
        ),
    ]);
}

#[test]
fn ports_are_numbers_of_ports() {
    let ports = |ports: Value| container(json!({"ports": ports}));
    check(vec![
        (ports(json!([{}])), &["spec.containers[0].ports[0].containerPort: Required value"]),
        (
            ports(json!([{"containerPort": 70000}])),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 \
               and 65535, inclusive",
            ],
        ),
        (
            ports(json!([{"containerPort": 80, "name": "a-very-long-name"}])),
            &[
                r#"spec.containers[0].ports[0].name: Invalid value: "a-very-long-name": must be no more than 15 characters"#,
            ],
        ),
        (
            ports(json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}])),
            &[r#"spec.containers[0].ports[1].name: Duplicate value: "a""#],
        ),
        (
            ports(
                json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
            ),
            &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80""#],
        ),
        (
            ports(json!([{"containerPort": 80, "protocol": "HTTP"}])),
            &[r#"spec.containers[0].ports[0].protocol: Unsupported value: "HTTP": supported"#],
        ),
    ]);
}

#[test]
fn variables_have_names_and_one_source() {
    let env = |env: Value| container(json!({"env": env}));
    let place = "spec.containers[0].env[0]";
    check(vec![
        (env(json!([{"value": "x"}])), &["spec.containers[0].env[0].name: Required value"]),
        (
            env(json!([{"name": "a=b"}])),
            &[r#"spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment"#],
        ),
        (
            env(json!([{"name": "A", "valueFrom": {}}])),
            &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: \
               `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"],
        ),
        (
            env(json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.ip"}}}])),
            &[
                r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.ip": supported values: "metadata.name""#,
            ],
        ),
        (
            env(
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]),
            ),
            &[],
        ),
        (
            env(json!([{"name": "A", "value": "x",
                        "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when \
               `value` is not empty",
            ],
        ),
        (
            container(json!({"envFrom": [{}]})),
            &["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: \
               `configMapRef` or `secretRef`"],
        ),
    ]);
    assert!(problems(env(json!([{"name": "", "valueFrom": {}}])))[0].starts_with(place));
}

#[test]
fn mounts_refer_to_volumes() {
    let mounted = |mounts: Value| {
        let mut spec = container(json!({"volumeMounts": mounts}));
        spec["volumes"] = json!([{"name": "data"}]);
        spec
    };
    check(vec![
        (mounted(json!([{"name": "data", "mountPath": "/data"}])), &[]),
        (
            mounted(json!([{"name": "date", "mountPath": "/data"}])),
            &[r#"spec.containers[0].volumeMounts[0].name: Not found: "date""#],
        ),
        (
            mounted(json!([{"name": "data"}])),
            &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
        ),
        (
            mounted(
                json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a"}]),
            ),
            &[
                r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#,
            ],
        ),
        (
            mounted(json!([{"name": "data", "mountPath": "/a", "subPath": "../etc"}])),
            &[
                r#"spec.containers[0].volumeMounts.subPath: Invalid value: "../etc": must not contain '..'"#,
            ],
        ),
    ]);
}

#[test]
fn volumes_have_one_source() {
    let volumes = |volumes: Value| with(json!({"volumes": volumes}));
    check(vec![
        (
            volumes(json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}])),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            volumes(json!([{"name": "a", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]},
                 "serviceAccountToken": {"path": "token", "expirationSeconds": 60}}]}}])),
            &[
                "spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: \
                 Invalid value: 60: may not specify a duration less than 10 minutes",
                r#"spec.volumes[0].projected: Invalid value: "p": conflicting duplicate paths"#,
                "spec.volumes[0].projected.sources[1]: Forbidden: may not specify more than 1 \
                 volume type per source",
            ],
        ),
        (
            volumes(json!([{"name": "a"}, {"name": "a"}])),
            &[r#"spec.volumes[1].name: Duplicate value: "a""#],
        ),
        (
            volumes(json!([{"name": "a", "configMap": {"defaultMode": 1000}}])),
            &[
                "spec.volumes[0].configMap.name: Required value",
                "spec.volumes[0].configMap.defaultMode: Invalid value: 1000: must be a number \
                 between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            volumes(json!([{"name": "a", "secret": {"secretName": "s",
                            "items": [{"key": "k", "path": "/abs"}]}}])),
            &[
                r#"spec.volumes[0].secret.items[0].path: Invalid value: "/abs": must be a relative path"#,
            ],
        ),
        (
            volumes(json!([{"name": "a", "hostPath": {"path": "/a/../b", "type": "Dir"}}])),
            &[
                r#"spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#,
                r#"spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice""#,
            ],
        ),
    ]);
}

#[test]
fn requests_stay_within_limits() {
    let resources = |resources: Value| container(json!({"resources": resources}));
    check(vec![
        (
            resources(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            &[
                r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
            ],
        ),
        (
            resources(json!({"limits": {"cpus": "1"}})),
            &[
                r#"spec.containers[0].resources.limits[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified"#,
                r#"spec.containers[0].resources.limits[cpus]: Invalid value: "cpus": must be a standard resource for containers"#,
                r#"spec.containers[0].resources.requests[cpus]"#,
                r#"spec.containers[0].resources.requests[cpus]"#,
            ],
        ),
        (
            resources(json!({"limits": {"memory": "-1"}})),
            &[
                r#"spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0"#,
                r#"spec.containers[0].resources.requests[memory]: Invalid value: "-1""#,
            ],
        ),
        (
            resources(json!({"requests": {"memory": "1Gib"}})),
            &[
                r#"spec.containers[0].resources.requests[memory]: Invalid value: "1Gib": quantities must match the regular expression"#,
            ],
        ),
        (
            resources(json!({"requests": {"example.com/gpu": "1"}})),
            &[
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
    ]);
}

#[test]
fn probes_do_one_thing() {
    let probe = |probe: Value| container(json!({"livenessProbe": probe}));
    check(vec![
        (
            probe(json!({})),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            probe(json!({"exec": {"command": ["true"]}, "tcpSocket": {"port": 80}})),
            &[
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ],
        ),
        (
            probe(json!({"httpGet": {"port": 0, "scheme": "http"}, "successThreshold": 2})),
            &[
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                r#"spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "http""#,
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative \
               and less than terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_pod_itself_is_well_formed() {
    check(vec![
        (
            with(json!({"restartPolicy": "always"})),
            &[
                r#"spec.restartPolicy: Unsupported value: "always": supported values: "Always", "OnFailure", "Never""#,
            ],
        ),
        (
            with(json!({"dnsPolicy": "None"})),
            &["spec.dnsConfig: Required value: must provide `dnsConfig`"],
        ),
        (
            with(json!({"dnsConfig": {"nameservers": ["1.2.3"]}})),
            &[
                r#"spec.dnsConfig.nameservers[0]: Invalid value: "1.2.3": must be a valid IP address"#,
            ],
        ),
        (
            with(json!({"hostname": "a.b"})),
            &[r#"spec.hostname: Invalid value: "a.b": must not contain dots"#],
        ),
        (
            with(json!({"activeDeadlineSeconds": 0})),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ],
        ),
        (
            with(json!({"priorityClassName": "gold"})),
            &[r#"spec.priorityClassName: Not found: "gold""#],
        ),
        (
            with(
                json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}, {"operator": "Exists"}]}),
            ),
            &[
                r#"spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'"#,
            ],
        ),
        (
            with(json!({"nodeSelector": {"a b": "c"}})),
            &[r#"spec.nodeSelector: Invalid value: "a b": name part must consist of"#],
        ),
        (
            with(json!({"securityContext": {"runAsUser": -1, "sysctls": [{"name": "Net"}]}})),
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                r#"spec.securityContext.sysctls[0].name: Invalid value: "Net": must have at most 253 characters and match regex"#,
            ],
        ),
        (
            with(
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "whenUnsatisfiable": "Never"}]}),
            ),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                r#"spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values: "DoNotSchedule", "ScheduleAnyway""#,
            ],
        ),
        (
            with(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
            ),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        ),
        (
            with(json!({"schedulingGates": [{"name": "a"}], "nodeName": "node-1"})),
            &[
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        ),
        (
            with(json!({"hostAliases": [{"ip": "x", "hostnames": ["A"]}]})),
            &["spec.hostAliases[0].ip", "spec.hostAliases[0].hostnames[0]"],
        ),
    ]);
}
