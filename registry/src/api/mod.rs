//! The control plane, `/api/v1`: accounts, access keys, credentials, sessions, trust policies, what is public, repositories and their tags,
//! usage, and the audit.
//!
//! [`ApiOperation`] is the list of what there is; the router and the OpenAPI document are made from it. A call goes through
//! [`call`]: who asks is settled before the path is looked at, whether it may before anything is read, a request's body included.

mod access_keys;
mod accounts;
mod audit;
mod credentials;
mod envelope;
mod exchange;
mod openapi;
mod page;
mod public;
mod repositories;
mod retention;
mod sessions;
mod tags;
mod trusts;
mod usage;

use std::sync::{Arc, LazyLock};

use auth::{Actor, Id, KeyHolder, Presented, Right};
use axum::{
    Router,
    extract::RawPathParams,
    routing::{MethodFilter, MethodRouter},
};
use http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use storage::{AccountName, RepositoryName, stream::ByteStream};
use tower::ServiceExt;
use tracing::Instrument;

use self::sessions::Caller;
pub(crate) use self::{envelope::Problem, exchange::post as exchange};
use crate::{
    App,
    access::Access,
    hosts::Accepted,
    oci::{Answered, Query},
    presented::Authorization,
};

/// What the API does. Times are RFC 3339 in UTC; bodies are JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiOperation {
    /// The OpenAPI document of this list.
    OpenApi,
    /// Accounts by name.
    AccountList,
    /// Makes an account.
    AccountCreate,
    /// One account.
    AccountGet,
    /// Changes an account: a merge patch.
    AccountChange,
    /// Deletes an account.
    AccountDelete,
    /// What anybody may pull.
    PublicGet,
    /// Says what anybody may pull.
    PublicSet,
    /// Access keys, oldest first, without their secrets.
    KeyList,
    /// Makes an access key; the answer is the only one that shows its secret.
    KeyCreate,
    /// One access key.
    KeyGet,
    /// Lets a key mint no more.
    KeyRetire,
    /// Ends a key and everything it minted.
    KeyRevoke,
    /// Credentials, oldest first, without their passwords.
    CredentialList,
    /// Mints a credential; the answer is the only one that shows its password.
    CredentialMint,
    /// One credential.
    CredentialGet,
    /// Ends a credential.
    CredentialRevoke,
    /// Trust policies, oldest first.
    TrustList,
    /// Makes a trust policy.
    TrustCreate,
    /// One trust policy.
    TrustGet,
    /// Deletes a trust policy, and ends what it gave.
    TrustDelete,
    /// Repositories by name; with `name` that one.
    RepositoryList,
    /// Changes a repository's settings: a merge patch.
    RepositoryChange,
    /// Orders the deletion of a repository and all that is in it.
    RepositoryDelete,
    /// The tags of a repository by name.
    TagList,
    /// Deletes a tag; its manifest stays.
    TagDelete,
    /// The rules by which tags and manifests go.
    RetentionGet,
    /// Replaces these rules.
    RetentionSet,
    /// What would go from a repository now, by these rules or by others.
    RetentionTest,
    /// How much an account keeps.
    UsageGet,
    /// How much every account keeps.
    UsageList,
    /// What was done in an account, oldest first.
    AuditList,
    /// What was done to the installation and its accounts, oldest first.
    InstallationAuditList,
    /// Opens a session of the console with an access key; its cookie is in the answer's `Set-Cookie`.
    SessionOpen,
    /// Whose session it is that asks.
    SessionGet,
    /// Closes the session that asks.
    SessionClose,
}

impl ApiOperation {
    /// Every operation; the isolation matrix has a row for each.
    pub const ALL: [Self; 36] = [
        Self::OpenApi,
        Self::AccountList,
        Self::AccountCreate,
        Self::AccountGet,
        Self::AccountChange,
        Self::AccountDelete,
        Self::PublicGet,
        Self::PublicSet,
        Self::KeyList,
        Self::KeyCreate,
        Self::KeyGet,
        Self::KeyRetire,
        Self::KeyRevoke,
        Self::CredentialList,
        Self::CredentialMint,
        Self::CredentialGet,
        Self::CredentialRevoke,
        Self::TrustList,
        Self::TrustCreate,
        Self::TrustGet,
        Self::TrustDelete,
        Self::RepositoryList,
        Self::RepositoryChange,
        Self::RepositoryDelete,
        Self::TagList,
        Self::TagDelete,
        Self::RetentionGet,
        Self::RetentionSet,
        Self::RetentionTest,
        Self::UsageGet,
        Self::UsageList,
        Self::AuditList,
        Self::InstallationAuditList,
        Self::SessionOpen,
        Self::SessionGet,
        Self::SessionClose,
    ];

    /// Its method.
    pub const fn method(self) -> Method {
        match self {
            Self::OpenApi
            | Self::AccountList
            | Self::AccountGet
            | Self::PublicGet
            | Self::KeyList
            | Self::KeyGet
            | Self::CredentialList
            | Self::CredentialGet
            | Self::TrustList
            | Self::TrustGet
            | Self::RepositoryList
            | Self::TagList
            | Self::RetentionGet
            | Self::UsageGet
            | Self::UsageList
            | Self::AuditList
            | Self::InstallationAuditList
            | Self::SessionGet => Method::GET,
            Self::AccountCreate
            | Self::KeyCreate
            | Self::KeyRetire
            | Self::KeyRevoke
            | Self::CredentialMint
            | Self::CredentialRevoke
            | Self::TrustCreate
            | Self::SessionOpen
            | Self::SessionClose
            | Self::RetentionTest => Method::POST,
            Self::AccountChange | Self::RepositoryChange => Method::PATCH,
            Self::AccountDelete | Self::TrustDelete | Self::RepositoryDelete | Self::TagDelete => Method::DELETE,
            Self::PublicSet | Self::RetentionSet => Method::PUT,
        }
    }

    /// Its path, with `{account}` and `{id}` where names stand.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenApi => "/api/v1/openapi.json",
            Self::AccountList | Self::AccountCreate => "/api/v1/accounts",
            Self::AccountGet | Self::AccountChange | Self::AccountDelete => "/api/v1/accounts/{account}",
            Self::PublicGet | Self::PublicSet => "/api/v1/accounts/{account}/public",
            Self::KeyList | Self::KeyCreate => "/api/v1/accounts/{account}/keys",
            Self::KeyGet => "/api/v1/accounts/{account}/keys/{id}",
            Self::KeyRetire => "/api/v1/accounts/{account}/keys/{id}/retire",
            Self::KeyRevoke => "/api/v1/accounts/{account}/keys/{id}/revoke",
            Self::CredentialList | Self::CredentialMint => "/api/v1/accounts/{account}/credentials",
            Self::CredentialGet => "/api/v1/accounts/{account}/credentials/{id}",
            Self::CredentialRevoke => "/api/v1/accounts/{account}/credentials/{id}/revoke",
            Self::TrustList | Self::TrustCreate => "/api/v1/accounts/{account}/trusts",
            Self::TrustGet | Self::TrustDelete => "/api/v1/accounts/{account}/trusts/{id}",
            Self::RepositoryList | Self::RepositoryChange | Self::RepositoryDelete => {
                "/api/v1/accounts/{account}/repositories"
            }
            Self::TagList | Self::TagDelete => "/api/v1/accounts/{account}/repository-tags",
            Self::RetentionGet | Self::RetentionSet => "/api/v1/accounts/{account}/retention",
            Self::RetentionTest => "/api/v1/accounts/{account}/retention/test",
            Self::UsageGet => "/api/v1/accounts/{account}/usage",
            Self::UsageList => "/api/v1/usage",
            Self::AuditList => "/api/v1/accounts/{account}/audit",
            Self::InstallationAuditList => "/api/v1/audit",
            Self::SessionOpen | Self::SessionGet => "/api/v1/session",
            Self::SessionClose => "/api/v1/session/close",
        }
    }

    /// The right it needs; `None`: any living key will do.
    pub const fn right(self) -> Option<Right> {
        match self {
            Self::OpenApi => None,
            Self::AccountList => Some(Right::ListAccounts),
            Self::AccountCreate | Self::AccountDelete => Some(Right::KeepAccounts),
            Self::AccountGet => Some(Right::ReadAccount),
            Self::AccountChange => Some(Right::ChangeAccount),
            Self::PublicGet => Some(Right::ReadPublic),
            Self::PublicSet => Some(Right::SetPublic),
            Self::KeyList | Self::KeyGet => Some(Right::ReadKeys),
            Self::KeyCreate => Some(Right::MakeKeys),
            Self::KeyRetire | Self::KeyRevoke => Some(Right::EndKeys),
            Self::CredentialList | Self::CredentialGet => Some(Right::ReadCredentials),
            Self::CredentialMint => Some(Right::Mint),
            Self::CredentialRevoke => Some(Right::EndCredentials),
            Self::TrustList | Self::TrustGet => Some(Right::ReadTrusts),
            Self::TrustCreate => Some(Right::MakeTrusts),
            Self::TrustDelete => Some(Right::EndTrusts),
            Self::RepositoryList | Self::TagList => Some(Right::ReadRepositories),
            Self::RepositoryChange => Some(Right::ChangeRepositories),
            Self::RepositoryDelete | Self::TagDelete => Some(Right::DeleteContent),
            Self::RetentionGet | Self::RetentionTest => Some(Right::ReadRetention),
            Self::RetentionSet => Some(Right::SetRetention),
            Self::UsageGet => Some(Right::ReadUsage),
            Self::UsageList => Some(Right::ReadAllUsage),
            Self::AuditList => Some(Right::ReadAudit),
            Self::InstallationAuditList => Some(Right::ReadInstallationAudit),
            Self::SessionOpen => Some(Right::OpenSession),
            Self::SessionGet | Self::SessionClose => Some(Right::OwnSession),
        }
    }

    /// The right it needs, as a column of the isolation matrix.
    pub const fn access(self) -> Access {
        match self.right() {
            None => Access::Api,
            Some(Right::ListAccounts | Right::KeepAccounts | Right::ReadAllUsage | Right::ReadInstallationAudit) => {
                Access::Operator
            }
            Some(
                Right::ReadAccount
                | Right::ReadPublic
                | Right::ReadKeys
                | Right::ReadCredentials
                | Right::ReadTrusts
                | Right::ReadRepositories
                | Right::ReadRetention
                | Right::ReadUsage
                | Right::ReadAudit,
            ) => Access::AccountRead,
            Some(
                Right::ChangeAccount
                | Right::SetPublic
                | Right::ChangeRepositories
                | Right::DeleteContent
                | Right::SetRetention,
            ) => Access::AccountWrite,
            Some(Right::MakeKeys | Right::EndKeys | Right::MakeTrusts | Right::EndTrusts) => Access::KeyAdmin,
            Some(Right::Mint | Right::EndCredentials) => Access::Mint,
            Some(Right::OpenSession | Right::OwnSession) => Access::Session,
        }
    }

    /// Its name in logs, metrics and the OpenAPI document.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OpenApi => "openapi",
            Self::AccountList => "account_list",
            Self::AccountCreate => "account_create",
            Self::AccountGet => "account_get",
            Self::AccountChange => "account_change",
            Self::AccountDelete => "account_delete",
            Self::PublicGet => "public_get",
            Self::PublicSet => "public_set",
            Self::KeyList => "key_list",
            Self::KeyCreate => "key_create",
            Self::KeyGet => "key_get",
            Self::KeyRetire => "key_retire",
            Self::KeyRevoke => "key_revoke",
            Self::CredentialList => "credential_list",
            Self::CredentialMint => "credential_mint",
            Self::CredentialGet => "credential_get",
            Self::CredentialRevoke => "credential_revoke",
            Self::TrustList => "trust_list",
            Self::TrustCreate => "trust_create",
            Self::TrustGet => "trust_get",
            Self::TrustDelete => "trust_delete",
            Self::RepositoryList => "repository_list",
            Self::RepositoryChange => "repository_change",
            Self::RepositoryDelete => "repository_delete",
            Self::TagList => "tag_list",
            Self::TagDelete => "tag_delete",
            Self::RetentionGet => "retention_get",
            Self::RetentionSet => "retention_set",
            Self::RetentionTest => "retention_test",
            Self::UsageGet => "usage_get",
            Self::UsageList => "usage_list",
            Self::AuditList => "audit_list",
            Self::InstallationAuditList => "installation_audit_list",
            Self::SessionOpen => "session_open",
            Self::SessionGet => "session_get",
            Self::SessionClose => "session_close",
        }
    }
}

/// What a path says: the operation, and the names in it as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    operation: ApiOperation,
    account: Option<String>,
    id: Option<String>,
}

/// The routes. What stands behind each only names it: the way of a call is [`call`], not a stack of layers.
#[expect(clippy::disallowed_methods, reason = "this is where routes are made, from ApiOperation")]
fn router() -> Router {
    let route = |router: Router, operation: ApiOperation| {
        let name = move |params: RawPathParams| async move {
            let named = |wanted: &str| params.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text.to_owned());
            axum::Extension(Found { operation, account: named("account"), id: named("id") })
        };
        // The methods of the list are all of those that axum knows.
        let filter = MethodFilter::try_from(operation.method()).unwrap_or(MethodFilter::TRACE);
        router.route(operation.path(), MethodRouter::new().on(filter, name))
    };
    ApiOperation::ALL.into_iter().fold(Router::new(), route)
}

/// Which operation a method and path are.
async fn find(method: &Method, uri: &Uri) -> Result<Found, Problem> {
    static ROUTER: LazyLock<Router> = LazyLock::new(router);
    let mut asked = http::Request::new(axum::body::Body::empty());
    *asked.method_mut() = method.clone();
    *asked.uri_mut() = uri.clone();
    let Ok(mut response) = ROUTER.clone().oneshot(asked).await;
    if let Some(found) = response.extensions_mut().remove::<Found>() {
        return Ok(found);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).and_then(|value| value.to_str().ok());
        return Err(Problem::Method(allow.unwrap_or_default().replace(',', ", ")));
    }
    Err(Problem::NoEndPoint)
}

/// What a call turned out to be, for the log line and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Called {
    /// Known once its key is good.
    pub(crate) operation: Option<ApiOperation>,
    /// The key, by its id.
    pub(crate) key: Option<String>,
}

/// A call that may be made.
struct Call {
    app: Arc<App>,
    actor: Actor,
    account: Option<AccountName>,
    id: Option<String>,
    uri: Uri,
    headers: HeaderMap,
    body: ByteStream,
}

impl Call {
    /// The account that the path names. What is no name is the name of no account.
    fn account(&self) -> Result<&AccountName, Problem> {
        self.account.as_ref().ok_or(Problem::Auth(auth::Error::NotFound { what: "account" }))
    }

    /// A repository that a parameter names by its path in the account.
    fn repository(&self, parameter: &str) -> Result<RepositoryName, Problem> {
        let query = Query::parse(self.uri.query());
        let Some(path) = query.first(parameter) else {
            return Err(Problem::invalid(format!("?{parameter}"), "say which: the path in the account, e.g. web/api"));
        };
        let name = format!("{}/{path}", self.account()?).parse();
        name.map_err(|error: storage::NameError| Problem::invalid(format!("?{parameter}"), error.to_string()))
    }

    /// Refuses parameters that the call does not have: a misspelt one must not be taken for one that is absent.
    fn parameters(&self, known: &[&str]) -> Result<(), Problem> {
        match Query::parse(self.uri.query()).names().find(|name| !known.contains(name)) {
            Some(name) => Err(Problem::unknown_parameter(name)),
            None => Ok(()),
        }
    }

    /// The access key that calls; an operator key has no repositories.
    fn key(&self) -> Result<&KeyHolder, Problem> {
        match &self.actor {
            Actor::AccessKey(key) => Ok(key),
            Actor::OperatorKey { .. } | Actor::Store => {
                Err(Problem::refused(auth::Refusal::Denied(auth::Reason::Operator)))
            }
        }
    }

    /// The id that the path names. What is no id becomes one that nothing has, so it is as unknown as any other.
    fn id(&self) -> Id {
        self.id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_else(Id::operator)
    }
}

/// Answers a request under `/api/v1`.
pub(crate) async fn call(
    app: &Arc<App>,
    parts: &Parts,
    body: ByteStream,
    authorization: &Authorization,
    host: &Accepted,
    called: &mut Called,
) -> Answered {
    let caller = Caller::read(authorization, &parts.headers, host);
    let (secret, actor) = match caller.presented() {
        Presented::Session(cookie) => (Some(cookie), app.auth.authenticate_session(cookie, host.client).await),
        Presented::Bearer(key) => (Some(key), app.auth.authenticate_api(Some(key), host.client).await),
        // No Basic: a browser would send it by itself, for whichever page asks.
        Presented::None | Presented::Basic { .. } | Presented::Malformed => {
            (None, app.auth.authenticate_api(None, host.client).await)
        }
    };
    let actor = match actor {
        Ok(actor) => actor,
        Err(refusal) => {
            app.auth.note_key_denied(secret.unwrap_or_default(), &refusal).await;
            return Err(Problem::refused(refusal).into());
        }
    };
    called.key = Some(actor.label());
    if matches!(caller, Caller::Session(_)) {
        sessions::refuse_foreign(&parts.method, &parts.headers, host)?;
    }
    let found = find(&parts.method, &parts.uri).await?;
    called.operation = Some(found.operation);
    let account: Option<AccountName> = found.account.and_then(|name| name.parse().ok());
    let span = tracing::Span::current();
    span.record("operation", found.operation.label());
    if let Some(account) = &account {
        span.record("account", account.as_str());
    }
    if let Some(right) = found.operation.right() {
        // Before the body: what is refused is refused the same whatever was sent.
        let admitted = app.auth.admit(&actor, right, account.as_ref());
        if let Err(refusal) = admitted.and_then(|_| host.whence().admit(account.as_ref())) {
            app.auth.note_refused(&actor, found.operation.label(), &refusal);
            return Err(Problem::refused(refusal).into());
        }
    }
    let call = Call {
        app: Arc::clone(app),
        actor,
        account,
        id: found.id,
        uri: parts.uri.clone(),
        headers: parts.headers.clone(),
        body,
    };
    let work = dispatch(found.operation, call);
    if found.operation.method() == Method::GET {
        return Box::pin(work).await;
    }
    // A client that leaves must not leave half a change behind: a key that is marked, and no replica told.
    let work = auth::Origin::continued(auth::Origin::current(), work);
    app.tasks.spawn(work.in_current_span()).await.map_err(storage::Error::unknown)?
}

async fn dispatch(operation: ApiOperation, call: Call) -> Answered {
    match operation {
        ApiOperation::OpenApi => Ok(openapi::get()),
        ApiOperation::AccountList => accounts::list(call).await,
        ApiOperation::AccountCreate => accounts::create(call).await,
        ApiOperation::AccountGet => accounts::get(call).await,
        ApiOperation::AccountChange => accounts::change(call).await,
        ApiOperation::AccountDelete => accounts::delete(call).await,
        ApiOperation::PublicGet => public::get(call).await,
        ApiOperation::PublicSet => public::set(call).await,
        ApiOperation::KeyList => access_keys::list(call).await,
        ApiOperation::KeyCreate => access_keys::create(call).await,
        ApiOperation::KeyGet => access_keys::get(call).await,
        ApiOperation::KeyRetire => access_keys::retire(call).await,
        ApiOperation::KeyRevoke => access_keys::revoke(call).await,
        ApiOperation::CredentialList => credentials::list(call).await,
        ApiOperation::CredentialMint => credentials::mint(call).await,
        ApiOperation::CredentialGet => credentials::get(call).await,
        ApiOperation::CredentialRevoke => credentials::revoke(call).await,
        ApiOperation::TrustList => trusts::list(call).await,
        ApiOperation::TrustCreate => trusts::create(call).await,
        ApiOperation::TrustGet => trusts::get(call).await,
        ApiOperation::TrustDelete => trusts::delete(call).await,
        ApiOperation::RepositoryList => repositories::list(call).await,
        ApiOperation::RepositoryChange => repositories::change(call).await,
        ApiOperation::RepositoryDelete => repositories::delete(call).await,
        ApiOperation::TagList => tags::list(call).await,
        ApiOperation::TagDelete => tags::delete(call).await,
        ApiOperation::RetentionGet => retention::get(call).await,
        ApiOperation::RetentionSet => retention::set(call).await,
        ApiOperation::RetentionTest => retention::test(call).await,
        ApiOperation::UsageGet => usage::get(call).await,
        ApiOperation::UsageList => usage::list(call).await,
        ApiOperation::AuditList => audit::list(call).await,
        ApiOperation::InstallationAuditList => audit::installation(call).await,
        ApiOperation::SessionOpen => sessions::open(call).await,
        ApiOperation::SessionGet => sessions::get(&call),
        ApiOperation::SessionClose => sessions::close(call).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn found(method: &str, uri: &str) -> Result<Found, Problem> {
        find(&method.parse().unwrap(), &uri.parse().unwrap()).await
    }

    #[tokio::test]
    async fn every_operation_is_found_under_its_own_method_and_path() {
        for operation in ApiOperation::ALL {
            let path = operation.path().replace("{account}", "acme").replace("{id}", "0k3v9x0a2m4p6r1t");
            let found = found(operation.method().as_str(), &format!("{path}?limit=1")).await.unwrap();
            assert_eq!(found.operation, operation);
            assert_eq!(found.account.is_some(), operation.path().contains("{account}"), "{operation:?}");
            assert_eq!(found.id.as_deref(), operation.path().contains("{id}").then_some("0k3v9x0a2m4p6r1t"));
        }
    }

    #[test]
    fn names_and_doors_are_not_given_twice() {
        let labels: BTreeSet<_> = ApiOperation::ALL.map(ApiOperation::label).into();
        assert_eq!(labels.len(), ApiOperation::ALL.len());
        let doors: BTreeSet<_> = ApiOperation::ALL.map(|o| (o.method().to_string(), o.path())).into();
        assert_eq!(doors.len(), ApiOperation::ALL.len());
    }

    #[tokio::test]
    async fn head_reads_what_get_reads() {
        assert_eq!(found("HEAD", "/api/v1/accounts").await.unwrap().operation, ApiOperation::AccountList);
    }

    #[tokio::test]
    async fn another_method_is_told_which_there_are_and_another_path_is_unknown() {
        let refused = found("PUT", "/api/v1/accounts/acme").await.unwrap_err();
        let Problem::Method(allow) = refused else { panic!("{refused:?}") };
        let allow: BTreeSet<_> = allow.split(", ").collect();
        assert_eq!(allow, BTreeSet::from(["GET", "HEAD", "PATCH", "DELETE"]));
        for path in ["/api/v1", "/api/v1/", "/api/v1/accounts/", "/api/v1/nothing", "/api/v1/accounts/acme/keys/a/b/c"]
        {
            assert!(matches!(found("GET", path).await, Err(Problem::NoEndPoint)), "{path}");
        }
    }
}
