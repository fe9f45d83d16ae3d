//! containerd, as the agent needs it: a thin typed client.
//!
//! Owns: the connection, the namespace and lease metadata of each call, containers, tasks and
//! processes. Input: ids and OCI specs. Output: facts (pids, exit codes) or [`RuntimeError`].
//! Invariants: every call carries one containerd namespace, the one this client was made for; a
//! snapshot is never without a lease or a container that refers to it. Deliberately not here:
//! images ([`crate::image`]), decisions (`pod/plan.rs`), retries.

mod containers;
mod tasks;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use containerd_client::services::v1::{
    CreateRequest, DeleteRequest, leases_client::LeasesClient, version_client::VersionClient,
};
use tonic::{Request, transport::Channel};

pub(crate) use containers::NewContainer;
pub(crate) use tasks::{ExecRequest, Exit, Stdio, TaskState};

/// The snapshotter of every container and image.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// Type names that containerd's type registry knows; they are bare, without a URL's scheme.
pub(crate) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
pub(crate) const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// A call to containerd that failed, with what it was about.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing answers on the socket.
    #[error(
        "cannot reach containerd on {}; start containerd, or give the path of its socket",
        socket.display()
    )]
    Connect {
        /// The socket that was tried.
        socket: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// containerd answered with an error.
    #[error("{op} {subject}")]
    Call {
        /// What was asked for, such as `start container`.
        op: &'static str,
        /// The id it was asked about.
        subject: String,
        /// containerd's answer.
        #[source]
        source: Box<tonic::Status>,
    },
    /// A spec could not be written as, or read from, JSON.
    #[error("encode the spec of {subject}")]
    Spec {
        /// The container.
        subject: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer without the part that it must have.
    #[error("containerd answered {op} {subject} without {missing}")]
    Incomplete {
        /// What was asked for.
        op: &'static str,
        /// The id it was asked about.
        subject: String,
        /// The part that is missing.
        missing: &'static str,
    },
}

impl RuntimeError {
    /// Whether containerd said that the thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(tonic::Code::NotFound)
    }

    /// Whether containerd said that the thing exists already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        self.code() == Some(tonic::Code::AlreadyExists)
    }

    /// Whether containerd itself is away, so that the same call may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Connect { .. })
            || matches!(
                self.code(),
                Some(tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown)
                    if self.is_transport()
            )
    }

    /// containerd's own words, for events and statuses that students read.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Call { source, .. } => source.message().to_owned(),
            other => crate::error_chain(other),
        }
    }

    fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Call { source, .. } => Some(source.code()),
            _ => None,
        }
    }

    /// An `Unknown` from the Go server is an answer, one from the transport has a source.
    fn is_transport(&self) -> bool {
        match self {
            Self::Call { source, .. } => {
                source.code() == tonic::Code::Unavailable
                    || std::error::Error::source(source.as_ref()).is_some()
            }
            _ => false,
        }
    }
}

/// Gives a failed call its name and subject.
pub(crate) fn call<'a>(
    op: &'static str,
    subject: &'a str,
) -> impl FnOnce(tonic::Status) -> RuntimeError + 'a {
    move |status| RuntimeError::Call { op, subject: subject.to_owned(), source: Box::new(status) }
}

/// A client bound to one containerd namespace, and perhaps to a lease. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Containerd {
    pub(crate) channel: Channel,
    namespace: String,
    lease: Option<String>,
}

impl Containerd {
    /// Connects to the socket.
    ///
    /// # Errors
    /// [`RuntimeError::Connect`] when nothing listens there.
    pub(crate) async fn connect(socket: &Path, namespace: &str) -> Result<Self, RuntimeError> {
        let channel = containerd_client::connect(socket)
            .await
            .map_err(|source| RuntimeError::Connect { socket: socket.to_owned(), source })?;
        Ok(Self { channel, namespace: namespace.to_owned(), lease: None })
    }

    /// A request with this client's namespace and lease.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Ok(namespace) = self.namespace.parse() {
            metadata.insert("containerd-namespace", namespace);
        }
        if let Some(lease) = self.lease.as_ref().and_then(|lease| lease.parse().ok()) {
            metadata.insert("containerd-lease", lease);
        }
        request
    }

    /// The version that containerd reports, without a leading `v`.
    pub(crate) async fn version(&self) -> Result<String, RuntimeError> {
        let answer = VersionClient::new(self.channel.clone())
            .version(self.request(()))
            .await
            .map_err(call("ask for the version of", "containerd"))?;
        Ok(answer.into_inner().version.trim_start_matches('v').to_owned())
    }

    /// Runs `work` under a lease, so that the garbage collector spares what it makes until
    /// something refers to it. The lease expires by itself should the agent die.
    pub(crate) async fn leased<T, E, F>(&self, name: &str, work: F) -> Result<T, E>
    where
        E: From<RuntimeError>,
        F: AsyncFnOnce(Self) -> Result<T, E>,
    {
        let expire = jiff::Timestamp::now() + Duration::from_secs(3600);
        let id = format!("minictl-{name}-{}", uuid_like());
        let mut leases = LeasesClient::new(self.channel.clone());
        leases
            .create(self.request(CreateRequest {
                id: id.clone(),
                labels: [("containerd.io/gc.expire".to_owned(), expire.to_string())].into(),
            }))
            .await
            .map_err(call("create lease", &id))?;
        let leased = Self { lease: Some(id.clone()), ..self.clone() };
        let outcome = work(leased).await;
        let removed = leases.delete(self.request(DeleteRequest { id: id.clone(), sync: false }));
        if let Err(status) = removed.await {
            tracing::warn!(lease = %id, error = %status, "a lease stays until it expires");
        }
        outcome
    }
}

/// 64 random bits in hexadecimal: enough to tell leases and exec processes apart.
pub(crate) fn uuid_like() -> String {
    format!("{:016x}", rand::random::<u64>())
}
