//! What becomes of dependents, case by case and in any order of news.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::view::Kind;

fn item(name: &str) -> Item {
    let resource = match name.as_bytes()[0] {
        b'd' => Deployment::resource(),
        b'r' => ReplicaSet::resource(),
        _ => Pod::resource(),
    };
    Item { resource, key: Key::new("shop", name) }
}

fn object(name: &str, owners: &[&str], blocking: bool) -> ObjectMeta {
    let owners = owners.iter().map(|owner| OwnerReference {
        uid: (*owner).to_owned(),
        name: (*owner).to_owned(),
        block_owner_deletion: Some(blocking),
        ..OwnerReference::default()
    });
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        uid: Some(name.to_owned()),
        owner_references: Some(owners.collect()),
        ..ObjectMeta::default()
    }
}

fn going(mut metadata: ObjectMeta, finalizer: &str) -> ObjectMeta {
    metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    metadata.finalizers = Some(vec![finalizer.to_owned(), "example.org/other".to_owned()]);
    metadata
}

fn graph(objects: &[ObjectMeta]) -> Graph {
    let mut graph = Graph::default();
    for metadata in objects {
        graph.update(&item(meta::name(metadata)), Some(metadata));
    }
    graph
}

fn names(items: &[Item]) -> Vec<&str> {
    let mut names: Vec<&str> = items.iter().map(|item| item.key.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn absent(uids: &[&str]) -> HashSet<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

fn deletion(verdict: &Verdict) -> (&str, Propagation) {
    match verdict.writes.as_slice() {
        [Write::Delete { target, propagation, .. }] => (&target.uid, *propagation),
        other => panic!("no single removal: {other:?}"),
    }
}

fn owners_left(write: &Write) -> (&str, Vec<&str>) {
    let Write::Patch { target, body, .. } = write else { panic!("no patch: {write:?}") };
    let owners = body["metadata"]["ownerReferences"].as_array().unwrap();
    (&target.uid, owners.iter().map(|owner| owner["uid"].as_str().unwrap()).collect())
}

#[test]
fn an_object_goes_when_its_only_owner_went() {
    let mut graph = graph(&[object("d", &[], true), object("r", &["d"], true)]);
    assert!(graph.unknown_owners(&item("r")).is_empty());
    assert_eq!(graph.plan(&item("r"), &absent(&[])), Verdict::default());
    let concerned = graph.update(&item("d"), None);
    assert_eq!(names(&concerned), ["r"]);
    assert_eq!(graph.unknown_owners(&item("r"))[0].uid, "d");
    assert_eq!(graph.plan(&item("r"), &absent(&[])), Verdict::default(), "not before it is sure");
    let verdict = graph.plan(&item("r"), &absent(&["d"]));
    assert_eq!(deletion(&verdict), ("r", Propagation::Background));
}

#[test]
fn one_living_owner_is_enough() {
    let graph = graph(&[object("d", &[], true), object("r", &["d", "dead"], true)]);
    let verdict = graph.plan(&item("r"), &absent(&["dead"]));
    assert_eq!(owners_left(&verdict.writes[0]), ("r", vec!["d"]), "only the dead reference goes");
}

#[test]
fn an_owner_of_another_namespace_is_none() {
    let mut far = object("d", &[], true);
    far.namespace = Some("elsewhere".to_owned());
    let mut graph = graph(&[object("r", &["d"], true)]);
    let place = Item { key: Key::new("elsewhere", "d"), ..item("d") };
    graph.update(&place, Some(&far));
    assert_eq!(graph.unknown_owners(&item("r")).len(), 1);
}

#[test]
fn in_the_foreground_the_owner_waits_for_those_that_block_it() {
    let owner = going(object("d", &[], true), FOREGROUND);
    let mut graph =
        graph(&[object("d", &[], true), object("r", &["d"], true), object("p", &["r"], true)]);
    let concerned = graph.update(&item("d"), Some(&owner));
    assert_eq!(names(&concerned), ["r"]);
    assert_eq!(names(&graph.plan(&item("d"), &absent(&[])).look_at), ["r"]);
    let verdict = graph.plan(&item("r"), &absent(&[]));
    assert_eq!(deletion(&verdict), ("r", Propagation::Foreground), "it has dependents of its own");
    assert_eq!(
        graph.plan(&item("p"), &absent(&[])),
        Verdict::default(),
        "its owner does not wait yet"
    );

    graph.update(&item("r"), Some(&going(object("r", &["d"], true), FOREGROUND)));
    let verdict = graph.plan(&item("p"), &absent(&[]));
    assert_eq!(deletion(&verdict), ("p", Propagation::Background));
    assert_eq!(names(&graph.update(&item("p"), None)), ["r"], "the one that waited for it");
    let verdict = graph.plan(&item("r"), &absent(&[]));
    let [Write::Patch { body, .. }] = verdict.writes.as_slice() else { panic!("{verdict:?}") };
    assert_eq!(body["metadata"]["finalizers"], json!(["example.org/other"]));
}

#[test]
fn dependents_that_do_not_block_do_not_hold_the_owner_up() {
    let owner = going(object("d", &[], true), FOREGROUND);
    let graph = graph(&[owner, object("r", &["d"], false)]);
    let verdict = graph.plan(&item("d"), &absent(&[]));
    assert_eq!(verdict.writes.len(), 1, "{verdict:?}");
}

#[test]
fn a_second_owner_keeps_the_object_and_lets_the_waiting_one_go() {
    let graph = graph(&[
        going(object("d1", &[], true), FOREGROUND),
        object("d2", &[], true),
        object("r", &["d1", "d2"], true),
    ]);
    let verdict = graph.plan(&item("r"), &absent(&[]));
    assert_eq!(owners_left(&verdict.writes[0]), ("r", vec!["d2"]));
}

#[test]
fn orphans_lose_their_owner_before_it_goes() {
    let graph = graph(&[
        going(object("d", &[], true), ORPHAN),
        object("r", &["d"], true),
        object("s", &["other"], true),
    ]);
    let verdict = graph.plan(&item("d"), &absent(&[]));
    assert_eq!(verdict.writes.len(), 2);
    assert_eq!(owners_left(&verdict.writes[0]), ("r", vec![]));
    let Write::Patch { target, body, .. } = &verdict.writes[1] else { panic!("{verdict:?}") };
    assert_eq!(target.uid, "d");
    assert_eq!(body["metadata"]["finalizers"], json!(["example.org/other"]));
}

#[test]
fn a_namesake_is_another_owner() {
    let mut graph = graph(&[object("d", &[], true), object("r", &["d"], true)]);
    let mut successor = object("d", &[], true);
    successor.uid = Some("d-again".to_owned());
    let concerned = graph.update(&item("d"), Some(&successor));
    assert_eq!(names(&concerned), ["r"]);
    assert_eq!(deletion(&graph.plan(&item("r"), &absent(&["d"]))).0, "r");
}

#[test]
fn looking_again_at_what_did_not_change_concerns_nobody() {
    let owner = going(object("d", &[], true), FOREGROUND);
    let mut graph = graph(&[owner.clone(), object("r", &["d"], true)]);
    assert!(graph.update(&item("d"), Some(&owner)).is_empty());
    let mut newer = owner;
    newer.resource_version = Some("99".to_owned());
    assert!(graph.update(&item("d"), Some(&newer)).is_empty());
    graph.refresh(&item("d"), |other| (*other == item("d")).then(|| newer.clone()));
    assert_eq!(graph.nodes["d"].metadata.resource_version.as_deref(), Some("99"));
}

proptest! {
    #[test]
    fn after_any_news_the_graph_knows_just_the_dependents_there_are(
        news in prop::collection::vec((0..6_usize, prop::option::of((0..6_usize, 0..6_usize))), 0..60),
    ) {
        let mut graph = Graph::default();
        let mut truth: HashMap<String, ObjectMeta> = HashMap::new();
        for (who, state) in news {
            let name = format!("p{who}");
            let now = state.map(|(a, b)| {
                object(&name, &[&format!("p{a}"), &format!("p{b}")], true)
            });
            graph.update(&item(&name), now.as_ref());
            match now {
                Some(metadata) => truth.insert(name, metadata),
                None => truth.remove(&name),
            };
        }
        for owner in 0..6 {
            let uid = format!("p{owner}");
            let mut expected: Vec<&str> = truth
                .values()
                .filter(|held| held.owner_references.iter().flatten().any(|o| o.uid == uid))
                .map(meta::name)
                .collect();
            expected.sort_unstable();
            let found = graph.dependents_of(&uid);
            prop_assert_eq!(names(&found), expected);
        }
        prop_assert_eq!(graph.nodes.len(), truth.len());
        let empty = graph.dependents.values().filter(|set| set.is_empty()).count();
        prop_assert_eq!(empty, 0, "nothing is kept for owners without dependents");
    }
}
