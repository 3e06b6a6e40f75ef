//! The real clients and servers that `conformance/install` brings, and running them.

#![expect(clippy::panic, reason = "a missing tool ends the test with the way out")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command};

/// Where `conformance/install` puts what it installs: `HYTHE_TOOLS`, or `~/.cache/hythe/tools`.
pub fn folder() -> PathBuf {
    env::var_os("HYTHE_TOOLS").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/hythe/tools"),
        PathBuf::from,
    )
}

/// The path of a tool: from [`folder`], else from `PATH` or the system's folders.
///
/// # Panics
/// When it is nowhere.
pub fn find(name: &str) -> PathBuf {
    let paths = env::var_os("PATH").unwrap_or_default();
    [folder().join("bin"), folder().join("venv/bin")]
        .into_iter()
        .chain(env::split_paths(&paths))
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run conformance/run"))
}

/// Python in the environment that holds the oras client.
///
/// # Panics
/// When it is not installed.
pub fn python() -> PathBuf {
    let python = folder().join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run conformance/run", python.display());
    python
}

/// A file of this crate's folder in the checkout, such as `fixtures/f3.sh`.
pub fn file(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// One run of a tool to its end.
#[derive(Debug)]
pub struct Run {
    command: Command,
    name: String,
    input: Vec<u8>,
    patience: Duration,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Whether the exit status was zero.
    pub success: bool,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    name: String,
}

impl Run {
    /// A run of the named tool.
    pub fn new(name: &str) -> Self {
        Self::of(&find(name))
    }

    /// A run of the program at `path`.
    pub fn of(path: &Path) -> Self {
        let mut command = Command::new(path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { command, name: path.display().to_string(), input: Vec::new(), patience: Duration::from_mins(5) }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What goes to standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take; five minutes, unless said.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn end(mut self) -> Ended {
        let name = self.name;
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdin = child.stdin.take();
        let input = self.input;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that ends without reading its input closes the pipe: that is its business.
                let _closed = stdin.write_all(&input).await;
            }
        };
        let run = async { futures::join!(feed, child.wait_with_output()).1 };
        let output = match tokio::time::timeout(self.patience, run).await {
            Ok(output) => output.unwrap_or_else(|error| panic!("{name}: {error}")),
            Err(elapsed) => panic!("{name} did not end: {elapsed}"),
        };
        Ended {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            name,
        }
    }

    /// Runs to the end and fails the test unless it succeeded.
    ///
    /// # Panics
    /// When it failed, with what it printed.
    pub async fn ok(self) -> Ended {
        let shown = format!("{:?}", self.command.as_std());
        let ended = self.end().await;
        assert!(ended.success, "{shown}\n{}{}", ended.stdout, ended.stderr);
        ended
    }

    /// Runs to the end and fails the test if it succeeded.
    ///
    /// # Panics
    /// When it succeeded, with what it printed.
    pub async fn fails(self) -> Ended {
        let shown = format!("{:?}", self.command.as_std());
        let ended = self.end().await;
        assert!(!ended.success, "{shown} succeeded\n{}{}", ended.stdout, ended.stderr);
        ended
    }
}

impl Ended {
    /// Output and errors in one text.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails the test unless the tool printed `text`.
    ///
    /// # Panics
    /// When it did not, with what it printed.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(self.all().contains(text), "{} does not say {text:?}: {}", self.name, self.all());
    }

    /// The first digest that the tool printed.
    ///
    /// # Panics
    /// When it printed none.
    #[track_caller]
    pub fn digest(&self) -> String {
        let all = self.all();
        let from = all.find("sha256:").unwrap_or_else(|| panic!("{} printed no digest: {all}", self.name));
        all.get(from..from + 71).unwrap_or_default().to_owned()
    }
}
