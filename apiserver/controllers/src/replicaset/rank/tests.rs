//! Which of two pods goes first.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A ready pod on a node.
fn pod(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(name.to_owned());
    pod.metadata.creation_timestamp = Some(Time(at(0)));
    pod.spec = Some(PodSpec { node_name: Some("n1".to_owned()), ..PodSpec::default() });
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(at(0))),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

fn status(pod: &mut Pod) -> &mut PodStatus {
    pod.status.as_mut().unwrap()
}

#[test]
fn the_less_useful_pod_goes_first_for_each_reason_in_order() {
    type Change = fn(&mut Pod);
    let reasons: [(&str, Change); 7] = [
        ("not assigned", |p| p.spec.as_mut().unwrap().node_name = None),
        ("pending", |p| status(p).phase = Some("Pending".to_owned())),
        ("not ready", |p| status(p).conditions = None),
        ("cheap", |p| {
            let cost = (DELETION_COST.to_owned(), "-5".to_owned());
            p.metadata.annotations = Some([cost].into());
        }),
        ("ready for a short time", |p| {
            for condition in status(p).conditions.iter_mut().flatten() {
                condition.last_transition_time = Some(Time(at(9_990)));
            }
        }),
        ("restarted", |p| {
            let container = ContainerStatus { restart_count: 3, ..ContainerStatus::default() };
            status(p).container_statuses = Some(vec![container]);
        }),
        ("young", |p| p.metadata.creation_timestamp = Some(Time(at(9_990)))),
    ];
    for (index, (reason, change)) in reasons.iter().enumerate() {
        // The other pod has every weaker reason, and a name that would go first.
        let mut weaker = pod("a");
        for (_, weaker_change) in &reasons[index + 1..] {
            weaker_change(&mut weaker);
        }
        let mut stronger = pod("z");
        change(&mut stronger);
        let candidates = vec![Arc::new(weaker), Arc::new(stronger)];
        let gone = least_useful(candidates, &[], 1, at(10_000));
        assert_eq!(meta::name(&*gone[0]), "z", "{reason}");
    }
}

#[test]
fn the_pod_with_most_company_on_its_node_goes_first() {
    let on = |name: &str, node: &str| {
        let mut pod = pod(name);
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        Arc::new(pod)
    };
    let candidates = vec![on("a", "n1"), on("b", "n2"), on("c", "n2")];
    let company: Vec<&Arc<Pod>> = candidates.iter().collect();
    let gone = least_useful(candidates.clone(), &company, 1, at(10_000));
    assert_eq!(pod::node_name(&gone[0]), Some("n2"));
}

#[test]
fn all_may_go() {
    let candidates = vec![Arc::new(pod("a")), Arc::new(pod("b"))];
    assert_eq!(least_useful(candidates, &[], 2, at(0)).len(), 2);
}
