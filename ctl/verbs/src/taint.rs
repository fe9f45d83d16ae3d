//! `taint`: what keeps pods off a node.
//!
//! Owns: parsing of `key=value:Effect` and `key:Effect-`, and what they make of a node's taints
//! (pure). Upstream: `kubectl/pkg/cmd/taint/{taint,utils}.go`. Whether keys and values are well
//! formed is the server's to say.

use k8s_openapi::api::core::v1::{Node, Taint as NodeTaint};
use serde_json::json;

use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::pods::typed;
use crate::report::{DryRun, Output};
use crate::session::{Call, MERGE_PATCH};
use crate::target;

/// Update the taints on one or more nodes
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Taint {
    /// node NAME… KEY[=VALUE]:EFFECT… KEY[:EFFECT]-…
    pub arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Allow existing taints to be overwritten
    #[arg(long)]
    pub overwrite: bool,
    /// Taint all nodes in the cluster
    #[arg(long)]
    pub all: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
}

/// Taints to add, and keys to remove: all effects of a key, or one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Change {
    add: Vec<NodeTaint>,
    remove: Vec<NodeTaint>,
}

impl Taint {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let (resources, specs) = split(&self.arguments)?;
        let change = Change::parse(&specs)?;
        let files = Files::default();
        let selected = target::select(ctx, &resources, &files, &self.selector, self.all).await?;
        if let Some(other) = selected.iter().find(|s| s.resource.plural != "nodes") {
            return Err(Error::refused(format!(
                "invalid resource type {}, only node types are supported",
                other.resource.plural
            )));
        }
        let mut errors = Vec::new();
        for node in &selected {
            if let Err(e) = self.change(ctx, &change, node).await {
                errors.push(e);
            }
        }
        Error::all(errors)
    }

    async fn change(
        &self,
        ctx: &mut Context<'_>,
        change: &Change,
        selected: &target::Selected,
    ) -> Result<(), Error> {
        let object = ctx.object(&selected.resource, "", &selected.name).await?;
        let node: Node = typed(object.clone())?;
        let old = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let name = text(&object, "/metadata/name");
        let (operation, taints) = change.apply(name, old, self.overwrite)?;
        // A node without taints has no such field.
        let taints = (!taints.is_empty()).then_some(taints);
        let patch = json!({"spec": {"taints": taints}});
        let changed = if self.output.dry_run == DryRun::Client {
            wire::patch::merge(&object, &patch)
        } else {
            let path = selected.resource.path(None, name, "");
            let call = Call::patch(path, MERGE_PATCH, &patch)
                .query("dryRun", self.output.dry_run.query())
                .query("fieldManager", "kubectl-taint");
            ctx.json(&call).await?
        };
        self.output.print(ctx.io, &changed, operation)
    }
}

/// Arguments up to the first taint name nodes.
fn split(arguments: &[String]) -> Result<(Vec<String>, Vec<String>), Error> {
    let is_taint = |a: &String| a.contains(['=', ':']) || a.ends_with('-');
    let at = arguments.iter().position(is_taint).unwrap_or(arguments.len());
    let (nodes, taints) = arguments.split_at(at);
    if let Some(late) = taints.iter().find(|a| !is_taint(a)) {
        return Err(Error::refused(format!(
            "all resources must be specified before taint changes: {late}"
        )));
    }
    if nodes.is_empty() {
        return Err(Error::refused("one or more resources must be specified as <resource> <name>"));
    }
    if taints.is_empty() {
        return Err(Error::refused("at least one taint update is required"));
    }
    Ok((nodes.to_vec(), taints.to_vec()))
}

fn usage(sentence: &str) -> Error {
    Error::refused(format!("{sentence}\nSee 'minictl taint -h' for help and examples"))
}

/// `key=value:Effect`, `key:Effect` or `key`, which has an empty effect.
fn parse_one(spec: &str) -> Result<NodeTaint, Error> {
    let invalid = || usage(&format!("invalid taint spec: {spec}"));
    let (pair, effect) = match spec.split_once(':') {
        None => (spec, ""),
        Some((_, effect)) if !EFFECTS.contains(&effect) => {
            return Err(usage(&format!(
                "invalid taint effect: {effect}, unsupported taint effect"
            )));
        }
        Some(parts) => parts,
    };
    // A value only stands before an effect.
    let (key, value) = match pair.split_once('=') {
        Some((_, value)) if effect.is_empty() || value.contains('=') => return Err(invalid()),
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (pair, None),
    };
    if key.is_empty() {
        return Err(invalid());
    }
    let value = value.filter(|v| !v.is_empty());
    Ok(NodeTaint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Whether two taints are one to Kubernetes: a node has each key once per effect.
fn same(a: &NodeTaint, b: &NodeTaint) -> bool {
    a.key == b.key && a.effect == b.effect
}

/// Whether a removal means a taint.
fn removes(removal: &NodeTaint, taint: &NodeTaint) -> bool {
    removal.key == taint.key && (removal.effect.is_empty() || removal.effect == taint.effect)
}

impl Change {
    fn parse(specs: &[String]) -> Result<Change, Error> {
        let mut change = Change::default();
        for spec in specs {
            if let Some(spec) = spec.strip_suffix('-') {
                change.remove.push(NodeTaint { value: None, ..parse_one(spec)? });
                continue;
            }
            let taint = parse_one(spec)?;
            if taint.effect.is_empty() {
                return Err(usage(&format!("invalid taint spec: {spec}")));
            }
            if change.add.iter().any(|other| same(other, &taint)) {
                return Err(usage(&format!(
                    "duplicated taints with the same key and effect: {spec}"
                )));
            }
            change.add.push(taint);
        }
        let conflicts = change.remove.iter().filter(|r| change.add.iter().any(|a| removes(r, a)));
        let conflicts: Vec<String> =
            conflicts.map(|r| format!("{{{:?}:{:?}}}", r.key, r.effect)).collect();
        if !conflicts.is_empty() {
            return Err(Error::refused(format!(
                "can not both modify and remove the following taint(s) in the same command: {}",
                conflicts.join(", ")
            )));
        }
        Ok(change)
    }

    /// What happens to a node, and its taints after it.
    fn apply(
        &self,
        node: &str,
        old: Vec<NodeTaint>,
        overwrite: bool,
    ) -> Result<(&'static str, Vec<NodeTaint>), Error> {
        let present = |taint: &&NodeTaint| old.iter().any(|o| same(o, taint));
        let there: Vec<&str> = self.add.iter().filter(present).map(|t| t.key.as_str()).collect();
        if !overwrite && !there.is_empty() {
            return Err(Error::refused(format!(
                "node {node} already has {} taint(s) with same effect(s) and --overwrite is false",
                there.join(",")
            )));
        }
        let missing = self.remove.iter().filter(|r| !old.iter().any(|o| removes(r, o)));
        Error::all(missing.map(not_found).collect())?;
        let added = there.len() < self.add.len();
        let kept = old.into_iter().filter(|o| {
            !self.add.iter().any(|a| same(a, o)) && !self.remove.iter().any(|r| removes(r, o))
        });
        let taints = self.add.iter().cloned().chain(kept).collect();
        let operation = match (added, !self.remove.is_empty()) {
            _ if overwrite => "modified",
            (true, true) => "modified",
            (true, false) => "tainted",
            (false, _) => "untainted",
        };
        Ok((operation, taints))
    }
}

fn not_found(removal: &NodeTaint) -> Error {
    let colon = if removal.effect.is_empty() { "" } else { ":" };
    Error::refused(format!("taint \"{}{colon}{}\" not found", removal.key, removal.effect))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::tests::fake::Fake;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn change(line: &str) -> Result<Change, String> {
        Change::parse(&words(line)).map_err(|e| e.report().lines().next().unwrap().to_owned())
    }

    /// The operation and the taints as `key=value:effect`, or the error.
    fn applied(line: &str, old: &str, overwrite: bool) -> String {
        let old = if old.is_empty() { vec![] } else { change(old).unwrap().add };
        match change(line).unwrap().apply("n", old, overwrite) {
            Err(e) => e.report(),
            Ok((operation, taints)) => taints.iter().fold(operation.to_owned(), |text, t| {
                format!("{text} {}={}:{}", t.key, t.value.as_deref().unwrap_or(""), t.effect)
            }),
        }
    }

    #[test]
    fn taints_are_added_replaced_and_removed() {
        let cases = [
            ("a=b:NoSchedule", "", false, "tainted a=b:NoSchedule"),
            ("a:NoExecute", "a:NoSchedule", false, "tainted a=:NoExecute a=:NoSchedule"),
            ("a=c:NoSchedule", "a=b:NoSchedule", true, "modified a=c:NoSchedule"),
            ("a-", "a:NoSchedule a:NoExecute b:NoExecute", false, "untainted b=:NoExecute"),
            ("a:NoExecute-", "a:NoSchedule a:NoExecute", false, "untainted a=:NoSchedule"),
            ("a=b:NoSchedule-", "a=c:NoSchedule", false, "untainted"),
            ("b:NoSchedule a-", "a:NoSchedule", false, "modified b=:NoSchedule"),
            ("a:NoExecute-", "a:NoSchedule", false, "error: taint \"a:NoExecute\" not found"),
            (
                "a=c:NoSchedule",
                "a=b:NoSchedule",
                false,
                "error: node n already has a taint(s) with same effect(s) and --overwrite is false",
            ),
        ];
        for (line, old, overwrite, expected) in cases {
            assert_eq!(applied(line, old, overwrite), expected, "{line} on {old}");
        }
    }

    #[test]
    fn what_is_no_taint_is_refused_in_upstream_s_words() {
        let cases = [
            ("a=b", "error: invalid taint spec: a=b"),
            (":NoSchedule", "error: invalid taint spec: :NoSchedule"),
            ("a=b=c:NoSchedule", "error: invalid taint spec: a=b=c:NoSchedule"),
            ("a:Never", "error: invalid taint effect: Never, unsupported taint effect"),
            (
                "a=1:NoExecute a=2:NoExecute",
                "error: duplicated taints with the same key and effect: a=2:NoExecute",
            ),
            (
                "a:NoExecute a-",
                "error: can not both modify and remove the following taint(s) in the same \
                 command: {\"a\":\"\"}",
            ),
        ];
        for (line, message) in cases {
            assert_eq!(change(line).unwrap_err(), message);
        }
        assert!(split(&words("nodes n")).is_err());
        assert!(split(&words("nodes a=b:NoExecute n")).is_err());
    }

    #[tokio::test]
    async fn a_node_s_last_taint_takes_the_field_along() {
        let node = |taints: Value| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
                   "spec": {"taints": taints}})
        };
        let fake = Fake::start()
            .await
            .on("GET /api/v1/nodes/n", node(json!([{"key": "a", "effect": "NoSchedule"}])))
            .on("PATCH /api/v1/nodes/n?fieldManager=kubectl-taint", node(Value::Null));
        let done = fake.run("taint nodes n a:NoSchedule-").await;
        assert_eq!(done.out, "node/n untainted\n", "{}", done.err);
        assert_eq!(fake.seen()[1].body, json!({"spec": {"taints": null}}));
        let done = fake.run("taint pods n a:NoSchedule-").await;
        assert_eq!(done.err, "error: invalid resource type pods, only node types are supported\n");
    }
}
