//! The same with a store whose records of rights cannot be read, after the bound: nobody gets anything but the pulls that an account
//! chose to be served, by credentials that were known before.

use auth::{AccountChange, OnStale};
use registry::{access::Access, oci::route::OperationKind};

use super::{
    oracle::{Door, Place, Principal, Stage, Verdict, expected},
    request::{self, Target},
    standing_sessions,
    visitor::{self, Visitor, dress, scopes},
    world::{SERVED, World, order},
};

/// What must come back.
#[derive(Debug, PartialEq, Eq)]
enum Must {
    /// What was asked for, and a warning.
    Warned,
    /// 503 and when to try again.
    Later,
    /// The refusal of every day, or 503.
    Refused,
}

/// Pulls of this account are served, and who pulls there is known.
async fn pullers(world: &World) -> Vec<Visitor> {
    let change = AccountChange { on_stale: Some(OnStale::Serve), ..AccountChange::default() };
    world.change(SERVED, change).await;
    let login = world.mint(SERVED, &order("pull", &[], &[])).await;
    let token = world.token(&login, &scopes(SERVED, "pull")).await;
    vec![
        Visitor::new("pull credential, served", Principal::PullBasic).of(SERVED).login(&login),
        Visitor::new("pull token, served", Principal::PullToken).of(SERVED).token(&token),
    ]
}

fn must(kind: OperationKind, visitor: &Visitor) -> Must {
    let usual = expected(kind.access(), visitor.principal, Place::Own, Door::Registry);
    if usual.refuses() {
        return Must::Refused;
    }
    let pulls = matches!(kind.access(), Access::RepoRead | Access::V2Ping | Access::Catalog | Access::Token);
    if visitor.account == SERVED && pulls && usual != Verdict::Wrong { Must::Warned } else { Must::Later }
}

#[tokio::test]
async fn without_the_store_nobody_gets_anything_but_the_pulls_that_an_account_chose() {
    let world = World::new().await;
    let mut visitors = visitor::all(&world).await;
    visitors.extend(pullers(&world).await);
    world.settle().await;
    world.bring(Stage::NoRepository).await;
    world.bring(Stage::There).await;
    let standing = standing_sessions(&world, &visitors, Stage::There).await;
    let ask = async |visitor: &Visitor, kind, number| {
        let repository = World::repository(visitor.account, Place::Own);
        let session = standing[&repository].as_str();
        let target = Target { world: &world, visitor, repository: &repository, session };
        let asked = request::make(kind, number, &target);
        let site = if visitor.read_only { &world.read_only } else { &world.main };
        site.client.send(dress(&world, visitor, asked.request)).await
    };
    // Everybody has just been here: whatever may be remembered is.
    for visitor in &visitors {
        ask(visitor, OperationKind::ManifestGet, 0).await;
        ask(visitor, OperationKind::Ping, 0).await;
    }
    world.quiet().await;
    world.counted.blind(true);
    world.pass(6);
    let (mut cells, mut wrong) = (0, Vec::new());
    let before = world.counted.listing();
    for kind in OperationKind::ALL
        .into_iter()
        .filter(|kind| !matches!(kind.access(), Access::Open | Access::Api | Access::Exchange))
    {
        for visitor in &visitors {
            for number in 0..request::count(kind) {
                cells += 1;
                world.counted.take();
                let answer = ask(visitor, kind, number).await;
                let touched = world.counted.take();
                let must = must(kind, visitor);
                let well = match must {
                    Must::Warned => answer.status == 200 && answer.header("warning").contains(" s old"),
                    Must::Later => answer.status == 503 && answer.header("retry-after") == "1" && touched.is_empty(),
                    Must::Refused => [400, 401, 403, 405, 503].contains(&answer.status.as_u16()) && touched.is_empty(),
                };
                if !well {
                    let title = visitor.title;
                    wrong.push(format!(
                        "{title}, {kind:?}: {must:?}, {} {}, {touched:?}",
                        answer.status,
                        answer.text()
                    ));
                }
            }
        }
    }
    assert_eq!(world.counted.listing(), before, "the store is not what it was");
    println!("{cells} cells without the store");
    let (count, first) = (wrong.len(), wrong.iter().take(40).cloned().collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{count} cells are wrong:\n{}", first.join("\n"));
}
