//! The token endpoint's rules: a grant is an intersection, and a living credential never gets an error for what it asked.

use std::{net::IpAddr, time::Duration};

use chrono::TimeDelta;
use storage::Time;

use crate::{
    decide::logs_in,
    follow::Standing,
    installation::Auth,
    principal::{Holder, Presented, Whence},
    refusal::{Reason, Refusal, WRONG},
    scope::{Actions, Scope, Scopes},
    secret::{Kind, Secret},
    token::{self, SIGNED_FOR, Subject},
};

/// What clients are told a token lives.
const TOLD: TimeDelta = TimeDelta::seconds(300);

/// A request for a token, from a query or a form alike. Refresh tokens are never given out, but any password is taken as one.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// From the header, or `username` and `password` of the form as [`Presented::Basic`].
    pub presented: Presented<'a>,
    /// `refresh_token` of the form: a password by itself.
    pub refresh_token: Option<RefreshToken<'a>>,
    /// `account`: must be the user name, where both are given.
    pub account: Option<&'a str>,
    /// `service`: ours, or absent.
    pub service: Option<&'a str>,
    /// The `scope` parameters as they came, each perhaps several joined by spaces.
    pub scopes: Vec<&'a str>,
    /// `client_id`: for the log.
    pub client_id: Option<&'a str>,
    /// The host that the client used: taken off in front of a repository's name.
    pub host: &'a str,
}

/// A password presented as a refresh token. `Debug` hides it.
#[derive(Clone, Copy)]
pub struct RefreshToken<'a>(pub &'a str);

impl std::fmt::Debug for RefreshToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A token.
#[derive(Clone)]
pub struct IssuedToken {
    /// The JWT: `token` and `access_token` alike.
    pub token: String,
    /// What to tell the client: at most 300 s. The signature is good for longer, so that no token dies on its way.
    pub expires_in: u64,
    /// What was granted.
    pub scope: Scopes,
    /// How long ago it was known what has ended, where that is longer than the bound and the account is served all the same.
    pub stale: Option<Duration>,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenRefusal {
    /// The request is for another service. 400 `UNSUPPORTED`.
    UnknownService,
    /// As everywhere else; a [`Refusal::Unauthenticated`] is 401 with a Basic challenge.
    Refused(Refusal),
}

impl TokenRefusal {
    /// The public text; one text for all who do not hold a right secret.
    pub fn text(&self, host: &str) -> String {
        match self {
            Self::UnknownService => "unknown service: leave it out, or take it from the challenge".into(),
            Self::Refused(Refusal::Unauthenticated(None)) => WRONG.into(),
            Self::Refused(refusal) => refusal.text(host),
        }
    }
}

impl From<Refusal> for TokenRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Auth {
    /// Gives a token for what is presented, and notes it in the audit. Anonymous requests get one if something of what they ask is
    /// public. On an account's host nothing is granted but what is that account's.
    pub async fn issue<'a>(
        &self,
        request: TokenRequest<'_>,
        whence: impl Into<Whence<'a>>,
    ) -> Result<IssuedToken, TokenRefusal> {
        let whence = whence.into();
        if request.service.is_some_and(|service| service != self.service) {
            return Err(TokenRefusal::UnknownService);
        }
        let scopes = Scopes::parse(request.scopes.iter().copied(), Some(request.host));
        let (text, user) = match request.presented {
            Presented::Basic { user, secret } => (Some(secret), Some(user)),
            Presented::Bearer(text) => (Some(text), None),
            Presented::None => (request.refresh_token.map(|RefreshToken(text)| text), None),
            Presented::Session(_) | Presented::Malformed => (None, None),
        };
        // Its check tag is a MAC: it is read once, for the decision and for the audit.
        let secret = text.and_then(|text| self.secret(text));
        // A request counts once, however often it is looked at.
        let mut counts = true;
        let decided = self.decide(|standing| {
            self.issue_for(&request, secret.as_ref(), &scopes, whence, standing, std::mem::take(&mut counts))
        });
        let outcome = decided.await.map(|(issued, _)| issued);
        if let Some(secret) = &secret {
            let account = user.and_then(|user| user.split('.').next()?.parse().ok());
            match &outcome {
                Ok(issued) => self.note_login(secret, account, Ok(&issued.scope)).await,
                Err(TokenRefusal::Refused(refusal)) => self.note_login(secret, account, Err(refusal)).await,
                Err(TokenRefusal::UnknownService) => {}
            }
        }
        outcome
    }

    async fn issue_for(
        &self,
        request: &TokenRequest<'_>,
        secret: Option<&Secret>,
        scopes: &Scopes,
        whence: Whence<'_>,
        standing: Standing,
        counts: bool,
    ) -> Result<IssuedToken, TokenRefusal> {
        let from = whence.from;
        let user = match request.presented {
            Presented::None if request.refresh_token.is_none() => {
                return self.issue_anonymous(scopes, whence, standing).await;
            }
            Presented::None => None,
            Presented::Basic { user, .. } => {
                if request.account.is_some_and(|account| account != user) {
                    return Err(self.failed(from).into());
                }
                Some(user)
            }
            Presented::Bearer(_) => return Err(self.explained_bearer(secret, from).await.into()),
            Presented::Session(_) | Presented::Malformed => return Err(self.failed(from).into()),
        };
        let Some(secret) = secret else { return Err(self.failed(from).into()) };
        let mut holder = self.log_in_or_explain(user, secret, from, standing).await?;
        holder.only = whence.only.cloned();
        if counts {
            self.token_requests.take(holder.id.clone(), self.clock.elapsed()).map_err(Refusal::Throttled)?;
        }
        let granted = self.granted(&holder, scopes, whence, standing).await?;
        let end = (holder.at + SIGNED_FOR).min(holder.expires);
        let subject = Subject::Credential {
            account: holder.account.name().clone(),
            generation: holder.account.generation().clone(),
            kind: holder.kind,
            id: holder.id.clone(),
        };
        let issued = self.signed(&subject, granted, holder.at, end, standing).await?;
        tracing::debug!(
            event = "token.issue", account = %holder.account.name(), credential = %holder.id,
            client = request.client_id.unwrap_or_default(), scope = %issued.scope, "token was issued"
        );
        Ok(issued)
    }

    async fn signed(
        &self,
        subject: &Subject,
        scopes: Vec<Scope>,
        now: Time,
        end: Time,
        standing: Standing,
    ) -> Result<IssuedToken, TokenRefusal> {
        let ring = self.keys(standing).await.map_err(Refusal::from)?;
        let token = token::sign(&ring.value, &self.service, subject, &scopes, now, end).map_err(Refusal::from)?;
        let told = (end - now).min(TOLD).num_seconds();
        Ok(IssuedToken {
            token,
            expires_in: u64::try_from(told).unwrap_or_default(),
            scope: scopes.into_iter().collect(),
            stale: standing.age(),
        })
    }

    async fn issue_anonymous(
        &self,
        scopes: &Scopes,
        whence: Whence<'_>,
        standing: Standing,
    ) -> Result<IssuedToken, TokenRefusal> {
        let mut granted = Vec::new();
        for scope in scopes.iter() {
            if let Scope::Repository { name, actions } = scope
                && whence.reaches(name.account())
                && actions.closed().contains(Actions::PULL)
                && self.public_for(name, standing).await?.covers(name).is_some()
            {
                granted.push(Scope::Repository { name: name.clone(), actions: Actions::PULL });
            }
        }
        if granted.is_empty() {
            // Better than a useless token: the client says "unauthorized" and not "not found". No failure of the address:
            // every client asks like this first.
            return Err(Refusal::Unauthenticated(None).into());
        }
        let now = self.clock.now();
        self.signed(&Subject::Anonymous, granted, now, now + SIGNED_FOR, standing).await
    }

    /// What of the asked lies in the credential's reach. The rest is dropped as if it did not exist, except that what is
    /// public may be pulled by anybody.
    async fn granted(
        &self,
        holder: &Holder,
        scopes: &Scopes,
        whence: Whence<'_>,
        standing: Standing,
    ) -> Result<Vec<Scope>, Refusal> {
        let mut granted = Vec::new();
        for scope in scopes.iter() {
            match scope {
                Scope::Catalog if holder.covers_all() => granted.push(Scope::Catalog),
                Scope::Catalog => {}
                Scope::Repository { name, actions } => {
                    let allowed = if holder.covers(name) {
                        holder.actions.closed()
                    } else if standing == Standing::Confirmed
                        && whence.reaches(name.account())
                        && actions.closed().contains(Actions::PULL)
                        && self.public_for(name, standing).await?.covers(name).is_some()
                    {
                        Actions::PULL
                    } else {
                        Actions::NONE
                    };
                    let actions = actions.intersection(allowed);
                    if !actions.is_empty() {
                        granted.push(Scope::Repository { name: name.clone(), actions });
                    }
                }
            }
        }
        Ok(granted)
    }

    /// Logs in, by the secret alone where there is no user name; and who tries it with the right secret of another kind is told what
    /// that is for.
    async fn log_in_or_explain(
        &self,
        user: Option<&str>,
        secret: &Secret,
        from: IpAddr,
        standing: Standing,
    ) -> Result<Holder, Refusal> {
        if !logs_in(secret.kind()) {
            return Err(self.explained(secret, from).await);
        }
        let Some(user) = user else {
            return match self.account_of(secret.generation()).await? {
                Some(name) => self.log_in_as(&name, secret, from, standing).await,
                None => Err(self.failed(from)),
            };
        };
        self.log_in_with(user, secret, from, standing).await
    }

    /// Nothing logs in as a Bearer. An access token is no failure: its holder only has to log in again, from wherever it is.
    async fn explained_bearer(&self, secret: Option<&Secret>, from: IpAddr) -> Refusal {
        match secret {
            Some(secret) if !logs_in(secret.kind()) => self.explained(secret, from).await,
            _ => Refusal::Unauthenticated(None),
        }
    }

    async fn explained(&self, secret: &Secret, from: IpAddr) -> Refusal {
        let account = match secret.kind() {
            Kind::AccessKey => self.access_key(secret, from).await.map(|key| Some(key.account.name().clone())),
            Kind::OperatorKey => self.operator_key(secret, from).await.map(|_| None),
            Kind::Session => self.session(secret, from).await.map(|key| Some(key.account.name().clone())),
            Kind::Pull | Kind::Push => Err(self.failed(from)),
        };
        match account {
            Ok(account) => Refusal::Unauthenticated(Some(Reason::WrongKind { kind: secret.kind(), account })),
            Err(refusal) => refusal,
        }
    }
}
