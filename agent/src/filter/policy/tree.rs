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

/// Nodes and leaves in the order in which they stand in the pages, and the root that leads to them.
pub(super) struct Tree {
    pub(super) root: Box<[u32; ROOT]>,
    /// Nodes' worth of words in front of the first node.
    offset: usize,
    nodes: Vec<Node>,
    leaves: Vec<u32>,
}

struct Node {
    bits: [u64; 4],
    leaves: Leaves,
}

enum Leaves {
    Inline([u32; INLINE_LEAVES]),
    /// Where they begin in the row of leaves.
    Apart(usize),
}

/// A stretch of addresses with one leaf: it ends where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u32,
    leaf: u32,
}

impl Tree {
    /// The tree of prefixes that are in the order of their starts, and of their lengths where these are the same. It is
    /// to be written behind as many words as `offset` nodes have.
    pub(super) fn build(entries: &[Entry], offset: usize) -> Self {
        let mut tree = Self {
            root: Box::new([tag::NOTHING; ROOT]),
            offset,
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        let runs = runs(entries);
        let mut rest = runs.as_slice();
        let mut before = tag::NOTHING;
        let mut root = std::mem::replace(&mut tree.root, Box::new([tag::NOTHING; ROOT]));
        for (upper, place) in (0_u32..).zip(root.iter_mut()) {
            *place = tree.block(upper << 16, 16, &mut before, &mut rest);
        }
        tree.root = root;
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

    /// A node from its children that differ from the one before, the first of which is child 0.
    fn node(&mut self, children: &[(u8, u32)]) -> u32 {
        let mut bits = [0_u64; 4];
        for (child, _) in children {
            if let Some(word) = bits.get_mut(usize::from(child >> 6)) {
                *word |= 1 << (child & 63);
            }
        }
        let leaves = if children.len() <= INLINE_LEAVES {
            let mut inline = [tag::NOTHING; INLINE_LEAVES];
            for (place, (_, leaf)) in inline.iter_mut().zip(children) {
                *place = *leaf;
            }
            Leaves::Inline(inline)
        } else {
            let first = self.leaves.len();
            self.leaves.extend(children.iter().map(|(_, leaf)| leaf));
            Leaves::Apart(first)
        };
        let index = u32::try_from(self.offset + self.nodes.len()).unwrap_or(tag::INDEX);
        self.nodes.push(Node { bits, leaves });
        tag::NODE | index
    }

    /// Appends nodes and leaves.
    pub(super) fn write(&self, words: &mut Vec<u64>) {
        let first_leaf = 2 * (self.offset + self.nodes.len()) * NODE_WORDS;
        for node in &self.nodes {
            words.extend(node.bits);
            let mut ranks = 0;
            let mut before = 0;
            for (word, bits) in node.bits.iter().enumerate() {
                ranks |= u64::from(before) << (32 + 8 * word);
                before += bits.count_ones();
            }
            let (place, inline) = match &node.leaves {
                Leaves::Inline(leaves) => (0, *leaves),
                Leaves::Apart(first) => ((first_leaf + first) as u64, [0; INLINE_LEAVES]),
            };
            words.push(ranks | place);
            words.extend(pairs(&inline));
        }
        words.extend(pairs(&self.leaves));
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
