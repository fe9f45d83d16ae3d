//! The way out of a lab, if `--uplink` asks for it: by the `internet` host, under its address, to the
//! machine, and from there, under the machine's own address, wherever the machine's routes lead.
//!
//! The `internet` host translates, too, because of bridge netfilter: where that is on, the machine
//! tracks a packet when it crosses the bridge, and would not translate it when it comes again.
//!
//! The machine's own network gets one nftables table, named after the lab, and forwarding; whether
//! forwarding was on before is remembered in that table's comment and restored at the end.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use netns::{Namespace, namespace};

use crate::paths;
use crate::spec::{LabSpec, Role};

const FORWARDING: &str = "net/ipv4/ip_forward";
const WAS_ON: &str = "forwarding was on";
const WAS_OFF: &str = "forwarding was off";

/// Opens the way out.
pub(crate) fn open(spec: &LabSpec) -> Result<()> {
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
        .context("read whether this machine forwards")?
        .trim()
        == "1";
    let comment = if forwards { WAS_ON } else { WAS_OFF };
    let network =
        spec.network_v4().context("an uplink needs IPv4: use --ip-family ipv4 or dual")?;
    nft(&rules(spec, network, comment, &spec.bridge()))?;
    namespace::set_sysctl(FORWARDING, "1").context("let this machine forward")?;
    for host in spec.hosts().iter().filter(|host| host.role == Role::Internet) {
        let namespace = Namespace::open(&paths::namespace(&host.namespace))?;
        namespace.run(|| forward_inside(spec, network))??;
    }
    Ok(())
}

/// Closes it: the table goes, forwarding is as it was.
pub(crate) fn close(spec: &LabSpec) -> Result<()> {
    let table = table(spec);
    let listed = Command::new("nft")
        .args(["list", "table", "inet", &table])
        .output()
        .context("run nft (Debian package nftables)")?;
    if !listed.status.success() {
        // Never opened, or closed already.
        return Ok(());
    }
    if String::from_utf8_lossy(&listed.stdout).contains(WAS_OFF) {
        namespace::set_sysctl(FORWARDING, "0").context("stop this machine from forwarding")?;
    }
    nft(&format!("delete table inet {table}\n"))
}

fn table(spec: &LabSpec) -> String {
    format!("minictl-lab-{}", spec.name)
}

/// Lets the `internet` host forward; runs in its namespace.
fn forward_inside(spec: &LabSpec, network: Ipv4Net) -> Result<()> {
    for link in ["all", "eth0"] {
        // The way leads back out of the link it came in by: nobody is to be told a shorter one.
        namespace::set_sysctl(&format!("net/ipv4/conf/{link}/send_redirects"), "0")
            .context("keep the internet host from redirecting")?;
    }
    namespace::set_sysctl(FORWARDING, "1").context("let the internet host forward")?;
    nft(&rules(spec, network, "the way to the machine", "lo"))
}

/// Translates what leaves the lab's network by any link but `inner`.
fn rules(spec: &LabSpec, network: Ipv4Net, comment: &str, inner: &str) -> String {
    format!(
        "table inet {table} {{
    comment \"{comment}\"
    chain out {{
        type nat hook postrouting priority srcnat;
        ip saddr {network} ip daddr != {network} oifname != \"{inner}\" masquerade
    }}
}}
",
        table = table(spec),
    )
}

fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run nft (Debian package nftables)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes()).context("talk to nft")?;
    }
    let output = child.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
