//! Errors of the API and their `Status` objects, in Kubernetes' own words (upstream: apimachinery
//! `pkg/api/errors/errors.go`).
//!
//! Owns: [`ApiError`], the one place where a failure gets its HTTP code, reason and details.
//! Inputs: what failed, with its operands. Outputs: [`Status`].
//! Deliberately not here: how a Status is sent (module `http`).

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use resources::field::{FieldError, FieldErrors};
use resources::table::Resource;
use store::CommitError;
use thiserror::Error;

/// A resource as messages name it, with what `Status.details` needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResourceName {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
}

impl ResourceName {
    /// `pods` or `deployments.apps`.
    fn qualified(self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Pod` or `Deployment.apps`.
    fn qualified_kind(self) -> String {
        qualified(self.kind, self.group)
    }
}

impl From<&'static Resource> for ResourceName {
    fn from(r: &'static Resource) -> Self {
        Self { group: r.group, plural: r.plural, kind: r.kind }
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Why a request failed.
#[derive(Clone, Debug, Error)]
pub(crate) enum ApiError {
    #[error("Unauthorized")]
    Unauthorized,
    /// `who may not do what`, as the authorizer says it.
    #[error("{}", forbidden_text(.resource, .name, .reason))]
    Forbidden { resource: Option<ResourceName>, name: String, reason: String },
    /// Creating something in a namespace on its way out.
    #[error("{} {name:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated", .resource.qualified())]
    NamespaceTerminating { resource: ResourceName, name: String, namespace: String },
    #[error("{} {name:?} not found", .resource.qualified())]
    NotFound { resource: ResourceName, name: String },
    /// Something that is no object of the table is missing; the text says what.
    #[error("the server could not find the requested resource")]
    UnknownPath,
    #[error("{} {name:?} already exists", .resource.qualified())]
    AlreadyExists { resource: ResourceName, name: String },
    #[error("Operation cannot be fulfilled on {} {name:?}: {reason}", .resource.qualified())]
    Conflict { resource: ResourceName, name: String, reason: String },
    #[error("{} {name:?} is invalid: {}", .resource.qualified_kind(), aggregate(.errors))]
    Invalid { resource: ResourceName, name: String, errors: FieldErrors },
    /// One field is to blame, and there is more to say about it than upstream does: in the message,
    /// which is all that clients show for a file, and as a cause.
    #[error("{} {name:?} is invalid: {error} ({note})", .resource.qualified_kind())]
    Explained { resource: ResourceName, name: String, error: Box<FieldError>, note: String },
    /// `ListOptions`, `DeleteOptions`, … that contradict themselves.
    #[error("{kind}.meta.k8s.io \"\" is invalid: {}", aggregate(.errors))]
    InvalidOptions { kind: &'static str, errors: FieldErrors },
    #[error("{0}")]
    BadRequest(String),
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(&'static str),
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// A patch whose application would take too much.
    #[error("{0}")]
    PatchTooLarge(String),
    /// History was asked for that is gone.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired { asked: u64, oldest: u64 },
    /// A continue token whose snapshot is gone, and one to go on inconsistently.
    #[error("{CONTINUE_EXPIRED}")]
    ContinueExpired { token: String },
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    FutureVersion { asked: u64, current: u64 },
    /// The patch cannot be carried out on the object as it is; the cause says why.
    #[error("the server rejected our request due to an error in our request")]
    Unprocessable(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// A node's own words, such as that a container does not run.
    #[error("{message}")]
    Relayed { code: StatusCode, message: String },
}

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

fn forbidden_text(resource: &Option<ResourceName>, name: &str, reason: &str) -> String {
    match resource {
        None => format!("forbidden: {reason}"),
        Some(r) if name.is_empty() => format!("{} is forbidden: {reason}", r.qualified()),
        Some(r) => format!("{} {name:?} is forbidden: {reason}", r.qualified()),
    }
}

/// One error as it is, several in brackets without repetitions (upstream: `Aggregate.Error`).
fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

impl ApiError {
    /// An object of the table that is not there.
    pub(crate) fn not_found(resource: &'static Resource, name: &str) -> Self {
        Self::NotFound { resource: resource.into(), name: name.to_owned() }
    }

    /// Optimistic concurrency lost (upstream: `OptimisticLockErrorMsg`).
    pub(crate) fn modified(resource: &'static Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// A write that does not fit the object as it stands.
    pub(crate) fn conflict(
        resource: &'static Resource,
        name: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Conflict { resource: resource.into(), name: name.to_owned(), reason: reason.into() }
    }

    /// Field errors of an object of the table.
    pub(crate) fn invalid(resource: &'static Resource, name: &str, errors: FieldErrors) -> Self {
        Self::Invalid { resource: resource.into(), name: name.to_owned(), errors }
    }

    /// A write that admission refuses.
    pub(crate) fn forbidden(
        resource: &'static Resource,
        name: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Forbidden {
            resource: Some(resource.into()),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    /// What a failed commit means to a client.
    pub(crate) fn of_commit(error: &CommitError) -> Self {
        match error {
            CommitError::Failed { .. } => Self::Internal(
                "the object keeps changing: the write was tried again and again in vain".into(),
            ),
            other => Self::Unavailable(format!("the store takes no writes: {other}")),
        }
    }

    /// The HTTP code.
    pub(crate) fn code(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::NamespaceTerminating { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Invalid { .. }
            | Self::Explained { .. }
            | Self::InvalidOptions { .. }
            | Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) | Self::PatchTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expired { .. } | Self::ContinueExpired { .. } => StatusCode::GONE,
            Self::FutureVersion { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Relayed { code, .. } => *code,
        }
    }

    /// `Status.reason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } | Self::NamespaceTerminating { .. } => "Forbidden",
            Self::NotFound { .. } | Self::UnknownPath => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. }
            | Self::Explained { .. }
            | Self::InvalidOptions { .. }
            | Self::Unprocessable(_) => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge(_) | Self::PatchTooLarge(_) => "RequestEntityTooLarge",
            Self::Expired { .. } | Self::ContinueExpired { .. } => "Expired",
            Self::FutureVersion { .. } => "Timeout",
            Self::Unavailable(_) => "ServiceUnavailable",
            Self::Internal(_) => "InternalError",
            Self::Relayed { code, .. } => relayed_reason(*code),
        }
    }

    /// `Status.details`: what the failure is about, and which fields are to blame.
    fn details(&self) -> Option<StatusDetails> {
        match self {
            Self::Forbidden { resource: Some(resource), name, .. }
            | Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => {
                Some(about(resource.group, resource.plural, name, Vec::new()))
            }
            Self::NamespaceTerminating { resource, name, namespace } => {
                let cause = StatusCause {
                    reason: Some("NamespaceTerminating".into()),
                    message: Some(format!("namespace {namespace} is being terminated")),
                    field: Some("metadata.namespace".into()),
                };
                Some(about(resource.group, resource.plural, name, vec![cause]))
            }
            Self::Invalid { resource, name, errors } => {
                Some(about(resource.group, resource.kind, name, causes(errors)))
            }
            Self::Explained { resource, name, error, note } => {
                let mut causes = causes(std::slice::from_ref(&**error));
                causes.push(StatusCause {
                    message: Some(note.clone()),
                    field: Some(error.path.clone()),
                    reason: None,
                });
                Some(about(resource.group, resource.kind, name, causes))
            }
            Self::InvalidOptions { kind, errors } => {
                Some(about("meta.k8s.io", kind, "", causes(errors)))
            }
            Self::FutureVersion { .. } => Some(StatusDetails {
                retry_after_seconds: Some(1),
                ..about("", "", "", vec![too_large_version()])
            }),
            Self::Unprocessable(text) => {
                let cause = StatusCause {
                    reason: Some("UnexpectedServerResponse".into()),
                    message: Some(text.clone()),
                    field: None,
                };
                Some(about("", "", "", vec![cause]))
            }
            Self::Internal(text) => {
                let cause = StatusCause { message: Some(text.clone()), ..StatusCause::default() };
                Some(about("", "", "", vec![cause]))
            }
            Self::UnknownPath => Some(StatusDetails::default()),
            Self::Unauthorized
            | Self::Forbidden { resource: None, .. }
            | Self::BadRequest(_)
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_)
            | Self::UnsupportedMediaType(_)
            | Self::TooLarge(_)
            | Self::PatchTooLarge(_)
            | Self::Expired { .. }
            | Self::ContinueExpired { .. }
            | Self::Unavailable(_)
            | Self::Relayed { .. } => None,
        }
    }

    /// The Status object a client gets.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status {
            status: Some("Failure".into()),
            message: Some(self.to_string()),
            reason: Some(self.reason().into()),
            details: self.details(),
            code: Some(i32::from(self.code().as_u16())),
            ..Status::default()
        };
        if let Self::ContinueExpired { token } = self {
            status.metadata.continue_ = Some(token.clone());
        }
        status
    }
}

fn relayed_reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    }
}

fn too_large_version() -> StatusCause {
    StatusCause {
        reason: Some("ResourceVersionTooLarge".into()),
        message: Some("Too large resource version".into()),
        field: None,
    }
}

fn about(group: &str, kind: &str, name: &str, causes: Vec<StatusCause>) -> StatusDetails {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    StatusDetails {
        group: some(group),
        kind: some(kind),
        name: some(name),
        causes: (!causes.is_empty()).then_some(causes),
        ..StatusDetails::default()
    }
}

fn causes(errors: &[FieldError]) -> Vec<StatusCause> {
    errors
        .iter()
        .map(|e| StatusCause {
            reason: Some(e.reason().into()),
            message: Some(e.body()),
            field: Some(e.path.clone()),
        })
        .collect()
}

/// The Status of a request that worked on one object, such as a delete.
pub(crate) fn success(resource: &Resource, name: &str, uid: Option<&str>) -> Status {
    Status {
        status: Some("Success".into()),
        details: Some(StatusDetails {
            uid: uid.map(str::to_owned),
            ..about(resource.group, resource.plural, name, Vec::new())
        }),
        ..Status::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resources::field::ErrorKind;

    const DEPLOYMENTS: ResourceName =
        ResourceName { group: "apps", plural: "deployments", kind: "Deployment" };

    fn required(path: &str) -> FieldError {
        FieldError { path: path.into(), kind: ErrorKind::Required, detail: String::new() }
    }

    #[test]
    fn messages_are_upstreams() {
        let not_found = ApiError::NotFound { resource: DEPLOYMENTS, name: "web".into() };
        assert_eq!(not_found.to_string(), r#"deployments.apps "web" not found"#);
        let exists = ApiError::AlreadyExists { resource: DEPLOYMENTS, name: "web".into() };
        assert_eq!(exists.to_string(), r#"deployments.apps "web" already exists"#);
        let forbidden = ApiError::Forbidden {
            resource: Some(DEPLOYMENTS),
            name: String::new(),
            reason: "no".into(),
        };
        assert_eq!(forbidden.to_string(), "deployments.apps is forbidden: no");
    }

    #[test]
    fn one_field_error_stands_alone_and_several_in_brackets_without_repetition() {
        let one = ApiError::Invalid {
            resource: DEPLOYMENTS,
            name: "web".into(),
            errors: vec![required("spec.selector")],
        };
        assert_eq!(
            one.to_string(),
            r#"Deployment.apps "web" is invalid: spec.selector: Required value"#
        );
        let several = ApiError::Invalid {
            resource: DEPLOYMENTS,
            name: "web".into(),
            errors: vec![required("a"), required("b"), required("a")],
        };
        assert_eq!(
            several.to_string(),
            r#"Deployment.apps "web" is invalid: [a: Required value, b: Required value]"#
        );
        let details = several.status().details.unwrap();
        assert_eq!(details.kind.as_deref(), Some("Deployment"));
        assert_eq!(details.causes.unwrap().len(), 3);
    }

    #[test]
    fn an_expired_continue_token_comes_with_a_new_one() {
        let status = ApiError::ContinueExpired { token: "next".into() }.status();
        assert_eq!((status.code, status.reason.as_deref()), (Some(410), Some("Expired")));
        assert_eq!(status.metadata.continue_.as_deref(), Some("next"));
    }
}
