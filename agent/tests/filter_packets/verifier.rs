//! What the kernel's verifier has to go through.

use crate::packets::{filter, settings};

/// A quarter of what kernels allow (docs/filter.md).
const CEILING: u32 = 250_000;

#[test]
fn the_verifier_stays_far_below_its_limit() {
    let mut filter = filter!(&settings());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let counts = filter.verified_instructions().expect("counts");
    println!(
        "kernel {}: the verifier went through {} instructions of the program, and {} of the one that explains",
        kernel.trim(),
        counts[0],
        counts[1]
    );
    for count in counts {
        assert!(
            (1000..=CEILING).contains(&count),
            "{count} instructions; the ceiling is {CEILING}"
        );
    }
}
