//! Which container a session is about, and whether it can be had (upstream:
//! `pkg/registry/core/pod/strategy.go` `LogLocation`, `ExecLocation`; texts of kubelet).
//!
//! Pure, except for [`pod`], which reads the pod from a snapshot.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use proto::v1::Target;

use crate::api::Api;
use crate::status::ApiError;
use crate::stored::Current;
use crate::verbs::Call;

/// The pod that the path names.
pub(crate) fn pod(api: &Api, call: &Call) -> Result<Pod, ApiError> {
    let snapshot = api.store.snapshot();
    let missing = || ApiError::not_found(call.resource(), call.name());
    let entry = snapshot.get(&call.key()).ok_or_else(missing)?;
    let current = Current::read(call.resource(), entry)?;
    current.object.as_any().downcast_ref::<Pod>().cloned().ok_or_else(missing)
}

/// The node of a pod.
pub(crate) fn node(pod: &Pod) -> Result<&str, ApiError> {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
    if node.is_empty() {
        let name = name(pod);
        return Err(ApiError::BadRequest(format!("pod {name} does not have a host assigned")));
    }
    Ok(node)
}

/// The container that is asked for, or the only one.
pub(crate) fn container<'p>(pod: &'p Pod, asked: Option<&str>) -> Result<&'p str, ApiError> {
    let spec = pod.spec.as_ref();
    let main: Vec<&str> =
        spec.iter().flat_map(|s| &s.containers).map(|c| c.name.as_str()).collect();
    let init: Vec<&str> = spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .map(|c| c.name.as_str())
        .collect();
    if let Some(asked) = asked {
        let found = main.iter().chain(&init).find(|c| **c == asked);
        return found.copied().ok_or_else(|| {
            ApiError::BadRequest(format!("container {asked} is not valid for pod {}", name(pod)))
        });
    }
    match main.as_slice() {
        [only] if init.is_empty() => Ok(only),
        several => {
            let mut text = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                name(pod),
                several.join(" ")
            );
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::BadRequest(text))
        }
    }
}

/// Whether there is something to read (kubelet: `validateContainerLogStatus`).
pub(crate) fn has_log(pod: &Pod, container: &str, previous: bool) -> Result<(), ApiError> {
    let bad = |text: String| Err(ApiError::BadRequest(text));
    let name = name(pod);
    let Some(status) = status(pod, container) else {
        return bad(format!("container {container:?} in pod {name:?} is not available"));
    };
    let ended =
        |state: &Option<ContainerState>| state.as_ref().is_some_and(|s| s.terminated.is_some());
    if previous {
        return if ended(&status.last_state) {
            Ok(())
        } else {
            bad(format!("previous terminated container {container:?} in pod {name:?} not found"))
        };
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() || state.terminated.is_some() || ended(&status.last_state) {
        return Ok(());
    }
    let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
    match reason.as_str() {
        "ErrImagePull" => bad(format!(
            "container {container:?} in pod {name:?} is waiting to start: image can't be pulled"
        )),
        "ImagePullBackOff" => bad(format!(
            "container {container:?} in pod {name:?} is waiting to start: trying and failing to pull image"
        )),
        reason => {
            bad(format!("container {container:?} in pod {name:?} is waiting to start: {reason}"))
        }
    }
}

fn status<'p>(pod: &'p Pod, container: &str) -> Option<&'p ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    all.into_iter().find(|s| s.name == container)
}

/// How the agent is told which container is meant.
pub(crate) fn target(pod: &Pod, container: &str) -> Target {
    Target {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: name(pod).to_owned(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        container: container.to_owned(),
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        let mut whole = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        });
        whole["spec"] = json["spec"].clone();
        whole["status"] = json["status"].clone();
        serde_json::from_value(whole).unwrap()
    }

    fn with(containers: &[&str], init: &[&str]) -> Pod {
        let list = |names: &[&str]| -> Vec<serde_json::Value> {
            names.iter().map(|n| serde_json::json!({ "name": n })).collect()
        };
        pod(serde_json::json!({
            "spec": { "containers": list(containers), "initContainers": list(init) },
        }))
    }

    #[test]
    fn the_container_must_be_known_when_there_are_several() {
        let text = |pod: &Pod, asked: Option<&str>| {
            container(pod, asked).map(str::to_owned).map_err(|e| e.to_string())
        };
        let one = with(&["a"], &[]);
        let two = with(&["a", "b"], &[]);
        let with_init = with(&["a"], &["i"]);
        assert_eq!(text(&one, None), Ok("a".into()));
        assert_eq!(text(&two, Some("b")), Ok("b".into()));
        assert_eq!(text(&with_init, Some("i")), Ok("i".into()));
        assert_eq!(text(&one, Some("x")), Err("container x is not valid for pod p".into()));
        assert_eq!(
            text(&two, None),
            Err("a container name must be specified for pod p, choose one of: [a b]".into())
        );
        assert_eq!(
            text(&with_init, None),
            Err("a container name must be specified for pod p, choose one of: [a] or one of the init containers: [i]".into())
        );
    }

    #[test]
    fn an_unscheduled_pod_has_no_host() {
        let error = node(&with(&["a"], &[])).unwrap_err().to_string();
        assert_eq!(error, "pod p does not have a host assigned");
    }

    #[test]
    fn a_log_needs_a_container_that_ran() {
        let state = |state: serde_json::Value, last: serde_json::Value| {
            pod(serde_json::json!({
                "spec": { "containers": [{ "name": "a" }] },
                "status": { "containerStatuses": [{
                    "name": "a", "state": state, "lastState": last, "image": "", "imageID": "",
                    "ready": false, "restartCount": 0,
                }] },
            }))
        };
        let waiting = serde_json::json!({ "waiting": { "reason": "ContainerCreating" } });
        let running = serde_json::json!({ "running": {} });
        let ended = serde_json::json!({ "terminated": { "exitCode": 1 } });
        let none = serde_json::json!({});
        let log = |pod: &Pod, previous| has_log(pod, "a", previous).map_err(|e| e.to_string());
        assert_eq!(
            log(&state(waiting.clone(), none.clone()), false),
            Err(r#"container "a" in pod "p" is waiting to start: ContainerCreating"#.into())
        );
        assert_eq!(log(&state(running.clone(), none.clone()), false), Ok(()));
        assert_eq!(log(&state(waiting, ended.clone()), false), Ok(()));
        assert_eq!(log(&state(running.clone(), ended), true), Ok(()));
        assert_eq!(
            log(&state(running, none), true),
            Err(r#"previous terminated container "a" in pod "p" not found"#.into())
        );
    }
}
