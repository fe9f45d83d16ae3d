//! The proxy over loopback: clients of all kinds in front, backends behind it.
#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "what is skipped is said")]

#[path = "proxy/attacks.rs"]
mod attacks;
#[path = "proxy/faults.rs"]
mod faults;
#[path = "proxy/http1.rs"]
mod http1;
#[path = "proxy/http2.rs"]
mod http2;
#[path = "proxy/rig.rs"]
mod rig;
#[path = "proxy/short_way.rs"]
mod short_way;
#[path = "proxy/tls.rs"]
mod tls;
#[path = "proxy/tunnels.rs"]
mod tunnels;
