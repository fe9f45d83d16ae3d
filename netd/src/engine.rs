//! Which engine serves this node, and why.

use netmodel::nft::Engine;

use crate::kernel::{self, OpError};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// IPVS where the kernel has it, else nftables.
    #[default]
    Auto,
    /// IPVS, or fail.
    Ipvs,
    /// nftables.
    Nftables,
}

/// The engine in use and the reason, as the Node's annotation says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The engine.
    pub engine: Engine,
    /// Why this one.
    pub reason: &'static str,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.engine {
            Engine::Nftables => "nftables",
            Engine::Ipvs => "ipvs",
        };
        write!(f, "{name} ({})", self.reason)
    }
}

/// Chooses an engine, asking the kernel in the calling thread's network namespace.
///
/// # Errors
/// When IPVS was asked for and the kernel has none.
pub fn choose(mode: Mode) -> Result<Choice, OpError> {
    let asked = "as asked";
    match mode {
        Mode::Nftables => Ok(Choice { engine: Engine::Nftables, reason: asked }),
        Mode::Ipvs => kernel::find_ipvs().map(|()| Choice { engine: Engine::Ipvs, reason: asked }),
        Mode::Auto => Ok(match kernel::find_ipvs() {
            Ok(()) => Choice { engine: Engine::Ipvs, reason: "kernel has ip_vs" },
            Err(_) => Choice { engine: Engine::Nftables, reason: "kernel has no ip_vs" },
        }),
    }
}
