//! The proxy over loopback: clients of all kinds in front, backends behind it.

mod proxy {
    pub mod attacks;
    pub mod faults;
    pub mod http1;
    pub mod http2;
    pub mod rig;
    pub mod tls;
    pub mod tunnels;
}
