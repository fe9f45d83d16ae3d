//! A packet's way, from and to messages.

use std::net::{IpAddr, SocketAddr};

use netmodel::address::{Frontend, Protocol};
use netmodel::handover::SLOTS;
use netmodel::packet::{From, Outcome, Packet};
use netmodel::trace::Why;
use proto::dataplane as message;
use tonic::Status;

use super::{address, origin};
use crate::control::{Probe, Traced};
use crate::wanted::engine_name;

/// Reads a question.
///
/// # Errors
/// What is wrong with it, as an invalid argument.
pub(super) fn probe(request: &message::TraceRequest) -> Result<Probe, Status> {
    let wrong = |field: &str, value: &str, wanted: &str| {
        Status::invalid_argument(format!("{field}: Invalid value: \"{value}\": must be {wanted}"))
    };
    let message::TraceRequest { origin, source, destination, protocol, handed_over } = request;
    let from = match origin.as_str() {
        "Pod" => From::Pod,
        "Node" => From::Node,
        "Network" => From::Network,
        _ => return Err(wrong("origin", origin, "Pod, Node or Network")),
    };
    let protocol = match protocol.as_str() {
        "" | "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return Err(wrong("protocol", protocol, "TCP, UDP or SCTP")),
    };
    let source: IpAddr =
        source.parse().map_err(|_| wrong("source", source, "an address, as 10.244.0.2"))?;
    let to: SocketAddr = destination.parse().map_err(|_| {
        wrong("destination", destination, "ADDRESS:PORT, as 10.96.0.1:443 or [fd00::1]:443")
    })?;
    if source.is_ipv4() != to.is_ipv4() {
        let text = source.to_string();
        return Err(wrong("source", &text, "of the same address family as the destination"));
    }
    let to = Frontend { addr: to.ip(), protocol, port: to.port() };
    let packet = Packet { from, source, to, random: 0, remembers: None };
    Ok(Probe { packet, handed_over: *handed_over })
}

/// Tells what becomes of a packet; `announcer` is the node that answers for its address.
pub(super) fn reply(node: String, traced: &Traced, announcer: String) -> message::TraceReply {
    let Traced { engine, trace, nodes } = traced;
    let passed_on = trace.passed_on.iter().map(|(addr, share)| message::Passed {
        node: nodes.get(addr).map(ToString::to_string).unwrap_or_default(),
        address: addr.to_string(),
        share: *share,
    });
    let steps = trace
        .steps
        .iter()
        .map(|step| message::Step { place: step.place.clone(), what: step.what.clone() });
    message::TraceReply {
        node,
        engine: engine_name(*engine).to_owned(),
        passed_on: passed_on.collect(),
        passed_on_of: SLOTS,
        steps: steps.collect(),
        service: trace.owner.as_ref().map(|owner| origin(owner, None)),
        why: trace.why.map(why).unwrap_or_default().to_owned(),
        announcer,
        affinity_seconds: trace.affinity_seconds.unwrap_or_default(),
        scheduler: trace.scheduler.as_deref().unwrap_or_default().to_owned(),
        ends: trace.ends.iter().map(|(outcome, share)| end(*outcome, *share)).collect(),
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::NotItsAddress => "NotItsAddress",
        Why::NotAdmitted => "NotAdmitted",
        Why::NoEndpoint => "NoEndpoint",
        Why::NoEndpointHere => "NoEndpointHere",
        Why::NoSuchPort => "NoSuchPort",
        Why::NoService => "NoService",
    }
}

fn end(outcome: Outcome, share: u32) -> message::End {
    let end = message::End { share, ..message::End::default() };
    match outcome {
        Outcome::Refused => message::End { verdict: "Refused".to_owned(), ..end },
        Outcome::Dropped => message::End { verdict: "Dropped".to_owned(), ..end },
        Outcome::Delivered { to, translated, masqueraded } => message::End {
            verdict: "Delivered".to_owned(),
            address: address(to.addr, to.port),
            translated,
            masqueraded,
            ..end
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        origin: &str,
        source: &str,
        destination: &str,
        protocol: &str,
    ) -> message::TraceRequest {
        message::TraceRequest {
            origin: origin.to_owned(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            protocol: protocol.to_owned(),
            handed_over: false,
        }
    }

    #[test]
    fn a_question_is_a_packet() {
        let Probe { packet, .. } =
            probe(&asked("Pod", "fd00::5", "[fd00:10:96::9]:53", "UDP")).unwrap();
        assert_eq!(packet.from, From::Pod);
        assert_eq!(packet.to.to_string(), "fd00:10:96::9 . udp . 53");
        let tcp = probe(&asked("Network", "10.0.0.1", "10.96.0.9:80", "")).unwrap();
        assert_eq!(tcp.packet.to.protocol, Protocol::Tcp);
    }

    #[test]
    fn what_is_wrong_with_a_question_is_named() {
        for (question, says) in [
            (asked("Moon", "10.0.0.1", "10.96.0.9:80", ""), "origin: Invalid value: \"Moon\""),
            (asked("Pod", "web", "10.96.0.9:80", ""), "source: Invalid value: \"web\""),
            (asked("Pod", "10.0.0.1", "10.96.0.9", ""), "destination: Invalid value"),
            (asked("Pod", "10.0.0.1", "[fd00::1]:80", ""), "same address family"),
            (asked("Pod", "10.0.0.1", "10.96.0.9:80", "tcp"), "protocol: Invalid value: \"tcp\""),
        ] {
            let error = probe(&question).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().contains(says), "{says} in {error}");
        }
    }
}
