//! The parts that most descriptions share: labels, annotations, events, times, tolerations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::{Event, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Surroundings;
use super::text::Text;
use crate::events::{interval, last_seen};
use crate::three_way::LAST_APPLIED;

/// Annotations longer than this go on lines of their own, shortened.
const MAX_ANNOTATION: usize = 140;

/// Name and namespace.
pub(super) fn names(out: &mut Text, meta: &ObjectMeta) {
    out.pair(0, "Name", meta.name.as_deref().unwrap_or(""));
    out.pair(0, "Namespace", meta.namespace.as_deref().unwrap_or(""));
}

/// Labels and annotations.
pub(super) fn labels_and_annotations(out: &mut Text, meta: &ObjectMeta) {
    labels(out, "Labels", meta.labels.as_ref());
    annotations(out, "Annotations", meta.annotations.as_ref());
}

/// A map, one `key=value` per line.
pub(super) fn labels(out: &mut Text, title: &str, map: Option<&BTreeMap<String, String>>) {
    out.list(title, map.into_iter().flatten().map(|(k, v)| format!("{k}={v}")));
}

/// Annotations, without the record that apply keeps.
pub(super) fn annotations(out: &mut Text, title: &str, map: Option<&BTreeMap<String, String>>) {
    let mut lines = Vec::new();
    for (key, value) in map.into_iter().flatten().filter(|(k, _)| *k != LAST_APPLIED) {
        let value = value.strip_suffix('\n').unwrap_or(value);
        if key.len() + value.len() + 2 > MAX_ANNOTATION || value.contains('\n') {
            lines.push(format!("{key}:"));
            lines.extend(value.split('\n').map(|line| format!("  {}", shorten(line))));
        } else {
            lines.push(format!("{key}: {value}"));
        }
    }
    out.list(title, lines);
}

fn shorten(line: &str) -> String {
    let limit = MAX_ANNOTATION - 2;
    if line.len() <= limit {
        return line.to_owned();
    }
    let end = (0..=limit).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
    format!("{}...", &line[..end])
}

/// A time as Go's RFC1123Z: `Mon, 02 Jan 2006 15:04:05 +0000`, in the person's zone.
pub(super) fn date(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// A time that may be missing: Go's zero time.
pub(super) fn date_or_zero(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(), date)
}

/// `ReplicaSet/web-1`, if a controller owns the object.
pub(super) fn controlled_by(out: &mut Text, meta: &ObjectMeta) {
    let owners = meta.owner_references.iter().flatten();
    if let Some(owner) = owners.into_iter().find(|o| o.controller == Some(true)) {
        out.pair(0, "Controlled By", format_args!("{}/{}", owner.kind, owner.name));
    }
}

/// Whether the object's controller has the uid.
pub(super) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    let owners = meta.owner_references.iter().flatten();
    owners.into_iter().any(|o| o.controller == Some(true) && o.uid == uid)
}

/// Taints, sorted by effect and key.
pub(super) fn taints(out: &mut Text, taints: Option<&Vec<Taint>>) {
    let mut taints: Vec<&Taint> = taints.into_iter().flatten().collect();
    taints.sort_by(|a, b| (&a.effect, &a.key).cmp(&(&b.effect, &b.key)));
    out.list(
        "Taints",
        taints.into_iter().map(|t| match t.value.as_deref().unwrap_or("") {
            "" => format!("{}:{}", t.key, t.effect),
            value => format!("{}={value}:{}", t.key, t.effect),
        }),
    );
}

/// Tolerations, sorted by key.
pub(super) fn tolerations(out: &mut Text, title: &str, list: Option<&Vec<Toleration>>) {
    let mut list: Vec<&Toleration> = list.into_iter().flatten().collect();
    list.sort_by(|a, b| a.key.cmp(&b.key));
    out.list(title, list.into_iter().map(toleration));
}

fn toleration(t: &Toleration) -> String {
    let some = |s: &Option<String>| s.clone().unwrap_or_default();
    let (key, value, effect) = (some(&t.key), some(&t.value), some(&t.effect));
    let mut text = key.clone();
    if !value.is_empty() {
        text.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        text.push_str(&format!(":{effect}"));
    }
    if t.operator.as_deref() == Some("Exists") && value.is_empty() {
        let gap = if key.is_empty() && effect.is_empty() { "" } else { " " };
        text.push_str(&format!("{gap}op=Exists"));
    }
    if let Some(seconds) = t.toleration_seconds {
        text.push_str(&format!(" for {seconds}s"));
    }
    text
}

/// Sorts events by the time when they were last seen.
pub(super) fn sort_events(events: &mut [Event]) {
    events.sort_by_key(last_seen);
}

/// The table of events, if they are shown.
pub(super) fn events(out: &mut Text, around: &Surroundings) {
    let Some(events) = &around.events else { return };
    if events.is_empty() {
        return out.line(0, "Events:\t<none>");
    }
    out.line(0, "Events:");
    out.line(1, "Type\tReason\tAge\tFrom\tMessage");
    out.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        out.line(1, event_line(event, around.now));
    }
}

fn event_line(event: &Event, now: Timestamp) -> String {
    let interval = interval(event, now);
    let component = event.source.as_ref().and_then(|s| s.component.clone());
    let source = component
        .filter(|c| !c.is_empty())
        .or_else(|| event.reporting_component.clone())
        .unwrap_or_default();
    let message = event.message.as_deref().unwrap_or("").trim();
    let message = match event.involved_object.field_path.as_deref() {
        None | Some("") => message.to_owned(),
        Some(path) => format!("{path}: {message}"),
    };
    format!(
        "{}\t{}\t{interval}\t{source}\t{message}",
        event.type_.as_deref().unwrap_or(""),
        event.reason.as_deref().unwrap_or("")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_annotations_are_shortened_and_apply_s_record_is_hidden() {
        let map = BTreeMap::from([
            (LAST_APPLIED.to_owned(), "{}".to_owned()),
            ("a".to_owned(), "b\n".to_owned()),
            ("long".to_owned(), "x".repeat(200)),
        ]);
        let mut out = Text::default();
        annotations(&mut out, "Annotations", Some(&map));
        let expected = format!(
            "Annotations:  a: b\n              long:\n                {}...\n",
            "x".repeat(138)
        );
        assert_eq!(out.render(), expected);
    }

    #[test]
    fn tolerations_are_written_as_upstream_writes_them() {
        let list: Vec<Toleration> = serde_json::from_value(json!([
            {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"operator": "Exists"}, {"key": "c", "value": "d", "effect": "NoSchedule"}]))
        .unwrap();
        let mut out = Text::default();
        tolerations(&mut out, "Tolerations", Some(&list));
        assert_eq!(
            out.render(),
            "Tolerations:  op=Exists\n              b:NoExecute op=Exists for 300s\n              \
             c=d:NoSchedule\n"
        );
    }

    #[test]
    fn repeated_events_say_how_often_and_since_when() {
        let event: Event = serde_json::from_value(json!({"metadata": {}, "type": "Warning",
            "reason": "BackOff", "count": 3, "message": " m ", "source": {"component": "agent"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:01:00Z",
            "involvedObject": {"fieldPath": "spec.containers{c}"}}))
        .unwrap();
        let now = "2024-01-01T00:01:30Z".parse().unwrap();
        assert_eq!(
            event_line(&event, now),
            "Warning\tBackOff\t30s (x3 over 90s)\tagent\tspec.containers{c}: m"
        );
    }
}
