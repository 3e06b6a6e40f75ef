//! buildctl, with a buildkitd of the test's own, from Dockerfiles that run nothing.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    Credential, Harness, Request,
    harness::{log_file, running, write_file},
    tools::{self, Ended, Run},
};
use serde_json::json;

use super::{bad_keys, digest_of};

/// A buildkitd with its own root and socket, on runc and plain folders.
struct Daemon<'a> {
    harness: &'a Harness,
    child: Child,
    dir: PathBuf,
}

impl<'a> Daemon<'a> {
    async fn start(harness: &'a Harness) -> Self {
        let dir = harness.scratch("buildkit");
        let (config, log) = (dir.join("buildkitd.toml"), dir.join("log"));
        let text = format!(
            "[worker.containerd]\nenabled = false\n[worker.oci]\nenabled = true\nsnapshotter = \"native\"\nbinary = {:?}\n\
             networkMode = \"host\"\n[registry.{:?}]\nhttp = true\n",
            tools::find("runc"),
            harness.host()
        );
        write_file(&config, text.as_bytes());
        let child = Command::new(tools::find("buildkitd"))
            .args(["--addr", &socket(&dir), "--config"])
            .arg(&config)
            .arg("--root")
            .arg(dir.join("root"))
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        let mut daemon = Self { harness, child, dir };
        running(
            &mut daemon,
            |daemon| &mut daemon.child,
            &log,
            async |daemon| daemon.buildctl().args(["debug", "workers"]).end().await.success,
        )
        .await;
        daemon
    }

    fn buildctl(&self) -> Run {
        Run::new("buildctl")
            .env("HOME", &self.dir)
            .env("DOCKER_CONFIG", self.dir.join("docker"))
            .args(["--addr", &socket(&self.dir)])
    }

    /// What `docker login` leaves behind, and buildctl hands to the daemon.
    fn login(&self, key: &Credential) {
        let auth = STANDARD.encode(format!("{}:{}", key.username, key.password));
        let config = json!({"auths": {self.harness.host(): {"auth": auth}}});
        write_file(&self.dir.join("docker/config.json"), config.to_string().as_bytes());
    }

    /// A build of two stages, so that `mode=max` has more to keep than the result.
    fn build(&self, seed: &str) -> Run {
        let context = self.dir.join("context");
        write_file(&context.join("first.txt"), format!("first {seed}").as_bytes());
        write_file(&context.join("second.txt"), format!("second {seed}").as_bytes());
        write_file(
            &context.join("Dockerfile"),
            b"FROM scratch AS first\nCOPY first.txt /built/first.txt\nFROM scratch\nCOPY second.txt /\nCOPY --from=first /built /\n",
        );
        let local = |name: &str| format!("{name}={}", context.display());
        self.buildctl().args(["build", "--progress=plain", "--frontend=dockerfile.v0"]).args([
            "--local",
            &local("context"),
            "--local",
            &local("dockerfile"),
        ])
    }

    /// The image as an output that is pushed, under its digest too.
    fn pushed(&self, name: &str) -> String {
        format!("type=image,push=true,name={}/{name}", self.harness.host())
    }

    async fn forget(&self) {
        self.buildctl().args(["prune", "--all"]).ok().await;
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.child.wait();
    }
}

fn socket(dir: &std::path::Path) -> String {
    format!("unix://{}", dir.join("buildkitd.sock").display())
}

/// How many of the three copies were taken from a cache.
fn cached(built: &Ended) -> usize {
    built.stderr.lines().filter(|line| line.ends_with(" CACHED")).count()
}

#[tokio::test]
async fn buildkit_builds_pushes_and_keeps_its_cache_in_both_manifest_styles() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let key = acme.push().await;
    for (style, media_type, has_subject) in [
        ("image-manifest=true,oci-mediatypes=true", "application/vnd.oci.image.manifest.v1+json", true),
        ("image-manifest=false,oci-mediatypes=true", "application/vnd.oci.image.index.v1+json", false),
        (
            "image-manifest=false,oci-mediatypes=false",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            false,
        ),
    ] {
        let name = style.replace(['=', ','], "-");
        let cache = format!("type=registry,ref={}/acme/cache/{name}:main", harness.host());
        daemon.login(&key);
        let first = daemon
            .build(&name)
            .args(["--output", &daemon.pushed(&format!("acme/built/{name}:v1"))])
            .args(["--export-cache", &format!("{cache},mode=max,{style}")])
            .ok()
            .await;
        assert_eq!(cached(&first), 0, "{}", first.stderr);
        let caller = acme.caller(&acme.pull().await);
        let kept = caller.send(Request::get(format!("/v2/acme/cache/{name}/manifests/main"))).await.expect(200);
        assert_eq!(kept.header("content-type"), media_type);
        assert_eq!(kept.json()["config"].is_object(), has_subject);

        // A builder that has forgotten all finds every step in the cache.
        daemon.forget().await;
        daemon.login(&acme.push().await);
        let second = daemon
            .build(&name)
            .args(["--output", &daemon.pushed(&format!("acme/built/{name}:v2"))])
            .args(["--import-cache", &cache])
            .ok()
            .await;
        assert_eq!(cached(&second), 3, "{}", second.stderr);
        let layers = async |tag: &str| {
            let path = format!(
                "/v2/acme/built/{name}/manifests/{}",
                digest_of(&acme, &format!("acme/built/{name}"), tag).await
            );
            caller.send(Request::get(path)).await.expect(200).json()["layers"].clone()
        };
        assert_eq!(layers("v1").await, layers("v2").await);
    }
}

#[tokio::test]
async fn buildkit_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let output = daemon.pushed("acme/built:v1");
    daemon.login(&acme.push().await);
    daemon.build("refused").args(["--output", &output]).ok().await;
    for bad in bad_keys(&harness).await {
        daemon.login(&bad.credential);
        let again = format!("{}/acme/built:v2", harness.host());
        daemon.build("refused").args(["--output", &format!("type=image,push=true,name={again}")]).fails().await;
    }
    acme.caller(&acme.pull().await).send(Request::get("/v2/acme/built/manifests/v2")).await.expect(404);
}
