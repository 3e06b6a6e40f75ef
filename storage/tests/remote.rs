//! The backend suites against real S3 servers, MinIO and versitygw: one of its own for each test, on a free port of the loopback.

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

#[derive(Debug, Clone, Copy)]
enum Kind {
    Minio,
    Versitygw,
}

/// A running server, killed when it is dropped.
struct Server {
    process: Child,
    endpoint: String,
    user: String,
    secret: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn program(name: &str) -> PathBuf {
    let home = env::var("HOME").unwrap_or_default();
    let tools = env::var("HYTHE_TOOLS").unwrap_or(format!("{home}/.cache/hythe/tools"));
    let program = PathBuf::from(tools).join("bin").join(name);
    assert!(program.exists(), "{} is not there; conformance/run installs it and runs this test", program.display());
    program
}

impl Server {
    fn start(kind: Kind) -> Self {
        (0..5).find_map(|_| Self::try_start(kind)).unwrap_or_else(|| panic!("{kind:?} does not start"))
    }

    /// `None` if somebody took the port in the meantime.
    fn try_start(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // A folder of either server's one drive is a bucket.
        std::fs::create_dir(folder.path().join("registry")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (user, secret) = (random_text(16), random_text(32));
        // Some builds speak on one channel, some on the other.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]);
        let started = match kind {
            Kind::Minio => {
                command.arg(program("minio")).args([
                    "server",
                    "--address",
                    &address,
                    "--console-address",
                    "127.0.0.1:0",
                ]);
                command.env("MINIO_ROOT_USER", &user).env("MINIO_ROOT_PASSWORD", &secret);
                "API: "
            }
            Kind::Versitygw => {
                command.arg(program("versitygw")).args(["--port", &address, "posix"]);
                command.env("ROOT_ACCESS_KEY", &user).env("ROOT_SECRET_KEY", &secret);
                "http://"
            }
        };
        command.arg(folder.path()).env("HOME", folder.path()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let started = lines.by_ref().map_while(Result::ok).any(|line| line.contains(started));
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

async fn records(kind: Kind) {
    let server = Server::start(kind);
    for url in ["s3://registry", "s3://registry/below/a/prefix"] {
        testing::records(server.bucket(url, &server.secret).records().await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_of_minio_is_a_store_of_records() {
    records(Kind::Minio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_of_versitygw_is_a_store_of_records() {
    records(Kind::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_is_a_store_of_bytes() {
    for kind in [Kind::Minio, Kind::Versitygw] {
        let server = Server::start(kind);
        testing::bytes(server.bucket("s3://registry/prefix", &server.secret).bytes().await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_refused_in_one_line() {
    let server = Server::start(Kind::Minio);
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
