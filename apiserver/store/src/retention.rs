//! Which checkpoints and log segments are still needed, as a pure function of their revisions.
//!
//! The two newest checkpoints stay, and every segment with a record after the older of them. So a
//! start replays at least one whole interval between checkpoints, which gives watchers their
//! history back, and one damaged checkpoint costs nothing. Removing files is `copies`' work.

use crate::txn::Revision;

/// Checkpoints that stay.
const KEPT: usize = 2;

/// Files that may go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Obsolete {
    /// Checkpoints, by their revision.
    pub(crate) checkpoints: Vec<Revision>,
    /// Segments, by their first revision.
    pub(crate) segments: Vec<Revision>,
}

/// What may go, given all checkpoints (each read back) and all segments, both ascending.
pub(crate) fn obsolete(checkpoints: &[Revision], segments: &[Revision]) -> Obsolete {
    let Some(surplus) = checkpoints.len().checked_sub(KEPT) else {
        return Obsolete::default();
    };
    let oldest_kept = checkpoints[surplus];
    // A segment ends where the next one begins; the last one is being written.
    let segments = segments
        .windows(2)
        .filter(|pair| pair[1] <= oldest_kept.next())
        .map(|pair| pair[0])
        .collect();
    Obsolete { checkpoints: checkpoints[..surplus].to_vec(), segments }
}

#[cfg(test)]
mod tests;
