//! The gRPC service that tells about a running netd (contract: `proto/dataplane.proto`).
//!
//! Translates what [`Control`] answers into messages, and decides nothing. Who may ask is a matter
//! of the way that leads here: the agent's tunnel, or a socket that only its owner can open.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use netmodel::address::{Backend, Frontend};
use netmodel::foreign::Finding;
use netmodel::inspect::{Answer, Difference, Foreign, How, Inspection, Row, Setting};
use netmodel::service::{Kind, Owner};
use netmodel::snapshot::ServiceName;
use proto::dataplane as message;
use proto::dataplane::dataplane_server::{Dataplane, DataplaneServer};
use tonic::{Request, Response};

use crate::control::{Control, ControlError, Status};
use crate::error_chain;
use crate::wanted::engine_name;

mod trace;

/// What ten thousand Services with all their endpoints take is a tenth of this.
const LARGEST_ANSWER: usize = 128 * 1024 * 1024;

/// The service, to be added to a gRPC server.
#[must_use]
pub fn service(control: Control) -> DataplaneServer<impl Dataplane> {
    DataplaneServer::new(Teller { control }).max_encoding_message_size(LARGEST_ANSWER)
}

struct Teller {
    control: Control,
}

#[tonic::async_trait]
impl Dataplane for Teller {
    async fn status(
        &self,
        _: Request<message::StatusRequest>,
    ) -> Result<Response<message::StatusReply>, tonic::Status> {
        let status = self.control.status().await.map_err(refusal)?;
        // Before the cluster has been read there is a status all the same.
        let inspection = match self.control.inspect().await {
            Ok(inspection) => Some(inspection),
            Err(ControlError::NotSynced) => None,
            Err(error) => return Err(refusal(error)),
        };
        Ok(Response::new(status_reply(&status, inspection.as_ref())))
    }

    async fn dump(
        &self,
        request: Request<message::DumpRequest>,
    ) -> Result<Response<message::DumpReply>, tonic::Status> {
        let message::DumpRequest { namespace, service } = request.into_inner();
        let node = self.control.status().await.map_err(refusal)?.node;
        let inspection = self.control.inspect().await.map_err(refusal)?;
        let wanted = |row: &&Row| {
            let name = &row.owner.service;
            (namespace.is_empty() || *name.namespace == *namespace)
                && (service.is_empty() || *name.name == *service)
        };
        let frontends = inspection.rows.iter().filter(wanted).map(frontend).collect();
        let engine = engine_name(inspection.engine).to_owned();
        Ok(Response::new(message::DumpReply { node, engine, frontends }))
    }

    async fn diff(
        &self,
        _: Request<message::DiffRequest>,
    ) -> Result<Response<message::DiffReply>, tonic::Status> {
        let node = self.control.status().await.map_err(refusal)?.node;
        let inspection = self.control.inspect().await.map_err(refusal)?;
        let versions = versions(&inspection.rows);
        let differences = inspection.differences.iter().map(|d| difference(d, &versions));
        Ok(Response::new(message::DiffReply {
            node,
            engine: engine_name(inspection.engine).to_owned(),
            differences: differences.collect(),
            foreign: inspection.foreign.iter().map(foreign).collect(),
        }))
    }

    async fn trace(
        &self,
        request: Request<message::TraceRequest>,
    ) -> Result<Response<message::TraceReply>, tonic::Status> {
        let probe = trace::probe(request.get_ref())?;
        let node = self.control.status().await.map_err(refusal)?.node;
        let traced = self.control.trace(probe).await.map_err(refusal)?;
        let view = self.control.announcer.view().await;
        let address = probe.packet.to.addr;
        let announcer = view.and_then(|view| view.elected(address, &node)).unwrap_or_default();
        Ok(Response::new(trace::reply(node, &traced, announcer)))
    }
}

fn refusal(error: ControlError) -> tonic::Status {
    let code = match error {
        ControlError::Gone | ControlError::NotSynced | ControlError::Broken => {
            tonic::Code::Unavailable
        }
        ControlError::Kernel(_) => tonic::Code::Internal,
    };
    tonic::Status::new(code, error_chain(&error))
}

fn status_reply(status: &Status, inspection: Option<&Inspection>) -> message::StatusReply {
    let counts = status.counts;
    message::StatusReply {
        node: status.node.clone(),
        engine: Some(message::Engine {
            name: status.engine.map(engine_name).unwrap_or_default().to_owned(),
            reason: status.reason.clone(),
            wanted: status.wanted.name().to_owned(),
            refused: status.refused.clone().unwrap_or_default(),
        }),
        kernel: inspection.map(kernel),
        counts: Some(message::Counts {
            services: counts.services as u64,
            frontends: counts.frontends as u64,
            backends: counts.backends as u64,
            routes: counts.routes as u64,
        }),
        activity: Some(activity(status)),
        problems: status.problems.iter().map(problem).collect(),
        firewalls: status.firewalls.iter().map(finding).collect(),
    }
}

fn kernel(inspection: &Inspection) -> message::Kernel {
    message::Kernel {
        release: inspection.kernel.clone(),
        settings: inspection.settings.iter().map(setting).collect(),
        vip_link: inspection.vip_link.as_ref().map(|link| message::VipLink {
            name: link.name.clone(),
            kind: link.kind.clone(),
            addresses: link.addresses.len() as u64,
        }),
    }
}

fn setting(setting: &Setting) -> message::Setting {
    message::Setting {
        name: setting.name.clone(),
        value: setting.value.clone().unwrap_or_default(),
        wanted: setting.wanted.clone(),
        why: setting.why.to_owned(),
    }
}

fn activity(status: &Status) -> message::Activity {
    let done = &status.activity;
    let time = |time: Option<Timestamp>| time.map(rfc3339).unwrap_or_default();
    message::Activity {
        synced: status.synced,
        started: rfc3339(done.started),
        last_look: time(done.last_look),
        last_write: time(done.last_write),
        last_repair: time(done.last_repair),
        writes: done.writes,
        repairs: done.repaired(),
        failures: done.failures,
        forgotten: done.forgotten,
        recent_repairs: done.recent_repairs.iter().cloned().collect(),
        recent_failures: done.recent_failures.iter().cloned().collect(),
    }
}

/// As Kubernetes writes times: to the second.
fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn problem(problem: &crate::control::Problem) -> message::Problem {
    message::Problem {
        service: Some(message::Origin {
            namespace: problem.service.namespace.to_string(),
            name: problem.service.name.to_string(),
            ..message::Origin::default()
        }),
        reason: problem.reason.clone(),
        message: problem.message.clone(),
    }
}

/// A rule of somebody else's that stands in the way, as a message.
#[must_use]
pub fn finding(finding: &Finding) -> message::Finding {
    message::Finding {
        program: finding.program.clone(),
        place: finding.place.clone(),
        handle: finding.handle.unwrap_or_default(),
        rule: finding.rule.clone(),
        blocks: finding.blocks.join(", "),
        certain: finding.certain,
        fix: finding.fix.clone(),
    }
}

fn frontend(row: &Row) -> message::Frontend {
    let Frontend { addr, protocol, port } = row.frontend;
    message::Frontend {
        address: address(addr, port),
        protocol: protocol.to_string().to_uppercase(),
        kind: kind_name(row.kind).to_owned(),
        service: Some(origin(&row.owner, row.resource_version.as_deref())),
        answer: Some(answer(&row.answer)),
        outside: row.outside.as_ref().map(answer),
        affinity_seconds: row.affinity_seconds.unwrap_or_default(),
        source_ranges: row.source_ranges.iter().map(ToString::to_string).collect(),
        scheduler: row.scheduler.as_deref().unwrap_or_default().to_owned(),
        objects: row.objects.clone(),
    }
}

fn answer(answer: &Answer) -> message::Answer {
    let (verdict, members) = match answer {
        Answer::Backends(members) => ("Backends", members.as_slice()),
        Answer::Node => ("Node", &[][..]),
        Answer::Refused => ("Refused", &[][..]),
        Answer::Dropped => ("Dropped", &[][..]),
    };
    let backends = members.iter().map(|member| {
        let Backend { addr, port } = member.backend;
        message::Backend {
            address: address(addr, port),
            weight: member.weight,
            connections: member.connections,
        }
    });
    message::Answer { verdict: verdict.to_owned(), backends: backends.collect() }
}

/// `metadata.resourceVersion` by Service.
type Versions<'a> = BTreeMap<&'a ServiceName, &'a str>;

fn versions(rows: &[Row]) -> Versions<'_> {
    rows.iter().filter_map(|r| Some((&r.owner.service, r.resource_version.as_deref()?))).collect()
}

fn difference(difference: &Difference, versions: &Versions<'_>) -> message::Difference {
    let (change, wanted) = match &difference.how {
        How::Missing => ("Missing", ""),
        How::Extra => ("Extra", ""),
        How::Different { wanted } => ("Different", wanted.as_str()),
    };
    message::Difference {
        change: change.to_owned(),
        object: difference.what.clone(),
        service: difference.owner.as_ref().map(|o| origin(o, versions.get(&o.service).copied())),
        wanted: wanted.to_owned(),
    }
}

fn foreign(foreign: &Foreign) -> message::Foreign {
    message::Foreign {
        kind: foreign.kind.to_owned(),
        object: foreign.what.clone(),
        owner: foreign.whose.unwrap_or_default().to_owned(),
    }
}

fn origin(owner: &Owner, resource_version: Option<&str>) -> message::Origin {
    message::Origin {
        namespace: owner.service.namespace.to_string(),
        name: owner.service.name.to_string(),
        port: owner.port.to_string(),
        resource_version: resource_version.unwrap_or_default().to_owned(),
    }
}

fn address(addr: IpAddr, port: u16) -> String {
    SocketAddr::new(addr, port).to_string()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::ClusterIp => "ClusterIP",
        Kind::LoadBalancer => "LoadBalancer",
        Kind::ExternalIp => "ExternalIP",
        Kind::NodePort => "NodePort",
    }
}

#[cfg(test)]
mod tests;
