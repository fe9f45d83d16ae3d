//! Answers as they go on the wire, ready to be sent again.
//!
//! Most questions are asked over and over: their answer is copied, with the client's own number and
//! its own spelling of the name. Invariants: an answer is kept only for questions that differ in
//! nothing else, and only until the zone changes or its time is over; one that depends on who asks
//! is kept for that client alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::message::{HEADER, question_end, rotate};
use crate::resolve::Source;

/// Answers that are kept for all, and those for one client each; then all of them are forgotten.
const MOST: usize = 2048;
/// An answer that others gave is kept this long at most, so that its TTLs are not far off.
const FOREIGN: Duration = Duration::from_secs(1);

/// Answers by question, for one socket.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    for_all: HashMap<Box<[u8]>, Kept>,
    /// By question and client. By itself, so that names that are not there, of which everybody can
    /// make up as many as he likes, push nothing out that is of use to others. Made-up names below a
    /// wildcard of somebody outside are there, and do push out what is kept for all; that is then
    /// found again where it came from, a little slower.
    for_one: HashMap<Box<[u8]>, Kept>,
    /// What the next answer is turned by.
    turn: usize,
    key: Vec<u8>,
}

/// What is known of an answer beside its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    pub(crate) source: Source,
    /// The name that a search path was completed to.
    pub(crate) completed: Option<Arc<str>>,
}

/// For whom an answer is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Whoever asks gets the same.
    pub(crate) for_all: bool,
    /// It stays as it is until the zone changes.
    pub(crate) lasting: bool,
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    about: About,
    /// The state of the zone that it is of.
    generation: u64,
    until: Option<Instant>,
}

impl Kept {
    fn is_of(&self, generation: u64, now: Instant) -> bool {
        self.generation == generation && self.until.is_none_or(|until| now < until)
    }
}

impl Ready {
    /// The answer to a client's packet, if it is ready, written to `answer`; says who knew it.
    pub(crate) fn answer(
        &mut self,
        packet: &[u8],
        client: IpAddr,
        generation: u64,
        now: Instant,
        answer: &mut Vec<u8>,
    ) -> Option<About> {
        let end = key(packet, &mut self.key)?;
        let is_fresh = |kept: &&Kept| kept.is_of(generation, now);
        let kept = match self.for_all.get(&*self.key).filter(is_fresh) {
            Some(kept) => kept,
            None => {
                add_client(&mut self.key, client);
                self.for_one.get(&*self.key).filter(is_fresh)?
            }
        };
        answer.clear();
        answer.extend_from_slice(&kept.bytes);
        answer[..2].copy_from_slice(&packet[..2]);
        answer[HEADER..end].copy_from_slice(&packet[HEADER..end]);
        self.turn = self.turn.wrapping_add(1);
        rotate(answer, self.turn);
        Some(kept.about.clone())
    }

    /// Keeps an answer to a client's packet, of this state of the zone.
    pub(crate) fn keep(
        &mut self,
        packet: &[u8],
        client: IpAddr,
        answer: &[u8],
        about: About,
        terms: Terms,
        (generation, now): (u64, Instant),
    ) {
        if key(packet, &mut self.key).is_none() {
            return;
        }
        let answers = match terms.for_all {
            true => &mut self.for_all,
            false => {
                add_client(&mut self.key, client);
                &mut self.for_one
            }
        };
        if answers.len() >= MOST {
            answers.clear();
        }
        let until = (!terms.lasting).then(|| now + FOREIGN);
        let kept = Kept { bytes: answer.into(), about, generation, until };
        answers.insert(self.key.as_slice().into(), kept);
    }
}

fn add_client(key: &mut Vec<u8>, client: IpAddr) {
    match client {
        IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
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
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 5));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 6));
    const FOR_ALL: Terms = Terms { for_all: true, lasting: true };

    fn about(source: Source) -> About {
        About { source, completed: None }
    }

    fn with(packet: &[u8], terms: Terms) -> Ready {
        let mut ready = Ready::default();
        let (answer, about) = ([packet, b"answer"].concat(), about(Source::Zone));
        ready.keep(packet, CLIENT, &answer, about, terms, (7, Instant::now()));
        ready
    }

    fn source(ready: &mut Ready, packet: &[u8], client: IpAddr) -> Option<Source> {
        let about = ready.answer(packet, client, 7, Instant::now(), &mut Vec::new());
        about.map(|about| about.source)
    }

    #[test]
    fn the_answer_bears_the_askers_number_and_spelling() {
        let mut ready = with(&packet(1, NAME, 1), FOR_ALL);
        let shouted = packet(9, b"\x03WEB\x04shop\x00", 1);
        let mut answer = Vec::new();
        let told = ready.answer(&shouted, OTHER, 7, Instant::now(), &mut answer);
        assert_eq!(told, Some(about(Source::Zone)));
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
            let found = source(&mut with(&kept, FOR_ALL), &asked, CLIENT);
            assert_eq!(found, None, "{kept:?} {asked:?}");
        }
        assert!(source(&mut with(&with_opt, FOR_ALL), &with_opt, CLIENT).is_some());
    }

    #[test]
    fn what_depends_on_who_asks_is_told_to_nobody_else() {
        let packet = packet(1, NAME, 1);
        let mut ready = with(&packet, Terms { for_all: false, lasting: true });
        assert_eq!(source(&mut ready, &packet, CLIENT), Some(Source::Zone));
        assert_eq!(source(&mut ready, &packet, OTHER), None);
    }

    #[test]
    fn names_that_are_not_there_push_no_others_out() {
        let kept = packet(1, NAME, 1);
        let mut ready = with(&kept, FOR_ALL);
        let terms = Terms { for_all: false, lasting: true };
        for number in 0..2 * u16::try_from(MOST).unwrap() {
            let [high, low] = number.to_be_bytes();
            let made_up = packet(1, &[2, high, low, 0], 1);
            ready.keep(&made_up, OTHER, &[], about(Source::Zone), terms, (7, Instant::now()));
        }
        assert!(source(&mut ready, &kept, CLIENT).is_some());
        assert!(ready.for_one.len() <= MOST);
    }

    #[test]
    fn answers_go_when_the_zone_changes_or_their_time_is_over() {
        let (packet, now) = (packet(1, NAME, 1), Instant::now());
        let mut ready = with(&packet, FOR_ALL);
        assert_eq!(ready.answer(&packet, CLIENT, 8, now, &mut Vec::new()), None);
        let mut ready = Ready::default();
        let terms = Terms { for_all: true, lasting: false };
        ready.keep(&packet, CLIENT, &packet, about(Source::Cache), terms, (7, now));
        assert!(ready.answer(&packet, CLIENT, 7, now, &mut Vec::new()).is_some());
        assert_eq!(ready.answer(&packet, CLIENT, 7, now + FOREIGN, &mut Vec::new()), None);
    }
}
