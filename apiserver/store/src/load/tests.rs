//! Tests of `load`: which bases are tried, and which damage is refused. What the whole store makes
//! of damaged files is in `tests/damage.rs`.

use super::*;

/// The situation, the checkpoints, the segments; the bases in order.
type Case<'a> = (&'a str, &'a [u64], &'a [u64], &'a [Base]);

fn checkpoint(revision: u64) -> Base {
    Base::Checkpoint(Revision(revision))
}

fn revisions(numbers: &[u64]) -> Vec<Revision> {
    numbers.iter().copied().map(Revision).collect()
}

#[test]
fn the_base_with_the_longest_history_is_tried_first() {
    let cases: &[Case] = &[
        ("a new folder", &[], &[], &[Base::Nothing]),
        ("a young store", &[], &[1], &[Base::Nothing, Base::Sled]),
        ("one checkpoint", &[9], &[1, 10], &[Base::Nothing, checkpoint(9), Base::Sled]),
        ("an old store", &[9, 19], &[10, 20], &[checkpoint(9), checkpoint(19), Base::Sled]),
        ("a restored checkpoint alone", &[9], &[], &[checkpoint(9), Base::Sled]),
        ("checkpoints lost", &[], &[10], &[Base::Sled]),
    ];
    for (situation, checkpoints, segments, expected) in cases {
        let bases = bases(&revisions(checkpoints), &revisions(segments));
        assert_eq!(bases, *expected, "{situation}");
    }
}
