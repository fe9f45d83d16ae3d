//! Image names: from what people write to the full form under which containerd stores them.
//!
//! Upstream: `distribution/reference` `ParseDockerRef`. A first component is a host if it has a dot
//! or a colon or is `localhost`; else the name belongs to the default domain, and a name of one
//! component to its `library`.

use super::ImageError;

/// The domain of names without one, in its canonical form: part of every full name, so that
/// `nginx` means the same image here as everywhere.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Another spelling of [`DEFAULT_DOMAIN`] that means the same.
const DEFAULT_DOMAIN_ALIAS: &str = "index.docker.io";

/// The full name: domain, path, and a tag (`latest` if none) or digest.
///
/// # Errors
/// [`ImageError::InvalidName`] for what is no name.
pub(crate) fn normalize(name: &str) -> Result<String, ImageError> {
    let invalid = || ImageError::InvalidName { name: name.to_owned() };
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
        Some(_) => return Err(invalid()),
        None => (name, None),
    };
    let (domain, remainder) = split_domain(rest);
    let (path, tag) = match remainder.rsplit_once(':') {
        Some((path, tag)) if is_tag(tag) => (path, Some(tag)),
        Some(_) => return Err(invalid()),
        None => (remainder, None),
    };
    if path.is_empty() || !path.split('/').all(is_component) {
        return Err(invalid());
    }
    let library = if domain == DEFAULT_DOMAIN && !path.contains('/') { "library/" } else { "" };
    // A digest says more than a tag: with both, containerd keeps the digest.
    let suffix = match (digest, tag) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or("latest")),
    };
    Ok(format!("{domain}/{library}{path}{suffix}"))
}

fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((DEFAULT_DOMAIN_ALIAS, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_component(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(inside)
}

fn is_tag(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    text.len() <= 128 && text.starts_with(first) && text.chars().all(inside)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_full_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("nginx:1@{digest}");
        let full = format!("docker.io/library/nginx@{digest}");
        for (written, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("dalgudcks/http-go", "docker.io/dalgudcks/http-go:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("gcr.io/google-samples/node-hello:1.0", "gcr.io/google-samples/node-hello:1.0"),
            ("localhost/x", "localhost/x:latest"),
            ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
            (&pinned, &full),
        ] {
            assert_eq!(normalize(written).unwrap(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "Nginx", "nginx:", "a//b", "nginx@sha256:12", "x:y z", "-a"] {
            assert!(normalize(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_full_form_is_stable(name in "[a-z]{1,8}(/[a-z]{1,8}){0,2}(:[a-z0-9]{1,5})?") {
            let full = normalize(&name).unwrap();
            proptest::prop_assert_eq!(normalize(&full).unwrap(), full);
        }
    }
}
