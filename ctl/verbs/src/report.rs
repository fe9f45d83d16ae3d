//! The one-line results of verbs that change something, and their `-o` and `--dry-run` flags.
//!
//! Pure but for the final write. Upstream: `cli-runtime/pkg/genericclioptions`, `NamePrinter`.

use serde_json::Value;

use crate::edit_value::short_name;
use crate::error::Error;
use crate::io::Io;
use crate::render::{Format, hide_managed_fields};

/// Where a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRun {
    /// On the server, for good
    #[default]
    None,
    /// Only print the object that would be sent
    Client,
    /// Send it, without storing it
    Server,
}

impl DryRun {
    /// The value of the `dryRun` query parameter.
    pub(crate) fn query(self) -> &'static str {
        if self == DryRun::Server { "All" } else { "" }
    }

    /// What follows the operation in a result line.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

/// Flags of verbs that change objects.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Output {
    /// Output format: yaml, json, name, jsonpath=…, custom-columns=…
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
    /// "client" only prints the object that would be sent, "server" sends it without storing it
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
    /// Keep managedFields in json and yaml output
    #[arg(long)]
    pub show_managed_fields: bool,
}

impl Output {
    /// Prints what became of an object: `service/web created`, or the object as `-o` asks.
    pub(crate) fn print(&self, io: &mut Io, object: &Value, operation: &str) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        if format.is_table() {
            return io.say(format_args!(
                "{} {operation}{}",
                short_name(object),
                self.dry_run.suffix()
            ));
        }
        let mut object = object.clone();
        if !self.show_managed_fields {
            hide_managed_fields(&mut object);
        }
        io.print(&format.object(&object).unwrap_or_default())
    }

    /// Prints several objects: line by line, or as one `List` if a document is asked for.
    pub(crate) fn print_all(&self, io: &mut Io, done: &[(Value, &str)]) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        if let [(object, operation)] = done {
            return self.print(io, object, operation);
        }
        if matches!(format, Format::Table | Format::Wide | Format::Name) || done.is_empty() {
            return done.iter().try_for_each(|(object, op)| self.print(io, object, op));
        }
        let items: Vec<&Value> = done.iter().map(|(object, _)| object).collect();
        let list = serde_json::json!({"apiVersion": "v1", "items": items, "kind": "List",
                                      "metadata": {}});
        self.print(io, &list, "")
    }
}
