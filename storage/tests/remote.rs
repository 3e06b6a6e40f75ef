//! The backend suites against a real S3 server: a MinIO of its own for each test, on a free port of the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    env,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use storage::{
    Error,
    backend::{remote::Bucket, testing},
    random_text,
};

/// A running MinIO, killed when it is dropped.
struct Minio {
    process: Child,
    endpoint: String,
    user: String,
    secret: String,
    _folder: tempfile::TempDir,
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn program() -> PathBuf {
    let home = env::var("HOME").unwrap_or_default();
    let tools = env::var("HYTHE_TOOLS").unwrap_or(format!("{home}/.cache/hythe/tools"));
    let program = PathBuf::from(tools).join("bin/minio");
    assert!(program.exists(), "{} is not there; conformance/run installs it and runs this test", program.display());
    program
}

impl Minio {
    fn start() -> Self {
        (0..5).find_map(|_| Self::try_start()).expect("MinIO does not start")
    }

    /// `None` if somebody took the port in the meantime.
    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // A folder of the server's one drive is a bucket.
        std::fs::create_dir(folder.path().join("registry")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (user, secret) = (random_text(16), random_text(32));
        // Some builds speak on one channel, some on the other.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
            .arg(program())
            .args(["server", "--address", &address, "--console-address", "127.0.0.1:0"])
            .arg(folder.path())
            .env("MINIO_ROOT_USER", &user)
            .env("MINIO_ROOT_PASSWORD", &secret)
            .env("HOME", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let started = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("API: "));
        let server = Self { process, endpoint: format!("http://{address}"), user, secret, _folder: folder };
        thread::spawn(move || lines.count());
        started.then_some(server)
    }

    fn bucket(&self, url: &str, secret: &str) -> Bucket {
        let environment = [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", &self.user),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "us-east-1"),
        ];
        Bucket::parse(url, environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_is_a_store_of_records() {
    let server = Minio::start();
    for url in ["s3://registry", "s3://registry/below/a/prefix"] {
        testing::records(server.bucket(url, &server.secret).records().await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_is_a_store_of_bytes() {
    let server = Minio::start();
    testing::bytes(server.bucket("s3://registry/prefix", &server.secret).bytes().await.unwrap()).await;
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_refused_in_one_line() {
    let server = Minio::start();
    let other = random_text(32);
    for (url, secret) in [("s3://registry", &other), ("s3://absent", &server.secret)] {
        match server.bucket(url, secret).records().await {
            Err(Error::Refused(line)) => {
                assert!(line.contains("endpoint and credentials") && !line.contains('\n'), "{line}");
                assert!(!line.contains(secret.as_str()), "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
}
