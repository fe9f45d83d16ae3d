//! Environment variables of a container: pure.
//!
//! Inputs: the container, its pod, and the objects that the pod refers to. Output: variables in
//! order. Upstream: `kubelet_pods.go` (`makeEnvironmentVariables`), `pkg/kubelet/envvars`,
//! `third_party/forked/golang/expansion`. Deliberately not here: the image's own variables, which
//! lie below these ([`crate::spec`]).

mod services;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret, Service,
};

pub(crate) use services::service_variables;

use crate::downward::{self, FieldError, NodeFacts};

/// Why a variable has no value. The texts are kubelet's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvError {
    /// A ConfigMap that is referred to does not exist.
    #[error("configmap \"{name}\" not found")]
    NoConfigMap {
        /// Its name.
        name: String,
    },
    /// A Secret that is referred to does not exist.
    #[error("secret \"{name}\" not found")]
    NoSecret {
        /// Its name.
        name: String,
    },
    /// The object exists, but not the key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field of the pod that cannot be a variable.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// The objects that a pod's containers may refer to.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The pod's namespace's Services, and `default/kubernetes`.
    pub(crate) services: Vec<Service>,
    /// ConfigMaps of the pod's namespace by name.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets of the pod's namespace by name.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// The container's variables, in the order in which they take effect.
///
/// # Errors
/// A reference without an object, unless it is optional.
pub(crate) fn container_env(
    pod: &Pod,
    container: &Container,
    references: &References,
    node: &NodeFacts,
) -> Result<Vec<(String, String)>, EnvError> {
    let services = service_variables(pod, &references.services);
    let mut env = Variables::default();
    for source in container.env_from.iter().flatten() {
        for (name, value) in env_from(source, references)? {
            env.set(name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                expand(value, |name| env.get(name).or_else(|| services.get(name)).cloned())
            }
            (_, Some(source)) => {
                match value_from(pod, container, variable, source, references, node)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            _ => String::new(),
        };
        env.set(variable.name.clone(), value);
    }
    // The container's own variables win over the Services'.
    for (name, value) in services {
        if env.get(&name).is_none() {
            env.set(name, value);
        }
    }
    Ok(env.list)
}

/// Variables in order of first mention; a later value replaces an earlier one.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&String> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.list.push((name, value)),
        }
    }
}

fn env_from(
    source: &EnvFromSource,
    references: &References,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Some(wanted) = &source.config_map_ref {
        match references.config_maps.get(&wanted.name) {
            Some(found) => pairs.extend(found.data.clone().unwrap_or_default()),
            None if wanted.optional == Some(true) => {}
            None => return Err(EnvError::NoConfigMap { name: wanted.name.clone() }),
        }
    }
    if let Some(wanted) = &source.secret_ref {
        match references.secrets.get(&wanted.name) {
            Some(found) => {
                let data = found.data.iter().flatten();
                pairs.extend(data.map(|(key, value)| (key.clone(), text(&value.0))));
            }
            None if wanted.optional == Some(true) => {}
            None => return Err(EnvError::NoSecret { name: wanted.name.clone() }),
        }
    }
    let prefix = source.prefix.as_deref().unwrap_or_default();
    Ok(pairs.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)).collect())
}

fn value_from(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    references: &References,
    node: &NodeFacts,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return Ok(Some(downward::field(pod, &field.field_path, node)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(downward::resource(pod, Some(container), resource, node)?));
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let no_key = |kind, name: &str, key: &str| EnvError::NoKey {
        kind,
        namespace: namespace.clone(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(wanted) = &source.config_map_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(found) = references.config_maps.get(&wanted.name) else {
            return missing(optional, EnvError::NoConfigMap { name: wanted.name.clone() });
        };
        return match found.data.as_ref().and_then(|data| data.get(&wanted.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(optional, no_key("ConfigMap", &wanted.name, &wanted.key)),
        };
    }
    if let Some(wanted) = &source.secret_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(found) = references.secrets.get(&wanted.name) else {
            return missing(optional, EnvError::NoSecret { name: wanted.name.clone() });
        };
        return match found.data.as_ref().and_then(|data| data.get(&wanted.key)) {
            Some(value) => Ok(Some(text(&value.0))),
            None => missing(optional, no_key("Secret", &wanted.name, &wanted.key)),
        };
    }
    tracing::debug!(variable = variable.name, "a variable without a source");
    Ok(Some(String::new()))
}

/// An optional reference without an object leaves its variable out.
fn missing(optional: bool, error: EnvError) -> Result<Option<String>, EnvError> {
    if optional { Ok(None) } else { Err(error) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces `$(NAME)` by the variable's value. `$$` is a dollar sign; a name without a variable
/// stays as it is written.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
