//! What each call of the API needs of who makes it: one table, decided from the key and the account's name alone.

use storage::AccountName;

use crate::{
    decide::thawed,
    installation::Auth,
    principal::{Actor, KeyHolder, Whence},
    refusal::{Reason, Refusal},
    role::Role,
    scope::Actions,
};

/// What a call does to accounts, keys and credentials. Closed: a new call does not compile until its row is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// To list the accounts.
    ListAccounts,
    /// To make and delete accounts.
    KeepAccounts,
    /// To read an account.
    ReadAccount,
    /// To change an account.
    ChangeAccount,
    /// To read what is public in an account.
    ReadPublic,
    /// To say what is public in an account.
    SetPublic,
    /// To read access keys, without their secrets.
    ReadKeys,
    /// To make access keys.
    MakeKeys,
    /// To retire and revoke access keys.
    EndKeys,
    /// To read credentials, without their secrets.
    ReadCredentials,
    /// To mint credentials.
    Mint,
    /// To revoke credentials.
    EndCredentials,
    /// To read trust policies.
    ReadTrusts,
    /// To make trust policies.
    MakeTrusts,
    /// To delete trust policies, and with them what they gave.
    EndTrusts,
    /// To read repositories, their settings and tags, within the key's patterns.
    ReadRepositories,
    /// To change the settings of repositories.
    ChangeRepositories,
    /// To delete repositories and tags, within the key's patterns and if it has `delete`.
    DeleteContent,
    /// To read the rules by which things go, and to try some.
    ReadRetention,
    /// To say by which rules things go.
    SetRetention,
    /// To read how much an account keeps.
    ReadUsage,
    /// To read how much every account keeps.
    ReadAllUsage,
    /// To read an account's audit.
    ReadAudit,
    /// To read the installation's audit.
    ReadInstallationAudit,
    /// To open a session, in whatever account the key is of: the key by itself.
    OpenSession,
    /// To ask about the session that asks and to close it: a session.
    OwnSession,
}

/// What a right does, where a retired key or a read-only account makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    /// Goes on while the account is read-only, so that its pulls do; not with a retired key.
    Mints,
    /// Always goes on.
    Ends,
    /// Neither with a retired key nor while the account is read-only.
    Writes,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 26] = [
        Self::ListAccounts,
        Self::KeepAccounts,
        Self::ReadAccount,
        Self::ChangeAccount,
        Self::ReadPublic,
        Self::SetPublic,
        Self::ReadKeys,
        Self::MakeKeys,
        Self::EndKeys,
        Self::ReadCredentials,
        Self::Mint,
        Self::EndCredentials,
        Self::ReadTrusts,
        Self::MakeTrusts,
        Self::EndTrusts,
        Self::ReadRepositories,
        Self::ChangeRepositories,
        Self::DeleteContent,
        Self::ReadRetention,
        Self::SetRetention,
        Self::ReadUsage,
        Self::ReadAllUsage,
        Self::ReadAudit,
        Self::ReadInstallationAudit,
        Self::OpenSession,
        Self::OwnSession,
    ];

    /// The roles whose access keys have it, in their own account; of [`Right::OwnSession`], the keys of the sessions.
    pub const fn roles(self) -> &'static [Role] {
        use Role::{Installer, Owner, Publisher, Viewer};
        match self {
            Self::ListAccounts | Self::KeepAccounts | Self::ReadAllUsage | Self::ReadInstallationAudit => &[],
            Self::ChangeAccount
            | Self::SetPublic
            | Self::MakeKeys
            | Self::EndKeys
            | Self::MakeTrusts
            | Self::EndTrusts
            | Self::ChangeRepositories
            | Self::SetRetention => &[Owner],
            Self::ReadKeys | Self::ReadTrusts | Self::ReadAudit => &[Owner, Viewer],
            Self::DeleteContent => &[Owner, Publisher],
            Self::ReadAccount
            | Self::ReadPublic
            | Self::ReadCredentials
            | Self::ReadRepositories
            | Self::ReadRetention
            | Self::ReadUsage => &[Owner, Publisher, Viewer],
            Self::Mint | Self::EndCredentials => &[Owner, Publisher, Installer],
            Self::OpenSession | Self::OwnSession => &[Owner, Publisher, Installer, Viewer],
        }
    }

    /// Whether an operator key has it, in every account.
    pub const fn operator(self) -> bool {
        match self {
            Self::ListAccounts
            | Self::KeepAccounts
            | Self::ReadAccount
            | Self::ChangeAccount
            | Self::ReadUsage
            | Self::ReadAllUsage
            | Self::ReadInstallationAudit => true,
            Self::ReadPublic
            | Self::SetPublic
            | Self::ReadKeys
            | Self::MakeKeys
            | Self::EndKeys
            | Self::ReadCredentials
            | Self::Mint
            | Self::EndCredentials
            | Self::ReadTrusts
            | Self::MakeTrusts
            | Self::EndTrusts
            | Self::ReadRepositories
            | Self::ChangeRepositories
            | Self::DeleteContent
            | Self::ReadRetention
            | Self::SetRetention
            | Self::ReadAudit
            | Self::OpenSession
            | Self::OwnSession => false,
        }
    }

    const fn effect(self) -> Effect {
        match self {
            Self::ListAccounts
            | Self::ReadAccount
            | Self::ReadPublic
            | Self::ReadKeys
            | Self::ReadCredentials
            | Self::ReadTrusts
            | Self::ReadRepositories
            | Self::ReadRetention
            | Self::ReadUsage
            | Self::ReadAllUsage
            | Self::ReadAudit
            | Self::ReadInstallationAudit => Effect::Reads,
            Self::Mint | Self::OpenSession => Effect::Mints,
            Self::EndKeys | Self::EndCredentials | Self::EndTrusts | Self::OwnSession => Effect::Ends,
            Self::KeepAccounts
            | Self::ChangeAccount
            | Self::SetPublic
            | Self::MakeKeys
            | Self::MakeTrusts
            | Self::ChangeRepositories
            | Self::SetRetention
            | Self::DeleteContent => Effect::Writes,
        }
    }
}

impl Whence<'_> {
    /// Whether a call that names this account, or none, may be made there: on an account's host there are no other accounts, and no
    /// list of them.
    pub fn admit(self, account: Option<&AccountName>) -> Result<(), Refusal> {
        match self.only {
            Some(host) if account != Some(host) => Err(Refusal::Denied(Reason::OtherHost { host: host.clone() })),
            _ => Ok(()),
        }
    }
}

impl Auth {
    /// Whether an actor has a right in an account; `None` is a name that no account can have, or no name where none is needed.
    /// Gives the access key behind the actor, if there is one. Reads nothing, so what exists and what does not look the same.
    pub fn admit<'a>(
        &self,
        actor: &'a Actor,
        right: Right,
        account: Option<&AccountName>,
    ) -> Result<Option<&'a KeyHolder>, Refusal> {
        let key = match actor {
            Actor::OperatorKey { .. } if !right.operator() => return Err(Refusal::Denied(Reason::Operator)),
            Actor::OperatorKey { .. } if right.effect() == Effect::Writes && self.settings.read_only => {
                return Err(Refusal::ReadOnly { account: None });
            }
            Actor::Store | Actor::OperatorKey { .. } => return Ok(None),
            Actor::AccessKey(key) => key,
        };
        match (right, key.is_session()) {
            (Right::OpenSession, true) => return Err(Refusal::Denied(Reason::InSession)),
            (Right::OwnSession, false) => return Err(Refusal::Denied(Reason::NoSession)),
            _ => {}
        }
        // A session is of its key's account, which nobody names.
        let somewhere = !right.roles().is_empty() && !matches!(right, Right::OpenSession | Right::OwnSession);
        if somewhere && account != Some(key.account.name()) {
            return Err(Refusal::Denied(Reason::OtherAccount { own: key.account.name().clone() }));
        }
        if !right.roles().contains(&key.role) {
            return Err(Refusal::Denied(Reason::Role(key.role)));
        }
        if right == Right::DeleteContent && key.role != Role::Owner && !key.actions.contains(Actions::DELETE) {
            return Err(Refusal::Denied(Reason::MayNotDelete));
        }
        let whole = matches!(right, Right::ReadUsage | Right::ReadAudit | Right::ReadRetention | Right::SetRetention);
        if whole && !key.covers_all() {
            return Err(Refusal::Denied(Reason::WholeAccount { reach: key.patterns.to_vec() }));
        }
        if key.retired && matches!(right.effect(), Effect::Mints | Effect::Writes) {
            return Err(Refusal::Denied(Reason::Retired));
        }
        if right.effect() == Effect::Writes {
            thawed(key.frozen, &key.account)?;
        }
        Ok(Some(key))
    }
}
