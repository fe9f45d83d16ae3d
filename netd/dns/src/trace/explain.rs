//! What happened in a search for a name, in sentences for somebody who sees it for the first time.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData};

use super::{Attempt, Trace};
use crate::resolve::{Source, Step};

/// The sentences, in the order of what happened.
pub(crate) fn explain(trace: &Trace) -> Vec<String> {
    let mut lines = Vec::new();
    if !trace.config.asks_here {
        lines.push(format!(
            "Pod {}/{} does not ask the cluster's DNS: its dnsPolicy sends it to other servers, so \
             it finds no Service by name.",
            trace.pod.namespace, trace.pod.name
        ));
        return lines;
    }
    lines.push(order(trace));
    for attempt in &trace.attempts {
        lines.extend(questions(attempt));
    }
    lines.extend(ending(trace));
    lines
}

fn order(trace: &Trace) -> String {
    let (typed, ndots) = (&trace.typed, trace.config.ndots);
    if typed.ends_with('.') {
        return format!("{typed} ends in a dot: it is a whole name, and tried only as it is.");
    }
    let dots = typed.matches('.').count();
    let count = match dots {
        1 => "1 dot".to_owned(),
        dots => format!("{dots} dots"),
    };
    let searches = trace.config.searches.join(", ");
    match dots >= ndots {
        true => format!("{typed} has {count}, at least ndots:{ndots}: it is tried as it is first."),
        false => format!(
            "{typed} has {count}, fewer than ndots:{ndots}: the pod first completes it with its \
             search domains ({searches}), and tries it as it is last."
        ),
    }
}

fn questions(attempt: &Attempt) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for step in &attempt.found.steps {
        lines.push(one(step));
    }
    if let Some(meant) = &attempt.found.completed {
        let spared = attempt.found.steps.iter().take_while(|step| step.name != *meant).count();
        let questions = if spared == 1 { "question" } else { "questions" };
        lines.push(format!(
            "The server knows the pod's search path, and did not make it ask again: it answered \
             {} with {meant} by a CNAME, which spared the pod {spared} more {questions}.",
            attempt.name
        ));
    }
    lines
}

fn one(step: &Step) -> String {
    let name = &step.name;
    let who = match step.source {
        Source::Zone => "the cluster's own zone".to_owned(),
        Source::Cache => "the cache".to_owned(),
        Source::Stale => "the cache, past its time,".to_owned(),
        Source::Upstream(server) => format!("the server {}", server.ip()),
        Source::Nobody => {
            let why = step.trouble.as_deref().unwrap_or("nobody knows");
            return format!("{name}: no answer, because {why}.");
        }
    };
    let reply = &step.reply;
    let aliases: Vec<String> = reply
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.to_string()),
            _ => None,
        })
        .collect();
    let last = reply.answers.last().map(|record| &record.data);
    match reply.code {
        ResponseCode::NXDomain => format!("{name}: {who} says that there is no such name."),
        ResponseCode::NoError if reply.answers.is_empty() => {
            format!("{name}: {who} says that the name is there, but has no such records.")
        }
        ResponseCode::NoError if matches!(last, Some(RData::CNAME(_))) => {
            let target = aliases.last().map(String::as_str).unwrap_or_default();
            match step.source {
                Source::Zone => format!(
                    "{name}: {who} says that this is another name for {target} (a Service of type \
                     ExternalName); that one is looked for next."
                ),
                _ => format!("{name}: {who} says that this is another name for {target}."),
            }
        }
        ResponseCode::NoError => {
            let data: Vec<String> = reply
                .answers
                .iter()
                .filter(|record| !matches!(record.data, RData::CNAME(_)))
                .map(|record| record.data.to_string())
                .collect();
            let by = match aliases.is_empty() {
                true => String::new(),
                false => format!(" by way of {}", aliases.join(", ")),
            };
            format!("{name}: {who} answers {}{by}.", data.join(", "))
        }
        code => format!("{name}: {who} answers {code}."),
    }
}

fn ending(trace: &Trace) -> Option<String> {
    let end = trace.end()?;
    let reply = &end.found.reply;
    let typed = &trace.typed;
    match reply.code {
        ResponseCode::NoError if !reply.answers.is_empty() => {
            let asked = trace.attempts.len();
            let count = if asked == 1 { "one question" } else { "several questions" };
            Some(format!("So the pod has its answer for {typed} after {count}."))
        }
        ResponseCode::NoError => {
            Some(format!("So {typed} exists, but the pod gets no {} records.", trace.kind))
        }
        ResponseCode::NXDomain => {
            Some(format!("So there is no {typed} for this pod.{}", hint(trace)))
        }
        _ => Some(format!(
            "So the pod can't know whether there is a {typed}: a lookup that fails is tried again."
        )),
    }
}

/// What is most often wrong with a name that is not found: its namespace is missing.
fn hint(trace: &Trace) -> String {
    let is_short = Name::from_ascii(&trace.typed).is_ok_and(|name| name.num_labels() == 1);
    match is_short && !trace.typed.ends_with('.') {
        true => format!(" A Service of another namespace is called {}.NAMESPACE.", trace.typed),
        false => String::new(),
    }
}
