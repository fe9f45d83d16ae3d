//! What the cache makes of a watch and our own writes in any order.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;

use super::*;

fn pod(name: &str, uid: &str, revision: u64) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.resource_version = Some(revision.to_string());
    pod
}

fn held(cache: &Cache<Pod>) -> Vec<(String, u64)> {
    cache.all().iter().map(|pod| (meta::uid(&**pod).to_owned(), revision(&**pod))).collect()
}

fn key() -> Key {
    Key::new("default", "a")
}

#[test]
fn an_answer_is_seen_before_the_watch_tells_of_it_and_only_once() {
    let cache = Arc::new(Cache::default());
    let changes = Arc::new(Mutex::new(0));
    let counter = changes.clone();
    cache.on_change(move |_: &Change<Pod>| *counter.lock().unwrap() += 1);
    cache.absorb(pod("a", "u1", 5));
    assert_eq!(held(&cache), [("u1".to_owned(), 5)]);
    cache.observe(pod("a", "u1", 5));
    assert_eq!(*changes.lock().unwrap(), 1, "the watch's echo is no change");
}

fn labelled(name: &str, revision: u64, labels: &[(&str, &str)]) -> Pod {
    let mut pod = pod(name, name, revision);
    let pairs = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pod.metadata.labels = Some(pairs.collect());
    pod
}

#[test]
fn objects_are_found_by_what_they_say_now() {
    let cache = Cache::default();
    let found = |words: &[&str]| -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let found = cache.found_by_all("default", &words);
        found.iter().map(|pod| meta::name(&**pod).to_owned()).collect()
    };
    cache.observe(labelled("a", 1, &[("app", "web"), ("tier", "front")]));
    cache.observe(labelled("b", 2, &[("app", "web")]));
    assert_eq!(found(&["app=web"]), ["a", "b"]);
    assert_eq!(found(&["app=web", "tier=front"]), ["a"]);
    assert!(found(&[]).is_empty());
    assert!(cache.found_by("other", "app=web").is_empty(), "namespaces are apart");
    cache.absorb(labelled("a", 3, &[("app", "db"), ("tier", "front")]));
    assert_eq!((found(&["app=web"]), found(&["app=db"])), (vec!["b".into()], vec!["a".into()]));
    cache.replace(vec![labelled("c", 4, &[("app", "web")])], 4);
    assert_eq!(found(&["app=web"]), ["c"]);
    cache.observe_removed(&labelled("c", 5, &[("app", "web")]));
    assert!(cache.read().index.is_empty(), "nothing is remembered of what is gone");
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let cache = Cache::default();
    cache.absorb(pod("a", "u1", 7));
    cache.observe(pod("a", "u1", 6));
    assert_eq!(held(&cache), [("u1".to_owned(), 7)]);
}

#[test]
fn an_answer_that_arrives_after_the_watch_saw_the_object_go_is_dropped() {
    let cache = Cache::default();
    cache.observe(pod("a", "u1", 5));
    cache.observe_removed(&pod("a", "u1", 6));
    cache.absorb(pod("a", "u1", 5));
    assert!(held(&cache).is_empty(), "a ghost: {:?}", held(&cache));
}

#[test]
fn what_we_removed_stays_removed_until_the_watch_confirms_it() {
    let cache = Cache::default();
    cache.observe(pod("a", "u1", 5));
    cache.absorb_removed(&key(), "u1");
    cache.observe(pod("a", "u1", 6));
    assert!(held(&cache).is_empty(), "a late event brought it back");
    cache.observe_removed(&pod("a", "u1", 7));
    cache.observe(pod("a", "u2", 8));
    assert_eq!(held(&cache), [("u2".to_owned(), 8)], "a namesake is another object");
}

#[test]
fn the_removal_of_a_former_namesake_leaves_the_present_one() {
    let cache = Cache::default();
    cache.observe(pod("a", "u1", 5));
    cache.absorb(pod("a", "u2", 8));
    cache.observe_removed(&pod("a", "u1", 7));
    assert_eq!(held(&cache), [("u2".to_owned(), 8)]);
}

#[test]
fn a_list_keeps_what_was_written_after_it_was_read() {
    let cache = Cache::default();
    cache.replace(vec![pod("old", "u1", 3), pod("kept", "u2", 4)], 10);
    cache.absorb(pod("new", "u3", 12));
    cache.replace(vec![pod("kept", "u2", 4)], 11);
    let names: Vec<String> = cache.all().iter().map(|p| meta::name(&**p).to_owned()).collect();
    assert_eq!(names, ["kept", "new"]);
    cache.replace(vec![pod("kept", "u2", 4)], 13);
    assert_eq!(held(&cache), [("u2".to_owned(), 4)], "by 13 the new one was gone again");
}

#[test]
fn a_list_read_before_our_removal_does_not_bring_the_object_back() {
    let cache = Cache::default();
    cache.observe(pod("a", "u1", 5));
    cache.absorb_removed(&key(), "u1");
    cache.replace(vec![pod("a", "u1", 5)], 5);
    assert!(held(&cache).is_empty());
}

#[test]
fn a_namespace_is_read_apart_from_its_neighbours() {
    let cache = Cache::default();
    for (namespace, name) in [("a", "x"), ("a-b", "y"), ("b", "z"), ("a", "w")] {
        let mut pod = pod(name, name, 1);
        pod.metadata.namespace = Some(namespace.to_owned());
        cache.observe(pod);
    }
    let names = |namespace: &str| -> Vec<String> {
        cache.in_namespace(namespace).iter().map(|p| meta::name(&**p).to_owned()).collect()
    };
    assert_eq!(names("a"), ["w", "x"]);
    assert_eq!(names("a-b"), ["y"]);
    assert!(names("c").is_empty());
}
