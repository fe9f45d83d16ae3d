//! `get`: list objects, once or as they change.
//!
//! Inputs: resource arguments or manifests, selectors. Output: the server's `Table`s laid out as
//! kubectl lays them out, or objects in the asked format. Upstream: `kubectl/pkg/cmd/get/get.go`.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::catalog::ApiResource;
use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::render::jsonpath::{Template, plain};
use crate::render::table::{Extras, Growing, Layout, headings, rows};
use crate::render::{Format, hide_managed_fields};
use crate::session::{Call, TABLE};
use crate::target::{self, Target};
use crate::watch;

/// Display one or many resources
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Get {
    /// TYPE [NAME…], TYPE/NAME… or TYPE1,TYPE2
    #[arg(value_name = "TYPE[/NAME]")]
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// Output format: wide, yaml, json, name, jsonpath=…, custom-columns=…
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
    /// Selector (label query) to filter on, e.g. -l key1=value1,key2!=value2
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Selector (field query) to filter on, e.g. --field-selector status.phase=Running
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// List the requested objects across all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// After listing, watch for changes
    #[arg(short, long)]
    pub watch: bool,
    /// Watch for changes without listing first
    #[arg(long)]
    pub watch_only: bool,
    /// Don't print headers
    #[arg(long)]
    pub no_headers: bool,
    /// Show all labels as the last column
    #[arg(long)]
    pub show_labels: bool,
    /// Put the resource type before the name
    #[arg(long)]
    pub show_kind: bool,
    /// Labels that are to be presented as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    pub label_columns: Vec<String>,
    /// Sort list types using this field, given as a JSONPath expression
    #[arg(long, default_value = "", hide_default_value = true)]
    pub sort_by: String,
    /// Treat "not found" as a successful retrieval
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Keep managedFields in json and yaml output
    #[arg(long)]
    pub show_managed_fields: bool,
    /// Name of a subresource to read: status or scale
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subresource: String,
    /// Print the server's answer to this path as it is
    #[arg(long, value_name = "PATH")]
    pub raw: Option<String>,
    /// Accepted as kubectl does; lists are always read in pages of 500
    #[arg(long, default_value_t = 500, hide = true)]
    pub chunk_size: i64,
}

/// A target with its namespace: what one request asks for.
#[derive(Clone, Debug)]
struct Query {
    resource: ApiResource,
    namespace: Option<String>,
    name: Option<String>,
}

impl Get {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        if let Some(path) = &self.raw {
            return raw(ctx, path).await;
        }
        let format = Format::parse(&self.output)?;
        let sort = match self.sort_by.as_str() {
            "" => None,
            path => Some(Template::relaxed(path)?),
        };
        let queries = self.queries(ctx).await?;
        if self.watch || self.watch_only {
            return self.watch(ctx, &format, &queries).await;
        }
        if format.is_table() {
            self.print_tables(ctx, &format, sort.as_ref(), &queries).await
        } else {
            self.print_objects(ctx, &format, sort.as_ref(), &queries).await
        }
    }

    async fn queries(&self, ctx: &mut Context<'_>) -> Result<Vec<Query>, Error> {
        let namespace = (!self.all_namespaces).then(|| ctx.namespace());
        let mut queries = Vec::new();
        if !self.files.is_empty() {
            for mut manifest in self.files.read(ctx.io).await? {
                let (resource, namespace) = ctx.place(&mut manifest).await?;
                let name = Some(manifest.name().to_owned());
                queries.push(Query { resource, namespace: Some(namespace), name });
            }
            return Ok(queries);
        }
        if self.resources.is_empty() {
            return Err(Error::Plain(
                "You must specify the type of resource to get. Use \"minictl api-resources\" for a \
                 complete list of supported resources.\n\nerror: Required resource not specified."
                    .to_owned(),
            ));
        }
        let catalog = ctx.catalog().await?;
        let targets = target::parse(&catalog, &self.resources)?;
        target::check_selection(&targets, &self.selector, false)?;
        if self.all_namespaces && targets.iter().any(|t| t.name.is_some() && t.resource.namespaced)
        {
            return Err(Error::refused(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        queries.extend(targets.into_iter().map(|Target { resource, name }| Query {
            resource,
            namespace: namespace.clone(),
            name,
        }));
        Ok(queries)
    }

    fn call(&self, query: &Query) -> Call {
        let name = query.name.as_deref().unwrap_or("");
        let path = query.resource.path(query.namespace.as_deref(), name, &self.subresource);
        let call = Call::get(path);
        if query.name.is_some() {
            call
        } else {
            call.query("labelSelector", self.selector.as_str())
                .query("fieldSelector", self.field_selector.as_str())
        }
    }

    async fn print_tables(
        &self,
        ctx: &mut Context<'_>,
        format: &Format,
        sort: Option<&Template>,
        queries: &[Query],
    ) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut sections: Vec<(ApiResource, Value)> = Vec::new();
        for query in queries {
            let mut call = self.call(query).accept(TABLE);
            if sort.is_some() {
                call = call.query("includeObject", "Object");
            }
            match self.table(ctx, call, query).await {
                Ok(table) => match sections.last_mut() {
                    // Several names of one type share a table.
                    Some((r, last)) if *r == query.resource => append_rows(last, table),
                    _ => sections.push((query.resource.clone(), table)),
                },
                Err(e) if e.is_not_found() && self.ignore_not_found && query.name.is_some() => {}
                Err(e) => errors.push(e),
            }
        }
        // Names need their type as soon as tables of several types were found, even empty ones.
        let first = sections.first().map(|(resource, _)| resource.clone());
        let several = sections.iter().any(|(resource, _)| Some(resource) != first.as_ref());
        let prefix = self.show_kind || several;
        let mut text = String::new();
        for (resource, mut table) in sections {
            if let Some(path) = sort {
                sort_rows(&mut table, path);
            }
            let extras = self.extras(format, &resource, prefix);
            let mut lines = rows(&table, &extras);
            if lines.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            if !self.no_headers {
                lines.insert(0, headings(&table, &extras));
            }
            text.push_str(&Layout::default().format(&lines));
        }
        ctx.io.print(&text)?;
        if text.is_empty() && errors.is_empty() && !self.ignore_not_found {
            self.report_nothing(ctx, queries);
        }
        Error::all(errors)
    }

    /// Reads one table, with all its pages.
    async fn table(
        &self,
        ctx: &mut Context<'_>,
        call: Call,
        query: &Query,
    ) -> Result<Value, Error> {
        if query.name.is_some() {
            return ctx.json(&call).await.map(as_table);
        }
        let mut table = as_table(ctx.json(&call.clone().query("limit", "500")).await?);
        loop {
            let next = text(&table, "/metadata/continue").to_owned();
            if next.is_empty() {
                return Ok(table);
            }
            let page = call.clone().query("limit", "500").query("continue", next);
            let page = as_table(ctx.json(&page).await?);
            table["metadata"] = page["metadata"].clone();
            append_rows(&mut table, page);
        }
    }

    fn extras(&self, format: &Format, resource: &ApiResource, prefix: bool) -> Extras {
        Extras {
            wide: *format == Format::Wide,
            namespace: self.all_namespaces && resource.namespaced,
            show_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            kind_prefix: prefix.then(|| resource.kind_name()),
        }
    }

    fn report_nothing(&self, ctx: &mut Context<'_>, queries: &[Query]) {
        let namespaced = queries.iter().any(|q| q.resource.namespaced);
        match queries.iter().find_map(|q| q.namespace.as_deref()) {
            Some(namespace) if namespaced => {
                ctx.io.warn(format_args!("No resources found in {namespace} namespace."));
            }
            _ => ctx.io.warn("No resources found"),
        }
    }

    async fn print_objects(
        &self,
        ctx: &mut Context<'_>,
        format: &Format,
        sort: Option<&Template>,
        queries: &[Query],
    ) -> Result<(), Error> {
        let mut items = Vec::new();
        let mut errors = Vec::new();
        let single = queries.len() == 1 && queries[0].name.is_some();
        for query in queries {
            let call = self.call(query);
            let found = match &query.name {
                Some(_) => ctx.json(&call).await.map(|object| vec![object]),
                None => ctx.list(&call).await,
            };
            match found {
                Ok(found) => items.extend(found),
                Err(e) if e.is_not_found() && self.ignore_not_found && query.name.is_some() => {}
                Err(e) => errors.push(e),
            }
        }
        if let Some(path) = sort {
            items.sort_by(|a, b| compare(&first(path, a), &first(path, b)));
        }
        let mut shown = if single {
            items.pop().unwrap_or(Value::Null)
        } else {
            json!({"apiVersion": "v1", "items": items, "kind": "List",
                   "metadata": {"resourceVersion": ""}})
        };
        if !self.show_managed_fields {
            hide_managed_fields(&mut shown);
        }
        let print = match format {
            Format::Columns(columns) => columns.print(&shown, !self.no_headers),
            format => format.object(&shown).unwrap_or_default(),
        };
        let nothing_found =
            (single && shown.is_null()) || (queries.len() > 1 && errors.len() == queries.len());
        if !nothing_found {
            ctx.io.print(&print)?;
        }
        Error::all(errors)
    }

    /// Lists, then prints every change until the reader goes away or the server ends the watch.
    async fn watch(
        &self,
        ctx: &mut Context<'_>,
        format: &Format,
        queries: &[Query],
    ) -> Result<(), Error> {
        let [query] = queries else {
            return Err(Error::refused(
                "watch is only supported on individual resources and resource collections - more \
                 than 1 resource was found",
            ));
        };
        let extras = self.extras(format, &query.resource, self.show_kind);
        let mut growing = Growing::new(extras, !self.no_headers);
        let accept = if format.is_table() { TABLE } else { "application/json" };
        let listed = ctx.json(&self.call(query).accept(accept)).await?;
        let version = text(&listed, "/metadata/resourceVersion").to_owned();
        if !self.watch_only {
            self.show_listed(ctx, format, listed, &mut growing)?;
        }
        let mut collection = query.clone();
        collection.name = None;
        let mut call = self.call(&collection).accept(accept);
        if let Some(name) = &query.name {
            call = call.query("fieldSelector", format!("metadata.name={name}"));
        }
        let mut stream = watch::start(ctx, call, &version).await?;
        while let Some(event) = stream.next().await? {
            if event.kind == "BOOKMARK" {
                continue;
            }
            if format.is_table() {
                ctx.io.print(&growing.print(as_table(event.object)))?;
            } else {
                self.show_event(ctx, format, event.object)?;
            }
        }
        Ok(())
    }

    fn show_listed(
        &self,
        ctx: &mut Context<'_>,
        format: &Format,
        listed: Value,
        growing: &mut Growing,
    ) -> Result<(), Error> {
        if format.is_table() {
            return ctx.io.print(&growing.print(as_table(listed)));
        }
        match listed.get("items").and_then(Value::as_array) {
            None => self.show_event(ctx, format, listed),
            Some(items) => {
                items.iter().try_for_each(|item| self.show_event(ctx, format, item.clone()))
            }
        }
    }

    fn show_event(
        &self,
        ctx: &mut Context<'_>,
        format: &Format,
        object: Value,
    ) -> Result<(), Error> {
        let mut object = object;
        if !self.show_managed_fields {
            hide_managed_fields(&mut object);
        }
        let printed = match format {
            // One heading for the whole watch would need the widths of rows to come.
            Format::Columns(columns) => columns.print(&object, false),
            Format::Yaml => format!("---\n{}", format.object(&object).unwrap_or_default()),
            format => format.object(&object).unwrap_or_default(),
        };
        ctx.io.print(&printed)
    }
}

/// Copies an answer as it comes: it may be a watch or a log.
async fn raw(ctx: &mut Context<'_>, path: &str) -> Result<(), Error> {
    if !path.starts_with('/') {
        return Err(Error::refused(format!("--raw must be a path such as /healthz, not {path:?}")));
    }
    let session = ctx.session().await?;
    let mut body = session.start(&Call::get(path).accept("*/*")).await?.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            ctx.io.bytes(&data)?;
        }
    }
    Ok(())
}

/// A server that does not know `Table`s answers objects: show their names and ages at least.
fn as_table(answer: Value) -> Value {
    if answer.get("kind").and_then(Value::as_str) == Some("Table") {
        return answer;
    }
    let items = match answer.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![answer.clone()],
    };
    let rows: Vec<Value> = items
        .into_iter()
        .map(|item| {
            let created: Option<jiff::Timestamp> =
                text(&item, "/metadata/creationTimestamp").parse().ok();
            let age = created.map_or("<unknown>".to_owned(), |then| {
                crate::duration::age(then, jiff::Timestamp::now())
            });
            let name = text(&item, "/metadata/name").to_owned();
            json!({"cells": [name, age], "object": item})
        })
        .collect();
    json!({"kind": "Table", "metadata": answer.get("metadata"), "rows": rows,
           "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}]})
}

fn append_rows(table: &mut Value, mut more: Value) {
    if let (Some(rows), Some(new)) = (
        table.get_mut("rows").and_then(Value::as_array_mut),
        more.get_mut("rows").and_then(Value::as_array_mut),
    ) {
        rows.append(new);
    }
}

fn sort_rows(table: &mut Value, path: &Template) {
    if let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) {
        rows.sort_by(|a, b| {
            let key = |row: &Value| row.get("object").and_then(|object| first(path, object));
            compare(&key(a), &key(b))
        });
    }
}

fn first(path: &Template, object: &Value) -> Option<Value> {
    path.find(object).first().map(|v| (*v).clone())
}

/// Objects without the field come first; numbers by size, all else by text.
fn compare(a: &Option<Value>, b: &Option<Value>) -> std::cmp::Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => plain(a).cmp(&plain(b)),
        },
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
