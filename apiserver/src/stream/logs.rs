//! `GET pods/x/log`: the agent's chunks as plain text.

use futures::StreamExt as _;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::{SignedDuration, Timestamp};

use axum::body::Body;
use axum::response::Response;
use proto::v1::LogsRequest;

use crate::api::Api;
use crate::http::query::Query;
use crate::status::ApiError;
use crate::stream::{agent, relayed, target};
use crate::verbs::Call;

/// Streams a container's log.
pub(crate) async fn open(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let pod = target::pod(api, call)?;
    let container = target::container(&pod, call.query.get("container"))?;
    let node = target::node(&pod)?;
    let previous = call.query.flag("previous");
    target::has_log(&pod, container, previous)?;
    let request = LogsRequest {
        target: Some(target::target(&pod, container)),
        follow: call.query.flag("follow"),
        previous,
        timestamps: call.query.flag("timestamps"),
        tail_lines: call.query.number("tailLines")?,
        limit_bytes: call.query.number("limitBytes")?,
        since_unix_nanos: since(&call.query, Timestamp::now())?,
    };
    let chunks = agent(api, node)?.logs(request).await.map_err(|e| relayed(&e))?.into_inner();
    let bytes = chunks.map(|chunk| match chunk {
        Ok(chunk) => Ok(chunk.data),
        Err(status) => Err(std::io::Error::other(status.message().to_owned())),
    });
    let mut response = Response::new(Body::from_stream(bytes));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The start of the part that is wanted, in nanoseconds since 1970.
fn since(query: &Query, now: Timestamp) -> Result<Option<i64>, ApiError> {
    let seconds = query.number("sinceSeconds")?;
    let time = match (seconds, query.get("sinceTime")) {
        (Some(_), Some(_)) => {
            return Err(ApiError::BadRequest(
                "at most one of `sinceTime` or `sinceSeconds` may be specified".into(),
            ));
        }
        (Some(seconds), None) if seconds < 1 => {
            return Err(ApiError::BadRequest("sinceSeconds: must be greater than 0".into()));
        }
        (Some(seconds), None) => {
            Some(now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN))
        }
        (None, Some(text)) => Some(text.parse::<Timestamp>().map_err(|e| {
            ApiError::BadRequest(format!("sinceTime: parse {text:?} as a time: {e}"))
        })?),
        (None, None) => None,
    };
    Ok(time.map(|t| i64::try_from(t.as_nanosecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_relative_or_absolute_but_not_both() {
        let now = Timestamp::from_second(1_000).unwrap();
        let read = |raw: &str| since(&Query::parse(Some(raw)), now).map_err(|e| e.to_string());
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("sinceSeconds=10"), Ok(Some(990_000_000_000)));
        assert_eq!(read("sinceTime=1970-01-01T00:00:02Z"), Ok(Some(2_000_000_000)));
        assert!(read("sinceSeconds=0").is_err());
        assert!(read("sinceTime=yesterday").is_err());
        assert!(read("sinceSeconds=1&sinceTime=1970-01-01T00:00:02Z").is_err());
    }
}
