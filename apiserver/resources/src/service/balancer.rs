//! What a Service of type LoadBalancer asks of the cluster's own load balancer.
//!
//! The words are MetalLB's: a pool by annotation, addresses by annotation or `spec.loadBalancerIP`,
//! and a sharing key for Services that use one address.
//! Owns: which Services are ours to serve, how their wishes read, when two may share an address, and
//! the condition that says what became of it.
//! Deliberately not here: pools, and which address it is (the API server's transaction).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use super::{LOAD_BALANCER, ports, type_of};
use crate::addresses::validate_ip;
use crate::families::Family;
use crate::field::{FieldErrors, Path};

/// `spec.loadBalancerClass` of Services that want the cluster's own load balancer; none means the same.
pub const CLASS: &str = "minictl.io/l2";
/// Annotation: the AddressPool to take addresses from.
pub const POOL: &str = "minictl.io/address-pool";
/// Annotation: the addresses to have, separated by commas, at most one of each family.
pub const ADDRESSES: &str = "minictl.io/load-balancer-ips";
/// Annotation: Services with the same value may have one address together.
pub const SHARING: &str = "minictl.io/allow-shared-ip";

/// The type of the condition that says where a Service's addresses come from, or why it has none.
pub const CONDITION: &str = "minictl.io/AddressAssigned";
/// Reason of a true condition: the addresses are of an AddressPool.
pub const FROM_POOL: &str = "FromPool";
/// Reason of a true condition: there is no pool, and the addresses are those of the nodes.
pub const NODE_ADDRESSES: &str = "NodeAddresses";

/// What a Service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The families that it is to have an address of.
    pub families: Vec<Family>,
    /// Whether it goes without any address rather than with fewer.
    pub all_families: bool,
    /// The pool that it names.
    pub pool: Option<String>,
    /// The addresses that it names.
    pub addresses: Vec<IpAddr>,
    /// How it would use an address.
    pub tenancy: Tenancy,
}

/// How a Service uses an address, as far as others who use it are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    /// Its sharing key, if it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its ports: `TCP/80`.
    pub ports: BTreeSet<String>,
    /// Under traffic policy Local, its selector: the node that announces an address must have
    /// backends of all that share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
}

impl Tenancy {
    /// Why this Service and `other`, called `name`, cannot have one address; `None` if they can
    /// (MetalLB: `sharingOK`).
    #[must_use]
    pub fn objection(&self, other: &Self, name: &str) -> Option<String> {
        if self.key.is_none() || other.key.is_none() || self.key != other.key {
            return Some(format!(
                "held by the Service {name}; to share it, both need the same value of the \
                 annotation {SHARING}"
            ));
        }
        if let Some(port) = self.ports.intersection(&other.ports).next() {
            return Some(format!("shared with the Service {name}, which has port {port} of it"));
        }
        if self.local != other.local {
            return Some(format!(
                "shared with the Service {name}; Services of one address have \
                 externalTrafficPolicy Cluster, or all of them Local and the same selector"
            ));
        }
        None
    }
}

/// Whether the cluster's own load balancer serves it.
#[must_use]
pub fn is_ours(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|s| s.load_balancer_class.as_deref());
    type_of(service) == LOAD_BALANCER
        && matches!(class, None | Some(CLASS))
        && service.metadata.deletion_timestamp.is_none()
}

/// What the Service asks for; what cannot be read is left out, validation names it.
#[must_use]
pub fn wish(service: &Service) -> Wish {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.as_deref()).unwrap_or_default();
    let policy = spec.and_then(|s| s.ip_family_policy.as_deref());
    Wish {
        families: families.iter().filter_map(|family| Family::parse(family)).collect(),
        all_families: policy == Some("RequireDualStack"),
        pool: annotation(service, POOL).map(str::to_owned),
        addresses: asked(service).1.iter().filter_map(|text| text.parse().ok()).collect(),
        tenancy: tenancy(service),
    }
}

fn tenancy(service: &Service) -> Tenancy {
    let spec = service.spec.as_ref();
    let port = |protocol: Option<&str>, port: i32| format!("{}/{port}", protocol.unwrap_or("TCP"));
    let is_local = spec.and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local");
    let selector = spec.and_then(|s| s.selector.as_ref());
    Tenancy {
        key: annotation(service, SHARING).map(str::to_owned),
        ports: ports(service).iter().map(|p| port(p.protocol.as_deref(), p.port)).collect(),
        local: is_local.then(|| {
            let pairs = selector.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join(",")
        }),
    }
}

/// The value of an annotation that says something.
fn annotation<'s>(service: &'s Service, name: &str) -> Option<&'s str> {
    let value = service.metadata.annotations.as_ref()?.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

/// The addresses that it names, as they are written, and where.
fn asked(service: &Service) -> (Path, Vec<&str>) {
    if let Some(list) = annotation(service, ADDRESSES) {
        let path = Path::new("metadata").child("annotations").key(ADDRESSES);
        return (path, list.split(',').map(str::trim).collect());
    }
    let one = service.spec.as_ref().and_then(|s| s.load_balancer_ip.as_deref());
    let path = Path::new("spec").child("loadBalancerIP");
    (path, one.filter(|text| !text.is_empty()).into_iter().collect())
}

/// Problems of the wish that another state of the cluster would not mend.
pub(super) fn validate(service: &Service) -> FieldErrors {
    if !is_ours(service) {
        return Vec::new();
    }
    let (path, texts) = asked(service);
    let mut errors = FieldErrors::new();
    let mut families = BTreeSet::new();
    let wanted = wish(service).families;
    for text in texts {
        let malformed = validate_ip(&path, text);
        let family = text.parse::<IpAddr>().ok().map(Family::from);
        if let Some(family) = family.filter(|_| malformed.is_empty()) {
            if !families.insert(family) {
                errors.push(path.invalid(text, format!("is the second {family} address")));
            } else if !wanted.contains(&family) {
                let detail = format!("the Service has no {family} address: see spec.ipFamilies");
                errors.push(path.invalid(text, detail));
            }
        }
        errors.extend(malformed);
    }
    errors
}

/// The addresses that the Service is served at from outside, by its status.
#[must_use]
pub fn served_at(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten());
    entries.filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect()
}

/// A status with these addresses.
#[must_use]
pub fn status(addresses: &[IpAddr]) -> LoadBalancerStatus {
    let entry = |address: &IpAddr| LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    let ingress: Vec<_> = addresses.iter().map(entry).collect();
    LoadBalancerStatus { ingress: (!ingress.is_empty()).then_some(ingress) }
}

/// The condition about the Service's addresses.
#[must_use]
pub fn condition(service: &Service) -> Option<&Condition> {
    let conditions = service.status.as_ref().and_then(|s| s.conditions.as_deref());
    conditions.unwrap_or_default().iter().find(|c| c.type_ == CONDITION)
}

/// Whether a pool's addresses serve the Service.
#[must_use]
pub fn is_from_pool(service: &Service) -> bool {
    condition(service).is_some_and(|c| c.reason == FROM_POOL)
}

/// Sets the condition about the Service's addresses, or takes it away; its time changes only with
/// its status.
pub fn set_condition(service: &mut Service, new: Option<(bool, &str, String)>, now: Time) {
    let old = condition(service).cloned();
    let status = service.status.get_or_insert_default();
    let mut all = status.conditions.take().unwrap_or_default();
    all.retain(|c| c.type_ != CONDITION);
    if let Some((holds, reason, message)) = new {
        let holds = if holds { "True" } else { "False" };
        let since = old.filter(|c| c.status == holds).map(|c| c.last_transition_time);
        all.push(Condition {
            last_transition_time: since.unwrap_or(now),
            message,
            observed_generation: None,
            reason: reason.to_owned(),
            status: holds.to_owned(),
            type_: CONDITION.to_owned(),
        });
    }
    all.sort_by(|a, b| a.type_.cmp(&b.type_));
    status.conditions = (!all.is_empty()).then_some(all);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value, annotations: Value) -> Service {
        let mut spec = spec;
        if spec["type"].is_null() {
            spec["type"] = json!("LoadBalancer");
        }
        let object = json!({ "metadata": { "annotations": annotations }, "spec": spec });
        serde_json::from_value(object).expect("a Service")
    }

    #[test]
    fn a_class_of_somebody_else_is_not_ours() {
        let is_ours = |spec| is_ours(&service(spec, json!({})));
        assert!(is_ours(json!({})));
        assert!(is_ours(json!({ "loadBalancerClass": CLASS })));
        assert!(!is_ours(json!({ "loadBalancerClass": "example.com/other" })));
        assert!(!is_ours(json!({ "type": "NodePort" })));
    }

    #[test]
    fn a_wish_reads_its_words() {
        let wished = wish(&service(
            json!({
                "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack",
                "loadBalancerIP": "10.0.0.9", "externalTrafficPolicy": "Local",
                "selector": { "b": "2", "a": "1" },
                "ports": [{ "port": 80 }, { "port": 53, "protocol": "UDP" }],
            }),
            json!({ POOL: "gold", ADDRESSES: " 10.0.0.1, fd00::1 ", SHARING: "k" }),
        ));
        assert_eq!(wished.families, [Family::V6, Family::V4]);
        assert!(wished.all_families);
        assert_eq!(wished.pool.as_deref(), Some("gold"));
        assert_eq!(wished.addresses.len(), 2, "the annotation goes before the old field");
        assert_eq!(wished.tenancy.key.as_deref(), Some("k"));
        assert_eq!(wished.tenancy.local.as_deref(), Some("a=1,b=2"));
        let ports: Vec<&str> = wished.tenancy.ports.iter().map(String::as_str).collect();
        assert_eq!(ports, ["TCP/80", "UDP/53"]);
    }

    #[test]
    fn what_is_asked_for_in_vain_is_refused() {
        let problems = |spec: Value, annotations: Value| -> Vec<String> {
            validate(&service(spec, annotations)).iter().map(ToString::to_string).collect()
        };
        let v4 = || json!({ "ipFamilies": ["IPv4"] });
        let asked = |list: &str| problems(v4(), json!({ ADDRESSES: list }));
        let place = "metadata.annotations[minictl.io/load-balancer-ips]: Invalid value";
        assert_eq!(asked("10.0.0.1"), [""; 0]);
        assert_eq!(asked(""), [""; 0]);
        assert_eq!(
            asked("10.0.0.1,10.0.0.2"),
            [format!("{place}: \"10.0.0.2\": is the second IPv4 address")]
        );
        assert_eq!(
            asked("fd00::1"),
            [format!("{place}: \"fd00::1\": the Service has no IPv6 address: see spec.ipFamilies")]
        );
        assert_eq!(asked("web").len(), 1);
        let old = json!({ "ipFamilies": ["IPv4"], "loadBalancerIP": "x" });
        assert_eq!(problems(old, json!({})).len(), 1);
        let other = json!({ "loadBalancerClass": "a.io/b", "loadBalancerIP": "x" });
        assert_eq!(problems(other, json!({})), [""; 0], "another's class has other rules");
    }

    #[test]
    fn sharing_needs_a_key_other_ports_and_one_policy() {
        let of = |key: Option<&str>, port: &str, local: Option<&str>| Tenancy {
            key: key.map(str::to_owned),
            ports: [port.to_owned()].into(),
            local: local.map(str::to_owned),
        };
        let shared = of(Some("k"), "TCP/80", None);
        let says = |other: Tenancy| shared.objection(&other, "d/a").unwrap_or_default();
        assert_eq!(says(of(Some("k"), "TCP/443", None)), "");
        assert_eq!(says(of(Some("k"), "UDP/80", None)), "");
        assert!(says(of(None, "TCP/443", None)).starts_with("held by the Service d/a; to share"));
        assert!(says(of(Some("l"), "TCP/443", None)).contains("the same value"));
        assert!(says(of(Some("k"), "TCP/80", None)).ends_with("which has port TCP/80 of it"));
        assert!(says(of(Some("k"), "TCP/443", Some("a=b"))).contains("externalTrafficPolicy"));
        let local = of(Some("k"), "TCP/80", Some("a=b"));
        assert_eq!(local.objection(&of(Some("k"), "TCP/81", Some("a=b")), "x"), None);
        assert!(local.objection(&of(Some("k"), "TCP/81", Some("a=c")), "x").is_some());
        let alone = of(None, "TCP/80", None);
        assert!(alone.objection(&of(None, "TCP/81", None), "x").is_some());
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let time = |second: i64| Time(jiff::Timestamp::from_second(second).expect("a time"));
        let mut service = service(json!({}), json!({}));
        let at = |s: &Service| condition(s).map(|c| c.last_transition_time.0.as_second());
        set_condition(&mut service, Some((false, "PoolExhausted", "full".into())), time(1));
        set_condition(&mut service, Some((false, "NoPool", "none".into())), time(2));
        assert_eq!(at(&service), Some(1));
        set_condition(&mut service, Some((true, FROM_POOL, "default".into())), time(3));
        assert_eq!(at(&service), Some(3));
        assert!(is_from_pool(&service));
        set_condition(&mut service, None, time(4));
        assert_eq!(service.status.expect("a status").conditions, None);
    }
}
