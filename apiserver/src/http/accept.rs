//! Content negotiation: which representation a client wants, first acceptable entry first.
//!
//! Input: the Accept header. Output: [`Representation`], or 406 when nothing fits.

use crate::status::ApiError;

const OFFERED: &str = "application/json, application/vnd.kubernetes.protobuf;stream=watch, application/json;stream=watch";

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation {
    /// The object itself.
    Object,
    /// A `Table` of `meta.k8s.io` in this version, for people.
    Table(&'static str),
    /// Only the metadata, in this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// Which form of `/api` and `/apis` a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiscoveryForm {
    /// `APIGroupDiscoveryList` in this version of `apidiscovery.k8s.io`.
    Aggregated(&'static str),
    /// `APIVersions` or `APIGroupList`.
    Plain,
}

struct MediaType<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl MediaType<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    fn is_json(&self) -> bool {
        matches!(self.name, "application/json" | "application/*" | "*/*")
    }
}

fn entries(header: &str) -> impl Iterator<Item = MediaType<'_>> {
    header.split(',').map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|p| p.split_once('=')).collect();
        MediaType { name, parameters }
    })
}

/// The representation for an Accept header; none is as good as `*/*`.
pub(crate) fn representation(header: Option<&str>) -> Result<Representation, ApiError> {
    let header = header.filter(|h| !h.trim().is_empty()).unwrap_or("*/*");
    entries(header).find_map(|e| offered(&e)).ok_or(ApiError::NotAcceptable(OFFERED))
}

fn offered(entry: &MediaType<'_>) -> Option<Representation> {
    if !entry.is_json() {
        return None;
    }
    let Some(kind) = entry.parameter("as") else { return Some(Representation::Object) };
    if entry.parameter("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match entry.parameter("v") {
        Some("v1") => "v1",
        Some("v1beta1") => "v1beta1",
        _ => return None,
    };
    match kind {
        "Table" => Some(Representation::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => {
            Some(Representation::Metadata(version))
        }
        _ => None,
    }
}

/// The form of discovery for an Accept header.
pub(crate) fn discovery(header: Option<&str>) -> DiscoveryForm {
    let found = entries(header.unwrap_or_default()).find_map(|entry| {
        if !entry.is_json() {
            return None;
        }
        match (entry.parameter("g"), entry.parameter("v"), entry.parameter("as")) {
            (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) => {
                Some(DiscoveryForm::Aggregated("v2"))
            }
            (Some("apidiscovery.k8s.io"), Some("v2beta1"), Some("APIGroupDiscoveryList")) => {
                Some(DiscoveryForm::Aggregated("v2beta1"))
            }
            (None, None, None) => Some(DiscoveryForm::Plain),
            _ => None,
        }
    });
    found.unwrap_or(DiscoveryForm::Plain)
}

/// Whether a client takes this media type, without wildcards.
pub(crate) fn names(header: Option<&str>, media_type: &str) -> bool {
    entries(header.unwrap_or_default()).any(|e| e.name == media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_and_others_send() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            (None, Representation::Object),
            (Some("*/*"), Representation::Object),
            (Some("application/json, */*"), Representation::Object),
            (Some(table), Representation::Table("v1")),
            (Some("application/vnd.kubernetes.protobuf,application/json"), Representation::Object),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                Representation::Metadata("v1"),
            ),
            (Some("application/json;stream=watch"), Representation::Object),
        ];
        for (header, expected) in cases {
            assert_eq!(representation(header).unwrap(), expected, "{header:?}");
        }
    }

    #[test]
    fn only_protobuf_is_not_acceptable() {
        assert!(representation(Some("application/vnd.kubernetes.protobuf")).is_err());
        assert!(representation(Some("text/html")).is_err());
    }

    #[test]
    fn discovery_prefers_the_newest_aggregated_form_that_is_asked_for() {
        let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(Some(both)), DiscoveryForm::Aggregated("v2"));
        assert_eq!(discovery(Some("application/json")), DiscoveryForm::Plain);
        assert_eq!(discovery(None), DiscoveryForm::Plain);
    }
}
