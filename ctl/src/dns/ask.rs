//! Asking: by the API server, which knows the way to each node, or at the socket of one netd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;
use proto::dns::dns_client::DnsClient;
use proto::dns::{LogEntry, LogRequest, TraceReply, TraceRequest};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use verbs::client::Client;
use verbs::{Error, Globals};

use crate::dataplane::{netd_at, nodes};

/// Entries that wait to be printed.
const WAITING: usize = 256;

/// Who is asked.
pub(super) enum Source {
    Api { client: Arc<Client>, nodes: Vec<String> },
    Socket(DnsClient<Channel>),
}

/// An entry, or why a node tells none.
pub(super) type Told = Result<LogEntry, Error>;

impl Source {
    /// The API server, about one node or all of them.
    pub(super) async fn api(
        globals: &Globals,
        lab: Option<PathBuf>,
        node: Option<&str>,
    ) -> Result<Self, Error> {
        let client = Arc::new(Client::connect(globals, lab).await?);
        let nodes = match node {
            Some(node) => vec![node.to_owned()],
            None => nodes(&client).await?,
        };
        Ok(Self::Api { client, nodes })
    }

    /// A netd on this machine.
    pub(super) async fn socket(path: &Path) -> Result<Self, Error> {
        Ok(Self::Socket(DnsClient::new(netd_at(path).await?)))
    }

    /// The namespace of a name without one.
    pub(super) fn namespace(&self, globals: &Globals) -> String {
        match self {
            Self::Api { client, .. } => client.namespace(),
            Self::Socket(_) => globals.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        }
    }

    /// What all that are asked tell, mixed as it comes.
    pub(super) fn log(self, request: LogRequest) -> mpsc::Receiver<Told> {
        let (send, receive) = mpsc::channel(WAITING);
        match self {
            Self::Api { client, nodes } => {
                for node in nodes {
                    let (client, request, send) = (client.clone(), request.clone(), send.clone());
                    tokio::spawn(async move {
                        if let Err(error) = of_node(&client, &node, &request, &send).await {
                            // Whoever reads may have gone.
                            let _ = send.send(Err(error)).await;
                        }
                    });
                }
            }
            Self::Socket(netd) => {
                tokio::spawn(of_socket(netd, request, send));
            }
        }
        receive
    }

    /// What a pod would get.
    pub(super) async fn trace(&mut self, request: TraceRequest) -> Result<TraceReply, Error> {
        match self {
            Self::Socket(netd) => match netd.trace(request).await {
                Ok(reply) => Ok(reply.into_inner()),
                Err(status) => Err(Error::Refused(status.message().to_owned())),
            },
            Self::Api { client, .. } => {
                let TraceRequest { name, r#type: kind, namespace, pod } = request;
                let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
                let object = client.get(&path, &[]).await?;
                let node = object.pointer("/spec/nodeName").and_then(Value::as_str);
                let node = node.ok_or_else(|| {
                    Error::Refused(format!("pod {namespace}/{pod} is on no node yet"))
                })?;
                let query =
                    [("name", &*name), ("type", &kind), ("namespace", &namespace), ("pod", &pod)];
                let path = proto::dns_path(node, "trace");
                let answer = client.get(&path, &query).await?;
                serde_json::from_value(answer)
                    .map_err(|error| Error::BadAnswer { what: path, detail: error.to_string() })
            }
        }
    }
}

async fn of_node(
    client: &Client,
    node: &str,
    request: &LogRequest,
    send: &mpsc::Sender<Told>,
) -> Result<(), Error> {
    let path = proto::dns_path(node, "log");
    let flag = |flag: bool| if flag { "true" } else { "false" };
    let tail = request.tail.to_string();
    let query = [
        ("namespace", &*request.namespace),
        ("pod", &request.pod),
        ("follow", flag(request.follow)),
        ("onlyNew", flag(request.only_new)),
        ("tail", &tail),
    ];
    let mut lines = client.lines(&path, &query).await?;
    while let Some(line) = lines.next().await? {
        let entry = serde_json::from_slice(&line)
            .map_err(|e| Error::BadAnswer { what: path.clone(), detail: e.to_string() })?;
        if send.send(Ok(entry)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn of_socket(mut netd: DnsClient<Channel>, request: LogRequest, send: mpsc::Sender<Told>) {
    let refused = |status: tonic::Status| Err(Error::Refused(status.message().to_owned()));
    let mut entries = match netd.log(request).await {
        Ok(entries) => entries.into_inner(),
        // Whoever reads may have gone.
        Err(status) => return drop(send.send(refused(status)).await),
    };
    while let Some(entry) = entries.next().await {
        if send.send(entry.or_else(refused)).await.is_err() {
            return;
        }
    }
}
