//! The files that every container of a pod sees: `/etc/hosts`, `/etc/hostname`,
//! `/etc/resolv.conf`. Pure, but for [`write`].
//!
//! Upstream: `pkg/kubelet/kubelet_pods.go` (`managedHostsFileContent`),
//! `pkg/kubelet/network/dns/dns.go`.

use std::{collections::BTreeMap, fmt::Write as _, fs, net::IpAddr};

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::{PodFolder, SandboxError, file_error, on_host_network};

/// What names mean on this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DnsFacts<'a> {
    pub(crate) node_name: &'a str,
    pub(crate) cluster_dns: &'a [IpAddr],
    pub(crate) cluster_domain: &'a str,
}

/// The longest host name (`HOST_NAME_MAX` less one, as kubelet cuts it).
const LONGEST_HOST_NAME: usize = 63;

/// The host name inside a pod.
pub(crate) fn host_name(pod: &Pod, node_name: &str) -> String {
    if on_host_network(pod) {
        return node_name.to_owned();
    }
    let wanted = pod.spec.as_ref().and_then(|spec| spec.hostname.as_deref());
    let name = wanted.filter(|name| !name.is_empty()).or(pod.metadata.name.as_deref());
    let name = name.unwrap_or_default();
    let cut = &name[..name.floor_char_boundary(LONGEST_HOST_NAME)];
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Writes the files.
pub(super) fn write(
    folder: &PodFolder,
    pod: &Pod,
    hostname: &str,
    addresses: &[IpAddr],
    dns: &DnsFacts<'_>,
) -> Result<(), SandboxError> {
    let node_file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let hosts = match addresses {
        [] => host_network_hosts(pod, &node_file("/etc/hosts")),
        own => hosts(pod, hostname, own, dns.cluster_domain),
    };
    let files = [
        ("hosts", hosts),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf(pod, dns, &node_file("/etc/resolv.conf"))),
    ];
    for (name, content) in files {
        let path = folder.file(name);
        fs::write(&path, content).map_err(file_error("write", &path))?;
    }
    Ok(())
}

fn hosts(pod: &Pod, hostname: &str, addresses: &[IpAddr], domain: &str) -> String {
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|s| !s.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = match subdomain {
        Some(subdomain) => {
            format!("{hostname}.{subdomain}.{namespace}.svc.{domain}\t{hostname}")
        }
        None => hostname.to_owned(),
    };
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{names}");
    }
    append_aliases(pod, &mut text);
    text
}

fn host_network_hosts(pod: &Pod, node: &str) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{node}");
    append_aliases(pod, &mut text);
    text
}

fn append_aliases(pod: &Pod, text: &mut String) {
    let aliases: &[HostAlias] =
        pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
}

/// The parts of a `resolv.conf`.
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                // The last line of its kind holds (resolv.conf(5)).
                Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }

    fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn resolv_conf(pod: &Pod, dns: &DnsFacts<'_>, node: &str) -> String {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !on_host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let of_node = Resolver::parse(node);
    let mut resolver = if policy == "None" {
        Resolver::default()
    } else if cluster_first && !dns.cluster_dns.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = dns.cluster_domain;
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        Resolver {
            servers: dns.cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches: own.into_iter().chain(of_node.searches).collect(),
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        of_node
    };
    merge_dns_config(pod, &mut resolver);
    resolver.render()
}

fn merge_dns_config(pod: &Pod, resolver: &mut Resolver) {
    let Some(config) = pod.spec.as_ref().and_then(|spec| spec.dns_config.as_ref()) else { return };
    let extend = |known: &mut Vec<String>, more: &Option<Vec<String>>| {
        for entry in more.iter().flatten() {
            if !known.contains(entry) {
                known.push(entry.clone());
            }
        }
    };
    extend(&mut resolver.servers, &config.nameservers);
    extend(&mut resolver.searches, &config.searches);
    // An option of the pod replaces the same one.
    let mut options: BTreeMap<String, Option<String>> = resolver
        .options
        .iter()
        .map(|option| match option.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (option.clone(), None),
        })
        .collect();
    for option in config.options.iter().flatten() {
        options.insert(option.name.clone().unwrap_or_default(), option.value.clone());
    }
    let render = |(name, value): (String, Option<String>)| match value {
        Some(value) => format!("{name}:{value}"),
        None => name,
    };
    resolver.options = options.into_iter().map(render).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "web", "namespace": "shop", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn resolver(spec: Value) -> String {
        let dns = DnsFacts {
            node_name: "node-1",
            cluster_dns: &["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local",
        };
        resolv_conf(&pod(spec), &dns, "nameserver 1.1.1.1\nsearch lan\n")
    }

    #[test]
    fn cluster_names_come_first() {
        assert_eq!(
            resolver(json!({"containers": []})),
            "search shop.svc.cluster.local svc.cluster.local cluster.local lan\n\
             nameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn the_policy_and_the_nodes_network_choose_the_nodes_resolver() {
        let node = "search lan\nnameserver 1.1.1.1\n";
        assert_eq!(resolver(json!({"containers": [], "dnsPolicy": "Default"})), node);
        assert_eq!(resolver(json!({"containers": [], "hostNetwork": true})), node);
    }

    #[test]
    fn a_pods_own_settings_are_merged() {
        let config = json!({
            "nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "1"}, {"name": "x"}],
        });
        assert_eq!(
            resolver(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config})),
            "nameserver 9.9.9.9\noptions ndots:1 x\n"
        );
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let pod = pod(json!({
            "containers": [], "subdomain": "db",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
        }));
        let own = ["10.244.1.2", "fd00:10:244:1::2"].map(|address| address.parse().unwrap());
        let text = hosts(&pod, "web", &own, "cluster.local");
        assert!(text.contains("\n10.244.1.2\tweb.db.shop.svc.cluster.local\tweb\n"), "{text}");
        assert!(
            text.contains("\nfd00:10:244:1::2\tweb.db.shop.svc.cluster.local\tweb\n"),
            "{text}"
        );
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }

    #[test]
    fn a_long_name_is_cut_to_a_host_name() {
        let mut long = pod(json!({"containers": []}));
        long.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(9)));
        assert_eq!(host_name(&long, "node-1"), "a".repeat(62));
    }
}
