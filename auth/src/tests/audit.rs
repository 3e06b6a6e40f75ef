//! The audit: what a line says, that nobody else reads it, and that nothing in it can be changed unseen.

use serde_json::Value;
use storage::{
    Generation,
    backend::{Records as _, memory::Fault},
    key,
};

use super::*;
use crate::audit::{Head, Outcome, PartyKind, Verified};

impl World {
    async fn lines(&self, account: &str) -> Vec<Event> {
        let page = Page { after: None, limit: 1000 };
        self.auth.audit(&Actor::Store, &name(account), None, &page).await.unwrap().items
    }

    async fn names(&self, account: &str) -> Vec<String> {
        self.lines(account).await.into_iter().map(|event| event.event).collect()
    }

    async fn generation(&self, account: &str) -> Generation {
        self.auth.resolve(&name(account)).await.unwrap().unwrap().generation().clone()
    }

    async fn verified(&self, account: &str, heads: &[Head]) -> Verified {
        self.auth.verify_audit(&Actor::Store, &self.generation(account).await, heads).await.unwrap()
    }

    /// The batches of an account: name and bytes.
    async fn batches(&self, account: &str) -> Vec<(String, bytes::Bytes)> {
        let prefix = key::audits(&self.generation(account).await);
        let mut batches = Vec::new();
        for row in self.records.page(&prefix, None, 1000).await.unwrap() {
            let found = self.records.get_plain(&prefix.plain(&row.name)).await.unwrap().unwrap();
            batches.push((row.name, found.body));
        }
        batches
    }

    async fn put(&self, account: &str, batch: &str, bytes: bytes::Bytes) {
        let prefix = key::audits(&self.generation(account).await);
        self.records.put(&prefix.plain(batch), bytes).await.unwrap();
    }

    async fn take_out(&self, account: &str, batch: &str) {
        let prefix = key::audits(&self.generation(account).await);
        self.records.delete(&prefix.plain(batch)).await.unwrap();
    }

    /// Five batches of one chain in acme.
    async fn chained() -> Self {
        let world = Self::new().await;
        for _ in 0..4 {
            world.pass(1);
            world.mint(&Actor::Store, "acme", pull()).await;
        }
        assert_eq!(world.batches("acme").await.len(), 5);
        world
    }

    async fn broken_at(&self, heads: &[Head]) -> Option<String> {
        self.verified("acme", heads).await.broken.map(|broken| broken.batch)
    }
}

fn pulled(account: &storage::Account, what: &str) -> Entry {
    Entry::new(Happened::ManifestPull, Party::only(PartyKind::Anonymous)).of(account).target(what)
}

#[tokio::test]
async fn what_grants_or_ends_a_right_is_in_the_store_when_the_call_returns() {
    let world = World::new().await;
    let (id, owner) = world.key("acme", NewKey { label: "ci".into(), ..NewKey::default() }).await;
    let first = world.mint(&owner, "acme", pull()).await;
    let renewal = MintRequest { replaces: Some(first.credential.id.to_string()), ..pull() };
    let second = world.mint(&owner, "acme", renewal).await;
    world.auth.revoke_credential(&owner, &name("acme"), &second.credential.id).await.unwrap();
    let public = PublicDocument { patterns: vec!["acme/open".into()], rev: 0 };
    world.auth.set_public(&owner, &name("acme"), &public, None).await.unwrap();
    world.auth.set_public(&owner, &name("acme"), &PublicDocument::default(), None).await.unwrap();
    world.auth.retire_key(&Actor::Store, &name("acme"), &id).await.unwrap();
    world.auth.revoke_key(&Actor::Store, &name("acme"), &id).await.unwrap();
    let lines = world.lines("acme").await;
    let told: Vec<_> = lines.iter().map(|e| (e.event.as_str(), e.target.as_deref().unwrap())).collect();
    let (id, first, second) = (id.as_str(), first.credential.id.as_str(), second.credential.id.as_str());
    let renewed = format!("{second} {first}");
    let expected = [
        ("account.create", "acme"),
        ("key.create", id),
        ("credential.mint", first),
        ("credential.renew", &renewed),
        ("credential.revoke", second),
        ("repo.public", "acme/open"),
        ("repo.private", "acme/open"),
        ("key.retire", id),
        ("key.revoke", id),
    ];
    assert_eq!(told, expected);
    let minted = serde_json::to_value(&lines[2]).unwrap();
    assert_eq!(minted["actor"], serde_json::json!({"type": "key", "id": id, "label": "ci"}));
    assert_eq!((&minted["account"], &minted["outcome"]), (&Value::from("acme"), &Value::from("ok")));
    assert_eq!(minted["ts"], "2027-01-15T08:00:00.000Z");
    assert_eq!(lines[0].actor.kind, PartyKind::Operator);
}

#[tokio::test]
async fn what_happens_to_an_account_stands_in_its_audit_and_in_the_installation_s() {
    let world = World::new().await;
    let change = |state| AccountChange { state: Some(state), ..AccountChange::default() };
    for state in [AccountState::ReadOnly, AccountState::Suspended, AccountState::Suspended, AccountState::Active] {
        world.pass(1);
        world.auth.change_account(&Actor::Store, &name("acme"), &change(state), None).await.unwrap();
    }
    let happened = ["account.create", "account.change", "account.suspend", "account.change", "account.resume"];
    assert_eq!(world.names("acme").await, happened);
    assert_eq!(world.names("beta").await, ["account.create"]);
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    world.create("acme").await.unwrap();
    assert_eq!(world.names("acme").await, ["account.create"], "a predecessor's lines are not its own");
    let page = Page { after: None, limit: 1000 };
    let lines = world.auth.installation_audit(&Actor::Store, None, &page).await.unwrap().items;
    let acme: Vec<_> = lines.iter().filter(|e| e.account == Some(name("acme"))).map(|e| e.event.as_str()).collect();
    assert_eq!(acme, [&happened[..], &["account.delete", "account.create"]].concat());
}

#[tokio::test]
async fn only_owner_and_viewer_of_the_whole_account_read_it() {
    let world = World::new().await;
    let key = async |account, role, repositories: &[&str]| {
        let repositories = repositories.iter().map(|&text| text.to_owned()).collect();
        world.key(account, NewKey { role, repositories, ..NewKey::default() }).await.1
    };
    let read = async |actor: Actor| world.auth.audit(&actor, &name("acme"), None, &Page::default()).await.is_ok();
    assert!(read(key("acme", Role::Owner, &[]).await).await);
    assert!(read(key("acme", Role::Viewer, &[]).await).await);
    assert!(!read(key("acme", Role::Owner, &["acme/web/*"]).await).await);
    assert!(!read(key("acme", Role::Publisher, &[]).await).await);
    assert!(!read(key("acme", Role::Installer, &[]).await).await);
    assert!(!read(key("beta", Role::Owner, &[]).await).await);
    let operator = world.auth.create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let operator = Actor::OperatorKey { id: operator.id };
    assert!(!read(operator.clone()).await);
    let page = Page::default();
    assert!(world.auth.installation_audit(&operator, None, &page).await.is_ok());
    let owner = key("acme", Role::Owner, &[]).await;
    assert!(world.auth.installation_audit(&owner, None, &page).await.is_err());
}

#[tokio::test]
async fn a_login_is_noted_and_a_stranger_s_is_not() {
    let world = World::new().await;
    let minted = world.mint(&Actor::Store, "acme", pull()).await;
    let (user, secret) = (minted.credential.username.clone(), minted.secret.reveal().to_owned());
    let presented = || Presented::Basic { user: &user, secret: &secret };
    let try_it =
        async |presented| world.auth.issue(request(presented, &["repository:acme/web:pull"]), HERE).await.is_ok();
    assert!(try_it(presented()).await);
    world.auth.revoke_credential(&Actor::Store, &name("acme"), &minted.credential.id).await.unwrap();
    assert!(!try_it(presented()).await);
    let guess = format!("hypl_{}", "0".repeat(88));
    assert!(!try_it(Presented::Basic { user: "acme.pull.0000000000000000", secret: &guess }).await);
    world.auth.flush_audit().await.unwrap();
    let lines = world.lines("acme").await;
    let told: Vec<_> = lines.iter().skip(2).map(|e| (e.event.as_str(), e.outcome)).collect();
    let ok = Outcome::Ok;
    assert_eq!(told, [("token.issue", ok), ("credential.revoke", ok), ("token.deny", Outcome::Denied)]);
    assert_eq!(lines[2].target.as_deref(), Some("repository:acme/web:pull"));
    assert_eq!(lines[2].actor.label.as_deref(), Some(user.as_str()));
    assert!(lines[4].reason.as_deref().unwrap().starts_with("this credential was revoked at "));
}

#[tokio::test]
async fn a_line_carries_where_its_request_came_from() {
    let world = World::new().await;
    let origin = Origin { ip: HERE, user_agent: Some("curl/8\n".into()), request_id: "abc".into() };
    Arc::new(origin).scope(world.mint(&Actor::Store, "acme", pull())).await;
    let line = world.lines("acme").await.remove(1);
    assert_eq!((line.ip, line.request_id.as_deref()), (Some(HERE), Some("abc")));
    assert_eq!(line.user_agent.as_deref(), Some("curl/8 "));
}

#[tokio::test]
async fn pages_go_through_every_line_once_and_begin_where_they_are_told() {
    let world = World::new().await;
    let acme = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    let mut all = vec!["acme".to_owned()];
    for batch in 0..150 {
        world.pass(1);
        for line in 0..batch % 4 {
            all.push(format!("{batch}.{line}"));
            world.auth.note(pulled(&acme, all.last().unwrap()));
        }
        world.auth.flush_audit().await.unwrap();
    }
    for limit in [1, 7, 100, 1000] {
        let (mut page, mut read) = (Page { after: None, limit }, Vec::new());
        loop {
            let listing = world.auth.audit(&Actor::Store, &name("acme"), None, &page).await.unwrap();
            assert!(listing.items.len() <= limit);
            read.extend(listing.items.into_iter().filter_map(|event| event.target));
            page.after = listing.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(read, all, "{limit}");
    }
    let since = Some(DateTime::from_timestamp(1_800_000_000 + 147, 0).unwrap());
    let page = Page { after: None, limit: 1000 };
    let late = world.auth.audit(&Actor::Store, &name("acme"), since, &page).await.unwrap().items;
    let late: Vec<_> = late.into_iter().filter_map(|event| event.target).collect();
    assert_eq!(late, ["146.0", "146.1", "147.0", "147.1", "147.2", "149.0"]);
}

#[tokio::test]
async fn an_audit_that_nobody_touched_is_whole() {
    let world = World::chained().await;
    let verified = world.verified("acme", &[]).await;
    assert_eq!(verified.broken, None);
    assert_eq!((verified.chains, verified.batches, verified.events, verified.lost), (1, 5, 5, 0));
    assert_eq!(world.verified("acme", &verified.heads).await, verified);
    // Another process begins a chain of its own, and a head of before is still met.
    let other = world.sibling(settings()).await.unwrap();
    other.mint(&Actor::Store, &name("acme"), &pull()).await.unwrap();
    let later = world.verified("acme", &verified.heads).await;
    assert_eq!((later.chains, later.batches, later.broken), (2, 6, None));
}

#[tokio::test]
async fn a_changed_batch_is_found() {
    let world = World::chained().await;
    let heads = world.verified("acme", &[]).await.heads;
    for at in 0..5 {
        let (batch, bytes) = world.batches("acme").await.remove(at);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let changed = text.replacen("\"label\":\"store\"", "\"label\":\"stone\"", 1);
        assert_ne!(changed, text);
        world.put("acme", &batch, changed.into()).await;
        // The last one is bound by a head alone.
        assert_eq!(world.broken_at(&[]).await.as_ref(), (at < 4).then_some(&batch));
        assert_eq!(world.broken_at(&heads).await.as_ref(), Some(&batch));
        world.put("acme", &batch, bytes).await;
        assert_eq!(world.broken_at(&heads).await, None);
    }
}

#[tokio::test]
async fn a_batch_that_was_taken_out_is_found() {
    let world = World::chained().await;
    let heads = world.verified("acme", &[]).await.heads;
    for at in 0..5 {
        let (batch, bytes) = world.batches("acme").await.remove(at);
        world.take_out("acme", &batch).await;
        assert_eq!(world.broken_at(&[]).await.as_ref(), (at < 4).then_some(&batch));
        assert_eq!(world.broken_at(&heads).await.as_ref(), Some(&batch), "a cut tail is found by its head");
        world.put("acme", &batch, bytes).await;
    }
    for (batch, _) in world.batches("acme").await {
        world.take_out("acme", &batch).await;
    }
    assert_eq!(world.broken_at(&[]).await, None);
    assert!(world.broken_at(&heads).await.is_some(), "so is a chain that is gone whole");
}

#[tokio::test]
async fn batches_in_another_order_or_another_account_are_found() {
    let world = World::chained().await;
    let batches = world.batches("acme").await;
    world.put("acme", &batches[1].0, batches[2].1.clone()).await;
    world.put("acme", &batches[2].0, batches[1].1.clone()).await;
    assert_eq!(world.broken_at(&[]).await.as_ref(), Some(&batches[1].0));
    let foreign = world.batches("beta").await.remove(0);
    let beta = World::chained().await;
    beta.put("acme", &foreign.0, foreign.1).await;
    assert_eq!(beta.broken_at(&[]).await, Some(foreign.0));
}

#[tokio::test]
async fn a_batch_that_was_slipped_in_is_found() {
    let world = World::chained().await;
    let batches = world.batches("acme").await;
    // As good as one gets it: the end of the chain once more under a later name, with its opening made right.
    let (last, bytes) = batches.last().unwrap();
    let forged = last.replace("/080004", "/080005");
    assert_ne!(&forged, last);
    let text = String::from_utf8(bytes.to_vec()).unwrap().replace(last, &forged);
    world.put("acme", &forged, text.into()).await;
    assert_eq!(world.broken_at(&[]).await, Some(forged));
    world.put("acme", "2027-01-15/rubbish", "x".into()).await;
    let broken = world.verified("acme", &[]).await.broken.unwrap();
    assert!(broken.batch.starts_with("2027-01-15/080005"), "{broken:?}");
}

#[tokio::test]
async fn a_failed_write_fails_the_call_and_the_line_is_written_once_when_the_store_is_back() {
    for fault in [Fault::Fail, Fault::LoseAnswer, Fault::Duplicate, Fault::Delay] {
        let world = World::new().await;
        // The first mint of an issuer makes its count as well.
        world.mint(&Actor::Store, "acme", pull()).await;
        let calls = {
            let before = world.records.faults().calls();
            world.mint(&Actor::Store, "acme", pull()).await;
            world.records.faults().calls() - before
        };
        // The audit is the last call of a mint.
        world.records.faults().after(calls - 1, fault);
        let outcome = world.auth.mint(&Actor::Store, &name("acme"), &pull()).await;
        if fault != Fault::Duplicate {
            assert!(matches!(outcome, Err(Error::NotAudited(_))), "{fault:?}: {outcome:?}");
        }
        world.mint(&Actor::Store, "acme", pull()).await;
        world.records.faults().deliver();
        assert_eq!(world.names("acme").await.len(), 5, "{fault:?}");
        let verified = world.verified("acme", &[]).await;
        assert_eq!((verified.broken, verified.events), (None, 5), "{fault:?}");
        assert_eq!(world.auth.audit_counts().waiting, 0);
    }
}

#[tokio::test]
async fn while_the_store_is_away_a_bounded_number_waits_and_the_rest_is_counted() {
    let world = World::new().await;
    let acme = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    world.records.faults().die_after(0);
    let long = "x".repeat(4000);
    for _ in 0..10_000 {
        world.auth.note(pulled(&acme, &long));
    }
    let counts = world.auth.audit_counts();
    assert!(counts.waiting <= 16 << 20 && counts.waiting > 14 << 20, "{counts:?}");
    assert!(counts.dropped > 5000, "{counts:?}");
    assert!(world.auth.flush_audit().await.is_err());
    world.records.faults().heal();
    // What ends a right has room although what uses one has none.
    world
        .auth
        .set_public(&Actor::Store, &name("acme"), &PublicDocument { patterns: vec!["acme/x".into()], rev: 0 }, None)
        .await
        .unwrap();
    world.auth.flush_audit().await.unwrap();
    let verified = world.verified("acme", &[]).await;
    assert_eq!((verified.broken, verified.lost), (None, counts.dropped));
    assert_eq!(verified.events + verified.lost, 10_000 + 2);
    assert_eq!(world.auth.audit_counts().waiting, 0);
    let largest = world.batches("acme").await.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(largest <= (256 << 10) + 8192, "{largest}");
}

#[tokio::test]
async fn many_at_once_share_batches_and_each_is_in_the_store_when_it_returns() {
    let world = World::new().await;
    let mints = (0..200).map(|_| world.mint(&Actor::Store, "acme", pull()));
    futures::future::join_all(mints).await;
    let verified = world.verified("acme", &[]).await;
    assert_eq!((verified.broken, verified.events), (None, 201));
}

#[tokio::test]
async fn whole_days_go_when_their_time_is_over_and_the_chain_begins_at_the_first_that_is_kept() {
    let world = World::new().await;
    let days = |days: u32| AccountChange {
        policy: PolicyChange { audit_days: Some(Some(days)), ..PolicyChange::default() },
        ..AccountChange::default()
    };
    world.auth.change_account(&Actor::Store, &name("acme"), &days(10), None).await.unwrap();
    for _ in 0..20 {
        world.pass(86_400);
        world.mint(&Actor::Store, "acme", MintRequest { ttl_seconds: Some(60), ..pull() }).await;
    }
    assert_eq!(world.auth.sweep_audit(None).await.unwrap(), None);
    let lines = world.lines("acme").await;
    assert_eq!(lines.first().unwrap().ts.date_naive().to_string(), "2027-01-25");
    let swept = lines.last().unwrap();
    assert_eq!((swept.event.as_str(), swept.target.as_deref()), ("audit.sweep", Some("2027-01-25")));
    let verified = world.verified("acme", &[]).await;
    assert_eq!((verified.broken, verified.kept_from), (None, "2027-01-25".parse().ok()));
    assert_eq!(world.names("beta").await, ["account.create"], "400 days are not over");
    // A day that is kept may not be missing, swept or not.
    let (batch, _) = world.batches("acme").await.remove(0);
    world.take_out("acme", &batch).await;
    assert_eq!(world.broken_at(&[]).await, Some(batch));
}

#[tokio::test]
async fn a_deleted_account_s_audit_is_kept_for_its_time_and_then_goes_whole() {
    let world = World::new().await;
    let generation = world.generation("acme").await;
    world.auth.delete_account(&Actor::Store, &name("acme"), None).await.unwrap();
    let left = async || world.records.page(&key::audits(&generation), None, 10).await.unwrap().len();
    world.pass(400 * 86_400);
    world.auth.sweep_audit(None).await.unwrap();
    assert_eq!(left().await, 2);
    world.pass(86_400);
    world.auth.sweep_audit(None).await.unwrap();
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn how_long_it_is_kept_is_the_operator_s_word() {
    let world = World::new().await;
    let (_, owner) = world.owner("acme").await;
    let change = |days| AccountChange {
        policy: PolicyChange { audit_days: Some(days), ..PolicyChange::default() },
        ..AccountChange::default()
    };
    for days in [Some(1), Some(3650)] {
        let error = world.auth.change_account(&owner, &name("acme"), &change(days), None).await.unwrap_err();
        assert_eq!(fields(&error), ["/policy/audit_days"]);
    }
    for days in [Some(0), Some(3651)] {
        let error = world.auth.change_account(&Actor::Store, &name("acme"), &change(days), None).await.unwrap_err();
        assert_eq!(fields(&error), ["/policy/audit_days"]);
    }
    let changed = world.auth.change_account(&Actor::Store, &name("acme"), &change(Some(30)), None).await.unwrap();
    assert_eq!(changed.policy.audit_days, Some(30));
}

#[tokio::test]
async fn nothing_that_is_kept_holds_a_secret() {
    let world = World::new().await;
    let operator = world.auth.create_operator_key(&Actor::Store, &NewOperatorKey::default()).await.unwrap();
    let made = world.auth.create_key(&Actor::Store, &name("acme"), &NewKey::default()).await.unwrap();
    let key = made.key.unwrap().reveal().to_owned();
    let careless = NewKey { label: format!("the key {key}"), ..NewKey::default() };
    let (_, actor) = world.key("acme", careless).await;
    let minted = world.mint(&actor, "acme", pull()).await;
    let token = world.token(&minted, &["repository:acme/web:pull"]).await;
    let agent = format!("{key} {token} {}", minted.secret.reveal());
    let origin = Origin { ip: HERE, user_agent: Some(agent), request_id: "r".into() };
    let acme = world.auth.resolve(&name("acme")).await.unwrap().unwrap();
    Arc::new(origin).scope(async { world.auth.note(pulled(&acme, &format!("acme/web:{key}"))) }).await;
    world.auth.flush_audit().await.unwrap();
    let mut kept = String::new();
    for (name, _) in world.records.listing().iter().filter(|(name, _)| name.starts_with("audit/")) {
        let (generation, batch) = name.trim_start_matches("audit/").split_once('/').unwrap();
        let prefix = key::audits(&generation.parse().unwrap());
        let found = world.records.get_plain(&prefix.plain(batch)).await.unwrap().unwrap();
        kept += std::str::from_utf8(&found.body).unwrap();
    }
    assert!(kept.contains("hyak_***") && kept.contains("acme/web:hyak_***"), "{kept}");
    let operator = operator.key.unwrap();
    for secret in [operator.reveal(), &key, minted.secret.reveal(), &token] {
        let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(secret));
        // Neither whole nor in its longer pieces.
        for piece in
            secret.as_bytes().windows(40).map(|piece| std::str::from_utf8(piece).unwrap()).chain([hash.as_str()])
        {
            assert!(!kept.contains(piece), "{piece}");
        }
    }
}
