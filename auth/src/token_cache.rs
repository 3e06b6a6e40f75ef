//! Tokens that were verified once: afterwards one costs a hash and a look.
//!
//! Only verified ones enter, so garbage evicts nothing, under the SHA-256 of the token, so that no two are taken for each other
//! and none is kept. The bound is one of bytes, and one account has an eighth of it at most.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::RwLock;
use storage::Generation;

use crate::{
    cache::{Knowing, Weighs},
    token::{Subject, Verified},
    watch::Held,
};

/// Bytes of all shards together.
const BYTES: usize = 8 << 20;
const SHARDS: usize = 64;
const SHARD: usize = BYTES / SHARDS;
/// Bytes of one account in one shard.
const SHARE: usize = SHARD / 8;
/// What a shard's own tables cost for one token: the digest twice, and room to grow.
const OVERHEAD: usize = 192;

type Digest = [u8; 32];

/// Verified tokens by the digest of the token.
#[derive(Debug)]
pub(crate) struct TokenCache {
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    kept: HashMap<Digest, Entry>,
    /// In the order of their coming; one that was used since it last came to the front goes to the back instead of out.
    queue: VecDeque<Digest>,
    bytes: usize,
    shares: HashMap<Generation, usize>,
}

#[derive(Debug)]
struct Entry {
    held: Arc<Held<Verified>>,
    owner: Generation,
    bytes: usize,
    used: AtomicBool,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn shard(&self, digest: &Digest) -> Option<&RwLock<Shard>> {
        self.shards.get(usize::from(digest[0]) % SHARDS)
    }

    /// Bytes that are held now, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().bytes as u64).sum()
    }

    /// The token of this digest, as long as no key that could have signed it was withdrawn.
    pub(crate) fn get(&self, digest: &Digest, knowing: Knowing<'_>) -> Option<Arc<Held<Verified>>> {
        let shard = self.shard(digest)?.read();
        let entry = shard.kept.get(digest)?;
        if !knowing.good(&entry.held) {
            return None;
        }
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.held))
    }

    pub(crate) fn keep(&self, digest: Digest, held: Arc<Held<Verified>>) {
        let owner = match &held.value.subject {
            Subject::Credential { generation, .. } => generation.clone(),
            // Tokens that anybody may have share one share.
            Subject::Anonymous => Generation::installation(),
        };
        let entry = Entry { bytes: OVERHEAD + held.value.weight(), held, owner, used: AtomicBool::new(false) };
        if let Some(shard) = self.shard(&digest) {
            shard.write().keep(digest, entry);
        }
    }
}

impl Shard {
    fn keep(&mut self, digest: Digest, entry: Entry) {
        if entry.bytes > SHARE {
            return;
        }
        self.remove(&digest);
        while self.shares.get(&entry.owner).copied().unwrap_or_default() + entry.bytes > SHARE {
            let oldest = |digest: &&Digest| self.kept.get(*digest).is_some_and(|kept| kept.owner == entry.owner);
            let Some(oldest) = self.queue.iter().find(oldest).copied() else { return };
            self.remove(&oldest);
        }
        while self.bytes + entry.bytes > SHARD {
            let Some(front) = self.queue.front().copied() else { return };
            if self.kept.get(&front).is_some_and(|kept| kept.used.swap(false, Ordering::Relaxed)) {
                self.queue.rotate_left(1);
            } else {
                self.remove(&front);
            }
        }
        self.bytes += entry.bytes;
        *self.shares.entry(entry.owner.clone()).or_default() += entry.bytes;
        self.queue.push_back(digest);
        self.kept.insert(digest, entry);
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(entry) = self.kept.remove(digest) else { return };
        self.bytes -= entry.bytes;
        if let Some(share) = self.shares.get_mut(&entry.owner) {
            *share -= entry.bytes;
            if *share == 0 {
                self.shares.remove(&entry.owner);
            }
        }
        if let Some(at) = self.queue.iter().position(|queued| queued == digest) {
            self.queue.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::{Time, clock::ManualClock};

    use super::*;
    use crate::{
        id::Id,
        principal::Grant,
        secret::Kind,
        watch::{Moment, Watch},
    };

    fn verified(clock: &ManualClock, generation: &Generation) -> Arc<Held<Verified>> {
        let subject = Subject::Credential {
            account: "acme".parse().unwrap(),
            generation: generation.clone(),
            kind: Kind::Pull,
            id: Id::operator(),
        };
        let value = Verified { subject, grant: Grant::default(), expires: Time::UNIX_EPOCH };
        Arc::new(Held::new(value, 0, Moment::now(clock)))
    }

    /// A digest of the first shard.
    fn digest(n: u32) -> Digest {
        let mut digest = [0; 32];
        digest[1..5].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[test]
    fn one_account_s_tokens_leave_room_for_everybody_s_and_all_keep_to_the_bound() {
        let clock = ManualClock::at(Time::UNIX_EPOCH);
        let watch = Watch::default();
        let knowing = Knowing { watch: &watch, clock: &clock, cut_off: false };
        let cache = TokenCache::new();
        let quiet = Generation::random();
        cache.keep(digest(0), verified(&clock, &quiet));
        let loud = Generation::random();
        for n in 1..10_000 {
            cache.keep(digest(n), verified(&clock, &loud));
        }
        assert!(cache.get(&digest(0), knowing).is_some() && cache.get(&digest(9_999), knowing).is_some());
        assert!(cache.get(&digest(1), knowing).is_none());
        assert!(cache.bytes() <= SHARE as u64 + 1024, "{}", cache.bytes());
        for n in 10_000..20_000 {
            // What is used stays, whoever comes.
            assert!(cache.get(&digest(0), knowing).is_some(), "{n}");
            cache.keep(digest(n), verified(&clock, &Generation::random()));
        }
        assert!(cache.bytes() <= SHARD as u64 && cache.bytes() > SHARD as u64 / 2, "{}", cache.bytes());
        let shard = cache.shards[0].read();
        assert_eq!(shard.kept.len(), shard.queue.len());
        assert_eq!(shard.shares.values().sum::<usize>(), shard.bytes);
    }
}
