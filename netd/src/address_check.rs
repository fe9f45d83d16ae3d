//! The gRPC service that tells what a node knows of a LoadBalancer address, and what its network
//! says to it (contract: `proto/lb.proto`).
//!
//! Translates the announcer's view and the answers of the network into a message; what they mean is
//! for who asked to say. Asking changes nothing: a question by ARP or NDP that names no sender, and
//! a connection to each TCP port that is closed at once.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use announce::frame::Mac;
use announce::frame::beat::Grade;
use announce::{AddressView, Answers, LinkView, ProbeError, Standing, View};
use proto::lb as message;
use proto::lb::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use tokio::net::TcpStream;
use tonic::{Request, Response};

use crate::control::{Control, ControlError, Door};
use crate::error_chain;

/// A connection that takes longer does not come to be: the address is on this network.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service, to be added to a gRPC server.
#[must_use]
pub fn load_balancer_service(control: Control) -> LoadBalancerServer<impl LoadBalancer> {
    LoadBalancerServer::new(Checker { control })
}

struct Checker {
    control: Control,
}

#[tonic::async_trait]
impl LoadBalancer for Checker {
    async fn check(
        &self,
        request: Request<message::CheckRequest>,
    ) -> Result<Response<message::CheckReply>, tonic::Status> {
        let address = request.into_inner().address;
        let parsed: IpAddr = address
            .parse()
            .map_err(|_| tonic::Status::invalid_argument(format!("{address:?} is no address")))?;
        let gone = |error: ControlError| tonic::Status::unavailable(error_chain(&error));
        let node = self.control.status().await.map_err(gone)?.node;
        let view = self.control.announcer.view().await.ok_or_else(|| gone(ControlError::Gone))?;
        let doors = self.control.doors(parsed).await.map_err(gone)?;
        let lan = view.links.iter().map(|link| &link.lan).find(|lan| lan.has(parsed));
        let asked = async {
            match lan {
                Some(lan) => announce::probe(lan, parsed).await,
                None => Ok(Answers::new()),
            }
        };
        let knocked = futures::future::join_all(doors.into_iter().map(|door| knock(parsed, door)));
        let (asked, knocked) = tokio::join!(asked, knocked);
        Ok(Response::new(reply(node, parsed, &view, &asked, knocked)))
    }
}

async fn knock(address: IpAddr, door: Door) -> message::Door {
    let call = TcpStream::connect(SocketAddr::new(address, door.port));
    let outcome = match tokio::time::timeout(PATIENCE, call).await {
        Err(_) => "Silent",
        Ok(Ok(_)) => "Open",
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => "Refused",
        Ok(Err(_)) => "Unreachable",
    };
    message::Door {
        port: door.port.into(),
        service: door.service.to_string(),
        outcome: outcome.to_owned(),
    }
}

fn reply(
    node: String,
    address: IpAddr,
    view: &View,
    asked: &Result<Answers, ProbeError>,
    doors: Vec<message::Door>,
) -> message::CheckReply {
    let known = view.addresses.get(&address);
    let (standing, reason, sentence) = known.map_or_else(Default::default, standing);
    let lan = view.links.iter().map(|link| &link.lan).find(|lan| lan.has(address));
    let peers = view.links.iter().flat_map(|link| &link.peers);
    message::CheckReply {
        address: address.to_string(),
        services: known
            .map(|known| known.services.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        standing,
        reason,
        message: sentence,
        elected: view.elected(address, &node).unwrap_or_default(),
        candidates: known.map(candidates).unwrap_or_default(),
        link: lan.map(|lan| lan.name.clone()).unwrap_or_default(),
        links: view.links.iter().map(link).collect(),
        peers: peers.map(|(node, mac)| peer(node, *mac)).collect(),
        answers: asked.iter().flatten().map(ToString::to_string).collect(),
        probe_error: asked.as_ref().err().map(|error| error_chain(error)).unwrap_or_default(),
        doors,
        node,
    }
}

/// What the node does for an address, and why it does not serve it, as a word and a sentence.
fn standing(known: &AddressView) -> (String, String, String) {
    let word = match &known.standing {
        Standing::Announces => "Announces",
        Standing::Listens => "Listens",
        Standing::Waits { .. } => "Waits",
        Standing::Declines(_) => "Declines",
    };
    let (reason, sentence) = match &known.standing {
        Standing::Declines(declined) => (declined.reason(), declined.to_string()),
        _ => ("", String::new()),
    };
    (word.to_owned(), reason.to_owned(), sentence)
}

fn candidates(known: &AddressView) -> Vec<message::Candidate> {
    let candidate = |(node, grade): (&String, &Grade)| message::Candidate {
        node: node.clone(),
        reserve: *grade == Grade::Reserve,
    };
    known.candidates.iter().map(candidate).collect()
}

fn link(view: &LinkView) -> message::Link {
    message::Link { name: view.lan.name.clone(), mac: view.lan.mac.to_string() }
}

fn peer(node: &str, mac: Mac) -> message::Peer {
    message::Peer { node: node.to_owned(), mac: mac.to_string() }
}

#[cfg(test)]
mod tests;
