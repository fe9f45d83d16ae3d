//! Ingresses: which host and path lead to which Service. Validation stands in `ingress/validate.rs`.
//!
//! Upstream: `pkg/registry/networking/ingress/strategy.go`, `pkg/apis/networking/validation`,
//! `printIngress`.
//! Deliberately not here: the default class (admission, which sees the classes), the routing itself.

mod validate;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressRule, IngressStatus};

use crate::columns::{self, Cell, Column};
use crate::equality::same;
use crate::field::FieldErrors;
use crate::strategy::Strategy;

/// The annotation that named the class before there was a field.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Class"),
    Column::text("Hosts"),
    Column::text("Address"),
    Column::text("Ports"),
    Column::AGE,
];

/// The behaviour of Ingresses.
pub(crate) struct Ingresses;

impl Strategy for Ingresses {
    type Object = Ingress;

    fn default(&self, ingress: &mut Ingress) {
        let rules = ingress.spec.iter_mut().flat_map(|spec| spec.rules.iter_mut().flatten());
        for rule in rules {
            crate::omit::empty_texts([&mut rule.host]);
        }
    }

    fn prepare_create(&self, ingress: &mut Ingress) {
        ingress.status = Some(IngressStatus { load_balancer: Some(Default::default()) });
        ingress.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut Ingress, old: &Ingress) {
        new.status.clone_from(&old.status);
        if !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut Ingress, old: &Ingress) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, ingress: &Ingress) -> FieldErrors {
        validate::ingress(ingress)
    }

    fn validate_create(&self, ingress: &Ingress) -> FieldErrors {
        validate::two_classes(ingress)
    }

    fn validate_status_update(&self, new: &Ingress, _old: &Ingress) -> FieldErrors {
        validate::status(new)
    }

    fn warnings(&self, ingress: &Ingress) -> Vec<String> {
        let annotated = class_annotation(ingress).is_some();
        let text = || {
            format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use \
                 'spec.ingressClassName' instead"
            )
        };
        (annotated && class(ingress).is_none()).then(text).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, ingress: &Ingress, now: Timestamp) -> Vec<Cell> {
        let metadata = &ingress.metadata;
        let spec = ingress.spec.as_ref();
        let encrypted = spec.and_then(|s| s.tls.as_ref()).is_some_and(|tls| !tls.is_empty());
        vec![
            columns::name(metadata),
            columns::or_none(class(ingress)).into(),
            hosts(spec.and_then(|s| s.rules.as_deref()).unwrap_or_default()).into(),
            addresses(ingress).into(),
            if encrypted { "80, 443" } else { "80" }.into(),
            columns::age(metadata, now),
        ]
    }
}

/// The class that the Ingress names in its field.
#[must_use]
pub fn class(ingress: &Ingress) -> Option<&str> {
    ingress.spec.as_ref()?.ingress_class_name.as_deref()
}

/// The class that the Ingress names in the old annotation.
#[must_use]
pub fn class_annotation(ingress: &Ingress) -> Option<&str> {
    ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).map(String::as_str)
}

/// The HOSTS cell: three hosts and the number of the others (upstream: `formatHosts`).
fn hosts(rules: &[IngressRule]) -> String {
    const SHOWN: usize = 3;
    let named: Vec<&str> =
        rules.iter().filter_map(|r| r.host.as_deref()).filter(|h| !h.is_empty()).collect();
    let shown = &named[..named.len().min(SHOWN)];
    // Upstream counts the rules from here on, and not the hosts.
    let third = rules.iter().enumerate().filter(|(_, r)| r.host.iter().any(|h| !h.is_empty()));
    let more = third.skip(SHOWN - 1).map(|(i, _)| i + 1 < rules.len()).next().unwrap_or(false);
    match shown.join(",") {
        all if all.is_empty() => "*".to_owned(),
        first if more => format!("{first} + {} more...", rules.len() - SHOWN),
        all => all,
    }
}

/// The ADDRESS cell: each address or name once, sorted.
fn addresses(ingress: &Ingress) -> String {
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten());
    let named = entries.filter_map(|entry| {
        let ip = entry.ip.as_deref().filter(|ip| !ip.is_empty());
        ip.or(entry.hostname.as_deref()).filter(|name| !name.is_empty())
    });
    named.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
