//! Objects made from flags, field by field as kubectl's generators make them.
//!
//! Pure, except that `--from-file` reads files. Upstream: `kubectl/pkg/cmd/create/create_*.go`. The
//! empty `status`, `strategy` and `resources` are what Go's encoder writes for them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::parameters::{Deployment, ExternalName, NamedPorts, Sources};
use crate::error::Error;

/// The collection's path of a generated object, and whether it lives in a namespace. Known without
/// discovery, so that a generator costs one request.
pub(super) fn path(object: &Value, namespace: &str) -> (String, bool) {
    let space = format!("/namespaces/{}", crate::session::encode(namespace));
    match object["kind"].as_str().unwrap_or("") {
        "Namespace" => ("/api/v1/namespaces".to_owned(), false),
        "Deployment" => (format!("/apis/apps/v1{space}/deployments"), true),
        "Ingress" => (format!("/apis/networking.k8s.io/v1{space}/ingresses"), true),
        kind => (format!("/api/v1{space}/{}s", kind.to_lowercase()), true),
    }
}

/// What messages call the kind.
pub(super) fn noun(object: &Value) -> &'static str {
    match object["kind"].as_str().unwrap_or("") {
        "Deployment" => "deployment",
        "Service" => match object["spec"]["type"].as_str().unwrap_or("") {
            "NodePort" => "NodePort service",
            "LoadBalancer" => "LoadBalancer service",
            "ExternalName" => "ExternalName service",
            _ => "ClusterIP service",
        },
        "ConfigMap" => "configmap",
        "Secret" => "secret",
        "Ingress" => "ingress",
        "Namespace" => "namespace",
        "ServiceAccount" => "serviceaccount",
        _ => "object",
    }
}

pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
           "spec": {}, "status": {}})
}

pub(super) fn service_account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

pub(super) fn deployment(flags: &Deployment) -> Result<Value, Error> {
    if flags.image.len() > 1 && !flags.command.is_empty() {
        return Err(Error::refused("cannot specify multiple --image options and command"));
    }
    if flags.replicas < 0 {
        return Err(Error::refused(format!("invalid replicas: {}", flags.replicas)));
    }
    let mut names: Vec<String> = Vec::new();
    let mut containers: Vec<Value> = Vec::new();
    for image in &flags.image {
        let mut name = container_name(image);
        if flags.image.len() > 1 && names.contains(&name) {
            name = format!("{name}-{}", suffix());
        }
        containers.push(json!({"image": image, "name": name, "resources": {}}));
        names.push(name);
    }
    let first = &mut containers[0];
    if !flags.command.is_empty() {
        first["command"] = json!(flags.command);
    }
    if let Some(port) = flags.port {
        first["ports"] = json!([{"containerPort": port}]);
    }
    let labels = json!({"app": flags.name});
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"labels": labels, "name": flags.name},
        "spec": {
            "replicas": flags.replicas,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
        "status": {},
    }))
}

/// `gcr.io/google-samples/node-hello:1.0` → `node-hello`: the last path element without tag and
/// digest, with `_` made `-`.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split(['@', ':']).next().unwrap_or(last);
    let name: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .collect();
    name.trim_matches('-').chars().take(63).collect()
}

/// Five characters as apimachinery's `rand.String` gives: no vowels, no look-alikes.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes: [u8; 5] = rand::random();
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

pub(super) fn service(flags: &NamedPorts, kind: &str) -> Result<Value, Error> {
    let headless = kind == "ClusterIP" && flags.clusterip.as_deref() == Some("None");
    if flags.tcp.is_empty() && !headless {
        return Err(Error::refused("at least one tcp port specifier must be provided"));
    }
    let mut ports = parse_ports(&flags.tcp)?;
    if kind == "NodePort"
        && let Some(node_port) = flags.node_port
    {
        ports.iter_mut().for_each(|p| p["nodePort"] = node_port.into());
    }
    let mut spec = Map::new();
    if kind == "ClusterIP"
        && let Some(ip) = &flags.clusterip
    {
        spec.insert("clusterIP".into(), json!(ip));
    }
    Ok(service_object(&flags.name, kind, ports, spec))
}

pub(super) fn external_name(flags: &ExternalName) -> Result<Value, Error> {
    let ports = parse_ports(&flags.tcp)?;
    let spec = Map::from_iter([("externalName".to_owned(), json!(flags.external_name))]);
    Ok(service_object(&flags.name, "ExternalName", ports, spec))
}

fn service_object(name: &str, kind: &str, ports: Vec<Value>, spec: Map<String, Value>) -> Value {
    let labels = json!({"app": name});
    let mut spec = spec;
    if !ports.is_empty() {
        spec.insert("ports".into(), Value::Array(ports));
    }
    spec.insert("selector".into(), labels.clone());
    spec.insert("type".into(), json!(kind));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"labels": labels, "name": name},
           "spec": spec, "status": {"loadBalancer": {}}})
}

/// `80` or `80:8080` or `80:http` into service ports, named after their text.
fn parse_ports(specs: &[String]) -> Result<Vec<Value>, Error> {
    let parse = |spec: &String| {
        let (port, target) = match spec.split_once(':') {
            Some((port, target)) => (port, target),
            None => (spec.as_str(), spec.as_str()),
        };
        let number: u16 = port.parse().map_err(|_| port_error(port))?;
        let target: Value = match target.parse::<u16>() {
            Ok(0) => return Err(port_error(target)),
            Ok(n) => n.into(),
            Err(_) if !target.is_empty() && target.chars().any(|c| c.is_ascii_alphabetic()) => {
                target.into()
            }
            Err(_) => return Err(port_error(target)),
        };
        Ok(json!({"name": spec.replace(':', "-"), "port": number, "protocol": "TCP",
                  "targetPort": target}))
    };
    specs.iter().map(parse).collect()
}

fn port_error(text: &str) -> Error {
    match text.parse::<i64>() {
        Ok(_) => Error::refused(format!("{text} must be between 1 and 65535, inclusive")),
        Err(_) => Error::refused(format!("strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}

/// The entries that the flags name, in order of their keys.
pub(super) fn entries(sources: &Sources) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut found = BTreeMap::new();
    let mut add = |key: String, value: Vec<u8>| {
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(Error::refused(format!(
                "{key:?} is not a valid key name: a valid config key must consist of alphanumeric \
                 characters, '-', '_' or '.'"
            )));
        }
        match found.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(Error::refused(format!(
                "cannot add key {key:?}, another key by that name already exists in Data"
            ))),
        }
    };
    for literal in &sources.from_literal {
        let Some((key, value)) = literal.split_once('=').filter(|(k, _)| !k.is_empty()) else {
            return Err(Error::refused(format!(
                "invalid literal source {literal}, expected key=value"
            )));
        };
        add(key.to_owned(), unquote(value).as_bytes().to_vec())?;
    }
    for source in &sources.from_file {
        let (key, path) = match source.split_once('=') {
            Some((key, path)) => (Some(key), Path::new(path)),
            None => (None, Path::new(source.as_str())),
        };
        for (name, text) in read_source(key, path)? {
            add(name, text)?;
        }
    }
    for path in &sources.from_env_file {
        for (key, value) in read_env(Path::new(path))? {
            add(key, value.into_bytes())?;
        }
    }
    Ok(found)
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_source(key: Option<&str>, path: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    if !path.is_dir() {
        let name = key.map_or_else(|| file_name(path), str::to_owned);
        return Ok(vec![(name, read(path)?)]);
    }
    if key.is_some() {
        return Err(Error::refused("cannot give a key name for a directory path"));
    }
    let failed = |source| Error::ReadFile { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push((file_name(&path), read(&path)?));
        }
    }
    Ok(files)
}

fn read_env(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(lines
        .map(|line| match line.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            // A bare name takes the value of the environment.
            None => (line.to_owned(), std::env::var(line).unwrap_or_default()),
        })
        .collect())
}

pub(super) fn config_map(name: &str, entries: &BTreeMap<String, Vec<u8>>) -> Result<Value, Error> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, value) in entries {
        match std::str::from_utf8(value) {
            Ok(text) => data.insert(key.clone(), json!(text)),
            Err(_) => binary.insert(key.clone(), json!(STANDARD.encode(value))),
        };
    }
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        object["binaryData"] = Value::Object(binary);
    }
    Ok(object)
}

pub(super) fn secret(name: &str, kind: &str, entries: &BTreeMap<String, Vec<u8>>) -> Value {
    let data: Map<String, Value> =
        entries.iter().map(|(k, v)| (k.clone(), json!(STANDARD.encode(v)))).collect();
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !kind.is_empty() {
        object["type"] = json!(kind);
    }
    object
}

#[cfg(test)]
#[path = "generate/tests.rs"]
mod tests;
