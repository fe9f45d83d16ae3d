//! Templates and their hashes.

use serde_json::json;

use super::*;

fn template(image: &str) -> PodTemplateSpec {
    serde_json::from_value(json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": image }] },
    }))
    .unwrap()
}

#[test]
fn the_hash_is_stable_and_written_in_upstreams_letters() {
    let hash = template_hash(&template("nginx"), None);
    assert_eq!(hash, template_hash(&template("nginx"), None));
    assert!((1..=10).contains(&hash.len()), "{hash}");
    assert!(hash.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{hash}");
}

#[test]
fn the_hash_depends_on_the_template_and_the_collisions_only() {
    let plain = template_hash(&template("nginx"), None);
    assert_ne!(plain, template_hash(&template("nginx:2"), None));
    assert_ne!(plain, template_hash(&template("nginx"), Some(1)));
    let mut labelled = template("nginx");
    let labels = labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap();
    labels.insert(HASH_LABEL.to_owned(), "x".to_owned());
    assert_eq!(plain, template_hash(&labelled, None), "its own label does not count");
}

#[test]
fn fnv_and_the_encoding_are_upstreams() {
    // FNV-1a's published test vector, and the encoding by hand: '0'..'9' are 48..57 mod 27.
    assert_eq!(fnv1a(0x811c_9dc5, b"foobar"), 0xbf9c_f968);
    assert_eq!(safe_encode("0123456789"), "456789bcdf");
}

#[test]
fn an_annotation_of_the_user_reaches_the_replica_set_and_ours_do_not() {
    let mut deployment = Deployment::default();
    deployment.metadata.annotations = Some(BTreeMap::from([
        ("kubernetes.io/change-cause".to_owned(), "because".to_owned()),
        ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".to_owned()),
        (REVISION.to_owned(), "7".to_owned()),
    ]));
    let mut set = ReplicaSet::default();
    assert!(annotate(&deployment, &mut set, 2));
    let held = set.metadata.annotations.clone().unwrap();
    assert_eq!(held.keys().collect::<Vec<_>>(), [REVISION, "kubernetes.io/change-cause"]);
    assert_eq!(held[REVISION], "2");
    assert!(!annotate(&deployment, &mut set, 2), "nothing new");
    assert!(!annotate(&deployment, &mut set, 1), "a number never sinks");
}
