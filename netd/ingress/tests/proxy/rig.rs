//! What the tests stand on: a proxy with rules, and backends that tell what they saw.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::certificates::Keyring;
use ingress::objects::{
    Backend, CONTROLLER, Cluster, Ingress, IngressClass, ObjectName, Options, Path, PathKind, Port,
    Rule, Service, ServicePort, Slice, Tls, TlsSecret,
};
use ingress::routes::{Finding, routes};
use ingress::{Door, Names, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Nothing on loopback takes longer, unless it never ends.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("this takes too long: {what}"),
    }
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

/// A cluster under construction.
#[derive(Default)]
pub(crate) struct Rules {
    cluster: Cluster,
    options: Options,
    tls: Vec<Tls>,
}

impl Rules {
    /// One host and prefix leads to one Service with these endpoints.
    pub(crate) fn lead(mut self, host: &str, path: &str, service: &str, to: &[SocketAddr]) -> Self {
        let backend = Backend::Service(service.into(), Port::Number(80));
        let path = Path { path: path.into(), kind: PathKind::Prefix, backend };
        let rule = Rule { host: host.into(), paths: vec![path] };
        let ingress = Ingress {
            class: Some("minictl".into()),
            rules: vec![rule],
            options: self.options.clone(),
            tls: std::mem::take(&mut self.tls),
            ..Ingress::default()
        };
        let count = self.cluster.ingresses.len();
        self.cluster.ingresses.insert(name(&format!("rule-{count}")), Arc::new(ingress));
        self.serve(service, None, to)
    }

    fn serve(mut self, service: &str, app_protocol: Option<&str>, to: &[SocketAddr]) -> Self {
        let port =
            ServicePort { name: "".into(), port: 80, app_protocol: app_protocol.map(Arc::from) };
        let ports = vec![port];
        let object = Service { external_name: None, ports };
        self.cluster.services.insert(name(service), Arc::new(object));
        let slices = to.iter().enumerate().map(|(n, one)| {
            let ports = Box::from([(Arc::from(""), one.port())]);
            let slice = Slice { ports, ready: Box::from([one.ip()]), leaving: Box::default() };
            (Arc::from(n.to_string()), slice)
        });
        self.cluster.slices.insert(name(service), slices.collect());
        self
    }

    /// The last Service speaks this.
    pub(crate) fn speaking(mut self, service: &str, app_protocol: &str) -> Self {
        let object = self.cluster.services.get_mut(&name(service)).expect("it was made before");
        let mut changed = (**object).clone();
        changed.ports[0].app_protocol = Some(app_protocol.into());
        *object = Arc::new(changed);
        self
    }

    /// The Service stands for a name outside.
    pub(crate) fn external(mut self, service: &str, external: &str) -> Self {
        let object = self.cluster.services.get_mut(&name(service)).expect("it was made before");
        let mut changed = (**object).clone();
        changed.external_name = Some(external.into());
        *object = Arc::new(changed);
        self
    }

    /// Ingresses from here on have these annotations.
    pub(crate) fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The next Ingress has a certificate.
    pub(crate) fn secured(mut self, host: &str, secret: &str, content: TlsSecret) -> Self {
        self.tls = vec![Tls { hosts: vec![host.into()], secret: Some(secret.into()) }];
        self.cluster.secrets.insert(name(secret), Arc::new(content));
        self
    }

    fn cluster(mut self) -> Cluster {
        let class = IngressClass { controller: CONTROLLER.into(), is_default: true };
        self.cluster.classes = BTreeMap::from([("minictl".into(), class)]);
        self.cluster
    }
}

/// A proxy that runs.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    keyring: Keyring,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Rig {
    /// Starts one worker: what is reused and what is not can be counted then.
    pub(crate) fn start(rules: Rules) -> Self {
        Self::with_workers(1, rules)
    }

    pub(crate) fn with_workers(workers: usize, rules: Rules) -> Self {
        let mut proxy = Proxy::start(workers, &Names::of_the_machine()).unwrap();
        let (plain, tls) = (free_address(), free_address());
        let doors = [Door { address: plain, tls: false }, Door { address: tls, tls: true }];
        let failed = proxy.listen(doors);
        assert!(failed.is_empty(), "{failed:?}");
        let mut rig = Self { proxy, keyring: Keyring::default(), plain, tls };
        rig.change(rules);
        rig
    }

    /// The cluster changed.
    pub(crate) fn change(&mut self, rules: Rules) -> Vec<Finding> {
        let cluster = rules.cluster();
        let mut routes = routes(&cluster);
        self.proxy.route(std::mem::take(&mut routes.table));
        let (certificates, now) = (self.proxy.certificates(), jiff::Timestamp::now());
        self.keyring.follow(certificates, &routes, &cluster, now)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.plain)
    }
}

/// An address of loopback that nobody else listens at.
pub(crate) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Text that a backend answers with.
pub(crate) type Page = Response<Full<Bytes>>;

pub(crate) fn page(text: impl Into<Bytes>) -> Page {
    Response::new(Full::new(text.into()))
}

/// A backend of HTTP/1 and HTTP/2.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Tells which backend it is, and the head that it saw.
    pub(crate) async fn telling(who: &'static str) -> Self {
        Self::start(move |request| async move {
            let mut text = format!("{who}\n{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
            page(text)
        })
        .await
    }

    /// Waits until a request has come.
    pub(crate) async fn was_asked(&self) {
        soon("a request", async {
            while self.requests.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    pub(crate) async fn start<F, R, B>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (connected, asked) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connected.fetch_add(1, Ordering::SeqCst);
                let (answer, asked) = (answer.clone(), asked.clone());
                served.spawn(async move {
                    let service = service_fn(move |request| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let answer = answer(request);
                        async { Ok::<_, Infallible>(answer.await) }
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ =
                        server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, connections, requests, task }
    }
}

/// Sends bytes and reads until the other side closes, or is quiet for a while after an answer.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Who refuses may close before all is written.
    let _ = stream.write_all(bytes).await;
    read_all(&mut stream).await
}

pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let quiet = if answer.is_empty() { LIMIT } else { Duration::from_millis(500) };
        match tokio::time::timeout(quiet, stream.read(&mut part)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => break,
            Ok(Ok(count)) => answer.extend_from_slice(&part[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request by HTTP/1.1 on a connection of its own.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> Response<String> {
    let request = Request::get(path).header("host", host).body(Full::default()).unwrap();
    send(address, request).await
}

pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<String> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    text(answer).await
}

/// The answer with its body as text.
pub(crate) async fn text(answer: Response<Incoming>) -> Response<String> {
    let (parts, body) = answer.into_parts();
    let body = soon("a body", body.collect()).await.unwrap().to_bytes();
    Response::from_parts(parts, String::from_utf8_lossy(&body).into_owned())
}

/// Why the proxy answered itself.
pub(crate) fn reason<B>(answer: &Response<B>) -> &str {
    answer.headers().get("x-minictl-reason").map_or("", |value| value.to_str().unwrap())
}
