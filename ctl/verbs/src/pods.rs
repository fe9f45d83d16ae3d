//! From `deployment/web` to a pod, and from a pod to a container.
//!
//! Owns: the pods behind a workload or Service, which of them is meant, and the default container.
//! Upstream: `polymorphichelpers/helpers.go`, `podutils.ActivePods`, `podcmd.FindOrDefaultContainerByName`.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::session::Call;
use crate::target;

/// The annotation that names the container that is meant when none is given.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Decodes an object, naming it if it does not decode.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(object: Value) -> Result<T, Error> {
    let what = crate::edit_value::short_name(&object);
    serde_json::from_value(object).map_err(|e| Error::BadAnswer { what, detail: e.to_string() })
}

/// The pod that `NAME` or `TYPE/NAME` means. Several candidates: the most useful one.
pub(crate) async fn find(ctx: &mut Context<'_>, arg: &str) -> Result<Pod, Error> {
    if !arg.contains('/') {
        return get(ctx, arg).await;
    }
    let catalog = ctx.catalog().await?;
    let (resource, name) = target::one(&catalog, "pods", arg)?;
    if resource.plural == "pods" && resource.group.is_empty() {
        return get(ctx, &name).await;
    }
    let mut pods = behind(ctx, &resource, &name).await?;
    pods.sort_by_key(rank);
    pods.into_iter()
        .next()
        .ok_or_else(|| Error::refused(format!("no pods found for {}/{name}", resource.kind_name())))
}

async fn get(ctx: &mut Context<'_>, name: &str) -> Result<Pod, Error> {
    let namespace = crate::session::encode(&ctx.namespace());
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}", crate::session::encode(name));
    typed(ctx.json(&Call::get(path)).await?)
}

/// The pods that a workload or Service selects.
pub(crate) async fn behind(
    ctx: &mut Context<'_>,
    resource: &ApiResource,
    name: &str,
) -> Result<Vec<Pod>, Error> {
    let namespace = ctx.namespace();
    let object = ctx.object(resource, &namespace, name).await?;
    let selector = selector_text(&object).ok_or_else(|| {
        Error::refused(format!(
            "cannot attach to {}: selector for {} not implemented",
            crate::edit_value::short_name(&object),
            text(&object, "/kind")
        ))
    })?;
    select(ctx, &selector).await
}

/// The pods of the namespace that have the labels.
pub(crate) async fn select(ctx: &mut Context<'_>, selector: &str) -> Result<Vec<Pod>, Error> {
    let namespace = crate::session::encode(&ctx.namespace());
    let call =
        Call::get(format!("/api/v1/namespaces/{namespace}/pods")).query("labelSelector", selector);
    ctx.list(&call).await?.into_iter().map(typed).collect()
}

/// The label selector of a workload (`matchLabels` and expressions) or Service (a map), as text.
pub(crate) fn selector_text(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector")?;
    if text(object, "/kind") == "Service" {
        let pairs = selector.as_object()?;
        let pairs: Vec<String> =
            pairs.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
        return (!pairs.is_empty()).then(|| pairs.join(","));
    }
    let selector: LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    Some(format_selector(&selector)).filter(|s| !s.is_empty())
}

/// `app=web,tier in (a,b),!x`, as `metav1.FormatLabelSelector` writes it.
pub(crate) fn format_selector(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}={v}"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let mut values = e.values.clone().unwrap_or_default();
        values.sort();
        let values = values.join(",");
        match e.operator.as_str() {
            "In" => format!("{} in ({values})", e.key),
            "NotIn" => format!("{} notin ({values})", e.key),
            "Exists" => e.key.clone(),
            _ => format!("!{}", e.key),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// Sorts the most useful pod first: scheduled, running, ready, with few restarts, old.
fn rank(pod: &Pod) -> (bool, bool, bool, bool, i32, String) {
    let status = pod.status.as_ref();
    let restarts = status
        .and_then(|s| s.container_statuses.as_ref())
        .map_or(0, |c| c.iter().map(|c| c.restart_count).sum());
    (
        pod.metadata.deletion_timestamp.is_some(),
        pod.spec.as_ref().is_none_or(|s| s.node_name.is_none()),
        status.and_then(|s| s.phase.as_deref()) != Some("Running"),
        !is_ready(pod),
        restarts,
        pod.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default(),
    )
}

/// Whether the pod's Ready condition is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The names of a pod's containers; init containers last.
pub(crate) fn containers(pod: &Pod) -> Vec<&str> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten();
    spec.containers.iter().chain(init).map(|c| c.name.as_str()).collect()
}

/// The container that is meant: the given one, the annotated one, or the first; and the sentence
/// that tells of a guess.
pub(crate) fn choose_container(
    pod: &Pod,
    given: Option<&str>,
) -> Result<(String, Option<String>), Error> {
    let names = containers(pod);
    let pod_name = pod.metadata.name.as_deref().unwrap_or("");
    if let Some(given) = given.filter(|g| !g.is_empty()) {
        return if names.contains(&given) {
            Ok((given.to_owned(), None))
        } else {
            Err(Error::refused(format!("container {given} not found in pod {pod_name}")))
        };
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|a| a.get(DEFAULT_CONTAINER));
    if let Some(name) = annotated.filter(|a| names.contains(&a.as_str())) {
        return Ok((name.clone(), None));
    }
    let Some(first) = names.first() else {
        return Err(Error::refused(format!("pod {pod_name} has no containers")));
    };
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref()).map_or(0, Vec::len);
    let described: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, n)| {
            let is_init = i >= names.len() - init;
            if is_init { format!("{n} (init)") } else { (*n).to_owned() }
        })
        .collect();
    let guess = (names.len() > 1)
        .then(|| format!("Defaulted container {first:?} out of: {}", described.join(", ")));
    Ok(((*first).to_owned(), guess))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn selectors_are_written_as_upstream_writes_them() {
        let deployment = json!({"kind": "Deployment", "spec": {"selector": {
            "matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "t", "operator": "In", "values": ["b", "a"]},
                {"key": "u", "operator": "Exists"}, {"key": "v", "operator": "DoesNotExist"},
                {"key": "w", "operator": "NotIn", "values": ["c"]}]}}});
        assert_eq!(selector_text(&deployment).unwrap(), "app=web,t in (a,b),u,!v,w notin (c)");
        let service = json!({"kind": "Service", "spec": {"selector": {"a": "b"}}});
        assert_eq!(selector_text(&service).unwrap(), "a=b");
        assert_eq!(selector_text(&json!({"kind": "Service", "spec": {}})), None);
    }

    #[test]
    fn the_container_is_given_annotated_or_the_first() {
        let two = pod(json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}],
                     "initContainers": [{"name": "i"}]}}));
        assert_eq!(choose_container(&two, Some("b")).unwrap(), ("b".into(), None));
        assert_eq!(
            choose_container(&two, None).unwrap(),
            ("a".into(), Some("Defaulted container \"a\" out of: a, b, i (init)".into()))
        );
        assert_eq!(
            choose_container(&two, Some("x")).unwrap_err().report(),
            "error: container x not found in pod p"
        );
        let one = pod(json!({"spec": {"containers": [{"name": "a"}]}}));
        assert_eq!(choose_container(&one, None).unwrap(), ("a".into(), None));
    }

    #[test]
    fn a_running_pod_is_preferred_to_a_pending_one() {
        let make = |name: &str, phase: &str| {
            pod(json!({"metadata": {"name": name}, "spec": {"containers": [], "nodeName": "n"},
                       "status": {"phase": phase}}))
        };
        let mut pods = [make("a", "Pending"), make("b", "Running")];
        pods.sort_by_key(rank);
        assert_eq!(pods[0].metadata.name.as_deref(), Some("b"));
    }
}
