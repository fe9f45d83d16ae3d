//! `patch` and `replace`: change objects by what is given, without comparing.
//!
//! Upstream: `kubectl/pkg/cmd/patch/patch.go`, `kubectl/pkg/cmd/replace/replace.go`.

use std::path::PathBuf;

use serde_json::Value;

use crate::apply::field_validation;
use crate::context::Context;
use crate::delete;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::{self, Files, Manifest};
use crate::report::{DryRun, Output};
use crate::session::{Call, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use crate::target;
use crate::three_way::{annotated, last_applied};

/// Update fields of a resource by strategic merge patch, merge patch or JSON patch
#[derive(clap::Args, Clone, Debug)]
pub struct Patch {
    /// TYPE NAME or TYPE/NAME
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The patch, as JSON or YAML
    #[arg(short, long)]
    pub patch: Option<String>,
    /// A file that contains the patch
    #[arg(long)]
    pub patch_file: Option<PathBuf>,
    /// The type of patch: json, merge or strategic
    #[arg(long = "type", default_value = "strategic")]
    pub kind: String,
    /// A subresource to patch: status or scale
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subresource: String,
}

impl Patch {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let content_type = match self.kind.to_lowercase().as_str() {
            "json" => JSON_PATCH,
            "merge" => MERGE_PATCH,
            "strategic" => STRATEGIC_PATCH,
            other => {
                return Err(Error::refused(format!(
                    "--type must be one of [json merge strategic], not {other:?}"
                )));
            }
        };
        let patch = self.body()?;
        if self.output.dry_run == DryRun::Client {
            return Err(Error::refused(
                "--dry-run=client cannot patch: only the server knows how; use --dry-run=server",
            ));
        }
        let selected = target::select(ctx, &self.resources, &self.files, "", false).await?;
        let mut errors = Vec::new();
        for object in selected {
            let path =
                object.resource.path(Some(&object.namespace), &object.name, &self.subresource);
            let before = text(
                &ctx.object(&object.resource, &object.namespace, &object.name).await?,
                "/metadata/resourceVersion",
            )
            .to_owned();
            let call = Call::patch(path, content_type, &patch)
                .query("dryRun", self.output.dry_run.query())
                .query("fieldManager", "kubectl-patch");
            match ctx.json(&call).await {
                Ok(patched) => {
                    let same = text(&patched, "/metadata/resourceVersion") == before
                        && self.output.dry_run == DryRun::None;
                    let operation = if same { "patched (no change)" } else { "patched" };
                    self.output.print(ctx.io, &patched, operation)?;
                }
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)
    }

    fn body(&self) -> Result<Value, Error> {
        let text = match (&self.patch, &self.patch_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map_err(|source| Error::ReadFile { path: path.clone(), source })?,
            (None, None) => {
                return Err(Error::refused(
                    "must specify --patch or --patch-file containing the contents of the patch",
                ));
            }
        };
        manifest::parse_value(&text)
            .map_err(|e| Error::refused(format!("unable to parse {text:?}: {}", e.report())))
    }
}

/// Replace a resource by file name or stdin
#[derive(clap::Args, Clone, Debug)]
pub struct Replace {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Delete the objects and create them again
    #[arg(long)]
    pub force: bool,
    /// Record the manifest in the annotation that apply works with
    #[arg(long)]
    pub save_config: bool,
    /// What the server does about unknown fields: strict, warn or ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    pub validate: String,
}

impl Replace {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if self.files.is_empty() {
            return Err(Error::refused("must specify one of -f and -k"));
        }
        let mut errors = Vec::new();
        for mut manifest in self.files.read(ctx.io).await? {
            match self.replace(ctx, &mut manifest).await {
                Ok(object) => self.output.print(ctx.io, &object, "replaced")?,
                Err(e) => errors.push(e.in_source("replacing", &manifest.origin)),
            }
        }
        Error::all(errors)
    }

    async fn replace(
        &self,
        ctx: &mut Context<'_>,
        manifest: &mut Manifest,
    ) -> Result<Value, Error> {
        let (resource, namespace) = ctx.place(manifest).await?;
        let name = manifest.name();
        // An object that apply knows keeps its record, or the next apply would compare with a lie.
        let record = self.save_config || last_applied(&manifest.value).is_some();
        let object = if record { annotated(&manifest.value) } else { manifest.value.clone() };
        if self.output.dry_run == DryRun::Client {
            return Ok(object);
        }
        let call = if self.force {
            if self.output.dry_run == DryRun::None {
                delete::delete_and_wait(ctx, &resource, &namespace, name).await?;
                ctx.io.say(format_args!("{} {name:?} deleted", resource.kind_name()))?;
            }
            Call::post(resource.path(Some(&namespace), "", ""), &object)
        } else {
            Call::put(resource.path(Some(&namespace), name, ""), &object)
        };
        let call = call
            .query("dryRun", self.output.dry_run.query())
            .query("fieldManager", "kubectl-replace")
            .query("fieldValidation", field_validation(&self.validate)?);
        ctx.json(&call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_may_be_json_or_yaml() {
        let patch = |text: &str| Patch {
            resources: vec![],
            files: Files::default(),
            output: Output::default(),
            patch: Some(text.to_owned()),
            patch_file: None,
            kind: "merge".into(),
            subresource: String::new(),
        };
        let expected = serde_json::json!({"spec": {"replicas": 2}});
        assert_eq!(patch("{\"spec\":{\"replicas\":2}}").body().unwrap(), expected);
        assert_eq!(patch("spec:\n  replicas: 2\n").body().unwrap(), expected);
        let list = patch("[{\"op\":\"remove\",\"path\":\"/a\"}]").body().unwrap();
        assert!(list.is_array());
        assert!(patch("{").body().is_err());
    }
}
