//! `label` and `annotate`: add, change and remove metadata pairs.
//!
//! Owns: parsing of `key=value` and `key-`, and [`Change::patch`], the merge patch they mean for an
//! object (pure). Upstream: `kubectl/pkg/cmd/label/label.go`, `annotate/annotate.go`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::edit_value::set;
use crate::error::Error;
use crate::manifest::Files;
use crate::report::{DryRun, Output};
use crate::session::{Call, MERGE_PATCH};
use crate::target;

/// Update the labels or annotations of objects
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Label {
    /// TYPE NAME… KEY=VALUE… KEY-…
    pub arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Allow existing pairs to be overwritten
    #[arg(long)]
    pub overwrite: bool,
    /// Display the pairs instead of changing them
    #[arg(long)]
    pub list: bool,
    /// Change all objects of the given types in the namespace
    #[arg(long)]
    pub all: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Change the object only if it has this resource version
    #[arg(long, default_value = "", hide_default_value = true)]
    pub resource_version: String,
}

/// Which pairs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    Labels,
    Annotations,
}

impl Pairs {
    fn field(self) -> &'static str {
        match self {
            Pairs::Labels => "labels",
            Pairs::Annotations => "annotations",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Pairs::Labels => "label",
            Pairs::Annotations => "annotation",
        }
    }

    fn manager(self) -> &'static str {
        match self {
            Pairs::Labels => "kubectl-label",
            Pairs::Annotations => "kubectl-annotate",
        }
    }
}

/// Pairs to set and keys to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Change {
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

impl Label {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>, pairs: Pairs) -> Result<(), Error> {
        let (resources, changes) = split(&self.arguments);
        let change = Change::parse(&changes, pairs)?;
        if !self.list && change == Change::default() {
            return Err(Error::refused(format!(
                "at least one {} update is required",
                pairs.singular()
            )));
        }
        let selected =
            target::select(ctx, &resources, &self.files, &self.selector, self.all).await?;
        let mut errors = Vec::new();
        let several = selected.len() > 1;
        for object in selected {
            match self.change(ctx, pairs, &change, &object, several).await {
                Ok(()) => {}
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)
    }

    async fn change(
        &self,
        ctx: &mut Context<'_>,
        pairs: Pairs,
        change: &Change,
        selected: &target::Selected,
        several: bool,
    ) -> Result<(), Error> {
        let (resource, namespace, name) = (&selected.resource, &selected.namespace, &selected.name);
        let object = ctx.object(resource, namespace, name).await?;
        let present = present(&object, pairs);
        if self.list {
            if several {
                let kind = resource.kind_name();
                ctx.io.say(format_args!("Listing {} for {kind}/{name}:", pairs.field()))?;
            }
            let indent = if several { " " } else { "" };
            return present
                .iter()
                .try_for_each(|(k, v)| ctx.io.say(format_args!("{indent}{k}={v}")));
        }
        change.check(&present, pairs, self.overwrite)?;
        for key in change.remove.iter().filter(|k| !present.contains_key(*k)) {
            ctx.io.say(format_args!("{} {key:?} not found.", pairs.singular()))?;
        }
        let operation = change.operation(&present, pairs);
        let patch = self.with_version(change.patch(pairs));
        let changed = if self.output.dry_run == DryRun::Client {
            let mut changed = object;
            json_merge(&mut changed, &patch);
            changed
        } else if operation == "not labeled" || operation == "not annotated" {
            object
        } else {
            let call = Call::patch(resource.path(Some(namespace), name, ""), MERGE_PATCH, &patch)
                .query("dryRun", self.output.dry_run.query())
                .query("fieldManager", pairs.manager());
            ctx.json(&call).await?
        };
        self.output.print(ctx.io, &changed, operation)
    }

    fn with_version(&self, mut patch: Value) -> Value {
        if !self.resource_version.is_empty() {
            set(&mut patch, &["metadata", "resourceVersion"], self.resource_version.as_str());
        }
        patch
    }
}

/// Arguments up to the first change name objects.
fn split(arguments: &[String]) -> (Vec<String>, Vec<String>) {
    let is_change = |a: &&String| a.contains('=') || a.ends_with('-');
    // The first argument is always a type.
    let at =
        arguments.iter().skip(1).position(|a| is_change(&a)).map_or(arguments.len(), |i| i + 1);
    (arguments[..at].to_vec(), arguments[at..].to_vec())
}

fn present(object: &Value, pairs: Pairs) -> BTreeMap<String, String> {
    let found = object.pointer(&format!("/metadata/{}", pairs.field())).and_then(Value::as_object);
    found
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned()))
        .collect()
}

fn json_merge(object: &mut Value, patch: &Value) {
    *object = wire::patch::merge(object, patch);
}

impl Change {
    fn parse(changes: &[String], pairs: Pairs) -> Result<Change, Error> {
        let mut change = Change::default();
        for text in changes {
            if let Some((key, value)) = text.split_once('=') {
                if key.is_empty() {
                    return Err(Error::refused(format!(
                        "invalid {} spec: {text}",
                        pairs.singular()
                    )));
                }
                change.set.insert(key.to_owned(), value.to_owned());
            } else if let Some(key) = text.strip_suffix('-').filter(|k| !k.is_empty()) {
                change.remove.push(key.to_owned());
            } else {
                return Err(Error::refused(format!("unknown {} spec: {text}", pairs.singular())));
            }
        }
        if change.remove.iter().any(|key| change.set.contains_key(key)) {
            let article = if pairs == Pairs::Labels { "a label" } else { "an annotation" };
            return Err(Error::refused(format!(
                "can not both modify and remove {article} in the same command"
            )));
        }
        Ok(change)
    }

    /// Refuses to overwrite a pair that is there with another value.
    fn check(
        &self,
        present: &BTreeMap<String, String>,
        pairs: Pairs,
        overwrite: bool,
    ) -> Result<(), Error> {
        if overwrite {
            return Ok(());
        }
        for (key, new) in &self.set {
            let Some(old) = present.get(key).filter(|old| *old != new) else { continue };
            return Err(match pairs {
                Pairs::Labels => Error::refused(format!(
                    "'{key}' already has a value ({old}), and --overwrite is false"
                )),
                Pairs::Annotations => Error::refused(format!(
                    "--overwrite is false but found the following declared annotation(s): '{key}' \
                     already has a value ({old})"
                )),
            });
        }
        Ok(())
    }

    /// How the result line calls what happens.
    fn operation(&self, present: &BTreeMap<String, String>, pairs: Pairs) -> &'static str {
        let sets = self.set.iter().any(|(k, v)| present.get(k) != Some(v));
        let removes = self.remove.iter().any(|k| present.contains_key(k));
        match (pairs, sets, removes) {
            (Pairs::Labels, true, _) => "labeled",
            (Pairs::Labels, false, true) => "unlabeled",
            (Pairs::Labels, false, false) => "not labeled",
            // Annotating is always announced.
            (Pairs::Annotations, ..) => "annotated",
        }
    }

    fn patch(&self, pairs: Pairs) -> Value {
        let mut map: Map<String, Value> =
            self.set.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        map.extend(self.remove.iter().map(|k| (k.clone(), Value::Null)));
        json!({"metadata": {pairs.field(): map}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn objects_come_before_changes() {
        let (objects, changes) = split(&words(&["pods", "a", "b", "x=y", "z-"]));
        assert_eq!((objects.len(), changes.len()), (3, 2));
        let (objects, changes) = split(&words(&["pod/a", "x=y"]));
        assert_eq!((objects.len(), changes.len()), (1, 1));
    }

    #[test]
    fn pairs_are_set_and_removed_by_one_merge_patch() {
        let change = Change::parse(&words(&["a=b", "c-", "d=e=f"]), Pairs::Labels).unwrap();
        assert_eq!(
            change.patch(Pairs::Labels),
            json!({"metadata": {"labels": {"a": "b", "c": null, "d": "e=f"}}})
        );
    }

    #[test]
    fn changes_that_contradict_themselves_are_refused() {
        for bad in [&["a=b", "a-"][..], &["=b"], &["-"], &["a"]] {
            assert!(Change::parse(&words(bad), Pairs::Labels).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_is_only_overwritten_on_request() {
        let present = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let change = Change::parse(&words(&["a=2"]), Pairs::Labels).unwrap();
        assert_eq!(
            change.check(&present, Pairs::Labels, false).unwrap_err().report(),
            "error: 'a' already has a value (1), and --overwrite is false"
        );
        assert!(change.check(&present, Pairs::Labels, true).is_ok());
        assert_eq!(change.operation(&present, Pairs::Labels), "labeled");
        let same = Change::parse(&words(&["a=1"]), Pairs::Labels).unwrap();
        assert_eq!(same.operation(&present, Pairs::Labels), "not labeled");
        let gone = Change::parse(&words(&["a-"]), Pairs::Labels).unwrap();
        assert_eq!(gone.operation(&present, Pairs::Labels), "unlabeled");
    }
}
