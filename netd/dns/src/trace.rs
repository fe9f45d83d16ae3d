//! A Pod that looks for a name, played through: each question it asks, and who knows the answer.
//!
//! What a Pod's C library does with its `/etc/resolv.conf` is done here in its place, by the same
//! resolver that answers it. The names it tries are a pure function ([`names`]), and so are the
//! sentences that say what happened.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use crate::message::Wishes;
use crate::pods::{Pod, ResolvConf};
use crate::resolve::{Asked, Found, Resolver};

mod explain;

pub(crate) use explain::explain;

/// Why there is nothing to play through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("pod {namespace}/{name} is not known here, or has no address yet")]
    UnknownPod { namespace: String, name: String },
    #[error("{0:?} is not a name")]
    BadName(String),
    #[error("{0:?} is not a kind of records")]
    BadKind(String),
}

/// A Pod's search for a name.
pub(crate) struct Trace {
    pub(crate) pod: Arc<Pod>,
    pub(crate) client: IpAddr,
    pub(crate) config: ResolvConf,
    /// The name as it was typed.
    pub(crate) typed: String,
    pub(crate) kind: RecordType,
    /// Questions, and how they were answered.
    pub(crate) attempts: Vec<Attempt>,
}

/// One question of the Pod.
pub(crate) struct Attempt {
    pub(crate) name: Name,
    pub(crate) found: Found,
    pub(crate) micros: u64,
}

impl Trace {
    /// The attempt that ended the search with records, or the last one.
    pub(crate) fn end(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}

/// Plays a search through.
pub(crate) async fn trace(
    resolver: &Arc<Resolver>,
    namespace: &str,
    name: &str,
    typed: &str,
    kind: &str,
) -> Result<Trace, TraceError> {
    let kind = match kind {
        "" => RecordType::A,
        kind => {
            let upper = kind.to_ascii_uppercase();
            upper.parse().map_err(|_| TraceError::BadKind(kind.to_owned()))?
        }
    };
    let no_pod =
        || TraceError::UnknownPod { namespace: namespace.to_owned(), name: name.to_owned() };
    let pod = resolver.book.read().pods().named(namespace, name).cloned().ok_or_else(no_pod)?;
    let client = *pod.ips.first().ok_or_else(no_pod)?;
    let config = resolver.surroundings().resolv_conf(&pod.namespace, pod.config.as_deref());
    let names = names(typed, &config).ok_or_else(|| TraceError::BadName(typed.to_owned()))?;
    let typed = typed.to_owned();
    let mut trace = Trace { pod, client, config, typed, kind, attempts: Vec::new() };
    if !trace.config.asks_here {
        return Ok(trace);
    }
    for name in names {
        let began = Instant::now();
        let asked = Asked { name: &name, kind, wishes: Wishes::default(), client };
        let found = resolver.resolve(asked).await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let done = found.reply.code == ResponseCode::NoError && !found.reply.answers.is_empty();
        trace.attempts.push(Attempt { name, found, micros });
        if done {
            break;
        }
    }
    Ok(trace)
}

/// The names that a C library tries, in this order (upstream: glibc's `res_search`): as it is first
/// if it has dots enough, and else last; one that ends in a dot is tried only as it is.
pub(crate) fn names(typed: &str, config: &ResolvConf) -> Option<Vec<Name>> {
    let mut name = Name::from_ascii(typed).ok().filter(|_| !typed.is_empty())?;
    let is_whole = typed.ends_with('.');
    let dots = typed.matches('.').count();
    let relative = {
        let mut relative = name.clone();
        relative.set_fqdn(false);
        relative
    };
    name.set_fqdn(true);
    if is_whole {
        return Some(vec![name]);
    }
    let domains = config.searches.iter().filter_map(|domain| {
        let mut domain = Name::from_ascii(domain).ok()?;
        domain.set_fqdn(true);
        relative.clone().append_domain(&domain).ok()
    });
    let mut names: Vec<Name> = domains.collect();
    let at = if dots >= config.ndots { 0 } else { names.len() };
    names.insert(at, name);
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(typed: &str, ndots: usize) -> Vec<String> {
        let searches = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        let searches = searches.map(str::to_owned).to_vec();
        let config = ResolvConf { asks_here: true, searches, ndots };
        names(typed, &config).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_with_few_dots_are_completed_first() {
        assert_eq!(
            tried("web", 5),
            ["web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web."]
        );
        assert_eq!(tried("www.example.com", 5).last().unwrap(), "www.example.com.");
        assert_eq!(tried("www.example.com", 2)[0], "www.example.com.");
        assert_eq!(tried("www.example.com.", 5), ["www.example.com."]);
    }

    #[test]
    fn what_is_no_name_is_not_tried() {
        let config = ResolvConf::default();
        assert!(names("", &config).is_none());
        assert!(names("a..b", &config).is_none());
        assert!(names(&"a".repeat(64), &config).is_none());
    }
}
