//! Namespaces, ConfigMaps, Secrets and ServiceAccounts.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};

use super::Surroundings;
use super::metadata::{date_or_zero, events, labels_and_annotations, names};
use super::text::Text;

/// Describes a Namespace. Quotas and limit ranges are not served, so nothing is said of them, as
/// kubectl says nothing of them when the server has none.
pub(super) fn namespace(out: &mut Text, object: &Namespace) {
    out.pair(0, "Name", object.metadata.name.as_deref().unwrap_or(""));
    labels_and_annotations(out, &object.metadata);
    let status = object.status.clone().unwrap_or_default();
    out.pair(0, "Status", status.phase.unwrap_or_default());
    let conditions = status.conditions.unwrap_or_default();
    if !conditions.is_empty() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        out.line(1, "----\t------\t------------------\t------\t-------");
        for c in conditions {
            out.line(
                1,
                format_args!(
                    "{}\t{}\t{}\t{}\t{}",
                    c.type_,
                    c.status,
                    date_or_zero(c.last_transition_time.map(|t| t.0)),
                    c.reason.unwrap_or_default(),
                    c.message.unwrap_or_default()
                ),
            );
        }
    }
}

/// Describes a ConfigMap with its texts.
pub(super) fn config_map(out: &mut Text, object: &ConfigMap, around: &Surroundings) {
    names(out, &object.metadata);
    labels_and_annotations(out, &object.metadata);
    out.line(0, "\nData\n====");
    for (key, text) in object.data.iter().flatten() {
        out.line(0, format_args!("{key}:\n----\n{text}\n"));
    }
    out.line(0, "\nBinaryData\n====");
    for (key, bytes) in object.binary_data.iter().flatten() {
        out.line(0, format_args!("{key}: {} bytes", bytes.0.len()));
    }
    out.line(0, "");
    events(out, around);
}

/// Describes a Secret: the sizes of its entries, not their contents.
pub(super) fn secret(out: &mut Text, object: &Secret) {
    names(out, &object.metadata);
    labels_and_annotations(out, &object.metadata);
    let kind = object.type_.as_deref().unwrap_or("");
    out.line(0, format_args!("\nType:\t{kind}"));
    out.line(0, "\nData\n====");
    for (key, bytes) in object.data.iter().flatten() {
        if key == "token" && kind == "kubernetes.io/service-account-token" {
            out.pair(0, key, String::from_utf8_lossy(&bytes.0));
        } else {
            out.pair(0, key, format_args!("{} bytes", bytes.0.len()));
        }
    }
}

/// Describes a ServiceAccount.
pub(super) fn service_account(out: &mut Text, object: &ServiceAccount, around: &Surroundings) {
    names(out, &object.metadata);
    labels_and_annotations(out, &object.metadata);
    let secrets = object.image_pull_secrets.iter().flatten();
    out.list("Image pull secrets", secrets.map(|s| s.name.clone()));
    events(out, around);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_map_shows_texts_and_sizes() {
        let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "cm",
            "namespace": "default"}, "data": {"k": "v"}, "binaryData": {"b": "AAEC"}}))
        .unwrap();
        let mut out = Text::default();
        let around = Surroundings { events: Some(vec![]), now: jiff::Timestamp::UNIX_EPOCH };
        config_map(&mut out, &object, &around);
        let expected = "\
Name:         cm
Namespace:    default
Labels:       <none>
Annotations:  <none>

Data
====
k:
----
v


BinaryData
====
b: 3 bytes

Events:  <none>
";
        assert_eq!(out.render(), expected);
    }

    #[test]
    fn a_secret_keeps_its_secret() {
        let object: Secret = serde_json::from_value(json!({"metadata": {"name": "s"},
            "type": "Opaque", "data": {"password": "aHVudGVyMg=="}}))
        .unwrap();
        let mut out = Text::default();
        secret(&mut out, &object);
        let text = out.render();
        assert!(text.contains("\nType:  Opaque\n\nData\n====\npassword:  7 bytes\n"), "{text}");
        assert!(!text.contains("hunter2"));
    }
}
