//! Load balancers as a learner meets them: an address that is never pending, one for all nodes,
//! and still there when a node is not. With minictl and with kubectl, against labs with real pods.
//!
//! Numbers of rows (C18 to C27, K25, K26) are those of the course's list.

#![expect(clippy::print_stdout, reason = "how long a failover took is a figure to be read")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use e2e::room::{CurlError, Room, SharedLab, text};
use e2e::{Answer, Lab, can_run_labs, run, wait_for};
use serde_json::Value;

static LAB: SharedLab = SharedLab::new("balance", "192.168.75.0/24", 3);
const NODES: [&str; 3] = ["192.168.75.70", "192.168.75.71", "192.168.75.72"];
const SOON: Duration = Duration::from_secs(20);

/// C19 (M5), verbatim.
const HTTPD_SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: httpd-service
spec:
  selector:
    app: httpd
  ports:
    - name: httpd
      protocol: TCP
      port: 80
  externalIPs:
    - 172.30.1.44
";

/// M6, verbatim.
const EXAMPLE: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app.kubernetes.io/name: load-balancer-example
  name: hello-world
spec:
  replicas: 5 # 5개의 파드를 생성하도록 저장
  selector:
    matchLabels:
      app.kubernetes.io/name: load-balancer-example
  template:
    metadata:
      labels:
        app.kubernetes.io/name: load-balancer-example
    spec:
      containers:
      - image: gcr.io/google-samples/node-hello:1.0
        name: hello-world
        ports:
        - containerPort: 8080 # 컨테이너 포트를 8080으로 지정
";

/// Types a line of the notes; its first word, `kubectl`, is the client of the room.
fn types(room: &Room, line: &str) -> Answer {
    room.types(line.strip_prefix("kubectl ").expect("the notes use kubectl"))
}

/// The addresses of a Service's load balancer, once it has `count` of them.
fn ingress(room: &Room, service: &str, count: usize) -> Vec<String> {
    wait_for(&format!("{count} addresses of {service}"), SOON, || {
        let status = room.object("service", service)["status"].clone();
        let found: Vec<String> = status["loadBalancer"]["ingress"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|ingress| text(&ingress["ip"]))
            .collect();
        if found.len() == count { Ok(found) } else { Err(status.to_string()) }
    })
}

/// Whether an address is of the lab's pool, host numbers 200 to 249.
fn is_of_pool(address: &str) -> bool {
    let last = address.rsplit(['.', ':']).next().and_then(|digits| digits.parse::<u32>().ok());
    last.is_some_and(|number| (200..=249).contains(&number))
}

fn says_hello(room: &Room, host: &str, url: &str) {
    wait_for(&format!("{host} to read {url}"), SOON, || {
        let page = room.on(host, &["curl", "-gsS", "-m", "3", url]);
        if page.out.contains("Hello Kubernetes!") { Ok(()) } else { Err(page.to_string()) }
    });
}

/// C18 to C20: an address outside that somebody else leads to the nodes.
#[test]
fn an_external_address_answers_whom_a_route_leads_to_a_node() {
    LAB.with_each_client("external", |room| {
        let create = types(room, "kubectl create deployment httpd --image=httpd").ok();
        assert_eq!(create, "deployment.apps/httpd created\n");
        let file = room.state().join(format!("httpd-service-{}.yaml", room.client()));
        std::fs::write(&file, HTTPD_SERVICE).expect("a file");
        let apply = format!("kubectl apply -f {}", file.display());
        assert_eq!(types(room, &apply).ok(), "service/httpd-service created\n");
        let cells = room.row("get svc httpd-service", "httpd-service");
        assert_eq!((cells[1].as_str(), cells[3].as_str()), ("ClusterIP", "172.30.1.44"));
        assert_eq!(cells[4], "80/TCP");
        for node in NODES {
            let _ = room.on("client", &["ip", "route", "replace", "172.30.1.44", "via", node]);
            wait_for(&format!("httpd by {node}"), SOON, || {
                let page = room.on("client", &["curl", "-sS", "-m", "3", "http://172.30.1.44"]);
                if page.out.contains("It works!") { Ok(()) } else { Err(page.to_string()) }
            });
        }
        let _ = room.types("delete svc httpd-service").ok();
    });
}

/// C22 to C27, K25: the note of load balancers, line by line. One address, whichever node.
#[test]
fn the_note_of_load_balancers_runs_verbatim() {
    LAB.with_each_client("note", |room| {
        let file = room.state().join(format!("load-balancer-example-{}.yaml", room.client()));
        std::fs::write(&file, EXAMPLE).expect("a file");
        let _ = types(room, &format!("kubectl apply -f {}", file.display())).ok();
        wait_for("five pods", Duration::from_secs(60), || {
            let cells = {
                let table = types(room, "kubectl get deployments hello-world");
                table.out.lines().nth(1).unwrap_or_default().to_owned()
            };
            if cells.contains("5/5") { Ok(()) } else { Err(cells) }
        });
        let described = types(room, "kubectl describe deployments hello-world").ok();
        assert!(described.contains("5 desired | 5 updated | 5 total | 5 available"), "{described}");

        // C24: one ReplicaSet, named after the Deployment and its template; all are described.
        let table = types(room, "kubectl get replicasets").ok();
        let row: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(row[1..4], ["5", "5", "5"], "{table}");
        let described = types(room, "kubectl describe replicasets").ok();
        let hash = row[0].strip_prefix("hello-world-").expect("the Deployment's name");
        for part in [
            &format!("Name:           {}", row[0]),
            &format!("pod-template-hash={hash}"),
            "Controlled By:  Deployment/hello-world",
            "5 current / 5 desired",
            "5 Running / 0 Waiting / 0 Succeeded / 0 Failed",
        ] {
            assert!(described.contains(part), "{part} in\n{described}");
        }

        // C25: the port is the container's; an address at once.
        let expose = "kubectl expose deployment hello-world --type=LoadBalancer --name=exservice";
        assert_eq!(types(room, expose).ok(), "service/exservice exposed\n");
        let row = room.row("get services exservice", "exservice");
        assert_eq!(row[1], "LoadBalancer");
        assert!(is_of_pool(&row[3]), "{row:?}");
        let port = row[4].strip_prefix("8080:").and_then(|rest| rest.strip_suffix("/TCP"));
        let port: u16 = port.and_then(|port| port.parse().ok()).expect("8080:NODEPORT/TCP");
        assert!((30000..=32767).contains(&port), "{row:?}");
        let address = ingress(room, "exservice", 1).remove(0);
        assert_eq!(row[3], address);

        // C26: described with that line, and who announces it.
        let described = types(room, "kubectl describe services exservice").ok();
        let line = described.lines().find(|line| line.starts_with("LoadBalancer Ingress:"));
        assert!(line.is_some_and(|line| line.contains(&address)), "{described}");

        // C27, K25: whichever node is called answers, and one address does for all.
        for node in NODES {
            says_hello(room, "client", &format!("http://{node}:{port}"));
        }
        for host in ["client", "node-1", "node-3"] {
            says_hello(room, host, &format!("http://{address}:8080"));
        }
        let check = room.minictl(&["lb", "check", &address]).ok();
        assert!(check.contains("node-"), "{check}");
    });
}

/// K26: by the address, and by the node port unless there shall be none; both lead to the pods,
/// and `dataplane dump` shows the way.
#[test]
fn a_load_balancer_has_a_node_port_unless_it_shall_have_none() {
    LAB.with_each_client("ways", |room| {
        room.deploys("web", 3);
        let pods = room.ready_pods("app=web", 3);
        let service = |name: &str, more: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: \
                 LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]{more}}}\n"
            )
        };
        room.applies(&service("both", ""));
        room.applies(&service("direct", ", allocateLoadBalancerNodePorts: false"));
        room.applies(&service("six", ", ipFamilyPolicy: RequireDualStack"));
        let port = room.object("service", "both")["spec"]["ports"][0]["nodePort"].clone();
        let none = room.object("service", "direct")["spec"]["ports"][0]["nodePort"].clone();
        assert_eq!(none, Value::Null);
        let both = ingress(room, "both", 1).remove(0);
        let direct = ingress(room, "direct", 1).remove(0);
        assert_ne!(both, direct);
        let six = ingress(room, "six", 2);
        assert!(six.iter().any(|address| address.contains(':')), "{six:?}");
        for host in ["client", "node-1", "node-2"] {
            room.is_served(host, &format!("http://{both}"), &pods);
            room.is_served(host, &format!("http://{direct}"), &pods);
        }
        for address in &six {
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            room.is_served("client", &format!("http://{host}"), &pods);
        }
        room.is_served("client", &format!("http://{}:{port}", NODES[2]), &pods);
        // The ways as they stand in the kernel, each under the name of its Service.
        let dump = |name: &str| {
            room.minictl(&["dataplane", "dump", name, "-n", room.namespace(), "-o", "wide"]).ok()
        };
        let shown = dump("both");
        assert!(shown.contains(&both) && shown.contains(&port.to_string()), "{shown}");
        let shown = dump("direct");
        assert!(shown.contains(&direct) && !shown.contains(":3"), "{shown}");
    });
}

/// An address asked for by name, one that is taken, and a pool that is not there: each is told.
#[test]
fn who_asks_for_an_address_gets_it_or_is_told_who_has_it() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "wishes");
    let service = |name: &str, wish: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations: {{{wish}}}\n\
             spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
        )
    };
    let wish = "minictl.io/load-balancer-ips: 192.168.75.240";
    room.applies(&service("first", wish));
    assert_eq!(ingress(&room, "first", 1), ["192.168.75.240"]);
    room.applies(&service("second", wish));
    wait_for("the second to be told who has the address", SOON, || {
        let text = room.types("describe svc second").ok();
        let told = text.contains("wishes/first") && !text.contains("LoadBalancer Ingress:     1");
        if told { Ok(()) } else { Err(text) }
    });
    assert_eq!(room.row("get svc second", "second")[3], "<pending>");
    let _ = room.types("delete svc first").ok();
    assert_eq!(ingress(&room, "second", 1), ["192.168.75.240"], "free again");
}

/// A client that talks to a pod that says its name and then repeats what it hears.
struct Talk {
    stream: BufReader<TcpStream>,
    pod: String,
}

impl Talk {
    fn begin(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut talk = Self { stream: BufReader::new(stream), pod: String::new() };
        talk.pod = talk.hear()?;
        Ok(talk)
    }

    fn hear(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Whether the pod still answers; after a loss the kernel itself sends again.
    fn goes_on(&mut self, word: &str) -> std::io::Result<()> {
        writeln!(self.stream.get_mut(), "{word}")?;
        let heard = self.hear()?;
        if heard == word { Ok(()) } else { Err(std::io::Error::other(format!("heard {heard:?}"))) }
    }
}

/// A socket whose datagrams a pod answers with its name.
struct Chat {
    socket: UdpSocket,
    pod: String,
}

impl Chat {
    fn begin(address: SocketAddr) -> std::io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.connect(address)?;
        let mut chat = Self { socket, pod: String::new() };
        chat.pod = chat.ask()?;
        Ok(chat)
    }

    fn ask(&self) -> std::io::Result<String> {
        let mut name = [0; 64];
        self.socket.send(b"who?")?;
        let length = self.socket.recv(&mut name)?;
        Ok(String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Whether the same pod still answers. Datagrams may get lost: one of a few must not.
    fn goes_on(&self) -> std::io::Result<()> {
        let mut last = self.ask();
        for _ in 0..4 {
            if last.is_err() {
                last = self.ask();
            }
        }
        let name = last?;
        if name == self.pod { Ok(()) } else { Err(std::io::Error::other(format!("now {name}"))) }
    }
}

/// Answers datagrams in a pod's network with the pod's name, as long as the pod is there.
fn answer_datagrams(room: &Room, pod: &str) {
    let object = room.object("pod", pod);
    let nodes = room.state().join("labs").join(&room.name).join("nodes");
    let folder = nodes.join(text(&object["spec"]["nodeName"])).join("pods");
    let pin = folder.join(text(&object["metadata"]["uid"])).join("net");
    let network = std::fs::File::open(&pin).expect("a pod has a network");
    let name = pod.to_owned();
    let (tell, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter it");
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 9000)).expect("a socket");
        tell.send(()).expect("somebody waits");
        let mut question = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            // Who asked may have gone.
            drop(socket.send_to(name.as_bytes(), from));
        }
    });
    ready.recv().expect("it listens");
}

/// A pod on every node that says its name and repeats, and a Service with addresses of the pool: one
/// of each family.
fn echo(room: &Room, nodes: u32) -> Vec<SocketAddr> {
    for n in 1..=nodes {
        room.applies(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: echo-{n}, labels: {{app: echo}}}}
spec:
  nodeName: node-{n}
  terminationGracePeriodSeconds: 0
  containers:
  - name: echo
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [nc, -ll, -p, '9000', -e, /bin/sh, -c, 'hostname; exec cat']
"
        ));
    }
    for pod in room.ready_pods("app=echo", usize::try_from(nodes).expect("few")) {
        answer_datagrams(room, &pod);
    }
    room.applies(
        "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {type: LoadBalancer, \
         ipFamilyPolicy: RequireDualStack, selector: {app: echo}, ports: [{name: t, port: 9000}, \
         {name: u, port: 9000, protocol: UDP}]}\n",
    );
    let addresses = ingress(room, "echo", 2);
    let address = |text: &String| SocketAddr::new(text.parse().expect("an address"), 9000);
    addresses.iter().map(address).collect()
}

/// Who answers for an address on the network of the client: everybody, by a second tool's word.
fn answering(lab: &Lab, host: &str, address: IpAddr) -> BTreeSet<String> {
    let text = address.to_string();
    let answer = match address {
        IpAddr::V4(_) => {
            lab.on(host, &["arping", "-r", "-c", "2", "-W", "0.2", "-i", "eth0", &text])
        }
        IpAddr::V6(_) => {
            lab.on(host, &["ndisc6", "-m", "-q", "-r", "1", "-w", "400", &text, "eth0"])
        }
    };
    answer.out.lines().map(|line| line.trim().to_lowercase()).collect()
}

/// The node that answers for an address, as soon as just one does.
fn elected(lab: &Lab, address: IpAddr) -> String {
    wait_for(&format!("one to answer for {address}"), SOON, || {
        let answering = answering(lab, "client", address);
        let is_it = |node: &String| {
            let links = lab.on(node, &["ip", "-j", "link", "show", "eth0"]).json();
            answering.len() == 1 && answering.contains(&text(&links[0]["address"]))
        };
        let mut nodes = (1..=3).map(|n| format!("node-{n}"));
        nodes.find(is_it).ok_or_else(|| format!("{answering:?}"))
    })
}

/// How long a failover may take.
const FAILOVER: Duration = Duration::from_secs(1);
/// A machine that is busy with other things may miss the time; one that never holds it fails.
const TRIES: usize = 3;

/// The elected node is cut off: another one answers; connections to pods elsewhere go on, and whoever
/// is new gets one of these pods. By TCP and UDP, IPv4 and IPv6.
#[test]
fn an_address_outlives_its_node_and_so_do_connections_to_other_nodes() {
    static LAB: SharedLab = SharedLab::new("failover", "192.168.77.0/24", 3);
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "failover");
    for address in echo(&room, 3) {
        let mut tried = Vec::new();
        while tried.last() != Some(&None) {
            assert!(tried.len() < TRIES, "{address}: {tried:#?}");
            tried.push(fails_over(&room, address));
        }
    }
}

/// Connections and sockets to pods of every node, by pod.
struct Clients {
    talks: BTreeMap<String, Vec<Talk>>,
    chats: BTreeMap<String, Vec<Chat>>,
}

impl Clients {
    fn of(room: &Room, address: SocketAddr) -> Self {
        let mut clients = Self { talks: BTreeMap::new(), chats: BTreeMap::new() };
        wait_for("a connection and a socket to each pod", SOON, || {
            let talk = room.inside("client", || Talk::begin(address));
            let talk = talk.map_err(|error| error.to_string())?;
            clients.talks.entry(talk.pod.clone()).or_default().push(talk);
            let chat = room.inside("client", || Chat::begin(address));
            let chat = chat.map_err(|error| error.to_string())?;
            clients.chats.entry(chat.pod.clone()).or_default().push(chat);
            let pods = (clients.talks.len(), clients.chats.len());
            if pods == (3, 3) { Ok(()) } else { Err(format!("{pods:?}")) }
        });
        clients
    }

    /// The pods that do not answer any more, but for one, and why.
    fn silent(&mut self, lost: &str) -> BTreeSet<String> {
        let mut silent = BTreeSet::new();
        let mut note = |pod: &String, result: std::io::Result<()>| {
            silent.extend(result.err().map(|error| format!("{pod}: {error}")));
        };
        for (pod, talks) in self.talks.iter_mut().filter(|(pod, _)| *pod != lost) {
            talks.iter_mut().for_each(|talk| note(pod, talk.goes_on("still there?")));
        }
        for (pod, chats) in self.chats.iter().filter(|(pod, _)| *pod != lost) {
            chats.iter().for_each(|chat| note(pod, chat.goes_on()));
        }
        silent
    }
}

/// Cuts the elected node off and puts it back; says what took too long, if anything did.
fn fails_over(room: &Room, address: SocketAddr) -> Option<String> {
    let mut clients = Clients::of(room, address);
    let dead = elected(room, address.ip());
    let port = format!("failover-n{}", dead.trim_start_matches("node-"));
    let lost = format!("echo-{}", dead.trim_start_matches("node-"));

    // As if its cable were cut: no farewell.
    let _ = run("ip", &["link", "set", &port, "down"]).ok();
    let cut = Instant::now();
    let after = loop {
        match room.inside("client", || Talk::begin(address)) {
            Ok(_) => break cut.elapsed(),
            Err(_) => assert!(cut.elapsed() < SOON, "nobody took {address} over"),
        }
    };
    let silent = clients.silent(&lost);
    let went_on = cut.elapsed();
    println!("{address}: a new connection after {after:?}, the old ones went on after {went_on:?}");
    let late = refused_after(room, address, cut);
    // The control plane has not given the node up yet: its pod is in the list.
    let heir = elected(room, address.ip());
    let _ = run("ip", &["link", "set", &port, "up"]).ok();
    assert_ne!(heir, dead);
    assert!(silent.is_empty(), "connections that were lost with {dead}: {silent:?}");
    // The same node is elected again, and everybody is told.
    wait_for("the node to have the address again", SOON, || {
        let now = elected(room, address.ip());
        if now == dead { Ok(()) } else { Err(now) }
    });
    let is_slow = went_on > FAILOVER || !late.is_empty();
    is_slow.then(|| format!("went on after {went_on:?}; refused later: {late:?}"))
}

/// Who is new is served, every time: what fails although it began when the failover should be over.
fn refused_after(room: &Room, address: SocketAddr, cut: Instant) -> Vec<String> {
    let mut refused = Vec::new();
    for _ in 0..40 {
        let begun = cut.elapsed();
        let talk = room.inside("client", || Talk::begin(address)).map(drop);
        let chat = room.inside("client", || Chat::begin(address)).map(drop);
        for (what, failed) in [("TCP", talk.err()), ("UDP", chat.err())] {
            let failed = failed.filter(|_| begun > FAILOVER);
            refused.extend(failed.map(|error| format!("{what} after {begun:?}: {error}")));
        }
    }
    refused
}

/// A pod that says the address is its own is believed by nobody.
#[test]
fn what_a_pod_says_of_a_load_balancer_s_address_changes_nothing() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "spoof");
    room.deploys("web", 3);
    let pods = room.ready_pods("app=web", 3);
    let expose = "expose deployment web --port=80 --target-port=8080 --type=LoadBalancer";
    let _ = room.types(expose).ok();
    let address: IpAddr = ingress(&room, "web", 1)[0].parse().expect("an address");
    let url = format!("http://{address}");
    room.is_served("client", &url, &pods);
    let before = elected(&room, address);
    let text_of = address.to_string();
    for pod in &pods {
        for how in [&["-U", "-P"][..], &["-U"], &[]] {
            // Nobody answers, which the tool takes for a failure.
            let spoof = ["arping", "-c", "3", "-W", "0.1", "-i", "eth0", "-S", &text_of];
            let sent = room.in_network_of(pod, &[&spoof[..], how, &[&text_of]].concat());
            assert!(sent.out.contains("packets transmitted"), "{sent}");
        }
        let links = room.in_network_of(pod, &["ip", "-j", "link", "show", "eth0"]).json();
        let mac = text(&links[0]["address"]);
        for host in ["client", "node-1", "node-2", "node-3"] {
            let known = room.on(host, &["ip", "neigh", "show", &text_of]).out;
            assert!(!known.contains(&mac), "{host} believes {pod}: {known}");
        }
    }
    assert_eq!(elected(&room, address), before);
    let told = room.types("describe svc web").ok();
    assert!(!told.contains("AddressConflict"), "{told}");
    room.is_served("client", &url, &pods);
}

/// Without any pool the nodes' own addresses serve, and a port that is taken is reported.
#[test]
fn without_a_pool_the_nodes_addresses_serve() {
    static LAB: SharedLab = SharedLab::new("nopool", "192.168.78.0/24", 2).with(&["--no-pool"]);
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "nodes");
    room.deploys("web", 2);
    let pods = room.ready_pods("app=web", 2);
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: \
             LoadBalancer, selector: {{app: web}}, ports: [{{port: 8000, targetPort: 8080}}]}}\n"
        )
    };
    room.applies(&service("first"));
    let mut addresses = ingress(&room, "first", 2);
    addresses.sort();
    assert_eq!(addresses, ["192.168.78.70", "192.168.78.71"]);
    for address in &addresses {
        room.is_served("client", &format!("http://{address}:8000"), &pods);
    }
    room.applies(&service("second"));
    wait_for("the second to be told whose the port is", SOON, || {
        let text = room.types("describe svc second").ok();
        if text.contains("nodes/first") { Ok(()) } else { Err(text) }
    });
    assert_eq!(room.row("get svc second", "second")[3], "<pending>");
    let _ = room.types("delete svc first").ok();
    assert_eq!(ingress(&room, "second", 2).len(), 2, "free again");
    let _ = room.types("delete svc second").ok();
    wait_for("nobody to answer", SOON, || match room.asks("client", "http://192.168.78.70:8000") {
        Err(CurlError::Refused) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
