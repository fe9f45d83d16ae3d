//! The executor against a real kernel, without packets: what it says about what it found, put back
//! and could not do.
//!
//! Each test has a network namespace of its own and needs root. It runs on the engine under test:
//! nftables, or IPVS by `MINICTL_TEST_ENGINE=ipvs` on a kernel that has it, which `tests/vm` does.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "a skip is told where the tests are run")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netd::{Changes, Executor, Report};
use netmodel::address::Protocol;
use netmodel::cases::world::{add, cluster, ip, node_ported, ready, web};
use netmodel::inspect::{Answer, How};
use netmodel::nft::Engine;
use netmodel::problem::Cause;
use netmodel::repair::Object;
use netmodel::snapshot::{ServiceName, Snapshot};
use nix::sched::{CloneFlags, unshare};

/// The engine under test.
fn engine() -> Engine {
    match std::env::var("MINICTL_TEST_ENGINE").as_deref() {
        Ok("ipvs") => Engine::Ipvs,
        _ => Engine::Nftables,
    }
}

/// Runs a test in a network namespace with a bridge, and the addresses of `node-1`.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root");
        println!("SKIPPED: needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        for args in [
            "link set lo up",
            "link add eth0 type veth peer name eth1",
            "address add 192.168.56.70/24 dev eth0",
            "address add fd56::70/64 dev eth0 nodad",
            "link set eth1 up",
            "link set eth0 up",
            "link add mini0 type bridge",
            "link set mini0 up",
        ] {
            run("ip", args);
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A look that must succeed.
#[track_caller]
fn sync(executor: &mut Executor, snapshot: &Snapshot, changes: Changes<'_>) -> Report {
    let report = executor.sync(snapshot, changes);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    report
}

fn one_service() -> (Snapshot, ServiceName) {
    let mut snapshot = cluster();
    let name =
        add(&mut snapshot, "web", node_ported("10.96.0.11", 30011), vec![ready("10.244.1.6")]);
    (snapshot, name)
}

/// What another hand does; and as what, in which words, and as whose its repair is named.
type Damage = (&'static str, Object, &'static str, Option<&'static str>);

const WEB: Option<&str> = Some("default/web");

const DAMAGES: [Damage; 5] = [
    ("nft delete table inet minictl", Object::Table, "inet minictl", None),
    ("nft add rule inet minictl admit drop", Object::Table, "inet minictl", None),
    ("nft add element inet minictl vips4 { 10.96.7.7 }", Object::Element, "vips4 was added", None),
    ("ip route del 10.96.0.0/12", Object::Route, "10.96.0.0/12", None),
    ("sysctl -q net.ipv4.ip_forward=0", Object::Setting, "ip_forward was set to 0", None),
];

const OF_NFTABLES: [Damage; 2] = [
    (
        "nft delete element inet minictl services4 { 10.96.0.11 . tcp . 80 }",
        Object::Element,
        "services4 was deleted",
        WEB,
    ),
    ("nft flush chain inet minictl pick4-1", Object::Chain, "pick4-1", None),
];

const OF_IPVS: [Damage; 8] = [
    (
        "nft delete element inet minictl balanced4 { 10.96.0.11 . tcp . 80 }",
        Object::Element,
        "balanced4 was deleted",
        WEB,
    ),
    ("nft flush chain inet minictl served", Object::Chain, "served", None),
    (
        "ipvsadm -D -t 10.96.0.11:80",
        Object::VirtualServer,
        "10.96.0.11 . tcp . 80 was deleted",
        WEB,
    ),
    (
        "ipvsadm -E -t 10.96.0.11:80 -s lc",
        Object::VirtualServer,
        "10.96.0.11 . tcp . 80 was edited",
        WEB,
    ),
    ("ipvsadm -d -t 10.96.0.11:80 -r 10.244.1.6:8080", Object::Destination, "was deleted", WEB),
    (
        "ipvsadm -e -t 10.96.0.11:80 -r 10.244.1.6:8080 -m -w 3",
        Object::Destination,
        "was given weight 3",
        WEB,
    ),
    ("ip address del 10.96.0.11/32 dev mini-ipvs0", Object::Address, "10.96.0.11 was deleted", WEB),
    ("ip address add 10.96.7.7/32 dev mini-ipvs0", Object::Address, "10.96.7.7 was added", None),
];

#[test]
fn the_first_look_repairs_nothing_and_later_ones_name_what_they_put_back() {
    in_namespace(|| {
        let (snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        assert_eq!(sync(&mut executor, &snapshot, Changes::All).repaired, []);
        assert_eq!(sync(&mut executor, &snapshot, Changes::All).repaired, []);
        let of_engine = match engine() {
            Engine::Nftables => &OF_NFTABLES[..],
            Engine::Ipvs => &OF_IPVS,
        };
        for (command, object, words, owner) in DAMAGES.iter().chain(of_engine).copied() {
            let (program, args) = command.split_once(' ').unwrap();
            run(program, args);
            let repaired = sync(&mut executor, &snapshot, Changes::All).repaired;
            let fits = |r: &&netmodel::repair::Repair| {
                r.object == object
                    && r.what.contains(words)
                    && r.owner.as_ref().map(ToString::to_string).as_deref() == owner
            };
            assert!(repaired.iter().any(|r| fits(&r)), "{command}: {repaired:?}");
            assert_eq!(sync(&mut executor, &snapshot, Changes::All).repaired, [], "{command}");
        }
    });
}

#[test]
fn an_audit_finds_settings_of_links_which_nobody_tells_about() {
    in_namespace(|| {
        let (snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        sync(&mut executor, &snapshot, Changes::All);
        assert_eq!(executor.audit(&snapshot).writes, 0);
        run("sysctl", "-q net.ipv4.conf.mini0.send_redirects=1");
        let report = executor.audit(&snapshot);
        let words: Vec<String> = report.repaired.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["setting net.ipv4.conf.mini0.send_redirects was set to 1"]);
        assert_eq!(executor.audit(&snapshot).writes, 0);
    });
}

#[test]
fn a_bridge_that_came_back_gets_its_routes_and_settings_again() {
    in_namespace(|| {
        let (snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        sync(&mut executor, &snapshot, Changes::All);
        run("ip", "link del mini0");
        let without = sync(&mut executor, &snapshot, Changes::Network);
        assert_eq!((without.writes, without.repaired), (0, vec![]), "nothing can be done yet");
        run("ip", "link add mini0 type bridge");
        run("ip", "link set mini0 up");
        let with = sync(&mut executor, &snapshot, Changes::Network);
        assert!(with.repaired.iter().any(|r| r.object == Object::Route), "{with:?}");
        assert_eq!(sync(&mut executor, &snapshot, Changes::All).writes, 0);
    });
}

#[test]
fn routes_by_a_bridge_that_was_never_there_wait_for_it_and_are_nobodys_damage() {
    in_namespace(|| {
        run("ip", "link del mini0");
        let (snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        sync(&mut executor, &snapshot, Changes::All);
        run("ip", "link add mini0 type bridge");
        run("ip", "link set mini0 up");
        let with = sync(&mut executor, &snapshot, Changes::Network);
        assert!(with.writes > 0, "{with:?}");
        assert!(!with.repaired.iter().any(|r| r.object == Object::Route), "{with:?}");
    });
}

#[test]
fn what_the_kernel_refuses_of_one_service_it_does_not_refuse_of_the_others() {
    in_namespace(|| {
        let (mut snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        sync(&mut executor, &snapshot, Changes::All);
        // In the way of what the second of three Services will need: an element is not replaced.
        let in_the_way = match engine() {
            Engine::Nftables => "endpoints4 { 10.96.0.22 . tcp . 80 . 0 : 10.9.9.9 . 1 }",
            Engine::Ipvs => "balanced4 { 10.96.0.22 . tcp . 80 : drop }",
        };
        run("nft", &format!("add element inet minictl {in_the_way}"));
        let names: BTreeSet<ServiceName> = ["10.96.0.21", "10.96.0.22", "10.96.0.23"]
            .iter()
            .map(|vip| {
                add(&mut snapshot, &format!("at-{vip}"), web(vip), vec![ready("10.244.1.6")])
            })
            .collect();
        let report = executor.sync(&snapshot, Changes::Services(&names));
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
        assert!(!report.stuck, "the others are served: the node is well");
        let problems: Vec<String> = executor
            .problems()
            .iter()
            .map(|p| format!("{} {}", p.owner, p.cause.reason()))
            .collect();
        assert_eq!(problems, ["default/at-10.96.0.22 KernelRefused"]);
        let inspection = executor.inspect(&snapshot).unwrap();
        let differing: BTreeSet<String> = inspection
            .differences
            .iter()
            .filter_map(|d| Some(d.owner.as_ref()?.to_string()))
            .collect();
        assert_eq!(differing, BTreeSet::from(["default/at-10.96.0.22".to_owned()]));
        // A full look sees what is in the way.
        let report = sync(&mut executor, &snapshot, Changes::All);
        assert!(
            report.repaired.iter().any(|r| r.object == Object::Element),
            "{:?}",
            report.repaired
        );
        assert_eq!(executor.problems(), []);
        assert_eq!(executor.inspect(&snapshot).unwrap().differences, []);
        assert_eq!(sync(&mut executor, &snapshot, Changes::All).writes, 0);
    });
}

#[test]
fn a_table_that_another_program_holds_is_the_whole_nodes_failure_until_it_lets_go() {
    in_namespace(|| {
        let (snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        // A table with an owner goes when its owner does, and nobody else may change it.
        let mut owner = Command::new("nft").arg("-i").stdin(Stdio::piped()).spawn().unwrap();
        let mut commands = owner.stdin.take().unwrap();
        writeln!(commands, "add table inet minictl {{ flags owner; }}").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while run("nft", "list tables").is_empty() {
            assert!(Instant::now() < deadline, "nft made no table");
            std::thread::yield_now();
        }
        let report = executor.sync(&snapshot, Changes::All);
        assert!(report.stuck && report.failures.len() == 1, "{report:?}");
        drop(commands);
        owner.wait().unwrap();
        let report = sync(&mut executor, &snapshot, Changes::All);
        assert!(!report.stuck && report.repaired.is_empty(), "{report:?}");
        assert_eq!(sync(&mut executor, &snapshot, Changes::All).writes, 0);
    });
}

#[test]
fn names_as_long_as_kubernetes_allows_are_read_back_as_they_were_written() {
    in_namespace(|| {
        let (mut snapshot, _) = one_service();
        let mut service = web("10.96.0.21");
        service.ports[0].name = "p".repeat(63).into();
        add(&mut snapshot, &"s".repeat(63), service, vec![ready("10.244.1.6")]);
        let mut executor = Executor::open(engine()).unwrap();
        let first = sync(&mut executor, &snapshot, Changes::All);
        let second = sync(&mut executor, &snapshot, Changes::All);
        assert_eq!((second.writes, second.repaired), (0, vec![]), "{first:?}");
        assert_eq!(executor.inspect(&snapshot).unwrap().differences, []);
    });
}

#[test]
fn an_inspection_tells_what_is_there_what_is_missing_and_what_is_foreign() {
    in_namespace(|| {
        let (mut snapshot, _) = one_service();
        let mut sticky = web("fd96::12");
        sticky.affinity_seconds = Some(60);
        sticky.ports[0].protocol = Protocol::Udp;
        add(&mut snapshot, "sticky", sticky, vec![ready("fd44:1::6"), ready("fd44:2::6")]);
        let mut greedy = web("10.96.0.13");
        greedy.external_ips = vec![ip("10.244.2.5"), ip("192.168.56.71")];
        add(&mut snapshot, "greedy", greedy, vec![]);
        let mut executor = Executor::open(engine()).unwrap();
        let before = executor.inspect(&snapshot).unwrap();
        assert_eq!(before.differences[0].to_string(), "missing: table inet minictl");
        sync(&mut executor, &snapshot, Changes::All);

        run("nft", "add table ip kube-proxy");
        run("nft", "add chain ip kube-proxy services");
        let (map, chain, object) = match engine() {
            Engine::Nftables => ("services4", "pick4-1", "endpoints6 {"),
            Engine::Ipvs => ("balanced4", "served", "ipvs "),
        };
        run("nft", &format!("delete element inet minictl {map} {{ 10.96.0.11 . tcp . 80 }}"));
        run("nft", "add element inet minictl vips6 { fd96::77 }");
        let seen = executor.inspect(&snapshot).unwrap();
        let foreign: Vec<&str> = seen.foreign.iter().map(|f| &*f.what).collect();
        assert_eq!(foreign, ["ip kube-proxy"]);
        let differences: Vec<String> = seen.differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            differences,
            [
                "extra: vips6 { fd96::77 }".to_owned(),
                format!(
                    "missing: {map} {{ 10.96.0.11 . tcp . 80 comment \"default/web\" : goto {chain} }}"
                ),
            ]
        );
        assert_eq!(seen.differences[1].how, How::Missing);
        if engine() == Engine::Nftables {
            // Some of the rules have no words in nft's language; it must be able to show them
            // anyway.
            let shown = run("nft", "list table inet minictl");
            assert!(shown.contains("delete @affinity6") && shown.contains("!= @kept6"), "{shown}");
        }
        let row = seen.rows.iter().find(|r| r.owner.to_string() == "default/sticky").unwrap();
        assert_eq!(
            (row.frontend.to_string(), row.affinity_seconds),
            ("fd96::12 . udp . 80".into(), Some(60))
        );
        assert!(matches!(&row.answer, Answer::Backends(list) if list.len() == 2), "{row:?}");
        assert!(row.objects.iter().any(|o| o.starts_with(object)), "{row:?}");
        let causes: Vec<&Cause> = seen.problems.iter().map(|p| &p.cause).collect();
        assert!(
            matches!(causes[..], [Cause::NodeAddress { .. }, Cause::AddressInRange { .. }]),
            "{causes:?}"
        );
        assert!(
            seen.settings.iter().all(|s| s.value.as_deref() == Some(&s.wanted)),
            "{:?}",
            seen.settings
        );
        // Reading changed nothing: what is wrong is wrong still.
        assert_eq!(executor.inspect(&snapshot).unwrap().differences.len(), 2);
        assert!(sync(&mut executor, &snapshot, Changes::All).writes > 0);
        assert_eq!(executor.inspect(&snapshot).unwrap().differences, []);
    });
}

#[test]
fn another_range_of_cluster_addresses_is_taken_up_while_everything_serves() {
    in_namespace(|| {
        let (mut snapshot, _) = one_service();
        let mut executor = Executor::open(engine()).unwrap();
        sync(&mut executor, &snapshot, Changes::All);
        let ranges = snapshot.settings.service_cidrs.clone();
        snapshot.settings.service_cidrs.push("10.200.0.0/24".parse().unwrap());
        assert!(sync(&mut executor, &snapshot, Changes::All).writes > 0);
        assert!(run("ip", "route show 10.200.0.0/24").contains("mini0"));
        let rules = run("nft", "list chain inet minictl refuse-passing");
        assert!(rules.contains("10.200.0.0/24"), "{rules}");
        snapshot.settings.service_cidrs = ranges;
        sync(&mut executor, &snapshot, Changes::All);
        assert_eq!(run("ip", "route show 10.200.0.0/24"), "");
    });
}
