//! docker, against a real dockerd of the test's own.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use conformance::{
    Credential, Harness, fixture,
    harness::{log_file, running, write_file},
    tools::{self, Run},
};

use super::{bad_keys, digest_of};

/// A dockerd with its own data, state and socket; ended with SIGTERM, so that it ends its containerd too.
pub(crate) struct Daemon<'a> {
    harness: &'a Harness,
    child: Child,
    dir: PathBuf,
}

impl<'a> Daemon<'a> {
    pub(crate) async fn start(harness: &'a Harness) -> Self {
        Self::start_through(harness, &[]).await
    }

    /// The same, started through a program that executes what follows in its own place.
    pub(crate) async fn start_through(harness: &'a Harness, through: &[String]) -> Self {
        let dir = harness.scratch("docker");
        let log = dir.join("dockerd.log");
        let flag = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
        let mut words = through.iter().map(PathBuf::from).chain([tools::find("dockerd")]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .arg(format!("--host=unix://{}", dir.join("docker.sock").display()))
            .args([flag("data-root", "data"), flag("exec-root", "exec"), flag("pidfile", "pid")])
            .args(["--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"])
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
            async |daemon| daemon.docker().args(["info"]).end().await.success,
        )
        .await;
        daemon
    }

    pub(crate) fn docker(&self) -> Run {
        self.dress(Run::new("docker"))
    }

    /// A program that will find this daemon, and its own docker configuration.
    pub(crate) fn dress(&self, run: Run) -> Run {
        self.variables().into_iter().fold(run, |run, (name, value)| run.env(&name, value))
    }

    /// The variables that make it so.
    pub(crate) fn variables(&self) -> [(String, String); 2] {
        let (config, socket) = (self.dir.join("config"), self.dir.join("docker.sock"));
        [
            ("DOCKER_CONFIG".to_owned(), config.display().to_string()),
            ("DOCKER_HOST".to_owned(), format!("unix://{}", socket.display())),
        ]
    }

    fn login(&self, key: &Credential) -> Run {
        self.login_at(&self.harness.host(), key)
    }

    pub(crate) fn login_at(&self, host: &str, key: &Credential) -> Run {
        let login = ["login", host, "--password-stdin", "-u", &key.username];
        self.docker().args(login).input(key.password.clone())
    }

    pub(crate) async fn load(&self, seed: &str, reference: &str) {
        let archive = self.dir.join("image.tar");
        write_file(&archive, &fixture::docker_archive(seed, reference));
        self.docker().arg("load").arg("-i").arg(archive).ok().await.says("Loaded image");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn docker_logs_in_pushes_and_pulls_the_same_digest() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let reference = format!("{}/acme/docker/hello:v1", harness.host());
    daemon.login(&acme.push().await).ok().await.says("Login Succeeded");
    daemon.load("docker", &reference).await;
    let pushed = daemon.docker().args(["push", &reference]).ok().await.digest();
    assert_eq!(digest_of(&acme, "acme/docker/hello", "v1").await, pushed);

    daemon.docker().args(["rmi", "-f", &reference]).ok().await;
    daemon.login(&acme.pull().await).ok().await.says("Login Succeeded");
    assert_eq!(daemon.docker().args(["pull", &reference]).ok().await.digest(), pushed);
    let by_digest = format!("{}/acme/docker/hello@{pushed}", harness.host());
    daemon.docker().args(["pull", &by_digest]).ok().await.says(&pushed);

    // The same layer under another name is mounted, not sent again.
    let copy = format!("{}/acme/docker/copy:v1", harness.host());
    daemon.login(&acme.push().await).ok().await;
    daemon.docker().args(["tag", &reference, &copy]).ok().await;
    daemon.docker().args(["push", &copy]).ok().await.says("Mounted from acme/docker/hello");
    assert_eq!(digest_of(&acme, "acme/docker/copy", "v1").await, pushed);
}

#[tokio::test]
async fn docker_is_refused_with_every_bad_key() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let daemon = Daemon::start(&harness).await;
    let good = acme.push().await;
    let reference = format!("{}/acme/docker/private:v1", harness.host());
    daemon.login(&good).ok().await;
    daemon.load("docker refused", &reference).await;
    daemon.docker().args(["push", &reference]).ok().await;
    for bad in bad_keys(&harness).await {
        if bad.refused_at_login {
            daemon.login(&bad.credential).fails().await.says(bad.says);
            continue;
        }
        daemon.login(&bad.credential).ok().await;
        daemon.docker().args(["pull", &reference]).fails().await.says(bad.says);
        daemon.docker().args(["push", &reference]).fails().await.says(bad.says);
    }
    // A key that worked at login and was revoked since.
    daemon.login(&good).ok().await;
    acme.revoke(&good).await;
    daemon.docker().args(["pull", &reference]).fails().await.says("was revoked at");
    daemon.docker().args(["push", &reference]).fails().await;
    // A pull key does not push, and says so.
    daemon.login(&acme.pull().await).ok().await;
    daemon.docker().args(["push", &reference]).fails().await.says("this is a pull credential");
}
