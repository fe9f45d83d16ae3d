//! Who asks: the identity in a client certificate (upstream: `CommonNameUserConversion`).
//!
//! Input: a certificate that TLS has already verified. Output: [`User`].
//! Deliberately not here: tokens, and what a user may do (module `authz`).

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authz::MASTERS;

/// The user that the controllers are.
const CONTROLLERS: &str = "system:controllers";

/// A user name and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The certificate's common name.
    pub name: String,
    /// The certificate's organizations.
    pub groups: Vec<String>,
}

impl User {
    /// An identity made by the process itself.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    /// The controllers, which are part of the control plane.
    #[must_use]
    pub fn controllers() -> Self {
        Self::new(CONTROLLERS, &[MASTERS])
    }

    /// Whether it is the controllers who ask.
    pub(crate) fn is_controllers(&self) -> bool {
        self.name == CONTROLLERS && self.is_in(MASTERS)
    }

    /// Whether the user is in a group.
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node this user is, if it is one (upstream: `nodeidentifier`).
    pub(crate) fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        (self.is_in("system:nodes") && !name.is_empty()).then_some(name)
    }
}

/// The user of a verified certificate; `None` if it names nobody.
pub(crate) fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups =
        subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    (!name.is_empty()).then(|| User { name: name.to_owned(), groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    fn user(common_name: &str, organizations: &[&str]) -> Option<User> {
        let dir = tempfile::tempdir().unwrap();
        let authority = pki::Authority::load_or_create(dir.path()).unwrap();
        let identity = authority.client(common_name, organizations).unwrap();
        user_of(&CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap())
    }

    #[test]
    fn name_and_groups_come_from_the_subject() {
        assert_eq!(
            user("admin", &["system:masters"]),
            Some(User::new("admin", &["system:masters"]))
        );
        assert_eq!(user("", &[]), None);
    }

    #[test]
    fn a_node_needs_both_the_name_and_the_group() {
        let node = |name: &str, group: &str| User::new(name, &[group]).node().map(str::to_owned);
        assert_eq!(node("system:node:a", "system:nodes"), Some("a".into()));
        assert_eq!(node("system:node:a", "other"), None);
        assert_eq!(node("system:node:", "system:nodes"), None);
        assert_eq!(node("a", "system:nodes"), None);
    }
}
