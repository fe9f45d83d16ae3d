//! Reading one object.

use crate::api::Api;
use crate::http::query;
use crate::status::ApiError;
use crate::stored;
use crate::verbs::{Answer, Call};

/// The object as it is now, or later than asked for (upstream: `resourceVersion` on get).
pub(crate) fn get(api: &Api, call: &Call) -> Result<Answer, ApiError> {
    let snapshot = api.store.snapshot();
    let asked = query::resource_version(call.query.get("resourceVersion"))?.unwrap_or(0);
    let current = snapshot.revision().0;
    if asked > current {
        return Err(ApiError::FutureVersion { asked, current });
    }
    let entry = snapshot
        .get(&call.key())
        .ok_or_else(|| ApiError::not_found(call.resource(), call.name()))?;
    Ok(Answer::object(stored::json(call.resource(), &entry.value)?))
}
