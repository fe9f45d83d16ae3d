//! Answers as they go on the wire, ready to be sent again.
//!
//! Most questions are asked over and over: their answer is copied, with the client's own number and
//! its own spelling of the name. Invariants: an answer is kept only for questions that differ in
//! nothing else, and only until the zone changes or its time is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::message::{HEADER, question_end, rotate};
use crate::resolve::Source;

/// Answers that are kept; then all are forgotten.
const MOST: usize = 2048;
/// An answer that others gave is kept this long at most, so that its TTLs are not far off.
const FOREIGN: Duration = Duration::from_secs(1);

/// Answers by question, for one socket.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    answers: HashMap<Box<[u8]>, Kept>,
    /// What the next answer is turned by.
    turn: usize,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    source: Source,
    /// The state of the zone that it is of.
    generation: u64,
    until: Option<Instant>,
}

impl Ready {
    /// The answer to a packet, if it is ready, written to `answer`; says who knew it.
    pub(crate) fn answer(
        &mut self,
        packet: &[u8],
        generation: u64,
        now: Instant,
        answer: &mut Vec<u8>,
    ) -> Option<Source> {
        let end = key(packet, &mut self.key)?;
        let kept = self.answers.get(&*self.key)?;
        if kept.generation != generation || kept.until.is_some_and(|until| until <= now) {
            self.answers.remove(&*self.key);
            return None;
        }
        answer.clear();
        answer.extend_from_slice(&kept.bytes);
        answer[..2].copy_from_slice(&packet[..2]);
        answer[HEADER..end].copy_from_slice(&packet[HEADER..end]);
        self.turn = self.turn.wrapping_add(1);
        rotate(answer, self.turn);
        Some(kept.source)
    }

    /// Keeps an answer to a packet.
    pub(crate) fn keep(
        &mut self,
        packet: &[u8],
        answer: &[u8],
        source: Source,
        generation: u64,
        now: Instant,
    ) {
        if key(packet, &mut self.key).is_none() {
            return;
        }
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        let until = (source != Source::Zone).then(|| now + FOREIGN);
        let kept = Kept { bytes: answer.into(), source, generation, until };
        self.answers.insert(self.key.as_slice().into(), kept);
    }
}

/// Writes what makes a question what it is, and says where it ends: its flags, the name in lower
/// case, its kind, and the client's EDNS. Only plain questions have a key.
fn key(packet: &[u8], key: &mut Vec<u8>) -> Option<usize> {
    let end = question_end(packet)?;
    let counts = packet.get(6..HEADER)?;
    // No answers, no authorities, and one additional record at most; a question, QUERY.
    if counts[..5] != [0; 5] || counts[5] > 1 || packet[2] & 0xf8 != 0 {
        return None;
    }
    key.clear();
    key.extend_from_slice(&packet[2..4]);
    // The kind and the class are numbers, not letters.
    let (name, kind) = packet[HEADER..end].split_at(end - HEADER - 4);
    key.extend(name.iter().map(u8::to_ascii_lowercase));
    key.extend_from_slice(kind);
    match packet.get(end..end + 11) {
        None if counts[5] == 0 && packet.len() == end => Some(end),
        // OPT: the root's name, its type, the size that the client takes, and flags. Options ask
        // for nothing that we have.
        Some(opt) if counts[5] == 1 && opt[..3] == [0, 0, 41] => {
            let options = usize::from(u16::from_be_bytes([opt[9], opt[10]]));
            key.extend_from_slice(&opt[3..9]);
            (packet.len() == end + 11 + options).then_some(end)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for an address, as plain as can be.
    fn packet(id: u8, name: &[u8], kind: u8) -> Vec<u8> {
        let header = [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&header[..], name, &[0, kind, 0, 1]].concat()
    }

    const NAME: &[u8] = b"\x03web\x04shop\x00";

    fn with(packet: &[u8]) -> Ready {
        let mut ready = Ready::default();
        ready.keep(packet, &[packet, b"answer"].concat(), Source::Zone, 7, Instant::now());
        ready
    }

    #[test]
    fn the_answer_bears_the_askers_number_and_spelling() {
        let mut ready = with(&packet(1, NAME, 1));
        let shouted = packet(9, b"\x03WEB\x04shop\x00", 1);
        let mut answer = Vec::new();
        assert_eq!(ready.answer(&shouted, 7, Instant::now(), &mut answer), Some(Source::Zone));
        assert_eq!(answer, [&shouted[..], b"answer"].concat());
    }

    #[test]
    fn any_difference_is_another_question() {
        let first = packet(1, NAME, 1);
        let other_flags = {
            let mut packet = first.clone();
            packet[2] = 0;
            packet
        };
        let with_opt = {
            let mut packet = [&first[..], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]].concat();
            packet[11] = 1;
            packet
        };
        let cases = [
            // HTTPS (65) is no small letter of anything.
            (packet(1, NAME, 65), packet(1, NAME, 97)),
            (first.clone(), packet(1, NAME, 28)),
            (first.clone(), packet(1, b"\x03web\x03shop\x00", 1)),
            (first.clone(), other_flags),
            (first.clone(), with_opt.clone()),
            (first.clone(), [&first[..], b"x"].concat()),
        ];
        for (kept, asked) in cases {
            let found = with(&kept).answer(&asked, 7, Instant::now(), &mut Vec::new());
            assert_eq!(found, None, "{kept:?} {asked:?}");
        }
        assert!(with(&with_opt).answer(&with_opt, 7, Instant::now(), &mut Vec::new()).is_some());
    }

    #[test]
    fn answers_go_when_the_zone_changes_or_their_time_is_over() {
        let (packet, now) = (packet(1, NAME, 1), Instant::now());
        assert_eq!(with(&packet).answer(&packet, 8, now, &mut Vec::new()), None);
        let mut ready = Ready::default();
        ready.keep(&packet, &packet, Source::Cache, 7, now);
        assert!(ready.answer(&packet, 7, now, &mut Vec::new()).is_some());
        assert_eq!(ready.answer(&packet, 7, now + FOREIGN, &mut Vec::new()), None);
    }
}
