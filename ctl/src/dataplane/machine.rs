//! Firewalls of this machine in the way of a lab: told, never changed.
//!
//! A lab's hosts talk through a bridge of the machine. With bridge netfilter, which Docker switches
//! on, the machine's own rules for forwarded packets are asked about every packet there.

use ipnet::IpNet;

use super::tables::paragraph;
use crate::terminal::note;

/// Warns of rules that keep packets of these networks from passing a bridge.
pub(crate) fn warn_of_firewalls(bridge: &str, networks: &[IpNet]) {
    match netd::foreign::on_bridge(bridge, networks) {
        Ok(found) => {
            for finding in &found {
                note(paragraph("this machine", &netd::finding(finding)).trim_end());
            }
        }
        // Without a listing nobody knows, and the lab may work all the same.
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "look for firewalls of this machine"
        ),
    }
}
