//! `create ingress` and `create secret tls`: the flags, and the objects made of them.
//!
//! Upstream: `kubectl/pkg/cmd/create/{create_ingress,create_secret_tls}.go`. A rule reads
//! `host/path=service:port[,tls[=secret]]`; a path that ends with `*` is a prefix.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// Flags of `create ingress`.
#[derive(Args, Clone, Debug)]
pub struct Ingress {
    /// Name of the ingress
    pub name: String,
    /// The class of the ingress
    #[arg(long)]
    pub class: Option<String>,
    /// A rule, host/path=service:port[,tls[=secret]]; a path with * at its end is a prefix
    #[arg(long)]
    pub rule: Vec<String>,
    /// The service of everything that no rule is for, service:port
    #[arg(long)]
    pub default_backend: Option<String>,
    /// An annotation, key=value
    #[arg(long)]
    pub annotation: Vec<String>,
}

/// Flags of `create secret tls`.
#[derive(Args, Clone, Debug)]
pub struct TlsSecret {
    /// Name of the secret
    pub name: String,
    /// File of the certificate and its chain, PEM
    #[arg(long)]
    pub cert: PathBuf,
    /// File of the private key, PEM
    #[arg(long)]
    pub key: PathBuf,
}

impl TlsSecret {
    pub(super) fn object(&self) -> Result<Value, Error> {
        let read = |path: &PathBuf, what: &str| {
            let text = std::fs::read(path).map_err(|e| {
                Error::refused(format!("failed to read {what} from {}: {e}", path.display()))
            })?;
            let is_pem = String::from_utf8_lossy(&text).contains("-----BEGIN ");
            if is_pem {
                return Ok(STANDARD.encode(text));
            }
            Err(Error::refused(format!("{} holds no {what} in PEM form", path.display())))
        };
        let (cert, key) = (read(&self.cert, "certificate")?, read(&self.key, "key")?);
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": self.name },
            "data": { "tls.crt": cert, "tls.key": key }, "type": "kubernetes.io/tls",
        }))
    }
}

/// A rule as it is typed.
struct Rule<'a> {
    host: &'a str,
    /// With its slash, and without the star.
    path: String,
    path_type: &'static str,
    service: Backend<'a>,
    /// Whether it is encrypted, and by which secret.
    tls: Option<&'a str>,
}

struct Backend<'a> {
    name: &'a str,
    port: &'a str,
}

impl<'a> Backend<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = text.split_once(':')?;
        (!name.is_empty() && !port.is_empty() && !port.contains(':')).then_some(Self { name, port })
    }

    fn object(&self) -> Value {
        let port = match self.port.parse::<u16>() {
            Ok(number) => json!({ "number": number }),
            Err(_) => json!({ "name": self.port }),
        };
        json!({ "service": { "name": self.name, "port": port } })
    }
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        let malformed = || {
            Error::refused(format!(
                "rule {text} is invalid and should be in format \
                 host/path=svcname:svcport[,tls[=secret]]"
            ))
        };
        let (route, tls) = match text.split_once(',') {
            None => (text, None),
            Some((route, "tls")) => (route, Some("")),
            Some((route, tls)) => {
                let secret = tls.strip_prefix("tls=").filter(|s| !s.is_empty() && !s.contains(','));
                (route, Some(secret.ok_or_else(malformed)?))
            }
        };
        let (place, service) = route.split_once('=').ok_or_else(malformed)?;
        let (host, path) = place.split_once('/').ok_or_else(malformed)?;
        let service = Backend::parse(service).ok_or_else(malformed)?;
        let (path, path_type) = match path.strip_suffix('*') {
            Some(prefix) => (format!("/{prefix}"), "Prefix"),
            None => (format!("/{path}"), "Exact"),
        };
        Ok(Self { host, path, path_type, service, tls })
    }
}

impl Ingress {
    pub(super) fn object(&self) -> Result<Value, Error> {
        if self.default_backend.is_none() && self.rule.is_empty() {
            return Err(Error::refused(
                "not enough information provided: every ingress has to either specify a \
                 default-backend (which catches all traffic) or a list of rules (which catch \
                 specific paths)",
            ));
        }
        let rules: Vec<Rule<'_>> =
            self.rule.iter().map(|text| Rule::parse(text)).collect::<Result<_, _>>()?;
        let mut spec = Map::new();
        if let Some(class) = &self.class {
            spec.insert("ingressClassName".to_owned(), json!(class));
        }
        if let Some(text) = &self.default_backend {
            let backend = Backend::parse(text).ok_or_else(|| {
                Error::refused("default-backend should be in format servicename:serviceport")
            })?;
            spec.insert("defaultBackend".to_owned(), backend.object());
        }
        for (field, list) in [("rules", hosts(&rules)), ("tls", certificates(&rules))] {
            if !list.is_empty() {
                spec.insert(field.to_owned(), Value::Array(list));
            }
        }
        let mut metadata = json!({ "name": self.name });
        if !self.annotation.is_empty() {
            metadata["annotations"] = self.annotations()?;
        }
        Ok(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": spec, "status": { "loadBalancer": {} },
        }))
    }

    fn annotations(&self) -> Result<Value, Error> {
        let pairs = self.annotation.iter().map(|text| {
            text.split_once('=').map(|(key, value)| (key.to_owned(), json!(value))).ok_or_else(
                || {
                    Error::refused(format!(
                        "annotation {text} is invalid and should be in format key=[value]"
                    ))
                },
            )
        });
        pairs.collect::<Result<Map<_, _>, _>>().map(Value::Object)
    }
}

/// The paths of each host, in the order of the rules.
fn hosts(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut hosts: Vec<(&str, Vec<Value>)> = Vec::new();
    for rule in rules {
        let path = json!({
            "path": rule.path, "pathType": rule.path_type, "backend": rule.service.object(),
        });
        match hosts.iter_mut().find(|(host, _)| *host == rule.host) {
            Some((_, paths)) => paths.push(path),
            None => hosts.push((rule.host, vec![path])),
        }
    }
    let each = hosts.into_iter().map(|(host, paths)| {
        let http = json!({ "paths": paths });
        if host.is_empty() {
            json!({ "http": http })
        } else {
            json!({ "host": host, "http": http })
        }
    });
    each.collect()
}

/// The hosts of each secret; a host has the secret that is named first.
fn certificates(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut seen: Vec<&str> = Vec::new();
    let mut secrets: Vec<(&str, Vec<&str>)> = Vec::new();
    for (rule, secret) in rules.iter().filter_map(|rule| Some((rule, rule.tls?))) {
        if seen.contains(&rule.host) {
            continue;
        }
        seen.push(rule.host);
        let host = Some(rule.host).filter(|host| !host.is_empty());
        match secrets.iter_mut().find(|(known, _)| *known == secret) {
            Some((_, hosts)) => hosts.extend(host),
            None => secrets.push((secret, host.into_iter().collect())),
        }
    }
    let each = secrets.into_iter().filter_map(|(secret, hosts)| {
        let mut entry = Map::new();
        if !hosts.is_empty() {
            entry.insert("hosts".to_owned(), json!(hosts));
        }
        if !secret.is_empty() {
            entry.insert("secretName".to_owned(), json!(secret));
        }
        (!entry.is_empty()).then_some(Value::Object(entry))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(rules: &[&str]) -> Ingress {
        Ingress {
            name: "a".to_owned(),
            class: None,
            rule: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            default_backend: None,
            annotation: Vec::new(),
        }
    }

    fn spec(rules: &[&str]) -> Value {
        ingress(rules).object().unwrap()["spec"].clone()
    }

    #[test]
    fn rules_of_one_host_stand_together() {
        let spec = spec(&["foo.com/=svc:port", "foo.com/admin/*=svcadmin:8080", "/x=svc:80"]);
        let backend =
            |name: &str, port: Value| json!({ "service": { "name": name, "port": port } });
        let expected = json!({ "rules": [
            { "host": "foo.com", "http": { "paths": [
                { "path": "/", "pathType": "Exact", "backend": backend("svc", json!({ "name": "port" })) },
                { "path": "/admin/", "pathType": "Prefix", "backend": backend("svcadmin", json!({ "number": 8080 })) },
            ] } },
            { "http": { "paths": [
                { "path": "/x", "pathType": "Exact", "backend": backend("svc", json!({ "number": 80 })) },
            ] } },
        ] });
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_secret_has_the_hosts_that_name_it_first() {
        let tls = |rules: &[&str]| spec(rules)["tls"].clone();
        assert_eq!(tls(&["a.com/=s:1"]), Value::Null);
        assert_eq!(tls(&["a.com/=s:1,tls"]), json!([{ "hosts": ["a.com"] }]));
        assert_eq!(
            tls(&["a.com/=s:1,tls=x", "b.com/=s:1,tls=x", "a.com/b=s:1,tls=y", "c.com/=s:1,tls=y"]),
            json!([
                { "hosts": ["a.com", "b.com"], "secretName": "x" },
                { "hosts": ["c.com"], "secretName": "y" },
            ])
        );
        assert_eq!(tls(&["/=s:1,tls"]), Value::Null);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            "a.com",
            "a.com/",
            "a.com/=svc",
            "a.com/=svc:80,ssl",
            "a.com/=:80",
            "a/=s:1:2",
            "a/=s:1,tls=",
        ] {
            let error = ingress(&[bad]).object().unwrap_err().to_string();
            assert!(error.contains("should be in format host/path="), "{bad}: {error}");
        }
        assert!(ingress(&[]).object().is_err());
        let mut default = ingress(&[]);
        default.default_backend = Some("svc:http".to_owned());
        default.class = Some("other".to_owned());
        default.annotation = vec!["a=b=c".to_owned(), "d=".to_owned()];
        let object = default.object().unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({ "a": "b=c", "d": "" }));
        assert_eq!(object["spec"]["ingressClassName"], "other");
        assert_eq!(object["spec"]["defaultBackend"]["service"]["port"]["name"], "http");
    }

    #[test]
    fn a_certificate_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let secret = TlsSecret {
            name: "s".to_owned(),
            cert: file("c", "-----BEGIN CERTIFICATE-----\n"),
            key: file("k", "-----BEGIN PRIVATE KEY-----\n"),
        };
        let object = secret.object().unwrap();
        assert_eq!(object["type"], "kubernetes.io/tls");
        assert!(object["data"]["tls.key"].is_string());
        let wrong = TlsSecret { key: file("w", "secret"), ..secret.clone() };
        assert!(wrong.object().unwrap_err().to_string().ends_with("holds no key in PEM form"));
        let missing = TlsSecret { cert: dir.path().join("none"), ..secret };
        assert!(missing.object().unwrap_err().to_string().contains("failed to read certificate"));
    }
}
