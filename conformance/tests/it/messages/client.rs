//! The clients: how each logs in, pulls, pushes and deletes. What a client cannot do, or does without asking the registry, is
//! `None`.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conformance::{
    fixture::{self, Format},
    harness::write_file,
    push,
    tools::{self, Run},
};
use serde_json::json;

use super::situation::{Attempt, TAG, Verb, World};
use crate::clients::{containerd, docker};

/// The name of what is pushed, where it has to have one before.
const LOCAL: &str = "localhost/local/hello:1.0.0";

/// A client with its own configuration and something to push.
pub(super) struct Client<'a> {
    kind: Kind<'a>,
    home: PathBuf,
}

enum Kind<'a> {
    Docker(&'a docker::Daemon<'a>),
    Containerd { daemon: &'a containerd::Daemon, local: String },
    Podman,
    Skopeo,
    Crane,
    Helm,
    OrasGo,
    OrasPython,
}

impl<'a> Client<'a> {
    fn new(world: &World, kind: Kind<'a>) -> Self {
        let client = Self { kind, home: world.main.scratch("client") };
        fixture::write_layout(&fixture::image("local", Format::Oci), &client.home.join("layout"), "v1");
        write_file(&client.home.join("image.tar"), &fixture::docker_archive("local", LOCAL));
        write_file(&client.home.join("note.txt"), b"a note");
        client
    }

    /// Debian's program, whatever newer one stands before it in the path: what it prints is what is recorded.
    pub(super) async fn docker(world: &World, daemon: &'a docker::Daemon<'a>) -> Self {
        let client = Self::new(world, Kind::Docker(daemon));
        daemon.docker().args(["load", "-i"]).arg(client.home.join("image.tar")).ok().await;
        client
    }

    pub(super) async fn containerd(world: &World, daemon: &'a containerd::Daemon) -> Self {
        let acme = world.main.account("acme").await;
        let key = acme.push().await;
        push::bundle(&acme.caller(&key), "acme/local", TAG, &fixture::image("ctr", Format::Oci)).await;
        let local = format!("{}/acme/local:{TAG}", world.main.host());
        let pair = format!("{}:{}", key.username, key.password);
        daemon.pull(&pair, &local).ok().await;
        Self::new(world, Kind::Containerd { daemon, local })
    }

    pub(super) async fn podman(world: &World) -> Self {
        let client = Self::new(world, Kind::Podman);
        client.program("podman").args(["load", "-i"]).arg(client.home.join("image.tar")).ok().await;
        client
    }

    pub(super) fn skopeo(world: &World) -> Self {
        Self::new(world, Kind::Skopeo)
    }

    pub(super) fn crane(world: &World) -> Self {
        Self::new(world, Kind::Crane)
    }

    pub(super) fn helm(world: &World) -> Self {
        Self::new(world, Kind::Helm)
    }

    pub(super) fn oras_go(world: &World) -> Self {
        Self::new(world, Kind::OrasGo)
    }

    pub(super) fn oras_python(world: &World) -> Self {
        Self::new(world, Kind::OrasPython)
    }

    /// The name of its fixture.
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Docker(_) => "docker",
            Kind::Containerd { .. } => "containerd",
            Kind::Podman => "podman",
            Kind::Skopeo => "skopeo",
            Kind::Crane => "crane",
            Kind::Helm => "helm",
            Kind::OrasGo => "oras-go",
            Kind::OrasPython => "oras-python",
        }
    }

    /// The run that must fail.
    pub(super) async fn run(&self, attempt: &Attempt) -> Option<Run> {
        let reference = format!("{}/{}:{}", attempt.host, attempt.repository, attempt.tag);
        let config = self.home.join("config/config.json");
        let kept = if attempt.verb == Verb::Login { None } else { attempt.key.as_ref() };
        let auths = kept.map_or_else(
            || json!({}),
            |key| json!({&attempt.host: {"auth": STANDARD.encode(format!("{}:{}", key.username, key.password))}}),
        );
        write_file(&config, json!({ "auths": auths }).to_string().as_bytes());
        match (&self.kind, attempt.verb) {
            (Kind::Docker(daemon), verb) => {
                let docker = || {
                    let run = daemon.dress(Run::of(Path::new("/usr/bin/docker")));
                    run.env("DOCKER_CONFIG", self.home.join("config"))
                };
                match verb {
                    Verb::Login => Some(login(docker().arg("login"), attempt)),
                    Verb::Pull => Some(docker().args(["pull", &reference])),
                    Verb::Push => {
                        docker().args(["tag", LOCAL, &reference]).ok().await;
                        Some(docker().args(["push", &reference]))
                    }
                    Verb::Delete => None,
                }
            }
            (Kind::Containerd { daemon, local }, verb) => {
                let images = |verb| {
                    let run = daemon.ctr().args(["images", verb, "--plain-http"]);
                    match &attempt.key {
                        Some(key) => run.arg("--user").arg(format!("{}:{}", key.username, key.password)),
                        None => run,
                    }
                };
                match verb {
                    Verb::Pull => Some(images("pull").args(["--snapshotter", "native", &reference])),
                    Verb::Push => Some(images("push").args([&reference, local])),
                    Verb::Login | Verb::Delete => None,
                }
            }
            (Kind::Podman, Verb::Login) => {
                Some(login(self.program("podman").args(["login", "--tls-verify=false"]), attempt))
            }
            (Kind::Podman, Verb::Pull) => {
                Some(self.program("podman").args(["pull", "--quiet", "--tls-verify=false", &reference]))
            }
            (Kind::Podman, Verb::Push) => {
                Some(self.program("podman").args(["push", "--quiet", "--tls-verify=false", LOCAL, &reference]))
            }
            (Kind::Skopeo, Verb::Login) => {
                Some(login(self.program("skopeo").args(["login", "--tls-verify=false"]), attempt))
            }
            (Kind::Skopeo, Verb::Pull) => {
                let to = format!("dir:{}", self.home.join("pulled").display());
                let from = format!("docker://{reference}");
                Some(self.program("skopeo").args(["copy", "--src-tls-verify=false", &from, &to]))
            }
            (Kind::Skopeo, Verb::Push) => {
                let from = format!("oci:{}:v1", self.home.join("layout").display());
                let to = format!("docker://{reference}");
                Some(self.program("skopeo").args(["copy", "--dest-tls-verify=false", &from, &to]))
            }
            (Kind::Skopeo, Verb::Delete) => {
                Some(self.program("skopeo").args(["delete", "--tls-verify=false", &format!("docker://{reference}")]))
            }
            (Kind::Crane, Verb::Pull) => {
                Some(self.program("crane").args(["pull", &reference]).arg(self.home.join("pulled.tar")))
            }
            (Kind::Crane, Verb::Push) => {
                Some(self.program("crane").arg("push").arg(self.home.join("layout")).args([&reference, "--index"]))
            }
            (Kind::Crane, Verb::Delete) => Some(self.program("crane").args(["delete", &reference])),
            (Kind::Helm, Verb::Login) => {
                Some(login(self.program("helm").args(["registry", "login", "--plain-http"]), attempt))
            }
            (Kind::Helm, Verb::Pull) => {
                let chart = format!("oci://{}/{}", attempt.host, attempt.repository);
                let to = self.home.join("pulled");
                Some(
                    self.program("helm").args(["pull", &chart, "--plain-http", "--version", attempt.tag, "-d"]).arg(to),
                )
            }
            (Kind::Helm, Verb::Push) => {
                let (folder, name) = attempt.repository.rsplit_once('/').unwrap_or(("", attempt.repository));
                let chart = fixture::chart(name, attempt.tag);
                let archive = self.home.join("charts").join(chart.file_name());
                write_file(&archive, &chart.archive);
                let to = format!("oci://{}/{folder}", attempt.host);
                Some(self.program("helm").arg("push").arg(archive).args([to.trim_end_matches('/'), "--plain-http"]))
            }
            (Kind::OrasGo | Kind::OrasPython, Verb::Pull) => {
                Some(self.oras(attempt)?.args(["pull", &reference]).arg(self.home.join("pulled")))
            }
            (Kind::OrasGo | Kind::OrasPython, Verb::Push) => {
                Some(self.oras(attempt)?.args(["push", &reference]).arg(self.home.join("note.txt")))
            }
            (Kind::OrasGo, Verb::Login) => Some(self.oras(attempt)?.args(["login", &attempt.host])),
            // Their logins ask nothing of the registry; the rest have no command that deletes in a registry.
            (Kind::Crane | Kind::OrasPython, Verb::Login)
            | (Kind::Podman | Kind::Helm | Kind::OrasGo | Kind::OrasPython, Verb::Delete) => None,
        }
    }

    /// A program with all its state in a folder of its own, its login file among it.
    fn program(&self, name: &str) -> Run {
        let config = self.home.join("config/config.json");
        let run = Run::new(name)
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", self.home.join("xdg"))
            .env("DOCKER_CONFIG", self.home.join("config"))
            .env("REGISTRY_AUTH_FILE", &config)
            .env("HELM_REGISTRY_CONFIG", &config);
        if name != "podman" {
            return run;
        }
        if !config.exists() {
            write_file(&config, b"{}");
        }
        run.arg("--root")
            .arg(self.home.join("root"))
            .arg("--runroot")
            .arg(self.home.join("run"))
            .arg("--tmpdir")
            .arg(self.home.join("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
    }

    fn oras(&self, attempt: &Attempt) -> Option<Run> {
        let run = match self.kind {
            Kind::OrasGo => Run::new("hythe-oras-go"),
            Kind::OrasPython => Run::of(&tools::python())
                .arg(tools::file("clients/oras_client.py"))
                .env("ORAS_CONFIG", self.home.join("config/config.json")),
            _ => return None,
        };
        let (user, password) =
            attempt.key.as_ref().map_or(("", ""), |key| (key.username.as_str(), key.password.as_str()));
        Some(run.env("ORAS_USERNAME", user).env("ORAS_PASSWORD", password))
    }
}

fn login(run: Run, attempt: &Attempt) -> Run {
    let (user, password) = attempt.key.as_ref().map_or(("", ""), |key| (key.username.as_str(), key.password.as_str()));
    run.args([&attempt.host, "--password-stdin", "-u", user]).input(password.to_owned())
}
