//! The cluster's certificates: one authority, the leaves it signs, and the kubeconfig that carries them.
//!
//! Owns: the files `ca.crt` and `ca.key` of an [`Authority`], the shape of every certificate.
//! Inputs: a folder, names. Outputs: PEM texts and kubeconfig YAML.
//! Invariants: the private key of the authority is readable by its owner alone and never half
//! written; every certificate is valid since a few minutes before it was made, so that a machine
//! whose clock lags behind accepts it.
//! Deliberately not here: TLS connections (crate `apiserver`), what an identity may do (there too).

mod authority;
mod kubeconfig;

pub use authority::{Authority, Identity, PkiError, ServerIdentity};
pub use kubeconfig::kubeconfig;
