//! Tests of `retention`, as a table.

use super::*;

/// The situation, the checkpoints, the segments; the checkpoints and segments that go.
type Case<'a> = (&'a str, &'a [u64], &'a [u64], &'a [u64], &'a [u64]);

fn revisions(numbers: &[u64]) -> Vec<Revision> {
    numbers.iter().copied().map(Revision).collect()
}

#[test]
fn two_checkpoints_and_the_segments_after_the_older_one_stay() {
    let cases: &[Case] = &[
        ("nothing there", &[], &[], &[], &[]),
        ("no checkpoint", &[], &[1, 50], &[], &[]),
        ("one checkpoint: all stays, the log reaches back to nothing", &[9], &[1, 10], &[], &[]),
        ("two: the log before the older goes", &[9, 19], &[1, 10, 20], &[], &[1]),
        ("three: the oldest goes", &[9, 19, 29], &[10, 20, 30], &[9], &[10]),
        ("a segment across a checkpoint stays", &[9, 19], &[1, 11, 20], &[], &[]),
        ("the last segment stays even if it is old", &[9, 19], &[1], &[], &[]),
        ("leftovers of a failed removal go", &[1, 9, 19, 29], &[1, 5, 20, 30], &[1, 9], &[1, 5]),
    ];
    for (situation, checkpoints, segments, gone_checkpoints, gone_segments) in cases {
        let expected = Obsolete {
            checkpoints: revisions(gone_checkpoints),
            segments: revisions(gone_segments),
        };
        let actual = obsolete(&revisions(checkpoints), &revisions(segments));
        assert_eq!(actual, expected, "{situation}");
    }
}
