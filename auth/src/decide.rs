//! From who asks, what and where to a permit or a refusal: synchronous and without a store, so that a refusal costs no storage
//! call and is the same for what exists and what does not.

use std::{marker::PhantomData, sync::Arc};

use storage::{Account, Deletable, Opener, Readable, Repository, RepositoryName, Writable};

use crate::{
    id::Id,
    principal::{Actor, Frozen, Grant, Holder, KeyHolder, Principal, View},
    refusal::{Reason, Refusal},
    role::Role,
    scope::{Actions, Scopes},
    secret::Kind,
};

/// A right on a repository: [`Pull`], [`Push`] or [`Delete`].
pub trait Action: sealed::Sealed + Send + Sync + 'static {
    /// The same as a set.
    const ACTION: Actions;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! action {
    ($($(#[$doc:meta])* $name:ident = $actions:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Action for $name {
            const ACTION: Actions = Actions::$actions;
        }
    )*};
}
action! {
    /// To read.
    Pull = PULL;
    /// To write.
    Push = PUSH;
    /// To delete.
    Delete = DELETE;
}

/// Permission as a value: one principal may do `A` in one repository. Only this module makes one; storage is entered with the
/// capability that it yields.
#[derive(Debug, Clone)]
pub struct Permit<A> {
    repository: Repository,
    view: View,
    subject: Id,
    label: Arc<str>,
    warning: Option<String>,
    quota: Option<u64>,
    action: PhantomData<fn() -> A>,
}

impl<A> Permit<A> {
    /// The account of the repository.
    pub fn account(&self) -> &Account {
        self.repository.account()
    }

    /// The repository's name.
    pub fn name(&self) -> &RepositoryName {
        self.repository.name()
    }

    /// What the reach means.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The mark for an upload session: the credential's or key's id; sixteen `0` for nobody.
    pub fn opener(&self) -> Opener {
        self.subject.opener()
    }

    /// Who, for logs: a user name, a key's id, `anonymous`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The text of the `Warning` header, once less than a fifth of the credential's life is left.
    pub fn expiry_warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

impl Permit<Pull> {
    /// The right to read.
    #[expect(clippy::disallowed_methods, reason = "a permit is what yields a capability")]
    pub fn repository(&self) -> Readable {
        Readable::new(self.repository.clone())
    }
}

impl Permit<Push> {
    /// The right to write, within the account's quota.
    #[expect(clippy::disallowed_methods, reason = "a permit is what yields a capability")]
    pub fn repository(&self) -> Writable {
        Writable::new(self.repository.clone()).within(self.quota)
    }
}

impl Permit<Delete> {
    /// The right to delete.
    #[expect(clippy::disallowed_methods, reason = "a permit is what yields a capability")]
    pub fn repository(&self) -> Deletable {
        Deletable::new(self.repository.clone())
    }
}

fn permit<A>(account: &Account, name: &RepositoryName, holder: Option<&Holder>) -> Result<Permit<A>, Refusal> {
    // The account was found under the name's first segment, so they agree; were they not to, nothing is known of the name.
    let repository = Repository::new(account.clone(), name.clone()).ok_or(Refusal::InvalidToken)?;
    Ok(Permit {
        repository,
        view: holder.map_or(View::Live, |h| h.view.clone()),
        subject: holder.map_or_else(Id::operator, |h| h.id.clone()),
        label: holder.map_or_else(|| "anonymous".into(), |h| Arc::clone(&h.label)),
        warning: holder.and_then(Holder::expiry_warning),
        quota: holder.and_then(|h| h.quota),
        action: PhantomData,
    })
}

/// May this principal do `A` in this repository?
pub fn authorize<A: Action>(who: &Principal, name: &RepositoryName) -> Result<Permit<A>, Refusal> {
    match who {
        Principal::Anonymous(public) => match public.covers(name) {
            Some(account) if reads::<A>() => permit(account, name, None),
            _ => Err(Refusal::Unauthenticated(None)),
        },
        Principal::AnonymousToken(public) => match public.covers(name) {
            Some(account) if reads::<A>() => permit(account, name, None),
            _ => Err(Refusal::InvalidToken),
        },
        Principal::Credential(holder) => decide(holder, None, name),
        Principal::Token(holder, grant) => decide(holder, Some(grant), name),
        Principal::ExpiredToken(..) => Err(Refusal::InvalidToken),
    }
}

fn reads<A: Action>() -> bool {
    A::ACTION == Actions::PULL
}

fn decide<A: Action>(holder: &Holder, grant: Option<&Grant>, name: &RepositoryName) -> Result<Permit<A>, Refusal> {
    if !holder.covers(name) {
        if let (Some(account), true) = (holder.public.covers(name), reads::<A>()) {
            return permit(account, name, Some(holder));
        }
        if let Some(host) = holder.elsewhere().filter(|host| *host != name.account()) {
            return Err(Refusal::Denied(Reason::OtherHost { host: host.clone() }));
        }
        // On another account's host nothing can be pushed to one's own.
        let foreign = name.account() != holder.account.name() && holder.elsewhere().is_none();
        return Err(Refusal::Denied(Reason::OutsideReach {
            reach: holder.patterns.to_vec(),
            asked: name.clone(),
            own: (foreign && !reads::<A>()).then(|| holder.account.name().clone()),
        }));
    }
    if !holder.actions.closed().contains(A::ACTION) {
        return Err(Refusal::Denied(if A::ACTION == Actions::DELETE {
            Reason::MayNotDelete
        } else {
            Reason::WrongKind { kind: holder.kind, account: None }
        }));
    }
    if let Some(grant) = grant
        && !grant.has(name, A::ACTION)
    {
        if let (Some(account), true) = (holder.public.covers(name), reads::<A>()) {
            return permit(account, name, Some(holder));
        }
        let wanted = if A::ACTION == Actions::PUSH { A::ACTION.closed() } else { A::ACTION };
        return Err(Refusal::InsufficientScope(Scopes::of(name, wanted)));
    }
    if !reads::<A>() {
        thawed(holder.frozen, &holder.account)?;
    }
    permit(&holder.account, name, Some(holder))
}

/// Writes go on unless account or server is read-only.
pub(crate) fn thawed(frozen: Option<Frozen>, account: &Account) -> Result<(), Refusal> {
    match frozen {
        None => Ok(()),
        Some(Frozen::Server) => Err(Refusal::ReadOnly { account: None }),
        Some(Frozen::Account) => Err(Refusal::ReadOnly { account: Some(account.name().clone()) }),
    }
}

/// May this principal go on with the upload session that `opener` opened (PATCH, PUT, GET, DELETE of
/// `/blobs/uploads/ID`)? Any push right for the repository will do; and a token whose only defect is a recent expiry, for the
/// sessions of its own credential, so that no layer dies because its credential did while it travelled.
pub fn authorize_upload(who: &Principal, name: &RepositoryName, opener: &Opener) -> Result<Permit<Push>, Refusal> {
    let Principal::ExpiredToken(holder, grant) = who else { return authorize(who, name) };
    let own = holder.id.opener() == *opener;
    if !own || !grant.has(name, Actions::PUSH) || !holder.covers(name) || !holder.actions.contains(Actions::PUSH) {
        return Err(Refusal::InvalidToken);
    }
    thawed(holder.frozen, &holder.account)?;
    permit(&holder.account, name, Some(holder))
}

/// May this principal see that `/v2/` is a registry it is logged in to? Living credentials only.
pub fn authorize_ping(who: &Principal) -> Result<(), Refusal> {
    match who {
        Principal::Credential(_) | Principal::Token(..) => Ok(()),
        Principal::Anonymous(_) | Principal::AnonymousToken(_) => Err(Refusal::Unauthenticated(None)),
        Principal::ExpiredToken(..) => Err(Refusal::InvalidToken),
    }
}

/// May this principal list the repositories of its account? It needs all of them, and a token the scope `registry:catalog:*`.
pub fn authorize_catalog(who: &Principal) -> Result<Account, Refusal> {
    let (holder, granted) = match who {
        Principal::Anonymous(_) => return Err(Refusal::Unauthenticated(None)),
        Principal::AnonymousToken(_) | Principal::ExpiredToken(..) => return Err(Refusal::InvalidToken),
        Principal::Credential(holder) => (holder, true),
        Principal::Token(holder, grant) => (holder, grant.has_catalog()),
    };
    if let Some(host) = holder.elsewhere() {
        return Err(Refusal::Denied(Reason::OtherHost { host: host.clone() }));
    }
    if !holder.covers_all() {
        return Err(Refusal::Denied(Reason::NoCatalog { reach: holder.patterns.to_vec() }));
    }
    if !granted {
        return Err(Refusal::InsufficientScope(Scopes::catalog()));
    }
    Ok(holder.account.clone())
}

/// May this actor do `A` in this repository by the API? A key within its patterns: every role reads, owner and publisher write,
/// deleting needs `delete` (an owner has it).
pub fn authorize_actor<A: Action>(who: &Actor, name: &RepositoryName) -> Result<Permit<A>, Refusal> {
    let key = match who {
        Actor::AccessKey(key) => key,
        Actor::OperatorKey { .. } | Actor::Store => return Err(Refusal::Denied(Reason::Operator)),
    };
    if !key.covers(name) {
        return Err(Refusal::Denied(Reason::OutsideReach {
            reach: key.patterns.to_vec(),
            asked: name.clone(),
            own: None,
        }));
    }
    if !reads::<A>() {
        if !matches!(key.role, Role::Owner | Role::Publisher) {
            return Err(Refusal::Denied(Reason::Role(key.role)));
        }
        if key.retired {
            return Err(Refusal::Denied(Reason::Retired));
        }
        if A::ACTION == Actions::DELETE && key.role != Role::Owner && !key.actions.contains(Actions::DELETE) {
            return Err(Refusal::Denied(Reason::MayNotDelete));
        }
        thawed(key.frozen, &key.account)?;
    }
    let repository = Repository::new(key.account.clone(), name.clone()).ok_or(Refusal::InvalidToken)?;
    Ok(Permit {
        repository,
        view: View::Live,
        subject: key.id.clone(),
        label: key_label(key).into(),
        warning: None,
        quota: key.quota,
        action: PhantomData,
    })
}

fn key_label(key: &KeyHolder) -> String {
    format!("{}.key.{}", key.account.name(), key.id)
}

/// The kinds that log in.
pub(crate) const fn logs_in(kind: Kind) -> bool {
    matches!(kind, Kind::Pull | Kind::Push)
}
