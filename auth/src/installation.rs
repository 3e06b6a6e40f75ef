//! [`Auth`] and what it finds, or seeds, when it opens a store: `sys/install`, `sys/keys`, `sys/authlog`.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use storage::{
    Clock, Time, UploadKeys,
    backend::Records,
    key::{self, RecordKey},
    record,
};
use zeroize::Zeroizing;

use crate::{
    audit::Audit,
    cache::{Cache, Single},
    declared::Accepted,
    dossier::{Dossier, KeyDossier, OperatorDossier, Subject},
    error::Error,
    host::{KnownHost, NoHost},
    id::Id,
    limit::{Buckets, Neighbourhood},
    live::Live,
    public::{PublicAccounts, PublicDossier},
    revocation::{Appends, AuthLog},
    seal::{Kept, SealKey},
    secret::{Secret, SecretKeys, derive},
    settings::Settings,
    signing_key::{Keyring, SigningKeys},
    token_cache::TokenCache,
    upkeep::Used,
    watch::{Moment, Watch},
};

/// The installation: its identity and the roots of every MAC key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InstallRecord {
    id: Id,
    created: Time,
    /// Newest first. A root is never removed: tags last as long as their secrets.
    mac_keys: Vec<Kept>,
}

const MAC_ROOT: &str = "MAC root";

/// Entries of a table of rates by address: 2 MiB.
const ADDRESSES: usize = 65_536;
/// Entries of a table of rates by credential, key or account.
const SUBJECTS: usize = 16_384;
/// Bytes of what decides about credentials.
const CACHED_CREDENTIALS: usize = 3 << 20;
/// Bytes of what decides about access keys.
const CACHED_KEYS: usize = 512 << 10;
/// Bytes of what accounts made public.
const CACHED_PUBLIC: usize = 448 << 10;
/// Bytes of names of accounts' own, and of names that are nobody's.
const CACHED_HOSTS: usize = 256 << 10;
/// Bytes of operator keys.
const CACHED_OPERATORS: usize = 64 << 10;

/// Everything that decides who may, over one store.
///
/// It holds no state of its own but caches of the store: any number of processes may have one over the same store.
#[derive(Debug)]
pub struct Auth {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) service: String,
    roots: Vec<Zeroizing<Vec<u8>>>,
    pub(crate) secrets: SecretKeys,
    pub(crate) declared: RwLock<Accepted>,
    pub(crate) watch: Watch,
    pub(crate) looking: tokio::sync::Mutex<()>,
    pub(crate) look_failed: RwLock<Option<Moment>>,
    pub(crate) stale_decisions: AtomicU64,
    pub(crate) appends: Appends,
    pub(crate) keyring: Single<Keyring>,
    pub(crate) public: Single<PublicAccounts>,
    pub(crate) publics: Cache<storage::Generation, PublicDossier>,
    pub(crate) hosts: Cache<String, KnownHost>,
    pub(crate) no_hosts: Cache<String, NoHost>,
    pub(crate) dossiers: Cache<Subject, Dossier>,
    pub(crate) key_dossiers: Cache<Subject, KeyDossier>,
    pub(crate) operator_dossiers: Cache<Id, OperatorDossier>,
    pub(crate) verified: TokenCache,
    pub(crate) failures: Buckets<Neighbourhood>,
    pub(crate) token_requests: Buckets<Id>,
    pub(crate) mints: Buckets<Id>,
    pub(crate) revocations: Buckets<storage::Generation>,
    pub(crate) live: Live,
    pub(crate) used: Used,
    pub(crate) audit: Audit,
}

/// Reads a record, or writes what `make` gives if there is none. Of racing openers one writes and all read the same.
async fn seed<T: Serialize + DeserializeOwned + Clone>(
    records: &dyn Records,
    key: &RecordKey,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(found) = record::read(records, key).await? {
        return Ok(found.value);
    }
    match record::create(records, key, make()?).await {
        Ok(written) => Ok(written.value),
        Err(storage::Error::Conflict) => match record::read(records, key).await? {
            Some(found) => Ok(found.value),
            None => Err(storage::Error::unavailable(format!("record {key} comes and goes")).into()),
        },
        Err(other) => Err(other.into()),
    }
}

impl Auth {
    /// Opens the store: finds the installation's identity and keys, or seeds them, each put-if-absent.
    ///
    /// [`Error::CannotOpen`] when the keys are sealed and the seal key is not there or not the one.
    pub async fn open(records: Arc<dyn Records>, clock: Arc<dyn Clock>, settings: Settings) -> Result<Self, Error> {
        let now = clock.now();
        let seal = settings.seal_key.as_ref();
        let install = seed(&*records, &key::install(), || {
            let mut root = Zeroizing::new([0; 32]);
            SystemRandom::new()
                .fill(root.as_mut())
                .map_err(|_| Error::CannotOpen("the system gives no random bytes".into()))?;
            Ok(InstallRecord {
                id: Id::new(now),
                created: now,
                mac_keys: vec![Kept::keep(root.as_ref(), MAC_ROOT, seal)?],
            })
        })
        .await?;
        let keys = seed(&*records, &key::signing_keys(), || SigningKeys::first(now, seal)).await?;
        seed(&*records, &key::authlog(), || Ok(AuthLog::first())).await?;
        // Opening them all now tells a wrong seal key at the start and not at the first token.
        Keyring::open(&keys, seal)?;
        let roots: Vec<_> = install.mac_keys.iter().map(|kept| kept.open(MAC_ROOT, seal)).collect::<Result<_, _>>()?;
        if roots.is_empty() {
            return Err(storage::Error::corrupt("sys/install has no MAC root").into());
        }
        if let Some(seal) = seal {
            seal_what_is_plain(&*records, seal).await?;
        }
        let auth = Self {
            service: format!("hythe-{}", install.id),
            secrets: SecretKeys::new(roots.iter().map(|root| root.as_slice())),
            roots,
            declared: RwLock::default(),
            watch: Watch::default(),
            looking: tokio::sync::Mutex::new(()),
            look_failed: RwLock::new(None),
            stale_decisions: AtomicU64::new(0),
            appends: Appends::default(),
            keyring: Single::new(),
            public: Single::new(),
            publics: Cache::new(CACHED_PUBLIC),
            hosts: Cache::new(CACHED_HOSTS),
            no_hosts: Cache::new(CACHED_HOSTS),
            dossiers: Cache::new(CACHED_CREDENTIALS),
            key_dossiers: Cache::new(CACHED_KEYS),
            operator_dossiers: Cache::new(CACHED_OPERATORS),
            verified: TokenCache::new(),
            failures: Buckets::new(settings.failures, ADDRESSES),
            token_requests: Buckets::new(settings.token_requests, SUBJECTS),
            mints: Buckets::new(settings.mints, SUBJECTS),
            revocations: Buckets::new(settings.revocations, SUBJECTS),
            live: Live::default(),
            used: Used::default(),
            audit: Audit::default(),
            records,
            clock,
            settings,
        };
        auth.follow().await?;
        Ok(auth)
    }

    /// Bytes of what is held of records, and of verified tokens.
    pub fn cached_bytes(&self) -> [(&'static str, u64); 2] {
        let records = [
            self.dossiers.bytes(),
            self.key_dossiers.bytes(),
            self.operator_dossiers.bytes(),
            self.publics.bytes(),
            self.hosts.bytes(),
            self.no_hosts.bytes(),
        ];
        [("records", records.iter().sum()), ("tokens", self.verified.bytes())]
    }

    /// `hythe-INSTALL`: issuer and audience of every token and the challenge's `service`. It stays when a host name changes.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// How long a revoked right may live on, at most.
    pub fn bound(&self) -> Duration {
        self.settings.bound
    }

    /// Reads a secret of this installation, or of a key that its configuration declares; neither costs a read.
    pub(crate) fn secret(&self, text: &str) -> Option<Secret> {
        self.secrets.parse(text).or_else(|| self.declared.read().parse(text))
    }

    /// The keys that sign the ids of upload sessions.
    pub fn upload_keys(&self) -> UploadKeys {
        let keys = self.keys_for("upload");
        UploadKeys::new(keys.iter().map(|key| &key[..]))
    }

    /// Keys of 32 bytes for one purpose, the newest first: it signs, all of them verify. Labels in use: `secret-tag`, `upload`,
    /// `page-token`, `file-url`.
    pub fn keys_for(&self, label: &str) -> Vec<Zeroizing<[u8; 32]>> {
        self.roots.iter().map(|root| derive(root, label)).collect()
    }
}

/// Seals what was written before there was a seal key.
async fn seal_what_is_plain(records: &dyn Records, seal: &SealKey) -> Result<(), Error> {
    record::modify(records, &key::install(), |install: &mut InstallRecord| {
        let mut changed = false;
        for kept in install.mac_keys.iter_mut().filter(|kept| kept.is_plain()) {
            *kept = Kept::keep(&kept.open(MAC_ROOT, None)?, MAC_ROOT, Some(seal))?;
            changed = true;
        }
        Ok::<_, Error>(changed)
    })
    .await?;
    record::modify(records, &key::signing_keys(), |keys: &mut SigningKeys| keys.seal(seal)).await?;
    Ok(())
}
