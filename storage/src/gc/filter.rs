//! Which digests a repository needs, in fixed memory: a Bloom filter.
//!
//! It may say that a digest is needed which is not, and then garbage stays for one more pass; it never says that a needed one is
//! not. Its seed is of one pass, so nobody can choose digests that stay for ever.

use std::hash::{BuildHasher, RandomState};

use rand::Rng;

use crate::Digest;

/// Bits for one digest, with which one in a hundred is taken for needed.
const BITS_EACH: usize = 10;
/// Bits of a digest that are set: what is best for [`BITS_EACH`].
const HASHES: u64 = 7;
/// 8 KiB.
const LEAST_BITS: usize = 1 << 16;
/// 16 MiB.
const MOST_BITS: usize = 1 << 27;

/// The digests that one pass has seen named.
pub(super) struct Filter {
    words: Vec<u64>,
    hasher: RandomState,
    seed: u64,
    taken: u64,
}

impl Filter {
    /// For about so many digests; more only make it less exact.
    pub(super) fn sized_for(digests: u64) -> Self {
        let bits = usize::try_from(digests).unwrap_or(MOST_BITS).saturating_mul(BITS_EACH);
        let bits = bits.clamp(LEAST_BITS, MOST_BITS);
        Self { words: vec![0; bits.div_ceil(64)], hasher: RandomState::new(), seed: rand::rng().random(), taken: 0 }
    }

    /// Takes a digest.
    pub(super) fn insert(&mut self, digest: &Digest) {
        self.taken += 1;
        for (word, bit) in self.places(digest) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether it may have been taken.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.places(digest).all(|(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0))
    }

    /// How many were taken, each as often as it was named.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Where its bits are: two hashes make all of them.
    fn places(&self, digest: &Digest) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u64 * 64;
        let first = self.hasher.hash_one((self.seed, digest.as_str()));
        let step = self.hasher.hash_one((!self.seed, digest.as_str())) | 1;
        (0..HASHES).map(move |n| {
            let at = first.wrapping_add(n.wrapping_mul(step)) % bits;
            (usize::try_from(at / 64).unwrap_or_default(), 1 << (at % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngCore, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::Algorithm;

    fn digests(random: &mut StdRng, count: usize) -> Vec<Digest> {
        (0..count).map(|_| Digest::of(Algorithm::Sha256, &random.next_u64().to_le_bytes())).collect()
    }

    /// Random sets of random sizes in filters that were sized rightly, too small and too large.
    #[test]
    fn what_was_taken_is_never_missed_and_little_else_is_found() {
        let mut random = StdRng::seed_from_u64(6);
        for round in 0..60 {
            let count = random.random_range(0..8000);
            let needed = digests(&mut random, count);
            let sized_for = [count as u64, count as u64 / 20, count as u64 * 3][round % 3];
            let mut filter = Filter::sized_for(sized_for);
            for digest in &needed {
                filter.insert(digest);
            }
            assert!(needed.iter().all(|digest| filter.contains(digest)), "round {round}");
            assert_eq!(filter.taken(), count as u64);
            let others = digests(&mut random, 4000);
            let found = others.iter().filter(|digest| filter.contains(digest)).count();
            if sized_for >= count as u64 {
                assert!(found < 4000 / 40, "round {round}: {found} of 4000 others in a filter of {count}");
            }
        }
    }

    #[test]
    fn its_size_has_a_limit_and_each_pass_a_seed_of_its_own() {
        assert_eq!(Filter::sized_for(u64::MAX).words.len() * 8, 16 << 20);
        assert!(Filter::sized_for(1_000_000).words.len() * 8 <= 4 << 20);
        let digest = Digest::of(Algorithm::Sha256, b"the same");
        let places = |filter: &Filter| filter.places(&digest).collect::<Vec<_>>();
        assert_ne!(places(&Filter::sized_for(1 << 20)), places(&Filter::sized_for(1 << 20)));
    }
}
