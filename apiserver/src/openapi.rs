//! The OpenAPI documents over HTTP; crate `wire` makes them.

use axum::response::Response;
use http::HeaderMap;

use crate::http::respond::Reply;
use crate::http::route::Route;
use crate::status::ApiError;

/// Answers a request for an OpenAPI document.
pub(crate) fn answer(
    _route: &Route,
    _headers: &HeaderMap,
    _reply: &Reply,
) -> Result<Response, ApiError> {
    Err(ApiError::UnknownPath)
}
