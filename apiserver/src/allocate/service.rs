//! What a Service takes and gives back: its cluster IP and its node ports (upstream:
//! `pkg/registry/core/service/storage/alloc.go`).
//!
//! Which Service needs what is the strategy's knowledge (`resources::service`); this only draws.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use resources::field::{ErrorKind, FieldError};
use resources::{service as rules, table};
use store::{Op, Snapshot, Txn};

use super::node_port::PortError;
use super::{cluster_ip, give_back, node_port, take};
use crate::api::Ranges;
use crate::status::ApiError;

/// The numbers that a port may have.
const NUMBERS: RangeInclusive<i32> = 1..=65535;

/// Fills in a new Service.
pub(crate) fn create(
    ranges: &Ranges,
    snapshot: &Snapshot,
    service: &mut Service,
) -> Result<Txn, ApiError> {
    let mut plan = Plan::new(ranges, snapshot, service);
    plan.cluster_ip(service)?;
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
    let (needed, needs) = (rules::needs_cluster_ip(old), rules::needs_cluster_ip(service));
    if !needed && needs {
        plan.cluster_ip(service)?;
    } else if needed && !needs {
        let addresses = rules::held_cluster_ips(old).into_iter();
        plan.txn.ops.extend(addresses.map(|a| give_back(cluster_ip::POOL, a)));
    }
    let held = numbers(old);
    plan.ports(service, &held)?;
    plan.health_check(service, health_check_port(old))?;
    let kept = numbers(service);
    let dropped = held.into_iter().filter(|p| !kept.contains(p));
    plan.txn.ops.extend(dropped.map(|p| give_back(node_port::POOL, &p.to_string())));
    Ok(plan.txn)
}

/// Everything a Service holds.
pub(crate) fn release(service: &Service) -> Vec<Op> {
    let addresses =
        rules::held_cluster_ips(service).into_iter().map(|a| give_back(cluster_ip::POOL, a));
    let ports = numbers(service).into_iter().map(|p| give_back(node_port::POOL, &p.to_string()));
    addresses.chain(ports).collect()
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

    fn cluster_ip(&mut self, service: &mut Service) -> Result<(), ApiError> {
        if !rules::needs_cluster_ip(service) || rules::is_headless(service) {
            return Ok(());
        }
        let range = self.ranges.service_v4();
        let spec = service.spec.get_or_insert_default();
        let asked = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let address = match asked.into_iter().find(|a| !a.is_empty()) {
            Some(asked) => cluster_ip::check(range, self.snapshot, asked).map_err(|e| {
                let value = serde_json::json!([asked]).to_string();
                let detail = format!("failed to allocate IP {asked}: {e}");
                self.invalid(vec![field("spec.clusterIPs", value, &detail)])
            })?,
            None => cluster_ip::draw(range, self.snapshot).ok_or_else(|| {
                ApiError::Internal("failed to allocate a serviceIP: range is full".into())
            })?,
        };
        take(&mut self.txn, cluster_ip::POOL, &address.to_string(), &self.owner);
        spec.cluster_ip = Some(address.to_string());
        spec.cluster_ips = Some(vec![address.to_string()]);
        Ok(())
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
            // Upstream's message stays as it is; who is in the way goes into a second cause.
            Err(PortError::Allocated { owner }) => Err(ApiError::Explained {
                resource: services()?,
                name: self.name.clone(),
                error: Box::new(error(PortError::Allocated { owner: String::new() }.to_string())),
                note: format!("port {asked} is held by the Service {owner}"),
            }),
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
                let range = &self.ranges.node_ports;
                let port = node_port::check(range, self.snapshot, asked).map_err(|e| {
                    ApiError::Internal(format!(
                        "failed to allocate requested HealthCheck NodePort {asked}: {e}"
                    ))
                })?;
                self.take_port(port);
            }
        }
        Ok(())
    }

    fn invalid(&self, errors: Vec<FieldError>) -> ApiError {
        match services() {
            Ok(resource) => ApiError::Invalid { resource, name: self.name.clone(), errors },
            Err(error) => error,
        }
    }
}

fn services() -> Result<crate::status::ResourceName, ApiError> {
    table::by_path("", "v1", "services")
        .map(Into::into)
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
