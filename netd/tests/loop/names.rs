//! The name server of a node, asked by `dig` at the cluster's address.

use std::io::{self, Write as _};
use std::process::Command;

use serde_json::{Value, json};

use crate::api::{SERVICES, SLICES, service, slice};
use crate::{Running, cluster, net};

/// The Service at whose address each node answers itself.
fn cluster_dns() -> Value {
    let mut dns = service("kube-dns", "10.96.0.10");
    dns["metadata"]["namespace"] = json!("kube-system");
    dns["metadata"]["labels"] =
        json!({"service.kubernetes.io/service-proxy-name": "minictl-node-local"});
    dns["spec"]["ports"] = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    dns
}

/// What dig prints; what it could not ask is an empty answer.
fn dig(netd: &Running, question: &str) -> String {
    let arguments = format!("@10.96.0.10 +short +tries=1 +time=1 {question}");
    netd.host.run(move || {
        let output = Command::new("dig").args(arguments.split_whitespace()).output().unwrap();
        match output.status.success() {
            true => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            false => String::new(),
        }
    })
}

#[track_caller]
fn wait_for(netd: &Running, question: &str, answer: &str) {
    let state = || dig(netd, question);
    netd.until(question, state, || (dig(netd, question) == answer).then_some(()));
}

fn can_ask() -> bool {
    let there = Command::new("dig").arg("-v").output().is_ok();
    if !there {
        // Not by a macro: what a test prints is kept back unless it fails.
        let _ = writeln!(io::stderr(), "SKIPPED: no dig here (package dnsutils)");
        assert!(std::env::var_os("CI").is_none(), "a skip is a failure here");
    }
    there && net::root()
}

#[test]
fn names_follow_the_cluster_and_are_answered_at_its_address() {
    if !can_ask() {
        return;
    }
    let api = cluster();
    api.0.lock().unwrap().lists.get_mut(SERVICES).unwrap().push(cluster_dns());
    let netd = Running::start(&api);
    for way in ["+notcp", "+tcp"] {
        wait_for(&netd, &format!("{way} web.default.svc.cluster.local"), "10.96.0.11");
    }
    wait_for(&netd, "-x 10.96.0.11", "web.default.svc.cluster.local.");
    // Headless Services and other names are no matter of the kernel, but of this.
    let mut bare = service("bare", "None");
    bare["metadata"]["labels"] = json!({"service.kubernetes.io/headless": ""});
    api.event(SERVICES, "ADDED", &bare);
    api.event(SLICES, "ADDED", &slice("bare", &["10.244.1.7"]));
    wait_for(&netd, "bare.default.svc.cluster.local", "10.244.1.7");
    api.event(SLICES, "MODIFIED", &slice("bare", &["10.244.1.8"]));
    wait_for(&netd, "bare.default.svc.cluster.local", "10.244.1.8");
    let mut alias = service("alias", "");
    alias["spec"] =
        json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"});
    api.event(SERVICES, "ADDED", &alias);
    let both = "web.default.svc.cluster.local.\n10.96.0.11";
    wait_for(&netd, "alias.default.svc.cluster.local", both);
    api.event(SERVICES, "DELETED", &alias);
    wait_for(&netd, "alias.default.svc.cluster.local", "");
    netd.end();
}
