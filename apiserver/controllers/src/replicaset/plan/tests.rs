//! What a replica set does about its pods.

use k8s_openapi::api::apps::v1::ReplicaSetSpec;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use proptest::prelude::*;

use super::*;
use crate::selector::Labels;
use crate::view::Object;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn labels(app: &str) -> Labels {
    Labels::from([("app".to_owned(), app.to_owned())])
}

fn set(replicas: i32) -> ReplicaSet {
    let mut set = ReplicaSet::default();
    set.metadata.name = Some("web".to_owned());
    set.metadata.namespace = Some("shop".to_owned());
    set.metadata.uid = Some("set".to_owned());
    set.metadata.generation = Some(1);
    let metadata = ObjectMeta { labels: Some(labels("web")), ..ObjectMeta::default() };
    set.spec = Some(ReplicaSetSpec {
        replicas: Some(replicas),
        selector: LabelSelector { match_labels: Some(labels("web")), match_expressions: None },
        template: Some(PodTemplateSpec { metadata: Some(metadata), spec: None }),
        ..ReplicaSetSpec::default()
    });
    set
}

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some("shop".to_owned());
    pod.metadata.uid = Some(name.to_owned());
    pod.metadata.labels = Some(labels("web"));
    pod.metadata.owner_references = owner.map(|uid| {
        vec![OwnerReference {
            uid: uid.to_owned(),
            kind: "ReplicaSet".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: if ready { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(Time(at(100))),
        ..PodCondition::default()
    };
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(vec![condition]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

fn changed(pod: &Arc<Pod>, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = (**pod).clone();
    change(&mut pod);
    Arc::new(pod)
}

fn count(step: &Step) -> (usize, usize) {
    match step {
        Step::Nothing => (0, 0),
        Step::Create(_, count) => (*count, 0),
        Step::Remove(pods) => (0, pods.len()),
    }
}

#[test]
fn as_many_are_created_as_are_missing() {
    let own = pod("a", Some("set"), true);
    let Step::Create(made, 2) = manage(&set(3), &[own], &[], 500, at(0)) else {
        panic!("two are missing")
    };
    assert_eq!(made.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(made.metadata.labels, Some(labels("web")));
    let owner = meta::controller_of(&made.metadata).unwrap();
    assert_eq!((&*owner.kind, &*owner.uid, &*owner.api_version), ("ReplicaSet", "set", "apps/v1"));
    assert_eq!(owner.block_owner_deletion, Some(true));
}

#[test]
fn pods_that_ended_or_go_or_are_foreign_do_not_count() {
    let own = pod("a", Some("set"), true);
    let cases = [
        ("failed", changed(&own, |p| p.status.as_mut().unwrap().phase = Some("Failed".into()))),
        (
            "succeeded",
            changed(&own, |p| p.status.as_mut().unwrap().phase = Some("Succeeded".into())),
        ),
        ("going", changed(&own, |p| p.metadata.deletion_timestamp = Some(Time(at(1))))),
        ("relabelled", changed(&own, |p| p.metadata.labels = Some(labels("other")))),
        ("another's", pod("a", Some("other"), true)),
        ("nobody's", pod("a", None, true)),
    ];
    for (what, pod) in cases {
        assert_eq!(count(&manage(&set(1), &[pod], &[], 500, at(0))), (1, 0), "{what}");
    }
    assert_eq!(count(&manage(&set(1), &[own], &[], 500, at(0))), (0, 0));
}

#[test]
fn a_set_that_goes_away_neither_creates_nor_removes_nor_adopts() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(Time(at(1)));
    assert_eq!(manage(&set, &[], &[], 500, at(0)), Step::Nothing);
    assert!(claim(&set, &[pod("a", None, true)]).is_empty());
}

#[test]
fn a_burst_is_limited() {
    assert_eq!(count(&manage(&set(1000), &[], &[], 500, at(0))), (500, 0));
}

#[test]
fn matching_orphans_are_adopted_and_strangers_released() {
    let orphan = pod("orphan", None, true);
    let stranger = changed(&pod("stranger", Some("set"), true), |p| {
        p.metadata.labels = Some(labels("other"));
    });
    let others = pod("others", Some("other"), true);
    let own = pod("own", Some("set"), true);
    let writes = claim(&set(1), &[orphan, stranger, others, own]);
    let owners: Vec<(String, usize)> = writes
        .iter()
        .map(|write| {
            let Write::Patch { target, body, .. } = write else { panic!("{write:?}") };
            let owners = body["metadata"]["ownerReferences"].as_array().unwrap();
            (target.key.name.clone(), owners.len())
        })
        .collect();
    assert_eq!(owners, [("orphan".to_owned(), 1), ("stranger".to_owned(), 0)]);
}

fn written(write: Option<Write>) -> ReplicaSetStatus {
    match write {
        Some(Write::UpdateStatus(Object::ReplicaSet(set))) => set.status.unwrap(),
        other => panic!("no status written but {other:?}"),
    }
}

#[test]
fn the_status_counts_ready_and_available_pods_apart() {
    let mut set = set(3);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let pods = [pod("a", Some("set"), true), pod("b", Some("set"), false)];
    let early = written(status(&set, &pods, None, at(105)));
    assert_eq!(
        (early.replicas, early.ready_replicas, early.available_replicas),
        (2, Some(1), None)
    );
    assert_eq!(early.observed_generation, Some(1));
    assert_eq!(recheck(&set, &pods, at(105)), Some(Duration::from_secs(5)));
    let late = written(status(&set, &pods, None, at(110)));
    assert_eq!(late.available_replicas, Some(1));
    set.status = Some(late);
    assert_eq!(status(&set, &pods, None, at(110)), None, "nothing new, nothing written");
    assert_eq!(recheck(&set, &pods, at(110)), None);
}

#[test]
fn a_failure_stands_in_the_conditions_until_it_is_over() {
    let failure = Failure { creating: true, message: "exceeded quota".to_owned() };
    let mut set = set(1);
    let failed = written(status(&set, &[], Some(&failure), at(1)));
    let condition = &failed.conditions.as_ref().unwrap()[0];
    assert_eq!(condition.type_, "ReplicaFailure");
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(condition.message.as_deref(), Some("exceeded quota"));
    set.status = Some(failed);
    assert_eq!(status(&set, &[], Some(&failure), at(2)), None, "the first time of it stands");
    assert_eq!(written(status(&set, &[], None, at(3))).conditions, None);
}

proptest! {
    #[test]
    fn one_step_reaches_the_wanted_number_from_any_mix(
        wanted in 0..20_i32,
        mix in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..20),
    ) {
        let pods: Vec<Arc<Pod>> = mix
            .iter()
            .enumerate()
            .map(|(n, (ready, ended, ours))| {
                let owner = if *ours { "set" } else { "other" };
                changed(&pod(&format!("p{n}"), Some(owner), *ready), |pod| {
                    if *ended {
                        pod.status.as_mut().unwrap().phase = Some("Failed".to_owned());
                    }
                })
            })
            .collect();
        let set = set(wanted);
        let before = active(&set, &pods).count();
        let step = manage(&set, &pods, &[Arc::new(set.clone())], 500, at(0));
        let (made, removed) = count(&step);
        prop_assert_eq!(before + made - removed, usize::try_from(wanted).unwrap());
        if let Step::Remove(removed) = &step {
            let spared_unready = active(&set, &pods)
                .filter(|pod| !removed.iter().any(|gone| meta::uid(&**gone) == meta::uid(&***pod)))
                .any(|pod| !pod::is_ready(pod));
            let removed_ready = removed.iter().any(|pod| pod::is_ready(pod));
            prop_assert!(!(spared_unready && removed_ready), "a ready pod went before an unready one");
        }
    }
}
