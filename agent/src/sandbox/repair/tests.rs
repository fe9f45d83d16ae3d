//! Tests of the comparison: what is there, what is to be mended.

use super::*;

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn bridge() -> Bridge {
    Bridge {
        name: "mini0".to_owned(),
        mac: vec![1, 2, 3, 4, 5, 6],
        gateways: nets(&["10.244.1.1/24", "fd00:10:244:1::1/64"]),
    }
}

fn pods() -> BTreeMap<String, Wired> {
    let addresses = ips(&["10.244.1.2", "fd00:10:244:1::2"]);
    let web = Wired::new("shop", "web", std::path::Path::new("/none"), &addresses);
    BTreeMap::from([("u1".to_owned(), web)])
}

/// A network that is as it should be.
fn whole() -> Seen {
    let bridge = Link {
        index: 3,
        name: "mini0".to_owned(),
        is_bridge: true,
        mac: vec![1, 2, 3, 4, 5, 6],
        up: true,
        ..Link::default()
    };
    let port = Link {
        index: 4,
        name: link_name("u1"),
        controller: Some(3),
        isolated: true,
        up: true,
        ..Link::default()
    };
    let route =
        |net: &str| RouteSeen { destination: net.parse().unwrap(), gateway: None, link: Some(3) };
    let inside = SeenInside {
        up: true,
        addresses: ips(&["10.244.1.2", "fd00:10:244:1::2", "fe80::1"]),
        gateways: ips(&["10.244.1.1", "fd00:10:244:1::1"]),
    };
    Seen {
        links: vec![bridge, port],
        addresses: bridge_addresses(),
        routes: vec![route("10.244.1.0/24"), route("fd00:10:244:1::/64")],
        pods: BTreeMap::from([("u1".to_owned(), inside)]),
    }
}

fn bridge_addresses() -> Vec<(u32, IpNet)> {
    let all = nets(&["10.244.1.1/24", "fd00:10:244:1::1/64", "fe80::1/64"]);
    all.into_iter().map(|net| (3, net)).collect()
}

fn repairs(damage: impl FnOnce(&mut Seen)) -> Vec<Repair> {
    let mut seen = whole();
    damage(&mut seen);
    plan(&bridge(), false, &pods(), &seen)
}

fn uid() -> String {
    "u1".to_owned()
}

#[test]
fn a_whole_network_is_left_alone() {
    assert_eq!(repairs(|_| {}), []);
}

#[test]
fn a_deleted_bridge_comes_back_before_its_ports() {
    let gone = repairs(|seen| {
        seen.links.remove(0);
        seen.links[0].controller = None;
        seen.addresses.clear();
        seen.routes.clear();
    });
    assert_eq!(gone, [Repair::Bridge, Repair::Port { uid: uid() }]);
    let text = tell(&gone, "mini0", &pods());
    assert_eq!(
        text,
        "Somebody changed the pod network; restored: bridge mini0; links of pods shop/web"
    );
}

#[test]
fn each_property_of_the_bridge_is_kept() {
    assert_eq!(repairs(|seen| seen.links[0].up = false), [Repair::Bridge]);
    assert_eq!(repairs(|seen| seen.links[0].mac = vec![0; 6]), [Repair::Bridge]);
    assert_eq!(repairs(|seen| seen.addresses.truncate(1)), [Repair::Bridge]);
    assert_eq!(repairs(|seen| seen.addresses.truncate(2)), [Repair::Bridge], "its link-local one");
    let route = repairs(|seen| {
        seen.routes.remove(0);
    });
    assert_eq!(route, [Repair::Route("10.244.1.1/24".parse().unwrap())]);
    assert!(tell(&route, "mini0", &pods()).ends_with("restored: route to 10.244.1.0/24"));
}

#[test]
fn a_pods_link_is_made_anew_and_its_port_attached_again() {
    let port = [Repair::Port { uid: uid() }];
    assert_eq!(repairs(|seen| seen.links.truncate(1)), [Repair::Wire { uid: uid() }]);
    assert_eq!(repairs(|seen| seen.links[1].controller = None), port);
    assert_eq!(repairs(|seen| seen.links[1].isolated = false), port);
    assert_eq!(repairs(|seen| seen.links[1].hairpin = true), port);
    assert_eq!(repairs(|seen| seen.links[1].up = false), port);
}

#[test]
fn what_is_missing_inside_a_pod_is_restored() {
    let inside = [Repair::Inside { uid: uid() }];
    let damaged =
        |damage: fn(&mut SeenInside)| repairs(|seen| seen.pods.values_mut().for_each(damage));
    assert_eq!(damaged(|pod| pod.up = false), inside);
    assert_eq!(damaged(|pod| pod.addresses.truncate(1)), inside);
    assert_eq!(damaged(|pod| pod.gateways.truncate(1)), inside);
    // A pod that could not be looked into is somebody else's business.
    assert_eq!(repairs(|seen| seen.pods.clear()), []);
}
