//! Into running containers: exec, attach, port-forward and logs, by way of the agent of the pod's
//! node (contract: `proto/node.proto`).

pub(crate) mod logs;
pub(crate) mod tunnel;

use std::sync::Arc;

use axum::response::Response;
use http::request::Parts;

use crate::api::Api;
use crate::status::ApiError;
use crate::verbs::Call;

/// Opens a session that the path asks for.
pub(crate) async fn open(
    _api: &Arc<Api>,
    _call: &Call,
    _parts: &mut Parts,
) -> Result<Response, ApiError> {
    Err(ApiError::UnknownPath)
}
