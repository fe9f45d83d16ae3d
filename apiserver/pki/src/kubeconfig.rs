//! Kubeconfig files as every Kubernetes client reads them (upstream: client-go
//! `tools/clientcmd/api/v1/types.go`).
//!
//! Inputs: where the server is and who connects. Output: YAML text.
//! Deliberately not here: writing the file, merging it into another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Identity;

/// A kubeconfig with one cluster, one user and one context, which is current.
///
/// `tls_server_name` is the name to expect in the server's certificate when `server_url` holds
/// another one.
#[must_use]
pub fn kubeconfig(
    cluster: &str,
    server_url: &str,
    tls_server_name: Option<&str>,
    ca_pem: &str,
    user: &str,
    identity: &Identity,
) -> String {
    let context = format!("{user}@{cluster}");
    let server_name = tls_server_name
        .map(|name| format!("    tls-server-name: {}\n", quoted(name)))
        .unwrap_or_default();
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
{server_name}    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {user}
current-context: {context}
preferences: {{}}
",
        cluster = quoted(cluster),
        server = quoted(server_url),
        ca = STANDARD.encode(ca_pem),
        user = quoted(user),
        cert = STANDARD.encode(&identity.cert_pem),
        key = STANDARD.encode(&identity.key_pem),
        context = quoted(&context),
    )
}

/// A YAML double-quoted scalar: a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_yaml_with_the_certificates() {
        let identity = Identity { cert_pem: "CERT".into(), key_pem: "KEY".into() };
        let text = kubeconfig(
            "lab: \"one\"",
            "https://127.0.0.1:6443",
            Some("kubernetes"),
            "CA",
            "admin",
            &identity,
        );
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let cluster = &value["clusters"][0];
        assert_eq!(cluster["name"], "lab: \"one\"");
        assert_eq!(cluster["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(cluster["cluster"]["tls-server-name"], "kubernetes");
        assert_eq!(cluster["cluster"]["certificate-authority-data"], STANDARD.encode("CA"));
        let user = &value["users"][0];
        assert_eq!(user["user"]["client-certificate-data"], STANDARD.encode("CERT"));
        assert_eq!(user["user"]["client-key-data"], STANDARD.encode("KEY"));
        assert_eq!(value["current-context"], value["contexts"][0]["name"]);
        assert_eq!(value["contexts"][0]["context"]["user"], user["name"]);
    }

    #[test]
    fn without_a_server_name_none_is_written() {
        let identity = Identity { cert_pem: String::new(), key_pem: String::new() };
        let text = kubeconfig("lab", "https://h:1", None, "", "admin", &identity);
        assert!(!text.contains("tls-server-name"), "{text}");
    }
}
