//! Names as a learner meets them: aliases of what is outside, Services without an address, and how
//! a short name becomes a long one. With minictl and with kubectl, asked by pods and by `dig`.
//!
//! Numbers of rows (M2, M12 to M14, K15 to K17) are those of the course's list.

use std::collections::BTreeSet;

use e2e::room::{Room, SharedLab, items, text};
use e2e::{Answer, can_run_labs, wait_for};

static LAB: SharedLab = SharedLab::new("names", "192.168.74.0/24", 2);
const SOON: std::time::Duration = std::time::Duration::from_secs(20);
/// The name server of the cluster.
const SERVER: &str = "@10.96.0.10";

/// M2, verbatim.
const ALIAS: &str = "apiVersion: v1
kind: Service
metadata:
  name: external-service
spec:
    type: ExternalName
    externalName: myservice.test.com # external-service와 연결하려는 외부 도메인 값을 설정
";

/// M12, verbatim.
const WITHOUT_SELECTOR: &str = "apiVersion: v1
kind: Service
metadata:
  name: external-service #서비스 이름은 엔드포인트 오브젝트 이름과 일치되어야함
spec: #서비스에 셀렉터 미정의
  ports:
    - port: 80
";

/// M13, verbatim.
const BY_HAND: &str = "apiVersion: v1
kind: Endpoints
metadata:
  name: external-service #아까 서비스 생성 yaml에서 서비스 이름과 동일
subsets:
  - addresses: #서비스가 연결을 전달할 endpoint의 IP
    - ip: 11.11.11.11
    - ip: 22.22.22.22
    ports:
      - port: 80 #엔드포인트 대상포트
";

/// M14, verbatim.
const OTHER_ALIAS: &str = "apiVersion: v1
kind: Service
metadata:
  name: external-service
spec:
  type: ExternalName #서비스 유형이 이렇게 설정됨
  externalName: someapi.somecompany.com #실제 서비스의 정규화된 도메인 이름
  ports:
    - port: 80
";

/// A pod to ask from.
fn visitor(room: &Room) {
    let run = "run visitor --image=dalgudcks/http-go --image-pull-policy=IfNotPresent";
    let _ = room.types(&format!("{run} --labels=app=visitor")).ok();
    let _ = room.ready_pods("app=visitor", 1);
}

fn full_name(room: &Room, service: &str) -> String {
    format!("{service}.{}.svc.cluster.local", room.namespace())
}

/// What `dig` prints for a question from the visitor's network.
fn dig(room: &Room, question: &[&str]) -> Answer {
    let dig = ["dig", SERVER, "+time=2", "+tries=2"];
    room.in_network_of("visitor", &[&dig[..], question].concat())
}

/// The data of the records of an answer.
fn short(room: &Room, question: &[&str]) -> BTreeSet<String> {
    let answer = dig(room, &[question, &["+short"]].concat()).ok();
    answer.lines().map(|line| line.trim_end_matches('.').to_owned()).collect()
}

/// Waits until the answer to a question is `wanted`.
fn resolves(room: &Room, question: &[&str], wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|&data| data.to_owned()).collect();
    wait_for(&format!("{question:?} to be {wanted:?}"), SOON, || {
        let found = short(room, question);
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// The times to live in an answer.
fn lifetimes(room: &Room, name: &str) -> Vec<u32> {
    let answer = dig(room, &[name, "+noall", "+answer"]).ok();
    let lives: Vec<u32> =
        answer.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    assert!(!lives.is_empty(), "{answer}");
    lives
}

/// What the visitor reads at a URL, once that contains `wanted`.
fn reads(room: &Room, url: &str, wanted: &str) -> String {
    wait_for(&format!("{url} to say {wanted:?}"), SOON, || {
        let answer = room.types(&format!("exec visitor -- curl -sS -m 5 {url}"));
        if answer.out.contains(wanted) { Ok(answer.out) } else { Err(answer.to_string()) }
    })
}

/// M2, K16: an alias has no address, no port and no proxy; DNS alone knows it.
#[test]
fn an_external_name_leads_outside_by_dns_alone() {
    LAB.with_each_client("alias", |room| {
        visitor(room);
        room.applies(ALIAS);
        let cells = room.row("get svc external-service", "external-service");
        assert_eq!(cells[1..5], ["ExternalName", "<none>", "myservice.test.com", "<none>"]);
        let described = room.types("describe svc external-service").ok();
        let line = described.lines().find(|line| line.starts_with("External Name:"));
        assert!(line.is_some_and(|line| line.ends_with("myservice.test.com")), "{described}");

        // The alias and what it leads to, in one answer.
        let name = full_name(room, "external-service");
        resolves(room, &[&name, "CNAME"], &["myservice.test.com"]);
        resolves(room, &[&name], &["myservice.test.com", "203.0.113.10"]);
        let both = ["myservice.test.com", "2001:db8:203:113::10"];
        resolves(room, &[&name, "AAAA"], &both);
        // A change must not be waited for.
        assert!(
            lifetimes(room, &name).iter().all(|ttl| *ttl <= 30),
            "{:?}",
            lifetimes(room, &name)
        );

        // The short name, the long one; the site hears the name that was typed.
        for typed in ["external-service", name.as_str()] {
            let page = reads(room, &format!("http://{typed}/"), "This is myservice.test.com at");
            assert!(page.contains(&format!("asked host {typed} for /")), "{page}");
        }
        // No proxy: nothing of it is in any kernel.
        let dump = room.minictl(&["dataplane", "dump", "-n", room.namespace()]).ok();
        assert!(!dump.contains("external-service"), "{dump}");
    });
}

/// M12 to M14: a name that had an address of its own and endpoints becomes an alias; both are
/// given back. And it is retargeted by writing another name.
#[test]
fn a_service_becomes_an_alias_and_its_old_address_is_nobodys() {
    LAB.with_each_client("retarget", |room| {
        visitor(room);
        let name = full_name(room, "external-service");
        room.applies(WITHOUT_SELECTOR);
        room.applies(BY_HAND);
        let cells = room.row("get endpoints external-service", "external-service");
        assert_eq!(cells[1], "11.11.11.11:80,22.22.22.22:80");
        let vip = text(&room.object("service", "external-service")["spec"]["clusterIP"]);
        resolves(room, &[&name], &[&vip]);

        room.applies(OTHER_ALIAS);
        let spec = room.object("service", "external-service")["spec"].clone();
        assert!(spec["clusterIP"].is_null() && spec["clusterIPs"].is_null(), "{spec}");
        assert_eq!(room.minictl(&["get", "ipaddress", &vip]).code, 1, "{vip} is given back");
        // Neither the old address nor the endpoints that still have its name.
        resolves(room, &[&name], &["someapi.somecompany.com", "203.0.113.20"]);
        let cells = room.row("get svc external-service", "external-service");
        assert_eq!(cells[1..5], ["ExternalName", "<none>", "someapi.somecompany.com", "80/TCP"]);
        reads(room, "http://external-service", "This is someapi.somecompany.com at");

        room.applies(ALIAS);
        resolves(room, &[&name], &["myservice.test.com", "203.0.113.10"]);
        reads(room, "http://external-service", "This is myservice.test.com at");

        // Back to an address and a selector: pods behind the same name.
        room.deploys("web", 1);
        let pods = room.ready_pods("app=web", 1);
        room.patches(
            "svc/external-service",
            r#"{"spec":{"type":"ClusterIP","externalName":null,"selector":{"app":"web"},
               "ports":[{"port":80,"targetPort":8080}]}}"#,
        );
        let pod = pods.first().expect("one pod");
        reads(room, "http://external-service", &format!("Welcome! {pod}"));
    });
}

/// K15: `None` is not the same as nothing: without a word a Service gets an address, with `None`
/// its name leads to the pods themselves.
#[test]
fn a_headless_name_is_its_pods_and_an_omitted_address_is_one() {
    LAB.with_each_client("headless", |room| {
        visitor(room);
        room.deploys("web", 3);
        let pods = room.ready_pods("app=web", 3);
        let service = |name: &str, spec: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
                 spec: {{{spec}ports: [{{name: web, port: 80, targetPort: 8080}}]}}\n"
            )
        };
        room.applies(&service("omitted", "selector: {app: web}, "));
        room.applies(&service("headless", "clusterIP: None, selector: {app: web}, "));
        room.applies(&service("nobody", "clusterIP: None, "));

        let vip = text(&room.object("service", "omitted")["spec"]["clusterIP"]);
        resolves(room, &[&full_name(room, "omitted")], &[&vip]);
        let addresses: Vec<String> =
            pods.iter().map(|pod| text(&room.object("pod", pod)["status"]["podIP"])).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        resolves(room, &[&full_name(room, "headless")], &addresses);
        // Each pod under a name of its own, with the port that it listens on.
        let srv = short(room, &["SRV", &format!("_web._tcp.{}", full_name(room, "headless"))]);
        assert_eq!(srv.len(), 3, "{srv:?}");
        for record in srv {
            let (left, target) = record.rsplit_once(' ').expect("priority weight port target");
            assert!(left.ends_with(" 8080"), "{record}");
            let one = short(room, &[target]);
            assert!(one.iter().all(|address| addresses.contains(&address.as_str())), "{one:?}");
        }
        // Without a selector nobody writes endpoints.
        let slices = "get endpointslices -l kubernetes.io/service-name=nobody -o json";
        assert_eq!(items(&room.types(slices).json()).count(), 0);
        assert_eq!(short(room, &[&full_name(room, "nobody")]), BTreeSet::new());
        let words = room.minictl(&["explain", "service.spec.clusterIP"]).ok();
        assert!(words.contains("Left out is not the same as None."), "{words}");
        // A pod more is an address more.
        let _ = room.types("scale deployment web --replicas=4").ok();
        let _ = room.ready_pods("app=web", 4);
        wait_for("a fourth address", SOON, || {
            let found = short(room, &[&full_name(room, "headless")]);
            if found.len() == 4 { Ok(()) } else { Err(format!("{found:?}")) }
        });
    });
}

/// K17: what a short name becomes, one name after the other, and where an alias leads.
#[test]
fn a_trace_shows_every_name_that_is_tried() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "trace");
    visitor(&room);
    room.applies(ALIAS);
    let name = full_name(&room, "external-service");
    resolves(&room, &[&name, "CNAME"], &["myservice.test.com"]);
    let short = room.types("dns trace external-service --from visitor").ok();
    for part in [name.as_str(), "CNAME", "myservice.test.com", "203.0.113.10"] {
        assert!(short.contains(part), "{part} in\n{short}");
    }
    let outside = room.types("dns trace myservice.test.com --from visitor").ok();
    let mut from = 0;
    let suffixes = [&format!(".{}.svc.cluster.local", room.namespace()), ".svc.cluster.local"];
    for suffix in [suffixes[0], suffixes[1], ".cluster.local"] {
        let tried = format!("myservice.test.com{suffix}");
        let at = outside[from..].find(&tried);
        from += at.unwrap_or_else(|| panic!("{tried} after {from} in\n{outside}")) + tried.len();
    }
    assert!(outside[from..].contains("203.0.113.10"), "the name itself at last, in\n{outside}");
}

/// The records of the specification that no other test asks for; by UDP and TCP, from pods and
/// nodes; and nothing of it is tracked.
#[test]
fn every_kind_of_record_is_answered_to_pods_and_nodes() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "records");
    visitor(&room);
    let kubernetes = "kubernetes.default.svc.cluster.local";
    for (question, wanted) in [
        (vec![kubernetes], "10.96.0.1"),
        (vec![kubernetes, "+tcp"], "10.96.0.1"),
        (vec!["KuberNetes.DEFAULT.svc.cluster.local"], "10.96.0.1"),
        (vec!["-x", "10.96.0.1"], kubernetes),
        (vec!["TXT", "dns-version.cluster.local"], "\"1.1.0\""),
        (
            vec!["SRV", "_https._tcp.kubernetes.default.svc.cluster.local"],
            "0 100 443 kubernetes.default.svc.cluster.local",
        ),
    ] {
        resolves(&room, &question, &[wanted]);
        let dig = ["dig", SERVER, "+short", "+time=2", "+tries=2"];
        let at_node = room.on("node-2", &[&dig[..], &question].concat()).ok();
        assert_eq!(at_node.trim().trim_end_matches('.'), wanted, "{question:?} from node-2");
    }
    let six = ["@fd00:10:96::a", kubernetes, "+short"];
    let by_six = room.in_network_of("visitor", &[&["dig"][..], &six].concat()).ok();
    assert_eq!(by_six.trim(), "10.96.0.1", "by IPv6");
    let missing = dig(&room, &["nothing.default.svc.cluster.local"]).ok();
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("SOA"), "{missing}");
    // Reached without conntrack, so that a busy table loses no name.
    for node in ["node-1", "node-2"] {
        let tracked = room.on(node, &["conntrack", "-L", "-d", "10.96.0.10"]);
        assert_eq!(tracked.code, 0, "{tracked}");
        assert!(!tracked.out.contains("10.96.0.10"), "{tracked}");
    }
}

/// A client outside may not use the cluster to flood others: it gets a few bytes that say so, or
/// nothing; in either case its question did arrive.
#[test]
fn a_client_outside_is_refused_in_few_bytes() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "outside");
    let node = text(&room.object("node", "node-1")["status"]["addresses"][0]["address"]);
    let _ = room.on("client", &["ip", "route", "replace", "10.96.0.10", "via", &node]).ok();
    let refused = || {
        let page = room.on("node-1", &["curl", "-sS", "http://127.0.0.1:10249/metrics"]).ok();
        let line = "minictl_dns_responses_total{rcode=\"REFUSED\"} ";
        let count = page.lines().find_map(|found| found.strip_prefix(line)?.parse::<u64>().ok());
        count.unwrap_or_else(|| panic!("no {line} in\n{page}"))
    };
    // Any of the cluster's own is answered on the same way.
    visitor(&room);
    resolves(&room, &["kubernetes.default.svc.cluster.local"], &["10.96.0.1"]);
    let before = refused();
    let question = ["dig", SERVER, "kubernetes.default.svc.cluster.local", "+time=2", "+tries=1"];
    let outside = room.on("client", &question).ok();
    assert!(outside.contains("status: REFUSED"), "{outside}");
    assert!(outside.contains("QUERY: 0, ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0"), "{outside}");
    assert_eq!(refused(), before + 1, "the question arrived, and was counted");
}

/// Where a pod looks for names, and what it finds there.
const POLICIES: &str = "apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: policies}}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  containers: [{name: c, image: dalgudcks/http-go, imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Pod
metadata: {name: node, labels: {app: policies}}
spec:
  dnsPolicy: Default
  containers: [{name: c, image: dalgudcks/http-go, imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Pod
metadata: {name: own, labels: {app: policies}}
spec:
  dnsPolicy: None
  dnsConfig:
    nameservers: [10.96.0.10]
    searches: [NAMESPACE.svc.cluster.local, corp.example]
    options: [{name: ndots, value: '2'}]
  containers: [{name: c, image: dalgudcks/http-go, imagePullPolicy: IfNotPresent}]
";

#[test]
fn each_dns_policy_leads_to_its_own_servers() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "policies");
    visitor(&room);
    room.applies(ALIAS);
    room.applies(&POLICIES.replace("NAMESPACE", room.namespace()));
    let _ = room.ready_pods("app=policies", 3);
    let file = |pod: &str| room.types(&format!("exec {pod} -- cat /etc/resolv.conf")).ok();
    let of_cluster = file("visitor");
    let search = format!("search {}.svc.cluster.local svc.cluster.local", room.namespace());
    assert!(of_cluster.starts_with(&search), "{of_cluster}");
    for line in ["nameserver 10.96.0.10", "nameserver fd00:10:96::a", "options ndots:5"] {
        assert!(of_cluster.lines().any(|found| found == line), "{line} in\n{of_cluster}");
    }
    assert_eq!(file("host"), of_cluster, "the node's network, and the cluster's names");
    assert!(!file("node").contains("10.96.0.10"), "{}", file("node"));
    let own = format!(
        "search {}.svc.cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:2\n",
        room.namespace()
    );
    assert_eq!(file("own"), own);

    let site = "This is myservice.test.com at";
    let fetch = |pod: &str| room.types(&format!("exec {pod} -- curl -sS -m 8 external-service"));
    for pod in ["visitor", "host", "own"] {
        wait_for(&format!("{pod} to find the alias"), SOON, || {
            let answer = fetch(pod);
            if answer.out.contains(site) { Ok(()) } else { Err(answer.to_string()) }
        });
    }
    let lost = fetch("node");
    // That server says no, or can't be reached from a lab.
    assert!(lost.code != 0 && lost.err.contains("esolv"), "no Service by name: {lost}");

    // The same, told.
    let trace = |pod: &str| room.types(&format!("dns trace external-service --from {pod}")).out;
    let header = format!("search {}.svc.cluster.local corp.example, ndots:2", room.namespace());
    assert!(trace("own").contains(&header), "{}", trace("own"));
    assert!(trace("own").contains("203.0.113.10"), "{}", trace("own"));
    assert!(trace("host").contains("203.0.113.10"), "{}", trace("host"));
    assert!(trace("node").contains("does not ask the cluster's DNS"), "{}", trace("node"));
}

/// The log tells a pod's questions and nobody else's; of several nodes in one order.
#[test]
fn the_log_tells_what_each_pod_asked() {
    if !can_run_labs() {
        return;
    }
    let room = LAB.room("minictl", "log");
    visitor(&room);
    let name = |n: u32| format!("name-{n}.{}.svc.cluster.local", room.namespace());
    for n in 0..3 {
        let _ = dig(&room, &[&name(n)]).ok();
        // The nodes themselves ask, too: they are no pods.
        let at_node = ["dig", SERVER, &name(n), "+time=2", "+tries=2"];
        let _ = room.on(["node-1", "node-2"][n as usize % 2], &at_node).ok();
    }
    let entries = |flags: &[&str]| -> Vec<serde_json::Value> {
        let log = room.minictl(&[&["dns", "log", "-o", "json"][..], flags].concat()).ok();
        log.lines()
            .map(|line| serde_json::from_str(line).expect("an object on each line"))
            .collect()
    };
    let pod = format!("{}/visitor", room.namespace());
    let of_pod = entries(&["--pod", &pod]);
    let asked: Vec<String> = of_pod.iter().map(|entry| text(&entry["name"])).collect();
    assert_eq!(asked, [0, 1, 2].map(|n| name(n) + "."), "in order, and nothing else");
    for entry in &of_pod {
        assert_eq!(text(&entry["pod"]), "visitor");
        assert_eq!(text(&entry["code"]), "NXDOMAIN");
        assert_eq!(text(&entry["source"]), "zone");
        assert!(entry.get("mark").is_none(), "{entry}");
    }
    let latest = entries(&["--pod", &pod, "--tail", "1"]);
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0]["name"], of_pod[2]["name"]);
    // Of both nodes together, by time.
    let all = entries(&["--tail", "4"]);
    assert_eq!(all.len(), 4, "{all:?}");
    let times: Vec<String> = all.iter().map(|entry| text(&entry["time"])).collect();
    assert!(times.is_sorted(), "{times:?}");
}
