//! How soon a change of an endpoint is answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use e2e::bed::Bed;
use e2e::figure::{Bound, Figure, median, spread};
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::ask::Asker;
use crate::{CHANGES, LIMIT};

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

/// From the moment at which the change is sent to the API server to the first answer with it.
pub(crate) fn visible(bed: &Bed, admin: &Path, dns: SocketAddr) -> Figure {
    let times: Vec<f64> = (0..CHANGES).map(|n| once(bed, admin, dns, n)).collect();
    let name = "an endpoint's change, from the request to the first answer with it";
    println!("{name}: {:.1} ms ({})", median(&times), spread(&times));
    Figure::bounded(name, median(&times), " ms", Bound::Most(20.0), spread(&times))
}

fn once(bed: &Bed, admin: &Path, dns: SocketAddr, n: u32) -> f64 {
    let new = Ipv4Addr::from_bits(0x0af5_1000 + n);
    let admin = admin.to_owned();
    std::thread::scope(|scope| {
        let answered = scope.spawn(|| {
            bed.pod_a.run(move || {
                let mut asker = Asker::new(dns);
                let end = Instant::now() + LIMIT;
                while asker.ask(NAME).expect("an answer") != [new] {
                    assert!(Instant::now() < end, "{new} is never answered");
                }
                Instant::now()
            })
        });
        let sent = bed.api.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(change(&admin, new))
        });
        let answered = answered.join().expect("the change was answered");
        answered.saturating_duration_since(sent).as_secs_f64() * 1e3
    })
}

async fn change(admin: &Path, new: Ipv4Addr) -> Instant {
    let kubeconfig = Kubeconfig::read_from(admin).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
    let client = Client::try_from(config.await.expect("a configuration")).expect("a client");
    // The connection stands before the clock runs.
    let look = Request::get(SLICE).body(Vec::new()).expect("a request");
    client.request_text(look).await.expect("the slice");
    let endpoints = json!({"endpoints": [{"addresses": [new], "conditions": {"ready": true}}]});
    let patch = Request::patch(SLICE).header("content-type", "application/merge-patch+json");
    let patch = patch.body(endpoints.to_string().into_bytes()).expect("a request");
    let sent = Instant::now();
    client.request_text(patch).await.expect("a changed slice");
    sent
}
