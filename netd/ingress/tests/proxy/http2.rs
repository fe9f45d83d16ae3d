//! HTTP/2: prior knowledge, to backends of either kind, gRPC.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::rig::{Rig, Rules, Server, soon, text};

async fn http2<B>(address: std::net::SocketAddr) -> SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn many_requests_at_a_time_on_one_connection() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("a.test", "/", "web", &[web.address]));
    let sender = http2(rig.plain).await;
    let requests = (0..100).map(|n| {
        let mut sender = sender.clone();
        let request = Request::get(format!("http://a.test/{n}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Empty::<Bytes>::new())
            .unwrap();
        async move { text(sender.send_request(request).await.unwrap()).await }
    });
    for (n, answer) in soon("answers", futures::future::join_all(requests)).await.iter().enumerate()
    {
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        let seen = answer.body();
        assert!(seen.contains(&format!("GET /{n}\n")), "{seen}");
        assert!(seen.contains("\nhost: a.test\n") && seen.contains("cookie: a=1; b=2\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_backend_of_http2_gets_http2_from_all_clients() {
    let web = Server::start(|request| async move {
        crate::rig::page(format!("{:?} {}", request.version(), request.uri()))
    })
    .await;
    let rules = Rules::default()
        .lead("a.test", "/", "web", &[web.address])
        .speaking("web", "kubernetes.io/h2c");
    let rig = Rig::start(rules);
    let answer = crate::rig::get(rig.plain, "a.test", "/x").await;
    assert_eq!(answer.body(), "HTTP/2.0 http://a.test/x");
    let mut sender = http2(rig.plain).await;
    let request = Request::get("http://a.test/y").body(Empty::<Bytes>::new()).unwrap();
    let answer = text(sender.send_request(request).await.unwrap()).await;
    assert_eq!(answer.body(), "HTTP/2.0 http://a.test/y");
    assert_eq!(web.connections.load(Ordering::SeqCst), 1);
}

/// What gRPC needs: both directions at the same time, and trailers at the end.
#[tokio::test]
async fn streams_flow_both_ways_and_end_with_trailers() {
    let echo = Server::start(|request: Request<hyper::body::Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(part)) = body.frame().await {
                if let Ok(data) = part.into_data() {
                    send.send(Ok(Frame::data(data))).await.unwrap();
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            send.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        http::Response::new(StreamBody::new(ReceiverStream::new(receive)))
    })
    .await;
    let rules = Rules::default().lead("", "/", "echo", &[echo.address]).speaking("echo", "grpc");
    let rig = Rig::start(rules);
    let (parts, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let mut sender = http2(rig.plain).await;
    let request = Request::post("http://a.test/pkg.Service/Chat")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(StreamBody::new(ReceiverStream::new(receive)))
        .unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    parts.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let mut answer = soon("the head", answer).await.unwrap();
    for text in ["one", "two", "three"] {
        if text != "one" {
            parts.send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).await.unwrap();
        }
        let part = soon("an echo", answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), text);
    }
    drop(parts);
    let last = soon("trailers", answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap()["grpc-status"], "0");
}

/// The same by a real gRPC client and server.
#[tokio::test]
async fn grpc_passes() {
    use proto::dataplane::dataplane_client::DataplaneClient;
    use proto::dataplane::dataplane_server::{Dataplane, DataplaneServer};
    use proto::dataplane::{
        DiffReply, DiffRequest, DumpReply, DumpRequest, StatusReply, StatusRequest, TraceReply,
        TraceRequest,
    };
    use tonic::{Code, Request, Response, Status};

    struct Teller;

    #[tonic::async_trait]
    impl Dataplane for Teller {
        async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
            let node = "behind the proxy".to_owned();
            Ok(Response::new(StatusReply { node, ..StatusReply::default() }))
        }
        async fn dump(&self, _: Request<DumpRequest>) -> Result<Response<DumpReply>, Status> {
            Err(Status::new(Code::FailedPrecondition, "not today"))
        }
        async fn diff(&self, _: Request<DiffRequest>) -> Result<Response<DiffReply>, Status> {
            // Larger than any window: flow control has to work end to end.
            let node = "x".repeat(3 << 20);
            Ok(Response::new(DiffReply { node, ..DiffReply::default() }))
        }
        async fn trace(&self, _: Request<TraceRequest>) -> Result<Response<TraceReply>, Status> {
            Err(Status::unimplemented("not here"))
        }
    }

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(DataplaneServer::new(Teller))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let rules = Rules::default()
        .lead("", "/minictl", "grpc", &[address])
        .lead("", "/", "grpc", &[address])
        .speaking("grpc", "kubernetes.io/h2c");
    let rig = Rig::start(rules);
    let mut client = DataplaneClient::connect(rig.url("")).await.unwrap();
    let reply = soon("a reply", client.status(StatusRequest {})).await.unwrap();
    assert_eq!(reply.into_inner().node, "behind the proxy");
    let refused = soon("a refusal", client.dump(DumpRequest::default())).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "not today"));
    let large = soon("a large reply", client.diff(DiffRequest::default())).await.unwrap();
    assert_eq!(large.into_inner().node.len(), 3 << 20);
    server.abort();
}
