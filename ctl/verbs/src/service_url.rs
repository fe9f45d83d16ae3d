//! `service NAME --url`: where a Service answers from outside, as minikube's command prints it.
//!
//! Owns: the URLs of a Service's node ports (pure). Unlike minikube there is no tunnel to hold open:
//! the nodes' addresses are reachable, so the command prints and ends.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::session::Call;
use crate::watch::{self, Verdict};

/// Print the URLs of a service's node ports, as "minikube service" does
#[derive(clap::Args, Clone, Debug)]
pub struct ServiceUrl {
    /// Name of the service
    name: Option<String>,
    /// Print only the URLs (they are always printed; nothing is opened)
    #[arg(long)]
    url: bool,
    /// All services of the namespace
    #[arg(long)]
    all: bool,
    /// Print https instead of http
    #[arg(long)]
    https: bool,
    /// How a URL is written
    #[arg(long, default_value = "http://{{.IP}}:{{.Port}}")]
    format: String,
    /// Seconds to wait for the service to exist
    #[arg(long, default_value_t = 2)]
    wait: u64,
}

impl ServiceUrl {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let services = self.services(ctx).await?;
        let nodes = ctx.list(&Call::get("/api/v1/nodes")).await?;
        for service in services {
            let six = text(&service, "/spec/ipFamilies/0") == "IPv6";
            let Some(address) = nodes.iter().find_map(|node| internal_address(node, six)) else {
                let family = if six { "IPv6" } else { "IPv4" };
                return Err(Error::refused(format!("no node has an {family} address yet")));
            };
            let urls = self.urls(&service, address);
            if urls.is_empty() {
                let (namespace, name) =
                    (text(&service, "/metadata/namespace"), text(&service, "/metadata/name"));
                let note = format!("service {namespace}/{name} has no node port");
                if self.all {
                    ctx.io.warn(note);
                    continue;
                }
                return Err(Error::refused(note));
            }
            urls.into_iter().try_for_each(|url| ctx.io.say(url))?;
        }
        Ok(())
    }

    async fn services(&self, ctx: &mut Context<'_>) -> Result<Vec<Value>, Error> {
        let catalog = ctx.catalog().await?;
        let resource = catalog.resolve("services")?.clone();
        let namespace = ctx.namespace();
        let Some(name) = &self.name else {
            if !self.all {
                return Err(Error::refused("You must specify a service name"));
            }
            return ctx.list(&Call::get(resource.path(Some(&namespace), "", ""))).await;
        };
        let limit = Some(Duration::from_secs(self.wait));
        let look = |_: &mut Context<'_>, object: Option<&Value>| {
            Ok(object.map_or(Verdict::Wait, |o| Verdict::Go(o.clone())))
        };
        let found = watch::until(ctx, &resource, &namespace, name, limit, look).await?;
        let missing = || {
            Error::refused(format!("Service '{name}' was not found in '{namespace}' namespace."))
        };
        Ok(vec![found.ok_or_else(missing)?])
    }

    fn urls(&self, service: &Value, address: IpAddr) -> Vec<String> {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let ports = ports.into_iter().flatten();
        ports
            .filter_map(|port| port.get("nodePort").and_then(Value::as_i64))
            .filter(|port| *port > 0)
            .map(|port| {
                let url = self.format.replace("{{.IP}}", &host(address));
                let url = url.replace("{{.Port}}", &port.to_string());
                if self.https { url.replacen("http://", "https://", 1) } else { url }
            })
            .collect()
    }
}

/// A node's address of a family.
fn internal_address(node: &Value, six: bool) -> Option<IpAddr> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array)?;
    let internal = addresses.iter().filter(|a| text(a, "/type") == "InternalIP");
    let mut parsed = internal.filter_map(|a| text(a, "/address").parse().ok());
    parsed.find(|address: &IpAddr| address.is_ipv6() == six)
}

/// An address as URLs have it.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_node_port_has_a_url() {
        let flags = ServiceUrl {
            name: None,
            url: true,
            all: false,
            https: true,
            format: "http://{{.IP}}:{{.Port}}".into(),
            wait: 0,
        };
        let service = json!({"spec": {"ports": [
            {"port": 80, "nodePort": 30080}, {"port": 81}, {"port": 82, "nodePort": 30082}]}});
        assert_eq!(
            flags.urls(&service, "192.168.56.70".parse().unwrap()),
            ["https://192.168.56.70:30080", "https://192.168.56.70:30082"]
        );
        assert_eq!(
            flags.urls(&service, "fd00::70".parse().unwrap()),
            ["https://[fd00::70]:30080", "https://[fd00::70]:30082"]
        );
    }

    #[test]
    fn a_node_s_address_is_its_internal_one_of_the_service_s_family() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "fd00::1"}]}});
        assert_eq!(internal_address(&node, false), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(internal_address(&node, true), Some("fd00::1".parse().unwrap()));
    }
}
