//! The form of `subsets`: which ports go with which addresses (upstream: `RepackSubsets`).
//!
//! Pure. Inputs: single ports of single addresses, in any order and repeated as may be. Output:
//! subsets in which each address stands once for its ports, always in the same order.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// The most addresses in one object.
pub(super) const MOST_ADDRESSES: usize = 1000;

/// A port, as ports are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Its name; empty for none.
    pub(crate) name: String,
    /// Its protocol.
    pub(crate) protocol: String,
    /// Its number.
    pub(crate) number: i32,
    /// What is spoken on it, if that is said.
    pub(crate) app_protocol: Option<String>,
}

/// One port (or none, where a Service has no ports) of one address, and whether it is ready.
pub(crate) type Entry = (Option<Port>, EndpointAddress, bool);

/// Addresses by text and by the pod that they belong to, in the order of their text.
type Addresses = BTreeMap<(String, String), (EndpointAddress, bool)>;

/// Packs entries so that ports with the same addresses share a subset. An address that is both
/// ready and not ready for a port is not.
pub(crate) fn pack(entries: impl IntoIterator<Item = Entry>) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<Option<Port>, Addresses> = BTreeMap::new();
    for (port, address, ready) in entries {
        let pod = address.target_ref.as_ref().and_then(|target| target.uid.clone());
        let key = (address.ip.clone(), pod.unwrap_or_default());
        let (_, held) = by_port.entry(port).or_default().entry(key).or_insert((address, ready));
        *held &= ready;
    }
    let mut packed: Vec<(Addresses, Vec<Port>)> = Vec::new();
    for (port, addresses) in by_port {
        match packed.iter_mut().find(|(held, ports)| !ports.is_empty() && *held == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => packed.push((addresses, port.into_iter().collect())),
        }
    }
    packed.into_iter().map(|(addresses, ports)| subset(addresses, ports)).collect()
}

/// The opposite of [`pack`].
pub(crate) fn unpack(subsets: &[EndpointSubset]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for subset in subsets {
        let ports: Vec<Option<Port>> = match subset.ports.as_deref() {
            None | Some([]) => vec![None],
            Some(ports) => ports.iter().map(|port| Some(Port::of(port))).collect(),
        };
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let waiting = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(waiting) {
            entries.extend(ports.iter().map(|port| (port.clone(), address.clone(), ready)));
        }
    }
    entries
}

impl Port {
    fn of(port: &EndpointPort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: port.port,
            app_protocol: port.app_protocol.clone(),
        }
    }

    fn into_api(self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name).filter(|name| !name.is_empty()),
            protocol: Some(self.protocol),
            port: self.number,
            app_protocol: self.app_protocol,
        }
    }
}

fn subset(addresses: Addresses, ports: Vec<Port>) -> EndpointSubset {
    let (ready, waiting): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(_, ready)| *ready);
    let list = |addresses: Vec<(EndpointAddress, bool)>| {
        let addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    let ports: Vec<EndpointPort> = ports.into_iter().map(Port::into_api).collect();
    EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(waiting),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

/// Cuts off what is beyond the limit: addresses that are not ready first, and of each subset its
/// share (upstream: `truncateEndpoints`).
pub(super) fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let waiting: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + waiting <= MOST_ADDRESSES {
        return (subsets, false);
    }
    let (room, all) = if ready > MOST_ADDRESSES {
        (MOST_ADDRESSES, ready)
    } else {
        (MOST_ADDRESSES - ready, waiting)
    };
    let mut left = room;
    for subset in &mut subsets {
        let list = if ready > MOST_ADDRESSES {
            subset.not_ready_addresses = None;
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        // Rounded up, so that nothing is left over; the last subsets may get a little less.
        let share = (count(list) * room).div_ceil(all).min(left);
        if let Some(addresses) = list {
            addresses.truncate(share);
            left -= addresses.len();
        }
        *list = list.take().filter(|addresses| !addresses.is_empty());
    }
    subsets.retain(|s| count(&s.addresses) + count(&s.not_ready_addresses) > 0);
    (subsets, true)
}
