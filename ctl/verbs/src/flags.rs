//! Flags as kubectl takes them: every switch may be given a value, `--rm=true`, `--watch=false`.
//!
//! Pure. Upstream: pflag's `NoOptDefVal` for booleans.

use clap::{Arg, ArgAction, Command};

/// Lets the switches of a command and of its subcommands take `=true` or `=false`.
pub(crate) fn switches_with_values(command: Command) -> Command {
    command.mut_args(switch_with_value).mut_subcommands(switches_with_values)
}

fn switch_with_value(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .value_parser(clap::builder::BoolValueParser::new())
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_name("BOOL")
        .hide_default_value(true)
        .hide_possible_values(true)
}

#[cfg(test)]
#[path = "flags/tests.rs"]
mod tests;
