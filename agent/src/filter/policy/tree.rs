//! Builds the tree of [`spinegate_common::tree`] from prefixes.

use spinegate_common::{
    policy::ROOT,
    tree::{INLINE_LEAVES, NODE_WORDS, Page, WORDS, tag},
};

/// An IPv4 prefix and what its addresses are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its first address.
    pub(super) start: u32,
    /// How many bits are fixed.
    pub(super) length: u8,
    /// A leaf, with its tag.
    pub(super) leaf: u32,
}

/// The root, and the words that it leads to.
pub(super) struct Tree {
    pub(super) root: Box<[u32; ROOT]>,
    pub(super) words: Vec<u64>,
}

/// A stretch of addresses with one leaf: it ends where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u32,
    leaf: u32,
}

impl Tree {
    /// The tree of prefixes that are in the order of their starts, and of their lengths where these are the same. Its
    /// nodes come behind the `words` that there are.
    pub(super) fn build(entries: &[Entry], mut words: Vec<u64>) -> Self {
        words.resize(words.len().next_multiple_of(NODE_WORDS), 0);
        let mut tree = Self {
            root: Box::new([tag::NOTHING; ROOT]),
            words,
        };
        let runs = runs(entries);
        let mut rest = runs.as_slice();
        let mut before = tag::NOTHING;
        for upper in 0..ROOT {
            let leaf = tree.block((upper as u32) << 16, 16, &mut before, &mut rest);
            if let Some(place) = tree.root.get_mut(upper) {
                *place = leaf;
            }
        }
        tree
    }

    /// The leaf or the node for the 2^`bits` addresses from `start` on. `before` is the leaf in force where the block
    /// begins, and then where it ends; `rest` are the runs that begin in it or behind it.
    fn block(&mut self, start: u32, bits: u32, before: &mut u32, rest: &mut &[Run]) -> u32 {
        let last = start | ((1 << bits) - 1);
        if let Some((run, others)) = rest.split_first()
            && run.start == start
        {
            *before = run.leaf;
            *rest = others;
        }
        if rest.first().is_none_or(|run| run.start > last) {
            return *before;
        }
        let mut children = Vec::with_capacity(8);
        let child_bits = bits - 8;
        if child_bits == 0 {
            children.push((0, *before));
            while let Some((run, others)) = rest.split_first()
                && run.start <= last
            {
                children.push(((run.start & 0xff) as u8, run.leaf));
                *before = run.leaf;
                *rest = others;
            }
        } else {
            for child in 0..=u8::MAX {
                let leaf = self.block(start | u32::from(child) << child_bits, child_bits, before, rest);
                if children.last().is_none_or(|(_, other)| *other != leaf) {
                    children.push((child, leaf));
                }
            }
        }
        self.node(&children)
    }

    /// A node from its children that differ from the one before, the first of which is child 0. Leaves that it has no
    /// room for come right behind it.
    fn node(&mut self, children: &[(u8, u32)]) -> u32 {
        let mut bits = [0_u64; 4];
        for (child, _) in children {
            if let Some(word) = bits.get_mut(usize::from(child >> 6)) {
                *word |= 1 << (child & 63);
            }
        }
        let mut ranks = 0;
        let mut before = 0;
        for (word, bits) in bits.iter().enumerate() {
            ranks |= u64::from(before) << (32 + 8 * word);
            before += bits.count_ones();
        }
        let node = self.words.len();
        let leaves: Vec<u32> = children.iter().map(|(_, leaf)| *leaf).collect();
        self.words.extend(bits);
        if leaves.len() <= INLINE_LEAVES {
            self.words.push(ranks);
            self.words.extend(pairs(&leaves));
        } else {
            let place = 2 * (node + NODE_WORDS) as u64;
            self.words.push(ranks | place);
            self.words.resize(node + NODE_WORDS, 0);
            self.words.extend(pairs(&leaves));
        }
        self.words
            .resize(self.words.len().next_multiple_of(NODE_WORDS), 0);
        tag::NODE | u32::try_from(node / NODE_WORDS).unwrap_or(tag::INDEX)
    }
}

fn pairs(leaves: &[u32]) -> impl Iterator<Item = u64> {
    leaves.chunks(2).map(|pair| {
        let word = |index: usize| u64::from(pair.get(index).copied().unwrap_or_default());
        word(0) | word(1) << 32
    })
}

/// Words as pages.
pub(super) fn pages(words: &[u64]) -> Vec<Page> {
    let page = |words: &[u64]| {
        let mut page = [0; WORDS];
        for (place, word) in page.iter_mut().zip(words) {
            *place = *word;
        }
        page
    };
    words.chunks(WORDS).map(page).collect()
}

/// The stretches of addresses with the leaf of the longest prefix that covers them.
fn runs(entries: &[Entry]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(2 * entries.len());
    let mut begin = |start: u64, leaf: u32| {
        let Ok(start) = u32::try_from(start) else {
            return;
        };
        // What begins at the same address as the run before takes its place.
        if runs.last().is_some_and(|run| run.start == start) {
            runs.pop();
        }
        if runs.last().map_or(tag::NOTHING, |run| run.leaf) != leaf {
            runs.push(Run { start, leaf });
        }
    };
    // The prefixes that cover the current address, the longest last, each with its end.
    let mut covering: Vec<(u64, u32)> = Vec::new();
    let close = |until: u64, covering: &mut Vec<(u64, u32)>, begin: &mut dyn FnMut(u64, u32)| {
        while let Some((end, _)) = covering.last().copied()
            && end <= until
        {
            covering.pop();
            begin(end, covering.last().map_or(tag::NOTHING, |(_, leaf)| *leaf));
        }
    };
    for entry in entries {
        let start = u64::from(entry.start);
        close(start, &mut covering, &mut begin);
        begin(start, entry.leaf);
        covering.push((start + (1 << (32 - u32::from(entry.length.min(32)))), entry.leaf));
    }
    close(1 << 32, &mut covering, &mut begin);
    runs
}

#[cfg(test)]
mod tests;
