//! Ports by number or name, as Services, probes and containers use them.
//!
//! Upstream: `ValidatePortNumOrName` of `pkg/apis/core/validation/validation.go`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{FieldErrors, Path};
use crate::names;

/// The protocols of a port.
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Checks a port that is a number or the name of a container's port.
#[must_use]
pub fn validate_port(path: &Path, port: &IntOrString) -> FieldErrors {
    match port {
        IntOrString::Int(number) => path.invalid_for_each(number, names::port_number(*number)),
        IntOrString::String(name) => path.invalid_for_each(name, names::port_name(name)),
    }
}
