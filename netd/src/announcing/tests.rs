//! What the announcer is ordered, as the cluster, the kernel and the node itself change.

use announce::offer::Declined;
use jiff::Timestamp;
use netmodel::snapshot::{Node, Service, Settings};

use super::*;
use crate::inputs::{Change, Event, Facts, OwnNode};

const FIRST: &str = "192.168.56.200";
const SECOND: &str = "192.168.56.201";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

fn balanced_service(address: &str) -> Event {
    let service = Service { load_balancer_ips: vec![ip(address)], ..Service::default() };
    let facts = Facts { uid: "1".into(), ..Facts::default() };
    Event::Service(Change::Set(name(address), (Some(service), facts)))
}

fn own_node(change: impl FnOnce(&mut OwnNode)) -> Event {
    let mut own = OwnNode { ready: true, ..OwnNode::default() };
    change(&mut own);
    let name = ServiceName::new("", "node-1");
    Event::Node(Change::Set(name, (Node::default(), Some(Box::new(own)))))
}

/// A ready node and a Service with the first address.
fn cluster() -> Inputs {
    let settings = Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    };
    let mut inputs = Inputs::new(settings, Timestamp::UNIX_EPOCH);
    inputs.apply(own_node(|_| ()));
    inputs.apply(balanced_service(FIRST));
    inputs
}

fn served(change: impl FnOnce(&mut Served)) -> Served {
    let mut served = Served { changed: true, ..Served::default() };
    change(&mut served);
    served
}

/// What is ordered now, if anything.
fn ordered(chief: &mut Chief, inputs: &Inputs, served: &Served) -> Option<Orders> {
    chief.orders(inputs, served, BTreeSet::new(), Instant::now())
}

fn declined(orders: &Orders, address: &str) -> Option<Declined> {
    orders.wanted[&ip(address)].declined.clone()
}

#[tokio::test]
async fn orders_are_given_when_something_changed_and_only_then() {
    let (mut chief, mut inputs) = (Chief::default(), cluster());
    let nothing = served(|served| served.changed = false);
    let orders = ordered(&mut chief, &inputs, &nothing).expect("the first");
    assert!(orders.sound && declined(&orders, FIRST).is_none());
    assert_eq!(ordered(&mut chief, &inputs, &nothing), None);
    // What came in since is announced once the kernel has it.
    inputs.apply(balanced_service(SECOND));
    assert_eq!(ordered(&mut chief, &inputs, &nothing), None, "it is not programmed yet");
    let orders = ordered(&mut chief, &inputs, &served(|_| ())).unwrap();
    assert_eq!(declined(&orders, SECOND), None);
    inputs.apply(own_node(|own| own.excluded = true));
    let orders = ordered(&mut chief, &inputs, &nothing).expect("the node is another");
    assert_eq!(declined(&orders, FIRST), Some(Declined::Excluded));
}

#[tokio::test]
async fn what_the_kernel_does_not_serve_is_not_announced_whatever_else_changes() {
    let (mut chief, mut inputs) = (Chief::default(), cluster());
    ordered(&mut chief, &inputs, &served(|_| ()));
    // The kernel is stuck, a Service has come, and the node has become ready again.
    inputs.apply(balanced_service(SECOND));
    for ready in [false, true] {
        inputs.apply(own_node(|own| own.ready = ready));
        let stuck = served(|served| (served.changed, served.stuck) = (ready, true));
        let orders = ordered(&mut chief, &inputs, &stuck).unwrap();
        assert!(!orders.sound, "others come first");
        assert_eq!(declined(&orders, FIRST), None, "it is there since it was last well");
        assert_eq!(declined(&orders, SECOND), Some(Declined::NotProgrammed));
    }
    let orders = ordered(&mut chief, &inputs, &served(|_| ())).unwrap();
    assert!(orders.sound && declined(&orders, SECOND).is_none());
    // The kernel refuses one, and the rest is well.
    let refusing = served(|served| served.refused = [ip(FIRST)].into());
    let orders = ordered(&mut chief, &inputs, &refusing).unwrap();
    assert!(orders.sound);
    assert_eq!(declined(&orders, FIRST), Some(Declined::NotProgrammed));
    assert_eq!(declined(&orders, SECOND), None);
    // What was refused was not served, also when the kernel is stuck after that.
    let stuck = served(|served| served.stuck = true);
    let orders = ordered(&mut chief, &inputs, &stuck).unwrap();
    assert_eq!(declined(&orders, FIRST), Some(Declined::NotProgrammed));
    assert_eq!(declined(&orders, SECOND), None);
}

#[tokio::test]
async fn a_node_that_is_not_to_be_counted_on_is_a_reserve() {
    let (mut chief, mut inputs) = (Chief::default(), cluster());
    let now = Instant::now();
    let sound = |chief: &mut Chief, inputs: &Inputs, now| {
        chief.orders(inputs, &served(|_| ()), BTreeSet::new(), now).unwrap().sound
    };
    assert!(sound(&mut chief, &inputs, now));
    let lost = kube::runtime::watcher::Error::NoResourceVersion;
    inputs.apply(Event::Failed("Services", lost));
    assert!(sound(&mut chief, &inputs, now), "an API server that starts again moves nothing");
    assert!(sound(&mut chief, &inputs, now + OUT_OF_TOUCH - Duration::from_secs(1)));
    assert!(!sound(&mut chief, &inputs, now + OUT_OF_TOUCH));
    inputs.apply(balanced_service(FIRST));
    assert!(sound(&mut chief, &inputs, now + OUT_OF_TOUCH), "the API is heard again");
    inputs.apply(own_node(|own| own.ready = false));
    assert!(!sound(&mut chief, &inputs, now + OUT_OF_TOUCH));
}

#[tokio::test]
async fn clusters_are_told_apart_by_the_service_that_each_has() {
    let (mut chief, mut inputs) = (Chief::default(), cluster());
    let mut number =
        |inputs: &Inputs| ordered(&mut chief, inputs, &served(|_| ())).unwrap().cluster;
    assert_eq!(number(&inputs), 0);
    let mut of = |uid: &str| {
        let facts = Facts { uid: uid.into(), ..Facts::default() };
        let service = (Some(Service::default()), facts);
        inputs.apply(Event::Service(Change::Set(name("kubernetes"), service)));
        number(&inputs)
    };
    assert_ne!(of("a"), of("b"));
    assert_eq!(of("a"), of("a"));
}

#[tokio::test]
async fn the_loop_hears_what_is_told_and_who_is_silent() {
    let (handle, inbox) = announce::start();
    let stop = CancellationToken::new();
    let unanswered = Unanswered::default();
    let (mut announcing, run) = Announcing::new(
        handle.clone(),
        inbox,
        "node-1".to_owned(),
        vec![],
        unanswered.clone(),
        stop.clone(),
    );
    let run = tokio::spawn(run);
    unanswered.set(&name(FIRST), false);
    announcing
        .follow(&Inputs::new(cluster().snapshot.settings, Timestamp::UNIX_EPOCH), &served(|_| ()));
    assert_eq!(handle.view().await.expect("it runs").addresses.len(), 0);
    stop.cancel();
    run.await.unwrap();
    assert!(handle.view().await.is_none());
    assert!(announcing.news().await.is_none(), "it ended: nothing is told any more");
}

#[test]
fn authors_are_told_in_the_words_of_metallb_and_who_yields_says_nothing() {
    let address = ip(FIRST);
    let services = BTreeSet::from([name("web")]);
    let link = "eth0".to_owned();
    let told = Told::Announces { address, services: services.clone(), link: link.clone() };
    let (about, _, reason, message) = words("node-1", &told).unwrap();
    assert_eq!((about, reason), (&services, "nodeAssigned"));
    assert_eq!(message, "announcing 192.168.56.200 from node \"node-1\" with protocol \"layer2\"");
    let mac = announce::frame::Mac([2, 0, 0, 0, 0, 9]);
    let told = Told::Conflict { address, services: services.clone(), link, mac };
    let (_, _, reason, message) = words("node-1", &told).unwrap();
    assert_eq!(reason, "AddressConflict");
    assert!(message.contains("02:00:00:00:00:09") && message.contains(FIRST), "{message}");
    let (_, _, reason, _) = words("node-1", &Told::NotOnLink { address, services }).unwrap();
    assert_eq!(reason, "AddressNotOnLink");
    assert!(words("node-1", &Told::Yields { address, to: None }).is_none());
}
