//! Families of Services in clusters of one and of two: what is filled in, and what is refused.

use k8s_openapi::api::core::v1::Service;
use proptest::prelude::{Strategy as _, any, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};

use crate::families::Family;
use crate::service::{Services, settle_families};
use crate::strategy::Strategy;

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const DUAL: &[Family] = &[Family::V4, Family::V6];
const SIX_FIRST: &[Family] = &[Family::V6, Family::V4];

fn service(mut spec: Value) -> Service {
    if spec.get("selector").is_none() {
        spec["selector"] = json!({ "app": "web" });
    }
    spec["ports"] = json!([{ "port": 80 }]);
    let object = json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": spec });
    serde_json::from_value(object).expect("a Service")
}

/// Addresses, families and policy after a write, or the errors.
fn outcome(service: &mut Service, old: Option<&Service>, cluster: &[Family]) -> Value {
    Strategy::default(&Services, service);
    match old {
        None => Services.prepare_create(service),
        Some(old) => Services.prepare_update(service, old),
    }
    let mut errors = settle_families(service, old, cluster).err().unwrap_or_default();
    if errors.is_empty() {
        errors.extend(Services.validate(service));
        errors.extend(old.into_iter().flat_map(|old| Services.validate_update(service, old)));
    }
    if !errors.is_empty() {
        return json!(errors.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    let spec = service.spec.clone().expect("a spec");
    json!([spec.ip_family_policy, spec.ip_families, spec.cluster_ips])
}

#[test]
fn a_new_service_gets_what_it_asks_for_and_the_first_family_if_it_does_not() {
    let cases = [
        (V4, json!({}), json!(["SingleStack", ["IPv4"], null])),
        (DUAL, json!({}), json!(["SingleStack", ["IPv4"], null])),
        (SIX_FIRST, json!({}), json!(["SingleStack", ["IPv6"], null])),
        (
            V4,
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!(["PreferDualStack", ["IPv4"], null]),
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!(["PreferDualStack", ["IPv4", "IPv6"], null]),
        ),
        (
            SIX_FIRST,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!(["RequireDualStack", ["IPv6", "IPv4"], null]),
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
            json!(["RequireDualStack", ["IPv6", "IPv4"], null]),
        ),
        (DUAL, json!({"ipFamilies": ["IPv6"]}), json!(["SingleStack", ["IPv6"], null])),
        (
            DUAL,
            json!({"clusterIP": "fd00:10:96::9"}),
            json!(["SingleStack", ["IPv6"], ["fd00:10:96::9"]]),
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00:10:96::9"}),
            json!(["PreferDualStack", ["IPv6", "IPv4"], ["fd00:10:96::9"]]),
        ),
        (
            DUAL,
            json!({
                "ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
            }),
            json!(["RequireDualStack", ["IPv4", "IPv6"], ["10.96.0.9", "fd00:10:96::9"]]),
        ),
        (DUAL, json!({"clusterIP": "None"}), json!(["SingleStack", ["IPv4"], ["None"]])),
        (
            DUAL,
            json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
            json!(["PreferDualStack", ["IPv4", "IPv6"], ["None"]]),
        ),
        // Endpoints by hand: of any family, whatever the cluster has.
        (
            V6,
            json!({"clusterIP": "None", "selector": {}}),
            json!(["RequireDualStack", ["IPv6", "IPv4"], ["None"]]),
        ),
        (
            V4,
            json!({"clusterIP": "None", "selector": {}, "ipFamilies": ["IPv6"],
                   "ipFamilyPolicy": "SingleStack"}),
            json!(["SingleStack", ["IPv6"], ["None"]]),
        ),
        (DUAL, json!({"type": "ExternalName", "externalName": "a.b"}), json!([null, null, null])),
    ];
    for (cluster, spec, expected) in cases {
        let found = outcome(&mut service(spec.clone()), None, cluster);
        assert_eq!(found, expected, "{spec} in a cluster of {cluster:?}");
    }
}

#[test]
fn what_a_cluster_has_not_and_contradictions_are_refused_in_upstreams_words() {
    let cases = [
        (
            V4,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
        ),
        (
            V4,
            json!({"ipFamilies": ["IPv6"]}),
            r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
        ),
        (
            V4,
            json!({"clusterIP": "fd00::1"}),
            r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#,
        ),
        (
            DUAL,
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"#,
        ),
        (
            DUAL,
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"]}),
            r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"#,
        ),
        (
            DUAL,
            json!({"ipFamilies": ["IPv5"]}),
            r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#,
        ),
        (
            DUAL,
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#,
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": "Both"}),
            r#"spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#,
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.96.0.9",
                   "clusterIPs": ["10.96.0.9", "10.96.0.8"]}),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8"]: may specify no more than one IP for each IP family"#,
        ),
        (
            DUAL,
            json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}),
            r#"spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
        ),
        (
            DUAL,
            json!({"clusterIPs": ["10.96.0.9"]}),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified"#,
        ),
        (
            DUAL,
            json!({"type": "ExternalName", "externalName": "a.b", "ipFamilyPolicy": "SingleStack"}),
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
        ),
    ];
    for (cluster, spec, expected) in cases {
        let found = outcome(&mut service(spec.clone()), None, cluster);
        assert_eq!(found, json!([expected]), "{spec} in a cluster of {cluster:?}");
    }
}

/// A stored Service of this many addresses.
fn stored(policy: &str, addresses: &[&str]) -> Service {
    let spec = json!({
        "ipFamilyPolicy": policy, "clusterIP": addresses.first(), "clusterIPs": addresses,
    });
    let mut service = service(spec);
    outcome(&mut service, None, if addresses.len() == 2 { DUAL } else { V4 });
    service
}

const A4: &str = "10.96.0.9";
const A6: &str = "fd00:10:96::9";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_service_grows_and_shrinks_only_when_it_says_so() {
    let both = json!([A4, A6]);
    let single = stored("SingleStack", &[A4]);
    let preferring = stored("PreferDualStack", &[A4]);
    let dual = stored("PreferDualStack", &[A4, A6]);
    let required = stored("RequireDualStack", &[A4, A6]);
    let cases = [
        // Manifests put back as they are.
        (&single, json!({}), json!(["SingleStack", ["IPv4"], [A4]])),
        (&dual, json!({}), json!(["PreferDualStack", ["IPv4", "IPv6"], both])),
        (&required, json!({}), json!(["RequireDualStack", ["IPv4", "IPv6"], both])),
        // A cluster that became dual stack changes no Service: not one read and written back.
        (
            &preferring,
            json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"],
                   "clusterIP": A4, "clusterIPs": [A4]}),
            json!(["PreferDualStack", ["IPv4"], [A4]]),
        ),
        // Growing: the second address is still to be drawn.
        (
            &single,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!(["RequireDualStack", ["IPv4", "IPv6"], [A4]]),
        ),
        (
            &preferring,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!(["RequireDualStack", ["IPv4", "IPv6"], [A4]]),
        ),
        (
            &single,
            json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": A4, "clusterIPs": [A4, A6]}),
            json!(["PreferDualStack", ["IPv4", "IPv6"], both]),
        ),
        // Shrinking: the policy alone is enough.
        (&dual, json!({"ipFamilyPolicy": "SingleStack"}), json!(["SingleStack", ["IPv4"], [A4]])),
        (
            &required,
            json!({"ipFamilyPolicy": "SingleStack", "clusterIP": A4, "clusterIPs": [A4],
                   "ipFamilies": ["IPv4"]}),
            json!(["SingleStack", ["IPv4"], [A4]]),
        ),
        // Between the two policies for two nothing moves.
        (
            &dual,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!(["RequireDualStack", ["IPv4", "IPv6"], both]),
        ),
        (
            &required,
            json!({"clusterIP": A4, "clusterIPs": [A4]}),
            json!([
                r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP"#
            ]),
        ),
        (
            &required,
            json!({"ipFamilies": ["IPv4"]}),
            json!([
                r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family"#
            ]),
        ),
        (
            &dual,
            json!({"clusterIP": A6, "clusterIPs": [A6, A4], "ipFamilies": ["IPv6", "IPv4"]}),
            json!([
                r#"spec.clusterIPs[0]: Invalid value: ["fd00:10:96::9","10.96.0.9"]: may not change once set"#,
                r#"spec.clusterIPs[1]: Invalid value: ["fd00:10:96::9","10.96.0.9"]: may not change once set"#,
                r#"spec.ipFamilies[0]: Invalid value: ["IPv6","IPv4"]: may not change once set"#,
                r#"spec.ipFamilies[0]: Invalid value: ["IPv6","IPv4"]: may not change once set"#,
            ]),
        ),
        (
            &single,
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}),
            json!([
                r#"spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`"#
            ]),
        ),
    ];
    for (old, spec, expected) in cases {
        let found = outcome(&mut service(spec.clone()), Some(old), DUAL);
        let before = &old.spec.as_ref().expect("a spec").cluster_ips;
        assert_eq!(found, expected, "{spec} onto {before:?}");
    }
}

#[test]
fn a_headless_service_may_change_its_families() {
    let mut old = service(json!({"clusterIP": "None"}));
    outcome(&mut old, None, DUAL);
    let spec =
        json!({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"});
    let found = outcome(&mut service(spec), Some(&old), DUAL);
    assert_eq!(found, json!(["SingleStack", ["IPv6"], ["None"]]));
}

fn any_spec() -> impl proptest::strategy::Strategy<Value = Value> {
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack", ""];
    let families: [&[&str]; 5] = [&[], &["IPv4"], &["IPv6"], &["IPv4", "IPv6"], &["IPv6", "IPv4"]];
    let addresses: [&[&str]; 6] = [&[], &["None"], &[A4], &[A6], &[A4, A6], &[A6, A4]];
    (
        prop::sample::select(policies.to_vec()),
        prop::sample::select(families.to_vec()),
        prop::sample::select(addresses.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(policy, families, addresses, selects)| {
            let mut spec = json!({ "ipFamilies": families, "clusterIPs": addresses });
            spec["clusterIP"] = json!(addresses.first());
            spec["selector"] = if selects { json!({ "app": "web" }) } else { json!({}) };
            if !policy.is_empty() {
                spec["ipFamilyPolicy"] = json!(policy);
            }
            spec
        })
}

/// Gives the addresses that an allocator would have drawn.
fn allocated(mut service: Service) -> Service {
    if !crate::service::is_headless(&service) {
        let spec = service.spec.as_mut().expect("a spec");
        let families = spec.ip_families.iter().flatten();
        let drawn: Vec<String> =
            families.map(|f| if f == "IPv4" { A4 } else { A6 }.to_owned()).collect();
        spec.cluster_ip = drawn.first().cloned();
        spec.cluster_ips = Some(drawn);
    }
    service
}

fn accepted(outcome: &Value) -> bool {
    outcome[0].as_str().is_some_and(|policy| policy.ends_with("Stack"))
}

fn count(service: &Service) -> usize {
    service.spec.as_ref().map_or(0, |spec| spec.ip_families.iter().flatten().count())
}

proptest! {
    /// What is stored is stable: written back it stays as it is, and its manifest, put once more,
    /// adds and removes nothing.
    #[test]
    fn a_service_that_is_written_back_keeps_its_families(spec in any_spec(), cluster in 0..4_usize) {
        let cluster = [V4, V6, DUAL, SIX_FIRST][cluster];
        let mut new = service(spec.clone());
        if !accepted(&outcome(&mut new, None, cluster)) {
            // Refused: nothing is stored.
            return Ok(());
        }
        let stored = allocated(new);
        let mut again = stored.clone();
        let after = outcome(&mut again, Some(&stored), cluster);
        prop_assert_eq!(&again.spec, &stored.spec, "{} in {:?}: {}", spec, cluster, after);
        let mut manifest = service(spec.clone());
        // One address of two in a manifest may be refused: that is how one would give up the other.
        if accepted(&outcome(&mut manifest, Some(&stored), cluster)) {
            prop_assert_eq!(count(&manifest), count(&stored), "{} in {:?}", spec, cluster);
        }
    }
}
