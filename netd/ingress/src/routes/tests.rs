//! Which route a request takes: upstream's table of paths, hosts, classes, conflicts, backends.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::objects::{IngressClass, Options, Path, Slice, Tls};
use crate::table::Found;

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn to(service: &str) -> Backend {
    Backend::Service(service.into(), Port::Number(80))
}

fn rule(host: &str, paths: &[(PathKind, &str, &str)]) -> Rule {
    let paths = paths.iter().map(|(kind, path, service)| Path {
        path: (*path).into(),
        kind: *kind,
        backend: to(service),
    });
    Rule { host: host.into(), paths: paths.collect() }
}

fn ingress(age: i64, rules: Vec<Rule>) -> Ingress {
    Ingress {
        created: Some(jiff::Timestamp::from_second(1_000_000 - age).unwrap()),
        class: Some("minictl".into()),
        rules,
        ..Ingress::default()
    }
}

fn class(controller: &str, is_default: bool) -> IngressClass {
    IngressClass { controller: controller.into(), is_default }
}

fn cluster(ingresses: Vec<(&str, Ingress)>) -> Cluster {
    Cluster {
        ingresses: ingresses.into_iter().map(|(n, one)| (name(n), Arc::new(one))).collect(),
        classes: [("minictl".into(), class(CONTROLLER, true))].into(),
        ..Cluster::default()
    }
}

/// The Service that answers, or the word for what is missing.
fn answers(cluster: &Cluster, host: &str, path: &str) -> String {
    let routes = routes(cluster);
    match routes.table.find(host, path) {
        Found::Route(route) => route.service.name.to_string(),
        Found::NoPath => "no path".to_owned(),
        Found::NoPathWithoutHost => "no path without host".to_owned(),
        Found::NoHost => "no host".to_owned(),
    }
}

use PathKind::{Exact, Prefix};

/// The table of concepts/services-networking/ingress, row by row.
#[test]
fn paths_match_as_upstream_documents() {
    type Row<'a> = (&'a [(PathKind, &'a str)], &'a str, Option<usize>);
    let rows: &[Row<'_>] = &[
        (&[(Prefix, "/")], "/any/path", Some(0)),
        (&[(Exact, "/foo")], "/foo", Some(0)),
        (&[(Exact, "/foo")], "/bar", None),
        (&[(Exact, "/foo")], "/foo/", None),
        (&[(Exact, "/foo/")], "/foo", None),
        (&[(Prefix, "/foo")], "/foo", Some(0)),
        (&[(Prefix, "/foo")], "/foo/", Some(0)),
        (&[(Prefix, "/foo/")], "/foo", Some(0)),
        (&[(Prefix, "/foo/")], "/foo/", Some(0)),
        (&[(Prefix, "/aaa/bb")], "/aaa/bbb", None),
        (&[(Prefix, "/aaa/bbb")], "/aaa/bbb", Some(0)),
        (&[(Prefix, "/aaa/bbb/")], "/aaa/bbb", Some(0)),
        (&[(Prefix, "/aaa/bbb")], "/aaa/bbb/", Some(0)),
        (&[(Prefix, "/aaa/bbb")], "/aaa/bbb/ccc", Some(0)),
        (&[(Prefix, "/aaa/bbb")], "/aaa/bbbxyz", None),
        (&[(Prefix, "/"), (Prefix, "/aaa")], "/aaa/ccc", Some(1)),
        (&[(Prefix, "/"), (Prefix, "/aaa"), (Prefix, "/aaa/bbb")], "/aaa/bbb", Some(2)),
        (&[(Prefix, "/"), (Prefix, "/aaa"), (Prefix, "/aaa/bbb")], "/ccc", Some(0)),
        (&[(Prefix, "/aaa")], "/ccc", None),
        (&[(Prefix, "/foo"), (Exact, "/foo")], "/foo", Some(1)),
        // Not in upstream's table.
        (&[(Prefix, "")], "/any", Some(0)),
        (&[(Prefix, "/foo")], "/foo//", Some(0)),
        (&[(Prefix, "/foo")], "/Foo", None),
        (&[(Prefix, "/foo"), (Exact, "/foo/bar")], "/foo/bar/", Some(0)),
        (&[(Prefix, "/~a")], "/%7Ea/b", Some(0)),
        (&[(Prefix, "/한글")], "/%ED%95%9C%EA%B8%80", Some(0)),
        (&[(Prefix, "/a/b")], "/a%2Fb", None),
        (&[(Prefix, "/")], "*", Some(0)),
    ];
    for (rules, path, expected) in rows {
        let services: Vec<String> = (0..rules.len()).map(|n| format!("s{n}")).collect();
        let paths: Vec<_> =
            rules.iter().zip(&services).map(|((kind, path), s)| (*kind, *path, &**s)).collect();
        let cluster = cluster(vec![("one", ingress(0, vec![rule("a.test", &paths)]))]);
        let expected = expected.map_or("no path".to_owned(), |n| format!("s{n}"));
        assert_eq!(answers(&cluster, "a.test", path), expected, "{rules:?} {path}");
    }
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let rules = vec![rule("*.foo.test", &[(Prefix, "/", "wild")])];
    let cluster = cluster(vec![("one", ingress(0, rules))]);
    for (host, expected) in [
        ("bar.foo.test", "wild"),
        ("baz.bar.foo.test", "no host"),
        ("foo.test", "no host"),
        ("bar.foo.test.evil", "no host"),
    ] {
        assert_eq!(answers(&cluster, host, "/"), expected, "{host}");
    }
}

#[test]
fn the_closest_host_answers_and_no_other_fills_in() {
    let rules = vec![
        rule("", &[(Prefix, "/", "any"), (Prefix, "/long/path", "any-long")]),
        rule("*.test", &[(Prefix, "/w", "wild"), (Prefix, "/x", "wild")]),
        rule("a.test", &[(Prefix, "/x", "exact")]),
    ];
    let cluster = cluster(vec![("one", ingress(0, rules))]);
    for (host, path, expected) in [
        ("a.test", "/x/long/path", "exact"),
        ("a.test", "/w", "no path"),
        ("a.test", "/long/path", "no path"),
        ("b.test", "/x", "wild"),
        ("b.test", "/long/path", "no path"),
        ("c.example", "/long/path/x", "any-long"),
        ("", "/", "any"),
    ] {
        assert_eq!(answers(&cluster, host, path), expected, "{host}{path}");
    }
}

/// A host that no rule names is not said to have rules.
#[test]
fn what_is_missing_is_told_by_whose_rules_were_asked() {
    let any = || rule("", &[(Prefix, "/a", "any")]);
    let exact = || rule("x.test", &[(Prefix, "/a", "exact")]);
    let wild = || rule("*.test", &[(Prefix, "/a", "wild")]);
    for (rules, host, expected) in [
        (vec![any()], "x.test", "no path without host"),
        (vec![any()], "", "no path without host"),
        (vec![any(), exact()], "x.test", "no path"),
        (vec![any(), wild()], "x.test", "no path"),
        (vec![any(), exact()], "y.test", "no path without host"),
        (vec![exact()], "y.test", "no host"),
        (vec![exact()], "", "no host"),
    ] {
        let cluster = cluster(vec![("one", ingress(0, rules))]);
        assert_eq!(answers(&cluster, host, "/b"), expected, "{cluster:?} {host}");
    }
}

#[test]
fn default_backends_answer_what_no_rule_is_for() {
    let with_default =
        |age, rules, service| Ingress { default_backend: Some(to(service)), ..ingress(age, rules) };
    let of = |host| vec![rule(host, &[(Prefix, "/x", "x")])];
    let cluster = cluster(vec![
        ("with-rules", with_default(9, of("a.test"), "of-a")),
        ("without", ingress(9, of("c.test"))),
        ("young", with_default(1, vec![], "young")),
        ("old", with_default(5, vec![], "old")),
    ]);
    assert_eq!(answers(&cluster, "a.test", "/x"), "x");
    assert_eq!(answers(&cluster, "a.test", "/y"), "of-a");
    assert_eq!(answers(&cluster, "c.test", "/y"), "old", "its host has no default of its own");
    // One without rules is there for nothing else; of two the older one.
    assert_eq!(answers(&cluster, "b.test", "/"), "old");
}

#[test]
fn a_host_without_paths_leads_to_the_default_backend() {
    let rules = vec![rule("a.test", &[])];
    let one = Ingress { default_backend: Some(to("default")), ..ingress(0, rules) };
    assert_eq!(answers(&cluster(vec![("one", one)]), "a.test", "/"), "default");
    let cluster = cluster(vec![("one", ingress(0, vec![rule("a.test", &[])]))]);
    assert_eq!(answers(&cluster, "a.test", "/"), "no path");
}

#[test]
fn the_oldest_ingress_has_a_path_that_two_claim() {
    let claim = |service| vec![rule("a.test", &[(Prefix, "/x", service), (Exact, "/y", service)])];
    let more = vec![rule("a.test", &[(Prefix, "/x/", "c"), (Prefix, "/z", "c")])];
    let cluster = cluster(vec![
        ("a-young", ingress(1, claim("young"))),
        ("b-old", ingress(9, claim("old"))),
        ("c-third", ingress(0, more)),
    ]);
    assert_eq!(answers(&cluster, "a.test", "/x"), "old");
    assert_eq!(answers(&cluster, "a.test", "/y"), "old");
    assert_eq!(answers(&cluster, "a.test", "/z"), "c");
    let routes = routes(&cluster);
    let taken = routes.findings.iter().filter(|finding| finding.reason == "PathTaken");
    let told: Vec<_> = taken.map(|f| (&*f.ingress.name, f.message.as_str())).collect();
    assert_eq!(
        told,
        [
            ("a-young", "path /x of a.test belongs to Ingress shop/b-old already"),
            ("a-young", "path /y of a.test belongs to Ingress shop/b-old already"),
            ("c-third", "path /x/ of a.test belongs to Ingress shop/b-old already"),
        ]
    );
}

#[test]
fn only_ingresses_of_our_class_count() {
    let of_class = |class: Option<&str>| Ingress {
        class: class.map(Arc::from),
        ..ingress(0, vec![rule("a.test", &[(Prefix, "/", "web")])])
    };
    let answers_for = |class_name, classes: &[(&str, IngressClass)]| {
        let mut cluster = cluster(vec![("one", of_class(class_name))]);
        cluster.classes = classes.iter().map(|(n, c)| (Arc::from(*n), c.clone())).collect();
        answers(&cluster, "a.test", "/")
    };
    let (ours, other) = (class(CONTROLLER, false), class("k8s.io/ingress-nginx", false));
    let default = class(CONTROLLER, true);
    assert_eq!(answers_for(Some("m"), &[("m", ours.clone())]), "web");
    assert_eq!(answers_for(Some("n"), &[("m", ours.clone()), ("n", other.clone())]), "no host");
    assert_eq!(answers_for(Some("gone"), &[("m", default.clone())]), "no host");
    assert_eq!(answers_for(None, &[("m", default)]), "web");
    assert_eq!(answers_for(None, &[("m", ours.clone())]), "no host");
    // Two classes of ours are possible, as upstream has it.
    assert_eq!(answers_for(Some("second"), &[("m", ours.clone()), ("second", ours)]), "web");
}

fn service(ports: &[(&str, u16, Option<&str>)]) -> Arc<Service> {
    let ports = ports.iter().map(|(name, port, protocol)| ServicePort {
        name: (*name).into(),
        port: *port,
        app_protocol: protocol.map(Arc::from),
    });
    Arc::new(Service { external_name: None, ports: ports.collect() })
}

fn slice(ports: &[(&str, u16)], ready: &[&str], leaving: &[&str]) -> Slice {
    let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    Slice {
        ports: ports.iter().map(|(name, port)| (Arc::from(*name), *port)).collect(),
        ready: addresses(ready),
        leaving: addresses(leaving),
    }
}

/// Who answers for a port of Service "web".
fn target_of(port: Port, service: Option<Arc<Service>>, slices: &[Slice]) -> Target {
    let mut cluster = Cluster::default();
    cluster.services.extend(service.map(|service| (name("web"), service)));
    let slices = slices.iter().enumerate().map(|(n, s)| (n.to_string().into(), s.clone()));
    cluster.slices.insert(name("web"), slices.collect());
    target(&cluster, &name("web"), &port)
}

fn endpoints_of(protocol: Protocol, list: &[&str]) -> Target {
    Target::Endpoints(protocol, list.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn ports_are_found_by_name_and_number() {
    let web = service(&[("http", 80, None), ("grpc", 90, Some("kubernetes.io/h2c"))]);
    let slices = [slice(&[("http", 8080), ("grpc", 9090)], &["10.0.0.1"], &[])];
    let of = |port| target_of(port, Some(web.clone()), &slices);
    assert_eq!(of(Port::Number(80)), endpoints_of(Protocol::Http, &["10.0.0.1:8080"]));
    assert_eq!(of(Port::Name("http".into())), endpoints_of(Protocol::Http, &["10.0.0.1:8080"]));
    assert_eq!(of(Port::Name("grpc".into())), endpoints_of(Protocol::H2c, &["10.0.0.1:9090"]));
    let missing = Target::Nobody("Service shop/web has no TCP port 81".into());
    assert_eq!(of(Port::Number(81)), missing);
    let unknown = target_of(Port::Number(80), None, &[]);
    assert_eq!(unknown, Target::Nobody("Service shop/web does not exist".into()));
}

#[test]
fn endpoints_are_those_that_are_ready_or_at_least_serve() {
    let web = || Some(service(&[("", 80, None)]));
    let of = |slices: &[Slice]| target_of(Port::Number(80), web(), slices);
    let p = [("", 8080)];
    let both = [slice(&p, &["10.0.0.2", "10.0.0.1"], &["10.0.0.3"]), slice(&p, &["10.0.0.2"], &[])];
    assert_eq!(of(&both), endpoints_of(Protocol::Http, &["10.0.0.1:8080", "10.0.0.2:8080"]));
    let leaving = [slice(&p, &[], &["10.0.0.3"])];
    assert_eq!(of(&leaving), endpoints_of(Protocol::Http, &["10.0.0.3:8080"]));
    // Two families are the same pods: each counts once.
    let dual = [slice(&p, &["fd00::1"], &[]), slice(&p, &["10.0.0.1"], &[])];
    assert_eq!(of(&dual), endpoints_of(Protocol::Http, &["10.0.0.1:8080"]));
    let v6 = [slice(&p, &["fd00::1"], &[]), slice(&p, &[], &["10.0.0.1"])];
    assert_eq!(of(&v6), endpoints_of(Protocol::Http, &["[fd00::1]:8080"]));
    let none = Target::Nobody("Service shop/web has no ready endpoints".into());
    assert_eq!(of(&[]), none);
    assert_eq!(of(&[slice(&[("other", 1)], &["10.0.0.1"], &[])]), none);
}

#[test]
fn a_name_outside_the_cluster_is_asked_at_the_port_of_the_ingress() {
    let external = Arc::new(Service { external_name: Some("x.test".into()), ports: Vec::new() });
    let of = |port| target_of(port, Some(external.clone()), &[]);
    let at = |protocol, port| Target::External(protocol, "x.test".into(), port);
    assert_eq!(of(Port::Number(80)), at(Protocol::Http, 80));
    assert_eq!(of(Port::Number(443)), at(Protocol::Https, 443));
    assert!(matches!(of(Port::Name("http".into())), Target::Nobody(_)));
}

#[test]
fn authors_hear_of_what_is_not_there() {
    let rules = vec![rule("", &[(Prefix, "/", "gone"), (Prefix, "/b", "web")])];
    let mut one = ingress(0, rules);
    one.default_backend = Some(Backend::Resource("StorageBucket static".into()));
    let mut cluster = cluster(vec![("one", one)]);
    cluster.services.insert(name("web"), service(&[("", 8080, None)]));
    let told: Vec<_> = routes(&cluster).findings.iter().map(|f| f.message.clone()).collect();
    assert_eq!(
        told,
        [
            "backend StorageBucket static is not a Service",
            "Service shop/web has no TCP port 80",
            "Service shop/gone does not exist",
        ]
    );
    assert_eq!(services_in_use(&cluster), [name("gone"), name("web")].into());
}

#[test]
fn secrets_belong_to_hosts() {
    let mut first = ingress(9, vec![rule("a.test", &[(Prefix, "/", "web")])]);
    first.tls = vec![Tls { hosts: vec![], secret: Some("of-rules".into()) }];
    let mut second = ingress(1, vec![]);
    let hosts = vec!["a.test".into(), "*.b.test".into()];
    second.tls = vec![Tls { hosts, secret: Some("named".into()) }];
    let routes = routes(&cluster(vec![("first", first), ("second", second)]));
    let found: Vec<_> = routes.secrets.iter().map(|(h, (s, _))| (&**h, &*s.name)).collect();
    assert_eq!(found, [("*.b.test", "named"), ("a.test", "of-rules")]);
}

#[test]
fn options_travel_with_the_route() {
    let options = Options { response_timeout: Some(Duration::from_secs(3)), ..Options::default() };
    let rules = vec![rule("", &[(Prefix, "/", "web")])];
    let cluster = cluster(vec![("one", Ingress { options: options.clone(), ..ingress(0, rules) })]);
    let routes = routes(&cluster);
    let Found::Route(route) = routes.table.find("a.test", "/") else { panic!("there is a rule") };
    assert_eq!(route.options, options);
}

/// What upstream's words say, as slowly as can be.
fn by_the_book(rules: &[(PathKind, String)], path: &str) -> Option<usize> {
    let elements = |text: &str| -> Vec<String> {
        let text = text.strip_suffix('/').unwrap_or(text);
        text.split('/').map(str::to_owned).collect()
    };
    let matches = |(kind, rule): &(PathKind, String)| match kind {
        Exact => rule == path,
        Prefix => {
            let wanted = elements(rule);
            elements(&format!("{path}/")).starts_with(&wanted)
        }
    };
    let found = rules.iter().enumerate().filter(|(_, rule)| matches(rule));
    // The longest, then the exact one, then the first.
    let rank = |(n, (kind, rule)): &(usize, &(PathKind, String))| {
        let length = rule.strip_suffix('/').filter(|_| *kind == Prefix).unwrap_or(rule).len();
        (length, *kind == Exact, std::cmp::Reverse(*n))
    };
    found.max_by_key(rank).map(|(n, _)| n)
}

proptest! {
    #[test]
    fn the_table_finds_what_the_words_say(
        rules in proptest::collection::vec((any::<bool>(), "/([ab]{1,2}/){0,3}[ab]?"), 1..8),
        path in "/([ab]{1,2}/){0,3}[ab]?",
    ) {
        let rules: Vec<(PathKind, String)> = rules
            .into_iter()
            .map(|(exact, path)| (if exact { Exact } else { Prefix }, path))
            .collect();
        let services: Vec<String> = (0..rules.len()).map(|n| format!("s{n}")).collect();
        let paths: Vec<_> =
            rules.iter().zip(&services).map(|((k, p), s)| (*k, p.as_str(), &**s)).collect();
        let cluster = cluster(vec![("one", ingress(0, vec![rule("a.test", &paths)]))]);
        let expected =
            by_the_book(&rules, &path).map_or("no path".to_owned(), |n| format!("s{n}"));
        prop_assert_eq!(answers(&cluster, "a.test", &path), expected);
    }

    #[test]
    fn no_request_upsets_the_table(host in "\\PC{0,30}", path in "\\PC{0,60}") {
        let rules = vec![
            rule("*.test", &[(Prefix, "/a/é", "x"), (Exact, "/%zz", "y")]),
            rule("", &[(Prefix, "/abcdefgh", "z")]),
        ];
        let routes = routes(&cluster(vec![("one", ingress(0, rules))]));
        let _ = routes.table.find(&host, &path);
    }
}
