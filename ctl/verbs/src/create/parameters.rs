//! The flags of `create`'s subcommands.

use clap::Args;

use super::{Generator, TlsSecret, generate};
use crate::error::Error;
use serde_json::Value;

/// Flags of `create deployment`.
#[derive(Args, Clone, Debug)]
pub struct Deployment {
    /// Name of the deployment
    pub name: String,
    /// Image names to run
    #[arg(long, required = true, value_delimiter = ',')]
    pub image: Vec<String>,
    /// Number of replicas to create
    #[arg(short, long, default_value_t = 1)]
    pub replicas: i32,
    /// The containerPort that this deployment exposes
    #[arg(long)]
    pub port: Option<u16>,
    /// Command of the container, after --
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Deployment {
    pub(super) fn object(&self) -> Result<Value, Error> {
        generate::deployment(self)
    }
}

/// `create service KIND`.
#[derive(Args, Clone, Debug)]
pub struct Service {
    #[command(subcommand)]
    pub(crate) kind: ServiceKind,
}

/// Kinds of services.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum ServiceKind {
    /// Create a ClusterIP service
    #[command(name = "clusterip")]
    ClusterIp(Generator<NamedPorts>),
    /// Create a NodePort service
    #[command(name = "nodeport")]
    NodePort(Generator<NamedPorts>),
    /// Create a LoadBalancer service
    #[command(name = "loadbalancer")]
    LoadBalancer(Generator<NamedPorts>),
    /// Create an ExternalName service
    #[command(name = "externalname")]
    ExternalName(Generator<ExternalName>),
}

/// Flags of services with ports.
#[derive(Args, Clone, Debug)]
pub struct NamedPorts {
    /// Name of the service
    pub name: String,
    /// Port pairs, <port> or <port>:<targetPort>
    #[arg(long, value_delimiter = ',')]
    pub tcp: Vec<String>,
    /// The cluster IP, or "None" for a headless service
    #[arg(long)]
    pub clusterip: Option<String>,
    /// Port used to expose the service on each node
    #[arg(long)]
    pub node_port: Option<u16>,
}

impl NamedPorts {
    pub(super) fn object(&self, kind: &str) -> Result<Value, Error> {
        generate::service(self, kind)
    }
}

/// Flags of `create service externalname`.
#[derive(Args, Clone, Debug)]
pub struct ExternalName {
    /// Name of the service
    pub name: String,
    /// The name that the service stands for
    #[arg(long, required = true)]
    pub external_name: String,
    /// Port pairs, <port> or <port>:<targetPort>
    #[arg(long, value_delimiter = ',')]
    pub tcp: Vec<String>,
}

impl ExternalName {
    pub(super) fn object(&self) -> Result<Value, Error> {
        generate::external_name(self)
    }
}

/// Where the entries of a ConfigMap or Secret come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Sources {
    /// A key and a value, key=value
    #[arg(long)]
    pub from_literal: Vec<String>,
    /// A file or directory, optionally key=file
    #[arg(long)]
    pub from_file: Vec<String>,
    /// A file of key=value lines
    #[arg(long)]
    pub from_env_file: Vec<String>,
}

/// Flags of `create configmap`.
#[derive(Args, Clone, Debug)]
pub struct ConfigMap {
    /// Name of the config map
    pub name: String,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

impl ConfigMap {
    pub(super) fn object(&self) -> Result<Value, Error> {
        generate::config_map(&self.name, &generate::entries(&self.sources)?)
    }
}

/// `create secret KIND`.
#[derive(Args, Clone, Debug)]
pub struct Secret {
    #[command(subcommand)]
    pub(crate) kind: SecretKind,
}

/// Kinds of secrets.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum SecretKind {
    /// Create a secret from a local file, directory, or literal value
    Generic(Generator<GenericSecret>),
    /// Create a secret of a certificate and its key
    Tls(Generator<TlsSecret>),
}

/// Flags of `create secret generic`.
#[derive(Args, Clone, Debug)]
pub struct GenericSecret {
    /// Name of the secret
    pub name: String,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// The type of secret to create
    #[arg(long = "type", default_value = "", hide_default_value = true)]
    pub kind: String,
}

impl GenericSecret {
    pub(super) fn object(&self) -> Result<Value, Error> {
        Ok(generate::secret(&self.name, &self.kind, &generate::entries(&self.sources)?))
    }
}
