//! The paths and operations of a resource, from which both versions of documents are written.
//!
//! Input: a resource; output: paths with their operations, parameters and the definitions they
//! take and answer. kubectl reads the query parameters of `patch` from here: without
//! `fieldValidation` it would validate itself, without `dryRun` it would refuse `--dry-run=server`.

use crate::schema;

use super::ResourceDoc;

/// A query parameter: name, type, description.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Ask for bookmarks in a watch."),
    ("continue", "string", "Where the last page of a list ended."),
    ("fieldSelector", "string", "Only objects whose fields match."),
    ("labelSelector", "string", "Only objects whose labels match."),
    ("limit", "integer", "Most objects of one page."),
    ("resourceVersion", "string", "The version to read or to watch from."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied."),
    ("sendInitialEvents", "boolean", "Start a watch with the objects that exist."),
    ("timeoutSeconds", "integer", "When the server ends the call."),
    ("watch", "boolean", "Stream changes instead of a list."),
];
const DRY_RUN: Parameter = ("dryRun", "string", "All: check everything, store nothing.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Name of the client that writes.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "Unknown and duplicate fields: Ignore, Warn or Strict (an error).",
);
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_VALIDATION,
    ("force", "boolean", "Take over fields of other managers in an apply."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds that the object has to end."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground."),
];

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// One method of a path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Lower-case HTTP method.
    pub(super) method: &'static str,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    /// Unique name.
    pub(super) id: String,
    /// Group, version and kind it acts on.
    pub(super) gvk: (&'static str, &'static str, &'static str),
    /// Query parameters.
    pub(super) query: &'static [Parameter],
    /// Definition of the body.
    pub(super) body: Option<&'static str>,
    /// Definition of the answer.
    pub(super) answer: Option<&'static str>,
}

impl Operation {
    /// Media types of the body.
    pub(super) fn consumes(&self) -> &'static [&'static str] {
        if self.method == "patch" {
            &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ]
        } else {
            &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        }
    }
}

/// A path with its operations.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// With `{namespace}` and `{name}`.
    pub(super) path: String,
    /// In the order get, put, post, delete, patch.
    pub(super) operations: Vec<Operation>,
}

impl Path {
    /// The parameters in the path.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &'static str> {
        ["name", "namespace"].into_iter().filter(|name| self.path.contains(&format!("{{{name}}}")))
    }
}

/// `v1` or `apps/v1`.
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `api/v1` or `apis/apps/v1`.
pub(super) fn prefix(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", api_version(group, version))
}

/// All paths of a resource.
pub(super) fn paths(resource: &ResourceDoc) -> Vec<Path> {
    let writer =
        Writer { resource, own: definition(resource.group, resource.version, resource.kind) };
    let prefix = format!("/{}", prefix(resource.group, resource.version));
    let plural = resource.plural;
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{prefix}{scope}/{plural}");
    let item = format!("{collection}/{{name}}");
    let mut paths = vec![
        Path { path: collection, operations: writer.collection() },
        Path { path: item.clone(), operations: writer.item() },
    ];
    if resource.namespaced {
        let operations = vec![writer.list("ForAllNamespaces")];
        paths.push(Path { path: format!("{prefix}/{plural}"), operations });
    }
    for subresource in &resource.subresources {
        let operations = writer.subresource(subresource);
        paths.push(Path { path: format!("{item}/{subresource}"), operations });
    }
    paths
}

fn definition(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    schema::of_kind(&api_version(group, version), kind).map(|of| of.name)
}

struct Writer<'r> {
    resource: &'r ResourceDoc,
    own: Option<&'static str>,
}

impl Writer<'_> {
    fn operation(&self, verb: &str, method: &'static str, action: &'static str) -> Operation {
        let r = self.resource;
        Operation {
            method,
            action,
            id: self.id(verb, ""),
            gvk: (r.group, r.version, r.kind),
            query: &[],
            body: None,
            answer: self.own,
        }
    }

    fn id(&self, verb: &str, suffix: &str) -> String {
        let r = self.resource;
        let group = if r.group.is_empty() { "core" } else { r.group };
        let group = capitalised(group.split('.').next().unwrap_or_default());
        let scope = if r.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        format!("{verb}{group}{}{scope}{}{suffix}", capitalised(r.version), r.kind)
    }

    fn list(&self, suffix: &str) -> Operation {
        // Lists have no definition of their own here: clients know them by their items.
        let list = self.operation("list", "get", "list");
        Operation { id: self.id("list", suffix), query: LIST, answer: None, ..list }
    }

    fn collection(&self) -> Vec<Operation> {
        let create = self.operation("create", "post", "post");
        let mut operations =
            vec![self.list(""), Operation { query: WRITE, body: self.own, ..create }];
        // Upstream deletes namespaces only one by one.
        if self.resource.plural != "namespaces" {
            operations.push(self.delete("deleteCollection", "deletecollection"));
        }
        operations
    }

    fn delete(&self, verb: &str, action: &'static str) -> Operation {
        Operation {
            query: DELETE,
            body: Some(DELETE_OPTIONS),
            answer: Some(STATUS),
            ..self.operation(verb, "delete", action)
        }
    }

    fn item(&self) -> Vec<Operation> {
        let mut operations = self.read_and_write(self.resource.kind, self.own, "");
        operations.insert(2, self.delete("delete", "delete"));
        operations
    }

    /// get, put and patch of an object or of a part of it.
    fn read_and_write(
        &self,
        kind: &'static str,
        of: Option<&'static str>,
        suffix: &str,
    ) -> Vec<Operation> {
        let (group, version) = match kind {
            "Scale" => ("autoscaling", "v1"),
            _ => (self.resource.group, self.resource.version),
        };
        [("read", "get", &[][..]), ("replace", "put", WRITE), ("patch", "patch", PATCH)]
            .into_iter()
            .map(|(verb, method, query)| Operation {
                id: self.id(verb, suffix),
                gvk: (group, version, kind),
                query,
                body: (method == "put").then_some(of).flatten(),
                answer: of,
                ..self.operation(verb, method, method)
            })
            .collect()
    }

    fn subresource(&self, name: &str) -> Vec<Operation> {
        let suffix = capitalised(name);
        let create = |(group, version, kind): (&'static str, &'static str, &'static str)| {
            let body = definition(group, version, kind);
            vec![Operation {
                id: self.id("create", &suffix),
                gvk: (group, version, kind),
                query: WRITE,
                body,
                answer: body,
                ..self.operation("create", "post", "post")
            }]
        };
        match name {
            "scale" => {
                self.read_and_write("Scale", definition("autoscaling", "v1", "Scale"), &suffix)
            }
            "finalize" => {
                let mut operations = self.read_and_write(self.resource.kind, self.own, &suffix);
                operations.retain(|operation| operation.method == "put");
                operations
            }
            "binding" => create(("", "v1", "Binding")),
            "eviction" => create(("policy", "v1", "Eviction")),
            "token" => create(("authentication.k8s.io", "v1", "TokenRequest")),
            "log" => vec![Operation {
                id: self.id("read", &suffix),
                answer: None,
                ..self.operation("read", "get", "get")
            }],
            "exec" => self.connect("PodExecOptions", &suffix),
            "attach" => self.connect("PodAttachOptions", &suffix),
            "portforward" => self.connect("PodPortForwardOptions", &suffix),
            _ => self.read_and_write(self.resource.kind, self.own, &suffix),
        }
    }

    /// A stream: no bodies, only a kind that stands for its options.
    fn connect(&self, options: &'static str, suffix: &str) -> Vec<Operation> {
        [("get", "Get"), ("post", "Post")]
            .into_iter()
            .map(|(method, verb)| Operation {
                id: self.id(&format!("connect{verb}"), suffix),
                gvk: (self.resource.group, self.resource.version, options),
                answer: None,
                ..self.operation("connect", method, "connect")
            })
            .collect()
    }
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// The definitions that a document with these paths needs.
pub(super) fn roots(paths: &[Path]) -> impl Iterator<Item = &'static str> {
    let operations = paths.iter().flat_map(|path| &path.operations);
    operations.flat_map(|operation| [operation.body, operation.answer]).flatten()
}
