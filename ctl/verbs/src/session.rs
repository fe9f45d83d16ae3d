//! The connection to the API server: which kubeconfig, which namespace, one request at a time.
//!
//! Owns: [`Globals`], [`Session`] and the request types. Inputs: flags, `KUBECONFIG`, the running
//! lab's kubeconfig. Outputs: JSON values or [`Error`]s. Invariant: only the server of the chosen
//! kubeconfig (or of `--server`) is ever contacted. The server's `Warning` headers are handed on
//! with the reply. Deliberately not here: what the requests mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::error::{Error, Status};

/// Flags that every verb takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Globals {
    /// Path to the kubeconfig file to use for requests
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    pub user: Option<String>,
    /// The namespace scope of this request
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(short, long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// How long to wait before giving up on a single request, e.g. 1s, 2m; 0 waits for ever
    #[arg(long, global = true, value_name = "DURATION", default_value = "0")]
    pub request_timeout: String,
    /// Accepted as kubectl does; nothing is cached
    #[arg(long, global = true, hide = true)]
    pub cache_dir: Option<PathBuf>,
}

/// The kubeconfig as chosen, before any connection is made.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) kubeconfig: Option<Kubeconfig>,
    pub(crate) path: Option<PathBuf>,
    options: KubeConfigOptions,
    server: Option<String>,
    timeout: Option<Duration>,
    /// `--namespace`, if given.
    pub(crate) explicit_namespace: Option<String>,
}

impl Settings {
    /// Finds and reads the kubeconfig: flag, then `KUBECONFIG`, then the running lab's, then
    /// `~/.kube/config`. None of them is needed by verbs that never ask the server.
    pub(crate) fn load(globals: &Globals, lab: Option<PathBuf>) -> Result<Self, Error> {
        let read = |path: PathBuf| match Kubeconfig::read_from(&path) {
            Ok(config) => Ok((Some(config), Some(path))),
            Err(source) => Err(Error::kubeconfig(path, source)),
        };
        let home = std::env::var_os("HOME").map(|h| Path::new(&h).join(".kube/config"));
        let (kubeconfig, path) = if let Some(path) = &globals.kubeconfig {
            read(path.clone())?
        } else if let Some(list) = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
            let path = PathBuf::from(list);
            match Kubeconfig::from_env() {
                Ok(config) => (config, Some(path)),
                Err(source) => return Err(Error::kubeconfig(path, source)),
            }
        } else if let Some(path) = lab {
            read(path)?
        } else if let Some(path) = home.filter(|p| p.is_file()) {
            read(path)?
        } else {
            (None, None)
        };
        let timeout = crate::duration::parse_timeout(&globals.request_timeout)?;
        Ok(Settings {
            kubeconfig,
            path,
            options: KubeConfigOptions {
                context: globals.context.clone(),
                cluster: globals.cluster.clone(),
                user: globals.user.clone(),
            },
            server: globals.server.clone(),
            timeout,
            explicit_namespace: globals.namespace.clone(),
        })
    }

    /// The namespace of the request: flag, then the context's, then `default`.
    pub(crate) fn namespace(&self) -> String {
        let from_context = || {
            let config = self.kubeconfig.as_ref()?;
            let name = self.options.context.as_ref().or(config.current_context.as_ref())?;
            let named = config.contexts.iter().find(|c| &c.name == name)?;
            named.context.as_ref()?.namespace.clone().filter(|n| !n.is_empty())
        };
        self.explicit_namespace
            .clone()
            .filter(|n| !n.is_empty())
            .or_else(from_context)
            .unwrap_or_else(|| "default".to_owned())
    }

    /// Builds the client. No request is sent yet.
    pub(crate) async fn connect(&self) -> Result<Session, Error> {
        // A second installation fails and changes nothing: the first caller's choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = match (&self.kubeconfig, &self.server) {
            (Some(k), _) => Config::from_custom_kubeconfig(k.clone(), &self.options)
                .await
                .map_err(|e| Error::kubeconfig(self.path.clone().unwrap_or_default(), e))?,
            (None, Some(url)) => Config::new(parse_server(url)?),
            (None, None) => return Err(Error::NoCluster),
        };
        if let Some(url) = &self.server {
            config.cluster_url = parse_server(url)?;
        }
        // A watch, a log or a shell may be silent for hours.
        config.read_timeout = None;
        config.write_timeout = None;
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = kube::Client::try_from(config)
            .map_err(|source| Error::Client { server: server.clone(), source: Box::new(source) })?;
        Ok(Session { client, server, timeout: self.timeout })
    }
}

fn parse_server(url: &str) -> Result<http::Uri, Error> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    url.parse().map_err(|e| Error::refused(format!("invalid server address {url:?}: {e}")))
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    accept: &'static str,
    body: Option<(&'static str, Vec<u8>)>,
}

/// Media types of patches.
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
/// Strategic merge patch.
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
/// RFC 6902.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
/// The `Accept` header of human-readable output, as kubectl sends it.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
    application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Call {
            method,
            path: path.into(),
            query: Vec::new(),
            accept: "application/json",
            body: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path).body("application/json", body)
    }

    pub(crate) fn put(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PUT, path).body("application/json", body)
    }

    pub(crate) fn patch(path: impl Into<String>, kind: &'static str, body: &Value) -> Self {
        Self::new(Method::PATCH, path).body(kind, body)
    }

    pub(crate) fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self::new(Method::DELETE, path).body("application/json", options)
    }

    fn body(mut self, content_type: &'static str, body: &Value) -> Self {
        self.body = Some((content_type, body.to_string().into_bytes()));
        self
    }

    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    /// Adds a query parameter, unless its value is empty.
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.query.push((name.to_owned(), value));
        }
        self
    }

    fn path_and_query(&self) -> String {
        let mut url = self.path.clone();
        for (i, (name, value)) in self.query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&encode(name));
            url.push('=');
            url.push_str(&encode(value));
        }
        url
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A successful answer.
pub(crate) struct Reply {
    pub(crate) body: Bytes,
    pub(crate) warnings: Vec<String>,
}

/// A connection to one API server.
pub(crate) struct Session {
    pub(crate) client: kube::Client,
    /// The server's URL without a final slash.
    pub(crate) server: String,
    timeout: Option<Duration>,
}

impl Session {
    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Reply, Error> {
        let exchange = async {
            let response = self.start(call).await?;
            let warnings = warnings(response.headers());
            let body = response.into_body().collect().await;
            let body = body.map_err(|e| self.unreachable(call, e))?.to_bytes();
            Ok(Reply { body, warnings })
        };
        match self.timeout {
            None => exchange.await,
            Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
                Err(Error::Plain(
                    "Unable to connect to the server: net/http: request canceled while waiting \
                     for connection (Client.Timeout exceeded while awaiting headers)"
                        .to_owned(),
                ))
            }),
        }
    }

    /// Sends a request; the caller reads the body as it comes (watch, logs).
    pub(crate) async fn start(&self, call: &Call) -> Result<Response<Body>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path_and_query())
            .header(http::header::ACCEPT, call.accept);
        let body = match &call.body {
            Some((kind, bytes)) => {
                request = request.header(http::header::CONTENT_TYPE, *kind);
                Body::from(bytes.clone())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|e| Error::BadAnswer {
            what: call.path.clone(),
            detail: format!("not a valid request: {e}"),
        })?;
        let response = self.client.send(request).await.map_err(|e| self.unreachable(call, e))?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(|e| self.unreachable(call, e))?.to_bytes();
        Err(Error::Server(Box::new(Status::from_body(code.as_u16(), &body))))
    }

    fn unreachable(&self, call: &Call, source: kube::Error) -> Error {
        Error::Unreachable {
            method: call.method.to_string(),
            url: format!("{}{}", self.server, call.path),
            host: self.host().to_owned(),
            source: Box::new(source),
        }
    }

    /// `host:port` of the server.
    pub(crate) fn host(&self) -> &str {
        let rest = self.server.split_once("://").map_or(self.server.as_str(), |(_, r)| r);
        rest.split('/').next().unwrap_or(rest)
    }
}

/// The texts of `Warning: 299 - "…"` headers (RFC 7234 §5.5; upstream `net/http.go`).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let header = |value: &http::HeaderValue| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        let quoted = value.splitn(3, ' ').nth(2)?;
        let inner = quoted.strip_prefix('"')?;
        let mut text = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return Some(text),
                '\\' => text.extend(chars.next()),
                c => text.push(c),
            }
        }
        None
    };
    headers.get_all(http::header::WARNING).iter().filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped_and_empty_values_are_left_out() {
        let call = Call::get("/api/v1/pods")
            .query("labelSelector", "app in (a, b)")
            .query("fieldSelector", "");
        assert_eq!(call.path_and_query(), "/api/v1/pods?labelSelector=app%20in%20%28a%2C%20b%29");
    }

    #[test]
    fn warning_headers_are_unquoted() {
        let mut headers = HeaderMap::new();
        let text = r#"299 - "v1 \"Endpoints\" is deprecated""#;
        headers.append("warning", text.parse().unwrap());
        headers.append("warning", "nonsense".parse().unwrap());
        assert_eq!(warnings(&headers), ["v1 \"Endpoints\" is deprecated"]);
    }

    #[test]
    fn without_a_kubeconfig_the_namespace_is_default_and_connecting_says_what_to_do() {
        let settings = Settings {
            kubeconfig: None,
            path: None,
            options: KubeConfigOptions::default(),
            server: None,
            timeout: None,
            explicit_namespace: None,
        };
        assert_eq!(settings.namespace(), "default");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let Err(e) = runtime.block_on(settings.connect()) else { panic!("connected to nothing") };
        assert!(e.report().starts_with("error: no cluster found: start one with"));
    }
}
