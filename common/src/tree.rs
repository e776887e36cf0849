//! The allowlist's IPv4 prefixes, as a tree that stays small enough for the caches.
//!
//! The root is indexed by an address' upper 16 bits; two further levels take 8 bits each. A node holds no table of 256
//! children but a bit for each child that differs from the one before, and the differing leaves in a row: how many bits
//! are set up to a child says which leaf is its own. (The idea is Asai and Ohara's, SIGCOMM 2015: Poptrie.) A node is
//! one cache line, with room for six leaves; more stand elsewhere.
//!
//! A leaf is a `u32` of a [`tag`] and an index. It says what an address is granted: nothing, everything, or a grant.

use crate::{
    World,
    packet::Address,
    policy::{HEAD_PAGES, Head},
};

/// 4 KiB of a generation: nodes, leaves or grants.
///
/// (Not a struct: kernels before 6.2 take a map with a struct's BTF and one without BTF, as the agent makes them, for
/// maps of different kinds.)
pub type Page = [u64; WORDS];

/// Words in a page.
pub const WORDS: usize = 512;
/// Words in a node: four of bits, one that says where the leaves are, three of leaves.
pub const NODE_WORDS: usize = 8;
/// Words in a grant: services, expiry, parent and counter, and one to spare.
pub const GRANT_WORDS: usize = 4;
/// Leaves that a node has room for.
pub const INLINE_LEAVES: usize = 6;
/// Prefixes that cover each other, beyond which a grant is not looked for.
pub const MAX_NESTING: usize = 16;

/// What a leaf is: its upper two bits.
pub mod tag {
    /// No prefix covers the address.
    pub const NOTHING: u32 = 0;
    /// Everything is granted; the index is the entry's counter.
    pub const ALL: u32 = 1 << 30;
    /// What the grant with the index says.
    pub const GRANT: u32 = 2 << 30;
    /// Not a leaf: the node with the index says more.
    pub const NODE: u32 = 3 << 30;
    /// The bits of the tag.
    pub const MASK: u32 = 3 << 30;
    /// The bits of the index.
    pub const INDEX: u32 = !MASK;
}

/// The leaf of an address. What can't be followed is [`tag::NOTHING`].
#[inline(always)]
pub fn find<W: World>(world: &W, slot: u32, head: &Head, address: u32) -> u32 {
    let root = head.root.get((address >> 16) as usize).copied();
    let mut leaf = root.unwrap_or_default();
    for child in [address >> 8 & 0xff, address & 0xff] {
        if leaf & tag::MASK != tag::NODE {
            return leaf;
        }
        leaf = match step(world, slot, head, leaf & tag::INDEX, child) {
            Some(leaf) => leaf,
            None => return tag::NOTHING,
        };
    }
    if leaf & tag::MASK == tag::NODE {
        return tag::NOTHING;
    }
    leaf
}

#[inline(always)]
fn step<W: World>(world: &W, slot: u32, head: &Head, node: u32, child: u32) -> Option<u32> {
    const PER_PAGE: u32 = (WORDS / NODE_WORDS) as u32;
    let page = page(world, slot, head, node / PER_PAGE)?;
    let first = (node % PER_PAGE) as usize * NODE_WORDS;
    let word = (child >> 6) as usize;
    let bits = *page.get(first + word)? & (u64::MAX >> (63 - (child & 63)));
    let place = *page.get(first + 4)?;
    let before = place >> (32 + 8 * word) & 0xff;
    // The first child always has its bit.
    let leaf = (before + u64::from(bits.count_ones())).wrapping_sub(1);
    match place as u32 {
        0 => {
            let leaf = (leaf & 7) as usize;
            let pair = *page.get(first + 5 + leaf / 2)?;
            Some((pair >> (32 * (leaf & 1))) as u32)
        }
        leaves => leaf_at(world, slot, head, leaves.wrapping_add(leaf as u32)),
    }
}

#[inline(always)]
fn leaf_at<W: World>(world: &W, slot: u32, head: &Head, leaf: u32) -> Option<u32> {
    const PER_PAGE: u32 = 2 * WORDS as u32;
    let page = page(world, slot, head, leaf / PER_PAGE)?;
    let pair = *page.get((leaf % PER_PAGE / 2) as usize)?;
    Some((pair >> (32 * (leaf & 1))) as u32)
}

/// A page of the generation.
#[inline(always)]
fn page<'a, W: World>(world: &'a W, slot: u32, head: &'a Head, page: u32) -> Option<&'a Page> {
    if page < HEAD_PAGES as u32 {
        world.head_page(head, page)
    } else {
        world.page(slot, page - HEAD_PAGES as u32)
    }
}

/// The counter of the entry that grants one of the `needed` services (a bit each) to the address of a leaf.
#[inline(always)]
pub fn granted<W: World>(world: &W, slot: u32, head: &Head, leaf: u32, needed: u64) -> Option<u32> {
    match leaf & tag::MASK {
        tag::ALL => Some(leaf & tag::INDEX),
        tag::GRANT => u32::try_from(granted_by(world, slot, head, leaf, needed)).ok(),
        _ => None,
    }
}

/// As [`granted`], from a leaf that is a grant; [`REFUSED`] if there is none.
///
/// A grant that is not enough, or has expired, leaves the word to the prefix that covers its own.
#[inline(never)]
fn granted_by<W: World>(world: &W, slot: u32, head: &Head, leaf: u32, needed: u64) -> u64 {
    const PER_PAGE: u32 = (WORDS / GRANT_WORDS) as u32;
    let mut leaf = leaf;
    for _ in 0..MAX_NESTING {
        let index = leaf & tag::INDEX;
        match leaf & tag::MASK {
            tag::ALL => return u64::from(index),
            tag::GRANT => {}
            _ => return REFUSED,
        }
        let Some(page) = page(world, slot, head, index / PER_PAGE) else {
            return REFUSED;
        };
        let first = (index % PER_PAGE) as usize * GRANT_WORDS;
        let word = |at: usize| page.get(first + at).copied().unwrap_or_default();
        let (services, expires, parent_and_counter) = (word(0), word(1), word(2));
        if services & needed != 0 && (expires == 0 || world.boot_time() < expires) {
            return parent_and_counter >> 32;
        }
        leaf = parent_and_counter as u32;
    }
    REFUSED
}

/// No counter: they have 32 bits. (A function in the kernel returns one word.)
const REFUSED: u64 = u64::MAX;

/// A key of the IPv6 trie.
pub type Source6 = Address;
