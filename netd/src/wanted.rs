//! Which engine the node is to have: the Node's annotation says so, or else the flag.
//!
//! Pure. Input: the flag, the annotation, the engine in use, and what the kernel has. Output: the
//! engine to use and the sentence for the Node's [`crate::ENGINE_ANNOTATION`]. A wish that can't be
//! fulfilled leaves the engine as it is, and the sentence says why.

use netmodel::nft::Engine;

use crate::engine::Choice;
pub(crate) use crate::engine::Mode;
use crate::kernel::OpError;

/// The annotation on a Node by which an engine is asked for while netd runs.
pub const WANTED_ANNOTATION: &str = "minictl.io/dataplane-engine";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The engine.
    pub(crate) mode: Mode,
    /// An annotation that names no engine, which therefore does not count.
    pub(crate) nonsense: Option<String>,
}

impl Wish {
    /// The annotation wins over the flag.
    pub(crate) fn of(flag: Mode, annotation: Option<&str>) -> Self {
        let Some(text) = annotation else { return Self { mode: flag, nonsense: None } };
        match named(text.trim()) {
            Some(mode) => Self { mode, nonsense: None },
            None => Self { mode: flag, nonsense: Some(text.to_owned()) },
        }
    }
}

fn named(text: &str) -> Option<Mode> {
    match text {
        "auto" => Some(Mode::Auto),
        "ipvs" => Some(Mode::Ipvs),
        "nftables" => Some(Mode::Nftables),
        _ => None,
    }
}

/// The engine's name as flags and annotations spell it.
pub(crate) fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Nftables => "nftables",
        Engine::Ipvs => "ipvs",
    }
}

/// What is done about a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The engine that serves from now on.
    pub(crate) engine: Engine,
    /// Why this one.
    pub(crate) reason: String,
    /// Why it is not the wanted one.
    pub(crate) refused: Option<String>,
}

impl Decision {
    /// Decides on a wish. `choice` is what the kernel makes of it; `fallback` the engine in use, or
    /// what the flag alone gives when none is in use yet.
    ///
    /// # Errors
    /// When neither the wish nor the fallback is possible.
    pub(crate) fn about(
        wish: &Wish,
        choice: Result<Choice, OpError>,
        fallback: impl FnOnce() -> Result<Self, OpError>,
    ) -> Result<Self, OpError> {
        match choice {
            Ok(choice) => {
                let nonsense = wish.nonsense.as_ref().map(|text| {
                    format!("{text:?} is no engine; there are ipvs, nftables and auto")
                });
                Ok(Self { refused: nonsense, ..Self::from(choice) })
            }
            Err(error) => {
                let why = crate::error_chain(&error);
                let refused = Some(format!("{} can't be used: {why}", wish.mode.name()));
                Ok(Self { refused, ..fallback()? })
            }
        }
    }
}

impl From<Choice> for Decision {
    fn from(choice: Choice) -> Self {
        Self { engine: choice.engine, reason: choice.reason.to_owned(), refused: None }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.refused.as_ref().unwrap_or(&self.reason);
        write!(f, "{} ({reason})", engine_name(self.engine))
    }
}

impl Mode {
    /// As flags and annotations spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFTABLES: Choice = Choice { engine: Engine::Nftables, reason: "as asked" };
    const IPVS: Choice = Choice { engine: Engine::Ipvs, reason: "as asked" };

    fn missing() -> OpError {
        OpError {
            op: "find IPVS in the kernel".to_owned(),
            source: std::io::Error::from_raw_os_error(2),
        }
    }

    #[test]
    fn the_annotation_wins_over_the_flag() {
        assert_eq!(Wish::of(Mode::Ipvs, None).mode, Mode::Ipvs);
        assert_eq!(Wish::of(Mode::Ipvs, Some("nftables")).mode, Mode::Nftables);
        assert_eq!(Wish::of(Mode::Ipvs, Some(" auto ")).mode, Mode::Auto);
    }

    #[test]
    fn an_annotation_that_names_no_engine_is_told_and_does_not_count() {
        let wish = Wish::of(Mode::Nftables, Some("iptables"));
        assert_eq!(wish.mode, Mode::Nftables);
        let decision = Decision::about(&wish, Ok(NFTABLES), || unreachable!()).unwrap();
        assert_eq!(
            decision.to_string(),
            "nftables (\"iptables\" is no engine; there are ipvs, nftables and auto)"
        );
    }

    #[test]
    fn a_fulfilled_wish_says_why() {
        let wish = Wish::of(Mode::Auto, Some("ipvs"));
        let decision = Decision::about(&wish, Ok(IPVS), || unreachable!()).unwrap();
        assert_eq!(decision.to_string(), "ipvs (as asked)");
        assert_eq!(decision.refused, None);
    }

    #[test]
    fn an_impossible_wish_leaves_the_engine_as_it_is_and_names_the_cause() {
        let wish = Wish::of(Mode::Auto, Some("ipvs"));
        let decision = Decision::about(&wish, Err(missing()), || Ok(NFTABLES.into())).unwrap();
        assert_eq!(decision.engine, Engine::Nftables);
        assert_eq!(
            decision.to_string(),
            "nftables (ipvs can't be used: find IPVS in the kernel: No such file or directory (os error 2))"
        );
        assert!(Decision::about(&wish, Err(missing()), || Err(missing())).is_err());
    }
}
