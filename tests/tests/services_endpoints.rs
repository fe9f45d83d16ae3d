//! Who is behind a Service in a lab with real pods: chosen by a selector, written by hand, frozen,
//! not ready, or gone.
//!
//! Numbers of rows (K10, K19, K20) are those of the course's list.

use std::collections::BTreeSet;

use e2e::room::{CurlError, Room, SharedLab, items, text};
use e2e::wait_for;

static LAB: SharedLab = SharedLab::new("endpoints", "192.168.73.0/24", 2);
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

fn vip(room: &Room, service: &str) -> String {
    let spec = room.object("service", service)["spec"].clone();
    format!("http://{}", text(&spec["clusterIP"]))
}

fn addresses_of(room: &Room, pods: &BTreeSet<String>) -> BTreeSet<String> {
    pods.iter().map(|pod| text(&room.object("pod", pod)["status"]["podIP"])).collect()
}

/// The IPv4 addresses in a Service's slices.
fn in_slices(room: &Room, service: &str) -> BTreeSet<String> {
    let line = format!("get endpointslices -l kubernetes.io/service-name={service} -o json");
    let list = room.types(&line).json();
    items(&list)
        .filter(|slice| slice["addressType"] == "IPv4")
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
        .map(|endpoint| text(&endpoint["addresses"][0]))
        .collect()
}

/// The addresses in a Service's Endpoints.
fn in_endpoints(room: &Room, service: &str) -> BTreeSet<String> {
    let answer = room.types(&format!("get endpoints {service} -o json"));
    if answer.code != 0 {
        return BTreeSet::new();
    }
    let subsets = answer.json()["subsets"].as_array().cloned().unwrap_or_default();
    subsets
        .iter()
        .flat_map(|subset| subset["addresses"].as_array().cloned().unwrap_or_default())
        .map(|address| text(&address["ip"]))
        .collect()
}

fn endpoints_by_hand(name: &str, addresses: &BTreeSet<String>) -> String {
    let list: Vec<String> = addresses.iter().map(|ip| format!("{{ip: {ip}}}")).collect();
    format!(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}}}\n\
         subsets: [{{addresses: [{}], ports: [{{port: 8080}}]}}]\n",
        list.join(", ")
    )
}

fn without_selector(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

/// K19: a Service without a selector, and Endpoints of the same name. No Endpoints, no answer;
/// a name that is another's, neither.
#[test]
fn endpoints_by_hand_are_linked_by_name() {
    LAB.with_each_client("by-hand", |room| {
        room.deploys("web", 3);
        let pods = room.ready_pods("app=web", 3);
        let addresses = addresses_of(room, &pods);
        room.applies(&without_selector("external-service"));
        let vip = vip(room, "external-service");
        assert_eq!(room.asks("node-1", &vip), Err(CurlError::Refused), "M12: nobody yet");
        assert!(in_slices(room, "external-service").is_empty());
        room.applies(&endpoints_by_hand("another-service", &addresses));
        assert_eq!(room.asks("node-1", &vip), Err(CurlError::Refused), "another's");

        room.applies(&endpoints_by_hand("external-service", &addresses));
        room.is_served("node-1", &vip, &pods);
        room.is_served("node-2", &vip, &pods);
        // Mirrored, and said so.
        let line = "get endpointslices -l kubernetes.io/service-name=external-service -o json";
        let slices = room.types(line).json();
        let managers: BTreeSet<String> = items(&slices)
            .map(|s| text(&s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]))
            .collect();
        let mirroring = "endpointslicemirroring-controller.k8s.io".to_owned();
        assert_eq!(managers, [mirroring].into(), "{slices}");
        assert_eq!(in_slices(room, "external-service"), addresses);
    });
}

/// The same by a slice written by hand, of which nobody makes a copy.
#[test]
fn a_slice_by_hand_is_served_as_it_is() {
    LAB.with_each_client("slice", |room| {
        room.deploys("web", 2);
        let pods = room.ready_pods("app=web", 2);
        room.applies(&without_selector("external-service"));
        let each: Vec<String> = addresses_of(room, &pods)
            .iter()
            .map(|address| format!("{{addresses: [{address}]}}"))
            .collect();
        room.applies(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: by-hand, \
             labels: {{kubernetes.io/service-name: external-service}}}}\naddressType: IPv4\n\
             ports: [{{port: 8080}}]\nendpoints: [{}]\n",
            each.join(", ")
        ));
        room.is_served("node-2", &vip(room, "external-service"), &pods);
    });
}

/// K20: a selector takes over what was written by hand; without it the list stays as it was.
#[test]
fn a_selector_takes_over_and_leaves_the_list_frozen_when_it_goes() {
    LAB.with_each_client("takeover", |room| {
        room.deploys("web", 1);
        room.deploys("other", 1);
        let web = room.ready_pods("app=web", 1);
        let other = room.ready_pods("app=other", 1);
        room.applies(&without_selector("service"));
        room.applies(&endpoints_by_hand("service", &addresses_of(room, &other)));
        let vip = vip(room, "service");
        room.is_served("node-1", &vip, &other);

        room.patches("svc/service", r#"{"spec":{"selector":{"app":"web"}}}"#);
        room.is_served("node-1", &vip, &web);
        let by_controller = addresses_of(room, &web);
        wait_for("the controller's list to replace the other", SOON, || {
            let (slices, endpoints) = (in_slices(room, "service"), in_endpoints(room, "service"));
            if slices == by_controller && endpoints == by_controller {
                Ok(())
            } else {
                Err(format!("{slices:?} {endpoints:?}, wanted {by_controller:?}"))
            }
        });

        room.patches("svc/service", r#"{"spec":{"selector":null}}"#);
        let _ = room.types("scale deployment web --replicas=3").ok();
        let _ = room.ready_pods("app=web", 3);
        assert_eq!(in_endpoints(room, "service"), by_controller, "frozen as last written");
        room.is_served("node-1", &vip, &web);
        assert_eq!(in_slices(room, "service"), by_controller, "and so are its slices");
    });
}

/// K10: the selector makes the list, and is not asked when a packet comes. A list that nobody
/// keeps up to date leads to who is in it, be they there or not.
#[test]
fn the_list_decides_and_not_the_selector() {
    LAB.with_each_client("frozen", |room| {
        for pod in ["one", "two"] {
            let run = format!("run {pod} --image=dalgudcks/http-go --labels=app=web");
            let _ = room.types(&format!("{run} --image-pull-policy=IfNotPresent")).ok();
        }
        let pods = room.ready_pods("app=web", 2);
        room.applies(
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
             spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n",
        );
        let vip = vip(room, "web");
        room.is_served("node-1", &vip, &pods);
        let list = addresses_of(room, &pods);
        room.patches("svc/web", r#"{"spec":{"selector":null}}"#);
        // Pods that lose the label go on being served by the frozen list.
        let _ = room.types("label pod -l app=web app=quarantined --overwrite").ok();
        room.is_served("node-1", &vip, &pods);
        // One of them goes for good: the list still has its address.
        let _ = room.types("delete pod one --force --grace-period=0").ok();
        assert_eq!(in_slices(room, "web"), list);
        assert_eq!(in_endpoints(room, "web"), list);
        // The selector again, and the list is right again.
        let _ = room.types("label pod -l app=quarantined app=web --overwrite").ok();
        room.patches("svc/web", r#"{"spec":{"selector":{"app":"web"}}}"#);
        room.is_served("node-1", &vip, &["two".to_owned()].into());
    });
}

/// Pods that are not ready are no endpoints, unless the Service says that they are.
#[test]
fn unready_pods_are_asked_only_where_the_service_publishes_them() {
    LAB.with_each_client("unready", |room| {
        room.applies(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: slow, labels: {app: slow}}\nspec:\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    \
             image: dalgudcks/http-go\n    imagePullPolicy: IfNotPresent\n    \
             readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}\n",
        );
        for (name, published) in [("ready-only", "false"), ("published", "true")] {
            room.applies(&format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
                 spec: {{selector: {{app: slow}}, publishNotReadyAddresses: {published}, \
                 ports: [{{port: 80, targetPort: 8080}}]}}\n"
            ));
        }
        let slow: BTreeSet<String> = ["slow".to_owned()].into();
        room.is_served("node-2", &vip(room, "published"), &slow);
        assert_eq!(room.asks("node-2", &vip(room, "ready-only")), Err(CurlError::Refused));
        let _ = room.types("exec slow -- touch /tmp/ready").ok();
        room.is_served("node-2", &vip(room, "ready-only"), &slow);
        let _ = room.types("exec slow -- rm /tmp/ready").ok();
        wait_for("the unready pod to be left alone", SOON, || {
            match room.asks("node-2", &vip(room, "ready-only")) {
                Err(CurlError::Refused) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        room.is_served("node-2", &vip(room, "published"), &slow);
    });
}
