//! Measures Ingress, side by side with other proxies on the same node.
//!
//! A real `minictl netd` against a real `minictl server`; nginx and haproxy stand beside it, with the
//! same two processors and the same pod behind them. A pod asks by `wrk` (HTTP/1.1, with and without
//! TLS) and by `h2load` (HTTP/2), over connections that stay. `l7 FILE` writes the table there, too.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod load;
mod servers;

use std::time::Duration;

use e2e::bed::{Bed, NODE_1, NODE_2, POD_B, Process};
use e2e::figure::{Bound, Figure, median, spread, table};
use e2e::{Answer, minictl, run, wait_for};

use load::{Load, Seen};

/// Each proxy is asked for so long, so often, in turns.
const SLOT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;
const LIMIT: Duration = Duration::from_secs(30);
/// The port of the pod behind all of them, and its page's size.
const BACKEND: u16 = 8080;
const PAGE: usize = 1024;

const OBJECTS: &str = "
apiVersion: minictl.io/v1
kind: AddressPool
metadata: {name: default}
spec: {addresses: [192.168.56.200-192.168.56.210]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: '', port: 8080}]
endpoints: [{addresses: [POD], nodeName: node-1, conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
";

/// A proxy under test.
struct Subject {
    name: &'static str,
    /// Its address and the ports of HTTP and of HTTPS.
    at: (String, [u16; 2]),
    process: Process,
}

impl Subject {
    fn url(&self, tls: bool) -> String {
        let (address, [plain, secure]) = &self.at;
        let (scheme, port) = if tls { ("https", secure) } else { ("http", plain) };
        format!("{scheme}://{address}:{port}/")
    }
}

fn main() {
    let bed = Bed::new();
    let _server = bed.start_server();
    let admin = bed.kubeconfig("admin", "system:masters");
    let _backend = servers::start_backend(&bed);
    let ask = |args: &str| -> Answer {
        let admin = admin.display().to_string();
        let args: Vec<String> = ["--kubeconfig", &admin]
            .into_iter()
            .chain(args.split(' '))
            .map(str::to_owned)
            .collect();
        bed.api.run(move || run(minictl(), &args))
    };
    let succeed = |what: &str, args: &str| {
        wait_for(what, LIMIT, || {
            let answer = ask(args);
            if answer.code == 0 { Ok(answer.out) } else { Err(format!("{answer}\n{}", bed.logs())) }
        })
    };
    succeed("the API server", "get namespaces");
    let file = bed.folder.path().join("objects.yaml");
    std::fs::write(&file, nodes() + &OBJECTS.replace("POD", POD_B)).expect("a writable folder");
    succeed("objects", &format!("apply -f {}", file.display()));
    let node = bed.kubeconfig("system:node:node-1", "system:nodes");
    let netd = bed.start_netd(&node);
    let path = "-o jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = wait_for("the Ingress' address", LIMIT, || {
        let address = ask(&format!("get service minictl-ingress -n kube-system {path}")).out;
        if address.is_empty() { Err(bed.logs()) } else { Ok(address) }
    });
    let mut subjects = vec![Subject { name: "minictl", at: (address, [80, 443]), process: netd }];
    subjects.extend(servers::start_others(&bed));
    for subject in &subjects {
        for url in [subject.url(false), subject.url(true)] {
            wait_for(&format!("a page of {url}"), LIMIT, || page(&bed, &url));
        }
    }
    let figures: Vec<Figure> =
        load::loads().into_iter().flat_map(|load| compare(&bed, &subjects, &load)).collect();
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, &text).expect("a writable file");
    }
}

fn nodes() -> String {
    let node = |(name, address): (&str, &str)| {
        let addresses = format!("[{{type: InternalIP, address: {address}}}]");
        let conditions = "[{type: Ready, status: 'True'}]";
        let status = format!("{{addresses: {addresses}, conditions: {conditions}}}");
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {status}\n---\n")
    };
    [("node-1", NODE_1), ("node-2", NODE_2)].map(node).concat()
}

fn page(bed: &Bed, url: &str) -> Result<(), String> {
    let args = ["-sS", "-k", "-m", "2", url].map(str::to_owned);
    let answer = bed.pod_a.run(move || run("curl", &args));
    if answer.out.len() == PAGE { Ok(()) } else { Err(format!("{answer}\n{}", bed.logs())) }
}

/// Requests a second and the slowest of a hundred of each, in turns; ours beside nginx's.
fn compare(bed: &Bed, subjects: &[Subject], load: &Load) -> Vec<Figure> {
    if run("which", &[load.program]).code != 0 {
        println!("SKIPPED: {} is missing: {}", load.program, load.name);
        return Vec::new();
    }
    let mut seen: Vec<Vec<Seen>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for turn in 0..subjects.len() {
            // Another one begins each time.
            let which = (round + turn) % subjects.len();
            let subject = &subjects[which];
            let before = subject.process.processor_seconds();
            let mut one = load.run(bed, &subject.url(load.tls), SLOT);
            one.busy = subject.process.processor_seconds() - before;
            seen[which].push(one);
        }
    }
    let rates: Vec<Vec<f64>> =
        seen.iter().map(|all| all.iter().map(|one| one.rate).collect()).collect();
    let nginx = subjects.iter().position(|subject| subject.name == "nginx");
    let mut figures = Vec::new();
    for (n, (subject, all)) in subjects.iter().zip(&seen).enumerate() {
        let of = |part: fn(&Seen) -> f64| all.iter().map(part).collect::<Vec<_>>();
        let (slowest, busy) = (median(&of(|s| s.slowest)), median(&of(|s| s.busy / s.count * 1e6)));
        let note = format!(
            "{}; 99 of 100 within {slowest:.2} ms; {busy:.1} µs of a processor each",
            spread(&rates[n])
        );
        let name = format!("{}, requests a second, {}", load.name, subject.name);
        println!("{name}: {:.0} ({note})", median(&rates[n]));
        figures.push(Figure::bounded(&name, median(&rates[n]), "", Bound::None, note));
    }
    if let Some(nginx) = nginx {
        let ratios = |part: fn(&Seen) -> f64| -> Vec<f64> {
            seen[0].iter().zip(&seen[nginx]).map(|(ours, its)| part(ours) / part(its)).collect()
        };
        for (what, ratios, bound) in [
            ("requests a second", ratios(|s| s.rate), Bound::Least(1.0)),
            ("the slowest of a hundred", ratios(|s| s.slowest), Bound::Most(1.0)),
        ] {
            let name = format!("{}, {what}, minictl ÷ nginx", load.name);
            println!("{name}: {:.3} ({})", median(&ratios), spread(&ratios));
            figures.push(Figure::bounded(&name, median(&ratios), "", bound, spread(&ratios)));
        }
    }
    figures
}
