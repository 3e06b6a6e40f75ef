//! Trust policies of an account: made, read, deleted.

use storage::{Account, AccountName, Time, key, record};

use super::policy::{Bounds, NewTrust, TrustDocument, TrustRecord, check};
use crate::{
    audit::{Entry, Happened},
    error::Error,
    id::Id,
    installation::Auth,
    page::{Listing, Page, one_page},
    principal::Actor,
    revocation::{Ended, What},
    right::Right,
};

const NO_TRUST: Error = Error::NotFound { what: "trust policy" };

impl Auth {
    /// Makes a trust policy; the owner's and the store's. `audience` is what its tokens are for unless the request says it.
    pub async fn create_trust(
        &self,
        actor: &Actor,
        name: &AccountName,
        new: &NewTrust,
        audience: &str,
    ) -> Result<TrustDocument, Error> {
        let maker = self.admit(actor, Right::MakeTrusts, Some(name))?;
        let account = self.living(name).await?.value;
        let now = self.clock.now();
        let bounds = Bounds { account: &account, maker, audience, trusted: &self.settings.trusted_issuers, now };
        let fresh = check(new, &bounds).map_err(Error::Invalid)?;
        let id = Id::new(now);
        let written = record::create(&*self.records, &key::trust(&account.account(), id.as_str()), fresh).await?;
        tracing::info!(event = "trust.create", account = %name, trust = %id, issuer = new.issuer, actor = actor.label(), "trust policy was made");
        self.record(Entry::new(Happened::TrustCreate, actor).of(&account.account()).target(id.as_str())).await?;
        Ok(TrustDocument::new(id, written.rev(), written.value))
    }

    /// The trust policies of an account, oldest first; the owner's and a viewer's.
    pub async fn list_trusts(
        &self,
        actor: &Actor,
        name: &AccountName,
        page: &Page,
    ) -> Result<Listing<TrustDocument>, Error> {
        self.admit(actor, Right::ReadTrusts, Some(name))?;
        let account = self.living(name).await?.value.account();
        one_page::<TrustRecord, _>(&*self.records, &key::trusts(&account), page, |id, document| {
            let rev = document.rev();
            let living = document.value.deleted_at.is_none();
            living.then(|| id.parse().ok()).flatten().map(|id| TrustDocument::new(id, rev, document.value))
        })
        .await
    }

    /// One trust policy; the owner's and a viewer's.
    pub async fn get_trust(&self, actor: &Actor, name: &AccountName, id: &Id) -> Result<TrustDocument, Error> {
        self.admit(actor, Right::ReadTrusts, Some(name))?;
        let account = self.living(name).await?.value.account();
        let found = record::read::<TrustRecord>(&*self.records, &key::trust(&account, id.as_str())).await?;
        let found = found.filter(|document| document.value.deleted_at.is_none()).ok_or(NO_TRUST)?;
        let rev = found.rev();
        Ok(TrustDocument::new(id.clone(), rev, found.value))
    }

    /// Deletes a trust policy: it and every credential that was given by it are dead within the bound. `if_match` is the
    /// [`TrustDocument::rev`] that the caller saw; of one that is deleted already it is not asked, so that a call can be repeated
    /// whose end may not have been told everywhere.
    pub async fn delete_trust(
        &self,
        actor: &Actor,
        name: &AccountName,
        id: &Id,
        if_match: Option<u64>,
    ) -> Result<Ended, Error> {
        self.admit(actor, Right::EndTrusts, Some(name))?;
        let account = self.living(name).await?.value.account();
        let now = self.clock.now();
        let mut admission = self.revocation(account.generation());
        let trust_key = key::trust(&account, id.as_str());
        loop {
            let mut found = record::read::<TrustRecord>(&*self.records, &trust_key).await?.ok_or(NO_TRUST)?;
            if found.value.deleted_at.is_none() && if_match.is_some_and(|seen| seen != found.rev()) {
                return Err(Error::Changed { rev: found.rev() });
            }
            admission.ask()?;
            if found.value.deleted_at.is_some() {
                break;
            }
            found.value.deleted_at = Some(now);
            match record::update(&*self.records, &trust_key, &mut found).await {
                Ok(()) => break,
                // Nothing changes a policy but its deletion, so it is found deleted next.
                Err(storage::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        let effective_by = self.log_end(account.generation(), What::Subject(id.clone())).await?;
        tracing::info!(event = "trust.delete", account = %name, trust = %id, actor = actor.label(), "trust policy was deleted");
        self.record(Entry::new(Happened::TrustDelete, actor).of(&account).target(id.as_str())).await?;
        Ok(Ended { effective_by })
    }

    /// When a credential's policy was deleted; the outer `None`: there is none any more.
    pub(crate) async fn trust_end(&self, account: &Account, id: &Id) -> Result<Option<Option<Time>>, storage::Error> {
        let found = record::read::<TrustRecord>(&*self.records, &key::trust(account, id.as_str())).await?;
        Ok(found.map(|document| document.value.deleted_at))
    }
}
