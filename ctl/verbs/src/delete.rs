//! `delete`: remove objects and wait until they are gone.
//!
//! Upstream: `kubectl/pkg/cmd/delete/delete.go`. The pure part is [`Delete::options`], the
//! `DeleteOptions` that the flags mean.

use std::time::Duration;

use serde_json::{Value, json};

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::report::DryRun;
use crate::session::Call;
use crate::target;
use crate::watch::{self, Verdict};

/// Delete resources by file names, stdin, resources and names, or by resources and label selector
#[derive(clap::Args, Clone, Debug)]
pub struct Delete {
    /// TYPE NAME…, TYPE/NAME…
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// Delete all resources of the given types in the namespace
    #[arg(long)]
    pub all: bool,
    /// With --all or a selector, delete across all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// background, orphan or foreground: what becomes of the objects that this one owns
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true,
          default_missing_value = "background")]
    pub cascade: String,
    /// Seconds given to the resource to end gracefully; 1 is immediate, 0 needs --force
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    pub grace_period: i64,
    /// Remove from the API at once, without waiting for the node's confirmation
    #[arg(long)]
    pub force: bool,
    /// End resources with a grace period of one second
    #[arg(long)]
    pub now: bool,
    /// Treat "not found" as a successful delete
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Wait until the objects are gone
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub wait: bool,
    /// How long to wait, e.g. 30s; zero means as long as it takes
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    /// "name" prints only TYPE/NAME
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
    /// "client" only prints what would be deleted, "server" asks without deleting
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
}

/// One object to delete.
struct Victim {
    resource: ApiResource,
    namespace: String,
    name: String,
    uid: String,
}

impl Delete {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let grace = self.grace()?;
        let options = self.options(grace)?;
        let timeout = crate::duration::parse_timeout(&self.timeout)?;
        if !matches!(self.output.as_str(), "" | "name") {
            return Err(Error::refused(format!(
                "unexpected -o output mode: {}. We only support '-o name'",
                self.output
            )));
        }
        if grace == Some(0) && self.force {
            ctx.io.warn(
                "Warning: Immediate deletion does not wait for confirmation that the running \
                 resource has been terminated. The resource may continue to run on the cluster \
                 indefinitely.",
            );
        }
        let mut errors = Vec::new();
        let victims = self.victims(ctx, &mut errors).await?;
        if victims.is_empty() && errors.is_empty() && self.output.is_empty() {
            ctx.io.say("No resources found")?;
        }
        let mut deleted = Vec::new();
        for mut victim in victims {
            match self.delete(ctx, &mut victim, &options, grace == Some(0)).await {
                Ok(true) => deleted.push(victim),
                Ok(false) => {}
                Err(e) if e.is_not_found() && self.ignore_not_found => {}
                Err(e) => errors.push(e),
            }
        }
        // kubectl does not wait for what it was told to remove at once.
        if self.wait && self.dry_run == DryRun::None && !(self.force && grace == Some(0)) {
            for victim in &deleted {
                wait_gone(ctx, victim, timeout).await?;
            }
        }
        Error::all(errors)
    }

    /// The grace period that `--grace-period`, `--now` and `--force` mean together.
    fn grace(&self) -> Result<Option<i64>, Error> {
        if self.now && self.grace_period != -1 {
            return Err(Error::refused("--now and --grace-period cannot be specified together"));
        }
        match (self.now, self.force, self.grace_period) {
            (true, _, _) => Ok(Some(1)),
            (_, true, -1) => Ok(Some(0)),
            (_, true, g) if g > 0 => Err(Error::refused(
                "--force and --grace-period greater than 0 cannot be specified together",
            )),
            // Without --force, "at once" still means that the node confirms it.
            (_, false, 0) => Ok(Some(1)),
            (_, _, g) if g < 0 => Ok(None),
            (_, _, g) => Ok(Some(g)),
        }
    }

    /// The `DeleteOptions` of every request.
    fn options(&self, grace: Option<i64>) -> Result<Value, Error> {
        let policy = match self.cascade.as_str() {
            "background" | "true" => "Background",
            "orphan" | "false" => "Orphan",
            "foreground" => "Foreground",
            other => {
                return Err(Error::refused(format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \
                     \"orphan\""
                )));
            }
        };
        let mut options = json!({"propagationPolicy": policy});
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        if self.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        Ok(options)
    }

    async fn victims(
        &self,
        ctx: &mut Context<'_>,
        errors: &mut Vec<Error>,
    ) -> Result<Vec<Victim>, Error> {
        let mut victims = Vec::new();
        if !self.files.is_empty() {
            for mut manifest in self.files.read(ctx.io).await? {
                match ctx.place(&mut manifest).await {
                    Ok((resource, namespace)) => victims.push(Victim {
                        resource,
                        namespace,
                        name: manifest.name().to_owned(),
                        uid: String::new(),
                    }),
                    Err(e) => errors.push(e),
                }
            }
            return Ok(victims);
        }
        if self.resources.is_empty() {
            return Err(Error::refused(
                "You must provide one or more resources by argument or filename.\n\
                Example resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   \
                '<resource> <name>'\n   '<resource>'",
            ));
        }
        let catalog = ctx.catalog().await?;
        let targets = target::parse(&catalog, &self.resources)?;
        target::check_selection(&targets, &self.selector, self.all)?;
        for target in targets {
            match target.name {
                Some(name) => victims.push(Victim {
                    resource: target.resource,
                    namespace: ctx.namespace(),
                    name,
                    uid: String::new(),
                }),
                None => victims.extend(self.selected(ctx, &target.resource).await?),
            }
        }
        Ok(victims)
    }

    async fn selected(
        &self,
        ctx: &mut Context<'_>,
        resource: &ApiResource,
    ) -> Result<Vec<Victim>, Error> {
        if self.selector.is_empty() && self.field_selector.is_empty() && !self.all {
            return Err(Error::refused("resource(s) were provided, but no name was specified"));
        }
        let namespace = (!self.all_namespaces).then(|| ctx.namespace());
        let call = Call::get(resource.path(namespace.as_deref(), "", ""))
            .query("labelSelector", self.selector.as_str())
            .query("fieldSelector", self.field_selector.as_str());
        let found = ctx.list(&call).await?;
        let victim = |object: Value| Victim {
            resource: resource.clone(),
            namespace: text(&object, "/metadata/namespace").to_owned(),
            name: text(&object, "/metadata/name").to_owned(),
            uid: text(&object, "/metadata/uid").to_owned(),
        };
        Ok(found.into_iter().map(victim).collect())
    }

    /// Deletes one object and says so; notes the object's uid. True if there is something to wait for.
    async fn delete(
        &self,
        ctx: &mut Context<'_>,
        victim: &mut Victim,
        options: &Value,
        at_once: bool,
    ) -> Result<bool, Error> {
        if self.dry_run == DryRun::Client {
            if victim.uid.is_empty() {
                ctx.object(&victim.resource, &victim.namespace, &victim.name).await?;
            }
        } else {
            let path = victim.resource.path(Some(&victim.namespace), &victim.name, "");
            let answer = ctx.json(&Call::delete(path, options)).await?;
            // The answer is a Status with the uid in its details, or the object that still ends.
            let uid = [text(&answer, "/details/uid"), text(&answer, "/metadata/uid")].concat();
            if !uid.is_empty() {
                victim.uid = uid;
            }
        }
        let name = format!("{}/{}", victim.resource.kind_name(), victim.name);
        if self.output == "name" {
            ctx.io.say(name)?;
        } else {
            ctx.io.say(self.sentence(victim, at_once))?;
        }
        Ok(true)
    }

    /// `pod "web" deleted from default namespace`
    fn sentence(&self, victim: &Victim, at_once: bool) -> String {
        let verb = if at_once { "force deleted" } else { "deleted" };
        let place = if victim.resource.namespaced {
            format!(" from {} namespace", victim.namespace)
        } else {
            String::new()
        };
        let suffix = match self.dry_run {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        };
        format!("{} {:?} {verb}{place}{suffix}", victim.resource.kind_name(), victim.name)
    }
}

/// Waits until the object, or this incarnation of it, no longer exists.
async fn wait_gone(
    ctx: &mut Context<'_>,
    victim: &Victim,
    limit: Option<Duration>,
) -> Result<(), Error> {
    // A week, as upstream: an object with a finalizer may take its time.
    let limit = limit.unwrap_or(Duration::from_secs(168 * 3600));
    let gone = watch::until(
        ctx,
        &victim.resource,
        &victim.namespace,
        &victim.name,
        Some(limit),
        |_, object| {
            let still = object
                .is_some_and(|o| victim.uid.is_empty() || text(o, "/metadata/uid") == victim.uid);
            Ok(if still { Verdict::Wait } else { Verdict::Go(()) })
        },
    );
    match gone.await? {
        Some(()) => Ok(()),
        None => Err(Error::refused(format!(
            "timed out waiting for the condition on {}/{}",
            victim.resource.plural, victim.name
        ))),
    }
}

/// Deletes an object that is to be created again.
pub(crate) async fn delete_and_wait(
    ctx: &mut Context<'_>,
    resource: &ApiResource,
    namespace: &str,
    name: &str,
) -> Result<(), Error> {
    let options = json!({"propagationPolicy": "Background"});
    let path = resource.path(Some(namespace), name, "");
    match ctx.json(&Call::delete(path, &options)).await {
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    let victim = Victim {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
    };
    wait_gone(ctx, &victim, None).await
}
