//! `hythe trust create|list|delete`: through a server with an access key, or on the store itself.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use auth::{Actor, Id, NewGrant, NewKeys, NewTrust};
use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use storage::{AccountName, Clock, Time};

use super::{
    Failure,
    credential::{Kind, Place, Where, document},
    output::{Output, table},
    server::{list, pages, text},
    store::{all, seconds, shown, time},
};

/// Who signs for GitHub Actions.
const GITHUB: &str = "https://token.actions.githubusercontent.com";

#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Let workloads exchange their own tokens for credentials
    Create(Box<Create>),
    /// List the trust policies of an account
    List(List),
    /// Delete a trust policy and end every credential it gave
    Delete(Delete),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["github", "github_repository", "kubernetes_issuer", "issuer"]))]
pub(super) struct Create {
    account: AccountName,
    /// GitHub Actions of this owner, by the owner's id (gh api users/NAME --jq .id)
    #[arg(long, value_name = "OWNER_ID")]
    github: Option<u64>,
    /// GitHub Actions of this repository, by its id (gh api repos/OWNER/NAME --jq .id)
    #[arg(long, value_name = "REPOSITORY_ID", conflicts_with_all = ["kubernetes_issuer", "issuer"])]
    github_repository: Option<u64>,
    /// With GitHub: only jobs in this environment
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kubernetes_issuer", "issuer"])]
    environment: Option<String>,
    /// With GitHub: only workflows on this branch or tag, e.g. refs/heads/main or refs/tags/v*
    #[arg(long = "ref", value_name = "REF", conflicts_with_all = ["kubernetes_issuer", "issuer"])]
    branch: Option<String>,
    /// With GitHub: only this workflow, e.g. acme/ci/.github/workflows/release.yml@refs/heads/main
    #[arg(long, value_name = "REF", conflicts_with_all = ["kubernetes_issuer", "issuer"])]
    workflow: Option<String>,
    /// Service accounts of a cluster, by its issuer (kubectl get --raw /.well-known/openid-configuration)
    #[arg(long, value_name = "URL", requires = "of_cluster")]
    kubernetes_issuer: Option<String>,
    /// With Kubernetes: only this service account
    #[arg(long, value_name = "NAMESPACE:NAME", group = "of_cluster", conflicts_with_all = ["github", "github_repository", "issuer"])]
    service_account: Option<String>,
    /// With Kubernetes: every service account of this namespace
    #[arg(long, value_name = "NAMESPACE", group = "of_cluster", conflicts_with_all = ["github", "github_repository", "issuer"])]
    namespace: Option<String>,
    /// Any other issuer, as its tokens name it
    #[arg(long, value_name = "URL", requires = "claims")]
    issuer: Option<String>,
    /// A claim that the tokens have to have; * stands for any characters but : and / (repeatable)
    #[arg(long = "match", id = "claims", value_name = "CLAIM=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// The issuer's keys, for one that the server does not ask for them (kubectl get --raw /openid/v1/jwks)
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// How the tokens may be signed: RS256, ES256 or EdDSA (repeatable; default: RS256, or what the given keys are for)
    #[arg(long, value_name = "ALG")]
    algorithm: Vec<String>,
    /// What the tokens are for: their aud (default: HOST/ACCOUNT)
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// What the credentials are for
    #[arg(long, value_enum)]
    kind: Kind,
    /// Let push credentials delete
    #[arg(long)]
    delete: bool,
    /// Where they reach, e.g. acme/web/* (repeatable; default: the whole account)
    #[arg(long, value_name = "PATTERN")]
    repository: Vec<String>,
    /// How long they live (default: 1h)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// Whether a token is good once (default: yes to push, no to pull)
    #[arg(long, value_name = "BOOL")]
    single_use: Option<bool>,
    /// When the policy ends by itself
    #[arg(long, value_name = "DATE", value_parser = time)]
    expires: Option<Time>,
    /// What people call it
    #[arg(long, default_value = "")]
    label: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct List {
    account: AccountName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    account: AccountName,
    id: Id,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Where,
}

fn claim(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("CLAIM=VALUE, like sub=robot")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(command: Trust, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    match command {
        Trust::Create(command) => Box::pin(create(*command, clock)).await,
        Trust::List(command) => {
            let rows = match command.place.open(clock).await? {
                Place::Store(store) => {
                    let found = all(async |page| store.auth.list_trusts(&Actor::Store, &command.account, page).await);
                    found.await?.iter().map(document).collect::<Result<_, _>>()?
                }
                Place::Server(server) => {
                    pages(&server, &format!("/accounts/{}/trusts?limit=100", command.account), |_| {}).await?
                }
            };
            command.output.print(&rows, |rows| {
                let rows: Vec<_> = rows.iter().map(row).collect();
                table(["ID", "ISSUER", "MATCH", "ACTIONS", "REPOSITORIES", "LABEL"], &rows)
            })?;
            Ok(())
        }
        Trust::Delete(command) => {
            let ended = match command.place.open(clock).await? {
                Place::Store(store) => {
                    document(&store.auth.delete_trust(&Actor::Store, &command.account, &command.id, None).await?)?
                }
                Place::Server(server) => {
                    let path = format!("/accounts/{}/trusts/{}", command.account, command.id);
                    // A policy is never changed, so there is nothing that could have changed meanwhile.
                    server.change(Method::DELETE, &path, "*", None).await?
                }
            };
            let by = text(&ended, "effective_by");
            command.output.print(&ended, |_| {
                format!("trust policy {} and what it gave are refused, everywhere by {by}", command.id)
            })?;
            Ok(())
        }
    }
}

async fn create(mut command: Create, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let keys = command.jwks.take().map(|path| read_keys(&path)).transpose()?;
    let new = new_trust(&command, keys);
    let made = match command.place.open(clock).await? {
        Place::Store(store) => {
            let audience = format!("{}/{}", store.host().await?.as_str(), command.account);
            document(&store.auth.create_trust(&Actor::Store, &command.account, &new, &audience).await?)?
        }
        Place::Server(server) => {
            server.post(&format!("/accounts/{}/trusts", command.account), &requested(&new)).await?
        }
    };
    command.output.print(&made, |made| {
        let fields = ["id", "issuer", "audience"].map(|field| format!("{field:<13} {}", text(made, field)));
        let scope =
            ["actions", "repositories"].map(|name| format!("{name:<13} {}", list(made, &format!("/grant/{name}"))));
        format!("{}\n{:<13} {}\n{}", fields.join("\n"), "match", matched(made), scope.join("\n"))
    })?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the file is one that the command line names")]
fn read_keys(path: &std::path::Path) -> Result<Value, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("--jwks {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

/// What the forms mean, spelled out.
fn new_trust(command: &Create, keys: Option<Value>) -> NewTrust {
    let github = command.github.is_some() || command.github_repository.is_some();
    let other = command.kubernetes_issuer.as_ref().or(command.issuer.as_ref()).cloned();
    let number = |id: Option<u64>| id.map(|id| id.to_string());
    let service_account = command.service_account.as_ref().map(|name| format!("system:serviceaccount:{name}"));
    let formed = [
        ("repository_owner_id", number(command.github)),
        ("repository_id", number(command.github_repository)),
        ("environment", command.environment.clone()),
        ("ref", command.branch.clone()),
        ("job_workflow_ref", command.workflow.clone()),
        ("sub", service_account),
        ("/kubernetes.io/namespace", command.namespace.clone()),
    ];
    let mut conditions: BTreeMap<String, String> = command.claims.iter().cloned().collect();
    conditions.extend(formed.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let mut actions = vec![command.kind.action().to_owned()];
    actions.extend(command.delete.then(|| "delete".to_owned()));
    NewTrust {
        label: command.label.clone(),
        issuer: if github { GITHUB.to_owned() } else { other.unwrap_or_default() },
        audience: command.audience.clone(),
        jwks: keys.map(NewKeys::Given),
        algorithms: (!command.algorithm.is_empty()).then(|| command.algorithm.clone()),
        conditions,
        grant: NewGrant {
            actions,
            repositories: (!command.repository.is_empty()).then(|| command.repository.clone()),
            max_ttl_seconds: command.ttl,
        },
        single_use: command.single_use,
        expires_at: command.expires,
    }
}

/// The request as the API takes it: what is absent is left out.
fn requested(new: &NewTrust) -> Value {
    let keys = new.jwks.as_ref().map(|keys| match keys {
        NewKeys::Named(name) => json!(name),
        NewKeys::Given(keys) => keys.clone(),
    });
    let grant = filled([
        ("actions", Some(json!(new.grant.actions))),
        ("repositories", new.grant.repositories.as_ref().map(|v| json!(v))),
        ("max_ttl_seconds", new.grant.max_ttl_seconds.map(|v| json!(v))),
    ]);
    filled([
        ("label", Some(json!(new.label))),
        ("issuer", Some(json!(new.issuer))),
        ("audience", new.audience.as_ref().map(|v| json!(v))),
        ("jwks", keys),
        ("algorithms", new.algorithms.as_ref().map(|v| json!(v))),
        ("match", Some(json!(new.conditions))),
        ("grant", Some(grant)),
        ("single_use", new.single_use.map(|v| json!(v))),
        ("expires_at", new.expires_at.map(|at| json!(shown(at)))),
    ])
}

fn filled<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn matched(document: &Value) -> String {
    let claims = document.get("match").and_then(Value::as_object);
    let one = |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or_default());
    claims.map(|claims| claims.iter().map(one).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

fn row(document: &Value) -> [String; 6] {
    [
        text(document, "id").to_owned(),
        text(document, "issuer").to_owned(),
        matched(document),
        list(document, "/grant/actions"),
        list(document, "/grant/repositories"),
        text(document, "label").to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn asked(arguments: &str) -> Result<Value, clap::Error> {
        let words = ["create", "acme"].into_iter().chain(arguments.split(' '));
        Line::try_parse_from(words).map(|line| requested(&new_trust(&line.create, None)))
    }

    #[test]
    fn the_forms_say_what_tokens_of_github_and_of_clusters_say() {
        let github = asked("--github 123 --ref refs/heads/main --kind push --repository acme/web/*").unwrap();
        assert_eq!(
            github,
            json!({
                "label": "", "issuer": GITHUB,
                "match": {"ref": "refs/heads/main", "repository_owner_id": "123"},
                "grant": {"actions": ["push"], "repositories": ["acme/web/*"]},
            })
        );
        let cluster =
            asked("--kubernetes-issuer https://c.example --service-account prod:api --kind pull --ttl 30m").unwrap();
        assert_eq!(cluster["match"], json!({"sub": "system:serviceaccount:prod:api"}));
        assert_eq!(cluster["grant"], json!({"actions": ["pull"], "max_ttl_seconds": 1800}));
        let namespace = asked("--kubernetes-issuer https://c.example --namespace prod --kind pull").unwrap();
        assert_eq!(namespace["match"], json!({"/kubernetes.io/namespace": "prod"}));
        let other = asked("--issuer https://i.example --match sub=a=b --match x=* --kind push --delete").unwrap();
        assert_eq!(other["match"], json!({"sub": "a=b", "x": "*"}));
        assert_eq!(other["grant"]["actions"], json!(["push", "delete"]));
    }

    #[test]
    fn forms_that_do_not_belong_together_are_refused() {
        for arguments in [
            "--kind pull",
            "--github 1",
            "--github name --kind pull",
            "--github 1 --issuer https://i.example --match a=b --kind pull",
            "--kubernetes-issuer https://c.example --kind pull",
            "--kubernetes-issuer https://c.example --namespace a --ref refs/heads/main --kind pull",
            "--issuer https://i.example --kind pull",
            "--github 1 --namespace a --kind pull",
            "--issuer https://i.example --match nothing --kind pull",
        ] {
            assert!(asked(arguments).is_err(), "{arguments}");
        }
    }
}
