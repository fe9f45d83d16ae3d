//! `explain`: what a resource or a field of it means, in the words of the server's own OpenAPI.
//!
//! Upstream: `kubectl/pkg/cmd/explain` and its template `plaintext`, whose output this is; learners
//! get a note behind it where a word is often misread (`notes`), and the ports of a Service as a
//! picture (`ports`).

mod notes;
mod ports;
mod text;

use crate::catalog::{ApiResource, Catalog};
use crate::context::Context;
use crate::error::Error;
use crate::pods::typed;
use crate::session::Call;

/// Describe fields and structure of various resources
#[derive(clap::Args, Clone, Debug)]
pub struct Explain {
    /// TYPE[.FIELD…], as in service.spec.clusterIP; with --ports a service, as in svc/web
    pub resource: String,
    /// Draw which port of a service is called where, and where it leads
    #[arg(long, conflicts_with_all = ["recursive", "api_version"])]
    pub ports: bool,
    /// Print the names of all fields below, without their descriptions
    #[arg(long)]
    pub recursive: bool,
    /// Use a given group and version of the resource
    #[arg(long, default_value = "", hide_default_value = true)]
    pub api_version: String,
    /// Format of the description
    #[arg(long, default_value = "plaintext", value_parser = ["plaintext"])]
    pub output: String,
}

impl Explain {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let catalog = ctx.catalog().await?;
        if self.ports {
            return self.draw_ports(ctx, &catalog).await;
        }
        let (resource, fields) = split(&catalog, &self.resource)?;
        let resource = match self.api_version.as_str() {
            "" => resource,
            version => catalog.by_kind(version, &resource.kind).ok_or_else(|| {
                let wanted = format!("{version}, Resource={}", resource.plural);
                Error::refused(format!("couldn't find resource for \"{wanted}\""))
            })?,
        };
        let root = if resource.group.is_empty() { "api" } else { "apis" };
        let path = format!("/openapi/v3/{root}/{}", resource.api_version());
        let document = ctx.json(&Call::get(path)).await?;
        let text = text::explain(&document, resource, &fields, self.recursive)?;
        ctx.io.say(text)?;
        match notes::about(&resource.kind, &fields.join(".")) {
            Some(note) => ctx.io.say(format_args!("NOTE:\n{}\n", text::paragraph(note, 4))),
            None => Ok(()),
        }
    }

    async fn draw_ports(&self, ctx: &mut Context<'_>, catalog: &Catalog) -> Result<(), Error> {
        let (kind, name) = match self.resource.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (self.resource.as_str(), None),
        };
        let resource = catalog.resolve(kind)?;
        if resource.kind != "Service" {
            let kind = &resource.kind;
            let message = format!("--ports is about a Service, as in svc/web, and not a {kind}");
            return Err(Error::refused(message));
        }
        let Some(name) = name else { return ctx.io.print(ports::EVERY_SERVICE) };
        let namespace = ctx.namespace();
        let service = typed(ctx.object(resource, &namespace, name).await?)?;
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let selector = format!("kubernetes.io/service-name={name}");
        let slices = ctx.list(&Call::get(slices).query("labelSelector", selector.as_str())).await?;
        let nodes = ctx.list(&Call::get("/api/v1/nodes")).await?;
        let slices = slices.into_iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        let nodes = nodes.into_iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        ctx.io.print(&ports::picture(&service, &slices, &nodes))
    }
}

/// The resource that a dotted name begins with, and the fields that follow. A group has dots of its
/// own, so that the longest beginning that names a resource counts.
fn split<'a>(catalog: &'a Catalog, name: &str) -> Result<(&'a ApiResource, Vec<String>), Error> {
    let name = name.trim_end_matches('.');
    let parts: Vec<&str> = name.split('.').collect();
    let found = (1..=parts.len()).rev().find_map(|count| {
        let resource = catalog.resolve(&parts[..count].join(".")).ok()?;
        Some((resource, count))
    });
    match found {
        Some((resource, count)) => {
            Ok((resource, parts[count..].iter().map(|&part| part.to_owned()).collect()))
        }
        None => catalog.resolve(parts[0]).map(|resource| (resource, Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_resource_and_the_rest_are_fields() {
        let catalog = crate::catalog::tests::example();
        let of = |name: &str| {
            let (resource, fields) = split(&catalog, name).unwrap();
            (resource.kind.clone(), fields.join("/"))
        };
        assert_eq!(of("svc"), ("Service".to_owned(), String::new()));
        assert_eq!(
            of("service.spec.clusterIP"),
            ("Service".to_owned(), "spec/clusterIP".to_owned())
        );
        assert_eq!(of("deployments.apps.spec"), ("Deployment".to_owned(), "spec".to_owned()));
        let error = split(&catalog, "nothing.spec").unwrap_err();
        let says = r#"the server doesn't have a resource type "nothing""#;
        assert!(error.to_string().contains(says), "{error}");
    }
}
