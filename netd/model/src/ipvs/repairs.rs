//! What another hand changed of virtual servers and addresses since they were left.

use std::net::IpAddr;

use crate::address::Frontend;
use crate::dataplane::Dataplane;
use crate::ipvs::{Programmed, Server};
use crate::repair::{Object, Repair};
use crate::service::Owner;

/// The differences between what the kernel was left with and what it is found with.
#[must_use]
pub fn repairs(left: &Programmed, found: &Programmed, plane: &Dataplane) -> Vec<Repair> {
    let mut out = Vec::new();
    let owner = |frontend: &Frontend| plane.get(frontend).map(|s| s.owner.clone());
    for (frontend, server) in &left.servers {
        match found.servers.get(frontend) {
            None => {
                let what = format!("{frontend} was deleted");
                out.push(Repair::new(Object::VirtualServer, what).of(owner(frontend)));
            }
            Some(now) => server_repairs(&mut out, frontend, server, now, owner(frontend)),
        }
    }
    for frontend in found.servers.keys().filter(|f| !left.servers.contains_key(f)) {
        let what = format!("{frontend} was added");
        out.push(Repair::new(Object::VirtualServer, what).of(owner(frontend)));
    }
    let address = |addr: &IpAddr, how: &str| {
        let what = format!("{addr} was {how}");
        let of = plane.iter_at(*addr).next().map(|service| service.owner.clone());
        Repair::new(Object::Address, what).of(of)
    };
    out.extend(left.addresses.difference(&found.addresses).map(|a| address(a, "deleted")));
    out.extend(found.addresses.difference(&left.addresses).map(|a| address(a, "added")));
    out
}

fn server_repairs(
    out: &mut Vec<Repair>,
    frontend: &Frontend,
    left: &Server,
    found: &Server,
    owner: Option<Owner>,
) {
    if (&left.scheduler, left.persistence_seconds) != (&found.scheduler, found.persistence_seconds)
    {
        let what = format!("{frontend} was edited");
        out.push(Repair::new(Object::VirtualServer, what).of(owner.clone()));
    }
    for (backend, weight) in &left.destinations {
        let how = match found.destinations.get(backend) {
            Some(now) if now == weight => continue,
            Some(now) => format!("was given weight {now}"),
            None => "was deleted".to_owned(),
        };
        let what = format!("{backend} of {frontend} {how}");
        out.push(Repair::new(Object::Destination, what).of(owner.clone()));
    }
    for backend in found.destinations.keys().filter(|b| !left.destinations.contains_key(b)) {
        let what = format!("{backend} of {frontend} was added");
        out.push(Repair::new(Object::Destination, what).of(owner.clone()));
    }
}
