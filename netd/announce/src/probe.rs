//! Asking the network who has an address: what `minictl lb check` does from every node.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::frame::arp::Arp;
use crate::frame::ndp::{self, Ndp};
use crate::frame::{Content, EtherType, Frame, Mac};
use crate::link::Lan;
use crate::socket::{LONGEST, Wire};

/// A frame may be lost: it is asked so often, …
const QUESTIONS: u32 = 3;
/// … and each time waited so long.
const PATIENCE: Duration = Duration::from_millis(200);

/// Why the network could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("ask for {address} on {link}")]
pub struct ProbeError {
    /// The address.
    pub address: IpAddr,
    /// The link.
    pub link: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The Ethernet addresses that said they have it.
pub type Answers = BTreeSet<Mac>;

/// Asks on a link who has an address, and waits for all answers. This host's own is not among them:
/// nobody hears himself.
///
/// # Errors
/// When the link takes no frames.
pub async fn probe(lan: &Lan, address: IpAddr) -> Result<Answers, ProbeError> {
    let failed = |source| ProbeError { address, link: lan.name.clone(), source };
    let (kind, question) = match address {
        IpAddr::V4(address) => (EtherType::Arp, Arp::probe(address, lan.mac)),
        IpAddr::V6(address) => (EtherType::Ipv6, Ndp::probe(address, lan.mac)),
    };
    let wire = Wire::open(lan.index, kind).map_err(failed)?;
    let question = question.bytes();
    let mut answers = Answers::new();
    let mut buffer = [0; LONGEST];
    for _ in 0..QUESTIONS {
        wire.send(&question).map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        while let Ok(read) = timeout_at(until, wire.receive(&mut buffer)).await {
            let length = read.map_err(failed)?;
            let frame = buffer.get(..length).and_then(Frame::read);
            answers.extend(frame.and_then(|frame| answer(&frame, address)));
        }
    }
    answers.remove(&lan.mac);
    Ok(answers)
}

/// Who says by this frame that it has the address.
fn answer(frame: &Frame, address: IpAddr) -> Option<Mac> {
    match &frame.content {
        Content::Arp(arp) => (IpAddr::from(arp.sender) == address).then_some(arp.sender_mac),
        Content::Ndp(ndp) => {
            let claims = matches!(ndp.message, ndp::Message::Advertisement { .. });
            (claims && IpAddr::from(ndp.target) == address).then(|| ndp.mac.unwrap_or(frame.from))
        }
        Content::Beat(_) => None,
    }
}
