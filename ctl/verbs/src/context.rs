//! What every verb needs while it runs: streams, connection, discovery, the namespace.
//!
//! Owns: [`Context`]. Invariant: the connection and discovery are made at first use and once, so
//! that verbs that never ask the server (`--dry-run=client`) work without one. Warnings of the
//! server are printed once each. Deliberately not here: any verb.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::catalog::{ApiResource, Catalog};
use crate::error::Error;
use crate::io::Io;
use crate::manifest::{Manifest, require_type};
use crate::session::{Call, Session, Settings};

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// A running verb's surroundings.
pub(crate) struct Context<'a> {
    pub(crate) settings: Settings,
    pub(crate) io: &'a mut Io,
    session: Option<Arc<Session>>,
    catalog: Option<Arc<Catalog>>,
    warned: BTreeSet<String>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(settings: Settings, io: &'a mut Io) -> Self {
        Context { settings, io, session: None, catalog: None, warned: BTreeSet::new() }
    }

    pub(crate) fn namespace(&self) -> String {
        self.settings.namespace()
    }

    pub(crate) async fn session(&mut self) -> Result<Arc<Session>, Error> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = Arc::new(self.settings.connect().await?);
        self.session = Some(session.clone());
        Ok(session)
    }

    /// The server's resources.
    pub(crate) async fn catalog(&mut self) -> Result<Arc<Catalog>, Error> {
        if let Some(catalog) = &self.catalog {
            return Ok(catalog.clone());
        }
        let mut catalog = Catalog::default();
        for root in ["/api", "/apis"] {
            let answer = self.json(&Call::get(root).accept(DISCOVERY)).await?;
            if !catalog.add_aggregated(&answer) {
                for path in versions(root, &answer) {
                    let list = self.json(&Call::get(path)).await?;
                    catalog.add_list(&list);
                }
            }
        }
        let catalog = Arc::new(catalog);
        self.catalog = Some(catalog.clone());
        Ok(catalog)
    }

    /// Sends a request, prints the server's warnings, gives the answer's bytes.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<Bytes, Error> {
        let session = self.session().await?;
        let reply = session.send(call).await?;
        for warning in reply.warnings {
            self.warn_once(&warning);
        }
        Ok(reply.body)
    }

    pub(crate) fn warn_once(&mut self, warning: &str) {
        if self.warned.insert(warning.to_owned()) {
            self.io.warn(format_args!("Warning: {warning}"));
        }
    }

    /// As [`Context::call`], for an answer that is JSON.
    pub(crate) async fn json(&mut self, call: &Call) -> Result<Value, Error> {
        let body = self.call(call).await?;
        serde_json::from_slice(&body).map_err(|e| Error::BadAnswer {
            what: format!("{call:?}").chars().take(120).collect(),
            detail: e.to_string(),
        })
    }

    /// The object, or `None` if the server says that it does not exist.
    pub(crate) async fn find(
        &mut self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Error> {
        match self.json(&Call::get(resource.path(Some(namespace), name, ""))).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The object; its absence is the server's error.
    pub(crate) async fn object(
        &mut self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Error> {
        self.json(&Call::get(resource.path(Some(namespace), name, ""))).await
    }

    /// A list, page by page.
    pub(crate) async fn list(&mut self, call: &Call) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let page = call.clone().query("limit", "500").query("continue", next.as_str());
            let mut page = self.json(&page).await?;
            let api_version = page.get("apiVersion").cloned().unwrap_or_default();
            let kind = page.get("kind").and_then(Value::as_str).unwrap_or("");
            let kind = kind.strip_suffix("List").unwrap_or(kind).to_owned();
            let more = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or("");
            next = more.to_owned();
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found.into_iter().map(|mut item| {
                    // Items of a list carry no type of their own on the wire.
                    if let Value::Object(map) = &mut item {
                        map.entry("apiVersion").or_insert_with(|| api_version.clone());
                        map.entry("kind").or_insert_with(|| kind.clone().into());
                    }
                    item
                }));
            }
            if next.is_empty() {
                return Ok(items);
            }
        }
    }

    /// The resource and the namespace of a manifest; fills in the namespace.
    pub(crate) async fn place(
        &mut self,
        manifest: &mut Manifest,
    ) -> Result<(ApiResource, String), Error> {
        require_type(manifest)?;
        let catalog = self.catalog().await?;
        let (version, kind) = (manifest.api_version(), manifest.kind());
        let Some(resource) = catalog.by_kind(version, kind) else {
            return Err(Error::refused(format!(
                "resource mapping not found for name: {:?} namespace: {:?} from {:?}: no matches \
                 for kind {kind:?} in version {version:?}\nensure CRDs are installed first",
                manifest.name(),
                manifest.namespace(),
                manifest.origin,
            )));
        };
        if !resource.namespaced {
            return Ok((resource.clone(), String::new()));
        }
        let namespace = choose_namespace(
            manifest.namespace(),
            self.settings.explicit_namespace.as_deref(),
            &self.namespace(),
        )?;
        crate::edit_value::set(&mut manifest.value, &["metadata", "namespace"], namespace.as_str());
        Ok((resource.clone(), namespace))
    }
}

/// The object's own namespace, which must be the one of `--namespace` if both are given.
fn choose_namespace(own: &str, flag: Option<&str>, current: &str) -> Result<String, Error> {
    match flag {
        Some(flag) if !own.is_empty() && !flag.is_empty() && own != flag => {
            Err(Error::refused(format!(
                "the namespace from the provided object {own:?} does not match the namespace \
                 {flag:?}. You must pass '--namespace={own}' to perform this operation."
            )))
        }
        _ if own.is_empty() => Ok(current.to_owned()),
        _ => Ok(own.to_owned()),
    }
}

/// Paths of the resource lists that a plain `/api` or `/apis` answer names.
fn versions(root: &str, answer: &Value) -> Vec<String> {
    let array = |key: &str| answer.get(key).and_then(Value::as_array).into_iter().flatten();
    let core = array("versions").filter_map(Value::as_str).map(|v| format!("{root}/{v}"));
    let groups = array("groups")
        .flat_map(|group| group.get("versions").and_then(Value::as_array).into_iter().flatten());
    let groups = groups
        .filter_map(|v| v.get("groupVersion").and_then(Value::as_str))
        .map(|v| format!("{root}/{v}"));
    core.chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_s_namespace_wins_unless_the_flag_contradicts() {
        assert_eq!(choose_namespace("", None, "default").unwrap(), "default");
        assert_eq!(choose_namespace("a", None, "default").unwrap(), "a");
        assert_eq!(choose_namespace("a", Some("a"), "a").unwrap(), "a");
        let e = choose_namespace("a", Some("b"), "b").unwrap_err();
        assert!(e.report().contains("You must pass '--namespace=a'"), "{}", e.report());
    }

    #[test]
    fn plain_discovery_names_its_lists() {
        let core = serde_json::json!({"versions": ["v1"]});
        assert_eq!(versions("/api", &core), ["/api/v1"]);
        let groups = serde_json::json!({"groups": [{"versions": [{"groupVersion": "apps/v1"}]}]});
        assert_eq!(versions("/apis", &groups), ["/apis/apps/v1"]);
    }
}
