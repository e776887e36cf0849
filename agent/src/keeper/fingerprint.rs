//! Whether worker and keeper have read the same in files that may change between the one reading and the other.

use std::{
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hasher as _},
};

use crate::config::{self, Source};

/// A number that differs where the policies differ. It finds a race, not a forger: whatever the worker expects, what the
/// keeper puts in force is what it has read itself.
pub(super) fn fingerprint(config: &config::Filter, sources: &[Source]) -> u64 {
    struct Hash(DefaultHasher);
    impl fmt::Write for Hash {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hash = Hash(DefaultHasher::new());
    // Nothing that is formatted here fails.
    let _ = write!(hash, "{config:?} {sources:?}");
    hash.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_differ_have_different_fingerprints() {
        let config = config::Filter::default();
        let source = |name: &str| Source::new("192.0.2.0/24".parse().unwrap(), name);
        assert_eq!(
            fingerprint(&config, &[source("a")]),
            fingerprint(&config.clone(), &[source("a")])
        );
        assert_ne!(fingerprint(&config, &[source("a")]), fingerprint(&config, &[]));
        let monitor = config::Filter {
            mode: config::FilterMode::Monitor,
            ..config.clone()
        };
        assert_ne!(fingerprint(&config, &[]), fingerprint(&monitor, &[]));
    }
}
