//! The flows of a person at a terminal, with every kubectl named in `KUBECTLS` (separated by
//! colons; default: the one on the PATH). Where there is none, the tests say so and how many.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Cluster, PATIENCE};
use crate::streams::with_running_pod;

/// The binaries to try; says loudly when there is none.
fn kubectls(test: &str) -> Vec<PathBuf> {
    let named = std::env::var("KUBECTLS").unwrap_or_else(|_| "kubectl".into());
    let works = |path: &PathBuf| {
        let version = Command::new(path).args(["version", "--client"]).output();
        version.is_ok_and(|v| v.status.success())
    };
    let found: Vec<PathBuf> = named.split(':').map(PathBuf::from).filter(works).collect();
    if found.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "{test}: no kubectl");
        // Tests have no other way to be heard.
        #[expect(clippy::print_stderr, reason = "a test that cannot run must say so")]
        {
            eprintln!("SKIPPED: {test}: no kubectl");
        }
    }
    found
}

struct Shell {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

impl Shell {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).args(arguments);
        command.envs(self.environment.iter().copied());
        command
    }

    /// Runs a command off the async threads; exit code, output, errors.
    async fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut command = self.command(arguments);
        let input = input.to_owned();
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // A command that reads nothing closes its input.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = tokio::time::timeout(PATIENCE, run).await.expect("kubectl ends").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs a command that must succeed.
    async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let (code, out, err) = self.run(arguments, input).await;
        assert_eq!(code, 0, "{} {arguments:?}: {out}{err}", self.kubectl.display());
        out
    }

    /// Runs a command that must fail.
    async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let (code, out, err) = self.run(arguments, input).await;
        assert_ne!(code, 0, "{} {arguments:?}: {out}{err}", self.kubectl.display());
        err
    }
}

fn shells(cluster: &Cluster, test: &str) -> Vec<Shell> {
    let kubeconfig = cluster.kubeconfig_file();
    let home = cluster.dir.path().to_owned();
    kubectls(test)
        .into_iter()
        .map(|kubectl| Shell {
            kubectl,
            kubeconfig: kubeconfig.clone(),
            home: home.clone(),
            environment: Vec::new(),
        })
        .collect()
}

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-nginx
spec:
  selector:
    matchLabels:
      run: my-nginx
  replicas: 2
  template:
    metadata:
      labels:
        run: my-nginx
    spec:
      containers:
      - name: my-nginx
        image: nginx
        ports:
        - containerPort: 80
";

#[tokio::test(flavor = "multi_thread")]
async fn apply_edit_apply_and_delete() {
    for_each("apply_edit_apply_and_delete", async |sh| {
        let applied = ["apply", "-f", "-"];
        assert_eq!(sh.ok(&applied, MANIFEST).await, "deployment.apps/my-nginx created\n");
        assert_eq!(sh.ok(&applied, MANIFEST).await, "deployment.apps/my-nginx unchanged\n");
        let edited = MANIFEST.replace("replicas: 2", "replicas: 3");
        assert_eq!(sh.ok(&applied, &edited).await, "deployment.apps/my-nginx configured\n");
        let replicas =
            sh.ok(&["get", "deploy", "my-nginx", "-o", "jsonpath={.spec.replicas}"], "").await;
        assert_eq!(replicas, "3");
        let table = sh.ok(&["get", "deployments"], "").await;
        assert!(table.starts_with("NAME       READY   UP-TO-DATE   AVAILABLE   AGE\n"), "{table}");
        assert!(table.contains("my-nginx   0/3"), "{table}");
        sh.ok(&["label", "deploy", "my-nginx", "tier=web"], "").await;
        sh.ok(&["annotate", "deploy", "my-nginx", "note=안녕"], "").await;
        let labelled = sh.ok(&["get", "deploy", "-l", "tier=web", "-o", "name"], "").await;
        assert_eq!(labelled, "deployment.apps/my-nginx\n");
        sh.ok(&["scale", "deploy/my-nginx", "--replicas=5"], "").await;
        let described = sh.ok(&["describe", "deploy", "my-nginx"], "").await;
        assert!(described.contains("5 desired"), "{described}");
        let gone = sh.ok(&["delete", "deploy", "my-nginx"], "").await;
        assert!(gone.starts_with("deployment.apps \"my-nginx\" deleted"), "{gone}");
        let err = sh.fails(&["get", "deploy", "my-nginx"], "").await;
        assert_eq!(err, "Error from server (NotFound): deployments.apps \"my-nginx\" not found\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generators_and_expose() {
    for_each("generators_and_expose", async |sh| {
        sh.ok(&["create", "deployment", "httpd", "--image=httpd"], "").await;
        sh.ok(&["create", "configmap", "m", "--from-literal=a=b"], "").await;
        sh.ok(&["create", "secret", "generic", "s", "--from-literal=a=b"], "").await;
        sh.ok(&["create", "namespace", "other"], "").await;
        sh.ok(&["create", "serviceaccount", "robot"], "").await;
        sh.ok(&["run", "web", "--image=nginx", "--port=80"], "").await;
        let exposed = ["expose", "pod", "web", "--port=80", "--type=NodePort"];
        assert_eq!(sh.ok(&exposed, "").await, "service/web exposed\n");
        let again = sh.fails(&exposed, "").await;
        assert_eq!(again, "Error from server (AlreadyExists): services \"web\" already exists\n");
        let services = sh.ok(&["get", "svc", "web", "-o", "wide"], "").await;
        assert!(services.contains("NodePort") && services.contains("run=web"), "{services}");
        let value = sh.ok(&["get", "cm", "m", "-o", "jsonpath={.data.a}"], "").await;
        assert_eq!(value, "b");
        let described = sh.ok(&["describe", "svc", "web"], "").await;
        assert!(described.contains("TargetPort:"), "{described}");
        sh.ok(&["get", "all"], "").await;
        sh.ok(&["delete", "pod", "web", "--now"], "").await;
        let resources = sh.ok(&["api-resources"], "").await;
        assert!(resources.contains("endpointslices"), "{resources}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_by_the_server() {
    for_each("mistakes_are_told_by_the_server", async |sh| {
        let unknown = MANIFEST.replace("  replicas: 2", "  bogus: 2");
        let err = sh.fails(&["apply", "-f", "-"], &unknown).await;
        assert!(err.contains("unknown field") && err.contains("bogus"), "{err}");
        let selector =
            MANIFEST.replace("      run: my-nginx\n  replicas", "      run: x\n  replicas");
        let err = sh.fails(&["apply", "-f", "-"], &selector).await;
        assert!(err.contains("`selector` does not match template `labels`"), "{err}");
        // kubectl knows kinds in lower case, too; the server does not.
        let lower = "apiVersion: v1\nkind: service\nmetadata:\n  name: a\n";
        let err = sh.fails(&["apply", "--validate=false", "-f", "-"], lower).await;
        let text = "service in version \"v1\" cannot be handled as a Service: no kind \"service\" is \
                    registered for version \"v1\" in scheme";
        assert!(err.contains(text), "{err}");
        let unknown = "apiVersion: v1\nkind: Servise\nmetadata:\n  name: a\n";
        let err = sh.fails(&["apply", "-f", "-"], unknown).await;
        assert!(err.contains("no matches for kind \"Servise\" in version \"v1\""), "{err}");
        assert!(!err.contains("customresourcedefinitions"), "{err}");
        let err = sh.fails(&["get", "nothing"], "").await;
        assert!(err.contains("the server doesn't have a resource type \"nothing\""), "{err}");
        let err = sh.fails(&["logs", "nope"], "").await;
        assert!(err.contains("pods \"nope\" not found"), "{err}");
    })
    .await;
}

const BOTH_FAMILIES: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  clusterIP: 10.96.0.9
  selector:
    app: web
  ports:
  - port: 80
    nodePort: 30008
";

#[tokio::test(flavor = "multi_thread")]
async fn services_and_their_addresses() {
    for_each("services_and_their_addresses", async |sh| {
        sh.ok(&["apply", "-f", "-"], BOTH_FAMILIES).await;
        let applied = sh.ok(&["apply", "-f", "-"], BOTH_FAMILIES).await;
        assert_eq!(applied, "service/web unchanged\n");
        let described = sh.ok(&["describe", "svc", "web"], "").await;
        for field in ["Name:", "Namespace:", "Labels:", "Annotations:", "Selector:", "Type:"] {
            assert!(described.contains(field), "{field} {described}");
        }
        for line in [
            "IP Family Policy:",
            "IPv4,IPv6",
            "IPs:",
            "10.96.0.9,fd00:10:96::",
            "<unset>  80/TCP",
            "<unset>  30008/TCP",
            "Session Affinity:",
            "External Traffic Policy:",
        ] {
            assert!(described.contains(line), "{line} {described}");
        }
        let ranges = sh.ok(&["get", "servicecidrs"], "").await;
        assert!(
            ranges.starts_with("NAME         CIDRS                           AGE\n"),
            "{ranges}"
        );
        assert!(ranges.contains("kubernetes   10.96.0.0/12,fd00:10:96::/112"), "{ranges}");
        let addresses = sh.ok(&["get", "ipaddresses"], "").await;
        assert!(addresses.contains("10.96.0.1 ") && addresses.contains("PARENTREF"), "{addresses}");
        assert!(addresses.contains("services/default/web"), "{addresses}");
        let taken = BOTH_FAMILIES.replace("name: web", "name: other");
        let err = sh.fails(&["apply", "-f", "-"], &taken).await;
        assert!(err.contains("IP 10.96.0.9 is held by the Service default/web"), "{err}");
        let port = taken.replace("  clusterIP: 10.96.0.9\n", "");
        let err = sh.fails(&["apply", "-f", "-"], &port).await;
        assert!(err.contains("port 30008 is held by the Service default/web"), "{err}");
        let more = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata:\n  name: more\n\
                    spec:\n  cidrs: [172.30.0.0/24]\n";
        sh.ok(&["apply", "-f", "-"], more).await;
        let explained = sh.ok(&["explain", "servicecidr.spec.cidrs"], "").await;
        assert!(explained.contains("CIDR"), "{explained}");
        // External names, and back.
        let patch = r#"{"spec":{"type":"ExternalName","externalName":"a.example"}}"#;
        sh.ok(&["patch", "svc", "web", "-p", patch], "").await;
        let addresses = sh.ok(&["get", "ipaddresses"], "").await;
        assert!(!addresses.contains("services/default/web"), "{addresses}");
        let patch = r#"{"spec":{"type":"ClusterIP","externalName":null}}"#;
        sh.ok(&["patch", "svc", "web", "-p", patch], "").await;
        let addresses = sh.ok(&["get", "ip"], "").await;
        assert!(addresses.contains("services/default/web"), "{addresses}");
        let warned = sh
            .run(&["patch", "svc", "web", "-p", r#"{"spec":{"externalIPs":["172.30.1.44"]}}"#], "")
            .await;
        assert!(warned.2.contains("Warning: spec.externalIPs is deprecated"), "{warned:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_oneself() {
    for_each("questions_about_oneself", async |sh| {
        assert_eq!(sh.ok(&["auth", "can-i", "create", "pods"], "").await, "yes\n");
        let list = sh.ok(&["auth", "can-i", "--list"], "").await;
        assert!(list.contains("*.*"), "{list}");
        let (code, me, err) = sh.run(&["auth", "whoami"], "").await;
        // A verb of kubectl 1.26 (KEP-3325): an older one says itself that it has none.
        if !err.contains("unknown command \"whoami\"") {
            assert_eq!(code, 0, "{err}");
            assert!(me.contains("admin") && me.contains("system:masters"), "{me}");
        }
    })
    .await;
}

/// Runs a flow with each kubectl in a cluster of its own.
async fn for_each(test: &str, flow: impl AsyncFn(&Shell)) {
    let count = kubectls(test).len();
    for i in 0..count {
        let cluster = Cluster::start().await;
        flow(&shells(&cluster, test)[i]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_logs_and_exit_codes() {
    for i in 0..kubectls("exec_logs_and_exit_codes").len() {
        let cluster = with_running_pod().await;
        let sh = &shells(&cluster, "")[i];
        let (code, out, err) = sh.run(&["exec", "-i", "a", "--", "cat", "x"], "hello").await;
        assert_eq!((code, out.as_str()), (7, "cat x tty=false\nHELLO"), "{err}");
        assert!(err.contains("bye\n"), "{err}");
        assert_eq!(sh.ok(&["exec", "a", "--", "true"], "").await, "true tty=false\n");
        assert_eq!(
            sh.ok(&["logs", "a", "--tail=3"], "").await,
            "default/a c\ntail Some(3) follow false\n"
        );
        let err = sh.fails(&["exec", "a", "--", "refuse"], "").await;
        assert!(err.contains("container not found"), "{err}");
        let err = sh.fails(&["logs", "a", "-c", "zz"], "").await;
        assert!(err.contains("container zz is not valid for pod a"), "{err}");
    }
}

/// Far more input than fits into the buffers between client and server, for a process that reads
/// hardly any of it: by WebSocket and by SPDY.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_reads_little_ends_in_order() {
    let input = "x".repeat(10 * 1024 * 1024);
    for i in 0..kubectls("a_process_that_reads_little_ends_in_order").len() {
        let cluster = with_running_pod().await;
        let sh = &mut shells(&cluster, "").remove(i);
        for websockets in ["true", "false"] {
            sh.environment = vec![("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)];
            for round in 0..5 {
                let (code, out, err) = sh.run(&["exec", "-i", "a", "--", "head"], &input).await;
                // In the middle of sending, kubectl remarks that a close was exchanged; that is
                // its own doing. A reset would be ours.
                let met = (code, out.as_str(), err.contains("reset by peer"));
                let expected = (0, "head tty=false\n", false);
                assert_eq!(met, expected, "round {round}, WebSocket {websockets}: {err}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_both_ways() {
    for i in 0..kubectls("ports_are_forwarded_both_ways").len() {
        let cluster = with_running_pod().await;
        let sh = &shells(&cluster, "")[i];
        let mut command = tokio::process::Command::from(sh.command(&[
            "port-forward",
            "--address=127.0.0.1",
            "pod/a",
            ":80",
        ]));
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        // kubectl dies of writing when nobody reads what it prints.
        let mut stdout = child.stdout.take().unwrap();
        let address = forwarded_address(&mut stdout, &sh.kubectl).await;
        for _ in 0..3 {
            let echo = async {
                let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
                socket.write_all(b"ping").await.unwrap();
                let mut answer = [0; 4];
                socket.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"ping");
                socket.shutdown().await.unwrap();
                assert_eq!(socket.read(&mut answer).await.unwrap(), 0);
            };
            tokio::time::timeout(PATIENCE, echo).await.expect("an echo");
        }
        child.kill().await.unwrap();
    }
}

async fn forwarded_address(stdout: &mut tokio::process::ChildStdout, kubectl: &Path) -> String {
    let mut seen = String::new();
    let read = async {
        let mut buffer = [0; 256];
        loop {
            let count = stdout.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{} ended: {seen}", kubectl.display());
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if let Some(address) = seen.split_whitespace().find(|w| w.starts_with("127.0.0.1:")) {
                return address.to_owned();
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("kubectl says where it listens")
}

const POOL: &str = "
apiVersion: minictl.io/v1
kind: AddressPool
metadata:
  name: default
spec:
  addresses:
  - 192.168.56.200-192.168.56.249
";

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_load_balancers() {
    for_each("pools_and_load_balancers", async |sh| {
        let apply = ["apply", "-f", "-"];
        assert_eq!(sh.ok(&apply, POOL).await, "addresspool.minictl.io/default created\n");
        assert_eq!(sh.ok(&apply, POOL).await, "addresspool.minictl.io/default unchanged\n");
        let table = sh.ok(&["get", "pools"], "").await;
        let head = "NAME      ADDRESSES                       ASSIGNED   AVAILABLE   AGE\n";
        assert!(table.starts_with(head), "{table}");
        assert!(table.contains("192.168.56.200-192.168.56.249   0          50"), "{table}");
        sh.ok(&["create", "service", "loadbalancer", "web", "--tcp=80:80"], "").await;
        let row = sh.ok(&["get", "svc", "web", "--no-headers"], "").await;
        assert!(row.contains("192.168.56.200"), "{row}");
        let described = sh.ok(&["describe", "svc", "web"], "").await;
        // New kubectls add " (VIP)".
        let address = described.lines().find(|line| line.starts_with("LoadBalancer Ingress:"));
        assert!(address.is_some_and(|line| line.contains("192.168.56.200")), "{described}");
        let twice = POOL.replace("name: default", "name: second");
        let err = sh.fails(&apply, &twice).await;
        assert!(err.contains(r#"of the AddressPool "default""#), "{err}");
        let typo = POOL.replace("addresses:", "adresses:");
        let err = sh.fails(&apply, &typo).await;
        // By the server, or by an old kubectl itself.
        assert!(err.contains("unknown field") && err.contains("adresses"), "{err}");
        assert!(sh.ok(&["get", "addresspool", "default"], "").await.contains("default"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingresses() {
    for_each("ingresses", async |sh| {
        let classes = sh.ok(&["get", "ingressclass"], "").await;
        assert!(
            classes.starts_with("NAME      CONTROLLER           PARAMETERS   AGE\n"),
            "{classes}"
        );
        assert!(classes.contains("minictl   minictl.io/ingress   <none>"), "{classes}");
        let rule = "--rule=a.example.com/shop*=web:80,tls=cert";
        let made = sh.ok(&["create", "ingress", "shop", rule], "").await;
        assert_eq!(made, "ingress.networking.k8s.io/shop created\n");
        let table = sh.ok(&["get", "ing"], "").await;
        assert!(
            table.starts_with("NAME   CLASS     HOSTS           ADDRESS   PORTS     AGE\n"),
            "{table}"
        );
        assert!(table.contains("shop   minictl   a.example.com             80, 443"), "{table}");
        let described = sh.ok(&["describe", "ingress", "shop"], "").await;
        assert!(described.contains("cert terminates a.example.com"), "{described}");
        // Old kubectls look for Endpoints, new ones for the Service.
        let backend = described.lines().find(|line| line.contains("/shop   web:80 (<error: "));
        assert!(backend.is_some_and(|line| line.contains("\"web\" not found")), "{described}");
        let bad = "--rule=10.0.0.1/=web:80";
        let err = sh.fails(&["create", "ingress", "bad", bad], "").await;
        assert!(err.contains("must be a DNS name, not an IP address"), "{err}");
        let old = ["create", "ingress", "old", "--rule=b.example.com/=web:80"];
        let (code, _, warned) = sh
            .run(&[&old[..], &["--annotation=kubernetes.io/ingress.class=nginx"]].concat(), "")
            .await;
        assert_eq!(code, 0, "{warned}");
        assert!(warned.contains("please use 'spec.ingressClassName' instead"), "{warned}");
        let class =
            sh.ok(&["get", "ing", "old", "-o", "jsonpath={.spec.ingressClassName}"], "").await;
        assert_eq!(class, "", "the annotation names it");
    })
    .await;
}
