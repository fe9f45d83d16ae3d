//! Asking: by the API server, which knows the way to each node, or at the socket of one netd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::dataplane::dataplane_client::DataplaneClient;
use proto::dataplane::{
    DiffReply, DiffRequest, DumpReply, DumpRequest, StatusReply, StatusRequest,
};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use verbs::client::Client;
use verbs::{Error, Globals};

/// What ten thousand Services with all their endpoints take is a tenth of this.
const LARGEST_ANSWER: usize = 128 * 1024 * 1024;
const NODES: &str = "/api/v1/nodes";

/// The way to those who are asked, in one language of netd's.
pub(crate) enum Way<C> {
    /// By the API server, to these nodes.
    Api { client: Arc<Client>, nodes: Vec<String> },
    /// To one netd on this machine.
    Socket(C),
}

/// The way for questions about what is programmed.
pub(super) type Source = Way<DataplaneClient<Channel>>;

/// One of the languages that netd speaks at its socket.
pub(crate) trait Language {
    /// Speaks it by this channel.
    fn by(channel: Channel) -> Self;
}

impl Language for DataplaneClient<Channel> {
    fn by(channel: Channel) -> Self {
        Self::new(channel).max_decoding_message_size(LARGEST_ANSWER)
    }
}

impl<C: Language> Way<C> {
    /// The API server, about one node or all of them.
    pub(crate) async fn api(
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
    pub(crate) async fn socket(path: &Path) -> Result<Self, Error> {
        Ok(Self::Socket(C::by(netd_at(path).await?)))
    }

    /// The namespace of a name without one.
    pub(crate) fn namespace(&self) -> String {
        match self {
            Self::Api { client, .. } => client.namespace(),
            Self::Socket(_) => "default".to_owned(),
        }
    }
}

/// What was answered, and what was not.
pub(super) struct Answers<T> {
    pub(super) told: Vec<T>,
    /// Why nodes gave no answer.
    pub(super) silent: Vec<Error>,
}

impl Source {
    pub(super) async fn status(&mut self) -> Result<Answers<StatusReply>, Error> {
        match self {
            Self::Api { client, nodes } => Ok(each(client, nodes, "status", &[]).await),
            Self::Socket(netd) => one(netd.status(StatusRequest {}).await),
        }
    }

    pub(super) async fn dump(
        &mut self,
        namespace: &str,
        service: &str,
    ) -> Result<Answers<DumpReply>, Error> {
        match self {
            Self::Api { client, nodes } => {
                let query = [("namespace", namespace), ("service", service)];
                Ok(each(client, nodes, "dump", &query).await)
            }
            Self::Socket(netd) => {
                let (namespace, service) = (namespace.to_owned(), service.to_owned());
                one(netd.dump(DumpRequest { namespace, service }).await)
            }
        }
    }

    pub(super) async fn diff(&mut self) -> Result<Answers<DiffReply>, Error> {
        match self {
            Self::Api { client, nodes } => Ok(each(client, nodes, "diff", &[]).await),
            Self::Socket(netd) => one(netd.diff(DiffRequest {}).await),
        }
    }
}

/// The way to a netd on this machine.
pub(crate) async fn netd_at(path: &Path) -> Result<Channel, Error> {
    let to = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let to = to.clone();
        async move { UnixStream::connect(to).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://netd").connect_with_connector(connector).await;
    channel.map_err(|error| {
        let cause = causes(&error);
        Error::Refused(format!("no netd answers at {}: {cause}", path.display()))
    })
}

/// The names of all nodes.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<String>, Error> {
    let list = client.get(NODES, &[]).await?;
    let items = list.get("items").and_then(serde_json::Value::as_array);
    let names = items.into_iter().flatten().filter_map(|node| {
        node.pointer("/metadata/name").and_then(serde_json::Value::as_str).map(str::to_owned)
    });
    Ok(names.collect())
}

/// Asks all nodes at the same time.
async fn each<T: DeserializeOwned>(
    client: &Client,
    nodes: &[String],
    question: &str,
    query: &[(&str, &str)],
) -> Answers<T> {
    let asked = nodes.iter().map(|node| async move {
        let path = proto::dataplane_path(node, question);
        let answer = client.get(&path, query).await?;
        serde_json::from_value(answer)
            .map_err(|error| Error::BadAnswer { what: path, detail: error.to_string() })
    });
    let mut answers = Answers { told: Vec::new(), silent: Vec::new() };
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(told) => answers.told.push(told),
            Err(error) => answers.silent.push(error),
        }
    }
    answers
}

fn one<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<Answers<T>, Error> {
    match answer {
        Ok(told) => Ok(Answers { told: vec![told.into_inner()], silent: Vec::new() }),
        Err(status) => Err(Error::Refused(status.message().to_owned())),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
