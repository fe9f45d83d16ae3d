//! The commands of the course notes, verbatim, with minictl and with a stock kubectl.
//!
//! One lab of two nodes serves both clients, each in a namespace of its own. The numbers of the
//! rows are those of the course's list of commands.

use std::process::Command;
use std::time::Duration;

use e2e::{Answer, Lab, can_run_labs, finish, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

const NGINX_DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
spec:
  replicas: 3
  selector:
    matchLabels:
      app: nginx
  template:
    metadata:
      labels:
        app: nginx
    spec:
      containers:
      - name: nginx
        image: nginx
        ports:
        - containerPort: 80
";

const NGINX_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata:
  name: my-nginx
  labels:
    run: my-nginx
spec:
  type: NodePort        # 외부에서 접속할 때 노드포트 서비스 사용
  ports:
    - port: 8080        # 노드포트 서비스에서 사용하는 포트
      targetPort: 80    # 파드(컨테이너)에서 사용하는 포트
      protocol: TCP
      name: http
  selector:
    app: nginx          # nginx 라는 이름의 레이블을 갖는 파드를 서비스
";

/// A student: one client in a namespace and a folder of its own.
struct Student<'a> {
    lab: &'a Lab,
    client: &'static str,
    namespace: String,
    folder: tempfile::TempDir,
}

impl<'a> Student<'a> {
    fn new(lab: &'a Lab, client: &'static str) -> Self {
        let namespace = format!("course-{client}");
        let _ = lab.minictl(&["create", "namespace", &namespace]).ok();
        Self { lab, client, namespace, folder: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self) -> Command {
        let mut command = self.lab.command(self.client, Some(&self.namespace));
        command.current_dir(self.folder.path());
        command
    }

    /// Types a line of the notes; its first word, `kubectl`, is the student's client.
    fn types(&self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        finish(self.command(), &words, None)
    }

    fn writes(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn waits_until_available(&self, deployment: &str, replicas: usize) {
        wait_for(&format!("{deployment} to be available"), LIMIT, || {
            let line = format!("kubectl get deployment {deployment} -o json");
            let object = self.types(&line).json();
            match object["status"]["availableReplicas"].as_u64() {
                Some(available) if available == replicas as u64 => Ok(()),
                _ => Err(format!(
                    "{}\n{}",
                    object["status"],
                    self.types("kubectl get pods -o wide").out
                )),
            }
        });
    }
}

/// The columns of a table, by the headings' positions.
fn rows(table: &str) -> Vec<Vec<String>> {
    table
        .lines()
        .skip(1)
        .map(|line| {
            line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
        })
        .collect()
}

fn first_note(student: &Student<'_>) {
    // C2: apply, apply again, change and apply.
    let manifest = include_str!("../../docs/course/ClusterIP.yaml");
    student.writes("ClusterIP.yaml", manifest);
    let apply = "kubectl apply -f ClusterIP.yaml";
    assert_eq!(student.types(apply).ok(), "deployment.apps/clusterip-nginx created\n");
    assert_eq!(student.types(apply).ok(), "deployment.apps/clusterip-nginx unchanged\n");
    student.writes("ClusterIP.yaml", &manifest.replace("replicas: 2", "replicas: 3"));
    assert_eq!(student.types(apply).ok(), "deployment.apps/clusterip-nginx configured\n");
    student.writes("ClusterIP.yaml", manifest);
    assert_eq!(student.types(apply).ok(), "deployment.apps/clusterip-nginx configured\n");
    student.waits_until_available("clusterip-nginx", 2);

    // C3, C4, C14: the pods with their addresses, by short and by long flags.
    let pods = wait_for("exactly two pods", LIMIT, || {
        let table = student.types("kubectl get pods -l run=clusterip-nginx -o wide").ok();
        if rows(&table).len() == 2 { Ok(table) } else { Err(table) }
    });
    let head: Vec<&str> = pods.lines().next().expect("a heading").split_whitespace().collect();
    assert_eq!(
        head.join(" "),
        "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    let long = "kubectl get pods --selector run=clusterip-nginx --output=wide";
    assert_eq!(rows(&student.types(long).ok()).len(), 2);
    let nodes: Vec<String> = rows(&pods).into_iter().map(|row| row[6].clone()).collect();
    assert_ne!(nodes[0], nodes[1], "spread over the nodes:\n{pods}");
    let mut addresses: Vec<String> = rows(&pods).into_iter().map(|row| row[5].clone()).collect();
    addresses.sort();

    // C5 to C8: expose, get, describe, endpoints.
    assert_eq!(
        student.types("kubectl expose deployment/clusterip-nginx").ok(),
        "service/clusterip-nginx exposed\n"
    );
    let service = rows(&student.types("kubectl get svc clusterip-nginx").ok()).remove(0);
    assert_eq!((service[1].as_str(), service[3].as_str()), ("ClusterIP", "<none>"));
    assert_eq!(service[4], "80/TCP");
    let vip = service[2].clone();
    let described = wait_for("both endpoints", LIMIT, || {
        let text = student.types("kubectl describe svc clusterip-nginx").ok();
        let found = addresses.iter().all(|address| text.contains(&format!("{address}:80")));
        if found { Ok(text) } else { Err(text) }
    });
    for field in
        ["Name:", "Namespace:", "Selector:", "IP Family Policy:", "IPs:", "Session Affinity:"]
    {
        assert!(described.contains(field), "{field} in\n{described}");
    }
    assert!(described.contains(&vip), "{vip} in\n{described}");
    let endpoints = student.types("kubectl get ep clusterip-nginx");
    assert!(endpoints.err.contains("v1 Endpoints is deprecated"), "{endpoints}");
    let mut listed: Vec<String> = rows(&endpoints.clone().ok())[0][1]
        .split(',')
        .map(|endpoint| endpoint.trim_end_matches(":80").to_owned())
        .collect();
    listed.sort();
    assert_eq!(listed, addresses);

    visit_from_a_pod(student, &vip);
    reach_pods_from_nodes_only(student.lab, &addresses);
}

/// C9 and C10: an interactive pod with a terminal, gone when its shell ends.
fn visit_from_a_pod(student: &Student<'_>, vip: &str) {
    let client = student.command().get_program().to_string_lossy().into_owned();
    let line = format!("{client} run busybox --rm -it --image=busybox /bin/sh");
    let mut script = Command::new("script");
    for (key, value) in student.command().get_envs() {
        script.env(key, value.expect("only set variables"));
    }
    let input = format!("stty -echo\nwget {vip}\ncat index.html\nexit\n");
    let answer = finish(script, &["-qec", &line, "/dev/null"], Some(&input));
    assert!(answer.out.contains("Welcome to nginx!"), "{answer}");
    assert!(answer.out.contains("pod \"busybox\" deleted"), "{answer}");
    assert_eq!(answer.code, 0, "{answer}");
    wait_for("the pod to be gone", LIMIT, || {
        let answer = student.types("kubectl get pod busybox");
        let gone = r#"Error from server (NotFound): pods "busybox" not found"#;
        if answer.code == 1 && answer.err.contains(gone) { Ok(()) } else { Err(answer.to_string()) }
    });
}

/// C28: a pod's address answers on nodes, and not to a client that only knows the node network.
fn reach_pods_from_nodes_only(lab: &Lab, addresses: &[String]) {
    for address in addresses {
        let url = format!("http://{address}");
        for node in ["node-1", "node-2"] {
            let page = lab.on(node, &["curl", "-s", "-m", "5", &url]).ok();
            assert!(page.contains("Welcome to nginx!"), "{node} to {address}: {page}");
        }
        assert_ne!(lab.on("client", &["curl", "-s", "-m", "2", &url]).code, 0, "{address}");
    }
}

/// C13, C15 to C17: a NodePort answers on every node, also on those without a pod.
fn node_port_note(student: &Student<'_>) {
    student.writes("nginx-deployment.yaml", NGINX_DEPLOYMENT);
    student.writes("nginx-svc.yaml", NGINX_SERVICE);
    let _ = student.types("kubectl apply -f nginx-deployment.yaml").ok();
    student.waits_until_available("nginx-deployment", 3);
    for name in ["deployments", "deployment", "deploy", "deployments.apps"] {
        let table = student.types(&format!("kubectl get {name}")).ok();
        let row = rows(&table).into_iter().find(|row| row[0] == "nginx-deployment");
        assert_eq!(row.expect("the deployment")[1..4], ["3/3", "3", "3"], "{table}");
    }
    assert_eq!(student.types("kubectl apply -f nginx-svc.yaml").ok(), "service/my-nginx created\n");

    // C16: through a pipe.
    let client = student.command().get_program().to_string_lossy().into_owned();
    let mut shell = Command::new("sh");
    for (key, value) in student.command().get_envs() {
        shell.env(key, value.expect("only set variables"));
    }
    let piped = finish(shell, &["-c", &format!("{client} get svc | grep my-nginx")], None).ok();
    assert!(!piped.contains('\u{1b}') && piped.lines().count() == 1, "{piped:?}");
    let port: u16 = piped
        .split("8080:")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("a node port in {piped}"));
    assert!((30000..=32767).contains(&port), "{piped}");

    // One pod only, so that one of the nodes has none.
    let _ = student.types("kubectl scale deployment nginx-deployment --replicas=1").ok();
    student.waits_until_available("nginx-deployment", 1);
    for node in ["192.168.61.70", "192.168.61.71"] {
        let url = format!("http://{node}:{port}");
        let page = student.lab.on("client", &["curl", "-s", "-m", "5", &url]).ok();
        assert!(page.contains("Welcome to nginx!"), "{url}: {page}");
    }
}

fn all_notes(lab: &Lab, client: &'static str) {
    let student = Student::new(lab, client);
    first_note(&student);
    node_port_note(&student);
}

#[test]
fn the_notes_run_verbatim() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("course", "192.168.61.0/24", 2);
    all_notes(&lab, "minictl");
    if e2e::capable("kubectl", e2e::run("which", &["kubectl"]).code == 0) {
        all_notes(&lab, "kubectl");
    }
}
