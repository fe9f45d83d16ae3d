//! What netd can be told wherever it runs: named and defaulted as kube-proxy's flags are.

use std::net::{IpAddr, SocketAddr};

use clap::{ArgAction, Args};

/// The schedulers that Kubernetes knows.
const SCHEDULERS: [&str; 9] = ["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"];

/// How netd balances, and what it listens on.
#[derive(Args, Clone, Debug)]
pub(crate) struct NetdFlags {
    /// IPVS scheduler of Services that do not ask for one
    #[arg(long, default_value = "rr", value_name = "NAME", value_parser = SCHEDULERS)]
    pub(crate) ipvs_scheduler: String,
    /// Serve Ingresses; without that they are objects that nobody acts on
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) ingress: bool,
    /// DNS servers to ask for names outside the cluster, with or without a port
    /// [default: those that the machine asks, as in /etc/resolv.conf]
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',', value_parser = server)]
    pub(crate) dns_upstream: Vec<SocketAddr>,
    /// Address of the metrics page; empty: none
    #[arg(long, default_value = "127.0.0.1:10249", value_name = "IP:PORT", value_parser = metrics)]
    pub(crate) metrics_bind_address: ListenAddress,
    /// Address of the health page; empty: none
    #[arg(long, default_value = "0.0.0.0:10256", value_name = "IP:PORT", value_parser = health)]
    pub(crate) healthz_bind_address: ListenAddress,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) Option<SocketAddr>);

fn metrics(text: &str) -> Result<ListenAddress, String> {
    listen_address(text, 10249)
}

fn health(text: &str) -> Result<ListenAddress, String> {
    listen_address(text, 10256)
}

fn server(text: &str) -> Result<SocketAddr, String> {
    listen_address(text, 53)?.0.ok_or_else(|| "give an IP address".to_owned())
}

/// An address without a port gets the default one.
fn listen_address(text: &str, port: u16) -> Result<ListenAddress, String> {
    if text.is_empty() {
        return Ok(ListenAddress(None));
    }
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = text.parse().or_else(|_| alone.map(|ip| SocketAddr::new(ip, port)));
    let address = address.map_err(|_| "give an IP address with or without a port")?;
    Ok(ListenAddress(Some(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_go_without_a_port_or_be_none() {
        let parsed = |text| listen_address(text, 7).unwrap().0.map(|at| at.to_string());
        assert_eq!(parsed("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        assert_eq!(parsed("10.0.0.1").as_deref(), Some("10.0.0.1:7"));
        assert_eq!(parsed("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(parsed("[::1]").as_deref(), Some("[::1]:7"));
        assert_eq!(parsed("::").as_deref(), Some("[::]:7"));
        assert_eq!(parsed(""), None);
        assert!(listen_address("somewhere", 7).is_err());
    }
}
