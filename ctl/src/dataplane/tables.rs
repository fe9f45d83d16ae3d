//! What netd tells, as tables; and below them, in whole sentences, what needs a sentence.
//!
//! Pure. Every row names the node, and the Service, its port and its version where there is one.

use proto::dataplane::{
    Answer, Backend, DiffReply, DumpReply, Finding, Frontend, Origin, StatusReply,
};
use verbs::client::columns;

/// Backends that are named in a narrow table, as kubectl does with endpoints.
const NAMED: usize = 3;
const NONE: &str = "<none>";

/// `minictl dataplane status`
pub(super) fn status(replies: &[StatusReply], wide: bool) -> String {
    let mut head = vec!["NODE", "ENGINE", "WANTED", "SERVICES", "FRONTENDS", "BACKENDS"];
    head.extend(["REPAIRS", "FAILURES", "WHY"]);
    if wide {
        head.extend(["KERNEL", "WRITES", "LAST-LOOK", "LAST-WRITE", "LAST-REPAIR"]);
    }
    let mut lines = vec![owned(&head)];
    lines.extend(replies.iter().map(|reply| status_line(reply, wide)));
    let mut text = columns(&lines);
    if wide {
        text.push_str(&settings(replies));
        text.push_str(&recent("RECENT REPAIR", replies, |r| lately(r, true)));
    }
    text.push_str(&recent("RECENT FAILURE", replies, |r| lately(r, false)));
    text.push_str(&problems(replies));
    text.push_str(&firewalls(replies));
    text
}

fn status_line(reply: &StatusReply, wide: bool) -> Vec<String> {
    let engine = reply.engine.clone().unwrap_or_default();
    let counts = reply.counts.unwrap_or_default();
    let activity = reply.activity.clone().unwrap_or_default();
    let why = if engine.refused.is_empty() { engine.reason } else { engine.refused };
    let mut line = vec![
        reply.node.clone(),
        or_none(engine.name),
        or_none(engine.wanted),
        counts.services.to_string(),
        counts.frontends.to_string(),
        counts.backends.to_string(),
        activity.repairs.to_string(),
        activity.failures.to_string(),
        if activity.synced { or_none(why) } else { "the cluster has not been read yet".to_owned() },
    ];
    if wide {
        let release = reply.kernel.as_ref().map(|kernel| kernel.release.clone());
        line.extend([or_none(release.unwrap_or_default()), activity.writes.to_string()]);
        line.extend([activity.last_look, activity.last_write, activity.last_repair].map(or_none));
    }
    line
}

fn settings(replies: &[StatusReply]) -> String {
    let mut lines = vec![owned(&["NODE", "SETTING", "VALUE", "WANTED", "WHY"])];
    for reply in replies {
        let Some(kernel) = &reply.kernel else { continue };
        for setting in &kernel.settings {
            let setting = setting.clone();
            let value = or_none(setting.value);
            lines.push(vec![reply.node.clone(), setting.name, value, setting.wanted, setting.why]);
        }
        if let Some(link) = &kernel.vip_link {
            let name = format!("link {}", link.name);
            let holds = format!("{} addresses", link.addresses);
            let why = "virtual addresses are bound to it".to_owned();
            lines.push(vec![reply.node.clone(), name, link.kind.clone(), holds, why]);
        }
    }
    section(lines)
}

fn lately(reply: &StatusReply, repairs: bool) -> Vec<String> {
    let activity = reply.activity.clone().unwrap_or_default();
    if repairs { activity.recent_repairs } else { activity.recent_failures }
}

fn recent(
    head: &str,
    replies: &[StatusReply],
    what: impl Fn(&StatusReply) -> Vec<String>,
) -> String {
    let mut lines = vec![owned(&["NODE", head])];
    for reply in replies {
        lines.extend(what(reply).into_iter().map(|text| vec![reply.node.clone(), text]));
    }
    section(lines)
}

fn problems(replies: &[StatusReply]) -> String {
    let mut lines = vec![owned(&["NODE", "SERVICE", "PROBLEM", "MESSAGE"])];
    for reply in replies {
        for problem in &reply.problems {
            let (reason, message) = (problem.reason.clone(), problem.message.clone());
            let service = service_name(problem.service.as_ref());
            lines.push(vec![reply.node.clone(), service, reason, message]);
        }
    }
    section(lines)
}

/// A firewall's finding is a paragraph: its rule and the way out of it are long.
fn firewalls(replies: &[StatusReply]) -> String {
    let findings = |reply: &StatusReply| {
        let node = reply.node.clone();
        reply.firewalls.iter().map(move |found| paragraph(&node, found)).collect::<String>()
    };
    replies.iter().map(findings).collect()
}

/// What a firewall blocks, by which rule, and what lets it pass.
pub(crate) fn paragraph(place: &str, found: &Finding) -> String {
    let verb = if found.certain { "blocks" } else { "may block" };
    let handle =
        if found.handle == 0 { String::new() } else { format!(" # handle {}", found.handle) };
    let Finding { program, place: chain, rule, blocks, fix, .. } = found;
    format!(
        "\nWarning: on {place}, {program} {verb} {blocks}\n  \
         by:  {chain}: {rule}{handle}\n  \
         fix: {fix}\n"
    )
}

/// `minictl dataplane dump`
pub(super) fn dump(replies: &[DumpReply], wide: bool, with_namespace: bool) -> String {
    let mut head = vec!["NODE"];
    head.extend(with_namespace.then_some("NAMESPACE"));
    head.extend(["SERVICE", "PORT", "VERSION", "KIND", "FRONTEND", "PROTOCOL", "BACKENDS"]);
    if wide {
        head.extend(["OUTSIDE", "AFFINITY", "SOURCES", "SCHEDULER", "KERNEL OBJECTS"]);
    }
    let mut lines = vec![owned(&head)];
    for reply in replies {
        for frontend in &reply.frontends {
            lines.push(dump_line(&reply.node, frontend, wide, with_namespace));
        }
    }
    columns(&lines)
}

fn dump_line(node: &str, frontend: &Frontend, wide: bool, with_namespace: bool) -> Vec<String> {
    let service = frontend.service.clone().unwrap_or_default();
    let mut line = vec![node.to_owned()];
    line.extend(with_namespace.then_some(service.namespace));
    line.extend([
        service.name,
        or_none(service.port),
        or_none(service.resource_version),
        frontend.kind.clone(),
        frontend.address.clone(),
        frontend.protocol.clone(),
        answer(frontend.answer.as_ref(), wide),
    ]);
    if wide {
        let outside = frontend.outside.as_ref();
        let seconds = frontend.affinity_seconds;
        line.extend([
            outside.map_or_else(|| "<same>".to_owned(), |outside| answer(Some(outside), wide)),
            if seconds == 0 { NONE.to_owned() } else { format!("{seconds}s") },
            or_none(frontend.source_ranges.join(",")),
            or_none(frontend.scheduler.clone()),
            or_none(frontend.objects.join("; ")),
        ]);
    }
    line
}

fn answer(answer: Option<&Answer>, wide: bool) -> String {
    let Some(answer) = answer else { return NONE.to_owned() };
    if answer.verdict != "Backends" {
        return answer.verdict.clone();
    }
    let shown = if wide { answer.backends.len() } else { NAMED };
    let shown: Vec<String> = answer.backends.iter().take(shown).map(|b| backend(b, wide)).collect();
    let mut text = shown.join(",");
    if answer.backends.len() > shown.len() {
        text.push_str(&format!(" + {} more...", answer.backends.len() - shown.len()));
    }
    text
}

fn backend(backend: &Backend, wide: bool) -> String {
    let mut text = backend.address.clone();
    if backend.weight != 1 {
        text.push_str(&format!("(weight {})", backend.weight));
    }
    if let Some(connections) = backend.connections.filter(|_| wide) {
        text.push_str(&format!("[{connections} connections]"));
    }
    text
}

/// `minictl dataplane diff`
pub(super) fn diff(replies: &[DiffReply]) -> String {
    let mut lines = vec![owned(&["NODE", "CHANGE", "OBJECT", "WANTED", "SERVICE", "VERSION"])];
    let mut others = vec![owned(&["NODE", "FOREIGN", "OBJECT", "OWNER"])];
    for reply in replies {
        for difference in &reply.differences {
            let service = difference.service.as_ref();
            lines.push(vec![
                reply.node.clone(),
                difference.change.clone(),
                difference.object.clone(),
                or_none(difference.wanted.clone()),
                service_name(service),
                or_none(service.map(|s| s.resource_version.clone()).unwrap_or_default()),
            ]);
        }
        for foreign in &reply.foreign {
            let owner = or_none(foreign.owner.clone());
            let (kind, object) = (foreign.kind.clone(), foreign.object.clone());
            others.push(vec![reply.node.clone(), kind, object, owner]);
        }
    }
    let text = section(lines) + &section(others);
    text.trim_start_matches('\n').to_owned()
}

/// A table below another, left out when it has nothing but its heading.
fn section(lines: Vec<Vec<String>>) -> String {
    if lines.len() > 1 { format!("\n{}", columns(&lines)) } else { String::new() }
}

/// `NAMESPACE/NAME:PORT`
fn service_name(service: Option<&Origin>) -> String {
    let Some(Origin { namespace, name, port, .. }) = service else { return NONE.to_owned() };
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    format!("{namespace}/{name}{port}")
}

fn owned(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proto::dataplane::{Activity, Counts, Difference, Engine, Foreign, Problem};

    use super::*;

    fn web() -> Option<Origin> {
        Some(Origin {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            port: "http".to_owned(),
            resource_version: "42".to_owned(),
        })
    }

    #[test]
    fn a_status_is_one_line_a_node_and_what_needs_a_sentence() {
        let reply = StatusReply {
            node: "node-1".to_owned(),
            engine: Some(Engine {
                name: "nftables".to_owned(),
                wanted: "auto".to_owned(),
                reason: "kernel has no ip_vs".to_owned(),
                refused: String::new(),
            }),
            counts: Some(Counts { services: 2, frontends: 3, backends: 4, routes: 1 }),
            activity: Some(Activity { synced: true, repairs: 1, ..Activity::default() }),
            problems: vec![Problem {
                service: web(),
                reason: "AddressTaken".to_owned(),
                message: "another has it".to_owned(),
            }],
            firewalls: vec![Finding {
                program: "ufw".to_owned(),
                place: "ip filter FORWARD (hook forward)".to_owned(),
                handle: 0,
                rule: "policy drop".to_owned(),
                blocks: "this node's pods to the world".to_owned(),
                certain: true,
                fix: "ufw route allow in on mini0".to_owned(),
            }],
            ..StatusReply::default()
        };
        let expected = "\
NODE     ENGINE     WANTED   SERVICES   FRONTENDS   BACKENDS   REPAIRS   FAILURES   WHY
node-1   nftables   auto     2          3           4          1         0          kernel has no ip_vs

NODE     SERVICE         PROBLEM        MESSAGE
node-1   shop/web:http   AddressTaken   another has it

Warning: on node-1, ufw blocks this node's pods to the world
  by:  ip filter FORWARD (hook forward): policy drop
  fix: ufw route allow in on mini0
";
        assert_eq!(status(&[reply], false), expected);
    }

    #[test]
    fn a_dump_names_the_service_its_port_and_version_and_who_answers() {
        let backends = |count: u8| {
            let backend = |number| Backend {
                address: format!("10.244.0.{number}:80"),
                weight: 1,
                connections: Some(2),
            };
            Some(Answer {
                verdict: "Backends".to_owned(),
                backends: (1..=count).map(backend).collect(),
            })
        };
        let frontend = Frontend {
            address: "10.96.0.9:80".to_owned(),
            protocol: "TCP".to_owned(),
            kind: "ClusterIP".to_owned(),
            service: web(),
            answer: backends(4),
            ..Frontend::default()
        };
        let refused = Frontend {
            answer: Some(Answer { verdict: "Refused".to_owned(), backends: Vec::new() }),
            ..frontend.clone()
        };
        let reply = DumpReply {
            node: "node-1".to_owned(),
            frontends: vec![frontend, refused],
            ..DumpReply::default()
        };
        let expected = "\
NODE     NAMESPACE   SERVICE   PORT   VERSION   KIND        FRONTEND       PROTOCOL   BACKENDS
node-1   shop        web       http   42        ClusterIP   10.96.0.9:80   TCP        10.244.0.1:80,10.244.0.2:80,10.244.0.3:80 + 1 more...
node-1   shop        web       http   42        ClusterIP   10.96.0.9:80   TCP        Refused
";
        assert_eq!(dump(std::slice::from_ref(&reply), false, true), expected);
        let wide = dump(&[reply], true, false);
        assert!(wide.contains("10.244.0.4:80[2 connections]"), "{wide}");
        assert!(!wide.contains("NAMESPACE"), "{wide}");
    }

    #[test]
    fn a_diff_without_differences_is_empty() {
        assert_eq!(diff(&[DiffReply::default()]), "");
        let reply = DiffReply {
            node: "node-1".to_owned(),
            differences: vec![Difference {
                change: "Missing".to_owned(),
                object: "an element".to_owned(),
                service: web(),
                wanted: String::new(),
            }],
            foreign: vec![Foreign {
                kind: "table".to_owned(),
                object: "ip kube-proxy".to_owned(),
                owner: "kube-proxy".to_owned(),
            }],
            ..DiffReply::default()
        };
        let expected = "\
NODE     CHANGE    OBJECT       WANTED   SERVICE         VERSION
node-1   Missing   an element   <none>   shop/web:http   42

NODE     FOREIGN   OBJECT          OWNER
node-1   table     ip kube-proxy   kube-proxy
";
        assert_eq!(diff(&[reply]), expected);
    }
}
