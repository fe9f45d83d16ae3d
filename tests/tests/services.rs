//! The Service API as a learner meets it: types, ports, selectors, names, addresses, and what
//! `describe` says of them. With minictl and with kubectl, against a lab with real pods.
//!
//! Numbers of rows (F4 to F10, K13, K18) are those of the course's list.

use std::collections::BTreeSet;

use e2e::room::{CurlError, Room, SharedLab, items, text};
use serde_json::{Value, json};

/// Without a load balancer of its own: what one does is tested elsewhere.
static LAB: SharedLab =
    SharedLab::new("services", "192.168.71.0/24", 2).with(&["--load-balancer", "none"]);
const NODES: [&str; 2] = ["192.168.71.70", "192.168.71.71"];

fn spec(room: &Room, service: &str) -> Value {
    room.object("service", service)["spec"].clone()
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// F4: five types, of which `ClusterIP` is what one gets without asking.
#[test]
fn each_type_has_what_its_name_says_and_no_more() {
    LAB.with_each_client("types", |room| {
        let ports = "ports: [{port: 80}], selector: {app: x}";
        room.applies(&service("plain", &format!("{{{ports}}}")));
        room.applies(&service("ported", &format!("{{type: NodePort, {ports}}}")));
        room.applies(&service("balanced", &format!("{{type: LoadBalancer, {ports}}}")));
        room.applies(&service("headless", &format!("{{clusterIP: None, {ports}}}")));
        room.applies(&service("named", "{type: ExternalName, externalName: myservice.test.com}"));

        let cells = |name: &str| room.row("get svc", name);
        assert_eq!(cells("plain")[1], "ClusterIP");
        assert_eq!(cells("plain")[3..5], ["<none>", "80/TCP"]);
        assert_eq!(cells("ported")[1], "NodePort");
        assert!(cells("ported")[4].starts_with("80:3"), "{:?}", cells("ported"));
        // No load balancer here: pending, with all that a node port has.
        assert_eq!(cells("balanced")[1], "LoadBalancer");
        assert_eq!(cells("balanced")[3], "<pending>");
        assert!(cells("balanced")[4].starts_with("80:3"), "{:?}", cells("balanced"));
        assert_eq!(cells("headless")[1..4], ["ClusterIP", "None", "<none>"]);
        assert_eq!(
            cells("named")[1..5],
            ["ExternalName", "<none>", "myservice.test.com", "<none>"]
        );

        let plain = spec(room, "plain");
        assert_eq!(plain["type"], "ClusterIP");
        assert_eq!(plain["clusterIPs"][0], plain["clusterIP"]);
        assert_eq!(plain["internalTrafficPolicy"], "Cluster");
        assert_eq!(plain["sessionAffinity"], "None");
        assert_eq!(plain["externalTrafficPolicy"], Value::Null);
        assert_eq!(spec(room, "ported")["externalTrafficPolicy"], "Cluster");
        assert_eq!(spec(room, "balanced")["allocateLoadBalancerNodePorts"], true);
        assert_eq!(spec(room, "named")["clusterIP"], Value::Null);
    });
}

/// F5, K13: a port has a name, a number, a target by number or by name, and a node port.
#[test]
fn every_port_of_a_service_leads_where_it_says() {
    LAB.with_each_client("ports", |room| {
        let unnamed =
            room.tries(&service("unnamed", "{ports: [{port: 80}, {port: 81}]}")).refused();
        for n in [0, 1] {
            let says = format!("spec.ports[{n}].name: Required value");
            assert!(unnamed.contains(&says), "{says} in {unnamed}");
        }
        room.deploys("web", 2);
        room.applies(&service(
            "web",
            "{type: NodePort, selector: {app: web}, ports: [\
             {name: by-number, port: 80, targetPort: 8080}, \
             {name: by-name, port: 81, targetPort: web}, \
             {name: by-default, port: 8080}]}",
        ));
        let pods = room.ready_pods("app=web", 2);
        let spec = spec(room, "web");
        let ports = spec["ports"].as_array().expect("ports").clone();
        assert_eq!(ports[2]["targetPort"], 8080, "a target is the port where none is given");
        assert!(ports.iter().all(|port| port["protocol"] == "TCP"), "{ports:?}");
        let node_ports: BTreeSet<u64> =
            ports.iter().filter_map(|port| port["nodePort"].as_u64()).collect();
        assert_eq!(node_ports.len(), 3, "each its own: {ports:?}");
        assert!(node_ports.iter().all(|port| (30000..=32767).contains(port)), "{ports:?}");
        for port in &ports {
            let vip = format!("http://{}:{}", text(&spec["clusterIP"]), port["port"]);
            room.is_served("node-1", &vip, &pods);
            let outside = format!("http://{}:{}", NODES[0], port["nodePort"]);
            room.is_served("client", &outside, &pods);
        }
        if room.client() == "minictl" {
            let picture = room.types("explain svc/web --ports").ok();
            for (what, port) in [("targetPort    web", "81"), ("targetPort   8080", "80")] {
                assert!(picture.contains(what) && picture.contains(port), "{what}: {picture}");
            }
            let pods = picture.lines().filter(|line| line.contains("at the pods: 10.244."));
            assert_eq!(pods.count(), ports.len(), "{picture}");
        }
        let unserved = format!("http://{}:82", text(&spec["clusterIP"]));
        assert_eq!(room.asks("node-1", &unserved), Err(CurlError::Refused));
    });
}

/// F6: a selector is all of its labels, and other labels don't matter.
#[test]
fn a_selector_wants_all_of_its_labels() {
    LAB.with_each_client("selector", |room| {
        room.deploys("web", 2);
        let pods = room.ready_pods("app=web", 2);
        let chosen = pods.first().expect("two pods").clone();
        let _ = room.types(&format!("label pod {chosen} tier=front color=blue")).ok();
        room.applies(&service(
            "front",
            "{selector: {app: web, tier: front}, ports: [{port: 80, targetPort: 8080}]}",
        ));
        let vip = format!("http://{}", text(&spec(room, "front")["clusterIP"]));
        room.is_served("node-2", &vip, &[chosen.clone()].into());
        let _ = room.types(&format!("label pod {chosen} tier-")).ok();
        e2e::wait_for("nobody to be selected", std::time::Duration::from_secs(20), || {
            match room.asks("node-2", &vip) {
                Err(CurlError::Refused) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    });
}

/// F7: addresses outside, no address at all, and clients that keep their pod.
#[test]
fn fields_beside_type_and_ports_do_what_they_say() {
    LAB.with_each_client("fields", |room| {
        let external = if room.client() == "minictl" { "172.30.1.44" } else { "172.30.1.45" };
        room.deploys("web", 2);
        let pods = room.ready_pods("app=web", 2);
        let ports = "ports: [{port: 80, targetPort: 8080}], selector: {app: web}";
        let manifest = service("outside", &format!("{{externalIPs: [{external}], {ports}}}"));
        room.applies(&manifest);
        assert_eq!(room.row("get svc", "outside")[3], external);
        // As whoever routes there does.
        let _ = room.on("client", &["ip", "route", "replace", external, "via", NODES[1]]).ok();
        room.is_served("client", &format!("http://{external}"), &pods);
        room.is_served("node-1", &format!("http://{external}"), &pods);

        room.applies(&service("headless", &format!("{{clusterIP: None, {ports}}}")));
        let slices = e2e::wait_for("a headless Service's slice", SOON, || {
            let line = "get endpointslices -l kubernetes.io/service-name=headless -o json";
            let list = room.types(line).json();
            let count: usize = items(&list)
                .filter(|slice| slice["addressType"] == "IPv4")
                .map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len))
                .sum();
            if count == 2 { Ok(list) } else { Err(list.to_string()) }
        });
        let labels = &items(&slices).next().expect("one")["metadata"]["labels"];
        assert_eq!(labels["service.kubernetes.io/headless"], "", "{labels}");

        room.applies(&service("sticky", &format!("{{sessionAffinity: ClientIP, {ports}}}")));
        let sticky = spec(room, "sticky");
        assert_eq!(sticky["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    });
}

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// F8: endpoints written by hand go to machines, not to oneself, to a link, or to many.
#[test]
fn endpoints_by_hand_must_be_reachable_addresses() {
    LAB.with_each_client("by-hand", |room| {
        let endpoints = |address: &str| {
            format!(
                "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: external-service}}\nsubsets:\n\
                 - addresses: [{{ip: \"{address}\"}}]\n  ports: [{{port: 80}}]\n"
            )
        };
        let slice = |address: &str, kind: &str| {
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: by-hand}}\n\
                 addressType: {kind}\nendpoints: [{{addresses: [\"{address}\"]}}]\n\
                 ports: [{{port: 80}}]\n"
            )
        };
        for (address, why) in [
            ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("224.0.0.1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ] {
            let said = room.tries(&endpoints(address)).refused();
            assert!(said.contains("subsets[0].addresses[0].ip"), "{address}: {said}");
            assert!(said.contains(why), "{address}: {why:?} in {said}");
            let said = room.tries(&slice(address, "IPv4")).refused();
            assert!(said.contains("endpoints[0].addresses[0]"), "{address}: {said}");
            assert!(said.contains(why), "{address}: {why:?} in {said}");
        }
        for address in ["::1", "fe80::1", "::"] {
            let said = room.tries(&slice(address, "IPv6")).refused();
            assert!(said.contains("endpoints[0].addresses[0]"), "{address}: {said}");
        }
        let accepted = room.tries(&endpoints("11.11.11.11"));
        assert_eq!(accepted.code, 0, "{accepted}");
        assert!(accepted.err.contains("v1 Endpoints is deprecated"), "{accepted}");
    });
}

/// F9, K22: node ports have a range, whose lower end is left to those who ask; each has one owner.
#[test]
fn a_node_port_has_one_owner_and_the_lower_band_is_left_to_those_who_ask() {
    LAB.with_each_client("node-ports", |room| {
        let port = if room.client() == "minictl" { 30008 } else { 30009 };
        let wants = |name: &str| {
            service(name, &format!("{{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}"))
        };
        room.applies(&wants("first"));
        let said = room.tries(&wants("second")).refused();
        let message = format!(
            "spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
        );
        assert!(said.contains(&message), "{message:?} in {said}");
        let owner = format!("{}/first", room.namespace());
        assert!(said.contains(&owner), "who holds it, {owner:?}, in {said}");

        let outside = service("high", "{type: NodePort, ports: [{port: 80, nodePort: 40000}]}");
        let said = room.tries(&outside).refused();
        assert!(said.contains("The range of valid ports is 30000-32767"), "{said}");

        for n in 0..10 {
            let name = format!("any-{n}");
            room.applies(&service(&name, "{type: NodePort, ports: [{port: 80}]}"));
            let given = spec(room, &name)["ports"][0]["nodePort"].as_u64().expect("a node port");
            // KEP-3668: 86 of 2768 ports are left for those who ask for a number.
            assert!((30086..=32767).contains(&given), "{given}");
        }
        let _ = room.types("delete svc first").ok();
        room.applies(&wants("second"));
    });
}

/// F10: every line of a description.
#[test]
fn describe_says_everything_there_is_to_say() {
    LAB.with_each_client("describe", |room| {
        room.deploys("web", 2);
        let _ = room.ready_pods("app=web", 2);
        room.applies(&service(
            "all",
            "{type: LoadBalancer, selector: {app: web}, externalTrafficPolicy: Local, \
             sessionAffinity: ClientIP, loadBalancerSourceRanges: [10.0.0.0/8], \
             trafficDistribution: PreferClose, \
             ports: [{port: 80, targetPort: 8080, appProtocol: http}]}",
        ));
        room.applies(&service("bare", "{ports: [{port: 80}]}"));
        let spec = spec(room, "all");
        let described = e2e::wait_for("both endpoints", SOON, || {
            let text = room.types("describe svc all").ok();
            if text.matches(":8080").count() == 2 { Ok(text) } else { Err(text) }
        });
        let node_port = format!("{}/TCP", spec["ports"][0]["nodePort"]);
        let check = spec["healthCheckNodePort"].to_string();
        let vip = text(&spec["clusterIP"]);
        let mut lines = vec![
            ("Name:", "all"),
            ("Namespace:", room.namespace()),
            ("Labels:", "<none>"),
            ("Selector:", "app=web"),
            ("Type:", "LoadBalancer"),
            ("IP Family Policy:", "SingleStack"),
            ("IP Families:", "IPv4"),
            ("IP:", &vip),
            ("IPs:", &vip),
            ("Port:", "80/TCP"),
            ("TargetPort:", "8080/TCP"),
            ("NodePort:", &node_port),
            ("Endpoints:", ":8080"),
            ("Session Affinity:", "ClientIP"),
            ("External Traffic Policy:", "Local"),
            ("HealthCheck NodePort:", &check),
            ("LoadBalancer Source Ranges:", "10.0.0.0/8"),
        ];
        if room.client() == "minictl" {
            // kubectl learnt these after the version that Debian 12 packages.
            lines.push(("Internal Traffic Policy:", "Cluster"));
            lines.push(("Traffic Distribution:", "PreferClose"));
            lines.push(("AppProtocol:", "http"));
        }
        for (title, value) in lines {
            let line = described.lines().find(|line| line.starts_with(title));
            let line = line.unwrap_or_else(|| panic!("no {title} in\n{described}"));
            assert!(line.contains(value), "{value:?} in {line:?}");
        }
        let bare = room.types("describe svc bare").ok();
        for (title, value) in [
            ("Selector:", "<none>"),
            ("Port:", "<unset>"),
            ("Endpoints:", ""),
            ("Session Affinity:", "None"),
            ("Events:", "<none>"),
        ] {
            let line = bare.lines().find(|line| line.starts_with(title));
            assert!(line.is_some_and(|l| l.contains(value)), "{title} {value} in\n{bare}");
        }
    });
}

/// K18: a name elsewhere becomes an address here, and again a name.
#[test]
fn a_service_changes_its_type_and_keeps_or_gives_back_what_it_had() {
    LAB.with_each_client("change", |room| {
        room.deploys("web", 1);
        let pods = room.ready_pods("app=web", 1);
        room.applies(&service("web", "{type: ExternalName, externalName: api.example.com}"));
        assert_eq!(spec(room, "web")["clusterIP"], Value::Null);

        room.patches(
            "svc/web",
            r#"{"spec":{"type":"ClusterIP","externalName":null,"selector":{"app":"web"},
               "ports":[{"port":80,"targetPort":8080}]}}"#,
        );
        let vip = text(&spec(room, "web")["clusterIP"]);
        assert!(!vip.is_empty());
        room.is_served("node-1", &format!("http://{vip}"), &pods);

        room.patches("svc/web", r#"{"spec":{"type":"NodePort"}}"#);
        let ported = spec(room, "web");
        assert_eq!(ported["clusterIP"], json!(vip), "the address is kept");
        let node_port = ported["ports"][0]["nodePort"].as_u64().expect("a node port");
        room.is_served("client", &format!("http://{}:{node_port}", NODES[0]), &pods);

        room.patches("svc/web", r#"{"spec":{"type":"LoadBalancer"}}"#);
        let balanced = spec(room, "web");
        assert_eq!(balanced["ports"][0]["nodePort"], node_port, "and the node port");

        room.patches("svc/web", r#"{"spec":{"type":"ClusterIP"}}"#);
        let plain = spec(room, "web");
        assert_eq!(plain["clusterIP"], json!(vip));
        assert_eq!(plain["ports"][0]["nodePort"], Value::Null, "given back: {plain}");
        e2e::wait_for("the node port to be closed", SOON, || {
            match room.asks("client", &format!("http://{}:{node_port}", NODES[0])) {
                Err(CurlError::Refused) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });

        room.patches(
            "svc/web",
            r#"{"spec":{"type":"ExternalName","externalName":"api.example.com","selector":null}}"#,
        );
        assert_eq!(spec(room, "web")["clusterIP"], Value::Null, "given back");
        e2e::wait_for("the address to be nobody's", SOON, || {
            match room.asks("node-1", &format!("http://{vip}")) {
                Err(CurlError::TimedOut | CurlError::Refused) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });

        // Straight to a node port, and straight back.
        room.patches(
            "svc/web",
            r#"{"spec":{"type":"NodePort","externalName":null,"selector":{"app":"web"},
               "ports":[{"port":80,"targetPort":8080}]}}"#,
        );
        let node_port = spec(room, "web")["ports"][0]["nodePort"].as_u64().expect("a node port");
        room.is_served("client", &format!("http://{}:{node_port}", NODES[1]), &pods);
        room.patches(
            "svc/web",
            r#"{"spec":{"type":"ExternalName","externalName":"api.example.com","selector":null}}"#,
        );
        e2e::wait_for("the node port to be closed again", SOON, || {
            match room.asks("client", &format!("http://{}:{node_port}", NODES[1])) {
                Err(CurlError::Refused) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        // Somebody else may have it now.
        room.applies(&service("heir", &format!("{{clusterIP: {vip}, ports: [{{port: 80}}]}}")));
    });
}
