//! What an account lets anybody pull.

use serde::{Deserialize, Serialize};
use storage::{
    Account, AccountName, Generation, RepositoryName, key,
    record::{self, Document},
};

use crate::{
    account::AccountState,
    cache::Weighs,
    error::{Error, Invalid},
    follow::Standing,
    installation::Auth,
    principal::{Actor, Public, PublicAccount},
    refusal::Refusal,
    revocation::What,
    right::Right,
    scope::Pattern,
    watch::Ends,
};

/// `sys/public`: the accounts that have something public, and nothing else. An account that has nothing is never read for a
/// stranger.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PublicAccounts {
    accounts: Vec<(AccountName, Generation)>,
}

/// `auth/GEN/public`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PublicRecord {
    patterns: Vec<Pattern>,
    /// Whether a public service of the account may be pulled anonymously.
    #[serde(default)]
    release: bool,
}

/// What is public, as the API shows and takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicDocument {
    /// Patterns of repositories that anybody may pull from.
    pub patterns: Vec<String>,
    /// The record's `rev`, its `ETag`: 0 as long as nothing was ever said.
    #[serde(skip)]
    pub rev: u64,
}

/// What decides about strangers in one account, read together.
#[derive(Debug)]
pub(crate) struct PublicDossier {
    account: Account,
    open: bool,
    patterns: Vec<Pattern>,
}

impl Ends for PublicAccounts {
    fn ended_by(&self, _: &Generation, what: &What) -> bool {
        matches!(what, What::Public | What::Everything)
    }
}

impl Ends for PublicDossier {
    fn ended_by(&self, generation: &Generation, what: &What) -> bool {
        generation == self.account.generation() && matches!(what, What::Public | What::Everything)
    }
}

impl Weighs for PublicDossier {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.patterns.iter().map(|pattern| size_of::<Pattern>() + pattern.as_str().len()).sum::<usize>()
    }
}

impl PublicDocument {
    fn new(patterns: &[Pattern], rev: u64) -> Self {
        Self { patterns: patterns.iter().map(Pattern::to_string).collect(), rev }
    }
}

/// The record of what is public in an account, as it was written or found to be right.
pub(crate) struct Published {
    rev: u64,
    /// What was public until then.
    pub(crate) before: Vec<Pattern>,
}

/// Most public patterns of an account.
const MOST: usize = 256;

/// Reads patterns of one account; each bad one is told with its place.
pub(crate) fn parse_patterns(
    account: &AccountName,
    field: &str,
    texts: &[String],
) -> Result<Vec<Pattern>, Vec<Invalid>> {
    if texts.len() > MOST {
        return Err(vec![Invalid::new(field, format!("at most {MOST} patterns"))]);
    }
    let (mut patterns, mut invalid) = (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        let wrong = |message: String| Invalid::new(format!("{field}/{i}"), message);
        match text.parse::<Pattern>() {
            Ok(pattern) if pattern.is_of(account) => patterns.push(pattern),
            Ok(_) => invalid.push(wrong(format!("a pattern of this account begins with {account}/"))),
            Err(error) => invalid.push(wrong(error.to_string())),
        }
    }
    if invalid.is_empty() { Ok(patterns) } else { Err(invalid) }
}

impl Auth {
    /// What is public in an account: the owner and a viewer read it, and the operator on the store.
    pub async fn get_public(&self, actor: &Actor, name: &AccountName) -> Result<PublicDocument, Error> {
        self.admit(actor, Right::ReadPublic, Some(name))?;
        let account = self.living(name).await?.value.account();
        let found = record::read::<PublicRecord>(&*self.records, &key::public(&account)).await?;
        let rev = found.as_ref().map_or(0, Document::rev);
        let patterns = found.map(|document| document.value.patterns).unwrap_or_default();
        Ok(PublicDocument::new(&patterns, rev))
    }

    /// Says what is public in an account from now on; the owner's. What goes private does so within the bound. `if_match` is the
    /// [`PublicDocument::rev`] that the caller saw.
    pub async fn set_public(
        &self,
        actor: &Actor,
        name: &AccountName,
        document: &PublicDocument,
        if_match: Option<u64>,
    ) -> Result<PublicDocument, Error> {
        let key = self.admit(actor, Right::SetPublic, Some(name))?;
        let patterns = parse_patterns(name, "/patterns", &document.patterns).map_err(Error::Invalid)?;
        if let Some(key) = key
            && let Some(outside) = patterns.iter().position(|p| !key.patterns.iter().any(|own| own.covers(p)))
        {
            let field = format!("/patterns/{outside}");
            return Err(Error::Invalid(vec![Invalid::new(field, "outside the patterns of this key")]));
        }
        let account = self.living(name).await?.value.account();
        let Published { rev, before } = self.publish(&account, &patterns, if_match).await?;
        if before == patterns {
            // Whoever asks again may have been told that the log could not be written.
            self.log_end(account.generation(), What::Public).await?;
        }
        self.record_public(actor, &account, &before, &patterns).await?;
        tracing::info!(event = "repo.public", account = %name, actor = actor.label(), patterns = patterns.len(), "public patterns were set");
        Ok(PublicDocument::new(&patterns, rev))
    }

    /// Makes these patterns what is public in an account, and nothing else: the record, then the list of accounts that have any, then
    /// what every replica has to know.
    pub(crate) async fn publish(
        &self,
        account: &Account,
        patterns: &[Pattern],
        if_match: Option<u64>,
    ) -> Result<Published, Error> {
        let published = self.swap_public(account, patterns, if_match).await?;
        if patterns.is_empty() {
            self.unlist_public(account).await?;
        } else {
            self.list_public(account).await?;
        }
        // What became public is told as well as what became private: it is cached the same.
        if published.before != patterns {
            self.log_end(account.generation(), What::Public).await?;
        }
        Ok(published)
    }

    /// Writes the patterns under compare-and-swap, if they are others.
    async fn swap_public(
        &self,
        account: &Account,
        patterns: &[Pattern],
        if_match: Option<u64>,
    ) -> Result<Published, Error> {
        let public_key = key::public(account);
        for _ in 0..16 {
            let found = record::read::<PublicRecord>(&*self.records, &public_key).await?;
            let rev = found.as_ref().map_or(0, Document::rev);
            if if_match.is_some_and(|seen| seen != rev) {
                return Err(Error::Changed { rev });
            }
            let written = match found {
                Some(document) if document.value.patterns == patterns => {
                    Ok(Published { rev, before: document.value.patterns })
                }
                Some(mut document) => {
                    let before = std::mem::replace(&mut document.value.patterns, patterns.to_vec());
                    let updated = record::update(&*self.records, &public_key, &mut document).await;
                    updated.map(|()| Published { rev: document.rev(), before })
                }
                None => {
                    let fresh = PublicRecord { patterns: patterns.to_vec(), release: false };
                    let created = record::create(&*self.records, &public_key, fresh).await;
                    created.map(|document| Published { rev: document.rev(), before: Vec::new() })
                }
            };
            match written {
                Err(storage::Error::Conflict) => {}
                written => return Ok(written?),
            }
        }
        Err(storage::Error::unavailable("what is public is changed by too many at once").into())
    }

    async fn list_public(&self, account: &Account) -> Result<(), Error> {
        let entry = (account.name().clone(), account.generation().clone());
        let listed = record::modify(&*self.records, &key::public_accounts(), |list: &mut PublicAccounts| {
            let absent = !list.accounts.contains(&entry);
            if absent {
                list.accounts.push(entry.clone());
            }
            Ok::<_, Error>(absent)
        })
        .await?;
        if listed.is_none() {
            let first = PublicAccounts { accounts: vec![entry] };
            match record::create(&*self.records, &key::public_accounts(), first).await {
                Ok(_) => {}
                // Somebody else's was first: add to that. It is never removed again, so this ends.
                Err(storage::Error::Conflict) => return Box::pin(self.list_public(account)).await,
                Err(other) => return Err(other.into()),
            }
        }
        self.public.forget();
        Ok(())
    }

    pub(crate) async fn unlist_public(&self, account: &Account) -> Result<(), Error> {
        record::modify(&*self.records, &key::public_accounts(), |list: &mut PublicAccounts| {
            let before = list.accounts.len();
            list.accounts.retain(|(_, generation)| generation != account.generation());
            Ok::<_, Error>(list.accounts.len() != before)
        })
        .await?;
        self.public.forget();
        Ok(())
    }

    /// What is public now in the account that a name belongs to. Never guessed: without the log it is refused.
    pub(crate) async fn public_for(&self, name: &RepositoryName, standing: Standing) -> Result<Public, Refusal> {
        let knowing = self.knowing(standing.or_refuse()?);
        let read = async {
            let found = record::read::<PublicAccounts>(&*self.records, &key::public_accounts()).await?;
            Ok::<_, storage::Error>(found.map(|document| document.value).unwrap_or_default())
        };
        let listed = self.public.get(knowing, read).await?;
        let Some((name, generation)) = listed.value.accounts.iter().find(|(listed, _)| listed == name.account()) else {
            return Ok(Public::default());
        };
        let read = async || {
            let Some(record) = self.account_record(name).await?.map(|document| document.value) else { return Ok(None) };
            let account = record.account();
            let open = matches!(record.state, AccountState::Active | AccountState::ReadOnly);
            let found = record::read::<PublicRecord>(&*self.records, &key::public(&account)).await?;
            let patterns = found.map(|document| document.value.patterns).unwrap_or_default();
            Ok::<_, storage::Error>(Some(PublicDossier { account, open, patterns }))
        };
        let found = self.publics.get(generation, knowing, read).await?;
        let meant = found.filter(|held| held.value.open && held.value.account.generation() == generation);
        Ok(Public(meant.map(|held| {
            let PublicDossier { account, patterns, .. } = &held.value;
            PublicAccount { account: account.clone(), patterns: patterns.clone() }
        })))
    }
}
