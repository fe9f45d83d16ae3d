//! Query parameters and the options they carry (upstream: `metav1.ListOptions`, `DeleteOptions`,
//! `CreateOptions`, `PatchOptions`).
//!
//! Input: the raw query string. Output: typed options, or the refusal upstream answers with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use resources::field::{ErrorKind, FieldError};

use crate::status::ApiError;

/// The parameters in their order; a name may stand several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let pairs = raw.unwrap_or_default().split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name, true), percent_decoded(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a name; an empty value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// All values of a name.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Upstream's reading of a boolean: anything but `false`, `0` and absence is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.iter().find(|(n, _)| n == name).is_some_and(|(_, v)| {
            let v = v.to_ascii_lowercase();
            v != "false" && v != "0"
        })
    }

    /// A number, absent or refused.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::BadRequest(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })
    }

    /// Whether `dryRun=All` is asked for.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        let asked: Vec<&str> = self.all("dryRun").filter(|v| !v.is_empty()).collect();
        check_dry_run("CreateOptions", &asked)
    }

    /// What to do about unknown and repeated fields in the body.
    pub(crate) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(invalid_option(
                "CreateOptions",
                "fieldValidation",
                ErrorKind::NotSupported(
                    format!("{other:?}"),
                    vec!["Ignore".into(), "Strict".into(), "Warn".into()],
                ),
                "",
            )),
        }
    }

    /// The options of a delete that stand in the query; those in a body come first.
    pub(crate) fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let dry_run: Vec<String> = self.all("dryRun").map(str::to_owned).collect();
        Ok(DeleteOptions {
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            propagation_policy: self.get("propagationPolicy").map(str::to_owned),
            orphan_dependents: self.get("orphanDependents").map(|_| self.flag("orphanDependents")),
            dry_run: (!dry_run.is_empty()).then_some(dry_run),
            preconditions: None::<Preconditions>,
            ..DeleteOptions::default()
        })
    }
}

/// Upstream's `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop what is unknown.
    Ignore,
    /// Drop it and say so in `Warning` headers.
    Warn,
    /// Refuse the request.
    Strict,
}

/// `All` or nothing (upstream: `validation.ValidateDryRun`).
pub(crate) fn check_dry_run(kind: &'static str, asked: &[&str]) -> Result<bool, ApiError> {
    match asked {
        [] => Ok(false),
        values if values.iter().all(|v| *v == "All") => Ok(true),
        values => Err(invalid_option(
            kind,
            "dryRun",
            ErrorKind::NotSupported(
                serde_json::Value::from(values.to_vec()).to_string(),
                vec!["All".into()],
            ),
            "",
        )),
    }
}

/// How a watch or a list is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    /// `None` when unset; `Some(0)` means "any state will do".
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

/// Upstream's `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

impl ListOptions {
    /// Reads and checks the options (upstream: `validation.ValidateListOptions`).
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
        let options = Self {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: resource_version(query.get("resourceVersion"))?,
            version_match: version_match(query.get("resourceVersionMatch"))?,
            limit: query.number("limit")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
            continue_token: query.get("continue").map(str::to_owned),
            timeout_seconds: query.number("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
        };
        options.check(watch)?;
        Ok(options)
    }

    fn check(&self, watch: bool) -> Result<(), ApiError> {
        let forbid = |field: &str, detail: &str| {
            Err(invalid_option("ListOptions", field, ErrorKind::Forbidden, detail))
        };
        if watch {
            return match (self.send_initial_events, self.version_match) {
                (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => Ok(()),
                (Some(_), _) => forbid(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ),
                (None, Some(_)) => forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
            };
        }
        if self.send_initial_events.is_some() {
            return forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        let Some(version_match) = self.version_match else { return Ok(()) };
        if self.continue_token.is_some() {
            return forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        match (self.resource_version, version_match) {
            (None, _) => forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (Some(0), VersionMatch::Exact) => forbid(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            _ => Ok(()),
        }
    }
}

fn version_match(text: Option<&str>) -> Result<Option<VersionMatch>, ApiError> {
    match text {
        None => Ok(None),
        Some("Exact") => Ok(Some(VersionMatch::Exact)),
        Some("NotOlderThan") => Ok(Some(VersionMatch::NotOlderThan)),
        Some(other) => Err(invalid_option(
            "ListOptions",
            "resourceVersionMatch",
            ErrorKind::NotSupported(
                format!("{other:?}"),
                vec!["Exact".into(), "NotOlderThan".into()],
            ),
            "",
        )),
    }
}

/// A version as clients hand it back: a decimal number, empty for none.
pub(crate) fn resource_version(text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        ApiError::BadRequest(format!(
            "invalid resource version {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

fn invalid_option(kind: &'static str, path: &str, error: ErrorKind, detail: &str) -> ApiError {
    let errors = vec![FieldError { path: path.into(), kind: error, detail: detail.into() }];
    ApiError::InvalidOptions { kind, errors }
}

/// Decodes `%XX`, and `+` as a space in queries. What is malformed stays as it is.
pub(crate) fn percent_decoded(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits make at most 255.
                out.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
                at += 3;
            }
            (b'+', ..) if plus => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(raw: &str, watch: bool) -> Result<ListOptions, String> {
        ListOptions::parse(&Query::parse(Some(raw)), watch).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_values_are_decoded_and_repeat() {
        let query = Query::parse(Some("command=sh&command=-c&command=echo+%25a%20b&tty&stdin=0"));
        let command: Vec<&str> = query.all("command").collect();
        assert_eq!(command, ["sh", "-c", "echo %a b"]);
        assert!(query.flag("tty"));
        assert!(!query.flag("stdin"));
        assert!(!query.flag("stdout"));
    }

    #[test]
    fn a_list_with_all_options() {
        let options = list("limit=500&resourceVersion=0&labelSelector=a%3Db", false).unwrap();
        assert_eq!(options.limit, Some(500));
        assert_eq!(options.resource_version, Some(0));
        assert_eq!(options.label_selector, "a=b");
    }

    #[test]
    fn contradicting_options_are_refused_in_upstreams_words() {
        let cases = [
            (
                "sendInitialEvents=true",
                true,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                 sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (
                "resourceVersionMatch=Exact",
                false,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                 resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersion=x",
                false,
                "invalid resource version \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
        ];
        for (raw, watch, expected) in cases {
            assert_eq!(list(raw, watch).unwrap_err(), expected, "{raw}");
        }
    }

    #[test]
    fn dry_run_is_all_or_refused() {
        assert!(Query::parse(Some("dryRun=All")).dry_run().unwrap());
        assert!(!Query::parse(None).dry_run().unwrap());
        let refused = Query::parse(Some("dryRun=Some")).dry_run().unwrap_err().to_string();
        assert!(refused.contains(r#"dryRun: Unsupported value: ["Some"]"#), "{refused}");
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding(text in ".{0,40}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(percent_decoded(&encoded, true), text);
        }

        #[test]
        fn no_query_panics(raw in ".{0,60}") {
            let query = Query::parse(Some(&raw));
            let _ = ListOptions::parse(&query, true);
            let _ = query.delete_options();
        }
    }
}
