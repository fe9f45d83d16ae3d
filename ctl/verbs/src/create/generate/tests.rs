//! The generators' objects, compared with what kubectl's `--dry-run=client -o yaml` prints
//! (recorded; `creationTimestamp: null`, which newer versions no longer print, left out).

use super::*;
use crate::render::yaml::to_yaml;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn deploy(images: &[&str], port: Option<u16>, command: &[&str]) -> Deployment {
    Deployment {
        name: "web".into(),
        image: words(images),
        replicas: 1,
        port,
        command: words(command),
    }
}

fn ports(tcp: &[&str], clusterip: Option<&str>) -> NamedPorts {
    NamedPorts {
        name: "web".into(),
        tcp: words(tcp),
        clusterip: clusterip.map(str::to_owned),
        node_port: None,
    }
}

#[test]
fn create_deployment() {
    let object = deployment(&deploy(&["nginx"], None, &[])).unwrap();
    let expected = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app: web
  name: web
spec:
  replicas: 1
  selector:
    matchLabels:
      app: web
  strategy: {}
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - image: nginx
        name: nginx
        resources: {}
status: {}
";
    assert_eq!(to_yaml(&object), expected);
}

#[test]
fn create_deployment_with_command_and_port() {
    let object = deployment(&deploy(&["a"], Some(80), &["sh", "-c", "x"])).unwrap();
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        *container,
        json!({"command": ["sh", "-c", "x"], "image": "a", "name": "a",
               "ports": [{"containerPort": 80}], "resources": {}})
    );
    let e = deployment(&deploy(&["a", "b"], None, &["sh"])).unwrap_err();
    assert_eq!(e.report(), "error: cannot specify multiple --image options and command");
}

#[test]
fn containers_are_named_after_their_images() {
    for (image, name) in [
        ("nginx", "nginx"),
        ("gcr.io/google-samples/node-hello:1.0", "node-hello"),
        ("a:5000/nginx:1.2", "nginx"),
        ("b/c_d@sha256:abc", "c-d"),
    ] {
        assert_eq!(container_name(image), name);
    }
}

#[test]
fn create_service_clusterip() {
    let object = service(&ports(&["80:8080"], None), "ClusterIP").unwrap();
    let expected = "\
apiVersion: v1
kind: Service
metadata:
  labels:
    app: web
  name: web
spec:
  ports:
  - name: 80-8080
    port: 80
    protocol: TCP
    targetPort: 8080
  selector:
    app: web
  type: ClusterIP
status:
  loadBalancer: {}
";
    assert_eq!(to_yaml(&object), expected);
}

#[test]
fn a_headless_service_needs_no_port_and_others_do() {
    let object = service(&ports(&[], Some("None")), "ClusterIP").unwrap();
    assert_eq!(
        object["spec"],
        json!({"clusterIP": "None", "selector": {"app": "web"}, "type": "ClusterIP"})
    );
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        let e = service(&ports(&[], None), kind).unwrap_err();
        assert_eq!(e.report(), "error: at least one tcp port specifier must be provided");
    }
}

#[test]
fn ports_that_make_no_sense_are_refused() {
    for bad in ["0:0", "x", "80:", "70000", "80:70000", "-1"] {
        assert!(parse_ports(&words(&[bad])).is_err(), "{bad}");
    }
    assert_eq!(parse_ports(&words(&["80:http"])).unwrap()[0]["targetPort"], "http");
}

#[test]
fn create_service_externalname() {
    let flags = ExternalName { name: "web".into(), external_name: "foo.bar".into(), tcp: vec![] };
    assert_eq!(
        external_name(&flags).unwrap()["spec"],
        json!({"externalName": "foo.bar", "selector": {"app": "web"}, "type": "ExternalName"})
    );
}

#[test]
fn entries_of_literals_files_and_env_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f.txt"), "text").unwrap();
    std::fs::write(dir.path().join("bin"), [0xff, 0xfe]).unwrap();
    std::fs::write(dir.path().join("env"), "# c\nA=1\n\nB=x=y\n").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let sources = Sources {
        from_literal: words(&["a=b=c", "q=\"quoted\""]),
        from_file: vec![at("f.txt"), format!("key={}", at("bin"))],
        from_env_file: vec![at("env")],
    };
    let object = config_map("cm", &entries(&sources).unwrap()).unwrap();
    assert_eq!(
        object["data"],
        json!({"a": "b=c", "q": "quoted", "f.txt": "text", "A": "1", "B": "x=y"})
    );
    assert_eq!(object["binaryData"], json!({"key": "//4="}));
    let literal = Sources { from_literal: words(&["a=b"]), ..Sources::default() };
    assert_eq!(secret("s", "", &entries(&literal).unwrap())["data"], json!({"a": "Yg=="}));
}

#[test]
fn entries_without_a_key_or_twice_are_refused() {
    for bad in [&["a"][..], &["=b"], &["a=1", "a=2"], &["a b=1"]] {
        let sources = Sources { from_literal: words(bad), ..Sources::default() };
        assert!(entries(&sources).is_err(), "{bad:?}");
    }
}

#[test]
fn generated_objects_know_their_path() {
    let ns = namespace("a");
    assert_eq!(path(&ns, "x"), ("/api/v1/namespaces".to_owned(), false));
    let deployment = deployment(&deploy(&["nginx"], None, &[])).unwrap();
    assert_eq!(path(&deployment, "x").0, "/apis/apps/v1/namespaces/x/deployments");
    assert_eq!(path(&service_account("a"), "x").0, "/api/v1/namespaces/x/serviceaccounts");
}
