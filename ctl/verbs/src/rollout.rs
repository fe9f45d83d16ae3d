//! `rollout`: watch, pause, restart and undo what a Deployment rolls out.
//!
//! Owns: the status sentences (pure, `polymorphichelpers/rollout_status.go`) and the choice of the
//! revision to go back to. Upstream: `kubectl/pkg/cmd/rollout`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::context::Context;
use crate::edit_value::{remove, short_name, text};
use crate::error::Error;
use crate::manifest::Files;
use crate::pods::selector_text;
use crate::session::{Call, JSON_PATCH, STRATEGIC_PATCH};
use crate::target::{self, Selected};
use crate::watch::{self, Verdict};

/// Manage the rollout of one or many resources
#[derive(clap::Args, Clone, Debug)]
pub struct Rollout {
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// What is done with a rollout.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Action {
    /// Show the status of the rollout
    Status {
        #[command(flatten)]
        which: Which,
        /// Watch until the rollout is done
        #[arg(short, long, action = clap::ArgAction::Set, default_value_t = true,
              num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        watch: bool,
        /// How long to wait; zero waits for ever
        #[arg(long, default_value = "0s")]
        timeout: String,
    },
    /// View rollout history
    History {
        #[command(flatten)]
        which: Which,
        /// Show this revision in detail
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        revision: i64,
    },
    /// Undo a previous rollout
    Undo {
        #[command(flatten)]
        which: Which,
        /// The revision to go back to; the one before by default
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        to_revision: i64,
    },
    /// Restart a resource
    Restart(Which),
    /// Mark the provided resource as paused
    Pause(Which),
    /// Resume a paused resource
    Resume(Which),
}

/// The workloads that are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// TYPE NAME or TYPE/NAME
    resources: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

const REVISION: &str = "deployment.kubernetes.io/revision";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

impl Rollout {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let which = match &self.action {
            Action::Status { which, .. }
            | Action::History { which, .. }
            | Action::Undo { which, .. }
            | Action::Restart(which)
            | Action::Pause(which)
            | Action::Resume(which) => which,
        };
        if which.resources.is_empty() && which.files.is_empty() {
            return Err(Error::refused("required resource not specified"));
        }
        let all = which.resources.len() == 1 && !which.resources[0].contains('/');
        let selected = target::select(
            ctx,
            &which.resources,
            &which.files,
            &which.selector,
            all && which.selector.is_empty(),
        )
        .await?;
        let mut errors = Vec::new();
        for object in selected {
            if let Err(e) = self.act(ctx, &object).await {
                errors.push(e);
            }
        }
        Error::all(errors)
    }

    async fn act(&self, ctx: &mut Context<'_>, object: &Selected) -> Result<(), Error> {
        let live = ctx.object(&object.resource, &object.namespace, &object.name).await?;
        if object.resource.kind != "Deployment" {
            return Err(Error::refused(format!(
                "no rollout actions are known for kind {:?}: only deployments have rollouts here",
                object.resource.kind
            )));
        }
        match &self.action {
            Action::Status { watch, timeout, .. } => {
                let limit = crate::duration::parse_timeout(timeout)?;
                status(ctx, object, *watch, limit).await
            }
            Action::History { revision, .. } => history(ctx, &live, *revision).await,
            Action::Undo { to_revision, .. } => undo(ctx, object, &live, *to_revision).await,
            Action::Restart(_) => {
                if is_paused(&live) {
                    return Err(Error::refused(
                        "can't restart paused deployment (run rollout resume first)",
                    ));
                }
                let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let patch = json!({"spec": {"template": {"metadata": {"annotations":
                    {"kubectl.kubernetes.io/restartedAt": now}}}}});
                change(ctx, object, STRATEGIC_PATCH, &patch, "restarted").await
            }
            Action::Pause(_) if is_paused(&live) => already(object, "paused"),
            Action::Pause(_) => {
                let patch = json!({"spec": {"paused": true}});
                change(ctx, object, STRATEGIC_PATCH, &patch, "paused").await
            }
            Action::Resume(_) if !is_paused(&live) => already(object, "not paused"),
            Action::Resume(_) => {
                let patch = json!({"spec": {"paused": null}});
                change(ctx, object, STRATEGIC_PATCH, &patch, "resumed").await
            }
        }
    }
}

fn is_paused(deployment: &Value) -> bool {
    deployment.pointer("/spec/paused").and_then(Value::as_bool) == Some(true)
}

fn already(object: &Selected, state: &str) -> Result<(), Error> {
    let text = match state {
        "paused" => "is already paused",
        _ => "is not paused",
    };
    Err(Error::refused(format!("{} {:?} {text}", object.resource.qualified(), object.name)))
}

async fn change(
    ctx: &mut Context<'_>,
    object: &Selected,
    content_type: &'static str,
    patch: &Value,
    operation: &str,
) -> Result<(), Error> {
    let path = object.resource.path(Some(&object.namespace), &object.name, "");
    let call = Call::patch(path, content_type, patch).query("fieldManager", "kubectl-rollout");
    let changed = ctx.json(&call).await?;
    ctx.io.say(format_args!("{} {operation}", short_name(&changed)))
}

async fn status(
    ctx: &mut Context<'_>,
    object: &Selected,
    watch: bool,
    limit: Option<std::time::Duration>,
) -> Result<(), Error> {
    let (resource, namespace, name) = (&object.resource, &object.namespace, &object.name);
    let look = |ctx: &mut Context<'_>, live: Option<&Value>| {
        let Some(live) = live else {
            return Err(Error::refused("object has been deleted"));
        };
        let (sentence, done) = progress(live)?;
        ctx.io.say(sentence)?;
        Ok(if done || !watch { Verdict::Go(()) } else { Verdict::Wait })
    };
    match watch::until(ctx, resource, namespace, name, limit, look).await? {
        Some(()) => Ok(()),
        None => Err(Error::refused("timed out waiting for the condition")),
    }
}

/// What a Deployment's status says of its rollout, and whether it is done.
fn progress(deployment: &Value) -> Result<(String, bool), Error> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let name = text(deployment, "/metadata/name");
    if number("/metadata/generation") > number("/status/observedGeneration") {
        let sentence = "Waiting for deployment spec update to be observed...";
        return Ok((sentence.to_owned(), false));
    }
    let conditions = deployment.pointer("/status/conditions").and_then(Value::as_array);
    let late = conditions.into_iter().flatten().any(|c| {
        text(c, "/type") == "Progressing" && text(c, "/reason") == "ProgressDeadlineExceeded"
    });
    if late {
        return Err(Error::refused(format!("deployment {name:?} exceeded its progress deadline")));
    }
    let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_i64);
    let (updated, replicas, available) = (
        number("/status/updatedReplicas"),
        number("/status/replicas"),
        number("/status/availableReplicas"),
    );
    let waiting = format!("Waiting for deployment {name:?} rollout to finish:");
    if let Some(wanted) = wanted.filter(|w| updated < *w) {
        return Ok((
            format!("{waiting} {updated} out of {wanted} new replicas have been updated..."),
            false,
        ));
    }
    if replicas > updated {
        return Ok((
            format!("{waiting} {} old replicas are pending termination...", replicas - updated),
            false,
        ));
    }
    if available < updated {
        return Ok((
            format!("{waiting} {available} of {updated} updated replicas are available..."),
            false,
        ));
    }
    Ok((format!("deployment {name:?} successfully rolled out"), true))
}

/// A Deployment's ReplicaSets by their revision.
async fn revisions(
    ctx: &mut Context<'_>,
    deployment: &Value,
) -> Result<BTreeMap<i64, Value>, Error> {
    let catalog = ctx.catalog().await?;
    let resource = catalog.resolve("replicasets.apps")?;
    let namespace = text(deployment, "/metadata/namespace");
    let call = Call::get(resource.path(Some(namespace), "", ""))
        .query("labelSelector", selector_text(deployment).unwrap_or_default());
    let uid = text(deployment, "/metadata/uid");
    let sets = ctx.list(&call).await?;
    Ok(sets
        .into_iter()
        .filter(|set| {
            let owners = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.into_iter().flatten().any(|o| text(o, "/uid") == uid)
        })
        .filter_map(|set| Some((annotation(&set, REVISION)?.parse().ok()?, set)))
        .collect())
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

async fn history(ctx: &mut Context<'_>, deployment: &Value, revision: i64) -> Result<(), Error> {
    let revisions = revisions(ctx, deployment).await?;
    if revision > 0 {
        let Some(set) = revisions.get(&revision) else {
            return Err(Error::refused("unable to find the specified revision"));
        };
        ctx.io.say(format_args!("{} with revision #{revision}", short_name(deployment)))?;
        let template = crate::describe::pod_template(set)?;
        return ctx.io.print(&template);
    }
    let mut lines = vec!["REVISION  CHANGE-CAUSE".to_owned()];
    for (revision, set) in &revisions {
        let cause = annotation(set, CHANGE_CAUSE).unwrap_or("<none>");
        lines.push(format!("{:<8}  {cause}", revision.to_string()));
    }
    ctx.io.say(format_args!("{} \n{}\n", short_name(deployment), lines.join("\n")))
}

async fn undo(
    ctx: &mut Context<'_>,
    object: &Selected,
    deployment: &Value,
    to: i64,
) -> Result<(), Error> {
    if is_paused(deployment) {
        return Err(Error::refused(format!(
            "cannot rollback a paused {}; resume it first with 'kubectl rollout resume' and try \
             again",
            short_name(deployment)
        )));
    }
    let revisions = revisions(ctx, deployment).await?;
    let (revision, set) = previous(&revisions, object, to)?;
    let mut template = set.pointer("/spec/template").cloned().unwrap_or_default();
    remove(&mut template, &["metadata", "labels", "pod-template-hash"]);
    if Some(&template) == deployment.pointer("/spec/template") {
        return ctx.io.say(format_args!(
            "{} skipped rollback (current template already matches revision {revision})",
            short_name(deployment)
        ));
    }
    let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    change(ctx, object, JSON_PATCH, &patch, "rolled back").await
}

/// The revision to go back to: the asked one, or the last but one.
fn previous<'a>(
    revisions: &'a BTreeMap<i64, Value>,
    object: &Selected,
    to: i64,
) -> Result<(i64, &'a Value), Error> {
    if to > 0 {
        return revisions.get(&to).map(|set| (to, set)).ok_or_else(|| {
            Error::refused(format!("unable to find specified revision {to} in history"))
        });
    }
    revisions.iter().rev().nth(1).map(|(revision, set)| (*revision, set)).ok_or_else(|| {
        Error::refused(format!("no rollout history found for deployment {:?}", object.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(updated: i64, replicas: i64, available: i64) -> Value {
        json!({"metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 3},
               "status": {"observedGeneration": 2, "updatedReplicas": updated,
                          "replicas": replicas, "availableReplicas": available}})
    }

    #[test]
    fn the_sentences_are_upstream_s() {
        let say = |d: &Value| progress(d).unwrap();
        assert_eq!(
            say(&deployment(1, 3, 3)).0,
            "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been \
             updated..."
        );
        assert_eq!(
            say(&deployment(3, 4, 3)).0,
            "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending \
             termination..."
        );
        assert_eq!(
            say(&deployment(3, 3, 2)).0,
            "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are \
             available..."
        );
        let done = say(&deployment(3, 3, 3));
        assert_eq!(done, ("deployment \"web\" successfully rolled out".to_owned(), true));
    }

    #[test]
    fn an_unobserved_change_and_a_missed_deadline() {
        let mut d = deployment(3, 3, 3);
        d["metadata"]["generation"] = json!(3);
        assert!(progress(&d).unwrap().0.starts_with("Waiting for deployment spec update"));
        let mut d = deployment(1, 3, 3);
        d["status"]["conditions"] =
            json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]);
        assert_eq!(
            progress(&d).unwrap_err().report(),
            "error: deployment \"web\" exceeded its progress deadline"
        );
    }

    #[test]
    fn undo_goes_to_the_last_but_one_or_the_asked_revision() {
        let catalog = crate::catalog::tests::example();
        let object = Selected {
            resource: catalog.resolve("deploy").unwrap().clone(),
            namespace: "default".into(),
            name: "web".into(),
        };
        let revisions = BTreeMap::from([(1, json!(1)), (3, json!(3)), (10, json!(10))]);
        assert_eq!(previous(&revisions, &object, 0).unwrap().0, 3);
        assert_eq!(previous(&revisions, &object, 1).unwrap().0, 1);
        assert!(previous(&revisions, &object, 2).is_err());
        let one = BTreeMap::from([(1, json!(1))]);
        assert_eq!(
            previous(&one, &object, 0).unwrap_err().report(),
            "error: no rollout history found for deployment \"web\""
        );
    }
}
