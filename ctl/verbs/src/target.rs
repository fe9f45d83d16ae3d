//! What `TYPE NAME`, `TYPE/NAME`, `TYPE1,TYPE2` and friends select.
//!
//! Owns: argument parsing as cli-runtime's resource builder does it (`resource/builder.go`). Pure
//! over a catalog. Outputs: [`Target`]s in the order of the arguments.

use crate::catalog::{ApiResource, Catalog};
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::session::Call;

/// A resource, and one object of it or all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) resource: ApiResource,
    pub(crate) name: Option<String>,
}

/// Parses resource arguments.
pub(crate) fn parse(catalog: &Catalog, args: &[String]) -> Result<Vec<Target>, Error> {
    if args.iter().any(|a| a.contains('/')) {
        return pairs(catalog, args);
    }
    let Some((types, names)) = args.split_first() else { return Ok(Vec::new()) };
    let mut resources: Vec<ApiResource> = Vec::new();
    for name in types.split(',').filter(|t| !t.is_empty()) {
        let category = catalog.category(name);
        if category.is_empty() {
            resources.push(catalog.resolve(name)?.clone());
        } else {
            resources.extend(category.into_iter().cloned());
        }
    }
    let mut targets = Vec::new();
    for resource in resources {
        if names.is_empty() {
            targets.push(Target { resource, name: None });
        } else {
            targets.extend(
                names
                    .iter()
                    .map(|name| Target { resource: resource.clone(), name: Some(name.clone()) }),
            );
        }
    }
    Ok(targets)
}

fn pairs(catalog: &Catalog, args: &[String]) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for arg in args {
        let Some((kind, name)) = arg.split_once('/') else {
            return Err(Error::refused(
                "there is no need to specify a resource type as a separate argument when passing \
                 arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' \
                 instead of 'kubectl get resource resource/<resource_name>'",
            ));
        };
        if kind.is_empty() || name.is_empty() || name.contains('/') {
            return Err(Error::refused(format!(
                "arguments in resource/name form must have a single resource and name, not {arg:?}"
            )));
        }
        let resource = catalog.resolve(kind)?.clone();
        targets.push(Target { resource, name: Some(name.to_owned()) });
    }
    Ok(targets)
}

/// The one object that verbs such as `exec` and `logs` work on: `NAME` is of the default type.
pub(crate) fn one(
    catalog: &Catalog,
    default: &str,
    arg: &str,
) -> Result<(ApiResource, String), Error> {
    let (kind, name) = arg.split_once('/').unwrap_or((default, arg));
    if kind.is_empty() || name.is_empty() {
        return Err(Error::refused(format!(
            "arguments in resource/name form must have a single resource and name, not {arg:?}"
        )));
    }
    Ok((catalog.resolve(kind)?.clone(), name.to_owned()))
}

/// An existing object that a verb is to change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selected {
    pub(crate) resource: ApiResource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The objects that arguments, manifests or a selector stand for. Only a selector (or `--all`)
/// asks the server; a named object need not exist.
pub(crate) async fn select(
    ctx: &mut Context<'_>,
    args: &[String],
    files: &Files,
    selector: &str,
    all: bool,
) -> Result<Vec<Selected>, Error> {
    let mut selected = Vec::new();
    if !files.is_empty() {
        for mut manifest in files.read(ctx.io).await? {
            let (resource, namespace) = ctx.place(&mut manifest).await?;
            selected.push(Selected { resource, namespace, name: manifest.name().to_owned() });
        }
        return Ok(selected);
    }
    if args.is_empty() {
        return Err(Error::refused(
            "you must provide one or more resources by argument or filename",
        ));
    }
    let catalog = ctx.catalog().await?;
    let targets = parse(&catalog, args)?;
    check_selection(&targets, selector, all)?;
    let namespace = ctx.namespace();
    for Target { resource, name } in targets {
        if let Some(name) = name {
            selected.push(Selected { resource, namespace: namespace.clone(), name });
            continue;
        }
        if selector.is_empty() && !all {
            return Err(Error::refused("resource(s) were provided, but no name was specified"));
        }
        let call =
            Call::get(resource.path(Some(&namespace), "", "")).query("labelSelector", selector);
        for object in ctx.list(&call).await? {
            let name = text(&object, "/metadata/name").to_owned();
            let resource = resource.clone();
            selected.push(Selected { resource, namespace: namespace.clone(), name });
        }
    }
    Ok(selected)
}

/// What must be asked when names and selectors are mixed.
pub(crate) fn check_selection(targets: &[Target], selector: &str, all: bool) -> Result<(), Error> {
    let named = targets.iter().any(|t| t.name.is_some());
    if named && !selector.is_empty() {
        return Err(Error::refused("name cannot be provided when a selector is specified"));
    }
    if named && all {
        return Err(Error::refused("name cannot be provided when --all is specified"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::example;

    fn targets(args: &[&str]) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let found = parse(&example(), &args).unwrap_or_else(|e| panic!("{}", e.report()));
        let show = |t: Target| format!("{} {}", t.resource.plural, t.name.unwrap_or("*".into()));
        found.into_iter().map(show).collect()
    }

    #[test]
    fn types_names_and_pairs() {
        assert_eq!(targets(&["po"]), ["pods *"]);
        assert_eq!(targets(&["po", "a", "b"]), ["pods a", "pods b"]);
        assert_eq!(targets(&["pods,svc"]), ["pods *", "services *"]);
        assert_eq!(targets(&["deploy,svc", "a"]), ["deployments a", "services a"]);
        assert_eq!(targets(&["pod/a", "svc/b"]), ["pods a", "services b"]);
        assert_eq!(targets(&["all"]), ["pods *", "services *", "deployments *", "replicasets *"]);
    }

    #[test]
    fn a_type_beside_a_pair_is_refused() {
        let args = ["pod".to_owned(), "svc/b".to_owned()];
        assert!(parse(&example(), &args).unwrap_err().report().contains("there is no need"));
        assert!(parse(&example(), &["pod/".to_owned()]).is_err());
    }

    #[test]
    fn a_name_and_a_selector_exclude_each_other() {
        let found = parse(&example(), &["po".to_owned(), "a".to_owned()]).unwrap();
        assert!(check_selection(&found, "a=b", false).is_err());
        assert!(check_selection(&found, "", true).is_err());
        assert!(check_selection(&found, "", false).is_ok());
    }
}
