//! An S3 server of a test's own, with one bucket.

#![expect(clippy::panic, reason = "a store that cannot be started ends the test with the reason")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    client::{Client, Request},
    harness, tools,
};

/// The bucket that is there from the start.
pub const BUCKET: &str = "hythe";
const USER: &str = "hythe";
/// The secret key of its one user.
pub const PASSWORD: &str = "hythe-conformance";

/// Which S3 server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// MinIO: conditional PUT, and a DELETE that ignores conditions.
    Minio,
    /// versitygw over a folder: another program in another's words.
    Versitygw,
}

impl Server {
    /// The program, told where to listen and where its data lies.
    fn command(self, address: SocketAddr, data: &Path) -> Command {
        let address = address.to_string();
        match self {
            Self::Minio => {
                let mut command = Command::new(tools::find("minio"));
                command
                    .args(["server", "--quiet", "--console-address", "127.0.0.1:0", "--address", &address])
                    .arg(data);
                command.env("MINIO_ROOT_USER", USER).env("MINIO_ROOT_PASSWORD", PASSWORD);
                command
            }
            Self::Versitygw => {
                let mut command = Command::new(tools::find("versitygw"));
                command.args(["--quiet", "--health", HEALTH, "--port", &address, "posix"]).arg(data);
                command.env("ROOT_ACCESS_KEY", USER).env("ROOT_SECRET_KEY", PASSWORD);
                command
            }
        }
    }

    fn ready(self) -> &'static str {
        match self {
            Self::Minio => "/minio/health/ready",
            Self::Versitygw => HEALTH,
        }
    }
}

/// Where versitygw is told to say how it is.
const HEALTH: &str = "/health";

/// A process of it, killed when dropped.
#[derive(Debug)]
pub struct Bucket {
    child: Child,
    address: SocketAddr,
}

impl Bucket {
    /// Starts a server with its data below `dir` and waits until it is ready.
    ///
    /// # Panics
    /// When it is not installed or does not come up.
    pub async fn start(server: Server, dir: &Path) -> Self {
        let data = Self::data(dir);
        harness::make_dir(&data.join(BUCKET));
        let address = harness::free_address();
        let log = dir.join("bucket.log");
        let child = server
            .command(address, &data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(harness::log_file(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("{server:?}: {error}"));
        let mut bucket = Self { child, address };
        let client = Client::new(address);
        harness::ready(&client, server.ready(), &mut bucket.child, &log).await;
        // Ready or not, MinIO answers 503 until its own users and buckets are read.
        while client.send(Request::get(format!("/{BUCKET}"))).await.status == 503 {
            tokio::task::yield_now().await;
        }
        bucket
    }

    /// Kills it; its data stays.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What Hythe needs in its environment to speak to it.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The store's URL for `--store`.
    pub fn url() -> String {
        format!("s3://{BUCKET}")
    }

    /// Where its data lies, below the folder given to [`Bucket::start`].
    pub fn data(dir: &Path) -> PathBuf {
        dir.join("bucket-data")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.kill();
    }
}
