//! How few writes bring slices up to date.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::endpointslice::MAX_ENDPOINTS;
use crate::view::Object;

fn owner() -> Owner {
    Owner {
        namespace: "shop".to_owned(),
        prefix: "web-".to_owned(),
        labels: BTreeMap::from([("kubernetes.io/service-name".to_owned(), "web".to_owned())]),
        annotations: None,
        trigger: None,
        reference: OwnerReference { uid: "service".to_owned(), ..OwnerReference::default() },
        capacity: MAX_ENDPOINTS,
    }
}

fn port(number: i32) -> EndpointPort {
    EndpointPort { port: Some(number), ..EndpointPort::default() }
}

fn endpoint(number: usize) -> Endpoint {
    Endpoint { addresses: vec![format!("10.244.1.{number}")], ..Endpoint::default() }
}

fn group(port_number: i32, endpoints: impl IntoIterator<Item = usize>) -> Group {
    Group {
        address_type: "IPv4".to_owned(),
        ports: vec![port(port_number)],
        endpoints: endpoints.into_iter().map(endpoint).collect(),
    }
}

/// Slices as an API server holds them.
#[derive(Default)]
struct World {
    slices: Vec<Arc<EndpointSlice>>,
    made: usize,
}

impl World {
    /// Applies the plan for `groups`; answers with the numbers of creates, updates, removals.
    fn settle(&mut self, groups: &[Group]) -> (usize, usize, usize) {
        self.settle_for(&owner(), groups)
    }

    fn settle_for(&mut self, owner: &Owner, groups: &[Group]) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for write in reconcile(owner, groups, &self.slices) {
            match write {
                Write::Create(Object::EndpointSlice(mut slice)) => {
                    counts.0 += 1;
                    self.made += 1;
                    slice.metadata.name = Some(format!("web-{}", self.made));
                    slice.metadata.uid = slice.metadata.name.clone();
                    self.slices.push(Arc::new(*slice));
                }
                Write::Update(Object::EndpointSlice(slice)) => {
                    counts.1 += 1;
                    let held =
                        self.slices.iter_mut().find(|s| s.metadata.uid == slice.metadata.uid);
                    *held.unwrap() = Arc::new(*slice);
                }
                Write::Delete { target, .. } => {
                    counts.2 += 1;
                    self.slices.retain(|held| held.metadata.uid.as_ref() != Some(&target.uid));
                }
                other => panic!("not a write of slices: {other:?}"),
            }
        }
        counts
    }

    fn held(&self) -> BTreeSet<(i32, String)> {
        let mut all = BTreeSet::new();
        for slice in &self.slices {
            let port = slice.ports.iter().flatten().next().and_then(|port| port.port).unwrap_or(0);
            for endpoint in slice.endpoints.iter().flatten() {
                assert!(all.insert((port, endpoint.addresses[0].clone())), "twice: {endpoint:?}");
            }
        }
        all
    }
}

fn wanted(groups: &[Group]) -> BTreeSet<(i32, String)> {
    let each = |group: &Group| {
        let port = group.ports.first().and_then(|port| port.port).unwrap_or(0);
        let addresses: Vec<String> =
            group.endpoints.iter().map(|endpoint| endpoint.addresses[0].clone()).collect();
        addresses.into_iter().map(move |address| (port, address)).collect::<Vec<_>>()
    };
    groups.iter().flat_map(each).collect()
}

#[test]
fn one_pod_more_or_less_is_one_update() {
    let mut world = World::default();
    assert_eq!(world.settle(&[group(80, 0..3)]), (1, 0, 0));
    assert_eq!(world.settle(&[group(80, 0..4)]), (0, 1, 0));
    assert_eq!(world.settle(&[group(80, 1..4)]), (0, 1, 0));
    assert_eq!(world.settle(&[group(80, 1..4)]), (0, 0, 0));
}

#[test]
fn slices_hold_a_hundred_and_are_filled_up_first() {
    let mut world = World::default();
    assert_eq!(world.settle(&[group(80, 0..250)]), (3, 0, 0));
    let mut sizes: Vec<usize> =
        world.slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    assert_eq!(world.settle(&[group(80, 0..260)]), (0, 1, 0), "the one with room takes them");
    assert_eq!(world.settle(&[group(80, 0..40)]), (0, 1, 2), "empty ones go");
}

#[test]
fn the_last_slice_stays_empty_rather_than_going() {
    let mut world = World::default();
    let nobody = Group { address_type: "IPv4".to_owned(), ports: vec![], endpoints: vec![] };
    assert_eq!(world.settle(std::slice::from_ref(&nobody)), (1, 0, 0));
    assert_eq!(world.settle(&[group(80, 0..2)]), (0, 1, 0), "the placeholder becomes the slice");
    assert_eq!(world.settle(std::slice::from_ref(&nobody)), (0, 1, 0));
    assert_eq!(world.settle(&[nobody]), (0, 0, 0));
    assert_eq!(world.slices.len(), 1);
}

#[test]
fn a_change_of_ports_turns_the_slice_instead_of_replacing_it() {
    let mut world = World::default();
    world.settle(&[group(80, 0..3)]);
    assert_eq!(world.settle(&[group(8080, 0..3)]), (0, 1, 0));
    assert_eq!(world.slices[0].metadata.name.as_deref(), Some("web-1"));
}

#[test]
fn labels_that_somebody_changed_come_back() {
    let mut world = World::default();
    world.settle(&[group(80, 0..3)]);
    let mut changed = (*world.slices[0]).clone();
    changed.metadata.labels.as_mut().unwrap().insert("x".to_owned(), "y".to_owned());
    world.slices[0] = Arc::new(changed);
    assert_eq!(world.settle(&[group(80, 0..3)]), (0, 1, 0));
    assert_eq!(world.slices[0].metadata.labels, Some(owner().labels));
}

#[test]
fn a_few_more_than_a_slice_holds_go_where_there_is_room() {
    let mut world = World::default();
    world.settle(&[group(80, 0..40)]);
    let counts = world.settle(&[group(80, 0..190)]);
    assert_eq!(counts, (1, 1, 0), "a hundred are made anew, fifty join the forty");
}

#[test]
fn a_slice_of_a_former_service_of_the_same_name_is_replaced_not_turned() {
    let mut world = World::default();
    world.settle(&[group(80, 0..3)]);
    let reference = OwnerReference { uid: "next".to_owned(), ..OwnerReference::default() };
    let next = Owner { reference, ..owner() };
    assert_eq!(world.settle_for(&next, &[group(80, 0..3)]), (1, 0, 1));
    assert_eq!(world.slices[0].metadata.owner_references.as_ref().unwrap()[0].uid, "next");
}

#[test]
fn a_slice_that_is_going_is_no_place_for_endpoints() {
    let mut world = World::default();
    world.settle(&[group(80, 0..3)]);
    let mut going = (*world.slices[0]).clone();
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    world.slices[0] = Arc::new(going);
    assert_eq!(world.settle(&[group(80, 0..3)]), (1, 0, 0));
}

#[test]
fn only_slices_that_change_tell_of_the_change() {
    let mut world = World::default();
    let at = |second| Owner { trigger: Timestamp::from_second(second).ok(), ..owner() };
    let told = |world: &World| -> Vec<Option<String>> {
        let all = world.slices.iter().map(|slice| slice.metadata.annotations.clone());
        all.map(|all| all.and_then(|all| all.get(LAST_CHANGE).cloned())).collect()
    };
    world.settle_for(&at(1), &[group(80, 0..3), group(443, 0..3)]);
    let first = Some("1970-01-01T00:00:01Z".to_owned());
    assert_eq!(told(&world), [first.clone(), first.clone()]);
    world.settle_for(&at(2), &[group(80, 0..4), group(443, 0..3)]);
    assert_eq!(told(&world), [Some("1970-01-01T00:00:02Z".to_owned()), first.clone()]);
    world.settle(&[group(80, 0..3), group(443, 0..3)]);
    assert_eq!(told(&world), [None, first], "nobody knows when a pod went");
}

#[test]
fn annotations_are_somebody_elses_unless_the_owner_names_them_all() {
    let mut world = World::default();
    let noted = |key: &str| Some(BTreeMap::from([(key.to_owned(), "x".to_owned())]));
    world.settle(&[group(80, 0..3)]);
    let mut changed = (*world.slices[0]).clone();
    changed.metadata.annotations = noted("theirs");
    world.slices[0] = Arc::new(changed);
    assert_eq!(world.settle(&[group(80, 0..4)]), (0, 1, 0));
    assert_eq!(world.slices[0].metadata.annotations, noted("theirs"));
    let exact = Owner { annotations: noted("ours"), ..owner() };
    assert_eq!(world.settle_for(&exact, &[group(80, 0..4)]), (0, 1, 0));
    assert_eq!(world.slices[0].metadata.annotations, noted("ours"));
    let none = Owner { annotations: Some(BTreeMap::new()), ..owner() };
    assert_eq!(world.settle_for(&none, &[group(80, 0..4)]), (0, 1, 0));
    assert_eq!(world.slices[0].metadata.annotations, None);
}

fn some_group(port: i32) -> impl Strategy<Value = Group> {
    prop::collection::btree_set(0..400_usize, 0..300).prop_map(move |set| group(port, set))
}

proptest! {
    #[test]
    fn any_history_ends_with_what_is_wanted_and_nothing_to_do(
        history in prop::collection::vec((some_group(80), some_group(443)), 1..6),
    ) {
        let mut world = World::default();
        for (one, two) in history {
            let groups = [one, two];
            world.settle(&groups);
            prop_assert_eq!(world.held(), wanted(&groups));
            let largest = world.slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).max();
            prop_assert!(largest.unwrap_or(0) <= MAX_ENDPOINTS);
            prop_assert_eq!(world.settle(&groups), (0, 0, 0), "a second plan is empty");
        }
    }
}
