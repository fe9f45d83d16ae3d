//! The OpenAPI documents over HTTP; crate `wire` makes them from what the resource table serves.
//!
//! They are made when asked for and dropped again: clients keep them, by ETag or hash.

use axum::response::Response;
use http::{HeaderMap, header};
use resources::table;
use wire::openapi::{self, Document, ResourceDoc};

use crate::http::accept;
use crate::http::respond::Reply;
use crate::http::route::{Route, segment};
use crate::status::ApiError;

/// How kubectl asks for the second version's binary form.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Answers a request for an OpenAPI document.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn answer(
    route: &Route,
    headers: &HeaderMap,
    reply: &Reply,
) -> Result<Response, ApiError> {
    let served = served();
    let document = match route {
        Route::OpenApiIndex => openapi::v3_index(&served),
        Route::OpenApiDocument { group, version } => {
            openapi::v3_document(&served, group, version).ok_or(ApiError::UnknownPath)?
        }
        Route::OpenApiV2 => {
            let accepted = crate::http::header(headers, header::ACCEPT.as_str());
            if accept::names(accepted.as_deref(), PROTOBUF) {
                openapi::v2_protobuf(&served)
            } else {
                openapi::v2_json(&served)
            }
        }
        _ => return Err(ApiError::UnknownPath),
    };
    let Document { content_type, bytes, etag } = document;
    Ok(reply.document(content_type, &etag, bytes.into()))
}

fn served() -> Vec<ResourceDoc> {
    table::all()
        .iter()
        .map(|row| ResourceDoc {
            group: row.group,
            version: row.version,
            plural: row.plural,
            kind: row.kind,
            namespaced: row.namespaced,
            subresources: row.subresources.iter().map(|s| segment(*s)).collect(),
        })
        .collect()
}
