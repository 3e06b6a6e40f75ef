//! What clients stumble over elsewhere, in their own words: the requests are those that the threads show.

use conformance::{
    Actor, Answer, Caller, Harness, Request,
    fixture::{self, Algorithm, Content, Format},
    push,
    tools::Run,
};
use serde_json::Value;

/// The challenge of an answer, in front of which nothing else is offered.
#[track_caller]
fn challenge(answer: &Answer) -> String {
    let challenge = answer.joined("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"") && !challenge.contains("Basic"), "{challenge}");
    challenge
}

fn token(answer: &Answer) -> String {
    answer.json()["token"].as_str().unwrap_or_default().to_owned()
}

/// helm/helm#12121: to push, helm asks for the same repository twice, `pull` and `pull,push`, and a registry that reads only the
/// first says `insufficient_scope` for ever. Both ways to repeat, and both methods.
#[tokio::test]
async fn repeated_scopes_are_all_granted() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let login = account.push().await;
    let caller = account.caller(&login);
    let (pull, push) = ("repository:acme/chart:pull", "repository:acme/chart:pull,push");
    let form = |scope: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "password").append_pair("service", "").append_pair("username", &login.username);
        form.append_pair("password", &login.password).append_pair("scope", scope);
        let request = Request::post("/token").header("Content-Type", "application/x-www-form-urlencoded");
        request.body(form.finish())
    };
    for answer in [
        caller.ask_token(&[pull, push]).await,
        caller.ask_token(&[push, pull]).await,
        caller.ask_token(&[&format!("{pull}%20{push}")]).await,
        caller.ask_token(&[&format!("{push}+{pull}")]).await,
        caller.ask_token(&["repository:acme/chart:pull", "repository:acme/chart:push"]).await,
        harness.send(form(&format!("{pull} {push}"))).await,
        harness.send(form(&format!("{push} {pull}"))).await,
    ] {
        let holder = Caller::bearer(harness.client(), &token(&answer.expect(200)));
        holder.send(Request::post("/v2/acme/chart/blobs/uploads/")).await.expect(202);
        holder.send(Request::head("/v2/acme/chart/manifests/1.0.0")).await.expect(404);
    }
}

/// helm/helm#30987: `helm registry login` posts for a token without a scope and comes to `/v2/` with it; a registry without that
/// method, or that takes such a token for nothing, cannot be logged in to.
#[tokio::test]
async fn a_token_without_scope_logs_in_and_asks_on() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let login = account.push().await;
    let form = |more: &str| {
        let mut form = url::form_urlencoded::Serializer::new(more.to_owned());
        form.append_pair("grant_type", "password").append_pair("client_id", "helm");
        form.append_pair("username", &login.username).append_pair("password", &login.password);
        let request = Request::post("/token").header("Content-Type", "application/x-www-form-urlencoded");
        request.body(form.finish())
    };
    let first = challenge(&harness.send(Request::get("/v2/")).await.expect(401));
    assert!(!first.contains("scope=") && !first.contains("error="), "{first}");
    let caller = account.caller(&login);
    for answer in [
        harness.send(form("")).await,
        harness.send(form("scope=")).await,
        caller.send(Request::get("/token?client_id=docker&offline_token=true")).await,
        caller.send(Request::get("/token?scope=")).await,
    ] {
        let answer = answer.expect(200);
        // docker would keep it in the place of the password.
        assert!(answer.json().get("refresh_token").is_none(), "{}", answer.text());
        let holder = Caller::bearer(harness.client(), &token(&answer));
        holder.send(Request::get("/v2/")).await.expect(200);
        // And it leads on to the token that is needed.
        let refused = holder.send(Request::head("/v2/acme/chart/manifests/1.0.0")).await.expect(401);
        let asked = challenge(&refused);
        assert!(asked.contains("scope=\"repository:acme/chart:pull\",error=\"insufficient_scope\""), "{asked}");
    }
}

/// helm/helm#32144: the push begins with a HEAD. If that is not challenged with what to ask for, or the first write with a token to
/// pull is not, helm never gets a token that pushes.
#[tokio::test]
async fn every_step_of_a_push_that_begins_with_a_head_is_challenged() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let caller = account.caller(&account.push().await);
    let config = Content::random(Algorithm::Sha256, "a chart's config", 100);
    let scope = |challenge: &str| {
        let (_, rest) = challenge.split_once("scope=\"").unwrap_or_else(|| panic!("no scope in {challenge}"));
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let head = || Request::head(format!("/v2/acme/chart/blobs/{}", config.digest));
    let manifest = || Request::head("/v2/acme/chart/manifests/1.0.0");
    for request in [head(), manifest()] {
        let first = harness.send(request).await.expect(401);
        assert!(first.body.is_empty());
        assert_eq!(scope(&challenge(&first)), "repository:acme/chart:pull");
    }
    let to_pull = caller.with_token(&["repository:acme/chart:pull"]).await;
    for request in [head(), manifest()] {
        to_pull.send(request).await.expect(404);
    }
    let open = || Request::post("/v2/acme/chart/blobs/uploads/");
    let put = || Request::put("/v2/acme/chart/manifests/1.0.0").body("{}");
    for request in [open(), put()] {
        let refused = to_pull.send(request).await.expect(401);
        let challenge = challenge(&refused);
        assert!(challenge.ends_with("error=\"insufficient_scope\""), "{challenge}");
        assert_eq!(scope(&challenge), "repository:acme/chart:pull,push");
    }
    let to_push = caller.with_token(&["repository:acme/chart:pull,push"]).await;
    to_push.send(open()).await.expect(202);
}

/// moby/moby#33558: one large layer takes longer than its token lives, and the push ends with «authentication required».
#[tokio::test]
async fn a_push_outlives_the_time_that_its_token_was_told() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let login = account.mint(&["--kind", "push", "--ttl", "5h"]).await;
    let caller = account.caller(&login);
    let asked = caller.ask_token(&["repository:acme/web:pull,push"]).await.expect(200);
    assert_eq!(asked.json()["expires_in"], 300);
    // docker would reckon with the server's clock and its own.
    assert_eq!(asked.json()["issued_at"], Value::Null);
    let holder = Caller::bearer(harness.client(), &token(&asked));
    let image = fixture::image("slow", Format::Oci);
    let (layer, others) = image.blobs.split_first().unwrap();
    let session = push::open(&holder, "acme/web").await;
    let half = layer.bytes.len() / 2;
    push::chunk(&holder, &session, 0, layer.bytes.slice(..half)).await.expect(202);

    harness.set_clock(4 * 3600);
    push::chunk(&holder, &session, half, layer.bytes.slice(half..)).await.expect(202);
    push::commit(&holder, &session, &layer.digest).await.expect(201);
    for blob in others {
        push::blob(&holder, "acme/web", blob).await;
    }
    holder.send(push::manifest_request("acme/web", "v1", image.root())).await.expect(201);

    // Even the credential may run out: the layer arrives, and no manifest does without a living one.
    let late = Content::random(Algorithm::Sha256, "the last layer", 1000);
    let session = push::open(&holder, "acme/web").await;
    push::chunk(&holder, &session, 0, late.bytes.slice(..500)).await.expect(202);
    harness.set_clock(6 * 3600);
    push::chunk(&holder, &session, 500, late.bytes.slice(500..)).await.expect(202);
    push::commit(&holder, &session, &late.digest).await.expect(201);
    holder.send(push::manifest_request("acme/web", "v2", image.root())).await.refused(401, "UNAUTHORIZED");
    holder.send(Request::post("/v2/acme/web/blobs/uploads/")).await.refused(401, "UNAUTHORIZED");
    let next = account.caller(&account.push().await);
    next.send(Request::head(format!("/v2/acme/web/blobs/{}", late.digest))).await.expect(200);
}

/// containerd/containerd#6377, #8388: one token for the whole pull, never asked for again. The fourth layer of a slow pull, two hours
/// later, is answered.
#[tokio::test]
async fn a_pull_goes_on_for_hours_with_the_token_that_it_began_with() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let image = fixture::image("many layers", Format::Oci);
    push::bundle(&account.caller(&account.push().await), "acme/web", "v1", &image).await;
    let puller = account.caller(&account.pull().await).with_token(&["repository:acme/web:pull"]).await;
    puller.send(Request::get("/v2/acme/web/manifests/v1")).await.expect(200);
    for (hours, blob) in (0..).zip(&image.blobs) {
        harness.set_clock(hours * 2 * 3600 - 60);
        let read = puller.send(Request::get(format!("/v2/acme/web/blobs/{}", blob.digest))).await.expect(200);
        assert_eq!(read.body, blob.bytes, "after {} h", 2 * hours);
    }
    // It is no way to live on: six hours are the end, and the refusal says so in a way that makes the client ask again.
    harness.set_clock(7 * 3600);
    let refused = puller.send(Request::get("/v2/acme/web/manifests/v1")).await.refused(401, "UNAUTHORIZED");
    assert!(challenge(&refused).ends_with("error=\"invalid_token\""));
}

/// containerd keeps a token per scope and drops it only when a challenge carries `error=`; and a first challenge that carried one
/// would end the pull. So every refused Bearer has it, and nothing else does.
#[tokio::test]
async fn a_refused_token_is_told_with_an_error_and_a_first_challenge_without() {
    let harness = Harness::start().await;
    let account = harness.account("acme").await;
    let scope = ["repository:acme/web:pull"];
    let pull = account.pull().await;
    let revoked = account.caller(&pull).with_token(&scope).await;
    account.revoke(&pull).await;
    let phoenix = harness.account("phoenix").await;
    let former = phoenix.caller(&phoenix.pull().await).with_token(&["repository:phoenix/web:pull"]).await;
    harness.hythe(&["account", "delete", "phoenix"]).await;
    harness.hythe(&["account", "create", "phoenix"]).await;
    harness.heard().await;
    let old = account.caller(&account.mint(&["--kind", "pull", "--ttl", "60s"]).await).with_token(&scope).await;
    harness.set_clock(61);
    let garbage = Caller::bearer(harness.client(), "garbage");
    let cut = Caller::bearer(harness.client(), revoked.authorization().unwrap().split('.').next().unwrap());
    let key = account.actor(Actor::AccessKey).await;
    for (caller, repository) in [
        (&revoked, "acme/web"),
        (&former, "phoenix/web"),
        (&old, "acme/web"),
        (&garbage, "acme/web"),
        (&cut, "acme/web"),
        (&key, "acme/web"),
    ] {
        let manifest = format!("/v2/{repository}/manifests/v1");
        let list = Request::get(format!("/v2/{repository}/tags/list"));
        for request in [Request::get(&*manifest), Request::head(&*manifest), list] {
            let told = challenge(&caller.send(request).await.expect(401));
            let end = format!("scope=\"repository:{repository}:pull\",error=\"invalid_token\"");
            assert!(told.ends_with(&end), "{told}");
        }
    }
    for path in ["/v2/", "/v2/acme/web/manifests/v1", "/v2/_catalog"] {
        let wrong = account.actor(Actor::WrongKey).await;
        for answer in [harness.send(Request::get(path)).await, wrong.send(Request::get(path)).await] {
            let told = challenge(&answer.expect(401));
            assert!(!told.contains("error="), "{told}");
        }
    }
}

/// docker/cli#5582: docker keeps one credential for a host. So one credential reaches all that its holder was given in an account, what
/// is rendered fills one slot whose name is the host alone, and a second name of the registry is a second slot.
#[tokio::test]
async fn one_credential_for_a_host_is_enough() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let vendor = acme.caller(&acme.push().await);
    let beta = harness.account("beta").await;
    let other = beta.caller(&beta.push().await);
    let image = fixture::image("slots", Format::Oci);
    for repository in ["acme/web/api", "acme/charts/web", "acme/secret/x"] {
        push::bundle(&vendor, repository, "v1", &image).await;
    }
    push::bundle(&other, "beta/app", "v1", &image).await;

    let both = acme.mint(&["--kind", "pull", "--repository", "acme/web/*", "--repository", "acme/charts/*"]).await;
    let config = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, both.field("dockerconfigjson"));
    let config: Value = serde_json::from_slice(&config.unwrap()).unwrap();
    let slots: Vec<_> = config["auths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(slots, [harness.host()]);

    let crane = || Run::new("crane").env("DOCKER_CONFIG", harness.scratch("slots"));
    let login = async |host: &str, login: &conformance::Credential| {
        let args = ["auth", "login", "--password-stdin", "-u", &login.username, host];
        crane().args(args).input(login.password.clone()).ok().await;
    };
    let host = harness.host();
    let second = host.replace("127.0.0.1", "localhost");
    let digest = async |host: &str, name: &str| crane().args(["digest", &format!("{host}/{name}:v1")]).end().await;
    login(&host, &both).await;
    for (name, allowed) in
        [("acme/web/api", true), ("acme/charts/web", true), ("acme/secret/x", false), ("beta/app", false)]
    {
        assert_eq!(digest(&host, name).await.success, allowed, "{name}");
    }
    // The other vendor's credential beside it, under the other name.
    login(&second, &beta.pull().await).await;
    assert!(digest(&second, "beta/app").await.success);
    assert!(digest(&host, "acme/web/api").await.success);
    // In one slot the last login is the one that counts, and the refusal says whose it is.
    login(&host, &beta.pull().await).await;
    let refused = digest(&host, "acme/web/api").await;
    assert!(!refused.success && refused.all().contains("this credential is for beta/**"), "{}", refused.all());
}
