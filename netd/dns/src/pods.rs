//! Who the Pods are: whose address it is that asks, and which Pods' names there are.
//!
//! Pods of all nodes are known, because their names are verified; each in as few bytes as will do.
//! Pods in the network of their node share its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// It is in the network of its node.
    pub host_network: bool,
    /// Where and how it looks for names, if not as the others do.
    pub config: Option<Box<Wishes>>,
}

/// What a Pod's spec says about its `/etc/resolv.conf`: `dnsPolicy` and `dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What it begins with.
    pub policy: Policy,
    /// Servers after those of the policy.
    pub servers: Vec<IpAddr>,
    /// Domains after those of the policy.
    pub searches: Vec<String>,
    /// In place of the policy's.
    pub ndots: Option<usize>,
}

/// Where a Pod's servers and domains come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `ClusterFirst`, and with `hostNetwork` `ClusterFirstWithHostNet`: this server.
    #[default]
    Cluster,
    /// `Default`: its node's own.
    Node,
    /// `None`: nowhere but from the Pod's spec.
    Nothing,
}

/// What stands in a Pod's `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// It asks this server before others.
    pub asks_here: bool,
    /// All domains that it tries in turn.
    pub searches: Vec<String>,
    /// Names with fewer dots than this are tried with the search domains first.
    pub ndots: usize,
}

/// What Pods' files on this node are made of beside their own wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The cluster's domain, without a dot at its end.
    pub domain: String,
    /// Where this server answers.
    pub servers: Vec<IpAddr>,
    /// The domains that the node tries itself.
    pub searches: Vec<String>,
}

/// The number of dots that makes a name be tried as it is first, as Kubernetes sets it.
const NDOTS: usize = 5;
/// The same where nobody sets it (resolv.conf(5)).
const USUAL_NDOTS: usize = 1;

impl Surroundings {
    /// The file of a Pod on this node (upstream: `pkg/kubelet/network/dns/dns.go`; the agent writes
    /// it).
    #[must_use]
    pub fn resolv_conf(&self, namespace: &str, wishes: Option<&Wishes>) -> ResolvConf {
        let domain = &self.domain;
        let policy = wishes.map_or(Policy::Cluster, |wishes| wishes.policy);
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        let (mut searches, ndots) = match policy {
            Policy::Cluster => ([&own[..], &self.searches].concat(), NDOTS),
            Policy::Node => (self.searches.clone(), USUAL_NDOTS),
            Policy::Nothing => (Vec::new(), USUAL_NDOTS),
        };
        let mut ndots = ndots;
        let mut first = None;
        if let Some(wishes) = wishes {
            for domain in &wishes.searches {
                if !searches.contains(domain) {
                    searches.push(domain.clone());
                }
            }
            ndots = wishes.ndots.unwrap_or(ndots);
            first = wishes.servers.first();
        }
        let asks_here = match policy {
            Policy::Cluster => true,
            // The node's servers come first, and they are others.
            Policy::Node => false,
            Policy::Nothing => first.is_some_and(|server| self.servers.contains(server)),
        };
        ResolvConf { asks_here, searches, ndots }
    }
}

/// All Pods, by name and by address.
#[derive(Debug, Default)]
pub struct Pods {
    by_name: HashMap<Arc<str>, HashMap<Box<str>, Arc<Pod>>>,
    by_ip: HashMap<IpAddr, Vec<Arc<Pod>>>,
}

impl Pods {
    /// A Pod came, changed or went. Says whether that changed anything.
    pub fn set(&mut self, namespace: &str, name: &str, pod: Option<Pod>) -> bool {
        let old = self.by_name.get(namespace).and_then(|pods| pods.get(name)).cloned();
        if old.as_deref() == pod.as_ref() {
            return false;
        }
        if let Some(old) = old {
            self.forget(&old);
        }
        if let Some(mut pod) = pod {
            // One copy of a namespace's name is enough for all of its Pods.
            if let Some((shared, _)) = self.by_name.get_key_value(namespace) {
                pod.namespace = shared.clone();
            }
            let pod = Arc::new(pod);
            for ip in &pod.ips {
                self.by_ip.entry(*ip).or_default().push(pod.clone());
            }
            let pods = self.by_name.entry(pod.namespace.clone()).or_default();
            pods.insert(pod.name.clone(), pod);
        }
        true
    }

    fn forget(&mut self, pod: &Arc<Pod>) {
        if let Some(pods) = self.by_name.get_mut(&pod.namespace) {
            pods.remove(&pod.name);
            if pods.is_empty() {
                self.by_name.remove(&pod.namespace);
            }
        }
        for ip in &pod.ips {
            if let Some(pods) = self.by_ip.get_mut(ip) {
                pods.retain(|other| !Arc::ptr_eq(other, pod));
                if pods.is_empty() {
                    self.by_ip.remove(ip);
                }
            }
        }
    }

    /// A Pod by its name.
    #[must_use]
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.by_name.get(namespace)?.get(name)
    }

    /// The Pod that an address belongs to alone.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        self.by_ip.get(&ip)?.iter().find(|pod| !pod.host_network)
    }

    /// Is there a Pod with this address in a namespace?
    #[must_use]
    pub fn is_in(&self, ip: IpAddr, namespace: &str) -> bool {
        self.by_ip.get(&ip).is_some_and(|pods| pods.iter().any(|pod| *pod.namespace == *namespace))
    }

    /// Is there any Pod in a namespace?
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.by_name.contains_key(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, host_network: bool) -> Pod {
        let ips = vec![ip.parse().unwrap()];
        Pod { namespace: "shop".into(), name: name.into(), ips, host_network, config: None }
    }

    fn names(pods: &Pods, ip: &str) -> Option<String> {
        pods.at(ip.parse().unwrap()).map(|pod| pod.name.to_string())
    }

    #[test]
    fn an_address_goes_from_pod_to_pod() {
        let mut pods = Pods::default();
        assert!(pods.set("shop", "a", Some(pod("a", "10.244.0.5", false))));
        assert!(!pods.set("shop", "a", Some(pod("a", "10.244.0.5", false))));
        // The next one may be seen before the last one's end.
        assert!(pods.set("shop", "b", Some(pod("b", "10.244.0.5", false))));
        assert!(pods.set("shop", "a", None));
        assert_eq!(names(&pods, "10.244.0.5").as_deref(), Some("b"));
        assert!(pods.set("shop", "b", None));
        assert_eq!(names(&pods, "10.244.0.5"), None);
        assert!(!pods.has_namespace("shop"));
        assert!(pods.by_ip.is_empty());
    }

    #[test]
    fn a_nodes_address_is_nobodys_own() {
        let mut pods = Pods::default();
        pods.set("shop", "a", Some(pod("a", "192.168.56.70", true)));
        assert_eq!(names(&pods, "192.168.56.70"), None);
        assert!(pods.is_in("192.168.56.70".parse().unwrap(), "shop"));
        assert!(!pods.is_in("192.168.56.70".parse().unwrap(), "other"));
    }

    fn file(wishes: Option<Wishes>) -> (bool, String, usize) {
        let surroundings = Surroundings {
            domain: "cluster.local".to_owned(),
            servers: vec!["10.96.0.10".parse().unwrap()],
            searches: vec!["lan".to_owned()],
        };
        let file = surroundings.resolv_conf("shop", wishes.as_ref());
        (file.asks_here, file.searches.join(" "), file.ndots)
    }

    #[test]
    fn a_pods_file_is_as_the_agent_writes_it() {
        let cluster = "shop.svc.cluster.local svc.cluster.local cluster.local lan";
        assert_eq!(file(None), (true, cluster.to_owned(), 5));
        let wishes = |policy, servers: &[&str], searches: &[&str], ndots| {
            let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
            let searches = searches.iter().map(ToString::to_string).collect();
            Some(Wishes { policy, servers, searches, ndots })
        };
        let more = wishes(Policy::Cluster, &["192.0.2.1"], &["lan", "corp.example"], Some(2));
        assert_eq!(file(more), (true, format!("{cluster} corp.example"), 2));
        let of_node = wishes(Policy::Node, &["10.96.0.10"], &["corp.example"], None);
        assert_eq!(file(of_node), (false, "lan corp.example".to_owned(), 1));
        let elsewhere = wishes(Policy::Nothing, &["192.0.2.1", "10.96.0.10"], &["x"], Some(3));
        assert_eq!(file(elsewhere), (false, "x".to_owned(), 3));
        let here = wishes(Policy::Nothing, &["10.96.0.10"], &[], None);
        assert_eq!(file(here), (true, String::new(), 1));
    }
}
