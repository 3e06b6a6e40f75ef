//! A MinIO of a test's own, with one bucket.

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

/// A MinIO process, killed when dropped.
#[derive(Debug)]
pub struct Minio {
    child: Child,
    address: SocketAddr,
}

impl Minio {
    /// Starts MinIO with its data below `dir` and waits until it is ready.
    ///
    /// # Panics
    /// When it is not installed or does not come up.
    pub async fn start(dir: &Path) -> Self {
        let data = dir.join("minio");
        harness::make_dir(&data.join(BUCKET));
        let address = harness::free_address();
        let log = dir.join("minio.log");
        let child = Command::new(tools::find("minio"))
            .args(["server", "--quiet", "--console-address", "127.0.0.1:0", "--address"])
            .arg(address.to_string())
            .arg(&data)
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(harness::log_file(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("minio: {error}"));
        let mut minio = Self { child, address };
        let client = Client::new(address);
        harness::ready(&client, "/minio/health/ready", &mut minio.child, &log).await;
        // Ready or not, it answers 503 until its own users and buckets are read.
        while client.send(Request::get(format!("/{BUCKET}"))).await.status == 503 {
            tokio::task::yield_now().await;
        }
        minio
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

    /// What a server needs in its environment to speak to this MinIO.
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

    /// Where its data lies, below the folder given to [`Minio::start`].
    pub fn data(dir: &Path) -> PathBuf {
        dir.join("minio")
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.kill();
    }
}
