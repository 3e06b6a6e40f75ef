//! What decides about a secret, read together and cached together: account, key, credential.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use chrono::{Datelike, NaiveDate};
use storage::{Account, AccountName, Generation, generation::GenerationRecord, key, key::RecordKey, record};

use crate::{
    access_key::KeyRecord,
    account::{AccountRecord, AccountState, claimed},
    cache::{Knowing, Weighs},
    credential::{CredentialRecord, IssuerKind},
    id::Id,
    installation::Auth,
    operator_key::OperatorKeyRecord,
    principal::user_name,
    refusal::Refusal,
    revocation::What,
    scope::Pattern,
    watch::{Ends, Held},
};

/// What a credential or an access key is found by: both its halves stand in the secret and in the token.
pub(crate) type Subject = (Generation, Id);

/// The records that decide about a credential.
#[derive(Debug)]
pub(crate) struct Dossier {
    pub(crate) account: AccountRecord,
    pub(crate) credential: CredentialRecord,
    /// The key that minted it, by itself or in a session; `None` for one that was minted on the store or by a trust policy.
    pub(crate) parent: Option<KeyRecord>,
    pub(crate) id: Id,
    pub(crate) patterns: Arc<[Pattern]>,
    /// The user name.
    pub(crate) label: Arc<str>,
    pub(crate) noted: Noted,
}

/// The records that decide about an access key.
#[derive(Debug)]
pub(crate) struct KeyDossier {
    pub(crate) account: AccountRecord,
    pub(crate) key: KeyRecord,
    pub(crate) id: Id,
    pub(crate) patterns: Arc<[Pattern]>,
    pub(crate) noted: Noted,
}

/// The record of an operator key.
#[derive(Debug)]
pub(crate) struct OperatorDossier {
    pub(crate) key: OperatorKeyRecord,
    id: Id,
}

/// The last day on which a use was noted, so that it is noted once.
#[derive(Debug)]
pub(crate) struct Noted(AtomicI32);

impl Noted {
    fn new(known: Option<NaiveDate>) -> Self {
        Self(AtomicI32::new(known.map_or(i32::MIN, |day| day.num_days_from_ce())))
    }

    /// Whether this is the first use on this day that is noted here.
    pub(crate) fn first_on(&self, day: NaiveDate) -> bool {
        let day = day.num_days_from_ce();
        self.0.load(Ordering::Relaxed) != day && self.0.swap(day, Ordering::Relaxed) != day
    }
}

impl Ends for Dossier {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        *generation == self.account.generation
            && match what {
                What::Everything => true,
                What::Subject(id) => {
                    *id == self.id || *id == self.credential.by.id || self.credential.parents.contains(id)
                }
                What::Keys | What::Public | What::Hosts | What::All => false,
            }
    }
}

impl Ends for KeyDossier {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        *generation == self.account.generation
            && match what {
                What::Everything => true,
                What::Subject(id) => *id == self.id,
                What::Keys | What::Public | What::Hosts | What::All => false,
            }
    }
}

impl Ends for OperatorDossier {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        *generation == Generation::installation()
            && match what {
                What::Everything => true,
                What::Subject(id) => *id == self.id,
                What::Keys | What::Public | What::Hosts | What::All => false,
            }
    }
}

/// Texts of a record are short and bounded; what can be many are patterns, twice: in the record and for the holder.
fn patterns_weight(patterns: &[Pattern]) -> usize {
    patterns.iter().map(|pattern| 2 * (size_of::<Pattern>() + pattern.as_str().len())).sum()
}

/// Texts, ids and lists that a record keeps on the heap.
const TEXTS: usize = 512;

impl Weighs for Dossier {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + TEXTS
            + patterns_weight(&self.patterns)
            + self.account.display.len()
            + self.credential.label.len()
    }
}

impl Weighs for KeyDossier {
    fn weight(&self) -> usize {
        size_of::<Self>() + TEXTS + patterns_weight(&self.patterns) + self.account.display.len() + self.key.label.len()
    }
}

impl Weighs for OperatorDossier {
    fn weight(&self) -> usize {
        size_of::<Self>() + TEXTS
    }
}

impl Dossier {
    pub(crate) fn record_key(&self) -> RecordKey {
        key::credential(&self.account.account(), self.id.as_str())
    }
}

impl Auth {
    /// The dossier of a credential that somebody claims to be of this account; `None` if the name does not mean this generation
    /// now or there is no such credential.
    pub(crate) async fn dossier(
        &self,
        name: &AccountName,
        subject: &Subject,
        knowing: Knowing<'_>,
    ) -> Result<Option<Arc<Held<Dossier>>>, Refusal> {
        let found = self.dossiers.get(subject, knowing, || self.read_dossier(name, subject)).await?;
        Ok(found.filter(|held| held.value.account.name == *name))
    }

    /// Account and credential together, then the key between them.
    async fn read_dossier(&self, name: &AccountName, (generation, id): &Subject) -> Result<Option<Dossier>, Refusal> {
        let account = claimed(name.clone(), generation.clone());
        let credential_key = key::credential(&account, id.as_str());
        let (account_record, credential) = tokio::try_join!(
            self.account_record(name),
            record::read::<CredentialRecord>(&*self.records, &credential_key),
        )?;
        let (Some(account_record), Some(credential)) = (account_record, credential) else { return Ok(None) };
        let (account_record, mut credential) = (account_record.value, credential.value);
        if !is_meant(&account_record, &account) {
            return Ok(None);
        }
        let parent = match credential.by.kind {
            IssuerKind::Operator => None,
            IssuerKind::Key => {
                let Some(found) = self.read_key(&account, &credential.by.id).await? else { return Ok(None) };
                Some(found)
            }
            IssuerKind::Session => {
                // What was minted in a session outlives its close and its time. It ends when the session is revoked, and with the key.
                let session = key::credential(&account, credential.by.id.as_str());
                let found = record::read::<CredentialRecord>(&*self.records, &session).await?;
                let Some(session) = found.map(|document| document.value) else { return Ok(None) };
                credential.revoked_at = credential.revoked_at.or(session.revoked_at);
                let Some(found) = self.read_key(&account, &session.by.id).await? else { return Ok(None) };
                Some(found)
            }
            IssuerKind::Oidc => {
                // A policy ends what it gave, and says nothing else about it.
                let Some(end) = self.trust_end(&account, &credential.by.id).await? else { return Ok(None) };
                credential.revoked_at = credential.revoked_at.or(end);
                None
            }
        };
        Ok(Some(Dossier {
            patterns: credential.patterns.as_slice().into(),
            label: user_name(name, credential.kind, id).into(),
            noted: Noted::new(credential.last_used_day),
            id: id.clone(),
            account: account_record,
            credential,
            parent,
        }))
    }

    async fn read_key(&self, account: &Account, id: &Id) -> Result<Option<KeyRecord>, Refusal> {
        let found = record::read::<KeyRecord>(&*self.records, &key::access_key(account, id.as_str())).await?;
        Ok(found.map(|document| document.value))
    }

    /// The dossier of a session, which is presented without the name of its account.
    pub(crate) async fn session_dossier(
        &self,
        subject: &Subject,
        knowing: Knowing<'_>,
    ) -> Result<Option<Arc<Held<Dossier>>>, Refusal> {
        let read = async || match self.account_of(&subject.0).await? {
            Some(name) => self.read_dossier(&name, subject).await,
            None => Ok(None),
        };
        self.dossiers.get(subject, knowing, read).await
    }

    /// The account of a generation, as a label: what `acct/NAME` says decides.
    pub(crate) async fn account_of(&self, generation: &Generation) -> Result<Option<AccountName>, Refusal> {
        let found = record::read::<GenerationRecord>(&*self.records, &key::generation(generation)).await?;
        Ok(found.map(|document| document.value.name))
    }

    /// The dossier of an access key.
    pub(crate) async fn key_dossier(
        &self,
        subject: &Subject,
        knowing: Knowing<'_>,
    ) -> Result<Option<Arc<Held<KeyDossier>>>, Refusal> {
        let (generation, id) = subject;
        let read = async || {
            let Some(name) = self.account_of(generation).await? else { return Ok(None) };
            let account = claimed(name, generation.clone());
            let access_key = key::access_key(&account, id.as_str());
            let (account_record, found) = tokio::try_join!(
                self.account_record(account.name()),
                record::read::<KeyRecord>(&*self.records, &access_key),
            )?;
            let (Some(account_record), Some(found)) = (account_record, found) else { return Ok(None) };
            let (account_record, key) = (account_record.value, found.value);
            Ok::<_, Refusal>(is_meant(&account_record, &account).then(|| KeyDossier {
                patterns: key.patterns.as_slice().into(),
                noted: Noted::new(key.last_used_day),
                id: id.clone(),
                account: account_record,
                key,
            }))
        };
        self.key_dossiers.get(subject, knowing, read).await
    }

    /// The record of an operator key.
    pub(crate) async fn operator_dossier(
        &self,
        id: &Id,
        knowing: Knowing<'_>,
    ) -> Result<Option<Arc<Held<OperatorDossier>>>, Refusal> {
        let read = async || {
            let found = record::read::<OperatorKeyRecord>(&*self.records, &key::operator_key(id.as_str())).await?;
            Ok::<_, Refusal>(found.map(|document| OperatorDossier { key: document.value, id: id.clone() }))
        };
        self.operator_dossiers.get(id, knowing, read).await
    }
}

/// Whether the name means this generation now.
pub(crate) fn is_meant(record: &AccountRecord, account: &Account) -> bool {
    record.generation == *account.generation() && record.state != AccountState::Deleted
}
