//! What counts as a change, and for whom.

use ingress::objects::{Backend, CONTROLLER, Path, PathKind, Port, Rule};

use serde_json::json;

use super::super::feed::Tap;
use super::*;
use crate::inputs::fan::Listener;
use crate::inputs::slices::Changed;

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

/// The API tells of a slice: of which Service it is and its address, or that it is gone. Answers
/// whether that makes routes dirty.
fn told(view: &mut View, slice: &str, is: Option<(&str, &str)>) -> bool {
    let object = is.map(|(service, address)| {
        let object = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": [address]}],
        });
        serde_json::from_value(object).unwrap()
    });
    let (send, mut news) = tokio::sync::mpsc::unbounded_channel();
    if let Some(Changed { before, now }) = view.slices.set(&name(slice), object.as_ref()) {
        Tap::new(send).slice(&name(slice), before.as_ref(), now.as_ref());
    }
    while let Ok(one) = news.try_recv() {
        view.apply(one);
    }
    std::mem::take(&mut view.dirty).routes
}

/// The addresses that are known of a Service.
fn known(view: &View, service: &str) -> Vec<String> {
    let slices = view.cluster.slices.get(&name(service)).into_iter().flatten();
    slices.flat_map(|(_, slice)| &slice.ready).map(ToString::to_string).collect()
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
    assert!(!told(&mut view, "s-1", Some(("other", "10.0.0.1"))));
    assert!(told(&mut view, "s-2", Some(("web", "10.0.0.2"))));
    assert!(!told(&mut view, "s-2", Some(("web", "10.0.0.2"))));
    assert!(told(&mut view, "s-2", Some(("web", "10.0.0.3"))));
    assert_eq!((known(&view, "web"), known(&view, "other")), (vec!["10.0.0.3".into()], vec![]));
}

#[test]
fn a_new_rule_finds_the_slices_that_were_there_before() {
    let mut view = view();
    told(&mut view, "s-1", Some(("other", "10.0.0.1")));
    told(&mut view, "s-2", Some(("other", "10.0.0.2")));
    told(&mut view, "s-3", Some(("web", "10.0.0.3")));
    let rules = News::Ingress(name("rules"), Some(leading_to("other")));
    assert_eq!(dirty(&mut view, rules), (true, false, false));
    assert_eq!(known(&view, "other"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(known(&view, "web"), Vec::<String>::new(), "no rule names it any more");
    assert!(told(&mut view, "s-1", None));
    assert_eq!(known(&view, "other"), ["10.0.0.2"]);
    view.apply(News::Ingress(name("rules"), None));
    assert!(view.cluster.slices.is_empty());
}

#[test]
fn a_slice_may_change_hands() {
    let mut view = view();
    assert!(told(&mut view, "s", Some(("web", "10.0.0.1"))));
    assert!(told(&mut view, "s", Some(("other", "10.0.0.1"))));
    assert!(!view.cluster.slices.contains_key(&name("web")));
    view.apply(News::Ingress(name("more"), Some(leading_to("other"))));
    assert_eq!(known(&view, "other"), ["10.0.0.1"]);
    assert!(told(&mut view, "s", Some(("web", "10.0.0.1"))));
    assert_eq!((known(&view, "web"), known(&view, "other")), (vec!["10.0.0.1".into()], vec![]));
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
