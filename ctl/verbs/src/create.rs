//! `create`: new objects from manifests or from flags.
//!
//! Owns: the flags of `create` and its subcommands. The objects themselves are made by the pure
//! functions of `create::generate`. Upstream: `kubectl/pkg/cmd/create`.

mod generate;
mod ingress;
mod parameters;

use serde_json::Value;

use crate::apply::field_validation;
use crate::context::Context;
use crate::edit_value::set;
use crate::error::Error;
use crate::manifest::{Files, Manifest};
use crate::render::Format;
use crate::report::{DryRun, Output};
use crate::session::Call;
use crate::three_way::annotated;
pub use ingress::{Ingress, TlsSecret};
pub use parameters::{
    ConfigMap, Deployment, ExternalName, NamedPorts, Secret, SecretKind, Service, ServiceKind,
};

/// Create a resource from a file or from stdin, or from flags
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Create {
    #[command(subcommand)]
    pub(crate) what: Option<What>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Record the manifest in the annotation that apply works with
    #[arg(long)]
    pub save_config: bool,
    /// Selector (label query) to filter the manifests' objects on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// What the server does about unknown fields: strict, warn or ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    pub validate: String,
}

/// What can be made from flags.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum What {
    /// Create a deployment with the specified name
    #[command(visible_alias = "deploy")]
    Deployment(Generator<Deployment>),
    /// Create a service using a specified subcommand
    #[command(visible_alias = "svc")]
    Service(Service),
    /// Create a config map from a local file, directory or literal value
    #[command(name = "configmap", visible_alias = "cm")]
    ConfigMap(Generator<ConfigMap>),
    /// Create a secret using a specified subcommand
    Secret(Secret),
    /// Create an ingress with the specified name
    #[command(visible_alias = "ing")]
    Ingress(Generator<Ingress>),
    /// Create a namespace with the specified name
    #[command(visible_alias = "ns")]
    Namespace(Generator<Named>),
    /// Create a service account with the specified name
    #[command(name = "serviceaccount", visible_alias = "sa")]
    ServiceAccount(Generator<Named>),
}

/// Only a name.
#[derive(clap::Args, Clone, Debug)]
pub struct Named {
    /// Name of the object
    pub name: String,
}

/// A generator's flags with those that all generators share.
#[derive(clap::Args, Clone, Debug)]
pub struct Generator<T: clap::Args> {
    #[command(flatten)]
    pub(crate) flags: T,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Record the object in the annotation that apply works with
    #[arg(long)]
    pub(crate) save_config: bool,
    /// Accepted as kubectl does
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict",
          hide = true)]
    pub(crate) validate: String,
}

impl Create {
    pub(crate) async fn run(self, ctx: &mut Context<'_>) -> Result<(), Error> {
        match self.what {
            None => self.create_files(ctx).await,
            Some(What::Deployment(g)) => {
                make(ctx, &g.output, g.save_config, g.flags.object()?).await
            }
            Some(What::Service(s)) => match s.kind {
                ServiceKind::ClusterIp(g) => {
                    make(ctx, &g.output, g.save_config, g.flags.object("ClusterIP")?).await
                }
                ServiceKind::NodePort(g) => {
                    make(ctx, &g.output, g.save_config, g.flags.object("NodePort")?).await
                }
                ServiceKind::LoadBalancer(g) => {
                    make(ctx, &g.output, g.save_config, g.flags.object("LoadBalancer")?).await
                }
                ServiceKind::ExternalName(g) => {
                    make(ctx, &g.output, g.save_config, g.flags.object()?).await
                }
            },
            Some(What::ConfigMap(g)) => {
                make(ctx, &g.output, g.save_config, g.flags.object()?).await
            }
            Some(What::Secret(s)) => match s.kind {
                SecretKind::Generic(g) => {
                    make(ctx, &g.output, g.save_config, g.flags.object()?).await
                }
                SecretKind::Tls(g) => make(ctx, &g.output, g.save_config, g.flags.object()?).await,
            },
            Some(What::Ingress(g)) => make(ctx, &g.output, g.save_config, g.flags.object()?).await,
            Some(What::Namespace(g)) => {
                let object = generate::namespace(&g.flags.name);
                make(ctx, &g.output, g.save_config, object).await
            }
            Some(What::ServiceAccount(g)) => {
                let object = generate::service_account(&g.flags.name);
                make(ctx, &g.output, g.save_config, object).await
            }
        }
    }

    async fn create_files(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if self.files.is_empty() {
            return Err(Error::refused("must specify one of -f and -k"));
        }
        let format = Format::parse(&self.output.output)?;
        let at_once = matches!(format, Format::Table | Format::Wide | Format::Name);
        let (mut errors, mut done) = (Vec::new(), Vec::new());
        for mut manifest in self.files.read(ctx.io).await? {
            if !crate::apply::matches_labels(&self.selector, &manifest.value)? {
                continue;
            }
            match self.create(ctx, &mut manifest).await {
                Ok(object) if at_once => self.output.print(ctx.io, &object, "created")?,
                Ok(object) => done.push((object, "created")),
                Err(e) => errors.push(e),
            }
        }
        self.output.print_all(ctx.io, &done)?;
        Error::all(errors)
    }

    async fn create(&self, ctx: &mut Context<'_>, manifest: &mut Manifest) -> Result<Value, Error> {
        let (resource, namespace) = ctx.place(manifest).await?;
        let object =
            if self.save_config { annotated(&manifest.value) } else { manifest.value.clone() };
        if self.output.dry_run == DryRun::Client {
            return Ok(object);
        }
        let call = Call::post(resource.path(Some(&namespace), "", ""), &object)
            .query("dryRun", self.output.dry_run.query())
            .query("fieldManager", "kubectl-create")
            .query("fieldValidation", field_validation(&self.validate)?);
        ctx.json(&call).await.map_err(|e| e.in_source("creating", &manifest.origin))
    }
}

/// Sends a generated object, or only prints it.
async fn make(
    ctx: &mut Context<'_>,
    output: &Output,
    save_config: bool,
    object: Value,
) -> Result<(), Error> {
    let created = post(ctx, object, output.dry_run, save_config, "kubectl-create").await?;
    output.print(ctx.io, &created, "created")
}

/// Creates a generated object in the current namespace; with a client's dry run, gives it back.
pub(crate) async fn post(
    ctx: &mut Context<'_>,
    mut object: Value,
    dry_run: DryRun,
    save_config: bool,
    manager: &str,
) -> Result<Value, Error> {
    let (path, namespaced) = generate::path(&object, &ctx.namespace());
    let in_body = if dry_run == DryRun::Client {
        // Without a server, kubectl shows the namespace only if it was asked for.
        ctx.settings.explicit_namespace.clone()
    } else {
        Some(ctx.namespace())
    };
    if let (true, Some(namespace)) = (namespaced, in_body) {
        set(&mut object, &["metadata", "namespace"], namespace);
    }
    if save_config {
        object = annotated(&object);
    }
    if dry_run == DryRun::Client {
        return Ok(object);
    }
    let call =
        Call::post(path, &object).query("dryRun", dry_run.query()).query("fieldManager", manager);
    ctx.json(&call).await.map_err(|e| match e {
        Error::Server(mut status) if status.reason != "Invalid" && manager == "kubectl-create" => {
            let kind = generate::noun(&object);
            status.message = format!("failed to create {kind}: {}", status.message);
            // kubectl wraps the server's error and so loses the reason.
            Error::refused(status.message)
        }
        other => other,
    })
}
