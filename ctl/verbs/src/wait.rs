//! `wait`: until a condition holds, a field has a value, or an object exists or is gone.
//!
//! Owns: [`Condition`], parsed from `--for`, and its pure check. Upstream: `kubectl/pkg/cmd/wait`.

use serde_json::Value;

use crate::context::Context;
use crate::edit_value::text;
use crate::error::Error;
use crate::manifest::Files;
use crate::render::jsonpath::{Template, plain};
use crate::target;
use crate::watch::{self, Verdict};

/// Wait for a specific condition on one or many resources
#[derive(clap::Args, Clone, Debug)]
pub struct Wait {
    /// TYPE NAME… or TYPE/NAME…
    pub resources: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// create, delete, condition=NAME[=VALUE] or jsonpath='{…}'[=VALUE]
    #[arg(long = "for", default_value = "", hide_default_value = true)]
    pub condition: String,
    /// How long to wait; zero checks once, negative waits a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    pub timeout: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Wait for all objects of the given types in the namespace
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, PartialEq)]
enum Condition {
    Create,
    Delete,
    Status { name: String, value: String },
    Field { path: Template, value: Option<String> },
}

impl Condition {
    fn parse(text: &str) -> Result<Condition, Error> {
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Condition::Status { name: name.to_owned(), value: value.to_owned() });
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            // The value stands behind the last brace: the path may hold `=` itself.
            let (path, value) = match rest.rfind('}') {
                Some(end) => rest.split_at(end + 1),
                None => match rest.find('=') {
                    Some(at) => rest.split_at(at),
                    None => (rest, ""),
                },
            };
            let value = match value.strip_prefix('=') {
                Some("") => {
                    return Err(Error::refused(
                        "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
                    ));
                }
                Some(value) => Some(value.trim_matches(['\'', '"']).to_owned()),
                None => None,
            };
            return Ok(Condition::Field { path: Template::relaxed(path)?, value });
        }
        match text.to_lowercase().as_str() {
            "delete" => Ok(Condition::Delete),
            "create" => Ok(Condition::Create),
            _ => Err(Error::refused(format!("unrecognized condition: {text:?}"))),
        }
    }

    fn holds(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Condition::Delete, object) => object.is_none(),
            (_, None) => false,
            (Condition::Create, Some(_)) => true,
            (Condition::Status { name, value }, Some(object)) => status_is(object, name, value),
            (Condition::Field { path, value }, Some(object)) => {
                let found = path.find(object);
                match value {
                    None => !found.is_empty(),
                    Some(value) => found.len() == 1 && plain(found[0]) == *value,
                }
            }
        }
    }
}

/// Whether the object's condition has the value, and is about the object's current generation.
fn status_is(object: &Value, name: &str, value: &str) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let observed = condition
            .get("observedGeneration")
            .and_then(Value::as_i64)
            .or_else(|| number("/status/observedGeneration"));
        let current = match (observed, number("/metadata/generation")) {
            (Some(seen), Some(now)) => seen >= now,
            _ => true,
        };
        current
            && text(condition, "/type").eq_ignore_ascii_case(name)
            && text(condition, "/status").eq_ignore_ascii_case(value)
    })
}

impl Wait {
    pub(crate) async fn run(&self, ctx: &mut Context<'_>) -> Result<(), Error> {
        let condition = Condition::parse(&self.condition)?;
        let seconds = crate::duration::parse(&self.timeout).ok_or_else(|| {
            Error::refused(format!("invalid argument {:?} for \"--timeout\" flag", self.timeout))
        })?;
        let limit = match seconds {
            s if s < 0.0 => std::time::Duration::from_secs(168 * 3600),
            s => std::time::Duration::from_secs_f64(s),
        };
        let selected =
            target::select(ctx, &self.resources, &self.files, &self.selector, self.all).await?;
        if selected.is_empty() {
            return match condition {
                Condition::Delete => Ok(()),
                _ => Err(Error::refused("no matching resources found")),
            };
        }
        let deadline = tokio::time::Instant::now() + limit;
        let mut errors = Vec::new();
        for object in selected {
            let (resource, name) = (&object.resource, &object.name);
            let must_exist = !matches!(condition, Condition::Create | Condition::Delete);
            if must_exist {
                ctx.object(resource, &object.namespace, name).await?;
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let look = |_: &mut Context<'_>, object: Option<&Value>| {
                Ok(if condition.holds(object) { Verdict::Go(()) } else { Verdict::Wait })
            };
            match watch::until(ctx, resource, &object.namespace, name, Some(left), look).await? {
                Some(()) => {
                    ctx.io.say(format_args!("{}/{name} condition met", resource.kind_name()))?;
                }
                None => errors.push(Error::refused(format!(
                    "timed out waiting for the condition on {}/{name}",
                    resource.plural
                ))),
            }
        }
        Error::all(errors)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_compared_without_case_and_by_generation() {
        let ready = Condition::parse("condition=ready").unwrap();
        let pod =
            |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(ready.holds(Some(&pod("True"))));
        assert!(!ready.holds(Some(&pod("False"))));
        assert!(Condition::parse("condition=Ready=false").unwrap().holds(Some(&pod("False"))));
        let mut old = pod("True");
        old["metadata"] = json!({"generation": 2});
        old["status"]["observedGeneration"] = json!(1);
        assert!(!ready.holds(Some(&old)));
        assert!(!ready.holds(None));
    }

    #[test]
    fn fields_are_compared_as_text() {
        let pod = json!({"status": {"phase": "Running", "n": 3}});
        let holds = |text: &str| Condition::parse(text).unwrap().holds(Some(&pod));
        assert!(holds("jsonpath={.status.phase}=Running"));
        assert!(holds("jsonpath='{.status.n}'=3".replace('\'', "").as_str()));
        assert!(holds("jsonpath={.status.phase}"));
        assert!(!holds("jsonpath={.status.phase}=Pending"));
        assert!(!holds("jsonpath={.status.nothing}"));
        assert!(Condition::parse("jsonpath={.a}=").is_err());
    }

    #[test]
    fn unknown_conditions_are_refused() {
        assert_eq!(
            Condition::parse("").unwrap_err().report(),
            "error: unrecognized condition: \"\""
        );
        assert!(Condition::parse("delete").unwrap().holds(None));
        assert!(!Condition::parse("create").unwrap().holds(None));
    }
}
