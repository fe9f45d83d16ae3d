//! Firewalls of others in this network namespace: read, never changed.
//!
//! Input: what must pass, and the rules that `nft` lists of all tables but our own, together with
//! those of the older iptables, which nft cannot see. Output: what blocks (`netmodel::foreign`).
//! Blocking, and runs programs: for a look now and then, never for the way from an event to the
//! kernel. Where a program is missing, that itself is told; it hides nothing.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use ipnet::IpNet;
use netmodel::foreign::{self, Finding, NodeView, Ruleset};
use netmodel::nft::Engine;
use netmodel::snapshot::Snapshot;

use crate::kernel::nft::Table;
use crate::kernel::{OpError, failed, sysctl};

/// Our table.
const OWN_TABLE: &str = "minictl";
/// How the names of labs' tables begin.
const LAB_TABLES: &str = "minictl-lab-";
/// Files that name the tables of the older iptables in the calling thread's network namespace, and
/// what tells its commands of the two families apart.
const LEGACY_TABLES: [(&str, &str); 2] = [
    ("/proc/thread-self/net/ip_tables_names", ""),
    ("/proc/thread-self/net/ip6_tables_names", "6"),
];

/// What keeps packets of the cluster from passing this node.
///
/// # Errors
/// When rules are there and can't be read.
pub fn on_node(snapshot: &Snapshot, engine: Engine) -> Result<Vec<Finding>, OpError> {
    let addresses = snapshot.this_node().map(|node| node.addresses.clone()).unwrap_or_default();
    let view = NodeView::of(snapshot, engine, uplink(&addresses));
    Ok(foreign::findings(&ruleset()?, &foreign::of_node(&view)))
}

/// What keeps packets of these networks from passing a bridge of this machine.
///
/// # Errors
/// When rules are there and can't be read.
pub fn on_bridge(bridge: &str, networks: &[IpNet]) -> Result<Vec<Finding>, OpError> {
    let ruleset = ruleset()?;
    let filtered = |net: &&IpNet| {
        let kind = if net.addr().is_ipv4() { "iptables" } else { "ip6tables" };
        sysctl::get(&format!("net.bridge.bridge-nf-call-{kind}")).as_deref() == Some("1")
    };
    let (as_ip, not): (Vec<IpNet>, Vec<IpNet>) = networks.iter().partition(filtered);
    let mut passages = foreign::between_hosts(bridge, &as_ip, true);
    passages.extend(foreign::between_hosts(bridge, &not, false));
    Ok(foreign::findings(&ruleset, &passages))
}

/// The link of the node's own address.
fn uplink(addresses: &[std::net::IpAddr]) -> Option<String> {
    let links = nix::ifaddrs::getifaddrs().ok()?;
    links.into_iter().find_map(|link| {
        let address = link.address?;
        let v4 = address.as_sockaddr_in().map(|a| std::net::IpAddr::V4(a.ip()));
        let v6 = || address.as_sockaddr_in6().map(|a| std::net::IpAddr::V6(a.ip()));
        let address = v4.or_else(v6)?;
        addresses.contains(&address).then_some(link.interface_name)
    })
}

/// All rules that are not ours.
fn ruleset() -> Result<Ruleset, OpError> {
    let mut ruleset = Ruleset::default();
    // Never all of them: ours has as many elements as there are endpoints, and rules that nft 1.0
    // cannot put into words.
    for table in Table::open()?.tables()?.iter().filter(|table| is_foreign(table)) {
        let mut list = vec!["-a", "-s", "list", "table"];
        list.extend(table.split_whitespace());
        ruleset.read(&run("nft", &list, "")?);
    }
    for (list, six) in LEGACY_TABLES {
        // Only where the older iptables is in use at all is there such a file.
        if std::fs::read_to_string(list).is_ok_and(|tables| !tables.trim().is_empty()) {
            let saved = run(&format!("ip{six}tables-legacy-save"), &[], "")?;
            let translate = format!("ip{six}tables-restore-translate");
            ruleset.read_legacy(&run(&translate, &["-f", "/dev/stdin"], &saved)?);
        }
    }
    Ok(ruleset)
}

/// `FAMILY NAME` is not ours.
fn is_foreign(table: &str) -> bool {
    let name = table.split_once(' ').map_or(table, |(_, name)| name);
    name != OWN_TABLE && !name.starts_with(LAB_TABLES)
}

fn run(program: &str, args: &[&str], input: &str) -> Result<String, OpError> {
    let what = || format!("run {program} {}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(what())(error))?;
    let stdin = child.stdin.take();
    let input = input.to_owned();
    // Beside the reading below: a pipe holds only so much.
    let writer = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| failed(what())(error))?;
    // A program that did not want all of its input says so by its exit.
    drop(writer.join());
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(what())(io::Error::other(complaint)))
}
