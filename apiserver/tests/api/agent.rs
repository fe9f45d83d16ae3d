//! A made-up agent: dials in like a real one and answers with what the tests expect.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use proto::dataplane::dataplane_server::{Dataplane, DataplaneServer};
use proto::dataplane::{
    DiffReply, DiffRequest, DumpReply, DumpRequest, Frontend, Origin, StatusReply, StatusRequest,
    Step, TraceReply, TraceRequest,
};
use proto::lb::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use proto::lb::{CheckReply, CheckRequest};
use proto::v1::client_frame::Frame as Input;
use proto::v1::forward_frame::Frame as Forward;
use proto::v1::node_server::{Node, NodeServer};
use proto::v1::server_frame::Frame as Output;
use proto::v1::{ClientFrame, Exit, ForwardFrame, LogChunk, LogsRequest, ServerFrame, Start};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::harness::{Cluster, PATIENCE};

/// Answers exec with an echo in capitals, logs with two lines, port-forward with an echo, questions
/// about the data plane with what was asked.
struct MadeUp;

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Node for MadeUp {
    type ExecStream = Sent<ServerFrame>;
    type AttachStream = Sent<ServerFrame>;
    type LogsStream = Sent<LogChunk>;
    type PortForwardStream = Sent<ForwardFrame>;

    async fn exec(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let Some(ClientFrame { frame: Some(Input::Start(start)) }) = input.message().await? else {
            return Err(Status::invalid_argument("no start"));
        };
        if start.command[0] == "refuse" {
            return Err(Status::not_found("container not found (\"c\")"));
        }
        Ok(Response::new(process(start, input)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.exec(request).await
    }

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let target = request.target.unwrap();
        let first = format!("{}/{} {}\n", target.namespace, target.pod, target.container);
        let second = format!("tail {:?} follow {}\n", request.tail_lines, request.follow);
        let chunks = [first, second].map(|text| Ok(LogChunk { data: text.into() }));
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<ForwardFrame>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        let mut input = request.into_inner();
        let Some(ForwardFrame { frame: Some(Forward::Open(open)) }) = input.message().await? else {
            return Err(Status::invalid_argument("no open"));
        };
        if open.port != 80 {
            return Err(Status::failed_precondition("connection refused"));
        }
        let opened = futures::stream::iter([Ok(forwarded(Vec::new()))]);
        let answers = opened.chain(input.map(|frame| match frame?.frame {
            Some(Forward::Data(bytes)) => Ok(forwarded(bytes)),
            _ => Ok(ForwardFrame { frame: Some(Forward::Closed(true)) }),
        }));
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl Dataplane for MadeUp {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply { node: "n1".to_owned(), ..StatusReply::default() }))
    }

    async fn dump(&self, request: Request<DumpRequest>) -> Result<Response<DumpReply>, Status> {
        let DumpRequest { namespace, service } = request.into_inner();
        let service = Origin {
            namespace,
            name: service,
            resource_version: "42".to_owned(),
            ..Origin::default()
        };
        let frontend = Frontend { service: Some(service), ..Frontend::default() };
        Ok(Response::new(DumpReply { frontends: vec![frontend], ..DumpReply::default() }))
    }

    async fn diff(&self, _: Request<DiffRequest>) -> Result<Response<DiffReply>, Status> {
        Err(Status::unavailable("netd has not looked yet"))
    }

    async fn trace(&self, request: Request<TraceRequest>) -> Result<Response<TraceReply>, Status> {
        let TraceRequest { origin, source, destination, protocol, handed_over } =
            request.into_inner();
        let what = format!("{origin} {source} {destination} {protocol} {handed_over}");
        let step = Step { place: "asked".to_owned(), what };
        Ok(Response::new(TraceReply { steps: vec![step], ..TraceReply::default() }))
    }
}

#[tonic::async_trait]
impl LoadBalancer for MadeUp {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let CheckRequest { address } = request.into_inner();
        if address == "nonsense" {
            return Err(Status::invalid_argument("\"nonsense\" is no address"));
        }
        let probe_error = "eth0 is down".to_owned();
        Ok(Response::new(CheckReply { address, probe_error, ..CheckReply::default() }))
    }
}

fn forwarded(bytes: Vec<u8>) -> ForwardFrame {
    ForwardFrame { frame: Some(Forward::Data(bytes)) }
}

/// Says what it was started with, echoes input in capitals, and ends with code 7.
fn process(start: Start, mut input: Streaming<ClientFrame>) -> Sent<ServerFrame> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let send = |frame| sender.send(Ok(ServerFrame { frame: Some(frame) }));
        let hello = format!("{} tty={}\n", start.command.join(" "), start.tty);
        let _ = send(Output::Stdout(hello.into())).await;
        // `true` ends without a look at its input.
        if start.stdin && start.command[0] != "true" {
            while let Ok(Some(ClientFrame { frame: Some(frame) })) = input.message().await {
                let answer = match frame {
                    Input::Stdin(_) if start.command[0] == "head" => break,
                    Input::Stdin(bytes) => bytes.to_ascii_uppercase(),
                    Input::Resize(size) => format!("{}x{}\n", size.width, size.height).into(),
                    Input::StdinClosed(_) => break,
                    Input::Start(_) => continue,
                };
                let _ = send(Output::Stdout(answer)).await;
            }
        }
        if start.stderr {
            let _ = send(Output::Stderr(b"bye\n".to_vec())).await;
        }
        let code = if matches!(start.command[0].as_str(), "true" | "head") { 0 } else { 7 };
        let _ = send(Output::Exit(Exit { code, error: String::new() })).await;
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Sends a request on a connection of its own, and takes the connection over when the server
/// switches protocols.
pub(crate) async fn switched(
    cluster: &Cluster,
    user: &str,
    groups: &[&str],
    request: http::request::Builder,
) -> Upgraded {
    let identity = cluster.authority.client(user, groups).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(cluster.authority.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let socket = TcpStream::connect(cluster.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = connector.connect(name, socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = request
        .header("Host", "kubernetes")
        .header("Connection", "Upgrade")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    hyper::upgrade::on(response).await.unwrap()
}

/// Connects a made-up agent of a node, and waits until the server knows of it.
pub(crate) async fn connect(cluster: &Cluster, node: &str) {
    let request =
        http::Request::get(proto::tunnel_path(node)).header("Upgrade", proto::TUNNEL_PROTOCOL);
    let user = format!("system:node:{node}");
    let upgraded = switched(cluster, &user, &["system:nodes"], request).await;
    let mut services = tonic::service::Routes::builder();
    services
        .add_service(NodeServer::new(MadeUp))
        .add_service(LoadBalancerServer::new(MadeUp))
        .add_service(DataplaneServer::new(MadeUp));
    let service = services.routes().into_axum_router();
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(upgraded, TowerToHyperService::new(service)),
    );
    let known = async {
        loop {
            let client = cluster.client().await;
            let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
            let metrics = client.request_text(request).await.unwrap();
            if metrics.contains("minictl_node_tunnels 1") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("the server knows the tunnel in time");
}
