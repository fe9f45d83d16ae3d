//! A handle on a running netd: what it does, and what its kernel holds.
//!
//! [`control`] makes the handle and the end that is given to [`crate::run`], which answers between
//! two looks, so that an answer never shows half a change. Nothing here changes anything.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use netmodel::foreign::Finding;
use netmodel::inspect::Inspection;
use netmodel::nft::Engine;
use netmodel::packet::Packet;
use netmodel::repair::summary;
use netmodel::snapshot::ServiceName;
use netmodel::trace::Trace;
use tokio::sync::{mpsc, oneshot};

use crate::executor::Report;
use crate::kernel::OpError;
use crate::wanted::Mode;

/// Questions that may wait.
const WAITING: usize = 16;
/// Repairs and failures that are remembered word by word.
const REMEMBERED: usize = 20;

/// Asks a running netd; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    questions: mpsc::Sender<Question>,
    /// The node's announcer of LoadBalancer addresses.
    pub(crate) announcer: announce::Handle,
    /// The node's name server, once it was made.
    pub(crate) dns: Arc<OnceLock<dns::Dns>>,
}

/// The end of a [`Control`] that netd answers at.
#[derive(Debug)]
pub struct Questions {
    pub(crate) waiting: mpsc::Receiver<Question>,
    /// A handle for netd's own pages.
    pub(crate) own: Control,
    pub(crate) announcer: announce::Inbox,
}

/// One question, with the way back.
#[derive(Debug)]
pub(crate) enum Question {
    Status(oneshot::Sender<Status>),
    Inspect(oneshot::Sender<Result<Inspection, ControlError>>),
    Trace(Probe, oneshot::Sender<Result<Traced, ControlError>>),
    Doors(IpAddr, oneshot::Sender<Vec<Door>>),
}

/// A packet of which it is asked what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) packet: Packet,
    /// Another node passed it on to this one.
    pub(crate) handed_over: bool,
}

/// What becomes of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    pub(crate) engine: Engine,
    pub(crate) trace: Trace,
    /// The names of nodes by their addresses.
    pub(crate) nodes: BTreeMap<IpAddr, Arc<str>>,
}

/// A TCP port of a Service at a LoadBalancer address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Door {
    pub(crate) port: u16,
    pub(crate) service: ServiceName,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// netd ended, or was never started.
    #[error("netd is not running")]
    Gone,
    /// Nothing is programmed before Services, `EndpointSlice`s and Nodes have been listed.
    #[error("netd has not read the cluster yet")]
    NotSynced,
    /// A packet's way can't be told from rules that are not ours.
    #[error("the table inet minictl is missing, or its rules were changed: see dataplane diff")]
    Broken,
    /// The kernel did not tell.
    #[error("look at the kernel")]
    Kernel(#[source] OpError),
}

/// A handle, and the end that [`crate::run`] takes.
#[must_use]
pub fn control() -> (Control, Questions) {
    let (questions, waiting) = mpsc::channel(WAITING);
    let (announcer, inbox) = announce::start();
    let control = Control { questions, announcer, dns: Arc::default() };
    (control.clone(), Questions { waiting, own: control, announcer: inbox })
}

impl Control {
    /// How the data plane fares.
    ///
    /// # Errors
    /// When netd is not running.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Question::Status).await
    }

    /// What is programmed for which Service, what differs, and what is not ours.
    ///
    /// # Errors
    /// When netd is not running, has not read the cluster yet, or can't read the kernel.
    pub async fn inspect(&self) -> Result<Inspection, ControlError> {
        self.ask(Question::Inspect).await?
    }

    /// The TCP ports that Services have at a LoadBalancer address.
    ///
    /// # Errors
    /// When netd is not running.
    pub(crate) async fn doors(&self, address: IpAddr) -> Result<Vec<Door>, ControlError> {
        self.ask(|tell| Question::Doors(address, tell)).await
    }

    /// What would become of a packet.
    ///
    /// # Errors
    /// When netd is not running, has not read the cluster yet, can't read the kernel, or finds no
    /// table of its own there.
    pub(crate) async fn trace(&self, probe: Probe) -> Result<Traced, ControlError> {
        self.ask(|tell| Question::Trace(probe, tell)).await?
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, ControlError> {
        let (tell, told) = oneshot::channel();
        self.questions.send(question(tell)).await.map_err(|_| ControlError::Gone)?;
        told.await.map_err(|_| ControlError::Gone)
    }
}

/// How the data plane of a node fares.
#[derive(Clone, Debug)]
pub struct Status {
    /// The node.
    pub node: String,
    /// The engine in use; none before the inputs have synced.
    pub engine: Option<Engine>,
    /// Why this one.
    pub reason: String,
    /// The engine that the Node's annotation or else the flag asks for.
    pub wanted: Mode,
    /// Why the wanted engine is not the one in use, if it is not.
    pub refused: Option<String>,
    /// All inputs have been listed once.
    pub synced: bool,
    /// What was done since the start.
    pub activity: Activity,
    /// What there is.
    pub counts: Counts,
    /// What Services ask for and this node cannot do.
    pub problems: Vec<Problem>,
    /// Rules of others that stand in the way, as last looked for.
    pub firewalls: Vec<Finding>,
}

/// What is programmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services with at least one frontend here.
    pub services: usize,
    /// Addresses with protocol and port at which something answers or refuses.
    pub frontends: usize,
    /// Backends over all frontends.
    pub backends: usize,
    /// Routes to other nodes' pods.
    pub routes: usize,
}

/// Something that a Service asks for and this node cannot do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The Service.
    pub service: ServiceName,
    /// A word in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What netd did since it started.
#[derive(Clone, Debug)]
pub struct Activity {
    /// When it started.
    pub started: Timestamp,
    /// The last comparison of everything with the kernel.
    pub last_look: Option<Timestamp>,
    /// The last change that was made in the kernel.
    pub last_write: Option<Timestamp>,
    /// The last time that something changed by another hand was put back.
    pub last_repair: Option<Timestamp>,
    /// Changes made in the kernel.
    pub writes: u64,
    /// Things put back, by what they are.
    pub repairs: BTreeMap<&'static str, u64>,
    /// Steps that failed.
    pub failures: u64,
    /// Stale connections forgotten.
    pub forgotten: u64,
    /// The latest repairs, newest last.
    pub recent_repairs: VecDeque<String>,
    /// The latest failures, newest last.
    pub recent_failures: VecDeque<String>,
}

impl Activity {
    pub(crate) fn since(started: Timestamp) -> Self {
        Self {
            started,
            last_look: None,
            last_write: None,
            last_repair: None,
            writes: 0,
            repairs: BTreeMap::new(),
            failures: 0,
            forgotten: 0,
            recent_repairs: VecDeque::new(),
            recent_failures: VecDeque::new(),
        }
    }

    /// All things put back.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.repairs.values().sum()
    }

    /// Adds what one look did.
    pub(crate) fn add(&mut self, report: &Report, now: Timestamp) {
        self.writes += report.writes as u64;
        self.forgotten += report.forgotten as u64;
        self.failures += report.failures.len() as u64;
        if report.writes > 0 {
            self.last_write = Some(now);
        }
        if !report.repaired.is_empty() {
            self.last_repair = Some(now);
        }
        for repair in &report.repaired {
            *self.repairs.entry(repair.object.word()).or_default() += repair.count as u64;
        }
        for repair in summary(report.repaired.clone()) {
            remember(&mut self.recent_repairs, repair.to_string());
        }
        for failure in &report.failures {
            remember(&mut self.recent_failures, crate::error_chain(failure));
        }
    }
}

fn remember(list: &mut VecDeque<String>, text: String) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(text);
}
