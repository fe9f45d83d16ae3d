//! `scale`: set the number of replicas.
//!
//! Upstream: `kubectl/pkg/cmd/scale/scale.go`.

use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::manifest::Files;
use crate::render::Format;
use crate::report::DryRun;
use crate::session::{Call, MERGE_PATCH};
use crate::target;

/// Set a new size for a deployment or replica set
#[derive(clap::Args, Clone, Debug)]
pub struct Scale {
    /// TYPE NAME… or TYPE/NAME…
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// The new desired number of replicas
    #[arg(long, required = true, allow_negative_numbers = true)]
    pub replicas: i32,
    /// Scale only if the current number of replicas is this
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    pub current_replicas: i64,
    /// Scale only if the object has this resource version
    #[arg(long, default_value = "", hide_default_value = true)]
    pub resource_version: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Scale all objects of the given types in the namespace
    #[arg(long)]
    pub all: bool,
    /// Output format, e.g. name
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
    /// "client" only says what would be scaled, "server" asks without storing
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
    /// Accepted as kubectl does
    #[arg(long, default_value = "0s", hide = true)]
    pub timeout: String,
}

impl Scale {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if self.replicas < 0 {
            return Err(Error::refused(
                "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
            ));
        }
        let selected = target::select(ctx, &self.resources, &self.files, &self.selector, self.all);
        let selected = selected.await?;
        if selected.is_empty() {
            return Err(Error::refused("no objects passed to scale"));
        }
        let format = Format::parse(&self.output)?;
        let mut errors = Vec::new();
        let only = selected.len() == 1;
        for object in selected {
            let path = object.resource.path(Some(&object.namespace), &object.name, "scale");
            match self.scale(ctx, &path, &object).await {
                Ok(()) if format == Format::Name => {
                    ctx.io.say(format_args!("{}/{}", object.resource.kind_name(), object.name))?;
                }
                Ok(()) => ctx.io.say(format_args!(
                    "{}/{} scaled{}",
                    object.resource.kind_name(),
                    object.name,
                    self.dry_run.suffix()
                ))?,
                Err(e) if e.is_not_found() && only => {
                    return Err(Error::refused(format!("no objects passed to scale {e}")));
                }
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)
    }

    async fn scale(
        &self,
        ctx: &mut Context<'_>,
        path: &str,
        object: &target::Selected,
    ) -> Result<(), Error> {
        if self.current_replicas >= 0 || !self.resource_version.is_empty() {
            let scale = ctx.json(&Call::get(path)).await?;
            self.check(&scale)?;
        }
        if self.dry_run == DryRun::Client {
            ctx.object(&object.resource, &object.namespace, &object.name).await?;
            return Ok(());
        }
        let patch = json!({"spec": {"replicas": self.replicas}});
        let call = Call::patch(path, MERGE_PATCH, &patch).query("dryRun", self.dry_run.query());
        ctx.call(&call).await.map(|_| ())
    }

    /// The preconditions, checked as upstream checks them (`scale.PreconditionError`).
    fn check(&self, scale: &Value) -> Result<(), Error> {
        let refuse = |precondition: &str, expected: String, found: String| {
            Err(Error::refused(format!("Expected {precondition} to be {expected}, was {found}")))
        };
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        if self.current_replicas >= 0 && self.current_replicas != replicas {
            return refuse("replicas", self.current_replicas.to_string(), replicas.to_string());
        }
        let version = crate::edit_value::text(scale, "/metadata/resourceVersion");
        if !self.resource_version.is_empty() && self.resource_version != version {
            return refuse("resource version", self.resource_version.clone(), version.to_owned());
        }
        Ok(())
    }
}
