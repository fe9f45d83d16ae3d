//! Messages about one table of nftables, whichever of ours it is: reading what it holds, and batches
//! of changes that the kernel makes together or not at all.
//!
//! Deliberately not here: what rules and elements mean.

use std::io;

use super::element::{comment, comment_bytes};
use crate::kernel::netlink::{
    ACK, APPEND, CREATE, Connection, DUMP, Message, Writer, attribute, attributes, text,
};
use crate::kernel::{OpError, failed};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

/// All families at once.
const ANY_FAMILY: u8 = 0;
/// Elements in one message: its length must fit 16 bits.
pub(in crate::kernel) const CHUNK: usize = 300;
/// The chain whose comment says what the rules should look like.
const SEAL: &str = "seal";

/// A table, by its family and name.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Place {
    /// The kernel's number for the family.
    pub(in crate::kernel) family: u8,
    /// The table's name.
    pub(in crate::kernel) table: &'static str,
    /// Both in nft's words, for what failed.
    pub(in crate::kernel) words: &'static str,
}

impl Place {
    /// Its chains; none when there is no such table.
    pub(in crate::kernel) fn chains(
        self,
        netlink: &mut Connection,
    ) -> Result<impl Iterator<Item = Message> + use<>, OpError> {
        let all = netlink
            .request(GET_CHAIN, DUMP, |w| header(w, self.family, 0))
            .map_err(failed("list chains"))?;
        Ok(all.into_iter().filter(move |m| named(m, 1) == Some(self.table)))
    }

    /// Is there such a table?
    pub(in crate::kernel) fn exists(self, netlink: &mut Connection) -> Result<bool, OpError> {
        Ok(self.chains(netlink)?.next().is_some())
    }

    /// Its rules; none when there is no such table.
    pub(in crate::kernel) fn rules(
        self,
        netlink: &mut Connection,
    ) -> Result<Vec<Message>, OpError> {
        netlink
            .request(GET_RULE, DUMP, |w| {
                header(w, self.family, 0);
                w.string(1, self.table);
            })
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(vec![]) } else { Err(e) })
            .map_err(failed(format!("list the rules of table {}", self.words)))
    }

    /// Hands over the elements of a map or set; none when it is not there.
    pub(in crate::kernel) fn elements(
        self,
        netlink: &mut Connection,
        container: &str,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), OpError> {
        let request = |w: &mut Writer| {
            header(w, self.family, 0);
            w.string(1, self.table);
            w.string(2, container);
        };
        netlink
            .request_each(GET_ELEMENT, DUMP, request, |message| {
                let list = attribute(body(&message), 3).unwrap_or_default();
                attributes(list).for_each(|(_, element)| each(element));
            })
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            .map_err(failed(format!("list the elements of {container}")))
    }

    /// What was said of the rules when they were written; none when they were not written whole.
    pub(in crate::kernel) fn seal(
        self,
        netlink: &mut Connection,
    ) -> Result<Option<String>, OpError> {
        let chain = self.chains(netlink)?.find(|m| named(m, 3) == Some(SEAL));
        Ok(chain.and_then(|m| comment(attribute(body(&m), 12)?)))
    }

    /// Says it. A chain's comment can't be changed: the chain must not be there.
    pub(in crate::kernel) fn write_seal(
        self,
        netlink: &mut Connection,
        seal: &str,
    ) -> Result<(), OpError> {
        let mut batch = Batch::new(netlink, self);
        batch.message(NEW_CHAIN, CREATE, |w| {
            w.string(3, SEAL);
            w.attr(12, &comment_bytes(seal));
        });
        batch.commit().map_err(failed(format!("seal table {}", self.words)))
    }

    /// Deletes it. That there is none is no error.
    pub(in crate::kernel) fn delete(self, netlink: &mut Connection) -> Result<(), OpError> {
        if !self.exists(netlink)? {
            return Ok(());
        }
        let mut batch = Batch::new(netlink, self);
        batch.message(DELETE_TABLE, 0, |_| ());
        batch.commit().map_err(failed(format!("delete table {}", self.words)))
    }
}

/// The chains of all tables, ours and others'.
pub(in crate::kernel) fn all_chains(netlink: &mut Connection) -> Result<Vec<Message>, OpError> {
    netlink.request(GET_CHAIN, DUMP, |w| header(w, ANY_FAMILY, 0)).map_err(failed("list chains"))
}

/// Messages that the kernel carries out together or not at all.
pub(in crate::kernel) struct Batch<'a> {
    netlink: &'a mut Connection,
    place: Place,
    writer: Writer,
    first: u32,
    acknowledgements: usize,
}

impl<'a> Batch<'a> {
    pub(in crate::kernel) fn new(netlink: &'a mut Connection, place: Place) -> Self {
        let first = netlink.next_sequence();
        let mut writer = Writer::default();
        writer.message(BATCH_BEGIN, 0, first, |w| header(w, 0, SUBSYSTEM >> 8));
        Self { netlink, place, writer, first, acknowledgements: 0 }
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        let sequence = self.netlink.next_sequence();
        let Place { family, table, .. } = self.place;
        self.writer.message(kind, ACK | flags, sequence, |w| {
            header(w, family, 0);
            w.string(1, table);
            body(w);
        });
        self.acknowledgements += 1;
    }

    /// A chain that others go to; it may be there.
    pub(in crate::kernel) fn chain(&mut self, chain: &str) {
        self.message(NEW_CHAIN, CREATE, |w| w.string(3, chain));
    }

    /// Deletes the rules of a chain.
    pub(in crate::kernel) fn flush(&mut self, chain: &str) {
        self.message(DELETE_RULE, 0, |w| w.string(2, chain));
    }

    /// A rule at the end of a chain.
    pub(in crate::kernel) fn rule(&mut self, chain: &str, rule: impl FnOnce(&mut Writer)) {
        self.message(NEW_RULE, CREATE | APPEND, |w| {
            w.string(2, chain);
            w.nest(4, rule);
        });
    }

    /// Adds elements to a map or set, or deletes them: at most [`CHUNK`], which `list` writes.
    pub(in crate::kernel) fn elements(
        &mut self,
        is_new: bool,
        container: &str,
        list: impl FnOnce(&mut Writer),
    ) {
        let (kind, flags) = if is_new { (NEW_ELEMENT, CREATE) } else { (DELETE_ELEMENT, 0) };
        self.message(kind, flags, |w| {
            w.string(2, container);
            w.nest(3, list);
        });
    }

    /// Has the kernel make the changes; nothing is sent when there are none.
    pub(in crate::kernel) fn commit(mut self) -> io::Result<()> {
        if self.acknowledgements == 0 {
            return Ok(());
        }
        let last = self.netlink.next_sequence();
        self.writer.message(BATCH_END, 0, last, |w| header(w, 0, SUBSYSTEM >> 8));
        self.netlink.send_all(&self.writer, self.first..=last, self.acknowledgements)
    }
}

fn header(writer: &mut Writer, family: u8, resource: u16) {
    let resource = resource.to_be_bytes();
    writer.raw(&[family, 0, resource[0], resource[1]]);
}

/// A message's attributes.
pub(in crate::kernel) fn body(message: &Message) -> &[u8] {
    message.body.get(4..).unwrap_or_default()
}

/// The text of an attribute.
pub(in crate::kernel) fn named(message: &Message, kind: u16) -> Option<&str> {
    attribute(body(message), kind).map(text)
}
