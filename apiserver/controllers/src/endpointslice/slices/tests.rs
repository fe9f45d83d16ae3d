//! How few writes bring slices up to date.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::view::Object;

fn owner() -> Owner {
    Owner {
        namespace: "shop".to_owned(),
        prefix: "web-".to_owned(),
        labels: BTreeMap::from([("kubernetes.io/service-name".to_owned(), "web".to_owned())]),
        annotations: BTreeMap::new(),
        reference: OwnerReference { uid: "service".to_owned(), ..OwnerReference::default() },
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
        let mut counts = (0, 0, 0);
        for write in reconcile(&owner(), groups, &self.slices) {
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
