//! Events, in their two API forms over one storage: core/v1 and events.k8s.io/v1.
//!
//! Upstream: `pkg/registry/core/event/strategy.go`, `pkg/apis/events/v1/conversion.go`.
//! Invariant: the stored form is core/v1; [`convert`] is lossless both ways.
//! Deliberately not here: the time an event is kept.

pub mod convert;
mod validate;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::api::events::v1::Event as NewEvent;

use crate::columns::{self, Cell, Column};
use crate::duration::{since, since_instant};
use crate::field::FieldErrors;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[
    Column::text("Last Seen"),
    Column::text("Type"),
    Column::text("Reason"),
    Column::text("Object"),
    Column::wide("Subobject"),
    Column::wide("Source"),
    Column::text("Message"),
    Column::wide("First Seen"),
    Column::wide("Count"),
    Column { name: "Name", kind: "string", format: "name", priority: 1 },
];

/// The behaviour of core/v1 Events.
pub(crate) struct Events;

impl Strategy for Events {
    type Object = Event;

    fn validate(&self, event: &Event) -> FieldErrors {
        validate::any(event)
    }

    fn fields(&self, event: &Event) -> Vec<(&'static str, String)> {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let object = &event.involved_object;
        vec![
            ("involvedObject.kind", text(&object.kind)),
            ("involvedObject.namespace", text(&object.namespace)),
            ("involvedObject.name", text(&object.name)),
            ("involvedObject.uid", text(&object.uid)),
            ("involvedObject.apiVersion", text(&object.api_version)),
            ("involvedObject.resourceVersion", text(&object.resource_version)),
            ("involvedObject.fieldPath", text(&object.field_path)),
            ("reason", text(&event.reason)),
            ("reportingComponent", text(&event.reporting_component)),
            ("source", component(event).to_owned()),
            ("type", text(&event.type_)),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, event: &Event, now: Timestamp) -> Vec<Cell> {
        let seen = Seen::of(event, now);
        vec![
            seen.last.into(),
            event.type_.as_deref().unwrap_or_default().into(),
            event.reason.as_deref().unwrap_or_default().into(),
            target(&event.involved_object).into(),
            event.involved_object.field_path.as_deref().unwrap_or_default().into(),
            source(event).into(),
            event.message.as_deref().unwrap_or_default().trim().into(),
            seen.first.into(),
            seen.count.into(),
            columns::name(&event.metadata),
        ]
    }
}

/// The behaviour of events.k8s.io/v1 Events: that of core/v1 under other names.
pub(crate) struct NewEvents;

impl Strategy for NewEvents {
    type Object = NewEvent;

    fn validate(&self, event: &NewEvent) -> FieldErrors {
        validate::any(&convert::to_core(event.clone()))
    }

    fn validate_update(&self, new: &NewEvent, old: &NewEvent) -> FieldErrors {
        validate::update(&convert::to_core(new.clone()), &convert::to_core(old.clone()))
    }

    fn fields(&self, event: &NewEvent) -> Vec<(&'static str, String)> {
        let core = convert::to_core(event.clone());
        let renamed = Strategy::fields(&Events, &core).into_iter().map(|(name, value)| {
            let name = match name {
                "involvedObject.kind" => "regarding.kind",
                "involvedObject.namespace" => "regarding.namespace",
                "involvedObject.name" => "regarding.name",
                "involvedObject.uid" => "regarding.uid",
                "involvedObject.apiVersion" => "regarding.apiVersion",
                "involvedObject.resourceVersion" => "regarding.resourceVersion",
                "involvedObject.fieldPath" => "regarding.fieldPath",
                "reportingComponent" => "reportingController",
                other => other,
            };
            (name, value)
        });
        renamed.collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, event: &NewEvent, now: Timestamp) -> Vec<Cell> {
        Strategy::cells(&Events, &convert::to_core(event.clone()), now)
    }
}

/// When and how often the event was seen; the old and the new API keep it in different fields.
struct Seen {
    first: String,
    last: String,
    count: i32,
}

impl Seen {
    fn of(event: &Event, now: Timestamp) -> Self {
        let first = match (&event.first_timestamp, &event.event_time) {
            (None, Some(time)) => since_instant(time.0, now),
            (first, _) => since(first.as_ref(), now),
        };
        let last = match &event.last_timestamp {
            None => first.clone(),
            last => since(last.as_ref(), now),
        };
        match &event.series {
            Some(series) => Self {
                first,
                last: series
                    .last_observed_time
                    .as_ref()
                    .map_or_else(|| columns::UNKNOWN.to_owned(), |t| since_instant(t.0, now)),
                count: series.count.unwrap_or_default(),
            },
            // An event that happened once has no count in the new API.
            None => Self { first, last, count: event.count.filter(|&c| c != 0).unwrap_or(1) },
        }
    }
}

fn target(object: &ObjectReference) -> String {
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    match object.name.as_deref().unwrap_or_default() {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn component(event: &Event) -> &str {
    let old = event.source.as_ref().and_then(|s| s.component.as_deref());
    old.filter(|c| !c.is_empty()).or(event.reporting_component.as_deref()).unwrap_or_default()
}

fn source(event: &Event) -> String {
    let old = event.source.as_ref().and_then(|s| s.host.as_deref());
    let instance =
        old.filter(|h| !h.is_empty()).or(event.reporting_instance.as_deref()).unwrap_or_default();
    match instance {
        "" => component(event).to_owned(),
        instance => format!("{}, {instance}", component(event)),
    }
}

#[cfg(test)]
mod tests;
