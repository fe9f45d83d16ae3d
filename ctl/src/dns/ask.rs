//! Asking name servers, and putting in order what several of them tell.
//!
//! Each node tells what it remembers and then a mark; what comes before the marks is put in order,
//! what comes after is told as it comes. Who is asked, and how, is `dataplane::ask`'s.

use std::time::Duration;

use futures::StreamExt as _;
use proto::dns::dns_client::DnsClient;
use proto::dns::{LogEntry, LogRequest, TraceReply, TraceRequest};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use verbs::Error;
use verbs::client::Client;

use crate::dataplane::{Language, Way};

/// Entries that wait to be printed.
const WAITING: usize = 256;
/// How long a node may take to tell what it remembers, before the others' is printed without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is asked.
pub(super) type Source = Way<DnsClient<Channel>>;

impl Language for DnsClient<Channel> {
    fn by(channel: Channel) -> Self {
        Self::new(channel)
    }
}

/// An entry or a mark, or why a node tells none.
type Told = Result<LogEntry, Error>;

/// What name servers tell.
pub(super) struct Log {
    entries: mpsc::Receiver<Told>,
    /// Those that have not told all that they remember.
    waiting_for: usize,
    /// The latest lines to begin with, so many of all nodes together; none: all.
    tail: usize,
    /// See [`PATIENCE`].
    patience: Duration,
}

impl Log {
    /// What all of them remember, in order; and why some don't tell. What is not there in time comes
    /// as news.
    pub(super) async fn remembered(&mut self) -> (Vec<LogEntry>, Vec<Error>) {
        let (mut entries, mut silent) = (Vec::new(), Vec::new());
        let all = async {
            while self.waiting_for > 0 {
                match self.entries.recv().await {
                    None => break,
                    Some(Ok(entry)) if entry.mark => self.waiting_for -= 1,
                    Some(Ok(entry)) => entries.push(entry),
                    Some(Err(error)) => {
                        self.waiting_for -= 1;
                        silent.push(error);
                    }
                }
            }
        };
        // Whoever is late is told late.
        let _ = tokio::time::timeout(self.patience, all).await;
        (in_order(entries, self.tail), silent)
    }

    /// What comes after that; nothing when there will be nothing more.
    pub(super) async fn news(&mut self) -> Option<Told> {
        loop {
            match self.entries.recv().await? {
                Ok(entry) if entry.mark => {}
                told => return Some(told),
            }
        }
    }
}

/// The latest entries in order of time; no `tail`: all of them.
fn in_order(mut entries: Vec<LogEntry>, tail: usize) -> Vec<LogEntry> {
    // Times of one length and one zone are in order as texts are.
    entries.sort_by(|one, other| one.time.cmp(&other.time));
    if tail > 0 {
        entries.drain(..entries.len().saturating_sub(tail));
    }
    entries
}

impl Source {
    /// What all that are asked tell.
    pub(super) fn log(self, request: LogRequest) -> Log {
        let (send, entries) = mpsc::channel(WAITING);
        let tail = usize::try_from(request.tail).unwrap_or(usize::MAX);
        let request = LogRequest { marked: true, ..request };
        let waiting_for = match self {
            Self::Api { client, nodes } => {
                let count = nodes.len();
                for node in nodes {
                    let (client, request, send) = (client.clone(), request.clone(), send.clone());
                    tokio::spawn(async move {
                        if let Err(error) = of_node(&client, &node, &request, &send).await {
                            // Whoever reads may have gone.
                            let _ = send.send(Err(error)).await;
                        }
                    });
                }
                count
            }
            Self::Socket(netd) => {
                tokio::spawn(of_socket(netd, request, send));
                1
            }
        };
        Log { entries, waiting_for, tail, patience: PATIENCE }
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
        ("marked", flag(request.marked)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: &str, time: &str) -> LogEntry {
        let time = format!("2026-01-01T00:00:{time}Z");
        LogEntry { node: node.to_owned(), time, ..Default::default() }
    }

    fn mark() -> LogEntry {
        LogEntry { mark: true, ..Default::default() }
    }

    fn log(waiting_for: usize, tail: usize) -> (mpsc::Sender<Told>, Log) {
        let (send, entries) = mpsc::channel(WAITING);
        (send, Log { entries, waiting_for, tail, patience: Duration::from_millis(50) })
    }

    fn seconds(entries: &[LogEntry]) -> Vec<&str> {
        entries.iter().map(|entry| &entry.time[17..19]).collect()
    }

    #[tokio::test]
    async fn the_latest_lines_of_all_nodes_come_in_order_and_then_the_news() {
        let (send, mut log) = log(2, 3);
        let told = [entry("a", "01.000"), entry("a", "05.000"), mark(), entry("a", "09.000")];
        let others = [entry("b", "02.000"), entry("b", "03.000"), entry("b", "04.000"), mark()];
        for entry in told.into_iter().chain(others).chain([entry("b", "10.000")]) {
            send.send(Ok(entry)).await.unwrap();
        }
        drop(send);
        let (remembered, silent) = log.remembered().await;
        // Node a's news came before node b had told all: they are the latest.
        assert_eq!((seconds(&remembered), silent.len()), (vec!["04", "05", "09"], 0));
        assert_eq!(seconds(&[log.news().await.unwrap().unwrap()]), ["10"]);
        assert!(log.news().await.is_none());
    }

    #[tokio::test]
    async fn a_node_that_tells_nothing_keeps_nobody_waiting() {
        let (send, mut log) = log(3, 0);
        send.send(Ok(entry("a", "01.000"))).await.unwrap();
        send.send(Ok(mark())).await.unwrap();
        send.send(Err(Error::Refused("node b is not connected".to_owned()))).await.unwrap();
        let (remembered, silent) = log.remembered().await;
        assert_eq!((seconds(&remembered), silent.len()), (vec!["01"], 1));
        // It is only slow: what it remembers comes later, its mark is no line.
        send.send(Ok(entry("c", "00.000"))).await.unwrap();
        send.send(Ok(mark())).await.unwrap();
        send.send(Ok(entry("c", "11.000"))).await.unwrap();
        assert_eq!(seconds(&[log.news().await.unwrap().unwrap()]), ["00"]);
        assert_eq!(seconds(&[log.news().await.unwrap().unwrap()]), ["11"]);
    }
}
