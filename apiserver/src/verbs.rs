//! What can be done with a resource: one file per verb, all generic over the resource table.
//!
//! Inputs: a [`Call`] (who, what, with which options) and a body. Outputs: an [`Answer`], which
//! module `http` turns into a response. Nothing here knows of HTTP headers or connections.

pub(crate) mod bind;
pub(crate) mod collection;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod evict;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod pages;
pub(crate) mod patch;
pub(crate) mod scale;
pub(crate) mod update;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status};
use resources::table::Resource;

use crate::authn::User;
use crate::http::query::Query;
use crate::http::route::Target;

/// One request on a resource.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) dry_run: bool,
}

impl Call {
    pub(crate) fn resource(&self) -> &'static Resource {
        self.target.resource
    }

    /// The name in the path; verbs on one object have one.
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    /// The object's key.
    pub(crate) fn key(&self) -> String {
        crate::key::object(self.resource(), self.namespace(), self.name())
    }
}

/// A request's body as it came.
pub(crate) struct Body {
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// An object of the call's resource.
    Object { json: Bytes, created: bool, warnings: Vec<String> },
    /// Objects of the call's resource.
    List { items: Vec<Bytes>, metadata: ListMeta },
    /// Something else that is JSON already, such as a Scale.
    Json(Bytes),
    /// How it went; `created` answers 201.
    Status { status: Box<Status>, created: bool },
}

impl Answer {
    pub(crate) fn object(json: Bytes) -> Self {
        Self::Object { json, created: false, warnings: Vec::new() }
    }

    pub(crate) fn status(status: Status) -> Self {
        Self::Status { status: Box::new(status), created: false }
    }
}
