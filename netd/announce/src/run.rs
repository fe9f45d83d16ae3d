//! Lets an [`Announcer`] act on the links of this process' network namespace.
//!
//! Inputs: orders, what the kernel says of links and addresses, frames, and the clock. Outputs:
//! frames, memberships, which nodes are silent, and what is told to the caller. Holds no policy. A
//! link that can't be opened is told in the log and tried again; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netns::{LinkError, Links, Monitor};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Moment;
use crate::announcer::{Action, Announcer, Told};
use crate::frame::{EtherType, Mac};
use crate::link::Lan;
use crate::offer::Wanted;
use crate::socket::{Groups, LONGEST, Wire};
use crate::view::View;

/// Frames that may wait; more are lost, as on any network.
const WAITING: usize = 512;
/// Links change in bursts: look once, this long after the first.
const SETTLE: Duration = Duration::from_millis(50);
/// The pause before a link that could not be opened or looked at is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What there is to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// A number that nodes of one cluster have in common.
    pub cluster: u64,
    /// All LoadBalancer addresses, and which of them this node offers.
    pub wanted: BTreeMap<IpAddr, Wanted>,
    /// May this node be counted on: is it ready, and does it know what the cluster looks like now?
    /// Otherwise it serves only where nobody else would.
    pub sound: bool,
}

/// Tells a running announcer what to do, and asks it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Arc<watch::Sender<Orders>>,
    questions: mpsc::Sender<oneshot::Sender<View>>,
    silent: watch::Receiver<BTreeSet<Arc<str>>>,
}

impl Handle {
    /// What there is to announce from now on.
    pub fn order(&self, orders: Orders) {
        self.orders.send_if_modified(|old| {
            let changed = *old != orders;
            *old = orders;
            changed
        });
    }

    /// The nodes that were heard and are not any more ([`Announcer::silent`]), as they change.
    #[must_use]
    pub fn silent(&self) -> watch::Receiver<BTreeSet<Arc<str>>> {
        self.silent.clone()
    }

    /// How things stand; `None` when it does not run.
    pub async fn view(&self) -> Option<View> {
        let (tell, told) = oneshot::channel();
        self.questions.send(tell).await.ok()?;
        told.await.ok()
    }
}

/// The other end of a [`Handle`].
#[derive(Debug)]
pub struct Inbox {
    orders: watch::Receiver<Orders>,
    questions: mpsc::Receiver<oneshot::Sender<View>>,
    silent: watch::Sender<BTreeSet<Arc<str>>>,
}

/// A handle, and the end that [`run`] takes.
#[must_use]
pub fn start() -> (Handle, Inbox) {
    let (orders, ordered) = watch::channel(Orders::default());
    let (questions, asked) = mpsc::channel(16);
    let (silent, heard) = watch::channel(BTreeSet::new());
    let handle = Handle { orders: Arc::new(orders), questions, silent: heard };
    (handle, Inbox { orders: ordered, questions: asked, silent })
}

/// Announces for `node` until told to stop; says farewell then. Links of the names in `not_on` are
/// no networks of nodes: the bridge of pods, and links that hold virtual addresses.
pub async fn run(
    node: &str,
    not_on: &[String],
    mut inbox: Inbox,
    mut tell: impl FnMut(Told),
    stop: CancellationToken,
) {
    let mut runner = Runner::new(node, not_on);
    loop {
        let next = runner.next();
        let look = runner.look_at;
        // All arms only wait; dropping any of them loses nothing.
        let actions = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = inbox.orders.changed() => match changed {
                Ok(()) => {
                    let orders = inbox.orders.borrow_and_update().clone();
                    runner.order(orders).await
                }
                Err(_) => break,
            },
            Some(question) = inbox.questions.recv() => {
                // Whoever asked may have gone.
                let _ = question.send(runner.announcer.view());
                Vec::new()
            }
            Some((link, frame)) = runner.frames.recv() => runner.hear(link, &frame),
            () = changed(&mut runner.monitor) => {
                let at = Instant::now() + SETTLE;
                runner.look_at = Some(look.map_or(at, |earlier| earlier.min(at)));
                Vec::new()
            }
            () = reached(look) => runner.look().await,
            () = reached(next) => {
                let now = runner.now();
                runner.announcer.tick(now)
            }
        };
        runner.act(actions, &mut tell);
        if runner.announcer.others_changed() {
            let silent = runner.announcer.silent();
            inbox.silent.send_if_modified(|old| {
                let differs = *old != silent;
                *old = silent;
                differs
            });
        }
    }
    let now = runner.now();
    let actions = runner.announcer.farewell(now);
    runner.act(actions, &mut tell);
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn changed(monitor: &mut Option<Monitor>) {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => std::future::pending().await,
    }
}

struct Runner {
    announcer: Announcer,
    started: Instant,
    not_on: BTreeSet<String>,
    /// Opened with the first address there is.
    links: Option<Links>,
    monitor: Option<Monitor>,
    look_at: Option<Instant>,
    /// Frames that were heard since something else was due.
    overdue: usize,
    open: BTreeMap<u32, Port>,
    frames: mpsc::Receiver<(u32, Box<[u8]>)>,
    incoming: mpsc::Sender<(u32, Box<[u8]>)>,
}

/// The sockets of a link. They close with it.
struct Port {
    wires: Vec<(EtherType, Arc<Wire>)>,
    readers: Vec<JoinHandle<()>>,
    memberships: Option<Groups>,
    groups: BTreeSet<Ipv6Addr>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

impl Runner {
    fn new(node: &str, not_on: &[String]) -> Self {
        let (incoming, frames) = mpsc::channel(WAITING);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            announcer: Announcer::new(node, u64::try_from(clock.as_micros()).unwrap_or(u64::MAX)),
            started: Instant::now(),
            not_on: not_on.iter().cloned().collect(),
            links: None,
            monitor: None,
            look_at: None,
            overdue: 0,
            open: BTreeMap::new(),
            frames,
            incoming,
        }
    }

    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    fn next(&self) -> Option<Instant> {
        self.announcer.next().map(|next| self.started + next)
    }

    async fn order(&mut self, orders: Orders) -> Vec<Action> {
        let Orders { cluster, wanted, sound } = orders;
        let mut actions = Vec::new();
        if self.links.is_none() && !wanted.is_empty() {
            actions = self.look().await;
        }
        let now = self.now();
        actions.extend(self.announcer.order(now, cluster, wanted, sound));
        actions
    }

    /// Looks at what links there are.
    async fn look(&mut self) -> Vec<Action> {
        self.look_at = None;
        match self.lans().await {
            Ok(lans) => {
                let now = self.now();
                self.announcer.set_links(now, lans)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "look at the links of this node; it is tried again");
                self.look_at = Some(Instant::now() + RETRY);
                Vec::new()
            }
        }
    }

    async fn lans(&mut self) -> Result<Vec<Lan>, LinkError> {
        if self.monitor.is_none() {
            // Before the first look, so that no change falls between the two.
            self.monitor = Some(Monitor::here()?);
        }
        let links = match &self.links {
            Some(links) => links.clone(),
            None => self.links.insert(Links::here()?).clone(),
        };
        let addresses = links.addresses().await?;
        // Each range once and in order, however many addresses of it come and go.
        let nets = |index: u32| -> BTreeSet<_> {
            let of_link = addresses.iter().filter(move |(link, _)| *link == index);
            of_link.map(|(_, net)| net.trunc()).filter(|net| is_of_a_network(*net)).collect()
        };
        let lans = links.list().await?.into_iter().filter(|link| link.up).filter_map(|link| {
            let nets: Vec<_> = nets(link.index).into_iter().collect();
            let mac = Mac::from_slice(&link.mac)?;
            let is_lan = !nets.is_empty() && !self.not_on.contains(&link.name);
            is_lan.then_some(Lan { index: link.index, name: link.name, mac, nets })
        });
        Ok(lans.collect())
    }

    /// Takes a frame in. A flood of them keeps nothing else from its turn for longer than it takes
    /// to hear what had waited when that was due: before, the others are not to be called silent.
    fn hear(&mut self, link: u32, frame: &[u8]) -> Vec<Action> {
        let now = self.now();
        let mut actions = self.announcer.frame(now, link, frame);
        let is_due = self.announcer.next().is_some_and(|next| next <= now);
        self.overdue = if is_due { self.overdue + 1 } else { 0 };
        if self.overdue > WAITING {
            self.overdue = 0;
            actions.extend(self.announcer.tick(now));
        }
        actions
    }

    /// Does what is to be done. A link that can't be opened is none for a while: nothing is claimed
    /// where nobody is heard.
    fn act(&mut self, mut actions: Vec<Action>, tell: &mut impl FnMut(Told)) {
        loop {
            let refused = self.execute(actions, tell);
            if refused.is_empty() {
                return;
            }
            let at = Instant::now() + RETRY;
            self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
            let now = self.now();
            let lans = self.announcer.lans().iter();
            let others = lans.filter(|lan| !refused.contains(&lan.index)).cloned().collect();
            actions = self.announcer.set_links(now, others);
            // It is on a link, only not on one that can be had now: the log says so.
            actions.retain(|action| !matches!(action, Action::Tell(Told::NotOnLink { .. })));
        }
    }

    /// Gives the links that could not be opened.
    fn execute(&mut self, actions: Vec<Action>, tell: &mut impl FnMut(Told)) -> BTreeSet<u32> {
        let mut refused = BTreeSet::new();
        for action in actions {
            match action {
                Action::Open(lan) => match Port::open(lan.index, &self.incoming) {
                    Ok(port) => {
                        tracing::debug!(link = lan.name, "listen for other nodes");
                        self.open.insert(lan.index, port);
                    }
                    Err(error) => {
                        tracing::warn!(
                            %error, link = lan.name,
                            "listen on a link for ARP and NDP; it is tried again"
                        );
                        refused.insert(lan.index);
                    }
                },
                Action::Close(link) => drop(self.open.remove(&link)),
                Action::Groups(link, groups) => {
                    if let Some(port) = self.open.get_mut(&link) {
                        port.follow(link, groups);
                    }
                }
                Action::Send(link, frame) => {
                    if let Some(port) = self.open.get(&link) {
                        port.send(&frame);
                    }
                }
                Action::Tell(told) => tell(told),
            }
        }
        refused
    }
}

/// A range of a link with more than the node itself; others have nobody to tell.
fn is_of_a_network(net: ipnet::IpNet) -> bool {
    match net {
        ipnet::IpNet::V4(net) => net.prefix_len() < 32 && !net.addr().is_loopback(),
        ipnet::IpNet::V6(net) => net.prefix_len() < 128 && !net.addr().is_unicast_link_local(),
    }
}

impl Port {
    fn open(link: u32, incoming: &mpsc::Sender<(u32, Box<[u8]>)>) -> std::io::Result<Self> {
        let mut port = Self {
            wires: Vec::new(),
            readers: Vec::new(),
            memberships: None,
            groups: BTreeSet::new(),
        };
        for kind in EtherType::ALL {
            let wire = Arc::new(Wire::open(link, kind)?);
            port.readers.push(tokio::spawn(read(link, wire.clone(), incoming.clone())));
            port.wires.push((kind, wire));
        }
        Ok(port)
    }

    fn send(&self, frame: &[u8]) {
        let kind = frame.get(12..14).map(|kind| u16::from_be_bytes([kind[0], kind[1]]));
        let wire = self.wires.iter().find(|(known, _)| Some(known.number()) == kind);
        if let Some((_, wire)) = wire
            && let Err(error) = wire.send(frame)
        {
            // The link may be down. What matters is sent again.
            tracing::debug!(%error, "a frame is not sent");
        }
    }

    fn follow(&mut self, link: u32, groups: BTreeSet<Ipv6Addr>) {
        if self.memberships.is_none() && !groups.is_empty() {
            match Groups::open() {
                Ok(socket) => self.memberships = Some(socket),
                // A kernel without IPv6 has no such questions, either.
                Err(error) => tracing::debug!(%error, "no membership of IPv6 groups"),
            }
        }
        let Some(memberships) = &self.memberships else { return };
        for group in groups.difference(&self.groups) {
            if let Err(error) = memberships.join(group, link) {
                tracing::warn!(%error, %group, "join a group for neighbour discovery");
            }
        }
        for group in self.groups.difference(&groups) {
            // It may have gone with its link.
            let _ = memberships.leave(group, link);
        }
        self.groups = groups;
    }
}

/// Hands on what a socket hears, until the socket is closed.
async fn read(link: u32, wire: Arc<Wire>, incoming: mpsc::Sender<(u32, Box<[u8]>)>) {
    let mut buffer = [0; LONGEST];
    loop {
        match wire.receive(&mut buffer).await {
            Ok(length) => {
                let frame = buffer.get(..length).unwrap_or_default();
                if incoming.send((link, frame.into())).await.is_err() {
                    return;
                }
            }
            // The link went down (told once); it may come up again.
            Err(error) => {
                tracing::debug!(%error, "a link is not heard");
                tokio::time::sleep(SETTLE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use netmodel::snapshot::ServiceName;

    use super::*;

    /// No link has this number.
    const NOWHERE: u32 = 0x7fff_fff0;

    /// A runner with an address to announce on a link that does not exist, and what it would do.
    fn runner() -> (Runner, Vec<Action>) {
        let mut runner = Runner::new("node-1", &[]);
        let lan = Lan {
            index: NOWHERE,
            name: "none".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            nets: vec!["192.168.56.0/24".parse().unwrap()],
        };
        let services = BTreeSet::from([ServiceName::new("default", "web")]);
        let wanted = Wanted { services, declined: None };
        let wanted = BTreeMap::from([(IpAddr::from([192, 168, 56, 200]), wanted)]);
        let now = runner.now();
        let mut actions = runner.announcer.set_links(now, vec![lan]);
        actions.extend(runner.announcer.order(now, 1, wanted, true));
        (runner, actions)
    }

    #[tokio::test]
    async fn on_a_link_that_cannot_be_opened_nothing_is_claimed_and_it_is_looked_at_again() {
        let (mut runner, actions) = runner();
        assert!(runner.next().is_some(), "it would listen there");
        let mut told = Vec::new();
        runner.act(actions, &mut |one| told.push(one));
        assert!(runner.next().is_none() && runner.look_at.is_some());
        assert_eq!(told, []);
    }

    #[tokio::test]
    async fn a_flood_of_frames_does_not_silence_a_node() {
        let (mut runner, _) = runner();
        let began = std::time::Instant::now();
        let is_beat = |action: &Action| match action {
            Action::Send(_, frame) => frame[12..14] == EtherType::Beat.number().to_be_bytes(),
            _ => false,
        };
        // The link's first beat went with the orders; others are due a tenth of a second apart.
        while !runner.hear(NOWHERE, b"no frame at all").iter().any(is_beat) {
            assert!(began.elapsed() < Duration::from_secs(20), "no beat while frames come");
        }
    }
}
