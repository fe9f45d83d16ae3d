//! The condition [`PROGRAMMED`] of a Service: which nodes cannot honour it, and why.
//!
//! All nodes share one condition, and none speaks for another: its message has one line for each
//! node that has something to say, `NODE: CAUSE`, and a node changes its own line only, in a patch
//! that is refused when the Service has changed meanwhile. Lines of nodes that are gone are
//! dropped by whoever sees them. Many nodes usually have the same cause, so when [`MOST_NODES`]
//! have told, the others leave it at their event. When the last line goes, the condition is True.
//! Deliberately not here: sending the patch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The condition's type.
pub(crate) const PROGRAMMED: &str = "minictl.io/Programmed";
/// So many nodes are named.
const MOST_NODES: usize = 8;

/// What the condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// Some nodes cannot honour the Service.
    Complaint {
        /// A word in CamelCase; none leaves what stands there.
        reason: Option<String>,
        /// A line for each node.
        message: String,
        /// No node complained before.
        first: bool,
    },
    /// All nodes can, again.
    Solved,
}

/// One cause: a word and a sentence.
pub(crate) type Cause = (String, String);

/// What `node` has to change in the condition. `complaint` is the message while the condition is
/// False; `causes` are this node's own; `is_known` tells which nodes still exist.
pub(crate) fn statement(
    complaint: Option<&str>,
    node: &str,
    causes: &[Cause],
    is_known: impl Fn(&str) -> bool,
) -> Option<Statement> {
    let told: BTreeMap<&str, &str> =
        complaint.unwrap_or_default().lines().filter_map(|line| line.split_once(": ")).collect();
    let own = own_line(causes);
    let mut wanted = told.clone();
    wanted.retain(|name, _| *name != node && is_known(name));
    if !own.is_empty() && (told.contains_key(node) || wanted.len() < MOST_NODES) {
        wanted.insert(node, &own);
    }
    if wanted == told {
        return None;
    }
    if wanted.is_empty() {
        return Some(Statement::Solved);
    }
    let lines: Vec<String> = wanted.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Some(Statement::Complaint {
        reason: causes.first().map(|(reason, _)| reason.clone()),
        message: lines.join("\n"),
        first: complaint.is_none(),
    })
}

fn own_line(causes: &[Cause]) -> String {
    let sentences: Vec<String> =
        causes.iter().map(|(_, sentence)| sentence.replace('\n', " ")).collect();
    sentences.join("; ")
}

impl Statement {
    /// The patch of the Service's status, a strategic merge: conditions are merged by their type.
    pub(crate) fn patch(&self, resource_version: &str, now: Timestamp) -> Value {
        let second = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut condition = match self {
            Self::Complaint { message, .. } => {
                json!({"type": PROGRAMMED, "status": "False", "message": message})
            }
            Self::Solved => json!({
                "type": PROGRAMMED, "status": "True", "reason": "Programmed", "message": "",
                "lastTransitionTime": second,
            }),
        };
        if let Self::Complaint { reason: Some(reason), .. } = self {
            condition["reason"] = json!(reason);
        }
        if matches!(self, Self::Complaint { first: true, .. }) {
            condition["lastTransitionTime"] = json!(second);
        }
        json!({
            "metadata": {"resourceVersion": resource_version},
            "status": {"conditions": [condition]},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(sentence: &str) -> Vec<Cause> {
        vec![("Conflict".to_owned(), sentence.to_owned())]
    }

    fn plan(complaint: Option<&str>, node: &str, causes: &[Cause]) -> Option<Statement> {
        statement(complaint, node, causes, |name| name != "gone")
    }

    fn message(statement: Option<Statement>) -> String {
        match statement {
            Some(Statement::Complaint { message, .. }) => message,
            other => panic!("a complaint was due: {other:?}"),
        }
    }

    #[test]
    fn each_node_adds_changes_and_removes_its_own_line_only() {
        let first = plan(None, "node-1", &cause("taken by a/b"));
        assert!(matches!(first, Some(Statement::Complaint { first: true, .. })));
        let one = message(first);
        assert_eq!(one, "node-1: taken by a/b");
        let both = message(plan(Some(&one), "node-2", &cause("no such scheduler")));
        assert_eq!(both, "node-1: taken by a/b\nnode-2: no such scheduler");
        assert_eq!(message(plan(Some(&both), "node-1", &[])), "node-2: no such scheduler");
        assert_eq!(
            message(plan(Some(&both), "node-2", &cause("x"))),
            "node-1: taken by a/b\nnode-2: x"
        );
    }

    #[test]
    fn what_is_said_already_is_not_said_again() {
        assert_eq!(plan(Some("node-1: x"), "node-1", &cause("x")), None);
        assert_eq!(plan(Some("node-1: x"), "node-2", &[]), None);
        assert_eq!(plan(None, "node-1", &[]), None);
    }

    #[test]
    fn the_last_line_that_goes_solves_it() {
        assert_eq!(plan(Some("node-1: x"), "node-1", &[]), Some(Statement::Solved));
    }

    #[test]
    fn lines_of_nodes_that_are_gone_are_dropped_by_any() {
        assert_eq!(plan(Some("gone: x"), "node-2", &[]), Some(Statement::Solved));
        assert_eq!(message(plan(Some("gone: x\nnode-1: y"), "node-2", &[])), "node-1: y");
    }

    #[test]
    fn a_thousand_nodes_do_not_all_write() {
        let full: Vec<String> = (0..MOST_NODES).map(|n| format!("node-{n}: x")).collect();
        let full = full.join("\n");
        assert_eq!(plan(Some(&full), "node-99", &cause("x")), None);
        assert!(message(plan(Some(&full), "node-0", &[])).starts_with("node-1: x"));
    }

    #[test]
    fn the_time_changes_only_when_the_status_does() {
        let at = Timestamp::from_second(0).unwrap();
        let time = |s: Statement| {
            let patch = s.patch("7", at);
            assert_eq!(patch["metadata"]["resourceVersion"], "7", "a late patch is refused");
            patch["status"]["conditions"][0]["lastTransitionTime"].clone()
        };
        assert_eq!(time(plan(None, "node-1", &cause("x")).unwrap()), "1970-01-01T00:00:00Z");
        assert_eq!(time(Statement::Solved), "1970-01-01T00:00:00Z");
        assert!(time(plan(Some("node-1: y"), "node-1", &cause("x")).unwrap()).is_null());
    }
}
