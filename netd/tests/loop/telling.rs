//! What netd tells the cluster: conditions, events, and which engine serves.

use netmodel::nft::Engine;
use serde_json::{Value, json};

use crate::api::{Api, NODES, RANGES, SERVICES, SLICES, node, service, slice};
use crate::{Running, SOON, cluster, net, serves, serves_by, serves_web};

const STATUS_OF_B: &str = "/api/v1/namespaces/default/services/b/status";

/// A Service that wants an external address.
fn external(name: &str, vip: &str, version: &str) -> Value {
    let mut service = service(name, vip);
    service["spec"]["externalIPs"] = json!(["203.0.113.9"]);
    service["metadata"]["uid"] = json!(format!("uid-{name}"));
    service["metadata"]["resourceVersion"] = json!(version);
    service
}

fn wanting(engine: &str) -> Value {
    let mut node = node("node-1", "192.168.56.70", "10.244.1.0/24");
    node["metadata"]["annotations"] = json!({"minictl.io/dataplane-engine": engine});
    node
}

fn condition(patch: &Value) -> &Value {
    &patch["status"]["conditions"][0]
}

/// What netd last said about the engine on its Node.
fn stated(api: &Api) -> Option<String> {
    let patch = api.last_patch("/api/v1/nodes/node-1")?;
    Some(patch["metadata"]["annotations"]["minictl.io/dataplane"].as_str()?.to_owned())
}

fn written(api: &Api) -> String {
    let script = api.0.lock().unwrap();
    format!("patches {:#?}, events {:#?}", script.patches, script.events)
}

#[test]
fn a_service_that_cannot_be_honoured_says_so_until_it_can() {
    if !net::root() {
        return;
    }
    let api = cluster();
    {
        let mut script = api.0.lock().unwrap();
        let services = script.lists.get_mut(SERVICES).unwrap();
        services.extend([external("a", "10.96.0.21", "3"), external("b", "10.96.0.22", "4")]);
    }
    let netd = Running::start(&api);
    let patch = netd.until("the condition", || written(&api), || api.last_patch(STATUS_OF_B));
    assert_eq!(patch["metadata"]["resourceVersion"], "4");
    let said = condition(&patch);
    assert_eq!(said["type"], "minictl.io/Programmed");
    assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("FrontendTaken")));
    let message = said["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "node-1: 203.0.113.9 port 80/tcp belongs to Service default/a");
    let events = netd.until(
        "the event",
        || written(&api),
        || Some(api.told_about("b")).filter(|told| !told.is_empty()),
    );
    assert_eq!(events[0].0, "FrontendTaken");
    netd.wait_for(SOON, "the others are served", serves_web);

    // What the API says back is not answered again.
    let mut told = external("b", "10.96.0.22", "5");
    told["status"]["conditions"] = json!([{
        "type": "minictl.io/Programmed", "status": "False", "reason": "FrontendTaken",
        "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    api.event(SERVICES, "MODIFIED", &told);
    api.event(SERVICES, "DELETED", &external("a", "10.96.0.21", "6"));
    let solved = || api.last_patch(STATUS_OF_B).filter(|p| condition(p)["status"] == "True");
    let patch = netd.until("the solution", || written(&api), solved);
    assert_eq!(patch["metadata"]["resourceVersion"], "5");
    let all = api.0.lock().unwrap().patches.clone();
    let patches = all.iter().filter(|(path, _)| path == STATUS_OF_B).count();
    assert_eq!(patches, 2, "{all:#?}");
    netd.wait_for(SOON, "its external address", |text| {
        text.contains("203.0.113.9 . tcp . 80") || text.contains("-A -t 203.0.113.9:80")
    });
    netd.end();
}

#[test]
fn a_wish_for_an_engine_is_followed_or_answered() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start_with(&api, |config| config.mode = netd::Mode::Nftables);
    let says = |wanted: &'static str| {
        netd.until(
            wanted,
            || written(&api),
            || stated(&api).filter(|text| text.starts_with(wanted)),
        )
    };
    assert_eq!(says("nftables"), "nftables (as asked)");
    api.event(NODES, "MODIFIED", &wanting("ipvs"));
    // Both answers are right, each on its kernel.
    if netd.host.run(|| netd::choose(netd::Mode::Ipvs).is_ok()) {
        assert_eq!(says("ipvs"), "ipvs (as asked)");
        api.event(NODES, "MODIFIED", &wanting("nftables"));
        assert_eq!(says("nftables"), "nftables (as asked)");
    } else {
        let refused = says("nftables (ipvs can't be used");
        assert!(refused.contains("find IPVS in the kernel: "), "{refused}");
        let events = api.told_about("node-1");
        assert!(events.iter().any(|(reason, _)| reason == "DataplaneEngineRefused"), "{events:?}");
    }
    api.event(NODES, "MODIFIED", &wanting("iptables"));
    says("nftables (\"iptables\" is no engine");
    netd.wait_for(SOON, "the old engine goes on", |text| {
        serves_by(Engine::Nftables, text, 11, "10.244.1.5")
    });
    netd.end();
}

#[test]
fn the_engine_that_was_asked_for_while_netd_ran_is_there_after_a_restart() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let nodes = vec![wanting("nftables"), node("node-2", "192.168.56.71", "10.244.2.0/24")];
    api.0.lock().unwrap().lists.insert(NODES.to_owned(), nodes);
    // The flag alone would make it impossible to start on a kernel without IPVS.
    let netd = Running::start_with(&api, |config| config.mode = netd::Mode::Ipvs);
    netd.wait_for(SOON, "the lists", |text| serves_by(Engine::Nftables, text, 11, "10.244.1.5"));
    assert_eq!(stated(&api).as_deref(), Some("nftables (as asked)"));
    netd.end();
}

#[test]
fn a_cluster_that_allows_nothing_but_events_is_served_all_the_same() {
    if !net::root() {
        return;
    }
    let api = cluster();
    {
        let mut script = api.0.lock().unwrap();
        script.only_events = true;
        script.absent.insert(RANGES.to_owned());
        let services = script.lists.get_mut(SERVICES).unwrap();
        services.extend([external("a", "10.96.0.21", "3"), external("b", "10.96.0.22", "4")]);
    }
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", serves_web);
    netd.until(
        "the event",
        || written(&api),
        || api.told_about("b").into_iter().find(|(reason, _)| reason == "FrontendTaken"),
    );
    api.event(SLICES, "MODIFIED", &slice("web", &["10.244.1.6"]));
    netd.wait_for(SOON, "a change", |text| serves(text, 11, "10.244.1.6"));
    netd.end();
}

#[test]
fn what_another_proxy_serves_is_left_to_it() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", serves_web);
    let labels = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
    for (label, vip) in labels.into_iter().zip(["10.96.0.77", "10.96.0.78"]) {
        let mut theirs = service("theirs", vip);
        theirs["metadata"]["labels"] = json!({label: "somebody"});
        api.event(SERVICES, "ADDED", &theirs);
    }
    // One that was ours, and is handed over.
    let mut handed_over = service("web", "10.96.0.1");
    handed_over["metadata"]["labels"] = json!({labels[0]: "somebody"});
    api.event(SERVICES, "MODIFIED", &handed_over);
    let theirs = |text: &str| ["10.96.0.77", "10.96.0.78"].iter().any(|vip| text.contains(vip));
    netd.wait_for(SOON, "only the end of what was handed over", |text| {
        !serves_web(text) && !theirs(text)
    });
    netd.end();
}

#[test]
fn ranges_of_services_follow_the_cluster() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let range = |name: &str, range: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name, "resourceVersion": "2"}, "spec": {"cidrs": [range]},
        })
    };
    let first = vec![range("kubernetes", "10.96.0.0/16")];
    api.0.lock().unwrap().lists.insert(RANGES.to_owned(), first);
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the server's range and not the flag's", |text| {
        text.contains("10.96.0.0/16") && !text.contains("10.96.0.0/12")
    });
    api.event(RANGES, "ADDED", &range("more", "10.112.0.0/16"));
    netd.wait_for(SOON, "one more range", |text| text.contains("10.112.0.0/16"));
    api.event(RANGES, "DELETED", &range("more", "10.112.0.0/16"));
    netd.wait_for(SOON, "its end", |text| !text.contains("10.112.0.0/16"));
    netd.end();
}

#[test]
fn repairs_are_told() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    let route = "10.244.2.0/24 via";
    netd.wait_for(SOON, "the lists", |text| serves_web(text) && text.contains(route));
    netd.host.ip("route del 10.244.2.0/24");
    let about_route = || {
        let events = api.told_about("node-1").into_iter();
        events
            .filter(|(reason, _)| reason == "DataplaneRepaired")
            .find(|e| e.1.contains("10.244.2"))
    };
    let (_, message) = netd.until("the event", || written(&api), about_route);
    assert!(message.starts_with("changed by another hand and put back: route "), "{message}");
    let status = netd.status();
    assert_eq!(status.activity.repairs.get("route"), Some(&1), "{:?}", status.activity);
    assert!(status.activity.last_repair.is_some());
    assert!(status.activity.recent_repairs.iter().any(|text| text.contains("10.244.2.0/24")));
    netd.host.command("nft", "delete table inet minictl");
    netd.until(
        "the event about the table",
        || written(&api),
        || {
            let mut events = api.told_about("node-1").into_iter();
            events.find(|(_, message)| message.contains("table"))
        },
    );
    netd.wait_for(SOON, "the table", serves_web);
    netd.end();
}

#[test]
fn a_firewall_of_others_is_told_with_the_way_out_and_left_alone() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let host = Running::node();
    host.command("nft", "add table inet strict");
    let chain = "add chain inet strict pass { type filter hook forward priority 0; policy drop; }";
    host.command("nft", chain);
    let before = host.command("nft", "list table inet strict");
    let netd = Running::start_on(host, &api, |_| ());
    let (_, message) = netd.until(
        "the event",
        || written(&api),
        || api.told_about("node-1").into_iter().find(|(reason, _)| reason == "ForeignFirewall"),
    );
    assert!(message.contains("strict") && message.contains("let it pass by: "), "{message}");
    assert!(!netd.status().firewalls.is_empty());
    assert_eq!(netd.host.command("nft", "list table inet strict"), before);
    netd.end();
}

#[test]
fn a_question_before_the_cluster_is_known_gets_an_answer() {
    if !net::root() {
        return;
    }
    let api = cluster();
    api.0.lock().unwrap().lists.insert(NODES.to_owned(), vec![json!("nonsense")]);
    let netd = Running::start(&api);
    let status = netd.status();
    assert!(!status.synced && status.engine.is_none());
    let control = netd.control.clone();
    let error = crate::wait(async move { control.inspect().await }).unwrap_err();
    assert!(matches!(error, netd::ControlError::NotSynced), "{error}");
    let control = netd.control.clone();
    netd.end();
    let gone = crate::wait(async move { control.status().await }).unwrap_err();
    assert!(matches!(gone, netd::ControlError::Gone), "{gone}");
}

#[test]
fn an_inspection_names_the_service_and_its_version() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", serves_web);
    let control = netd.control.clone();
    let seen = crate::wait(async move { control.inspect().await }).unwrap();
    let row = seen.rows.iter().find(|row| &*row.owner.service.name == "web").unwrap();
    assert_eq!(row.resource_version.as_deref(), Some("2"));
    assert_eq!(seen.differences, []);
    netd.end();
}
