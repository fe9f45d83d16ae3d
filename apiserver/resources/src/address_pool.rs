//! AddressPools: the addresses that Services of type LoadBalancer get. A resource of our own,
//! `minictl.io/v1`; its words are those of MetalLB's `IPAddressPool`.
//!
//! Owns: the kind, its strategy, and which Services a pool is for.
//! Deliberately not here: which address a Service gets, and what of a pool is taken (the API
//! server's transaction); overlaps with what else the cluster has (admission, which sees it).

mod range;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::addresses::validate_backend_ip;
use crate::columns::{self, Cell, Column};
use crate::equality::same;
use crate::families::Family;
use crate::field::{FieldErrors, Path};
use crate::labels::{self, Labels};
use crate::strategy::Strategy;

pub use range::{AddressRange, RangeError};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Addresses"),
    Column::integer("Assigned"),
    Column::integer("Available"),
    Column::wide("Auto-Assign"),
    Column::AGE,
];

/// Addresses for Services of type LoadBalancer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct AddressPool {
    /// The usual metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it has, and for whom.
    #[serde(default)]
    pub spec: Option<AddressPoolSpec>,
    /// What of it is taken.
    #[serde(default)]
    pub status: Option<AddressPoolStatus>,
}

/// What a pool has, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// Ranges: `192.168.56.200-192.168.56.249` or `fd00::/120`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether Services get its addresses that do not name the pool; `true` if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Which Services may have its addresses; all if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// The namespaces of which Services may have its addresses; all if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What of a pool is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPoolStatus {
    /// How many addresses Services have, one that several share counted once.
    #[serde(default)]
    pub assigned: i64,
    /// How many are left.
    #[serde(default)]
    pub available: i64,
}

impl k8s_openapi::Resource for AddressPool {
    const API_VERSION: &'static str = "minictl.io/v1";
    const GROUP: &'static str = "minictl.io";
    const KIND: &'static str = "AddressPool";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "addresspools";
    type Scope = ClusterResourceScope;
}

impl k8s_openapi::Metadata for AddressPool {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Serialize for AddressPool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use k8s_openapi::Resource as _;
        let mut object = serializer.serialize_struct(Self::KIND, 5)?;
        object.serialize_field("apiVersion", Self::API_VERSION)?;
        object.serialize_field("kind", Self::KIND)?;
        object.serialize_field("metadata", &self.metadata)?;
        match &self.spec {
            Some(spec) => object.serialize_field("spec", spec)?,
            None => object.skip_field("spec")?,
        }
        match &self.status {
            Some(status) => object.serialize_field("status", status)?,
            None => object.skip_field("status")?,
        }
        object.end()
    }
}

impl AddressPool {
    /// Its ranges; what is none is left out.
    #[must_use]
    pub fn ranges(&self) -> Vec<AddressRange> {
        let texts = self.spec.iter().flat_map(|spec| &spec.addresses);
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// Whether it has the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges().into_iter().any(|range| range.contains(address))
    }

    /// Whether it has addresses of the family.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.ranges().into_iter().any(|range| range.family() == family)
    }

    /// Whether Services get its addresses that do not name it.
    #[must_use]
    pub fn assigns_by_itself(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.auto_assign).unwrap_or(true)
    }

    /// Whether a Service with these labels, in a namespace with those, may have its addresses.
    #[must_use]
    pub fn is_for(&self, service: &Labels, namespace: &Labels) -> bool {
        let spec = self.spec.as_ref();
        let selected = |selector: Option<&LabelSelector>, labels: &Labels| {
            selector.is_none_or(|selector| labels::matches(selector, labels))
        };
        selected(spec.and_then(|s| s.service_selector.as_ref()), service)
            && selected(spec.and_then(|s| s.namespace_selector.as_ref()), namespace)
    }

    /// What its status should say when so many of its addresses are taken.
    #[must_use]
    pub fn counted(&self, assigned: usize) -> AddressPoolStatus {
        let size = self.ranges().into_iter().map(AddressRange::size).fold(0, u128::saturating_add);
        let taken = u128::try_from(assigned).unwrap_or(u128::MAX);
        AddressPoolStatus {
            assigned: i64::try_from(assigned).unwrap_or(i64::MAX),
            available: i64::try_from(size.saturating_sub(taken)).unwrap_or(i64::MAX),
        }
    }
}

/// Where each of a pool's ranges stands, for messages.
#[must_use]
pub fn range_path(index: usize) -> Path {
    Path::new("spec").child("addresses").index(index)
}

/// The behaviour of AddressPools.
pub(crate) struct AddressPools;

impl Strategy for AddressPools {
    type Object = AddressPool;

    fn default(&self, pool: &mut AddressPool) {
        pool.spec.get_or_insert_default().auto_assign.get_or_insert(true);
    }

    fn prepare_create(&self, pool: &mut AddressPool) {
        pool.status = Some(pool.counted(0));
        pool.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut AddressPool, old: &AddressPool) {
        new.status.clone_from(&old.status);
        if !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut AddressPool, old: &AddressPool) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, pool: &AddressPool) -> FieldErrors {
        let spec = pool.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        let mut errors = validate_addresses(&spec.addresses, &path.child("addresses"));
        for (field, selector) in [
            ("serviceSelector", &spec.service_selector),
            ("namespaceSelector", &spec.namespace_selector),
        ] {
            if let Some(selector) = selector {
                errors.extend(labels::validate_selector(&path.child(field), selector));
            }
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, pool: &AddressPool, now: Timestamp) -> Vec<Cell> {
        let metadata = &pool.metadata;
        let status = pool.status.clone().unwrap_or_default();
        let addresses = pool.spec.as_ref().map(|spec| spec.addresses.join(","));
        vec![
            columns::name(metadata),
            addresses.unwrap_or_default().into(),
            status.assigned.into(),
            status.available.into(),
            pool.assigns_by_itself().to_string().into(),
            columns::age(metadata, now),
        ]
    }
}

fn validate_addresses(addresses: &[String], path: &Path) -> FieldErrors {
    if addresses.is_empty() {
        return vec![path.required("at least one range of addresses is required")];
    }
    let mut errors = FieldErrors::new();
    let mut before: Vec<(usize, AddressRange)> = Vec::new();
    for (i, text) in addresses.iter().enumerate() {
        let path = path.index(i);
        let range: AddressRange = match text.parse() {
            Ok(range) => range,
            Err(error) => {
                errors.push(path.invalid(text, RangeError::to_string(&error)));
                continue;
            }
        };
        // Addresses that no host on a network can have, at either end.
        let mut ends = vec![range.first(), range.last()];
        ends.dedup();
        for end in ends {
            let problems = validate_backend_ip(&path, &end.to_string());
            let problems = problems.into_iter().map(|error| error.detail).collect();
            errors.extend(path.invalid_for_each(text, problems));
        }
        if let Some((other, _)) = before.iter().find(|(_, earlier)| earlier.overlaps(range)) {
            let detail = format!("overlaps with spec.addresses[{other}]");
            errors.push(path.invalid(text, detail));
        }
        before.push((i, range));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pool(spec: Value) -> AddressPool {
        let object = json!({ "metadata": { "name": "p" }, "spec": spec });
        let mut pool = serde_json::from_value(object).expect("an AddressPool");
        Strategy::default(&AddressPools, &mut pool);
        pool
    }

    fn problems(spec: Value) -> Vec<String> {
        AddressPools.validate(&pool(spec)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_are_good_and_apart() {
        let ok = json!({ "addresses": ["192.168.56.200-192.168.56.249", "fd00::/120"] });
        assert_eq!(problems(ok), [""; 0]);
        assert_eq!(
            problems(json!({})),
            ["spec.addresses: Required value: at least one range of addresses is required"]
        );
        assert_eq!(
            problems(json!({ "addresses": [
                "192.168.56.9-192.168.56.1", "127.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16",
            ] })),
            [
                r#"spec.addresses[0]: Invalid value: "192.168.56.9-192.168.56.1": the last address must not stand before the first one"#,
                r#"spec.addresses[1]: Invalid value: "127.0.0.0/8": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                r#"spec.addresses[1]: Invalid value: "127.0.0.0/8": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                r#"spec.addresses[3]: Invalid value: "10.1.0.0/16": overlaps with spec.addresses[2]"#,
            ]
        );
    }

    #[test]
    fn selectors_say_whom_it_is_for() {
        let labels = |value: Value| -> Labels { serde_json::from_value(value).expect("labels") };
        let web = labels(json!({ "app": "web" }));
        let prod = labels(json!({ "env": "prod" }));
        let none = Labels::new();
        assert!(pool(json!({})).is_for(&none, &none));
        let of_web = pool(json!({ "serviceSelector": { "matchLabels": { "app": "web" } } }));
        assert!(of_web.is_for(&web, &none));
        assert!(!of_web.is_for(&none, &none));
        let both = pool(json!({
            "serviceSelector": { "matchLabels": { "app": "web" } },
            "namespaceSelector": { "matchLabels": { "env": "prod" } },
        }));
        assert!(both.is_for(&web, &prod));
        assert!(!both.is_for(&web, &none));
    }

    #[test]
    fn counts_do_not_run_over() {
        let of = |addresses: Value| pool(json!({ "addresses": addresses }));
        let small = of(json!(["10.0.0.0/30", "fd00::1-fd00::2"]));
        assert_eq!(small.counted(2), AddressPoolStatus { assigned: 2, available: 4 });
        assert_eq!(small.counted(9).available, 0, "it was made smaller");
        assert_eq!(of(json!(["fd00::/16"])).counted(1).available, i64::MAX);
    }
}
