//! What an answer is held against.

use conformance::Answer;
use registry::{access::Access, oci::route::OperationKind};

use super::{
    Cell,
    oracle::{Door, Principal, Verdict, served},
    request::Asked,
    world::{BETA, DELTA, Site},
};

/// Whose repositories a catalog lists.
pub(super) fn catalog_account(cell: &Cell<'_>) -> &'static str {
    match cell.visitor.principal {
        Principal::StrangerBasic => BETA,
        _ => cell.visitor.account,
    }
}

fn same(wrong: &mut Vec<String>, what: &str, is: &str, must: &str) {
    if is != must {
        wrong.push(format!("{what} is «{is}» instead of «{must}»"));
    }
}

/// Status, code, message and challenge.
pub(super) fn check(
    cell: &Cell<'_>,
    (site, host): (&Site, &str),
    asked: &Asked,
    answer: &Answer,
    wrong: &mut Vec<String>,
) {
    use Verdict as V;
    let Cell { kind, stage, verdict, .. } = cell;
    let (status, code) = match verdict {
        V::Served => served(*kind, *stage),
        V::Granted(_) => (200, ""),
        // Without anything to judge, the form itself is what is wrong.
        V::Wrong if asked.grantless => (400, "UNSUPPORTED"),
        V::Login | V::Invalid | V::Scope | V::Wrong => (401, "UNAUTHORIZED"),
        V::Reach | V::Kind | V::NoDelete | V::Address | V::Whole | V::Host => (403, "DENIED"),
        V::Frozen => (405, "UNSUPPORTED"),
    };
    if answer.status != status {
        wrong.push(format!("{} instead of {status}: {}", answer.status, answer.text()));
        return;
    }
    let challenge = match verdict {
        V::Login => site.challenge(host, &asked.scope, None),
        V::Invalid => site.challenge(host, &asked.scope, Some("invalid_token")),
        V::Scope => site.challenge(host, &asked.scope, Some("insufficient_scope")),
        V::Wrong if !asked.grantless => "Basic realm=\"Hythe\"".to_owned(),
        _ => String::new(),
    };
    same(wrong, "the challenge", &answer.joined("www-authenticate"), &challenge);
    if asked.title.starts_with("HEAD") {
        same(wrong, "the body of a HEAD", &answer.text(), "");
    } else {
        same(wrong, "the code", &answer.code(), code);
    }
    if asked.under_v2 {
        same(wrong, "the version header", answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    if status >= 400 {
        same(wrong, "the media type", answer.header("content-type"), "application/json");
        same(wrong, "the cache", answer.header("cache-control"), "no-store");
    }
    if status >= 400 && !asked.title.starts_with("HEAD") {
        let (message, must) = (answer.message(), message(cell, asked));
        if !message.contains(&must) || message.contains('\n') || message.is_empty() {
            wrong.push(format!("the message «{message}» does not say «{must}»"));
        }
    }
    content(cell, asked, answer, wrong);
}

/// What was asked for.
fn content(cell: &Cell<'_>, asked: &Asked, answer: &Answer, wrong: &mut Vec<String>) {
    use Verdict as V;
    match cell.verdict {
        V::Granted(actions) => {
            let document = answer.json();
            let scope = match actions {
                "" => String::new(),
                actions => format!("repository:{}:{actions}", cell.repository()),
            };
            same(wrong, "the scope", document["scope"].as_str().unwrap_or("none"), &scope);
            same(wrong, "the token twice", &document["token"].to_string(), &document["access_token"].to_string());
            same(wrong, "the time of issue", &document["issued_at"].to_string(), "null");
            same(wrong, "the cache", answer.header("cache-control"), "no-store");
        }
        V::Served if answer.status == 200 => {
            if let Some(bytes) = &asked.bytes
                && answer.body != bytes
            {
                wrong.push("other bytes than were pushed".to_owned());
            }
            if cell.kind == OperationKind::Catalog {
                let own = format!("{}/", catalog_account(cell));
                for name in answer.json()["repositories"].as_array().into_iter().flatten() {
                    if !name.as_str().unwrap_or_default().starts_with(&own) {
                        wrong.push(format!("the catalog shows {name}"));
                    }
                }
            }
        }
        _ => {}
    }
}

/// What the message must say.
fn message(cell: &Cell<'_>, asked: &Asked) -> String {
    use Verdict as V;
    let visitor = cell.visitor;
    let at_token = cell.kind.access() == Access::Token;
    let known = visitor.truth.filter(|_| at_token || visitor.principal == Principal::DeadBasic);
    match cell.verdict {
        V::Wrong if asked.grantless => "grant_type is password or refresh_token".to_owned(),
        V::Wrong => known.unwrap_or("user name or password is wrong, expired or revoked").to_owned(),
        V::Login => known.unwrap_or("authentication required").to_owned(),
        V::Invalid => "the token is invalid, expired or revoked".to_owned(),
        V::Scope => "the token lacks ".to_owned(),
        V::Reach => format!("; {} is outside it", cell.repository()),
        V::Kind => "this is a pull credential".to_owned(),
        V::NoDelete => "this credential may not delete; mint one with --delete".to_owned(),
        V::Address => "not allowed from this address".to_owned(),
        V::Whole => "the catalog needs the whole account".to_owned(),
        V::Host => {
            let host = match cell.door {
                Door::Registry | Door::Own => visitor.account,
                Door::Foreign => DELTA,
                Door::Nobodys => "nobody",
            };
            format!("this host serves account {host} alone")
        }
        V::Frozen if visitor.read_only => "this registry is read-only".to_owned(),
        V::Frozen => format!("account {} is read-only", visitor.account),
        V::Served | V::Granted(_) => String::new(),
    }
}
