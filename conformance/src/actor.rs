//! Who may come: every kind of caller that exists, each able to try any request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    client::{Answer, Client, Request},
    harness::Harness,
};

/// Seconds by which the clock of a command is set back to make what has expired by now.
const LONG_AGO: i64 = -7200;

/// Every kind of caller, seen from an account whose repositories are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// No `Authorization`.
    Anonymous,
    /// A living credential's user name with a password of the right shape that was never handed out.
    WrongKey,
    /// A pull credential whose time is over.
    Expired,
    /// A pull credential that was revoked.
    Revoked,
    /// A push credential, with delete, of another account.
    OtherAccount,
    /// A push credential of an account that was deleted and created again under the same name.
    RecreatedAccount,
    /// A pull credential for the whole account.
    Pull,
    /// A push credential for the whole account.
    Push,
    /// A push credential that may delete.
    PushDelete,
    /// An access key of the account, as Bearer: it mints and never pulls.
    AccessKey,
    /// An operator key, as Bearer.
    OperatorKey,
}

impl Actor {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Anonymous,
        Self::WrongKey,
        Self::Expired,
        Self::Revoked,
        Self::OtherAccount,
        Self::RecreatedAccount,
        Self::Pull,
        Self::Push,
        Self::PushDelete,
        Self::AccessKey,
        Self::OperatorKey,
    ];
}

/// A minted credential, as the command line prints it.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The whole document.
    pub document: Value,
    /// Its id, for revoking it.
    pub id: String,
    /// The user name for logging in.
    pub username: String,
    /// The password.
    pub password: String,
}

impl Credential {
    /// The document that `hythe credential create --output json` prints.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(stdout: &str) -> Self {
        let document: Value = serde_json::from_str(stdout).unwrap_or_default();
        let field = |name: &str| {
            let text = document.get(name).and_then(Value::as_str).unwrap_or_default();
            assert!(!text.is_empty(), "a credential has {name}: {stdout}");
            text.to_owned()
        };
        Self { id: field("id"), username: field("username"), password: field("password"), document }
    }

    /// A field of the document that is a string.
    pub fn field(&self, name: &str) -> &str {
        self.document.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The same user name with a password nobody was given: its last character, part of the check tag, differs.
    #[must_use]
    pub fn with_wrong_password(&self) -> Self {
        let mut password = self.password.clone();
        let last = password.pop();
        password.push(if last == Some('0') { '1' } else { '0' });
        Self { password, ..self.clone() }
    }
}

/// An account of a harness, made through the command line.
#[derive(Debug, Clone)]
pub struct AccountUnderTest<'a> {
    harness: &'a Harness,
    name: String,
}

impl Harness {
    /// The account of this name, created if this harness has not yet.
    pub async fn account(&self, name: &str) -> AccountUnderTest<'_> {
        if self.remember(name) {
            self.hythe(&["account", "create", name]).await;
        }
        AccountUnderTest { harness: self, name: name.to_owned() }
    }
}

impl AccountUnderTest<'_> {
    /// Its name, the first segment of its repositories.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `account/path`.
    pub fn repository(&self, path: &str) -> String {
        format!("{}/{path}", self.name)
    }

    /// Mints a credential with the arguments of `credential create`.
    pub async fn mint(&self, args: &[&str]) -> Credential {
        self.mint_at(0, args).await
    }

    /// The same with the command's clock moved by seconds.
    pub async fn mint_at(&self, offset_seconds: i64, args: &[&str]) -> Credential {
        let mut all = vec!["credential", "create", self.name.as_str(), "--output", "json"];
        all.extend(args);
        Credential::parse(&self.harness.hythe_at(offset_seconds, &all).await.stdout)
    }

    /// Revokes a credential, and waits until the running server has heard of it.
    pub async fn revoke(&self, credential: &Credential) {
        self.harness.hythe(&["credential", "revoke", &self.name, &credential.id]).await;
        self.harness.heard().await;
    }

    /// A credential that pulls from the whole account.
    pub async fn pull(&self) -> Credential {
        self.mint(&["--kind", "pull"]).await
    }

    /// A credential that pushes to the whole account.
    pub async fn push(&self) -> Credential {
        self.mint(&["--kind", "push"]).await
    }

    /// A credential that pushes to the whole account and may delete.
    pub async fn push_delete(&self) -> Credential {
        self.mint(&["--kind", "push", "--delete"]).await
    }

    /// A push credential whose time was over an hour ago.
    pub async fn expired(&self) -> Credential {
        self.mint_at(LONG_AGO, &["--kind", "push", "--ttl", "1h"]).await
    }

    /// A push credential that has been revoked.
    pub async fn revoked(&self) -> Credential {
        let credential = self.push().await;
        self.revoke(&credential).await;
        credential
    }

    /// A caller that presents a credential as Basic.
    pub fn caller(&self, credential: &Credential) -> Caller {
        Caller::basic(self.harness.client(), &credential.username, &credential.password)
    }

    /// The caller of this kind, made afresh.
    pub async fn actor(&self, actor: Actor) -> Caller {
        let client = self.harness.client();
        let credential = match actor {
            Actor::Anonymous => return Caller::anonymous(client),
            Actor::AccessKey => {
                let made = self.harness.hythe(&["key", "create", &self.name, "--output", "json"]).await;
                return Caller::bearer(client, &key_of(&made.stdout));
            }
            Actor::OperatorKey => {
                let made = self.harness.hythe(&["operator-key", "create", "--output", "json"]).await;
                return Caller::bearer(client, &key_of(&made.stdout));
            }
            Actor::WrongKey => self.pull().await.with_wrong_password(),
            Actor::Expired => self.mint_at(LONG_AGO, &["--kind", "pull", "--ttl", "1h"]).await,
            Actor::Revoked => {
                let credential = self.pull().await;
                self.revoke(&credential).await;
                credential
            }
            Actor::OtherAccount => self.harness.account("stranger").await.push_delete().await,
            Actor::RecreatedAccount => {
                let former = self.harness.account("phoenix").await.push_delete().await;
                self.harness.hythe(&["account", "delete", "phoenix"]).await;
                self.harness.hythe(&["account", "create", "phoenix"]).await;
                former
            }
            Actor::Pull => self.pull().await,
            Actor::Push => self.push().await,
            Actor::PushDelete => self.push_delete().await,
        };
        self.caller(&credential)
    }
}

fn key_of(stdout: &str) -> String {
    let document: Value = serde_json::from_str(stdout).unwrap_or_default();
    let key = document.get("key").and_then(Value::as_str).unwrap_or_default();
    assert!(!key.is_empty(), "a key is shown where it is made: {stdout}");
    key.to_owned()
}

/// Someone with something to present, or nothing.
#[derive(Debug, Clone)]
pub struct Caller {
    client: Client,
    authorization: Option<String>,
}

impl Caller {
    /// Presents nothing.
    pub fn anonymous(client: &Client) -> Self {
        Self { client: client.clone(), authorization: None }
    }

    /// Presents user name and password.
    pub fn basic(client: &Client, username: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{username}:{password}"));
        Self { client: client.clone(), authorization: Some(format!("Basic {pair}")) }
    }

    /// Presents a token or a key.
    pub fn bearer(client: &Client, token: &str) -> Self {
        Self { client: client.clone(), authorization: Some(format!("Bearer {token}")) }
    }

    /// What goes into the `Authorization` header, for requests that are written by hand.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Sends a request with what this caller presents.
    pub async fn send(&self, request: Request) -> Answer {
        self.client.send(self.dress(request)).await
    }

    /// The same; an error is a connection that broke.
    pub async fn try_send(&self, request: Request) -> Result<Answer, String> {
        self.client.try_send(self.dress(request)).await
    }

    fn dress(&self, request: Request) -> Request {
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    /// Asks the token end-point for scopes; each goes as a parameter of its own.
    pub async fn ask_token(&self, scopes: &[&str]) -> Answer {
        let query: Vec<_> = scopes.iter().map(|scope| format!("scope={scope}")).collect();
        self.send(Request::get(format!("/token?{}", query.join("&")))).await
    }

    /// This caller with an access token for the scopes in the place of its credential.
    pub async fn with_token(&self, scopes: &[&str]) -> Self {
        let answer = self.ask_token(scopes).await.expect(200).json();
        let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        Self::bearer(&self.client, token)
    }
}
