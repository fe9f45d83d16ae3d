//! A running pod and one that could not start, as kubectl describes them.

use serde_json::json;

use super::*;

fn describe_pod(
    value: serde_json::Value,
    events: Option<Vec<k8s_openapi::api::core::v1::Event>>,
) -> String {
    let pod: Pod = serde_json::from_value(value).unwrap();
    let around = Surroundings { events, now: "2024-01-01T01:00:00Z".parse().unwrap() };
    let mut out = Text::default();
    describe(&mut out, &pod, &around);
    out.render()
}

#[test]
fn a_running_pod() {
    let text = describe_pod(
        json!({"metadata": {"name": "web", "namespace": "default", "labels": {"run": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                                     "name": "rs", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "node-1", "serviceAccountName": "default", "priority": 0,
                "containers": [{"name": "c", "image": "nginx",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "env": [{"name": "A", "value": "b"},
                        {"name": "IP", "valueFrom": {"fieldRef":
                            {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "resources": {"requests": {"cpu": "100m"}},
                    "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                    "effect": "NoExecute", "tolerationSeconds": 300}]},
            "status": {"phase": "Running", "hostIP": "192.168.56.70", "podIP": "10.244.1.2",
                "podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "ready": true, "restartCount": 1,
                    "image": "nginx", "imageID": "sha256:1", "containerID": "containerd://1",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
        Some(Vec::new()),
    );
    let expected = "\
Name:             web
Namespace:        default
Priority:         0
Service Account:  default
Node:             node-1/192.168.56.70
Labels:           run=web
Annotations:      <none>
Status:           Running
IP:               10.244.1.2
IPs:
  IP:           10.244.1.2
Controlled By:  ReplicaSet/rs
Containers:
  c:
    Container ID:   containerd://1
    Image:          nginx
    Image ID:       sha256:1
    Port:           80/TCP
    Host Port:      0/TCP
    State:          Waiting
      Reason:       CrashLoopBackOff
    Ready:          True
    Restart Count:  1
    Requests:
      cpu:  100m
    Environment:
      A:   b
      IP:  10.244.1.2 (v1:status.podIP)
    Mounts:
      /data from v (rw)
Conditions:
  Type    Status
  Ready   True 
Volumes:
  v:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:      
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
Events:          <none>
";
    assert_eq!(text, expected);
}

#[test]
fn a_pending_pod_has_no_node_and_no_addresses() {
    let text = describe_pod(
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]},
               "status": {"phase": "Pending", "reason": "Unschedulable"}}),
        None,
    );
    assert!(text.contains("Node:         <none>\n"), "{text}");
    assert!(text.contains("Reason:       Unschedulable\n"), "{text}");
    assert!(text.contains("IPs:          <none>\n"), "{text}");
    assert!(!text.contains("Events"), "{text}");
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources: serde_json::Value| {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        quality_of_service(&serde_json::from_value(pod).unwrap())
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
}
