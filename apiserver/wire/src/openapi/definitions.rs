//! The definitions of types, unpacked, and which of them a document needs.
//!
//! Input: names of definitions; output: those and all they refer to, as JSON texts with v3's
//! references. Those of our own kinds are written by hand in a file of their own. Texts are copied into documents as they stand, so nothing is parsed for v3.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::read::GzDecoder;

static PACKED: &[u8] = include_bytes!("../../data/definitions.txt.gz");

static OWN: &str = include_str!("../../data/own-definitions.txt");

/// How v3 refers to a definition; v2 does it by [`V2_REFERENCE`].
pub(super) const V3_REFERENCE: &str = "#/components/schemas/";

/// How v2 refers to a definition.
pub(super) const V2_REFERENCE: &str = "#/definitions/";

/// All definitions: one line each, the name, a tab, the JSON.
pub(super) struct Definitions(String);

impl Definitions {
    /// Unpacks the data (0.6 MB).
    pub(super) fn unpack() -> Self {
        let mut text = String::new();
        GzDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("the data is part of the program, and a test unpacks it");
        text.push_str(OWN);
        Self(text)
    }

    /// The JSON texts of `roots` and of all that they refer to, by name.
    pub(super) fn reachable<'n>(
        &self,
        roots: impl IntoIterator<Item = &'n str>,
    ) -> BTreeMap<&str, &str> {
        let all: BTreeMap<&str, &str> =
            self.0.lines().filter_map(|line| line.split_once('\t')).collect();
        let mut found = BTreeMap::new();
        let mut open: BTreeSet<&str> = roots.into_iter().collect();
        while let Some(name) = open.pop_first() {
            let Some((&name, &json)) = all.get_key_value(name) else { continue };
            if found.insert(name, json).is_none() {
                let referred = references(json).filter(|name| !found.contains_key(name));
                open.extend(referred);
            }
        }
        found
    }
}

fn references(json: &str) -> impl Iterator<Item = &str> {
    json.split(V3_REFERENCE).skip(1).filter_map(|rest| rest.split('"').next())
}
