//! What netd tells the cluster: conditions and events of Services, events of its Node, and which
//! engine serves.
//!
//! Input: what a look found, and what the API says already. Output: patches and events, sent by
//! tasks of their own so that a slow API never holds up the kernel. Level-triggered: what is
//! already said is not said again, and what was lost is said at the next full look. Where netd may
//! not write a Service's status (kube-proxy's own role may not), the event is all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use netmodel::problem::{self, Problem};
use netmodel::repair::{Repair, summary};
use netmodel::snapshot::ServiceName;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::ENGINE_ANNOTATION;
use crate::conditions::{Cause, Statement, statement};
use crate::events::{Happening, Recorder, Severity, Subject};
use crate::inputs::{Facts, Inputs};

/// Patches of Services that may wait; more come again at the next full look.
const WAITING: usize = 256;
/// A patch of which the API says nothing was lost after this long.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// The pauses before the Node's annotation is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The loop's side.
#[derive(Debug)]
pub(crate) struct Teller {
    node: String,
    recorder: Recorder,
    patches: mpsc::Sender<(ServiceName, Value)>,
    annotation: watch::Sender<String>,
    /// What this node can't honour, as last seen.
    causes: BTreeMap<ServiceName, BTreeSet<Problem>>,
    /// The last patch of each Service that is complained about, so that it is sent once.
    asked: BTreeMap<ServiceName, Asked>,
}

/// A patch that was sent.
#[derive(Debug, PartialEq)]
struct Asked {
    resource_version: Box<str>,
    statement: Statement,
    at: Instant,
}

impl Teller {
    /// A teller, and the task that writes to the API.
    pub(crate) fn new(client: &Client, node: &str) -> (Self, impl Future<Output = ()> + use<>) {
        let (recorder, events) = Recorder::new(client.clone(), node.to_owned());
        let (patches, waiting) = mpsc::channel(WAITING);
        let (annotation, said) = watch::channel(String::new());
        let teller = Self {
            node: node.to_owned(),
            recorder,
            patches,
            annotation,
            causes: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        let conditions = patch_services(client.clone(), waiting);
        let annotated = annotate(client.clone(), node.to_owned(), said);
        let telling = async {
            tokio::join!(events, conditions, annotated);
        };
        (teller, telling)
    }

    /// The Node is to say which engine serves it.
    pub(crate) fn engine(&self, text: String, inputs: &mut Inputs) {
        let stated = inputs.own_node.as_ref().and_then(|own| own.stated.as_deref());
        let news = std::mem::take(&mut inputs.news.own_node);
        if *self.annotation.borrow() != text || news && stated != Some(&*text) {
            self.annotation.send_replace(text);
        }
    }

    /// Something happened to the Node.
    pub(crate) fn about_node(
        &self,
        inputs: &Inputs,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let uid = inputs.own_node.as_ref().map(|own| own.uid.clone()).unwrap_or_default();
        self.recorder.tell(Happening { about: Subject::Node(uid), severity, reason, message });
    }

    /// Something happened to a Service.
    pub(crate) fn about_service(
        &self,
        inputs: &Inputs,
        name: &ServiceName,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let uid = inputs.facts.get(name).map(|facts| facts.uid.clone()).unwrap_or_default();
        let about = Subject::Service(name.clone(), uid);
        self.recorder.tell(Happening { about, severity, reason, message });
    }

    /// What another hand changed was put back.
    pub(crate) fn repaired(&self, inputs: &Inputs, repairs: Vec<Repair>) {
        if repairs.is_empty() {
            return;
        }
        let words: Vec<String> = summary(repairs).iter().map(ToString::to_string).collect();
        let message = format!("changed by another hand and put back: {}", words.join("; "));
        self.about_node(inputs, Severity::Warning, "DataplaneRepaired", message);
    }

    /// What the API says of some Services has changed, their conditions perhaps.
    pub(crate) fn news(&mut self, inputs: &mut Inputs) {
        for name in std::mem::take(&mut inputs.news.services) {
            self.state(inputs, &name);
        }
    }

    /// What can't be honoured, all of it: new causes become events, and the conditions of the
    /// Services concerned, at a full look of all, are brought up to date.
    pub(crate) fn problems(&mut self, inputs: &Inputs, found: Vec<Problem>, full: bool) {
        let mut causes: BTreeMap<ServiceName, BTreeSet<Problem>> = BTreeMap::new();
        for problem in found {
            causes.entry(problem.owner.service.clone()).or_default().insert(problem);
        }
        let mut concerned: BTreeSet<ServiceName> = BTreeSet::new();
        let old = std::mem::replace(&mut self.causes, causes);
        let nothing = BTreeSet::new();
        for (name, now) in &self.causes {
            let before = old.get(name).unwrap_or(&nothing);
            for problem in now.difference(before) {
                let severity = match problem.cause.severity() {
                    problem::Severity::Notice => Severity::Normal,
                    problem::Severity::Refused => Severity::Warning,
                };
                let reason = problem.cause.reason();
                self.about_service(inputs, name, severity, reason, sentence(problem));
            }
            if now != before {
                concerned.insert(name.clone());
            }
        }
        concerned.extend(old.into_keys().filter(|name| !self.causes.contains_key(name)));
        if full {
            concerned.extend(self.causes.keys().cloned());
            let complained = inputs.facts.iter().filter(|(_, facts)| facts.complaint.is_some());
            concerned.extend(complained.map(|(name, _)| name.clone()));
        }
        for name in concerned {
            self.state(inputs, &name);
        }
    }

    /// Brings one Service's condition up to date.
    fn state(&mut self, inputs: &Inputs, name: &ServiceName) {
        let Some(facts) = inputs.facts.get(name) else {
            self.asked.remove(name);
            return;
        };
        let Some(next) = self.statement(inputs, name, facts) else {
            self.asked.remove(name);
            return;
        };
        let version = &facts.resource_version;
        let is_said = |asked: &Asked| {
            asked.resource_version == *version
                && asked.statement == next
                && asked.at.elapsed() < SAY_AGAIN
        };
        if self.asked.get(name).is_some_and(is_said) {
            return;
        }
        let patch = next.patch(version, Timestamp::now());
        if self.patches.try_send((name.clone(), patch)).is_ok() {
            let resource_version = version.clone();
            let asked = Asked { resource_version, statement: next, at: Instant::now() };
            self.asked.insert(name.clone(), asked);
        }
    }

    fn statement(&self, inputs: &Inputs, name: &ServiceName, facts: &Facts) -> Option<Statement> {
        let refused = |p: &&Problem| p.cause.severity() == problem::Severity::Refused;
        let problems = self.causes.get(name).into_iter().flatten().filter(refused);
        let causes: Vec<Cause> =
            problems.map(|p| (p.cause.reason().to_owned(), sentence(p))).collect();
        let is_known = |node: &str| inputs.snapshot.nodes.contains_key(node);
        statement(facts.complaint.as_deref(), &self.node, &causes, is_known)
    }
}

/// The cause, and the port it concerns where it has a name.
pub(crate) fn sentence(problem: &Problem) -> String {
    match &*problem.owner.port {
        "" => problem.cause.to_string(),
        port => format!("port {port}: {}", problem.cause),
    }
}

/// Sends patches of Services' statuses, one after the other.
async fn patch_services(client: Client, mut waiting: mpsc::Receiver<(ServiceName, Value)>) {
    while let Some((name, patch)) = waiting.recv().await {
        let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
        let patch = Patch::Strategic(patch);
        let sent = services.patch_status(&name.name, &PatchParams::default(), &patch).await;
        match sent {
            Ok(_) => {}
            // The Service changed meanwhile or is gone: the watch tells, and it is decided anew.
            Err(Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::debug!(error, "the condition of Service {name} is not written");
            }
        }
    }
}

/// Says on the Node which engine serves it.
async fn annotate(client: Client, node: String, mut said: watch::Receiver<String>) {
    let nodes: Api<Node> = Api::all(client);
    while said.changed().await.is_ok() {
        let mut pause = FIRST_PAUSE;
        loop {
            let text = said.borrow_and_update().clone();
            let patch =
                Patch::Merge(json!({"metadata": {"annotations": {ENGINE_ANNOTATION: text}}}));
            let Err(error) = nodes.patch_metadata(&node, &PatchParams::default(), &patch).await
            else {
                break;
            };
            // The Node may not be registered yet.
            tracing::debug!(error = crate::error_chain(&error), "annotate {node}");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                _ = said.changed() => pause = FIRST_PAUSE,
            }
        }
    }
}

#[cfg(test)]
mod tests;
