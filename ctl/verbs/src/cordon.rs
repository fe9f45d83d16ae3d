//! `cordon` and `uncordon`: whether new pods may come to a node.
//!
//! Upstream: `kubectl/pkg/cmd/drain/drain.go` (`RunCordonOrUncordon`). One difference: a node that
//! cannot be changed makes the verb fail, where upstream only prints it.

use serde_json::{Value, json};

use crate::context::Context;
use crate::edit_value::{short_name, text};
use crate::error::Error;
use crate::report::DryRun;
use crate::session::{Call, STRATEGIC_PATCH};
use crate::target;

/// Mark nodes as unschedulable, or as schedulable again
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Cordon {
    /// Names of nodes
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// "client" only says what would be done, "server" asks without storing
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
}

impl Cordon {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>, desired: bool) -> Result<(), Error> {
        let verb = if desired { "cordon" } else { "uncordon" };
        // All nodes are looked up before one is changed.
        let nodes = find(ctx, verb, &self.nodes, &self.selector).await?;
        let mut errors = Vec::new();
        for node in nodes {
            let name = text(&node, "/metadata/name");
            let operation = operation(&node, desired);
            if !operation.starts_with("already") && self.dry_run != DryRun::Client {
                let path = format!("/api/v1/nodes/{}", crate::session::encode(name));
                let call = Call::patch(path, STRATEGIC_PATCH, &patch(desired))
                    .query("dryRun", self.dry_run.query());
                if let Err(e) = ctx.call(&call).await {
                    errors.push(Error::refused(format!(
                        "unable to {verb} node {name:?}: {}",
                        e.report()
                    )));
                    continue;
                }
            }
            let line = format!("{} {operation}{}", short_name(&node), self.dry_run.suffix());
            ctx.io.say(line)?;
        }
        Error::all(errors)
    }
}

/// The nodes that are named, or that a selector finds.
async fn find(
    ctx: &mut Context<'_>,
    verb: &str,
    names: &[String],
    selector: &str,
) -> Result<Vec<Value>, Error> {
    match (names, selector) {
        ([], "") => Err(usage(verb, &format!("USAGE: {verb} NODE [flags]"))),
        ([], selector) => {
            ctx.list(&Call::get("/api/v1/nodes").query("labelSelector", selector)).await
        }
        (names, "") => {
            let catalog = ctx.catalog().await?;
            let mut nodes = Vec::new();
            for name in names {
                let (resource, name) = target::one(&catalog, "nodes", name)?;
                if resource.plural != "nodes" || !resource.group.is_empty() {
                    return Err(Error::refused(format!(
                        "expected resource of type node, got {:?}",
                        resource.plural
                    )));
                }
                nodes.push(ctx.object(&resource, "", &name).await?);
            }
            Ok(nodes)
        }
        _ => Err(usage(verb, "error: cannot specify both a node name and a --selector option")),
    }
}

fn usage(verb: &str, sentence: &str) -> Error {
    Error::refused(format!("{sentence}\nSee 'minictl {verb} -h' for help and examples"))
}

/// What is to be said of a node once it is as desired.
fn operation(node: &Value, desired: bool) -> &'static str {
    let is = node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
    match (desired, is == desired) {
        (true, true) => "already cordoned",
        (false, true) => "already uncordoned",
        (true, false) => "cordoned",
        (false, false) => "uncordoned",
    }
}

/// A schedulable node has no such field.
fn patch(desired: bool) -> Value {
    json!({"spec": {"unschedulable": desired.then_some(true)}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::{Fake, not_found};

    fn node(name: &str, unschedulable: bool) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
               "spec": {"unschedulable": unschedulable}})
    }

    #[tokio::test]
    async fn a_node_is_cordoned_once() {
        let fake = Fake::start()
            .await
            .on("GET /api/v1/nodes/a", node("a", false))
            .on("GET /api/v1/nodes/b", node("b", true))
            .on("PATCH /api/v1/nodes/a", node("a", true));
        let done = fake.run("cordon a node/b").await;
        assert_eq!(done.out, "node/a cordoned\nnode/b already cordoned\n", "{}", done.err);
        assert_eq!(fake.seen()[2].body, json!({"spec": {"unschedulable": true}}));
    }

    #[tokio::test]
    async fn an_uncordoned_node_loses_the_field() {
        let fake = Fake::start()
            .await
            .on("GET /api/v1/nodes/a", node("a", true))
            .on("PATCH /api/v1/nodes/a", node("a", false));
        assert_eq!(fake.run("uncordon a --dry-run").await.out, "node/a uncordoned (dry run)\n");
        assert_eq!(fake.lines().len(), 1);
        assert_eq!(fake.run("uncordon a").await.out, "node/a uncordoned\n");
        assert_eq!(fake.seen()[2].body, json!({"spec": {"unschedulable": null}}));
    }

    #[tokio::test]
    async fn nothing_is_changed_if_one_node_is_missing() {
        let fake = Fake::start()
            .await
            .on("GET /api/v1/nodes/a", node("a", false))
            .on("GET /api/v1/nodes/b", not_found("nodes", "b"));
        let done = fake.run("cordon a b").await;
        assert_eq!(done.err, "Error from server (NotFound): nodes \"b\" not found\n");
        assert_eq!((done.code, fake.lines().len()), (1, 2));
        let done = fake.run("cordon svc/a").await;
        assert_eq!(done.err, "error: expected resource of type node, got \"services\"\n");
    }
}
