//! Mistakes of learners, with minictl and with kubectl: the API server's own words, nothing stored.

use e2e::{Lab, can_run_labs, finish};

/// What is applied, and what must be said about it.
struct Mistake {
    what: &'static str,
    manifest: &'static str,
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        what: "an unknown field",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  selektor: {app: x}
  ports: [{port: 80}]
",
        says: &["unknown field \"spec.selektor\""],
    },
    Mistake {
        what: "a selector that is not where it belongs",
        manifest: "
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  selector:
    matchLabels:
    app: nginx
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: c, image: nginx}]}
",
        says: &["unknown field \"spec.selector.app\""],
    },
    Mistake {
        what: "a missing selector",
        manifest: "
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: c, image: nginx}]}
",
        says: &["spec.selector: Required value"],
    },
    Mistake {
        what: "a selector that does not match the template",
        manifest: "
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: c, image: nginx}]}
",
        says: &[
            "spec.template.metadata.labels: Invalid value: ",
            "`selector` does not match template `labels`",
        ],
    },
    Mistake {
        what: "a name with upper case",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: hogehogeService}
spec:
  ports: [{port: 80}]
",
        says: &["metadata.name: Invalid value: \"hogehogeService\"", "RFC 1123"],
    },
    Mistake {
        what: "a node port out of range",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  type: NodePort
  ports: [{port: 80, nodePort: 80}]
",
        says: &[
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. \
             The range of valid ports is 30000-32767",
        ],
    },
    Mistake {
        what: "a taken node port",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  type: NodePort
  ports: [{port: 80, nodePort: 30008}]
",
        says: &[
            "spec.ports[0].nodePort: Invalid value: 30008: provided port is already allocated",
            "port 30008 is held by the Service default/",
        ],
    },
    Mistake {
        what: "a port out of range",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  ports: [{port: 80000}]
",
        says: &["spec.ports[0].port: Invalid value: 80000: must be between 1 and 65535, inclusive"],
    },
    Mistake {
        what: "one port split into three list items",
        manifest: "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  type: NodePort
  ports:
    - targetPort: 80
    - port: 80
    - nodePort: 30009
",
        says: &["spec.ports[0].name: Required value", "spec.ports[0].port: Invalid value: 0"],
    },
];

#[test]
fn mistakes_are_refused_in_kubernetes_words_and_store_nothing() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("wrong", "192.168.65.0/24", 1);
    let holder = "apiVersion: v1\nkind: Service\nmetadata: {name: holder}\nspec: {type: NodePort, \
                  ports: [{port: 80, nodePort: 30008}]}\n";
    let _ = finish(lab.command("minictl", None), &["create", "-f", "-"], Some(holder)).ok();
    let stored = lab.minictl(&["get", "svc,deploy", "-o", "name"]).ok();
    let mut clients = vec!["minictl"];
    if e2e::capable("kubectl", e2e::run("which", &["kubectl"]).code == 0) {
        clients.push("kubectl");
    }
    for client in clients {
        let checks_itself = client == "kubectl" && validates_by_itself();
        for mistake in MISTAKES {
            refuses(&lab, client, mistake, checks_itself);
        }
        wrong_kinds(&lab, client);
        assert_eq!(lab.minictl(&["get", "svc,deploy", "-o", "name"]).ok(), stored);
    }
}

/// Before 1.25 kubectl looks for unknown and missing fields itself and has words of its own for
/// them; Debian 12's is 1.20.
fn validates_by_itself() -> bool {
    let version = e2e::run("kubectl", &["version", "--client", "-o", "json"]).json();
    let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
    minor.trim_end_matches('+').parse::<u32>().is_ok_and(|minor| minor < 25)
}

fn refuses(lab: &Lab, client: &str, mistake: &Mistake, checks_itself: bool) {
    let field =
        mistake.says[0].strip_prefix("unknown field \"").map(|rest| rest.trim_end_matches('"'));
    let mut args = vec!["apply", "-f", "-"];
    if checks_itself && field.is_none() {
        // So that the server has its say.
        args.push("--validate=false");
    }
    let answer = finish(lab.command(client, None), &args, Some(mistake.manifest));
    let own_words = field.filter(|_| checks_itself).and_then(|path| path.rsplit('.').next());
    if let Some(name) = own_words {
        let says = format!("unknown field \"{name}\" in");
        assert!(answer.err.contains(&says), "{}: {says:?} in {answer}", mistake.what);
    } else {
        for text in mistake.says {
            assert!(answer.err.contains(text), "{}: {text:?} in {answer}", mistake.what);
        }
    }
    assert_eq!(answer.code, 1, "{}: {answer}", mistake.what);
}

fn wrong_kinds(lab: &Lab, client: &str) {
    let apply = |kind: &str| {
        let manifest = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: bad}}\n");
        finish(lab.command(client, None), &["apply", "-f", "-"], Some(&manifest))
    };
    let unknown = apply("Servce");
    let says = "no matches for kind \"Servce\" in version \"v1\"";
    assert!(unknown.err.contains(says), "{unknown}");
    // kubectl itself takes a kind in lower case for the right one; the server does not.
    let lower = apply("service").refused();
    assert!(
        lower.contains("service in version \"v1\"") || lower.contains("\"service\""),
        "{lower}"
    );
    let answer = finish(lab.command(client, None), &["get", "nothing"], None);
    let says = "the server doesn't have a resource type \"nothing\"";
    assert!(answer.err.contains(says), "{answer}");
}
