//! `events`: what happened, the latest last.
//!
//! Inputs: the namespace's events. Output: kubectl's own table of them (not the server's), or the
//! objects. Upstream: `kubectl/pkg/cmd/events/{events,event_printer}.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

use crate::context::Context;
use crate::duration::age;
use crate::error::Error;
use crate::pods::typed;
use crate::render::table::{Layout, one_line};
use crate::render::{Format, hide_managed_fields};
use crate::session::{Call, encode};
use crate::watch;

/// List events
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Events {
    /// List the events of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// After listing the requested events, watch for more
    #[arg(short, long)]
    pub watch: bool,
    /// Only events of this object, TYPE/NAME
    #[arg(long = "for", value_name = "TYPE/NAME", default_value = "", hide_default_value = true)]
    pub object: String,
    /// Only events of these types: Normal, Warning
    #[arg(long, value_delimiter = ',')]
    pub types: Vec<String>,
    /// Don't print headers
    #[arg(long)]
    pub no_headers: bool,
    /// Output format: yaml, json, name, jsonpath=…, custom-columns=…
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
}

impl Events {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if !self.types.iter().all(|t| ["normal", "warning"].contains(&&*t.to_lowercase())) {
            return Err(Error::refused("valid --types are Normal or Warning"));
        }
        let format = Format::parse(&self.output)?;
        let call = self.call(ctx).await?;
        if self.watch {
            return self.watch(ctx, &format, call).await;
        }
        let mut found = Vec::new();
        for object in ctx.list(&call).await? {
            let event: Event = typed(object.clone())?;
            if self.wants(&event) {
                found.push((event, object));
            }
        }
        if found.is_empty() {
            match self.all_namespaces {
                true => ctx.io.warn("No events found."),
                false => {
                    let namespace = ctx.namespace();
                    ctx.io.warn(format_args!("No events found in {namespace} namespace."));
                }
            }
            return Ok(());
        }
        found.sort_by_key(|(event, _)| last_seen(event));
        if format.is_table() {
            let mut lines = self.headings();
            let now = Timestamp::now();
            lines.extend(found.iter().map(|(event, _)| self.line(event, now)));
            return ctx.io.print(&Layout::default().format(&lines));
        }
        let items: Vec<Value> = found.into_iter().map(|(_, object)| object).collect();
        let mut list = json!({"apiVersion": "v1", "items": items, "kind": "EventList",
                              "metadata": {}});
        hide_managed_fields(&mut list);
        ctx.io.print(&format.object(&list).unwrap_or_default())
    }

    async fn call(&self, ctx: &mut Context<'_>) -> Result<Call, Error> {
        let path = if self.all_namespaces {
            "/api/v1/events".to_owned()
        } else {
            format!("/api/v1/namespaces/{}/events", encode(&ctx.namespace()))
        };
        let call = Call::get(path);
        if self.object.is_empty() {
            return Ok(call);
        }
        let Some((kind, name)) = self.object.split_once('/') else {
            return Err(Error::refused("--for must be in resource/name form"));
        };
        if name.contains('/') {
            return Err(Error::refused(
                "arguments in resource/name form may not have more than one slash",
            ));
        }
        let catalog = ctx.catalog().await?;
        let kind = &catalog.resolve(kind)?.kind;
        let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        Ok(call.query("fieldSelector", selector))
    }

    /// Prints events as they come, those that there are first.
    async fn watch(&self, ctx: &mut Context<'_>, format: &Format, call: Call) -> Result<(), Error> {
        let mut layout = Layout::default();
        let mut lines = self.headings();
        let mut stream = watch::start(ctx, call, "").await?;
        while let Some(change) = stream.next().await? {
            // The server forgets old events; that is no news.
            if !matches!(change.kind.as_str(), "ADDED" | "MODIFIED") {
                continue;
            }
            let mut object = change.object;
            let event: Event = typed(object.clone())?;
            if !self.wants(&event) {
                continue;
            }
            if format.is_table() {
                lines.push(self.line(&event, Timestamp::now()));
                ctx.io.print(&layout.format(&lines))?;
                lines.clear();
            } else {
                hide_managed_fields(&mut object);
                ctx.io.print(&format.object(&object).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = event.type_.as_deref().unwrap_or("");
        self.types.is_empty() || self.types.iter().any(|t| t.eq_ignore_ascii_case(kind))
    }

    fn headings(&self) -> Vec<Vec<String>> {
        if self.no_headers {
            return Vec::new();
        }
        let namespace = self.all_namespaces.then_some("NAMESPACE");
        let names = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
        vec![namespace.into_iter().chain(names).map(str::to_owned).collect()]
    }

    fn line(&self, event: &Event, now: Timestamp) -> Vec<String> {
        let cell = |text: &Option<String>| one_line(text.as_deref().unwrap_or(""));
        let object = &event.involved_object;
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let cells = [
            interval(event, now),
            cell(&event.type_),
            cell(&event.reason),
            format!("{}/{}", cell(&object.kind), cell(&object.name)),
            one_line(event.message.as_deref().unwrap_or("").trim()),
        ];
        self.all_namespaces.then_some(namespace).into_iter().chain(cells).collect()
    }
}

/// When an event was last seen.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|s| s.last_observed_time.as_ref()).map(|t| t.0);
    let last = event.last_timestamp.as_ref().map(|t| t.0);
    let time = event.event_time.as_ref().map(|t| t.0);
    series.or(last).or(time)
}

/// How long ago an event was seen, and how often since when if that was repeatedly.
pub(crate) fn interval(event: &Event, now: Timestamp) -> String {
    let since = |t: Option<Timestamp>| t.map_or("<unknown>".to_owned(), |t| age(t, now));
    let first = event.event_time.as_ref().map(|t| t.0);
    let first = since(first.or(event.first_timestamp.as_ref().map(|t| t.0)));
    match (&event.series, event.count.unwrap_or(0)) {
        (Some(series), _) => {
            let last = series.last_observed_time.as_ref().map(|t| t.0);
            format!("{} (x{} over {first})", since(last), series.count.unwrap_or(0))
        }
        (None, count) if count > 1 => {
            let last = event.last_timestamp.as_ref().map(|t| t.0);
            format!("{} (x{count} over {first})", since(last))
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::Fake;

    const EVENTS: &str = "/api/v1/namespaces/default/events";

    fn event(name: &str, kind: &str, seconds_ago: i64) -> Value {
        let then = Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
        let then = then.round(jiff::Unit::Second).unwrap().to_string();
        json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": "default"}, "type": kind, "reason": "Why",
            "message": "first\nsecond\n", "firstTimestamp": then, "lastTimestamp": then,
            "involvedObject": {"kind": "Pod", "name": name}})
    }

    fn list(events: &[Value]) -> Value {
        json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": events})
    }

    #[tokio::test]
    async fn the_latest_event_stands_last_on_one_line() {
        let events = list(&[event("b", "Normal", 7201), event("a", "Warning", 10801)]);
        let fake = Fake::start().await.on(&format!("GET {EVENTS}?limit=500"), events);
        let done = fake.run("events").await;
        assert_eq!(
            done.out,
            "LAST SEEN   TYPE      REASON   OBJECT   MESSAGE\n\
             3h          Warning   Why      Pod/a    first...\n\
             120m        Normal    Why      Pod/b    first...\n",
            "{}",
            done.err
        );
        assert_eq!(fake.run("events --types=warning -o name").await.out, "event/a\n");
        let done = fake.run("events --types=Error").await;
        assert_eq!(done.err, "error: valid --types are Normal or Warning\n");
    }

    #[tokio::test]
    async fn events_of_one_object_are_asked_of_the_server() {
        let selector = "involvedObject.kind%3DPod%2CinvolvedObject.name%3Dx";
        let fake = Fake::start()
            .await
            .on(&format!("GET {EVENTS}?fieldSelector={selector}&limit=500"), list(&[]));
        let done = fake.run("events --for po/x").await;
        assert_eq!(done.err, "No events found in default namespace.\n");
        let done = fake.run("events --for x").await;
        assert_eq!(done.err, "error: --for must be in resource/name form\n");
    }

    #[tokio::test]
    async fn a_watch_prints_headings_once_and_forgets_nothing() {
        let change = |kind: &str, name: &str| {
            format!("{}\n", json!({"type": kind, "object": event(name, "Normal", 10801)}))
        };
        let stream = change("ADDED", "a") + &change("DELETED", "a") + &change("MODIFIED", "b");
        let fake = Fake::start().await.raw("GET /api/v1/events?watch=true", 200, &[], &stream);
        let done = fake.run("events -A -w").await;
        assert_eq!(
            done.out,
            "NAMESPACE   LAST SEEN   TYPE     REASON   OBJECT   MESSAGE\n\
             default     3h          Normal   Why      Pod/a    first...\n\
             default     3h          Normal   Why      Pod/b    first...\n",
            "{}",
            done.err
        );
    }
}
