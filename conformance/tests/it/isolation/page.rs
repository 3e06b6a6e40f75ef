//! `docs/isolation-matrix.md`: the oracle, readable.

use std::fmt::Write as _;

use registry::{access::Access, api::ApiOperation, oci::route::OperationKind};

use super::{
    api,
    oracle::{COLUMNS, Door, Principal, Verdict, row, row_at},
    size,
    visitor::{self, Visitor},
    world::World,
};

const HEAD: &str = "\
# Isolation matrix

Generated from the test that proves it (`conformance/tests/it/isolation.rs`); rewrite it with `HYTHE_REWRITE=1 cargo test --release \
-p hythe-conformance --test it isolation`.

Each row is a kind of caller, each column what it asks for in its own account; «another account's» holds for every right there. \
**yes** is what was asked for, or the plain 404 of what is not there. Everything else is a refusal, and the test checks of each one \
that

- status, error code, message and challenge are exactly these,
- the answer is the same, byte for byte, whether the account, the repository or the content exists or not,
- it cost no storage call,
- nothing in the store has changed.

A 401 under `/v2/` carries a Bearer challenge with the scope to ask for; `error=` stands in it only where the table says so. \
A 403 means that no other token of this credential would do, and says what the credential is for.

";

fn right(access: Access) -> Option<&'static str> {
    match access {
        Access::Open => Some("open to anybody"),
        Access::Token => Some("`/token`"),
        Access::Exchange => {
            Some("a token of an issuer that the account trusts, and nothing of what stands in the tables")
        }
        Access::V2Ping => Some("`/v2/`"),
        Access::RepoRead => Some("read"),
        Access::RepoWrite => Some("write"),
        Access::RepoDelete => Some("delete"),
        Access::Upload => Some("upload session"),
        Access::Catalog => Some("`_catalog`"),
        Access::Api => Some("`/api/v1`, by a table of its own"),
        Access::AccountRead
        | Access::AccountWrite
        | Access::KeyAdmin
        | Access::Mint
        | Access::Session
        | Access::Operator => None,
    }
}

/// What the doors are.
const DOORS: &str = "
## At an account's host

One of each kind and account above comes to names of accounts as well: its own account's, one that was given to another account, and one \
that an account would have that does not exist. At its own everything is as above, except for a stranger there:

";
const OTHER_DOORS: &str = "
At a name of another account, and at one of no account, alike:

";

/// What `stale` shows.
const STALE: &str = "
## Without the store

Everybody above comes once more when no record of rights can be read and the bound is over. Who would be served gets 503 with \
`Retry-After`, public repositories included; who is refused every day is refused still. One row differs: where the account chose \
`on_stale = \"serve\"`, pull credentials that were known read, list, log in and get tokens to pull, each answer with a `Warning` that says how old \
what is known has become.
";

/// What the rules have and this build has not.
const ABSENT: &str = "
## Not in the table yet

These are ways to come, or states, that this build does not have; each gets its row or column with what brings it.

- The console's own pages.
- File URLs (`/f/`) and published files (`/pub/`).
";

fn render(visitors: &[Visitor], api_cells: usize) -> String {
    let mut page = HEAD.to_owned();
    let (cells, refusals) = size(visitors);
    let _ = writeln!(
        page,
        "{} ways to come ask for every operation in four stages of what is there: {cells} requests, of which {refusals} are refusals. \
         `/api/v1` has {api_cells} more, by every kind of key, and what only keys may ask for is asked for by everybody above who has none.\n",
        visitors.len()
    );
    let _ = writeln!(page, "| who | {} |\n| --- |{}", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len()));
    for principal in Principal::ALL {
        let cells = row(principal).map(Verdict::cell);
        let _ = writeln!(page, "| {} | {} |", principal.title(), cells.join(" | "));
    }
    let mut table = |intro: &str, door, rows: &[Principal]| {
        page += intro;
        let _ = writeln!(page, "| who | {} |\n| --- |{}", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len()));
        for principal in rows {
            let cells = row_at(door, *principal).map(Verdict::cell);
            let _ = writeln!(page, "| {} | {} |", principal.title(), cells.join(" | "));
        }
    };
    let other = |principal: &Principal| row_at(Door::Own, *principal) != row(*principal);
    table(DOORS, Door::Own, &Principal::ALL.into_iter().filter(other).collect::<Vec<_>>());
    table(OTHER_DOORS, Door::Foreign, &Principal::ALL);
    page += "\n## What belongs to which column\n\n| operation | column |\n| --- | --- |\n";
    for kind in OperationKind::ALL {
        let _ = writeln!(page, "| `{}` | {} |", kind.label(), right(kind.access()).unwrap_or("`/api/v1`"));
    }
    page += "\n## `/api/v1`\n\nIn the caller's own account. In another one every access key gets 403, whether it exists or not; an \
        operator key has the same rights in all of them.\n\n";
    let callers = api::Caller::ALL.map(api::Caller::title);
    let _ = writeln!(page, "| operation | {} |\n| --- |{}", callers.join(" | "), " --- |".repeat(callers.len()));
    for operation in ApiOperation::ALL {
        let cells = api::Caller::ALL.map(|caller| api::expected(operation, caller).cell());
        let _ = writeln!(page, "| `{}` | {} |", operation.label(), cells.join(" | "));
    }
    page += "\nAn installer's key ends only what it minted. A publisher's key deletes repositories and tags if it was made with \
        `--delete`. A key reaches the repositories of its patterns only, and usage is for keys that reach the whole account. A session \
        is read from its cookie, where there is no `Authorization`; it has what its key has, in the same account.\n";
    page += "\n## Who was sent to try\n\n| who | as |\n| --- | --- |\n";
    for principal in Principal::ALL {
        let titles: Vec<_> = visitors.iter().filter(|v| v.principal == principal).map(|v| v.title).collect();
        let _ = writeln!(page, "| {} | {} |", principal.title(), titles.join("; "));
    }
    page + STALE + ABSENT
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the page is a file of the repository")]
async fn the_page_of_the_isolation_matrix_is_current() {
    let world = World::new().await;
    let visitors = visitor::all(&world).await;
    let page = render(&visitors, api::size(&World::new().await).await);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isolation-matrix.md");
    if std::env::var_os("HYTHE_REWRITE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == page, "docs/isolation-matrix.md is stale: run this test again with HYTHE_REWRITE=1");
}
