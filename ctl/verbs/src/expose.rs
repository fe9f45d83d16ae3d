//! `expose`: a Service for what a Deployment, ReplicaSet, Pod or Service runs.
//!
//! Owns: the introspection of ports, protocols and selector, pure functions of the exposed object.
//! Upstream: `kubectl/pkg/cmd/expose/expose.go`, `polymorphichelpers/{portsforobject,
//! protocolsforobject,mapbasedselectorforobject}.go`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::create;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::report::Output;
use crate::target;

/// Take a pod, replica set, deployment or service and expose it as a new Kubernetes service
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Expose {
    /// TYPE NAME or TYPE/NAME
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The name for the new service; the exposed object's by default
    #[arg(long)]
    pub name: Option<String>,
    /// The port that the service should serve on; copied from the object if unset
    #[arg(long)]
    pub port: Option<String>,
    /// Name or number of the port of the container that traffic goes to
    #[arg(long)]
    pub target_port: Option<String>,
    /// The network protocol of the service; TCP by default
    #[arg(long)]
    pub protocol: Option<String>,
    /// Type of the service: ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type")]
    pub kind: Option<String>,
    /// A label selector to use for the service; taken from the object if unset
    #[arg(long)]
    pub selector: Option<String>,
    /// Labels of the new service, key=value,key=value
    #[arg(short, long)]
    pub labels: Option<String>,
    /// An address that the service also answers on
    #[arg(long)]
    pub external_ip: Option<String>,
    /// The IP of a load balancer
    #[arg(long)]
    pub load_balancer_ip: Option<String>,
    /// The cluster IP, or "None" for a headless service
    #[arg(long)]
    pub cluster_ip: Option<String>,
    /// Session affinity: None or ClientIP
    #[arg(long)]
    pub session_affinity: Option<String>,
    /// Name of an external service, for --type=ExternalName
    #[arg(long)]
    pub external_name: Option<String>,
    /// Record the object in the annotation that apply works with
    #[arg(long)]
    pub save_config: bool,
}

impl Expose {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let mut objects = Vec::new();
        if self.files.is_empty() {
            if self.resources.is_empty() {
                return Err(Error::refused(
                    "you must provide one or more resources by argument or filename",
                ));
            }
            let catalog = ctx.catalog().await?;
            let namespace = ctx.namespace();
            for target in target::parse(&catalog, &self.resources)? {
                let Some(name) = target.name else {
                    return Err(Error::refused(
                        "resource(s) were provided, but no name was specified",
                    ));
                };
                objects.push(ctx.object(&target.resource, &namespace, &name).await?);
            }
        } else {
            for mut manifest in self.files.read(ctx.io).await? {
                let (resource, namespace) = ctx.place(&mut manifest).await?;
                objects.push(ctx.object(&resource, &namespace, manifest.name()).await?);
            }
        }
        let mut errors = Vec::new();
        for object in objects {
            match self.expose(ctx, &object).await {
                Ok(()) => {}
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)
    }

    async fn expose(&self, ctx: &mut Context<'_>, object: &Value) -> Result<(), Error> {
        let service = self.service(object)?;
        let created =
            create::post(ctx, service, self.output.dry_run, self.save_config, "kubectl-expose")
                .await?;
        self.output.print(ctx.io, &created, "exposed")
    }

    /// The Service for an object.
    fn service(&self, object: &Value) -> Result<Value, Error> {
        check_kind(object)?;
        let name = self.name.as_deref().unwrap_or_else(|| text(object, "/metadata/name"));
        let name: String = name.chars().take(63).collect();
        let selector = match &self.selector {
            Some(given) => pairs(given)?,
            None => selector_of(object)?,
        };
        let mut spec = Map::new();
        spec.insert("ports".into(), Value::Array(self.ports(object)?));
        spec.insert("selector".into(), selector);
        let optional = [
            ("type", &self.kind),
            ("externalName", &self.external_name),
            ("clusterIP", &self.cluster_ip),
            ("sessionAffinity", &self.session_affinity),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                spec.insert(key.into(), json!(value));
            }
        }
        if let Some(ip) = &self.external_ip {
            spec.insert("externalIPs".into(), json!([ip]));
        }
        if let (Some("LoadBalancer"), Some(ip)) = (self.kind.as_deref(), &self.load_balancer_ip) {
            spec.insert("loadBalancerIP".into(), json!(ip));
        }
        let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
        let labels = match &self.labels {
            Some(given) => pairs(given)?,
            None => object.pointer("/metadata/labels").cloned().unwrap_or_default(),
        };
        if labels.as_object().is_some_and(|l| !l.is_empty()) {
            metadata.insert("labels".into(), labels);
        }
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec,
                  "status": {"loadBalancer": {}}}))
    }

    fn ports(&self, object: &Value) -> Result<Vec<Value>, Error> {
        let declared = declared_ports(object);
        let headless = self.cluster_ip.as_deref() == Some("None");
        let wanted: Vec<String> = match &self.port {
            Some(list) => list.split(',').map(|p| p.trim().to_owned()).collect(),
            None => declared.iter().map(|(port, _)| port.to_string()).collect(),
        };
        if wanted.is_empty() && !headless {
            return Err(Error::refused("couldn't find port via --port flag or introspection"));
        }
        let protocols: BTreeMap<i64, &str> =
            declared.iter().map(|(port, protocol)| (*port, protocol.as_str())).collect();
        let mut ports = Vec::new();
        for (i, text) in wanted.iter().enumerate() {
            let number: u16 = text.parse().map_err(|_| {
                Error::refused(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
            })?;
            let protocol = match &self.protocol {
                Some(given) => given.as_str(),
                None => protocols.get(&i64::from(number)).copied().unwrap_or("TCP"),
            };
            let mut port = Map::new();
            // A service with several ports must name them.
            if wanted.len() > 1 {
                port.insert("name".into(), json!(format!("port-{}", i + 1)));
            }
            port.insert("port".into(), number.into());
            port.insert("protocol".into(), json!(protocol));
            let target = match self.target_port.as_deref() {
                None => number.into(),
                Some(given) => given.parse::<u16>().map_or_else(|_| json!(given), Value::from),
            };
            port.insert("targetPort".into(), target);
            ports.push(Value::Object(port));
        }
        Ok(ports)
    }
}

fn check_kind(object: &Value) -> Result<(), Error> {
    let kind = text(object, "/kind");
    match kind {
        "Deployment" | "ReplicaSet" | "Pod" | "Service" | "ReplicationController" => Ok(()),
        _ => {
            let (group, _) = crate::catalog::split_api_version(text(object, "/apiVersion"));
            let name = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
            Err(Error::refused(format!("cannot expose a {name}")))
        }
    }
}

/// The labels that the exposed pods carry.
fn selector_of(object: &Value) -> Result<Value, Error> {
    let labels = |pointer: &str| object.pointer(pointer).filter(|l| l.is_object()).cloned();
    match text(object, "/kind") {
        "Pod" => labels("/metadata/labels").filter(|l| !empty(l)).ok_or_else(|| {
            Error::refused("couldn't retrieve selectors via --selector flag or introspection: the pod has no labels and cannot be exposed")
        }),
        "Service" => labels("/spec/selector").filter(|l| !empty(l)).ok_or_else(|| {
            Error::refused("couldn't retrieve selectors via --selector flag or introspection: the service has no pod selector set")
        }),
        _ => {
            let expressions = object.pointer("/spec/selector/matchExpressions");
            if let Some(expressions) = expressions.and_then(Value::as_array)
                && !expressions.is_empty()
            {
                return Err(Error::refused(
                    "couldn't retrieve selectors via --selector flag or introspection: couldn't \
                     convert expressions - to map-based selector format",
                ));
            }
            labels("/spec/selector/matchLabels").filter(|l| !empty(l)).ok_or_else(|| {
                Error::refused("couldn't retrieve selectors via --selector flag or introspection: invalid selector")
            })
        }
    }
}

fn empty(labels: &Value) -> bool {
    labels.as_object().is_none_or(Map::is_empty)
}

/// The ports that containers declare, or a service serves, with their protocols.
fn declared_ports(object: &Value) -> Vec<(i64, String)> {
    let (list, key) = match text(object, "/kind") {
        "Service" => (vec![object.pointer("/spec/ports")], "port"),
        kind => {
            let spec = if kind == "Pod" { "/spec" } else { "/spec/template/spec" };
            let containers = object.pointer(&format!("{spec}/containers"));
            let containers = containers.and_then(Value::as_array);
            (containers.into_iter().flatten().map(|c| c.get("ports")).collect(), "containerPort")
        }
    };
    list.into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|port| {
            let number = port.get(key).and_then(Value::as_i64)?;
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            Some((number, protocol.to_owned()))
        })
        .collect()
}

/// `a=b,c=d` into a map.
pub(crate) fn pairs(list: &str) -> Result<Value, Error> {
    let mut map = Map::new();
    for pair in list.split(',').filter(|p| !p.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(k, _)| !k.is_empty()) else {
            return Err(Error::refused(format!("unexpected label spec: {pair}")));
        };
        map.insert(key.to_owned(), json!(value));
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(ports: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"l": "1"}},
            "spec": {"selector": {"matchLabels": {"run": "web"}},
                "template": {"spec": {"containers": [{"name": "c", "ports": ports}]}}}})
    }

    #[test]
    fn a_deployment_s_port_protocol_and_selector_are_found() {
        let service = Expose::default()
            .service(&deployment(json!([{"containerPort": 53, "protocol": "UDP"}])))
            .unwrap();
        assert_eq!(
            service,
            json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "labels": {"l": "1"}},
                "spec": {"ports": [{"port": 53, "protocol": "UDP", "targetPort": 53}],
                         "selector": {"run": "web"}},
                "status": {"loadBalancer": {}}})
        );
    }

    #[test]
    fn several_ports_get_names() {
        let ports = json!([{"containerPort": 80}, {"containerPort": 443}]);
        let service = Expose::default().service(&deployment(ports)).unwrap();
        assert_eq!(service["spec"]["ports"][0]["name"], "port-1");
        assert_eq!(service["spec"]["ports"][1]["name"], "port-2");
    }

    #[test]
    fn without_any_port_the_error_is_upstream_s() {
        let e = Expose::default().service(&deployment(json!([]))).unwrap_err();
        assert_eq!(e.report(), "error: couldn't find port via --port flag or introspection");
    }

    #[test]
    fn flags_win_over_introspection() {
        let expose = Expose {
            name: Some("svc".into()),
            port: Some("80".into()),
            target_port: Some("http".into()),
            kind: Some("NodePort".into()),
            selector: Some("a=b".into()),
            ..Expose::default()
        };
        let service = expose.service(&deployment(json!([{"containerPort": 8080}]))).unwrap();
        assert_eq!(service["metadata"]["name"], "svc");
        assert_eq!(
            service["spec"],
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}],
                   "selector": {"a": "b"}, "type": "NodePort"})
        );
    }

    #[test]
    fn what_has_no_selector_cannot_be_exposed() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                         "spec": {"containers": [{"ports": [{"containerPort": 1}]}]}});
        assert!(Expose::default().service(&pod).is_err());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}});
        let e = Expose::default().service(&node).unwrap_err();
        assert_eq!(e.report(), "error: cannot expose a Node");
    }
}
