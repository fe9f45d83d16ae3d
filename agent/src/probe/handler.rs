//! Running a handler once: a command in the container, an HTTP request, a TCP connection, a pause.

use std::{net::IpAddr, path::Path, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::net::TcpStream;

use crate::{runtime::Containerd, streams::exec::capture};

/// Where a container is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) containerd: Containerd,
    /// containerd's id.
    pub(crate) id: String,
    /// The container's spec, for the names of ports.
    pub(crate) container: Container,
    /// The pod's address.
    pub(crate) address: IpAddr,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Handler {
    Exec(Vec<String>),
    Http(HTTPGetAction),
    Tcp { port: IntOrString, host: Option<String> },
    Sleep(Duration),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With the text that kubelet's events have.
    Failure(String),
}

impl Outcome {
    pub(crate) fn is_success(&self) -> bool {
        *self == Self::Success
    }
}

impl Handler {
    pub(crate) fn of_probe(probe: &Probe) -> Option<Self> {
        if let Some(exec) = &probe.exec {
            return Some(Self::Exec(exec.command.clone().unwrap_or_default()));
        }
        if let Some(http) = &probe.http_get {
            return Some(Self::Http(http.clone()));
        }
        if let Some(tcp) = &probe.tcp_socket {
            return Some(Self::Tcp { port: tcp.port.clone(), host: tcp.host.clone() });
        }
        // A health service answers on an open port; its own answer is not looked at.
        probe.grpc.as_ref().map(|grpc| Self::Tcp { port: IntOrString::Int(grpc.port), host: None })
    }

    pub(crate) fn of_hook(hook: &LifecycleHandler) -> Option<Self> {
        if let Some(exec) = &hook.exec {
            return Some(Self::Exec(exec.command.clone().unwrap_or_default()));
        }
        if let Some(http) = &hook.http_get {
            return Some(Self::Http(http.clone()));
        }
        let seconds = hook.sleep.as_ref()?.seconds;
        Some(Self::Sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    }
}

/// Runs a handler; taking longer than `limit` is a failure.
pub(crate) async fn run(handler: &Handler, place: &Place, io: &Path, limit: Duration) -> Outcome {
    let outcome = match handler {
        Handler::Exec(command) => exec(command, place, io, limit).await,
        Handler::Http(action) => within(limit, http(action, place)).await,
        Handler::Tcp { port, host } => within(limit, tcp(port, host.as_deref(), place)).await,
        Handler::Sleep(pause) => {
            tokio::time::sleep(*pause).await;
            Ok(())
        }
    };
    match outcome {
        Ok(()) => Outcome::Success,
        Err(text) => Outcome::Failure(text),
    }
}

async fn within(
    limit: Duration,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

async fn exec(command: &[String], place: &Place, io: &Path, limit: Duration) -> Result<(), String> {
    match capture(&place.containerd, &place.id, command, io, limit).await {
        Ok(Some(run)) if run.code == 0 => Ok(()),
        Ok(Some(run)) => {
            let text = String::from_utf8_lossy(&run.output).into_owned();
            Err(if text.is_empty() { format!("exit status {}", run.code) } else { text })
        }
        Ok(None) => {
            Err(format!("command timed out: {command:?} timed out after {}s", limit.as_secs()))
        }
        Err(error) => Err(crate::error_chain(&error)),
    }
}

/// A port by number or by its name in the container.
fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_deref() == Some(name));
            found.map(|port| port.container_port)
        }),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number != 0)
        .ok_or_else(|| format!("invalid port: {port:?}"))
}

async fn connect(
    port: &IntOrString,
    host: Option<&str>,
    place: &Place,
) -> Result<(TcpStream, String), String> {
    let number = port_number(port, &place.container)?;
    let host = host.filter(|host| !host.is_empty());
    let host = host.map_or_else(|| place.address.to_string(), str::to_owned);
    let address =
        if host.contains(':') { format!("[{host}]:{number}") } else { format!("{host}:{number}") };
    match TcpStream::connect(&address).await {
        Ok(stream) => Ok((stream, address)),
        Err(error) => {
            let why = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
                _ => error.to_string(),
            };
            Err(format!("dial tcp {address}: {why}"))
        }
    }
}

async fn tcp(port: &IntOrString, host: Option<&str>, place: &Place) -> Result<(), String> {
    connect(port, host, place).await.map(drop)
}

async fn http(action: &HTTPGetAction, place: &Place) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        // The certificate would not be checked anyway: an open port is what can be known.
        return tcp(&action.port, action.host.as_deref(), place).await;
    }
    let (stream, address) = connect(&action.port, action.host.as_deref(), place).await?;
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = format!("http://{address}{path}");
    let failed = |why: &dyn std::error::Error| format!("Get {url:?}: {}", crate::error_chain(why));
    let mut request = http::Request::get(&path);
    let mut host = address.clone();
    for header in action.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let request = request
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "kube-probe/1.36")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    // The connection's task ends with the connection, which `sender` and the answer hold.
    let connection = tokio::spawn(connection);
    let outcome = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let code = answer.status().as_u16();
        // A body that does not come to its end is no matter.
        let _ = answer.into_body().collect().await;
        if (200..400).contains(&code) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {code}"))
        }
    }
    .await;
    connection.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": 8080}],
        }))
        .unwrap();
        let port = |port| port_number(&port, &container);
        assert_eq!(port(IntOrString::Int(80)), Ok(80));
        assert_eq!(port(IntOrString::String("81".into())), Ok(81));
        assert_eq!(port(IntOrString::String("web".into())), Ok(8080));
        assert!(port(IntOrString::String("nope".into())).is_err());
        assert!(port(IntOrString::Int(70_000)).is_err());
    }
}
