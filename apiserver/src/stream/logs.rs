//! `GET pods/x/log`.

use std::sync::Arc;

use axum::response::Response;

use crate::api::Api;
use crate::status::ApiError;
use crate::verbs::Call;

/// Streams a container's log.
pub(crate) async fn open(_api: &Arc<Api>, _call: &Call) -> Result<Response, ApiError> {
    Err(ApiError::UnknownPath)
}
