//! Announcing LoadBalancer addresses on the network of the nodes, by ARP and NDP.
//!
//! Each address is announced by one node. Nodes tell each other ten times a second that they live
//! and what they would serve ([`frame::beat`]); who announces is computed by each from what it
//! hears ([`election`]), so that there is no vote and no leader. [`Announcer`] is the whole
//! behaviour as a state machine without sockets and clocks; [`run`] lets it act on the links of the
//! namespace of its process. Nothing is opened and nothing sent while this node has nothing to
//! offer. Deliberately not here: what the addresses do once packets arrive (the data plane's), and
//! who gets which address (the API server's).

mod announcer;
pub mod election;
pub mod frame;
mod link;
pub mod offer;
mod peers;
mod probe;
mod run;
pub mod socket;
mod view;

use std::time::Duration;

pub use announcer::{Action, Announcer, BEAT, LISTEN, Told};
pub use link::Lan;
pub use peers::{DEAD, Heard, Peers};
pub use probe::{Answers, ProbeError, probe};
pub use run::{Handle, Inbox, Orders, run, start};
pub use view::{AddressView, LinkView, Standing, View};

/// A moment, as the time since the announcer started: it never steps, whatever the clock does.
pub type Moment = Duration;
