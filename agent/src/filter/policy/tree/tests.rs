//! The tree, as it stands in the pages and as the kernel half walks it, against a search through all prefixes.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::allocation::zeroed_box;
use proptest::prelude::*;
use spinegate_common::{
    Budget, Standing, World,
    packet::Address,
    policy::{HEAD_PAGES, Head},
    tree::{self, Page, WORDS, tag},
};

use super::{Entry, NODE_WORDS, Tree, pages};

/// Nothing but the pages behind the head.
struct Pages(Vec<Page>);

impl World for Pages {
    type Verdict = ();

    fn page(&self, _slot: u32, page: u32) -> Option<&Page> {
        self.0.get(page as usize)
    }

    fn head_page<'head>(&self, head: &'head Head, page: u32) -> Option<&'head Page> {
        head.pages.get(page as usize)
    }

    fn leaf6(&self, _slot: u32, _address: &Address) -> u32 {
        tag::NOTHING
    }

    fn verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn prefix_verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn hit(&self, (): ()) {}

    fn spend_trusted(&self, (): (), _budget: &Budget) -> bool {
        false
    }

    fn spend_untrusted(&self, _source: &Address, _budget: &Budget) -> bool {
        false
    }

    fn spend_control(&self, _budget: &Budget) -> bool {
        false
    }

    fn boot_time(&self) -> u64 {
        0
    }
}

type Prefix = (u32, u8);

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or_default()
}

fn last(prefix: Prefix) -> u32 {
    prefix.0 | !mask(prefix.1)
}

/// Each prefix has a leaf of its own.
struct Built {
    leaves: BTreeMap<Prefix, u32>,
    head: Box<Head>,
    behind: Pages,
}

/// Nodes' worth of words in the head.
const HEAD_NODES: usize = HEAD_PAGES * WORDS / NODE_WORDS;

impl Built {
    fn new(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        Self::behind(3, prefixes)
    }

    /// As if so many nodes' worth of grants stood in front.
    fn behind(offset: usize, prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let prefixes: BTreeSet<Prefix> = prefixes
            .into_iter()
            .map(|(address, length)| (address & mask(length), length))
            .collect();
        let leaves: BTreeMap<Prefix, u32> = prefixes
            .into_iter()
            .zip((1..).map(|number| tag::ALL | number))
            .collect();
        let entries: Vec<Entry> = leaves
            .iter()
            .map(|((start, length), leaf)| Entry {
                start: *start,
                length: *length,
                leaf: *leaf,
            })
            .collect();
        let tree = Tree::build(&entries, vec![u64::MAX; offset * NODE_WORDS]);
        let mut head: Box<Head> = zeroed_box();
        head.root.copy_from_slice(tree.root.as_slice());
        let pages = pages(&tree.words);
        for (place, page) in head.pages.iter_mut().zip(&pages) {
            *place = *page;
        }
        Self {
            leaves,
            head,
            behind: Pages(pages.into_iter().skip(HEAD_PAGES).collect()),
        }
    }

    fn found(&self, address: u32) -> u32 {
        tree::find(&self.behind, 0, &self.head, address)
    }

    /// The leaf of the longest prefix, looked for one length after the other.
    fn expected(&self, address: u32) -> u32 {
        let longest = (0..=32_u8)
            .rev()
            .find_map(|length| self.leaves.get(&(address & mask(length), length)));
        longest.copied().unwrap_or(tag::NOTHING)
    }

    #[track_caller]
    fn agrees_at(&self, address: u32) {
        assert_eq!(
            self.found(address),
            self.expected(address),
            "{} among {:x?}",
            std::net::Ipv4Addr::from(address),
            self.leaves.keys().take(50).collect::<Vec<_>>()
        );
    }

    /// Every prefix's first and last addresses with their neighbours, the ends of all space, and what is between.
    #[track_caller]
    fn agrees(&self) {
        for prefix in self.leaves.keys() {
            let (first, last) = (prefix.0, last(*prefix));
            for address in [first, last, first + (last - first) / 2] {
                for near in [address.wrapping_sub(1), address, address.wrapping_add(1)] {
                    self.agrees_at(near);
                    self.agrees_at(near ^ 0x100);
                    self.agrees_at(near ^ 0x1_0000);
                }
            }
        }
        for address in [0, 1, 0xff, 0x100, 0xffff, 0x1_0000, u32::MAX - 1, u32::MAX] {
            self.agrees_at(address);
        }
    }

    #[track_caller]
    fn agrees_all_over(&self, upper: u32) {
        for lower in 0..=0xffff {
            self.agrees_at(upper << 16 | lower);
        }
    }
}

const BLOCK: u32 = 0x0a07_0000;

#[test]
fn no_prefix_covers_nothing_and_the_widest_covers_everything() {
    Built::new([]).agrees();
    let everything = Built::new([(0, 0)]);
    everything.agrees();
    assert_eq!(everything.found(0x1234_5678), tag::ALL | 1);
    Built::new([(0, 0), (0, 1), (0, 32), (u32::MAX, 32), (1 << 31, 1)]).agrees();
}

#[test]
fn prefixes_of_every_length_nest() {
    for address in [0, u32::MAX, 0x0a07_8001, 0x0a07_7fff, 0xaaaa_aaaa] {
        Built::new((0..=32).map(|length| (address, length))).agrees();
    }
}

#[test]
fn prefixes_that_touch_keep_their_own_leaves() {
    for length in 9..=32_u8 {
        let size = 1_u32.checked_shl(32 - u32::from(length)).unwrap_or_default();
        let row: Vec<_> = (0..40_u32)
            .map(|number| (BLOCK.wrapping_add(number.wrapping_mul(size)), length))
            .collect();
        Built::new(row.clone()).agrees();
        Built::new(row.into_iter().step_by(2)).agrees();
    }
}

#[test]
fn a_block_full_of_single_addresses_is_told_apart() {
    let built = Built::new((0..=0xffff).map(|lower| (BLOCK | lower, 32)));
    built.agrees_all_over(BLOCK >> 16);
    built.agrees_at(BLOCK - 1);
    built.agrees_at(BLOCK + 0x1_0000);
    Built::new((0..=0xffff).step_by(2).map(|lower| (BLOCK | lower, 32))).agrees_all_over(BLOCK >> 16);
}

#[test]
fn one_address_in_each_24_and_a_few_more_leaves_than_a_node_holds() {
    // One to ten addresses in each /24: on both sides of what stands inside a node.
    for in_each in 1..=10 {
        let addresses = (0..256_u32).flat_map(|third| {
            (0..in_each).map(move |number| (BLOCK | third << 8 | (third + 25 * number) & 0xff, 32))
        });
        Built::new(addresses.clone()).agrees_all_over(BLOCK >> 16);
        let inside = addresses.chain([(BLOCK, 16), (BLOCK | 0x4000, 18)]);
        Built::new(inside).agrees_all_over(BLOCK >> 16);
    }
    // One to ten /24s in a /16.
    for count in 1..=10 {
        let nets = (0..count).map(|number| (BLOCK | (number * 27) << 8, 24));
        Built::new(nets).agrees_all_over(BLOCK >> 16);
    }
}

fn prefix() -> impl Strategy<Value = Prefix> {
    // A few blocks, so that prefixes nest, touch and fill nodes.
    let address = prop_oneof![
        4 => (0..4_u32, any::<u16>()).prop_map(|(block, lower)| BLOCK + (block << 16) + u32::from(lower)),
        3 => (0..64_u32).prop_map(|low| BLOCK | 0x0100 | low),
        2 => any::<u32>(),
        1 => prop_oneof![Just(0), Just(u32::MAX)],
    ];
    let length = prop_oneof![4 => 24..=32_u8, 2 => 14..=24_u8, 1 => 0..=32_u8];
    (address, length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if long() { 3000 } else { 60 }))]

    #[test]
    fn the_longest_prefix_is_found_whatever_the_prefixes(
        prefixes in proptest::collection::vec(prefix(), 0..300),
        offset in prop_oneof![Just(0), 0..100_usize, HEAD_NODES - 20..HEAD_NODES + 20],
        addresses in proptest::collection::vec(any::<u32>(), 200),
    ) {
        let built = Built::behind(offset, prefixes);
        built.agrees();
        for address in addresses {
            built.agrees_at(address);
            built.agrees_at(BLOCK | (address & 0x3_ffff));
        }
    }
}

fn long() -> bool {
    std::env::var("SPINEGATE_LONG").is_ok_and(|long| !long.is_empty() && long != "0")
}
