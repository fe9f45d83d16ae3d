//! The quality of service that a pod's requests and limits add up to (upstream:
//! `pkg/apis/core/v1/helper/qos/qos.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::quantity::Quantity;

/// The resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` when every container has limits for CPU and memory and requests no less,
/// `BestEffort` when none has either, else `Burstable`.
#[must_use]
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers: Vec<&Container> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let requests: Vec<Amounts> = containers.iter().map(|c| amounts(c, |r| &r.requests)).collect();
    let limits: Vec<Amounts> = containers.iter().map(|c| amounts(c, |r| &r.limits)).collect();
    let nothing = requests.iter().chain(&limits).all(BTreeMap::is_empty);
    let bounded = limits.iter().all(|l| l.len() == COUNTED.len());
    match (nothing, bounded && requests == limits) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

type Amounts = BTreeMap<&'static str, Quantity>;
type List = Option<BTreeMap<String, Text>>;

/// The counted amounts of a container that are more than nothing.
fn amounts(
    container: &Container,
    which: impl Fn(&k8s_openapi::api::core::v1::ResourceRequirements) -> &List,
) -> Amounts {
    let list = container.resources.as_ref().and_then(|r| which(r).as_ref());
    let amount = |name: &'static str| {
        let quantity = Quantity::parse(&list?.get(name)?.0).ok()?;
        (!quantity.is_negative() && quantity.milli_value() > 0).then_some((name, quantity))
    };
    COUNTED.into_iter().filter_map(amount).collect()
}
