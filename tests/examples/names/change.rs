//! How soon a change of an endpoint is answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use e2e::bed::Bed;
use e2e::figure::{Bound, Figure, median, spread};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::ask::Asker;
use crate::{CHANGES, LIMIT, address};

/// Requests under way at a time, so that the server's disk writes are shared.
const AT_A_TIME: usize = 64;
/// A headless Service and the slice that changes.
pub(crate) const OBJECTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: changing}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: changing, labels: {kubernetes.io/service-name: changing}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.245.9.9], conditions: {ready: true}}]
";
const NAME: &str = "changing.default.svc.cluster.local";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/changing";

/// The pause between two questions.
const PAUSE: Duration = Duration::from_micros(200);

/// What a client sees of a change.
struct Seen {
    /// From the moment at which the change is sent to the API server to the first answer with it.
    sent: f64,
    /// The same from the API server's answer; nothing if the client knew before.
    acknowledged: f64,
}

/// Changes the endpoint over and over, in a cluster of so many Services, while a pod asks for it.
pub(crate) fn visible(bed: &Bed, admin: &Path, dns: SocketAddr, services: u32) -> Vec<Figure> {
    // No address comes twice in a run.
    let seen = changes(bed, admin, dns, 0x0af5_0100 + services);
    let figure = |what: &str, of: fn(&Seen) -> f64| {
        let times: Vec<f64> = seen.iter().map(of).collect();
        let most = times.iter().copied().fold(0.0, f64::max);
        let name = format!(
            "an endpoint's change, {what} to the first answer with it, {services} Services"
        );
        let note = format!("{}; at most {most:.1} ms; {} changes", spread(&times), times.len());
        println!("{name}: {:.1} ms ({note})", median(&times));
        Figure::bounded(&name, median(&times), " ms", Bound::Most(20.0), note)
    };
    vec![
        figure("from the request", |seen| seen.sent),
        figure("from the API server's answer", |seen| seen.acknowledged),
    ]
}

fn changes(bed: &Bed, admin: &Path, dns: SocketAddr, first: u32) -> Vec<Seen> {
    let admin = admin.to_owned();
    let (ask, asked) = channel::<Ipv4Addr>();
    let (tell, told) = channel::<Instant>();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| bed.pod_a.run(move || watch_out(dns, &asked, &tell)));
        let seen = bed.api.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let client = connect(&admin).await;
                let mut seen = Vec::new();
                for n in 0..CHANGES {
                    let new = Ipv4Addr::from_bits(first + n);
                    ask.send(new).expect("the pod waits");
                    let (sent, acknowledged) = change(&client, new).await;
                    let answered = told.recv_timeout(LIMIT).expect("the change is answered");
                    let since = |then| answered.saturating_duration_since(then).as_secs_f64() * 1e3;
                    seen.push(Seen { sent: since(sent), acknowledged: since(acknowledged) });
                }
                seen
            })
        });
        client.join().expect("the pod asked to the end");
        seen
    })
}

/// Asks until each address is the answer, and tells when it was.
fn watch_out(dns: SocketAddr, wanted: &Receiver<Ipv4Addr>, tell: &Sender<Instant>) {
    let mut asker = Asker::new(dns);
    for new in wanted {
        let end = Instant::now() + LIMIT;
        while asker.ask(NAME).expect("an answer") != [new] {
            assert!(Instant::now() < end, "{new} is never answered");
            std::thread::sleep(PAUSE);
        }
        if tell.send(Instant::now()).is_err() {
            return;
        }
    }
}

/// Makes more Services.
pub(crate) fn grow(bed: &Bed, admin: &Path, from: u32, to: u32) {
    let admin = admin.to_owned();
    bed.api.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let client = &connect(&admin).await;
            futures::stream::iter(from..to)
                .map(|n| async move {
                    let object = json!({
                        "metadata": {"name": format!("service-{n}")},
                        "spec": {"clusterIP": address(n), "ports": [{"port": 80}]},
                    });
                    let request = Request::post("/api/v1/namespaces/default/services");
                    let request = request.header("content-type", "application/json");
                    let request = request.body(object.to_string().into_bytes());
                    client.request_text(request.expect("a request")).await.map(drop)
                })
                .buffer_unordered(AT_A_TIME)
                .try_for_each(|()| async { Ok(()) })
                .await
                .expect("new Services");
        });
    });
}

async fn connect(admin: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(admin).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
    let client = Client::try_from(config.await.expect("a configuration")).expect("a client");
    // The connection stands before the clock runs.
    let look = Request::get(SLICE).body(Vec::new()).expect("a request");
    client.request_text(look).await.expect("the slice");
    client
}

/// When the change was sent, and when it was acknowledged.
async fn change(client: &Client, new: Ipv4Addr) -> (Instant, Instant) {
    let endpoints = json!({"endpoints": [{"addresses": [new], "conditions": {"ready": true}}]});
    let patch = Request::patch(SLICE).header("content-type", "application/merge-patch+json");
    let patch = patch.body(endpoints.to_string().into_bytes()).expect("a request");
    let sent = Instant::now();
    client.request_text(patch).await.expect("a changed slice");
    (sent, Instant::now())
}
