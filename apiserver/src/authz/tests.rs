//! Who may do what, as a table.

use super::*;
use resources::table;

fn ask(
    group: &str,
    plural: &str,
    subresource: Option<Subresource>,
    verb: Verb,
    namespace: Option<&'static str>,
    name: Option<&'static str>,
) -> Ask<'static> {
    let resource = table::by_path(group, "v1", plural).unwrap();
    Ask { verb, resource, subresource, namespace, name }
}

fn allowed(user: &User, ask: &Ask<'_>, node_of_pod: Option<&str>) -> bool {
    decide(user, ask, || node_of_pod.map(str::to_owned)).is_ok()
}

#[test]
fn masters_may_do_everything_and_strangers_nothing() {
    let delete = ask("", "nodes", None, Verb::Delete, None, Some("n1"));
    assert!(allowed(&User::new("admin", &[MASTERS]), &delete, None));
    assert!(!allowed(&User::new("jane", &["dev"]), &delete, None));
    assert!(!allowed(&User::new("system:node:n1", &[]), &delete, None), "a name is not a group");
}

#[test]
fn a_node_may_what_a_node_needs() {
    use Subresource::{Binding, Exec, Status};
    use Verb::{Create, Delete, Get, List, Patch, Update, Watch};
    let node = User::new("system:node:n1", &["system:nodes"]);
    let (d, lease) = (Some("d"), Some("kube-node-lease"));
    let cases = [
        (ask("", "pods", None, Watch, None, None), true),
        (ask("", "secrets", None, Get, d, Some("s")), true),
        (ask("discovery.k8s.io", "endpointslices", None, List, None, None), true),
        (ask("", "nodes", None, Patch, None, Some("n1")), true),
        (ask("", "nodes", Some(Status), Update, None, Some("n1")), true),
        (ask("", "nodes", Some(Status), Update, None, Some("n2")), false),
        (ask("", "nodes", None, Delete, None, Some("n1")), false),
        (ask("coordination.k8s.io", "leases", None, Update, lease, Some("n1")), true),
        (ask("coordination.k8s.io", "leases", None, Update, lease, Some("n2")), false),
        (ask("coordination.k8s.io", "leases", None, Create, d, None), false),
        (ask("", "events", None, Create, d, None), true),
        (ask("", "pods", None, Create, d, None), false),
        (ask("", "pods", Some(Binding), Create, d, Some("p")), false),
        (ask("", "pods", Some(Exec), Create, d, Some("p")), false),
        (ask("", "services", None, Update, d, Some("s")), false),
        (ask("", "services", Some(Status), Patch, d, Some("s")), true),
        (ask("networking.k8s.io", "servicecidrs", None, Watch, None, None), true),
        (ask("networking.k8s.io", "ipaddresses", None, Create, None, None), false),
    ];
    for (ask, expected) in cases {
        let what = format!("{} {} {:?}", ask.verb.as_str(), ask.resource.plural, ask.name);
        assert_eq!(allowed(&node, &ask, None), expected, "{what}");
    }
}

#[test]
fn the_proxy_reads_what_it_programs_and_tells_events() {
    use Verb::{Create, Delete, Get, List, Patch, Watch};
    let proxy = User::new("system:kube-proxy", &[]);
    let d = Some("d");
    let cases = [
        (ask("", "services", None, Watch, None, None), true),
        (ask("discovery.k8s.io", "endpointslices", None, List, None, None), true),
        (ask("networking.k8s.io", "servicecidrs", None, List, None, None), true),
        (ask("", "nodes", None, Get, None, Some("n1")), true),
        (ask("events.k8s.io", "events", None, Create, d, None), true),
        (ask("", "nodes", None, Patch, None, Some("n1")), false),
        (ask("", "services", Some(Subresource::Status), Patch, d, Some("s")), false),
        (ask("", "secrets", None, Get, d, Some("s")), false),
        (ask("", "pods", None, List, None, None), false),
        (ask("", "events", None, Delete, d, Some("e")), false),
    ];
    for (ask, expected) in cases {
        let what = format!("{} {}", ask.verb.as_str(), ask.resource.plural);
        assert_eq!(allowed(&proxy, &ask, None), expected, "{what}");
    }
}

#[test]
fn only_the_pods_node_writes_its_status_or_removes_it() {
    let node = User::new("system:node:n1", &["system:nodes"]);
    let status = ask("", "pods", Some(Subresource::Status), Verb::Patch, Some("d"), Some("p"));
    let delete = ask("", "pods", None, Verb::Delete, Some("d"), Some("p"));
    for ask in [status, delete] {
        assert!(allowed(&node, &ask, Some("n1")));
        assert!(!allowed(&node, &ask, Some("n2")));
        assert!(!allowed(&node, &ask, Some("")), "a pod without a node is nobody's");
        // A pod that is gone answers 404 later on.
        assert!(allowed(&node, &ask, None));
    }
}

#[test]
fn a_tunnel_is_opened_by_its_own_node_alone() {
    let node = User::new("system:node:n1", &["system:nodes"]);
    assert!(decide_tunnel(&node, "n1").is_ok());
    assert!(decide_tunnel(&node, "n2").is_err());
    assert!(decide_tunnel(&User::new("admin", &[MASTERS]), "n1").is_err());
}
