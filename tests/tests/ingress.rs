//! Ingress as a learner meets it: rules by host and path, one address for many Services, TLS, and
//! what clients speak today. Asked by `curl`, `openssl s_client` and a WebSocket client.
//!
//! Numbers of rows (K23, K27) are those of the course's list.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use e2e::bed::{Bed, NODE_1, POD_B, Process};
use e2e::room::{Room, SharedLab, items, text};
use e2e::{Answer, can_run_labs, capable, minictl, run, wait_for};
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

static LAB: SharedLab = SharedLab::new("ingress", "192.168.76.0/24", 2);
const NODES: [&str; 2] = ["192.168.76.70", "192.168.76.71"];
const SOON: Duration = Duration::from_secs(20);
/// A default backend answers for the whole lab: who counts on there being none keeps it away.
static DEFAULT_BACKEND: Mutex<()> = Mutex::new(());
/// Where a test serves what no course image can.
const CLIENT: &str = "192.168.76.10";

fn default_backend() -> MutexGuard<'static, ()> {
    DEFAULT_BACKEND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers any request with the pod's name, the path, and the headers that came.
const MIRROR: &str = r#"
    CR=$(printf '\r'); read -r method path version; heads=
    while read -r head; do head=${head%$CR}; [ -n "$head" ] || break; heads="$heads$head;"; done
    body="$(hostname) $path $heads"
    printf 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' ${#body} "$body"
"#;

/// A Deployment whose pods mirror requests, and its Service at port 80.
fn mirrors(room: &Room, name: &str, replicas: u32) -> BTreeSet<String> {
    let script = serde_json::Value::from(MIRROR);
    let command = format!("[nc, -ll, -p, '8080', -e, /bin/sh, -c, {script}]");
    room.runs(name, replicas, &format!("image: busybox, command: {command}"));
    room.applies(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    ));
    room.ready_pods(&format!("app={name}"), replicas as usize)
}

/// The address of all Ingresses.
fn address(room: &Room) -> String {
    wait_for("the Ingress' own address", SOON, || {
        let service =
            room.minictl(&["get", "svc", "minictl-ingress", "-n", "kube-system", "-o", "json"]);
        let status = service.json()["status"].clone();
        let address = text(&status["loadBalancer"]["ingress"][0]["ip"]);
        if address.is_empty() { Err(status.to_string()) } else { Ok(address) }
    })
}

/// `curl` on the client, for a host that only the Ingress knows.
fn curl(room: &Room, url: &str, more: &[&str]) -> Answer {
    let at = address(room);
    let host = url.split('/').nth(2).expect("http://HOST/");
    let resolve = [80, 443].map(|port| format!("{host}:{port}:{at}"));
    let fixed = ["curl", "-gsSk", "-m", "5", "--resolve", &resolve[0], "--resolve", &resolve[1]];
    room.on("client", &[&fixed[..], more, &[url]].concat())
}

/// Waits until a page contains `wanted`.
fn says(room: &Room, url: &str, more: &[&str], wanted: &str) -> String {
    wait_for(&format!("{url} {more:?} to say {wanted:?}"), SOON, || {
        let answer = curl(room, url, more);
        if answer.out.contains(wanted) { Ok(answer.out) } else { Err(answer.to_string()) }
    })
}

fn ingress(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n"
    )
}

fn rule(host: &str, paths: &[(&str, &str, &str)]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|(path, kind, service)| {
            format!(
                "{{path: {path}, pathType: {kind}, backend: {{service: {{name: {service}, \
                 port: {{number: 80}}}}}}}}"
            )
        })
        .collect();
    format!("{{host: '{host}', http: {{paths: [{}]}}}}", paths.join(", "))
}

/// K27: a rule is a host and a path; the more exact one wins; what no rule names gets the default.
#[test]
fn rules_lead_by_host_and_path() {
    LAB.with_each_client("rules", |room| {
        for name in ["shop", "cart", "exact", "rest"] {
            mirrors(room, name, 1);
        }
        let host = format!("shop.{}.test", room.client());
        let rules = [
            rule(
                &host,
                &[
                    ("/", "Prefix", "shop"),
                    ("/cart", "Prefix", "cart"),
                    ("/cart/exact", "Exact", "exact"),
                ],
            ),
            rule(&format!("*.wild.{host}"), &[("/", "ImplementationSpecific", "cart")]),
        ];
        room.applies(&ingress("by-url", &format!("{{rules: [{}]}}", rules.join(", "))));
        let page = |path: &str, wanted: &str| {
            says(room, &format!("http://{host}{path}"), &[], &format!("{wanted}-"))
        };
        page("/", "shop");
        page("/cartoon", "shop");
        page("/cart", "cart");
        page("/cart/7?x=1", "cart");
        page("/cart/exact", "exact");
        page("/cart/exact/no", "cart");
        says(room, &format!("http://a.wild.{host}/"), &[], "cart-");
        // What arrives: the path untouched, and who asked for what.
        let heads = page("/cart/7?x=1", "cart").to_lowercase();
        assert!(heads.contains(" /cart/7?x=1 "), "{heads}");
        assert!(heads.contains(&format!("host: {host};")), "{heads}");
        assert!(heads.contains(&format!("x-forwarded-for: {CLIENT};")), "{heads}");
        assert!(heads.contains("x-forwarded-proto: http;"), "{heads}");

        // No rule: 404 that says so; two stars are not one.
        let none = curl(room, "http://nobody.test/", &["-i"]).ok();
        assert!(none.starts_with("HTTP/1.1 404"), "{none}");
        assert!(none.contains("nobody.test"), "why, in\n{none}");
        let deep = curl(room, &format!("http://a.b.wild.{host}/"), &["-i"]).ok();
        assert!(deep.starts_with("HTTP/1.1 404"), "{deep}");

        // One address for all of them, in the columns of the notes' client.
        let at = address(room);
        let row = wait_for("the address in the status", SOON, || {
            let row = room.row("get ingress by-url", "by-url");
            if row.iter().any(|cell| cell.contains(&at)) { Ok(row) } else { Err(row.join(" ")) }
        });
        assert_eq!(row[1], "minictl", "the default class: {row:?}");
        assert!(row[2].contains(&host), "{row:?}");
        let described = room.types("describe ingress by-url").ok();
        for part in [host.as_str(), "/cart", "cart:80 (10.244."] {
            assert!(described.contains(part), "{part} in\n{described}");
        }

        // A default backend takes what is left of a host that no rule names.
        if room.client() == "minictl" {
            let _mine = default_backend();
            let backend = "{defaultBackend: {service: {name: rest, port: {name: http}}}}";
            room.applies(&ingress("by-default", backend));
            says(room, "http://nobody.test/", &[], "rest-");
            let _ = room.types("delete ingress by-default").ok();
            wait_for("the default to be gone", SOON, || {
                let answer = curl(room, "http://nobody.test/", &["-i"]);
                if answer.out.starts_with("HTTP/1.1 404") {
                    Ok(())
                } else {
                    Err(answer.to_string())
                }
            });
        }
    });
}

/// K23: the same pods behind a Service, by address and port, and behind an Ingress, by URL.
#[test]
fn the_same_pods_are_reached_by_layer_four_and_by_layer_seven() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "layers");
    let pods = mirrors(&room, "web", 3);
    room.patches("svc/web", r#"{"spec":{"type":"LoadBalancer"}}"#);
    room.applies(&ingress(
        "web",
        &format!("{{rules: [{}]}}", rule("l7.test", &[("/", "Prefix", "web")])),
    ));
    let four = wait_for("an address", SOON, || {
        let cells = room.row("get svc web", "web");
        if cells[3].starts_with("192.168.76.2") {
            Ok(cells[3].clone())
        } else {
            Err(cells[3].clone())
        }
    });
    let seven = address(&room);
    assert_ne!(four, seven);
    for url in [format!("http://{four}/"), "http://l7.test/".to_owned()] {
        let mut seen = BTreeSet::new();
        wait_for(&format!("all pods at {url}"), SOON, || {
            let answer = match url.contains(&four) {
                true => room.on("client", &["curl", "-gsS", "-m", "5", &url]),
                false => curl(&room, &url, &[]),
            };
            seen.extend(answer.out.split(' ').next().map(str::to_owned));
            if seen == pods { Ok(()) } else { Err(format!("{seen:?} {answer}")) }
        });
    }
    // By node, too: every node runs the proxy, whoever has the pods.
    for node in ["node-1", "node-2"] {
        let page =
            room.on(node, &["curl", "-sS", "-H", "Host: l7.test", &format!("http://{seven}/")]);
        assert!(page.out.starts_with("web-"), "{page}");
    }
}

/// A rule of a class that nobody serves does nothing, and is nobody's trouble.
#[test]
fn an_ingress_without_a_controller_does_nothing() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "nobody");
    let _none = default_backend();
    mirrors(&room, "web", 1);
    let rules = |host: &str| rule(host, &[("/", "Prefix", "web")]);
    let others = format!("{{ingressClassName: other, rules: [{}]}}", rules("others.test"));
    room.applies(&ingress("others", &others));
    room.applies(&ingress("ours", &format!("{{rules: [{}]}}", rules("ours.test"))));
    says(&room, "http://ours.test/", &[], "web-");
    let unheard = curl(&room, "http://others.test/", &["-i"]).ok();
    assert!(unheard.starts_with("HTTP/1.1 404"), "{unheard}");
    let status = room.object("ingress", "others")["status"].clone();
    assert!(status["loadBalancer"]["ingress"].is_null(), "no address: {status}");
}

/// A key and a certificate for a host, as `openssl` makes them.
fn secret(room: &Room, name: &str, host: &str) {
    let folder = room.state().to_owned();
    let (key, cert) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.crt")));
    let (key, cert) = (key.display().to_string(), cert.display().to_string());
    let subject = format!("/CN={host}");
    let names = format!("subjectAltName=DNS:{host}");
    let make = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        &subject,
        "-addext",
        &names,
        "-keyout",
        &key,
        "-out",
        &cert,
    ];
    let _ = run("openssl", &make).ok();
    let _ = room.types(&format!("delete secret {name} --ignore-not-found")).ok();
    let create = format!("create secret tls {name} --cert={cert} --key={key}");
    let _ = room.types(&create).ok();
}

/// The subject and the serial number of the certificate for a host, by `openssl s_client`.
fn certificate(room: &Room, host: &str) -> String {
    let connect = format!(
        "openssl s_client -connect {}:443 -servername {host} </dev/null 2>/dev/null \
         | openssl x509 -noout -subject -serial",
        address(room)
    );
    room.on("client", &["sh", "-c", &connect]).out
}

/// TLS ends at the Ingress with the certificate of the host's Secret; a new one is used at once, a
/// broken one troubles nobody else. HTTP/2 is agreed upon by ALPN.
#[test]
fn tls_is_ended_with_the_secret_of_the_host() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("kubectl", "tls");
    mirrors(&room, "web", 1);
    secret(&room, "one", "one.test");
    secret(&room, "two", "two.test");
    room.applies(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: broken}\ntype: kubernetes.io/tls\n\
         data: {tls.crt: bm90aGluZw==, tls.key: bm90aGluZw==}\n",
    );
    for host in ["one", "two", "broken"] {
        let rules = rule(&format!("{host}.test"), &[("/", "Prefix", "web")]);
        let tls = format!("[{{hosts: [{host}.test], secretName: {host}}}]");
        room.applies(&ingress(host, &format!("{{tls: {tls}, rules: [{rules}]}}")));
    }
    for host in ["one.test", "two.test"] {
        let wanted = format!("CN = {host}");
        wait_for(&format!("the certificate of {host}"), SOON, || {
            let found = certificate(&room, host);
            if found.contains(&wanted) { Ok(()) } else { Err(found) }
        });
    }
    let page = says(&room, "https://one.test/", &["--http2"], "web-").to_lowercase();
    assert!(page.contains("x-forwarded-proto: https;"), "{page}");
    let told = |more: &[&str], url: &str| {
        let format = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
        curl(&room, url, &[&format[..], more].concat()).out
    };
    assert_eq!(told(&["--http2"], "https://one.test/"), "2 200");
    assert_eq!(told(&["--http1.1"], "https://one.test/"), "1.1 200");
    assert_eq!(told(&["--http2-prior-knowledge"], "http://one.test/"), "2 200");

    let before = certificate(&room, "one.test");
    secret(&room, "one", "one.test");
    wait_for("the renewed certificate", SOON, || {
        let now = certificate(&room, "one.test");
        if now != before && now.contains("CN = one.test") { Ok(()) } else { Err(now) }
    });
    // The one with the broken Secret is told so; its pages are there all the same.
    wait_for("an event that names the Secret", SOON, || {
        let described = room.types("describe ingress broken").ok();
        let events = described.split("Events:").nth(1).unwrap_or_default().to_owned();
        if events.contains("broken") && events.contains("Warning") { Ok(()) } else { Err(events) }
    });
    assert_eq!(told(&[], "http://broken.test/"), "1.1 200");
}

/// A Service whose only endpoint is a server of this test, on the lab's client.
fn leads_to_the_client(room: &Room, name: &str, port: u16) {
    room.applies(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-by-hand, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: [{CLIENT}]}}]
"
    ));
}

/// A browser's WebSocket passes, both ways, message by message.
#[test]
fn a_websocket_passes_both_ways() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "socket");
    let _none = default_backend();
    let listener = room.inside("client", || std::net::TcpListener::bind((CLIENT, 0)));
    let listener = listener.expect("a port of the client");
    let port = listener.local_addr().expect("bound").port();
    leads_to_the_client(&room, "socket", port);
    let rules = rule("socket.test", &[("/", "Prefix", "socket")]);
    room.applies(&ingress("socket", &format!("{{rules: [{rules}]}}")));
    let at = address(&room);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.spawn(async move {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        while let Ok((stream, _)) = listener.accept().await {
            // The first ones are no WebSockets: the test's looks whether the rule is there.
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                let answer = Message::text(format!("heard {text}"));
                socket.send(answer).await.expect("the client listens");
            }
        }
    });
    wait_for("the rule", SOON, || {
        let answer = curl(&room, "http://socket.test/", &["-o", "/dev/null", "-w", "%{http_code}"]);
        if answer.out == "404" { Err(answer.to_string()) } else { Ok(()) }
    });
    let stream = room.inside("client", || std::net::TcpStream::connect((at.as_str(), 80)));
    let stream = stream.expect("the Ingress listens");
    runtime.block_on(async {
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
        let opened = tokio_tungstenite::client_async("ws://socket.test/chat", stream);
        let (mut socket, answer) =
            tokio::time::timeout(SOON, opened).await.expect("in time").expect("a WebSocket");
        assert_eq!(answer.status(), 101);
        for word in ["one", "two", "three"] {
            socket.send(Message::text(word)).await.expect("sent");
            let heard = tokio::time::timeout(SOON, socket.next()).await.expect("in time");
            assert_eq!(
                heard.expect("open").expect("whole"),
                Message::text(format!("heard {word}"))
            );
        }
    });
    runtime.shutdown_background();
}

/// Pages that say why: no endpoint, an endpoint that refuses, one that never answers.
#[test]
fn pages_of_failures_say_why() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "failures");
    room.applies(
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\n\
         spec: {selector: {app: none}, ports: [{port: 80}]}\n",
    );
    // Nobody listens at that port of the client.
    leads_to_the_client(&room, "refused", 9);
    for name in ["empty", "refused", "missing"] {
        let rules = rule(&format!("{name}.test"), &[("/", "Prefix", name)]);
        room.applies(&ingress(name, &format!("{{rules: [{rules}]}}")));
    }
    for (name, code, why) in
        [("empty", "503", "empty"), ("refused", "502", CLIENT), ("missing", "503", "missing")]
    {
        let url = format!("http://{name}.test/");
        let page = wait_for(&format!("{code} of {url}"), SOON, || {
            let answer = curl(&room, &url, &["-i"]);
            let first = format!("HTTP/1.1 {code}");
            if answer.out.starts_with(&first) { Ok(answer.out) } else { Err(answer.to_string()) }
        });
        assert!(page.contains(why), "{why} in\n{page}");
        assert!(page.to_lowercase().contains("x-minictl-reason:"), "{page}");
    }
}

/// The pages of the nodes' own ports are not touched: the Ingress has an address of its own.
#[test]
fn the_ingress_takes_no_port_of_the_nodes() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "ports");
    let at = address(&room);
    for node in NODES {
        assert_ne!(node, at);
        let answer = room.on("client", &["curl", "-sS", "-m", "3", &format!("http://{node}/")]);
        assert_eq!(answer.code, 7, "refused: {answer}");
    }
    // And no other port of its address is a door to the node.
    let ssh = format!("http://{at}:22");
    let answer = room.on("client", &["curl", "-sS", "-m", "3", &ssh]);
    assert_ne!(answer.code, 0, "{answer}");
}

/// A Service that stands for a name outside the cluster is a backend as any other. The name is found as
/// pods find it, and the server there is asked by the name that it knows.
#[test]
fn a_name_outside_the_cluster_is_a_backend() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "outside");
    let _none = default_backend();
    room.applies(
        "apiVersion: v1\nkind: Service\nmetadata: {name: partner}\n\
         spec: {type: ExternalName, externalName: myservice.test.com, ports: [{port: 80}]}\n",
    );
    let rules = rule("partner.test", &[("/", "Prefix", "partner")]);
    room.applies(&ingress("partner", &format!("{{rules: [{rules}]}}")));
    let page = says(&room, "http://partner.test/", &[], "asked host myservice.test.com");
    assert!(page.contains("at 203.0.113.10") || page.contains("at 2001:db8:"), "{page}");
    // One that nobody knows is a page that names it.
    room.patches("service/partner", r#"{"spec":{"externalName":"nobody.test.com"}}"#);
    let gone = wait_for("a page that says why", SOON, || {
        let answer = curl(&room, "http://partner.test/", &["-i"]);
        if answer.out.starts_with("HTTP/1.1 502") {
            Ok(answer.out)
        } else {
            Err(answer.to_string())
        }
    });
    assert!(gone.contains("name-not-resolved") && gone.contains("nobody.test.com"), "{gone}");
}

/// A bed with an API server and netd on one node, without any pod.
struct OneNode {
    bed: Bed,
    _server: Process,
    admin: PathBuf,
}

impl OneNode {
    fn new() -> Self {
        let bed = Bed::new();
        let server = bed.start_server();
        let admin = bed.kubeconfig("admin", "system:masters");
        let one = Self { bed, _server: server, admin };
        let _ = one.succeeds("the API server", "get namespaces");
        let objects = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node-1}}\n\
             status: {{addresses: [{{type: InternalIP, address: {NODE_1}}}], \
             conditions: [{{type: Ready, status: 'True'}}]}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n\
             spec: {{ports: [{{port: 80, targetPort: 8080}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: '', port: 8080}}]\n\
             endpoints: [{{addresses: [{POD_B}], conditions: {{ready: true}}}}]\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: web}}\n\
             spec: {{defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
        );
        let file = one.bed.folder.path().join("objects.yaml");
        std::fs::write(&file, objects).expect("a writable folder");
        let _ = one.succeeds("objects", &format!("apply -f {}", file.display()));
        one
    }

    fn asks(&self, args: &str) -> Answer {
        let admin = self.admin.display().to_string();
        let words = ["--kubeconfig", &admin].into_iter().chain(args.split(' '));
        let args: Vec<String> = words.map(str::to_owned).collect();
        self.bed.api.run(move || run(minictl(), &args))
    }

    fn succeeds(&self, what: &str, args: &str) -> String {
        wait_for(what, SOON, || {
            let answer = self.asks(args);
            let failed = || format!("{answer}\n{}", self.bed.logs());
            if answer.code == 0 { Ok(answer.out.clone()) } else { Err(failed()) }
        })
    }

    /// The address of a Service within the cluster.
    fn address(&self, service: &str, namespace: &str) -> String {
        let path = "-o jsonpath={.spec.clusterIP}";
        self.succeeds("an address", &format!("get service {service} -n {namespace} {path}"))
    }

    /// `curl` in pod a.
    fn curl(&self, url: &str) -> Answer {
        let args = ["-gsSki", "-m", "2", url].map(str::to_owned);
        self.bed.pod_a.run(move || run("curl", &args))
    }

    /// Pod b answers each connection with a page.
    fn serve(&self) {
        let listener = self.bed.pod_b.run(|| std::net::TcpListener::bind((POD_B, 8080)));
        let listener = listener.expect("a port of the pod");
        std::thread::spawn(move || {
            // It ends with the test.
            for stream in listener.incoming().flatten() {
                let mut stream = std::io::BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|count| count > 2) {
                    line.clear();
                }
                let page = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nweb";
                let _ = stream.get_mut().write_all(page.as_bytes());
            }
        });
    }
}

fn can_run_beds() -> bool {
    capable("root", run("id", &["-u"]).out.trim() == "0")
}

/// Who turns Ingress off has no door open for it, and everything else as before.
#[test]
fn without_ingress_services_go_on_and_no_door_is_open() {
    if !can_run_beds() {
        return;
    }
    let one = OneNode::new();
    one.serve();
    let node = one.bed.kubeconfig("system:node:node-1", "system:nodes");
    let netd = one.bed.start_netd_with(&node, &["--ingress=false"]);
    let (web, door) =
        (one.address("web", "default"), one.address("minictl-ingress", "kube-system"));
    let serves = |url: &str| {
        wait_for(&format!("a page of {url}"), SOON, || {
            let answer = one.curl(url);
            let failed = || format!("{answer}\n{}", one.bed.logs());
            if answer.out.ends_with("\r\n\r\nweb") { Ok(()) } else { Err(failed()) }
        });
    };
    serves(&format!("http://{web}/"));
    for url in [format!("http://{door}/"), format!("https://{door}/")] {
        let answer = one.curl(&url);
        assert!(answer.code != 0 && answer.out.is_empty(), "{answer}");
    }
    netd.stop();
    // It is the flag that keeps them shut.
    let _netd = one.bed.start_netd(&node);
    serves(&format!("http://{door}/"));
}

/// A program on the node has the port: that is told, the other door is open, and as soon as the port
/// is free, this one is, too.
#[test]
fn a_port_that_is_taken_is_told_and_had_when_it_is_free() {
    if !can_run_beds() {
        return;
    }
    let one = OneNode::new();
    one.serve();
    let taken = one.bed.node_1.run(|| std::net::TcpListener::bind(("0.0.0.0", 80)));
    let taken = taken.expect("a port of the node");
    let node = one.bed.kubeconfig("system:node:node-1", "system:nodes");
    let _netd = one.bed.start_netd(&node);
    let door = one.address("minictl-ingress", "kube-system");
    let told = wait_for("an event", SOON, || {
        let events = one.asks("get events -n kube-system -o json").json();
        let of_doors = items(&events).find(|one| one["reason"] == "FailedToListen").cloned();
        of_doors.ok_or_else(|| format!("{events}\n{}", one.bed.logs()))
    });
    assert_eq!(told["involvedObject"]["name"], "minictl-ingress", "{told}");
    assert_eq!(told["source"]["component"], "netd", "{told}");
    let message = text(&told["message"]);
    for part in ["node node-1", &format!("{door}:80"), "Address already in use"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let serves = |url: &str| {
        wait_for(&format!("a page of {url}"), SOON, || {
            let answer = one.curl(url);
            let failed = || format!("{answer}\n{}", one.bed.logs());
            if answer.out.ends_with("\r\n\r\nweb") { Ok(()) } else { Err(failed()) }
        });
    };
    // curl speaks HTTP/2 there: no "200 OK", but the same page.
    serves(&format!("https://{door}/"));
    drop(taken);
    serves(&format!("http://{door}/"));
}
