//! What a Service takes and gives back: its cluster IP and its node ports (upstream:
//! `pkg/registry/core/service/storage/alloc.go`).
//!
//! Only IPv4 so far: a Service that insists on IPv6 is refused in upstream's words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use resources::field::{ErrorKind, FieldError};
use resources::table;
use store::{Op, Snapshot, Txn};

use super::node_port::PortError;
use super::{cluster_ip, give_back, node_port, take};
use crate::api::Ranges;
use crate::status::ApiError;

const NONE: &str = "None";

/// Fills in a new Service.
pub(crate) fn create(
    ranges: &Ranges,
    snapshot: &Snapshot,
    service: &mut Service,
) -> Result<Txn, ApiError> {
    let mut plan = Plan::new(ranges, snapshot, service);
    let spec = service.spec.get_or_insert_default();
    plan.families(spec)?;
    plan.cluster_ip(spec)?;
    plan.ports(spec, &[])?;
    plan.health_check(spec, 0)?;
    Ok(plan.txn)
}

/// Fills in a changed Service, and releases what it no longer needs.
pub(crate) fn update(
    ranges: &Ranges,
    snapshot: &Snapshot,
    service: &mut Service,
    old: &Service,
) -> Result<Txn, ApiError> {
    let mut plan = Plan::new(ranges, snapshot, service);
    let before = old.spec.clone().unwrap_or_default();
    let spec = service.spec.get_or_insert_default();
    keep_allocated(spec, &before);
    plan.families(spec)?;
    let (was_external, is_external) = (is_external_name(&before), is_external_name(spec));
    if was_external && !is_external {
        plan.cluster_ip(spec)?;
    } else if is_external && let Some(address) = own_address(&before) {
        plan.txn.ops.push(give_back(cluster_ip::POOL, address));
    }
    let held = node_ports(&before);
    plan.ports(spec, &held)?;
    plan.health_check(spec, health_check_port(&before))?;
    let kept = node_ports(spec);
    let dropped = held.into_iter().filter(|p| !kept.contains(p));
    plan.txn.ops.extend(dropped.map(|p| give_back(node_port::POOL, &p.to_string())));
    Ok(plan.txn)
}

/// Everything a Service holds.
pub(crate) fn release(service: &Service) -> Vec<Op> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let address = own_address(spec).map(|a| give_back(cluster_ip::POOL, a));
    let ports = node_ports(spec).into_iter().map(|p| give_back(node_port::POOL, &p.to_string()));
    address.into_iter().chain(ports).collect()
}

/// Fields that a client may leave out of an update because the server owns them (upstream:
/// `patchAllocatedValues` and `dropTypeDependentFields`).
fn keep_allocated(spec: &mut ServiceSpec, before: &ServiceSpec) {
    if needs_cluster_ip(spec) && needs_cluster_ip(before) {
        if spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
            spec.cluster_ip.clone_from(&before.cluster_ip);
        }
        if spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
            && spec.cluster_ip == before.cluster_ip
        {
            spec.cluster_ips.clone_from(&before.cluster_ips);
        }
    }
    if needs_node_ports(spec) && needs_node_ports(before) {
        keep_node_ports(spec, before);
    }
    if needs_health_check(spec)
        && needs_health_check(before)
        && spec.health_check_node_port.unwrap_or(0) == 0
    {
        spec.health_check_node_port = before.health_check_node_port;
    }
    drop_dependent(spec, before);
}

/// A port without a node port keeps the one it had, matched by protocol and port.
fn keep_node_ports(spec: &mut ServiceSpec, before: &ServiceSpec) {
    let same = |p: &ServicePort| (p.protocol.clone(), p.port);
    let had: BTreeMap<_, i32> = before
        .ports
        .iter()
        .flatten()
        .filter_map(|p| Some((same(p), p.node_port.filter(|n| *n != 0)?)))
        .collect();
    let ports = spec.ports.iter_mut().flatten();
    let mut used: Vec<i32> = Vec::new();
    let mut open: Vec<&mut ServicePort> = Vec::new();
    for port in ports {
        match port.node_port.filter(|n| *n != 0) {
            Some(number) => used.push(number),
            None => open.push(port),
        }
    }
    for port in open {
        if let Some(number) = had.get(&same(port)).filter(|n| !used.contains(n)) {
            port.node_port = Some(*number);
        }
    }
}

/// What a change of type makes meaningless goes, unless the client changed it too.
fn drop_dependent(spec: &mut ServiceSpec, before: &ServiceSpec) {
    if needs_cluster_ip(before) && !needs_cluster_ip(spec) {
        if spec.cluster_ip == before.cluster_ip && spec.cluster_ips == before.cluster_ips {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
        }
        if spec.ip_families == before.ip_families {
            spec.ip_families = None;
        }
        if spec.ip_family_policy == before.ip_family_policy {
            spec.ip_family_policy = None;
        }
    }
    if needs_node_ports(before) && !needs_node_ports(spec) {
        let had = node_ports(before);
        for port in spec.ports.iter_mut().flatten() {
            let number = port.node_port.and_then(|n| u16::try_from(n).ok());
            if number.is_some_and(|n| had.contains(&n)) {
                port.node_port = None;
            }
        }
    }
    if needs_health_check(before)
        && !needs_health_check(spec)
        && spec.health_check_node_port == before.health_check_node_port
    {
        spec.health_check_node_port = None;
    }
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

    /// One family, IPv4, and a policy that says so (upstream: `initIPFamilyFields`).
    fn families(&self, spec: &mut ServiceSpec) -> Result<(), ApiError> {
        if is_external_name(spec) {
            return Ok(());
        }
        let headless = spec.cluster_ip.as_deref() == Some(NONE);
        let selects = spec.selector.as_ref().is_some_and(|s| !s.is_empty());
        let policy = spec.ip_family_policy.get_or_insert_with(|| {
            // Upstream's special case: nobody knows which families such a Service will have.
            if headless && !selects { "RequireDualStack".into() } else { "SingleStack".into() }
        });
        if headless && !selects {
            let both = policy != "SingleStack";
            let families = spec.ip_families.get_or_insert_with(|| vec!["IPv4".into()]);
            if both && families.len() == 1 {
                let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
                families.push(other.into());
            }
            return Ok(());
        }
        let mut errors = Vec::new();
        if policy == "RequireDualStack" {
            errors.push(field(
                "spec.ipFamilyPolicy",
                format!("{policy:?}"),
                "this cluster is not configured for dual-stack services",
            ));
        }
        let families = spec.ip_families.get_or_insert_with(|| vec!["IPv4".into()]);
        if families.is_empty() {
            families.push("IPv4".into());
        }
        for (i, family) in families.iter().enumerate().filter(|(_, f)| *f != "IPv4") {
            errors.push(field(
                &format!("spec.ipFamilies[{i}]"),
                format!("{family:?}"),
                "not configured on this cluster",
            ));
        }
        if errors.is_empty() { Ok(()) } else { Err(self.invalid(errors)) }
    }

    fn cluster_ip(&mut self, spec: &mut ServiceSpec) -> Result<(), ApiError> {
        if !needs_cluster_ip(spec) {
            if spec.cluster_ip.as_deref() == Some(NONE) {
                spec.cluster_ips = Some(vec![NONE.into()]);
            }
            return Ok(());
        }
        let range = self.ranges.service_cidr;
        let asked = spec
            .cluster_ip
            .clone()
            .filter(|a| !a.is_empty())
            .or_else(|| spec.cluster_ips.as_ref()?.first().cloned())
            .filter(|a| !a.is_empty());
        let address = match asked {
            Some(asked) => cluster_ip::check(range, self.snapshot, &asked).map_err(|e| {
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
    fn ports(&mut self, spec: &mut ServiceSpec, held: &[u16]) -> Result<(), ApiError> {
        if !needs_node_ports(spec) {
            return Ok(());
        }
        let draws = spec.type_.as_deref() == Some("NodePort")
            || spec.allocate_load_balancer_node_ports != Some(false);
        let ports = spec.ports.as_deref_mut().unwrap_or_default();
        // Two ports of one number and different protocols share a node port.
        let mut shared: BTreeMap<i32, i32> = BTreeMap::new();
        for (i, port) in ports.iter_mut().enumerate() {
            if let Some(asked) = port.node_port.filter(|n| *n != 0) {
                self.ask(i, asked, held)?;
                shared.entry(port.port).or_insert(asked);
            }
        }
        for port in ports.iter_mut().filter(|p| p.node_port.unwrap_or(0) == 0 && draws) {
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
                error: error(PortError::Allocated { owner: String::new() }.to_string()),
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

    /// The port on which a node says whether it has backends (upstream: `updateHealthCheckNodePort`).
    fn health_check(&mut self, spec: &mut ServiceSpec, held: i32) -> Result<(), ApiError> {
        if !needs_health_check(spec) {
            return Ok(());
        }
        match spec.health_check_node_port.unwrap_or(0) {
            0 => spec.health_check_node_port = Some(i32::from(self.draw_port()?)),
            asked if asked == held => {}
            asked => {
                let port = node_port::check(&self.ranges.node_ports, self.snapshot, asked)
                    .map_err(|e| {
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

fn is_external_name(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    !is_external_name(spec) && spec.cluster_ip.as_deref() != Some(NONE)
}

fn needs_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn own_address(spec: &ServiceSpec) -> Option<&str> {
    let address = spec.cluster_ip.as_deref().filter(|a| !a.is_empty() && *a != NONE)?;
    (!is_external_name(spec)).then_some(address)
}

fn health_check_port(spec: &ServiceSpec) -> i32 {
    if needs_health_check(spec) { spec.health_check_node_port.unwrap_or(0) } else { 0 }
}

/// All node ports of a Service, each once, that of health checks included.
fn node_ports(spec: &ServiceSpec) -> Vec<u16> {
    let ports = spec.ports.iter().flatten().filter_map(|p| p.node_port);
    let all = ports.chain(spec.health_check_node_port);
    let mut numbers: Vec<u16> =
        all.filter(|n| *n != 0).filter_map(|n| u16::try_from(n).ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests;
