//! `apply`: make the cluster's objects match manifests.
//!
//! Client-side apply: the three-way decision is `three_way::plan`, executed here with one request
//! per object. Upstream: `kubectl/pkg/cmd/apply/apply.go`.

use serde_json::Value;

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::{short_name, text};
use crate::error::Error;
use crate::manifest::{Files, Manifest};
use crate::render::Format;
use crate::report::{DryRun, Output};
use crate::session::Call;
use crate::three_way::{LAST_APPLIED, Plan, annotated, last_applied, plan};
use crate::{delete, target};

/// Apply a configuration to a resource by file name or stdin
#[derive(clap::Args, Clone, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Apply {
    #[command(subcommand)]
    pub(crate) what: Option<What>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Selector (label query) to filter the manifests' objects on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Delete and create again what cannot be patched
    #[arg(long)]
    pub force: bool,
    /// Apply runs in the server instead of the client
    #[arg(long)]
    pub server_side: bool,
    /// With --server-side, take fields over from other managers
    #[arg(long)]
    pub force_conflicts: bool,
    /// Name of the manager that owns the applied fields
    #[arg(long, default_value = "kubectl-client-side-apply", hide_default_value = true)]
    pub field_manager: String,
    /// What the server does about unknown fields: strict, warn or ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    pub validate: String,
    /// Accepted as kubectl does
    #[arg(long, hide = true)]
    pub overwrite: bool,
}

/// The annotation that `apply` keeps.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum What {
    /// View the latest last-applied-configuration annotation of an object
    ViewLastApplied {
        /// TYPE NAME or TYPE/NAME
        #[arg(required = true)]
        resources: Vec<String>,
        /// Output format: yaml or json
        #[arg(short, long, default_value = "yaml")]
        output: String,
    },
}

/// How the server treats unknown fields, from `--validate`.
pub(crate) fn field_validation(flag: &str) -> Result<&'static str, Error> {
    match flag {
        "strict" | "true" | "" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "ignore" | "false" => Ok("Ignore"),
        other => Err(Error::refused(format!(
            "invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore \
             (or false)"
        ))),
    }
}

/// Patches are tried again this often when somebody else changes the object meanwhile.
const MAX_PATCH_RETRIES: usize = 5;

impl Apply {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if let Some(What::ViewLastApplied { resources, output }) = &self.what {
            return view_last_applied(ctx, resources, output).await;
        }
        if self.files.is_empty() {
            return Err(Error::refused("must specify one of -f and -k"));
        }
        let format = Format::parse(&self.output.output)?;
        let at_once = matches!(format, Format::Table | Format::Wide | Format::Name);
        let manifests = self.files.read(ctx.io).await?;
        let (mut errors, mut done) = (Vec::new(), Vec::new());
        for mut manifest in manifests {
            if !matches_labels(&self.selector, &manifest.value)? {
                continue;
            }
            match self.apply(ctx, &mut manifest).await {
                Ok((object, operation)) if at_once => {
                    self.output.print(ctx.io, &object, operation)?;
                }
                Ok(result) => done.push(result),
                Err(e) => errors.push(e),
            }
        }
        self.output.print_all(ctx.io, &done)?;
        Error::all(errors)
    }

    async fn apply(
        &self,
        ctx: &mut Context<'_>,
        manifest: &mut Manifest,
    ) -> Result<(Value, &'static str), Error> {
        let (resource, namespace) = ctx.place(manifest).await?;
        if manifest.name().is_empty() {
            if !text(&manifest.value, "/metadata/generateName").is_empty() {
                return Err(Error::refused(format!(
                    "from {}: cannot use generate name with apply",
                    text(&manifest.value, "/metadata/generateName")
                )));
            }
            return Err(Error::refused(format!(
                "error when retrieving current configuration of: {} from {:?}: resource name may \
                 not be empty",
                resource.kind, manifest.origin
            )));
        }
        if self.server_side {
            return self.apply_on_server(ctx, manifest, &resource, &namespace).await;
        }
        let mut tries = 0;
        loop {
            let live = ctx.find(&resource, &namespace, manifest.name()).await.map_err(|e| {
                e.in_source("retrieving current configuration of", &manifest.origin)
            })?;
            let plan = plan(live.as_ref(), &manifest.value)?;
            let live = live.unwrap_or_default();
            match self.execute(ctx, &resource, &namespace, manifest, plan, live).await {
                Err(e) if e.reason() == "Conflict" && tries < MAX_PATCH_RETRIES => tries += 1,
                Err(e) if self.force && matches!(e.reason(), "Conflict" | "Invalid") => {
                    return self.recreate(ctx, &resource, &namespace, manifest).await;
                }
                Err(e) => return Err(e),
                Ok(done) => return Ok(done),
            }
        }
    }

    async fn execute(
        &self,
        ctx: &mut Context<'_>,
        resource: &ApiResource,
        namespace: &str,
        manifest: &Manifest,
        plan: Plan,
        live: Value,
    ) -> Result<(Value, &'static str), Error> {
        let name = manifest.name();
        match plan {
            Plan::Create(object) => {
                if self.output.dry_run == DryRun::Client {
                    return Ok((object, "created"));
                }
                let call = Call::post(resource.path(Some(namespace), "", ""), &object);
                let created = ctx.json(&self.options(call)?).await;
                let created = created.map_err(|e| e.in_source("creating", &manifest.origin))?;
                Ok((created, "created"))
            }
            Plan::Unchanged => Ok((live, "unchanged")),
            Plan::Patch { content_type, patch, annotation_missing } => {
                if annotation_missing {
                    warn_missing_annotation(ctx, resource, name);
                }
                if self.output.dry_run == DryRun::Client {
                    return Ok((annotated(&manifest.value), "configured"));
                }
                let path = resource.path(Some(namespace), name, "");
                let call = self.options(Call::patch(path, content_type, &patch))?;
                let patched = ctx.json(&call).await.map_err(|e| {
                    let e = e.in_source("patching", &manifest.origin);
                    e.in_source(&patch_context(resource, namespace, name, &patch), &manifest.origin)
                })?;
                let same = text(&patched, "/metadata/resourceVersion")
                    == text(&live, "/metadata/resourceVersion")
                    && self.output.dry_run == DryRun::None;
                Ok((patched, if same { "unchanged" } else { "configured" }))
            }
        }
    }

    fn options(&self, call: Call) -> Result<Call, Error> {
        Ok(call
            .query("dryRun", self.output.dry_run.query())
            .query("fieldManager", self.field_manager.as_str())
            .query("fieldValidation", field_validation(&self.validate)?))
    }

    async fn recreate(
        &self,
        ctx: &mut Context<'_>,
        resource: &ApiResource,
        namespace: &str,
        manifest: &Manifest,
    ) -> Result<(Value, &'static str), Error> {
        delete::delete_and_wait(ctx, resource, namespace, manifest.name()).await?;
        let object = annotated(&manifest.value);
        let call = Call::post(resource.path(Some(namespace), "", ""), &object);
        let created = ctx.json(&self.options(call)?).await;
        Ok((created.map_err(|e| e.in_source("creating", &manifest.origin))?, "configured"))
    }

    async fn apply_on_server(
        &self,
        ctx: &mut Context<'_>,
        manifest: &Manifest,
        resource: &ApiResource,
        namespace: &str,
    ) -> Result<(Value, &'static str), Error> {
        if self.output.dry_run == DryRun::Client {
            return Err(Error::refused("--dry-run=client can't be used with --server-side apply"));
        }
        let path = resource.path(Some(namespace), manifest.name(), "");
        let manager = match self.field_manager.as_str() {
            "kubectl-client-side-apply" => "kubectl",
            other => other,
        };
        let call = Call::patch(path, "application/apply-patch+yaml", &manifest.value)
            .query("dryRun", self.output.dry_run.query())
            .query("fieldManager", manager)
            .query("fieldValidation", field_validation(&self.validate)?)
            .query("force", if self.force_conflicts { "true" } else { "false" });
        Ok((ctx.json(&call).await?, "serverside-applied"))
    }
}

/// What kubectl says of a patch that the server refused.
fn patch_context(resource: &ApiResource, namespace: &str, name: &str, patch: &Value) -> String {
    let version = format!("{}/{}", resource.group, resource.version);
    format!(
        "applying patch:\n{patch}\nto:\nResource: \"{version}, Resource={}\", GroupVersionKind: \
         \"{version}, Kind={}\"\nName: {name:?}, Namespace: {namespace:?}\nfor:",
        resource.plural, resource.kind
    )
}

fn warn_missing_annotation(ctx: &mut Context<'_>, resource: &ApiResource, name: &str) {
    let warning = format!(
        "resource {}/{name} is missing the {LAST_APPLIED} annotation which is required by kubectl \
         apply. kubectl apply should only be used on resources created declaratively by either \
         kubectl create --save-config or kubectl apply. The missing annotation will be patched \
         automatically.",
        resource.plural
    );
    ctx.io.warn(format_args!("Warning: {warning}"));
}

/// Whether an object has the labels that a selector asks for.
pub(crate) fn matches_labels(selector: &str, object: &Value) -> Result<bool, Error> {
    let selector =
        wire::selector::Labels::parse(selector).map_err(|e| Error::refused(e.to_string()))?;
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let get = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    Ok(selector.matches_with(get))
}

async fn view_last_applied(
    ctx: &mut Context<'_>,
    resources: &[String],
    output: &str,
) -> Result<(), Error> {
    let format = Format::parse(output)?;
    if !matches!(format, Format::Json | Format::Yaml) {
        return Err(Error::refused(format!(
            "Unexpected -o output mode: {output}, the flag 'output' must be one of yaml|json"
        )));
    }
    let catalog = ctx.catalog().await?;
    let namespace = ctx.namespace();
    for target in target::parse(&catalog, resources)? {
        let Some(name) = target.name else {
            return Err(Error::refused("resource(s) were provided, but no name was specified"));
        };
        let object = ctx.object(&target.resource, &namespace, &name).await?;
        let Some(record) = last_applied(&object) else {
            return Err(Error::refused(format!(
                "no last-applied-configuration annotation found on resource {}",
                short_name(&object)
            )));
        };
        let record: Value = serde_json::from_str(record).map_err(|e| Error::BadAnswer {
            what: format!("{LAST_APPLIED} of {}", short_name(&object)),
            detail: e.to_string(),
        })?;
        ctx.io.print(&format.object(&record).unwrap_or_default())?;
    }
    Ok(())
}
