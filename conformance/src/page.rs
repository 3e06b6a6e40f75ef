//! Pages of `docs/` whose commands a test runs: what stands in a `sh` fence is executed as it stands there.
//!
//! The blocks of a page share one shell's life, as they do for a reader: working folder and exported variables stay from block
//! to block. A page that is dropped with a block that was not run fails its test, so that no command in the documentation is
//! unproved. Names that a reader would replace (`registry.example`, `127.0.0.1:5080`) are replaced by [`Page::reading`].

#![expect(clippy::panic, reason = "a page that is not as its test says ends the test")]

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    harness::{binary, log_file, make_dir, read_text, write_file},
    tools::{self, Ended, Run},
};

const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 6000;

/// A page and the shell that works through it.
#[derive(Debug)]
pub struct Page {
    name: String,
    blocks: Vec<String>,
    run: BTreeSet<usize>,
    readings: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    started: Vec<Child>,
    dir: TempDir,
}

impl Page {
    /// A page by its path in the checkout, such as `docs/kubernetes.md`; its shell begins in an empty folder, with `hythe` and
    /// the installed tools in its path.
    ///
    /// # Panics
    /// When there is no such page, or no command on it.
    pub fn open(name: &str) -> Self {
        let path = tools::file("..").join(name);
        let text = read_text(&path);
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{} has no ```sh block", path.display());
        let dir = TempDir::with_prefix("hythe-page-").unwrap_or_else(|error| panic!("temporary folder: {error}"));
        for folder in ["bin", "work", "home"] {
            make_dir(&dir.path().join(folder));
        }
        std::os::unix::fs::symlink(binary(), dir.path().join("bin/hythe")).unwrap_or_else(|error| panic!("{error}"));
        let page = Self {
            name: name.to_owned(),
            blocks,
            run: BTreeSet::new(),
            readings: Vec::new(),
            variables: Vec::new(),
            started: Vec::new(),
            dir,
        };
        let path = env::var("PATH").unwrap_or_default();
        let tools = tools::folder();
        let path = format!(
            "{}:{}:{}:{path}:/usr/sbin:/sbin",
            page.dir.path().join("bin").display(),
            tools.join("bin").display(),
            tools.join("venv/bin").display()
        );
        let home = page.dir.path().join("home").display().to_string();
        page.variable("PATH", &path).variable("HOME", &home)
    }

    /// Reads `written` as `meant` in every block: the names that a reader would replace too.
    #[must_use]
    pub fn reading(mut self, written: &str, meant: &str) -> Self {
        self.readings.push((written.to_owned(), meant.to_owned()));
        self
    }

    /// A variable that the reader's shell has.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder in which the commands run.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// How many blocks of commands there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is none; no page that was opened is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The number (from 1) of the one block that holds `text`.
    ///
    /// # Panics
    /// When no block does, or several do.
    #[track_caller]
    pub fn with(&self, text: &str) -> usize {
        let found: Vec<_> = (1..).zip(&self.blocks).filter(|(_, block)| block.contains(text)).map(|(n, _)| n).collect();
        match found.as_slice() {
            [one] => *one,
            _ => panic!("{}: {text:?} stands in {} blocks", self.name, found.len()),
        }
    }

    /// The text of the n-th block (from 1) as this reader reads it; it counts as run.
    ///
    /// # Panics
    /// When there is no such block.
    #[track_caller]
    pub fn block(&mut self, n: usize) -> String {
        let block = n.checked_sub(1).and_then(|at| self.blocks.get(at));
        let block = block.unwrap_or_else(|| panic!("{} has {} blocks, no {n}", self.name, self.blocks.len()));
        self.run.insert(n);
        self.readings.iter().fold(block.clone(), |text, (written, meant)| text.replace(written, meant))
    }

    /// Runs the n-th block (from 1) and fails the test unless every command in it succeeds.
    pub async fn run(&mut self, n: usize) -> Ended {
        let script = self.script(n);
        self.shell(&script).ok().await
    }

    /// Runs the n-th block (from 1), whose last command must fail.
    pub async fn fails(&mut self, n: usize) -> Ended {
        let script = self.script(n);
        self.shell(&script).fails().await
    }

    /// Runs every block in the order of the page.
    pub async fn run_all(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for n in 1..=self.len() {
            ended.push(self.run(n).await);
        }
        ended
    }

    /// Starts the n-th block (from 1), which does not end by itself, and waits until it has printed `until`; it is killed with
    /// the page.
    ///
    /// # Panics
    /// When it ends, or does not print it within two minutes.
    pub async fn start(&mut self, n: usize, until: &str) {
        use std::os::unix::process::CommandExt as _;
        let script = self.script(n);
        let log = self.dir.path().join(format!("started{n}.log"));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(self.folder()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let spawned = command.stdout(log_file(&log)).stderr(log_file(&log)).process_group(0).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("bash: {error}"));
        let mut looks = tokio::time::interval(LOOK);
        for _ in 0..LOOKS {
            looks.tick().await;
            if read_text(&log).contains(until) {
                self.started.push(child);
                return;
            }
            if let Ok(Some(status)) = child.try_wait() {
                panic!("{} block {n} ended with {status}:\n{}", self.name, read_text(&log));
            }
        }
        kill(&mut child);
        panic!("{} block {n} does not print {until:?}:\n{}", self.name, read_text(&log));
    }

    /// Counts the n-th block (from 1) as run, because something else runs it: `by` says what.
    ///
    /// # Panics
    /// When `by` is no file of the checkout, or there is no such block.
    #[track_caller]
    pub fn run_by(&mut self, n: usize, by: &str) {
        assert!(tools::file("..").join(by).exists(), "{by} is not there");
        self.block(n);
    }

    /// The block between what the blocks before it left behind and what it leaves behind itself.
    fn script(&mut self, n: usize) -> String {
        let state = self.dir.path().join("state");
        let state = state.display();
        let block = self.block(n);
        format!("[ ! -e {state} ] || . {state}\n{block}\n{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {state}\n")
    }

    fn shell(&self, script: &str) -> Run {
        let run = Run::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(&self.folder());
        self.variables.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    /// Writes a file into the folder in which the commands run.
    pub fn write(&self, name: impl AsRef<Path>, text: &str) {
        write_file(&self.folder().join(name), text.as_bytes());
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        for child in &mut self.started {
            kill(child);
        }
        if !std::thread::panicking() {
            let left: Vec<_> = (1..=self.blocks.len()).filter(|n| !self.run.contains(n)).collect();
            assert!(left.is_empty(), "{}: nothing runs the blocks {left:?}", self.name);
        }
    }
}

/// Ends a started block with everything that it started.
fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _reaped = child.wait();
}

/// The texts of the `sh` fences of a page.
pub fn blocks(page: &str) -> Vec<String> {
    let (mut blocks, mut open) = (Vec::new(), None::<String>);
    for line in page.lines() {
        match (&mut open, line.trim_end()) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}
