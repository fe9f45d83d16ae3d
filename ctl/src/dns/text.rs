//! What name servers tell, as text. Pure.

use proto::dns::{Attempt, LogEntry, Step, TraceReply};
use verbs::client::columns;

/// One line of the log: when, who, what, and what came of it.
pub(super) fn line(entry: &LogEntry) -> String {
    let who = match entry.pod.as_str() {
        "" => entry.client.clone(),
        pod => format!("{}/{pod}", entry.namespace),
    };
    // The date is today's, or the log is too long to be kept.
    let time = entry.time.split_once('T').map_or(&*entry.time, |(_, time)| time);
    let mut line = format!(
        "{time} {} {who} {} {} {} {}",
        entry.node,
        entry.r#type,
        entry.name,
        entry.code,
        records(entry.answers),
    );
    line.push_str(&format!(" {} {}", by(&entry.source, &entry.server), took(entry.micros)));
    if entry.tcp {
        line.push_str(" tcp");
    }
    if !entry.completed.is_empty() {
        line.push_str(&format!(" completed to {}", entry.completed));
    }
    line
}

fn records(count: u32) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

fn by(source: &str, server: &str) -> String {
    match source {
        "upstream" => format!("by {server}"),
        "nobody" => "by nobody".to_owned(),
        "stale" => "by the cache, past its time".to_owned(),
        source => format!("by the {source}"),
    }
}

fn took(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

/// A pod's search: its questions with all that was looked for, the answer, and what it means.
pub(super) fn trace(reply: &TraceReply) -> String {
    let mut text = format!(
        "Pod {}/{} ({}) on {}: search {}, ndots:{}\n\n",
        reply.namespace,
        reply.pod,
        reply.client,
        reply.node,
        reply.searches.join(" "),
        reply.ndots
    );
    if !reply.attempts.is_empty() {
        text.push_str(&questions(&reply.attempts));
        text.push('\n');
    }
    for record in &reply.answers {
        text.push_str(record);
        text.push('\n');
    }
    if !reply.answers.is_empty() {
        text.push('\n');
    }
    for sentence in &reply.explanation {
        text.push_str(sentence);
        text.push('\n');
    }
    text
}

fn questions(attempts: &[Attempt]) -> String {
    let head = ["QUESTION", "LOOKED FOR", "RESULT", "WHO KNEW", "TIME"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (at, attempt) in attempts.iter().enumerate() {
        for step in &attempt.steps {
            lines.push(vec![
                (at + 1).to_string(),
                step.name.clone(),
                result(step),
                by(&step.source, &step.server).trim_start_matches("by ").to_owned(),
                took(step.micros),
            ]);
        }
    }
    columns(&lines)
}

fn result(step: &Step) -> String {
    let data: Vec<&str> = step
        .records
        .iter()
        .filter_map(|record| record.split_once(" IN "))
        .map(|(_, data)| data)
        .collect();
    match data.as_slice() {
        [] if step.code == "NOERROR" => "NODATA".to_owned(),
        [] => step.code.clone(),
        data => data.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_asked_and_who_knew() {
        let mut entry = LogEntry {
            time: "2026-01-02T03:04:05.678Z".into(),
            node: "node-1".into(),
            namespace: "shop".into(),
            pod: "web".into(),
            client: "10.244.0.5".into(),
            name: "db.shop.svc.cluster.local.".into(),
            r#type: "A".into(),
            code: "NOERROR".into(),
            source: "zone".into(),
            answers: 1,
            micros: 12,
            ..LogEntry::default()
        };
        assert_eq!(
            line(&entry),
            "03:04:05.678Z node-1 shop/web A db.shop.svc.cluster.local. NOERROR 1 record by the \
             zone 0.012 ms"
        );
        entry.pod.clear();
        entry.source = "upstream".into();
        entry.server = "192.0.2.1:53".into();
        entry.tcp = true;
        entry.completed = "www.example.com.".into();
        assert!(line(&entry).contains("node-1 10.244.0.5 A"));
        let end = "by 192.0.2.1:53 0.012 ms tcp completed to www.example.com.";
        assert!(line(&entry).ends_with(end), "{}", line(&entry));
    }

    #[test]
    fn a_trace_shows_each_name_and_says_what_it_means() {
        let step = |name: &str, code: &str, records: &[&str]| Step {
            name: name.into(),
            source: "zone".into(),
            code: code.into(),
            records: records.iter().map(ToString::to_string).collect(),
            ..Step::default()
        };
        let record = "web.shop.svc.cluster.local. 5 IN A 10.96.0.20";
        let reply = TraceReply {
            node: "node-1".into(),
            namespace: "shop".into(),
            pod: "client".into(),
            client: "10.244.0.5".into(),
            searches: vec!["shop.svc.cluster.local".into(), "svc.cluster.local".into()],
            ndots: 5,
            attempts: vec![Attempt {
                steps: vec![
                    step("web.shop.svc.cluster.local.", "NXDOMAIN", &[]),
                    step("web.", "NOERROR", &[record]),
                ],
                ..Attempt::default()
            }],
            answers: vec![record.into()],
            explanation: vec!["So it is.".into()],
            ..TraceReply::default()
        };
        assert_eq!(
            trace(&reply),
            "Pod shop/client (10.244.0.5) on node-1: search shop.svc.cluster.local \
             svc.cluster.local, ndots:5\n\n\
             QUESTION   LOOKED FOR                    RESULT         WHO KNEW   TIME\n\
             1          web.shop.svc.cluster.local.   NXDOMAIN       the zone   0.000 ms\n\
             1          web.                          A 10.96.0.20   the zone   0.000 ms\n\n\
             web.shop.svc.cluster.local. 5 IN A 10.96.0.20\n\nSo it is.\n"
        );
    }
}
