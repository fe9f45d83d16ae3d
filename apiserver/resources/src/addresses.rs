//! IP addresses and ranges as API fields, with upstream's explanations.
//!
//! Upstream: apimachinery `pkg/util/validation/ip.go`, `ValidateNonSpecialIP` of
//! `pkg/apis/core/validation/validation.go`.
//! Invariant: a value with leading zeros is refused: half the world reads `010` as eight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::field::{FieldErrors, Path};

/// Checks an IP address.
#[must_use]
pub fn validate_ip(path: &Path, value: &str) -> FieldErrors {
    let problem = match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            "must not be an IPv4-mapped IPv6 address"
        }
        Ok(_) => return Vec::new(),
        Err(_) if without_leading_zeros(value).parse::<Ipv4Addr>().is_ok() => {
            "must not have leading 0s"
        }
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![path.invalid(value, problem)]
}

/// Checks an IP address that must be written in its usual form, too.
#[must_use]
pub fn validate_canonical_ip(path: &Path, value: &str) -> FieldErrors {
    let errors = validate_ip(path, value);
    let usual = value.parse::<IpAddr>().map(|ip| ip.to_string());
    canonical(path, value, usual.ok(), errors)
}

/// Checks an IP range that must be written in its usual form, too.
#[must_use]
pub fn validate_canonical_cidr(path: &Path, value: &str) -> FieldErrors {
    let errors = validate_cidr(path, value);
    let usual = value.parse::<IpNet>().map(|net| net.to_string());
    canonical(path, value, usual.ok(), errors)
}

fn canonical(
    path: &Path,
    value: &str,
    usual: Option<String>,
    mut errors: FieldErrors,
) -> FieldErrors {
    if let Some(usual) = usual.filter(|usual| usual != value && errors.is_empty()) {
        errors.push(path.invalid(value, format!("must be in canonical form ({usual:?})")));
    }
    errors
}

/// Checks an IP range such as `10.0.0.0/8`.
#[must_use]
pub fn validate_cidr(path: &Path, value: &str) -> FieldErrors {
    let problem = match parse_cidr(value) {
        Some(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => {
            "must not have an IPv4-mapped IPv6 address"
        }
        Some(net) if net.addr() != net.network() => {
            "must not have bits set beyond the prefix length"
        }
        Some(_) => return Vec::new(),
        // ipnet itself reads padded numbers, so whatever it alone can read is padded.
        None if value.parse::<IpNet>().is_ok() => "must not have leading 0s in IP or prefix length",
        None => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    };
    vec![path.invalid(value, problem)]
}

/// Reads a range whose numbers have no leading zeros.
fn parse_cidr(value: &str) -> Option<IpNet> {
    let (address, length) = value.split_once('/')?;
    let padded = length.len() > 1 && length.starts_with('0');
    if padded || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// Refuses addresses that mean something else on every host: endpoints and external addresses
/// must be the same machine seen from everywhere.
#[must_use]
pub fn validate_non_special_ip(path: &Path, value: &str) -> FieldErrors {
    let Ok(ip) = value.parse::<IpAddr>() else {
        return vec![path.invalid(value, "must be a valid IP address")];
    };
    let mut problems = Vec::new();
    if ip.is_unspecified() {
        problems.push(format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        problems.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if is_link_local(ip) {
        problems.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if is_link_local_multicast(ip) {
        problems.push(
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        );
    }
    path.invalid_for_each(value, problems)
}

/// Refuses addresses that no single backend can have: besides those of [`validate_non_special_ip`],
/// which is all that upstream refuses, those of groups.
#[must_use]
pub fn validate_backend_ip(path: &Path, value: &str) -> FieldErrors {
    let mut errors = validate_non_special_ip(path, value);
    let Ok(ip) = value.parse::<IpAddr>() else { return errors };
    if ip.is_multicast() && errors.is_empty() {
        let detail = "may not be in the multicast range (224.0.0.0/4, ff00::/8)";
        errors.push(path.invalid(value, detail));
    }
    if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        errors.push(path.invalid(value, "may not be the broadcast address (255.255.255.255)"));
    }
    errors
}

/// Whether the text is an IPv6 address.
#[must_use]
pub fn is_ipv6(value: &str) -> bool {
    value.parse::<Ipv6Addr>().is_ok()
}

/// What a client is told about an address that is written unusually (upstream: `GetWarningsForIP`).
#[must_use]
pub fn ip_warning(path: &Path, value: &str) -> Option<String> {
    let usual = value.parse::<Ipv6Addr>().ok()?.to_string();
    let text = format!(
        "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format ({usual:?})"
    );
    (usual != value).then_some(text)
}

/// What a client is told about a range that is written unusually (upstream: `GetWarningsForCIDR`).
#[must_use]
pub fn cidr_warning(path: &Path, value: &str) -> Option<String> {
    let usual = value.parse::<Ipv6Net>().ok()?.to_string();
    let text = format!(
        "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({usual:?})"
    );
    (usual != value).then_some(text)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn without_leading_zeros(value: &str) -> String {
    let parts = value.split('.').map(|part| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0",
        trimmed => trimmed,
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{validate_backend_ip, validate_cidr, validate_ip, validate_non_special_ip};
    use crate::field::{FieldErrors, Path};

    fn details(errors: FieldErrors) -> Vec<String> {
        errors.into_iter().map(|e| e.detail).collect()
    }

    #[test]
    fn addresses() {
        let path = Path::new("ip");
        for (value, expected) in [
            ("10.0.0.1", None),
            ("fd00::1", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.0.0", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
            ("", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
        ] {
            let found = details(validate_ip(&path, value));
            assert_eq!(found.first().map(String::as_str), expected, "{value}");
        }
    }

    #[test]
    fn ranges() {
        let path = Path::new("cidr");
        for (value, expected) in [
            ("10.0.0.0/8", None),
            ("10.0.0.1/8", Some("must not have bits set beyond the prefix length")),
            ("010.0.0.0/8", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.0", Some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
        ] {
            let found = details(validate_cidr(&path, value));
            assert_eq!(found.first().map(String::as_str), expected, "{value}");
        }
    }

    #[test]
    fn special_addresses_are_refused() {
        let path = Path::new("ip");
        for value in
            ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.7", "::1", "fe80::1", "ff02::1"]
        {
            assert_eq!(validate_non_special_ip(&path, value).len(), 1, "{value}");
        }
        for value in ["11.11.11.11", "10.96.0.1", "fd00::1", "224.0.1.1"] {
            assert_eq!(validate_non_special_ip(&path, value), [], "{value}");
        }
        for value in ["224.0.0.7", "224.0.1.1", "ff02::1", "ff05::2", "255.255.255.255", "::"] {
            assert_eq!(validate_backend_ip(&path, value).len(), 1, "{value}");
        }
        for value in ["11.11.11.11", "fd00::1", "10.255.255.255"] {
            assert_eq!(validate_backend_ip(&path, value), [], "{value}");
        }
    }
}
