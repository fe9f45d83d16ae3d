//! Answers to questions about the running data plane, given between two looks.

use std::net::IpAddr;
use std::sync::Arc;

use netmodel::address::Protocol;
use netmodel::inspect::Inspection;
use netmodel::problem::Problem;
use netmodel::service::VirtualService;
use netmodel::snapshot::Node;

use super::Reconciler;
use crate::control::{self, ControlError, Counts, Door, Probe, Question, Status, Traced};
use crate::executor::Executor;
use crate::tell::sentence;

impl Reconciler {
    pub(super) async fn answer(&mut self, question: Question) {
        // Who asked may have gone.
        match question {
            Question::Status(tell) => drop(tell.send(self.status())),
            Question::Inspect(tell) => drop(tell.send(self.inspect().await)),
            Question::Trace(probe, tell) => drop(tell.send(self.trace(probe).await)),
            Question::Doors(address, tell) => drop(tell.send(self.doors(address))),
        }
    }

    fn doors(&self, address: IpAddr) -> Vec<Door> {
        let services = self.inputs.snapshot.services.iter();
        let at = services.filter(|(_, service)| service.load_balancer_ips.contains(&address));
        let doors = at.flat_map(|(name, service)| {
            let ports = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
            ports.map(|port| Door { port: port.port, service: name.clone() })
        });
        doors.collect()
    }

    fn status(&self) -> Status {
        let decision = self.decided.as_ref().map(|(_, decision)| decision);
        let problems = self.executor.as_ref().map(Executor::problems).unwrap_or_default();
        Status {
            node: self.node.clone(),
            engine: decision.map(|d| d.engine),
            reason: decision.map(|d| d.reason.clone()).unwrap_or_default(),
            wanted: self.decided.as_ref().map_or(self.flag, |(wish, _)| wish.mode),
            refused: decision.and_then(|d| d.refused.clone()),
            synced: self.inputs.synced(),
            activity: self.activity.clone(),
            counts: self.counts(),
            problems: problems.iter().map(told).collect(),
            firewalls: self.firewalls.findings.clone(),
        }
    }

    fn counts(&self) -> Counts {
        let Some(plane) = self.executor.as_ref().map(Executor::plane) else {
            return Counts::default();
        };
        let backends = |service: &VirtualService| service.pool.backends().len();
        Counts {
            services: plane.services().count(),
            frontends: plane.iter().count(),
            backends: plane.iter().map(|(_, service)| backends(service)).sum(),
            routes: netmodel::route::desired_routes(&self.inputs.snapshot).len(),
        }
    }

    async fn inspect(&mut self) -> Result<Inspection, ControlError> {
        if self.executor.is_none() {
            return Err(ControlError::NotSynced);
        }
        let inspection = self.in_kernel(Executor::inspect).await;
        let mut inspection =
            inspection.map_err(|_| ControlError::Gone)?.map_err(ControlError::Kernel)?;
        for row in &mut inspection.rows {
            let facts = self.inputs.facts.get(&row.owner.service);
            row.resource_version = facts.map(|facts| Arc::from(&*facts.resource_version));
        }
        Ok(inspection)
    }

    async fn trace(&mut self, probe: Probe) -> Result<Traced, ControlError> {
        let Some(engine) = self.executor.as_ref().map(Executor::engine) else {
            return Err(ControlError::NotSynced);
        };
        let Probe { packet, handed_over } = probe;
        let traced = self
            .in_kernel(move |executor, snapshot| executor.trace(snapshot, packet, handed_over))
            .await;
        let trace = traced.map_err(|_| ControlError::Gone)?.map_err(ControlError::Kernel)?;
        let of_node = |(name, node): (&Arc<str>, &Arc<Node>)| {
            let addresses = node.addresses.clone().into_iter();
            addresses.map(|addr| (addr, name.clone())).collect::<Vec<_>>()
        };
        let nodes = self.inputs.snapshot.nodes.iter().flat_map(of_node).collect();
        Ok(Traced { engine, trace: trace.ok_or(ControlError::Broken)?, nodes })
    }
}

fn told(problem: &Problem) -> control::Problem {
    control::Problem {
        service: problem.owner.service.clone(),
        reason: problem.cause.reason().to_owned(),
        message: sentence(problem),
    }
}
