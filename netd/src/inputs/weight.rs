//! What a Service costs in memory: it can't creep up unseen.
//!
//! Allocations are counted, so that neither the allocator nor the machine counts. Limits leave
//! room for another field, but not for a second copy of the slices.

use std::collections::BTreeSet;

use allocation_counter::{AllocationInfo, measure};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use netmodel::dataplane::Dataplane;
use netmodel::nft::{Engine, Layout, State};
use netmodel::snapshot::{ServiceName, Settings};
use serde_json::json;

use super::fan::{Fan, Listener};
use super::slices::Slices;
use super::watch::{cut_service, cut_slice};
use super::{Change, Event, Inputs};
use crate::names;

const SERVICES: u32 = 2000;
const ENDPOINTS: u32 = 4;

fn settings() -> Settings {
    Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec!["10.244.0.0/14".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    }
}

fn name(n: u32) -> ServiceName {
    ServiceName::new("default", &format!("service-{n:05}"))
}

fn service(n: u32) -> core::Service {
    let address = std::net::Ipv4Addr::from_bits(0x0a61_0000 + n);
    let object = json!({
        "metadata": {
            "name": &*name(n).name, "namespace": "default", "resourceVersion": "1234567",
            "uid": "8a1d0e4c-41a5-4a6b-9f1c-0123456789ab",
        },
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]},
    });
    serde_json::from_value(object).unwrap()
}

fn slice(n: u32) -> discovery::EndpointSlice {
    let endpoints = (0..ENDPOINTS).map(|i| {
        let address = std::net::Ipv4Addr::from_bits(0x0af5_0100 + n * ENDPOINTS + i);
        json!({"addresses": [address], "nodeName": "node-2", "conditions": {"ready": true}})
    });
    let object = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": &*name(n).name}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints.collect::<Vec<_>>(),
    });
    serde_json::from_value(object).unwrap()
}

/// What each Service adds.
fn bytes_each(info: &AllocationInfo) -> i64 {
    info.bytes_current / i64::from(SERVICES)
}

/// All Services and slices, as the watches show them to whoever keeps something.
struct Known {
    slices: Slices,
    fan: Fan,
    inputs: Inputs,
}

impl Known {
    fn nothing(slices: &Slices) -> Self {
        let inputs = Inputs::new(settings(), jiff::Timestamp::UNIX_EPOCH);
        Self { slices: slices.clone(), fan: Fan::new(slices.clone(), Vec::new()), inputs }
    }

    fn all(slices: &Slices) -> Self {
        let mut known = Self::nothing(slices);
        known.list(slice);
        known
    }

    /// The lists of both, from their beginnings to their ends: first a listener is told of each
    /// object, then the kernel's loop. Names whose Services are to be looked at again.
    fn list(&mut self, slice: impl Fn(u32) -> discovery::EndpointSlice) -> BTreeSet<ServiceName> {
        self.fan.tell::<core::Service>(Change::Begin);
        self.inputs.apply(Event::Service(Change::Begin));
        for n in 0..SERVICES {
            let (object, name) = (service(n), name(n));
            self.fan.tell(Change::Set(name.clone(), &object));
            let (name, cut) = cut_service(name, &object).unwrap();
            self.inputs.apply(Event::Service(Change::Set(name, cut)));
        }
        self.fan.tell::<core::Service>(Change::Listed);
        self.inputs.apply(Event::Service(Change::Listed));
        self.fan.tell::<discovery::EndpointSlice>(Change::Begin);
        self.inputs.apply(Event::Slice(Change::Begin));
        for n in 0..SERVICES {
            let name = ServiceName::new("default", &format!("slice-{n:05}"));
            let object = slice(n);
            self.fan.tell(Change::Set(name.clone(), &object));
            let (name, cut) = cut_slice(&self.slices, name, &object).unwrap();
            self.inputs.apply(Event::Slice(Change::Set(name, cut)));
        }
        self.fan.tell::<discovery::EndpointSlice>(Change::Listed);
        self.inputs.apply(Event::Slice(Change::Listed));
        self.inputs.news.services = BTreeSet::new();
        std::mem::take(&mut self.inputs.dirty.services)
    }
}

#[test]
fn a_service_of_four_endpoints_as_netd_knows_it() {
    let mut kept = None;
    let info = measure(|| kept = Some(Known::all(&Slices::default())));
    let each = bytes_each(&info);
    assert!(each < 2300, "{each} bytes for each Service and its slice");
    let Known { inputs, .. } = kept.unwrap();
    assert_eq!(inputs.snapshot.slices.len(), SERVICES as usize);
    let layout = Layout::of(&inputs.snapshot, Engine::Nftables);
    let mut planned = None;
    let info = measure(|| {
        let plane = Dataplane::of(&inputs.snapshot);
        let state = State::desired(&layout, &plane, &BTreeSet::new());
        planned = Some((plane, state));
    });
    let each = bytes_each(&info);
    assert!(each < 2000, "{each} bytes for each Service as the kernel has it");
}

#[test]
fn lists_that_are_read_again_cost_nothing() {
    let mut known = Known::all(&Slices::default());
    let mut dirty = BTreeSet::new();
    let info = measure(|| dirty = known.list(slice));
    assert_eq!(dirty, BTreeSet::new());
    assert!(info.bytes_current <= 0, "{} bytes for the same lists again", info.bytes_current);
}

#[test]
fn slices_that_change_leave_nothing_of_what_they_were() {
    let mut known = Known::all(&Slices::default());
    let changed = |n| {
        let mut object = slice(n);
        for endpoint in object.endpoints.iter_mut().flatten() {
            endpoint.conditions.get_or_insert_default().ready = Some(false);
        }
        object
    };
    let info = measure(|| assert_eq!(known.list(changed).len(), SERVICES as usize));
    assert!(info.bytes_current <= 0, "{} bytes left", info.bytes_current);
}

#[test]
fn the_name_server_keeps_nothing_of_slices_whose_endpoints_have_no_names() {
    let config = names::tests::config();
    let dns = names::server(&config);
    let slices = Slices::default();
    let _known = Known::all(&slices);
    let mut feed = names::Feed::new(dns.clone(), slices.clone(), &config);
    let of_services =
        measure(|| (0..SERVICES).for_each(|n| feed.service(&name(n), Some(&service(n)))));
    let each = bytes_each(&of_services);
    assert!(each < 2000, "{each} bytes for each Service");
    let of_slices = measure(|| {
        for n in 0..SERVICES {
            let name = ServiceName::new("default", &format!("slice-{n:05}"));
            let kept = slices.get(&name);
            feed.slice(&name, None, kept.as_ref());
        }
    });
    let each = bytes_each(&of_slices);
    assert!(each < 8, "{each} bytes for each slice");
}
