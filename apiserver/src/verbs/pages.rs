//! Continue tokens: a list in pages over one consistent state of the store.
//!
//! A token names the state's revision and the last key that was sent. States stay for a few
//! minutes; they share all data with the present one, so keeping them costs little.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::{Revision, Snapshot};

use crate::status::ApiError;

/// How long a page may be asked for after the one before it (upstream: etcd's compaction, 5 min).
const LIFE: Duration = Duration::from_secs(300);
/// How many states are kept at most.
const MOST: usize = 64;

/// What a continue token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The revision of the list; `None` goes on with whatever the store holds now.
    #[serde(rename = "rv")]
    pub(crate) revision: Option<u64>,
    /// The last key that was sent.
    #[serde(rename = "start")]
    pub(crate) after: String,
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!(self).to_string())
    }

    /// Reads a token that must lie under `prefix`, so that it reads nothing else.
    pub(crate) fn decode(text: &str, prefix: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::BadRequest("continue key is not valid: malformed value".into());
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if token.after.starts_with(prefix) { Ok(token) } else { Err(invalid()) }
    }
}

struct Page {
    snapshot: Snapshot,
    used: Instant,
}

/// The states that clients may still ask pages of.
#[derive(Default)]
pub(crate) struct Pages(Mutex<VecDeque<Page>>);

impl Pages {
    /// Keeps a state for the next page.
    pub(crate) fn keep(&self, snapshot: &Snapshot, now: Instant) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = snapshot.revision();
        pages.retain(|p| now - p.used < LIFE && p.snapshot.revision() != revision);
        if pages.len() == MOST {
            pages.pop_front();
        }
        pages.push_back(Page { snapshot: snapshot.clone(), used: now });
    }

    /// The state of a revision, if it is still there.
    pub(crate) fn find(&self, revision: Revision, now: Instant) -> Option<Snapshot> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = pages.iter().find(|p| p.snapshot.revision() == revision)?;
        (now - page.used < LIFE).then(|| page.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_under_its_own_prefix_only() {
        let token = Token { revision: Some(7), after: "/registry/pods/a/b".into() };
        let text = token.encode();
        assert_eq!(Token::decode(&text, "/registry/pods/").unwrap(), token);
        assert!(Token::decode(&text, "/registry/secrets/").is_err());
        assert!(Token::decode("%%%", "/registry/pods/").is_err());
        assert!(Token::decode("", "/registry/pods/").is_err());
    }
}
