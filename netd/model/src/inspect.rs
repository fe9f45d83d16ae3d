//! What the kernel holds, told in the words of the API: for people, and for programs that show it
//! to people.
//!
//! Pure: takes what was observed and what is desired, gives rows. Three questions are answered:
//! what is programmed and because of which Service port ([`Row`]), what differs from what should
//! be ([`Difference`]), and what is somebody else's ([`Foreign`]).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Frontend};
use crate::nft::Engine;
use crate::problem::Problem;
use crate::service::{Kind, Owner};

/// All that is known of a node's data plane at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What translates new connections.
    pub engine: Engine,
    /// The kernel's release, as `uname -r` tells it.
    pub kernel: String,
    /// The kernel settings that the data plane needs.
    pub settings: Vec<Setting>,
    /// The link of virtual addresses, where there is one.
    pub vip_link: Option<VipLink>,
    /// What is programmed, by frontend.
    pub rows: Vec<Row>,
    /// What is not as it should be.
    pub differences: Vec<Difference>,
    /// What is not ours.
    pub foreign: Vec<Foreign>,
    /// What can't be honoured.
    pub problems: Vec<Problem>,
}

/// A kernel setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as `sysctl` has it.
    pub name: String,
    /// Its value; `None` where it can't be read.
    pub value: Option<String>,
    /// What it should be.
    pub wanted: String,
    /// Why.
    pub why: &'static str,
}

/// The link that holds virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipLink {
    /// Its name.
    pub name: String,
    /// `dummy`, or what stands in for one where the kernel has none.
    pub kind: String,
    /// What is bound to it.
    pub addresses: Vec<IpAddr>,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where clients connect to.
    pub frontend: Frontend,
    /// Why it exists.
    pub kind: Kind,
    /// The Service port it belongs to.
    pub owner: Owner,
    /// `metadata.resourceVersion` of the Service; nothing in a snapshot depends on it, so whoever
    /// read the Service fills it in.
    pub resource_version: Option<Arc<str>>,
    /// Who answers.
    pub answer: Answer,
    /// Who answers clients outside the cluster, where that differs.
    pub outside: Option<Answer>,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// The only clients admitted; empty admits all.
    pub source_ranges: Vec<IpNet>,
    /// The IPVS scheduler, where IPVS balances.
    pub scheduler: Option<Arc<str>>,
    /// The objects in the kernel, in words.
    pub objects: Vec<String>,
}

/// Who answers at a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These backends.
    Backends(Vec<Member>),
    /// Nobody: refused at once.
    Refused,
    /// Nobody: dropped.
    Dropped,
}

/// One backend of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where.
    pub backend: Backend,
    /// Its share of new connections; 0 takes none and keeps the old.
    pub weight: u32,
    /// Connections bound to it, where the engine counts them.
    pub connections: Option<u32>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, in the kernel's words.
    pub what: String,
    /// How it differs.
    pub how: How,
    /// The Service port it belongs to, where it belongs to one.
    pub owner: Option<Owner>,
}

/// How something differs from what should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Not there.
    Missing,
    /// There, and should not be.
    Extra,
    /// There, and something else.
    Different {
        /// What should be.
        wanted: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Missing => write!(f, "missing: {}", self.what),
            How::Extra => write!(f, "extra: {}", self.what),
            How::Different { wanted } => write!(f, "different: {}, wanted: {wanted}", self.what),
        }
    }
}

/// Something in the kernel that translates Services, too, and is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What sort of thing: `table`, `virtual server`.
    pub kind: &'static str,
    /// Which.
    pub what: String,
    /// Whose, where that can be told.
    pub whose: Option<&'static str>,
}
