//! `edit`: change an object in the person's own editor.
//!
//! Owns: the temporary file, the editor's run, and the patch from what was shown to what was saved.
//! Upstream: `kubectl/pkg/cmd/util/editor`. Unlike there, a refused edit is not opened again: its
//! text stays in a file whose name is printed.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::context::Context;
use crate::edit_value::{short_name, text};
use crate::error::Error;
use crate::manifest;
use crate::render::{hide_managed_fields, yaml};
use crate::session::{Call, MERGE_PATCH, STRATEGIC_PATCH};
use crate::target::{self, Selected};

/// Edit a resource in the editor that KUBE_EDITOR or EDITOR names
#[derive(clap::Args, Clone, Debug)]
pub struct Edit {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    pub resources: Vec<String>,
}

const HEADING: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored, and an empty file will
# abort the edit. The object is changed when the editor ends; if that fails, the file stays.
#
";

impl Edit {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let files = manifest::Files::default();
        for object in target::select(ctx, &self.resources, &files, "", false).await? {
            edit(ctx, &object).await?;
        }
        Ok(())
    }
}

async fn edit(ctx: &mut Context<'_>, selected: &Selected) -> Result<(), Error> {
    let (resource, namespace, name) = (&selected.resource, &selected.namespace, &selected.name);
    let mut before = ctx.object(resource, namespace, name).await?;
    hide_managed_fields(&mut before);
    let path = std::env::temp_dir().join(format!("kubectl-edit-{}.yaml", rand::random::<u32>()));
    let failed = |source| Error::ReadFile { path: path.clone(), source };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        // Never through a link that somebody has put there.
        .create_new(true)
        .open(&path)
        .map_err(failed)?;
    let shown = format!("{HEADING}{}", yaml::to_yaml(&before));
    file.write_all(shown.as_bytes()).map_err(failed)?;
    drop(file);
    open_editor(&path)?;
    let saved = std::fs::read(&path).map_err(failed)?;
    let after = manifest::parse(&path.display().to_string(), &saved)?;
    let Some(after) = after.into_iter().next().map(|m| m.value) else {
        let _ = std::fs::remove_file(&path);
        ctx.io.warn("Edit cancelled, saved file was empty.");
        return Ok(());
    };
    if after == before {
        let _ = std::fs::remove_file(&path);
        ctx.io.warn("Edit cancelled, no changes made.");
        return Ok(());
    }
    let (content_type, patch) = difference(&before, &after)?;
    let call = Call::patch(resource.path(Some(namespace), name, ""), content_type, &patch)
        .query("fieldManager", "kubectl-edit")
        .query("fieldValidation", "Strict");
    match ctx.json(&call).await {
        Ok(edited) => {
            let _ = std::fs::remove_file(&path);
            ctx.io.say(format_args!("{} edited", short_name(&edited)))
        }
        Err(e) => {
            ctx.io.warn(format_args!(
                "A copy of your changes has been stored to {:?}",
                path.display().to_string()
            ));
            Err(e)
        }
    }
}

fn open_editor(path: &Path) -> Result<(), Error> {
    let editor = ["KUBE_EDITOR", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|e| !e.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    // The variable may hold arguments, as in "code --wait".
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("editor")
        .arg(path)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Error::refused(format!("there was a problem with the editor {editor:?}: {status}")))
        }
        Err(e) => Err(Error::refused(format!("unable to launch the editor {editor:?}: {e}"))),
    }
}

/// The patch from one version of an object to another.
fn difference(before: &Value, after: &Value) -> Result<(&'static str, Value), Error> {
    let (version, kind) = (text(before, "/apiVersion"), text(before, "/kind"));
    for field in ["/apiVersion", "/kind", "/metadata/name"] {
        if text(before, field) != text(after, field) {
            let name = field.trim_start_matches('/').replace('/', ".");
            return Err(Error::refused(format!(
                "At least one of apiVersion, kind and name was changed ({name})"
            )));
        }
    }
    Ok(match wire::patch::diff_strategic(version, kind, before, after) {
        Ok(patch) => (STRATEGIC_PATCH, patch),
        // The server knows better what is wrong with a field that is not known here.
        Err(_) => (MERGE_PATCH, wire::patch::diff_merge(before, after)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_changed_is_sent() {
        let before = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}});
        let mut after = before.clone();
        after["spec"]["type"] = json!("NodePort");
        let (content_type, patch) = difference(&before, &after).unwrap();
        assert_eq!(content_type, STRATEGIC_PATCH);
        assert_eq!(patch, json!({"spec": {"type": "NodePort"}}));
    }

    #[test]
    fn an_object_cannot_become_another() {
        let before = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}});
        let mut after = before.clone();
        after["metadata"]["name"] = json!("b");
        assert!(difference(&before, &after).is_err());
    }
}
