//! Which objects a list or watch is about: label and field selectors over serialised objects.
//!
//! Decodes as little as it can: names come from the key, labels from a partial read, other fields
//! from the typed object.

use resources::table::Resource;
use wire::selector::{Fields, Labels};

use crate::http::query::ListOptions;
use crate::key;
use crate::status::ApiError;
use crate::stored;

/// Parsed selectors of one request.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: Labels,
    fields: Fields,
    /// Whether a field beyond name and namespace is asked for.
    typed: bool,
}

impl Selection {
    /// Reads the selectors.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read or a field that the kind does not offer.
    pub(crate) fn parse(resource: &Resource, options: &ListOptions) -> Result<Self, ApiError> {
        let bad = |e: &dyn std::fmt::Display| ApiError::BadRequest(e.to_string());
        let labels = Labels::parse(&options.label_selector).map_err(|e| bad(&e))?;
        let fields = Fields::parse(&options.field_selector).map_err(|e| bad(&e))?;
        let mut typed = false;
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            if field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced) {
                continue;
            }
            if !offers(resource, field) {
                return Err(ApiError::BadRequest(format!("field label not supported: {field}")));
            }
            typed = true;
        }
        Ok(Self { labels, fields, typed })
    }

    /// The one name that is asked for, if so.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether everything is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object at a key is wanted. An object that cannot be decoded is not.
    pub(crate) fn wants(&self, resource: &Resource, key: &str, json: &[u8]) -> bool {
        self.wants_labels(json) && self.wants_fields(resource, key, json)
    }

    fn wants_labels(&self, json: &[u8]) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let labels = stored::labels(json);
        self.labels.matches_with(|name| labels.get(name).map(|value| &**value))
    }

    fn wants_fields(&self, resource: &Resource, key: &str, json: &[u8]) -> bool {
        if self.fields.is_empty() {
            return true;
        }
        let typed = if self.typed {
            let Ok(object) = resource.strategy.decode(json) else { return false };
            resource.strategy.fields(object.as_ref())
        } else {
            Vec::new()
        };
        let (namespace, name) = key::names(resource, key);
        self.fields.matches(|field| match field {
            "metadata.name" => Some(name),
            "metadata.namespace" => Some(namespace),
            _ => typed.iter().find(|(known, _)| *known == field).map(|(_, value)| value.as_str()),
        })
    }
}

/// Whether a kind offers a field, seen on an empty object of it.
fn offers(resource: &Resource, field: &str) -> bool {
    let empty = serde_json::json!({
        "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {},
    });
    let Ok(object) = resource.strategy.decode(empty.to_string().as_bytes()) else { return false };
    resource.strategy.fields(object.as_ref()).iter().any(|(known, _)| *known == field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resources::table;

    fn wants(labels: &str, fields: &str) -> Result<bool, String> {
        let pods = table::by_path("", "v1", "pods").unwrap();
        let options = ListOptions {
            label_selector: labels.into(),
            field_selector: fields.into(),
            ..ListOptions::default()
        };
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","labels":{"run":"x"}},"spec":{"nodeName":"node-1"},"status":{"phase":"Running"}}"#;
        let selection = Selection::parse(pods, &options).map_err(|e| e.to_string())?;
        Ok(selection.wants(pods, "/registry/pods/n/a", json))
    }

    #[test]
    fn labels_names_and_typed_fields_select() {
        assert_eq!(wants("run=x", "metadata.name=a,spec.nodeName=node-1"), Ok(true));
        assert_eq!(wants("run=x", "metadata.name=b"), Ok(false));
        assert_eq!(wants("run=y", ""), Ok(false));
        assert_eq!(wants("!run", ""), Ok(false));
        assert_eq!(wants("", "metadata.namespace=n,status.phase!=Running"), Ok(false));
        assert_eq!(wants("", ""), Ok(true));
    }

    #[test]
    fn a_field_that_the_kind_does_not_offer_is_refused() {
        assert_eq!(
            wants("", "spec.bogus=1"),
            Err("field label not supported: spec.bogus".to_owned())
        );
    }
}
