//! What counts as a change, and for whom.

use ingress::objects::{Backend, CONTROLLER, Path, PathKind, Port, Rule};

use super::*;

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn leading_to(service: &str) -> Ingress {
    let backend = Backend::Service(service.into(), Port::Number(80));
    let path = Path { path: "/".into(), kind: PathKind::Prefix, backend };
    Ingress {
        rules: vec![Rule { host: "".into(), paths: vec![path] }],
        class: Some("minictl".into()),
        ..Ingress::default()
    }
}

fn slice(address: &str) -> Slice {
    let ready = Box::from([address.parse().unwrap()]);
    Slice { ports: Box::from([(Arc::from(""), 80)]), ready, leaving: Box::default() }
}

/// All lists are complete, and an Ingress leads to Service "web".
fn view() -> View {
    let mut view = View::default();
    let class = IngressClass { controller: CONTROLLER.into(), is_default: true };
    view.apply(News::Class(ObjectName::new("", "minictl"), Some(class)));
    view.apply(News::Ingress(name("rules"), Some(leading_to("web"))));
    for list in [List::Shared, List::Ingresses, List::Classes, List::Secrets] {
        assert!(!view.synced());
        view.apply(News::Listed(list));
    }
    assert!(view.synced());
    assert_eq!(view.dirty, Dirty { routes: true, certificates: true, doors: true });
    view.dirty = Dirty::default();
    view
}

/// What a piece of news makes dirty: routes, certificates, doors.
fn dirty(view: &mut View, news: News) -> (bool, bool, bool) {
    view.apply(news);
    let dirty = std::mem::take(&mut view.dirty);
    (dirty.routes, dirty.certificates, dirty.doors)
}

#[test]
fn only_services_that_an_ingress_names_matter() {
    let mut view = view();
    let (nothing, routes) = ((false, false, false), (true, false, false));
    let service = || Some(Service::default());
    assert_eq!(dirty(&mut view, News::Service(name("other"), service())), nothing);
    assert_eq!(dirty(&mut view, News::Service(name("web"), service())), routes);
    assert_eq!(dirty(&mut view, News::Service(name("web"), service())), nothing);
    let of = |service: &str, address| Some((name(service), slice(address)));
    assert_eq!(dirty(&mut view, News::Slice(name("s-1"), of("other", "10.0.0.1"))), nothing);
    assert_eq!(dirty(&mut view, News::Slice(name("s-2"), of("web", "10.0.0.2"))), routes);
    assert_eq!(dirty(&mut view, News::Slice(name("s-2"), of("web", "10.0.0.2"))), nothing);
    // A new rule makes an old Service matter.
    let news = News::Ingress(name("more"), Some(leading_to("other")));
    assert_eq!(dirty(&mut view, news), routes);
    assert_eq!(dirty(&mut view, News::Slice(name("s-1"), None)), routes);
    assert_eq!(view.cluster.slices.len(), 1);
}

#[test]
fn a_slice_may_change_hands() {
    let mut view = view();
    view.apply(News::Slice(name("s"), Some((name("web"), slice("10.0.0.1")))));
    view.dirty = Dirty::default();
    let news = News::Slice(name("s"), Some((name("other"), slice("10.0.0.1"))));
    assert!(dirty(&mut view, news).0);
    assert!(!view.cluster.slices.contains_key(&name("web")));
    assert!(view.cluster.slices.contains_key(&name("other")));
}

#[test]
fn doors_are_all_addresses_with_all_ports() {
    let mut view = view();
    assert!(view.doors().is_empty());
    let entrance = Entrance {
        uid: "u".into(),
        addresses: ["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()].into(),
        ports: vec![(80, false), (443, true)],
    };
    assert!(dirty(&mut view, News::Entrance(Some(entrance.clone()))).2);
    let doors: Vec<_> = view.doors().iter().map(ToString::to_string).collect();
    assert_eq!(doors, ["10.96.0.7:80", "10.96.0.7:443", "[fd00::7]:80", "[fd00::7]:443"]);
    assert!(!dirty(&mut view, News::Entrance(Some(entrance))).2);
    assert!(dirty(&mut view, News::Entrance(None)).2);
}

#[test]
fn the_first_node_that_is_ready_speaks() {
    let mut view = view();
    assert!(view.speaks("node-1"));
    for (node, ready) in [("node-1", false), ("node-2", true), ("node-3", true)] {
        view.apply(News::Node(node.into(), Some(ready)));
    }
    assert_eq!(["node-1", "node-2", "node-3"].map(|node| view.speaks(node)), [false, true, false]);
}
