//! What a Service takes and gives back: its cluster IPs and its node ports (upstream:
//! `pkg/registry/core/service/storage/alloc.go`).
//!
//! Which Service needs what is the strategy's knowledge (`resources::service`); this only draws.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use resources::families::Family;
use resources::field::{ErrorKind, FieldError, FieldErrors};
use resources::service as rules;
use resources::table::{self, Resource};
use store::{Op, Snapshot, Txn};

use super::cluster_ip::{Free, Pool};
use super::node_port::PortError;
use super::{cluster_ip, give_back, node_port, take};
use crate::api::Ranges;
use crate::key;
use crate::status::ApiError;
use crate::stored::Current;

/// The numbers that a port may have.
const NUMBERS: RangeInclusive<i32> = 1..=65535;

/// Fills in a new Service.
pub(crate) fn create(
    ranges: &Ranges,
    snapshot: &Snapshot,
    service: &mut Service,
) -> Result<Txn, ApiError> {
    let mut plan = Plan::new(ranges, snapshot, service);
    plan.families(service, None)?;
    plan.addresses(service, 0)?;
    plan.ports(service, &[])?;
    plan.health_check(service, None)?;
    Ok(plan.txn)
}

/// Fills in a changed Service, and releases what it no longer needs. What it still needs is there
/// already: the strategy keeps allocated values that a client leaves out.
pub(crate) fn update(
    ranges: &Ranges,
    snapshot: &Snapshot,
    service: &mut Service,
    old: &Service,
) -> Result<Txn, ApiError> {
    let mut plan = Plan::new(ranges, snapshot, service);
    plan.families(service, Some(old))?;
    plan.changed_addresses(service, old)?;
    let held = numbers(old);
    plan.ports(service, &held)?;
    plan.health_check(service, health_check_port(old))?;
    let kept = numbers(service);
    let dropped = held.into_iter().filter(|p| !kept.contains(p));
    plan.txn.ops.extend(dropped.map(|p| give_back(node_port::POOL, &p.to_string())));
    Ok(plan.txn)
}

/// Everything a Service holds.
pub(crate) fn release(snapshot: &Snapshot, service: &Service) -> Result<Vec<Op>, ApiError> {
    let mut ops = Vec::new();
    for address in rules::held_cluster_ips(service) {
        ops.extend(cluster_ip::give_back(snapshot, address, service)?);
    }
    let ports = numbers(service).into_iter();
    ops.extend(ports.map(|p| give_back(node_port::POOL, &p.to_string())));
    Ok(ops)
}

/// Gives an IPAddress to every address that a Service has and nobody holds: a store from before
/// there were IPAddresses has none, but keys of a pool that nobody looks at any more.
pub(crate) fn missing_addresses(snapshot: &Snapshot) -> Result<Txn, ApiError> {
    const OLD_POOL: &str = "clusterips";
    let old = key::allocation(OLD_POOL, "");
    let old = snapshot.range(&old).map(|(key, _)| Op::Delete { key: key.to_owned(), last: None });
    let mut txn = Txn { checks: Vec::new(), ops: old.collect() };
    let services = services_row()?;
    for (_, entry) in snapshot.range(&key::all(services)) {
        let current = Current::read(services, entry)?;
        let Some(service) = current.object.as_any().downcast_ref::<Service>() else { continue };
        for address in rules::held_cluster_ips(service) {
            let Ok(address) = address.parse() else { continue };
            if !cluster_ip::is_taken(snapshot, address) {
                cluster_ip::take_unconditionally(&mut txn, address, service)?;
            }
        }
    }
    Ok(txn)
}

struct Plan<'a> {
    ranges: &'a Ranges,
    snapshot: &'a Snapshot,
    name: String,
    owner: String,
    taken: Vec<u16>,
    txn: Txn,
}

impl<'a> Plan<'a> {
    fn new(ranges: &'a Ranges, snapshot: &'a Snapshot, service: &Service) -> Self {
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let owner = format!("{namespace}/{name}");
        Self { ranges, snapshot, name, owner, taken: Vec::new(), txn: Txn::default() }
    }

    fn families(&self, service: &mut Service, old: Option<&Service>) -> Result<(), ApiError> {
        rules::settle_families(service, old, &self.ranges.families())
            .map_err(|errors| self.invalid(errors))
    }

    /// An address of each family of the Service, but for the first `held` of them.
    fn addresses(&mut self, service: &mut Service, held: usize) -> Result<(), ApiError> {
        if !rules::needs_cluster_ip(service) || rules::is_headless(service) {
            return Ok(());
        }
        let pool = Pool::read(self.snapshot)?;
        let spec = service.spec.get_or_insert_default();
        let families = spec.ip_families.clone().unwrap_or_default();
        let mut addresses = spec.cluster_ips.clone().unwrap_or_default();
        for (i, family) in families.iter().enumerate().skip(held) {
            let free = match addresses.get(i) {
                Some(asked) => self.ask_address(&pool, asked, &addresses)?,
                None => self.draw_address(&pool, family)?,
            };
            if i == addresses.len() {
                addresses.push(free.address.to_string());
            }
            cluster_ip::take(&mut self.txn, free, service)?;
        }
        let spec = service.spec.get_or_insert_default();
        spec.cluster_ip = addresses.first().cloned();
        spec.cluster_ips = Some(addresses);
        Ok(())
    }

    /// What comes and goes with a change of type or of the number of families; validation refuses
    /// every other change of addresses.
    fn changed_addresses(&mut self, service: &mut Service, old: &Service) -> Result<(), ApiError> {
        let count = |service: &Service| {
            service.spec.as_ref().and_then(|s| s.ip_families.as_ref()).map_or(0, Vec::len)
        };
        let (needed, needs) = (rules::needs_cluster_ip(old), rules::needs_cluster_ip(service));
        let (before, after) = (count(old), count(service));
        let kept = match (needed, needs) {
            (false, true) => return self.addresses(service, 0),
            (false, false) => return Ok(()),
            _ if rules::is_headless(old) || rules::is_headless(service) => return Ok(()),
            (true, false) => 0,
            (true, true) if after > before => return self.addresses(service, before),
            (true, true) => after,
        };
        for address in rules::held_cluster_ips(old).into_iter().skip(kept) {
            self.txn.ops.extend(cluster_ip::give_back(self.snapshot, address, old)?);
        }
        Ok(())
    }

    fn draw_address(&self, pool: &Pool<'_>, family: &str) -> Result<Free, ApiError> {
        let free = Family::parse(family).and_then(|family| pool.draw(family));
        free.ok_or_else(|| {
            ApiError::Internal("failed to allocate a serviceIP: range is full".into())
        })
    }

    fn ask_address(&self, pool: &Pool<'_>, asked: &str, all: &[String]) -> Result<Free, ApiError> {
        let refused = |text: String| {
            let value = serde_json::json!(all).to_string();
            field("spec.clusterIPs", value, &format!("failed to allocate IP {asked}: {text}"))
        };
        let address = asked
            .parse()
            .map_err(|_| self.invalid(vec![refused("it is not an IP address".into())]))?;
        pool.check(address)
            .map_err(|error| self.explained(refused(error.to_string()), error.note(asked)))
    }

    /// Node ports for those ports that need one; `held` are already this Service's.
    fn ports(&mut self, service: &mut Service, held: &[u16]) -> Result<(), ApiError> {
        if !rules::needs_node_port(service) {
            return Ok(());
        }
        let draws = rules::wants_node_ports(service);
        let spec = service.spec.get_or_insert_default();
        let ports = spec.ports.as_deref_mut().unwrap_or_default();
        // A port that validation will refuse takes nothing: it alone shall speak.
        let mut ports: Vec<(usize, &mut ServicePort)> =
            ports.iter_mut().enumerate().filter(|(_, p)| NUMBERS.contains(&p.port)).collect();
        // Two ports of one number and different protocols share a node port.
        let mut shared: BTreeMap<i32, i32> = BTreeMap::new();
        for (i, port) in &ports {
            if let Some(asked) = port.node_port.filter(|n| *n != 0) {
                self.ask(*i, asked, held)?;
                shared.entry(port.port).or_insert(asked);
            }
        }
        let unasked = ports.iter_mut().map(|(_, port)| port);
        for port in unasked.filter(|p| p.node_port.unwrap_or(0) == 0 && draws) {
            let number = match shared.get(&port.port) {
                Some(number) => *number,
                None => i32::from(self.draw_port()?),
            };
            shared.insert(port.port, number);
            port.node_port = Some(number);
        }
        Ok(())
    }

    fn ask(&mut self, index: usize, asked: i32, held: &[u16]) -> Result<(), ApiError> {
        let own = |p: &u16| i32::from(*p) == asked;
        if held.iter().any(own) || self.taken.iter().any(own) {
            return Ok(());
        }
        let range = &self.ranges.node_ports;
        let path = format!("spec.ports[{index}].nodePort");
        let error = |text: String| field(&path, asked.to_string(), &text);
        match node_port::check(range, self.snapshot, asked) {
            Ok(port) => {
                self.take_port(port);
                Ok(())
            }
            Err(outside @ PortError::NotInRange(..)) => {
                Err(self.invalid(vec![error(outside.to_string())]))
            }
            Err(taken @ PortError::Allocated { .. }) => {
                let text = taken.to_string();
                let note = taken.note(asked);
                Err(self.explained(error(text), note))
            }
        }
    }

    fn draw_port(&mut self) -> Result<u16, ApiError> {
        let port = node_port::draw(&self.ranges.node_ports, self.snapshot, &self.taken)
            .ok_or_else(|| {
                ApiError::Internal("failed to allocate a nodePort: range is full".into())
            })?;
        self.take_port(port);
        Ok(port)
    }

    fn take_port(&mut self, port: u16) {
        self.taken.push(port);
        take(&mut self.txn, node_port::POOL, &port.to_string(), &self.owner);
    }

    /// The port on which nodes say whether they have backends; `held` is the present one.
    fn health_check(&mut self, service: &mut Service, held: Option<i32>) -> Result<(), ApiError> {
        if !rules::needs_health_check_node_port(service) {
            return Ok(());
        }
        let spec = service.spec.get_or_insert_default();
        match spec.health_check_node_port.filter(|n| *n != 0) {
            None => spec.health_check_node_port = Some(i32::from(self.draw_port()?)),
            asked if asked == held => {}
            Some(asked) => {
                // Upstream answers with an internal error; here the field is named.
                let range = &self.ranges.node_ports;
                let port = node_port::check(range, self.snapshot, asked).map_err(|e| {
                    let detail =
                        format!("failed to allocate requested HealthCheck NodePort {asked}: {e}");
                    let path = "spec.healthCheckNodePort";
                    self.explained(field(path, asked.to_string(), &detail), e.note(asked))
                })?;
                self.take_port(port);
            }
        }
        Ok(())
    }

    fn invalid(&self, errors: FieldErrors) -> ApiError {
        match services_row() {
            Ok(resource) => ApiError::invalid(resource, &self.name, errors),
            Err(error) => error,
        }
    }

    /// After upstream's message, and as a second cause, comes what helps.
    fn explained(&self, error: FieldError, note: String) -> ApiError {
        match services_row() {
            Ok(resource) => ApiError::Explained {
                resource: resource.into(),
                name: self.name.clone(),
                error: Box::new(error),
                note,
            },
            Err(error) => error,
        }
    }
}

fn services_row() -> Result<&'static Resource, ApiError> {
    table::by_path("", "v1", "services")
        .ok_or_else(|| ApiError::Internal("services are not served".into()))
}

fn field(path: &str, value: String, detail: &str) -> FieldError {
    FieldError { path: path.into(), kind: ErrorKind::Invalid(value), detail: detail.into() }
}

fn health_check_port(service: &Service) -> Option<i32> {
    let spec = service.spec.as_ref().filter(|_| rules::needs_health_check_node_port(service))?;
    spec.health_check_node_port.filter(|n| *n != 0)
}

/// All node ports of a Service, each once, that of health checks included.
fn numbers(service: &Service) -> Vec<u16> {
    let ports = rules::held_node_ports(service).into_iter().map(|(_, port)| port);
    let all = ports.chain(health_check_port(service));
    let mut numbers: Vec<u16> = all.filter_map(|n| u16::try_from(n).ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests;
