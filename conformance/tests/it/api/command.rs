//! `hythe repository`, `tag` and `usage`: the same through the command line.

use conformance::{
    Harness, Request,
    fixture::{self, Format},
    push,
    tools::Run,
};
use serde_json::{Value, json};

use super::{key, text};

struct Commands {
    harness: Harness,
    key: String,
}

impl Commands {
    async fn new() -> Self {
        let harness = Harness::start().await;
        let acme = harness.account("acme").await;
        let pusher = acme.caller(&acme.push().await);
        for (repository, tag) in [("web/api", "v1"), ("web/api", "v2"), ("app", "edge")] {
            push::bundle(&pusher, &format!("acme/{repository}"), tag, &fixture::image(tag, Format::Oci)).await;
        }
        let key = key(&acme, &harness, &[]).await.1["key"].as_str().unwrap().to_owned();
        Self { harness, key }
    }

    fn run(&self, args: &[&str]) -> Run {
        let url = format!("http://{}", self.harness.host());
        let run = Run::of(&conformance::harness::binary()).args(args);
        run.env("HYTHE_URL", url).env("HYTHE_KEY", &self.key)
    }

    /// What it prints as text; nothing else, because no terminal is there to see.
    async fn text(&self, args: &[&str]) -> String {
        let ended = self.run(args).ok().await;
        assert_eq!(ended.stderr, "", "{args:?}");
        ended.stdout
    }

    async fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        serde_json::from_str(&self.text(&args).await).unwrap()
    }
}

#[tokio::test]
async fn repositories_and_tags_are_kept_by_commands() {
    let hythe = Commands::new().await;
    let listed = hythe.text(&["repository", "list", "acme", "--prefix", "web/"]).await;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("REPOSITORY    KIND"), "{listed}");
    assert!(lines.len() == 2 && lines[1].starts_with("acme/web/api  image"), "{listed}");
    assert_eq!(hythe.json(&["repository", "list", "acme"]).await.as_array().unwrap().len(), 2);

    let set = hythe.json(&["repository", "set", "acme/web/api", "--public", "--immutable-tags=v1,rc-*"]).await;
    assert_eq!((&set["public"], &set["settings"]["immutable_tags"]), (&json!(true), &json!(["v1", "rc-*"])));
    hythe.harness.send(Request::get("/v2/acme/web/api/manifests/v1")).await.expect(200);
    let refused = hythe.run(&["tag", "delete", "acme/web/api", "v1"]).fails().await;
    assert_eq!(refused.stderr, "hythe: tag v1 is immutable in this repository; change that setting first\n");
    let all = hythe.json(&["repository", "set", "acme/web/api", "--immutable-tags", "--private"]).await;
    assert_eq!(all["settings"]["immutable_tags"], json!(["*"]));
    hythe.harness.send(Request::get("/v2/acme/web/api/manifests/v1")).await.expect(401);
    hythe.text(&["repository", "set", "acme/web/api", "--mutable-tags"]).await;
    hythe.text(&["tag", "delete", "acme/web/api", "v1"]).await;
    let tags = hythe.json(&["tag", "list", "acme/web/api"]).await;
    assert_eq!(tags.as_array().unwrap().iter().map(|tag| text(tag, "/tag")).collect::<Vec<_>>(), ["v2"]);

    let gone = hythe.text(&["repository", "delete", "acme/web/api"]).await;
    assert_eq!(gone, "repository acme/web/api is deleted\n");
    let absent = hythe.run(&["repository", "show", "acme/web/api"]).fails().await;
    assert_eq!(absent.stderr, "hythe: repository not known\n");
    let usage = hythe.json(&["usage", "acme"]).await;
    assert_eq!((&usage[0]["repositories"], &usage[0]["tags"]), (&json!(1), &json!(1)));
    let all = hythe.run(&["usage"]).fails().await;
    assert!(all.stderr.contains("owner"), "{}", all.stderr);
}

#[tokio::test]
async fn a_repository_that_a_wider_pattern_makes_public_is_not_called_private() {
    let hythe = Commands::new().await;
    hythe.harness.hythe(&["account", "set", "acme", "--public", "acme/web/*"]).await;
    hythe.text(&["repository", "set", "acme/web/api", "--public"]).await;
    let refused = hythe.run(&["repository", "set", "acme/web/api", "--private"]).fails().await;
    assert!(refused.stderr.contains("public by the pattern acme/web/*"), "{}", refused.stderr);
    let nothing = hythe.run(&["repository", "set", "acme/app"]).fails().await;
    assert_eq!(nothing.code, Some(64));
}
