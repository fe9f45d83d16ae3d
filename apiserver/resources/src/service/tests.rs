//! Services through their whole life: defaults, changes of type, what is refused and why.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Services, held_cluster_ips, held_node_ports, is_headless, lacks_cluster_ip, needs_cluster_ip,
    needs_node_port, settle_families, wants_node_ports,
};
use crate::columns::Cell;
use crate::families::Family;
use crate::strategy::Strategy;

fn service(spec: Value) -> Service {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    serde_json::from_value(object).expect("a Service")
}

/// As the pipeline has it before it allocates, in a cluster of IPv4.
fn created(spec: Value) -> Service {
    let mut service = service(spec);
    Strategy::default(&Services, &mut service);
    Services.prepare_create(&mut service);
    // What it refuses, validation refuses once more, but for families that the cluster has not.
    let _ = settle_families(&mut service, None, &[Family::V4]);
    service
}

fn updated(spec: Value, old: &Service) -> Service {
    let mut new = service(spec);
    Strategy::default(&Services, &mut new);
    Services.prepare_update(&mut new, old);
    let _ = settle_families(&mut new, Some(old), &[Family::V4]);
    new
}

fn spec_of(service: &Service) -> Value {
    serde_json::to_value(&service.spec).expect("JSON")
}

fn problems(service: &Service) -> Vec<String> {
    Services.validate(service).iter().map(ToString::to_string).collect()
}

fn change_problems(new: &Service, old: &Service) -> Vec<String> {
    Services.validate_update(new, old).iter().map(ToString::to_string).collect()
}

fn web_ports() -> Value {
    json!([{"port": 80}])
}

#[test]
fn a_bare_service_becomes_a_cluster_ip_service() {
    let service = created(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    assert_eq!(
        spec_of(&service),
        json!({
            "type": "ClusterIP",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        })
    );
    assert!(lacks_cluster_ip(&service));
    assert_eq!(problems(&service), [""; 0]);
}

#[test]
fn defaults_depend_on_the_type() {
    let node_port = spec_of(&created(json!({"type": "NodePort", "ports": web_ports()})));
    assert_eq!(node_port["externalTrafficPolicy"], "Cluster");
    assert_eq!(node_port.get("allocateLoadBalancerNodePorts"), None);

    let balanced = spec_of(&created(json!({"type": "LoadBalancer", "ports": web_ports()})));
    assert_eq!(balanced["allocateLoadBalancerNodePorts"], true);
    assert_eq!(balanced["externalTrafficPolicy"], "Cluster");

    let alias = json!({"type": "ExternalName", "externalName": "a.example"});
    let alias = spec_of(&created(alias));
    assert_eq!(
        alias,
        json!({"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None"})
    );

    let sticky = created(json!({"sessionAffinity": "ClientIP", "ports": web_ports()}));
    assert_eq!(
        spec_of(&sticky)["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );

    let external = created(json!({"ports": web_ports(), "externalIPs": ["172.30.1.44"]}));
    assert_eq!(spec_of(&external)["externalTrafficPolicy"], "Cluster");
    assert_eq!(
        Services.warnings(&external),
        ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"]
    );
}

#[test]
fn a_headless_service_has_no_address_on_purpose() {
    let service = created(json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": []}));
    assert!(is_headless(&service) && needs_cluster_ip(&service) && !lacks_cluster_ip(&service));
    assert_eq!(spec_of(&service)["clusterIPs"], json!(["None"]));
    assert_eq!(held_cluster_ips(&service), [""; 0]);
    assert_eq!(problems(&service), [""; 0], "it needs no ports either");

    let any = created(json!({"clusterIP": "None"}));
    assert_eq!(spec_of(&any)["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(spec_of(&any)["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(problems(&any), [""; 0]);
}

#[test]
fn an_update_that_leaves_allocated_values_out_keeps_them() {
    let old = created(json!({
        "type": "NodePort", "clusterIP": "10.96.0.7",
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}],
    }));
    let new = updated(
        json!({"type": "NodePort", "ports": [{"name": "b", "port": 82}, {"name": "c", "port": 83}]}),
        &old,
    );
    let spec = spec_of(&new);
    assert_eq!(spec["clusterIP"], "10.96.0.7");
    assert_eq!(spec["clusterIPs"], json!(["10.96.0.7"]));
    assert_eq!(spec["ports"][0]["nodePort"], 30081, "kept by name");
    assert_eq!(spec["ports"][1].get("nodePort"), None, "to be allocated");
    assert_eq!(change_problems(&new, &old), [""; 0]);

    let stolen = updated(
        json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "x", "port": 81, "nodePort": 30080}]}),
        &old,
    );
    assert_eq!(spec_of(&stolen)["ports"][0].get("nodePort"), None, "x has taken it");
}

#[test]
fn changing_the_type_releases_what_the_new_type_has_no_use_for() {
    let old = created(json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.7",
        "ports": [{"port": 80, "nodePort": 30080}],
    }));
    assert_eq!(held_cluster_ips(&old), ["10.96.0.7"]);
    assert_eq!(held_node_ports(&old), [("TCP", 30080)]);

    // As a patch leaves it: everything of the old object with another type.
    let mut internal = spec_of(&old);
    internal["type"] = json!("ClusterIP");
    let internal = updated(internal, &old);
    assert_eq!(
        spec_of(&internal),
        json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        })
    );
    assert_eq!(problems(&internal), [""; 0]);

    let mut alias = spec_of(&internal);
    alias["type"] = json!("ExternalName");
    alias["externalName"] = json!("someapi.somecompany.com");
    let alias = updated(alias, &internal);
    assert_eq!(held_cluster_ips(&alias), [""; 0]);
    assert_eq!(spec_of(&alias).get("clusterIP"), None);
    assert_eq!(spec_of(&alias).get("ipFamilies"), None);
    assert_eq!(problems(&alias), [""; 0]);
    assert_eq!(change_problems(&alias, &internal), [""; 0]);
}

#[test]
fn what_the_client_changed_is_not_dropped_but_refused() {
    let old = created(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
    let new =
        updated(json!({"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30081}]}), &old);
    assert_eq!(
        problems(&new),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
}

#[test]
fn an_address_cannot_be_changed() {
    let old = created(json!({"clusterIP": "10.96.0.7", "ports": web_ports()}));
    let mut spec = spec_of(&old);
    spec["clusterIP"] = json!("10.96.0.8");
    let new = updated(spec, &old);
    assert_eq!(
        change_problems(&new, &old),
        [r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set"#]
    );
    let headless = updated(json!({"clusterIP": "None", "ports": web_ports()}), &old);
    assert_eq!(change_problems(&headless, &old).len(), 1);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_services_are_refused_in_upstreams_words() {
    let cases = [
        (json!({}), vec!["spec.ports: Required value"]),
        (
            json!({"ports": [{"port": 0}]}),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            vec!["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            vec![r#"spec.ports[1].name: Duplicate value: "a""#],
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
            vec![concat!(
                r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"#,
                r#""Port":80,"TargetPort":0,"NodePort":0}"#
            )],
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "tcp"}]}),
            vec![concat!(
                r#"spec.ports[0].protocol: Unsupported value: "tcp": "#,
                r#"supported values: "SCTP", "TCP", "UDP""#
            )],
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 70000}]}),
            vec![
                "spec.ports[0].nodePort: Invalid value: 70000: must be between 1 and 65535, \
                 inclusive",
            ],
        ),
        (
            json!({"type": "Nodeport", "ports": web_ports()}),
            vec![concat!(
                r#"spec.type: Unsupported value: "Nodeport": supported values: "#,
                r#""ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#
            )],
        ),
        (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": web_ports()}),
            vec![
                r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#,
                "spec.ipFamilyPolicy",
            ],
        ),
        (
            json!({"clusterIP": "10.96.0.300", "ports": web_ports()}),
            vec![
                r#"spec.clusterIPs[0]: Invalid value: "10.96.0.300": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        (
            json!({"ports": web_ports(), "externalIPs": ["127.0.0.1"]}),
            vec![
                r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ],
        ),
        (
            json!({"ports": web_ports(), "sessionAffinity": "Sometimes"}),
            vec![
                r#"spec.sessionAffinity: Unsupported value: "Sometimes": supported values: "ClientIP", "None""#,
            ],
        ),
        (
            json!({"ports": web_ports(), "sessionAffinity": "ClientIP",
                   "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}}),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400",
            ],
        ),
        (
            json!({"ports": web_ports(), "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            vec![
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "ports": web_ports(), "loadBalancerSourceRanges": ["10.0.0.0"]}),
            vec![
                r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            ],
        ),
        (
            json!({"type": "LoadBalancer", "ports": web_ports(), "loadBalancerClass": "a b"}),
            vec![concat!(
                r#"spec.loadBalancerClass: Invalid value: "a b": name part must consist of alphanumeric characters, "#,
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  ",
                "or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            )],
        ),
        (
            json!({"ports": web_ports(), "loadBalancerClass": "a.b/c"}),
            vec![
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"ports": web_ports(), "allocateLoadBalancerNodePorts": false}),
            vec![
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": web_ports(), "healthCheckNodePort": 30100}),
            vec![
                "spec.healthCheckNodePort: Invalid value: 30100: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Nearby", "ports": web_ports()}),
            vec![
                r#"spec.externalTrafficPolicy: Unsupported value: "Nearby": supported values: "Cluster", "Local""#,
            ],
        ),
        (
            json!({"ports": web_ports(), "internalTrafficPolicy": "Nearby"}),
            vec![
                r#"spec.internalTrafficPolicy: Unsupported value: "Nearby": supported values: "Cluster", "Local""#,
            ],
        ),
        (
            json!({"ports": web_ports(), "trafficDistribution": "Nearby"}),
            vec![
                r#"spec.trafficDistribution: Unsupported value: "Nearby": supported values: "PreferClose", "PreferSameNode", "PreferSameZone""#,
            ],
        ),
        (
            json!({"ports": [{"port": 80, "appProtocol": "http/2/3"}]}),
            vec![concat!(
                r#"spec.ports[0].appProtocol: Invalid value: "http/2/3": a valid label key must consist of alphanumeric characters, "#,
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  ",
                "or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an ",
                "optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )],
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "a_b"}]}),
            vec![
                r#"spec.ports[0].targetPort: Invalid value: "a_b": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
            ],
        ),
        (
            json!({"ports": web_ports(), "externalIPs": ["0.0.0.0"]}),
            vec![
                r#"spec.externalIPs[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)"#,
            ],
        ),
        (
            json!({"ports": web_ports(), "externalIPs": ["fe80::1"]}),
            vec![
                r#"spec.externalIPs[0]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#,
            ],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a_b.example"}),
            vec![concat!(
                r#"spec.externalName: Invalid value: "a_b.example": a lowercase RFC 1123 subdomain must consist of lower case "#,
                "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', ",
                r"regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            )],
        ),
        (
            json!({"selector": {"a b": "c"}, "ports": web_ports()}),
            vec![concat!(
                r#"spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, "#,
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  ",
                "or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            )],
        ),
        (
            json!({"ports": web_ports(), "externalTrafficPolicy": "Local"}),
            vec![
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            ],
        ),
    ];
    for (spec, expected) in cases {
        let found = problems(&created(spec.clone()));
        if expected.last() == Some(&"spec.ipFamilyPolicy") {
            assert_eq!(found[0], expected[0], "{spec}");
            continue;
        }
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn annotations_are_checked_like_the_fields_they_once_were() {
    let problems = |spec: Value, annotations: Value| {
        let mut service = created(spec);
        service.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
        problems(&service)
    };
    let balanced = json!({"type": "LoadBalancer", "ports": web_ports()});
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let path = format!("metadata.annotations[{key}]");
    assert_eq!(problems(balanced.clone(), json!({key: " 10.0.0.0/8, fd00::/8 "})), [""; 0]);
    assert_eq!(problems(balanced.clone(), json!({key: ""})), [""; 0]);
    assert_eq!(
        problems(balanced.clone(), json!({key: "10.0.0.0/8,all"})),
        [format!(
            "{path}: Invalid value: \"all\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
             2001:db8::/64)"
        )]
    );
    assert_eq!(
        problems(json!({"ports": web_ports()}), json!({key: "10.0.0.0/8"})),
        [format!("{path}: Forbidden: may only be used when `type` is 'LoadBalancer'")]
    );
    let (old, new) =
        ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode");
    assert_eq!(
        problems(balanced, json!({old: "Auto", new: "Disabled"})),
        [format!(
            "metadata.annotations[{new}]: Invalid value: \"Disabled\": must match \
             annotations[{old}] when both are specified"
        )]
    );
}

#[test]
fn node_ports_are_for_types_that_are_reached_from_outside() {
    for (kind, allocate, has, wants) in [
        ("ClusterIP", None, false, false),
        ("NodePort", None, true, true),
        ("LoadBalancer", None, true, true),
        ("LoadBalancer", Some(false), true, false),
    ] {
        let mut spec = json!({"type": kind, "ports": web_ports()});
        if let Some(allocate) = allocate {
            spec["allocateLoadBalancerNodePorts"] = json!(allocate);
        }
        let service = created(spec);
        assert_eq!(needs_node_port(&service), has, "{kind}");
        assert_eq!(wants_node_ports(&service), wants, "{kind} {allocate:?}");
    }
}

#[test]
fn columns_are_kubectls() {
    let text = |cells: Vec<Cell>| -> Vec<String> {
        let text = |cell| match cell {
            Cell::Text(text) => text,
            Cell::Number(number) => number.to_string(),
        };
        cells.into_iter().map(text).collect()
    };
    let row = |spec: Value| text(Services.cells(&created(spec), Timestamp::UNIX_EPOCH));
    assert_eq!(
        row(json!({"type": "NodePort", "clusterIP": "10.96.0.7", "selector": {"app": "web"},
                   "ports": [{"name": "a", "port": 80, "nodePort": 30008}, {"name": "b", "port": 443}]})),
        ["web", "NodePort", "10.96.0.7", "<none>", "80:30008/TCP,443/TCP", "<unknown>", "app=web"]
    );
    assert_eq!(
        row(json!({"type": "ExternalName", "externalName": "myservice.test.com"})),
        ["web", "ExternalName", "<none>", "myservice.test.com", "<none>", "<unknown>", "<none>"]
    );
    assert_eq!(row(json!({"type": "LoadBalancer", "ports": web_ports()}))[3], "<pending>");
    assert_eq!(
        row(json!({"ports": web_ports(), "externalIPs": ["172.30.1.44"]}))[3],
        "172.30.1.44"
    );
    let mut balanced = created(json!({"type": "LoadBalancer", "ports": web_ports()}));
    balanced.status = serde_json::from_value(
        json!({"loadBalancer": {"ingress": [{"ip": "10.9.0.2"}, {"hostname": "a.example"}]}}),
    )
    .expect("a status");
    assert_eq!(text(Services.cells(&balanced, Timestamp::UNIX_EPOCH))[3], "10.9.0.2,a.example");
}

#[test]
fn a_load_balancer_address_needs_a_load_balancer() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "10.9.0.2"}]}});
    let with_status = |kind: &str| {
        let old = created(json!({"type": kind, "ports": web_ports()}));
        let mut new = old.clone();
        new.status = serde_json::from_value(status.clone()).expect("a status");
        Services.prepare_status_update(&mut new, &old);
        let errors = Services.validate_status_update(&new, &old);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with_status("LoadBalancer"), [""; 0]);
    assert_eq!(
        with_status("ClusterIP"),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \
          'LoadBalancer'"]
    );
}

fn any_spec() -> impl Strategy_<Value = Value> {
    (
        prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        prop::sample::select(vec![Value::Null, json!("None"), json!("10.96.0.7")]),
        prop::collection::vec((1..100_i32, 0..3_i32), 0..3),
        any::<bool>(),
    )
        .prop_map(|(kind, address, ports, sticky)| {
            let ports: Vec<Value> = ports
                .into_iter()
                .enumerate()
                .map(|(i, (port, node))| {
                    json!({"name": format!("p{i}"), "port": port, "nodePort": node * 30_001})
                })
                .collect();
            json!({
                "type": kind, "clusterIP": address, "ports": ports, "externalName": "a.example",
                "sessionAffinity": if sticky { "ClientIP" } else { "None" },
            })
        })
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #[test]
    fn defaults_are_idempotent(spec in any_spec()) {
        let once = created(spec);
        let mut twice = once.clone();
        Strategy::default(&Services, &mut twice);
        prop_assert_eq!(spec_of(&once), spec_of(&twice));
    }

    #[test]
    fn writing_back_what_was_read_changes_nothing(spec in any_spec()) {
        let stored = created(spec);
        let again = updated(spec_of(&stored), &stored);
        prop_assert_eq!(spec_of(&stored), spec_of(&again));
        prop_assert_eq!(change_problems(&again, &stored), [""; 0]);
    }

    #[test]
    fn an_alias_holds_nothing(from in any_spec()) {
        let old = created(from);
        let mut spec = spec_of(&old);
        spec["type"] = json!("ExternalName");
        let alias = updated(spec, &old);
        prop_assert_eq!(held_cluster_ips(&alias).len() + held_node_ports(&alias).len(), 0);
        prop_assert_eq!(change_problems(&alias, &old), [""; 0]);
    }
}

#[test]
fn written_out_empties_are_left_out() {
    let bare = created(json!({"ports": web_ports()}));
    let verbose = created(json!({
        "type": "", "clusterIP": "", "clusterIPs": [], "externalName": "", "externalIPs": [],
        "loadBalancerIP": "", "sessionAffinity": "", "externalTrafficPolicy": "",
        "healthCheckNodePort": 0, "publishNotReadyAddresses": false, "ipFamilies": [],
        "ports": [{"name": "", "protocol": "", "port": 80, "targetPort": 0, "nodePort": 0}],
    }));
    assert_eq!(spec_of(&verbose), spec_of(&bare));
}

#[test]
fn fields_that_have_no_effect_are_warned_about() {
    let warnings = |spec: Value| Services.warnings(&created(spec));
    assert_eq!(warnings(json!({"ports": web_ports()})), [""; 0]);
    assert_eq!(
        warnings(json!({"clusterIP": "None", "sessionAffinity": "ClientIP"})),
        ["spec.SessionAffinity is ignored for headless services"]
    );
    assert_eq!(
        warnings(json!({"ports": web_ports(), "externalName": "a.example"})),
        [r#"spec.externalName is ignored when spec.type is not "ExternalName""#]
    );
    assert_eq!(
        warnings(json!({"ports": web_ports(), "trafficDistribution": "PreferClose"})),
        [r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#]
    );
    assert_eq!(
        warnings(json!({"clusterIP": "None", "externalIPs": ["172.30.1.44"]})),
        ["spec.externalIPs is ignored for headless services"]
    );
    let alias =
        json!({"type": "ExternalName", "externalName": "a.b", "externalIPs": ["172.30.1.44"]});
    assert_eq!(
        warnings(alias),
        [r#"spec.externalIPs is ignored when spec.type is "ExternalName""#]
    );
    let odd = json!({
        "type": "LoadBalancer", "ports": web_ports(), "externalIPs": ["fd00:0::1"],
        "loadBalancerIP": "FD00::2", "loadBalancerSourceRanges": ["fd00:0::/64"],
    });
    assert_eq!(
        warnings(odd),
        [
            r#"spec.externalIPs[0]: IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")"#,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            r#"spec.loadBalancerIP: IPv6 address "FD00::2" should be in RFC 5952 canonical format ("fd00::2")"#,
            r#"spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "fd00:0::/64" should be in RFC 5952 canonical format ("fd00::/64")"#,
        ]
    );
}
