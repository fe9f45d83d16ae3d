//! The pods that flags make, and flags that make none.

use super::*;
use crate::render::yaml::to_yaml;

fn run(name: &str) -> Run {
    Run {
        name: Some(name.into()),
        image: "nginx".into(),
        restart: "Always".into(),
        ..Run::default()
    }
}

#[test]
fn the_plain_pod_is_kubectl_s() {
    let expected = "\
apiVersion: v1
kind: Pod
metadata:
  labels:
    run: web
  name: web
spec:
  containers:
  - image: nginx
    name: web
    resources: {}
  dnsPolicy: ClusterFirst
  restartPolicy: Always
status: {}
";
    assert_eq!(to_yaml(&run("web").pod("web").unwrap()), expected);
}

#[test]
fn flags_reach_the_container() {
    let flags = Run {
        arguments: vec!["sh".into(), "-c".into()],
        env: vec!["A=b=c".into()],
        labels: "app=web,env=prod".into(),
        port: Some("80".into()),
        stdin: true,
        tty: true,
        ..run("web")
    };
    let pod = flags.pod("web").unwrap();
    assert_eq!(
        pod["spec"]["containers"][0],
        json!({"args": ["sh", "-c"], "env": [{"name": "A", "value": "b=c"}],
            "image": "nginx", "name": "web", "ports": [{"containerPort": 80}],
            "resources": {}, "stdin": true, "stdinOnce": true, "tty": true})
    );
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web", "env": "prod"}));
    let command = Run { command: true, ..flags.clone() }.pod("web").unwrap();
    assert_eq!(command["spec"]["containers"][0]["command"], json!(["sh", "-c"]));
    let service = flags.service("web").unwrap();
    assert_eq!(
        service["spec"],
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
               "selector": {"app": "web", "env": "prod"}})
    );
}

#[test]
fn impossible_flags_are_refused_in_upstream_s_words() {
    let cases = [
        (Run { name: None, ..run("a") }, "NAME is required for run"),
        (Run { tty: true, ..run("a") }, "-i/--stdin is required for containers with -t/--tty=true"),
        (Run { expose: true, ..run("a") }, "--port must be set when exposing a service"),
        (Run { port: Some("x".into()), ..run("a") }, "--port must be a number"),
        (Run { rm: true, ..run("a") }, "--rm should only be used for attached containers"),
        (
            Run { restart: "foo".into(), ..run("a") },
            "invalid restart policy: foo, valid values are: Always, OnFailure, Never",
        ),
    ];
    for (flags, message) in cases {
        assert_eq!(flags.check(false).unwrap_err().report(), format!("error: {message}"));
    }
    assert!(environment(&["A".into()]).is_err());
    assert!(environment(&["1A=b".into()]).is_err());
}
