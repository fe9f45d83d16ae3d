//! Reading many objects: selectors, pages, and which state of the store answers.

use std::time::Instant;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use resources::table::Resource;
use store::{Entry, Revision, Snapshot};

use crate::api::Api;
use crate::http::query::{ListOptions, VersionMatch};
use crate::key;
use crate::selection::Selection;
use crate::status::ApiError;
use crate::stored;
use crate::verbs::pages::Token;
use crate::verbs::{Answer, Call};

/// A list, or a page of one.
pub(crate) fn list(api: &Api, call: &Call) -> Result<Answer, ApiError> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(call.resource(), &options)?;
    let prefix = key::prefix(call.resource(), call.namespace());
    let token = options.continue_token.as_deref().map(|t| Token::decode(t, &prefix)).transpose()?;
    let (snapshot, after) = match token {
        Some(token) => (page_state(api, &token)?, token.after),
        None => (fresh_state(api, &options)?, String::new()),
    };
    // With "any state will do" upstream serves from its cache and ignores the limit.
    let from_cache = options.resource_version == Some(0) && options.version_match.is_none();
    let limit = options.limit.filter(|_| !from_cache).unwrap_or(usize::MAX);

    let mut page = Page::default();
    page.fill(call.resource(), snapshot.range_from(&prefix, &after), &selection, limit)?;
    let revision = snapshot.revision();
    let mut metadata =
        ListMeta { resource_version: Some(revision.0.to_string()), ..ListMeta::default() };
    if page.left > 0 {
        api.pages.keep(&snapshot, Instant::now());
        let token = Token { revision: Some(revision.0), after: page.last };
        metadata.continue_ = Some(token.encode());
        // Upstream counts the rest only when no selector could thin it out.
        metadata.remaining_item_count =
            selection.is_empty().then(|| i64::try_from(page.left).unwrap_or(i64::MAX));
    }
    Ok(Answer::List { items: page.items, metadata })
}

#[derive(Default)]
struct Page {
    items: Vec<Bytes>,
    /// The key of the last item.
    last: String,
    /// How many wanted objects lie behind it.
    left: usize,
}

impl Page {
    fn fill<'s>(
        &mut self,
        resource: &Resource,
        entries: impl Iterator<Item = (&'s str, &'s Entry)>,
        selection: &Selection,
        limit: usize,
    ) -> Result<(), ApiError> {
        for (key, entry) in entries {
            let json = stored::json(resource, &entry.value)?;
            if !selection.wants(resource, key, &json) {
                continue;
            }
            if self.items.len() == limit {
                self.left += 1;
                continue;
            }
            self.items.push(json);
            key.clone_into(&mut self.last);
        }
        Ok(())
    }
}

/// The state for the page after a token.
fn page_state(api: &Api, token: &Token) -> Result<Snapshot, ApiError> {
    let Some(revision) = token.revision else { return Ok(api.store.snapshot()) };
    api.pages.find(Revision(revision), Instant::now()).ok_or_else(|| {
        let inconsistent = Token { revision: None, after: token.after.clone() };
        ApiError::ContinueExpired { token: inconsistent.encode() }
    })
}

/// The state for a first page: the present one, if it is what the client may accept.
pub(crate) fn fresh_state(api: &Api, options: &ListOptions) -> Result<Snapshot, ApiError> {
    let snapshot = api.store.snapshot();
    let current = snapshot.revision().0;
    let asked = options.resource_version.unwrap_or(0);
    if asked > current {
        return Err(ApiError::FutureVersion { asked, current });
    }
    if options.version_match == Some(VersionMatch::Exact) && asked != current {
        return api
            .pages
            .find(Revision(asked), Instant::now())
            .ok_or(ApiError::Expired { asked, oldest: current });
    }
    Ok(snapshot)
}
