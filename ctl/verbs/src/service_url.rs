//! `service NAME --url`: where a Service answers from outside, as minikube's command prints it.
//!
//! Owns: the URLs of a Service's node ports (pure). Unlike minikube there is no tunnel to hold open:
//! the nodes' addresses are reachable, so the command prints and ends.

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
        let Some(address) = nodes.iter().find_map(internal_address) else {
            return Err(Error::refused("no node has an address yet"));
        };
        for service in services {
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

    fn urls(&self, service: &Value, address: &str) -> Vec<String> {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let ports = ports.into_iter().flatten();
        ports
            .filter_map(|port| port.get("nodePort").and_then(Value::as_i64))
            .filter(|port| *port > 0)
            .map(|port| {
                let url =
                    self.format.replace("{{.IP}}", address).replace("{{.Port}}", &port.to_string());
                if self.https { url.replacen("http://", "https://", 1) } else { url }
            })
            .collect()
    }
}

fn internal_address(node: &Value) -> Option<&str> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array)?;
    let found = addresses.iter().find(|a| text(a, "/type") == "InternalIP")?;
    found.get("address").and_then(Value::as_str)
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
            flags.urls(&service, "192.168.56.70"),
            ["https://192.168.56.70:30080", "https://192.168.56.70:30082"]
        );
    }

    #[test]
    fn a_node_s_address_is_its_internal_one() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}]}});
        assert_eq!(internal_address(&node), Some("10.0.0.1"));
    }
}
