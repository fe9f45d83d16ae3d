//! Words that come again and again, kept once: namespaces, names of nodes, zones and ports.

use std::collections::BTreeSet;
use std::sync::Arc;

/// So many words are never worth a look at which of them nobody uses any more.
const FEW: usize = 64;

/// Gives the same text the same place in memory for as long as somebody uses it.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    known: BTreeSet<Arc<str>>,
    /// The next look is due when there are more than twice as many.
    used: usize,
}

impl Interner {
    /// The text, shared.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() > FEW.max(2 * self.used) {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.used = self.known.len();
        }
        let new: Arc<str> = text.into();
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_kept_once() {
        let mut interner = Interner::default();
        let [first, second] = [(), ()].map(|()| interner.share("node-1"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &interner.share("node-2")));
    }

    #[test]
    fn what_nobody_uses_any_more_is_dropped() {
        let mut interner = Interner::default();
        let kept = interner.share("kept");
        for n in 0..10 * FEW {
            interner.share(&format!("gone-{n}"));
        }
        assert!(interner.known.len() <= FEW + 1, "{}", interner.known.len());
        assert!(Arc::ptr_eq(&kept, &interner.share("kept")));
    }
}
