//! Names that a part of this node wants to reach: answered as a pod's questions are, without a packet.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::{Name, RData, RecordType};

use crate::Dns;
use crate::message::Wishes;
use crate::resolve::Asked;

impl Dns {
    /// The addresses of a name, in or outside the cluster; none if it has none, or nobody who knows
    /// answers. The node's search path does not count.
    pub async fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let Ok(mut name) = Name::from_ascii(name) else { return Vec::new() };
        name.set_fqdn(true);
        let ask = async |kind| {
            let client = Ipv4Addr::LOCALHOST.into();
            let asked = Asked { name: &name, kind, wishes: Wishes::default(), client };
            self.server.resolver.resolve(asked).await.reply.answers
        };
        let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
        let address = |data: &RData| match data {
            RData::A(v4) => Some(v4.0.into()),
            RData::AAAA(v6) => Some(v6.0.into()),
            _ => None,
        };
        v4.iter().chain(&v6).filter_map(|record| address(&record.data)).collect()
    }
}
