//! The addresses that a node is reached by, followed as they change.
//!
//! A node has those it was told as long as they are there. When one is gone, another address of its
//! family takes its place: of the same link before others, of the same network before others. The
//! choice is pure ([`choose`]); [`follow_addresses`] looks when the kernel says so.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use netns::{LinkError, Links, Monitor};

/// Changes come in bursts: an address often goes a moment before another one comes.
const SETTLE: Duration = Duration::from_millis(200);

/// An address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    link: u32,
    net: IpNet,
}

/// Waits until the addresses by which a node is reached are other ones than `now`, and answers them:
/// one for each that was `wanted`, in that order. Addresses on `own_links` are the cluster's own and
/// none of the node's. Call it in the node's network namespace. Never returns if the kernel does not
/// tell what happens.
pub async fn follow_addresses(
    wanted: &[IpAddr],
    now: &[IpAddr],
    own_links: &[&str],
) -> Vec<IpAddr> {
    match follow(wanted, now, own_links).await {
        Ok(changed) => changed,
        Err(error) => {
            let error = crate::error_chain(&error);
            tracing::warn!(error, "changes of the node's addresses go unnoticed");
            std::future::pending().await
        }
    }
}

async fn follow(
    wanted: &[IpAddr],
    now: &[IpAddr],
    own_links: &[&str],
) -> Result<Vec<IpAddr>, LinkError> {
    let mut monitor = Monitor::here()?;
    let links = Links::here()?;
    let mut homes = homes(now, &look(&links, own_links).await?);
    loop {
        let seen = look(&links, own_links).await?;
        let chosen = choose(wanted, now, &homes, &seen);
        if chosen == now {
            let known = self::homes(now, &seen);
            homes = known.into_iter().zip(homes).map(|(new, old)| new.or(old)).collect();
            // Only now: an address may have gone before anybody listened.
            monitor.changed().await;
            tokio::time::sleep(SETTLE).await;
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        // Only what lasts is worth starting anew for.
        if choose(wanted, now, &homes, &look(&links, own_links).await?) == chosen {
            return Ok(chosen);
        }
    }
}

async fn look(links: &Links, own_links: &[&str]) -> Result<Vec<Seen>, LinkError> {
    let own: Vec<u32> = links
        .list()
        .await?
        .into_iter()
        .filter(|link| own_links.contains(&link.name.as_str()))
        .map(|link| link.index)
        .collect();
    let addresses = links.addresses().await?.into_iter();
    let seen = addresses.filter(|(link, net)| !own.contains(link) && is_reachable(net.addr()));
    Ok(seen.map(|(link, net)| Seen { link, net }).collect())
}

fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// The links that addresses are on.
fn homes(addresses: &[IpAddr], seen: &[Seen]) -> Vec<Option<u32>> {
    let home = |address: &IpAddr| {
        seen.iter().find(|seen| seen.net.addr() == *address).map(|seen| seen.link)
    };
    addresses.iter().map(home).collect()
}

fn choose(wanted: &[IpAddr], now: &[IpAddr], homes: &[Option<u32>], seen: &[Seen]) -> Vec<IpAddr> {
    let is_there = |address: &IpAddr| seen.iter().any(|seen| seen.net.addr() == *address);
    let one = |((wanted, now), home): ((&IpAddr, &IpAddr), &Option<u32>)| {
        if let Some(known) = [wanted, now].into_iter().find(|address| is_there(address)) {
            return *known;
        }
        let of_family = seen.iter().filter(|seen| seen.net.addr().is_ipv4() == now.is_ipv4());
        let best = of_family.min_by_key(|seen| {
            (Some(seen.link) != *home, !seen.net.contains(now), seen.link, seen.net.addr())
        });
        // With nothing better the node keeps what it had: it may come back.
        best.map_or(*now, |seen| seen.net.addr())
    };
    wanted.iter().zip(now).zip(homes).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(list: &[(u32, &str)]) -> Vec<Seen> {
        list.iter().map(|(link, net)| Seen { link: *link, net: net.parse().unwrap() }).collect()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_node_keeps_the_addresses_it_was_told_while_they_are_there() {
        let told = ips(&["192.168.56.71", "fd00::71"]);
        let all = seen(&[(2, "192.168.56.99/24"), (2, "192.168.56.71/24"), (2, "fd00::71/64")]);
        assert_eq!(choose(&told, &told, &[Some(2), Some(2)], &all), told);
        let moved = ips(&["192.168.56.99", "fd00::71"]);
        assert_eq!(choose(&told, &moved, &[Some(2), Some(2)], &all), told, "and returns to them");
    }

    #[test]
    fn a_lost_address_is_followed_on_its_link_and_in_its_network() {
        let told = ips(&["192.168.56.71"]);
        let all = seen(&[
            (1, "172.17.0.1/16"),
            (2, "10.0.0.5/24"),
            (2, "192.168.56.81/24"),
            (2, "fd00::71/64"),
            (3, "192.168.56.9/24"),
        ]);
        assert_eq!(choose(&told, &told, &[Some(2)], &all), ips(&["192.168.56.81"]));
        let elsewhere = seen(&[(1, "172.17.0.1/16"), (3, "192.168.56.9/24")]);
        assert_eq!(choose(&told, &told, &[Some(2)], &elsewhere), ips(&["192.168.56.9"]));
    }

    #[test]
    fn without_another_address_of_the_family_nothing_changes() {
        let told = ips(&["192.168.56.71", "fd00::71"]);
        assert_eq!(choose(&told, &told, &[Some(2), Some(2)], &[]), told);
        let six = seen(&[(2, "fd00::72/64")]);
        let moved = ips(&["192.168.56.71", "fd00::72"]);
        assert_eq!(choose(&told, &told, &[Some(2), Some(2)], &six), moved);
    }
}
