//! What a person is told about a command line that cannot be parsed, in kubectl's words.
//!
//! Pure: a parser's error in, a text out. The binary prints it and exits with 1, as kubectl does;
//! the parser's own code, 2, would tell scripts something else. Upstream: cobra's `command.go`,
//! `kubectl/pkg/cmd/util/helpers.go` (`UsageErrorf`).

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// The text for standard error, without a final newline. An unknown verb or flag is told as kubectl
/// tells it, everything else as the parser does. Not for requests of help or of the version.
#[must_use]
pub fn complaint(error: &Error) -> String {
    let command = command(error);
    match (error.kind(), word(error, ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(verb)) => {
            let mut text = format!("error: unknown command {verb:?} for {command:?}");
            if let Some(ContextValue::Strings(similar)) =
                error.get(ContextKind::SuggestedSubcommand)
                && !similar.is_empty()
            {
                text += "\n\nDid you mean this?\n\t";
                text += &similar.join("\n\t");
            }
            text
        }
        (ErrorKind::UnknownArgument, _) => match unknown_flag(error) {
            Some(flag) => format!("error: {flag}\nSee '{command} --help' for usage."),
            None => plain(error),
        },
        _ => plain(error),
    }
}

/// A superfluous argument that is no flag gives nothing.
fn unknown_flag(error: &Error) -> Option<String> {
    let flag = word(error, ContextKind::InvalidArg)?;
    if flag.starts_with("--") {
        return Some(format!("unknown flag: {flag}"));
    }
    let letter = flag.strip_prefix('-')?.chars().next()?;
    Some(format!("unknown shorthand flag: {letter:?} in {flag}"))
}

fn word(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word),
        _ => None,
    }
}

/// The command that was being parsed, `minictl lab up`, from its usage line.
fn command(error: &Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let words = usage.trim_start_matches("Usage:").split_whitespace();
    words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect::<Vec<_>>().join(" ")
}

fn plain(error: &Error) -> String {
    error.render().to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Globals, Verb};

    #[derive(Debug, Parser)]
    #[command(name = "minictl")]
    struct Cli {
        #[command(flatten)]
        _globals: Globals,
        #[command(subcommand)]
        _verb: Verb,
    }

    fn told(line: &str) -> String {
        complaint(&Cli::try_parse_from(line.split_whitespace()).unwrap_err())
    }

    #[test]
    fn an_unknown_verb_is_told_as_kubectl_tells_it() {
        assert_eq!(told("minictl foo"), "error: unknown command \"foo\" for \"minictl\"");
        let similar = told("minictl gett pods");
        assert!(similar.ends_with("for \"minictl\"\n\nDid you mean this?\n\tget"), "{similar}");
    }

    #[test]
    fn an_unknown_flag_is_told_with_its_verb() {
        assert_eq!(
            told("minictl get pods --foo"),
            "error: unknown flag: --foo\nSee 'minictl get --help' for usage."
        );
        assert_eq!(
            told("minictl rollout status deploy/a -Z"),
            "error: unknown shorthand flag: 'Z' in -Z\n\
             See 'minictl rollout status --help' for usage."
        );
    }

    #[test]
    fn everything_else_is_told_by_the_parser() {
        let told = told("minictl run a");
        assert!(told.starts_with("error: ") && told.contains("--image"), "{told}");
        assert!(!told.ends_with('\n'));
    }
}
