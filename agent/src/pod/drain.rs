//! Letting a pod that goes serve on until everybody has heard of it: pure.
//!
//! When a pod is deleted, two things begin at once: nodes learn that they must send it no new
//! connections, and its containers are told to stop. Upstream lets them race, and leaves it to a
//! `preStop` pause to let the nodes win. Here the agent waits for them: a pod that serves is stopped
//! only after a short while, which is part of its grace period.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};

/// A pod's last service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    /// When it ends.
    pub(crate) until: Timestamp,
    /// What it takes of the grace period.
    pub(crate) takes: Duration,
}

impl Drain {
    /// The drain of a pod whose deletion was heard of just now; `None` for one that nobody sends
    /// anything to, or that is to end at once.
    pub(super) fn of(
        pod: &Pod,
        services: &[Arc<Service>],
        takes: Duration,
        now: Timestamp,
    ) -> Option<Self> {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let wanted = !takes.is_zero() && grace > 0 && is_ready(pod);
        if !wanted || !services.iter().any(|service| selects(service, pod)) {
            return None;
        }
        let takes = takes.min(Duration::from_secs(grace.unsigned_abs()));
        let pause = jiff::SignedDuration::try_from(takes).ok()?;
        Some(Self { until: now.checked_add(pause).ok()?, takes })
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    service.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|selector| {
            !selector.is_empty()
                && selector
                    .iter()
                    .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LONG: Duration = Duration::from_millis(500);

    fn pod(ready: &str, grace: i64) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "labels": {"app": "web", "tier": "front"},
                "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": grace,
            },
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn service(namespace: &str, selector: serde_json::Value) -> Arc<Service> {
        let metadata = json!({"name": "web", "namespace": namespace});
        let service = json!({"metadata": metadata, "spec": {"selector": selector}});
        Arc::new(serde_json::from_value(service).unwrap())
    }

    fn drain(pod: &Pod, service: Arc<Service>) -> Option<Drain> {
        Drain::of(pod, &[service], LONG, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_ready_pod_of_a_service_serves_on() {
        let found = drain(&pod("True", 30), service("shop", json!({"app": "web"}))).unwrap();
        assert_eq!(found.takes, LONG);
        assert_eq!(found.until.as_millisecond(), 500);
    }

    #[test]
    fn nobody_waits_for_a_pod_that_nobody_sends_to() {
        let ready = pod("True", 30);
        for service in [
            service("shop", json!({"app": "other"})),
            service("shop", json!({"app": "web", "more": "needed"})),
            service("elsewhere", json!({"app": "web"})),
            service("shop", json!({})),
            service("shop", json!(null)),
        ] {
            assert_eq!(drain(&ready, service.clone()), None, "{service:?}");
        }
        assert_eq!(drain(&pod("False", 30), service("shop", json!({"app": "web"}))), None);
    }

    #[test]
    fn a_forced_deletion_is_not_held_up_and_a_drain_fits_into_the_grace() {
        let web = || service("shop", json!({"app": "web"}));
        assert_eq!(drain(&pod("True", 0), web()), None);
        let long = Duration::from_secs(60);
        let found = Drain::of(&pod("True", 2), &[web()], long, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(found.takes, Duration::from_secs(2));
        assert_eq!(Drain::of(&pod("True", 2), &[web()], Duration::ZERO, found.until), None);
    }
}
