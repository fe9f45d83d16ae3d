//! Kernel settings of this network namespace: which the data plane needs, and what they were before.

use std::collections::{BTreeMap, BTreeSet};

use netmodel::address::Family;
use netmodel::nft::{Engine, Layout};

use crate::kernel::{OpError, sysctl};

/// Every setting of the namespace as a whole that [`wanted`] may change. Those of the pods' bridge
/// go with the bridge.
const MACHINE: &[&str] = &[
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.send_redirects",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.vs.conn_reuse_mode",
];

/// The settings as they are now, to be restored when the cluster of a machine is removed. Those of
/// modules that are not loaded yet are left out.
#[must_use]
pub fn settings_now() -> BTreeMap<String, String> {
    let machine = MACHINE.iter().map(|name| (*name).to_owned());
    let all = machine.chain(of_links_with_routers()).chain(of_links_with_neighbours());
    all.filter_map(|name| sysctl::get(&name).map(|value| (name, value))).collect()
}

/// Has the kernel go on listening to routers on the links where it does so now. As soon as it
/// forwards IPv6 it would stop, and forget the machine's own way out at that very moment.
///
/// # Errors
/// The first setting that can't be changed.
pub fn keep_listening_to_routers() -> Result<(), OpError> {
    of_links_with_routers().into_iter().try_for_each(|name| sysctl::set(&name, "2").map(drop))
}

/// The settings `accept_ra` that are 1: listen unless forwarding.
fn of_links_with_routers() -> Vec<String> {
    let links = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    let links = links.filter_map(|entry| entry.file_name().into_string().ok());
    links
        .filter(|link| !["all", "default", "lo"].contains(&link.as_str()))
        .map(|link| format!("net.ipv6.conf.{}.accept_ra", link.replace('.', "/")))
        .filter(|name| sysctl::get(name).as_deref() == Some("1"))
        .collect()
}

/// Those that [`wanted`] may change of any link through which the node is reached.
fn of_links_with_neighbours() -> Vec<String> {
    let links = std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
    let links = links.filter_map(|entry| entry.file_name().into_string().ok());
    links
        .filter(|link| !["all", "default", "lo"].contains(&link.as_str()))
        .flat_map(|link| STRICT.map(|(name, ..)| of_link(&link, name)))
        .collect()
}

/// A setting of a link.
fn of_link(link: &str, name: &str) -> String {
    format!("net.ipv4.conf.{}.{name}", link.replace('.', "/"))
}

/// Virtual addresses are bound on every node. Who speaks for one on the network is agreed among the
/// nodes, so their kernels must keep silent about it (IPv6 does so by itself): neither say that they
/// have it, nor ask in its name, which tells the same.
const STRICT: [(&str, &str, &str); 2] = [
    ("arp_ignore", "1", "one node speaks for a virtual address that all have bound"),
    ("arp_announce", "2", "no node asks in the name of a virtual address"),
];

/// Puts the settings back to what they were. Returns the steps that failed; the others are done
/// all the same.
#[must_use]
pub fn restore_settings(before: &BTreeMap<String, String>) -> Vec<OpError> {
    before
        .iter()
        .filter(|(name, _)| sysctl::exists(name))
        .filter_map(|(name, value)| sysctl::set(name, value).err())
        .collect()
}

/// A setting that the data plane needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name, as `sysctl` has it.
    pub(crate) name: String,
    pub(crate) value: &'static str,
    pub(crate) why: &'static str,
}

/// Kernel settings without which nothing works, for what this node uses.
///
/// `alone` says that no bridge but ours is in the namespace; `links` are those by which the node is
/// reached.
pub(crate) fn wanted(layout: &Layout, alone: bool, links: &BTreeSet<String>) -> Vec<Setting> {
    let setting = |name: String, value, why| Setting { name, value, why };
    let mut out =
        vec![setting("net.ipv4.ip_forward".to_owned(), "1", "pods' packets pass through")];
    // Two pods of one node talk through it although they are on one link, so the kernel would tell
    // them to talk directly. They can't, and the kernel counts such advice against the limit of
    // errors it sends to a pod: refusals would get lost. Either setting alone leaves it on.
    for link in ["all", &*layout.bridge] {
        let name = format!("net.ipv4.conf.{link}.send_redirects");
        out.push(setting(name, "0", "pods of one node talk through it, though on one link"));
    }
    // With bridge netfilter, a packet from one pod to another by way of a Service is turned round
    // inside the bridge, past the isolation of its ports, and not at all when both pods are one.
    // Other bridges may need it (Docker's do), so it is only ours to switch off where there are
    // none; where there are, pods' ports must not be isolated, and must be in hairpin mode.
    if alone {
        for kind in ["iptables", "ip6tables"] {
            let name = format!("net.bridge.bridge-nf-call-{kind}");
            out.push(setting(name, "0", "packets between pods are routed, not bridged"));
        }
    }
    // Forwarding IPv6 also means to ignore router advertisements: only where pods have IPv6.
    if layout.pod_cidrs.iter().any(|net| Family::of(net.addr()) == Family::V6) {
        let name = "net.ipv6.conf.all.forwarding".to_owned();
        out.push(setting(name, "1", "pods' packets pass through"));
    }
    for link in links {
        let strict = STRICT.map(|(name, value, why)| setting(of_link(link, name), value, why));
        out.extend(strict);
    }
    if layout.engine == Engine::Ipvs {
        let of_ipvs = |(name, value, why)| setting(format!("net.ipv4.vs.{name}"), value, why);
        let recent = sysctl::kernel_is_at_least(5, 9);
        out.extend(for_ipvs(recent).map(of_ipvs));
    }
    out.retain(|setting| sysctl::exists(&setting.name));
    out
}

/// What IPVS needs; `recent` is Linux from 5.9 on.
fn for_ipvs(recent: bool) -> [(&'static str, &'static str, &'static str); 4] {
    // What becomes of a client's port that is used again while its last connection is still
    // remembered: with 1 a new backend is chosen, which before Linux 5.9 cost the client a second
    // (https://github.com/kubernetes/kubernetes/issues/93297).
    let reuse = match recent {
        true => ("conn_reuse_mode", "1", "since Linux 5.9 a reused client port gets a new backend"),
        false => ("conn_reuse_mode", "0", "before Linux 5.9 a reused client port waits a second"),
    };
    [
        ("conntrack", "1", "masquerading sees what IPVS sends"),
        ("expire_nodest_conn", "1", "connections to a backend that is gone end at once"),
        ("expire_quiescent_template", "1", "clients leave a backend that is retired"),
        reuse,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipvs_is_set_as_the_kernel_needs_it() {
        let of = |recent| for_ipvs(recent).map(|(name, value, _)| (name, value));
        let always =
            [("conntrack", "1"), ("expire_nodest_conn", "1"), ("expire_quiescent_template", "1")];
        for recent in [true, false] {
            assert_eq!(of(recent)[..3], always);
        }
        assert_eq!(of(true)[3], ("conn_reuse_mode", "1"));
        assert_eq!(of(false)[3], ("conn_reuse_mode", "0"), "else each reused port waits a second");
    }
}
